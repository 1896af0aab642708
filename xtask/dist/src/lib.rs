//! `cargo xtask dist`: one static program, and packages of it for Debian's and Red Hat's kind of system.

pub mod check;
mod files;
mod licences;
mod tools;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use base::{CommandExt as _, workspace};
use clap::Args;
use lab::programs;

/// The version that packages have.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Options of `cargo xtask dist`.
#[derive(Args)]
pub struct DistOptions {
    /// Folder for the program and the packages [default: dist in cargo's target folder]
    #[arg(long, short, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

/// Makes everything and says where it is.
pub fn run(options: &DistOptions) -> Result<i32> {
    let output = options.output.clone().unwrap_or_else(|| workspace::target_dir().join("dist"));
    for file in make(&output)?.files() {
        println!("{}", file.display());
    }
    Ok(0)
}

/// What is distributed.
struct Distribution {
    program: PathBuf,
    deb: PathBuf,
    rpm: PathBuf,
}

impl Distribution {
    /// What there is in a folder.
    fn at(folder: &Path) -> Self {
        Self {
            program: folder.join("collapse"),
            deb: folder.join(format!("collapse_{VERSION}-1_amd64.deb")),
            rpm: folder.join(format!("collapse-{VERSION}-1.x86_64.rpm")),
        }
    }

    fn files(&self) -> [&Path; 3] {
        [&self.program, &self.deb, &self.rpm]
    }
}

/// Builds the program as for the lab, static, so that it needs nothing but a kernel; and makes packages of it: the
/// same bytes of the same commit.
fn make(output: &Path) -> Result<Distribution> {
    fs::create_dir_all(output).with_context(|| format!("creating {}", output.display()))?;
    let output = output.canonicalize().context("the folder's path")?;
    let (deb, rpm) = (tools::DEB.program()?, tools::RPM.program()?);
    let built = program()?;
    let files = built.parent().context("the program has no folder")?.join("package");
    files::write(&built, &files)?;
    let made = Distribution::at(&output);
    fs::copy(files.join("collapse"), &made.program).context("copying the program")?;
    let time = time()?;
    let tool = |program: &Path, name: &str, file: &Path| {
        let mut command = Command::new(program);
        command.current_dir(workspace::root());
        command.env("CARGO_TARGET_DIR", workspace::lab_dir()).env("SOURCE_DATE_EPOCH", &time);
        command.args([name, "-p", "collapse-user", "--target", programs::TARGET, "--output"]);
        command.arg(file);
        command
    };
    tool(&deb, "deb", &made.deb).args(["--quiet", "--no-build", "--no-strip"]).run()?;
    tool(&rpm, "generate-rpm", &made.rpm).run()?;
    Ok(made)
}

fn program() -> Result<PathBuf> {
    let mut built = programs::build()?.into_iter();
    let found = built.find(|path| path.file_name().is_some_and(|name| name == "collapse"));
    found.context("collapse was not built")
}

/// The time that every file in the packages gets, in seconds since 1970: that of the latest commit, unless
/// `SOURCE_DATE_EPOCH` is set.
fn time() -> Result<String> {
    if let Ok(time) = env::var("SOURCE_DATE_EPOCH") {
        return Ok(time);
    }
    let mut git = Command::new("git");
    let time = git.args(["log", "-1", "--format=%ct"]).current_dir(workspace::root()).read();
    let time = time.context("the time of the latest commit; without git, set SOURCE_DATE_EPOCH")?;
    Ok(String::from_utf8(time)?.trim().to_owned())
}
