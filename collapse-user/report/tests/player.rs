//! Moving through a recording in time: any way to a position gives what reading up to there gives, in
//! everything that a report shows.

use std::{io::Cursor, time::Duration};

use collapse_feed::{
    Coverage, Machine,
    recording::{RecordingError, Replay},
};
use collapse_model::{
    Model,
    player::{Motion, Order, Player},
};
use collapse_report::Report;
use proptest::prelude::*;

/// A migration that failed, as it was recorded.
const RUN: &[u8] = include_bytes!("../../tests/fixtures/recorded/failed-migration.rec");

type InMemory = Player<Cursor<Vec<u8>>>;

fn player(bytes: &[u8]) -> InMemory {
    Player::new(Cursor::new(bytes.to_vec())).expect("a recording of ours")
}

/// What reading from the beginning to a time gives, and whether all was read.
fn replayed(bytes: &[u8], until: u64) -> (Model, Coverage) {
    let mut replay = Replay::new(bytes).expect("a recording of ours");
    let (mut model, mut coverage) = (Model::default(), replay.coverage().clone());
    loop {
        match replay.next_update() {
            Ok(Some(update)) if update.at() <= until => {
                model.update(&update, replay.coverage());
                coverage = replay.coverage().clone();
            }
            Ok(_) => return (model, coverage),
            Err(_) => {
                model.losses.insert("recording_ends_early", 1);
                return (model, coverage);
            }
        }
    }
}

/// Bytes of the recording without which there is none.
fn beginning() -> usize {
    (0..RUN.len()).find(|length| Replay::new(&RUN[..*length]).is_ok()).expect("a recording of ours")
}

fn caught_up(player: &mut InMemory) {
    while player.is_behind() {
        player.catch_up(7).expect("a recording of ours");
    }
}

/// All that views show of a model.
fn told(model: &Model, coverage: &Coverage) -> String {
    let report = Report::new(model, coverage, Machine::default(), None);
    let report = serde_json::to_string(&report).expect("a recording of ours");
    format!("{report} {:?} {:?} {coverage:?}", model.history, model.recent)
}

fn assert_as_replayed(player: &InMemory, bytes: &[u8]) {
    let (model, coverage) = replayed(bytes, player.position());
    assert_eq!(told(player.model(), player.coverage()), told(&model, &coverage));
}

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![
        Just(Order::Toggle),
        (-3_000_000_000i64..3_000_000_000).prop_map(Order::By),
        (0u64..3_000_000_000).prop_map(Order::To),
        any::<u64>().prop_map(Order::To),
        any::<i64>().prop_map(Order::By),
        Just(Order::NextReading),
        Just(Order::PreviousReading),
        Just(Order::NextSwitch),
        Just(Order::PreviousSwitch),
        Just(Order::Faster),
        Just(Order::Slower),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However one gets to a position, the model is what reading up to there gives; also where the
    /// recording is cut short.
    #[test]
    fn any_way_to_a_position_gives_the_same(
        steps in prop::collection::vec((order(), 0u64..2_000, 0usize..9), 1..24),
        cut in prop::option::of(0..RUN.len()),
    ) {
        let bytes = cut.map_or(RUN, |cut| &RUN[..cut.max(beginning())]);
        let mut player = player(bytes);
        for (order, passed, events) in steps {
            player.perform(order).expect("a recording of ours");
            player.catch_up(events).expect("a recording of ours");
            player.advance(Duration::from_millis(passed));
            let track = player.track();
            prop_assert!(track.position <= track.length);
            prop_assert_eq!(track.motion == Motion::Seeking, player.is_behind());
        }
        caught_up(&mut player);
        assert_as_replayed(&player, bytes);
    }
}

