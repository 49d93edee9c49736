//! The slots of a node: Raft groups that agree on what happens to rows of the lane's index.
//!
//! ```text
//!   propose ─► Slot ─► SlotLog ─► the lane's log (one sync for all groups and chunks)
//!              │  ▲ ▲                  │
//!              │  │ └──────────────────┘ landed
//!              │  └─── Router ◄──► Transport ◄──► other nodes, one batch at a time
//!              ▼
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

mod apply;
mod codec;
mod elect;
mod follow;
#[cfg(test)]
mod follow_tests;
#[cfg(test)]
mod fuzz;
mod group;
mod lead;
mod lease;
mod leave;
mod log;
mod machine;
mod members;
mod over_rpc;
mod raft;
mod rest;
mod router;
mod snapshot;
mod types;
mod wire;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::{Rc, Weak};

use bytes::Bytes;
use cairn_io::task::{Class, JoinHandle, spawn, yield_now};
use cairn_io::time::{self, Duration};
use cairn_meta::rows::{Machine, Rows};
use cairn_placement::NodeId;
use futures_util::future::LocalBoxFuture;

pub use codec::Undecodable;
pub use router::{Nobody, Transport, Unreachable};
pub use wire::{Item as Piece, decode_batch, encode_batch, sender_of};

use crate::lane::{Landings, Lane, LaneError, SLOTS_MAX};
use group::{Parts, Slot};
use lease::Lease;
use log::{SlotLog, behind};
use machine::{SlotMachine, decode_members};
use raft::Raft;
use router::{Answers, Router};
use types::{At, Entry, Membership, Payload};
use wire::{Question, Reply};

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
    options: Rc<Options>,
    router: Rc<Router>,
    groups: RefCell<BTreeMap<u32, Rc<Slot>>>,
    /// What hears of entries that landed, for each lane that groups are in.
    landing: RefCell<Vec<(Rc<Landings>, JoinHandle<()>)>>,
    /// Does what it is time for.
    ticking: RefCell<Option<JoinHandle<()>>>,
}

/// A core has hundreds of groups: it wakes as often for all that may be due, and what they have to say to a node leaves in one
/// batch.
const TICK: Duration = Duration::from_millis(64);

fn stopped(error: impl Into<LaneError>) -> SlotError {
    SlotError::Stopped(error.into().to_string())
}

impl Slots {
    /// The groups of a node; none yet.
    ///
    /// # Errors
    /// If the options make no sense.
    pub fn new(me: NodeId, transport: Rc<dyn Transport>, options: Options) -> Result<Self, SlotError> {
        let Options { heartbeat, election: (least, most), .. } = options;
        if heartbeat.is_zero() || least <= heartbeat || most < least {
            return Err(SlotError::Refused(format!(
                "a leader is there every {heartbeat:?}, and elections begin after {least:?} to {most:?}: they must be longer"
            )));
        }
        let router = Router::new(me.0, transport, options.batch_limit);
        let (options, groups) = (Rc::new(options), RefCell::default());
        let (landing, ticking) = (RefCell::default(), RefCell::default());
        let inner = Rc::new(Inner { me, options, router, groups, landing, ticking });
        inner.ticking.replace(Some(spawn(Class::Foreground, keep_ticking(Rc::downgrade(&inner)))));
        let answers: Rc<dyn Answers> = inner.clone();
        inner.router.set_answers(Rc::downgrade(&answers));
        Ok(Self(inner))
    }

    /// How they are run.
    pub fn options(&self) -> &Options {
        &self.0.options
    }

