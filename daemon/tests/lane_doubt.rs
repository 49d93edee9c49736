//! Records of slots that rotted before the index was made anew: whose they were is told, until somebody goes on without them.

#![allow(clippy::disallowed_methods, reason = "it damages files behind the lane's back")]
#![allow(clippy::disallowed_types, reason = "it damages files behind the lane's back")]

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use cairn_daemon::lane::check::{Fault, Report, check};
use cairn_daemon::lane::{At, Lane, Options, Owner, Row};
use cairn_io::fs::Dir;
use cairn_io::log::{Options as LogOptions, Payload};
use cairn_io::time::{self, Duration};
use cairn_io::{Config, run_one};
use cairn_meta::index::{ChunkId, Index, Store};

const PARTITIONS: u32 = 16;
const SEGMENT: u32 = 1 << 20;
/// Bytes of a row, a vote, entries and a chunk that are found again in the files.
const ROW: [u8; 24] = *b"a row that slot 7 has...";
const OTHER_ROW: [u8; 24] = *b"a row that slot 8 has...";
const VOTE: [u8; 24] = *b"a vote of slot 7 in log.";
const ENTRY: [u8; 24] = *b"an entry of slot 7's log";

struct Place(String);

fn options() -> Options {
    let log = LogOptions { keep_free: 0, ..LogOptions::default() };
    Options { log, partitions: PARTITIONS, ballast: 0, ..Options::default() }
}

impl Place {
    async fn open(&self) -> Lane {
        let dir = Dir::open(&self.0).await.expect("it is there");
        // What was closed before lets go of its lock a moment later.
        for _ in 0..200 {
            match Lane::open(&dir, Store::lmdb(&self.0), options()).await {
                Ok((lane, _)) => return lane,
                Err(_) => time::sleep(Duration::from_millis(10)).await,
            }
        }
        Lane::open(&dir, Store::lmdb(&self.0), options()).await.expect("it opens").0
    }

    /// Begins to open it, and ends after so many steps, as a node does that is killed.
    async fn open_in_part(&self, steps: usize) {
        let options = Options { commit_entries: 4, ..options() };
        let dir = Dir::open(&self.0).await.expect("it is there");
        let mut opening = pin!(Lane::open(&dir, Store::lmdb(&self.0), options));
        let mut left = steps;
        poll_fn(|cx| {
            left -= 1;
            let is_open = opening.as_mut().poll(cx).map(|opened| opened.is_ok());
            assert!(is_open != Poll::Ready(true), "it had no time to be half made");
            if left == 0 { Poll::Ready(()) } else { is_open.map(drop) }
        })
        .await;
    }

    /// Whether a part of the log is in the index.
    async fn has_checkpoint(&self) -> bool {
        // What was ended lets go of its index a moment later.
        for _ in 0..200 {
            match Index::open_read_only(&Store::lmdb(&self.0)) {
                Ok(index) => return index.is_some_and(|index| index.checkpoint().is_some()),
                Err(_) => time::sleep(Duration::from_millis(10)).await,
            }
        }
        panic!("the index stays open");
    }

    /// What the two slots miss when the index is made anew.
    async fn doubts(&self) -> [Option<String>; 2] {
        Store::lmdb(&self.0).clear().expect("no index is open");
        let lane = self.open().await;
        let doubts = [7, 8].map(|slot| lane.slot_doubt(slot).expect("read"));
        close(lane).await;
        doubts
    }

    async fn check(&self) -> Report {
        let dir = Dir::open(&self.0).await.expect("it is there");
        for _ in 0..200 {
            if dir.lock().await.is_ok() {
                break;
            }
            time::sleep(Duration::from_millis(10)).await;
        }
        check(&dir, Store::lmdb(&self.0), PARTITIONS, &|_, _, _| {}).await.expect("checked")
    }

