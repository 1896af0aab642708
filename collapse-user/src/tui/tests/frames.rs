//! Frames as they were when somebody reviewed them: text, and below it the style of every cell.
//!
//! `UPDATE_FRAMES=1 cargo test` rewrites them.

use std::{env, fs, path::PathBuf};

use ratatui::{
    buffer::{Buffer, Cell},
    crossterm::event::KeyCode,
    style::{Color, Modifier},
};

use collapse_feed::Signal;

use super::{
    Stage, fixture, lines,
    recorded::{FAILED, FOUR, STATES},
};
use crate::tui::{Background, Depth, Theme, format, theme::Role};
use collapse_model::Model;
use collapse_report::Report;

const VIEWS: [&str; 7] = ["overview", "vm", "episodes", "map", "events", "findings", "probes"];

const SIZES: [(u16, u16); 5] = [(80, 24), (120, 40), (200, 60), (40, 10), (20, 5)];

/// A letter for a cell's style: upper case if reversed, `.` if plain.
fn style(cell: &Cell) -> char {
    let letter = match cell.fg {
        Color::Reset if cell.modifier.contains(Modifier::BOLD) => 'w',
        Color::Reset if cell.modifier.contains(Modifier::REVERSED) => 'x',
        Color::Reset => '.',
        Color::DarkGray => 'd',
        Color::Cyan => 'c',
        Color::Magenta => 'm',
        Color::Blue => 'b',
        Color::Yellow => 'y',
        Color::Red => 'r',
        Color::Green => 'g',
        _ => '?',
    };
    if cell.modifier.contains(Modifier::REVERSED) { letter.to_ascii_uppercase() } else { letter }
}

fn shown(buf: &Buffer) -> String {
    let width = usize::from(buf.area.width);
    let styles = buf.content.chunks(width).map(|row| row.iter().map(style).collect::<String>());
    let styles: Vec<_> = styles.map(|row| row.trim_end_matches('.').to_owned()).collect();
    format!("{}\n{}\n{}\n", lines(buf).join("\n"), "=".repeat(width), styles.join("\n"))
}

pub fn check(name: &str, buf: &Buffer) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/tui/tests/frames");
    let path = folder.join(format!("{name}.txt"));
    let shown = shown(buf);
    if env::var_os("UPDATE_FRAMES").is_some() {
        fs::create_dir_all(&folder).unwrap();
        fs::write(&path, shown).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(shown == expected, "{name} differs from {}:\n{shown}", path.display());
}

#[test]
fn every_view_at_every_size() {
    let mut stage = Stage::watching(FOUR, 52_000);
    stage.choose("web");
    for (view, key) in VIEWS.into_iter().zip('1'..) {
        stage.type_in(&key.to_string());
        for (columns, rows) in SIZES {
            check(&format!("{view}-{columns}x{rows}"), &stage.frame(columns, rows));
        }
    }
    stage.type_in("1?");
    check("help-80x24", &stage.frame(80, 24));
    check("help-120x40", &stage.frame(120, 40));
}

#[test]
fn every_tab_of_a_vm() {
    let mut stage = Stage::watching(FOUR, 52_000);
    stage.choose("web");
    stage.type_in("2");
    for tab in ["charts", "causes", "slots", "collapse", "latency"] {
        check(&format!("vm-{tab}-80x24"), &stage.frame(80, 24));
        stage.press(KeyCode::Tab);
    }
}

/// Guests to which nothing happens, two of which are small all the same.
#[test]
fn states_of_guests() {
    let mut stage = Stage::watching(STATES, 2_500);
    check("states-overview-120x40", &stage.frame(120, 40));
    stage.type_in("6");
    check("states-findings-120x40", &stage.frame(120, 40));
    for name in ["logged", "misaligned", "huge"] {
        let mut stage = Stage::watching(STATES, 2_500);
        stage.choose(name);
        stage.type_in("2");
        check(&format!("states-{name}-120x40"), &stage.frame(120, 40));
        stage.type_in("4");
        check(&format!("states-{name}-map-120x40"), &stage.frame(120, 40));
    }
}

#[test]
fn nothing_known_yet() {
    let mut stage =
        Stage::new(Model::default(), fixture::coverage(&[Signal::Faults, Signal::Gauges]));
    for (view, key) in
        ["overview", "vm", "events", "findings"].into_iter().zip(['1', '2', '5', '6'])
    {
        stage.type_in(&key.to_string());
        check(&format!("nothing-{view}-80x24"), &stage.frame(80, 24));
    }
}

