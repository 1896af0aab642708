//! The settings in effect, as a file that would set them.

use std::{fmt::Write as _, path::Path};

use super::{
    Settings,
    table::{Kind, SETTINGS, Setting},
};

/// Width of comments, columns.
const COLUMNS: usize = 90;

/// Writes settings as a file with comments; `path` is the file that they were read from.
pub fn file_text(settings: &Settings, path: Option<&Path>) -> String {
    let mut out = match path {
        Some(path) => format!("# Settings in effect; read from {}\n", path.display()),
        None => "# Settings in effect. There is no file yet: save this as\n\
                 # $XDG_CONFIG_HOME/collapse/config.toml or ~/.config/collapse/config.toml\n"
            .to_owned(),
    };
    let mut section = "";
    for setting in SETTINGS {
        let (of, key) = setting.key.split_once('.').unwrap_or(("", setting.key));
        if of != section {
            section = of;
            // Writing to a String cannot fail.
            let _ = write!(out, "\n[{section}]\n");
        }
        out.push('\n');
        let text =
            format!("{} Flag: --{}; default: {}", setting.help, setting.flag(), setting.default());
        for line in crate::tui::wrapped(&text, COLUMNS) {
            let _ = writeln!(out, "# {line}");
        }
        let _ = writeln!(out, "{key} = {}", value(setting, settings));
    }
    out
}

fn value(setting: &Setting, settings: &Settings) -> String {
    let text = (setting.get)(settings);
    match setting.kind {
        Kind::Text => format!("\"{text}\""),
        Kind::Number | Kind::Bool => text,
        Kind::List => {
            let items: Vec<_> = text.split(',').map(|item| format!("\"{item}\"")).collect();
            format!("[{}]", items.join(", "))
        }
    }
}
