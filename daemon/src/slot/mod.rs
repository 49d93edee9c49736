//! The slots of a node: Raft groups that agree on what happens to rows of the lane's index.
//!
//! ```text
//!   propose ─► openraft ─► SlotLog ─► the lane's log (one sync for all groups and chunks)
//!                 │  ▲
//!                 │  └─── Router ◄──► Transport ◄──► other nodes, one batch at a time
//!                 ▼
//!            SlotMachine ─► a `Machine` of meta ─► rows in the lane's index
//! ```
//!
//! It knows no object and no bucket: commands, answers and rows are bytes, the machine says what they mean.
//!
//! | error | was it done? | then |
//! | --- | --- | --- |
//! | `NoSlot` | no | ask another node |
//! | `NotLeader` | no | ask the node it names, or any other |
//! | `Busy` | no | wait, ask again |
//! | `NoRoom` | no | make room, ask again |
//! | `Unknown` | perhaps | ask again with the same idempotency key |
//! | `NoQuorum` | no (it was a read) | ask another node |
//! | `Refused` | no | don't ask so again |
//! | `Stopped` | perhaps | the node must be looked at; ask another |
//!
//! Invariants: an answer is given when the command is durable on a majority and applied here; a read behind a barrier
//! sees all that was answered before it began; [`Slots::read_own`] never shows less than it showed before; after a restart
//! that holds as well, though the machine's rows go back to what the index had committed.

mod codec;
#[cfg(test)]
mod fuzz;
mod lease;
mod leave;
mod link;
mod log;
mod machine;
mod over_rpc;
mod rest;
mod router;
pub mod runtime;
mod snapshot;
mod types;
mod wire;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::Bytes;
use cairn_io::task::{Class, spawn};
use cairn_io::time::{self, Duration};
use cairn_meta::rows::{Machine, Rows};
use cairn_placement::NodeId;
use futures_util::future::LocalBoxFuture;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{
    ClientWriteError, ForwardReason, ForwardToLeader, InitializeError, LinearizableReadError, RaftError,
};
use openraft::raft::{AppendEntriesResponse, ClientWriteResponse};
use openraft::{ChangeMembers, Config, EmptyNode, Raft, ReadPolicy, SnapshotPolicy};

pub use codec::Undecodable;
pub use log::SlotLog;
pub use machine::SlotMachine;
pub use router::{Nobody, Transport, Unreachable};
pub use types::{Answer, Command, Group};
pub use wire::{Item as Piece, decode_batch, encode_batch, sender_of};

use crate::lane::{Lane, LaneError, SLOTS_MAX};
use lease::{Configs, Lease};
use link::Links;
use rest::{Rest, watch};
use router::{Answers, Router};
use snapshot::SnapshotData;
use types::Vote;
use wire::{Question, Reply, SnapshotEnd, SnapshotPart};

/// How groups are run. All nodes should agree.
#[derive(Clone, Debug)]
pub struct Options {
    /// How often a leader tells a group that it is there, while something happens in it; else every second time.
    pub heartbeat: Duration,
    /// The longer one is how long nobody else is elected who would be, once a leader was heard. Who hears nothing for that and
    /// up to as long as the shorter one stands for election.
    pub election: (Duration, Duration),
    /// The log's entries are given up when so many have been applied since the last time.
    pub snapshot_entries: u64,
    /// And so many of them are kept for nodes that are a little behind.
    pub kept_entries: u64,
    /// What a proposal waits for at most.
    pub propose_limit: Duration,
    /// What a batch of messages waits for at most.
    pub batch_limit: Duration,
    /// Proposals of one group that are under way.
    pub proposals_max: usize,
    /// Whether a leader that a majority has just answered reads without asking again. It relies on clocks that run about equally
    /// fast: not to within milliseconds, but none may stand still while others go on.
    pub has_lease_reads: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(250),
            election: (Duration::from_millis(600), Duration::from_millis(1200)),
            snapshot_entries: 4096,
            kept_entries: 1024,
            propose_limit: Duration::from_secs(10),
            batch_limit: Duration::from_secs(2),
            proposals_max: 1024,
            has_lease_reads: true,
        }
    }
}