    /// Opens a slot whose log and rows are in this lane. What was there is found; a slot that is new waits to be told who
    /// belongs to it, by [`Slots::create`] or by its leader.
    ///
    /// # Errors
    /// If what is there can't be read.
    pub async fn open(&self, slot: u32, lane: &Lane, machine: Rc<dyn Machine>) -> Result<(), SlotError> {
        if slot >= SLOTS_MAX || self.0.groups.borrow().contains_key(&slot) {
            return Err(SlotError::Refused(format!("slot {slot} is open already, or no slot")));
        }
        // What an earlier life left half done.
        lane.drop_staged(slot).await.map_err(stopped)?;
        lane.sweep_slot(slot).await.map_err(stopped)?;
        let log = SlotLog::open(lane, slot).map_err(stopped)?;
        log.begin().await.map_err(stopped)?;
        let was_here = !log.is_new();
        let facts = lane.slot_facts(slot).map_err(stopped)?;
        if let Some(applied) = facts.applied.filter(|applied| applied.index >= log.begins())
            && log.at(applied.index).map_err(stopped)? != Some(applied)
        {
            // Rows that came by a snapshot, or were applied before they had landed here.
            follow::begin_behind(&log, applied).await.map_err(stopped)?;
        }
        let me = self.0.me.0;
        let members = decode_members(&facts.members).map_err(|error| SlotError::Stopped(error.to_string()))?;
        let mut raft = Raft::new(me, log.vote(), behind(facts.applied), members);
        let mut next = raft.committed;
        while next < log.end() {
            for Entry { at, payload } in log.read_there(next, log.end()).await.map_err(stopped)? {
                next = at.index + 1;
                if let Payload::Members(membership) = payload {
                    raft.push_members(at, membership);
                }
            }
        }
        let lease = Lease::begin(&self.0.options, was_here);
        let votes_alone = raft.membership().voters().into_iter().eq([me]);
        if votes_alone {
            // Nobody else could lead: there is nothing to wait for.
            lease.end_waiting();
        }
        let (options, router) = (self.0.options.clone(), self.0.router.clone());
        let (machine, flushed) = (SlotMachine::new(lane, slot, machine), behind(facts.flushed.map(|(at, _)| at)));
        let parts = Parts { number: slot, me, options, router, raft, log, machine, lease, flushed };
        let here = Slot::new(parts);
        self.0.listen(lane);
        self.0.groups.borrow_mut().insert(slot, here.clone());
        if votes_alone {
            here.stand(None);
        } else {
            here.wait_for_leader(if was_here { self.0.options.election.1 } else { Duration::ZERO });
        }
        Ok(())
    }

    /// Tells a new group who belongs to it. To be asked of one of its nodes; more do no harm if all say the same.
    ///
    /// # Errors
    /// If this node isn't among them.
    pub async fn create(&self, slot: u32, voters: &BTreeSet<NodeId>) -> Result<(), SlotError> {
        let here = self.slot(slot)?;
        let voters: BTreeSet<u64> = voters.iter().map(|node| node.0).collect();
        if !voters.contains(&self.0.me.0) {
            return Err(SlotError::Refused(format!("node {} isn't among those who are to vote", self.0.me)));
        }
        let turn = here.turn.lock().await;
        let is_new = here.log.is_new() && here.raft.borrow().vote == types::Vote::default();
        if !is_new || here.raft.borrow().members().at.is_some() {
            // It has begun its life.
            return Ok(());
        }
        // The same on all of them, so it needs no leader.
        let (at, membership) = (At::default(), Membership::of(voters));
        here.raft.borrow_mut().push_members(at, membership.clone());
        here.log.push(Entry { at, payload: Payload::Members(membership) });
        here.drive();
        let has_landed = here.log.landed(at.index).await;
        drop(turn);
        if has_landed {
            here.stand(None);
        }
        here.check()
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
        let answered =
            async { slot.propose(command).await?.await.unwrap_or_else(|_| Err(unknown("its group has ended"))) };
        let answered = time::timeout(self.0.options.propose_limit, answered).await;
        answered.unwrap_or_else(|_| Err(unknown("no majority said so in time")))
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
        slot.check()?;
        if slot.has_all()? {
            return Ok(());
        }
        time::timeout(self.0.options.propose_limit, slot.confirm()).await.unwrap_or(Err(SlotError::NoQuorum))
    }

    /// Waits until every node of the group has all that was answered before now, durably, but for those that don't answer. How many
    /// have it, and of how many.
    ///
    /// # Errors
    /// If this node doesn't lead.
    pub async fn copies(&self, slot: u32) -> Result<(usize, usize), SlotError> {
        let slot = self.slot(slot)?;
        slot.check()?;
        let end = slot.log.end();
        let copies = time::timeout(self.0.options.propose_limit, slot.copies()).await;
        copies.unwrap_or_else(|_| slot.have(end).ok_or_else(|| slot.not_leader()))
    }

