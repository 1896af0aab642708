//! Clicks and the mouse wheel.

use ratatui::{
    crossterm::event::{MouseButton, MouseEvent, MouseEventKind},
    layout::Position,
};

use super::{
    app::{App, DashboardData, Reply},
    keys::KeyCommand,
    nav::View,
    spots::Hit,
};
use collapse_model::player::Order;

/// Lines per step of the wheel.
const WHEEL: usize = 3;

impl App {
    /// Handles the mouse; `None` if nothing changes.
    pub fn mouse(&mut self, event: MouseEvent, data: &DashboardData) -> Option<Reply> {
        let wheel = |command| (WHEEL, command);
        let (times, command) = match event.kind {
            MouseEventKind::Down(MouseButton::Left) => {
                let hit = self.spots.find(Position { x: event.column, y: event.row })?;
                return Some(self.click(hit, data));
            }
            MouseEventKind::ScrollUp => wheel(KeyCommand::Up),
            MouseEventKind::ScrollDown => wheel(KeyCommand::Down),
            MouseEventKind::ScrollLeft => (1, KeyCommand::Left),
            MouseEventKind::ScrollRight => (1, KeyCommand::Right),
            _ => return None,
        };
        // A row of the overview is a VM and a row of the map many cells: these move one by one.
        let single = matches!(self.nav.view, View::Overview | View::Vm | View::Map);
        let times = if single && self.nav.help.is_none() { 1 } else { times };
        (0..times).map(|_| self.perform(command, data)).last()
    }

    fn click(&mut self, hit: Hit, data: &DashboardData) -> Reply {
        match hit {
            Hit::Command(command) => return self.perform(command, data),
            Hit::View(view) => self.go(view),
            Hit::Tab(tab) => self.nav.tab = tab,
            Hit::Vm(key) if self.nav.vm == Some(key) => {
                return self.perform(KeyCommand::Open, data);
            }
            Hit::Vm(key) => self.nav.vm = Some(key),
            Hit::Line(chosen) if self.nav.line == chosen => {
                return self.perform(KeyCommand::Open, data);
            }
            Hit::Line(chosen) => self.nav.line = chosen,
            Hit::Sort(column) if self.nav.sort == column => {
                self.nav.reversed = !self.nav.reversed;
            }
            Hit::Sort(column) => (self.nav.sort, self.nav.reversed) = (column, false),
            Hit::Gfn(gfn) => self.nav.map.gfn = gfn,
            Hit::Time(ns) => return Reply::Play(Order::To(ns)),
        }
        Reply::Draw
    }
}
