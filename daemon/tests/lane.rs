//! A lane on real files: what it keeps, what it gives back, and what it does when bytes rot or room runs out.

#![allow(clippy::disallowed_methods, reason = "it damages files behind the lane's back")]
#![allow(clippy::disallowed_types, reason = "it damages files behind the lane's back")]

use std::future::Future;
use std::io::{Seek, SeekFrom, Write};
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use cairn_daemon::lane::{At, Lane, LaneError, Named, Options, Owner, Put, Recovered, Row, Verified};
use cairn_io::fs::Dir;
use cairn_io::log::{Options as LogOptions, Payload, What};
use cairn_io::time::{self, Duration};
use cairn_io::{Config, block, run_one};
use cairn_meta::index::{ChunkId, Store};
use cairn_placement::PartitionId;
use futures_util::{StreamExt, TryStreamExt};

const SEGMENT: u32 = 1 << 20;
const PARTITIONS: u32 = 16;

/// A lane's directory.
#[derive(Clone)]
struct Place(String);

fn options() -> Options {
    let log = LogOptions { keep_free: 0, batch_bytes: 128 << 10, segments_max: 24, ..LogOptions::default() };
    Options { log, partitions: PARTITIONS, ballast: 0, punch_min: 64 << 10, ..Options::default() }
}

impl Place {
    fn store(&self) -> Store {
        Store::lmdb(&self.0)
    }

    async fn open_with(&self, options: Options) -> (Lane, Recovered) {
        let dir = Dir::open(&self.0).await.expect("it is there");
        // A commit of the life before may still be running.
        for _ in 0..200 {
            match Lane::open(&dir, self.store(), options.clone()).await {
                Ok(opened) => return opened,
                Err(_) => time::sleep(Duration::from_millis(10)).await,
            }
        }
        Lane::open(&dir, self.store(), options).await.expect("it opens")
    }

    async fn open(&self) -> Lane {
        self.open_with(options()).await.0
    }

    /// Opens with nothing but the log.
    async fn rebuild(&self) -> (Lane, Recovered) {
        self.store().clear().expect("no index is open");
        self.open_with(options()).await
    }
}

/// Runs `test` on a real core with a new lane.
fn with_lane<F: Future<Output = ()> + 'static>(test: impl FnOnce(Place) -> F + Send + 'static) {
    // Under the target directory: a temporary file system may not know direct I/O.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let place = Place(dir.path().to_str().expect("UTF-8").to_owned());
    let config = Config { block_bytes_max: 64 << 20, ..Config::single() };
    let run = move || async move {
        let dir = Dir::open(&place.0).await.expect("it is there");
        Lane::create(&dir, Owner::default(), 0, SEGMENT).await.expect("made");
        let done = time::timeout(Duration::from_secs(60), test(place)).await;
        done.expect("it ends within a minute");
    };
    run_one(&config, run).expect("it runs");
}

fn content(number: u64, len: usize) -> Vec<u8> {
    let words = (0..len.div_ceil(8) as u64).map(|at| (at ^ number << 20).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
    bytes.truncate(len);
    bytes
}

fn name(bytes: &[u8]) -> ChunkId {
    ChunkId(*blake3::hash(bytes).as_bytes())
}

fn payload(bytes: &[u8]) -> Payload {
    Payload::Bytes(bytes.to_vec().into())
}

async fn put(lane: &Lane, bytes: &[u8]) -> ChunkId {
    let id = name(bytes);
    lane.put(id, payload(bytes)).await.expect("stored");
    id
}

async fn get(lane: &Lane, id: &ChunkId) -> Option<Bytes> {
    lane.get(id).await.expect("readable")
}

/// Every partition's digest is that of its chunks; returns how many there are.
fn recount(lane: &Lane) -> u64 {
    let mut all = 0;
    for (partition, digest) in (0..).zip(lane.digests()) {
        let mut counted = cairn_meta::index::Digest::default();
        for (id, entry) in lane.list(PartitionId(partition), None, usize::MAX).expect("listed") {
            counted.add(&id, entry.length);
        }
        assert_eq!(digest, counted);
        all += counted.count;
    }
    all
}

/// Flips a bit where a chunk lies.
fn damage(place: &Place, lane: &Lane, id: &ChunkId, at: u64) {
    let entry = lane.chunk(id).expect("read").expect("here");
    let segments = lane.log().segments();
    let slot = segments.iter().find(|segment| segment.number == entry.segment).expect("there").slot;
    let path = format!("{}/segment-{slot:08x}", place.0);
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(path).expect("there");
    let at = u64::from(entry.offset + entry.stored - entry.length) + at;
    let mut byte = [0];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut byte, at).expect("read");
    file.seek(SeekFrom::Start(at)).expect("sought");
    file.write_all(&[byte[0] ^ 1]).expect("written");
    file.sync_all().expect("synced");
}