    /// Lends a slot's rows if nobody need be asked whether they are up to date: as behind a [`Slots::barrier`], at once. `None`:
    /// ask, or there is something wrong that the barrier will say.
    pub fn read_alone<R>(&self, slot: u32, read: impl FnOnce(&dyn Rows) -> R) -> Option<R> {
        let groups = self.0.groups.borrow();
        let slot = groups.get(&slot).filter(|slot| !slot.is_over() && !slot.is_leaving.get())?;
        if slot.has_all().is_ok_and(|has| has) { slot.machine.read(read).ok() } else { None }
    }

    /// Lends a slot's rows as they are here now: up to date behind a [`Slots::barrier`], else perhaps older than what
    /// another node, or this one before a restart, has shown; see [`Slots::read_own`].
    ///
    /// # Errors
    /// If there is no such slot here, or the index can't be read.
    pub fn read<R>(&self, slot: u32, read: impl FnOnce(&dyn Rows) -> R) -> Result<R, SlotError> {
        self.slot(slot)?.machine.read(read).map_err(stopped)
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
        here.check()?;
        time::timeout(limit, here.recover()).await.unwrap_or(Err(SlotError::NoQuorum))?;
        let found = here.machine.read(read).map_err(stopped)?;
        let applied = here.machine.applied().map_err(stopped)?.filter(|at| !here.log.is_durable(at.index));
        if let Some(applied) = applied {
            // Committed by others, and applied here before it is durable here; what a snapshot or a flush brought is.
            let flushed = here.machine.lane.slot_facts(slot).map_err(stopped)?.flushed;
            if flushed.is_none_or(|(flushed, _)| flushed < applied) {
                let landed = time::timeout(limit, here.log.landed(applied.index)).await;
                landed.ok().filter(|has_landed| *has_landed).ok_or(SlotError::NoQuorum)?;
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
        let voters = voters.iter().map(|node| node.0).collect();
        self.slot(slot)?.change_voters(&voters).await
    }

    /// What one sees of a group here.
    ///
    /// # Errors
    /// If there is no such slot here.
    pub fn status(&self, slot: u32) -> Result<SlotStatus, SlotError> {
        let slot = self.slot(slot)?;
        let raft = slot.raft.borrow();
        let (applied, membership) = (slot.applied.get(), raft.membership());
        let nodes = |nodes: BTreeSet<u64>| nodes.into_iter().map(NodeId).collect();
        Ok(SlotStatus {
            leader: raft.leader().map(NodeId),
            is_leader: raft.lead().is_some(),
            term: raft.vote.term,
            last: slot.log.last().map(|last| last.index),
            applied: applied.checked_sub(1),
            purged: slot.log.purged().map(|purged| purged.index),
            lag: raft.heard.unwrap_or(0).max(raft.committed).saturating_sub(applied),
            voters: nodes(membership.voters()),
            learners: nodes(membership.learners()),
            is_resting: slot.rest.is_resting(),
            stopped: slot.stopped(),
        })
    }

    /// Whether this node has heard a group's leader lately, or, if it leads, a majority has heard it. Else nobody may lead any more.
    ///
    /// # Errors
    /// If there is no such slot here.
    pub fn is_led(&self, slot: u32) -> Result<bool, SlotError> {
        Ok(self.slot(slot)?.has_heard_lately())
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
        let groups = self.0.groups.borrow();
        groups.values().filter(|slot| !slot.is_leaving.get()).map(|slot| slot.number).collect()
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
        let leaving: Vec<&Rc<Slot>> = groups.iter().filter(|slot| slot.hand_over()).collect();
        while leaving.iter().any(|slot| slot.leading().is_some()) && time::now() < deadline {
            time::sleep(self.0.options.heartbeat / 20).await;
        }
    }

    /// Stops all groups. What isn't committed of the index is found in the log by the next start.
    pub async fn close(&self) {
        self.0.ticking.take();
        let groups = self.0.groups.take();
        groups.values().for_each(|slot| slot.close());
        self.0.router.close();
        self.0.landing.take();
        // What was going on for them notices.
        yield_now().await;
    }

    fn slot(&self, slot: u32) -> Result<Rc<Slot>, SlotError> {
        let found = self.0.groups.borrow().get(&slot).filter(|slot| !slot.is_leaving.get()).cloned();
        found.ok_or(SlotError::NoSlot(slot))
    }
}

impl Inner {
    /// Hears of entries that land in this lane.
    fn listen(self: &Rc<Self>, lane: &Lane) {
        let landings = lane.landings();
        let mut landing = self.landing.borrow_mut();
        if !landing.iter().any(|(known, _)| Rc::ptr_eq(known, &landings)) {
            let task = spawn(Class::Foreground, keep_landing(Rc::downgrade(self), landings.clone()));
            landing.push((landings, task));
        }
    }

    /// A group has left.
    fn forget(&self, slot: u32) {
        let mut groups = self.groups.borrow_mut();
        groups.remove(&slot);
        let is_used =
            |landings: &Rc<Landings>| groups.values().any(|slot| Rc::ptr_eq(&slot.machine.lane.landings(), landings));
        self.landing.borrow_mut().retain(|(landings, _)| {
            let is_used = is_used(landings);
            if !is_used {
                landings.stop();
            }
            is_used
        });
    }

    fn tick(&self) {
        let groups: Vec<Rc<Slot>> = self.groups.borrow().values().cloned().collect();
        for slot in groups {
            match slot.machine.lane.check() {
                Ok(()) => slot.tick(),
                // Who waits for what is on its way waits in vain.
                Err(_) if slot.is_over() => slot.log.close(),
                Err(error) => slot.fail(&error),
            }
        }
    }
}

/// Does what it is time for, again and again.
async fn keep_ticking(inner: Weak<Inner>) {
    let Some(options) = inner.upgrade().map(|inner| inner.options.clone()) else { return };
    let (every, claims_every) = (TICK.min(options.heartbeat / 2), options.heartbeat * 2);
    let mut claims_at = time::now() + claims_every;
    loop {
        time::sleep(every).await;
        let Some(inner) = inner.upgrade() else { return };
        inner.tick();
        if time::now() >= claims_at {
            claims_at = time::now() + claims_every;
            inner.look(claims_every);
        }
    }
}

/// Does what follows from entries that have landed.
async fn keep_landing(inner: Weak<Inner>, landings: Rc<Landings>) {
    loop {
        landings.wait().await;
        let Some(inner) = inner.upgrade() else { return };
        let mut slots: Vec<Rc<Slot>> = Vec::new();
        for (number, at) in landings.take() {
            let known = slots.last().filter(|slot| slot.number == number);
            let Some(slot) = known.cloned().or_else(|| inner.groups.borrow().get(&number).cloned()) else { continue };
            slot.log.has_landed(at);
            slots.push(slot);
        }
        slots.sort_by_key(|slot| slot.number);
        slots.dedup_by_key(|slot| slot.number);
        drop(inner);
        for (count, slot) in slots.iter().enumerate() {
            if count % GROUPS_AT_ONCE == GROUPS_AT_ONCE - 1 {
                yield_now().await;
            }
            slot.advance();
        }
    }
}

/// Groups brought on before others get their turn on the core.
const GROUPS_AT_ONCE: usize = 64;

fn unknown(why: &str) -> SlotError {
    SlotError::Unknown(why.to_owned())
}

/// What became of something that this node proposed.
fn another_leads() -> SlotError {
    unknown("another node leads now")
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

impl Answers for Inner {
    fn answer(&self, from: u64, slot: u32, question: Question) -> LocalBoxFuture<'static, Reply> {
        let here = self.groups.borrow().get(&slot).filter(|slot| !slot.is_leaving.get()).cloned();
        Box::pin(async move {
            match here {
                Some(here) => here.answer(from, question).await,
                None => follow::unable(&SlotError::NoSlot(slot)),
            }
        })
    }
}

impl Slot {
    /// Waits until all that was applied before this start is applied again. How far the log is committed is never kept,
    /// but heard from a leader of now: what that covers of our log is what may have been applied. A leader whose log
    /// is shorter has cut ours off, where nothing was applied.
    async fn recover(&self) -> Result<(), SlotError> {
        if self.has_recovered.get() {
            return Ok(());
        }
        let is_there = || {
            let heard = self.raft.borrow().heard?;
            (heard.min(self.applied.get()) >= self.tail.min(self.log.end())).then_some(())
        };
        self.until(is_there).await?;
        self.has_recovered.set(true);
        Ok(())
    }
}
