//! A change of nodes: what would move, what would get worse, and whether it is possible at all. Drain, decommission,
//! replace, add.

use std::collections::BTreeMap;
use std::fmt;

use crate::id::{NodeId, PartitionId};
use crate::map::{Fault, Map, Node, NodeState};
use crate::policy::Policy;
use crate::select::{Missing, Placer};

/// What is to happen to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It gives away what it holds and stays a member.
    Drain(NodeId),
    /// The same, and it leaves when it holds nothing more.
    Decommission(NodeId),
    /// A new node takes the place of one that works, or of one that is gone.
    Replace {
        /// Drained, if it is live.
        old: NodeId,
        /// Joins, and takes over its pins.
        new: Node,
    },
    /// A new node joins.
    Add(Node),
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// The map has no such node.
    UnknownNode(NodeId),
    /// The new node doesn't fit into the map.
    Faults(Vec<Fault>),
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownNode(node) => write!(f, "the map has no node {}; look its id up in [[nodes]]", node.0),
            Self::Faults(faults) => {
                let lines: Vec<String> = faults.iter().map(Fault::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
        }
    }
}

impl std::error::Error for ChangeError {}

/// A copy to be made elsewhere before the old one counts as surplus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Of this partition
    pub partition: PartitionId,
    /// this node's copy or piece
    pub from: NodeId,
    /// goes to this node,
    pub to: NodeId,
    /// which takes so much.
    pub bytes: u64,
}

/// Why a change can't be carried out as planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// A node would be given more than it has room for.
    NoRoom {
        /// Which.
        node: NodeId,
        /// Its room.
        free: u64,
        /// What it would be given.
        need: u64,
    },
    /// The topology would no longer give what it gives now.
    Worse(Missing),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoom { node, free, need } => {
                write!(f, "{node} would be given {need} bytes and has {free} free; add capacity first")
            }
            Self::Worse(missing) => write!(f, "{missing}"),
        }
    }
}

/// What a change would do to the partitions of one policy.
#[derive(Clone, Debug)]
pub struct ChangePlan {
    /// The map with the change: commit it to begin.
    pub next: Map,
    /// What is copied, in the order of partitions.
    pub transfers: Vec<Transfer>,
    /// What each node would be given.
    pub incoming: BTreeMap<NodeId, u64>,
    /// What stands in the way; none if it is possible.
    pub obstacles: Vec<Obstacle>,
}

impl ChangePlan {
    /// All that would be copied.
    pub fn bytes(&self) -> u64 {
        self.transfers.iter().fold(0, |sum, transfer| sum.saturating_add(transfer.bytes))
    }

    /// Whether nothing stands in the way.
    pub fn is_possible(&self) -> bool {
        self.obstacles.is_empty()
    }
}

/// Plans a change for partitions of these sizes (bytes of a copy or piece), listed by number; those beyond the list are
/// empty.
pub fn change(map: &Map, policy: &Policy, bytes: &[u64], change: &Change) -> Result<ChangePlan, ChangeError> {
    let next = next_map(map, change)?;
    let (before, after) = (Placer::new(map, policy), Placer::new(&next, policy));
    let transfers = transfers(&before, &after, bytes);
    let mut incoming: BTreeMap<NodeId, u64> = BTreeMap::new();
    for transfer in &transfers {
        let sum = incoming.entry(transfer.to).or_default();
        *sum = sum.saturating_add(transfer.bytes);
    }
    let room = incoming.iter().filter_map(|(node, need)| {
        let free = next.node(*node)?.free_bytes;
        (*need > free).then_some(Obstacle::NoRoom { node: *node, free, need: *need })
    });
    let worse = after.missing().iter().filter(|missing| is_worse(missing, before.missing()));
    let obstacles = worse.cloned().map(Obstacle::Worse).chain(room).collect();
    Ok(ChangePlan { transfers, incoming, obstacles, next: next.clone() })
}

fn next_map(map: &Map, change: &Change) -> Result<Map, ChangeError> {
    let known = |node: NodeId| map.node(node).ok_or(ChangeError::UnknownNode(node));
    match change {
        Change::Drain(node) | Change::Decommission(node) => {
            let state = leaving(known(*node)?.state);
            Ok(map.with_state(*node, state))
        }
        Change::Add(new) => map.with_nodes(|nodes| nodes.push(new.clone())).map_err(ChangeError::Faults),
        Change::Replace { old, new } => {
            let state = leaving(known(*old)?.state);
            let joined = map.with_nodes(|nodes| nodes.push(new.clone())).map_err(ChangeError::Faults)?;
            let replaced = joined.with_state(*old, state);
            let repinned = replaced.with_pins(|pins| {
                pins.values_mut().flatten().filter(|node| *node == old).for_each(|node| *node = new.id);
            });
            repinned.map_err(ChangeError::Faults)
        }
    }
}

/// A node that can still be read from is drained; one that can't is let go.
fn leaving(state: NodeState) -> NodeState {
    match state {
        NodeState::Online | NodeState::Suspect | NodeState::Draining => NodeState::Draining,
        NodeState::Joining | NodeState::Offline | NodeState::Out => NodeState::Out,
    }
}

/// Those who lose a partition hand it to those who gain it.
fn transfers(before: &Placer<'_>, after: &Placer<'_>, bytes: &[u64]) -> Vec<Transfer> {
    let (old, new) = (before.table(), after.table());
    let mut transfers = Vec::new();
    for partition in after.map().partitions() {
        let bytes = bytes.get(partition.0 as usize).copied().unwrap_or(0);
        let (had, has) = (old.nodes(partition), new.nodes(partition));
        let mut losing = had.iter().filter(|node| !has.contains(node));
        for to in has.iter().filter(|node| !had.contains(node)) {
            if let Some(from) = losing.next().or(had.first()) {
                transfers.push(Transfer { partition, from: *from, to: *to, bytes });
            }
        }
    }
    transfers
}

fn is_worse(missing: &Missing, before: &[Missing]) -> bool {
    let amount = |missing: &Missing| match missing {
        Missing::Nodes { possible, .. } => (None, *possible),
        Missing::Distinct { label, possible, .. } => (Some(label.clone()), *possible),
    };
    let (what, possible) = amount(missing);
    before.iter().map(amount).all(|(other, before)| other != what || possible < before)
}