#[test]
fn time_passes_as_fast_as_asked_and_ends_at_the_end() {
    let mut player = player(RUN);
    caught_up(&mut player);
    assert_eq!(player.track().motion, Motion::Playing);
    player.advance(Duration::from_millis(100));
    assert_eq!(player.track().position, 100_000_000);
    for _ in 0..2 {
        player.perform(Order::Faster).expect("a recording of ours");
    }
    player.advance(Duration::from_millis(100));
    assert_eq!(player.track().position, 500_000_000);
    player.perform(Order::Toggle).expect("a recording of ours");
    caught_up(&mut player);
    assert_eq!(player.track().motion, Motion::Paused);
    player.advance(Duration::from_millis(100));
    assert_eq!(player.track().position, 500_000_000);
    player.perform(Order::Toggle).expect("a recording of ours");
    player.advance(Duration::from_mins(1));
    caught_up(&mut player);
    let track = player.track();
    assert_eq!((track.motion, track.position), (Motion::Ended, track.length));
    assert_as_replayed(&player, RUN);
    // At its end, it is played once more.
    player.perform(Order::Toggle).expect("a recording of ours");
    caught_up(&mut player);
    assert_eq!((player.track().motion, player.track().position), (Motion::Playing, 0));
    assert_as_replayed(&player, RUN);
}

#[test]
fn time_waits_for_what_is_to_be_read() {
    let mut player = player(RUN);
    player.perform(Order::To(1_000_000_000)).expect("a recording of ours");
    assert_eq!(player.track().motion, Motion::Seeking);
    player.advance(Duration::from_millis(100));
    assert_eq!(player.track().position, 1_000_000_000);
}

#[test]
fn readings_are_gone_through_one_by_one() {
    let mut player = player(RUN);
    let readings = player.contents().readings.clone();
    assert!(readings.len() > 4, "{}", readings.len());
    for at in &readings[1..] {
        player.perform(Order::NextReading).expect("a recording of ours");
        caught_up(&mut player);
        assert_eq!((player.position(), player.model().now), (*at, *at));
        assert!(!player.is_playing());
    }
    player.perform(Order::NextReading).expect("a recording of ours");
    assert_eq!(player.track().motion, Motion::Ended);
    for at in readings.iter().rev().skip(1) {
        player.perform(Order::PreviousReading).expect("a recording of ours");
        assert_eq!(player.position(), *at);
    }
    player.perform(Order::PreviousReading).expect("a recording of ours");
    assert_eq!(player.track().position, 0);
}

#[test]
fn one_goes_to_where_dirty_logging_is_switched() {
    let mut player = player(RUN);
    let [on, off] = player.contents().switches().collect::<Vec<_>>()[..] else {
        panic!("{:?}", player.contents().logging)
    };
    player.perform(Order::Toggle).expect("a recording of ours");
    for (at, logging) in [(on, true), (off, false), (player.contents().end(), false)] {
        player.perform(Order::NextSwitch).expect("a recording of ours");
        caught_up(&mut player);
        assert_eq!(player.position(), at);
        assert!(player.model().vms.values().all(|vm| vm.is_logging() == Some(logging)));
    }
    for at in [off, on, player.contents().start()] {
        player.perform(Order::PreviousSwitch).expect("a recording of ours");
        assert_eq!(player.position(), at);
    }
}

#[test]
fn the_end_that_is_missing_is_told() {
    assert_eq!(player(RUN).track().early, None);
    let mut cut = player(&RUN[..RUN.len() - 9]);
    assert_eq!(cut.track().early, Some("cut short"));
    cut.perform(Order::To(u64::MAX)).expect("a recording of ours");
    caught_up(&mut cut);
    assert_eq!(cut.model().losses["recording_ends_early"], 1);
    // Not at its end, nothing is missing yet.
    cut.perform(Order::To(0)).expect("a recording of ours");
    caught_up(&mut cut);
    assert!(!cut.model().losses.contains_key("recording_ends_early"));
    let mut bytes = RUN.to_vec();
    let middle = usize::midpoint(beginning(), RUN.len());
    bytes[middle] ^= 0x55;
    assert_eq!(player(&bytes).track().early, Some("damaged"));
}

#[test]
fn what_is_no_recording_is_refused() {
    let refused = |bytes: &[u8]| Player::new(Cursor::new(bytes.to_vec())).err();
    assert!(matches!(refused(b"\x7fELF and more"), Some(RecordingError::NotARecording)));
    assert!(refused(b"").is_some());
    let mut newer = RUN.to_vec();
    newer[8] = 0xff;
    assert!(matches!(refused(&newer), Some(RecordingError::TooNew(_))));
}
