//! Logs on real files that somebody damaged while they were closed: each row of the table in `log/recover.rs`.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it damages files behind the log's back")]

use std::cell::RefCell;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::rc::Rc;

use cairn_io::fs::Dir;
use cairn_io::log::{
    Damage, Entry, Id, Kind, Location, Log, LogError, Options, Payload, Placed, Position, Prewrite, ReadError, Record,
    Room, Step, Superblock, What,
};
use cairn_io::{Config, DriverChoice, run_one};
use futures_util::future::join_all;

const SEGMENT: u32 = 64 << 10;
const BATCH_HEADER: u32 = 64;

/// A directory with a log in it, closed.
struct Place(tempfile::TempDir);

/// What an opening found.
#[derive(Debug)]
struct Found {
    /// Sequence numbers that were applied, and whether the record was whole.
    applied: Vec<(u64, bool)>,
    torn: Option<Position>,
    damage: Vec<Damage>,
    gaps: Vec<Damage>,
    /// What could be read back of the records asked for.
    read: Vec<Result<Vec<u8>, String>>,
    /// A record appended afterwards.
    next: Placed,
}

fn id(number: u64) -> Id {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&number.to_le_bytes());
    id
}

fn content(number: u64, len: usize) -> Vec<u8> {
    (0..len).map(|at| ((at as u64 * 7) ^ number) as u8).collect()
}

fn record(number: u64, len: usize) -> Record {
    Record { kind: Kind::Chunk, id: id(number), payload: Payload::Bytes(content(number, len).into()) }
}

fn options() -> Options {
    Options { keep_free: 0, prewrite: Prewrite::Never, reserve: 1, ahead: 1, ..Options::default() }
}

fn on_core<T: Send + 'static>(body: impl AsyncFnOnce(Dir) -> T + Send + 'static, path: PathBuf) -> T {
    let config = Config { driver: DriverChoice::Monoio, ..Config::single() };
    let body = move || async move { body(Dir::open(path.to_str().expect("UTF-8")).await.expect("it is there")).await };
    run_one(&config, body).expect("the core ends well")
}

impl Place {
    /// A log with records of these lengths, each in a batch of its own; tells where they are.
    fn with(lengths: &[usize]) -> (Self, Vec<Placed>) {
        let place = Self::empty();
        let lengths = lengths.to_vec();
        let placed = place.change(async move |log| {
            let mut placed = Vec::new();
            for (number, len) in (0..).zip(lengths) {
                placed.push(log.append(record(number, len), Room::Reserve).await.expect("appended"));
            }
            placed
        });
        (place, placed)
    }

