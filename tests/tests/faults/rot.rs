//! Bytes that change on disk: each is found, by scrub or at the start, and by `cairn fsck`.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use cairn_meta::index::{ChunkEntry, ChunkId, Index, PARTITIONS, Store};

use crate::load::{Answers, Load, assert_clean, cairn, try_check};

/// A record, as `cairn log dump --json` tells of it.
struct Record {
    id: String,
    segment: u64,
    offset: u64,
    extent: u64,
    stored: u64,
}

/// The word behind a name in a line of JSON that has no blanks.
fn field(line: &str, name: &str) -> String {
    let from = line.split(&format!("\"{name}\":")).nth(1).unwrap_or_default();
    from.trim_start_matches('"').split(['"', ',', '}']).next().unwrap_or_default().to_owned()
}

/// Chunks that no drop names, each where it lies last.
fn live_chunks(lane: &Path) -> Vec<Record> {
    let (code, text) = cairn(&["log", "dump", "--json"], lane);
    assert_eq!(code, Some(0), "{text}");
    let mut live = std::collections::BTreeMap::new();
    for line in text.lines().filter(|line| field(line, "type") == "record") {
        let (id, number) = (field(line, "id"), |name| field(line, name).parse().expect("a number"));
        match field(line, "kind").as_str() {
            "chunk" => {
                let (segment, offset) = (number("segment"), number("offset"));
                let (extent, stored) = (number("extent"), number("stored"));
                live.insert(id.clone(), Record { id, segment, offset, extent, stored });
            }
            "drop" => drop(live.remove(&id)),
            _ => {}
        }
    }
    live.into_values().collect()
}

/// The file of each segment.
fn files(lane: &Path) -> std::collections::BTreeMap<u64, String> {
    let (_, text) = cairn(&["log", "dump", "--json", "--limit", "0"], lane);
    let is_segment = |line: &&str| field(line, "state").starts_with("segment ");
    let parse = |line: &str| {
        let number = field(line, "state").split(' ').nth(1)?.parse().ok()?;
        Some((number, field(line, "name")))
    };
    text.lines().filter(is_segment).filter_map(parse).collect()
}

/// Changes one byte.
fn flip(file: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(file).expect("it is there");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("it is as long");
    file.write_all_at(&[byte[0] ^ 0x10], offset).expect("it can be written");
    file.sync_all().expect("it can be synced");
}

#[test]
fn rot_is_found() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("there is room");
    let lane = dir.path().join("lane");
    let mut answers = Answers::default();
    let mut load = Load::start(3000, 6, &[&lane], &answers);
    load.puts(&mut answers, 200);
    load.end(&mut answers);
    assert_clean(&lane);
    let (live, files) = (live_chunks(&lane), files(&lane));
    assert!(live.len() > 60, "only {} chunks", live.len());
    // Of every seventh chunk a byte of the payload, of every eleventh one of its header.
    let (mut payloads, mut headers) = (vec![], vec![]);
    for (at, record) in live.iter().enumerate() {
        let file = lane.join(&files[&record.segment]);
        if at % 7 == 3 {
            let within = (at as u64 * 7919) % record.stored;
            flip(&file, record.offset + record.extent - record.stored + within);
            payloads.push(record);
        } else if at % 11 == 5 {
            flip(&file, record.offset + (at as u64 * 31) % 64);
            headers.push(record);
        }
    }
    assert!(payloads.len() > 5 && headers.len() > 3);
    let (code, text) = cairn(&["fsck", "--json"], &lane);
    assert_eq!(code, Some(1), "{text}");
    for record in &payloads {
        assert!(text.contains(&record.id), "the payload of {} is bad and not named", record.id);
    }
    for record in &headers {
        assert!(text.contains(&record.id), "the header of {} is bad and not named", record.id);
    }
    // Nothing else is found: each problem is of a chunk that was broken, or of bytes around a broken header.
    for line in text.lines().filter(|line| line.contains("\"id\": \"")) {
        let id = line.split('"').nth(3).unwrap_or_default();
        let is_broken = payloads.iter().chain(&headers).any(|record| record.id == id);
        assert!(is_broken, "{id} was not broken: {text}");
    }
    // The lane finds them too, and returns none of their bytes.
    let output = try_check(&lane, &answers, 0);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let wrong = said.lines().filter(|line| line.contains("BAD +")).count();
    assert_eq!(wrong, payloads.len() + headers.len(), "{said}");
    assert!(!said.contains("Ok(Some("), "bad bytes were returned: {said}");
    // And it remembers.
    let (code, text) = cairn(&["fsck"], &lane);
    assert!(code == Some(1) && text.contains("quarantined"), "{text}");
}

