//! Keys and what they do: one table drives both the program and its help.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::nav::View;
use collapse_model::player::Order;

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyCommand {
    /// End the program.
    Quit,
    /// Stop it as the shell's job control does.
    Suspend,
    /// Show or hide the help.
    Help,
    /// Freeze the view, or let it go on.
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
    /// Back in time, or left on the map.
    Left,
    /// Forward in time, or right on the map.
    Right,
    /// The time now.
    Now,
    /// Open what is selected.
    Open,
    /// Back to where it was opened.
    Back,
    /// The next view, or the next tab of a VM.
    Next,
    /// The one before.
    Previous,
    /// A view.
    Go(View),
    /// Sort by the next column.
    Sort,
    /// Sort the other way round.
    Reverse,
    /// Type a filter.
    Filter,
    /// Less time, or fewer frames per cell of the map.
    ZoomIn,
    /// More of them.
    ZoomOut,
    /// Refresh more often.
    Faster,
    /// Refresh less often.
    Slower,
    /// Events of all VMs, or of the selected one.
    All,
    /// The palette for the other background.
    Palette,
    /// Something of the player.
    Play(Order),
}

/// When keys mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Always.
    Always,
    /// While a running kernel is watched.
    Live,
    /// While a recording is played.
    Playing,
}

/// Keys that ask for the same.
pub struct Binding {
    /// Keys, and whether Ctrl is held.
    pub keys: &'static [(KeyCode, bool)],
    /// When they do.
    pub when: When,
    /// What they ask for.
    pub command: KeyCommand,
    /// The same in words; empty if it goes without saying.
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
        /// All keys, in the order of the help.
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
    Always [char('3')] KeyCommand::Go(View::Episodes), "its episodes of dirty logging";
    Always [char('4')] KeyCommand::Go(View::Map), "its guest frames";
    Always [char('5')] KeyCommand::Go(View::Events), "the latest events";
    Always [char('6')] KeyCommand::Go(View::Findings), "what is worth a look";
    Always [char('7')] KeyCommand::Go(View::Probes), "hooks, and what is not seen";
    Always [key(KeyCode::Tab)] KeyCommand::Next, "next view; next tab of a VM";
    Always [key(KeyCode::BackTab)] KeyCommand::Previous, "the one before";
    Always [key(KeyCode::Up), char('k')] KeyCommand::Up, "up";
    Always [key(KeyCode::Down), char('j')] KeyCommand::Down, "down";
    Always [key(KeyCode::PageUp), ctrl('b')] KeyCommand::PageUp, "a page up";
    Always [key(KeyCode::PageDown), ctrl('f')] KeyCommand::PageDown, "a page down";
    Always [key(KeyCode::Home), char('g')] KeyCommand::First, "first";
    Always [key(KeyCode::End), char('G')] KeyCommand::Last, "last";
    Always [key(KeyCode::Enter)] KeyCommand::Open, "open";
    Always [key(KeyCode::Esc), key(KeyCode::Backspace)] KeyCommand::Back, "back; no filter; no help";
    Always [key(KeyCode::Left), char('h')] KeyCommand::Left, "back in time; left on the map";
    Always [key(KeyCode::Right), char('l')] KeyCommand::Right, "forward in time; right on the map";
    Live [char('n'), char('0')] KeyCommand::Now, "now";
    Live [char(' '), char('p')] KeyCommand::Pause, "freeze the view; data goes on";
    Playing [char(' '), char('p')] KeyCommand::Play(Order::Toggle), "play; pause";
    Playing [char('.')] KeyCommand::Play(Order::NextReading), "pause at the next reading";
    Playing [char(',')] KeyCommand::Play(Order::PreviousReading), "pause at the reading before";
    Playing [char('}')] KeyCommand::Play(Order::NextSwitch), "to dirty logging going on or off next";
    Playing [char('{')] KeyCommand::Play(Order::PreviousSwitch), "to where it did before";
    Playing [char('0')] KeyCommand::Play(Order::To(0)), "to the beginning";
    Playing [char('n')] KeyCommand::Play(Order::To(u64::MAX)), "to the end";
    Playing [char(']'), char('>')] KeyCommand::Play(Order::Faster), "twice as fast";
    Playing [char('['), char('<')] KeyCommand::Play(Order::Slower), "half as fast";
    Always [char('+'), char('=')] KeyCommand::ZoomIn, "zoom in: less time, fewer frames";
    Always [char('-'), char('_')] KeyCommand::ZoomOut, "zoom out";
    Always [char('s')] KeyCommand::Sort, "sort by the next column";
    Always [char('S'), char('r')] KeyCommand::Reverse, "sort the other way round";
    Always [char('/')] KeyCommand::Filter, "filter by name; events by text";
    Always [char('a')] KeyCommand::All, "events of all VMs, or of one";
    Live [char('<')] KeyCommand::Faster, "refresh more often";
    Live [char('>')] KeyCommand::Slower, "refresh less often";
    Always [char('t')] KeyCommand::Palette, "colours for a dark or light background";
    Always [char('?'), key(KeyCode::F(1))] KeyCommand::Help, "this help";
    Always [ctrl('z')] KeyCommand::Suspend, "suspend";
    Always [char('q'), ctrl('c')] KeyCommand::Quit, "quit";
}

/// All keys that mean something, in the order of the help.
pub fn bindings(playing: bool) -> impl Iterator<Item = &'static Binding> + Clone {
    let other = if playing { When::Live } else { When::Playing };
    BINDINGS.iter().filter(move |binding| binding.when != other)
}

/// What a key asks for.
pub fn command(event: KeyEvent, playing: bool) -> Option<KeyCommand> {
    let held = event.modifiers.contains(KeyModifiers::CONTROL);
    let mine = |(code, ctrl): &(KeyCode, bool)| *code == event.code && *ctrl == held;
    bindings(playing).find(|binding| binding.keys.iter().any(mine)).map(|binding| binding.command)
}

/// A binding's keys, as the help tells them.
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
