//! Audit: what is held against what should be.

use std::collections::BTreeMap;
use std::fmt;

use super::inventory::{Digest, Holding, Inventory, Proof};
use crate::id::{NodeId, PartitionId};
use crate::map::{Map, NodeState};
use crate::policy::Redundancy;
use crate::select::Placer;

/// A copy or piece as the audit sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Where.
    pub node: NodeId,
    /// Which piece; 0 of whole copies.
    pub piece: u8,
    /// Room it takes.
    pub bytes: u64,
    /// The last proof.
    pub proof: Option<Proof>,
    /// Whether its node is meant to hold it.
    pub place: Place,
    /// What it is worth.
    pub worth: Worth,
}

/// Whether a copy lies where it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Its node is meant to hold it.
    Desired,
    /// Its node isn't, and nothing is missing elsewhere.
    Surplus,
    /// Its node isn't, and something is missing elsewhere.
    Misplaced,
}

/// What a copy is worth for reading and counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// On a live node and the same as the others: counts.
    Good,
    /// On a live node, but with other chunks than most: must be compared chunk by chunk before anything is dropped.
    Differs,
    /// On a node that can't be asked now.
    Unreachable,
}

/// What a desired node lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lack {
    /// The node.
    pub node: NodeId,
    /// The piece it should hold; 0 of whole copies.
    pub piece: u8,
    /// How it lacks it.
    pub kind: LackKind,
}

/// How something is lacking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LackKind {
    /// Nothing is there.
    Absent,
    /// Something is there, with other chunks than most copies have.
    Differs,
}

/// How it stands with a partition, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Too little is within reach to read it.
    Lost,
    /// So many more copies or pieces may fail, fewer than the policy wants.
    AtRisk {
        /// 0: the next failure loses it.
        spare: usize,
    },
    /// As many copies or pieces as the policy wants.
    Full,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => f.write_str("can't be read now"),
            Self::AtRisk { spare: 0 } => f.write_str("the next failure loses it"),
            Self::AtRisk { spare } => write!(f, "bears {spare} more failures, fewer than its policy wants"),
            Self::Full => f.write_str("has all its copies"),
        }
    }
}

/// What the audit found of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which.
    pub partition: PartitionId,
    /// Size of one copy or piece.
    pub bytes: u64,
    /// The nodes that are meant to hold it.
    pub desired: Vec<NodeId>,
    /// Everything that is reported to be held.
    pub held: Vec<Held>,
    /// What desired nodes lack.
    pub missing: Vec<Lack>,
    /// How it stands.
    pub standing: Standing,
}

impl Finding {
    /// Good copies, or of each piece one good holder: what counts. Desired nodes come first.
    pub fn counted(&self, redundancy: Redundancy) -> Vec<&Held> {
        let mut good: Vec<&Held> = self.held.iter().filter(|held| held.worth == Worth::Good).collect();
        good.sort_by_key(|held| held.place != Place::Desired);
        if let Redundancy::Pieces { .. } = redundancy {
            good.sort_by_key(|held| held.piece);
            good.dedup_by_key(|held| held.piece);
        }
        good
    }

    /// Whether copies within reach contain different chunks.
    pub fn is_diverged(&self) -> bool {
        self.held.iter().any(|held| held.worth == Worth::Differs)
    }

    /// The oldest proof of what counts; none if some of it was never proven, or if nothing counts.
    pub fn oldest_proof(&self, redundancy: Redundancy) -> Option<Proof> {
        self.counted(redundancy).iter().map(|held| held.proof).min().flatten()
    }
}

/// What the audit found of all partitions that hold or should hold something.
#[derive(Clone, Debug)]
pub struct Audit {
    /// In the order of partitions.
    pub findings: Vec<Finding>,
}

/// Compares what nodes report with what the map wants.
pub fn audit(placer: &Placer<'_>, inventory: &Inventory) -> Audit {
    let table = placer.table();
    let mut findings = Vec::new();
    for partition in placer.map().partitions() {
        let holdings = inventory.of(partition);
        let expected = inventory.expected(partition);
        if !holdings.is_empty() || expected.is_some() {
            findings.push(examine(placer, partition, table.nodes(partition), holdings, expected.unwrap_or(0)));
        }
    }
    Audit { findings }
}

