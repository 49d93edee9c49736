//! What a leader does: it takes commands, sends entries to the others, and makes sure that it still leads.

use cairn_io::time::{self, Duration, Instant};
use futures_channel::oneshot;

use super::SlotError;
use super::group::{Slot, Waiting};
use super::raft::{Beating, Peer};
use super::snapshot::Sent;
use super::types::{At, Entry, Payload, Vote};
use super::wire::{Append, Question, Reply, Transfer};

impl Slot {
    /// Has a command applied by the group; what is returned is there when it is.
    ///
    /// # Errors
    /// If this node doesn't lead, or can't be sure of it.
    pub async fn propose(
        &self,
        command: bytes::Bytes,
    ) -> Result<oneshot::Receiver<Result<Vec<u8>, SlotError>>, SlotError> {
        let nobody = SlotError::NotLeader { leader: None };
        if !self.is_sure()? {
            // It has rested, or is cut off: then it takes nothing.
            let confirmed = self.confirm().await;
            confirmed.map_err(|error| if error == SlotError::NoQuorum { nobody.clone() } else { error })?;
            if !self.is_sure()? {
                return Err(nobody);
            }
        }
        // Nothing is awaited from the last look on.
        self.wake();
        let (sender, receiver) = oneshot::channel();
        let at = self.push(Payload::Command(command));
        self.waiting.borrow_mut().push_back(Waiting { at, answer: sender });
        self.drive();
        self.send_all();
        Ok(receiver)
    }

    /// Whether a majority has heard this leader lately.
    fn is_sure(&self) -> Result<bool, SlotError> {
        self.check()?;
        let raft = self.raft.borrow();
        match raft.lead() {
            Some(lead) if lead.hands_over.is_some_and(|until| time::now() < until) => {
                Err(SlotError::NotLeader { leader: None })
            }
            Some(_) => Ok(self.has_heard_lately()),
            None => Err(self.not_leader()),
        }
    }

    /// Puts an entry of this leader's term behind the log.
    pub fn push(&self, payload: Payload) -> At {
        let mut raft = self.raft.borrow_mut();
        let at = At { term: raft.vote.term, index: self.log.end() };
        if let Payload::Members(membership) = &payload {
            raft.push_members(at, membership.clone());
            raft.know_peers(at.index);
        }
        drop(raft);
        self.log.push(Entry { at, payload });
        at
    }

    /// The term in which this node leads.
    pub fn leading(&self) -> Option<u64> {
        let raft = self.raft.borrow();
        raft.lead().map(|_| raft.vote.term)
    }

    /// Sends what the others haven't.
    pub fn send_all(&self) {
        let end = self.log.end();
        self.send_to(|peer| peer.next < end);
    }

    /// The same, and tells those that don't know how far the log is committed, if no entry has come along for so long to say it.
    pub fn tell_all(&self, after: Duration) {
        let (end, committed, now) = (self.log.end(), self.raft.borrow().committed, time::now());
        self.send_to(|peer| peer.next < end || peer.told < committed && !peer.has_heard_within(after, now));
    }

    fn send_to(&self, is_meant: impl Fn(&Peer) -> bool) {
        let now = time::now();
        let mut raft = self.raft.borrow_mut();
        let term = raft.vote.term;
        let Some(lead) = raft.lead_mut() else { return };
        let is_free = |peer: &Peer| !peer.is_sending && peer.pauses.is_none_or(|until| now >= until);
        for (node, peer) in lead.peers.iter_mut().filter(|(_, peer)| is_free(peer) && is_meant(peer)) {
            peer.is_sending = true;
            let node = *node;
            self.run(async move |slot| slot.keep_sending(term, node).await);
        }
    }

    /// Sends entries to a node until it has all, it can't be reached, or this node doesn't lead any more.
    async fn keep_sending(&self, term: u64, node: u64) {
        loop {
            let goes_on = self.send_some(term, node).await;
            let end = self.log.end();
            let mut raft = self.raft.borrow_mut();
            let Some(peer) = raft.peer_mut(term, node) else { return };
            if !goes_on {
                peer.is_sending = false;
                peer.pauses = Some(time::now() + self.options.heartbeat);
                return;
            }
            if peer.next >= end {
                peer.is_sending = false;
                return;
            }
        }
    }

