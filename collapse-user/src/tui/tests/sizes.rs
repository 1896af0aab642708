//! No size and no model breaks a frame.

use collapse_common::{Cause, Transition};
use log::Level;
use proptest::prelude::*;
use ratatui::{
    buffer::Buffer,
    crossterm::event::{MouseButton, MouseEventKind},
};
use unicode_width::UnicodeWidthStr as _;

use collapse_feed::Signal;

use super::{
    Stage,
    fixture::{Guest, S, coverage, read},
    lines,
    recorded::FOUR,
};
use crate::tui::{Background, Depth, Theme};
use collapse_model::Model;

/// Has a guest do something within a second.
fn act(guest: &mut Guest, what: (u8, u64, u32)) {
    let (what, region, count) = what;
    match what % 8 {
        0 => guest.log_on(),
        1 => guest.log_off(),
        2 => guest.touch(region, count),
        3 => guest.touch_small(region, count),
        4 => guest.faults(Cause::LoggedFault, region * 100, u64::from(count) * 1_000),
        5 => guest.change(Cause::NotifierReclaim, Transition::Zap, 2, region, count),
        6 => guest.change(Cause::Collapse, Transition::RecoverReadOnly, 2, region, count),
        _ => {}
    }
}

fn any_model() -> impl Strategy<Value = Model> {
    let acts = prop::collection::vec((any::<u8>(), 0u64..400, 1u32..90), 0..12);
    let name = "[a-z漢字\u{1b}\t ]{0,40}";
    let guests = prop::collection::vec((name, 1u64..3_000, acts), 0..6);
    (guests, 1u64..40).prop_map(|(guests, seconds)| {
        let mut model = Model::default();
        let (mut vms, acts): (Vec<_>, Vec<_>) = (1..)
            .zip(guests)
            .map(|(number, (name, regions, acts))| (Guest::new(number, &name, regions), acts))
            .unzip();
        for second in 1..=seconds {
            for (guest, acts) in vms.iter_mut().zip(&acts) {
                if let Some(what) = acts.get(second as usize % 16) {
                    act(guest, *what);
                }
            }
            read(&mut model, &mut vms, second * S * 2);
        }
        model
    })
}

/// Asserts that every character is as wide as its cells: cut neither by its neighbour nor by the edge.
fn assert_whole(buf: &Buffer) {
    for y in buf.area.top()..buf.area.bottom() {
        for x in buf.area.left()..buf.area.right() {
            let symbol = buf[(x, y)].symbol();
            assert!(!symbol.contains(char::is_control), "{symbol:?} at {x},{y}");
            if symbol.width() > 1 {
                assert!(x + 1 < buf.area.right(), "{symbol} cut by the edge at {x},{y}");
                let next = buf[(x + 1, y)].symbol();
                assert!(next.is_empty() || next == " ", "{symbol} cut by {next} at {x},{y}");
            }
        }
    }
    for line in lines(buf) {
        assert!(line.width() <= usize::from(buf.area.width));
    }
}

const KEYS: &[char] = &[
    '1', '2', '3', '4', '5', '6', '7', 'j', 'k', 'h', 'l', 'g', 'G', 's', 'S', '+', '-', 'a', '?',
    ' ', 'n', 't', '/', '<', '>',
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_frame_is_whole(
        model in any_model(),
        keys in prop::collection::vec(prop::sample::select(KEYS), 0..12),
        columns in 1u16..=300,
        rows in 1u16..=100,
        small: bool,
        depth in prop::sample::select(vec![Depth::None, Depth::Ansi16, Depth::Ansi256, Depth::True]),
        light: bool,
        ascii: bool,
        unseen: bool,
        clicks in prop::collection::vec((0u16..300, 0u16..100), 12),
        notices in prop::collection::vec("[a-z漢字\u{1b}\n ]{0,90}", 0..4),
    ) {
        let missing: &[Signal] =
            if unseen { &[Signal::Faults, Signal::FaultLatency, Signal::Collapse, Signal::TdpChanges] } else { &[] };
        let mut stage = Stage::new(model, coverage(missing));
        for notice in &notices {
            stage.app.notices().push(Level::Warn, notice);
        }
        let background = if light { Background::Light } else { Background::Dark };
        stage.app.theme = Theme { depth, background, ascii };
        // Small sizes are where layouts break.
        let (columns, rows) = if small { (columns % 50 + 1, rows % 16 + 1) } else { (columns, rows) };
        for (key, (column, row)) in keys.into_iter().zip(clicks) {
            stage.type_in(&key.to_string());
            stage.mouse(MouseEventKind::Down(MouseButton::Left), column % columns, row % rows);
            let frame = stage.frame(columns, rows);
            assert_whole(&frame);
            if ascii {
                prop_assert!(lines(&frame).iter().all(|line| line.is_ascii()));
            }
            if depth == Depth::None {
                let colourless =
                    |cell: &ratatui::buffer::Cell| cell.fg == cell.bg && cell.fg == ratatui::style::Color::Reset;
                prop_assert!(frame.content.iter().all(colourless));
            }
        }
    }
}

const PLAYER_KEYS: &[char] = &['.', ',', '{', '}', '[', ']', '0', 'n', ' ', 'l', 'h'];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Wherever a real run is played from, and whatever is asked of the player.
    #[test]
    fn every_frame_of_a_recording_is_whole(
        ms in 0u64..70_000,
        keys in prop::collection::vec(
            prop_oneof![prop::sample::select(KEYS), prop::sample::select(PLAYER_KEYS)],
            0..8,
        ),
        columns in 1u16..=220,
        rows in 1u16..=70,
        small: bool,
        ascii: bool,
    ) {
        let mut stage = Stage::playing(FOUR, ms);
        stage.app.theme.ascii = ascii;
        let (columns, rows) = if small { (columns % 50 + 1, rows % 16 + 1) } else { (columns, rows) };
        for key in keys {
            stage.type_in(&key.to_string());
            stage.pass(700);
            let frame = stage.frame(columns, rows);
            assert_whole(&frame);
            prop_assert!(!ascii || lines(&frame).iter().all(|line| line.is_ascii()));
        }
    }
}

#[test]
fn every_view_fits_every_small_size() {
    let mut stage = Stage::busy();
    for view in '1'..='7' {
        stage.type_in(&view.to_string());
        for columns in 1..90 {
            for rows in 1..30 {
                assert_whole(&stage.frame(columns, rows));
            }
        }
    }
}
