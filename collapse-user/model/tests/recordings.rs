//! Recordings, and the model of what is read from them.

#![allow(clippy::unwrap_used, reason = "what cannot be unwrapped fails the test")]

use std::time::Duration;

use collapse_feed::{
    Event, EventKind, Slot, SlotChange, Update,
    fixtures::{key, machine, patchy_coverage as coverage, read, record, reloaded, seconds},
    recording::{Recorder, Replay, SizeLimits, create},
};
use collapse_model::Model;

/// What a model looks like that took these updates one after the other.
fn modelled(updates: impl IntoIterator<Item = Update>) -> Model {
    let mut model = Model::default();
    for update in updates {
        model.update(&update, &coverage());
    }
    model
}

#[test]
fn a_reload_of_kvm_adds_up_to_the_same() {
    let updates = reloaded(seconds(9));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recording");
    for keep_last in [None, Some(Duration::from_secs(2))] {
        let limits = SizeLimits { max_size: None, keep_last };
        let file = create(&path).unwrap();
        let mut recorder = Recorder::new(file, &path, machine(), &coverage(), limits).unwrap();
        for update in &updates {
            recorder.update(update, &coverage()).unwrap();
        }
        recorder.finish(None).unwrap();
        let mut replay = Replay::open(&path).unwrap();
        let mut read = Vec::new();
        while let Some(update) = replay.next_update().unwrap() {
            read.push(update);
        }
        assert_eq!(replay.machine(), &machine());
        if keep_last.is_none() {
            let (read, told) = (modelled(read), modelled(updates.clone()));
            assert_eq!(format!("{read:#?}"), format!("{told:#?}"));
        } else {
            let model = modelled(read);
            // Of the last programs, and of those before that are still in it.
            assert!(model.reloads > 0 && model.losses["ring_full_changes"] >= 5);
        }
    }
}

#[test]
fn what_held_before_the_latest_is_known() {
    let slot = Slot { id: 3, as_id: 0, base_gfn: 0, npages: 512, flags: 1, userspace_addr: None };
    let on = EventKind::SlotChanged { slot, change: SlotChange::LogOn, logging: true };
    let mut batches = seconds(50);
    batches[0].events.push(Event { ts: 999_999_999, vm: key(1), tid: 1, kind: on });
    let keep_last = Some(Duration::from_secs(5));
    let (kept, _) = read(&record(&batches, SizeLimits { max_size: None, keep_last }, None));
    let model = modelled(kept.into_iter().map(Update::Batch));
    let vm = &model.vms[&key(1)];
    assert!(vm.logging && vm.episodes.kept().next().unwrap().began_before);
}
