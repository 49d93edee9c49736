//! No bytes on a disk make the log panic, run in circles or take much memory: neither noise nor, which goes deeper, what
//! was written and then changed under a right checksum.

use std::cell::Cell;
use std::rc::Rc;

use bolero::check;
use cairn_io::block;
use cairn_io::fs::{Dir, Mode};
use cairn_io::log::format::{self, BatchHeader, Drop, RecordHeader, SegmentHeader, spans_match};
use cairn_io::log::{Entry, Kind, Log, Options, Superblock};
use cairn_io::sim::{NodeConfig, World, WorldConfig};
use cairn_io::time::Duration;
use xxhash_rust::xxh3::xxh3_64_with_seed;

const SEGMENT: usize = 64 << 10;
const SALT: u64 = 0x5a17;

/// Changes bytes: two bytes of place and one of value each.
fn change(bytes: &mut [u8], changes: &[u8], within: usize) {
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % within.min(bytes.len());
        // One in eight makes a whole field as large as it can be, or nearly.
        let end = (at / 8 * 8 + 8).min(bytes.len());
        match change[2] {
            0xe0.. => bytes[at / 8 * 8..end].fill(change[2] | 0x0f),
            value => bytes[at] = value,
        }
    }
}

fn seal(bytes: &mut [u8], at: usize, salt: u64) {
    let sum = xxh3_64_with_seed(&bytes[..at], salt);
    bytes[at..at + 8].copy_from_slice(&sum.to_le_bytes());
}

/// Makes the checksum of a record's header right, if the table that it claims is there.
fn seal_record(bytes: &mut [u8], salt: u64) {
    let stored = u32::from_le_bytes(*bytes[8..].first_chunk().expect("a header")) as usize;
    let head = format::HEADER + usize::from(bytes[7]) * 8 + format::spans(stored) * 8;
    let Some(rest) = bytes.get(format::HEADER..head) else { return };
    let sum = xxh3_64_with_seed(&bytes[..56], salt);
    let sum = if rest.is_empty() { sum } else { xxh3_64_with_seed(rest, sum) };
    bytes[56..64].copy_from_slice(&sum.to_le_bytes());
}

fn superblock() -> Superblock {
    Superblock { cluster: [1; 16], node: [2; 16], lane: [3; 16], number: 0, segment_bytes: SEGMENT as u32, created: 0 }
}

fn batch() -> BatchHeader {
    BatchHeader { first: 1, restarts: Some(1), synced: 1, wall: 0, bytes: 8192, records: 3, segment: 1 }
}

/// A record of 300 bytes with its payload.
fn record(sequence: u64, salt: u64) -> Vec<u8> {
    let (stored, length) = (300, 300);
    let header =
        RecordHeader { kind: Kind::Version, is_aligned: false, extension: 0, stored, length, sequence, id: [9; 32] };
    let mut bytes = vec![7; 376];
    let sum = format::span_sum(&bytes[..300], salt);
    header.encode_into(salt, &[sum], &mut bytes);
    bytes
}

fn parse_all(bytes: &[u8]) {
    let _ = Superblock::decode(bytes);
    let _ = SegmentHeader::decode(bytes, SALT);
    let _ = BatchHeader::decode(bytes, SALT);
    let _ = Drop::decode(bytes);
    if let Ok(Ok(header)) = RecordHeader::decode(bytes, SALT) {
        let table = header.table(bytes);
        assert!(header.stored as usize <= format::PAYLOAD_MAX && header.extent(4160) >= header.stored as usize);
        let payload = bytes.get(header.payload_at(0)..).unwrap_or_default();
        let _ = spans_match(table, 0, payload, SALT);
        let _ = spans_match(table, usize::from(bytes[8]), payload, SALT);
    }
}

#[test]
fn noise_is_parsed_without_a_panic() {
    check!().for_each(parse_all);
}

