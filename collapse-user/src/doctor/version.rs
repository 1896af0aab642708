//! The release of kernel.org that a kernel is built from.

use std::{fmt, str::FromStr};

/// A release of a stable series, or the first of a series with patch 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

impl Version {
    /// Finds the release from `uname -r` and from what the kernel says of its build. `None` if a
    /// distribution numbers its kernels itself and does not tell: `5.14.0-503.el9`.
    pub fn of_kernel(release: &str, build: Option<&str>) -> Option<Self> {
        let (numbers, rest) = split(release);
        let own: Self = numbers.parse().ok()?;
        // Debian: `… Debian 6.1.187-1 (2026-09-01)`; Ubuntu: `Ubuntu 6.8.0-45.45-generic 6.8.12`.
        let said = build.unwrap_or_default().split([' ', ';']);
        let said = said.filter_map(|word| split(word).0.parse().ok());
        let of_series = said.filter(|said: &Self| said.series() == own.series());
        let told = of_series.max().filter(|told| told.patch > 0);
        told.or_else(|| (own.patch > 0 || rest.is_empty()).then_some(own))
    }

    /// Returns the series: `(6, 1)` for 6.1.50.
    pub fn series(self) -> (u32, u32) {
        (self.major, self.minor)
    }
}

/// Splits off the numbers at the start: `6.1.50` and `-arch1-1`.
fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text.split_at(end)
}

impl FromStr for Version {
    type Err = ();

    /// Reads `6.1.50`; all three numbers are needed.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut numbers = text.split('.').map(|number| number.parse().map_err(drop));
        let mut next = || numbers.next().unwrap_or(Err(()));
        let version = Self { major: next()?, minor: next()?, patch: next()? };
        if numbers.next().is_some() { Err(()) } else { Ok(version) }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_behind_a_distributions_number() {
        let debian = Some("#1 SMP PREEMPT_DYNAMIC Debian 6.1.187-1 (2026-09-01)");
        let ubuntu =
            Some("#45-Ubuntu SMP Fri Aug 30 12:02:04 UTC 2024; Ubuntu 6.8.0-45.45-generic 6.8.12");
        let own = Some("#1 SMP Wed Nov 4 10:00:00 UTC 2026");
        for (release, build, version) in [
            ("6.1.0-56-amd64", debian, Some("6.1.187")),
            ("6.8.0-45-generic", ubuntu, Some("6.8.12")),
            ("6.12.118+deb13-amd64", own, Some("6.12.118")),
            ("6.9.7-arch1-1", None, Some("6.9.7")),
            ("6.12.0", own, Some("6.12.0")),
            ("6.12.0-rc3+", own, None),
            ("5.14.0-503.11.1.el9_5.x86_64", own, None),
            ("6.1.0-56-amd64", None, None),
            // A kernel that names another series than its own has not told.
            ("5.14.0-503.el9", debian, None),
            ("–", debian, None),
        ] {
            let found = Version::of_kernel(release, build).map(|version| version.to_string());
            assert_eq!(found.as_deref(), version, "{release} {build:?}");
        }
    }
}
