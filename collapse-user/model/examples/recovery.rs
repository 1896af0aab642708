//! Prints what became of each VM's huge pages in a recording:
//! `cargo run -p collapse-model --example recovery -- FILE`.
//!
//! A program that reads recordings needs the crates of the feed and of the model only.

use std::{env, error::Error, path::Path};

use collapse_feed::recording::{RecordingError, Replay};
use collapse_model::Model;

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args_os().nth(1).ok_or("usage: recovery FILE")?;
    for line in recovery(Path::new(&path))? {
        println!("{line}");
    }
    Ok(())
}

/// Reads a recording to its end, and describes each VM in a line.
fn recovery(path: &Path) -> Result<Vec<String>, RecordingError> {
    let mut replay = Replay::open(path)?;
    let mut model = Model::default();
    while let Some(update) = replay.next_update()? {
        model.update(&update, replay.coverage());
    }
    let lines = model.vms.values().map(|vm| {
        let name = vm.process.as_ref().map_or("unknown VM", |process| &process.name.text);
        let (regions, episodes) = (vm.regions.counts(), vm.episodes.count());
        format!(
            "{name}: {} huge pages lost, {} recovered; episodes: {episodes}",
            regions.lost, regions.recovered
        )
    });
    Ok(lines.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The guest of this recording went through one failed migration, after which it touched all of
    /// its memory.
    #[test]
    fn a_failed_migration_is_recovered_from() {
        let recorded =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/recorded/failed-migration.rec");
        let lines = recovery(Path::new(recorded)).expect("a recording");
        assert_eq!(lines, ["workload: 32 huge pages lost, 32 recovered; episodes: 1"]);
    }
}
