//! Whatever a recording claims, every output survives it.

#![allow(clippy::unwrap_used, reason = "what cannot be unwrapped fails the test")]

use std::io;

use collapse_feed::{
    Update,
    fixtures::{batches, machine, patchy_coverage as coverage, read, record},
    recording::{Clocks, SizeLimits},
};
use collapse_model::{Model, Observer};
use collapse_report::{
    Format, Report, Style,
    events::{EventFilter, EventWriter, LineFormat, RegionSample},
    export::{Folded, Perfetto},
};
use proptest::prelude::*;

/// Everything that is made of updates.
fn show(updates: impl IntoIterator<Item = Update>) {
    let clocks = Clocks { monotonic: 5, wall: 7 };
    let filter = EventFilter { sample: Some(RegionSample(2)), ..EventFilter::default() };
    let lines =
        EventWriter::new(io::sink(), LineFormat::Csv, clocks, machine(), &coverage(), filter);
    let mut lines = lines.unwrap();
    let mut trace = Perfetto::new(io::sink(), clocks).unwrap();
    let mut folded = Folded::new(io::sink());
    let mut models: [Model; 3] = Default::default();
    for update in updates {
        let outputs: [&mut dyn Observer; 3] = [&mut lines, &mut trace, &mut folded];
        for (output, model) in outputs.into_iter().zip(&mut models) {
            model.update_observed(&update, &coverage(), output).unwrap();
        }
    }
    let outputs: [&mut dyn Observer; 3] = [&mut lines, &mut trace, &mut folded];
    for (output, model) in outputs.into_iter().zip(&models) {
        output.finish(model).unwrap();
    }
    let [model, ..] = models;
    let report = Report::new(&model, &coverage(), machine(), None);
    for format in [Format::Text, Format::Json, Format::Html, Format::Csv] {
        format.write(&report, Style::Plain).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever counts and places a recording claims, they can be modelled and shown.
    #[test]
    fn what_is_read_can_be_shown(batches in batches()) {
        let (read, _) = read(&record(&batches, SizeLimits::default(), None));
        prop_assert_eq!(read.len(), batches.len());
        show(read.into_iter().map(Update::Batch));
    }
}
