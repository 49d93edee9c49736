//! The chunk log.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use cairn_io::block;
use cairn_io::fs::Dir;
use cairn_io::log::{
    Entry, Id, Kind, Location, Log, LogError, Opened, Options, Payload, Position, ReadError, Record, Room, Step,
    Superblock,
};
use cairn_io::task::yield_now;
use cairn_io::time::{Duration, timeout};
use futures_util::future::join_all;

use crate::harness::{Place, Program, alone, on_each_driver};

on_each_driver! {
    records_of_all_sizes_are_read_back: 1,
    a_log_goes_on_where_it_ended: 1,
    records_are_applied_in_their_order: 1,
    a_part_of_a_large_payload_is_read_alone: 1,
    freed_segments_are_recycled: 1,
    a_full_log_takes_drops: 1,
    a_record_that_can_never_fit_is_refused: 1,
    a_directory_that_is_no_lane_is_refused: 1,
    a_scan_finds_every_record: 1,
    a_log_that_is_poisoned_and_closed_answers_everybody: 1,
}

const SEGMENT: u32 = 1 << 20;

fn superblock() -> Superblock {
    Superblock { cluster: [1; 16], node: [2; 16], lane: [3; 16], number: 0, segment_bytes: SEGMENT, created: 7 }
}

fn options() -> Options {
    Options { keep_free: 0, in_flight_bytes: 4 << 20, batch_bytes: 128 << 10, ..Options::default() }
}

/// Everything applied, in order.
type Applied = Rc<RefCell<Vec<(u64, Kind, Id, Location, bool)>>>;

async fn open_with(place: &Place, options: Options, from: Option<Position>) -> (Opened, Applied) {
    let dir = Dir::open(&place.dir).await.expect("it is there");
    let applied = Applied::default();
    let seen = applied.clone();
    let apply = move |entry: &Entry<'_>| {
        seen.borrow_mut().push((entry.sequence, entry.kind, *entry.id, entry.location, entry.is_whole));
    };
    (Log::open(&dir, options, from, Rc::new(apply)).await.expect("opened"), applied)
}

async fn new_log(place: &Place, options: Options) -> (Log, Applied) {
    let dir = Dir::open(&place.dir).await.expect("it is there");
    Log::create(&dir, &superblock()).await.expect("made");
    let (opened, applied) = open_with(place, options, None).await;
    assert!(opened.damage.is_empty() && opened.applied == 0);
    (opened.log, applied)
}

fn id(number: u64) -> Id {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&number.to_le_bytes());
    id
}

fn content(number: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at.wrapping_mul(31) ^ number ^ (at >> 9)) as u8).collect()
}

fn packed(number: u64, len: usize) -> Record {
    Record { kind: Kind::Chunk, id: id(number), payload: Payload::Bytes(content(number, len).into()) }
}

async fn in_place(number: u64, len: usize) -> Record {
    let mut block = block::alloc(len).await.expect("there is room");
    block.copy_from_slice(&content(number, len));
    Record { kind: Kind::Chunk, id: id(number), payload: Payload::Blocks(vec![block.freeze()]) }
}

async fn assert_there(log: &Log, at: Location, number: u64, len: usize) {
    let read = log.read(at, Kind::Chunk, &id(number)).await.expect("it is there");
    assert!(read[..] == content(number, len)[..], "record {number} of {len} bytes");
}

fn records_of_all_sizes_are_read_back() -> Program {
    alone(|place| async move {
        let (log, _) = new_log(&place, options()).await;
        let sizes = [0, 1, 7, 8, 63, 64, 4000, 4096, 4097, 32_768, 65_535, 65_536, 65_537, 131_072, 200_000, 400_001];
        let mut numbered = (0..).zip(sizes);
        let mut places = Vec::new();
        for (number, len) in numbered.by_ref().take(4) {
            let placed = log.append(packed(number, len), Room::Ordinary).await.expect("appended");
            places.push((placed.location, number, len));
        }
        // The rest at once, so that they share batches.
        let mut rest = Vec::new();
        for (number, len) in numbered {
            rest.push((number, len, packed(number, len)));
            rest.push((number + 100, len, in_place(number + 100, len).await));
        }
        let appended = join_all(rest.into_iter().map(|(number, len, record)| {
            let log = log.clone();
            async move { (log.append(record, Room::Ordinary).await.expect("appended").location, number, len) }
        }));
        places.extend(appended.await);
        for (at, number, len) in &places {
            assert_there(&log, *at, *number, *len).await;
        }
        assert!(log.stats().batches < places.len() as u64, "{:?}", log.stats());
        // Another id there is another record.
        let (at, ..) = places[0];
        assert!(matches!(log.read(at, Kind::Chunk, &id(99)).await, Err(ReadError::Bad(_))));
        assert!(matches!(log.read(at, Kind::Version, &id(0)).await, Err(ReadError::Bad(_))));
    })
}

