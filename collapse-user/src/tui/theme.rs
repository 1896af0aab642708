//! Colours. The background is the terminal's own, and nothing is expressed by colour alone.

use log::Level;
use ratatui::style::{Color, Modifier, Style};

/// Number of colours that the terminal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// None, or `NO_COLOR` is set.
    None,
    /// The 16 of the terminal's palette.
    Ansi16,
    /// 256 colours.
    Ansi256,
    /// 24-bit colour.
    True,
}

/// Brightness of the terminal's background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Background {
    /// Dark.
    Dark,
    /// Light.
    Light,
}

/// Colours and characters that the terminal shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theme {
    /// Number of colours.
    pub depth: Depth,
    /// Brightness of the background.
    pub background: Background,
    /// Whether to use ASCII only.
    pub ascii: bool,
}

/// Meaning of a text or mark, which decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Text.
    Text,
    /// Less important text, lines.
    Dim,
    /// Titles and focus.
    Title,
    /// Keys to press.
    Key,
    /// 1 GiB mappings.
    Giant,
    /// 2 MiB mappings, regions not lost, recoveries.
    Huge,
    /// 4 KiB mappings, regions mapped small.
    Small,
    /// Splits, regions that are still split, dirty logging.
    Split,
    /// Zaps, the collapse routine.
    Zap,
    /// Guest faults and the time they take.
    Fault,
    /// Good outcomes.
    Good,
    /// Warnings.
    Warn,
    /// Errors and bad outcomes.
    Bad,
}

/// Role of a message of a level.
pub fn severity(level: Level) -> Role {
    match level {
        Level::Error => Role::Bad,
        Level::Warn => Role::Warn,
        Level::Info | Level::Debug | Level::Trace => Role::Dim,
    }
}

/// An RGB colour for dark backgrounds, one for light backgrounds, and one of the 16.
type Shades = ([u8; 3], [u8; 3], Color);

impl Role {
    /// Every role.
    #[cfg(test)]
    pub const ALL: [Self; 13] = [
        Self::Text,
        Self::Dim,
        Self::Title,
        Self::Key,
        Self::Giant,
        Self::Huge,
        Self::Small,
        Self::Split,
        Self::Zap,
        Self::Fault,
        Self::Good,
        Self::Warn,
        Self::Bad,
    ];

    /// Colours after Okabe and Ito, distinguishable with any colour vision; `None` for the terminal's
    /// own.
    const fn shades(self) -> Option<Shades> {
        Some(match self {
            Self::Text => return None,
            Self::Dim => ([0x8a, 0x8f, 0x98], [0x6a, 0x6f, 0x78], Color::DarkGray),
            Self::Title => ([0xff, 0xff, 0xff], [0x10, 0x10, 0x10], Color::Reset),
            Self::Key => ([0x56, 0xb4, 0xe9], [0x00, 0x5a, 0x8e], Color::Cyan),
            Self::Giant | Self::Fault => ([0xcc, 0x79, 0xa7], [0x9c, 0x3f, 0x75], Color::Magenta),
            Self::Huge => ([0x56, 0xb4, 0xe9], [0x00, 0x72, 0xb2], Color::Blue),
            Self::Small | Self::Warn => ([0xe6, 0x9f, 0x00], [0xa8, 0x6a, 0x00], Color::Yellow),
            Self::Split => ([0xf0, 0xe4, 0x42], [0x80, 0x74, 0x00], Color::Yellow),
            Self::Zap | Self::Bad => ([0xe8, 0x6a, 0x17], [0xb8, 0x45, 0x00], Color::Red),
            Self::Good => ([0x2f, 0xb8, 0x8f], [0x00, 0x75, 0x56], Color::Green),
        })
    }
}

impl Theme {
    /// Detects the theme from the usual environment variables.
    pub fn detect(var: impl Fn(&str) -> Option<String>) -> Self {
        let var = |name| var(name).filter(|value| !value.is_empty());
        let term = var("TERM").unwrap_or_default();
        let truecolor = |value: String| value == "truecolor" || value == "24bit";
        let depth = if var("NO_COLOR").is_some() {
            Depth::None
        } else if var("COLORTERM").is_some_and(truecolor) || term.contains("direct") {
            Depth::True
        } else if term.contains("256") {
            Depth::Ansi256
        } else {
            Depth::Ansi16
        };
        // `foreground;background`, set by rxvt, Konsole and others.
        let colours = var("COLORFGBG").unwrap_or_default();
        let light = matches!(colours.rsplit(';').next(), Some("7" | "15"));
        let background = if light { Background::Light } else { Background::Dark };
        let locale = var("LC_ALL").or_else(|| var("LC_CTYPE")).or_else(|| var("LANG"));
        let utf8 = locale.is_some_and(|locale| {
            let locale = locale.to_ascii_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        });
        // The font of the Linux console has few block characters.
        Self { depth, background, ascii: !utf8 || term == "linux" }
    }