#[test]
fn chunks_come_back_whole_in_parts_and_as_streams() {
    with_lane(|place| async move {
        let lane = place.open_with(Options { cache_bytes: 0, ..options() }).await.0;
        for (number, len) in (0..).zip([0, 1, 4096, 65_536, 65_537, 300_000, 700_000]) {
            let bytes = content(number, len);
            let id = name(&bytes);
            assert!(!lane.has(&id).expect("asked") && get(&lane, &id).await.is_none());
            assert_eq!(lane.put(id, payload(&bytes)).await.expect("stored"), Put::New);
            assert_eq!(lane.put(id, payload(&bytes)).await.expect("stored"), Put::Existing);
            assert_eq!(get(&lane, &id).await.expect("here"), bytes);
            assert_eq!(lane.verify(&id).await.expect("read"), Verified::Good);
            for range in [0..len, 0..0, len / 3..len / 2, len..len] {
                let part = lane.get_range(&id, range.start as u64..range.end as u64).await;
                assert_eq!(part.expect("read").expect("here"), bytes[range]);
            }
            let beyond = lane.get_range(&id, len as u64 + 5..len as u64 + 9).await.expect("read");
            assert!(beyond.expect("here").is_empty());
            let parts = lane.get_ranges(&id, &[0..len as u64, 0..u64::MAX]).await.expect("read").expect("here");
            assert_eq!((&*parts[0], &*parts[1]), (&*bytes, &*bytes));
            let stream = lane.stream(id).expect("asked").expect("here");
            let pieces: Vec<Bytes> = stream.try_collect().await.expect("all of it");
            assert_eq!(pieces.concat(), bytes);
        }
        assert_eq!(recount(&lane), 7);
        assert_eq!(lane.status().counts.puts_existing, 7);
        let all: Vec<_> = (0..PARTITIONS)
            .flat_map(|partition| lane.list(PartitionId(partition), None, 100).expect("listed"))
            .collect();
        assert!(all.is_sorted_by_key(|(id, _)| id.0));
        for at in 0..all.len() {
            let partition = PartitionId::of_chunk(&all[at].0.0, PARTITIONS);
            let next = lane.list(partition, Some(&all[at].0), 1).expect("listed");
            let same = all.get(at + 1).filter(|(id, _)| PartitionId::of_chunk(&id.0, PARTITIONS) == partition);
            assert_eq!(next.first(), same);
        }
    });
}

#[test]
fn an_ingest_stores_only_what_has_the_name() {
    with_lane(|place| async move {
        let lane = place.open().await;
        let bytes = content(1, 200_000);
        let id = name(&bytes);
        let mut good = lane.ingest(id, bytes.len()).await.expect("room");
        bytes.chunks(70_000).for_each(|piece| good.write(piece).expect("taken"));
        let mut other = lane.ingest(name(b"other"), bytes.len()).await.expect("room");
        other.write(&bytes).expect("taken");
        assert!(matches!(other.finish().await, Err(LaneError::OtherBytes(_))));
        let mut short = lane.ingest(id, bytes.len()).await.expect("room");
        short.write(&bytes[1..]).expect("taken");
        assert!(matches!(short.write(&bytes), Err(LaneError::OtherBytes(_))));
        assert!(matches!(short.finish().await, Err(LaneError::OtherBytes(_))));
        assert!(!lane.has(&id).expect("asked"));
        assert_eq!(good.finish().await.expect("stored"), Put::New);
        assert_eq!(get(&lane, &id).await.expect("here"), bytes);
        assert!(lane.ingest(id, SEGMENT as usize).await.is_err(), "never fits");
        let empty = lane.ingest(name(b""), 0).await.expect("room");
        assert_eq!(empty.finish().await.expect("stored"), Put::New);
    });
}

#[test]
fn what_is_read_again_comes_from_memory() {
    with_lane(|place| async move {
        let lane = place.open_with(Options { cache_bytes: 8 << 20, ..options() }).await.0;
        let hits = || lane.status().counts.cache_hits;
        let [small, large, larger] = [5_000, 300_000, 600_000].map(|len| content(len as u64, len));
        let (small_id, large_id) = (put(&lane, &small).await, put(&lane, &large).await);
        let larger_id = put(&lane, &larger).await;
        for (id, bytes, expected) in
            [(small_id, &small, [0, 1, 2]), (large_id, &large, [2, 2, 3]), (larger_id, &larger, [3, 3, 3])]
        {
            for hits_then in expected {
                assert_eq!(get(&lane, &id).await.expect("here"), bytes[..]);
                assert_eq!(hits(), hits_then, "{} bytes", bytes.len());
            }
        }
        let part = lane.get_range(&large_id, 1_000..2_000).await.expect("read").expect("here");
        assert_eq!((&part[..], hits()), (&large[1_000..2_000], 4));
        // What is bad on the disk is not shown because it is good in memory.
        damage(&place, &lane, &large_id, 10);
        assert_eq!(lane.verify(&large_id).await.expect("read"), Verified::Bad);
        assert!(matches!(lane.get(&large_id).await, Err(LaneError::Quarantined(_))));
        assert!(lane.drop_chunk(&small_id).await.expect("dropped"));
        assert!(get(&lane, &small_id).await.is_none());
        assert_eq!(hits(), 4);
    });
}