#[test]
fn changed_bytes_with_right_checksums_are_parsed_without_a_panic() {
    check!().for_each(|changes: &[u8]| {
        let mut bytes = superblock().encode();
        change(&mut bytes, changes, 504);
        seal(&mut bytes, 504, 0);
        parse_all(&bytes);
        let mut bytes = [0; format::BLOCK];
        SegmentHeader { number: 3, first: 9, synced: 8 }.encode_into(SALT, &mut bytes);
        change(&mut bytes, changes, 40);
        seal(&mut bytes, 40, SALT);
        parse_all(&bytes);
        let mut bytes = batch().encode(SALT);
        change(&mut bytes, changes, 56);
        seal(&mut bytes, 56, SALT);
        parse_all(&bytes);
        let mut bytes = record(5, SALT);
        bytes.resize(4096, 1);
        change(&mut bytes, changes, 72);
        seal_record(&mut bytes, SALT);
        parse_all(&bytes);
    });
}

/// A segment with three batches of three records, changed as the input says: anywhere, or in headers that then are
/// given right checksums.
fn segment(changes: &[u8]) -> Vec<u8> {
    let salt = superblock().salt();
    let mut bytes = vec![0; SEGMENT];
    SegmentHeader { number: 1, first: 1, synced: 1 }.encode_into(salt, &mut bytes[..format::BLOCK]);
    let (how, changes) = changes.split_first().unwrap_or((&0, &[]));
    for number in 0..3_u64 {
        let from = format::BLOCK + number as usize * 8192;
        let first = 1 + number * 3;
        let header = BatchHeader { first, restarts: None, synced: first, ..batch() };
        bytes[from..from + 64].copy_from_slice(&header.encode(salt));
        for place in 0..3_usize {
            let at = from + 64 + place * 376;
            bytes[at..at + 376].copy_from_slice(&record(first + place as u64, salt));
        }
    }
    let from = format::BLOCK + usize::from(how / 4 % 3) * 8192;
    match how % 4 {
        0 => change(&mut bytes, changes, SEGMENT),
        1 => {
            change(&mut bytes[..48], changes, 40);
            seal(&mut bytes[..48], 40, salt);
        }
        2 => {
            change(&mut bytes[from..from + 64], changes, 56);
            seal(&mut bytes[from..from + 64], 56, salt);
        }
        _ => {
            change(&mut bytes[from + 64..], changes, 64);
            seal_record(&mut bytes[from + 64..], salt);
        }
    }
    bytes
}

/// Opens a log whose only segment has these bytes, scans what is there, and appends nothing. Damaged or not, it ends.
fn open_and_scan(bytes: Vec<u8>) {
    let mut world = World::new(1, WorldConfig { steps_max: 100_000, ..WorldConfig::default() });
    let (bytes, ended) = (Rc::new(bytes), Rc::new(Cell::new(false)));
    let over = ended.clone();
    let node = world.add_node(NodeConfig::default(), move || {
        let (bytes, over) = (bytes.clone(), over.clone());
        Box::new(move |_| {
            let (bytes, over) = (bytes.clone(), over.clone());
            Box::pin(async move {
                look(&bytes).await;
                over.set(true);
            })
        })
    });
    world.run_until(Duration::from_secs(60), || ended.get());
    assert!(world.panics(node).is_empty(), "{:?}", world.panics(node));
    assert!(ended.get(), "a minute isn't enough");
}

async fn look(bytes: &[u8]) {
    let dir = Dir::create("/disk0/lane").await.expect("made");
    Log::create(&dir, &superblock()).await.expect("made");
    let file = dir.open_file("segment-00000000", Mode::CreateNew).await.expect("made");
    let mut block = block::alloc(SEGMENT).await.expect("memory");
    block.copy_from_slice(bytes);
    file.write_at(block.freeze(), 0).await.expect("written");
    let options = Options { keep_free: 0, ..Options::default() };
    let Ok(opened) = Log::open(&dir, options, None, Rc::new(|_: &Entry<'_>| ())).await else { return };
    for segment in opened.log.segments() {
        let mut scanner = opened.log.scan(segment.number, None).expect("it is there");
        while let Ok(Some(_)) = scanner.next().await {}
    }
}

#[test]
fn a_segment_of_changed_bytes_is_opened_and_scanned() {
    check!().with_iterations(400).for_each(|changes: &[u8]| open_and_scan(segment(changes)));
}
