//! The dashboard driven by keys.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    Reply, Stage,
    fixture::{Guest, S, coverage, read},
};
use crate::tui::Column;
use collapse_model::Model;

#[test]
fn every_view_is_reached() {
    let mut stage = Stage::busy();
    let shows = [
        ('1', "RECOVERED"),
        ('2', "counts against KVM's gauges"),
        ('3', "phase by phase"),
        ('4', "cell = "),
        ('5', "latest events"),
        ('6', "regions stay small"),
        ('7', "hook of tdp_changes"),
    ];
    for (key, text) in shows {
        stage.type_in(&key.to_string());
        let frame = stage.text(120, 40);
        assert!(frame.contains(text), "{key}: no {text:?} in\n{frame}");
    }
}

#[test]
fn a_vm_is_chosen_and_opened() {
    let mut stage = Stage::busy();
    stage.type_in("/data");
    assert!(stage.text(80, 24).contains("/data"));
    stage.press(KeyCode::Enter);
    let frame = stage.text(120, 40);
    assert!(frame.contains("database") && !frame.contains("web-frontend"), "{frame}");
    stage.press(KeyCode::Enter);
    assert!(stage.text(120, 40).contains("database  pid 254, fd 12  ● dirty logging"));
    stage.press(KeyCode::Esc);
    stage.press(KeyCode::Esc);
    assert!(stage.text(120, 40).contains("web-frontend"));
}

#[test]
fn events_have_a_filter_of_their_own() {
    let mut stage = Stage::busy();
    stage.type_in("/web");
    stage.press(KeyCode::Enter);
    stage.type_in("5/dirty logging o");
    stage.press(KeyCode::Enter);
    let text = stage.text(120, 40);
    assert!(text.contains("dirty logging on (") && !text.contains("install"), "{text}");
    stage.type_in("1");
    let text = stage.text(120, 40);
    assert!(text.contains("web-frontend") && !text.contains("database"), "{text}");
    stage.type_in("5");
    stage.press(KeyCode::Esc);
    let text = stage.text(120, 40);
    assert!(text.contains("latest events") && text.contains("install"), "{text}");
}

#[test]
fn the_selection_moves_over_rows() {
    let mut stage = Stage::busy();
    stage.press(KeyCode::End);
    stage.press(KeyCode::Enter);
    let last = stage.text(80, 24);
    stage.press(KeyCode::Esc);
    stage.press(KeyCode::Home);
    stage.press(KeyCode::Enter);
    assert_ne!(stage.text(80, 24), last);
}

#[test]
fn sorting_goes_through_the_columns_and_back() {
    let mut stage = Stage::busy();
    let first = |stage: &Stage| {
        let text = stage.text(120, 20);
        let rows = text.lines().skip_while(|line| !line.contains("RECOVERED")).skip(1);
        rows.map(str::to_owned).next().unwrap()
    };
    // By state: what is stuck comes first.
    assert!(first(&stage).contains("build-runner"));
    stage.type_in("S");
    assert!(first(&stage).contains("漢字"));
    stage.type_in("S");
    let columns = Column::all();
    let by_state = columns.iter().position(|column| *column == Column::State).unwrap();
    stage.type_in(&"s".repeat(columns.len() - by_state));
    assert!(first(&stage).contains("build-runner"), "by name: {}", first(&stage));
}

#[test]
fn a_frozen_view_stays_while_data_goes_on() {
    let mut stage = Stage::busy();
    stage.type_in(" ");
    let before = stage.text(120, 40);
    assert!(before.contains("PAUSED"));
    read(&mut stage.model, &mut [], 300 * S);
    assert_eq!(stage.text(120, 40), before);
    stage.type_in(" ");
    let after = stage.text(120, 40);
    assert!(!after.contains("PAUSED") && after.contains("4m59s"), "{after}");
}

#[test]
fn time_goes_back_and_comes_back() {
    let mut stage = Stage::busy();
    let now = stage.text(120, 40);
    stage.press(KeyCode::Left);
    stage.press(KeyCode::Left);
    let then = stage.text(120, 40);
    assert!(then.contains("−24.0s"), "{then}");
    stage.press(KeyCode::Right);
    stage.press(KeyCode::Right);
    assert_eq!(stage.text(120, 40), now);
    for _ in 0..50 {
        stage.press(KeyCode::Left);
    }
    assert!(stage.text(120, 40).contains("−1m28s"));
    stage.type_in("n");
    assert_eq!(stage.text(120, 40), now);
}

#[test]
fn help_lists_every_key_and_goes_away() {
    let mut stage = Stage::busy();
    stage.type_in("?");
    let help = stage.text(120, 40);
    for binding in super::super::keys::bindings(false) {
        assert!(help.contains(binding.does), "{} is not in\n{help}", binding.does);
    }
    stage.press(KeyCode::Esc);
    assert!(!stage.text(120, 40).contains("help: ? closes"));
}

#[test]
fn quitting_and_suspending_are_the_callers() {
    let mut stage = Stage::busy();
    let ctrl = |char| KeyEvent::new(KeyCode::Char(char), KeyModifiers::CONTROL);
    assert_eq!(stage.press(KeyCode::Char('q')), Reply::Quit);
    assert_eq!(stage.hit(ctrl('c')), Reply::Quit);
    assert_eq!(stage.hit(ctrl('z')), Reply::Suspend);
    // In a filter, q is a letter, and Ctrl-C is not.
    stage.type_in("/");
    assert_eq!(stage.press(KeyCode::Char('q')), Reply::Draw);
    assert_eq!(stage.hit(ctrl('c')), Reply::Quit);
}

#[test]
fn keys_change_the_refresh_interval() {
    let mut stage = Stage::busy();
    stage.type_in("<<");
    assert_eq!(stage.app.interval().as_millis(), 250);
    stage.type_in(">>>");
    assert_eq!(stage.app.interval().as_millis(), 2_000);
}

#[test]
fn the_map_shows_what_happened_to_a_region() {
    let mut stage = Stage::busy();
    stage.type_in("/build");
    stage.press(KeyCode::Enter);
    stage.type_in("4");
    for _ in 0..40 {
        stage.press(KeyCode::Right);
    }
    let map = stage.text(120, 30);
    assert!(map.contains("huge SPTE split: dirty logging"), "{map}");
    assert!(map.contains("touched, mapped small"), "{map}");
    stage.press(KeyCode::Left);
    let map = stage.text(120, 30);
    assert!(map.contains("huge again after 1.0s (10.9s"), "{map}");
}

#[test]
fn hundreds_of_vms_are_found_and_reached() {
    let mut model = Model::default();
    let mut guests: Vec<_> =
        (1..=300).map(|number| Guest::new(number, &format!("vm-{number:03}"), 4)).collect();
    for second in 1..4 {
        guests[150].touch(0, 1);
        read(&mut model, &mut guests, second * S);
    }
    let mut stage = Stage::new(model, coverage(&[]));
    let shows = |stage: &Stage, name: &str| stage.text(80, 24).contains(name);
    // By name.
    stage.type_in("ssssssss");
    assert!(shows(&stage, "vm-001") && !shows(&stage, "vm-300"), "{}", stage.text(80, 24));
    stage.press(KeyCode::End);
    assert!(shows(&stage, "vm-300") && !shows(&stage, "vm-001"));
    stage.press(KeyCode::PageUp);
    assert!(shows(&stage, "vm-290"));
    stage.type_in("/151");
    assert!(shows(&stage, "vm-151") && !shows(&stage, "vm-152"));
}