#[test]
fn a_chunk_put_again_counts_as_young() {
    with_lane(|place| async move {
        let lane = place.open_with(Options { touch_after: Duration::ZERO, ..options() }).await.0;
        let id = put(&lane, b"young").await;
        let before = lane.chunk(&id).expect("asked").expect("here").touched;
        time::sleep(Duration::from_millis(1100)).await;
        put(&lane, b"young").await;
        let after = lane.chunk(&id).expect("asked").expect("here").touched;
        assert!(after > before);
        drop(lane);
        let lane = place.open().await;
        assert_eq!(lane.chunk(&id).expect("asked").expect("here").touched, after);
    });
}

/// Chunks that are there, and chunks that were dropped.
struct Kept {
    here: Vec<(ChunkId, Vec<u8>)>,
    gone: Vec<ChunkId>,
}

/// Some of everything a lane holds.
async fn fill(lane: &Lane) -> Kept {
    let mut kept = Kept { here: vec![], gone: vec![] };
    for number in 0..60 {
        let bytes = content(number, 1 + (number as usize * 7919) % 150_000);
        let id = put(lane, &bytes).await;
        if number % 3 == 0 {
            assert!(lane.drop_chunk(&id).await.expect("dropped"));
            assert!(!lane.drop_chunk(&id).await.expect("asked"), "it is gone already");
            kept.gone.push(id);
        } else {
            kept.here.push((id, bytes));
        }
    }
    // Dropped, and stored again.
    let again = kept.gone.swap_remove(0);
    let bytes = content(0, 1);
    assert_eq!(put(lane, &bytes).await, again);
    kept.here.push((again, bytes));
    for number in 0..20_u8 {
        lane.put_named(Named::Version, [number; 32], vec![number; 500].into()).await.expect("stored");
    }
    lane.put_named(Named::Version, [3; 32], Bytes::from_static(b"newer")).await.expect("stored");
    assert!(lane.drop_named(Named::Version, &[4; 32]).await.expect("dropped"));
    lane.put_named(Named::Provisional, [4; 32], Bytes::from_static(b"another sort")).await.expect("stored");
    let entry = |term: u64, index: u64| (term, index, Bytes::from(content(index + term * 100, 300)));
    lane.append_raft(7, (1..=20).map(|index| entry(1, index)).collect()).await.expect("stored");
    lane.append_raft(8, vec![entry(9, 1)]).await.expect("stored");
    lane.truncate_raft(7, 15).await.expect("truncated");
    lane.append_raft(7, vec![entry(2, 15), entry(2, 16)]).await.expect("stored");
    lane.set_raft_state(7, 1, b"before").await.expect("stored");
    lane.set_raft_state(7, 5, b"vote").await.expect("stored");
    kept
}

async fn check(lane: &Lane, kept: &Kept) {
    for (id, bytes) in &kept.here {
        assert_eq!(get(lane, id).await.as_deref(), Some(&bytes[..]), "{id:?}");
    }
    for id in &kept.gone {
        assert!(get(lane, id).await.is_none() && !lane.has(id).expect("asked"), "{id:?} came back");
    }
    assert_eq!(recount(lane), kept.here.len() as u64);
    let mut names = lane.names_of(Named::Version, &[], None, 100).expect("listed");
    names.sort_unstable();
    assert_eq!(names, (0..20).filter(|number| *number != 4).map(|number| [number; 32]).collect::<Vec<_>>());
    let version = lane.get_named(Named::Version, &[3; 32]).await.expect("read");
    assert_eq!(version.as_deref(), Some(&b"newer"[..]));
    assert_eq!(lane.get_named(Named::Version, &[5; 32]).await.expect("read").expect("here"), [5; 500][..]);
    assert!(lane.get_named(Named::Version, &[4; 32]).await.expect("read").is_none());
    assert_eq!(lane.names_of(Named::Provisional, &[], None, 100).expect("listed"), [[4; 32]]);
    assert_eq!(lane.raft_state(7).expect("read"), Some((5, b"vote".to_vec())));
    assert_eq!(lane.raft_state(8).expect("read"), None);
    assert_eq!(lane.raft_ends(7).expect("read"), Some([(1, 5), (2, 16)]));
    let entries = lane.read_raft(7, 5..=30).await.expect("read");
    let expected = (5..=16).map(|index| {
        let term = if index < 15 { 1 } else { 2 };
        (term, index, Bytes::from(content(index + term * 100, 300)))
    });
    assert_eq!(entries, expected.collect::<Vec<_>>());
    assert!(lane.read_raft(7, 1..=4).await.expect("read").is_empty());
    assert_eq!(lane.raft_ends(8).expect("read"), Some([(9, 1), (9, 1)]));
}

/// Live bytes of each segment that has any.
fn live(lane: &Lane) -> Vec<(u64, u64)> {
    lane.usage().into_iter().filter(|(_, usage)| usage.live > 0).map(|(number, usage)| (number, usage.live)).collect()
}

