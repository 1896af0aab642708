//! Histograms of durations.

use collapse_common::latency::{bucket, lower_bound};
use ratatui::text::{Line, Span};

use crate::tui::{
    format,
    theme::{Role, Theme},
};
use collapse_model::Histogram;

/// A histogram as a line of quantiles and the mean, and a bar per bucket, or per octave if that takes too many
/// lines.
pub fn spread(
    histogram: &Histogram,
    theme: Theme,
    role: Role,
    columns: usize,
    rows: usize,
) -> Vec<Line<'static>> {
    let dim = theme.style(Role::Dim);
    let count = histogram.count();
    if count == 0 {
        return vec![Line::styled("none yet", dim)];
    }
    let quantile = |p| format::known(histogram.quantile(p), format::duration);
    let most = if histogram.is_exact() { "" } else { "≤" };
    let summary = format!(
        "{}  p50 {}  p90 {}  p99 {}  max {most}{}  mean {}",
        format::count(count),
        quantile(0.5),
        quantile(0.9),
        quantile(0.99),
        format::known(histogram.max(), format::duration),
        format::known(histogram.mean(), format::duration),
    );
    let mut lines = vec![Line::from(summary)];
    let buckets = merged(histogram, rows.saturating_sub(1));
    let most = buckets.iter().map(|(_, n)| *n).max().unwrap_or(1);
    let room = columns.saturating_sub(16);
    for (from, n) in buckets {
        let cells = (u128::from(n) * room as u128 / u128::from(most)) as usize;
        lines.push(Line::from(vec![
            Span::styled(format::right(&format::duration(from), 7), dim),
            Span::raw(" "),
            Span::styled("█".repeat(cells.max(usize::from(n > 0))), theme.style(role)),
            Span::raw(format!(" {}", format::count(n))),
        ]));
    }
    lines
}

/// The buckets from the first to the last that holds any, merged until they fit `rows` rows.
fn merged(histogram: &Histogram, rows: usize) -> Vec<(u64, u64)> {
    let places: Vec<_> = histogram.buckets().map(|(from, n)| (bucket(from), n)).collect();
    let (Some((first, _)), Some((last, _))) = (places.first(), places.last()) else {
        return Vec::new();
    };
    if rows == 0 {
        return Vec::new();
    }
    let width = (last - first + 1).div_ceil(rows);
    let mut rows = vec![0; (last - first) / width + 1];
    for (place, n) in &places {
        rows[(place - first) / width] += n;
    }
    (0..).zip(rows).map(|(row, n)| (lower_bound(first + row * width), n)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_merged_to_fit() {
        let mut histogram = Histogram::default();
        for ns in [200, 1_000, 1_000, 40_000, 9_000_000] {
            histogram.add(ns);
        }
        let rows = merged(&histogram, 5);
        assert!(rows.len() <= 5);
        assert_eq!(rows.iter().map(|(_, n)| n).sum::<u64>(), 5);
        assert_eq!(merged(&histogram, 0), []);
    }
}
