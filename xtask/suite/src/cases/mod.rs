//! What is tested in the lab.

mod budget;
mod dashboard;
mod each;
mod failed_migration;
mod hardship;
mod life;
mod observed;
mod oracle;
mod readme;
mod recordings;
mod reload;
mod reports;
mod scenarios;
mod selftest;
mod stacks;
mod streams;
mod timeline;
mod unprobed;

use super::lab::Case;

/// All cases, in the order in which they start.
pub fn all() -> Vec<Case> {
    let mut cases = streams::cases();
    cases.extend(failed_migration::cases());
    cases.extend(scenarios::cases());
    cases.extend(hardship::cases());
    cases.extend(unprobed::cases());
    cases.extend(life::cases());
    cases.extend(budget::cases());
    cases.extend(recordings::cases());
    cases.extend(each::cases());
    cases.extend(stacks::cases());
    cases.extend(selftest::cases());
    cases.extend(reload::cases());
    cases.extend(readme::cases());
    cases.extend(reports::cases());
    cases.extend(dashboard::cases());
    cases
}