#[test]
fn a_lane_goes_on_where_it_ended() {
    with_lane(|place| async move {
        let lane = place.open().await;
        let kept = fill(&lane).await;
        check(&lane, &kept).await;
        let used = live(&lane);
        drop(lane);
        let (lane, found) = place.open_with(options()).await;
        assert!(found.records > 0 && found.damage.is_empty(), "{found:?}");
        check(&lane, &kept).await;
        assert_eq!(live(&lane), used);
        lane.close().await.expect("committed");
        assert!(lane.put(name(b"late"), payload(b"late")).await.is_err(), "it is closed");
        drop(lane);
        let (lane, found) = place.open_with(options()).await;
        assert!(found.records <= 1, "a clean end leaves nothing to replay but its own note: {found:?}");
        check(&lane, &kept).await;
        assert_eq!(live(&lane), used);
    });
}

#[test]
fn the_log_alone_is_enough() {
    with_lane(|place| async move {
        let lane = place.open().await;
        let kept = fill(&lane).await;
        let (digests, used) = (lane.digests(), live(&lane));
        lane.close().await.expect("committed");
        drop(lane);
        let (lane, found) = place.rebuild().await;
        assert!(found.damage.is_empty(), "{found:?}");
        check(&lane, &kept).await;
        assert_eq!((lane.digests(), live(&lane)), (digests, used));
    });
}

/// All rows of a slot.
async fn rows(lane: &Lane, slot: u32) -> Vec<Row> {
    let mut view = lane.view_slot(slot).await.expect("committed");
    let mut rows = Vec::new();
    while let Some(part) = view.next_part(100).expect("read") {
        rows.extend(part);
    }
    rows
}

/// Fills the last segment with chunks; returns the one that is the last then.
async fn next_segment(lane: &Lane, from: u64) -> u64 {
    let before = lane.status().applied.segment;
    for number in from.. {
        put(lane, &content(number, 100_000)).await;
        if lane.status().applied.segment > before {
            break;
        }
    }
    lane.status().applied.segment
}

async fn arrive(lane: &Lane, slot: u32, index: u64, rows: Vec<Row>) {
    lane.stage_rows(slot, index, 0, rows).await.expect("staged");
    let at = At { term: 1, index };
    lane.install_staged(slot, index, 1, at, b"members".to_vec()).await.expect("installed");
    lane.set_raft_state(slot, index + 1, &index.to_le_bytes()).await.expect("stored");
    let entries = (index + 1..index + 5).map(|index| (1, index, Bytes::from(content(index, 300))));
    lane.append_raft(slot, entries.collect()).await.expect("stored");
}

#[test]
fn a_slot_that_left_has_left_nothing_and_comes_back_as_another() {
    with_lane(|place| async move {
        let row = |key: u8, value: u8| Row::Put(vec![key], vec![value; 20]);
        let lane = place.open().await;
        arrive(&lane, 7, 10, vec![row(1, 1), row(2, 1), row(3, 1)]).await;
        arrive(&lane, 8, 10, vec![row(1, 1)]).await;
        // What is erased stays in the segment for long, as others have their records there.
        let mut erased_in = next_segment(&lane, 0).await..;
        lane.erase_slot(7).await.expect("erased");
        lane.erase_slot(9).await.expect("there was nothing");
        let is_gone = |lane: &Lane| {
            let slots = lane.metadata().expect("read").expect("of the other slot").slots;
            (slots.into_iter().collect::<Vec<_>>(), lane.has_left(7).expect("read"), lane.raft_ends(7).expect("read"))
        };
        let gone = (vec![8], true, None);
        assert_eq!(is_gone(&lane), gone);
        let used = live(&lane);
        lane.close().await.expect("committed");
        drop(lane);
        let (lane, _) = place.rebuild().await;
        assert_eq!((is_gone(&lane), live(&lane)), (gone.clone(), used), "the log says so, too");
        // It comes back, as another lane has it by now, and what was carried over is merged.
        for life in 2..4_u8 {
            assert!(lane.welcome_slot(7).await.expect("ready"), "it was here");
            arrive(&lane, 7, 10 * u64::from(life), vec![row(2, life), row(life + 2, life)]).await;
            lane.merge_slot(7).await.expect("merged");
            if life < 3 {
                lane.erase_slot(7).await.expect("erased");
                assert_eq!(is_gone(&lane), gone);
            }
            next_segment(&lane, u64::from(life) * 100).await;
        }
        // The marks that it left are not needed any more, and given up before what it left.
        lane.commit().await.expect("committed");
        let last = lane.status().committed.segment;
        while let Some(segment) = erased_in.next().filter(|segment| *segment < last) {
            assert!(lane.compact(segment).await.expect("compacted").is_freed, "segment {segment}");
        }
        let state = (rows(&lane, 7).await, lane.raft_state(7).expect("read"), lane.raft_ends(7).expect("read"));
        assert_eq!(state.0, [row(2, 3), row(5, 3)]);
        assert_eq!((state.1.as_ref().map(|state| state.0), state.2), (Some(31), Some([(1, 31), (1, 34)])));
        lane.close().await.expect("committed");
        drop(lane);
        let (lane, _) = place.rebuild().await;
        let again = (rows(&lane, 7).await, lane.raft_state(7).expect("read"), lane.raft_ends(7).expect("read"));
        assert_eq!(again, state, "nothing of an earlier life comes back");
        assert_eq!(lane.slot_facts(7).expect("read").applied, Some(At { term: 1, index: 30 }));
        assert_eq!(rows(&lane, 8).await, [row(1, 1)]);
    });
}

