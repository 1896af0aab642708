//! The trace for Perfetto of a real run, read by another implementation of protocol buffers. Field numbers
//! are those of Perfetto's own definitions.

mod recorded;

use std::collections::BTreeMap;

use collapse_report::export::Perfetto;
use quick_protobuf::BytesReader;

/// A message: what each field has, in order.
#[derive(Debug)]
struct Message(BTreeMap<u32, Vec<Field>>);

#[derive(Clone, Debug)]
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

impl Message {
    fn new(bytes: &[u8]) -> Self {
        let mut reader = BytesReader::from_bytes(bytes);
        let mut fields: BTreeMap<u32, Vec<Field>> = BTreeMap::new();
        while !reader.is_eof() {
            let tag = reader.next_tag(bytes).expect("a tag");
            let field = match tag & 7 {
                0 => Field::Number(reader.read_uint64(bytes).expect("a number")),
                1 => Field::Number(reader.read_fixed64(bytes).expect("a number")),
                2 => Field::Bytes(reader.read_bytes(bytes).expect("bytes").to_vec()),
                wire => panic!("wire type {wire}"),
            };
            fields.entry(tag >> 3).or_default().push(field);
        }
        Self(fields)
    }

    fn all(&self, field: u32) -> impl Iterator<Item = &Field> {
        self.0.get(&field).into_iter().flatten()
    }

    fn number(&self, field: u32) -> Option<u64> {
        self.all(field).find_map(|value| match value {
            Field::Number(n) => Some(*n),
            Field::Bytes(_) => None,
        })
    }

    fn bytes(&self, field: u32) -> impl Iterator<Item = &[u8]> {
        self.all(field).filter_map(|value| match value {
            Field::Bytes(bytes) => Some(bytes.as_slice()),
            Field::Number(_) => None,
        })
    }

    fn message(&self, field: u32) -> Option<Self> {
        self.bytes(field).next().map(Self::new)
    }

    fn text(&self, field: u32) -> Option<String> {
        self.bytes(field).next().map(|text| String::from_utf8(text.to_vec()).expect("text"))
    }
}

/// What is on one track, in order of time.
#[derive(Debug, Default)]
struct Track {
    /// Its name, after those of the tracks that it is below.
    path: String,
    begins: usize,
    open: usize,
    counters: Vec<u64>,
    /// Cause and count of zaps.
    zaps: Vec<(String, u64)>,
}

fn tracks() -> Vec<Track> {
    let mut written = Vec::new();
    let mut writer =
        Perfetto::new(&mut written, recorded::open("failed-migration").header().clocks)
            .expect("memory");
    recorded::observed(&mut recorded::open("failed-migration"), &mut writer);
    let packets: Vec<_> = Message::new(&written).bytes(1).map(Message::new).collect();
    let clocks = packets[0].message(6).expect("clocks first");
    assert_eq!((clocks.bytes(1).count(), clocks.number(2)), (2, Some(3)));

    let mut tracks: BTreeMap<u64, Track> = BTreeMap::new();
    let mut events = Vec::new();
    for packet in &packets {
        if let Some(descriptor) = packet.message(60) {
            let above = descriptor.number(5).map(|parent| tracks[&parent].path.clone() + "/");
            let path = above.unwrap_or_default() + &descriptor.text(2).expect("a name");
            let uuid = descriptor.number(1).expect("a number");
            assert!(tracks.insert(uuid, Track { path, ..Track::default() }).is_none());
        } else if let Some(event) = packet.message(11) {
            assert_eq!(packet.number(58), Some(3));
            assert!(tracks.contains_key(&event.number(11).expect("a track")), "described before");
            events.push((packet.number(8).expect("a time"), event));
        }
    }
    events.sort_by_key(|(at, _)| *at);
    for (_, event) in &events {
        let track = event.number(11).and_then(|uuid| tracks.get_mut(&uuid)).expect("a track");
        match event.number(9).expect("a type") {
            1 => (track.begins, track.open) = (track.begins + 1, track.open + 1),
            2 => track.open = track.open.checked_sub(1).expect("it began"),
            3 if event.text(23).as_deref() == Some("zap") => {
                let args: Vec<_> = event.bytes(4).map(Message::new).collect();
                let named = |name| args.iter().find(|arg| arg.text(10).as_deref() == Some(name));
                let cause = named("cause").and_then(|arg| arg.text(6)).expect("a cause");
                let count = named("count").and_then(|arg| arg.number(3)).expect("a count");
                track.zaps.push((cause, count));
            }
            4 => track.counters.extend(event.number(30)),
            _ => {}
        }
    }
    tracks.into_values().collect()
}

#[test]
fn a_failed_migration_in_tracks() {
    let tracks = tracks();
    let below = |end: &str| {
        let mut found = tracks.iter().filter(|track| track.path.ends_with(end));
        found.next().unwrap_or_else(|| panic!("no {end} in {tracks:#?}"))
    };
    assert!(tracks.iter().all(|track| track.open == 0), "what begins ends");
    for once in ["/slot 1/dirty logging", "/slot 1/collapse", "/episodes"] {
        assert_eq!(below(once).begins, 1, "{once}");
    }
    assert_eq!(below("/2 MiB mappings").counters.iter().max(), Some(&32));
    assert!(below("/4 KiB mappings").counters.iter().max() >= Some(&16384));
    let zaps = tracks.iter().flat_map(|track| &track.zaps);
    let by_collapse = zaps.filter(|(cause, _)| cause == "collapse").map(|(_, count)| count);
    assert_eq!(by_collapse.sum::<u64>(), 16384);
}
