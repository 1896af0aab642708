//! A file for the node exporter's textfile collector.

use std::{
    fs::Permissions,
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::output::is_dash;

/// Mode of the file: others read it.
const MODE: u32 = 0o644;

/// A file that is replaced as a whole, so that no reader ever finds a part of it.
#[derive(Debug)]
pub struct Textfile {
    path: PathBuf,
    /// Whether the latest writing failed.
    failing: bool,
}

impl Textfile {
    /// A file at `path`; `-` is standard output.
    pub fn new(path: PathBuf) -> Self {
        Self { path, failing: false }
    }

    /// The name for messages.
    pub fn name(&self) -> String {
        if is_dash(&self.path) {
            "standard output".to_owned()
        } else {
            self.path.display().to_string()
        }
    }

    /// Replaces the file. A failure is an error only of the `last` time: a full disk may have room again, and
    /// until then the file keeps the numbers of before.
    pub fn write(&mut self, text: &str, last: bool) -> io::Result<()> {
        let written = if is_dash(&self.path) {
            let mut stdout = io::stdout().lock();
            stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
        } else {
            replace(&self.path, text)
        };
        match written {
            Err(error) if !last => {
                if !self.failing {
                    log::warn!("cannot write {}: {error}; going on", self.name());
                }
                self.failing = true;
                Ok(())
            }
            written => {
                self.failing = false;
                written
            }
        }
    }
}

/// Replaces a file, or what a link of its name was, by one with this text.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Readers of the folder leave out what does not end in .prom.
    let mut file = tempfile::Builder::new()
        .prefix(".collapse-")
        .suffix(".new")
        .permissions(Permissions::from_mode(MODE))
        .tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    // The mode above is reduced by the umask, which is about files that nobody else should read.
    file.as_file().set_permissions(Permissions::from_mode(MODE))?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn a_file_is_replaced_and_links_are_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let (victim, path) = (folder.path().join("victim"), folder.path().join("collapse.prom"));
        fs::write(&victim, "untouched").expect("writing");
        symlink(&victim, &path).expect("linking");
        let mut file = Textfile::new(path.clone());
        for text in ["one\n", "two\n"] {
            file.write(text, true).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("reading"), text);
        }
        assert_eq!(fs::read_to_string(&victim).expect("reading"), "untouched");
        assert_eq!(fs::symlink_metadata(&path).expect("a file").permissions().mode(), 0o100_644);
        assert_eq!(fs::read_dir(folder.path()).expect("reading").count(), 2, "nothing is left");
    }

    #[test]
    fn a_failure_ends_nothing_but_the_last() {
        let folder = tempfile::tempdir().expect("a folder");
        let inside = folder.path().join("later");
        let mut file = Textfile::new(inside.join("collapse.prom"));
        file.write("lost\n", false).expect("it goes on");
        file.write("lost\n", true).expect_err("there is no folder");
        fs::create_dir(&inside).expect("creating");
        file.write("kept\n", false).expect("there is one now");
        assert_eq!(fs::read_to_string(inside.join("collapse.prom")).expect("reading"), "kept\n");
    }
}