#[test]
fn compaction_frees_segments_and_keeps_everything() {
    with_lane(|place| async move {
        let lane = place.open().await;
        let kept = fill(&lane).await;
        for number in 100..140 {
            let id = put(&lane, &content(number, 100_000)).await;
            lane.drop_chunk(&id).await.expect("dropped");
        }
        lane.commit().await.expect("committed");
        let before = lane.status().segments.0;
        let mut freed = 0;
        while let Some(segment) = lane.compaction_plan().first().map(|planned| planned.segment) {
            let done = lane.compact(segment).await.expect("compacted");
            assert!(done.is_freed && done.damage.is_empty(), "{done:?}");
            freed += 1;
            assert!(freed < 100, "it ends");
        }
        assert!(freed > 2 && lane.status().segments.0 < before, "{freed} freed of {before}");
        check(&lane, &kept).await;
        let (digests, used) = (lane.digests(), live(&lane));
        drop(lane);
        let lane = place.open().await;
        check(&lane, &kept).await;
        lane.close().await.expect("committed");
        drop(lane);
        let (lane, found) = place.rebuild().await;
        // The log can't tell a segment that was freed from one that was lost.
        assert!(found.damage.iter().all(|damage| damage.what == What::Segment), "{found:?}");
        check(&lane, &kept).await;
        assert_eq!((lane.digests(), live(&lane)), (digests, used));
    });
}

/// A compaction that was given up while its segment was being freed left it so for ever: it was chosen again and again, first
/// of all, its drops copied each time, until the reserve was used up.
#[test]
fn a_compaction_given_up_anywhere_hinders_no_later_one() {
    with_lane(|place| async move {
        let lane = place.open().await;
        for number in 0..150 {
            let id = put(&lane, &content(number, 100_000)).await;
            lane.drop_chunk(&id).await.expect("dropped");
        }
        lane.commit().await.expect("committed");
        let mut given_up = 0;
        for attempt in 0..2_000_u64 {
            let Some(segment) = lane.compaction_plan().first().map(|planned| planned.segment) else { break };
            // Polled so often, and then no more.
            let mut polls = attempt % 12;
            let mut compaction = pin!(lane.compact(segment));
            let done = std::future::poll_fn(|context| match compaction.as_mut().poll(context) {
                Poll::Ready(done) => Poll::Ready(Some(done)),
                Poll::Pending if polls == 0 => Poll::Ready(None),
                Poll::Pending => {
                    polls -= 1;
                    Poll::Pending
                }
            });
            match done.await {
                Some(done) => drop(done.expect("compacted")),
                None => given_up += 1,
            }
            // What was given up is freed meanwhile, or not.
            time::sleep(Duration::from_millis(attempt % 3)).await;
        }
        assert!(given_up > 3, "{given_up} were given up");
        // The last one may still be on its way.
        time::sleep(Duration::from_millis(50)).await;
        while let Some(segment) = lane.compaction_plan().first().map(|planned| planned.segment) {
            assert!(lane.compact(segment).await.expect("compacted").is_freed);
        }
        let there: Vec<u64> = lane.log().segments().iter().map(|segment| segment.number).collect();
        assert!(there.len() < 4, "{there:?}");
        let counted: Vec<u64> = lane.usage().into_iter().map(|(segment, _)| segment).collect();
        assert!(counted.iter().all(|segment| there.contains(segment)), "{counted:?} are counted of {there:?}");
    });
}

/// Copied a few at a time, each few in a block of its own, the drops took three times the room that they had before.
#[test]
fn a_segment_of_drops_is_compacted_into_as_little_room() {
    with_lane(|place| async move {
        let lane = &place.open().await;
        let mut ids = Vec::new();
        for from in (0..4_000).step_by(500) {
            let puts = (from..from + 500).map(|number| async move {
                let bytes = content(number, 64);
                lane.put(name(&bytes), payload(&bytes)).await.map(|_| name(&bytes))
            });
            ids.extend(futures_util::future::try_join_all(puts).await.expect("stored"));
        }
        // Keeps what the drops drop from being freed, and the drops with it.
        let (kept, first) = (put(lane, &content(9_000, 100)).await, lane.log().head_segment());
        while lane.log().head_segment() == first {
            put(lane, &content(9_001 + lane.status().counts.puts, 300_000)).await;
        }
        let drops = lane.log().head_segment();
        for some in ids.chunks(500) {
            let drops = some.iter().map(|id| lane.drop_chunk(id));
            futures_util::future::try_join_all(drops).await.expect("dropped");
        }
        while lane.log().head_segment() == drops {
            put(lane, &content(9_001 + lane.status().counts.puts, 300_000)).await;
        }
        lane.commit().await.expect("committed");
        let before = lane.status().log.batch_bytes;
        let done = lane.compact(drops).await.expect("compacted");
        let written = lane.status().log.batch_bytes - before;
        assert!(done.is_freed && done.copied >= 4_000, "{done:?}");
        assert!(lane.has(&kept).expect("read"));
        assert!(written < done.copied_bytes * 5 / 4 + (64 << 10), "{written} written for {done:?}");
    });
}

