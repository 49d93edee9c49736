//! One group's member on this node: what it knows, its log and its machine, and the tasks that bring them on.
//!
//! | file | what it does |
//! | --- | --- |
//! | `lead.rs` | takes commands, sends entries, makes sure that it leads |
//! | `follow.rs` | answers a leader, and whoever wants to be one |
//! | `elect.rs` | notices that nobody leads, and stands for election |
//! | `apply.rs` | commits what has landed, applies it, answers; has the log begin later |
//! | `members.rs` | changes who belongs to the group |
//!
//! No task waits for work: whatever changes something does at once what follows from it, as far as nothing need be waited for. A
//! commit on one node takes two wake-ups, one for all that has landed in a lane and one for whoever asked.
//!
//! Invariants: whoever is told of a vote is told when it is durable; while one holds `turn`, nobody else changes the vote for
//! good, cuts entries off, or has the log begin later; only one task at a time submits entries, applies entries, sends to a
//! node, or stands for election.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt::Display;
use std::future::Future;
use std::pin::pin;
use std::rc::{Rc, Weak};

use cairn_io::task::{Class, spawn};
use cairn_io::time::Instant;
use cairn_io::{Bell, rng, time};
use futures_channel::oneshot;
use futures_util::future::select;
use futures_util::lock::Mutex;

use super::lease::Lease;
use super::log::SlotLog;
use super::machine::SlotMachine;
use super::raft::Raft;
use super::rest::Rest;
use super::router::Router;
use super::types::At;
use super::{Options, SlotError, another_leads};

/// See the module.
pub struct Slot {
    pub number: u32,
    pub me: u64,
    pub options: Rc<Options>,
    pub router: Rc<Router>,
    pub raft: RefCell<Raft>,
    pub log: SlotLog,
    pub machine: SlotMachine,
    pub rest: Rest,
    pub lease: Lease,
    /// Held by whoever changes the vote for good, cuts the log off or has it begin later.
    pub turn: Mutex<()>,
    /// Whoever proposed waits for their entry to be applied.
    pub waiting: RefCell<VecDeque<Waiting>>,
    /// So many entries are applied.
    pub applied: Cell<u64>,
    /// So many are in the rows that the lane's log has.
    pub flushed: Cell<u64>,
    /// Something of all this has changed.
    pub changed: Bell,
    /// If nobody is heard by then, this node stands for election.
    pub elect_at: Cell<Instant>,
    /// So many entries may have been applied before this start.
    pub tail: u64,
    /// Whether all that was applied before this start is applied again.
    pub has_recovered: Cell<bool>,
    pub proposals: Cell<usize>,
    /// Whether it is on its way to another lane: what it says from now on is not the last word.
    pub is_leaving: Cell<bool>,
    /// The snapshot that is coming in: its number and the parts there are.
    pub incoming: Mutex<Option<(u64, u32)>>,
    /// What runs for it now, one of each at most.
    pub runs: Runs,
    /// Why it has ended, if so.
    ended: RefCell<Option<Ended>>,
    has_ended: Bell,
    this: Weak<Slot>,
}

/// What runs for a group.
#[derive(Default)]
pub struct Runs {
    pub is_submitting: Cell<bool>,
    pub is_applying: Cell<bool>,
    pub is_keeping: Cell<bool>,
    pub is_standing: Cell<bool>,
    pub is_changing: Cell<bool>,
}

/// Who waits for an entry to be applied.
pub struct Waiting {
    pub at: At,
    pub answer: oneshot::Sender<Result<Vec<u8>, SlotError>>,
}

/// Why a group does nothing any more.
#[derive(Clone, Debug)]
enum Ended {
    /// It was told to.
    Closed,
    /// It can't go on.
    Failed(String),
}

/// What a member is made of.
pub struct Parts {
    pub number: u32,
    pub me: u64,
    pub options: Rc<Options>,
    pub router: Rc<Router>,
    pub raft: Raft,
    pub log: SlotLog,
    pub machine: SlotMachine,
    pub lease: Lease,
    pub flushed: u64,
}

impl Slot {
    /// A member that has done nothing yet.
    pub fn new(parts: Parts) -> Rc<Self> {
        let Parts { number, me, options, router, raft, log, machine, lease, flushed } = parts;
        let applied = raft.committed;
        let tail = log.end().max(applied);
        let elect_at = time::now() + options.election.1;
        Rc::new_cyclic(|this| Self {
            number,
            me,
            options,
            router,
            raft: RefCell::new(raft),
            log,
            machine,
            rest: Rest::default(),
            lease,
            turn: Mutex::default(),
            waiting: RefCell::default(),
            applied: Cell::new(applied),
            flushed: Cell::new(flushed),
            changed: Bell::default(),
            elect_at: Cell::new(elect_at),
            tail,
            has_recovered: Cell::new(tail == 0),
            proposals: Cell::new(0),
            is_leaving: Cell::new(false),
            incoming: Mutex::default(),
            runs: Runs::default(),
            ended: RefCell::default(),
            has_ended: Bell::default(),
            this: this.clone(),
        })
    }

