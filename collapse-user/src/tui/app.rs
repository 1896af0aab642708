//! State of the dashboard, and how keys change it.

use std::time::Duration;

use collapse_common::abi::VmKey;
use ratatui::{
    buffer::Buffer,
    crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
    layout::Rect,
};

use super::{
    frame,
    keys::{self, KeyCommand},
    nav::{Nav, View},
    notices::Notices,
    options::DashboardOptions,
    scene::{Heading, Scene},
    spots::Spots,
    table,
    theme::Theme,
    views::{self, map},
};
use collapse_feed::Coverage;
use collapse_model::{
    Model, Vm,
    player::{Order, Track},
};

/// Lines per page.
const PAGE: isize = 10;

/// Shortest and longest time that charts span, ns.
const SPANS: (u64, u64) = (15_000_000_000, 3 * 86_400_000_000_000);

/// Shortest and longest time between refreshes.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(125), Duration::from_mins(1));

/// Everything that the caller has to show.
#[derive(Clone, Copy)]
pub struct DashboardData<'a> {
    /// The model at the latest reading.
    pub model: &'a Model,
    /// Signals that are observed, and why others are not.
    pub coverage: &'a Coverage,
    /// Machine and title for the first line.
    pub heading: &'a Heading,
    /// Position in the recording; `None` if a running kernel is watched.
    pub track: Option<Track<'a>>,
}

/// A request to the caller that follows from a key or a click.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Draw a frame.
    Draw,
    /// End the program.
    Quit,
    /// Restore the terminal and stop the process, as the shell's job control does.
    Suspend,
    /// Control the player of the recording.
    Play(Order),
}

/// The dashboard: what the user chose, and what outlives a frame.
pub struct App {
    pub(super) theme: Theme,
    pub(super) options: DashboardOptions,
    pub(super) nav: Nav,
    /// Copy of the model while the display is paused.
    frozen: Option<Box<Model>>,
    /// Click targets of the latest frame.
    pub(super) spots: Spots,
    /// CPU time that this program takes, as a part of one core.
    load: Option<f64>,
    /// Diagnostics of the program itself.
    notices: Notices,
    /// The number of notices when the user last looked at them.
    notices_read: u64,
}

impl App {
    /// Creates a dashboard with default options that is refreshed every `interval`.
    pub fn new(theme: Theme, interval: Duration) -> Self {
        Self::with(theme, DashboardOptions { interval, ..DashboardOptions::default() })
    }

    /// Creates a dashboard with the user's options.
    pub fn with(theme: Theme, options: DashboardOptions) -> Self {
        let nav = Nav { sort: options.sort, ..Nav::default() };
        Self {
            theme,
            options,
            nav,
            frozen: None,
            spots: Spots::default(),
            load: None,
            notices: Notices::default(),
            notices_read: 0,
        }
    }

    /// Time between refreshes.
    pub fn interval(&self) -> Duration {
        self.options.interval
    }

    /// Sets the CPU time that this program takes, as a part of one core.
    pub fn set_load(&mut self, load: f64) {
        self.load = Some(load);
    }

    /// Diagnostics to show. A logger pushes to them, or to a clone, while the dashboard owns the
    /// terminal.
    pub fn notices(&self) -> &Notices {
        &self.notices
    }

    /// Draws a frame.
    pub fn draw(&self, buf: &mut Buffer, area: Rect, data: &DashboardData) {
        self.spots.clear();
        frame::draw(buf, area, &self.scene(data), &self.nav, self.frozen.is_some());
    }

    /// Handles a key.
    pub fn handle(&mut self, key: KeyEvent, data: &DashboardData) -> Reply {
        if key.kind == KeyEventKind::Release {
            return Reply::Draw;
        }
        if self.nav.typing && !key.modifiers.contains(KeyModifiers::CONTROL) {
            self.typed(key.code);
            return Reply::Draw;
        }
        keys::command(key, data.track.is_some())
            .map_or(Reply::Draw, |command| self.perform(command, data))
    }

