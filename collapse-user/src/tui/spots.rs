//! Where on the screen the mouse does what: views tell it as they draw.

use std::cell::RefCell;

use collapse_common::abi::VmKey;
use ratatui::layout::{Position, Rect};

use super::{
    column::Column,
    keys::KeyCommand,
    nav::{Tab, View},
};

/// What a click asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hit {
    /// What a key does.
    Command(KeyCommand),
    /// A view.
    View(View),
    /// A tab of the VM view.
    Tab(Tab),
    /// A VM: the first click selects it, the second opens it.
    Vm(VmKey),
    /// A line of a list, opened by the second click.
    Line(usize),
    /// VMs sorted by a column; the other way round by the second click.
    Sort(Column),
    /// A guest frame on the map.
    Gfn(u64),
    /// A time of the recording, ns since its first reading.
    Time(u64),
}

/// The spots of the last frame.
#[derive(Debug, Default)]
pub struct Spots(RefCell<Vec<(Rect, Hit)>>);

impl Spots {
    /// Forgets those of the frame before.
    pub fn clear(&self) {
        self.0.borrow_mut().clear();
    }

    /// Takes a spot; it covers those before.
    pub fn add(&self, at: Rect, hit: Hit) {
        self.0.borrow_mut().push((at, hit));
    }

    /// Takes rows, each of which is a line of a list of `count`, from `first` on.
    pub fn lines(&self, rows: Rect, first: usize, count: usize) {
        for (line, y) in (first..count).zip(rows.top()..rows.bottom()) {
            self.add(Rect { y, height: 1, ..rows }, Hit::Line(line));
        }
    }

    /// What is there.
    pub fn find(&self, at: Position) -> Option<Hit> {
        self.0.borrow().iter().rev().find(|(area, _)| area.contains(at)).map(|(_, hit)| *hit)
    }
}
