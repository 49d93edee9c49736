//! What a member of a group knows and decides: whom it voted for, who leads, who belongs to the group, how far the log is
//! committed. It does nothing and asks nobody: no log, no clock, no messages.
//!
//! Counts of entries are used for places in the log: *so many* are committed, *so many* has a follower; the entry with this
//! index is the next.

use std::collections::BTreeMap;

use cairn_io::time::{Duration, Instant};

use super::types::{At, Members, Membership, Vote};

/// See the module.
#[derive(Debug)]
pub struct Raft {
    me: u64,
    /// Of this term; whoever is told of it is told when it is saved.
    pub vote: Vote,
    /// What this node is in this term.
    pub role: Role,
    /// So many entries are committed.
    pub committed: u64,
    /// So many are, as a leader of a term begun since this start says; this node may have fewer.
    pub heard: Option<u64>,
    /// Who belongs to the group: the last counts, those behind the first can still be cut off. Never empty.
    members: Vec<Members>,
    /// The latest term that anybody spoke of.
    pub latest: u64,
}

/// What a node is in a group.
#[derive(Debug)]
pub enum Role {
    /// Follows, if there is somebody to follow.
    Follower,
    /// Wants to be elected.
    Candidate,
    /// Leads.
    Leader(Lead),
}

/// What a leader knows.
#[derive(Debug)]
pub struct Lead {
    /// The first entry of its term. Once it is committed, all before is known to be.
    pub begins: u64,
    /// The other nodes.
    pub peers: BTreeMap<u64, Peer>,
    /// Until when it takes no commands, as it wants another in its place.
    pub hands_over: Option<Instant>,
}

/// What a leader knows of another node.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// So many entries it has for certain, durable.
    pub matched: u64,
    /// The entry that it is to be sent next.
    pub next: u64,
    /// Whether it is being found out how much of the log it has.
    pub is_sought: bool,
    /// When what it answered last was sent: it heard the leader then or later.
    pub acked: Option<Instant>,
    /// When the last word that the leader is there was sent that it didn't answer.
    pub missed: Option<Instant>,
    /// So many committed entries it was told of.
    pub told: u64,
    /// Whether entries or a snapshot are on their way.
    pub is_sending: bool,
    /// Not before this it is sent entries again.
    pub pauses: Option<Instant>,
    /// When it was told last that the leader is there.
    pub beat: Option<Instant>,
    /// Whether that is on its way.
    pub beating: Beating,
    /// Whether it has lost entries that it had.
    pub has_lost: bool,
}

/// What is said to another node beside entries: that the leader is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Beating {
    /// Nothing is on its way.
    #[default]
    No,
    /// It is on its way.
    Once,
    /// And is to be said again at once.
    Twice,
}

impl Peer {
    /// Whether it has answered something that was sent within this time.
    pub fn has_heard_within(&self, time: Duration, now: Instant) -> bool {
        self.acked.is_some_and(|acked| now.since(acked) < time)
    }
}

impl Raft {
    /// As it was left: what was voted, how many entries were applied, and who belonged to the group then.
    pub fn new(me: u64, vote: Vote, committed: u64, members: Members) -> Self {
        // Who led before a restart doesn't lead any more.
        let vote = Vote { is_elected: vote.is_elected && vote.node != me, ..vote };
        let (role, members) = (Role::Follower, vec![members]);
        Self { me, vote, role, committed, heard: None, members, latest: vote.term }
    }

    /// Who belongs to the group.
    pub fn members(&self) -> &Members {
        self.members.last().expect("one is always kept")
    }

    /// The same without the entry that says so.
    pub fn membership(&self) -> &Membership {
        &self.members().membership
    }

    /// Whether the members in force are so for good.
    pub fn are_members_settled(&self) -> bool {
        self.members.len() == 1 && self.members().at.is_none_or(|at| at.index < self.committed)
    }

    /// An entry names others.
    pub fn push_members(&mut self, at: At, membership: Membership) {
        self.members.push(Members { at: Some(at), membership });
    }