    /// Carries out a command, or returns it to the caller.
    pub(super) fn perform(&mut self, command: KeyCommand, data: &DashboardData) -> Reply {
        match command {
            KeyCommand::Quit => return Reply::Quit,
            KeyCommand::Suspend => return Reply::Suspend,
            KeyCommand::Play(order) => return Reply::Play(order),
            KeyCommand::Left | KeyCommand::Right
                if data.track.is_some() && self.nav.view != View::Map =>
            {
                let stride = self.scene(data).stride() as i64;
                let by = if command == KeyCommand::Left { -stride } else { stride };
                return Reply::Play(Order::By(by));
            }
            command => self.act(command, data),
        }
        Reply::Draw
    }

    pub(super) fn scene<'a>(&'a self, data: &DashboardData<'a>) -> Scene<'a> {
        let model = self.frozen.as_deref().unwrap_or(data.model);
        let first = model.history.first().map_or(model.now, |sample| sample.at);
        Scene {
            model,
            coverage: data.coverage,
            heading: data.heading,
            at: model.now.saturating_sub(self.nav.back).max(first),
            step: self.options.interval.as_nanos() as u64,
            span: self.span(model.now.saturating_sub(first)),
            theme: self.theme,
            options: &self.options,
            spots: &self.spots,
            track: data.track,
            load: self.load,
            notices: &self.notices,
            unread: self.unread(),
        }
    }

    /// Time that charts span, ns. While less than that is known, the window is halved as often as
    /// the rest still fits, so that charts are never mostly empty.
    fn span(&self, known: u64) -> u64 {
        if let Some(span) = self.nav.span {
            return span;
        }
        let mut span = (self.options.window.as_nanos() as u64).clamp(SPANS.0, SPANS.1);
        while span / 2 >= SPANS.0 && span / 2 >= known {
            span /= 2;
        }
        span
    }

