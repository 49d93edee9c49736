//! A group whose log has no room any more, not even that which is kept for it: a full disk is no broken one.

use std::rc::Rc;

use bytes::Bytes;
use cairn_daemon::lane::{Lane, Options as LaneOptions, Owner};
use cairn_daemon::slot::{Nobody, Options, SlotError, Slots};
use cairn_io::fs::Dir;
use cairn_io::log::{Options as LogOptions, Payload};
use cairn_io::time::{Duration, sleep, timeout};
use cairn_meta::index::ChunkId;
use cairn_placement::NodeId;

use crate::drivers::{Place, on_each_driver};
use crate::group::{SLOT, Words};

on_each_driver!(
    a_group_without_room_goes_on_when_there_is_some,
    a_group_that_waits_for_room_can_be_closed_and_opened_again
);

/// Bytes that no other number has.
fn content(number: usize) -> Bytes {
    let seed = *blake3::hash(&number.to_le_bytes()).as_bytes();
    seed.repeat(60_000 / seed.len()).into()
}

async fn open(place: &Place) -> (Lane, Slots) {
    let dir = Dir::create(&place.dir).await.expect("a directory");
    Lane::create(&dir, Owner::default(), 0, 1 << 20).await.expect("a lane");
    let log = LogOptions { keep_free: 0, segments_max: 6, ..LogOptions::default() };
    let options = LaneOptions { log, partitions: 4, ballast: 0, ..LaneOptions::default() };
    let (lane, _) = Lane::open(&dir, place.store(&place.dir), options).await.expect("it opens");
    let slots = start(&lane).await;
    slots.create(SLOT, &[NodeId(8)].into()).await.expect("it begins");
    (lane, slots)
}

async fn start(lane: &Lane) -> Slots {
    let options = Options { propose_limit: Duration::from_millis(400), ..Options::default() };
    let slots = Slots::new(NodeId(8), Rc::new(Nobody), options).expect("fine options");
    slots.open(SLOT, lane, Rc::new(Words)).await.expect("it opens");
    slots
}

async fn propose(slots: &Slots, word: &str) -> Result<Vec<u8>, SlotError> {
    slots.propose(SLOT, Bytes::from(word.to_owned())).await
}

/// Chunks until there is no room for one; every second is dropped again, which gives back nothing yet.
async fn fill(lane: &Lane) {
    let mut ids = Vec::new();
    let refused = loop {
        let bytes = content(ids.len());
        let id = ChunkId(*blake3::hash(&bytes).as_bytes());
        match lane.put(id, Payload::Bytes(bytes)).await {
            Ok(_) => ids.push(id),
            Err(error) => break error,
        }
    };
    assert!(refused.is_no_room(), "{refused}");
    for id in ids.iter().step_by(2) {
        assert!(lane.drop_chunk(id).await.expect("there is room for that"));
    }
    lane.commit().await.expect("committed");
}

/// Proposes long words until there is no room even in what is kept; how many were taken.
async fn use_up(slots: &Slots, word: &str) -> usize {
    let mut taken = 0;
    let refused = loop {
        match propose(slots, &format!("key={taken}{word}")).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(taken > 0 && matches!(refused, SlotError::Unknown(_)), "{taken}: {refused}");
    assert_eq!(slots.stopped(SLOT), Ok(None));
    taken
}

async fn begin(place: &Place) -> (Lane, Slots) {
    let (lane, slots) = open(place).await;
    while propose(&slots, "key=first").await.is_err() {
        sleep(Duration::from_millis(10)).await;
    }
    slots.check_room(SLOT).expect("there is room");
    fill(&lane).await;
    assert!(matches!(slots.check_room(SLOT), Err(SlotError::NoRoom(_))), "only what is kept is left");
    (lane, slots)
}

async fn a_group_without_room_goes_on_when_there_is_some(place: Place) {
    let (lane, slots) = begin(&place).await;
    let long = "x".repeat(20_000);
    let taken = use_up(&slots, &long).await;
    while let Some(segment) = lane.compaction_plan().first().map(|planned| planned.segment) {
        lane.compact(segment).await.expect("it has room");
    }
    let before = loop {
        match propose(&slots, "key=last").await {
            Ok(before) => break before,
            Err(error) => assert!(matches!(error, SlotError::Unknown(_)), "{error}"),
        }
    };
    // What wasn't answered was done, once there was room.
    assert!(before == b"last" || before == format!("{taken}{long}").as_bytes());
    slots.close().await;
    lane.close().await.expect("closed");
}

async fn a_group_that_waits_for_room_can_be_closed_and_opened_again(place: Place) {
    let (lane, slots) = begin(&place).await;
    let long = "x".repeat(20_000);
    let taken = use_up(&slots, &long).await;
    timeout(Duration::from_secs(5), slots.close()).await.expect("it waits no longer");
    while let Some(segment) = lane.compaction_plan().first().map(|planned| planned.segment) {
        lane.compact(segment).await.expect("it has room");
    }
    let slots = start(&lane).await;
    let before = loop {
        if let Ok(before) = propose(&slots, "key=last").await {
            break before;
        }
        sleep(Duration::from_millis(10)).await;
    };
    // All that was answered is there; what wasn't may be.
    let answered = [taken - 1, taken].map(|number| format!("{number}{long}").into_bytes());
    assert!(before == b"last" || answered.contains(&before));
    slots.close().await;
    lane.close().await.expect("closed");
}