    /// Changes a bit of these bytes wherever they are in the log; doing it again undoes it.
    fn flip(&self, bytes: &[u8]) {
        let files = std::fs::read_dir(&self.0).expect("a lane").map(|file| file.expect("a name").path());
        let mut flipped = 0;
        for path in files.filter(|path| path.to_string_lossy().contains("/segment-")) {
            let mut content = std::fs::read(&path).expect("read");
            // All but the first byte: that is what is changed.
            let found = content.windows(bytes.len()).enumerate().filter(|(_, it)| it[1..] == bytes[1..]);
            let places: Vec<usize> = found.map(|(at, _)| at).collect();
            places.iter().for_each(|at| content[*at] ^= 1);
            flipped += places.len();
            std::fs::write(&path, content).expect("written");
        }
        assert!(flipped > 0, "it is in the log");
    }
}

async fn close(lane: Lane) {
    lane.close().await.expect("committed");
}

fn with_lane<F: Future<Output = ()> + 'static>(test: impl FnOnce(Place) -> F + Send + 'static) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let place = Place(dir.path().to_str().expect("UTF-8").to_owned());
    let config = Config { block_bytes_max: 64 << 20, ..Config::single() };
    let run = move || async move {
        let dir = Dir::open(&place.0).await.expect("it is there");
        Lane::create(&dir, Owner::default(), 0, SEGMENT).await.expect("made");
        test(place).await;
    };
    run_one(&config, run).expect("it runs");
}

async fn put(lane: &Lane, bytes: &'static [u8]) -> ChunkId {
    let id = ChunkId(*blake3::hash(bytes).as_bytes());
    lane.put(id, Payload::Bytes(Bytes::from_static(bytes))).await.expect("stored");
    id
}

async fn snapshot(lane: &Lane, slot: u32, index: u64, value: [u8; 24]) {
    let rows = vec![Row::Put(b"key".to_vec(), value.to_vec())];
    lane.stage_rows(slot, index, 0, rows).await.expect("staged");
    lane.install_staged(slot, index, 1, At { term: 1, index }, b"members".to_vec()).await.expect("installed");
}

/// Two slots with a row, a vote and entries each.
async fn fill(lane: &Lane) {
    for (slot, value, vote) in [(7, ROW, VOTE), (8, OTHER_ROW, [8; 24])] {
        snapshot(lane, slot, 10, value).await;
        lane.set_raft_state(slot, 11, &vote).await.expect("stored");
        let entry = if slot == 7 { ENTRY } else { [9; 24] };
        let entries = (11..15).map(|index| (1, index, Bytes::from(entry.to_vec())));
        lane.append_raft(slot, entries.collect()).await.expect("stored");
    }
    // Something behind it proves that it was whole.
    put(lane, b"a chunk").await;
    put(lane, b"the last chunk").await;
}

#[test]
fn a_slot_that_lost_a_record_is_told_and_no_other() {
    with_lane(|place| async move {
        let lane = place.open().await;
        fill(&lane).await;
        close(lane).await;
        assert_eq!(place.doubts().await, [None, None]);
        for (bytes, what) in [(ROW, "rows at "), (VOTE, "votes at "), (ENTRY, "entries of its log at ")] {
            place.flip(&bytes);
            let [doubt, other] = place.doubts().await;
            assert!(
                doubt.as_ref().is_some_and(|doubt| doubt.starts_with(what)) && other.is_none(),
                "{doubt:?} {other:?}"
            );
            let report = place.check().await;
            let told: Vec<&str> =
                report.problems.iter().filter(|it| it.fault == Fault::Incomplete).map(|it| &*it.text).collect();
            assert!(matches!(told[..], [text] if text.starts_with("slot 7 isn't opened: ")), "{:?}", report.problems);
            // Once somebody goes on without, it is not told again.
            let lane = place.open().await;
            lane.accept_loss().await.expect("committed");
            close(lane).await;
            let lane = place.open().await;
            assert_eq!(lane.slot_doubt(7).expect("read"), None);
            close(lane).await;
            assert!(place.check().await.is_clean());
            place.flip(&bytes);
        }
        assert_eq!(place.doubts().await, [None, None]);
    });
}

