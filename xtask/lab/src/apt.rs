//! A private apt: its own sources, lists and packages, on the mirror that the machine already uses.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, ensure};
use base::CommandExt;

use crate::kernels;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Debian releases whose names mark a source as one of Debian's own archives.
const RELEASES: [&str; 8] =
    ["buster", "bullseye", "bookworm", "trixie", "forky", "stable", "testing", "sid"];
/// Time for which fetched package lists count as current.
const LIST_LIFETIME: Duration = Duration::from_hours(24);

/// The two archives that carry Debian kernels.
#[derive(Debug, PartialEq, Eq)]
struct Mirrors {
    main: String,
    security: String,
}

/// An apt that reads and writes only below one folder of ours.
pub struct Apt {
    root: PathBuf,
}

impl Apt {
    /// Prepares the folder and brings the package lists up to date once a day. A failure to do that is
    /// an error only for packages that then cannot be found.
    pub fn open(cache: &Path) -> Result<Self> {
        let apt = Self { root: cache.join("apt") };
        for folder in ["lists/partial", "archives/partial", "no-lists/partial"] {
            let folder = apt.root.join(folder);
            fs::create_dir_all(&folder)
                .with_context(|| format!("creating {}", folder.display()))?;
        }
        let sources = sources_list(&mirrors(&apt.root.join("no-lists"))?);
        let unchanged = fs::read_to_string(apt.sources()).is_ok_and(|old| old == sources);
        apt.write("sources.list", &sources)?;
        apt.write("status", "")?;
        apt.write("apt.conf", &apt.configuration()?)?;
        if !(unchanged && apt.is_fresh()) {
            apt.update()?;
        }
        Ok(apt)
    }

    /// Names of all packages that the lists know.
    pub fn package_names(&self) -> Result<Vec<String>> {
        let output = self.command("apt-cache").arg("pkgnames").arg("linux-").read()?;
        Ok(String::from_utf8_lossy(&output).lines().map(str::to_owned).collect())
    }

    /// Every available (package, version) of the named packages.
    pub fn versions(&self, packages: &[&str]) -> Result<Vec<(String, String)>> {
        let output = self.command("apt-cache").arg("madison").args(packages).read()?;
        Ok(parse_madison(&String::from_utf8_lossy(&output)))
    }

    /// Downloads packages at an exact version into a folder.
    pub fn download(&self, packages: &[String], version: &str, into: &Path) -> Result<()> {
        self.command("apt-get")
            .arg("download")
            .args(packages.iter().map(|package| format!("{package}={version}")))
            .current_dir(into)
            .run()
    }

    /// Downloads a release's packages with all that they depend on into a folder, which needs a
    /// folder `partial`.
    pub fn download_closure(&self, packages: &[&str], release: &str, into: &Path) -> Result<()> {
        let option = |name: &str, value: &dyn std::fmt::Display| format!("{name}={value}");
        self.command("apt-get")
            .args(["install", "--yes", "--download-only", "--no-install-recommends"])
            .args(["-o", &option("Dir::Cache::archives", &into.display())])
            .args(["-o", &option("APT::Default-Release", &release)])
            .args(["-o", "Debug::NoLocking=1"])
            .args(packages.iter().map(|package| format!("{package}/{release}")))
            .run()
    }

    /// Downloads the archives of a suite's source package into a folder. Fetches the list of sources, which
    /// nothing else needs, each time.
    pub fn download_source(&self, package: &str, suite: &str, into: &Path) -> Result<()> {
        let mirrors = mirrors(&self.root.join("no-lists"))?;
        let line = format!("deb-src [signed-by={KEYRING}] {} {suite} main\n", mirrors.main);
        self.write("sources-source.list", &line)?;
        let lists = self.root.join("lists-source");
        fs::create_dir_all(lists.join("partial"))
            .with_context(|| format!("creating {}", lists.display()))?;
        let apt = || {
            let mut apt = self.command("apt-get");
            let sources = self.root.join("sources-source.list");
            apt.args(["-o", &format!("Dir::Etc::sourcelist={}", sources.display())])
                .args(["-o", &format!("Dir::State::lists={}", lists.display())]);
            apt
        };
        apt().arg("update").run()?;
        // A mirror may lack the description, which is not needed: the list has the checksums.
        apt().args(["source", "--download-only", "--tar-only", package]).current_dir(into).run()
    }

