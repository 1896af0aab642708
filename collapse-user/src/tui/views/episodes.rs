//! Episodes of dirty logging of one VM: a list, and the selected episode next to earlier ones.

use collapse_feed::Signal;
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use super::caption::caption;
use crate::tui::{
    format,
    nav::Nav,
    scene::{Scene, outcome, phase},
    theme::Role,
    widgets,
};
use collapse_model::{Episode, EpisodeCost, FaultCost, LoggedBy, PmlFullCost, Vm};

/// Columns per episode in the comparison.
const WIDTH: usize = 16;

/// Columns of a line of the list without its bar.
const ROW: usize = 75;

/// Columns of the longest bar.
const LONGEST: usize = 60;

/// Columns of the comparison's labels.
const LABELS: usize = 24;

/// Draws the view.
pub fn draw(buf: &mut Buffer, at: Rect, scene: &Scene, nav: &Nav, vm: &Vm) {
    let at = widgets::paragraph(buf, at, &[caption(scene, vm)]);
    let dim = scene.theme.style(Role::Dim);
    let episodes: Vec<_> = vm.episodes.kept().rev().collect();
    if episodes.is_empty() {
        let text = if scene.coverage.sees(Signal::DirtyLogging) {
            " No episodes yet. An episode begins when dirty logging is switched on for the VM."
        } else {
            " – Dirty logging is not observed on this kernel."
        };
        widgets::paragraph(buf, at, &[Line::styled(text, dim)]);
        return;
    }
    let chosen = nav.line.min(episodes.len() - 1);
    let rows = (usize::from(at.height) / 3).clamp(1, episodes.len() + 1) as u16;
    let list = Rect { height: rows.min(at.height), ..at };
    let room = usize::from(list.height).saturating_sub(1).max(1);
    let first = widgets::first_shown(chosen, episodes.len(), room);
    let mut lines = vec![Line::styled(
        format!(
            " {:>4} {:>7} {:<10} {:<13} {:>7} {:>6} {:>6} {:>5} {:>7}",
            "#", "AGO", "PHASE", "OUTCOME", "LOGGED", "LOST", "RECOV", "SMALL", "BACK IN"
        ),
        dim,
    )];
    if list.height == 1 {
        lines.clear();
    }
    let head = lines.len() as u16;
    let columns = usize::from(list.width).saturating_sub(ROW + 2).min(LONGEST);
    let longest =
        episodes.iter().map(|episode| durations(scene, episode).1).max().unwrap_or_default();
    lines.extend(episodes.iter().skip(first).take(room).map(|episode| {
        let mut line = row(scene, episode);
        if columns >= 10 {
            line.spans.push(Span::raw("  "));
            line.spans.extend(bar(scene, episode, longest, columns));
        }
        line
    }));
    widgets::paragraph(buf, list, &lines);
    let rows = Rect { y: list.y + head, height: list.height - head, ..list };
    scene.spots.lines(rows, first, episodes.len());
    let y = list.y + head + (chosen - first) as u16;
    if y < list.bottom() {
        buf.set_style(Rect { y, height: 1, ..list }, scene.theme.selected());
    }
    let below = Rect { y: list.bottom(), height: at.bottom() - list.bottom(), ..at };
    compare(buf, below, scene, &episodes[chosen..]);
}

/// Duration of dirty logging, and of the episode up to its latest recovery, ns; so far, if dirty logging
/// is still on.
fn durations(scene: &Scene, episode: &Episode) -> (u64, u64) {
    let logged = episode.log_off.unwrap_or(scene.at).saturating_sub(episode.start);
    let until = match episode.log_off {
        Some(off) => episode.last_recovery.map_or(off, |last| last.max(off)),
        None => scene.at,
    };
    (logged, until.saturating_sub(episode.start))
}

/// Bar of an episode: dirty logging, then recovery. An episode that takes `longest` fills `columns`.
fn bar(scene: &Scene, episode: &Episode, longest: u64, columns: usize) -> Vec<Span<'static>> {
    let (logged, all) = durations(scene, episode);
    let cells = |ns: u64| (u128::from(ns) * columns as u128 / u128::from(longest.max(1))) as usize;
    let logging = cells(logged).max(1);
    let back = cells(all).saturating_sub(logging);
    let mut spans = vec![Span::styled("━".repeat(logging), scene.theme.style(Role::Split))];
    if episode.log_off.is_some() {
        spans.push(Span::styled("▼", scene.theme.style(Role::Zap)));
        spans.push(Span::styled("═".repeat(back), scene.theme.style(Role::Good)));
    }
    spans
}

