//! Click targets: areas of the screen and what a click there does, added by views as they draw.

use std::cell::RefCell;

use collapse_common::abi::VmKey;
use ratatui::layout::{Position, Rect};

use super::{
    column::Column,
    keys::KeyCommand,
    nav::{Tab, View},
};

/// Effect of a click.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hit {
    /// Runs the command of a key.
    Command(KeyCommand),
    /// Shows a view.
    View(View),
    /// Shows a tab of the view of one VM.
    Tab(Tab),
    /// Selects a VM; a second click opens it.
    Vm(VmKey),
    /// Selects a line of a list; a second click opens it.
    Line(usize),
    /// Sorts VMs by a column; a second click reverses the order.
    Sort(Column),
    /// Moves the cursor of the map to a guest frame.
    Gfn(u64),
    /// Goes to a time of the recording, ns since its first reading.
    Time(u64),
}

/// Click targets of the latest frame.
#[derive(Debug, Default)]
pub struct Spots(RefCell<Vec<(Rect, Hit)>>);

impl Spots {
    /// Removes all targets, before the next frame is drawn.
    pub fn clear(&self) {
        self.0.borrow_mut().clear();
    }

    /// Adds a target, which covers earlier ones.
    pub fn add(&self, at: Rect, hit: Hit) {
        self.0.borrow_mut().push((at, hit));
    }

    /// Adds a target for each row: lines of a list of `count`, from line `first` on.
    pub fn lines(&self, rows: Rect, first: usize, count: usize) {
        for (line, y) in (first..count).zip(rows.top()..rows.bottom()) {
            self.add(Rect { y, height: 1, ..rows }, Hit::Line(line));
        }
    }

    /// The target at a position.
    pub fn find(&self, at: Position) -> Option<Hit> {
        self.0.borrow().iter().rev().find(|(area, _)| area.contains(at)).map(|(_, hit)| *hit)
    }
}