    fn update(&self) -> Result<()> {
        eprintln!("lab: fetching the package lists");
        if self.command("apt-get").arg("update").run().is_err() {
            eprintln!("lab: some package lists could not be fetched (offline, or a suite is gone)");
            return Ok(());
        }
        self.write("updated", "")
    }

    fn is_fresh(&self) -> bool {
        let updated = fs::metadata(self.root.join("updated")).and_then(|meta| meta.modified());
        updated.is_ok_and(|at| {
            SystemTime::now().duration_since(at).is_ok_and(|age| age < LIST_LIFETIME)
        })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.root.join("apt.conf")).env("LC_ALL", "C");
        command
    }

    fn sources(&self) -> PathBuf {
        self.root.join("sources.list")
    }

    fn write(&self, name: &str, content: &str) -> Result<()> {
        let path = self.root.join(name);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))
    }

    fn configuration(&self) -> Result<String> {
        let root = self.root.to_str().context("the cache path is not UTF-8")?;
        let system = Command::new("apt-config").arg("dump").read()?;
        let network = network_settings(&String::from_utf8_lossy(&system));
        Ok(format!(
            r#"Dir::State "{root}";
Dir::State::lists "{root}/lists";
Dir::State::status "{root}/status";
Dir::Cache "{root}";
Dir::Cache::archives "{root}/archives";
Dir::Etc::sourcelist "{root}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Sandbox::User "";
Acquire::Languages "none";
{network}"#
        ))
    }
}