#[test]
fn damaged_segments_are_told_from_damaged_indexes() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("there is room");
    let lane = dir.path().join("lane");
    let mut answers = Answers::default();
    let mut load = Load::start(4000, 4, &[&lane], &answers);
    load.puts(&mut answers, 60);
    load.end(&mut answers);
    let files = files(&lane);
    // The header of a segment: its batches still say what it is.
    let first = lane.join(files.values().next().expect("there are segments"));
    flip(&first, 20);
    let (code, text) = cairn(&["fsck"], &lane);
    assert!(code == Some(1) && text.contains("header of the segment"), "{text}");
    flip(&first, 20);
    assert_clean(&lane);
    // An index full of nonsense, and none.
    let index = lane.join("index/data.mdb");
    std::fs::write(&index, vec![0x5a; 1 << 16]).expect("it can be written");
    let (code, text) = cairn(&["fsck"], &lane);
    assert!(code == Some(1) && text.contains("--rebuild"), "{text}");
    let (code, text) = cairn(&["fsck", "--rebuild"], &lane);
    assert!(code == Some(0) && text.contains("index.old-1"), "{text}");
    assert!(lane.join("index.old-1/data.mdb").exists());
    assert_clean(&lane);
    crate::load::check(&lane, &mut answers, 0);
    // A segment that is gone.
    let last = live_chunks(&lane).iter().map(|record| record.segment).max().expect("chunks are left");
    let name = crate::rot::files(&lane)[&last].clone();
    std::fs::rename(lane.join(&name), dir.path().join(&name)).expect("it can be moved");
    let (code, text) = cairn(&["fsck"], &lane);
    assert!(code == Some(1) && text.contains("missing"), "{text}");
    std::fs::rename(dir.path().join(&name), lane.join(&name)).expect("it can be moved back");
    // One that was cut short.
    let file = OpenOptions::new().write(true).open(lane.join(&name)).expect("it is there");
    file.set_len(1 << 20).expect("it can be cut");
    let (code, text) = cairn(&["fsck"], &lane);
    assert!(code == Some(1) && text.contains("cut short"), "{text}");
    // The superblock.
    flip(&lane.join("superblock"), 40);
    let (code, text) = cairn(&["fsck"], &lane);
    assert!(code == Some(1) && text.contains("superblock"), "{text}");
    let (code, _) = cairn(&["log", "dump"], &lane);
    assert_eq!(code, Some(1));
}

#[test]
fn an_index_that_lies_is_found_out() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("there is room");
    let lane = dir.path().join("lane");
    let mut answers = Answers::default();
    let mut load = Load::start(6000, 3, &[&lane], &answers);
    load.puts(&mut answers, 60);
    load.end(&mut answers);
    assert_clean(&lane);
    let live = live_chunks(&lane);
    let id = |hex: &str| ChunkId(std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..][..2], 16).expect("hex")));
    let (forgotten, moved, invented) = (id(&live[3].id), id(&live[7].id), ChunkId([0xab; 32]));
    let mut index = Index::open(&Store::lmdb(&lane), PARTITIONS).expect("it is closed");
    let entry = index.drop_chunk(&forgotten).expect("it can be read").expect("it is live");
    let strange = index.chunk(&moved).expect("it can be read").expect("it is live");
    index.put_chunk(&moved, &ChunkEntry { offset: strange.offset + 8, ..strange }).expect("it can be written");
    index.put_chunk(&invented, &entry).expect("it can be written");
    let checkpoint = index.checkpoint().expect("it was committed");
    let commit = index.freeze(checkpoint).expect("there is something new");
    drop(index.finish(commit.run()).expect("there is room"));
    drop(index);
    let (code, text) = cairn(&["fsck"], &lane);
    assert_eq!(code, Some(1), "{text}");
    for (fault, id) in [("lacking", forgotten), ("elsewhere", moved), ("dangling", invented)] {
        let line = text.lines().find(|line| line.contains(&format!("{id:?}"))).unwrap_or_default();
        assert!(line.starts_with(fault), "{fault} {id:?} in {text}");
    }
    assert!(text.contains("usage") && text.contains("--rebuild"), "{text}");
    let (code, text) = cairn(&["fsck", "--rebuild"], &lane);
    assert_eq!(code, Some(0), "{text}");
    crate::load::check(&lane, &mut answers, 0);
}
