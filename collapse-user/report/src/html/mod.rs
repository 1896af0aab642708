//! The report as one file for a browser: no script, nothing fetched, plots inline. All text is
//! escaped by the macro that builds it.

mod bars;
mod memory;
mod plot;
mod vm;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    Report,
    gate::{CheckState, DemandCheck, checks, decisive},
    words,
};

/// Colours for light and dark, layout for wide, narrow and paper.
const STYLE: &str = include_str!("style.css");

/// Renders a report.
pub(super) fn render(report: &Report) -> String {
    let title = format!("collapse report: {}", report.title());
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "collapse report" }
                    p { (report.title()) }
                    @if let Some(command) = &report.command {
                        p { code { (command.argv.join(" ")) } " " (command.ending()) }
                    }
                }
                main {
                    (verdict(report))
                    @for vm in &report.vms { (vm::section(report, vm)) }
                    @if report.vms_forgotten > 0 {
                        p { "And " (report.vms_forgotten) " VMs that ended before these." }
                    }
                    (trust(report))
                }
                footer { "collapse " (report.version) ", " (report.schema) }
            }
        }
    };
    page.into_string() + "\n"
}

/// Did the run keep to what was demanded, and did huge pages come back?
fn verdict(report: &Report) -> Markup {
    let checks = checks(report);
    let state = match decisive(&checks) {
        Some(_) => CheckState::Failed,
        None => CheckState::Passed,
    };
    html! {
        section {
            h2 {
                "Verdict"
                @if !checks.is_empty() { " " (badge(state)) }
            }
            @for selection in report.selections.iter().filter(|selection| selection.vms == 0) {
                p { "No VM matched " code { (selection.select) } "." }
            }
            (findings(report))
            @if report.vms.is_empty() && report.selections.is_empty() { p { "No VM was seen." } }
            @if !report.vms.is_empty() {
                ul.verdicts {
                    @for vm in &report.vms {
                        li class=(vm::mood(vm)) {
                            a href={ "#vm-" (vm.born_ns) } { (words::name(vm)) }
                            ": " (words::verdict(vm))
                            @if let Some(price) = words::price(vm) { br; span.dim { (price) } }
                        }
                    }
                }
            }
            @if !checks.is_empty() { (list_of_checks(&checks)) }
        }
    }
}

/// What was found about VMs, and what to do about it.
fn findings(report: &Report) -> Markup {
    let start = report.started_ns.unwrap_or_default();
    let findings = words::findings(report);
    html! {
        @if !findings.is_empty() {
            ul.verdicts {
                @for (vm, finding) in findings {
                    li.fair {
                        strong { (finding.title) } " " code { (finding.name) } " "
                        a href={ "#vm-" (vm.born_ns) } { (words::label(vm)) }
                        br; (finding.story(start))
                        @for remedy in finding.remedies() { br; span.dim { "→ " (remedy) } }
                    }
                }
            }
        }
    }
}

/// Demands that were not met come first; the rest is out of the way.
fn list_of_checks(checks: &[DemandCheck]) -> Markup {
    let (passed, rest): (Vec<_>, Vec<_>) =
        checks.iter().partition(|check| check.state == CheckState::Passed);
    let (failed, unknown): (Vec<_>, Vec<_>) =
        rest.into_iter().partition(|check| check.state == CheckState::Failed);
    html! {
        ul.checks { @for check in failed { (item(check)) } }
        @for (checks, what) in [(unknown, "could not be compared"), (passed, "ok")] {
            @if !checks.is_empty() {
                details {
                    summary { (checks.len()) " " (what) }
                    ul.checks { @for check in checks { (item(check)) } }
                }
            }
        }
    }
}

fn item(check: &DemandCheck) -> Markup {
    html! {
        li {
            (badge(check.state)) " " (check.kind.name()) " " code { (check.name) }
            @if let Some(vm) = &check.vm { " " (vm) }
            @if !check.found.is_empty() { ": " (check.found) }
        }
    }
}

fn badge(state: CheckState) -> Markup {
    let class = match state {
        CheckState::Passed => "badge good",
        CheckState::Failed => "badge bad",
        CheckState::Skipped => "badge",
    };
    html! { span class=(class) { (state.name()) } }
}

/// Caveats about all of the above.
fn trust(report: &Report) -> Markup {
    html! {
        section {
            h2 { "Can this be trusted?" }
            ul { @for line in words::trust(report) { li { (line.trim()) } } }
            details {
                summary { "What was seen, and by which hooks" }
                div.scroll { table {
                    thead { tr { th { "signal" } th { "seen" } th { "hooks" } th { "remarks" } } }
                    tbody {
                        @for signal in &report.coverage {
                            tr {
                                td { (signal.signal) }
                                td { @if signal.seen { "yes" } @else { strong { "no" } } }
                                td { code { (signal.hooks.join(" ")) } }
                                td {
                                    @if let Some(loses) = &signal.loses { (loses) " " }
                                    @if let Some(reason) = &signal.reason { (reason) }
                                }
                            }
                        }
                    }
                } }
            }
        }
    }
}
