//! The way of every update: tap, model, observer.

use std::mem;

use crate::{
    exit::Failure,
    findings::Thresholds,
    model::{Model, Observer},
    output::{Guarded, written},
    plan::Coverage,
    source::{Update, recording::RecordedCommand},
};

use super::Tap;

/// Takes updates to the model, past a tap before it and an observer behind it, if there are any.
#[derive(Default)]
pub struct Pipeline {
    /// Everything known so far.
    pub model: Model,
    tap: Option<Tap>,
    observer: Option<Watching>,
}

/// An observer, and where it writes.
struct Watching {
    observer: Guarded<Box<dyn Observer>>,
    output: String,
}

impl Pipeline {
    /// A pipeline whose updates are recorded.
    pub fn tapped(tap: Tap) -> Self {
        Self { tap: Some(tap), ..Self::default() }
    }

    /// A pipeline with an observer, which writes to the named output.
    pub fn observed(output: String, observer: impl Observer + 'static) -> Self {
        let observer = Guarded::new(Box::new(observer) as Box<dyn Observer>);
        Self { observer: Some(Watching { observer, output }), ..Self::default() }
    }

    /// Reports findings beyond these limits.
    #[must_use]
    pub fn diagnosing(mut self, thresholds: Thresholds) -> Self {
        self.model.thresholds = thresholds;
        self
    }

    /// Takes an update. The model takes it even if an output fails.
    pub fn take(&mut self, update: &Update, coverage: &Coverage) {
        let Self { model, tap, observer } = self;
        if let Some(tap) = tap {
            tap.record(update, coverage);
        }
        match observer {
            Some(Watching { observer, .. }) if !observer.has_failed() => {
                observer.write(|observer| model.update_observed(update, coverage, &mut **observer));
            }
            _ => model.update(update, coverage),
        }
        if let Some(tap) = tap {
            tap.look(model);
        }
    }

    /// Whether no output wants more updates, where there is any.
    pub fn is_done(&self) -> bool {
        let observed = self.observer.as_ref().is_some_and(|Watching { observer, .. }| {
            observer.has_failed() || observer.get().is_done()
        });
        observed || self.tap.as_ref().is_some_and(Tap::is_done)
    }

    /// Completes the outputs of a window, in which this command ran, if any; returns the first error of
    /// writing.
    pub fn finish(&mut self, command: Option<&RecordedCommand>) -> Result<(), Failure> {
        let Self { model, tap, observer } = self;
        let recorded = mem::take(tap).map_or(Ok(()), |tap| tap.finish(command));
        let observed = mem::take(observer).map_or(Ok(()), |Watching { observer, output }| {
            written(observer.finish(|observer| observer.finish(model)), &output)
        });
        recorded.and(observed)
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, io, rc::Rc};

    use super::*;
    use crate::{
        exit::Exit,
        plan::Mmu,
        source::{Batch, Event},
    };

    /// Counts calls, and fails at the second reading.
    struct Failing(Rc<Cell<u32>>);

    impl Observer for Failing {
        fn event(&mut self, _: &Event, _: Option<&crate::model::Vm>) -> io::Result<()> {
            unreachable!("there are no events")
        }

        fn reading(&mut self, _: &Update, _: &Model, _: &Coverage) -> io::Result<()> {
            self.0.set(self.0.get() + 1);
            if self.0.get() == 2 { Err(io::Error::other("disk full")) } else { Ok(()) }
        }

        fn finish(&mut self, _: &Model) -> io::Result<()> {
            Err(io::Error::other("second error"))
        }
    }

    #[test]
    fn the_model_goes_on_after_an_output_failed() {
        let coverage = collapse_feed::fixtures::full_coverage(Mmu::Tdp);
        let calls = Rc::new(Cell::new(0));
        let mut pipeline = Pipeline::observed("a file".to_owned(), Failing(Rc::clone(&calls)));
        for at in 1..=4 {
            pipeline.take(&Update::Batch(Batch { at, ..Batch::default() }), &coverage);
            assert_eq!(pipeline.is_done(), at >= 2);
        }
        assert_eq!((pipeline.model.now, calls.get()), (4, 2));
        let failure = pipeline.finish(None).unwrap_err();
        assert_eq!(failure.exit, Exit::Output);
        assert_eq!(failure.to_string(), "cannot write a file: disk full");
    }
}