fn row(scene: &Scene, episode: &Episode) -> Line<'static> {
    let (phase, phase_role) = phase(episode.phase);
    let (outcome, outcome_role) = outcome(episode.outcome());
    let regions = &episode.regions;
    let theme = scene.theme;
    Line::from(vec![
        Span::raw(format!(
            " {:>4} {:>7} ",
            episode.number,
            format::duration(scene.ago(episode.start))
        )),
        Span::styled(format::left(phase, 11), theme.style(phase_role)),
        Span::styled(format::left(outcome, 14), theme.style(outcome_role)),
        Span::raw(format!(
            "{:>7} {:>6} {:>6} {:>5} {:>7}",
            logged(scene, episode),
            format::count(regions.lost),
            format::count(regions.recovered),
            format::count(regions.small_now() + regions.small_to_the_end),
            format::known(episode.recovery_duration(), format::duration),
        )),
    ])
}

/// Duration of dirty logging, so far if it is on.
fn logged(scene: &Scene, episode: &Episode) -> String {
    let sign = if episode.began_before { ">" } else { "" };
    let until = episode.log_off.unwrap_or(scene.at);
    format!("{sign}{}", format::duration(until.saturating_sub(episode.start)))
}

/// A line of the comparison: label, and value of an episode.
type Figure = (&'static str, fn(&Scene, &Episode) -> (String, Role));

/// An entry of the comparison: a heading or a line.
enum Entry {
    Phase(&'static str),
    Line(Figure),
    /// A line that is there only where the CPU logs dirty pages.
    PmlLine(Figure),
}

const fn figure(name: &'static str, value: fn(&Scene, &Episode) -> (String, Role)) -> Entry {
    Entry::Line((name, value))
}

const fn pml_figure(name: &'static str, value: fn(&Scene, &Episode) -> (String, Role)) -> Entry {
    Entry::PmlLine((name, value))
}

fn plain(text: String) -> (String, Role) {
    (text, Role::Text)
}

fn number(n: u64, role: Role) -> (String, Role) {
    (format::count(n), if n == 0 { Role::Dim } else { role })
}

fn cost(
    episode: &Episode,
    part: fn(&EpisodeCost) -> FaultCost,
    value: impl Fn(FaultCost) -> String,
) -> (String, Role) {
    plain(format::known(episode.cost.ok(), |cost| value(part(&cost))))
}

/// Exits for a full log of dirty pages.
fn pml_full(episode: &Episode, value: fn(PmlFullCost) -> String) -> (String, Role) {
    plain(format::known(episode.cost.ok(), |cost| value(cost.pml_full)))
}

const ENTRIES: &[Entry] = &[
    figure("began", |scene, episode| {
        let before = if episode.began_before { " or before" } else { "" };
        plain(format!("−{}{before}", format::duration(scene.ago(episode.start))))
    }),
    figure("phase", |_, episode| {
        let (text, role) = phase(episode.phase);
        (text.to_owned(), role)
    }),
    figure("outcome", |_, episode| {
        let (text, role) = outcome(episode.outcome());
        (text.to_owned(), role)
    }),
    Entry::Phase("dirty logging"),
    figure("duration", |scene, episode| plain(logged(scene, episode))),
    figure("slots, memory", |_, episode| {
        let pages: u64 = episode.slots.values().sum();
        let bytes = format::bytes(pages.saturating_mul(4096));
        plain(format!("{}, {bytes}", episode.slots.len()))
    }),
    pml_figure("logged by", |scene, episode| {
        let protected = episode.cost.ok().map(|cost| cost.protected);
        let by = protected.and_then(|n| LoggedBy::of(scene.coverage.paging.pml, n));
        plain(match by {
            None => format::UNKNOWN.to_owned(),
            Some(LoggedBy::PmlAndWriteFaults) => "PML and faults".to_owned(),
            Some(by) => by.label().to_owned(),
        })
    }),
    figure("guest faults", |scene, episode| {
        if scene.coverage.sees(Signal::Faults) {
            cost(episode, |cost| cost.logging, |cost| format::count(cost.faults))
        } else {
            plain(format::UNKNOWN.to_owned())
        }
    }),
    figure("on the fast path", |scene, episode| {
        if scene.coverage.sees(Signal::FastFaults) {
            cost(episode, |cost| cost.logging, |cost| format::share(cost.fast, cost.faults))
        } else {
            plain(format::UNKNOWN.to_owned())
        }
    }),
    figure("vCPU time lost", |scene, episode| {
        if scene.coverage.sees(Signal::FaultLatency) {
            let one_in = scene.coverage.timed_faults;
            cost(
                episode,
                |cost| cost.logging,
                |cost| format::estimate(cost.stall_ns, cost.stall_error(one_in)),
            )
        } else {
            plain(format::UNKNOWN.to_owned())
        }
    }),
    pml_figure("PML-full exits", |_, episode| pml_full(episode, |n| format::count(n.exits))),
    pml_figure("vCPU time in them", |_, episode| {
        pml_full(episode, |n| format::duration(n.time_ns))
    }),
    Entry::Phase("split"),
    figure("splits", |_, episode| number(episode.splits, Role::Split)),
    figure("took", |_, episode| {
        // Only the beginning of a run of splits is known.
        let took = episode.split.map(|(first, last)| last - first).filter(|took| *took > 0);
        plain(format::known(took, format::duration))
    }),
    Entry::Phase("collapse"),
    figure("runs", |scene, episode| {
        let runs = scene.coverage.known(Signal::Collapse, episode.collapse.runs);
        plain(format::known(runs, format::count))
    }),
    figure("took", |scene, episode| {
        let collapse = Some(&episode.collapse).filter(|collapse| collapse.runs > 0);
        let took = collapse.filter(|_| scene.coverage.sees(Signal::Collapse));
        let took = took.map(|collapse| collapse.duration);
        plain(format::known(took, format::duration))
    }),
    figure("zapped × 4K", |_, episode| number(episode.collapse.work.zapped_4k, Role::Zap)),
    figure("recovered in place", |_, episode| number(episode.collapse.work.recovered, Role::Huge)),
    figure("of them read-only", |_, episode| {
        number(episode.collapse.work.recovered_read_only, Role::Warn)
    }),
    figure("raced 2M / 4K", |_, episode| {
        let raced = format::known(episode.collapse.race, |race| {
            format!("{} / {}", format::count(race.installs_2m), format::count(race.installs_4k))
        });
        plain(raced)
    }),
    figure("yields", |_, episode| plain(format::known(episode.collapse.yields, format::count))),
    figure("vCPU time lost", |scene, episode| {
        if scene.coverage.sees(Signal::FaultLatency) {
            let one_in = scene.coverage.timed_faults;
            cost(
                episode,
                |cost| cost.collapsing,
                |cost| format::estimate(cost.stall_ns, cost.stall_error(one_in)),
            )
        } else {
            plain(format::UNKNOWN.to_owned())
        }
    }),
    Entry::Phase("recovery"),
    figure("lost", |_, episode| number(episode.regions.lost, Role::Text)),
    figure("recovered", |_, episode| number(episode.regions.recovered, Role::Good)),
    figure("small again", |_, episode| number(episode.regions.refaulted_small, Role::Bad)),
    figure("still split", |_, episode| number(episode.regions.still_split, Role::Warn)),
    figure("untouched", |_, episode| number(episode.regions.unmapped(), Role::Text)),
    figure("small to the end", |_, episode| number(episode.regions.small_to_the_end, Role::Bad)),
    figure("taken away before", |_, episode| number(episode.regions.gone, Role::Text)),
    figure("time after log-off", |_, episode| {
        plain(format::known(episode.recovery_duration(), format::duration))
    }),
];

/// Draws the first of these episodes next to as many others as fit.
fn compare(buf: &mut Buffer, at: Rect, scene: &Scene, episodes: &[&Episode]) {
    let theme = scene.theme;
    let dim = theme.style(Role::Dim);
    let at = widgets::title(buf, at, theme, " phase by phase, compared with earlier episodes");
    let fits = usize::from(at.width).saturating_sub(LABELS) / WIDTH;
    let episodes = &episodes[..episodes.len().min(fits.max(1))];
    let mut head = vec![Span::raw(" ".repeat(LABELS))];
    for (place, episode) in episodes.iter().enumerate() {
        let role = if place == 0 { Role::Title } else { Role::Dim };
        let text = format::right(&format!("#{}", episode.number), WIDTH);
        head.push(Span::styled(text, theme.style(role)));
    }
    let mut lines = vec![Line::from(head)];
    // Headings are left out where not all lines would fit.
    let logs = scene.coverage.sees(Signal::PmlFull);
    let entries = ENTRIES.iter().filter(|entry| logs || !matches!(entry, Entry::PmlLine(_)));
    let headings = entries.clone().count() < usize::from(at.height);
    for entry in entries {
        match entry {
            Entry::Phase(name) if headings => {
                lines.push(Line::styled(format!(" {name}"), theme.style(Role::Title)));
            }
            Entry::Phase(_) => {}
            Entry::Line((name, value)) | Entry::PmlLine((name, value)) => {
                let mut spans =
                    vec![Span::styled(format::left(&format!("   {name}"), LABELS), dim)];
                for episode in episodes {
                    let (text, role) = value(scene, episode);
                    spans.push(Span::styled(format::right(&text, WIDTH), theme.style(role)));
                }
                lines.push(Line::from(spans));
            }
        }
    }
    widgets::paragraph(buf, at, &lines);
}
