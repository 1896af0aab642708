//! Diagnostics of the program itself in the status line and in the view of hooks.

use log::Level;
use ratatui::crossterm::event::KeyCode;

use super::{Stage, frames::check, recorded::FOUR};

const STACK: &str = "kernel stack 3 of database (pid 254) could not be read: it was overwritten \
    before the ring was drained; its changes are counted, and reported without a stack";

fn stage() -> Stage {
    let stage = Stage::watching(FOUR, 52_000);
    let notices = stage.app.notices();
    notices.push(Level::Info, "attached 23 programs in 812 ms");
    notices.push(
        Level::Error,
        "page_fault: the verifier refused it:\nR1 invalid mem access\nprocessed 9 insns",
    );
    notices.push(Level::Warn, STACK);
    stage
}

#[test]
fn the_latest_is_in_the_status_line_and_all_are_with_the_hooks() {
    let mut stage = stage();
    for (columns, rows) in [(80, 24), (120, 40)] {
        check(&format!("notices-overview-{columns}x{rows}"), &stage.frame(columns, rows));
    }
    stage.type_in("7");
    stage.press(KeyCode::End);
    for (columns, rows) in [(80, 24), (120, 40)] {
        check(&format!("notices-probes-{columns}x{rows}"), &stage.frame(columns, rows));
    }
}

#[test]
fn the_status_line_has_only_what_was_not_looked_at() {
    let mut stage = stage();
    let status = |stage: &Stage| stage.text(120, 40).lines().last().unwrap().to_owned();
    assert!(status(&stage).contains("! kernel stack") && status(&stage).contains("(+2)"));
    stage.type_in("7");
    assert!(!status(&stage).contains('!'), "{}", status(&stage));
    stage.app.notices().push(Level::Warn, "seen as it comes");
    stage.type_in("1");
    assert!(!status(&stage).contains('!'), "{}", status(&stage));
    stage.app.notices().push(Level::Error, "another");
    assert!(status(&stage).contains("! another "), "{}", status(&stage));
}

#[test]
fn a_narrow_status_line_has_their_number() {
    let mut stage = stage();
    let text = stage.text(40, 12);
    assert!(text.lines().last().unwrap().contains("! 3"), "{text}");
    stage.type_in("7");
    stage.press(KeyCode::End);
    stage.type_in("kk");
    assert!(stage.text(80, 24).contains(" ! kernel stack 3 of"), "{}", stage.text(80, 24));
}
