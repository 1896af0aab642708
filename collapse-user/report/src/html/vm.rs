//! One VM's section.

use collapse_common::abi::Pages;
use maud::{Markup, html};

use super::{bars, memory, plot::Plots};
use crate::{EpisodeReport, Report, VmReport, words};
use collapse_model::{
    Standing,
    wording::{self, SIZES, known, mapped_shares, percent},
};

/// Episodes and collapse runs listed.
const LISTED: usize = 20;

/// How a VM fared, as a class.
pub fn mood(vm: &VmReport) -> &'static str {
    match words::standing(vm) {
        Standing::Unaffected => "none",
        Standing::Good => "good",
        Standing::Waiting => "fair",
        Standing::Bad => "bad",
    }
}

/// The section.
pub fn section(report: &Report, vm: &VmReport) -> Markup {
    html! {
        section id={ "vm-" (vm.born_ns) } {
            h2 { (words::name(vm)) " " small { (words::identity(vm)) } }
            (tiles(vm))
            (Plots::new(report, vm).render())
            div.columns {
                (bars::causes(vm))
                (bars::histograms(vm))
            }
            (memory::maps(vm))
            (tables(vm))
        }
    }
}

/// The figures that matter most.
fn tiles(vm: &VmReport) -> Markup {
    let percent = |rate: Option<f64>| known(rate.map(percent));
    let regions = &vm.regions.counts;
    let untouched = regions.unmapped() > 0 && words::standing(vm) == Standing::Good;
    let (rate, of) = if untouched {
        (vm.recovery_rate_touched, format!("of {} touched since", regions.touched()))
    } else {
        (vm.recovery_rate, format!("of {} that could come back", regions.could_return()))
    };
    html! {
        div.tiles {
            div class=(mood(vm)) {
                span { "recovered" }
                strong { (percent(rate)) }
                span { (regions.recovered) " " (of) }
            }
            div {
                span { "back after" }
                strong { (shown(vm.time_to_recover.p50_ns)) }
                span {
                    "median; " (shown(vm.time_to_recover.max_ns)) " at most; "
                    (shown(vm.time_to_recover_from_loss.p50_ns)) " from the loss"
                }
            }
            div {
                span { "vCPU time lost to faults" }
                strong { (known(vm.stall.as_ref().map(words::lost))) }
                span { (known(vm.faults.as_ref().map(|faults| faults.total))) " faults" }
            }
            div class=(mood(vm)) {
                span { "not recovered" }
                strong { (regions.small_now() + regions.small_to_the_end) }
                span {
                    (regions.small_now()) " small now, " (regions.small_to_the_end) " to the end; "
                    (regions.unmapped()) " not touched since"
                }
            }
            div {
                span { "taken away" }
                strong { (regions.taken_away + regions.gone) }
                span { (regions.taken_away) " huge, " (regions.gone) " before they could come back" }
            }
        }
    }
}

fn tables(vm: &VmReport) -> Markup {
    html! {
        div.columns {
            (mappings(vm))
            div.scroll { table {
                caption { "Changes" }
                thead { tr { th { "kind" } th.n { "number" } th { "by size" } } }
                tbody {
                    @for (metric, counts) in vm.changes.iter() {
                        tr { td { (metric.label) } td.n { (counts.total) } td { (words::levels(counts)) } }
                    }
                    tr {
                        td { "recoveries" }
                        td.n { (vm.recoveries.total) }
                        td { (words::ways(&vm.recoveries)) }
                    }
                    @if vm.became_huge.total > 0 {
                        tr {
                            td { "became huge" }
                            td.n { (vm.became_huge.total) }
                            td { (words::gains(&vm.became_huge)) }
                        }
                    }
                    tr {
                        td { "guest faults" }
                        @match &vm.faults {
                            Some(faults) => { td.n { (faults.total) } td { (words::kinds(faults)) } }
                            None => { td.n { "–" } td {} }
                        }
                    }
                    @if let Some((all, listed)) = words::longest(vm) {
                        tr { td { "long faults" } td.n { (all) } td { (listed) } }
                    }
                    @for (name, count, means) in words::waits(vm) {
                        tr { td { (name) } td.n { (count) } td { (means) } }
                    }
                    @if let Some(exits) = vm.ring_full_exits.filter(|exits| *exits > 0) {
                        tr {
                            td { (words::RINGS_FULL) }
                            td.n { (exits) }
                            td { (words::RING_FULL) }
                        }
                    }
                    tr { td { "dirty logging" } td.n {} td { (words::dirty_logging(vm)) } }
                    @if let Some((exits, time)) = words::pml_full_row(vm) {
                        tr { td { "PML-full exits" } td.n { (exits) } td { (time) } }
                    }
                }
            } }
        }
        (operations(vm))
        (episodes(vm.episodes.as_deref().unwrap_or_default()))
        @if let Some(spans) = vm.collapse_spans.as_deref().filter(|spans| !spans.is_empty()) {
            details {
                summary { "Runs of the collapse routine: " (known(vm.collapse_runs)) }
                ul { @for line in words::spans(spans, LISTED) { li { (line) } } }
            }
        }
    }
}

