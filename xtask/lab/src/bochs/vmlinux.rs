//! The kernel proper, out of a bootable image.

use std::{
    io::{Read, Seek},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use object::{
    LittleEndian,
    elf::{FileHeader64, PT_LOAD},
    read::elf::{FileHeader, ProgramHeader},
};

use crate::memory_file::memory_file;

/// The address that Linux on x86 is linked for.
pub const KERNEL_AT: u32 = 0x100_0000;

/// Places in a bootable image, by Linux' x86 boot protocol.
const SETUP_SECTORS: usize = 0x1f1;
const JUMP_LENGTH: usize = 0x201;
const MAGIC: usize = 0x202;
const PAYLOAD: usize = 0x248;

/// A kernel as it lies in memory.
pub struct Vmlinux {
    /// The address of its 64-bit entry point.
    pub entry: u32,
    /// The memory from [`KERNEL_AT`] on.
    pub memory: Vec<u8>,
    /// The setup header of its image, from byte 0x1f1 on, for the kernel to read in `boot_params`.
    pub setup_header: Vec<u8>,
}

impl Vmlinux {
    /// Unpacks the kernel of a bootable image (`vmlinuz`).
    pub fn unpack(image: &Path) -> Result<Self> {
        let bytes = std::fs::read(image).with_context(|| format!("reading {}", image.display()))?;
        Self::of(&bytes).with_context(|| format!("unpacking the kernel in {}", image.display()))
    }

    fn of(image: &[u8]) -> Result<Self> {
        ensure!(image.get(MAGIC..MAGIC + 4) == Some(b"HdrS"), "not a bootable image for x86");
        let header_end = MAGIC + usize::from(image[JUMP_LENGTH]);
        let (entry, memory) = load(&decompress(payload(image)?)?)?;
        let header = image.get(SETUP_SECTORS..header_end).context("the setup header is cut")?;
        Ok(Self { entry, memory, setup_header: header.to_vec() })
    }
}

/// The compressed kernel in an image.
fn payload(image: &[u8]) -> Result<&[u8]> {
    let number = |at: usize| -> Result<usize> {
        let bytes = image.get(at..at + 4).context("the image is cut")?;
        Ok(u32::from_le_bytes(bytes.try_into()?) as usize)
    };
    let protected_mode = (usize::from(image[SETUP_SECTORS]) + 1) * 512;
    let start = protected_mode + number(PAYLOAD)?;
    image.get(start..start + number(PAYLOAD + 4)?).context("the image is cut")
}

/// Decompresses a payload, in the formats that distributions use.
fn decompress(payload: &[u8]) -> Result<Vec<u8>> {
    // The last four bytes are the length, which these formats do not know.
    let (program, packed) = match payload {
        [0xfd, b'7', b'z', b'X', b'Z', 0, .., _, _, _, _] => ("xz", &payload[..payload.len() - 4]),
        [0x28, 0xb5, 0x2f, 0xfd, .., _, _, _, _] => ("zstd", &payload[..payload.len() - 4]),
        [0x1f, 0x8b, ..] => ("gzip", payload),
        _ => bail!("compressed by something other than xz, zstd or gzip"),
    };
    let mut input = memory_file(c"payload", packed).context("holding the payload")?;
    input.rewind()?;
    let mut child = Command::new(program)
        .arg("-dc")
        .stdin(input)
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {program}"))?;
    let mut unpacked = Vec::new();
    let mut output = child.stdout.take().context("no output")?;
    output.read_to_end(&mut unpacked).with_context(|| format!("reading from {program}"))?;
    ensure!(child.wait()?.success(), "{program} cannot decompress it");
    Ok(unpacked)
}

/// The entry point, and memory from [`KERNEL_AT`] on, of an ELF file.
fn load(elf: &[u8]) -> Result<(u32, Vec<u8>)> {
    let header = FileHeader64::<LittleEndian>::parse(elf).context("no ELF file inside")?;
    let mut memory: Vec<u8> = Vec::new();
    for segment in header.program_headers(LittleEndian, elf)? {
        if segment.p_type(LittleEndian) != PT_LOAD {
            continue;
        }
        let content = segment.data(LittleEndian, elf).ok().context("a segment is cut")?;
        let address = segment.p_paddr(LittleEndian);
        let start = address.checked_sub(u64::from(KERNEL_AT)).context("a segment is too low")?;
        let start = usize::try_from(start)?;
        ensure!(start < 1 << 30, "a segment is too high");
        let end = start + content.len();
        memory.resize(memory.len().max(end), 0);
        memory[start..end].copy_from_slice(content);
    }
    ensure!(!memory.is_empty(), "the ELF file has no segments");
    Ok((u32::try_from(header.e_entry(LittleEndian))?, memory))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image whose payload is an ELF file with segments at the given addresses.
    fn elf(segments: &[(u64, &[u8])]) -> Vec<u8> {
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(64, 0);
        elf[24..32].copy_from_slice(&0x100_0123_u64.to_le_bytes());
        elf[32] = 64;
        elf[52] = 64;
        elf[54] = 56;
        elf[56] = u8::try_from(segments.len()).unwrap();
        let mut at = 64 + 56 * segments.len() as u64;
        for (address, content) in segments {
            let mut header = [0; 56];
            header[0] = 1;
            header[8..16].copy_from_slice(&at.to_le_bytes());
            header[24..32].copy_from_slice(&address.to_le_bytes());
            header[32..40].copy_from_slice(&(content.len() as u64).to_le_bytes());
            at += content.len() as u64;
            elf.extend(header);
        }
        elf.extend(segments.iter().flat_map(|(_, content)| *content));
        elf
    }

    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 2 * 512];
        image[SETUP_SECTORS] = 1;
        image[JUMP_LENGTH] = 0x6a;
        image[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        image[PAYLOAD] = 8;
        let length = u32::try_from(payload.len()).unwrap();
        image[PAYLOAD + 4..PAYLOAD + 8].copy_from_slice(&length.to_le_bytes());
        [&image, &[0; 8][..], payload].concat()
    }

    fn packed(program: &str, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut input = memory_file(c"unpacked", bytes).ok()?;
        input.rewind().ok()?;
        Command::new(program).arg("-c").stdin(input).output().ok().map(|output| output.stdout)
    }

    #[test]
    fn a_kernel_is_laid_out_by_physical_addresses() {
        let elf = elf(&[(0x100_0000, b"text"), (0x100_0008, b"data")]);
        let (entry, memory) = load(&elf).unwrap();
        assert_eq!((entry, memory), (0x100_0123, b"text\0\0\0\0data".to_vec()));
        assert!(load(b"no ELF").is_err());
        for length in 64..elf.len() {
            assert!(load(&elf[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn every_compression_is_undone() {
        let elf = elf(&[(0x100_0000, b"kernel")]);
        for (program, trailer) in [("xz", &[0xaa; 4][..]), ("zstd", &[0xaa; 4]), ("gzip", &[])] {
            let Some(packed) = packed(program, &elf) else { continue };
            let vmlinux = Vmlinux::of(&image(&[&packed, trailer].concat())).unwrap();
            assert_eq!(vmlinux.memory, b"kernel");
            assert_eq!(vmlinux.setup_header.len(), 0x11 + 0x6a);
        }
        assert!(Vmlinux::of(&image(b"\x02\x21lz4 it is")).is_err());
        assert!(Vmlinux::of(b"short").is_err());
    }
}