fn examine(
    placer: &Placer<'_>,
    partition: PartitionId,
    desired: &[NodeId],
    holdings: &[Holding],
    expected: u64,
) -> Finding {
    let (map, redundancy) = (placer.map(), placer.policy().redundancy);
    let reference = reference(map, holdings);
    let missing = missing(map, redundancy, desired, holdings, reference);
    let elsewhere = if missing.is_empty() { Place::Surplus } else { Place::Misplaced };
    let held = holdings.iter().map(|holding| Held {
        node: holding.node,
        piece: holding.piece,
        bytes: holding.bytes,
        proof: holding.proof,
        place: if desired.contains(&holding.node) { Place::Desired } else { elsewhere },
        worth: worth(map, holding, reference),
    });
    let held: Vec<Held> = held.collect();
    let good = held.iter().filter(|held| held.worth == Worth::Good).map(|held| held.bytes).max();
    let bytes = good.unwrap_or(expected);
    let standing = Standing::Full;
    let mut finding = Finding { partition, bytes, desired: desired.to_vec(), held, missing, standing };
    finding.standing = standing_of(&finding, redundancy);
    finding
}

fn is_live(map: &Map, node: NodeId) -> bool {
    map.node(node).is_some_and(|node| node.state.is_live())
}

/// The digest that most live holders have; of equals the one with more bytes, then the greater.
fn reference(map: &Map, holdings: &[Holding]) -> Option<Digest> {
    let mut votes: BTreeMap<Digest, (usize, u64)> = BTreeMap::new();
    for holding in holdings.iter().filter(|holding| is_live(map, holding.node)) {
        let (count, bytes) = votes.entry(holding.digest).or_default();
        *count += 1;
        *bytes = holding.bytes.max(*bytes);
    }
    votes.into_iter().max_by_key(|(digest, votes)| (*votes, *digest)).map(|(digest, _)| digest)
}

fn worth(map: &Map, holding: &Holding, reference: Option<Digest>) -> Worth {
    match reference {
        _ if !is_live(map, holding.node) => Worth::Unreachable,
        Some(reference) if reference == holding.digest => Worth::Good,
        _ => Worth::Differs,
    }
}

/// A desired node keeps the piece it has, unless a better-ranked one has the same; those without get what is left.
/// What a suspect node holds is neither missed nor counted until it is known how it stands with the node.
fn missing(
    map: &Map,
    redundancy: Redundancy,
    desired: &[NodeId],
    holdings: &[Holding],
    reference: Option<Digest>,
) -> Vec<Lack> {
    let whole = matches!(redundancy, Redundancy::Copies(_));
    let held = |node: &NodeId| holdings.iter().find(|holding| holding.node == *node);
    let mut kept: Vec<(NodeId, u8)> = Vec::new();
    for holding in desired.iter().filter_map(held) {
        let piece = if whole { 0 } else { holding.piece };
        let fits = usize::from(piece) < redundancy.width();
        if whole || (fits && kept.iter().all(|(_, other)| *other != piece)) {
            kept.push((holding.node, piece));
        }
    }
    let taken: Vec<u8> = kept.iter().map(|(_, piece)| *piece).collect();
    let mut left = (0..redundancy.width() as u8).filter(|piece| !taken.contains(piece));
    let mut lacks = Vec::new();
    for node in desired {
        match kept.iter().find(|(keeper, _)| keeper == node) {
            None => {
                let piece = if whole { 0 } else { left.next().unwrap_or(0) };
                lacks.push(Lack { node: *node, piece, kind: LackKind::Absent });
            }
            Some((_, piece)) => {
                let suspect = map.node(*node).is_some_and(|node| node.state == NodeState::Suspect);
                let same = held(node).map(|holding| holding.digest) == reference;
                if !same && !suspect {
                    lacks.push(Lack { node: *node, piece: *piece, kind: LackKind::Differs });
                }
            }
        }
    }
    lacks
}

fn standing_of(finding: &Finding, redundancy: Redundancy) -> Standing {
    let counted = finding.counted(redundancy).len();
    match counted.checked_sub(redundancy.enough()) {
        None => Standing::Lost,
        Some(_) if counted >= redundancy.width() => Standing::Full,
        Some(spare) => Standing::AtRisk { spare },
    }
}
