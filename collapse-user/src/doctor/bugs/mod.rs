//! The few bugs of KVM that bear on huge pages, judged by the kernel's version.

mod table;
#[cfg(test)]
mod tests;

use serde::Serialize;

use super::version::Version;
use crate::{
    kernel::inspect::Inspected,
    plan::{Mmu, Paging},
};

/// A bug of KVM that bears on huge pages.
struct Bug {
    /// Name, for programs.
    name: &'static str,
    harm: Harm,
    needs: Needs,
    /// What happens, as the end of a sentence.
    what: &'static str,
    /// What helps until the kernel has the fix.
    remedy: &'static str,
    /// First series that has the bug, as far as this table tells: nothing before 5.10 is told apart.
    since: (u32, u32),
    /// First series that never had it.
    fixed: (u32, u32),
    /// Commit of the fix in the main line.
    commit: &'static str,
    cve: Option<&'static str>,
    /// First release with the fix in each stable series in which it was seen.
    stable: &'static [Version],
}

/// The worst that a bug does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Harm {
    /// A guest may harm the host.
    Security,
    /// Dirty pages are lost.
    LostPages,
    /// A guest may see wrong memory.
    Wrong,
    /// The kernel may crash.
    Crash,
    /// vCPUs hang.
    Hang,
    /// Guests stand still for seconds.
    Stall,
    /// Guests are slower than they had to be.
    Slow,
}

impl Harm {
    fn label(self) -> &'static str {
        match self {
            Self::Security => "security",
            Self::LostPages => "lost pages",
            Self::Wrong => "wrong memory",
            Self::Crash => "crash",
            Self::Hang => "hang",
            Self::Stall => "stall",
            Self::Slow => "slow",
        }
    }
}

/// What the host must use for a bug to bear on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// Nested paging with the TDP MMU.
    TdpMmu,
    /// Dirty logging by PML.
    Pml,
    /// The mitigation by which executable huge pages are split.
    NxHugePages,
}

impl Needs {
    /// Returns whether the host may use it: what is unknown counts as used.
    fn met(self, host: &Inspected, mmu: Mmu, paging: Paging) -> bool {
        match self {
            Self::Nothing => true,
            Self::TdpMmu => matches!(mmu, Mmu::Tdp | Mmu::Unknown),
            Self::Pml => paging.pml != Some(false),
            Self::NxHugePages => host.kvm.nx_huge_pages != Ok(false),
        }
    }
}

/// The bugs that bear on a kernel.
#[derive(Serialize)]
pub struct KnownBugs {
    /// The release of kernel.org that the kernel is built from; `None` if it is not known, and then
    /// nothing is judged.
    pub kernel_version: Option<String>,
    /// Bugs of that release on a host of these settings, the worst first; `None` if it is not known.
    pub known_bugs: Option<Vec<KnownBug>>,
}

/// A bug that the kernel's version has. A distribution may have fixed it all the same.
#[derive(Serialize)]
pub struct KnownBug {
    pub name: &'static str,
    pub harm: Harm,
    /// What happens.
    pub what: &'static str,
    /// What helps until the kernel has the fix.
    pub remedy: &'static str,
    /// First release of the kernel's own series with the fix; `None` if none is known.
    pub fixed_in_series: Option<String>,
    /// First series of the main line with the fix.
    pub fixed_in: String,
    /// Commit of the fix in the main line.
    pub commit: &'static str,
    pub cve: Option<&'static str>,
}

impl KnownBugs {
    /// Judges a host.
    pub fn of(host: &Inspected, mmu: Mmu, paging: Paging) -> Self {
        let version = Version::of_kernel(&host.release(), host.build.as_deref());
        let bears = |bug: &&Bug, version| bug.is_in(version) && bug.needs.met(host, mmu, paging);
        let bugs = version.map(|version| {
            let bugs = table::BUGS.iter().filter(|bug| bears(bug, version));
            bugs.map(|bug| bug.in_series(version.series())).collect()
        });
        Self { kernel_version: version.map(|version| version.to_string()), known_bugs: bugs }
    }

    /// Returns the bugs in lines for people.
    pub fn lines(&self) -> Vec<String> {
        let (Some(version), Some(bugs)) = (&self.kernel_version, &self.known_bugs) else {
            return vec![
                "known bugs of KVM: not judged, since the kernel does not say from which release it is built"
                    .to_owned(),
            ];
        };
        if bugs.is_empty() {
            let of = table::BUGS.len();
            return vec![format!(
                "known bugs of KVM: none of {of} in {version} with these settings"
            )];
        }
        let head =
            format!("known bugs of KVM in {version}, unless the distribution has fixed them:");
        std::iter::once(head).chain(bugs.iter().map(KnownBug::line)).collect()
    }
}

impl Bug {
    /// Returns whether `version` has the bug.
    fn is_in(&self, version: Version) -> bool {
        let series = version.series();
        let fix = self.stable.iter().find(|fix| fix.series() == series);
        (self.since..self.fixed).contains(&series) && fix.is_none_or(|fix| version < *fix)
    }

    fn in_series(&self, series: (u32, u32)) -> KnownBug {
        let fix = self.stable.iter().find(|fix| fix.series() == series);
        KnownBug {
            name: self.name,
            harm: self.harm,
            what: self.what,
            remedy: self.remedy,
            fixed_in_series: fix.map(ToString::to_string),
            fixed_in: format!("{}.{}", self.fixed.0, self.fixed.1),
            commit: self.commit,
            cve: self.cve,
        }
    }
}

impl KnownBug {
    fn line(&self) -> String {
        let fixed = self.fixed_in_series.iter().cloned().chain([self.fixed_in.clone()]);
        let fixed = fixed.collect::<Vec<_>>().join(" and ");
        let cve = self.cve.map(|cve| format!(", {cve}")).unwrap_or_default();
        let Self { name, what, remedy, commit, .. } = self;
        let harm = self.harm.label();
        format!(
            "  {harm}: {what} ({name}, fixed in {fixed} by {commit}{cve}). Until then: {remedy}"
        )
    }
}
