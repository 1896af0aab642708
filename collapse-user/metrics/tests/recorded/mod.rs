//! Expositions of recordings of real runs.

use std::{collections::BTreeMap, env, path::PathBuf, sync::Arc};

use collapse_feed::recording::Replay;
use collapse_metrics::{Exposition, Options, Scene};
use collapse_model::Model;

/// A recording that is kept, read until `enough` says so, or to its end.
pub fn read(name: &str, mut enough: impl FnMut(&Model) -> bool) -> (Replay, Model) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = path.join("../tests/fixtures/recorded").join(name);
    let (mut replay, mut model) = (Replay::open(&path).expect("a recording"), Model::default());
    while let Some(update) = replay.next_update().expect("a whole recording") {
        model.update(&update, replay.coverage());
        if enough(&model) {
            break;
        }
    }
    (replay, model)
}

/// What is exported of it, with series of their own for some VMs.
pub fn exposition(replay: &Replay, model: &Model, max_vms: usize) -> Arc<Exposition> {
    let (coverage, kernel) = (replay.coverage(), replay.machine().kernel.as_str());
    let scene = Scene { model, coverage, kernel, version: "1.2.3" };
    Arc::new(Exposition::new(&scene, Options { max_vms }))
}

/// Samples by name and labels.
pub fn samples(text: &str) -> BTreeMap<String, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let samples = samples.map(|line| {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        (name.to_owned(), value.parse().expect("a number"))
    });
    let mut unique = BTreeMap::new();
    for (name, value) in samples {
        assert!(unique.insert(name.clone(), value).is_none(), "{name} is there twice");
    }
    unique
}
