//! The recording of a real run that is kept with the tests.

use std::path::PathBuf;

use collapse_feed::{Update, recording::Replay};
use collapse_model::Model;

/// A file that is kept.
pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/recorded").join(name)
}

/// Opens it.
pub fn open() -> Replay {
    Replay::open(&fixture("failed-migration.rec")).expect("a recording")
}

/// Reads it to its end, and what it adds up to; `each` sees every update once the model has taken it.
pub fn replayed(mut each: impl FnMut(&Update, &Model)) -> (Replay, Model) {
    let (mut replay, mut model) = (open(), Model::default());
    while let Some(update) = replay.next_update().expect("a whole recording") {
        model.update(update.clone());
        each(&update, &model);
    }
    (replay, model)
}
