//! What a node says of itself: the answer of `/status`, and what `/metrics` is made of. Plain values, on no core.
//!
//! It has names of disks and lanes, numbers and reasons; never a key, a chunk's name or a byte of anybody's data.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::Answered;

/// What a node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Its disks and its cluster are being opened.
    Starting,
    /// It serves.
    Ready,
    /// It was told to stop and ends what is under way.
    Draining,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeReport {
    /// Its name, as its disks have it; empty while it starts.
    pub node: String,
    /// The version of the program.
    pub version: String,
    /// What it is doing.
    pub state: NodeState,
    /// Since when it runs, in seconds.
    pub uptime_seconds: u64,
    /// The driver it runs on, and why.
    pub driver: String,
    /// Memory of the process, in bytes, if the system says.
    pub resident_bytes: Option<u64>,
    /// The number of the lane map that counts.
    pub map_epoch: u64,
    /// Whether every chunk lies where the lane map wants it.
    pub is_settled: bool,
    /// Its cores that answered in time.
    pub cores: Vec<CoreReport>,
    /// Its disks.
    pub disks: Vec<DiskReport>,
    /// Its lanes.
    pub lanes: Vec<LaneReport>,
    /// Directories of `data` that are not used.
    pub troubles: Vec<Trouble>,
    /// Its part in its cluster; none while it isn't open.
    pub cluster: Option<ClusterReport>,
}

/// A node's part in its cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClusterReport {
    /// The cluster's name.
    pub cluster: String,
    /// The node's number.
    pub node: u64,
    /// The epoch of the cluster map that it has.
    pub epoch: u64,
    /// Nodes of the map.
    pub nodes: u64,
    /// The node that leads the control group, if this one knows.
    pub control_leader: Option<u64>,
    /// Groups that this node leads.
    pub led: u64,
    /// Groups of this node that another one leads.
    pub followed: u64,
    /// Groups of this node that nobody leads, as far as it knows.
    pub leaderless: u64,
    /// Groups of this node in which nothing happens.
    #[serde(default)]
    pub resting: u64,
    /// Groups of this node that are being moved from one of its disks to another.
    #[serde(default)]
    pub moving: u64,
    /// Entries that are committed and not applied here yet.
    pub lag: u64,
    /// Versions that this node took while nobody led their slots, and that their slots don't have yet.
    #[serde(default)]
    pub provisional: u64,
    /// Objects in conflict, in groups that this node leads: several writers didn't know of each other, and nobody has merged what they wrote.
    #[serde(default)]
    pub conflicts: u64,
    /// Groups that have stopped on this node.
    pub stopped: Vec<StoppedGroup>,
}

/// A group that has stopped on this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StoppedGroup {
    /// `control`, or `slot` and its number.
    pub group: String,
    /// Why, and what to do.
    pub why: String,
}

/// A directory that is not used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Trouble {
    /// Which.
    pub path: String,
    /// Why, and what to do.
    pub why: String,
}

/// A core.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CoreReport {
    /// Its number.
    pub core: usize,
    /// Memory for blocks, in bytes: the most there may be.
    pub block_bytes_max: u64,
    /// Of it, in use.
    pub block_bytes_lent: u64,
    /// Of it, kept for reuse.
    pub block_bytes_cached: u64,
    /// Its background workers.
    pub actors: Vec<ActorReport>,
    /// Its S3 gateway, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<GatewayReport>,
}

/// A core's S3 gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GatewayReport {
    /// Connections that are open.
    pub connections: u64,
    /// Connections refused because there were too many, since the start.
    pub refused: u64,
    /// Requests that are being answered.
    pub underway: u64,
    /// Requests taken since the start.
    pub requests: u64,
    /// Memory that bodies hold, in bytes.
    pub body_bytes: u64,
    /// What was answered, for the metrics.
    #[serde(skip)]
    #[schema(ignore)]
    pub answered: Answered,
}

/// What an actor is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActorState {
    /// It waits for a message or its schedule.
    Idle,
    /// It works.
    Working,
    /// It failed and is started again later.
    Waiting,
    /// It was told to stop and is finishing.
    Stopping,
    /// It has ended.
    Stopped,
}

