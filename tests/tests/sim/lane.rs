//! A lane on one disk: clients store, read and drop chunks, named records and Raft logs, while compaction, scrub and the
//! index's commits run and everything a disk and a node can do goes wrong. Now and then the index is lost.
//!
//! Promised: what was answered for is there, as it was, until it is dropped; what was dropped stays dropped, also when the
//! index is made anew from the log; counts are right; room that is given up comes back. Where bits rot, bad bytes are
//! never returned.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::rc::Rc;

use bytes::Bytes;
use cairn_daemon::lane::{Compacted, Lane, LaneError, Named, Options, Owner, Recovered};
use cairn_io::fs::Dir;
use cairn_io::log::{LogError, Options as LogOptions, Payload, Prewrite, ReadError, What};
use cairn_io::sim::{DiskConfig, Fault, FaultKind, FaultPlan, NodeConfig, NodeId, Profile, Scars, World, WorldConfig};
use cairn_io::task::{self, Class};
use cairn_io::time::{self, sleep};
use cairn_io::{CoreId, block, rng};
use cairn_meta::index::{ChunkId, Digest, Fault as CommitFault, Memory, Store};
use cairn_placement::PartitionId;

use crate::harness::{Outcome, millis, plan_rng};

pub mod books;
pub mod life;
pub mod stories;

use books::Books;

pub const NODE: NodeId = NodeId(0);
const STORM_MS: u64 = 1_500;
const SEGMENT: u32 = 256 << 10;
const PARTITIONS: u32 = 4;
/// Chunks that clients fight about.
pub const CHUNKS: u64 = 24;
const NAMES: u64 = 6;
const SLOTS: u32 = 2;

/// What happens to a node and its disks, but for what rots or can't be read.
pub const STORM: [FaultKind; 10] = [
    FaultKind::PowerCut,
    FaultKind::PowerCut,
    FaultKind::Kill,
    FaultKind::Kill,
    FaultKind::Pause,
    FaultKind::WriteErrors,
    FaultKind::SyncErrors,
    FaultKind::DiskFull,
    FaultKind::SlowDisk,
    FaultKind::ReadOnly,
];

pub fn plan(seed: u64) -> FaultPlan {
    let mut kinds = STORM.to_vec();
    if seed.is_multiple_of(4) {
        kinds.push(FaultKind::ReadErrors);
    }
    FaultPlan::random(&mut plan_rng(seed), &profile().only(&kinds))
}

pub fn plan_with_rot(seed: u64) -> FaultPlan {
    let mut plan = plan(seed);
    let rot = Profile { faults_max: 3, ..profile().only(&[FaultKind::BitRot]) };
    for (at, fault) in FaultPlan::random(&mut plan_rng(!seed), &rot).faults() {
        plan = plan.with(*at, fault.clone());
    }
    plan
}

fn profile() -> Profile {
    Profile { lasting_max: millis(200), faults_max: 12, ..Profile::all(&[NODE], 1, millis(STORM_MS)) }
}

pub fn run(seed: u64, plan: &FaultPlan) -> Outcome {
    let books = Rc::new(Books::new());
    let mut world = World::new(seed, WorldConfig::default());
    // Every third disk is smaller than the lane may get.
    let size = if seed.is_multiple_of(3) { 3 << 20 } else { 6 << 20 };
    // The header of a segment relies on a sector that is written whole or not at all; nothing else does.
    let disk = DiskConfig { sectors_whole_below: 512, ..DiskConfig::new("/disk0", size) };
    let config = NodeConfig { disks: vec![disk], restart_after: Some(millis(20)), ..NodeConfig::default() };
    let seen = books.clone();
    world.add_node(config, move || {
        let books = seen.clone();
        Box::new(move |_core| {
            let books = books.clone();
            Box::pin(async move {
                // Whatever ended this life, the next one finds out what the disk has.
                if let Err(error) = life::live(books.clone()).await {
                    let doing = books.doing.take();
                    books.doing(format!("{doing}; the life ended: {error}"));
                }
            })
        })
    });
    books.scars.replace(world.scars(NODE, 0));
    world.apply(plan);
    world.run_for(millis(STORM_MS + 300));
    let verdict = judge(&mut world, &books);
    Outcome::of(&world, verdict)
}

/// After the storm: nothing was broken, room comes back, and one more power cut changes nothing.
fn judge(world: &mut World, books: &Rc<Books>) -> Result<(), String> {
    world.calm();
    books.is_storm_over.set(true);
    let seen = books.clone();
    let is_drained = world.run_until(millis(120_000), move || seen.is_drained.get() || seen.is_bad());
    world.inject(&Fault::PowerCut { node: NODE, lasting: millis(10) });
    let last = format!("{}; {:?}", books.doing.take(), books.open.borrow());
    let (before, seen) = (books.recoveries.get(), books.clone());
    let recovered = world.run_until(millis(120_000), move || seen.recoveries.get() > before || seen.is_bad());
    if let Some(broken) = books.broken.borrow().first() {
        return Err(broken.clone());
    }
    let panics = world.panics(NODE);
    if !panics.is_empty() {
        return Err(format!("programs panicked: {panics:?}"));
    }
    if books.is_beyond.get() || is_drained && recovered {
        return Ok(());
    }
    Err(format!(
        "two minutes after the storm nothing works yet (drained: {is_drained}, recovered: {recovered}): {last}"
    ))
}

pub fn below(limit: u64) -> u64 {
    rng::next_u64() % limit
}

pub fn small(number: u64) -> usize {
    usize::try_from(number).expect("a small number")
}

fn content(number: u64, len: usize) -> Vec<u8> {
    let words = (0..len.div_ceil(8) as u64).map(|at| (at ^ number << 20).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
    bytes.truncate(len);
    bytes
}
