//! The index of a lane beside a bare LMDB loop with the same batches, in the same run: inserts, lookups, what is written.
//!
//! One measured run, no samples: an index of ten million entries is not made twice. `CAIRN_INDEX_ENTRIES` says how many
//! (one million by default), `CAIRN_INDEX_BATCH` how many to a commit, `CAIRN_BENCH_DIR` on which disk (otherwise the
//! target directory's).

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it times a library that blocks, on threads of its own; no node runs it"
)]

use std::hint::black_box;
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{env, fs};

use cairn_meta::index::reference::Bare;
use cairn_meta::index::{Checkpoint, ChunkEntry, ChunkId, Commit, Committed, Index, PARTITIONS, Store};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Lookups of one kind.
const LOOKUPS: u64 = 1 << 20;

/// Lookups between two turns.
const TURN: u64 = 1 << 14;

fn main() {
    // `cargo bench` says `--bench`; anyone else only wants to know that it runs.
    let measured = env::args().any(|arg| arg == "--bench");
    let entries = number("CAIRN_INDEX_ENTRIES", if measured { 1_000_000 } else { 2_000 });
    let batch = number("CAIRN_INDEX_BATCH", if measured { 1 << 18 } else { 500 });
    let dir = cairn_benches::dir(env!("CARGO_TARGET_TMPDIR"));
    let dir = tempfile::tempdir_in(dir).expect("a directory of our own");
    println!("{entries} chunks, {batch} to a commit, all commits synced\n");
    let alone = tempfile::tempdir_in(dir.path()).expect("a directory in it");
    let behind = behind(alone.path(), entries, batch);
    drop(alone);
    let mut pair = Pair::open(dir.path());
    inserts(&mut pair, entries, batch, behind);
    lookups(&mut pair, entries, batch);
    space(&pair, entries);
}

fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

struct Pair {
    bare: Bare,
    index: Index,
}

impl Pair {
    fn open(dir: &Path) -> Self {
        let (bare, lane) = (dir.join("bare"), dir.join("lane"));
        fs::create_dir(&bare).and_then(|()| fs::create_dir(&lane)).expect("the directory is ours");
        let index = Index::open(&Store::lmdb(lane), PARTITIONS).expect("a new index");
        Self { bare: Bare::open(&bare).expect("a new table"), index }
    }
}

/// Names like hashes.
fn name(number: u64) -> ChunkId {
    let mut name = [0; 32];
    for (seed, part) in (1..).zip(name.chunks_mut(8)) {
        part.copy_from_slice(&xxh3_64_with_seed(&number.to_le_bytes(), seed).to_le_bytes());
    }
    ChunkId(name)
}

fn entry(number: u64) -> ChunkEntry {
    let segment = number / 4096;
    ChunkEntry { segment, offset: (number % 4096) as u32 * 65536, stored: 65600, length: 65536, flags: 0, touched: 1 }
}

/// As long as the entry's encoding.
fn bare_value(number: u64) -> [u8; 26] {
    let mut value = [1; 26];
    value[..8].copy_from_slice(&number.to_le_bytes());
    value
}

/// Time and bytes given to the disk.
#[derive(Clone, Copy, Default)]
struct Cost {
    time: Duration,
    written: u64,
}

impl Cost {
    fn of<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let (started, before) = (Instant::now(), written());
        let result = work();
        self.time += started.elapsed();
        self.written += written() - before;
        result
    }
}

/// Bytes that this process gave to disks.
fn written() -> u64 {
    line_of("/proc/self/io", "write_bytes:")
}

