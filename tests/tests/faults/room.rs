//! A file system that fills up.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use cairn_meta::index::{Checkpoint, ChunkEntry, ChunkId, CommitError, Index, PARTITIONS, Store};

use crate::load::{Answers, Load, assert_clean, check};
use crate::mount::Mount;

/// Writes until nothing more fits.
fn fill(path: &Path) {
    let file = File::create(path).expect("there is some room");
    for piece in [1 << 20, 4096] {
        let zeros = vec![0; piece];
        loop {
            let end = file.metadata().expect("it is open").len();
            if file.write_all_at(&zeros, end).is_err() {
                break;
            }
        }
    }
    let _ = file.sync_all();
}

#[test]
fn a_full_disk_refuses_puts_and_nothing_else() {
    let disk = Mount::new("ext4", "noatime", 400);
    let (lane, filler) = (disk.path().join("lane"), disk.path().join("filler"));
    let mut answers = Answers::default();
    let mut load = Load::start(5000, 90, &[&lane], &answers);
    load.puts(&mut answers, 100);
    fill(&filler);
    load.until(&mut answers, "a refusal", |line| line == "0 full");
    let (mut reads, mut drops, mut full) = (0, 0, 0);
    load.until(&mut answers, "going on while full", |line| {
        assert!(line != "0 poisoned", "a full disk is no broken one");
        reads += usize::from(line == "0 got");
        drops += usize::from(line.starts_with("0 - "));
        full += usize::from(line == "0 full");
        reads > 30 && drops > 30 && full > 10
    });
    std::fs::remove_file(&filler).expect("it is there");
    let mut refused = 0;
    let mut puts = 0;
    load.until(&mut answers, "puts after room was made", |line| {
        assert!(line != "0 poisoned", "a disk that was full is no broken one");
        refused += usize::from(line == "0 full");
        puts += usize::from(line.starts_with("0 + "));
        puts > 50
    });
    load.kill(&mut answers, true);
    check(&lane, &mut answers, 0);
    assert_clean(&lane);
    disk.unmount();
}

#[test]
fn a_full_disk_is_told_from_a_broken_one_and_nothing_is_lost() {
    const CHUNKS: u64 = 50_000;
    let disk = Mount::new("ext4", "noatime", 64);
    let name = |number: u64| ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes());
    let entry =
        |number: u64| ChunkEntry { segment: number, offset: 4096, stored: 4200, length: 4096, flags: 0, touched: 1 };
    let checkpoint = Checkpoint { segment: 1, offset: 4096, sequence: 1 };
    let open = || Index::open(&Store::lmdb(disk.path()), PARTITIONS).expect("opened");
    let mut index = open();
    let filler = disk.path().join("filler");
    fill(&filler);
    let file = File::options().write(true).open(&filler).expect("it is there");
    let len = file.metadata().expect("it is open").len();
    file.set_len(len - (3 << 20)).expect("made shorter");
    for number in 0..CHUNKS {
        index.put_chunk(&name(number), &entry(number)).expect("it is new");
    }
    for _ in 0..3 {
        let commit = index.freeze(checkpoint).expect("there is something to commit");
        let error = index.finish(commit.run()).err().expect("5 MB don't fit into 3");
        assert!(matches!(error, CommitError::DiskFull(_)), "{error}");
        assert_eq!(index.chunk(&name(7)).expect("readable"), Some(entry(7)));
    }
    drop(file);
    std::fs::remove_file(filler).expect("it is there");
    // ext4 gives the room away again once its journal says that it is free.
    File::open(disk.path()).and_then(|dir| dir.sync_all()).expect("synced");
    let commit = index.freeze(checkpoint).expect("handed out again");
    drop(index.finish(commit.run()).expect("there is room"));
    drop(index);
    let index = open();
    for number in 0..CHUNKS {
        assert_eq!(index.chunk(&name(number)).expect("readable"), Some(entry(number)));
    }
    drop(index);
    disk.unmount();
}
