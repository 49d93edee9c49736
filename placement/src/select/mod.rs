//! Selection: which nodes are to hold a group.
//!
//! Of all sets of nodes that meet the policy, it is the first in ranking order: the best-ranked node that any such set
//! contains, then the best-ranked of what can follow, and so on. So another node's coming or going changes a
//! selection only where that node is in it. Where no set meets the policy, the policy is lowered first: copies, then the
//! spreads from the last to the first, no further than needed, and [`Missing`] says by how much.

mod explain;
mod missing;
mod topology;

pub use explain::{Ranked, Verdict};
pub use missing::{Exclusion, Missing};

use crate::id::{Group, NodeId};
use crate::map::{Map, Node};
use crate::policy::Policy;
use crate::rank::{Candidate, Rank};
use topology::{Chosen, Topology};

/// How many more of the ranking than needed are looked at before the whole of it is.
const LOOK_AHEAD: usize = 16;

/// Selects for one policy on one map; made once and asked for every group.
pub struct Placer<'a> {
    map: &'a Map,
    policy: &'a Policy,
    candidates: Vec<Candidate>,
    rank: Box<dyn Rank>,
    topology: Topology,
    /// What can be reached of the policy: how many nodes.
    width: usize,
    missing: Vec<Missing>,
    /// The nodes that may not be chosen.
    excluded: Vec<(NodeId, Exclusion)>,
}

/// The nodes that are to hold a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection<'a> {
    /// In ranking order, pinned ones first.
    pub nodes: Vec<NodeId>,
    /// What the topology can't give; empty if the policy is met. The same for all groups.
    pub missing: &'a [Missing],
}

/// Room for the work of one selection, reused from group to group.
#[derive(Default)]
struct Scratch {
    ranked: Vec<u32>,
    order: Vec<u32>,
}

impl<'a> Placer<'a> {
    /// Prepares a policy on a map.
    pub fn new(map: &'a Map, policy: &'a Policy) -> Self {
        let mut nodes: Vec<&Node> = Vec::new();
        let mut excluded = Vec::new();
        for node in map.nodes() {
            match exclusion(node, policy) {
                None => nodes.push(node),
                Some(why) => excluded.push((node.id, why)),
            }
        }
        let candidate = |node: &&Node| Candidate { id: node.id, weight: node.weight() };
        let candidates: Vec<Candidate> = nodes.iter().map(candidate).collect();
        let width = policy.redundancy.width().min(candidates.len());
        let topology = Topology::new(&nodes, &policy.spread, width);
        let missing = missing::list(policy, width, &topology, &excluded);
        let rank = map.strategy().prepare(&candidates);
        Self { map, policy, candidates, rank, topology, width, missing, excluded }
    }