/// Why a slot doesn't do something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// There is no such group here.
    #[error("slot {0} is not on this node")]
    NoSlot(u32),
    /// Another node leads, or none is known to.
    #[error("another node leads the slot: {}", leader.map_or("none is known, ask again".to_owned(), |node| node.to_string()))]
    NotLeader {
        /// Which, if known.
        leader: Option<NodeId>,
    },
    /// Too much is under way: nothing was done.
    #[error("the slot has too much to do: {0}; ask again later")]
    Busy(String),
    /// The disk has only the room left that is kept for what frees some: nothing was done.
    #[error("{0}")]
    NoRoom(String),
    /// It may have been done or be done yet.
    #[error("it is not known whether it was done ({0}); ask again with the same idempotency key")]
    Unknown(String),
    /// The group can't be asked whether this node still leads it.
    #[error("no majority of the slot's nodes can be reached")]
    NoQuorum,
    /// It can't be done like this.
    #[error("refused: {0}")]
    Refused(String),
    /// The group has stopped here.
    #[error("the slot has stopped on this node: {0}")]
    Stopped(String),
}

/// What one sees of a group here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotStatus {
    /// Who leads, if that is known.
    pub leader: Option<NodeId>,
    /// Whether that is this node.
    pub is_leader: bool,
    /// The term.
    pub term: u64,
    /// The last entry of the log here.
    pub last: Option<u64>,
    /// The last entry that was applied here.
    pub applied: Option<u64>,
    /// The last entry that was given up.
    pub purged: Option<u64>,
    /// Committed entries that aren't applied here yet, as far as this node knows.
    pub lag: u64,
    /// Who votes.
    pub voters: BTreeSet<NodeId>,
    /// Who follows without a vote.
    pub learners: BTreeSet<NodeId>,
    /// Whether nothing happens in it, so that it rests.
    pub is_resting: bool,
    /// Why it has stopped, if so.
    pub stopped: Option<String>,
}

/// The groups of this node. Clones share them; they belong to one core.
#[derive(Clone)]
pub struct Slots(Rc<Inner>);

struct Inner {
    me: NodeId,
    options: Options,
    configs: Configs,
    router: Rc<Router>,
    groups: RefCell<BTreeMap<u32, Rc<Slot>>>,
    /// Looks after those that rest.
    looking: rest::Looking,
}

/// A group's task, as one speaks to it.
type Running = Raft<Group, SlotMachine>;
/// Why it doesn't write.
type WriteError = RaftError<Group, ClientWriteError<Group>>;

/// One group here.
struct Slot {
    number: u32,
    raft: Running,
    rest: Rc<Rest>,
    lease: Rc<Lease>,
    machine: SlotMachine,
    log: SlotLog,
    /// The last entry that may have been applied before this start.
    tail: Option<u64>,
    /// Whether all that was applied before this start is applied again.
    has_recovered: Cell<bool>,
    /// Whether the group's task has ended: nobody answers any more.
    has_ended: Rc<Cell<bool>>,
    proposals: Cell<usize>,
    /// Whether it is on its way to another lane: what it says from now on is not the last word.
    is_leaving: Cell<bool>,
    /// The snapshot that is coming in: its number and the parts there are.
    incoming: futures_util::lock::Mutex<Option<(u64, u32)>>,
}

impl Slots {
    /// The groups of a node; none yet.
    ///
    /// # Errors
    /// If the options make no sense.
    pub fn new(me: NodeId, transport: Rc<dyn Transport>, options: Options) -> Result<Self, SlotError> {
        let config = config(&options).map_err(|error| SlotError::Refused(error.to_string()))?;
        let router = Router::new(me.0, transport, options.batch_limit);
        let (configs, groups, looking) = (Configs::new(config), RefCell::default(), RefCell::default());
        let inner = Rc::new(Inner { me, options, configs, router, groups, looking });
        inner.begin_to_look();
        let answers: Rc<dyn Answers> = inner.clone();
        inner.router.set_answers(Rc::downgrade(&answers));
        Ok(Self(inner))
    }

