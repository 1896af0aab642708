//! A VM over time. Plots are stretched to the width there is, so their labels are text around them.
//! Drawn by hand: plots of `plotters` have fixed sizes, those of `charming` need scripts.

use std::fmt::Write as _;

use maud::{Markup, html};

use crate::{EpisodeReport, Moment, PerMetric, Report, VmReport};
use collapse_model::{
    Metric,
    metric::{Tone, Unit},
    wording::{SIZES, bytes, capitalized, duration, mapped_bytes, narrow},
};

/// Width and height of a plot in its own units.
const SIZE: (f64, f64) = (1000.0, 100.0);

/// All plots of one VM, on one axis of time.
pub struct Plots<'a> {
    vm: &'a VmReport,
    moments: Vec<Moment>,
    /// When the window began, ns.
    origin: u64,
    /// Time shown, ns.
    from: u64,
    to: u64,
}

/// A time of dirty logging, or of recovery after it.
struct Band {
    class: &'static str,
    from: u64,
    to: u64,
    says: String,
}

impl<'a> Plots<'a> {
    pub fn new(report: &Report, vm: &'a VmReport) -> Self {
        let mut moments = vm.timeline.clone();
        if let Some(first) = moments.first().filter(|_| vm.created) {
            moments.insert(0, at_birth(vm, first));
        }
        let (from, to) =
            (moments.first().map_or(0, |m| m.at_ns), moments.last().map_or(0, |m| m.at_ns));
        Self { vm, moments, origin: report.started_ns.unwrap_or(from), from, to }
    }

    /// Nothing if there are no two moments.
    pub fn render(&self) -> Markup {
        if self.to <= self.from {
            return html! {};
        }
        html! {
            div.plots {
                @if self.moments.iter().any(|moment| moment.pages.is_some()) { (self.mappings()) }
                @for metric in Metric::gauges() { (self.line(metric)) }
                @for metric in Metric::charted() { (self.rate(metric)) }
            }
            @if !self.bands().is_empty() {
                p.legend {
                    span.key.logging {} "dirty logging "
                    span.key.recovering {} "until the last recovery"
                }
            }
        }
    }

    /// Memory by size of mapping, one on the other.
    fn mappings(&self) -> Markup {
        let known: Vec<_> = self
            .moments
            .iter()
            .filter_map(|m| Some((m.at_ns, mapped_bytes(m.pages?.into()))))
            .collect();
        // Each layer holds a size and what is larger.
        let layers = ["small", "huge", "giant"];
        let upper = |bytes: &[u64; 3], size: usize| {
            bytes[size..].iter().fold(0, |sum: u64, n| sum.saturating_add(*n))
        };
        let most = known.iter().map(|(_, mapped)| upper(mapped, 0)).max().unwrap_or(0);
        let has_giant = known.iter().any(|(_, mapped)| mapped[2] > 0);
        html! {
            figure.wide {
                figcaption {
                    "Mapped memory "
                    span.legend {
                        span.key.small {} (SIZES[0].name) " "
                        span.key.huge {} (SIZES[1].name) " "
                        @if has_giant { span.key.giant {} (SIZES[2].name) }
                    }
                }
                (self.frame(&bytes(most), "Mapped memory by size of mapping over time", &html! {
                    // What is lower is drawn later, over what is higher.
                    @for (size, class) in layers.iter().enumerate() {
                        @let points = known.iter().map(|(at, mapped)| (*at, upper(mapped, size)));
                        path class=(class) d=(self.area(points, most)) {}
                    }
                }))
            }
        }
    }

    /// A gauge over time.
    fn line(&self, metric: &Metric) -> Markup {
        let value = |moment: &Moment| Some((moment.at_ns, moment.value(metric.id)?));
        let points: Vec<_> = self.moments.iter().filter_map(value).collect();
        let most = points.iter().map(|(_, n)| *n).max().unwrap_or(0);
        let area = self.area(points.into_iter(), most);
        self.figure(metric, metric.label, &narrow::count(most), &area, most > 0)
    }

    /// The rate of a counter over time.
    fn rate(&self, metric: &Metric) -> Markup {
        let (steps, most) = self.steps(|moment| moment.value(metric.id));
        let (title, label) = match metric.unit {
            // How many vCPUs' time it is.
            Unit::Nanoseconds => (metric.label.to_owned(), duration(most as u64)),
            _ => (format!("{} per second", metric.label), narrow::rate(most)),
        };
        self.figure(metric, &title, &format!("{label}/s"), &steps, most > 0.0)
    }

    /// Nothing if there is nothing to see.
    fn figure(&self, metric: &Metric, title: &str, most: &str, path: &str, any: bool) -> Markup {
        html! {
            @if any {
                figure {
                    figcaption { (capitalized(title)) ": " span.dim { (metric.help) } }
                    (self.frame(most, title, &html! { path class=(class(metric.tone)) d=(path) {} }))
                }
            }
        }
    }