fn line_of(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let rest = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    rest.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// A batch's chunks.
fn names(first: u64, end: u64) -> Vec<(u64, ChunkId)> {
    (first..end).map(|number| (number, name(number))).collect()
}

fn put(index: &mut Index, chunks: &[(u64, ChunkId)]) {
    for (number, id) in chunks {
        index.put_chunk(id, &entry(*number)).expect("it can be read");
    }
}

fn freeze(index: &mut Index, sequence: u64) -> Commit {
    index.freeze(Checkpoint { segment: 0, offset: 0, sequence }).expect("something to commit")
}

/// As a lane does it: while a helper commits a batch, the owner puts the next.
fn behind(dir: &Path, entries: u64, batch: u64) -> Cost {
    let mut index = Index::open(&Store::lmdb(dir), PARTITIONS).expect("a new index");
    let mut cost = Cost::default();
    let mut helper: Option<JoinHandle<Committed>> = None;
    let finish = |index: &mut Index, helper: Option<JoinHandle<Committed>>| {
        let committed = helper.map(|helper| helper.join().expect("it doesn't panic"));
        committed.map(|committed| index.finish(committed).expect("there is room"))
    };
    for first in (0..entries).step_by(batch as usize) {
        let end = entries.min(first + batch);
        let chunks = names(first, end);
        cost.of(|| {
            put(&mut index, &chunks);
            let retired = finish(&mut index, helper.take());
            let commit = freeze(&mut index, end);
            helper = Some(thread::spawn(move || {
                drop(retired);
                commit.run()
            }));
        });
    }
    cost.of(|| drop(finish(&mut index, helper)));
    cost
}

/// Batches go by turns to the bare table and to the index, which commits on the thread that puts.
fn inserts(pair: &mut Pair, entries: u64, batch: u64, behind: Cost) {
    let (mut bare, mut owner, mut helper) = (Cost::default(), Cost::default(), Cost::default());
    for first in (0..entries).step_by(batch as usize) {
        let end = entries.min(first + batch);
        let chunks = names(first, end);
        let pairs = chunks.iter().map(|(number, id)| (id.0, bare_value(*number)));
        bare.of(|| pair.bare.insert(pairs).expect("there is room"));
        let commit = owner.of(|| {
            put(&mut pair.index, &chunks);
            freeze(&mut pair.index, end)
        });
        let committed = helper.of(|| commit.run());
        let retired = owner.of(|| pair.index.finish(committed).expect("there is room"));
        helper.of(|| drop(retired));
    }
    let both = Cost { time: owner.time + helper.time, written: owner.written + helper.written };
    println!("{:<44} {:>10} {:>8} {:>14}", "inserts", "per second", "ratio", "written, each");
    let row = |name: &str, cost: Cost| {
        let rate = entries as f64 / cost.time.as_secs_f64();
        let ratio = bare.time.as_secs_f64() / cost.time.as_secs_f64();
        println!("{name:<44} {rate:>10.0} {ratio:>8.2} {:>14.0}", cost.written as f64 / entries as f64);
    };
    row("bare: put in one transaction, commit", bare);
    row("index, commits behind on a helper", behind);
    row("index, all on one thread", both);
    row("  of which the owner's part", owner);
    row("  of which the commits", helper);
}

/// Looks up with an empty overlay, then with both layers full.
fn lookups(pair: &mut Pair, committed: u64, batch: u64) {
    println!("\n{:<44} {:>10} {:>8}", "lookups", "per second", "ratio");
    let there = |turn: u64| xxh3_64_with_seed(&turn.to_le_bytes(), 9) % committed;
    let gone = |turn: u64| u64::MAX - turn;
    compare(pair, "there, empty overlay", there);
    compare(pair, "not there, empty overlay", gone);
    fill(&mut pair.index, committed, batch);
    let commit = pair.index.freeze(Checkpoint::default()).expect("something to commit");
    fill(&mut pair.index, committed + batch, batch);
    compare(pair, "there, both layers full", there);
    compare(pair, "not there, both layers full", gone);
    let fresh = |turn: u64| committed + xxh3_64_with_seed(&turn.to_le_bytes(), 9) % (2 * batch);
    let alone = |what: &str, time: Duration| {
        println!("{what:<44} {:>10.0}", LOOKUPS as f64 / time.as_secs_f64());
    };
    alone("index: in the overlay", time_index(&pair.index, &(0..LOOKUPS).map(fresh).map(name).collect::<Vec<_>>()));
    let names: Vec<ChunkId> = (0..LOOKUPS).map(there).map(name).collect();
    alone("bare: there, each in its own transaction", names.iter().map(|id| time_bare(&pair.bare, &[*id])).sum());
    drop(commit);
}

fn fill(index: &mut Index, first: u64, count: u64) {
    put(index, &names(first, first + count));
}

fn compare(pair: &Pair, what: &str, number: impl Fn(u64) -> u64) {
    let (mut bare, mut index, mut done) = (Duration::ZERO, Duration::ZERO, 0);
    while done < LOOKUPS {
        let names: Vec<ChunkId> = (done..done + TURN).map(|turn| name(number(turn))).collect();
        // Each goes first half of the time: the second finds the keys in the cache, though not the pages.
        if (done / TURN).is_multiple_of(2) {
            bare += time_bare(&pair.bare, &names);
            index += time_index(&pair.index, &names);
        } else {
            index += time_index(&pair.index, &names);
            bare += time_bare(&pair.bare, &names);
        }
        done += TURN;
    }
    let rate = |time: Duration| done as f64 / time.as_secs_f64();
    println!("{:<44} {:>10.0}", format!("bare: {what}"), rate(bare));
    println!("{:<44} {:>10.0} {:>8.2}", format!("index: {what}"), rate(index), rate(index) / rate(bare));
}

fn time_bare(bare: &Bare, names: &[ChunkId]) -> Duration {
    let started = Instant::now();
    let found = bare.look_up(names.iter().map(|id| id.0), |value| {
        black_box(value[0]);
    });
    black_box(found.expect("it can be read"));
    started.elapsed()
}

fn time_index(index: &Index, names: &[ChunkId]) -> Duration {
    let started = Instant::now();
    for id in names {
        black_box(index.chunk(id).expect("it can be read"));
    }
    started.elapsed()
}

fn space(pair: &Pair, entries: u64) {
    let stats = pair.index.stats().expect("it can be read");
    let bare = pair.bare.file_bytes().expect("it is open");
    let mib = |bytes: u64| bytes >> 20;
    println!(
        "\nfile: bare {} MiB, index {} MiB ({} bytes an entry, {} levels)",
        mib(bare),
        mib(stats.file_bytes),
        stats.file_bytes / entries,
        stats.chunks_depth
    );
    let status = |name| line_of("/proc/self/status", name) >> 10;
    println!(
        "memory: {} MiB of our own (both layers {} MiB by their own count), {} MiB of mapped files, both tables",
        status("RssAnon:"),
        mib(pair.index.pressure().bytes() as u64),
        status("RssFile:"),
    );
}