    /// Opens a slot whose log and rows are in this lane. What was there is found; a slot that is new waits to be told who
    /// belongs to it, by [`Slots::create`] or by its leader.
    ///
    /// # Errors
    /// If what is there can't be read.
    pub async fn open(&self, slot: u32, lane: &Lane, machine: Rc<dyn Machine>) -> Result<(), SlotError> {
        let stopped = |error: LaneError| SlotError::Stopped(error.to_string());
        if slot >= SLOTS_MAX || self.0.groups.borrow().contains_key(&slot) {
            return Err(SlotError::Refused(format!("slot {slot} is open already, or no slot")));
        }
        // What an earlier life left half done.
        lane.drop_staged(slot).await.map_err(stopped)?;
        lane.sweep_slot(slot).await.map_err(stopped)?;
        let log = SlotLog::open(lane, slot).map_err(stopped)?;
        log.begin().await.map_err(|error| SlotError::Stopped(error.to_string()))?;
        let was_here = !log.is_new();
        let lease = Lease::begin(&self.0.options, was_here);
        let machine = SlotMachine::new(lane, slot, machine);
        let applied = machine.applied().map_err(stopped)?;
        let tail = log.last().map(|last| last.index).max(applied.map(|at| at.index));
        let links = Links { router: self.0.router.clone(), slot, part_limit: self.0.options.batch_limit };
        let raft = Raft::new(self.0.me.0, self.0.configs.of(was_here), links, log.clone(), machine.clone()).await;
        let raft = raft.map_err(|fatal| SlotError::Stopped(fatal.to_string()))?;
        let members = raft.metrics().borrow_watched().membership_config.membership().clone();
        if members.voter_ids().eq([self.0.me.0]) {
            // Nobody else could lead: there is nothing to wait for.
            lease.end_waiting(&raft);
            let _ = raft.trigger().elect(false).await;
        }
        lease.wait(&raft);
        let (has_recovered, has_ended) = (Cell::new(tail.is_none()), Rc::new(Cell::new(false)));
        let rest = Rc::<Rest>::default();
        spawn(Class::Foreground, watch(raft.clone(), Rc::downgrade(&rest), has_ended.clone())).detach();
        let slot_here = Slot {
            number: slot,
            raft,
            rest,
            lease,
            machine,
            log,
            tail,
            has_recovered,
            has_ended,
            proposals: Cell::new(0),
            is_leaving: Cell::new(false),
            incoming: None.into(),
        };
        self.0.groups.borrow_mut().insert(slot, Rc::new(slot_here));
        Ok(())
    }

    /// Tells a new group who belongs to it. To be asked of one of its nodes; more do no harm if all say the same.
    ///
    /// # Errors
    /// If this node isn't among them.
    pub async fn create(&self, slot: u32, voters: &BTreeSet<NodeId>) -> Result<(), SlotError> {
        let voters: BTreeSet<u64> = voters.iter().map(|node| node.0).collect();
        match self.slot(slot)?.raft.initialize(voters).await {
            // It has begun its life.
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(RaftError::APIError(error)) => Err(SlotError::Refused(error.to_string())),
            Err(RaftError::Fatal(fatal)) => Err(SlotError::Stopped(fatal.to_string())),
        }
    }

    /// Has a command applied by the group, and returns the machine's answer.
    ///
    /// # Errors
    /// See the table above.
    pub async fn propose(&self, slot: u32, command: Bytes) -> Result<Vec<u8>, SlotError> {
        let slot = self.slot(slot)?;
        let _proposing = Proposing::begin(&slot, self.0.options.proposals_max)?;
        let lane = &slot.machine.lane;
        let max = lane.rows_bytes_max();
        if command.len() > max {
            return Err(SlotError::Refused(format!(
                "a command of {} bytes is longer than the {max} a slot takes",
                command.len()
            )));
        }
        lane.wait_to_propose().await.map_err(|error| match error {
            error if error.is_poisoned() => SlotError::Stopped(error.to_string()),
            error if error.is_no_room() => SlotError::NoRoom(error.to_string()),
            error => SlotError::Busy(error.to_string()),
        })?;
        let written = time::timeout(self.0.options.propose_limit, slot.write(Command(command))).await;
        let Ok(written) = written else { return Err(SlotError::Unknown("no majority said so in time".to_owned())) };
        match written {
            Ok(written) => Ok(written.data.0),
            Err(RaftError::Fatal(_)) if slot.is_leaving.get() => {
                Err(SlotError::Unknown("its group is being moved to another disk".to_owned()))
            }
            Err(error) => Err(write_error(error)),
        }
    }

