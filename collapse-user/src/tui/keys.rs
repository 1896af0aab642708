//! Key bindings: one table drives both the dashboard and its help.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::nav::View;
use collapse_model::player::Order;

/// A command that a key or a click stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyCommand {
    /// End the program.
    Quit,
    /// Stop the process, as the shell's job control does.
    Suspend,
    /// Show or hide the help.
    Help,
    /// Pause or resume the display.
    Pause,
    /// One line up.
    Up,
    /// One line down.
    Down,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// The first line.
    First,
    /// The last line.
    Last,
    /// Go back in time, or left on the map.
    Left,
    /// Go forward in time, or right on the map.
    Right,
    /// Return to the present.
    Now,
    /// Open the selected VM or finding.
    Open,
    /// Close the help, clear the filter, or return to the overview.
    Back,
    /// The next view, or the next tab of a VM.
    Next,
    /// The previous view, or the previous tab of a VM.
    Previous,
    /// Show a view.
    Go(View),
    /// Sort by the next column.
    Sort,
    /// Reverse the sort order.
    Reverse,
    /// Type a filter.
    Filter,
    /// Show less time, or fewer guest frames per cell of the map.
    ZoomIn,
    /// Show more time, or more guest frames per cell of the map.
    ZoomOut,
    /// Refresh more often.
    Faster,
    /// Refresh less often.
    Slower,
    /// Switch between events of all VMs and of the selected one.
    All,
    /// Switch to the palette for the other background.
    Palette,
    /// Control the player of the recording.
    Play(Order),
}

/// When a binding applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Always.
    Always,
    /// While a running kernel is watched.
    Live,
    /// While a recording is played.
    Playing,
}

/// Keys that stand for one command.
pub struct Binding {
    /// Keys, and whether Ctrl is held.
    pub keys: &'static [(KeyCode, bool)],
    /// When the binding applies.
    pub when: When,
    /// The command.
    pub command: KeyCommand,
    /// Text in the help.
    pub does: &'static str,
}

const fn key(code: KeyCode) -> (KeyCode, bool) {
    (code, false)
}

const fn char(char: char) -> (KeyCode, bool) {
    (KeyCode::Char(char), false)
}

const fn ctrl(char: char) -> (KeyCode, bool) {
    (KeyCode::Char(char), true)
}

macro_rules! bindings {
    ($($when:ident [$($key:expr),+] $command:expr, $does:literal;)*) => {
        /// All bindings, in the order of the help.
        const BINDINGS: &[Binding] = &[$(Binding {
            keys: &[$($key),+],
            when: When::$when,
            command: $command,
            does: $does,
        },)*];
    };
}