    /// Sends the next entries to a node; false if they didn't arrive.
    async fn send_some(&self, term: u64, node: u64) -> bool {
        let limit = self.options.election.0;
        let (vote, next, is_sought) = {
            let mut raft = self.raft.borrow_mut();
            let vote = raft.vote;
            let Some(peer) = raft.peer_mut(term, node) else { return false };
            (vote, peer.next, peer.is_sought)
        };
        if next < self.log.begins() {
            return Box::pin(self.bring_snapshot(vote, node)).await;
        }
        let Ok(before) = next.checked_sub(1).map(|index| self.log.at(index)).transpose() else { return false };
        // Until it is known how much they have, nothing is sent in vain.
        let end = if is_sought { next } else { self.log.end() };
        let Ok(entries) = self.log.read(next, end).await else { return false };
        let (before, has) = (before.flatten(), next + entries.len() as u64);
        if next > 0 && before.is_none() {
            // It was given up meanwhile.
            return next < self.log.begins();
        }
        let committed = self.raft.borrow().committed;
        let append = Append { vote, before, entries, committed: self.committed_at(committed) };
        let sent = time::now();
        let reply = self.router.ask(node, self.number, &Question::Append(append), limit).await;
        let Some(has_arrived) = self.take_reply(term, node, sent, reply.as_ref().ok()) else { return false };
        let begins = self.log.begins();
        let mut raft = self.raft.borrow_mut();
        let Some(peer) = raft.peer_mut(term, node) else { return false };
        if has_arrived {
            peer.matched = peer.matched.max(has);
            peer.next = peer.matched;
            peer.is_sought = false;
            peer.told = peer.told.max(committed.min(has));
            drop(raft);
            self.advance();
        } else {
            // Half of what it may have, until that is so; what it has for certain it keeps.
            peer.is_sought = true;
            let middle = peer.matched + next.saturating_sub(peer.matched) / 2;
            peer.next = if middle < begins && next > begins { begins } else { middle };
            if next == peer.matched {
                if !std::mem::replace(&mut peer.has_lost, true) {
                    tracing::error!(slot = self.number, node, "a node has lost entries that it had: replace it");
                }
                return false;
            }
        }
        true
    }

    /// The name of the last of so many entries that are committed.
    fn committed_at(&self, committed: u64) -> Option<At> {
        let index = committed.checked_sub(1)?;
        self.log.at(index).ok().flatten()
    }

    /// Takes note that a node heard this leader; whether it has the entry before, if it did.
    fn take_reply(&self, term: u64, node: u64, sent: Instant, reply: Option<&Reply>) -> Option<bool> {
        let mut raft = self.raft.borrow_mut();
        if let Some(Reply::Higher(higher)) = reply {
            raft.hear_of(*higher);
        }
        let has = match reply {
            Some(Reply::Appended) => Some(true),
            Some(Reply::Conflict) => Some(false),
            _ => None,
        };
        if let Some(peer) = raft.peer_mut(term, node).filter(|_| has.is_some()) {
            peer.acked = peer.acked.max(Some(sent));
        }
        drop(raft);
        self.changed.ring();
        has
    }

    async fn bring_snapshot(&self, vote: Vote, node: u64) -> bool {
        match self.send_snapshot(node, vote).await {
            Ok(Sent::Installed(has)) => {
                let mut raft = self.raft.borrow_mut();
                let Some(peer) = raft.peer_mut(vote.term, node) else { return false };
                peer.matched = peer.matched.max(has);
                (peer.next, peer.told, peer.is_sought) = (peer.matched, peer.matched, false);
                drop(raft);
                self.advance();
                true
            }
            Ok(Sent::Higher(higher)) => {
                self.raft.borrow_mut().hear_of(higher);
                self.changed.ring();
                false
            }
            Err(error) => {
                tracing::debug!(slot = self.number, node, %error, "a snapshot didn't arrive");
                false
            }
        }
    }

    /// Tells all others that the leader is there.
    pub fn beat_all(&self) {
        let nodes: Vec<u64> = self.raft.borrow().lead().iter().flat_map(|lead| lead.peers.keys().copied()).collect();
        nodes.into_iter().for_each(|node| self.beat(node));
    }

    /// Tells those that haven't heard of the leader for so long, by an entry or else.
    pub fn beat_due(&self, every: Duration) {
        let now = time::now();
        let raft = self.raft.borrow();
        let is_due = |peer: &Peer| {
            let told = peer.beat.max(peer.acked);
            peer.beating == Beating::No && told.is_none_or(|told| now.since(told) >= every)
        };
        let nodes: Vec<u64> = raft
            .lead()
            .iter()
            .flat_map(|lead| lead.peers.iter())
            .filter(|(_, peer)| is_due(peer))
            .map(|(node, _)| *node)
            .collect();
        drop(raft);
        nodes.into_iter().for_each(|node| self.beat(node));
    }

    /// Tells a node that the leader is there, beside what else it is being sent: its disk may be slow.
    fn beat(&self, node: u64) {
        let mut raft = self.raft.borrow_mut();
        let term = raft.vote.term;
        let Some(peer) = raft.peer_mut(term, node) else { return };
        if peer.beating != Beating::No {
            peer.beating = Beating::Twice;
            return;
        }
        peer.beating = Beating::Once;
        peer.beat = Some(time::now());
        drop(raft);
        self.run(async move |slot| while slot.beat_once(term, node).await {});
    }

