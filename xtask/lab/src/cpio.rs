//! A writer for the "newc" cpio archives that Linux unpacks as an initramfs. By hand, as it is shorter
//! than the use of a library and needs none.

use anyhow::{Context, Result, ensure};

const TRAILER: &str = "TRAILER!!!";
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

/// An archive under construction. A folder must be added before its contents.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    inodes: u32,
}

impl Archive {
    /// Adds a folder.
    pub fn directory(&mut self, path: &str) -> Result<()> {
        self.entry(path, DIRECTORY | 0o755, &[])
    }

    /// Adds a file with the given permission bits.
    pub fn file(&mut self, path: &str, permissions: u32, content: &[u8]) -> Result<()> {
        self.entry(path, REGULAR | (permissions & 0o7777), content)
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) -> Result<()> {
        self.entry(path, SYMLINK | 0o777, target.as_bytes())
    }

    /// Closes the archive.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        self.entry(TRAILER, 0, &[])?;
        Ok(self.bytes)
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        let name = path.trim_start_matches('/');
        ensure!(!name.is_empty() && !name.contains('\0'), "bad path in the image: {path:?}");
        let size = u32::try_from(content.len())
            .with_context(|| format!("{path} is too large for an initramfs (4 GiB)"))?;
        let name_size = u32::try_from(name.len() + 1).context("path too long for cpio")?;
        self.inodes += 1;
        let links = if mode & 0o170_000 == DIRECTORY { 2 } else { 1 };
        let fields = [self.inodes, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_closed() {
        let mut archive = Archive::default();
        archive.directory("/bin").unwrap();
        archive.file("/bin/a", 0o755, b"12345").unwrap();
        archive.symlink("/bin/sh", "busybox").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        assert!(bytes.starts_with(b"07070100000001000041ed"));
        // 110 bytes of header, the name with its NUL, padded to 4.
        let second = 110 + 4 + 2;
        assert_eq!(&bytes[second..second + 6], b"070701");
        assert_eq!(&bytes[second + 54..second + 62], b"00000005");
        let data = (second + 110 + "bin/a\0".len()).next_multiple_of(4);
        assert_eq!(&bytes[data..data + 8], b"12345\0\0\0");
        let trailer = bytes.windows(TRAILER.len()).position(|w| w == TRAILER.as_bytes());
        assert!(trailer.is_some());
    }

    #[test]
    fn empty_and_nul_paths_are_refused() {
        let mut archive = Archive::default();
        assert!(archive.directory("/").is_err());
        assert!(archive.file("a\0b", 0o644, b"").is_err());
    }

    #[test]
    fn unpacks_with_an_independent_reader() {
        use std::{
            io::Write,
            process::{Command, Stdio},
        };
        let mut archive = Archive::default();
        archive.directory("d").unwrap();
        archive.file("d/f", 0o640, b"content").unwrap();
        let bytes = archive.finish().unwrap();
        let Ok(mut child) = Command::new("busybox")
            .args(["cpio", "-t"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
        else {
            return;
        };
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "d\nd/f\n");
    }
}
