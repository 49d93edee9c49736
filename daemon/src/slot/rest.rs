//! Groups in which nothing happens rest: they cost a node next to nothing.
//!
//! A leader tells each follower of each group, several times a second, that it is there. With hundreds of groups that would be
//! most of what an idle cluster does. So a leader whose group is *settled* (everyone has applied all there is) claims so instead,
//! all groups of a core in one batch for each node. A follower of whom that is true rests. When all who can be heard have said
//! that they rest, so does the leader, and goes on claiming.
//!
//! | who | wakes when |
//! | --- | --- |
//! | leader | something is written, members change, or someone answers that it isn't so with them |
//! | follower | its leader isn't heard for too long, or it hears of another one |
//!
//! Whoever starts is awake, and so wakes its leader. Nothing of Raft's safety rests on clocks, so nothing of it rests on this.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

use cairn_io::task::{Class, spawn};
use cairn_io::time::{self, Duration, Instant};
use futures_util::future::join_all;

use super::Inner;
use super::group::Slot;
use super::types::{At, Vote};
use super::wire::{Question, Reply};

/// A leader says that its group is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// By which it leads.
    pub vote: Vote,
    /// The last entry there is: everyone has applied it.
    pub last: At,
}

/// A claim on its way to one node.
struct Claimed {
    slot: Weak<Slot>,
    number: u32,
    claim: Claim,
    /// How many may still object.
    missing: Rc<Cell<usize>>,
}

/// Whether a group rests here, and what that depends on.
#[derive(Default)]
pub struct Rest {
    is_resting: Cell<bool>,
    /// When a leader was heard last.
    heard: Cell<Option<Instant>>,
    /// Of a leader: the last entry when it was looked at before.
    seen: Cell<Option<At>>,
}

impl Inner {
    /// Looks at all groups, and claims for those that are settled; to be called again after that long.
    pub(super) fn look(&self, every: Duration) {
        let groups: Vec<Rc<Slot>> = self.groups.borrow().values().cloned().collect();
        let mut claims: BTreeMap<u64, Vec<Claimed>> = BTreeMap::new();
        for slot in groups {
            if let Some((claim, others)) = slot.claim() {
                let missing = Rc::new(Cell::new(others.len()));
                for node in others {
                    let claimed =
                        Claimed { slot: Rc::downgrade(&slot), number: slot.number, claim, missing: missing.clone() };
                    claims.entry(node).or_default().push(claimed);
                }
            }
        }
        for (node, claims) in claims {
            let router = self.router.clone();
            spawn(Class::Foreground, async move {
                let asked = claims.iter().map(async |claimed| {
                    let sent = time::now();
                    let answer = router.ask_plainly(node, claimed.number, &Question::Rest(claimed.claim), every).await;
                    if let Some(slot) = claimed.slot.upgrade() {
                        slot.take_answer(claimed, (node, sent), answer.as_ref().ok());
                    }
                });
                join_all(asked).await;
            })
            .detach();
        }
    }
}

impl Slot {
    /// What this node may claim of the group, and to whom, if it leads it and nothing has happened since it was looked at
    /// before. Wakes a leader that may not.
    fn claim(&self) -> Option<(Claim, Vec<u64>)> {
        let raft = self.raft.borrow();
        let others = &raft.lead()?.peers;
        let (last, end) = (self.last_applied().ok().flatten()?, self.log.end());
        let is_settled = last.index + 1 == end
            && raft.committed == end
            && raft.are_members_settled()
            && self.rest.seen.replace(Some(last)) == Some(last)
            && self.proposals.get() == 0
            && !self.is_leaving.get()
            && others.values().all(|peer| peer.matched == end);
        if !is_settled {
            drop(raft);
            self.wake();
            return None;
        }
        if others.is_empty() {
            // There is nobody to be told.
            self.begin_to_rest();
            return None;
        }
        Some((Claim { vote: raft.vote, last }, others.keys().copied().collect()))
    }

    /// Someone has answered a claim, or couldn't be heard.
    fn take_answer(
        &self,
        Claimed { claim, missing, .. }: &Claimed,
        (node, sent): (u64, Instant),
        answer: Option<&Reply>,
    ) {
        if answer == Some(&Reply::Resting)
            && let Some(peer) = self.raft.borrow_mut().peer_mut(claim.vote.term, node)
        {
            // Whoever rests has heard the leader as by an entry.
            peer.acked = peer.acked.max(Some(sent));
        }
        match answer {
            // Who can't be heard is awake when they are back, and says so.
            Some(Reply::Resting) | None => {
                missing.set(missing.get() - 1);
                if missing.get() == 0 && self.claim().is_some_and(|(now, _)| now == *claim) {
                    self.begin_to_rest();
                }
            }
            // They have started, are behind, or follow another.
            Some(_) => self.wake(),
        }
    }

    /// Whether what a leader claims is so here; then this node rests.
    pub(super) fn take_claim(&self, claim: Claim) -> Reply {
        let is_so = {
            let raft = self.raft.borrow();
            // Who has just started may have applied all there is, and knows so only when a leader has said how far the log is
            // committed.
            let is_known = raft.heard > Some(claim.last.index);
            let is_last = self.log.last() == Some(claim.last) && self.applied.get() == claim.last.index + 1;
            raft.vote == claim.vote && raft.lead().is_none() && is_last && is_known && self.log.vote() == claim.vote
        };
        if is_so {
            self.hear();
            self.begin_to_rest();
            return Reply::Resting;
        }
        self.wake();
        Reply::Awake
    }

    fn begin_to_rest(&self) {
        if !self.rest.is_resting.replace(true) {
            self.log.forget(self.applied.get());
        }
    }

    /// From now on something happens in it.
    pub fn wake(&self) {
        self.rest.is_resting.set(false);
    }
}

impl Rest {
    /// A leader was heard.
    pub fn hear(&self) {
        self.heard.set(Some(time::now()));
    }

    /// When a leader was heard last.
    pub fn heard(&self) -> Option<Instant> {
        self.heard.get()
    }

    /// Whether a leader was heard within this time.
    pub fn has_heard_within(&self, lease: Duration) -> bool {
        self.heard.get().is_some_and(|heard| heard.elapsed() < lease)
    }

    /// Whether nothing happens in it.
    pub fn is_resting(&self) -> bool {
        self.is_resting.get()
    }
}