fn a_log_goes_on_where_it_ended() -> Program {
    alone(|place| async move {
        let mut there = BTreeMap::new();
        let (log, _) = new_log(&place, options()).await;
        let mut position = None;
        let mut log = log;
        for round in 0..6_u64 {
            for number in round * 40..round * 40 + 40 {
                let len = (number * 977 % 9000) as usize;
                let placed = log.append(packed(number, len), Room::Ordinary).await.expect("appended");
                there.insert(number, (placed, len));
            }
            if round == 2 {
                position = Some(log.applied());
            }
            let end = log.applied();
            if round % 2 == 0 {
                log.close().await;
                assert!(matches!(log.append(packed(1, 1), Room::Ordinary).await, Err(LogError::Closed)));
            }
            drop(log);
            let (opened, applied) = open_with(&place, options(), position).await;
            assert!(opened.damage.is_empty() && opened.torn.is_none(), "{:?} {:?}", opened.damage, opened.torn);
            let expected =
                there.values().filter(|(placed, _)| position.is_none_or(|from| placed.sequence >= from.sequence));
            assert_eq!(
                applied.borrow().iter().map(|entry| (entry.0, entry.3)).collect::<Vec<_>>(),
                expected.map(|(placed, _)| (placed.sequence, placed.location)).collect::<Vec<_>>()
            );
            assert_eq!(opened.log.applied(), end);
            log = opened.log;
        }
        for (number, (placed, len)) in there {
            assert_there(&log, placed.location, number, len).await;
        }
    })
}

fn records_are_applied_in_their_order() -> Program {
    alone(|place| async move {
        let (log, applied) = new_log(&place, options()).await;
        let appends = (0..300_u64).map(|number| {
            let log = log.clone();
            async move {
                let len = if number % 17 == 0 { 90_000 } else { 500 };
                log.append(packed(number, len), Room::Ordinary).await.expect("appended").sequence
            }
        });
        let mut sequences = join_all(appends).await;
        let applied: Vec<u64> = applied.borrow().iter().map(|entry| entry.0).collect();
        assert!(applied.is_sorted_by(|a, b| a + 1 == *b));
        sequences.sort_unstable();
        assert_eq!(sequences, applied);
    })
}

fn a_part_of_a_large_payload_is_read_alone() -> Program {
    alone(|place| async move {
        let (log, _) = new_log(&place, options()).await;
        let len = 300_000;
        let placed = log.append(in_place(5, len).await, Room::Ordinary).await.expect("appended");
        let head = log.read_head(placed.location, Kind::Chunk, &id(5)).await.expect("read");
        let whole = content(5, len);
        for range in [0..1, 0..65_536, 65_530..65_540, 131_072..196_608, 299_999..300_000, 7..299_000, 10..10] {
            let part = log.read_part(placed.location, &head, range.clone()).await.expect("read");
            assert!(part[..] == whole[range.clone()], "{range:?}");
        }
    })
}

fn freed_segments_are_recycled() -> Program {
    alone(|place| async move {
        let (log, _) = new_log(&place, Options { segments_max: 5, ..options() }).await;
        let mut kept = Vec::new();
        for number in 0..60_u64 {
            let placed = log.append(packed(number, 100_000), Room::Ordinary).await.expect("appended");
            kept.push((placed, number));
            for segment in log.segments() {
                if segment.number + 1 < log.head_segment() {
                    log.free(segment.number).await.expect("freed");
                    kept.retain(|(placed, _)| placed.location.segment != segment.number);
                }
            }
        }
        assert!(log.free(log.head_segment()).await.is_err());
        assert!(log.stats().segments_made <= 5 && log.head_segment() > 5, "{:?}", log.stats());
        drop(log);
        let (opened, applied) = open_with(&place, options(), None).await;
        assert!(opened.damage.is_empty() && opened.torn.is_none(), "{:?} {:?}", opened.damage, opened.torn);
        assert_eq!(applied.borrow().len(), kept.len());
        for (placed, number) in kept {
            assert_there(&opened.log, placed.location, number, 100_000).await;
        }
    })
}