    /// The theme for the other background.
    #[must_use]
    pub fn toggled(self) -> Self {
        let background = match self.background {
            Background::Dark => Background::Light,
            Background::Light => Background::Dark,
        };
        Self { background, ..self }
    }

    /// Style of a role.
    pub fn style(self, role: Role) -> Style {
        let style = match role {
            Role::Title | Role::Bad | Role::Warn | Role::Key => {
                Style::new().add_modifier(Modifier::BOLD)
            }
            Role::Dim if self.depth == Depth::None => Style::new().add_modifier(Modifier::DIM),
            _ => Style::new(),
        };
        match self.color(role) {
            Some(color) => style.fg(color),
            None => style,
        }
    }

    /// Style of the current view or tab.
    pub fn current(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// Style that the selected line adds to its cells: where there are enough colours only a
    /// background, so that the colours of cells keep their meaning.
    pub fn selected(self) -> Style {
        let [r, g, b] = if self.background == Background::Dark {
            [0x2c, 0x35, 0x46]
        } else {
            [0xd4, 0xe2, 0xf2]
        };
        match self.depth {
            Depth::None | Depth::Ansi16 => {
                Style::new().fg(Color::Reset).add_modifier(Modifier::REVERSED)
            }
            Depth::Ansi256 => Style::new().bg(Color::Indexed(nearest(r, g, b))),
            Depth::True => Style::new().bg(Color::Rgb(r, g, b)),
        }
    }

    fn color(self, role: Role) -> Option<Color> {
        let (dark, light, ansi) = role.shades()?;
        let [r, g, b] = if self.background == Background::Dark { dark } else { light };
        match self.depth {
            Depth::None => None,
            Depth::Ansi16 => Some(ansi),
            Depth::Ansi256 => Some(Color::Indexed(nearest(r, g, b))),
            Depth::True => Some(Color::Rgb(r, g, b)),
        }
    }
}

/// Index of the nearest colour in the 6×6×6 cube of terminals with 256 colours, or among their greys.
fn nearest(r: u8, g: u8, b: u8) -> u8 {
    const STEPS: [u8; 6] = [0, 95, 135, 175, 215, 255];
    if r.abs_diff(g) < 16 && g.abs_diff(b) < 16 {
        let grey = (u16::from(r) + u16::from(g) + u16::from(b)) / 3;
        return 232 + (grey.saturating_sub(3) / 10).min(23) as u8;
    }
    let place = |value: u8| {
        let distance = |at: &u8| STEPS[usize::from(*at)].abs_diff(value);
        (0..6u8).min_by_key(distance).unwrap_or_default()
    };
    16 + 36 * place(r) + 6 * place(g) + place(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(vars: &[(&str, &str)]) -> Theme {
        let find = |name: &str| vars.iter().find(|(key, _)| *key == name);
        Theme::detect(|name| find(name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn colours_follow_the_environment() {
        let depth = |vars| detect(vars).depth;
        assert_eq!(depth(&[("TERM", "xterm")]), Depth::Ansi16);
        assert_eq!(depth(&[("TERM", "tmux-256color")]), Depth::Ansi256);
        assert_eq!(depth(&[("TERM", "xterm"), ("COLORTERM", "truecolor")]), Depth::True);
        assert_eq!(depth(&[("NO_COLOR", "1"), ("COLORTERM", "truecolor")]), Depth::None);
        assert_eq!(depth(&[("NO_COLOR", ""), ("COLORTERM", "24bit")]), Depth::True);
    }

    #[test]
    fn only_utf8_gets_more_than_ascii() {
        assert!(detect(&[]).ascii && detect(&[("LANG", "C")]).ascii);
        assert!(!detect(&[("LANG", "en_GB.UTF-8")]).ascii);
        assert!(detect(&[("LC_ALL", "C"), ("LANG", "en_GB.UTF-8")]).ascii);
        assert!(detect(&[("TERM", "linux"), ("LANG", "C.utf8")]).ascii);
    }

    #[test]
    fn a_light_background_is_seen() {
        assert_eq!(detect(&[("COLORFGBG", "0;15")]).background, Background::Light);
        assert_eq!(detect(&[("COLORFGBG", "15;default;0")]).background, Background::Dark);
    }

    #[test]
    fn no_colour_is_no_colour() {
        let theme = detect(&[("NO_COLOR", "1")]);
        for role in [Role::Text, Role::Dim, Role::Huge, Role::Small, Role::Bad] {
            assert_eq!(theme.style(role).fg, None);
        }
    }

    #[test]
    fn the_cube_is_met() {
        assert_eq!((nearest(0, 0, 0), nearest(255, 255, 255)), (232, 255));
        assert_eq!(nearest(0x56, 0xb4, 0xe9), 74);
    }
}
