//! What only LMDB can do to an index: fill its map, refuse what is no index, be committed while others read.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "they damage the files and commit on a thread")]

use std::fs::{self, OpenOptions};
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::thread;

use cairn_meta::index::{
    Checkpoint, ChunkEntry, ChunkId, CommitError, Error, Index, OpenError, Scan, Step, Store, Table,
};
use cairn_placement::PartitionId;
use tempfile::{TempDir, tempdir};

const PARTITIONS: u32 = 64;

fn open(dir: &TempDir) -> Result<Index, OpenError> {
    Index::open(&Store::lmdb(dir.path()), PARTITIONS)
}

fn checkpoint(sequence: u64) -> Checkpoint {
    Checkpoint { segment: 3, offset: sequence * 4096, sequence }
}

fn commit(index: &mut Index, sequence: u64) {
    let commit = index.freeze(checkpoint(sequence)).expect("something to commit");
    index.finish(commit.run()).unwrap();
}

/// A name that looks like a hash.
fn name(number: u64) -> ChunkId {
    let mut state = number;
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)).to_le_bytes()
    };
    ChunkId([next(), next(), next(), next()].concat().try_into().expect("32 bytes"))
}

fn entry(number: u64) -> ChunkEntry {
    ChunkEntry { segment: number, offset: 0, stored: 4160, length: 4096, flags: 0, touched: 0 }
}

fn fill(index: &mut Index, numbers: Range<u64>) {
    for number in numbers {
        assert_eq!(index.put_chunk(&name(number), &entry(number)).unwrap(), None);
    }
}

#[test]
fn what_was_committed_survives_and_the_overlay_does_not() {
    let dir = tempdir().unwrap();
    let mut index = open(&dir).unwrap();
    assert_eq!(index.checkpoint(), None);
    index.put(Table::Lane, b"id", b"7").unwrap();
    index.put_chunk(&name(1), &entry(1)).unwrap();
    commit(&mut index, 1);
    index.put(Table::Lane, b"id", b"8").unwrap();
    index.put_chunk(&name(2), &entry(2)).unwrap();
    let unfinished = index.freeze(checkpoint(2));
    index.put_chunk(&name(3), &entry(3)).unwrap();
    drop(index);
    assert!(matches!(open(&dir), Err(OpenError::InUse(_))), "the commit could still run");
    drop(unfinished);
    let index = open(&dir).unwrap();
    assert_eq!(index.checkpoint(), Some(checkpoint(1)));
    assert_eq!(index.get(Table::Lane, b"id").unwrap(), Some(b"7".to_vec()));
    assert_eq!(index.digests().iter().map(|digest| digest.count).sum::<u64>(), 1);
    assert!(dir.path().join("index/data.mdb").is_file());
}

#[test]
fn a_commit_that_landed_but_was_not_finished_is_there_after_a_crash() {
    let dir = tempdir().unwrap();
    let mut index = open(&dir).unwrap();
    index.put_chunk(&name(1), &entry(1)).unwrap();
    let committed = index.freeze(checkpoint(1)).unwrap().run();
    drop((index, committed));
    let index = open(&dir).unwrap();
    assert_eq!(index.checkpoint(), Some(checkpoint(1)));
    assert_eq!(index.chunk(&name(1)).unwrap(), Some(entry(1)));
}

#[test]
fn nothing_is_committed_when_nothing_changed() {
    let mut index = open(&tempdir().unwrap()).unwrap();
    commit(&mut index, 1);
    assert!(index.freeze(checkpoint(1)).is_none());
    assert!(index.freeze(checkpoint(2)).is_some(), "the log went on, though nothing in it changed the index");
}

