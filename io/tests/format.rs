//! The format of version 1, byte by byte: a log made by hand must be the one in the fixtures, and stay readable for ever.

#![allow(clippy::disallowed_methods, reason = "it compares files with what they must be")]

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use cairn_io::fs::Dir;
use cairn_io::log::format::{self, BatchHeader, Drop, RecordHeader, SegmentHeader};
use cairn_io::log::{Entry, Id, Kind, Location, Log, Options, Superblock};
use cairn_io::{Config, DriverChoice, run_one};

const SEGMENT: usize = 64 << 10;
const WALL: u64 = 1_700_000_000_000_000_000;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/log-v1")
}

fn superblock() -> Superblock {
    Superblock {
        cluster: [0xc1; 16],
        node: [0xd2; 16],
        lane: [0xe3; 16],
        number: 5,
        segment_bytes: SEGMENT as u32,
        created: WALL,
    }
}

fn id(sequence: u64) -> Id {
    std::array::from_fn(|at| at as u8 ^ sequence as u8)
}

/// Kind, whether in place, payload.
fn records() -> Vec<(Kind, bool, Vec<u8>)> {
    let content = |seed: usize, len: usize| (0..len).map(|at| (at * 13 + seed + (at >> 8)) as u8).collect::<Vec<u8>>();
    let dropped = Drop { of: Kind::Chunk, segment: 1, offset: 4_160 };
    vec![
        (Kind::Chunk, false, content(1, 700)),
        (Kind::Chunk, true, content(2, 9_001)),
        (Kind::Drop, false, dropped.encode().to_vec()),
        (Kind::RaftEntry, false, content(4, 63)),
        (Kind::RaftState, false, content(5, 8)),
        (Kind::Version, true, content(6, 4_096)),
        (Kind::Provisional, false, content(7, 1)),
        (Kind::Checkpoint, false, content(8, 24)),
        (Kind::Touch, false, vec![]),
    ]
}