/// Each entry was waited for alone, so that a vote needn't wait long for its slot, and each had a block of its own: a segment
/// of small entries was never worth its copy, and yet copied again and again (simulation: lane, seed 3).
#[test]
fn a_segment_of_entries_is_compacted_into_as_little_room() {
    with_lane(|place| async move {
        let lane = &place.open().await;
        put(lane, b"begins a segment").await;
        let segment = lane.log().head_segment();
        for from in (1..=2_000).step_by(500) {
            let entries = (from..from + 500).map(|index| (1, index, content(index, 64).into())).collect();
            lane.append_raft(7, entries).await.expect("appended");
        }
        while lane.log().head_segment() == segment {
            put(lane, &content(9_001 + lane.status().counts.puts, 300_000)).await;
        }
        lane.commit().await.expect("committed");
        let before = lane.status().log.batch_bytes;
        let done = lane.compact(segment).await.expect("compacted");
        let written = lane.status().log.batch_bytes - before;
        assert!(done.is_freed && done.copied >= 2_000, "{done:?}");
        assert!(written < done.copied_bytes * 5 / 4 + (64 << 10), "{written} written for {done:?}");
        assert_eq!(lane.read_raft(7, 1..=2_000).await.expect("read").len(), 2_000);
    });
}

#[test]
fn scrub_finds_what_rotted_and_a_put_repairs_it() {
    with_lane(|place| async move {
        let lane = place.open_with(Options { cache_bytes: 0, ..options() }).await.0;
        let (small, large) = (content(1, 3_000), content(2, 400_000));
        let (small_id, large_id) = (put(&lane, &small).await, put(&lane, &large).await);
        let other = put(&lane, b"other").await;
        damage(&place, &lane, &small_id, 10);
        damage(&place, &lane, &large_id, 300_000);
        let mut bad = Vec::new();
        for _ in lane.log().segments() {
            let segment = lane.next_to_scrub().expect("asked").expect("some");
            bad.extend(lane.scrub(segment).await.expect("scrubbed").bad);
        }
        bad.sort_unstable();
        let mut expected = vec![small_id, large_id];
        expected.sort_unstable();
        assert_eq!(bad, expected);
        assert_eq!((lane.status().quarantined, lane.quarantine(10).expect("listed").len()), (2, 2));
        for (id, bytes) in [(small_id, &small), (large_id, &large)] {
            assert!(matches!(lane.get(&id).await, Err(LaneError::Quarantined(_))));
            assert!(matches!(lane.get_range(&id, 0..10).await, Err(LaneError::Quarantined(_))));
            assert!(!lane.has(&id).expect("asked"));
            assert_eq!(lane.put(id, payload(bytes)).await.expect("repaired"), Put::New);
            assert_eq!(get(&lane, &id).await.expect("here"), bytes[..]);
        }
        assert_eq!((lane.status().quarantined, recount(&lane)), (0, 3));
        assert_eq!(get(&lane, &other).await.expect("here"), b"other"[..]);
    });
}

#[test]
fn bad_bytes_are_never_returned_and_a_bad_chunk_can_be_dropped() {
    with_lane(|place| async move {
        let lane = place.open_with(Options { cache_bytes: 0, ..options() }).await.0;
        let bytes = content(2, 400_000);
        let (id, small) = (put(&lane, &bytes).await, put(&lane, b"small").await);
        damage(&place, &lane, &id, 300_000);
        damage(&place, &lane, &small, 2);
        assert_eq!(lane.get_range(&id, 0..1000).await.expect("this part is good").expect("here"), bytes[..1000]);
        assert!(matches!(lane.get_range(&id, 299_000..301_000).await, Err(LaneError::Quarantined(_))));
        assert_eq!(lane.verify(&id).await.expect("read"), Verified::Bad);
        assert_eq!(lane.verify(&small).await.expect("read"), Verified::Bad);
        assert!(matches!(lane.get(&small).await, Err(LaneError::Quarantined(_))));
        assert!(lane.drop_chunk(&id).await.expect("dropped"));
        assert!(get(&lane, &id).await.is_none());
        assert_eq!(lane.verify(&id).await.expect("read"), Verified::Absent);
        assert_eq!((lane.status().quarantined, recount(&lane)), (1, 0));
        drop(lane);
        let (lane, _) = place.rebuild().await;
        assert!(get(&lane, &id).await.is_none(), "what was dropped stays dropped");
    });
}

