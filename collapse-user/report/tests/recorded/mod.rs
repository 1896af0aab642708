//! The recordings of real runs that are kept with the tests.

use std::path::PathBuf;

use collapse_feed::recording::Replay;
use collapse_model::{Model, Observer};

/// A file that is kept.
pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/recorded").join(name)
}

/// Opens a recording.
pub fn open(name: &str) -> Replay {
    Replay::open(&fixture(&format!("{name}.rec"))).expect("a recording")
}

/// Reads a recording to its end with an observer looking on, which it finishes.
pub fn observed(replay: &mut Replay, observer: &mut impl Observer) -> Model {
    let mut model = Model::default();
    while let Some(update) = replay.next_update().expect("a whole recording") {
        model.update_observed(&update, replay.coverage(), observer).expect("memory");
    }
    observer.finish(&model).expect("memory");
    model
}
