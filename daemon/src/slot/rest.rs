//! Groups in which nothing happens rest: they cost a node next to nothing.
//!
//! openraft's leaders tell each follower of each group, several times a second, that they are there. With hundreds of groups
//! that is most of what an idle cluster does. Here a leader whose group is *settled* (everyone has applied all there is)
//! claims so instead, all groups of a core in one batch for each node. A follower of whom that is true rests: its clock stands
//! still. When all who can be heard have said that they rest, so does the leader, and goes on claiming.
//!
//! | who | wakes when |
//! | --- | --- |
//! | leader | something is written, members change, or someone answers that it isn't so with them |
//! | follower | its leader isn't heard for longer than its patience, or it hears of another one |
//!
//! Whoever starts is awake, and so wakes its leader. A follower that still hears its leader refuses pre-votes in openraft's
//! stead, which knows of no claims. Nothing of Raft's safety rests on clocks, so nothing of it rests on this.
//!
//! A follower whose patience is over stands for election at once, awake or not: openraft alone waits for the lease and then
//! for the time of an election.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

use cairn_io::rng;
use cairn_io::task::{Class, JoinHandle, spawn};
use cairn_io::time::{self, Duration, Instant};
use futures_util::future::join_all;
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use openraft::metrics::RaftServerMetrics;

use super::types::{Group, LogId, Vote};
use super::wire::{Question, Reply};
use super::{Inner, Running, Slot};

/// A leader says that its group is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// By which it leads.
    pub vote: Vote,
    /// The last entry there is: everyone has applied it.
    pub last: LogId,
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
    /// Of a follower: when its leader was heard last, if it is waited for.
    heard: Cell<Option<Instant>>,
    /// Of a follower: how long it waits for its leader.
    patience: Cell<Duration>,
    /// Of a leader: the last entry when it was looked at before.
    seen: Cell<Option<LogId>>,
}

/// Looks after the groups of a core until it is dropped.
pub type Looking = RefCell<Option<JoinHandle<()>>>;

impl Inner {
    /// Looks at all groups again and again.
    pub(super) fn begin_to_look(self: &Rc<Self>) {
        let (this, every) = (Rc::downgrade(self), self.options.heartbeat * 2);
        let looking = spawn(Class::Foreground, async move {
            loop {
                time::sleep(every).await;
                let Some(this) = this.upgrade() else { return };
                this.look(every);
            }
        });
        self.looking.replace(Some(looking));
    }

