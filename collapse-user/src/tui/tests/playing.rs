//! The dashboard on a recording.

use ratatui::crossterm::event::{KeyCode, MouseButton, MouseEventKind};

use super::{
    Stage,
    frames::check,
    recorded::{FAILED, FOUR, PML},
};
use collapse_model::player::{Motion, Track};

impl Stage {
    fn track(&self) -> Track<'_> {
        self.player.as_ref().unwrap().track()
    }
}

#[test]
fn frames_of_a_failed_migration() {
    let mut stage = Stage::playing(FAILED, 0);
    check("playing-beginning-80x24", &stage.frame(80, 24));
    // Dirty logging goes on, and off; the end.
    for (name, key) in [("split", "}"), ("collapse", "}"), ("end", "n")] {
        stage.type_in(key);
        for (columns, rows) in [(80, 24), (120, 40), (40, 10)] {
            check(&format!("playing-{name}-{columns}x{rows}"), &stage.frame(columns, rows));
        }
    }
    stage.type_in("{.2");
    check("playing-vm-120x40", &stage.frame(120, 40));
    stage.type_in("5");
    check("playing-events-80x24", &stage.frame(80, 24));
    stage.type_in("1?");
    check("playing-help-120x40", &stage.frame(120, 40));
}

/// Where the CPU logs dirty pages, exits for a full log are what logging cost, and no fault is.
#[test]
fn frames_of_dirty_logging_by_the_cpu() {
    let mut stage = Stage::playing(PML, 0);
    stage.type_in("n");
    for (view, key) in [("overview", "1"), ("vm", "2"), ("episodes", "3")] {
        stage.type_in(key);
        for (columns, rows) in [(80, 24), (120, 40)] {
            check(&format!("pml-{view}-{columns}x{rows}"), &stage.frame(columns, rows));
        }
    }
    let episodes = stage.text(120, 40);
    assert!(episodes.contains("logged by") && episodes.contains("PML-full exits"), "{episodes}");
}

#[test]
fn space_plays_and_pauses() {
    let mut stage = Stage::playing(FOUR, 5_000);
    assert!(stage.text(120, 40).contains("■ paused ×1"));
    stage.type_in(" ");
    assert!(stage.text(120, 40).contains("▸ playing ×1"), "{}", stage.text(120, 40));
    let before = stage.text(120, 40);
    stage.pass(3_000);
    assert_eq!(stage.track().position, 8_000_000_000);
    assert_ne!(stage.text(120, 40), before);
    stage.type_in("]]>");
    assert!(stage.text(120, 40).contains("▸ playing ×8"));
    stage.type_in("[[<[");
    assert!(stage.text(120, 40).contains("▸ playing ×1/2"));
    stage.type_in("p");
    let before = stage.text(120, 40);
    stage.pass(3_000);
    assert_eq!(stage.text(120, 40), before);
    stage.type_in("n");
    assert!(stage.text(120, 40).contains("■ ended"));
    stage.type_in(" ");
    assert_eq!((stage.track().motion, stage.track().position), (Motion::Playing, 0));
}

#[test]
fn arrows_go_through_time_but_on_the_map() {
    let mut stage = Stage::playing(FOUR, 30_000);
    // A tenth of what charts show.
    stage.press(KeyCode::Right);
    assert_eq!(stage.track().position, 33_000_000_000);
    assert!(stage.text(120, 40).contains("  33.0s  "), "{}", stage.text(120, 40));
    stage.type_in("hh");
    let there = stage.track().position;
    assert!((20_000_000_000..30_000_000_000).contains(&there), "{there}");
    stage.type_in("4ll");
    assert_eq!(stage.track().position, there);
}

#[test]
fn everything_is_of_the_time_shown() {
    let mut stage = Stage::playing(FOUR, 52_000);
    let (then, text) = (stage.track().position, stage.text(200, 60));
    assert!(text.contains("build-runner") && text.contains("✗ stuck"), "{text}");
    stage.type_in("0");
    let begun = stage.text(120, 40);
    assert!(begun.contains("No VM at this time of the recording."), "{begun}");
    assert!(begun.contains("0 VMs · recorded 20"), "{begun}");
    while stage.track().position < then {
        stage.press(KeyCode::Right);
    }
    stage.type_in("0");
    assert_eq!(stage.text(120, 40), begun);
}

#[test]
fn a_click_on_the_line_goes_there() {
    let mut stage = Stage::playing(FOUR, 10_000);
    let text = stage.text(120, 40);
    let row = text.lines().position(|line| line.contains("paused")).unwrap() as u16;
    for (column, about) in [(28, 0), (71, 31_000), (112, 62_000)] {
        stage.frame(120, 40);
        let reply = stage.mouse(MouseEventKind::Down(MouseButton::Left), column, row);
        stage.obey(reply.unwrap());
        let position = stage.track().position / 1_000_000;
        assert!(position.abs_diff(about) < 1_500, "{column}: {position}");
    }
}

#[test]
fn a_recording_cut_short_is_reported() {
    let mut stage = Stage::playing(&FOUR[..FOUR.len() - 100], 10_000);
    assert!(stage.text(80, 24).contains("recording cut short"), "{}", stage.text(80, 24));
    assert!(stage.text(80, 24).contains("lost 0"));
    stage.type_in("n");
    assert!(stage.text(80, 24).contains("lost 1"), "{}", stage.text(80, 24));
}

#[test]
fn every_key_of_the_player_is_in_its_help_and_no_other() {
    let mut stage = Stage::playing(FOUR, 10_000);
    stage.type_in("?");
    let help = stage.text(120, 60);
    for binding in super::super::keys::bindings(true) {
        assert!(help.contains(binding.does), "{} is not in\n{help}", binding.does);
    }
    assert!(!help.contains("pause the display") && !help.contains("refresh more often"));
}
