//! Bars: causes, and histograms of durations.

use collapse_common::latency::bucket;
use maud::{Markup, html};

use crate::{Counts, HistogramReport, LatencyReport, VmReport, words};
use collapse_model::wording::{duration, narrow};

/// Causes of each kind of change.
pub fn causes(vm: &VmReport) -> Markup {
    html! {
        div {
            @for (metric, counts) in vm.changes.iter() {
                @if counts.total > 0 { (of_counts(metric.label, counts)) }
            }
        }
    }
}

fn of_counts(name: &str, counts: &Counts) -> Markup {
    let mut causes: Vec<_> = counts.by_cause.iter().collect();
    causes.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let most = causes.first().map_or(1, |(_, n)| **n).max(1);
    html! {
        table.bars {
            caption { "Causes of " (name) " " span.dim { (counts.total) } }
            tbody {
                @for (cause, n) in causes {
                    tr {
                        td { (cause) }
                        td.n { (n) }
                        td.bar {
                            svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true" {
                                rect width=(format!("{:.1}", *n as f64 / most as f64 * 100.0)) height="10" {}
                            }
                        }
                    }
                }
            }
        }
    }
}

/// How long faults took, and how long regions were without what they lost.
pub fn histograms(vm: &VmReport) -> Markup {
    html! {
        div {
            @if let Some(latency) = &vm.latency { (histogram(&fault_latency(latency), &latency.total)) }
            (histogram("Time to recover", &vm.time_to_recover))
            (histogram("Time to recover, from the loss", &vm.time_to_recover_from_loss))
            (histogram("Time to refault", &vm.time_to_refault))
        }
    }
}

fn fault_latency(latency: &LatencyReport) -> String {
    match latency.timed_one_in {
        0 | 1 => "Fault latency".to_owned(),
        n => format!("Fault latency, one in {n} timed"),
    }
}

/// Nothing if it is empty. Heights are logarithmic, so that what is rare is seen too.
fn histogram(title: &str, histogram: &HistogramReport) -> Markup {
    let (Some((first, _)), Some((last, _))) = (histogram.buckets.first(), histogram.buckets.last())
    else {
        return html! {};
    };
    let (from, to) = (bucket(*first), bucket(*last));
    let columns = (to - from + 1) as f64;
    let most = histogram.buckets.iter().map(|(_, n)| *n).max().unwrap_or(1);
    let height = |n: u64| (n as f64).ln_1p() / (most as f64).ln_1p() * 100.0;
    let (shortest, longest) =
        (histogram.min_ns.unwrap_or(*first), histogram.max_ns.unwrap_or(*last));
    html! {
        figure {
            figcaption { (title) " " span.dim { (histogram.count) ": " (words::spread(histogram)) } }
            div.y { (narrow::count(most)) }
            svg role="img" aria-label=(title) viewBox="0 0 1000 100" preserveAspectRatio="none" {
                @for (bound, n) in &histogram.buckets {
                    @let at = (bucket(*bound) - from) as f64;
                    rect.column x=(format!("{:.1}", at / columns * 1000.0 + 2.0))
                        width=(format!("{:.1}", (1000.0 / columns - 4.0).max(2.0)))
                        y=(format!("{:.1}", 100.0 - height(*n))) height=(format!("{:.1}", height(*n))) {
                        title { "from " (duration(*bound)) ": " (n) }
                    }
                }
            }
            div.x { span { (duration(shortest)) } span { (duration(longest)) } }
        }
    }
}