    /// Entries from this one on are cut off.
    pub fn cut_off(&mut self, from: u64) {
        while self.members.len() > 1 && self.members().at.is_some_and(|at| at.index >= from) {
            self.members.pop();
        }
    }

    /// A snapshot has taken the place of all entries.
    pub fn replace_members(&mut self, members: Members) {
        self.members = vec![members];
    }

    /// So many entries are committed.
    pub fn commit(&mut self, committed: u64) {
        self.committed = self.committed.max(committed);
        let settled = |members: &Members| members.at.is_some_and(|at| at.index < self.committed);
        while self.members.len() > 1 && settled(&self.members[1]) {
            self.members.remove(0);
        }
    }

    /// Who leads in this term, if that is known.
    pub fn leader(&self) -> Option<u64> {
        self.vote.is_elected.then_some(self.vote.node)
    }

    /// What this node knows as the leader.
    pub fn lead(&self) -> Option<&Lead> {
        if let Role::Leader(lead) = &self.role { Some(lead) } else { None }
    }

    /// See [`Raft::lead`].
    pub fn lead_mut(&mut self) -> Option<&mut Lead> {
        if let Role::Leader(lead) = &mut self.role { Some(lead) } else { None }
    }

    /// What this node knows of another as the leader of this term.
    pub fn peer_mut(&mut self, term: u64, node: u64) -> Option<&mut Peer> {
        if self.vote.term != term {
            return None;
        }
        self.lead_mut()?.peers.get_mut(&node)
    }

    /// Whether it leads a group that nobody else belongs to.
    pub fn leads_alone(&self) -> bool {
        self.lead().is_some() && self.membership().nodes().iter().all(|node| *node == self.me)
    }

    /// Follows whoever has this vote, which isn't of an earlier term.
    pub fn follow(&mut self, vote: Vote) {
        (self.vote, self.role) = (vote, Role::Follower);
        self.latest = self.latest.max(vote.term);
    }

    /// Somebody spoke of this vote. In a later term this node neither leads nor wants to.
    pub fn hear_of(&mut self, vote: Vote) {
        self.latest = self.latest.max(vote.term);
        if vote.term > self.vote.term {
            self.follow(Vote { is_elected: false, ..vote });
        }
    }

    /// Wants to be elected in a term that is later than any this node has voted in.
    pub fn stand(&mut self, term: u64) {
        self.latest = self.latest.max(term);
        (self.vote, self.role) = (Vote::new(term, self.me), Role::Candidate);
    }

    /// Is elected: its first entry will be this one.
    pub fn lead_from(&mut self, begins: u64) {
        self.vote.is_elected = true;
        self.role = Role::Leader(Lead { begins, peers: BTreeMap::new(), hands_over: None });
        self.know_peers(begins);
    }

    /// A leader knows all who belong to the group, and nobody else.
    pub fn know_peers(&mut self, next: u64) {
        let (me, nodes) = (self.me, self.membership().nodes().clone());
        let Some(lead) = self.lead_mut() else { return };
        lead.peers.retain(|node, _| nodes.contains(node));
        for node in nodes.into_iter().filter(|node| *node != me) {
            lead.peers.entry(node).or_insert_with(|| Peer { next, ..Peer::default() });
        }
    }

    /// How many entries are committed, if that is more than was known: those that a majority has, if one of this term is among
    /// them.
    pub fn quorum_has(&self, landed: u64) -> Option<u64> {
        let lead = self.lead()?;
        let matched =
            |node| if node == self.me { landed } else { lead.peers.get(&node).map_or(0, |peer| peer.matched) };
        let many = self.membership().quorum(matched)?;
        (many > lead.begins && many > self.committed).then_some(many)
    }

    /// So many entries all have whom this node leads.
    pub fn all_have(&self) -> u64 {
        let peers = self.lead().into_iter().flat_map(|lead| lead.peers.values());
        peers.map(|peer| peer.matched).min().unwrap_or(u64::MAX)
    }

