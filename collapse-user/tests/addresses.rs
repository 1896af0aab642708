//! No output has addresses of the host unless they are asked for: whatever a recording of a real run has of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use collapse_feed::{Event, EventKind, Update, recording::Replay};
use collapse_metrics::{Exposition, Format as MetricsFormat, Options, Scene};
use collapse_model::{Model, Observer};
use collapse_report::{
    Format, Report, Style,
    events::{EventFilter, EventWriter, LineFormat},
    export::{Folded, Perfetto},
};

/// Bits of an SPTE that are a host address.
const FRAME: u64 = (1 << 51) - (1 << 12);

/// Addresses in a recording, by what they are of.
#[derive(Default)]
struct Addresses {
    /// `struct kvm`.
    kernel: BTreeSet<u64>,
    /// Memory of slots in the VMM.
    vmm: BTreeSet<u64>,
    /// SPTEs that point to memory.
    host: BTreeSet<u64>,
}

impl Addresses {
    fn of(updates: &[Update]) -> Self {
        let mut found = Self::default();
        for update in updates {
            let Update::Batch(batch) = update else { continue };
            found.kernel.extend(batch.vms.iter().map(|reading| reading.vm.kvm));
            let slots = batch.slots.iter().flat_map(|(_, slots)| slots);
            found.vmm.extend(slots.filter_map(|slot| slot.userspace_addr));
            batch.events.iter().for_each(|event| found.add(event));
        }
        found
    }

    fn add(&mut self, event: &Event) {
        match &event.kind {
            EventKind::SlotChanged { slot, .. } => self.vmm.extend(slot.userspace_addr),
            EventKind::Change(change) => {
                let sptes = change.sptes.into_iter().flat_map(|sptes| [sptes.old, sptes.new]);
                self.host.extend(sptes.filter(|spte| spte & FRAME != 0));
            }
            _ => {}
        }
    }

    fn all(&self) -> BTreeSet<u64> {
        self.kernel.iter().chain(&self.vmm).chain(&self.host).copied().collect()
    }
}

/// The first of some numbers that a text has, decimal or hexadecimal.
fn first_in_text(text: &str, numbers: &BTreeSet<u64>) -> Option<u64> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let read = words.flat_map(|word| {
        let hex = u64::from_str_radix(word.strip_prefix("0x").unwrap_or(word), 16);
        [word.parse().ok(), hex.ok()]
    });
    read.flatten().find(|number| numbers.contains(number))
}

/// The first of some numbers that a protobuf message has: whatever begins anywhere is taken for a number.
fn first_in_message(message: &[u8], numbers: &BTreeSet<u64>) -> Option<u64> {
    const MORE: u8 = 0x80;
    let number_at = |at: usize| {
        let bytes = &message[at..message.len().min(at + 10)];
        let last = bytes.iter().position(|byte| byte & MORE == 0)?;
        let bits = |(n, byte): (usize, &u8)| u64::from(byte & !MORE) << (7 * n);
        Some(bytes[..=last].iter().enumerate().map(bits).sum())
    };
    (0..message.len()).filter_map(number_at).find(|number| numbers.contains(number))
}

fn recordings() -> impl Iterator<Item = PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/recorded");
    let files = folder.read_dir().expect("a folder").map(|file| file.expect("a file").path());
    files.filter(|path| path.extension().is_some_and(|end| end == "rec"))
}

fn read(path: &Path) -> (Replay, Vec<Update>) {
    let mut replay = Replay::open(path).expect("a recording");
    let mut updates = Vec::new();
    while let Some(update) = replay.next_update().expect("a whole recording") {
        updates.push(update);
    }
    (replay, updates)
}

/// What an observer writes of all updates.
fn observed<'a, O: Observer>(
    replay: &Replay,
    updates: &[Update],
    out: &'a mut Vec<u8>,
    begin: impl FnOnce(&'a mut Vec<u8>) -> std::io::Result<O>,
) {
    let (mut model, mut observer) = (Model::default(), begin(out).expect("memory"));
    for update in updates {
        model.update_observed(update, replay.coverage(), &mut observer).expect("memory");
    }
    observer.finish(&model).expect("memory");
}

fn lines(replay: &Replay, updates: &[Update], format: LineFormat, addresses: bool) -> String {
    let mut out = Vec::new();
    let (clocks, machine) = (replay.header().clocks, replay.machine().clone());
    observed(replay, updates, &mut out, |out| {
        let filter = EventFilter::default();
        let writer = EventWriter::new(out, format, clocks, machine, replay.coverage(), filter)?;
        Ok(writer.showing_addresses(addresses))
    });
    String::from_utf8(out).expect("text")
}

/// Every text of a recording, by what makes it.
fn texts(replay: &Replay, updates: &[Update]) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for format in [LineFormat::Json, LineFormat::Csv] {
        texts.insert(format!("events: {format:?}"), lines(replay, updates, format, false));
    }
    let mut folded = Vec::new();
    observed(replay, updates, &mut folded, |out| Ok(Folded::new(out)));
    texts.insert("folded".to_owned(), String::from_utf8(folded).expect("text"));

    let (coverage, machine) = (replay.coverage(), replay.machine());
    let mut model = Model::default();
    for (at, update) in updates.iter().enumerate() {
        model.update(update, coverage);
        // While VMs are there, which metrics are about.
        if at == updates.len() / 2 {
            let kernel = machine.kernel.as_str();
            let scene = Scene { model: &model, coverage, kernel, version: "1" };
            let exposition = Arc::new(Exposition::new(&scene, Options::default()));
            let text = MetricsFormat::OpenMetrics.write(&exposition).expect("memory");
            texts.insert("metrics".to_owned(), text);
        }
    }
    let report = Report::new(&model, coverage, machine.clone(), None);
    for format in
        [Format::Text, Format::Json, Format::Markdown, Format::Html, Format::Junit, Format::Csv]
    {
        let text = format.write(&report, Style::Plain).expect("a report");
        texts.insert(format!("report: {format:?}"), text);
    }
    texts
}

#[test]
fn no_output_has_addresses_unless_they_are_asked_for() {
    let mut kinds = [0; 3];
    for path in recordings() {
        let (replay, updates) = read(&path);
        let found = Addresses::of(&updates);
        for (sum, set) in kinds.iter_mut().zip([&found.kernel, &found.vmm, &found.host]) {
            *sum += set.len();
        }
        let addresses = found.all();
        for (name, text) in texts(&replay, &updates) {
            let first = first_in_text(&text, &addresses);
            assert_eq!(first, None, "{name} of {}", path.display());
        }
        let mut trace = Vec::new();
        let clocks = replay.header().clocks;
        observed(&replay, &updates, &mut trace, |out| Perfetto::new(out, clocks));
        assert_eq!(first_in_message(&trace, &addresses), None, "trace of {}", path.display());
        for format in [LineFormat::Json, LineFormat::Csv] {
            let shown = first_in_text(&lines(&replay, &updates, format, true), &found.host);
            assert_eq!(shown.is_some(), !found.host.is_empty(), "{}", path.display());
        }
    }
    assert!(kinds.iter().all(|n| *n > 0), "recordings have some of each kind: {kinds:?}");
}
