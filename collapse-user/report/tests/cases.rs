//! The answers in `docs/cases.md` are what reports on the recordings say. After a change that is meant, `GOLDEN=write
//! cargo test -p collapse-report --test cases` writes them again.

use std::{fs, path::PathBuf};

use collapse_feed::recording::Replay;
use collapse_model::Model;
use collapse_report::{CommandReport, Format, Report, Style};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The beginning of the report on a recording: all that was found, and the first lines about the first VM.
fn answer(name: &str) -> String {
    let folder = root().join("collapse-user/tests/fixtures/recorded");
    let mut replay = Replay::open(&folder.join(format!("{name}.rec"))).expect(name);
    let mut model = Model::default();
    while let Some(update) = replay.next_update().expect("a whole recording") {
        model.update(&update, replay.coverage());
    }
    let command = replay.end().and_then(|end| end.command.clone()).map(CommandReport::from);
    let report = Report::new(&model, replay.coverage(), replay.machine().clone(), command);
    let text = Format::Text.write(&report, Style::Plain).expect("every report can be written");
    let lines = text.lines().take_while(|line| !line.trim_start().starts_with("mappings"));
    let lines: Vec<_> = lines.collect();
    format!("```console\n$ collapse report --from {name}.rec\n{}\n…\n```\n", lines.join("\n"))
}

#[test]
fn answers_are_those_of_the_recordings() {
    const BEGIN: &str = "<!-- answer ";
    const END: &str = "<!-- end -->";
    let path = root().join("docs/cases.md");
    let page = fs::read_to_string(&path).expect("the page");
    let mut parts = page.split(BEGIN);
    let beginning = parts.next().expect("a beginning").to_owned();
    let answered = parts.map(|part| {
        let (name, rest) = part.split_once(" -->\n").expect("a name");
        let (_, rest) = rest.split_once(END).expect("an end");
        format!("{BEGIN}{name} -->\n{}{END}{rest}", answer(name))
    });
    let answered: Vec<_> = answered.collect();
    assert!(answered.len() >= 5, "{}", answered.len());
    let expected = beginning + &answered.concat();
    if std::env::var_os("GOLDEN").is_some_and(|value| value == "write") {
        fs::write(&path, &expected).expect("writing it");
    } else {
        assert!(page == expected, "{} is not what it was:\n{expected}", path.display());
    }
}