    /// When a majority heard this leader, or later.
    pub fn quorum_acked(&self, now: Instant) -> Option<Instant> {
        let lead = self.lead()?;
        let acked = |node| if node == self.me { Some(now) } else { lead.peers.get(&node).and_then(|peer| peer.acked) };
        self.membership().quorum(acked)?
    }

    /// Whether a majority may yet answer what was sent since then.
    pub fn may_be_acked(&self, since: Instant) -> bool {
        let Some(lead) = self.lead() else { return false };
        let may = |peer: &Peer| peer.acked >= Some(since) || peer.missed.is_none_or(|missed| missed < since);
        self.membership().is_majority(|node| node == self.me || lead.peers.get(&node).is_some_and(may))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Raft {
        let members = Members { at: Some(At::default()), membership: Membership::of([1, 2, 3].into()) };
        Raft::new(1, Vote::default(), 1, members)
    }

    fn matched(raft: &mut Raft, node: u64, matched: u64) {
        let term = raft.vote.term;
        raft.peer_mut(term, node).expect("it leads, and knows the node").matched = matched;
    }

    #[test]
    fn what_a_majority_has_is_committed_if_it_is_of_this_term() {
        let mut raft = three();
        raft.stand(1);
        raft.lead_from(5);
        assert_eq!((raft.vote, raft.leader()), (Vote::elected(1, 1), Some(1)));
        matched(&mut raft, 2, 5);
        assert_eq!(raft.quorum_has(9), None, "those are of earlier terms");
        matched(&mut raft, 2, 6);
        assert_eq!(raft.quorum_has(9), Some(6));
        assert_eq!(raft.quorum_has(0), None, "the leader's own counts when it has landed");
        matched(&mut raft, 3, 8);
        assert_eq!(raft.quorum_has(0), Some(6));
        raft.commit(6);
        assert_eq!(raft.quorum_has(0), None, "that is known");
    }

    #[test]
    fn while_members_change_a_majority_of_both_is_needed() {
        let mut raft = three();
        raft.stand(1);
        raft.lead_from(1);
        let joint = Membership::new(vec![[1, 2, 3].into(), [1, 4, 5].into()], (1..=5).collect()).expect("sound");
        raft.push_members(At { term: 1, index: 2 }, joint);
        raft.know_peers(3);
        matched(&mut raft, 2, 3);
        matched(&mut raft, 3, 3);
        assert_eq!(raft.quorum_has(3), None);
        matched(&mut raft, 5, 2);
        assert_eq!(raft.quorum_has(3), Some(2));
        assert!(!raft.are_members_settled());
        raft.commit(3);
        assert!(raft.are_members_settled() && raft.membership().is_voter(5));
        raft.push_members(At { term: 1, index: 3 }, Membership::of([1, 4, 5].into()));
        raft.cut_off(3);
        assert!(raft.membership().is_voter(2), "it never was");
        raft.push_members(At { term: 1, index: 3 }, Membership::of([1, 4, 5].into()));
        raft.know_peers(4);
        let known: Vec<u64> = raft.lead().expect("it leads").peers.keys().copied().collect();
        assert_eq!(known, [4, 5]);
    }

    #[test]
    fn a_later_term_ends_an_earlier_one() {
        let mut raft = three();
        raft.stand(1);
        raft.hear_of(Vote::new(1, 2));
        assert!(matches!(raft.role, Role::Candidate), "of the same term");
        raft.hear_of(Vote::elected(4, 2));
        assert!(matches!(raft.role, Role::Follower) && raft.leader().is_none(), "it has said nothing itself");
        raft.stand(raft.latest + 1);
        assert_eq!(raft.vote, Vote::new(5, 1));
        let led = Raft::new(1, Vote::elected(7, 1), 0, Members::default());
        assert_eq!((led.leader(), led.latest), (None, 7), "it led before its restart");
    }
}
