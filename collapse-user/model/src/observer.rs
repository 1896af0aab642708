//! Outputs that look on while a model takes updates.

use std::io;

use collapse_feed::{Coverage, Event, Update};

use crate::{Model, Vm};

/// An output that is made from a model as it takes updates. For each update, the calls come in the
/// order of the methods here, so that an output need not pass anything on.
pub trait Observer {
    /// Kernel stacks that events refer to from now on: numbers, and function names from the innermost
    /// outwards. Programs that were attached again number their stacks from zero.
    fn stacks(&mut self, _: &[(u32, Vec<String>)]) {}

    /// An event of the update, and the VM as the event leaves it; `None` if the model does not know
    /// it.
    fn event(&mut self, _: &Event, _: Option<&Vm>) -> io::Result<()> {
        Ok(())
    }

    /// The model has taken the whole update.
    fn reading(&mut self, update: &Update, model: &Model, coverage: &Coverage) -> io::Result<()>;

    /// Whether the output is complete and more updates would not change it.
    fn is_done(&self) -> bool {
        false
    }

    /// The window is over.
    fn finish(&mut self, model: &Model) -> io::Result<()>;
}

impl Model {
    /// Takes an update, with an observer looking on. The model takes it whole even where the observer
    /// fails, with the error that is returned.
    pub fn update_observed(
        &mut self,
        update: &Update,
        coverage: &Coverage,
        observer: &mut (impl Observer + ?Sized),
    ) -> io::Result<()> {
        let mut result = Ok(());
        if let Update::Batch(batch) = update {
            observer.stacks(&batch.stacks);
            self.sight = coverage.into();
            self.apply_seen(batch, &mut |event, vm| {
                if result.is_ok() {
                    result = observer.event(event, vm);
                }
            });
        } else {
            self.update(update, coverage);
        }
        result?;
        observer.reading(update, self, coverage)
    }
}
