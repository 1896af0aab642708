//! Recordings of real runs as input of the dashboard.

use std::{io::Cursor, time::Duration};

use ratatui::crossterm::event::KeyCode;

use super::{Heading, Reply, Stage};
use collapse_model::player::{Order, Player};

/// Four guests on Linux 6.12: `web-frontend`, whose migration fails three times; `database`, with twice
/// as much memory, which is migrated for longer; `build-runner`, whose host memory lost huge pages
/// meanwhile; `batch`, which nobody migrates.
pub const FOUR: &[u8] = include_bytes!("../../../tests/fixtures/recorded/four-guests.rec");

/// One guest whose migration fails.
pub const FAILED: &[u8] = include_bytes!("../../../tests/fixtures/recorded/failed-migration.rec");

/// One guest whose dirty rate is measured, on an emulated Intel CPU, which logs dirty pages.
pub const PML: &[u8] = include_bytes!("../../../tests/fixtures/recorded/pml.rec");

/// Three guests that stayed as they were: logged since before, at other offsets in guest and host memory, and huge.
pub const STATES: &[u8] = include_bytes!("../../../tests/fixtures/recorded/states.rec");

impl Stage {
    /// Plays a recording, paused `ms` after its beginning.
    pub fn playing(bytes: &'static [u8], ms: u64) -> Self {
        let mut player = Player::new(Cursor::new(bytes)).unwrap();
        player.perform(Order::Toggle).unwrap();
        let mut stage = Self::new(player.model().clone(), player.coverage().clone());
        let machine = player.machine().clone();
        stage.heading = Heading { machine, title: Some("lab".to_owned()) };
        stage.player = Some(player);
        stage.obey(Reply::Play(Order::To(ms * 1_000_000)));
        stage
    }

    /// Shows the state `ms` after the beginning of a recording as if it were live.
    pub fn watching(bytes: &'static [u8], ms: u64) -> Self {
        Self { player: None, ..Self::playing(bytes, ms) }
    }

    /// Passes a request to the player.
    pub fn obey(&mut self, reply: Reply) -> Reply {
        if let (Reply::Play(order), Some(player)) = (reply, &mut self.player) {
            player.perform(order).unwrap();
            self.catch_up();
        }
        reply
    }

    /// Lets `ms` pass.
    pub fn pass(&mut self, ms: u64) {
        self.player.as_mut().unwrap().advance(Duration::from_millis(ms));
        self.catch_up();
    }

    fn catch_up(&mut self) {
        let player = self.player.as_mut().unwrap();
        player.catch_up(usize::MAX).unwrap();
        (self.model, self.coverage) = (player.model().clone(), player.coverage().clone());
    }

    /// Selects a VM by a part of its name.
    pub fn choose(&mut self, name: &str) {
        self.type_in(&format!("1/{name}"));
        for code in [KeyCode::Enter, KeyCode::Enter, KeyCode::Esc, KeyCode::Esc] {
            self.press(code);
        }
    }
}