    /// A plot with its axes.
    fn frame(&self, most: &str, title: &str, inside: &Markup) -> Markup {
        let (width, height) = SIZE;
        let time = |share: f64| {
            let at = self.from + ((self.to - self.from) as f64 * share) as u64;
            format!("{:.1} s", at.saturating_sub(self.origin) as f64 / 1e9)
        };
        html! {
            div.y { (most) }
            svg role="img" aria-label=(title) viewBox={ "0 0 " (width) " " (height) }
                preserveAspectRatio="none" {
                @for band in self.bands() {
                    @let (from, to) = (self.x(band.from), self.x(band.to));
                    rect class=(band.class) x=(short(from)) y="0" width=(short((to - from).max(1.0)))
                        height=(height) { title { (band.says) } }
                }
                (inside)
            }
            div.x { @for share in [0.0, 0.5, 1.0] { span { (time(share)) } } }
        }
    }

    fn bands(&self) -> Vec<Band> {
        let episodes = self.vm.episodes.as_deref().unwrap_or_default();
        episodes.iter().flat_map(|episode| self.bands_of(episode)).collect()
    }

    fn bands_of(&self, episode: &EpisodeReport) -> Vec<Band> {
        let off = episode.log_off_ns;
        let mut bands = vec![Band {
            class: "logging",
            from: episode.start_ns,
            to: off.unwrap_or(self.to),
            says: format!("episode {}: dirty logging", episode.number),
        }];
        if let Some((off, back)) =
            off.zip(episode.last_recovery_ns).filter(|(off, back)| off < back)
        {
            let after = duration(back - off);
            bands.push(Band {
                class: "recovering",
                from: off,
                to: back,
                says: format!("episode {}: last recovery {after} after log-off", episode.number),
            });
        }
        bands
    }

    fn x(&self, at: u64) -> f64 {
        let at = at.clamp(self.from, self.to) - self.from;
        at as f64 / (self.to - self.from) as f64 * SIZE.0
    }

    /// The area under a line.
    fn area(&self, points: impl Iterator<Item = (u64, u64)>, most: u64) -> String {
        let (mut path, mut last) = (String::new(), None);
        for (at, n) in points {
            let x = short(self.x(at));
            let y = short(SIZE.1 * (1.0 - n as f64 / most.max(1) as f64));
            // Writing to a string cannot fail.
            let _ = match last {
                None => write!(path, "M{x} {} L{x} {y}", SIZE.1),
                Some(_) => write!(path, " L{x} {y}"),
            };
            last = Some(x);
        }
        if let Some(x) = last {
            let _ = write!(path, " L{x} {} Z", SIZE.1);
        }
        path
    }

    /// Rates between moments as an area with steps, and the highest of them.
    fn steps(&self, of: impl Fn(&Moment) -> Option<u64>) -> (String, f64) {
        let rates: Vec<_> = self
            .moments
            .windows(2)
            .filter_map(|pair| {
                let change = of(&pair[1])?.saturating_sub(of(&pair[0])?) as f64;
                let seconds =
                    pair[1].at_ns.checked_sub(pair[0].at_ns).filter(|ns| *ns > 0)? as f64 / 1e9;
                Some((pair[0].at_ns, pair[1].at_ns, change / seconds))
            })
            .collect();
        let most = rates.iter().map(|(_, _, rate)| *rate).fold(0.0, f64::max);
        let mut path = String::new();
        for (from, to, rate) in rates.iter().filter(|(_, _, rate)| *rate > 0.0) {
            let (from, to) = (short(self.x(*from)), short(self.x(*to)));
            let y = short(SIZE.1 * (1.0 - rate / most));
            // Writing to a string cannot fail.
            let _ = write!(path, "M{from} {h} V{y} H{to} V{h} Z", h = SIZE.1);
        }
        (path, most)
    }
}

/// A VM that was created in the window had nothing then.
fn at_birth(vm: &VmReport, first: &Moment) -> Moment {
    Moment {
        at_ns: vm.born_ns.min(first.at_ns),
        pages: vm.pages.start.filter(|_| first.pages.is_some()),
        values: PerMetric::new(|metric| first.value(metric.id).map(|_| 0)),
        logging: first.logging.map(|_| false),
    }
}

/// The class of what is of a tone.
fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => "plain",
        Tone::Small => "small",
        Tone::Huge => "huge",
        Tone::Split => "split",
        Tone::Zap => "zap",
        Tone::Fault => "fault",
    }
}

/// A coordinate to a tenth.
fn short(n: f64) -> String {
    let text = format!("{n:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}
