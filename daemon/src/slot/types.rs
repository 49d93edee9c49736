//! What a slot's Raft group is made of: votes, entries, members.

use std::collections::BTreeSet;

use bytes::Bytes;

pub use crate::lane::At;

/// Whom a node has voted for in a term; at most one is elected in each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vote {
    /// The term.
    pub term: u64,
    /// For whom.
    pub node: u64,
    /// Whether that one is known to lead.
    pub is_elected: bool,
}

impl Vote {
    /// Of somebody who wants to be elected.
    pub fn new(term: u64, node: u64) -> Self {
        Self { term, node, is_elected: false }
    }

    /// Of somebody who leads.
    #[cfg(test)]
    pub fn elected(term: u64, node: u64) -> Self {
        Self { term, node, is_elected: true }
    }
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub at: At,
    /// What it carries.
    pub payload: Payload,
}

/// What an entry carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: a leader begins with it.
    Blank,
    /// What the state machine is told.
    Command(Bytes),
    /// Who belongs to the group from here on.
    Members(Membership),
}

/// Who belongs to a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Who votes: one set, or two while members change; then a majority of each is needed.
    configs: Vec<BTreeSet<u64>>,
    /// All of them, and those who only follow.
    nodes: BTreeSet<u64>,
}

impl Membership {
    /// `None` if a set is empty, or has somebody who isn't among the nodes.
    pub fn new(configs: Vec<BTreeSet<u64>>, nodes: BTreeSet<u64>) -> Option<Self> {
        let is_sound = configs.iter().all(|config| !config.is_empty() && config.is_subset(&nodes));
        is_sound.then_some(Self { configs, nodes })
    }

    /// These vote, and nobody else belongs to it.
    pub fn of(voters: BTreeSet<u64>) -> Self {
        Self { configs: vec![voters.clone()], nodes: voters }
    }

    /// The sets of voters.
    pub fn configs(&self) -> &[BTreeSet<u64>] {
        &self.configs
    }

    /// Everybody.
    pub fn nodes(&self) -> &BTreeSet<u64> {
        &self.nodes
    }

    /// Whether a node votes.
    pub fn is_voter(&self, node: u64) -> bool {
        self.configs.iter().any(|config| config.contains(&node))
    }

    /// Who votes.
    pub fn voters(&self) -> BTreeSet<u64> {
        self.configs.iter().flatten().copied().collect()
    }

    /// Who follows without a vote.
    pub fn learners(&self) -> BTreeSet<u64> {
        self.nodes.iter().filter(|node| !self.is_voter(**node)).copied().collect()
    }

    /// Whether a majority of each set has it.
    pub fn is_majority(&self, has: impl Fn(u64) -> bool) -> bool {
        let most = |config: &BTreeSet<u64>| config.iter().filter(|node| has(**node)).count() * 2 > config.len();
        !self.configs.is_empty() && self.configs.iter().all(most)
    }

    /// The most that a majority of each set has; `None` where nobody votes.
    pub fn quorum<T: Ord + Copy>(&self, has: impl Fn(u64) -> T) -> Option<T> {
        let of = |config: &BTreeSet<u64>| {
            if let (1, Some(only)) = (config.len(), config.first()) {
                return has(*only);
            }
            let mut all: Vec<T> = config.iter().map(|node| has(*node)).collect();
            all.sort_unstable();
            let half = (all.len() - 1) / 2;
            all[half]
        };
        self.configs.iter().map(of).min()
    }
}

/// Who belongs to a group, and the entry that says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// `None`: nobody was ever named.
    pub at: Option<At>,
    /// Who.
    pub membership: Membership,
}

/// What a snapshot covers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Covered {
    /// The last entry whose effect it has.
    pub last: Option<At>,
    /// The members then.
    pub members: Members,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quorum_is_what_most_of_every_set_have() {
        let of = |configs: &[&[u64]]| {
            let configs: Vec<BTreeSet<u64>> = configs.iter().map(|config| config.iter().copied().collect()).collect();
            let nodes = configs.iter().flatten().copied().collect();
            Membership::new(configs, nodes).expect("it is sound")
        };
        let cases: &[(&[&[u64]], Option<u64>)] = &[
            (&[], None),
            (&[&[7]], Some(7)),
            (&[&[3, 9]], Some(3)),
            (&[&[1, 5, 9]], Some(5)),
            (&[&[1, 2, 8, 9]], Some(2)),
            (&[&[1, 2, 3, 8, 9]], Some(3)),
            (&[&[7, 8, 9], &[1, 2, 9]], Some(2)),
        ];
        for (configs, expected) in cases {
            let members = of(configs);
            assert_eq!(members.quorum(|node| node), *expected, "{configs:?}");
            for at in 0..10 {
                assert_eq!(members.is_majority(|node| node >= at), *expected >= Some(at), "{configs:?} {at}");
            }
        }
        assert_eq!(Membership::new(vec![[1].into()], [2].into()), None);
        assert_eq!(Membership::new(vec![[].into()], [2].into()), None);
    }
}