    /// Whether there is room here for commands that store something. Others are taken from what is kept for them.
    ///
    /// # Errors
    /// `NoRoom` if not, `NoSlot`.
    pub fn check_room(&self, slot: u32) -> Result<(), SlotError> {
        self.slot(slot)?.machine.lane.check_room().map_err(|error| SlotError::NoRoom(error.to_string()))
    }

    /// Waits until this node, as the leader, has applied all that was answered before now, by whomever. What is then read
    /// without awaiting anything in between is up to date.
    ///
    /// # Errors
    /// See the table above.
    pub async fn barrier(&self, slot: u32) -> Result<(), SlotError> {
        let slot = self.slot(slot)?;
        if slot.has_all()? {
            return Ok(());
        }
        let limit = self.0.options.propose_limit;
        let barrier = time::timeout(limit, slot.raft.ensure_linearizable(ReadPolicy::ReadIndex)).await;
        match barrier {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)))) => Err(not_leader(&forward)),
            Ok(Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)))) | Err(_) => {
                Err(SlotError::NoQuorum)
            }
            Ok(Err(RaftError::Fatal(_))) if slot.is_leaving.get() => Err(SlotError::NoQuorum),
            Ok(Err(RaftError::Fatal(fatal))) => Err(SlotError::Stopped(fatal.to_string())),
        }
    }

    /// Lends a slot's rows if nobody need be asked whether they are up to date: as behind a [`Slots::barrier`], at once. `None`:
    /// ask, or there is something wrong that the barrier will say.
    pub fn read_alone<R>(&self, slot: u32, read: impl FnOnce(&dyn Rows) -> R) -> Option<R> {
        let groups = self.0.groups.borrow();
        let slot = groups.get(&slot).filter(|slot| !slot.has_ended.get())?;
        if slot.has_all().is_ok_and(|has| has) { slot.machine.read(read).ok() } else { None }
    }

    /// Lends a slot's rows as they are here now: up to date behind a [`Slots::barrier`], else perhaps older than what
    /// another node, or this one before a restart, has shown; see [`Slots::read_own`].
    ///
    /// # Errors
    /// If there is no such slot here, or the index can't be read.
    pub fn read<R>(&self, slot: u32, read: impl FnOnce(&dyn Rows) -> R) -> Result<R, SlotError> {
        self.slot(slot)?.machine.read(read).map_err(|error| SlotError::Stopped(error.to_string()))
    }

    /// Lends a slot's rows as they are here: perhaps older than what another node shows, but never older than what this
    /// one has shown, restarts included. It waits for what was shown before a restart, and for what is shown to be in the
    /// log here.
    ///
    /// # Errors
    /// `NoQuorum` if after a restart nobody could be asked how far the log is committed, or if this node alone can't make
    /// durable what it has applied.
    pub async fn read_own<R>(&self, slot: u32, read: impl FnOnce(&dyn Rows) -> R) -> Result<R, SlotError> {
        let (here, limit) = (self.slot(slot)?, self.0.options.propose_limit);
        here.recover(limit).await?;
        let stopped = |error: LaneError| SlotError::Stopped(error.to_string());
        let found = here.machine.read(read).map_err(stopped)?;
        let applied = here.machine.applied().map_err(stopped)?.filter(|at| !here.log.is_durable(at.index));
        if let Some(applied) = applied {
            // Committed by others, and applied here before it is durable here; what a snapshot or a flush brought is.
            let flushed = here.machine.lane.slot_facts(slot).map_err(stopped)?.flushed;
            if flushed.is_none_or(|(flushed, _)| flushed < applied) {
                let landed = time::timeout(limit, here.log.landed(applied.index)).await;
                landed.map_err(|_| SlotError::NoQuorum)?;
            }
        }
        Ok(found)
    }

    /// Makes these the group's voters; all others leave it. New ones must have the slot open. They get a copy before they vote.
    /// If it was interrupted, it is asked again.
    ///
    /// # Errors
    /// See the table above.
    pub async fn change_voters(&self, slot: u32, voters: &BTreeSet<NodeId>) -> Result<(), SlotError> {
        let here = self.slot(slot)?;
        // A leader that has rested hears from a majority again before it changes anything.
        self.barrier(slot).await?;
        let known = self.status(slot)?;
        // Who was to join when an earlier change was interrupted.
        let strays: BTreeSet<u64> = known.learners.difference(voters).map(|node| node.0).collect();
        if !strays.is_empty() {
            let removed = here.raft.change_membership(ChangeMembers::RemoveNodes(strays), false).await;
            removed.map_err(write_error)?;
        }
        let new = voters.iter().filter(|node| !known.voters.contains(node) && !known.learners.contains(node));
        for node in new {
            here.raft.add_learner(node.0, EmptyNode {}, true).await.map_err(write_error)?;
        }
        let voters: BTreeSet<u64> = voters.iter().map(|node| node.0).collect();
        here.raft.change_membership(voters, false).await.map(drop).map_err(write_error)
    }

    /// What one sees of a group here.
    ///
    /// # Errors
    /// If there is no such slot here.
    pub fn status(&self, slot: u32) -> Result<SlotStatus, SlotError> {
        let slot = self.slot(slot)?;
        let metrics = slot.raft.metrics();
        let metrics = metrics.borrow_watched();
        let applied = slot.machine.applied().map_err(|error| SlotError::Stopped(error.to_string()))?.map(|at| at.index);
        let committed = metrics.cluster_committed.max(metrics.local_committed).map(|id| id.index);
        let members = metrics.membership_config.membership();
        Ok(SlotStatus {
            leader: metrics.current_leader.map(NodeId),
            is_leader: metrics.current_leader == Some(self.0.me.0),
            term: metrics.current_term,
            last: metrics.last_log_index,
            applied,
            purged: metrics.purged.map(|id| id.index),
            lag: committed.map_or(0, |index| index + 1).saturating_sub(applied.map_or(0, |index| index + 1)),
            voters: members.voter_ids().map(NodeId).collect(),
            learners: members.learner_ids().map(NodeId).collect(),
            is_resting: slot.rest.is_resting(),
            stopped: slot.stopped(),
        })
    }

    /// Why a group has stopped here, if it has.
    ///
    /// # Errors
    /// If there is no such slot here.
    pub fn stopped(&self, slot: u32) -> Result<Option<String>, SlotError> {
        Ok(self.slot(slot)?.stopped())
    }

    /// The slots that are open here.
    pub fn list(&self) -> Vec<u32> {
        self.0.groups.borrow().keys().copied().collect()
    }

    /// Takes a batch of another node and returns what is to be answered.
    ///
    /// # Errors
    /// If it is no batch of a version known here.
    pub async fn handle(&self, batch: Bytes) -> Result<Bytes, Undecodable> {
        self.0.router.handle(batch).await
    }

    /// Takes what another node has to say to groups of this core, and returns what there is to answer at once.
    pub async fn take(&self, from: u64, pieces: Vec<Piece>) -> Vec<Piece> {
        self.0.router.take(from, pieces).await
    }

    /// Hands over what this node leads to nodes that are up to date, for a stop without a pause: asks, and waits so long.
    pub async fn hand_over(&self, limit: Duration) {
        let groups: Vec<Rc<Slot>> = self.0.groups.borrow().values().cloned().collect();
        self.hand_over_these(&groups, limit).await;
    }

    async fn hand_over_these(&self, groups: &[Rc<Slot>], limit: Duration) {
        let deadline = time::now() + limit;
        let mut leaving = Vec::new();
        for slot in groups {
            let metrics = slot.raft.metrics().borrow_watched().clone();
            let best = metrics.replication.iter().flatten().filter(|(node, _)| **node != self.0.me.0);
            let voters: BTreeSet<u64> = metrics.membership_config.membership().voter_ids().collect();
            let best = best.filter(|(node, _)| voters.contains(node)).max_by_key(|(_, matched)| **matched);
            if let (Some(_), Some((node, _))) = (&metrics.replication, best) {
                slot.lease.hand_over(metrics.vote);
                // If it fails, the others elect one when they hear nothing any more.
                let _ = slot.raft.trigger().transfer_leader(*node).await;
                leaving.push(slot);
            }
        }
        while leaving.iter().any(|slot| slot.raft.is_leader()) && time::now() < deadline {
            time::sleep(self.0.options.heartbeat / 20).await;
        }
    }

    /// Stops all groups. What isn't committed of the index is found in the log by the next start.
    pub async fn close(&self) {
        self.0.looking.take();
        let groups = self.0.groups.take();
        for slot in groups.values() {
            slot.log.close();
            let _ = slot.raft.shutdown().await;
        }
        self.0.router.close();
    }

    fn slot(&self, slot: u32) -> Result<Rc<Slot>, SlotError> {
        self.0.groups.borrow().get(&slot).cloned().ok_or(SlotError::NoSlot(slot))
    }
}

