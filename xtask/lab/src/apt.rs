//! A private apt: its own sources, lists and packages, on the mirror that the machine already uses.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, ensure};

use crate::process::CommandExt;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Suites of the main archive with kernels for the lab.
const SUITES: [&str; 5] =
    ["bullseye", "bookworm", "bookworm-backports", "trixie", "trixie-backports"];
const SECURITY_SUITES: [&str; 3] = ["bullseye-security", "bookworm-security", "trixie-security"];
/// Debian releases whose names mark a source as one of Debian's own archives.
const RELEASES: [&str; 8] =
    ["buster", "bullseye", "bookworm", "trixie", "forky", "stable", "testing", "sid"];
/// How long fetched package lists count as current.
const LIST_LIFETIME: Duration = Duration::from_hours(24);

/// One line's worth of an apt source.
#[derive(Debug, PartialEq, Eq)]
struct Source {
    uri: String,
    suites: Vec<String>,
    components: Vec<String>,
}

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
    /// Prepares the folder and brings the package lists up to date once a day. Being unable to is
    /// an error only for what then cannot be found.
    pub fn open(cache: &Path) -> Result<Self> {
        let apt = Self { root: cache.join("apt") };
        for folder in ["lists/partial", "archives/partial"] {
            let folder = apt.root.join(folder);
            fs::create_dir_all(&folder)
                .with_context(|| format!("creating {}", folder.display()))?;
        }
        let sources = sources_list(&mirrors()?);
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

    /// Every (package, version) to be had of the named packages.
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

fn mirrors() -> Result<Mirrors> {
    if let Ok(main) = env::var("COLLAPSE_DEBIAN_MIRROR") {
        return Ok(Mirrors { security: beside(&main), main });
    }
    let mut sources = Vec::new();
    let parts = fs::read_dir("/etc/apt/sources.list.d");
    let parts = parts.into_iter().flatten().flatten().map(|entry| entry.path());
    for path in std::iter::once(PathBuf::from("/etc/apt/sources.list")).chain(parts) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("list") => sources.extend(parse_list(&text)),
            Some("sources") => sources.extend(parse_deb822(&text)),
            _ => {}
        }
    }
    ensure!(
        Path::new(KEYRING).exists(),
        "{KEYRING} is missing: install the package debian-archive-keyring"
    );
    find_mirrors(&sources).context(
        "no Debian archive among this machine's apt sources: set COLLAPSE_DEBIAN_MIRROR to the \
         URL of a Debian mirror, or give --kernel <vmlinuz> --modules <dir>",
    )
}

fn find_mirrors(sources: &[Source]) -> Option<Mirrors> {
    let find = |suffixes: &[&str]| {
        let wanted = |suite: &str| {
            RELEASES.iter().any(|release| {
                suite.strip_prefix(release).is_some_and(|suffix| suffixes.contains(&suffix))
            })
        };
        sources
            .iter()
            .find(|source| {
                source.components.iter().any(|component| component == "main")
                    && source.suites.iter().any(|suite| wanted(suite))
            })
            .map(|source| source.uri.clone())
    };
    let main = find(&["", "-updates", "-backports"])?;
    let security = find(&["-security", "/updates"]).unwrap_or_else(|| beside(&main));
    Some(Mirrors { main, security })
}

/// Where mirrors keep the security archive: next to the main one.
fn beside(main: &str) -> String {
    format!("{}-security", main.trim_end_matches('/'))
}

fn sources_list(mirrors: &Mirrors) -> String {
    let line = |uri: &str, suite: &str| {
        format!("deb [arch=amd64 target=Packages signed-by={KEYRING}] {uri} {suite} main\n")
    };
    let main = SUITES.iter().map(|suite| line(&mirrors.main, suite));
    let security = SECURITY_SUITES.iter().map(|suite| line(&mirrors.security, suite));
    main.chain(security).collect()
}

/// Sources of the one-line format.
fn parse_list(text: &str) -> Vec<Source> {
    text.lines()
        .filter_map(|line| {
            let line = line.split('#').next()?.trim().strip_prefix("deb ")?.trim_start();
            let line = match line.strip_prefix('[') {
                Some(options) => options.split_once(']')?.1,
                None => line,
            };
            let mut words = line.split_whitespace().map(str::to_owned);
            let (uri, suite) = (words.next()?, words.next()?);
            Some(Source { uri, suites: vec![suite], components: words.collect() })
        })
        .collect()
}

/// Sources of the deb822 format.
fn parse_deb822(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut fields: Vec<(String, Vec<String>)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        if line.trim().is_empty() {
            let stanza = std::mem::take(&mut fields);
            let field = |name: &str| {
                let found = stanza.iter().find(|(key, _)| key == name);
                found.map(|(_, values)| values.clone()).unwrap_or_default()
            };
            let enabled = !field("enabled").iter().any(|value| value == "no");
            if enabled && field("types").iter().any(|kind| kind == "deb") {
                sources.extend(field("uris").into_iter().map(|uri| Source {
                    uri,
                    suites: field("suites"),
                    components: field("components"),
                }));
            }
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, values)) = fields.last_mut() {
                values.extend(words(line));
            }
        } else if let Some((key, value)) = line.split_once(':') {
            fields.push((key.trim().to_ascii_lowercase(), words(value)));
        }
    }
    sources
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

    const DEB822: &str = "\
# comment
Types: deb
# comment within
URIs: http://mirror.example/debian
Suites: bookworm
 bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: trixie
Components: main

Types: deb deb-src
URIs: http://mirror.example/debian-security/
Suites: bookworm-security
Components: main contrib
";

    #[test]
    fn reads_deb822() {
        let sources = parse_deb822(DEB822);
        assert_eq!(sources.len(), 2);
        assert_eq!(sources[0].suites, ["bookworm", "bookworm-updates"]);
        assert_eq!(
            find_mirrors(&sources),
            Some(Mirrors {
                main: "http://mirror.example/debian".into(),
                security: "http://mirror.example/debian-security/".into(),
            })
        );
    }

    #[test]
    fn reads_one_line_sources() {
        let sources = parse_list(
            "deb-src http://m.example/debian trixie main\n\
             # deb http://m.example/off trixie main\n\
             deb [arch=amd64 signed-by=/k.gpg] https://vendor.example/apt trixie stable\n\
             deb [trusted=yes] http://m.example/debian/ trixie main contrib # mine\n",
        );
        assert_eq!(sources.len(), 2);
        assert_eq!(
            find_mirrors(&sources),
            Some(Mirrors {
                main: "http://m.example/debian/".into(),
                security: "http://m.example/debian-security".into(),
            })
        );
    }

    #[test]
    fn a_vendor_archive_is_no_mirror() {
        let sources = parse_list(
            "deb http://a.example/pg bookworm-pgdg main\ndeb http://b.example/n nodistro main\n",
        );
        assert_eq!(find_mirrors(&sources), None);
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
