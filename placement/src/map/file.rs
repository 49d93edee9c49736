//! A map as people write it, in TOML. Not yet checked: only [`Map::from_toml`] makes a [`Map`] of it.
//!
//! ```toml
//! partitions = 4096
//! meta = "default"
//!
//! [[policies]]
//! name = "default"
//! redundancy = "3"
//! only = ["!class=archive"]
//! spread = [{ label = "rack", distinct = 3, need = "required" }]
//!
//! [[nodes]]
//! id = 1
//! labels = { rack = "r1" }
//! capacity_bytes = 4_000_000_000_000
//!
//! [[pins]]
//! partition = 17
//! nodes = [1]
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Fault, Map, Node, NodeState, Parts};
use crate::id::{Epoch, Group, NodeId, PartitionId, SlotId};
use crate::policy::{Ack, Need, Policy, Spread};
use crate::rank::Strategy;
use crate::selector::Labels;

/// A map as it stands in a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapFile {
    #[serde(default)]
    epoch: Epoch,
    #[serde(default = "partitions")]
    partitions: u32,
    #[serde(default = "slots")]
    slots: u32,
    #[serde(default)]
    strategy: Strategy,
    #[serde(default = "meta")]
    meta: String,
    #[serde(default)]
    policies: Vec<PolicyEntry>,
    #[serde(default)]
    nodes: Vec<NodeEntry>,
    #[serde(default)]
    pins: Vec<PinEntry>,
}

fn partitions() -> u32 {
    Parts::default().partitions
}

fn slots() -> u32 {
    Parts::default().slots
}

fn meta() -> String {
    Parts::default().meta
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyEntry {
    name: String,
    redundancy: String,
    #[serde(default)]
    spread: Vec<SpreadEntry>,
    #[serde(default)]
    only: Vec<String>,
    #[serde(default)]
    ack: Ack,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SpreadEntry {
    label: String,
    distinct: u8,
    #[serde(default)]
    need: Need,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeEntry {
    id: NodeId,
    #[serde(default)]
    labels: Labels,
    capacity_bytes: u64,
    /// All of the capacity, where it is left out.
    free_bytes: Option<u64>,
    #[serde(default)]
    state: NodeState,
    weight: Option<u32>,
}

/// Either a partition or a slot.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PinEntry {
    partition: Option<u32>,
    slot: Option<u32>,
    nodes: Vec<NodeId>,
}

/// Why a text is no map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadMap {
    /// It is not TOML, or a field is unknown, missing or of the wrong kind. The text says which and where.
    Syntax(String),
    /// All that is wrong with what it says.
    Faults(Vec<Fault>),
}

impl fmt::Display for BadMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(problem) => f.write_str(problem.trim_end()),
            Self::Faults(faults) => {
                let lines: Vec<String> = faults.iter().map(Fault::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
        }
    }
}

impl std::error::Error for BadMap {}

impl Map {
    /// Reads and checks a map file.
    pub fn from_toml(text: &str) -> Result<Self, BadMap> {
        let file: MapFile = toml::from_str(text).map_err(|error| BadMap::Syntax(error.to_string()))?;
        let parts = file.into_parts().map_err(BadMap::Faults)?;
        Self::new(parts).map_err(BadMap::Faults)
    }
}