    fn look(&self, every: Duration) {
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
            } else if slot.rest.has_lost_patience() {
                slot.rest.forget();
                slot.wake();
                let raft = slot.raft.clone();
                // In vain while openraft itself has heard of the leader, or where this node has no vote.
                spawn(Class::Foreground, async move { raft.trigger().elect(true).await }).detach();
            }
        }
        for (node, claims) in claims {
            let router = self.router.clone();
            spawn(Class::Foreground, async move {
                let asked = claims.iter().map(async |claimed| {
                    let answer = router.ask_plainly(node, claimed.number, &Question::Rest(claimed.claim), every).await;
                    if let Some(slot) = claimed.slot.upgrade() {
                        slot.take_answer(claimed, answer.as_ref().ok());
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
        if leads_alone(&self.raft.server_metrics().borrow_watched()) {
            self.rest.set(&self.raft, true);
            return None;
        }
        let now = self.raft.metrics();
        let now = now.borrow_watched();
        let others = now.replication.as_ref().filter(|_| now.state == ServerState::Leader)?;
        let others = others.iter().filter(|(node, _)| **node != now.id);
        let last = now.last_applied?;
        let is_settled = now.last_log_index == Some(last.index)
            && now.local_committed == Some(last)
            && now.membership_config == now.committed_membership_config
            && self.rest.seen.replace(Some(last)) == Some(last)
            && self.proposals.get() == 0
            && !self.is_leaving.get()
            && others.clone().all(|(_, matched)| *matched == Some(last));
        if is_settled {
            let others: Vec<u64> = others.map(|(node, _)| *node).collect();
            return Some((Claim { vote: now.vote, last }, others));
        }
        self.wake();
        None
    }

    /// Someone has answered a claim, or couldn't be heard.
    fn take_answer(&self, Claimed { claim, missing, .. }: &Claimed, answer: Option<&Reply>) {
        match answer {
            // Who can't be heard is awake when they are back, and says so.
            Some(Reply::Resting) | None => {
                missing.set(missing.get() - 1);
                if missing.get() == 0 && self.claim().is_some_and(|(now, _)| now == *claim) {
                    self.rest.set(&self.raft, true);
                }
            }
            // They have started, are behind, or follow another.
            Some(_) => self.wake(),
        }
    }

    /// Whether what a leader claims is so here; then this node rests.
    pub(super) fn take_claim(&self, claim: Claim, lease: Duration, spread: Duration) -> Reply {
        let is_so = {
            let now = self.raft.metrics();
            let now = now.borrow_watched();
            let is_last = now.last_applied == Some(claim.last) && now.last_log_index == Some(claim.last.index);
            // Who has just started may have applied all there is, and knows so only when openraft's leader has said it.
            let is_known = now.cluster_committed >= Some(claim.last);
            now.vote == claim.vote && now.state != ServerState::Leader && is_last && is_known
        };
        if is_so {
            self.rest.hear(lease, spread);
            self.rest.set(&self.raft, true);
            return Reply::Resting;
        }
        self.wake();
        Reply::Awake
    }

    /// Whether a pre-vote must not be given: the leader is there. One that rests makes itself heard at once.
    pub(super) async fn knows_a_leader(&self, lease: Duration) -> bool {
        if self.rest.is_resting.get() && self.raft.is_leader() {
            self.wake();
            let _ = self.raft.trigger().heartbeat().await;
            return true;
        }
        self.rest.heard.get().is_some_and(|heard| heard.elapsed() < lease)
    }

    fn wake(&self) {
        self.rest.set(&self.raft, false);
    }
}

impl Rest {
    /// Stops the group's clock, or lets it go on.
    pub fn set(&self, raft: &Running, is_resting: bool) {
        self.is_resting.set(is_resting);
        raft.runtime_config().tick(!is_resting);
    }

    /// The leader was heard. Patience outlasts its lease, and is of another length each time, so that not all stand for
    /// election at once.
    pub fn hear(&self, lease: Duration, spread: Duration) {
        self.heard.set(Some(time::now()));
        let spread = spread.as_nanos() as u64;
        self.patience.set(lease + Duration::from_nanos(rng::next_u64() % spread.max(1)));
    }

    /// Whether the group's clock stands still.
    pub fn is_resting(&self) -> bool {
        self.is_resting.get()
    }

    /// Another leads, or nobody: what was heard doesn't count.
    pub fn forget(&self) {
        self.heard.set(None);
    }

    fn has_lost_patience(&self) -> bool {
        self.heard.get().is_some_and(|heard| heard.elapsed() >= self.patience.get())
    }
}

/// Whether this node leads a group that nobody else belongs to. It rests for ever: there is nobody to be told that it is
/// there, and nobody who could take its place.
pub fn leads_alone(now: &RaftServerMetrics<Group>) -> bool {
    let members = now.membership_config.membership();
    now.current_leader == Some(now.id) && members.nodes().all(|(node, _)| *node == now.id)
}

/// Watches a group until its task ends. Whenever another leads, or others belong to it, it is awake.
pub async fn watch(raft: Running, rest: Weak<Rest>, has_ended: Rc<Cell<bool>>) {
    let mut seen = raft.server_metrics();
    loop {
        let is_alone = leads_alone(&seen.borrow_watched());
        if let Some(rest) = rest.upgrade() {
            rest.forget();
            rest.set(&raft, is_alone);
        }
        if seen.changed().await.is_err() {
            return has_ended.set(true);
        }
    }
}