    fn empty() -> Self {
        let place = Self(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory"));
        let superblock = Superblock {
            cluster: [1; 16],
            node: [2; 16],
            lane: [3; 16],
            number: 0,
            segment_bytes: SEGMENT,
            created: 7,
        };
        on_core(async move |dir| Log::create(&dir, &superblock).await.expect("made"), place.0.path().into());
        place
    }

    fn change<T: Send + 'static>(&self, body: impl AsyncFnOnce(Log) -> T + Send + 'static) -> T {
        let body = async move |dir: Dir| {
            let opened = Log::open(&dir, options(), None, Rc::new(|_: &Entry<'_>| ())).await.expect("opened");
            let result = body(opened.log.clone()).await;
            opened.log.close().await;
            result
        };
        on_core(body, self.0.path().into())
    }

    fn open(&self, from: Option<Position>, wanted: &[Placed]) -> Result<Found, String> {
        let wanted = wanted.to_vec();
        let body = async move |dir: Dir| {
            let applied = Rc::new(RefCell::new(Vec::new()));
            let seen = applied.clone();
            let apply = move |entry: &Entry<'_>| seen.borrow_mut().push((entry.sequence, entry.is_whole));
            let opened = Log::open(&dir, options(), from, Rc::new(apply)).await.map_err(|error| match error {
                LogError::IndexAhead(_) => "index ahead".to_owned(),
                error => error.to_string(),
            })?;
            let log = opened.log;
            let applied = applied.take();
            let mut read = Vec::new();
            for (number, placed) in (0..).zip(wanted) {
                read.push(match log.read(placed.location, Kind::Chunk, &id(number)).await {
                    Ok(bytes) => Ok(bytes.to_vec()),
                    Err(ReadError::Bad(_)) => Err("bad".to_owned()),
                    Err(error) => Err(error.to_string()),
                });
            }
            let next = log.append(record(1_000, 100), Room::Reserve).await.expect("it goes on");
            log.close().await;
            Ok(Found { applied, torn: opened.torn, damage: opened.damage, gaps: opened.gaps, read, next })
        };
        on_core(body, self.0.path().into())
    }

    /// The file of a segment, found by the number in its header.
    fn file(&self, segment: u64) -> PathBuf {
        let entries = std::fs::read_dir(self.0.path()).expect("a directory").map(|entry| entry.expect("a file").path());
        let mut named = entries.filter(|path| path.to_string_lossy().contains("segment-"));
        let is_it = |path: &PathBuf| std::fs::read(path).expect("read").get(16..24) == Some(&segment.to_le_bytes());
        named.find(is_it).unwrap_or_else(|| panic!("no file holds segment {segment}"))
    }

    /// Turns the bits of some bytes.
    fn damage(&self, segment: u64, at: u32, len: usize) {
        let path = self.file(segment);
        let file = std::fs::OpenOptions::new().read(true).write(true).open(path).expect("opened");
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, at.into()).expect("read");
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
        file.write_all_at(&bytes, at.into()).expect("written");
    }

    /// A part of a file.
    fn bytes(&self, segment: u64, at: u32, len: usize) -> Vec<u8> {
        std::fs::read(self.file(segment)).expect("read")[at as usize..at as usize + len].to_vec()
    }

    /// Writes a part of a file.
    fn restore(&self, segment: u64, at: u32, bytes: &[u8]) {
        let file = std::fs::OpenOptions::new().write(true).open(self.file(segment)).expect("opened");
        file.write_all_at(bytes, at.into()).expect("written");
    }

    /// What a scan of a segment finds, beginning with its sequence numbers.
    fn scan(&self, segment: u64) -> (Vec<u64>, Vec<Damage>) {
        self.change(async move |log| {
            let (mut found, mut damage) = (Vec::new(), Vec::new());
            let mut scanner = log.scan(segment, None).expect("it is there");
            while let Some(step) = scanner.next().await.expect("read") {
                match step {
                    Step::Record(record) => found.push(record.sequence),
                    Step::Damage(more) => damage.push(more),
                }
            }
            (found, damage)
        })
    }
}

fn batch_of(at: Location) -> u32 {
    at.offset - BATCH_HEADER
}

fn whole(sequences: impl IntoIterator<Item = u64>) -> Vec<(u64, bool)> {
    sequences.into_iter().map(|sequence| (sequence, true)).collect()
}

fn sequences(placed: &[Placed]) -> Vec<u64> {
    placed.iter().map(|placed| placed.sequence).collect()
}

#[test]
fn a_torn_last_batch_is_cut_off() {
    let (place, placed) = Place::with(&[500, 6000, 7000]);
    place.damage(1, placed[2].location.payload_at() + 5000, 100);
    let found = place.open(None, &[]).expect("opened");
    assert_eq!((found.applied, found.damage), (whole(sequences(&placed[..2])), vec![]));
    assert_eq!(found.torn.map(|torn| (torn.segment, torn.offset)), Some((1, batch_of(placed[2].location))));
    let again = place.open(None, &[]).expect("opened");
    assert_eq!(again.applied, whole([placed[0].sequence, placed[1].sequence, found.next.sequence]));
    assert!(again.torn.is_none() && again.damage.is_empty() && found.next.sequence > placed[2].sequence);
}

#[test]
fn a_last_batch_without_a_header_is_cut_off() {
    let (place, placed) = Place::with(&[500, 6000, 7000]);
    place.damage(1, batch_of(placed[2].location), 64);
    let found = place.open(None, &[]).expect("opened");
    assert_eq!((found.applied, found.damage), (whole(sequences(&placed[..2])), vec![]));
}

#[test]
fn a_file_that_was_cut_off_ends_the_log_there() {
    let (place, placed) = Place::with(&[500, 6000, 7000]);
    let file = std::fs::OpenOptions::new().write(true).open(place.file(1)).expect("opened");
    file.set_len(u64::from(batch_of(placed[2].location)) + 4096).expect("cut");
    let found = place.open(None, &[]).expect("opened");
    assert_eq!((found.applied, found.damage), (whole(sequences(&placed[..2])), vec![]));
}

#[test]
fn stale_records_of_a_recycled_segment_are_no_records() {
    let (place, placed) = Place::with(&[20_000; 8]);
    let head = placed[7].location.segment;
    let kept = place.change(async move |log| {
        for segment in 1..head {
            log.free(segment).await.expect("freed");
        }
        let mut kept = Vec::new();
        for number in 0..8 {
            kept.push(log.append(record(number, 14_000), Room::Reserve).await.expect("appended"));
        }
        kept
    });
    let found = place.open(None, &[]).expect("opened");
    assert!(found.damage.is_empty() && found.torn.is_none(), "{found:?}");
    let left = placed.iter().filter(|placed| placed.location.segment == head).chain(&kept);
    assert_eq!(found.applied, whole(left.map(|placed| placed.sequence)));
}

#[test]
fn a_bad_batch_header_in_synced_data_is_reported() {
    let (place, placed) = Place::with(&[500, 6000, 500, 500]);
    place.damage(1, batch_of(placed[1].location) + 20, 1);
    let found = place.open(None, &placed).expect("opened");
    let expected = [0, 2, 3].map(|at: usize| placed[at].sequence);
    assert_eq!((found.applied, found.torn), (whole(expected), None));
    let [damage] = &found.damage[..] else { panic!("{:?}", found.damage) };
    assert_eq!((damage.what, damage.sequences.clone()), (What::Batch, placed[1].sequence..placed[2].sequence));
    assert_eq!(damage.bytes, u64::from(batch_of(placed[1].location))..u64::from(batch_of(placed[2].location)));
    assert!(found.read.iter().all(Result::is_ok), "the record itself can still be read by its place");
}

#[test]
fn a_bad_record_header_in_synced_data_is_reported() {
    let place = Place::empty();
    let placed = place.change(async |log| {
        let together = join_all((0..5).map(|number| log.append(record(number, 3000), Room::Reserve))).await;
        for number in 5..7 {
            log.append(record(number, 10), Room::Reserve).await.expect("appended");
        }
        together.into_iter().map(|placed| placed.expect("appended")).collect::<Vec<_>>()
    });
    // The first may have gone alone; the others are in one batch.
    place.damage(1, placed[2].location.offset + 30, 1);
    let found = place.open(None, &placed).expect("opened");
    let [damage] = &found.damage[..] else { panic!("{:?}", found.damage) };
    assert_eq!((damage.what, damage.sequences.clone()), (What::Records, placed[2].sequence..placed[3].sequence));
    assert_eq!(found.applied.len(), 6);
    assert_eq!(found.read[2], Err("bad".to_owned()));
    assert_eq!(found.read[3], Ok(content(3, 3000)));
}

#[test]
fn a_bad_payload_in_synced_data_is_applied_as_not_whole() {
    let (place, placed) = Place::with(&[500, 6000, 500, 500]);
    place.damage(1, placed[1].location.payload_at() + 17, 1);
    let found = place.open(None, &placed).expect("opened");
    let expected: Vec<(u64, bool)> =
        placed.iter().zip([true, false, true, true]).map(|(p, is)| (p.sequence, is)).collect();
    assert_eq!((found.applied, found.damage, found.torn), (expected, vec![], None));
    assert_eq!(found.read[1], Err("bad".to_owned()));
    assert_eq!(found.read[2], Ok(content(2, 500)));
}

#[test]
fn a_segment_missing_in_the_middle_is_reported() {
    let (place, placed) = Place::with(&[20_000; 8]);
    std::fs::remove_file(place.file(2)).expect("removed");
    // Behind a checkpoint it can only be lost; without one it may have been freed.
    let from = Some(Position { segment: 1, offset: 4096, sequence: placed[0].sequence });
    let found = place.open(from, &[]).expect("opened");
    assert!(found.gaps.is_empty());
    let unknown = place.open(None, &[]).expect("opened");
    assert_eq!((unknown.gaps, unknown.damage), (found.damage.clone(), vec![]));
    let missing: Vec<u64> =
        sequences(&placed.iter().filter(|it| it.location.segment == 2).copied().collect::<Vec<_>>());
    let [damage] = &found.damage[..] else { panic!("{:?}", found.damage) };
    assert_eq!((damage.what, damage.segment), (What::Segment, 2));
    assert!(missing.iter().all(|sequence| damage.sequences.contains(sequence)) && !missing.is_empty());
    assert_eq!(found.applied.len() + missing.len(), placed.len());
}

#[test]
fn a_segment_missing_at_the_end_is_noticed_by_the_index() {
    let (place, placed) = Place::with(&[20_000; 8]);
    let last = placed[7];
    std::fs::remove_file(place.file(last.location.segment)).expect("removed");
    let position =
        Position { segment: last.location.segment, offset: batch_of(last.location), sequence: last.sequence };
    assert_eq!(place.open(Some(position), &[]).expect_err("something is missing"), "index ahead");
}

#[test]
fn a_segment_without_its_header_is_known_by_its_first_batch() {
    let (place, placed) = Place::with(&[20_000; 8]);
    place.damage(2, 0, 512);
    let found = place.open(None, &placed).expect("opened");
    let [damage] = &found.damage[..] else { panic!("{:?}", found.damage) };
    assert_eq!((damage.what, damage.segment), (What::SegmentHeader, 2));
    assert_eq!(found.applied, whole(sequences(&placed)));
    assert!(found.read.iter().all(Result::is_ok));
}

#[test]
fn a_lane_without_its_superblock_is_not_opened() {
    let (place, _) = Place::with(&[500]);
    let path = place.0.path().join("superblock");
    let good = std::fs::read(&path).expect("read");
    for (at, expected) in [(0, "no lane"), (8, "newer Cairn"), (20, "checksum"), (510, "checksum")] {
        let mut bytes = good.clone();
        bytes[at] ^= 0x40;
        std::fs::write(&path, &bytes).expect("written");
        let error = place.open(None, &[]).expect_err("it is damaged");
        assert!(error.contains(expected), "byte {at}: {error}");
    }
    std::fs::write(&path, &good).expect("written");
    place.open(None, &[]).expect("opened");
    std::fs::remove_file(&path).expect("removed");
    assert!(place.open(None, &[]).expect_err("it is gone").contains("no lane"));
}

#[test]
fn a_file_of_garbage_is_reported_and_left_alone() {
    let (place, placed) = Place::with(&[500, 600]);
    let path = place.0.path().join("segment-00000077");
    let garbage = content(3, SEGMENT as usize);
    std::fs::write(&path, &garbage).expect("written");
    let found = place.open(None, &[]).expect("opened");
    let [damage] = &found.damage[..] else { panic!("{:?}", found.damage) };
    assert_eq!(damage.what, What::File);
    assert_eq!(found.applied, whole(sequences(&placed)));
    assert_eq!(std::fs::read(&path).expect("read"), garbage);
}

#[test]
fn an_index_behind_the_log_gets_the_rest() {
    let (place, placed) = Place::with(&[500, 600, 700, 800]);
    let at = placed[2];
    let position = Position { segment: 1, offset: batch_of(at.location), sequence: at.sequence };
    let found = place.open(Some(position), &[]).expect("opened");
    assert_eq!(found.applied, whole(sequences(&placed[2..])));
}

/// Simulation, lane, seed 317: syncs fail while a start cuts off a torn batch. The next one sees the batch gone, and goes on
/// in the next segment for want of room behind. Then the power fails, and the batch is there again, as its header is all
/// that was wiped. Also when it was on its way so long that it came whole.
#[test]
fn a_batch_that_was_cut_off_stays_cut_off_when_it_comes_back() {
    for is_torn in [true, false] {
        let (place, placed) = Place::with(&[500, 20_000, 9_000]);
        let at = placed[2].location;
        let whole_batch = place.bytes(1, batch_of(at), 12 << 10);
        place.damage(1, at.payload_at() + 5000, 100);
        let goes_on = place.change(async |log| {
            let mut placed = Vec::new();
            for number in 0..3 {
                placed.push(log.append(record(number, 40_000), Room::Reserve).await.expect("appended"));
            }
            placed
        });
        assert_eq!(goes_on[0].location.segment, 2, "it didn't fit");
        place.restore(1, batch_of(at), &whole_batch);
        if is_torn {
            place.damage(1, at.payload_at() + 5000, 100);
        }
        let found = place.open(None, &[]).expect("opened");
        assert_eq!((found.damage, found.gaps, found.torn), (vec![], vec![], None));
        assert_eq!(found.applied, whole(sequences(&placed[..2]).into_iter().chain(sequences(&goes_on))));
    }
}

/// A start that cuts off must not rely on what an earlier one wiped and failed to sync.
#[test]
fn what_was_cut_off_is_marked_and_marked_again() {
    let (place, placed) = Place::with(&[500, 6000, 7000]);
    let at = batch_of(placed[2].location);
    place.damage(1, placed[2].location.payload_at() + 5000, 100);
    place.change(async |_| ());
    assert_eq!(place.bytes(1, at, 8), b"CRNX\0\0\0\0");
    // As the page cache shows it of a sync that failed: what else is in the block is of no account.
    place.restore(1, at + 100, b"not durable");
    place.change(async |_| ());
    assert_eq!(place.bytes(1, at + 100, 11), [0; 11], "it was written again");
}

/// Without an index it was taken for a gap, such as freed segments leave, and not reported.
#[test]
fn a_bad_last_batch_of_a_segment_is_reported_without_an_index() {
    let (place, placed) = Place::with(&[20_000; 8]);
    let last = placed.iter().rposition(|placed| placed.location.segment == 1).expect("there is one");
    let from = batch_of(placed[last].location);
    place.damage(1, from + 20, 1);
    let expected = Damage {
        segment: 1,
        bytes: u64::from(from)..u64::from(SEGMENT),
        sequences: placed[last].sequence..placed[last + 1].sequence,
        what: What::Batch,
    };
    assert_eq!(place.scan(1), (sequences(&placed[..last]), vec![expected.clone()]));
    let found = place.open(None, &[]).expect("opened");
    assert_eq!((found.gaps, found.damage), (vec![], vec![expected]));
    assert_eq!(found.applied.len(), placed.len() - 1);
}

/// Simulation, chunklog, seed 183: a scan said nothing of the numbers that were there.
#[test]
fn a_scan_tells_which_records_a_bad_first_batch_had() {
    let (place, placed) = Place::with(&[500, 600, 700]);
    place.damage(1, batch_of(placed[0].location) + 20, 1);
    let (found, damage) = place.scan(1);
    assert_eq!(found, sequences(&placed[1..]));
    let [damage] = &damage[..] else { panic!("{damage:?}") };
    assert_eq!(damage.sequences, placed[0].sequence..placed[1].sequence);
}

#[test]
fn a_scan_finds_no_damage_where_the_next_segment_is_a_restart() {
    let (place, placed) = Place::with(&[500, 20_000, 9_000]);
    place.damage(1, placed[2].location.payload_at() + 5000, 100);
    place.change(async |log| {
        for number in 0..3 {
            log.append(record(number, 40_000), Room::Reserve).await.expect("appended");
        }
    });
    assert_eq!(place.scan(1), (sequences(&placed[..2]), vec![]));
}

/// A file of which nobody knows what it was may be the segment that is missing: without an index, too.
#[test]
fn a_gap_beside_a_file_that_cannot_be_told_is_reported() {
    let (place, placed) = Place::with(&[20_000; 8]);
    place.damage(2, 0, 4096 + 64);
    let found = place.open(None, &[]).expect("opened");
    let whats: Vec<What> = found.damage.iter().map(|damage| damage.what).collect();
    assert_eq!((whats, found.gaps), (vec![What::File, What::Segment], vec![]));
    let lost = placed.iter().filter(|placed| placed.location.segment == 2);
    assert!(lost.into_iter().all(|lost| found.damage[1].sequences.contains(&lost.sequence)));
}

/// A start cut a segment off, failed to make that durable, and the number was used again in another file.
#[test]
fn of_two_files_of_one_segment_the_later_counts() {
    let (place, placed) = Place::with(&[20_000; 4]);
    let cut_off = placed[3];
    assert_eq!(cut_off.location.segment, 2);
    let (path, stale) = (place.file(2), std::fs::read(place.file(2)).expect("read"));
    let mut freed = stale.clone();
    freed[..8 << 10].fill(0);
    std::fs::write(&path, &freed).expect("written");
    let kept = place.change(async |log| {
        let mut kept = Vec::new();
        for number in 0..2 {
            kept.push(log.append(record(number, 20_000), Room::Reserve).await.expect("appended"));
        }
        kept
    });
    assert_eq!(kept[0].location.segment, 2);
    // The stale one by either name, to be found before and behind the other.
    for swap in [false, true] {
        let other = place.0.path().join("segment-00000077");
        if swap {
            std::fs::rename(place.file(2), &other).expect("renamed");
            std::fs::write(&path, &stale).expect("written");
        } else {
            std::fs::write(&other, &stale).expect("written");
        }
        let found = place.open(None, &[]).expect("opened");
        assert_eq!((found.damage, found.gaps, found.torn), (vec![], vec![], None), "swapped: {swap}");
        assert_eq!(found.applied[..5], whole(sequences(&placed[..3]).into_iter().chain(sequences(&kept))));
        if !swap {
            assert_ne!(std::fs::read(&other).expect("read")[..4096], stale[..4096], "it is marked as free");
            std::fs::remove_file(&other).expect("removed");
        }
    }
}

#[test]
fn options_that_would_wait_for_ever_are_refused() {
    let place = Place::empty();
    for wrong in [Options { reserve: 0, ..options() }, Options { ahead: 0, ..options() }] {
        let body = async move |dir: Dir| match Log::open(&dir, wrong, None, Rc::new(|_: &Entry<'_>| ())).await {
            Err(LogError::Options(why)) => why.contains('1'),
            _ => false,
        };
        assert!(on_core(body, place.0.path().into()), "refused, and said what to do");
    }
}