/// A background worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ActorReport {
    /// Its name.
    pub name: String,
    /// The lane it works for; none if it works for its whole core.
    pub lane: Option<u32>,
    /// What it is doing.
    pub state: ActorState,
    /// On what it works.
    pub what: Option<String>,
    /// For what reason.
    pub why: Option<String>,
    /// How much of the work is done, in its own unit.
    pub done: Option<u64>,
    /// How much there is to do.
    pub total: Option<u64>,
    /// How long it still takes at the pace so far, in seconds.
    pub remaining_seconds: Option<u64>,
    /// When it wakes up or is started again, in seconds from now.
    pub next_seconds: Option<u64>,
    /// Bytes a second that it may use; none for as many as the machine gives.
    pub bytes_per_second: Option<u64>,
    /// Messages it hasn't read.
    pub mailbox: usize,
    /// How often it was started.
    pub starts: u64,
    /// How often it failed.
    pub failures: u64,
    /// Of these, how often it panicked.
    pub panics: u64,
    /// What it failed with last.
    pub last_failure: Option<String>,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DiskReport {
    /// Its name.
    pub disk: String,
    /// Where it is; none if it isn't there.
    pub path: Option<String>,
    /// Whether it is being emptied.
    pub is_leaving: bool,
    /// Slots that are to be moved off it before it is empty.
    #[serde(default)]
    pub slots_to_move: u64,
    /// The capacity it counts with, in bytes.
    pub weight_bytes: u64,
    /// Room on its file system, in bytes, if that says.
    pub total_bytes: Option<u64>,
    /// Of it, free.
    pub free_bytes: Option<u64>,
}

/// What can be done with a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LaneState {
    /// It reads and writes.
    Open,
    /// It reads and drops; there is no room for data.
    Full,
    /// It reads only, until the node is started again: a write or a sync failed.
    Poisoned,
    /// It isn't there or can't be opened.
    Missing,
}

/// A lane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LaneReport {
    /// Its number.
    pub lane: u32,
    /// The disk it is on.
    pub disk: String,
    /// What can be done with it.
    pub state: LaneState,
    /// Why, if it doesn't read and write.
    pub why: Option<String>,
    /// The rest, if it is there.
    pub detail: Option<LaneDetail>,
}

/// What an open lane says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LaneDetail {
    /// The core it belongs to.
    pub core: usize,
    /// Chunks in it.
    pub chunks: u64,
    /// Their bytes.
    pub chunk_bytes: u64,
    /// Bytes of live records, of every kind.
    pub live_bytes: u64,
    /// Segments in use.
    pub segments: u64,
    /// Files that are ready to become segments.
    pub segments_free: u64,
    /// The length of a segment, in bytes.
    pub segment_bytes: u64,
    /// Records that were found bad and wait for repair.
    pub quarantined: u64,
    /// Parts of the log that were answered for and can't be read.
    pub damage: Vec<String>,
    /// Why its index couldn't be committed the last time it was tried.
    pub commit_failure: Option<String>,
    /// Bytes of the log that the committed index doesn't cover: a start reads them again.
    pub uncommitted_bytes: u64,
    /// Chunks stored since the start.
    pub puts: u64,
    /// Chunks that were there already.
    pub puts_existing: u64,
    /// Chunks read.
    pub gets: u64,
    /// Of these, from the cache.
    pub cache_hits: u64,
    /// Chunks dropped.
    pub drops: u64,
    /// Reads that found bad bytes.
    pub bad_reads: u64,
    /// Records made durable.
    pub log_records: u64,
    /// Batches written.
    pub log_batches: u64,
    /// Bytes written in batches.
    pub log_bytes: u64,
    /// Syncs of the log.
    pub log_syncs: u64,
    /// Segments made.
    pub segments_made: u64,
    /// Segments freed.
    pub segments_freed: u64,
}

impl NodeReport {
    /// Whether anything could be stored: the node serves and a lane takes writes. Else why not.
    ///
    /// # Errors
    /// Why nothing can be stored.
    pub fn readiness(&self) -> Result<(), &'static str> {
        match self.state {
            NodeState::Starting => Err("the node is opening its disks and its cluster"),
            NodeState::Draining => Err("the node is stopping"),
            NodeState::Ready if self.lanes.iter().any(|lane| lane.state == LaneState::Open) => Ok(()),
            NodeState::Ready => Err("no lane takes data: each is full, poisoned or missing"),
        }
    }
}
