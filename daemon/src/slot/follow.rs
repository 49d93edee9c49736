//! What a member answers to a leader, and to whoever wants to be one.

use std::io;

use cairn_io::time;

use super::group::Slot;
use super::log::{SlotLog, behind};
use super::machine::encode_members;
use super::raft::Role;
use super::types::{At, Payload, Vote};
use super::wire::{Append, Candidacy, Question, Reply, SnapshotEnd, SnapshotPart, Transfer};

impl Slot {
    /// Answers a question of another node.
    pub async fn answer(&self, from: u64, question: Question) -> Reply {
        if let Err(error) = self.check() {
            return unable(&error);
        }
        let answered = match question {
            Question::Append(append) => self.take_append(append).await,
            Question::Vote(candidacy) => self.take_candidacy(from, candidacy).await,
            Question::PreVote(candidacy) => Ok(self.would_vote(candidacy)),
            Question::Transfer(transfer) => Ok(self.take_transfer(transfer)),
            Question::Rest(claim) => Ok(self.take_claim(claim)),
            // Boxed: every answer would have room for these.
            Question::Snapshot(part) => Ok(Box::pin(self.stage(part)).await),
            Question::Install(end) => Box::pin(self.install(end)).await,
        };
        answered.unwrap_or_else(|error| {
            self.fail(&error);
            unable(&error)
        })
    }

    /// Follows whoever says that they lead with this vote, unless this node knows better; then that is the answer.
    fn follow(&self, vote: Vote) -> Result<(), Reply> {
        let mut raft = self.raft.borrow_mut();
        if vote.term < raft.vote.term {
            return Err(Reply::Higher(raft.vote));
        }
        if vote != raft.vote {
            let is_other = vote.term == raft.vote.term && raft.vote.is_elected;
            if is_other || vote.node == self.me {
                return Err(unable(&"somebody else was elected in this term: a defect, or somebody lies"));
            }
            raft.follow(vote);
            self.changed.ring();
        } else if vote.node == self.me {
            return Err(unable(&"this node was elected in this term itself"));
        }
        drop(raft);
        self.hear();
        Ok(())
    }

    async fn take_append(&self, append: Append) -> io::Result<Reply> {
        let Append { vote, before, entries, committed } = append;
        let turn = self.turn.lock().await;
        if let Err(reply) = self.follow(vote) {
            return Ok(reply);
        }
        self.wake();
        self.save_vote().await?;
        let at = |index| self.log.at(index).map_err(io::Error::other);
        // What was given up is committed, and so the same everywhere.
        if let Some(before) = before
            && before.index >= self.log.begins()
            && at(before.index)? != Some(before)
        {
            return Ok(Reply::Conflict);
        }
        let has = behind(entries.last().map(|entry| entry.at).or(before));
        for entry in entries {
            if entry.at.index < self.log.begins() || at(entry.at.index)? == Some(entry.at) {
                continue;
            }
            if entry.at.index < self.log.end() {
                if entry.at.index < self.raft.borrow().committed {
                    return Ok(unable(&"it would undo what is committed: a defect, or somebody lies"));
                }
                self.log.truncate(entry.at.index).await?;
                self.raft.borrow_mut().cut_off(entry.at.index);
                self.give_up_waiting(entry.at.index);
            }
            if let Payload::Members(membership) = &entry.payload {
                self.raft.borrow_mut().push_members(entry.at, membership.clone());
            }
            self.log.push(entry);
        }
        {
            let (mut raft, committed) = (self.raft.borrow_mut(), behind(committed));
            raft.heard = raft.heard.max(Some(committed));
            raft.commit(committed.min(has));
        }
        drop(turn);
        self.drive();
        // Who stands still for longer than this is asked again.
        let landed = async { has == 0 || self.log.landed(has - 1).await };
        if !time::timeout(self.options.batch_limit, landed).await.unwrap_or(false) {
            return Ok(unable(&"its disk is too slow"));
        }
        let now = self.raft.borrow().vote;
        Ok(if now == vote { Reply::Appended } else { Reply::Higher(now) })
    }

    /// Whether this node can't vote for anybody, and why.
    fn must_not_vote(&self, candidacy: &Candidacy) -> Option<Reply> {
        // What it promised a leader counts for the term of that leader: no later one can want another in its place so.
        if candidacy.is_transfer && candidacy.vote.term == self.raft.borrow().vote.term + 1 {
            return None;
        }
        if self.lease.is_waiting() {
            return Some(unable(&"it has just started, and may have forgotten whom it heard"));
        }
        self.knows_a_leader().then(|| unable(&"its leader is there"))
    }

    fn voted(&self, is_granted: bool) -> Reply {
        Reply::Voted { vote: self.raft.borrow().vote, is_granted, last: self.log.last() }
    }

    /// Whether this node would vote for somebody; it changes nothing.
    fn would_vote(&self, candidacy: Candidacy) -> Reply {
        if let Some(refused) = self.must_not_vote(&candidacy) {
            return refused;
        }
        let is_later = candidacy.vote.term > self.raft.borrow().vote.term;
        self.voted(is_later && candidacy.last >= self.log.last())
    }

