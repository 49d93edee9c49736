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
//! | an earlier leader's wish to hand over arrives late | others go back on what they promised a leader only in the term behind its own |
//! | a leader stands still | the clock is looked at and the rows are read without anything in between |
//! | members change | a majority of the old and of the new ones is counted |
//! | a machine is suspended with its clock, others go on | it does break it: `cluster.reads` must be `majority` there |

use std::cell::Cell;

use cairn_io::time::{self, Duration, Instant};

use super::group::Slot;
use super::types::Vote;
use super::{Options, SlotError};

/// What a group's reads by lease depend on.
pub struct Lease {
    /// How long a leader counts on what a majority has answered; `None`: never.
    lasts: Option<Duration>,
    /// Until when this node votes for nobody, as it may have forgotten whom it heard.
    waits: Cell<Option<Instant>>,
    /// The term in which this node has begun to hand over.
    handed: Cell<Option<Vote>>,
}

impl Lease {
    /// Of a group that begins now, and perhaps was here before.
    pub fn begin(options: &Options, was_here: bool) -> Self {
        let followers = options.election.1;
        Self {
            lasts: options.has_lease_reads.then(|| followers * 3 / 4),
            waits: Cell::new(was_here.then(|| time::now() + followers)),
            handed: Cell::default(),
        }
    }

    /// There is nobody else whom this node could have heard.
    pub fn end_waiting(&self) {
        self.waits.set(None);
    }

    /// Whether this node doesn't vote yet. A vote for whom the leader itself wants in its place harms nobody.
    pub fn is_waiting(&self) -> bool {
        self.waits.get().is_some_and(|until| time::now() < until)
    }

    /// The leader that has this vote hands over.
    pub fn hand_over(&self, vote: Vote) {
        self.handed.set(Some(vote));
    }
}

impl Slot {
    /// Whether nobody else can have answered anything by now, and all that was answered is applied here: this node leads, alone
    /// or by a lease, and has applied the entry that begins its term, which stands behind all that was answered for before, and
    /// all that it answered since. Whoever joins is known here long before they can be elected.
    pub fn has_all(&self) -> Result<bool, SlotError> {
        let Some(term) = self.term_alone().or_else(|| self.term_by_lease()) else { return Ok(false) };
        Ok(self.last_applied()?.is_some_and(|applied| applied.term == term))
    }

    fn term_alone(&self) -> Option<u64> {
        let raft = self.raft.borrow();
        raft.leads_alone().then_some(raft.vote.term)
    }

    fn term_by_lease(&self) -> Option<u64> {
        let lasts = self.lease.lasts?;
        let raft = self.raft.borrow();
        let is_handing_over = !raft.membership().is_voter(self.me) || self.lease.handed.get() == Some(raft.vote);
        let acked = raft.quorum_acked(time::now()).filter(|_| !is_handing_over)?;
        (acked.elapsed() < lasts).then_some(raft.vote.term)
    }
}