fn a_full_log_takes_drops() -> Program {
    alone(|place| async move {
        let (log, _) = new_log(&place, Options { segments_max: 4, ..options() }).await;
        let mut number = 0;
        let refused = loop {
            match log.append(packed(number, 60_000), Room::Ordinary).await {
                Ok(_) => number += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, LogError::NoRoom(_)), "{refused}");
        assert!(number > 20);
        for dropped in 0..number {
            let record = Record { kind: Kind::Drop, id: id(dropped), payload: Payload::Bytes(vec![1; 24].into()) };
            log.append(record, Room::Reserve).await.expect("there is the reserve");
        }
        log.free(1).await.expect("freed");
        log.append(packed(1, 60_000), Room::Ordinary).await.expect("there is room again");
    })
}

fn a_record_that_can_never_fit_is_refused() -> Program {
    alone(|place| async move {
        let (log, _) = new_log(&place, options()).await;
        let most = log.payload_max();
        log.append(packed(1, most), Room::Ordinary).await.expect("it fits");
        let refused = log.append(packed(2, most + 1), Room::Ordinary).await;
        assert!(matches!(refused, Err(LogError::TooLong { .. })));
        let uneven =
            vec![block::alloc(1000).await.expect("room").freeze(), block::alloc(65_536).await.expect("room").freeze()];
        let record = Record { kind: Kind::Chunk, id: id(3), payload: Payload::Blocks(uneven) };
        assert!(matches!(log.append(record, Room::Ordinary).await, Err(LogError::Uneven)));
    })
}

fn a_directory_that_is_no_lane_is_refused() -> Program {
    alone(|place| async move {
        let dir = Dir::open(&place.dir).await.expect("it is there");
        let opened = Log::open(&dir, options(), None, Rc::new(|_: &Entry<'_>| ())).await;
        assert!(matches!(opened, Err(LogError::Format(_))));
        Log::create(&dir, &superblock()).await.expect("made");
        assert!(Log::create(&dir, &superblock()).await.is_err());
        let ahead = Some(Position { segment: 9, offset: 4096, sequence: 70 });
        let opened = Log::open(&dir, options(), ahead, Rc::new(|_: &Entry<'_>| ())).await;
        assert!(matches!(opened, Err(LogError::IndexAhead(_))));
    })
}

fn a_scan_finds_every_record() -> Program {
    alone(|place| async move {
        let (log, applied) = new_log(&place, options()).await;
        for number in 0..100_u64 {
            let len = (number * number * 37 % 70_000) as usize;
            log.append(packed(number, len), Room::Ordinary).await.expect("appended");
        }
        let mut found = Vec::new();
        for segment in log.segments() {
            let mut scanner = log.scan(segment.number, None).expect("it is there");
            while let Some(step) = scanner.next().await.expect("read") {
                let Step::Record(record) = step else { panic!("{step:?}") };
                assert!(record.payload[..] == content(found.len() as u64, record.length as usize)[..]);
                found.push((record.sequence, record.kind, record.id, record.location, record.is_whole));
            }
        }
        assert_eq!(found, *applied.borrow());
    })
}

/// What still gathered when a poisoned log was closed was never answered (simulation: lane, seed 2267).
fn a_log_that_is_poisoned_and_closed_answers_everybody() -> Program {
    alone(async |place: Place| {
        let (log, _) = new_log(&place, options()).await;
        log.append(packed(0, 10), Room::Ordinary).await.expect("appended");
        let mut pending = Vec::new();
        for number in 1..20 {
            pending.push(log.submit(packed(number, 3_000), Room::Ordinary).await.expect("taken"));
            // The first of them is on its way now, the others wait for it.
            yield_now().await;
        }
        log.poison("a test says so");
        log.close().await;
        let answers = timeout(Duration::from_secs(20), join_all(pending)).await.expect("everybody is answered");
        assert!(answers.iter().any(|answer| matches!(answer, Err(LogError::Poisoned(_)))), "{answers:?}");
    })
}
