//! The dashboard driven by the mouse.

use ratatui::crossterm::event::{KeyModifiers, MouseButton, MouseEvent, MouseEventKind};

use super::{Reply, Stage, lines, see};

impl Stage {
    pub fn mouse(&mut self, kind: MouseEventKind, column: u16, row: u16) -> Option<Reply> {
        let data = see(&self.model, &self.coverage, &self.heading, self.player.as_ref());
        let event = MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE };
        self.app.mouse(event, &data)
    }

    /// Clicks on the first place that shows a text.
    fn click(&mut self, text: &str) -> Option<Reply> {
        let lines = lines(&self.frame(120, 40));
        let (row, line) = (0..).zip(&lines).find(|(_, line)| line.contains(text)).unwrap();
        let column = line[..line.find(text).unwrap()].chars().count() as u16;
        self.mouse(MouseEventKind::Down(MouseButton::Left), column, row)
    }
}

#[test]
fn clicks_go_where_they_point() {
    let mut stage = Stage::busy();
    for (click, shown) in [
        ("3 Episodes", "phase by phase"),
        ("1 Overview", "RECOVERED"),
        ("RECOVERED", "RECOVERED▼"),
        ("RECOVERED", "RECOVERED▲"),
        ("? help", "help: ? closes"),
    ] {
        assert_eq!(stage.click(click), Some(Reply::Draw), "{click}");
        let frame = stage.text(120, 40);
        assert!(frame.contains(shown), "{click}: no {shown:?} in\n{frame}");
    }
    // Anywhere closes the help, as it covers what is below.
    stage.click("all VMs");
    assert!(!stage.text(120, 40).contains("help: ? closes"));
    assert_eq!(stage.click("q quit"), Some(Reply::Quit));
}

#[test]
fn the_second_click_opens() {
    let mut stage = Stage::busy();
    stage.click("254");
    assert!(stage.text(120, 40).contains(" database ─"));
    stage.click("254");
    assert!(stage.text(120, 40).contains("database  pid 254"));
    stage.click("latency");
    assert!(stage.text(120, 40).contains("guest fault to guest re-entry"));
}

#[test]
fn the_wheel_scrolls() {
    let mut stage = Stage::busy();
    stage.type_in("7");
    let first = stage.text(120, 14);
    for _ in 0..20 {
        stage.mouse(MouseEventKind::ScrollDown, 5, 5);
    }
    assert_ne!(stage.text(120, 14), first);
    for _ in 0..20 {
        stage.mouse(MouseEventKind::ScrollUp, 5, 5);
    }
    assert_eq!(stage.text(120, 14), first);
}

#[test]
fn a_cell_of_the_map_is_chosen() {
    let mut stage = Stage::busy();
    stage.click("254");
    stage.type_in("4");
    let frame = lines(&stage.frame(120, 40));
    let row = (0..).zip(&frame).find(|(_, line)| line.contains("0x40000 ")).unwrap().0;
    stage.mouse(MouseEventKind::Down(MouseButton::Left), 12 + 6, row);
    assert!(stage.text(120, 40).contains("2M: gfn 0x40600–0x407ff"), "{}", stage.text(120, 40));
}

#[test]
fn clicks_on_nothing_and_moves_do_nothing() {
    let mut stage = Stage::busy();
    assert_eq!(stage.mouse(MouseEventKind::Moved, 5, 1), None);
    stage.frame(120, 40);
    assert_eq!(stage.mouse(MouseEventKind::Down(MouseButton::Left), 119, 30), None);
}
