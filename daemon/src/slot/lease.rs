//! Reads that ask nobody: a leader knows for a while that nobody else can have answered anything.
//!
//! A node that hears a leader votes for nobody else for [`Options::election`]'s longer time, and doesn't stand for election
//! itself. A leader that a majority has answered counts from when it *sent* what they answered, and only three quarters of
//! that time: until then it reads its own rows at once. After it, and where it is switched off, it asks a majority first.
//!
//! | what could break it | why it doesn't |
//! | --- | --- |
//! | clocks that run unequally | they may, by a seventh each: a follower's time is still longer than three quarters of the leader's |
//! | clocks that are set | only monotonic ones count |
//! | a follower restarts, and forgets whom it heard | it votes for nobody for as long after its start |
//! | a follower's group is moved to another disk | the same |
//! | a leader hands over, because it was told to or is to leave the group | it reads so no more in this term, whether it succeeds or not |
//! | a leader stands still | the clock is looked at and the rows are read without anything in between |
//! | members change | openraft counts a majority of the old and of the new ones |
//! | a machine is suspended with its clock, others go on | it does break it: `cluster.reads` must be `majority` there |

use std::cell::Cell;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use cairn_io::task::{Class, spawn};
use cairn_io::time::{self, Duration, Instant};
use openraft::async_runtime::WatchReceiver;
use openraft::raft::VoteRequest;
use openraft::{Config, ServerState};

use super::rest::leads_alone;
use super::types::{Group, Vote};
use super::{Options, Running, Slot, SlotError};

/// How a group is run: at once, or first without standing for election.
pub struct Configs {
    usual: Arc<Config>,
    waiting: Arc<Config>,
}

/// What a group's reads by lease depend on.
pub struct Lease {
    /// How long a leader counts on what a majority has answered; `None`: never.
    lasts: Option<Duration>,
    /// Until when this node votes for nobody, as it may have forgotten whom it heard.
    waits: Cell<Option<Instant>>,
    /// The term in which this node has begun to hand over.
    handed: Cell<Option<Vote>>,
}

impl Configs {
    pub fn new(config: Config) -> Self {
        let waiting = Config { enable_elect: false, ..config.clone() };
        Self { usual: Arc::new(config), waiting: Arc::new(waiting) }
    }

    /// For a group that was here before, or wasn't.
    pub fn of(&self, was_here: bool) -> Arc<Config> {
        if was_here { self.waiting.clone() } else { self.usual.clone() }
    }
}

impl Lease {
    /// Of a group that begins now, and perhaps was here before.
    pub fn begin(options: &Options, was_here: bool) -> Rc<Self> {
        let followers = options.election.1;
        Rc::new(Self {
            lasts: options.has_lease_reads.then(|| followers * 3 / 4),
            waits: Cell::new(was_here.then(|| time::now() + followers)),
            handed: Cell::default(),
        })
    }

    /// Lets the group stand for election when it has waited.
    pub fn wait(self: &Rc<Self>, raft: &Running) {
        let Some(until) = self.waits.get() else { return };
        let (raft, this): (Running, Weak<Self>) = (raft.clone(), Rc::downgrade(self));
        spawn(Class::Foreground, async move {
            time::sleep_until(until).await;
            if let Some(this) = this.upgrade() {
                this.end_waiting(&raft);
            }
        })
        .detach();
    }

    /// There is nobody else whom this node could have heard.
    pub fn end_waiting(&self, raft: &Running) {
        self.waits.set(None);
        raft.runtime_config().elect(true);
    }

    /// Whether this node doesn't vote yet. A vote for whom the leader itself wants in its place harms nobody.
    pub fn refuses(&self, request: &VoteRequest<Group>) -> bool {
        self.waits.get().is_some() && !request.leadership_transfer
    }

    /// The leader that has this vote hands over.
    pub fn hand_over(&self, vote: Vote) {
        self.handed.set(Some(vote));
    }
}

impl Slot {
    /// Whether nobody else can have answered anything by now, and all that was answered is applied here: this node leads, alone
    /// or by a lease, and has applied the entry that begins its term, which stands behind all that was answered for before.
    /// Whoever joins is known here long before they can be elected.
    pub(super) fn has_all(&self) -> Result<bool, SlotError> {
        let Some(term) = self.term_alone().or_else(|| self.term_by_lease()) else { return Ok(false) };
        let applied = self.machine.applied().map_err(|error| SlotError::Stopped(error.to_string()))?;
        Ok(applied.is_some_and(|applied| applied.term == term))
    }

    fn term_alone(&self) -> Option<u64> {
        let now = self.raft.server_metrics();
        let now = now.borrow_watched();
        leads_alone(&now).then_some(now.vote.leader_id.term)
    }

    fn term_by_lease(&self) -> Option<u64> {
        let lasts = self.lease.lasts?;
        let now = self.raft.metrics();
        let now = now.borrow_watched();
        let is_voter = now.membership_config.membership().voter_ids().any(|node| node == now.id);
        let is_handing_over = !is_voter || self.lease.handed.get() == Some(now.vote);
        let is_leading = now.state == ServerState::Leader && !is_handing_over;
        let acked = now.last_quorum_acked.filter(|_| is_leading)?;
        (acked.elapsed() < lasts).then_some(now.vote.leader_id.term)
    }
}