fn config(options: &Options) -> Result<Config, openraft::ConfigError> {
    let millis = |duration: Duration| duration.as_millis() as u64;
    let config = Config {
        cluster_name: "cairn".to_owned(),
        heartbeat_interval: millis(options.heartbeat),
        election_timeout_min: millis(options.election.0),
        election_timeout_max: millis(options.election.1),
        enable_pre_vote: Some(true),
        // The machine is write-behind and what was committed isn't kept: only an election says what is.
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_entries),
        max_in_snapshot_log_to_keep: options.kept_entries,
        purge_batch_size: (options.snapshot_entries / 4).max(1),
        replication_lag_threshold: options.snapshot_entries.max(options.kept_entries) * 2,
        max_payload_entries: 256,
        max_append_entries: Some(1024),
        api_channel_size: Some(2048),
        api_batch_capacity: 256,
        notification_channel_size: Some(2048),
        state_machine_channel_size: Some(1024),
        install_snapshot_timeout: millis(options.batch_limit) * 30,
        ..Config::default()
    };
    config.validate()
}

/// A proposal that is under way.
struct Proposing(Rc<Slot>);

impl Proposing {
    fn begin(slot: &Rc<Slot>, max: usize) -> Result<Self, SlotError> {
        let count = slot.proposals.get() + 1;
        if count > max {
            return Err(SlotError::Busy(format!("{max} proposals are under way")));
        }
        slot.proposals.set(count);
        Ok(Self(slot.clone()))
    }
}