    /// Does something beside what is going on, until it is done or the group ends.
    pub fn run<F: Future<Output = ()> + 'static>(&self, task: impl FnOnce(Rc<Self>) -> F + 'static) {
        let Some(this) = self.this.upgrade() else { return };
        spawn(Class::Foreground, async move {
            if this.is_over() {
                return;
            }
            // Begun here and not before: what an async block takes in and then pins has its room twice.
            select(pin!(task(this.clone())), pin!(this.has_ended.rung())).await;
        })
        .detach();
    }

    /// Whether it does nothing any more.
    pub fn is_over(&self) -> bool {
        self.ended.borrow().is_some()
    }

    /// Why it can't go on, if so.
    pub fn stopped(&self) -> Option<String> {
        match &*self.ended.borrow() {
            Some(Ended::Failed(why)) => Some(why.clone()),
            _ => None,
        }
    }

    /// Fails whoever asks something of a group that does nothing any more.
    pub fn check(&self) -> Result<(), SlotError> {
        match &*self.ended.borrow() {
            None => Ok(()),
            Some(Ended::Failed(why)) => Err(SlotError::Stopped(why.clone())),
            Some(Ended::Closed) => Err(SlotError::NoSlot(self.number)),
        }
    }

    /// It can't go on.
    pub fn fail(&self, why: &dyn Display) {
        let why = why.to_string();
        tracing::error!(slot = self.number, %why, "a slot has stopped on this node");
        self.end(Ended::Failed(why.clone()));
        self.answer_all(&SlotError::Stopped(why));
    }

    /// It is told to end. What is on its way into the log lands.
    pub fn close(&self) {
        self.end(Ended::Closed);
        let why = if self.is_leaving.get() { "its group is being moved to another disk" } else { "the node stops" };
        self.answer_all(&SlotError::Unknown(why.to_owned()));
    }

    fn end(&self, how: Ended) {
        self.ended.borrow_mut().get_or_insert(how);
        self.log.close();
        self.has_ended.ring();
        self.changed.ring();
    }

    fn answer_all(&self, error: &SlotError) {
        for waiting in self.waiting.take() {
            let _ = waiting.answer.send(Err(error.clone()));
        }
    }

    /// Nobody knows what became of proposals from this entry on.
    pub fn give_up_waiting(&self, from: u64) {
        let mut waiting = self.waiting.borrow_mut();
        let keep = waiting.iter().take_while(|waiting| waiting.at.index < from).count();
        let given_up = waiting.split_off(keep);
        drop(waiting);
        for waiting in given_up {
            let _ = waiting.answer.send(Err(another_leads()));
        }
    }

    /// Waits until something is so, or the group ends.
    pub async fn until<T>(&self, mut is_so: impl FnMut() -> Option<T>) -> Result<T, SlotError> {
        loop {
            self.check()?;
            match is_so() {
                Some(found) => return Ok(found),
                None => self.changed.rung().await,
            }
        }
    }

    /// The leader is there, or this node has just voted: from now on it waits again.
    pub fn hear(&self) {
        self.rest.hear();
        self.wait_for_leader(self.options.election.1);
    }

    /// Stands for election after at least so long, if nobody is heard before. How much longer is another each time, so that not
    /// all stand at once.
    pub fn wait_for_leader(&self, least: time::Duration) {
        let spread = (self.options.election.0.as_nanos() as u64).max(1);
        self.elect_at.set(time::now() + least + time::Duration::from_nanos(rng::next_u64() % spread));
    }

    /// Saves the vote if it isn't; to be called by who has the turn.
    pub async fn save_vote(&self) -> std::io::Result<()> {
        let vote = self.raft.borrow().vote;
        if self.log.vote() == vote {
            return Ok(());
        }
        self.log.save_vote(vote).await
    }

    /// Who leads, as an answer to who asked another.
    pub fn not_leader(&self) -> SlotError {
        let leader = self.raft.borrow().leader().filter(|leader| *leader != self.me);
        SlotError::NotLeader { leader: leader.map(cairn_placement::NodeId) }
    }
}