    /// For partitions under this policy, or for slots if it is that of metadata.
    pub fn policy(&self) -> &'a Policy {
        self.policy
    }

    /// The map it was made for.
    pub fn map(&self) -> &'a Map {
        self.map
    }

    /// What the topology can't give; empty if the policy can be met.
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// The nodes that may hold nothing new, and why.
    pub fn excluded(&self) -> &[(NodeId, Exclusion)] {
        &self.excluded
    }

    /// Whether a node may be chosen at all.
    pub fn is_candidate(&self, node: NodeId) -> bool {
        self.place(node).is_some()
    }

    /// The nodes that are to hold a group.
    pub fn select(&self, group: Group) -> Selection<'_> {
        let mut places = Vec::with_capacity(self.width);
        self.select_places(group, &mut Scratch::default(), &mut places);
        Selection { nodes: places.iter().map(|place| self.id(*place)).collect(), missing: &self.missing }
    }

    /// All candidates for a group in ranking order, without regard to pins and constraints.
    pub fn ranking(&self, group: Group) -> Vec<NodeId> {
        let mut ranked = Vec::new();
        self.rank.best(group, self.candidates.len(), &mut ranked);
        ranked.iter().map(|place| self.id(*place)).collect()
    }

    /// The nodes of every partition.
    pub fn table(&self) -> Table {
        let mut table =
            Table { width: self.width, nodes: Vec::with_capacity(self.map.partitions().len() * self.width) };
        let (mut scratch, mut places) = (Scratch::default(), Vec::with_capacity(self.width));
        for partition in self.map.partitions() {
            self.select_places(Group::Partition(partition), &mut scratch, &mut places);
            table.nodes.extend(places.iter().map(|place| self.id(*place)));
        }
        table
    }

    /// Whether these nodes, all different candidates, are as well spread as the topology allows.
    pub fn accepts(&self, nodes: &[NodeId]) -> bool {
        let mut chosen = Chosen::new(&self.topology);
        for node in nodes {
            match self.place(*node) {
                Some(place) if !chosen.contains(place) => chosen.add(&self.topology, place),
                _ => return false,
            }
        }
        nodes.len() == self.width && chosen.is_met(&self.topology)
    }

    fn id(&self, place: u32) -> NodeId {
        self.candidates[place as usize].id
    }

    fn place(&self, node: NodeId) -> Option<u32> {
        self.candidates.binary_search_by_key(&node, |candidate| candidate.id).ok().map(|place| place as u32)
    }

    fn select_places(&self, group: Group, scratch: &mut Scratch, places: &mut Vec<u32>) {
        let pinned = self.map.pin(group).unwrap_or(&[]);
        let mut count = self.width + if self.topology.is_plain() { 0 } else { LOOK_AHEAD };
        loop {
            self.rank.best(group, count, &mut scratch.ranked);
            scratch.order.clear();
            scratch.order.extend(pinned.iter().filter_map(|node| self.place(*node)));
            let pins = scratch.order.len();
            let (order, ranked) = (&mut scratch.order, &scratch.ranked);
            order.extend_from_slice(ranked);
            self.walk(order, pins, places);
            if places.len() == self.width {
                return;
            }
            if ranked.len() < count {
                // The search for spreads gave up somewhere on the way: copies count for more than where they lie.
                fill(order, self.width, places);
                return;
            }
            count = self.candidates.len() + 1;
        }
    }

    /// Down the order, taking each node with which the rest can still be met.
    fn walk(&self, order: &[u32], pins: usize, places: &mut Vec<u32>) {
        places.clear();
        if self.topology.is_plain() {
            let (pinned, ranked) = order.split_at(pins);
            places.extend_from_slice(&pinned[..pins.min(self.width)]);
            let others = ranked.iter().filter(|place| !pinned.contains(place));
            places.extend(others.take(self.width - places.len()));
            return;
        }
        let mut chosen = Chosen::new(&self.topology);
        for place in order {
            if places.len() == self.width {
                return;
            }
            if !chosen.contains(*place) && chosen.can_take(&self.topology, *place, self.width) {
                chosen.add(&self.topology, *place);
                places.push(*place);
            }
        }
    }
}

fn fill(order: &[u32], width: usize, places: &mut Vec<u32>) {
    for place in order {
        if places.len() < width && !places.contains(place) {
            places.push(*place);
        }
    }
}

/// The nodes of every partition under one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    width: usize,
    nodes: Vec<NodeId>,
}

impl Table {
    /// How many nodes each partition has.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The nodes of a partition in ranking order; none if there is no such partition.
    pub fn nodes(&self, partition: crate::id::PartitionId) -> &[NodeId] {
        let start = partition.0 as usize * self.width;
        self.nodes.get(start..start + self.width).unwrap_or(&[])
    }
}

/// Why a node may not hold anything new, if it may not.
fn exclusion(node: &Node, policy: &Policy) -> Option<Exclusion> {
    if !node.state.is_eligible() {
        return Some(Exclusion::State(node.state));
    }
    if node.weight() == 0 {
        return Some(Exclusion::NoWeight);
    }
    let refusing = policy.only.iter().find(|selector| !selector.admits(&node.labels));
    refusing.map(|selector| Exclusion::Forbidden(selector.to_string()))
}