impl Drop for Proposing {
    fn drop(&mut self) {
        self.0.proposals.set(self.0.proposals.get() - 1);
    }
}

fn not_leader(forward: &ForwardToLeader<Group>) -> SlotError {
    SlotError::NotLeader { leader: forward.leader_id.map(NodeId) }
}

fn write_error(error: WriteError) -> SlotError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => not_leader(&forward),
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => {
            SlotError::Unknown("another node leads now".to_owned())
        }
        RaftError::APIError(error) => SlotError::Refused(error.to_string()),
        RaftError::Fatal(fatal) => SlotError::Stopped(fatal.to_string()),
    }
}

impl Answers for Inner {
    fn answer(&self, _from: u64, slot: u32, question: Question) -> LocalBoxFuture<'static, Reply> {
        let (here, election) = (self.groups.borrow().get(&slot).cloned(), self.options.election);
        Box::pin(async move {
            match here {
                Some(here) => here.answer(question, election).await,
                None => Reply::Unable(SlotError::NoSlot(slot).to_string()),
            }
        })
    }
}

impl Slot {
    fn stopped(&self) -> Option<String> {
        if !self.has_ended.get() {
            return None;
        }
        let metrics = self.raft.metrics();
        let said = metrics.borrow_watched().running_state.as_ref().err().map(ToString::to_string);
        Some(said.unwrap_or_else(|| {
            "a defect: its task has ended, and the node's log says why; restart the node, and report it".to_owned()
        }))
    }

