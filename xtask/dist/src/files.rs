//! The files of packages that the program and the sources make.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use base::CommandExt as _;

use crate::licences;

/// Shells, and the names of their completions.
const COMPLETIONS: [(&str, &str); 3] =
    [("bash", "collapse.bash"), ("zsh", "_collapse"), ("fish", "collapse.fish")];

/// Writes them into a folder, in place of what was in it.
pub fn write(program: &Path, folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("clearing {}", folder.display()))?;
    }
    let manual = folder.join("man");
    fs::create_dir_all(&manual).with_context(|| format!("creating {}", manual.display()))?;
    Command::new(program).args(["manual", "--output"]).arg(&manual).run()?;
    for page in fs::read_dir(&manual)? {
        // Without name and time of the file.
        Command::new("gzip").args(["-9", "-n"]).arg(page?.path()).run()?;
    }
    Command::new("strip")
        .arg("--strip-all")
        .arg("-o")
        .arg(folder.join("collapse"))
        .arg(program)
        .run()?;
    for (shell, name) in COMPLETIONS {
        fs::write(folder.join(name), output(program, &["completions", shell])?)?;
    }
    // The defaults, whatever the settings of whoever builds.
    fs::write(folder.join("config.toml"), output(program, &["config"])?)?;
    fs::write(folder.join("licences"), licences::text()?)?;
    Ok(())
}

fn output(program: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit());
    command.env("XDG_CONFIG_HOME", "/nonexistent").env("XDG_CONFIG_DIRS", "/nonexistent");
    let output = command.output().with_context(|| format!("running {}", program.display()))?;
    ensure!(output.status.success(), "collapse {} failed", arguments.join(" "));
    Ok(output.stdout)
}