    /// Whether it is to be told again at once.
    async fn beat_once(&self, term: u64, node: u64) -> bool {
        let (vote, matched, committed) = {
            let mut raft = self.raft.borrow_mut();
            let (vote, committed) = (raft.vote, raft.committed);
            let Some(peer) = raft.peer_mut(term, node) else { return false };
            peer.beat = Some(time::now());
            peer.beating = Beating::Once;
            (vote, peer.matched, committed.min(peer.matched))
        };
        let before = self.committed_at(matched);
        let append = Append { vote, before, entries: Vec::new(), committed: self.committed_at(committed) };
        let sent = time::now();
        let reply = self.router.ask(node, self.number, &Question::Append(append), self.options.election.0).await;
        let has_heard = self.take_reply(term, node, sent, reply.as_ref().ok()).is_some();
        let mut raft = self.raft.borrow_mut();
        let Some(peer) = raft.peer_mut(term, node) else { return false };
        if !has_heard {
            peer.missed = Some(sent);
        }
        if matches!(reply, Ok(Reply::Appended)) && before.is_some() {
            peer.told = peer.told.max(committed);
        }
        let again = peer.beating == Beating::Twice;
        if !again {
            peer.beating = Beating::No;
        }
        drop(raft);
        // Who waits for a majority may see now that there is none.
        self.changed.ring();
        again
    }

    /// Makes sure that this node leads, and has applied all that was answered before this was asked.
    ///
    /// # Errors
    /// If it doesn't, or no majority answers.
    pub async fn confirm(&self) -> Result<(), SlotError> {
        let began = time::now();
        let term = self.leading().ok_or_else(|| self.not_leader())?;
        if !self.is_acked_since(began) {
            self.wake();
            self.beat_all();
        }
        let committed = self.until(|| {
            if self.leading() != Some(term) {
                return Some(Err(self.not_leader()));
            }
            let raft = self.raft.borrow();
            if !raft.may_be_acked(began) {
                return Some(Err(SlotError::NoQuorum));
            }
            let begins = raft.lead().map(|lead| lead.begins)?;
            let is_sure = raft.committed > begins && raft.quorum_acked(time::now()) >= Some(began);
            is_sure.then_some(Ok(raft.committed))
        });
        let committed = committed.await??;
        self.until(|| (self.applied.get() >= committed).then_some(())).await
    }

    /// Waits until every node of the group has all that is in the log by now, durably, but for those that don't answer. How many
    /// have it, and of how many.
    ///
    /// # Errors
    /// If this node doesn't lead.
    pub async fn copies(&self) -> Result<(usize, usize), SlotError> {
        let (began, end) = (time::now(), self.log.end());
        let term = self.leading().ok_or_else(|| self.not_leader())?;
        if self.have(end).is_none_or(|(have, of)| have < of) {
            self.wake();
            self.beat_all();
        }
        let copies = self.until(|| {
            if self.leading() != Some(term) {
                return Some(Err(self.not_leader()));
            }
            let (have, of) = self.have(end)?;
            let raft = self.raft.borrow();
            let is_silent = |peer: &&Peer| peer.matched < end && peer.missed >= Some(began);
            let silent = raft.lead()?.peers.values().filter(is_silent).count();
            let has_landed = self.log.landed_to() >= end;
            (has_landed && have + silent >= of).then_some(Ok((have, of)))
        });
        copies.await?
    }

    /// How many nodes of the group have so many entries durably, and how many nodes it has; `None` if this one doesn't lead it.
    pub fn have(&self, end: u64) -> Option<(usize, usize)> {
        let raft = self.raft.borrow();
        let peers = &raft.lead()?.peers;
        let others = peers.values().filter(|peer| peer.matched >= end).count();
        Some((others + usize::from(self.log.landed_to() >= end), peers.len() + 1))
    }

    fn is_acked_since(&self, began: Instant) -> bool {
        self.raft.borrow().quorum_acked(time::now()) >= Some(began)
    }

    /// Has another node take this one's place: one that votes and has the most. It takes nothing more meanwhile, and reads by no
    /// lease in this term any more. False if it doesn't lead, or there is nobody.
    pub fn hand_over(&self) -> bool {
        let mut raft = self.raft.borrow_mut();
        let (vote, me) = (raft.vote, self.me);
        let Some(lead) = raft.lead() else { return false };
        let voters = lead.peers.iter().filter(|(node, _)| raft.membership().is_voter(**node) && **node != me);
        let Some((node, _)) = voters.max_by_key(|(_, peer)| peer.matched) else { return false };
        let (node, until) = (*node, time::now() + self.options.election.1);
        self.lease.hand_over(vote);
        raft.lead_mut().into_iter().for_each(|lead| lead.hands_over = Some(until));
        drop(raft);
        self.wake();
        self.run(async move |slot| slot.hand_over_to(vote, node, until).await);
        true
    }

    async fn hand_over_to(&self, vote: Vote, node: u64, until: Instant) {
        self.send_all();
        let end = self.log.end();
        let has_all = || {
            let mut raft = self.raft.borrow_mut();
            raft.peer_mut(vote.term, node).is_none_or(|peer| peer.matched >= end).then_some(())
        };
        let waited = time::timeout(until.since(time::now()), self.until(has_all)).await;
        if !matches!(waited, Ok(Ok(()))) || self.raft.borrow().vote != vote {
            return;
        }
        let question = Question::Transfer(Transfer { vote, to: node, last: self.log.last() });
        // If it fails, this one goes on.
        let _ = self.router.ask(node, self.number, &question, until.since(time::now())).await;
    }
}