    fn typed(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char(char) => self.nav.shown_filter_mut().push(char),
            KeyCode::Backspace => {
                self.nav.shown_filter_mut().pop();
            }
            KeyCode::Enter => self.nav.typing = false,
            KeyCode::Esc => {
                self.nav.shown_filter_mut().clear();
                self.nav.typing = false;
            }
            _ => {}
        }
        self.nav.line = 0;
    }

    fn act(&mut self, command: KeyCommand, data: &DashboardData) {
        match command {
            KeyCommand::Go(view) => self.go(view),
            KeyCommand::Help => {
                self.nav.help = if self.nav.help.is_some() { None } else { Some(0) };
            }
            KeyCommand::Back => self.back(),
            KeyCommand::Next => self.turn(1),
            KeyCommand::Previous => self.turn(-1),
            KeyCommand::Open => self.open(data),
            KeyCommand::Up => self.step(-1, data),
            KeyCommand::Down => self.step(1, data),
            KeyCommand::PageUp => self.step(-PAGE, data),
            KeyCommand::PageDown => self.step(PAGE, data),
            KeyCommand::First => self.step(isize::MIN, data),
            KeyCommand::Last => self.step(isize::MAX, data),
            KeyCommand::Left => self.sideways(-1, data),
            KeyCommand::Right => self.sideways(1, data),
            KeyCommand::Now => self.nav.back = 0,
            KeyCommand::ZoomIn => self.zoom(true, data),
            KeyCommand::ZoomOut => self.zoom(false, data),
            KeyCommand::Sort => self.sort_by_next(),
            KeyCommand::Reverse => self.nav.reversed = !self.nav.reversed,
            KeyCommand::Filter => {
                self.nav.typing = matches!(self.nav.view, View::Overview | View::Events);
            }
            KeyCommand::All => self.nav.all = !self.nav.all,
            KeyCommand::Faster => {
                self.options.interval = (self.options.interval / 2).max(INTERVALS.0);
            }
            KeyCommand::Slower => {
                self.options.interval = (self.options.interval * 2).min(INTERVALS.1);
            }
            KeyCommand::Palette => self.theme = self.theme.toggled(),
            KeyCommand::Pause => {
                let frozen = self.frozen.take();
                self.frozen = frozen.is_none().then(|| Box::new(data.model.clone()));
            }
            // Returned to the caller by `perform`.
            KeyCommand::Quit | KeyCommand::Suspend | KeyCommand::Play(_) => {}
        }
    }

    fn sort_by_next(&mut self) {
        let columns = &self.options.columns;
        let place = columns.iter().position(|column| *column == self.nav.sort);
        let next = place.map_or(0, |place| (place + 1) % columns.len());
        self.nav.sort = columns.get(next).copied().unwrap_or(self.nav.sort);
    }

    /// Number of notices since the user last saw the view that lists them.
    fn unread(&self) -> u64 {
        match self.nav.view {
            View::Probes => 0,
            _ => self.notices.total() - self.notices_read,
        }
    }

    /// Switches to a view.
    pub(super) fn go(&mut self, view: View) {
        self.nav.help = None;
        if [self.nav.view, view].contains(&View::Probes) {
            self.notices_read = self.notices.total();
        }
        if self.nav.view != view {
            self.nav.view = view;
            self.nav.line = 0;
        }
    }

    fn back(&mut self) {
        if self.nav.help.is_some() {
            self.nav.help = None;
        } else if self.nav.view == View::Events && !self.nav.event_filter.is_empty() {
            self.nav.event_filter.clear();
        } else if self.nav.view != View::Overview {
            self.go(View::Overview);
        } else {
            self.nav.filter.clear();
        }
    }

    fn turn(&mut self, by: isize) {
        if self.nav.view == View::Vm {
            self.nav.tab = self.nav.tab.turned(by);
            return;
        }
        let views = View::ALL.len() as isize;
        let place = View::ALL.iter().position(|view| *view == self.nav.view).unwrap_or_default();
        self.go(View::ALL[(place as isize + by).rem_euclid(views) as usize]);
    }

    fn open(&mut self, data: &DashboardData) {
        match self.nav.view {
            View::Overview => {
                self.nav.vm = table::selected(&self.scene(data), &self.nav).map(|vm| vm.key);
                self.go(View::Vm);
            }
            View::Findings => {
                let scene = self.scene(data);
                self.nav.vm = views::findings::selected(&scene, &self.nav).or(self.nav.vm);
                self.go(View::Vm);
            }
            _ => {}
        }
    }

    /// Moves the selection, or scrolls the help, by `by` lines.
    fn step(&mut self, by: isize, data: &DashboardData) {
        if let Some(first) = &mut self.nav.help {
            let last = views::help::count(data.track.is_some());
            *first = first.saturating_add_signed(by).min(last);
            return;
        }
        let scene = self.scene(data);
        match self.nav.view {
            View::Overview | View::Vm => {
                let keys: Vec<VmKey> = table::rows(&scene, &self.nav).map(|vm| vm.key).collect();
                let chosen = table::selected(&scene, &self.nav).map(|vm| vm.key);
                let place = keys.iter().position(|key| Some(*key) == chosen).unwrap_or_default();
                let place = place.saturating_add_signed(by).min(keys.len().saturating_sub(1));
                self.nav.vm = keys.get(place).copied();
            }
            View::Map => {
                let vm = table::selected(&scene, &self.nav);
                let place = vm.map(|vm| map::moved(vm, &self.nav.map, map::CursorMove::Lines(by)));
                self.nav.map = place.unwrap_or_default();
            }
            _ => {
                let last = views::lines(&scene, &self.nav).saturating_sub(1);
                self.nav.line = self.nav.line.saturating_add_signed(by).min(last);
            }
        }
    }

    fn sideways(&mut self, by: isize, data: &DashboardData) {
        let scene = self.scene(data);
        if self.nav.view == View::Map {
            let vm: Option<&Vm> = table::selected(&scene, &self.nav);
            let place = vm.map(|vm| map::moved(vm, &self.nav.map, map::CursorMove::Cells(by)));
            self.nav.map = place.unwrap_or_default();
            return;
        }
        let stride = scene.stride();
        let first = scene.model.history.first().map_or(scene.at, |sample| sample.at);
        let longest = scene.model.now.saturating_sub(first);
        self.nav.back = if by < 0 {
            self.nav.back.saturating_add(stride).min(longest)
        } else {
            self.nav.back.saturating_sub(stride)
        };
    }

    fn zoom(&mut self, closer: bool, data: &DashboardData) {
        if self.nav.view == View::Map {
            self.nav.map = self.nav.map.zoomed(closer);
        } else {
            let span = self.scene(data).span;
            let span = if closer { span / 2 } else { span.saturating_mul(2) };
            self.nav.span = Some(span.clamp(SPANS.0, SPANS.1));
        }
    }
}