    async fn take_candidacy(&self, from: u64, candidacy: Candidacy) -> io::Result<Reply> {
        let vote = candidacy.vote;
        if vote.node != from {
            return Ok(unable(&"nobody stands for another"));
        }
        let _turn = self.turn.lock().await;
        if let Some(refused) = self.must_not_vote(&candidacy) {
            return Ok(refused);
        }
        {
            let mut raft = self.raft.borrow_mut();
            raft.latest = raft.latest.max(vote.term);
            let is_free = vote.term > raft.vote.term || vote == raft.vote;
            if !is_free || candidacy.last < self.log.last() {
                drop(raft);
                return Ok(self.voted(false));
            }
            raft.follow(vote);
        }
        self.wait_for_leader(self.options.election.0);
        self.save_vote().await?;
        self.changed.ring();
        Ok(self.voted(self.raft.borrow().vote == vote))
    }

    fn take_transfer(&self, Transfer { vote, to, last }: Transfer) -> Reply {
        let raft = self.raft.borrow();
        let is_so = to == self.me && raft.vote == vote && vote.is_elected && self.log.last() >= last;
        if !is_so || !matches!(raft.role, Role::Follower) || !raft.membership().is_voter(self.me) {
            return unable(&"it follows another, is behind, or has no vote");
        }
        drop(raft);
        self.stand(Some(vote));
        Reply::Transferring
    }

    async fn stage(&self, SnapshotPart { vote, session, part, rows }: SnapshotPart) -> Reply {
        let mut incoming = self.incoming.lock().await;
        let mine = self.raft.borrow().vote;
        if mine.term > vote.term {
            return Reply::Higher(mine);
        }
        self.hear();
        match *incoming {
            // Said twice.
            Some((known, parts)) if known == session && part + 1 == parts => return Reply::Staged,
            Some((known, parts)) if known == session && part == parts => {}
            _ if part == 0 => *incoming = Some((session, 0)),
            _ => return unable(&"this transfer is unknown here: begin anew"),
        }
        match self.machine.lane.stage_rows(self.number, session, part, rows).await {
            Ok(()) => {
                *incoming = Some((session, part + 1));
                Reply::Staged
            }
            Err(error) => {
                *incoming = None;
                unable(&error)
            }
        }
    }

    async fn install(&self, SnapshotEnd { vote, session, parts, covered }: SnapshotEnd) -> io::Result<Reply> {
        // Held until it is installed: nobody else stages anything meanwhile.
        let mut incoming = self.incoming.lock().await;
        let is_there = incoming.take() == Some((session, parts));
        let lane = &self.machine.lane;
        // A snapshot without rows has no parts; what others began is in its way.
        let is_empty = parts == 0 && lane.drop_staged(self.number).await.is_ok();
        if !is_there && !is_empty {
            return Ok(unable(&"this transfer is unknown here: begin anew"));
        }
        let _turn = self.turn.lock().await;
        if let Err(reply) = self.follow(vote) {
            return Ok(reply);
        }
        self.save_vote().await?;
        let Some(last) = covered.last.filter(|last| last.index >= self.applied.get()) else {
            return Ok(Reply::Installed(vote));
        };
        let still = self.stand_still().await;
        // What was committed before it stood still may be applied by now.
        if last.index >= self.applied.get() {
            let members = encode_members(&covered.members);
            lane.install_staged(self.number, session, parts, last, members).await.map_err(io::Error::other)?;
            self.applied.set(last.index + 1);
            self.flushed.set(last.index + 1);
            begin_behind(&self.log, last).await?;
            let mut raft = self.raft.borrow_mut();
            if self.log.end() == last.index + 1 {
                raft.replace_members(covered.members);
            }
            raft.commit(last.index + 1);
            raft.heard = raft.heard.max(Some(last.index + 1));
            drop(raft);
            self.give_up_waiting(0);
        }
        drop(still);
        self.advance();
        Ok(Reply::Installed(vote))
    }

    /// Whether the leader is there, as far as this node knows: it votes for nobody else then.
    pub fn knows_a_leader(&self) -> bool {
        // One that rests makes itself heard at once.
        if self.leading().is_some() && self.rest.is_resting() {
            self.wake();
            self.beat_all();
            return true;
        }
        self.has_heard_lately()
    }

    /// Whether this node has heard the leader lately, or, if it leads, a majority has heard it.
    pub fn has_heard_lately(&self) -> bool {
        let lease = self.options.election.1;
        let (raft, now) = (self.raft.borrow(), time::now());
        match raft.lead() {
            None => self.rest.has_heard_within(lease),
            Some(_) => raft.quorum_acked(now).is_some_and(|acked| now.since(acked) < lease),
        }
    }
}

/// Has a log begin behind this entry, whose effect the rows have. What stands behind it stays if it belongs to it.
///
/// # Errors
/// If the lane takes no writes.
pub async fn begin_behind(log: &SlotLog, last: At) -> io::Result<()> {
    if last.index < log.begins() {
        return Ok(());
    }
    if log.end() > last.index && log.at(last.index).map_err(io::Error::other)? != Some(last) {
        log.truncate(log.begins()).await?;
    }
    log.purge(last).await
}

/// It can't answer, and why.
pub fn unable(reason: &dyn std::fmt::Display) -> Reply {
    Reply::Unable(reason.to_string())
}
