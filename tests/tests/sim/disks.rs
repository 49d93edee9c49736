//! A node with several disks and cores: clients on every core store, read, list and drop chunks while disks are added,
//! emptied, weighed anew and lost, chunks are moved, and everything a disk and a node can do goes wrong.
//!
//! Promised: what was answered for is there until it is dropped; what was dropped stays dropped, also while it was being
//! moved; a chunk is listed and counted once; a disk that is gone makes its chunks unavailable and nothing else; when
//! all is quiet, every chunk gets home, and counts are right.
//!
//! Found by it, before these programs were what they are now:
//! - Seed 2: a listing that began while the node was being closed asked a core whose lanes were closed already, and took
//!   that for "nothing there". Who is asked for lanes now says if it doesn't have one of them.
//! - Seed 48, two bursts of failing writes and a power cut: the map that says "every chunk is at home" was written to one
//!   disk and refused by another. The node went on and put chunks elsewhere; the next start found only the disk that had
//!   the settled map, believed it, and missed them. A failed step to a settled map now stops all displacing until
//!   another map has been written over it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use cairn_daemon::actor::{Registry, Schedule, Spec};
use cairn_daemon::disks::{Disks, DisksError, Format, Hub, LaneState, Options, Settle, Status, Uid, format};
use cairn_daemon::lane::{Lane, LaneError};
use cairn_io::log::{LogError, Payload, ReadError};
use cairn_io::sim::{DiskConfig, Fault, FaultKind, FaultPlan, NodeConfig, NodeId, Profile, World, WorldConfig};
use cairn_io::task::{self, Class};
use cairn_io::time::{self, sleep};
use cairn_io::{CoreId, Shutdown};
use cairn_meta::index::{ChunkId, Digest, Memory, Store};
use cairn_placement::PartitionId;

use crate::harness::{Outcome, millis, plan_rng};
use crate::lane::books::{Books as ChunkBooks, Known};
use crate::lane::life::small_options;
use crate::lane::{CHUNKS, STORM, below, small};

mod admin;
mod life;
mod stories;

const NODE: NodeId = NodeId(0);
const CORES: usize = 2;
const DISKS: usize = 5;
const STORM_MS: u64 = 1_500;
const SEGMENT: u32 = 256 << 10;
const PARTITIONS: u32 = 4;

pub fn plan(seed: u64) -> FaultPlan {
    let profile =
        Profile { lasting_max: millis(200), faults_max: 10, ..Profile::all(&[NODE], DISKS, millis(STORM_MS)) };
    FaultPlan::random(&mut plan_rng(seed), &profile.only(&STORM))
}

/// The same, and disks are lost with all that is on them. The operator gives them up.
pub fn plan_with_loss(seed: u64) -> FaultPlan {
    let profile = Profile { lasting_max: millis(200), faults_max: 2, ..Profile::all(&[NODE], DISKS, millis(STORM_MS)) };
    let lost = FaultPlan::random(&mut plan_rng(!seed), &profile.only(&[FaultKind::LoseDisk]));
    lost.faults().iter().fold(plan(seed), |plan, (at, fault)| plan.with(*at, fault.clone()))
}

/// What is known of the node from outside.
pub struct Books {
    pub chunks: ChunkBooks,
    /// The indexes, by the directories of their lanes.
    memories: Arc<Mutex<BTreeMap<String, Memory>>>,
    /// What the operator has in `data`.
    data: RefCell<Vec<String>>,
    /// How often a directory was chosen on each disk: one that was emptied isn't used again.
    uses: RefCell<[u32; DISKS]>,
    is_formatted: Cell<bool>,
    /// Whether lanes are missing in this life, and all that there is can't be listed.
    is_missing: Cell<bool>,
    /// Whether clients may begin in this life.
    is_open: Cell<bool>,
    /// Everything was checked, so often.
    checked: Cell<u64>,
    /// Whether something in this life needs a restart.
    wants_restart: Cell<bool>,
    /// How often it was looked whether everything is at home, after the storm.
    rounds: Cell<u32>,
    /// The most segments of a lane.
    segments_max: usize,
    /// Whether disks are lost.
    may_lose: bool,
}

impl Books {
    fn new(segments_max: usize, may_lose: bool) -> Self {
        Self {
            may_lose,
            rounds: Cell::new(0),
            segments_max,
            chunks: ChunkBooks::new(),
            memories: Arc::default(),
            data: RefCell::default(),
            uses: RefCell::new([0; DISKS]),
            is_formatted: Cell::new(false),
            is_missing: Cell::new(false),
            is_open: Cell::new(false),
            checked: Cell::new(0),
            wants_restart: Cell::new(false),
        }
    }