struct Made {
    files: Vec<(&'static str, Vec<u8>)>,
    placed: Vec<(u64, Location)>,
}

/// The log: three records in segment 1, as many in its second batch, and the rest behind a restart in segment 2.
fn make() -> Made {
    let salt = superblock().salt();
    let (all, mut placed) = (records(), Vec::new());
    let (mut one, mut two) = (vec![0; SEGMENT], vec![0; SEGMENT]);
    SegmentHeader { number: 1, first: 1, synced: 1 }.encode_into(salt, &mut one[..format::BLOCK]);
    SegmentHeader { number: 2, first: 1_000, synced: 7 }.encode_into(salt, &mut two[..format::BLOCK]);
    let batch = |first, restarts, synced, segment| BatchHeader {
        first,
        restarts,
        synced,
        wall: WALL + first,
        bytes: 0,
        records: 3,
        segment,
    };
    let end = put(&mut one, format::BLOCK, batch(1, None, 1, 1), &all[..3], &mut placed);
    put(&mut one, end, batch(4, None, 4, 1), &all[3..6], &mut placed);
    put(&mut two, format::BLOCK, batch(1_000, Some(7), 7, 2), &all[6..], &mut placed);
    let files =
        vec![("superblock", superblock().encode().to_vec()), ("segment-00000000", one), ("segment-00000001", two)];
    Made { files, placed }
}

fn put(
    file: &mut [u8],
    offset: usize,
    mut batch: BatchHeader,
    records: &[(Kind, bool, Vec<u8>)],
    placed: &mut Vec<(u64, Location)>,
) -> usize {
    let salt = superblock().salt();
    let mut at = offset + format::HEADER;
    for (sequence, (kind, is_aligned, payload)) in (batch.first..).zip(records) {
        let length = payload.len() as u32;
        let (kind, is_aligned, id) = (*kind, *is_aligned, id(sequence));
        let header = RecordHeader { kind, is_aligned, extension: 0, stored: length, length, sequence, id };
        let table: Vec<u64> = payload.chunks(format::SPAN).map(|span| format::span_sum(span, salt)).collect();
        header.encode_into(salt, &table, &mut file[at..at + header.head()]);
        let payload_at = at + header.payload_at(at);
        file[payload_at..payload_at + payload.len()].copy_from_slice(payload);
        let extent = header.extent(at) as u32;
        placed.push((sequence, Location { segment: batch.segment, offset: at as u32, extent, stored: length }));
        at = (at + header.extent(at)).next_multiple_of(format::RECORD_ALIGN);
    }
    let end = at.next_multiple_of(format::BLOCK);
    batch.bytes = (end - offset) as u32;
    file[offset..offset + format::HEADER].copy_from_slice(&batch.encode(salt));
    end
}

/// With `CAIRN_WRITE_FIXTURES` set it writes them: for a new version, never for this one.
#[test]
fn the_same_records_give_the_same_bytes() {
    for (name, bytes) in make().files {
        let path = fixtures().join(name);
        if std::env::var_os("CAIRN_WRITE_FIXTURES").is_some() {
            std::fs::create_dir_all(fixtures()).expect("made");
            std::fs::write(&path, &bytes).expect("written");
        }
        let fixture = std::fs::read(&path).expect("there are fixtures");
        let first = fixture.iter().zip(&bytes).position(|(left, right)| left != right);
        assert!(fixture.len() == bytes.len() && first.is_none(), "{name} differs, first at {first:?}");
    }
}

#[test]
fn a_log_of_version_1_is_read_for_ever() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    for (name, _) in make().files {
        std::fs::copy(fixtures().join(name), dir.path().join(name)).expect("copied");
    }
    let path = dir.path().to_str().expect("UTF-8").to_owned();
    let config = Config { driver: DriverChoice::Monoio, ..Config::single() };
    let body = move || async move {
        let dir = Dir::open(&path).await.expect("it is there");
        assert_eq!(Log::superblock_of(&dir).await.expect("read"), superblock());
        let applied = Rc::new(RefCell::new(Vec::new()));
        let seen = applied.clone();
        let apply = move |entry: &Entry<'_>| {
            let payload = entry.payload.to_vec();
            let what = (entry.kind, *entry.id, entry.wall, entry.length, entry.is_whole);
            seen.borrow_mut().push((entry.sequence, entry.location, what, payload));
        };
        let options = Options { keep_free: 0, ..Options::default() };
        let opened = Log::open(&dir, options, None, Rc::new(apply)).await.expect("opened");
        assert!(opened.torn.is_none() && opened.damage.is_empty(), "{:?}", opened.damage);
        let (placed, applied) = (make().placed, applied.take());
        assert_eq!(applied.len(), placed.len());
        for (((sequence, location), (kind, _, payload)), entry) in placed.into_iter().zip(records()).zip(applied) {
            let wall = WALL + [1, 4, 1_000].into_iter().rev().find(|first| *first <= sequence).expect("a batch");
            let shown = if kind == Kind::Chunk { vec![] } else { payload.clone() };
            let what = (kind, id(sequence), wall, payload.len() as u32, true);
            assert_eq!(entry, (sequence, location, what, shown));
            let read = opened.log.read(location, kind, &id(sequence)).await.expect("read");
            assert_eq!(read[..], payload[..]);
            if kind == Kind::Drop {
                assert_eq!(Drop::decode(&read), Some(Drop { of: Kind::Chunk, segment: 1, offset: 4_160 }));
            }
        }
    };
    run_one(&config, body).expect("the core ends well");
}

#[test]
fn the_document_has_the_numbers_of_the_code() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/format.md")).expect("read");
    let constants = [
        ("BLOCK", format::BLOCK),
        ("HEADER", format::HEADER),
        ("SPAN", format::SPAN),
        ("PAYLOAD_MAX", format::PAYLOAD_MAX),
        ("RECORD_ALIGN", format::RECORD_ALIGN),
        ("NUMBER_MAX", format::NUMBER_MAX as usize),
        ("SEGMENT_MIN", format::SEGMENT_MIN as usize),
        ("SEGMENT_MAX", format::SEGMENT_MAX as usize),
        ("VERSION", usize::from(format::VERSION)),
    ];
    for (name, value) in constants {
        assert!(text.contains(&format!("| `{name}` | {value} |")), "docs/format.md: {name} is {value}");
    }
    for kind in Kind::ALL {
        assert!(text.contains(&format!("| {} | `{kind:?}` |", kind as u8)), "docs/format.md lacks {kind:?}");
    }
}
