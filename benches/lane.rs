//! Benchmarks of a lane: storing and reading chunks, beside bare loops that write, sync and read as much.
//!
//! `CAIRN_BENCH_DIR` names a directory on the disk to measure; otherwise it is the target directory's. All of it takes
//! about a minute and 3 GiB; `cargo bench -p cairn-benches --bench lane -- put` runs a part. `cairn bench lane` has the
//! bars; its slices alternate, which suits a noisy machine better.

use std::path::Path;
use std::time::Duration;

use cairn_benches::{bench, criterion, dir};
use cairn_io::Config;
use cairn_io::reference::{Calls, Durable, Load, Operation, Order, RemoteCore, Scratch, ScratchDir, Stop};
use cairn_tools::bench::pairs::{LARGE, SMALL};
use cairn_tools::bench::subject::{self, Beside, Chunks, Job, Name, SEGMENT, Space};
use criterion::{Criterion, Throughput};

const HUGE: usize = 4 << 20;
const PART: usize = 64 << 10;
/// What there is to read: of each length.
const SMALL_CHUNKS: Chunks = Chunks { bytes: SMALL, count: 50_000 };
const LARGE_CHUNKS: Chunks = Chunks { bytes: LARGE, count: 128 };
const HUGE_CHUNKS: Chunks = Chunks { bytes: HUGE, count: 64 };
/// Bytes of the bare file, as many as there are chunks.
const BARE: u64 = 512 << 20;

fn main() {
    let mut criterion = criterion();
    let rig = Rig::new(&dir(env!("CARGO_TARGET_TMPDIR")));
    puts(&mut criterion, &rig);
    gets(&mut criterion, &rig);
    criterion.final_summary();
}

/// A lane that is written round and round, one that is read, and a bare file.
struct Rig {
    core: RemoteCore,
    scratch: Scratch,
    // Removed last.
    _dir: ScratchDir,
}

impl Rig {
    fn new(dir: &Path) -> Self {
        let scratch = Scratch::create(dir, BARE).unwrap_or_else(|error| panic!("{error}"));
        scratch.fill(|_| ()).expect("the disk takes the file");
        let lanes = ScratchDir::create(dir, 8 * u64::from(SEGMENT)).unwrap_or_else(|error| panic!("{error}"));
        let core = RemoteCore::start(&Config::single()).expect("a driver runs here");
        for name in [Name::Round, Name::Full] {
            let path = lanes.path().join(format!("{name:?}")).display().to_string();
            core.call(move || subject::create(name, path, Space::Written)).expect("the disk takes a lane");
        }
        for chunks in [SMALL_CHUNKS, LARGE_CHUNKS, HUGE_CHUNKS] {
            core.call(move || subject::fill(Name::Full, chunks)).expect("the disk takes the chunks");
        }
        let rig = Self { core, scratch, _dir: lanes };
        // So that no segment that is measured is written to for the first time.
        rig.ours(Name::Round, Job::Put { bytes: HUGE, depth: 4 }, 4 * u64::from(SEGMENT) / HUGE as u64);
        rig
    }

    fn ours(&self, name: Name, job: Job, times: u64) -> subject::Done {
        let done = self.core.call(move || subject::run(name, job, Beside::Nothing, Stop::Ops(times)));
        done.expect("the disk works")
    }
}

fn puts(criterion: &mut Criterion, rig: &Rig) {
    for (name, bytes, depth) in [("put/4k/64", SMALL, 64), ("put/1m/8", LARGE, 8)] {
        let job = Job::Put { bytes, depth };
        let cadence = rig.ours(Name::Round, job, 64 * depth as u64).cadence;
        let chunks = (cadence.chunks_per_batch.round() as usize).clamp(1, depth);
        // As many bytes in one write as in a batch of ours, a sync as often as ours.
        let sync_bytes = if bytes == SMALL { 1 } else { cadence.bytes_per_sync as u64 };
        let bare = Durable { bytes: chunks * bytes, depth: depth.div_ceil(chunks), sync_bytes };
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(bytes as u64));
        bench(&mut group, "bare", |times| {
            let writes = times.div_ceil(chunks as u64);
            let elapsed = rig.scratch.durable(&bare, Stop::Ops(writes)).expect("the disk works").elapsed;
            elapsed.mul_f64(times as f64 / (writes * chunks as u64) as f64)
        });
        bench(&mut group, "lane", |times| rig.ours(Name::Round, job, times).tally.elapsed);
        group.finish();
    }
    let mut group = criterion.benchmark_group("put/4k/1");
    for (name, calls) in [("bare", Calls::Ring), ("bare, plain calls", Calls::Plain)] {
        bench(&mut group, name, |times| {
            rig.scratch.durable_laps(SMALL, calls, Stop::Ops(times)).expect("the disk works").elapsed
        });
    }
    bench(&mut group, "lane", |times| rig.ours(Name::Round, Job::PutLaps { bytes: SMALL }, times).tally.elapsed);
    group.finish();
}

fn gets(criterion: &mut Criterion, rig: &Rig) {
    let range = Job::GetRange { chunks: HUGE_CHUNKS, bytes: PART, align: PART, depth: 8 };
    for (name, job, bytes, depth) in [
        ("get/4k/32", Job::Get { chunks: SMALL_CHUNKS, depth: 32 }, SMALL, 32),
        ("get/1m/8", Job::Get { chunks: LARGE_CHUNKS, depth: 8 }, LARGE, 8),
        ("get/64k_of_4m/8", range, PART, 8),
    ] {
        let load = Load { operation: Operation::Read, order: Order::Random, bytes, depth };
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(bytes as u64));
        let bare = |times| -> Duration { rig.scratch.load(&load, Stop::Ops(times)).expect("the disk works").elapsed };
        bench(&mut group, "bare", bare);
        bench(&mut group, "lane", |times| rig.ours(Name::Full, job, times).tally.elapsed);
        group.finish();
    }
}
