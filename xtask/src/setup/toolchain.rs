//! The compiler for the eBPF side and the linker built on that compiler's LLVM.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use base::{CommandExt, cache, packages, process::on_path};

/// The compiler that rustup is asked for: Debian's version, so that both build the same object.
const RUSTUP_TOOLCHAIN: &str = "1.96.0";
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
const BPF_LINKER: &str = "0.13.0";
/// LLVM versions that this bpf-linker can be built on.
const LLVM_VERSIONS: [&str; 3] = ["21", "22", "23"];
/// The oldest compiler that the eBPF side builds with.
const OLDEST: (u32, u32) = (1, 95);

/// A compiler with the source of `core`.
struct Compiler {
    cargo: PathBuf,
    rustc: PathBuf,
    llvm: String,
}

impl Compiler {
    /// The compiler at these paths, if it can build the eBPF side.
    fn at(cargo: PathBuf, rustc: PathBuf) -> Option<Self> {
        if !cargo.is_file() || !rustc.is_file() {
            return None;
        }
        let read = |argument: &[&str]| {
            let output = Command::new(&rustc).args(argument).stderr(Stdio::null()).output().ok()?;
            Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let version = read(&["-vV"])?;
        let llvm = fit(&version)?;
        let sysroot = PathBuf::from(read(&["--print", "sysroot"])?);
        let source = sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml");
        source.is_file().then_some(Self { cargo, rustc, llvm })
    }

    /// The compiler of the distribution's packages.
    fn packaged() -> Option<Self> {
        Self::at("/usr/bin/cargo".into(), "/usr/bin/rustc".into())
    }

    /// The compiler of rustup's toolchain.
    fn from_rustup() -> Option<Self> {
        let which = |program: &str| {
            let output = Command::new("rustup")
                .args(["which", "--toolchain", RUSTUP_TOOLCHAIN, program])
                .env("RUSTUP_AUTO_INSTALL", "0")
                .stderr(Stdio::null())
                .output()
                .ok()?;
            let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            output.status.success().then(|| PathBuf::from(path))
        };
        Self::at(which("cargo")?, which("rustc")?)
    }

    fn linker(&self) -> Result<PathBuf> {
        let root = cache::dir()?.join(format!("bpf-linker-llvm{}", self.llvm));
        Ok(root.join("bin/bpf-linker"))
    }
}

/// The LLVM version of a compiler that is new enough, from what `rustc -vV` prints.
fn fit(version: &str) -> Option<String> {
    let field = |name: &str| version.lines().find_map(|line| line.strip_prefix(name));
    let llvm = field("LLVM version: ")?.split('.').next()?;
    let fit = is_new_enough(field("release: ")?) && LLVM_VERSIONS.contains(&llvm);
    fit.then(|| llvm.to_owned())
}

/// Whether a version, of a compiler or of its package, is new enough.
fn is_new_enough(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    let mut part = || parts.next().flatten();
    part().zip(part()).is_some_and(|release: (u32, u32)| release >= OLDEST)
}

/// The file with the choice, for the build script that uses it.
fn record() -> Result<PathBuf> {
    Ok(cache::dir()?.join("ebpf-toolchain"))
}

/// The choice as written down.
pub fn summary() -> Result<String> {
    let record = record()?;
    fs::read_to_string(&record).with_context(|| format!("reading {}", record.display()))
}

/// Whether a toolchain was chosen and still exists.
pub fn is_ready() -> Result<bool> {
    let text = fs::read_to_string(record()?).unwrap_or_default();
    Ok(is_complete(&text, Path::is_file))
}

fn is_complete(record: &str, exists: impl Fn(&Path) -> bool) -> bool {
    ["cargo", "rustc", "linker"].iter().all(|key| {
        record.lines().any(|line| {
            let entry = line.split_once('=').map(|(name, path)| (name.trim(), path.trim()));
            entry.is_some_and(|(name, path)| name == *key && exists(Path::new(path)))
        })
    })
}

/// Finds or installs the toolchain, and writes its paths down.
pub fn install() -> Result<()> {
    let compiler = match Compiler::packaged().or_else(Compiler::from_rustup) {
        Some(compiler) => compiler,
        None => install_compiler()?,
    };
    let linker = compiler.linker()?;
    if !Command::new(&linker).arg("--version").succeeds() {
        build_linker(&compiler, &linker)?;
    }
    let text = format!(
        "cargo = {}\nrustc = {}\nlinker = {}\n",
        compiler.cargo.display(),
        compiler.rustc.display(),
        linker.display()
    );
    let record = record()?;
    eprintln!("setup: writing {}", record.display());
    fs::write(&record, text).with_context(|| format!("writing {}", record.display()))
}

fn install_compiler() -> Result<Compiler> {
    if on_path("rustup") {
        eprintln!("setup: asking rustup for the toolchain {RUSTUP_TOOLCHAIN} with rust-src");
        let installed = Command::new("rustup")
            .args(["toolchain", "install", RUSTUP_TOOLCHAIN, "--profile", "minimal"])
            .args(["--component", "rust-src", "--no-self-update"])
            // Being offline should show soon, even where packets vanish without an answer.
            .env("RUSTUP_MAX_RETRIES", "0")
            .env("RUSTUP_DOWNLOAD_TIMEOUT", "20")
            .run();
        match (installed, Compiler::from_rustup()) {
            (Ok(()), Some(compiler)) => return Ok(compiler),
            (Err(error), _) => eprintln!("setup: {error:#}; trying the distribution's packages"),
            (Ok(()), None) => eprintln!("setup: rustup's toolchain cannot be used"),
        }
    }
    if on_path("apt-cache") {
        if !debian_has_it() {
            packages::refresh();
        }
        if debian_has_it() {
            eprintln!("setup: the eBPF side needs {}", DEBIAN_PACKAGES.join(", "));
            packages::install(&DEBIAN_PACKAGES)?;
            if let Some(compiler) = Compiler::packaged() {
                return Ok(compiler);
            }
        }
    }
    bail!(
        "no compiler for the eBPF side; needed: rustc {}.{} or newer on LLVM {}, with rust-src, for \
         example by `rustup toolchain install {RUSTUP_TOOLCHAIN} --component rust-src`, or as the \
         package {} of Debian's security archive",
        OLDEST.0,
        OLDEST.1,
        LLVM_VERSIONS.join(", "),
        DEBIAN_PACKAGES[0]
    )
}

/// Whether the compiler that apt would install is new enough. Debian updates it in the security archive
/// only, so that lists without that, or old lists, name a compiler that is too old.
fn debian_has_it() -> bool {
    DEBIAN_PACKAGES
        .iter()
        .all(|package| packages::candidate(package).is_some_and(|version| is_new_enough(&version)))
}

fn build_linker(compiler: &Compiler, linker: &Path) -> Result<()> {
    let llvm = &compiler.llvm;
    let prefix = match env::var_os("LLVM_PREFIX") {
        Some(prefix) => PathBuf::from(prefix),
        None => PathBuf::from(format!("/usr/lib/llvm-{llvm}")),
    };
    if !prefix.join("bin/llvm-config").is_file() {
        let needed = [format!("llvm-{llvm}-dev"), format!("libclang-{llvm}-dev")];
        let needed: Vec<&str> = needed.iter().map(String::as_str).collect();
        eprintln!("setup: bpf-linker needs {}", needed.join(", "));
        packages::install(&needed)
            .context("or set LLVM_PREFIX to where that LLVM and its headers are")?;
    }
    let root = linker.ancestors().nth(2).context("the linker has no folder")?;
    eprintln!("setup: building bpf-linker {BPF_LINKER} on LLVM {llvm} into {}", root.display());
    // With the compiler just found: another one on PATH may be too old, or a proxy without a toolchain.
    Command::new(&compiler.cargo)
        .env("RUSTC", &compiler.rustc)
        .args(["install", "bpf-linker", "--version", BPF_LINKER, "--locked", "--force"])
        .args(["--no-default-features", "--features", &format!("llvm-{llvm}"), "--root"])
        .arg(root)
        .env("LLVM_PREFIX", &prefix)
        .run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_is_fit_by_age_and_llvm() {
        let version = |release: &str, llvm: &str| {
            fit(&format!("rustc {release} (abc)\nrelease: {release}\nLLVM version: {llvm}\n"))
        };
        assert_eq!(version("1.96.0", "22.1.8").as_deref(), Some("22"));
        assert_eq!(version("1.97.0-nightly", "22.1.4").as_deref(), Some("22"));
        assert_eq!(version("1.63.0", "14.0.6"), None);
        assert_eq!(version("1.99.0", "24.1.0"), None);
        assert_eq!(fit("nonsense"), None);
    }

    #[test]
    fn a_package_is_judged_by_its_version() {
        assert!(is_new_enough("1.96.0+dfsg1-1~deb12u2"));
        assert!(is_new_enough("1.95.0"));
        assert!(!is_new_enough("1.85.0+dfsg3-1~deb12u3"));
        assert!(!is_new_enough("1"));
    }

    #[test]
    fn a_record_is_complete_only_with_existing_files() {
        let record = "cargo = /a/cargo\nrustc = /a/rustc\nlinker = /b/bpf-linker\n";
        assert!(is_complete(record, |_| true));
        assert!(!is_complete(record, |path| path.starts_with("/a")));
        assert!(!is_complete("cargo = /a/cargo\n", |_| true));
        assert!(!is_complete("", |_| true));
    }
}
