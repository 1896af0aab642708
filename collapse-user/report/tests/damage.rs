//! A recording of a real run, damaged in every place, and damaged files that were found to matter: what
//! is before the damage is read as it was, and nothing else happens.

#[allow(dead_code, reason = "each test uses a part")]
mod recorded;

use std::{fs, io::Cursor};

use collapse_feed::{
    Update,
    recording::{RecordingError, Replay},
};
use collapse_model::Model;

/// All updates that can be read, and why there are no more.
fn read(bytes: &[u8]) -> (Vec<String>, Option<RecordingError>) {
    let mut updates = Vec::new();
    let mut replay = match Replay::new(Cursor::new(bytes)) {
        Ok(replay) => replay,
        Err(error) => return (updates, Some(error)),
    };
    let mut model = Model::default();
    loop {
        match replay.next_update() {
            Ok(Some(update)) => {
                updates.push(summary(&update));
                model.update(&update, replay.coverage());
            }
            Ok(None) => return (updates, None),
            Err(error) => return (updates, Some(error)),
        }
    }
}

/// Enough to tell updates apart.
fn summary(update: &Update) -> String {
    match update {
        Update::Batch(batch) => {
            format!("{} {} {:?}", batch.at, batch.events.len(), batch.events.last())
        }
        other => format!("{other:?}"),
    }
}

fn recording() -> Vec<u8> {
    fs::read(recorded::fixture("failed-migration.rec")).expect("a recording")
}

/// Reads damaged bytes: something is wrong, unless the damage is past the end.
fn check(whole: &[String], damaged: &[u8]) {
    let (read, error) = read(damaged);
    assert!(error.is_some());
    assert_eq!(read, whole[..read.len()]);
}

#[test]
fn any_byte_may_be_another() {
    let bytes = recording();
    let (whole, error) = read(&bytes);
    assert!(error.is_none() && whole.len() > 5);
    for at in 0..bytes.len() {
        for bits in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= bits;
            check(&whole, &damaged);
        }
    }
}

#[test]
fn any_byte_may_be_missing_or_one_too_many() {
    let bytes = recording();
    let (whole, _) = read(&bytes);
    for at in 0..bytes.len() {
        check(&whole, &bytes[..at]);
        for more in [0, bytes[at].wrapping_add(1)] {
            let mut damaged = bytes.clone();
            damaged.insert(at, more);
            check(&whole, &damaged);
        }
    }
}

/// Files are kept that once made a reader fail, or could.
#[test]
fn the_corpus_is_survived() {
    let mut files = 0;
    for entry in fs::read_dir(recorded::fixture("corpus")).expect("the corpus") {
        let path = entry.expect("an entry").path();
        let (_, error) = read(&fs::read(&path).expect("a file"));
        assert!(error.is_some(), "{} is damaged", path.display());
        files += 1;
    }
    assert!(files >= 5, "{files}");
}