bindings! {
    Always [char('1')] KeyCommand::Go(View::Overview), "all VMs";
    Always [char('2')] KeyCommand::Go(View::Vm), "one VM over time";
    Always [char('3')] KeyCommand::Go(View::Episodes), "episodes of dirty logging";
    Always [char('4')] KeyCommand::Go(View::Map), "map of guest frames";
    Always [char('5')] KeyCommand::Go(View::Events), "latest events";
    Always [char('6')] KeyCommand::Go(View::Findings), "findings and remedies";
    Always [char('7')] KeyCommand::Go(View::Probes), "hooks, lost events, diagnostics";
    Always [key(KeyCode::Tab)] KeyCommand::Next, "next view, or next tab of a VM";
    Always [key(KeyCode::BackTab)] KeyCommand::Previous, "previous view or tab";
    Always [key(KeyCode::Up), char('k')] KeyCommand::Up, "up";
    Always [key(KeyCode::Down), char('j')] KeyCommand::Down, "down";
    Always [key(KeyCode::PageUp), ctrl('b')] KeyCommand::PageUp, "page up";
    Always [key(KeyCode::PageDown), ctrl('f')] KeyCommand::PageDown, "page down";
    Always [key(KeyCode::Home), char('g')] KeyCommand::First, "first line";
    Always [key(KeyCode::End), char('G')] KeyCommand::Last, "last line";
    Always [key(KeyCode::Enter)] KeyCommand::Open, "open";
    Always [key(KeyCode::Esc), key(KeyCode::Backspace)] KeyCommand::Back, "go back, clear the filter, close help";
    Always [key(KeyCode::Left), char('h')] KeyCommand::Left, "back in time, or left on the map";
    Always [key(KeyCode::Right), char('l')] KeyCommand::Right, "forward in time, or right on the map";
    Live [char('n'), char('0')] KeyCommand::Now, "return to the present";
    Live [char(' '), char('p')] KeyCommand::Pause, "pause the display; measuring continues";
    Playing [char(' '), char('p')] KeyCommand::Play(Order::Toggle), "play or pause";
    Playing [char('.')] KeyCommand::Play(Order::NextReading), "step to the next reading";
    Playing [char(',')] KeyCommand::Play(Order::PreviousReading), "step to the previous reading";
    Playing [char('}')] KeyCommand::Play(Order::NextSwitch), "next start or end of dirty logging";
    Playing [char('{')] KeyCommand::Play(Order::PreviousSwitch), "previous start or end of dirty logging";
    Playing [char('0')] KeyCommand::Play(Order::To(0)), "go to the start";
    Playing [char('n')] KeyCommand::Play(Order::To(u64::MAX)), "go to the end";
    Playing [char(']'), char('>')] KeyCommand::Play(Order::Faster), "double the speed";
    Playing [char('['), char('<')] KeyCommand::Play(Order::Slower), "halve the speed";
    Always [char('+'), char('=')] KeyCommand::ZoomIn, "zoom in: less time, fewer guest frames";
    Always [char('-'), char('_')] KeyCommand::ZoomOut, "zoom out";
    Always [char('s')] KeyCommand::Sort, "sort by the next column";
    Always [char('S'), char('r')] KeyCommand::Reverse, "reverse the sort order";
    Always [char('/')] KeyCommand::Filter, "filter VMs by name, events by text";
    Always [char('a')] KeyCommand::All, "events of all VMs or of one";
    Live [char('<')] KeyCommand::Faster, "refresh more often";
    Live [char('>')] KeyCommand::Slower, "refresh less often";
    Always [char('t')] KeyCommand::Palette, "palette for dark or light background";
    Always [char('?'), key(KeyCode::F(1))] KeyCommand::Help, "help";
    Always [ctrl('z')] KeyCommand::Suspend, "suspend";
    Always [char('q'), ctrl('c')] KeyCommand::Quit, "quit";
}

/// Bindings that apply, in the order of the help.
pub fn bindings(playing: bool) -> impl Iterator<Item = &'static Binding> + Clone {
    let other = if playing { When::Live } else { When::Playing };
    BINDINGS.iter().filter(move |binding| binding.when != other)
}

/// The command that a key stands for.
pub fn command(event: KeyEvent, playing: bool) -> Option<KeyCommand> {
    let held = event.modifiers.contains(KeyModifiers::CONTROL);
    let mine = |(code, ctrl): &(KeyCode, bool)| *code == event.code && *ctrl == held;
    bindings(playing).find(|binding| binding.keys.iter().any(mine)).map(|binding| binding.command)
}

/// Names of a binding's keys, as the help shows them.
pub fn shown(binding: &Binding) -> String {
    let name = |(code, ctrl): &(KeyCode, bool)| match (code, ctrl) {
        (KeyCode::Char(char), true) => format!("Ctrl-{}", char.to_ascii_uppercase()),
        (KeyCode::Char(' '), _) => "space".to_owned(),
        (KeyCode::Char(char), _) => char.to_string(),
        (KeyCode::Up, _) => "↑".to_owned(),
        (KeyCode::Down, _) => "↓".to_owned(),
        (KeyCode::Left, _) => "←".to_owned(),
        (KeyCode::Right, _) => "→".to_owned(),
        (KeyCode::BackTab, _) => "Shift-Tab".to_owned(),
        (code, _) => code.to_string(),
    };
    binding.keys.iter().map(name).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_key_asks_for_two_things() {
        for playing in [false, true] {
            let keys: Vec<_> = bindings(playing).flat_map(|binding| binding.keys).collect();
            assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
        }
    }

    #[test]
    fn every_view_has_a_key() {
        for (view, digit) in View::ALL.into_iter().zip('1'..) {
            let event = KeyEvent::new(KeyCode::Char(digit), KeyModifiers::NONE);
            assert_eq!(command(event, false), Some(KeyCommand::Go(view)));
        }
        let quit = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(command(quit, false), Some(KeyCommand::Quit));
        assert_eq!(command(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::NONE), false), None);
    }

    #[test]
    fn space_freezes_a_live_view_and_plays_a_recording() {
        let space = KeyEvent::new(KeyCode::Char(' '), KeyModifiers::NONE);
        assert_eq!(command(space, false), Some(KeyCommand::Pause));
        assert_eq!(command(space, true), Some(KeyCommand::Play(Order::Toggle)));
    }
}
