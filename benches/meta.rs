//! Benchmarks of slots: commits through their groups beside puts into the lane that they are in, reads, and pages of lists.
//!
//! `CAIRN_BENCH_DIR` names a directory on the disk to measure; otherwise it is the target directory's. All of it takes
//! about a minute and 2 GiB; `cargo bench -p cairn-benches --bench meta -- page` runs a part. `cairn bench meta` has the
//! bars; its slices alternate, which suits a noisy machine better.

use std::path::Path;

use cairn_benches::{bench, criterion, dir};
use cairn_daemon::cluster::Freshness;
use cairn_io::Config;
use cairn_io::reference::{RemoteCore, ScratchDir, Stop};
use cairn_tools::bench::objects::{self, Bucket, Job, PAGE};
use criterion::{Criterion, Throughput};

const SLOTS: u32 = 256;
/// Objects to read and to list; a hundredth of them is the other bucket.
const OBJECTS: u64 = 100_000;

fn main() {
    let mut criterion = criterion();
    let rig = Rig::new(&dir(env!("CARGO_TARGET_TMPDIR")));
    // What is measured, beside what: both on the same lane.
    pair(&mut criterion, &rig, "commit/1k/64", 1, [("put", Job::Put(64)), ("commit", Job::Commit(64))]);
    pair(&mut criterion, &rig, "commit/1k/1", 1, [("put", Job::PutLaps), ("commit", Job::CommitLaps)]);
    let read = |freshness| Job::Read(freshness, 32);
    let reads = [("local", read(Freshness::Local)), ("latest", read(Freshness::Latest))];
    pair(&mut criterion, &rig, "read/1k/32", 1, reads);
    let pages = [("of 1,000", Job::PageLaps(Bucket::Small)), ("of 100,000", Job::PageLaps(Bucket::Large))];
    pair(&mut criterion, &rig, "page/1000", u64::from(PAGE), pages);
    criterion.final_summary();
}

/// A cluster of one, with objects.
struct Rig {
    core: RemoteCore,
    // Removed last.
    _dir: ScratchDir,
}

impl Rig {
    fn new(dir: &Path) -> Self {
        let scratch = ScratchDir::create(dir, 8 << 30).unwrap_or_else(|error| panic!("{error}"));
        let core = RemoteCore::start(&Config::single()).expect("a driver runs here");
        let path = scratch.path().join("disk").display().to_string();
        core.call(move || objects::create(path, SLOTS, OBJECTS)).expect("the disk takes a lane");
        core.call(objects::fill).expect("the disk takes the objects");
        Self { core, _dir: scratch }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.core.call(objects::close).expect("the disk takes what is left");
    }
}

fn pair(criterion: &mut Criterion, rig: &Rig, name: &str, elements: u64, jobs: [(&str, Job); 2]) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(elements));
    for (which, job) in jobs {
        let run = |times| rig.core.call(move || objects::run(job, Stop::Ops(times))).expect("the disk works").elapsed;
        bench(&mut group, which, run);
    }
    group.finish();
}
