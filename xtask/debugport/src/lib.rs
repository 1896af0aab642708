//! Several streams over one way out of a machine that takes single bytes only, such as the debug port
//! of an emulator.
//!
//! After [`START`] come frames: a stream's number, the length of the content in two bytes, and the content.

use std::io::{self, Read, Write};

/// The bytes before the first frame: an emulator may write messages of its own to the same place before.
pub const START: &[u8] = b"[debugport]\n";

/// The longest content of a frame.
pub const LONGEST: usize = u16::MAX as usize;

/// The bytes before a frame's content of at most [`LONGEST`] bytes.
pub fn header(stream: u8, length: u16) -> [u8; 3] {
    let [low, high] = length.to_le_bytes();
    [stream, low, high]
}

/// Hands the content of frames on, each to the writer of its stream's number, until the input ends or
/// has a number that no writer has. What cannot be written is dropped.
pub fn distribute(mut input: impl Read, streams: &mut [impl Write]) -> io::Result<()> {
    skip_to_start(&mut input)?;
    let mut content = vec![0; LONGEST];
    loop {
        let mut header = [0; 3];
        match input.read_exact(&mut header) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        let [stream, low, high] = header;
        let content = &mut content[..usize::from(u16::from_le_bytes([low, high]))];
        let Some(writer) = streams.get_mut(usize::from(stream)) else { return Ok(()) };
        input.read_exact(content)?;
        // A reader that is gone wants no more.
        let _ = writer.write_all(content);
    }
}

fn skip_to_start(input: &mut impl Read) -> io::Result<()> {
    let mut last = Vec::new();
    let mut byte = [0];
    while last != START {
        input.read_exact(&mut byte)?;
        if last.len() == START.len() {
            last.remove(0);
        }
        last.push(byte[0]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap();
        [&header(stream, length)[..], content].concat()
    }

    #[test]
    fn streams_come_apart_again() {
        let long = vec![7; LONGEST];
        let sent = [
            b"banner [debug[debugport]\n".to_vec(),
            frame(1, b"one"),
            frame(0, &long),
            frame(1, b""),
            frame(1, START),
            frame(9, b"the emulator's last words"),
            frame(0, b"never"),
        ];
        let mut streams = [Vec::new(), Vec::new()];
        distribute(&*sent.concat(), &mut streams).unwrap();
        assert_eq!(streams, [long, [b"one", START].concat()]);
    }

    #[test]
    fn a_cut_frame_is_an_error_and_a_cut_stream_none() {
        let sent = [START, &frame(0, b"whole")].concat();
        let mut streams = [Vec::new()];
        assert!(distribute(&*sent, &mut streams).is_ok());
        assert_eq!(streams, [b"whole"]);
        assert!(distribute(&sent[..sent.len() - 1], &mut streams).is_err());
        assert!(distribute(&b"no start"[..], &mut streams).is_err());
    }
}