fn operations(vm: &VmReport) -> Markup {
    html! {
        @if !vm.operations.is_empty() {
            div.scroll { table {
                caption { "KVM's operations" }
                thead { tr {
                    th { "cause" } th.n { "calls" } th.n { "time" } th.n { "the longest" }
                } }
                tbody {
                    @for (cause, time) in &vm.operations {
                        tr {
                            td { (cause) }
                            td.n { (time.calls) }
                            td.n { (wording::duration(time.total_ns)) }
                            td.n { (shown(time.longest_ns)) }
                        }
                    }
                }
            } }
        }
    }
}

fn mappings(vm: &VmReport) -> Markup {
    let (start, end) = (vm.pages.start.map(Pages::from), vm.pages.end.map(Pages::from));
    let residual = vm.pages.residual.map(<[i64; 3]>::from);
    let shares = end.and_then(mapped_shares);
    html! {
        div.scroll { table {
            caption { "Mappings" }
            thead { tr {
                th { "size" }
                th.n { "start" }
                th.n { (words::pages_at(vm)) }
                th.n { "share" }
                th.n { "residual" }
            } }
            tbody {
                @for (place, size) in SIZES.iter().enumerate() {
                    tr {
                        td { (size.name) }
                        td.n { (known(start.map(|pages| pages[place]))) }
                        td.n { (known(end.map(|pages| pages[place]))) }
                        td.n { (known(shares.map(|shares| percent(shares[place])))) }
                        td.n { (known(residual.map(|residual| residual[place]))) }
                    }
                }
            }
        } }
    }
}

fn episodes(episodes: &[EpisodeReport]) -> Markup {
    let pml_full = |episode: &EpisodeReport| episode.cost.and_then(|cost| cost.pml_full);
    let logs = episodes.iter().any(|episode| pml_full(episode).is_some());
    html! {
        @if !episodes.is_empty() {
            div.scroll { table {
                caption { "Episodes of dirty logging" }
                thead { tr {
                    th.n { "#" } th.n { "logging" } th.n { "lost" } th.n { "recovered" }
                    th.n { "last after" } th.n { "faults" }
                    @if logs { th.n { "PML-full exits" } th.n { "time in them" } }
                    th { "outcome" }
                } }
                tbody {
                    @for episode in latest(episodes) {
                        tr {
                            td.n { (episode.number) }
                            td.n { (shown(episode.logging_duration_ns)) }
                            td.n { (episode.regions.lost) }
                            td.n { (episode.regions.recovered) }
                            td.n { (shown(episode.recovery_duration_ns)) }
                            td.n { (known(episode.cost.map(|cost| {
                                cost.logging.faults + cost.collapsing.faults
                            }))) }
                            @if logs {
                                td.n { (known(pml_full(episode).map(|exits| exits.total))) }
                                td.n { (shown(pml_full(episode).map(|exits| exits.time_ns))) }
                            }
                            td { (wording::outcome(episode.outcome)) }
                        }
                    }
                }
            } }
        }
    }
}

fn shown(ns: Option<u64>) -> String {
    known(ns.map(wording::duration))
}

fn latest<T>(all: &[T]) -> &[T] {
    &all[all.len().saturating_sub(LISTED)..]
}