#[test]
fn a_full_map_grows_and_nothing_is_lost() {
    let dir = tempdir().unwrap();
    let small = Store::Lmdb { dir: dir.path().to_owned(), map_size: 1 << 19 };
    let mut index = Index::open(&small, PARTITIONS).unwrap();
    index.put_chunk(&name(0), &entry(0)).unwrap();
    commit(&mut index, 1);
    fill(&mut index, 1..20_000);
    let everything = index.pressure();
    let mut failures = 0;
    while let Err(error) = index.freeze(checkpoint(2)).map(|commit| index.finish(commit.run())).expect("a retry") {
        assert_eq!(error, CommitError::MapFull);
        assert!(error.is_no_room() && !index.is_committing());
        failures += 1;
        assert!(failures < 10, "each time the map has doubled");
        assert_eq!(index.pressure().frozen_entries, everything.active_entries, "the layer waits for the retry");
        let newcomer = 20_000 + failures;
        index.put_chunk(&name(newcomer), &entry(newcomer)).unwrap();
        assert_eq!(index.chunk(&name(0)).unwrap(), Some(entry(0)), "from the store");
        assert_eq!(index.chunk(&name(19_999)).unwrap(), Some(entry(19_999)), "from the frozen layer");
        assert_eq!(index.chunk(&name(newcomer)).unwrap(), Some(entry(newcomer)), "from the active layer");
    }
    assert!(failures > 0, "the map was never full");
    let stats = index.stats().unwrap();
    assert_eq!((stats.commits, stats.commits_failed), (2, failures));
    assert!(stats.map_bytes >= stats.file_bytes && stats.file_bytes > 1 << 19, "{stats:?}");
    assert_eq!(index.pressure().active_entries as u64, failures);
    commit(&mut index, 3);
    drop(index);
    let index = Index::open(&small, PARTITIONS).unwrap();
    for number in 0..=20_000 + failures {
        let expected = (number != 20_000).then(|| entry(number));
        assert_eq!(index.chunk(&name(number)).unwrap(), expected);
    }
    for partition in (0..PARTITIONS).map(PartitionId) {
        assert_eq!(index.recount(partition).unwrap(), index.digest(partition));
    }
}

#[test]
fn a_map_too_large_for_the_machine_is_made_smaller() {
    let dir = tempdir().unwrap();
    let mut index = Index::open(&Store::Lmdb { dir: dir.path().to_owned(), map_size: u64::MAX }, PARTITIONS).unwrap();
    fill(&mut index, 0..100);
    commit(&mut index, 1);
    let stats = index.stats().unwrap();
    assert!((1 << 30..1 << 58).contains(&stats.map_bytes), "{stats:?}");
}

#[test]
fn a_store_that_went_away_and_came_back_loses_nothing() {
    let dir = tempdir().unwrap();
    let small = Store::Lmdb { dir: dir.path().to_owned(), map_size: 1 << 19 };
    let mut index = Index::open(&small, PARTITIONS).unwrap();
    fill(&mut index, 0..1);
    commit(&mut index, 1);
    fill(&mut index, 1..10_000);
    let try_commit = |index: &mut Index| index.freeze(checkpoint(2)).map(|commit| index.finish(commit.run())).unwrap();
    let (here, away) = (dir.path().join("index"), dir.path().join("away"));
    fs::rename(&here, &away).unwrap();
    assert!(matches!(try_commit(&mut index), Err(CommitError::MapFull)), "and a larger map can't be opened");
    assert!(matches!(index.chunk(&name(0)), Err(Error::Unreadable(_))));
    assert_eq!(index.chunk(&name(9_999)).unwrap(), Some(entry(9_999)), "the layers are there");
    fs::create_dir(&here).unwrap();
    assert!(matches!(try_commit(&mut index), Err(CommitError::Failed(_))), "an empty directory is not the index");
    fs::remove_dir_all(&here).unwrap();
    fs::rename(&away, &here).unwrap();
    assert!((0..10).any(|_| try_commit(&mut index).is_ok()), "opened again, then with a larger map");
    assert_eq!(index.checkpoint(), Some(checkpoint(2)));
    (0..10_000).for_each(|number| assert_eq!(index.chunk(&name(number)).unwrap(), Some(entry(number))));
}

#[test]
fn the_owner_reads_and_writes_while_a_commit_runs() {
    const BATCH: u64 = 5_000;
    let dir = tempdir().unwrap();
    let mut index = open(&dir).unwrap();
    let mut known = 0;
    for round in 0..8 {
        fill(&mut index, known..known + BATCH);
        known += BATCH;
        let commit = index.freeze(checkpoint(round)).unwrap();
        let helper = thread::spawn(move || commit.run());
        while !helper.is_finished() {
            assert!(index.freeze(checkpoint(round)).is_none(), "one commit at a time");
            assert_eq!(index.chunk(&name(known / 2)).unwrap(), Some(entry(known / 2)));
            index.put_chunk(&name(known), &entry(known)).unwrap();
            assert_eq!(index.drop_chunk(&name(known)).unwrap(), Some(entry(known)));
            index.put_chunk(&name(known), &entry(known)).unwrap();
            known += 1;
            let mut met = 0;
            let mut scan = Scan::all(Table::Chunks);
            let mut count = |_: &[u8], _: &[u8]| {
                met += 1;
                ControlFlow::Continue(())
            };
            while index.step(&mut scan, 10_000, &mut count).unwrap() == Step::More {}
            assert_eq!(met, known);
        }
        index.finish(helper.join().unwrap()).unwrap();
    }
    assert_eq!(index.digests().iter().map(|digest| digest.count).sum::<u64>(), known);
}

