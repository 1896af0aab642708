//! The dashboard, frame by frame and key by key.

mod cost;
mod fixture;
mod frames;
mod keys;
mod mouse;
mod notices;
mod playing;
mod recorded;
mod sizes;

use std::{io::Cursor, time::Duration};

use ratatui::{
    buffer::Buffer,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
    layout::Rect,
};

use super::{App, Background, DashboardData, Depth, Heading, Reply, Theme};
use collapse_feed::{Coverage, Machine};
use collapse_model::{Model, player::Player};

/// A dashboard and what it shows.
struct Stage {
    app: App,
    model: Model,
    coverage: Coverage,
    heading: Heading,
    player: Option<Player<Cursor<&'static [u8]>>>,
}

impl Stage {
    fn new(model: Model, coverage: Coverage) -> Self {
        let theme = Theme { depth: Depth::Ansi16, background: Background::Dark, ascii: false };
        let machine = Machine { kernel: "6.12.117".to_owned(), ..Machine::default() };
        let heading = Heading { machine, title: Some("lab".to_owned()) };
        Self {
            app: App::new(theme, Duration::from_secs(1)),
            model,
            coverage,
            heading,
            player: None,
        }
    }

    fn busy() -> Self {
        Self::new(fixture::busy(), fixture::coverage(&[]))
    }

    fn data(&self) -> DashboardData<'_> {
        see(&self.model, &self.coverage, &self.heading, self.player.as_ref())
    }

    fn press(&mut self, code: KeyCode) -> Reply {
        self.hit(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn hit(&mut self, key: KeyEvent) -> Reply {
        let data = see(&self.model, &self.coverage, &self.heading, self.player.as_ref());
        let reply = self.app.handle(key, &data);
        self.obey(reply)
    }

    fn type_in(&mut self, text: &str) {
        for char in text.chars() {
            self.press(KeyCode::Char(char));
        }
    }

    fn frame(&self, columns: u16, rows: u16) -> Buffer {
        let area = Rect::new(0, 0, columns, rows);
        let mut buf = Buffer::empty(area);
        self.app.draw(&mut buf, area, &self.data());
        buf
    }

    fn text(&self, columns: u16, rows: u16) -> String {
        lines(&self.frame(columns, rows)).join("\n")
    }
}

fn see<'a>(
    model: &'a Model,
    coverage: &'a Coverage,
    heading: &'a Heading,
    player: Option<&'a Player<Cursor<&'static [u8]>>>,
) -> DashboardData<'a> {
    DashboardData { model, coverage, heading, track: player.map(Player::track) }
}

/// The text of a frame: wide characters as a terminal shows them.
fn lines(buf: &Buffer) -> Vec<String> {
    use unicode_width::UnicodeWidthStr as _;
    let rows = buf.area.top()..buf.area.bottom();
    let line = |y| {
        let mut line = String::new();
        let mut x = buf.area.left();
        while x < buf.area.right() {
            let symbol = buf[(x, y)].symbol();
            line.push_str(symbol);
            x += symbol.width().max(1) as u16;
        }
        line.trim_end().to_owned()
    };
    rows.map(line).collect()
}
