//! Cost of the eBPF programs, and what is left out to stay within a budget.

use ratatui::crossterm::event::KeyCode;

use super::Stage;
use collapse_feed::{Degraded, DetailStep, Overhead, ProgramCost};

fn stage(step: DetailStep, no_latency_ns: u64) -> Stage {
    let mut stage = Stage::busy();
    stage.model.overhead = Some(Overhead {
        percent: 3.25,
        budget_percent: Some(25.0),
        step,
        degraded: Degraded { no_latency_ns, ..Degraded::default() },
        programs: vec![ProgramCost {
            program: "spte_changed".to_owned(),
            per_second: 250_000.0,
            ns: 130.0,
            percent: 3.25,
            misses: None,
        }],
    });
    stage
}

#[test]
fn the_status_line_shows_the_cost_and_what_is_left_out() {
    assert!(stage(DetailStep::Full, 0).text(120, 40).contains("probes 3.2%"));
    let less = stage(DetailStep::NoLatency, 1).text(120, 40);
    assert!(less.contains("reduced: fault latency off"), "{less}");
    assert!(!Stage::busy().text(120, 40).contains("probes "));
}

#[test]
fn the_view_of_hooks_shows_the_cost_by_program() {
    let mut stage = stage(DetailStep::NoLatency, 2_500_000_000);
    stage.press(KeyCode::Char('7'));
    stage.press(KeyCode::End);
    let text = stage.text(120, 60);
    for part in ["spte_changed", "130", "3.25 % of one core, 25 % allowed", "latency off for 2.5 s"]
    {
        assert!(text.contains(part), "no {part}: {text}");
    }
}