    fn is_calm(&self) -> bool {
        self.chunks.is_storm_over.get()
    }

    fn broke(&self, text: String) {
        self.chunks.broke(text);
    }

    /// A directory on this disk that was never used.
    fn fresh_path(&self, disk: usize) -> String {
        self.uses.borrow_mut()[disk] += 1;
        format!("/disk{disk}/{}", self.uses.borrow()[disk])
    }

    /// A disk was given up: what was there may be gone.
    fn lose_some(&self) {
        for at in 0..small(CHUNKS) {
            self.chunks.change(at, |chunk| {
                chunk.drop_events += 1;
                if chunk.known == Known::Here {
                    chunk.known = Known::Either;
                }
            });
        }
    }

    fn options(&self) -> Options {
        let lane = small_options(self.segments_max);
        let memories = self.memories.clone();
        let index = move |path: &str| {
            let mut memories = memories.lock().unwrap_or_else(PoisonError::into_inner);
            Store::Memory(memories.entry(path.to_owned()).or_default().clone())
        };
        Options { data: self.data.borrow().clone(), lane, index: Arc::new(index) }
    }
}

pub fn run(seed: u64, plan: &FaultPlan) -> Outcome {
    // Every third node has lanes that are soon full.
    let may_lose = plan.faults().iter().any(|(_, fault)| matches!(fault, Fault::LoseDisk { .. }));
    let books = Rc::new(Books::new(if seed.is_multiple_of(3) { 6 } else { 12 }, may_lose));
    let mut world = World::new(seed, WorldConfig::default());
    let size = 24 << 20;
    // The header of a segment relies on sectors that are written whole or not at all.
    let disk = |at: usize| DiskConfig { sectors_tear: false, ..DiskConfig::new(format!("/disk{at}"), size) };
    let disks = (0..DISKS).map(disk).collect();
    let config = NodeConfig { disks, cores: CORES, restart_after: Some(millis(20)), ..NodeConfig::default() };
    let seen = books.clone();
    world.add_node(config, move || {
        let (books, hub, over) = (seen.clone(), Hub::new(CORES), Shutdown::new());
        books.is_open.set(false);
        books.wants_restart.set(false);
        books.chunks.forget_open();
        Box::new(move |core| {
            let (books, hub, over) = (books.clone(), hub.clone(), over.clone());
            Box::pin(async move {
                let (living, ended) = (life::live(books, hub, core, over.clone()), over.requested());
                futures_util::pin_mut!(living, ended);
                futures_util::future::select(living, ended).await;
                over.request();
            })
        })
    });
    world.apply(plan);
    world.run_for(millis(STORM_MS + 300));
    let verdict = judge(&mut world, &books);
    Outcome::of(&world, verdict)
}

/// After the storm: everything gets home, counts are right, and one more power cut changes nothing.
fn judge(world: &mut World, books: &Rc<Books>) -> Result<(), String> {
    world.calm();
    books.chunks.is_storm_over.set(true);
    books.wants_restart.set(true);
    let mut unsettled = None;
    for _ in 0..2 {
        let (before, seen) = (books.checked.get(), books.clone());
        if !world.run_until(millis(120_000), move || seen.checked.get() > before || seen.chunks.is_bad()) {
            unsettled.get_or_insert_with(|| books.chunks.doing.borrow().clone());
        }
        world.inject(&Fault::PowerCut { node: NODE, lasting: millis(10) });
    }
    if let Some(broken) = books.chunks.broken.borrow().first() {
        return Err(broken.clone());
    }
    let panics = world.panics(NODE);
    if !panics.is_empty() {
        return Err(format!("programs panicked: {panics:?}"));
    }
    match unsettled {
        Some(doing) if !books.chunks.is_beyond.get() => {
            Err(format!("two minutes after the storm not everything is at home: {doing}"))
        }
        _ => Ok(()),
    }
}

/// Whether an error is one that the faults explain.
fn is_explained(error: &DisksError) -> bool {
    match error {
        DisksError::Unavailable { .. } | DisksError::Stopped(_) | DisksError::Disk { .. } | DisksError::Io(_) => true,
        DisksError::Lane(error) => {
            error.is_no_room()
                || matches!(error, LaneError::Log(LogError::Poisoned(_) | LogError::Closed | LogError::Io(_)))
                || matches!(error, LaneError::Io(_) | LaneError::Commit(_) | LaneError::Read(ReadError::Io(_)))
        }
        DisksError::NoLane | DisksError::Open(_) | DisksError::Refused(_) => false,
    }
}
