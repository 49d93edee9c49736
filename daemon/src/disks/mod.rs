//! The disks of a node: many lanes, one face.
//!
//! A disk is a directory with a label, a copy of the lane map, and its lanes. A chunk's *home* is the lane that wins it by
//! weighted rendezvous among the lanes of the map. Each lane belongs to one core; any core stores and reads anything.
//!
//! ```text
//!   any core: put, get, drop, list ─► view: which lane ─┬─► a lane of this core
//!      │                                                └─► mesh ─► a lane of another core
//!      │ while chunks may be anywhere
//!      └─► the core that guides this chunk: one thing at a time ─► lanes
//!
//!   core 0: Lead ── lane map ── add, evacuate, weigh ──► a view for every core, the map to every disk
//!   each core: Settle ── moves chunks home ──► Lead: all at home
//! ```
//!
//! The map says whether it is *settled*: every chunk in its home and nowhere else. Then an operation asks one lane. While
//! it isn't, because a disk came or goes, or because a lane didn't take what belongs to it, a chunk may be in any lane,
//! and operations find it there (the table in `chunks`); the actor [`Settle`] brings chunks home until the map is settled
//! again. A disk that is missing or broken takes nobody else with it: what it may have is *unavailable*, what it should
//! be given goes to other lanes.
//!
//! It knows no peer, no policy and no metadata. Invariants: a chunk that was put is found until it is dropped, whatever
//! the map; what was dropped stays dropped, also while it was being moved; a chunk counts once; only what must move
//! moves; after a crash at any step the next start goes on.

mod change;
mod chunks;
mod files;
mod hub;
pub mod map;
mod open;
mod settle;
mod slots;
mod view;

use std::rc::Rc;
use std::sync::Arc;

use cairn_io::CoreId;
use cairn_meta::index::{ChunkId, Store};

pub use change::{DiskStatus, LaneState, LaneStatus, Status};
pub use chunks::Listed;
pub use files::{DiskError, lane_name};
pub use hub::Hub;
pub use map::{DiskState, LaneMap, Uid};
pub use open::{Format, format};
pub use settle::{Move, Passed, Plan, Settle, SettleMessage};
pub use slots::{Hold, NOTHING_APPLIED};

use crate::lane::{LaneError, Options as LaneOptions};
use hub::Core;

/// The core that changes the map.
const LEAD: CoreId = CoreId::new(0);

/// How the disks of a node are run.
#[derive(Clone)]
pub struct Options {
    /// The disks' directories; their order plays no part.
    pub data: Vec<String>,
    /// How each lane is run.
    pub lane: LaneOptions,
    /// Where a lane keeps its index, by the lane's directory.
    pub index: Arc<dyn Fn(&str) -> Store + Send + Sync>,
}

impl Options {
    /// These disks, the rest as usual.
    pub fn new(data: Vec<String>) -> Self {
        Self { data, lane: LaneOptions::default(), index: Arc::new(|path| Store::lmdb(path)) }
    }
}

/// The disks of this node, as one core sees them. Clones share it.
#[derive(Clone)]
pub struct Disks(Rc<Handle>);

/// What the handles share; what runs for it on this core ends with the last of them.
struct Handle {
    core: Rc<Core>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.core.stop();
    }
}

impl Disks {
    fn core(&self) -> &Rc<Core> {
        &self.0.core
    }
}

/// Why something isn't done.
#[derive(Debug, thiserror::Error)]
pub enum DisksError {
    /// A lane says so.
    #[error(transparent)]
    Lane(#[from] LaneError),
    /// It can't be known, and nothing can be changed about it, while lanes are missing.
    #[error(
        "chunk {id:?} may be on {}, which can't be asked now; bring the disk back, or give it up with \
         `cairn disk evacuate --lost`",
        chunks::names(lanes)
    )]
    Unavailable {
        /// Which chunk.
        id: ChunkId,
        /// Where it may be.
        lanes: Vec<u32>,
    },
    /// There is no lane that chunks are given to.
    #[error("no disk of this node takes data; add one with `cairn disk add`")]
    NoLane,
    /// A core has gone, or what it was asked for broke it.
    #[error("{0} doesn't answer")]
    Stopped(CoreId),
    /// A disk can't be used.
    #[error("{path}: {error}")]
    Disk {
        /// Its directory.
        path: String,
        /// Why.
        error: DiskError,
    },
    /// The node can't be opened.
    #[error("{0}")]
    Open(String),
    /// A change of the disks is not done, and nothing was changed. The message says what to do.
    #[error("{0}")]
    Refused(String),
    /// The mesh.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl From<crate::line::Gone> for DisksError {
    fn from(crate::line::Gone(core): crate::line::Gone) -> Self {
        Self::Stopped(core)
    }
}
