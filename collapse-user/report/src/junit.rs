//! Checks as test cases, in the XML that CI systems read. Written by hand: it is four elements, and
//! `quick-junit` would pull in an XML library to write them.

use std::fmt::{self, Write as _};

use super::{
    FindingReport, Report, VmReport,
    gate::{CheckState, DemandCheck, checks},
    words,
};

/// Renders the checks of a report.
pub(super) fn render(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_suite(&mut out, report);
    out
}

fn write_suite(out: &mut String, report: &Report) -> fmt::Result {
    let checks = checks(report);
    let count = |state| checks.iter().filter(|check| check.state == state).count();
    let findings = words::findings(report);
    let numbers = format!(
        r#"tests="{}" failures="{}" errors="0" skipped="{}" time="{:.3}""#,
        checks.len() + findings.len(),
        count(CheckState::Failed),
        count(CheckState::Skipped) + findings.len(),
        report.window_ns as f64 / 1e9,
    );
    writeln!(out, r#"<?xml version="1.0" encoding="UTF-8"?>"#)?;
    writeln!(out, r#"<testsuites name="collapse" {numbers}>"#)?;
    writeln!(out, r#"  <testsuite name="collapse report" {numbers}>"#)?;
    for check in &checks {
        write_case(out, check)?;
    }
    for (vm, finding) in findings {
        write_finding(out, report, vm, finding)?;
    }
    writeln!(out, "    <system-out>{}</system-out>", escape(&report.title()))?;
    writeln!(out, "  </testsuite>\n</testsuites>")
}

fn write_case(out: &mut String, check: &DemandCheck) -> fmt::Result {
    let vm = check.vm.as_ref().map_or(String::new(), |vm| format!(" [{vm}]"));
    let name = escape(&format!("{}{vm}", check.name));
    let case = format!(
        r#"    <testcase classname="collapse.{}" name="{name}" time="0""#,
        check.kind.name()
    );
    let found = escape(&check.found);
    match check.state {
        CheckState::Passed => writeln!(out, "{case}/>"),
        CheckState::Failed => {
            writeln!(out, "{case}>\n      <failure message=\"{found}\"/>\n    </testcase>")
        }
        CheckState::Skipped => {
            writeln!(out, "{case}>\n      <skipped message=\"{found}\"/>\n    </testcase>")
        }
    }
}

/// A finding passes and fails nothing: a budget on findings does.
fn write_finding(
    out: &mut String,
    report: &Report,
    vm: &VmReport,
    finding: &FindingReport,
) -> fmt::Result {
    let name = escape(&format!("{} [{}]", finding.name, words::label(vm)));
    let story = finding.story(report.started_ns.unwrap_or_default());
    let remedies: Vec<_> = finding.remedies().collect();
    let found = format!("{}: {story}. {}", finding.title, remedies.join(". "));
    writeln!(out, r#"    <testcase classname="collapse.finding" name="{name}" time="0">"#)?;
    writeln!(out, "      <skipped message=\"{}\"/>\n    </testcase>", escape(&found))
}

/// Escapes text for XML, and replaces the characters that XML does not have.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\t' | '\n' | '\r' => escaped.push(' '),
            '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Escaped text is read back as it was, white space apart.
        #[test]
        fn any_text_survives(text in "[^\\x00-\\x1f\u{fffe}\u{ffff}]*") {
            let xml = format!("<a b=\"{0}\">{0}</a>", escape(&text));
            let document = roxmltree::Document::parse(&xml).unwrap();
            let root = document.root_element();
            prop_assert_eq!(root.attribute("b"), Some(text.as_str()));
            prop_assert_eq!(root.text().unwrap_or_default(), text);
        }

        #[test]
        fn any_text_is_well_formed(text in any::<String>()) {
            let xml = format!("<a b=\"{0}\">{0}</a>", escape(&text));
            prop_assert!(roxmltree::Document::parse(&xml).is_ok());
        }
    }
}
