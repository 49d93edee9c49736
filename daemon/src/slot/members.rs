//! Changing who belongs to a group: by a joint majority of those who were and those who will be, never by a jump.

use std::collections::{BTreeMap, BTreeSet};

use super::group::Slot;
use super::raft::Peer;
use super::types::{At, Membership, Payload};
use super::{SlotError, another_leads};

impl Slot {
    /// Makes these the group's voters; all others leave it.
    ///
    /// # Errors
    /// See [`super::Slots::change_voters`].
    pub async fn change_voters(&self, voters: &BTreeSet<u64>) -> Result<(), SlotError> {
        if voters.is_empty() {
            return Err(SlotError::Refused("a group needs somebody who votes".to_owned()));
        }
        if self.runs.is_changing.replace(true) {
            return Err(SlotError::Busy("its members are being changed".to_owned()));
        }
        let _changing = Changing(self);
        // A leader that has rested hears from a majority again before it changes anything.
        self.confirm().await?;
        let term = self.leading().ok_or_else(|| self.not_leader())?;
        loop {
            self.settle(term).await?;
            let Some(next) = self.next_members(voters) else { return Ok(()) };
            if next.configs().len() > 1 {
                self.catch_up(term, voters).await?;
            }
            // Nothing is awaited since this node was seen to lead.
            self.wake();
            let at = self.push(Payload::Members(next));
            self.drive();
            self.send_all();
            self.commits(term, at).await?;
        }
    }

    /// The next step from the members of now to these voters; `None` if they are there.
    fn next_members(&self, voters: &BTreeSet<u64>) -> Option<Membership> {
        let raft = self.raft.borrow();
        let now = raft.membership();
        match now.configs() {
            [old] if old == voters => (now.nodes() != voters).then(|| Membership::of(voters.clone())),
            [old] => {
                let nodes: BTreeSet<u64> = now.nodes().union(voters).copied().collect();
                let has_all = voters.is_subset(now.nodes());
                let configs = if has_all { vec![old.clone(), voters.clone()] } else { vec![old.clone()] };
                Membership::new(configs, nodes)
            }
            // What an earlier change began is brought to its end first.
            [_, new] => {
                let nodes = if new == voters { voters.clone() } else { now.nodes().clone() };
                Membership::new(vec![new.clone()], nodes)
            }
            _ => None,
        }
    }

    /// Waits until the members of now are so for good.
    async fn settle(&self, term: u64) -> Result<(), SlotError> {
        self.while_leading(term, || self.raft.borrow().are_members_settled()).await
    }

    async fn commits(&self, term: u64, at: At) -> Result<(), SlotError> {
        self.while_leading(term, || self.raft.borrow().committed > at.index).await
    }

    /// Waits until those who are to vote have all that is committed now.
    async fn catch_up(&self, term: u64, voters: &BTreeSet<u64>) -> Result<(), SlotError> {
        let committed = self.raft.borrow().committed;
        let has_all = || {
            let raft = self.raft.borrow();
            let has = |peers: &BTreeMap<u64, Peer>, node| peers.get(node).is_none_or(|peer| peer.matched >= committed);
            raft.lead().is_some_and(|lead| voters.iter().all(|node| has(&lead.peers, node)))
        };
        self.while_leading(term, has_all).await
    }

    /// Waits until something is so, as long as this node leads in this term.
    async fn while_leading(&self, term: u64, is_so: impl Fn() -> bool) -> Result<(), SlotError> {
        self.until(|| match self.leading() {
            Some(now) if now == term => is_so().then_some(Ok(())),
            _ => Some(Err(another_leads())),
        })
        .await?
    }
}

struct Changing<'s>(&'s Slot);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.runs.is_changing.set(false);
    }
}