    /// A leader that has rested must hear from a majority again before openraft takes anything from it: it is refused, and
    /// said once more.
    async fn write(&self, command: Command) -> Result<ClientWriteResponse<Group>, WriteError> {
        let written = self.raft.client_write(command.clone()).await;
        let is_rested = |forward: &ForwardToLeader<Group>| forward.reason == ForwardReason::LeaseExpired;
        match &written {
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) if is_rested(forward) => {}
            _ => return written,
        }
        match self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(_) => self.raft.client_write(command).await,
            Err(_) => written,
        }
    }

    /// Waits until all that was applied before this start is applied again. How far the log is committed is never kept,
    /// but heard from a leader of now: what that covers of our log is what may have been applied. A leader whose log
    /// is shorter has cut ours off, where nothing was applied.
    async fn recover(&self, limit: Duration) -> Result<(), SlotError> {
        if self.has_recovered.get() {
            return Ok(());
        }
        let is_there = |now: &openraft::RaftMetrics<Group>| {
            let (committed, applied) = (now.cluster_committed.as_ref(), now.last_applied.as_ref());
            let reached = committed.map(|id| id.index).min(applied.map(|id| id.index));
            reached.is_some() && reached >= self.tail.min(now.last_log_index)
        };
        let waited = self.raft.wait(Some(limit)).metrics(is_there, "what was applied before is applied again").await;
        waited.map_err(|_| SlotError::NoQuorum)?;
        self.has_recovered.set(true);
        Ok(())
    }

    async fn answer(&self, question: Question, (spread, lease): (Duration, Duration)) -> Reply {
        let unable = |reason: &dyn std::fmt::Display| Reply::Unable(reason.to_string());
        match question {
            Question::Append(request) => match self.raft.append_entries(request).await {
                Ok(response) => {
                    if !matches!(response, AppendEntriesResponse::HigherVote(_)) {
                        self.rest.hear(lease, spread);
                    }
                    Reply::Append(response)
                }
                Err(error) => unable(&error),
            },
            Question::Vote(request) | Question::PreVote(request) if self.lease.refuses(&request) => {
                unable(&"it has just started, and may have forgotten whom it heard")
            }
            Question::PreVote(_) if self.knows_a_leader(lease).await => unable(&"its leader is there"),
            Question::Vote(request) => match self.raft.vote(request).await {
                Ok(response) => Reply::Vote(response),
                Err(error) => unable(&error),
            },
            Question::PreVote(request) => match self.raft.pre_vote(request).await {
                Ok(response) => Reply::Vote(response),
                Err(error) => unable(&error),
            },
            Question::Transfer(request) => match self.raft.handle_transfer_leader(request).await {
                Ok(Ok(())) => Reply::Transferring,
                Ok(Err(error)) => unable(&error),
                Err(fatal) => unable(&fatal),
            },
            Question::Rest(claim) => self.take_claim(claim, lease, spread),
            Question::Snapshot(part) => self.stage(part).await,
            Question::Install(end) => self.install(end).await,
        }
    }

    /// A vote that is greater than that of a snapshot's sender.
    fn higher_vote(&self, vote: &Vote) -> Option<Vote> {
        let mine = self.raft.metrics().borrow_watched().vote;
        (mine > *vote).then_some(mine)
    }

    async fn stage(&self, SnapshotPart { vote, session, part, rows }: SnapshotPart) -> Reply {
        let mut incoming = self.incoming.lock().await;
        if let Some(higher) = self.higher_vote(&vote) {
            return Reply::Installed(higher);
        }
        match *incoming {
            // Said twice.
            Some((known, parts)) if known == session && part + 1 == parts => return Reply::Staged,
            Some((known, parts)) if known == session && part == parts => {}
            _ if part == 0 => *incoming = Some((session, 0)),
            _ => return Reply::Unable("this transfer is unknown here: begin anew".to_owned()),
        }
        match self.machine.lane.stage_rows(self.number, session, part, rows).await {
            Ok(()) => {
                *incoming = Some((session, part + 1));
                Reply::Staged
            }
            Err(error) => {
                *incoming = None;
                Reply::Unable(error.to_string())
            }
        }
    }

    async fn install(&self, SnapshotEnd { vote, session, parts, meta }: SnapshotEnd) -> Reply {
        // Held until it is installed: nobody else stages anything meanwhile.
        let mut incoming = self.incoming.lock().await;
        let is_there = incoming.take() == Some((session, parts));
        // A snapshot without rows has no parts; what others began is in its way.
        let is_empty = parts == 0 && self.machine.lane.drop_staged(self.number).await.is_ok();
        if !is_there && !is_empty {
            return Reply::Unable("this transfer is unknown here: begin anew".to_owned());
        }
        let snapshot = snapshot::Snapshot { meta, snapshot: SnapshotData::Staged { session, parts } };
        match self.raft.install_full_snapshot(vote, snapshot).await {
            Ok(response) => Reply::Installed(response.vote),
            Err(fatal) => Reply::Unable(fatal.to_string()),
        }
    }
}
