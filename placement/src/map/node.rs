//! A node as the map describes it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::NodeId;
use crate::selector::Labels;

/// Where a node stands in its life, and what follows for placement:
///
/// | state | may be given data | its copies count as live |
/// | --- | --- | --- |
/// | joining | no | no |
/// | online | yes | yes |
/// | suspect | yes: a pause must not move data | no: nothing is deleted on its word |
/// | offline | no | no |
/// | draining | no | yes |
/// | out | no | no |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Enrolled, not yet ready.
    Joining,
    /// At work.
    #[default]
    Online,
    /// Missed heartbeats, not yet given up.
    Suspect,
    /// Given up: what it held is made anew elsewhere.
    Offline,
    /// Being emptied: serves what it has, is given nothing.
    Draining,
    /// Left for good.
    Out,
}

impl NodeState {
    /// Every state, in the order of a node's life.
    pub const ALL: [Self; 6] = [Self::Joining, Self::Online, Self::Suspect, Self::Offline, Self::Draining, Self::Out];

    /// Whether it may be chosen to hold something.
    pub fn is_eligible(self) -> bool {
        matches!(self, Self::Online | Self::Suspect)
    }

    /// Whether its copies can be read now and count towards policy.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Online | Self::Draining)
    }
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Joining => "joining",
            Self::Online => "online",
            Self::Suspect => "suspect",
            Self::Offline => "offline",
            Self::Draining => "draining",
            Self::Out => "out",
        })
    }
}

/// A node that has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Unique in the map.
    pub id: NodeId,
    /// Free-form; no name is special.
    pub labels: Labels,
    /// What its disks hold in all.
    pub capacity_bytes: u64,
    /// What is free of it, as last reported; never above the capacity.
    pub free_bytes: u64,
    /// Where it stands.
    pub state: NodeState,
    /// Replaces the weight that follows from the capacity; 0 keeps everything away from it.
    pub weight: Option<u32>,
}

impl Node {
    /// An online node, empty, without labels.
    pub fn new(id: u64, capacity_bytes: u64) -> Self {
        let state = NodeState::Online;
        Self { id: NodeId(id), labels: Labels::new(), capacity_bytes, free_bytes: capacity_bytes, state, weight: None }
    }

    /// The same with a label more.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Its share in ranking: the override, else whole GiB of capacity, at least 1 and at most `u32::MAX`.
    pub fn weight(&self) -> u32 {
        self.weight.unwrap_or_else(|| u32::try_from(self.capacity_bytes >> 30).unwrap_or(u32::MAX).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weight_follows_capacity_within_bounds() {
        assert_eq!(Node::new(1, 10 << 30).weight(), 10);
        assert_eq!(Node::new(1, 5).weight(), 1, "a small node is not left out");
        assert_eq!(Node::new(1, u64::MAX).weight(), u32::MAX);
        assert_eq!(Node { weight: Some(0), ..Node::new(1, 10 << 30) }.weight(), 0);
    }

    #[test]
    fn what_may_not_be_chosen_never_counts_by_being_chosen() {
        for state in NodeState::ALL {
            let both = state.is_eligible() && state.is_live();
            assert_eq!(both, state == NodeState::Online, "{state}");
        }
    }
}