/// The lines of `apt-config dump` on how to reach a mirror (proxies, certificates, checks); the
/// rest of the system's configuration, its hooks above all, is not for us.
fn network_settings(dump: &str) -> String {
    const KEPT: [&str; 6] = [
        "Acquire::http",
        "Acquire::https",
        "Acquire::Check-",
        "Acquire::Retries",
        "Acquire::ForceIPv",
        "Acquire::AllowInsecureRepositories",
    ];
    dump.lines()
        .filter(|line| KEPT.iter().any(|prefix| line.starts_with(prefix)))
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// The archives that this machine's own apt uses. `indextargets` would name them as well, but does not
/// before lists were fetched for the first time; what an update would fetch is known at once, to anyone.
fn mirrors(no_lists: &Path) -> Result<Mirrors> {
    if let Ok(main) = env::var("COLLAPSE_DEBIAN_MIRROR") {
        return Ok(Mirrors { security: beside(&main), main });
    }
    ensure!(
        Path::new(KEYRING).exists(),
        "{KEYRING} is missing: install the package debian-archive-keyring"
    );
    let uris = Command::new("apt-get")
        .args(["update", "--print-uris", "-o", "Debug::NoLocking=1", "-o"])
        .arg(format!("Dir::State::lists={}", no_lists.display()))
        .read()
        .context("asking apt for this machine's mirrors")?;
    find_mirrors(&parse_uris(&String::from_utf8_lossy(&uris))).context(
        "no Debian archive among this machine's apt sources: set COLLAPSE_DEBIAN_MIRROR to the \
         URL of a Debian mirror, or give --kernel <vmlinuz> --modules <dir>",
    )
}

/// The first archives among (archive, suite) pairs that carry a suite of Debian's.
fn find_mirrors(sources: &[(&str, &str)]) -> Option<Mirrors> {
    let find = |suffixes: &[&str]| {
        let of_debian = |suite: &str| {
            let suffix = RELEASES.iter().find_map(|release| suite.strip_prefix(release));
            suffix.is_some_and(|suffix| suffixes.contains(&suffix))
        };
        let found = sources.iter().find(|(_, suite)| of_debian(suite));
        found.map(|(archive, _)| (*archive).to_owned())
    };
    let main = find(&["", "-updates", "-backports"])?;
    let security = find(&["-security", "/updates"]).unwrap_or_else(|| beside(&main));
    Some(Mirrors { main, security })
}

/// The (archive, suite) pairs with a component `main`, from lines such as
/// `'ARCHIVE/dists/SUITE/main/binary-amd64/Packages.xz' NAME SIZE`.
fn parse_uris(text: &str) -> Vec<(&str, &str)> {
    text.lines()
        .filter_map(|line| {
            let uri = line.strip_prefix('\'')?.split('\'').next()?;
            let (archive, index) = uri.rsplit_once("/dists/")?;
            Some((archive, index.split_once("/main/binary-")?.0))
        })
        .collect()
}

/// The place of the security archive on mirrors: next to the main one.
fn beside(main: &str) -> String {
    format!("{}-security", main.trim_end_matches('/'))
}

fn sources_list(mirrors: &Mirrors) -> String {
    let suites: BTreeSet<&str> =
        kernels::all().iter().flat_map(|series| series.suites).copied().collect();
    let line = |suite: &&str| {
        let uri = if suite.ends_with("-security") { &mirrors.security } else { &mirrors.main };
        format!("deb [arch=amd64 target=Packages signed-by={KEYRING}] {uri} {suite} main\n")
    };
    suites.iter().map(line).collect()
}

/// Whether one package version is newer than another.
pub fn is_newer(version: &str, than: &str) -> bool {
    Command::new("dpkg").args(["--compare-versions", version, "gt", than]).succeeds()
}

fn parse_madison(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| {
            let mut columns = line.split('|').map(|column| column.trim().to_owned());
            Some((columns.next()?, columns.next()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const URIS: &str = "\
'https://vendor.example/apt/dists/nodistro/main/binary-amd64/Packages' vendor 0 \n\
'http://m.example/debian/dists/bookworm/InRelease' m.example_InRelease 0 \n\
'http://m.example/debian/dists/bookworm/contrib/binary-amd64/Packages.xz' m.example_contrib 0 \n";

    #[test]
    fn mirrors_are_known_by_their_suites() {
        let packages = |archive: &str, suite: &str| {
            format!(
                "'{archive}/dists/{suite}/main/binary-amd64/Packages.xz' m.example_Packages 0 \n"
            )
        };
        assert_eq!(find_mirrors(&parse_uris(URIS)), None);
        let main = packages("http://m.example/debian", "bookworm-updates");
        let mirrors = |text: &str| {
            let found = find_mirrors(&parse_uris(text)).unwrap();
            (found.main, found.security)
        };
        let beside = ("http://m.example/debian".into(), "http://m.example/debian-security".into());
        assert_eq!(mirrors(&[URIS, &main].concat()), beside);
        for suite in ["bookworm-security", "buster/updates"] {
            let security = packages("http://s.example/security", suite);
            let both = ("http://m.example/debian".into(), "http://s.example/security".into());
            assert_eq!(mirrors(&[URIS, &main, &security].concat()), both);
        }
    }

    #[test]
    fn versions_are_compared_as_dpkg_does() {
        for (old, new) in [
            ("6.12.9-1", "6.12.10-1"),
            ("6.12.117-1~bpo12+1", "6.12.117-1"),
            ("7.3.4-1", "1:6.1-1"),
        ] {
            assert!(
                is_newer(new, old) && !is_newer(old, new) && !is_newer(old, old),
                "{old} {new}"
            );
        }
    }

    #[test]
    fn keeps_only_network_settings() {
        let dump = "APT::Update::Post-Invoke:: \"rm x\";\nAcquire::http::Proxy \"p\";\n";
        assert_eq!(network_settings(dump), "Acquire::http::Proxy \"p\";\n");
    }

    #[test]
    fn reads_madison() {
        let text = " linux-image-x | 6.12.117-1 | http://m.example trixie/main amd64 Packages\n";
        assert_eq!(parse_madison(text), [("linux-image-x".to_owned(), "6.12.117-1".to_owned())]);
    }
}
