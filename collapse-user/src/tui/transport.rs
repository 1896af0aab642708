//! The line of the player: state, speed and position in the recording.

use std::time::{Duration, UNIX_EPOCH};

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};
use unicode_width::UnicodeWidthStr as _;

use super::{format, scene::Scene, spots::Hit, theme::Role};
use collapse_model::player::{Motion, Track};

/// Date and time in UTC, to the second.
pub fn date(ns: u64) -> String {
    let time = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_nanos(ns)).to_string();
    time.replace('T', " ").replace('Z', " UTC")
}

/// State and position of the player in few columns.
pub fn brief(track: &Track) -> String {
    let (glyph, _, _) = motion(track.motion);
    format!("{glyph} {}/{}", format::duration(track.position), format::duration(track.length))
}

/// State of the player: glyph, word and colour.
fn motion(motion: Motion) -> (&'static str, &'static str, Role) {
    match motion {
        Motion::Playing => ("▸", "playing", Role::Good),
        Motion::Paused => ("■", "paused", Role::Warn),
        Motion::Ended => ("■", "ended", Role::Dim),
        Motion::Seeking => ("…", "seeking", Role::Key),
    }
}

/// Draws state, speed and position of the player, and the recording as a line with its length. The line
/// is thick where dirty logging was on; a click on it goes to that time.
pub fn draw(buf: &mut Buffer, at: Rect, scene: &Scene, track: &Track) {
    let dim = scene.theme.style(Role::Dim);
    let (glyph, word, role) = motion(track.motion);
    let position = format::right(&format::duration(track.position), 7);
    let left = Line::from(vec![
        Span::styled(format!(" {glyph} {word}"), scene.theme.style(role)),
        Span::styled(format!(" {:<5}", track.speed.label()), dim),
        Span::styled(format!("{position} "), scene.theme.style(Role::Title)),
    ]);
    let right = format!(" {} ", format::duration(track.length));
    // Words of different length must not move the line.
    let before = (left.width() as u16).max(28).min(at.width);
    let after = right.width() as u16;
    buf.set_line(at.x, at.y, &left, before);
    let columns = at.width.saturating_sub(before + after);
    if columns < 4 {
        return;
    }
    buf.set_string(at.right() - after, at.y, &right, dim);
    line(buf, Rect { x: at.x + before, width: columns, ..at }, scene, track);
}

fn line(buf: &mut Buffer, at: Rect, scene: &Scene, track: &Track) {
    let time = |column: u16| {
        let share = u128::from(column) * u128::from(track.length) / u128::from(at.width);
        share as u64
    };
    let here =
        u128::from(track.position) * u128::from(at.width - 1) / u128::from(track.length.max(1));
    for column in 0..at.width {
        let (from, to) = (time(column), time(column + 1));
        let (first, last) = (track.start.saturating_add(from), track.start.saturating_add(to));
        let logged = track.logging.partition_point(|(_, off)| *off < first);
        let logged = track.logging.get(logged).is_some_and(|(on, _)| *on <= last);
        let (glyph, role) = match (u128::from(column) == here, logged) {
            (true, _) => ("●", Role::Title),
            (false, true) => ("━", Role::Split),
            (false, false) if u128::from(column) < here => ("─", Role::Key),
            (false, false) => ("─", Role::Dim),
        };
        let cell = Rect { x: at.x + column, width: 1, ..at };
        buf.set_string(cell.x, cell.y, glyph, scene.theme.style(role));
        // A click goes to the middle of the column; at the ends, to the very end.
        let ns = if column + 1 == at.width { track.length } else { from + (to - from) / 2 };
        scene.spots.add(cell, Hit::Time(if column == 0 { 0 } else { ns }));
    }
}
