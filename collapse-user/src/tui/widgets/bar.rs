//! Mapped memory by size of mapping: the taller, the larger.

use collapse_common::abi::Pages;
use ratatui::text::Span;

use crate::tui::{
    format,
    theme::{Role, Theme},
};
use collapse_model::wording::{self, PageSize, mapped_bytes, mapped_sum};

/// Glyphs and colours of the sizes of mappings, smallest first.
pub const SIZES: [(&str, Role); 3] = [("▁", Role::Small), ("▅", Role::Huge), ("█", Role::Giant)];

/// How many mappings of each size there are, the largest first, each after its glyph.
pub fn sizes(pages: Option<Pages>, theme: Theme) -> Vec<Span<'static>> {
    let sizes = wording::SIZES.iter().zip(SIZES).enumerate().rev();
    let spans = sizes.flat_map(|(size, (PageSize { short, .. }, (glyph, role)))| {
        [
            Span::styled(format!("  {glyph} "), theme.style(role)),
            Span::styled(format!("{short} "), theme.style(Role::Dim)),
            Span::raw(format::known(pages.map(|pages| pages[size]), format::count)),
        ]
    });
    spans.collect()
}

/// The part of what is mapped that is mapped huge.
pub fn huge(pages: Option<Pages>) -> String {
    format::known(pages, |pages| {
        let [_, huge, giant] = mapped_bytes(pages);
        format::share(huge.saturating_add(giant), mapped_sum(pages))
    })
}

/// The part of what is mapped that each size has, the largest first.
pub fn parts(pages: Option<Pages>, theme: Theme) -> Vec<Span<'static>> {
    let sizes = wording::SIZES.iter().zip(SIZES).enumerate().rev();
    let spans = sizes.flat_map(|(size, (PageSize { short, .. }, (glyph, role)))| {
        let part = |pages| format::share(mapped_bytes(pages)[size], mapped_sum(pages));
        [
            Span::styled(format!("  {glyph} "), theme.style(role)),
            Span::styled(format!("{short} "), theme.style(Role::Dim)),
            Span::raw(format::known(pages, part)),
        ]
    });
    spans.collect()
}

/// So many columns, shared among the sizes by the memory they map; what maps anything has one at
/// least, if there is room.
pub fn bar(pages: Option<Pages>, columns: usize, theme: Theme) -> Vec<Span<'static>> {
    let bytes = pages.map(mapped_bytes).unwrap_or_default();
    let mut spans = Vec::new();
    let mut used = 0;
    for (size, cells) in shares(bytes, columns).into_iter().enumerate().rev() {
        let (glyph, role) = SIZES[size];
        if cells > 0 {
            spans.push(Span::styled(glyph.repeat(cells), theme.style(role)));
            used += cells;
        }
    }
    spans.push(Span::raw(" ".repeat(columns - used)));
    spans
}

fn shares(bytes: [u64; 3], columns: usize) -> [usize; 3] {
    let sum: u128 = bytes.iter().map(|bytes| u128::from(*bytes)).sum();
    if sum == 0 {
        return [0; 3];
    }
    let mut cells = bytes.map(|bytes| {
        let cells = (u128::from(bytes) * columns as u128 / sum) as usize;
        cells.max(usize::from(bytes > 0))
    });
    // What rounding left over or took too much goes to the largest, whose share it changes least.
    let largest = (0..3).max_by_key(|size| bytes[*size]).unwrap_or_default();
    let others: usize = (0..3).filter(|size| *size != largest).map(|size| cells[size]).sum();
    if others > columns {
        cells = [0; 3];
        cells[largest] = columns;
    } else {
        cells[largest] = columns - others;
    }
    cells
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_little_is_not_nothing() {
        assert_eq!(shares([4096, 64 << 20, 0], 10), [1, 9, 0]);
        assert_eq!(shares([64 << 20, 0, 0], 10), [10, 0, 0]);
        assert_eq!(shares([0, 0, 0], 10), [0; 3]);
    }

    proptest! {
        #[test]
        fn a_bar_fills_its_columns(pages: [u64; 3], columns in 0usize..50) {
            let cells = shares(mapped_bytes(pages), columns);
            let filled = cells.iter().sum::<usize>();
            prop_assert!(filled == columns || pages == [0; 3]);
        }
    }
}