impl MapFile {
    fn into_parts(self) -> Result<Parts, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut keep = |result: Result<_, Fault>| result.map_err(|fault| faults.push(fault)).ok();
        let policies = self.policies.into_iter().enumerate();
        let mut policies: Vec<Policy> = policies.filter_map(|(at, entry)| keep(entry.into_policy(at))).collect();
        let mut pins = super::Pins::new();
        for (at, pin) in self.pins.into_iter().enumerate() {
            match pin.group(at) {
                Ok(group) if pins.contains_key(&group) => {
                    faults.push(fault(format!("pins[{at}]"), format!("{group} is pinned twice; keep one of the two")));
                }
                Ok(group) => _ = pins.insert(group, pin.nodes),
                Err(fault) => faults.push(fault),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        if policies.is_empty() {
            policies = Parts::default().policies;
        }
        let nodes = self.nodes.into_iter().map(NodeEntry::into_node).collect();
        let Self { epoch, partitions, slots, strategy, meta, .. } = self;
        Ok(Parts { epoch, partitions, slots, strategy, meta, nodes, policies, pins })
    }
}

fn fault(field: String, problem: String) -> Fault {
    Fault { field, problem }
}

impl PolicyEntry {
    fn into_policy(self, at: usize) -> Result<Policy, Fault> {
        let redundancy = self.redundancy.parse();
        let redundancy = redundancy.map_err(|problem| fault(format!("policies[{at}].redundancy"), problem))?;
        let mut only = Vec::new();
        for (item, text) in self.only.iter().enumerate() {
            let selector = text.parse::<crate::selector::Selector>();
            let named = |problem: crate::selector::BadSelector| {
                fault(format!("policies[{at}].only[{item}]"), problem.to_string())
            };
            only.push(selector.map_err(named)?);
        }
        let spread = self.spread.into_iter();
        let spread = spread.map(|SpreadEntry { label, distinct, need }| Spread { label, distinct, need }).collect();
        Ok(Policy { name: self.name, redundancy, spread, only, ack: self.ack })
    }
}

impl NodeEntry {
    fn into_node(self) -> Node {
        let Self { id, labels, capacity_bytes, free_bytes, state, weight } = self;
        Node { id, labels, capacity_bytes, free_bytes: free_bytes.unwrap_or(capacity_bytes), state, weight }
    }
}

impl PinEntry {
    fn group(&self, at: usize) -> Result<Group, Fault> {
        match (self.partition, self.slot) {
            (Some(number), None) => Ok(Group::Partition(PartitionId(number))),
            (None, Some(number)) => Ok(Group::Slot(SlotId(number))),
            _ => Err(fault(format!("pins[{at}]"), "name either a partition or a slot".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(text: &str) -> String {
        Map::from_toml(text).expect_err(text).to_string()
    }

    #[test]
    fn a_small_map_is_enough() {
        let map = Map::from_toml("nodes = [{ id = 7, capacity_bytes = 1000 }]").expect("the rest has defaults");
        assert_eq!((map.partitions().len(), map.slots().len(), map.nodes()[0].free_bytes), (4096, 256, 1000));
        assert_eq!(map.meta_policy().name, "default");
    }

    #[test]
    fn the_example_above_is_right() {
        let example = include_str!("file.rs").lines().skip_while(|line| !line.contains("```toml")).skip(1);
        let example = example.take_while(|line| !line.contains("```"));
        let text: Vec<&str> = example.map(|line| line.trim_start_matches("//!")).collect();
        let map = Map::from_toml(&text.join("\n")).expect("the documentation shows what works");
        assert_eq!(map.pin(Group::Partition(PartitionId(17))), Some(&[NodeId(1)][..]));
    }

    #[test]
    fn every_complaint_names_its_field() {
        let cases = [
            ("partitions = 0", "partitions: 0 is not between 1 and"),
            ("slots = 99999999", "slots: "),
            ("meta = 'gold'", "meta: \"gold\" names no policy"),
            ("nodes = [{ id = 1, capacity_bytes = 5, free_bytes = 6 }]", "nodes[0].free_bytes: 6 is more"),
            (
                "nodes = [{ id = 1, capacity_bytes = 5 }, { id = 1, capacity_bytes = 5 }]",
                "nodes[1].id: 1 is the id of two",
            ),
            ("nodes = [{ id = 1, capacity_bytes = 5, labels = { rack = 'a b' } }]", "nodes[0].labels.rack: \"a b\""),
            ("nodes = [{ id = 1, capacity_bytes = 5, colour = 'red' }]", "colour"),
            ("nodes = [{ id = 1 }]", "capacity_bytes"),
            ("policies = [{ name = 'default', redundancy = '0' }]", "policies[0].redundancy: 0 copies needs 0 nodes"),
            ("policies = [{ name = 'default', redundancy = '200' }]", "policies[0].redundancy"),
            ("policies = [{ name = 'default', redundancy = 'x' }]", "policies[0].redundancy: \"x\" is neither"),
            ("policies = [{ name = 'default', redundancy = '0+2' }]", "k of k+m"),
            ("policies = [{ name = 'default', redundancy = '4+2' }]", "meta: \"default\" cuts into pieces"),
            ("policies = [{ name = 'default', redundancy = '3', only = ['='] }]", "policies[0].only[0]: "),
            (
                "policies = [{ name = 'default', redundancy = '2', spread = [{ label = 'dc', distinct = 3 }] }]",
                "policies[0].spread[0].distinct: 3 different values can't lie on 2 nodes",
            ),
            ("strategy = { ring = { weight_per_token = 0 } }", "strategy.ring.weight_per_token"),
            ("pins = [{ partition = 1, nodes = [9] }]", "pins.partition 1: 9 is no node"),
            ("pins = [{ nodes = [] }]", "pins[0]: name either"),
            ("pins = [{ slot = 999, nodes = [] }]", "pins.slot 999: there are only 256"),
            ("nodes = 3", "nodes"),
            ("]", "1"),
        ];
        for (text, expected) in cases {
            assert!(complaint(text).contains(expected), "{text}: {}", complaint(text));
        }
    }

    #[test]
    fn all_faults_are_told_at_once() {
        assert_eq!(complaint("partitions = 0\nslots = 0\nmeta = 'gold'").lines().count(), 3);
    }
}