#[test]
fn a_full_lane_gives_and_frees_and_then_takes_again() {
    with_lane(|place| async move {
        let log = LogOptions { segments_max: 6, ..options().log };
        let lane = place.open_with(Options { log, ..options() }).await.0;
        let mut ids = Vec::new();
        let refused = loop {
            let bytes = content(ids.len() as u64, 90_000);
            match lane.put(name(&bytes), payload(&bytes)).await {
                Ok(_) => ids.push((name(&bytes), bytes)),
                Err(error) => break error,
            }
            assert!(ids.len() < 200, "it is full some time");
        };
        assert!(refused.is_no_room() && !refused.is_poisoned(), "{refused}");
        lane.append_raft(1, vec![(1, 1, Bytes::from_static(b"goes on"))]).await.expect("stored");
        for (id, bytes) in &ids {
            assert_eq!(get(&lane, id).await.expect("here"), bytes[..]);
            assert!(lane.drop_chunk(id).await.expect("dropped"));
        }
        while let Some(segment) = lane.compaction_plan().first().map(|planned| planned.segment) {
            lane.compact(segment).await.expect("compacted");
        }
        lane.commit().await.expect("committed");
        while let Some(segment) = lane.compaction_plan().first().map(|planned| planned.segment) {
            assert!(lane.compact(segment).await.expect("compacted").is_freed);
        }
        for number in 500..520 {
            let bytes = content(number, 90_000);
            lane.put(name(&bytes), payload(&bytes)).await.expect("there is room again");
        }
        assert_eq!(lane.read_raft(1, 1..=1).await.expect("read").len(), 1);
    });
}

/// A slot's entries went on taking the reserve until compaction, which alone makes room, had nowhere to copy to: the lane
/// stayed full for ever.
#[test]
fn entries_and_drops_leave_compaction_the_room_to_free_some() {
    with_lane(|place| async move {
        let log = LogOptions { segments_max: 6, ..options().log };
        let lane = place.open_with(Options { log, ..options() }).await.0;
        let mut ids = Vec::new();
        loop {
            // Too small for their room to be given back when they are dropped.
            let bytes = content(ids.len() as u64, 60_000);
            match lane.put(name(&bytes), payload(&bytes)).await {
                Ok(_) => ids.push((name(&bytes), bytes)),
                Err(error) => break assert!(error.is_no_room(), "{error}"),
            }
        }
        for (id, _) in ids.iter().step_by(2) {
            assert!(lane.drop_chunk(id).await.expect("dropped"));
        }
        lane.commit().await.expect("committed");
        let entry = |index: u64| vec![(1, index, Bytes::from(content(index, 20_000)))];
        let mut last = 0;
        let refused = loop {
            match lane.append_raft(1, entry(last + 1)).await {
                Ok(()) => last += 1,
                Err(error) => break error,
            }
        };
        assert!(refused.is_no_room() && !refused.is_poisoned(), "{refused}");
        let mut freed = 0;
        while let Some(segment) = lane.compaction_plan().first().map(|planned| planned.segment) {
            freed += u32::from(lane.compact(segment).await.expect("it has room").is_freed);
        }
        assert!(freed > 0, "{:?}", lane.status());
        lane.append_raft(1, entry(last + 1)).await.expect("there is room again");
        for (number, (id, bytes)) in ids.iter().enumerate() {
            assert_eq!(get(&lane, id).await, (number % 2 == 1).then(|| Bytes::from(bytes.clone())));
        }
        assert_eq!(lane.read_raft(1, 1..=last + 1).await.expect("read").len() as u64, last + 1);
    });
}

#[test]
fn a_poisoned_lane_reads_and_does_not_write() {
    with_lane(|place| async move {
        let lane = place.open().await;
        let id = put(&lane, b"kept").await;
        lane.log().poison("the test says so");
        let refused = lane.put(name(b"late"), payload(b"late")).await.expect_err("refused");
        assert!(refused.is_poisoned() && !refused.is_no_room());
        assert!(lane.drop_chunk(&id).await.expect_err("refused").is_poisoned());
        assert_eq!(get(&lane, &id).await.expect("here"), b"kept"[..]);
        assert!(lane.status().poisoned.is_some());
        drop(lane);
        let lane = place.open().await;
        assert_eq!(get(&lane, &id).await.expect("here"), b"kept"[..]);
    });
}

#[test]
fn writers_of_one_chunk_store_it_once() {
    with_lane(|place| async move {
        let lane = place.open().await;
        let bytes = content(1, 100_000);
        let id = name(&bytes);
        let puts: futures_util::stream::FuturesUnordered<_> = (0..10).map(|_| lane.put(id, payload(&bytes))).collect();
        let stored: Vec<Put> = puts.map(|put| put.expect("stored")).collect().await;
        assert_eq!(stored.iter().filter(|put| **put == Put::New).count(), 1);
        let mut block = block::alloc(100_000).await.expect("memory");
        block.copy_from_slice(&content(2, 100_000));
        let id = name(&content(2, 100_000));
        lane.put(id, Payload::Blocks(vec![block.freeze()])).await.expect("stored");
        assert_eq!(get(&lane, &id).await.expect("here"), content(2, 100_000));
    });
}

/// Whoever comes behind somebody that gave up waiting must see what became of their write.
#[test]
fn a_write_that_nobody_waits_for_any_more_keeps_its_place() {
    with_lane(|place| async move {
        let lane = place.open().await;
        for number in 0..50_u64 {
            let bytes = content(number, 100);
            let id = put(&lane, &bytes).await;
            // Polled once: the drop is on its way to the disk.
            let given_up = time::timeout(Duration::ZERO, lane.drop_chunk(&id)).await;
            let stored = lane.put(id, payload(&bytes)).await.expect("stored");
            time::sleep(Duration::from_millis(2)).await;
            assert_eq!(get(&lane, &id).await.expect("here"), bytes, "{stored:?} after {given_up:?}");
        }
    });
}

