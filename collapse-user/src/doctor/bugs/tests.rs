use std::{collections::BTreeSet, path::Path};

use super::*;

fn host(series: &str) -> Inspected {
    let file = format!("tests/fixtures/kernels/{series}.json");
    Inspected::from_file(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

const TDP: Mmu = Mmu::Tdp;

fn paging(pml: bool) -> Paging {
    Paging { pml: Some(pml), ..Paging::default() }
}

/// Names of the bugs that bear on a kernel of this release.
fn bugs(release: &str, mmu: Mmu, pml: bool) -> Vec<&'static str> {
    let mut host = host("6.12");
    host.release = Ok(release.to_owned());
    let known = KnownBugs::of(&host, mmu, paging(pml));
    known.known_bugs.unwrap().iter().map(|bug| bug.name).collect()
}

#[test]
fn a_fix_counts_from_its_release_on_in_its_series() {
    let hang = "vcpus_hang";
    for (release, has) in [
        ("5.15.200", false),
        ("5.16.1", true),
        ("6.1.49", true),
        ("6.1.50", false),
        ("6.2.16", true),
        ("6.3.0", false),
    ] {
        assert_eq!(bugs(release, TDP, false).contains(&hang), has, "{release}");
    }
    let nested = "nested_dirty_pages_lost";
    for (release, has) in
        [("6.6.28", true), ("6.6.29", false), ("6.7.12", true), ("6.8.8", false), ("6.9.0", false)]
    {
        assert_eq!(bugs(release, TDP, true).contains(&nested), has, "{release}");
    }
    assert_eq!(bugs("7.3.4", TDP, true), [""; 0]);
}

#[test]
fn only_what_the_host_uses() {
    assert!(bugs("6.6.1", TDP, true).contains(&"nested_dirty_pages_lost"));
    assert!(!bugs("6.6.1", TDP, false).contains(&"nested_dirty_pages_lost"));
    assert!(bugs("5.10.14", TDP, false).contains(&"collapse_does_nothing"));
    assert!(!bugs("5.10.14", Mmu::Rmap, false).contains(&"collapse_does_nothing"));
    // What is unknown counts as used.
    assert!(bugs("5.10.14", Mmu::Unknown, false).contains(&"collapse_does_nothing"));
    assert!(!bugs("6.1.40", TDP, false).contains(&"nx_recovery_while_logged"));
    let mut forced = host("6.12");
    forced.release = Ok("6.1.40".to_owned());
    forced.kvm.nx_huge_pages = Ok(true);
    let known = KnownBugs::of(&forced, TDP, paging(false)).known_bugs.unwrap();
    assert!(known.iter().any(|bug| bug.name == "nx_recovery_while_logged"));
}

#[test]
fn unknown_is_not_none() {
    let mut redhat = host("6.12");
    redhat.release = Ok("5.14.0-503.el9.x86_64".to_owned());
    let known = KnownBugs::of(&redhat, TDP, paging(false));
    assert!(known.known_bugs.is_none() && known.lines()[0].contains("not judged"));
}

#[test]
fn lines_say_when_it_is_fixed() {
    let mut old = host("6.12");
    old.release = Ok("6.1.0-9-amd64".to_owned());
    old.build = Some("#1 SMP PREEMPT_DYNAMIC Debian 6.1.27-1 (2023-05-08)".to_owned());
    let lines = KnownBugs::of(&old, TDP, paging(false)).lines();
    assert!(lines[0].contains("6.1.27"), "{lines:?}");
    let hang = lines.iter().find(|line| line.contains("vcpus_hang")).unwrap();
    assert!(
        hang.starts_with("  hang: ") && hang.contains("fixed in 6.1.50 and 6.3 by ba6e3fe25543"),
        "{hang}"
    );
}

#[test]
fn the_table_is_well_formed() {
    let names: BTreeSet<_> = table::BUGS.iter().map(|bug| bug.name).collect();
    assert_eq!(names.len(), table::BUGS.len());
    assert!(table::BUGS.is_sorted_by_key(|bug| bug.harm), "the worst first");
    for bug in table::BUGS {
        assert!(bug.since < bug.fixed, "{}", bug.name);
        let series: BTreeSet<_> = bug.stable.iter().map(|fix| fix.series()).collect();
        assert_eq!(series.len(), bug.stable.len(), "{}: one release for each series", bug.name);
        let within =
            |fix: &Version| (bug.since..bug.fixed).contains(&fix.series()) && fix.patch > 0;
        assert!(bug.stable.iter().all(within), "{}", bug.name);
        assert!(
            bug.commit.len() == 12 && bug.commit.chars().all(|c| c.is_ascii_hexdigit()),
            "{}",
            bug.name
        );
    }
}