#[test]
fn every_view_in_every_palette() {
    let mut stage = Stage::watching(FOUR, 52_000);
    stage.choose("web");
    for (view, key) in VIEWS.into_iter().zip('1'..) {
        stage.type_in(&key.to_string());
        let depths = [Depth::None, Depth::Ansi16, Depth::Ansi256, Depth::True];
        let texts = depths.map(|depth| {
            stage.app.theme = Theme { depth, background: Background::Light, ascii: false };
            stage.text(120, 40)
        });
        assert!(texts[1..].windows(2).all(|pair| pair[0] == pair[1]), "{view}");
        // Without colours, textures take their place, in charts only.
        stage.app.theme.depth = Depth::None;
        check(&format!("{view}-colourless-120x40"), &stage.frame(120, 40));
        let charts = |text: &str| {
            let blank = text.replace(|c| "░▓█▁▂▃▄▅▆▇".contains(c), " ");
            blank.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(charts(&texts[0]), charts(&texts[1]), "{view}");
    }
}

/// Whether a cell is of a role that has this colour among the 16.
fn means(theme: Theme, cell: &Cell, color: Color) -> bool {
    let ansi = Theme { depth: Depth::Ansi16, ..theme };
    let mut roles = Role::ALL.into_iter().filter(|role| theme.style(*role).fg == Some(cell.fg));
    roles.any(|role| ansi.style(role).fg == Some(color))
}

#[test]
fn every_palette_means_the_same() {
    for (view, key) in VIEWS.into_iter().zip('1'..) {
        for background in [Background::Dark, Background::Light] {
            let frames = [Depth::Ansi16, Depth::Ansi256, Depth::True].map(|depth| {
                let mut stage = Stage::watching(FOUR, 52_000);
                stage.choose("web");
                stage.type_in(&key.to_string());
                stage.app.theme = Theme { depth, background, ascii: false };
                (stage.app.theme, stage.frame(120, 40))
            });
            let [(_, first), others @ ..] = &frames;
            for (theme, frame) in others {
                for (cell, other) in first.content.iter().zip(&frame.content) {
                    assert_eq!(cell.symbol(), other.symbol(), "{view}");
                    // The selected line and the current view have a look of their own.
                    if cell.modifier.contains(Modifier::REVERSED) || cell.fg == Color::Reset {
                        continue;
                    }
                    assert!(means(*theme, other, cell.fg), "{view}: {theme:?}: {cell:?} {other:?}");
                }
            }
        }
    }
}

#[test]
fn ascii_has_the_same_content() {
    let mut stage = Stage::watching(FOUR, 52_000);
    stage.app.theme.ascii = true;
    check("overview-ascii-80x24", &stage.frame(80, 24));
    let mut stage = Stage::playing(FOUR, 52_000);
    stage.app.theme.ascii = true;
    check("playing-ascii-80x24", &stage.frame(80, 24));
}

#[test]
fn a_small_terminal_says_so_and_recovers() {
    let stage = Stage::busy();
    assert_eq!(stage.text(10, 3), "too small:\n needs 20x\n5");
    assert_eq!(stage.text(1, 1), "t");
    assert!(stage.text(20, 5).contains("lost 0"));
}

#[test]
fn the_first_line_names_the_host() {
    let mut stage = Stage::playing(FAILED, 500);
    stage.heading.machine.name = Some("web\x1b7".to_owned());
    let first = |stage: &Stage| lines(&stage.frame(120, 30))[0].clone();
    assert!(first(&stage).contains("  lab  ") && first(&stage).contains(" UTC on web␛7 · "));
    stage.heading.title = None;
    assert!(first(&stage).contains(" collapse  web␛7  "), "{}", first(&stage));
}

/// The kernel side scales stalls up where not every fault is timed; dashboard and report scale them
/// back alike.
#[test]
fn the_mean_of_faults_is_as_in_the_report() {
    let mut stage = Stage::busy();
    stage.coverage.timed_faults = 128;
    stage.choose("web");
    stage.type_in("2");
    for _ in 0..4 {
        stage.press(KeyCode::Tab);
    }
    let report = Report::new(&stage.model, &stage.coverage, stage.heading.machine.clone(), None);
    let vm =
        report.vms.iter().find(|vm| vm.name.as_deref().is_some_and(|name| name.contains("web")));
    let latency = vm.and_then(|vm| vm.latency.as_ref()).expect("timed faults");
    let mean = latency.total.mean_ns.expect("a mean");
    assert!(mean > 0);
    let text = stage.text(120, 40);
    assert!(text.contains(&format!("mean {}", format::duration(mean))), "{mean} ns: {text}");
}