/// Compaction freed the segment, and an index made anew knew nothing of the chunk: nobody would have repaired it.
#[test]
fn a_quarantine_outlives_compaction_and_a_rebuild() {
    with_lane(|place| async move {
        let lane = place.open_with(Options { cache_bytes: 0, ..options() }).await.0;
        let bytes = content(1, 3_000);
        let id = put(&lane, &bytes).await;
        let segment = lane.chunk(&id).expect("asked").expect("here").segment;
        for number in 2..30 {
            let other = put(&lane, &content(number, 100_000)).await;
            lane.drop_chunk(&other).await.expect("dropped");
        }
        damage(&place, &lane, &id, 10);
        assert_eq!(lane.verify(&id).await.expect("read"), Verified::Bad);
        lane.commit().await.expect("committed");
        let is_planned = |lane: &Lane| lane.compaction_plan().iter().any(|planned| planned.segment == segment);
        assert!(!is_planned(&lane) && !lane.compact(segment).await.expect("looked at").is_freed);
        lane.close().await.expect("committed");
        drop(lane);
        let (lane, _) = place.rebuild().await;
        assert_eq!(lane.status().quarantined, 1);
        assert!(matches!(lane.get(&id).await, Err(LaneError::Quarantined(_))));
        // Also when the index comes from where it was committed.
        lane.close().await.expect("committed");
        drop(lane);
        let lane = place.open().await;
        assert!(!lane.compact(segment).await.expect("looked at").is_freed);
        assert_eq!(put(&lane, &bytes).await, id);
        lane.commit().await.expect("committed");
        assert!(is_planned(&lane), "nothing keeps it any more");
        // The drop names another segment, and must outlive that one while the bad record is there to be found.
        assert!(lane.drop_chunk(&id).await.expect("dropped"));
        for number in 30..60 {
            let other = put(&lane, &content(number, 100_000)).await;
            lane.drop_chunk(&other).await.expect("dropped");
        }
        lane.commit().await.expect("committed");
        for planned in lane.compaction_plan().iter().filter(|planned| planned.segment != segment) {
            assert!(lane.compact(planned.segment).await.expect("compacted").is_freed);
        }
        lane.close().await.expect("committed");
        drop(lane);
        let (lane, _) = place.rebuild().await;
        assert_eq!((lane.status().quarantined, get(&lane, &id).await), (0, None));
        lane.commit().await.expect("committed");
        assert!(lane.compact(segment).await.expect("compacted").is_freed);
    });
}

/// Each held what the other waited for.
#[test]
fn two_compactions_at_once_both_end() {
    with_lane(|place| async move {
        let lane = place.open().await;
        let entry = |index: u64| vec![(1, index, Bytes::from(content(index, 300)))];
        for (index, slots) in (1..).zip([[1, 2], [2, 1]]) {
            for slot in slots {
                lane.append_raft(slot, entry(index)).await.expect("stored");
            }
            // The rest of the segment.
            for number in 0..12 {
                let id = put(&lane, &content(100 * index + number, 90_000)).await;
                lane.drop_chunk(&id).await.expect("dropped");
            }
        }
        lane.commit().await.expect("committed");
        assert_eq!((lane.usage()[0].0, lane.usage()[1].0), (1, 2));
        // While somebody writes to slot 2 one compaction comes as far as slot 1, and the other, which is first when slot 2 is
        // free, wants slot 1 next.
        let write = async {
            for index in 3..50 {
                lane.append_raft(2, entry(index)).await.expect("stored");
            }
        };
        let all = futures_util::future::join3(write, lane.compact(2), lane.compact(1));
        let ((), one, other) = time::timeout(Duration::from_secs(20), all).await.expect("none waits for the other");
        assert!(one.expect("compacted").is_freed && other.expect("compacted").is_freed);
        for slot in [1, 2] {
            assert_eq!(lane.read_raft(slot, 1..=2).await.expect("read").len(), 2);
        }
    });
}

/// The room that was kept is given back once. When there is room again it must be kept again, or the next full disk finds
/// none.
#[test]
fn the_ballast_is_made_again_after_it_was_used() {
    with_lane(|place| async move {
        let memory = cairn_meta::index::Memory::default();
        let dir = Dir::open(&place.0).await.expect("it is there");
        let options = Options { ballast: 1 << 20, ..options() };
        let (lane, _) = Lane::open(&dir, Store::Memory(memory.clone()), options).await.expect("it opens");
        let ballast = std::path::Path::new(&place.0).join("ballast");
        let length = || std::fs::metadata(&ballast).ok().map(|file| file.len());
        assert_eq!(length(), Some(1 << 20));
        put(&lane, b"one").await;
        memory.fail_commits(1, cairn_meta::index::Fault::NoRoom);
        assert!(lane.commit().await.expect_err("no room").is_no_room());
        assert_eq!(length(), None);
        lane.commit().await.expect("committed");
        assert_eq!(length(), Some(1 << 20));
    });
}