#[test]
fn what_was_replaced_before_it_rotted_is_not_missed() {
    with_lane(|place| async move {
        let lane = place.open().await;
        fill(&lane).await;
        // A later vote, no entries any more, and rows that were merged.
        lane.set_raft_state(7, 15, b"another vote").await.expect("stored");
        lane.merge_slot(7).await.expect("merged");
        snapshot(&lane, 7, 20, *b"what slot 7 has by then.").await;
        lane.merge_slot(7).await.expect("merged");
        put(&lane, b"behind all of that").await;
        close(lane).await;
        for bytes in [ROW, VOTE, ENTRY] {
            place.flip(&bytes);
            assert_eq!(place.doubts().await, [None, None]);
        }
        // Nor what a slot had before it left.
        let lane = place.open().await;
        lane.erase_slot(8).await.expect("erased");
        put(&lane, b"behind that").await;
        close(lane).await;
        place.flip(&OTHER_ROW);
        assert_eq!(place.doubts().await, [None, None]);
    });
}

#[test]
fn bytes_in_which_no_record_can_be_told_may_have_been_any_slots() {
    with_lane(|place| async move {
        let lane = place.open().await;
        fill(&lane).await;
        let id = put(&lane, b"between others").await;
        put(&lane, b"behind it").await;
        close(lane).await;
        // The header of its record doesn't match its checksum any more.
        place.flip(&id.0);
        let doubts = place.doubts().await;
        assert!(
            doubts.iter().all(|doubt| doubt.as_ref().is_some_and(|doubt| doubt.starts_with("what was in "))),
            "{doubts:?}"
        );
        // A slot that comes again has lost nothing.
        let lane = place.open().await;
        lane.welcome_slot(7).await.expect("ready");
        assert_eq!([7, 8].map(|slot| lane.slot_doubt(slot).expect("read").is_some()), [false, true]);
        close(lane).await;
        place.flip(&id.0);
    });
}

#[test]
fn a_node_that_ends_while_it_makes_the_index_anew_forgets_no_doubt() {
    with_lane(|place| async move {
        let lane = place.open().await;
        fill(&lane).await;
        let id = put(&lane, b"between others").await;
        for number in 0..24_u8 {
            let bytes = vec![number; 200 << 10];
            let id = ChunkId(*blake3::hash(&bytes).as_bytes());
            lane.put(id, Payload::Bytes(Bytes::from(bytes))).await.expect("stored");
        }
        close(lane).await;
        place.flip(&id.0);
        Store::lmdb(&place.0).clear().expect("no index is open");
        let mut steps = 1;
        while !place.has_checkpoint().await {
            place.open_in_part(steps).await;
            steps += 1;
        }
        // When it is made, and at the next start.
        for _ in 0..2 {
            let lane = place.open().await;
            assert!([7, 8].iter().all(|slot| lane.slot_doubt(*slot).expect("read").is_some()));
            close(lane).await;
        }
    });
}

#[test]
fn rows_that_only_the_index_has_are_told() {
    with_lane(|place| async move {
        let lane = place.open().await;
        fill(&lane).await;
        close(lane).await;
        assert!(place.check().await.is_clean());
        place.flip(&ROW);
        let report = place.check().await;
        let rows: Vec<&str> = report.problems.iter().filter(|it| it.fault == Fault::Rows).map(|it| &*it.text).collect();
        assert!(
            matches!(rows[..], [text] if text.starts_with("slot 7: 1 rows are in the index")),
            "{:?}",
            report.problems
        );
        let [seven, eight] = &report.slots[..] else { panic!("{:?}", report.slots) };
        assert_eq!(
            (seven.slot, seven.rows, seven.applied, seven.last),
            (7, 1, Some(At { term: 1, index: 10 }), Some(14))
        );
        assert_eq!((eight.slot, eight.rows, eight.flushed), (8, 1, Some(At { term: 1, index: 10 })));
    });
}
