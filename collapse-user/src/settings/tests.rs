use std::{ffi::OsString, fs};

use clap::FromArgMatches as _;

use super::{file::apply, *};
use collapse_model::MetricId;

use crate::tui::Column;

fn from(text: &str) -> Result<Settings, String> {
    let mut settings = Settings::default();
    apply(text, &mut settings).map_err(|error| format!("{error:#}"))?;
    Ok(settings)
}

fn flags(words: &[&str]) -> Flags {
    let command = Flags::augment_args(Command::new("collapse"));
    let matches = command.get_matches_from([&["collapse"], words].concat());
    Flags::from_arg_matches(&matches).unwrap()
}

const ALL: &str = r#"
interval = "250ms"
history = "2h"
window = "10m"
palette = "256"
background = "light"
glyphs = "ascii"
mouse = false
columns = ["vm", "recovered", "faults"]
sort = "faults"

[threshold]
logging = "1m"
small = "90s"
least = 3
raced = 7
read_only = 0.5
hugetlb = 1
never_huge = 0.75
thrash = 5
churn = 6
periodic = 7
stuck = "2s"
taken = 8
lock = "4s"
retried = 9
retried_share = 0.25
dirty_log = "3s"
"#;

#[test]
fn a_file_sets_everything() {
    let settings = from(ALL).unwrap();
    assert_eq!(settings.options.interval, Duration::from_millis(250));
    assert_eq!(settings.history, Some(Duration::from_hours(2)));
    assert_eq!(settings.palette, Some(Depth::Ansi256));
    assert_eq!(
        settings.options.columns,
        [Column::Name, Column::Back, Column::Rate(MetricId::Faults)]
    );
    assert_eq!(settings.options.thresholds.small_ns, 90_000_000_000);
    for setting in SETTINGS {
        assert_ne!((setting.get)(&settings), setting.default(), "{} is not set", setting.key);
    }
}

#[test]
fn what_is_printed_is_a_file_that_says_the_same() {
    for settings in [Settings::default(), from(ALL).unwrap()] {
        let text = file_text(&settings, None);
        assert_eq!(from(&text), Ok(settings), "{text}");
        assert!(
            text.lines().filter(|line| line.starts_with('#')).all(|line| line.len() <= 92),
            "{text}"
        );
    }
}

#[test]
fn mistakes_are_told_with_line_and_remedy() {
    let wrong = [
        (
            "\nintervall = \"1s\"",
            "line 2: there is no setting 'intervall'; did you mean 'interval'?",
        ),
        (
            "[threshold]\nlest = 1",
            "line 2: there is no setting 'threshold.lest'; did you mean 'threshold.least'?",
        ),
        ("interval = 1", "line 1: interval: expected a string"),
        ("interval = \"1w\"", "line 1: interval: unknown unit 'w': use ms, s, m or h"),
        (
            "columns = [\"vm\", \"fault\"]",
            "line 1: columns: no column 'fault'; did you mean 'faults'?",
        ),
        ("columns = [\"vm\", \"vm\"]", "line 1: columns: column 'vm' is given twice"),
        ("columns = []", "line 1: columns: no column ''"),
        ("palette = \"pink\"", "line 1: palette: expected auto, none, 16, 256, true"),
        ("[threshold]\nread_only = 2", "line 2: threshold.read_only: must be from 0 to 1"),
        ("interval = ", "line 1: "),
    ];
    for (text, says) in wrong {
        let error = from(text).unwrap_err();
        assert!(error.starts_with(says), "{text:?}: {error:?}, expected {says:?}");
    }
}

#[test]
fn flags_override_the_file() {
    let mut settings = from(ALL).unwrap();
    let flags = flags(&["-i", "3s", "--columns", "vm,state", "--threshold-least", "9"]);
    flags.apply(&mut settings).unwrap();
    assert_eq!(settings.options.interval, Duration::from_secs(3));
    assert_eq!(settings.options.columns, [Column::Name, Column::State]);
    assert_eq!(settings.options.thresholds.least, 9);
    assert_eq!(settings.palette, Some(Depth::Ansi256));
    let wrong = self::flags(&["--sort", "nam"]).apply(&mut settings).unwrap_err();
    assert!(wrong.starts_with("--sort nam: no column 'nam'; did you mean"), "{wrong}");
}

#[test]
fn the_users_file_comes_first() {
    let folder = tempfile::tempdir().unwrap();
    let (own, shared) = (folder.path().join("own"), folder.path().join("shared"));
    let find = |name: &str| -> Option<OsString> {
        match name {
            "XDG_CONFIG_HOME" => Some(own.clone().into()),
            "XDG_CONFIG_DIRS" => Some(shared.clone().into()),
            _ => None,
        }
    };
    assert_eq!(file::find(find), None);
    for folder in [&shared, &own] {
        let path = folder.join("collapse/config.toml");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!(file::find(find), Some(path));
    }
    assert_eq!(file::find(|name| (name == "XDG_CONFIG_HOME").then(|| "relative".into())), None);
}
