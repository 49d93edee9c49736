//! The cluster map: everything placement needs to know, checked, cheap to clone and to share.

mod check;
mod file;
mod node;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use check::Fault;
pub use file::{BadMap, MapFile};
pub use node::{Node, NodeState};

use crate::id::{Epoch, Group, NodeId, PartitionId, SlotId};
use crate::policy::Policy;
use crate::rank::Strategy;

/// Exceptions to ranking: these nodes come first, in this order.
pub type Pins = BTreeMap<Group, Vec<NodeId>>;

/// The most nodes, partitions or slots a map may have: bounds what a mistyped map can make us compute.
pub const NODES_MAX: usize = 100_000;
/// See [`NODES_MAX`].
pub const GROUPS_MAX: u32 = 1 << 20;

/// A checked cluster map. A clone shares all lists with its original; changing one copies that list only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    epoch: Epoch,
    partitions: u32,
    slots: u32,
    strategy: Strategy,
    meta: String,
    /// In the order of their ids.
    nodes: Arc<Vec<Node>>,
    policies: Arc<Vec<Policy>>,
    pins: Arc<Pins>,
}

/// What a map is made of, before it has been checked.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The number of this map.
    pub epoch: Epoch,
    /// P: fixed at the cluster's birth.
    pub partitions: u32,
    /// S: fixed at the cluster's birth.
    pub slots: u32,
    /// How groups are ranked.
    pub strategy: Strategy,
    /// The policy of metadata: one for all slots, because a slot holds keys of many buckets.
    pub meta: String,
    /// In any order.
    pub nodes: Vec<Node>,
    /// In any order.
    pub policies: Vec<Policy>,
    /// Exceptions.
    pub pins: Pins,
}

impl Default for Parts {
    /// 4096 partitions, 256 slots, one policy "default" of three copies that serves metadata too; no nodes.
    fn default() -> Self {
        let policies = vec![Policy::copies("default", 3)];
        let strategy = Strategy::default();
        let (nodes, pins, meta) = (vec![], Pins::new(), "default".to_owned());
        Self { epoch: Epoch(1), partitions: 4096, slots: 256, strategy, meta, nodes, policies, pins }
    }
}

impl Map {
    /// Checks everything and says all that is wrong, not only the first thing.
    pub fn new(mut parts: Parts) -> Result<Self, Vec<Fault>> {
        let faults = check::check(&parts);
        if !faults.is_empty() {
            return Err(faults);
        }
        parts.nodes.sort_by_key(|node| node.id);
        let Parts { epoch, partitions, slots, strategy, meta, nodes, policies, pins } = parts;
        let (nodes, policies, pins) = (Arc::new(nodes), Arc::new(policies), Arc::new(pins));
        Ok(Self { epoch, partitions, slots, strategy, meta, nodes, policies, pins })
    }

    /// Three copies on these nodes and nothing else said.
    pub fn of_nodes(nodes: Vec<Node>) -> Result<Self, Vec<Fault>> {
        Self::new(Parts { nodes, ..Parts::default() })
    }

    /// The number of this map.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// All partitions, in order.
    pub fn partitions(&self) -> impl ExactSizeIterator<Item = PartitionId> + use<> {
        (0..self.partitions as usize).map(|number| PartitionId(number as u32))
    }

    /// All slots, in order.
    pub fn slots(&self) -> impl ExactSizeIterator<Item = SlotId> + use<> {
        (0..self.slots as usize).map(|number| SlotId(number as u32))
    }

    /// How groups are ranked.
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// All nodes, in the order of their ids.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node of an id.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.binary_search_by_key(&id, |node| node.id).ok().map(|at| &self.nodes[at])
    }

    /// All policies.
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// The policy of a name.
    pub fn policy(&self, name: &str) -> Option<&Policy> {
        self.policies.iter().find(|policy| policy.name == name)
    }

    /// The policy of metadata.
    pub fn meta_policy(&self) -> &Policy {
        let meta = self.policy(&self.meta);
        meta.unwrap_or(&self.policies[0]) // The check has made sure that it is there.
    }

    /// All exceptions.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// The exception of a group, if it has one.
    pub fn pin(&self, group: Group) -> Option<&[NodeId]> {
        self.pins.get(&group).map(Vec::as_slice)
    }

    /// The next map: the same with its nodes changed. Whatever the change did is checked again.
    pub fn with_nodes(&self, change: impl FnOnce(&mut Vec<Node>)) -> Result<Self, Vec<Fault>> {
        let mut next = self.next();
        change(Arc::make_mut(&mut next.nodes));
        next.checked()
    }

    /// The next map, with a node in another state. A node that isn't there changes nothing.
    #[must_use]
    pub fn with_state(&self, id: NodeId, state: NodeState) -> Self {
        let mut next = self.next();
        if let Ok(at) = next.nodes.binary_search_by_key(&id, |node| node.id) {
            Arc::make_mut(&mut next.nodes)[at].state = state;
        }
        next
    }

    /// The next map: the same with its exceptions changed.
    pub fn with_pins(&self, change: impl FnOnce(&mut Pins)) -> Result<Self, Vec<Fault>> {
        let mut next = self.next();
        change(Arc::make_mut(&mut next.pins));
        next.checked()
    }

    fn next(&self) -> Self {
        Self { epoch: Epoch(self.epoch.0.saturating_add(1)), ..self.clone() }
    }

    fn checked(self) -> Result<Self, Vec<Fault>> {
        let Self { epoch, partitions, slots, strategy, meta, nodes, policies, pins } = self;
        let (nodes, policies) = (Arc::unwrap_or_clone(nodes), Arc::unwrap_or_clone(policies));
        let pins = Arc::unwrap_or_clone(pins);
        Self::new(Parts { epoch, partitions, slots, strategy, meta, nodes, policies, pins })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> Map {
        Map::of_nodes(vec![Node::new(2, 1 << 40), Node::new(1, 1 << 40)]).expect("it is right")
    }

    #[test]
    fn a_clone_shares_until_one_is_changed() {
        let map = map();
        let changed = map.with_state(NodeId(2), NodeState::Draining);
        assert!(Arc::ptr_eq(&map.policies, &changed.policies) && Arc::ptr_eq(&map.nodes, &map.clone().nodes));
        assert_eq!(map.node(NodeId(2)).map(|node| node.state), Some(NodeState::Online), "the original is as it was");
        assert_eq!(changed.node(NodeId(2)).map(|node| node.state), Some(NodeState::Draining));
        assert_eq!(changed.epoch(), Epoch(2));
    }

    #[test]
    fn nodes_are_found_whatever_their_order_was() {
        assert_eq!(map().nodes().iter().map(|node| node.id.0).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(map().node(NodeId(3)), None);
    }

    #[test]
    fn a_change_is_checked_like_a_new_map() {
        let faults = map().with_nodes(|nodes| nodes.push(Node::new(1, 1))).expect_err("two nodes with one id");
        assert!(faults[0].to_string().contains("nodes[2].id"), "{}", faults[0]);
    }
}
