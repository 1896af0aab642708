//! The program's own warnings.

use ratatui::crossterm::event::KeyCode;

use super::Stage;

const LONG: &str = "stacks have no function names: /proc/kallsyms: Permission denied (os error 13)";

/// The status line.
fn status(stage: &Stage, columns: u16) -> String {
    stage.text(columns, 40).lines().last().unwrap_or_default().to_owned()
}

#[test]
fn the_status_line_has_the_latest_until_it_was_read() {
    let mut stage = Stage::busy();
    assert!(!status(&stage, 120).contains('!'));
    stage.app.warn("cannot read kernel stack 3".to_owned());
    stage.app.warn(LONG.to_owned());
    let line = status(&stage, 160);
    assert!(line.contains(&format!("! {LONG}")) && line.ends_with("? help  q quit"), "{line}");
    // Where there is less room, it is cut, and help is still there.
    let line = status(&stage, 80);
    assert!(line.contains("! stacks have") && line.ends_with("… ? help  q quit"), "{line}");
    stage.press(KeyCode::Char('7'));
    stage.press(KeyCode::Char('1'));
    assert!(!status(&stage, 120).contains('!'));
    stage.app.warn("cannot read kernel stack 4".to_owned());
    assert!(status(&stage, 120).contains("! cannot read kernel stack 4"));
}

#[test]
fn the_view_of_probes_has_all_of_them() {
    let mut stage = Stage::busy();
    stage.app.warn("cannot read kernel stack 3".to_owned());
    stage.app.warn(LONG.to_owned());
    stage.press(KeyCode::Char('7'));
    stage.press(KeyCode::End);
    let text = stage.text(60, 60);
    assert!(text.contains(" ! cannot read kernel stack 3"), "{text}");
    // The selected one is shown in full below.
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(LONG), "{text}");
}