#[test]
fn a_scan_meets_what_stays_while_all_else_changes() {
    let dir = tempdir().unwrap();
    let mut index = open(&dir).unwrap();
    let key = |number: u32| number.to_be_bytes();
    (0..1000).for_each(|number| index.put(Table::State, &key(number), b"first").unwrap());
    commit(&mut index, 1);
    let mut scan = Scan::all(Table::State);
    let (mut met, mut turn) = (Vec::new(), 0);
    loop {
        let step = index.step(&mut scan, 10, |key, _| {
            met.push(u32::from_be_bytes(key.try_into().unwrap()));
            ControlFlow::Continue(())
        });
        if step.unwrap() == Step::Done {
            break;
        }
        turn += 1;
        // Odd ones go, and others come; the even ones stay.
        index.delete(Table::State, &key((turn * 37 % 1000) | 1)).unwrap();
        index.put(Table::State, &key(2000 + turn), b"new").unwrap();
        if turn.is_multiple_of(5) {
            commit(&mut index, u64::from(turn));
        }
    }
    assert!(met.is_sorted_by(|a, b| a < b), "in order, each once");
    assert!((0..1000).step_by(2).all(|number| met.contains(&number)));
}

#[test]
fn what_is_no_index_is_refused_with_the_remedy() {
    let refused = |damage: fn(&Path)| {
        let dir = tempdir().unwrap();
        let mut index = open(&dir).unwrap();
        fill(&mut index, 0..10_000);
        commit(&mut index, 1);
        drop(index);
        damage(&dir.path().join("index/data.mdb"));
        let error = open(&dir).err().expect("it was damaged").to_string();
        assert!(error.contains("cairn fsck --rebuild"), "{error}");
        Store::lmdb(dir.path()).clear().unwrap();
        let index = open(&dir).unwrap();
        assert_eq!((index.checkpoint(), index.stats().unwrap().entries[0]), (None, 0), "made anew");
    };
    refused(|file| fs::write(file, vec![b'x'; 1 << 20]).unwrap());
    refused(|file| fs::write(file, b"short").unwrap());
    // So short that what is missing can't be pages that LMDB never wrote.
    refused(|file| {
        OpenOptions::new().write(true).open(file).unwrap().set_len(8192).unwrap();
    });
}

#[test]
fn an_index_keeps_its_number_of_partitions() {
    let dir = tempdir().unwrap();
    drop(open(&dir).unwrap());
    let error = Index::open(&Store::lmdb(dir.path()), 128).err().unwrap();
    assert!(matches!(error, OpenError::Partitions { stored: PARTITIONS, asked: 128 }), "{error}");
    assert!(matches!(Index::open(&Store::lmdb(dir.path()), 100), Err(OpenError::PartitionCount(100))));
    drop(open(&dir).unwrap());
}

#[test]
fn wrong_use_is_refused_and_changes_nothing() {
    let mut index = open(&tempdir().unwrap()).unwrap();
    assert!(matches!(index.put(Table::State, b"", b"x"), Err(Error::KeyLength { length: 0, .. })));
    assert!(matches!(index.put(Table::State, &[0; 1983], b"x"), Err(Error::KeyLength { length: 1983, .. })));
    assert!(matches!(index.put(Table::Chunks, &[0; 32], b"x"), Err(Error::Typed)));
    assert_eq!(index.pressure().entries(), 0);
    assert_eq!(index.get(Table::State, b"").unwrap(), None);
    index.put(Table::State, &[0; 1982], vec![1; 100_000]).unwrap();
    commit(&mut index, 1);
    assert_eq!(index.get(Table::State, &[0; 1982]).unwrap(), Some(vec![1; 100_000]));
    let mut other = open(&tempdir().unwrap()).unwrap();
    other.put(Table::State, b"a", b"b").unwrap();
    let foreign = other.freeze(checkpoint(1)).unwrap().run();
    assert!(matches!(index.finish(foreign), Err(CommitError::Foreign)));
}

#[test]
fn partitions_are_ranges_of_names() {
    let mut index = open(&tempdir().unwrap()).unwrap();
    fill(&mut index, 0..500);
    commit(&mut index, 1);
    for partition in (0..PARTITIONS).map(PartitionId) {
        let mut scan = index.chunks_of(partition);
        let mut met = 0;
        let mut visit = |id: ChunkId, _| {
            assert_eq!(PartitionId::of_chunk(&id.0, PARTITIONS), partition);
            met += 1;
            ControlFlow::Continue(())
        };
        while index.step_chunks(&mut scan, 16, &mut visit).unwrap() == Step::More {}
        assert_eq!(met, index.digest(partition).count);
    }
    assert_eq!(index.first(index.chunks_of(PartitionId(PARTITIONS))).unwrap(), None);
}
