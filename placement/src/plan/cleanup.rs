//! Cleanup: which surplus copies to drop. Only surplus, never below policy counted over proven copies on live nodes, from
//! the nodes with the least free space first, keeping so many bytes of surplus as overhead.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::audit::{Audit, Finding, Held, Place, Worth};
use crate::id::{NodeId, PartitionId};
use crate::map::{Map, NodeState};
use crate::policy::{Need, Policy, Redundancy};
use crate::select::Placer;

/// A copy to drop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drop {
    /// Of this partition
    pub partition: PartitionId,
    /// what this node holds,
    pub node: NodeId,
    /// which frees so much,
    pub bytes: u64,
    /// because these hold proven copies or pieces of it.
    pub kept_by: Vec<NodeId>,
}

impl fmt::Display for Drop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, node, bytes, kept_by } = self;
        let kept: Vec<String> = kept_by.iter().map(NodeId::to_string).collect();
        write!(f, "drop partition {} on {node}, {bytes} bytes: proven on {}", partition.0, kept.join(", "))
    }
}

/// Why a surplus copy stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kept {
    /// Copies within reach contain different chunks: compare them first.
    Diverged,
    /// Without it, proven copies on live nodes would be fewer than the policy wants, or worse spread.
    Needed,
    /// It belongs to the overhead that is to be kept.
    Overhead,
}

/// What to drop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CleanupPlan {
    /// In this order.
    pub drops: Vec<Drop>,
    /// Surplus that stays, in copies and bytes, and why.
    pub kept: BTreeMap<Kept, (u64, u64)>,
}

impl CleanupPlan {
    /// All that would be freed.
    pub fn bytes(&self) -> u64 {
        self.drops.iter().fold(0, |sum, drop| sum.saturating_add(drop.bytes))
    }

    fn keep(&mut self, why: Kept, bytes: u64) {
        let (copies, sum) = self.kept.entry(why).or_default();
        *copies += 1;
        *sum = sum.saturating_add(bytes);
    }
}

/// Plans what to drop, so that at least `overhead_bytes` of surplus stay (or all of it, if it is less).
pub fn cleanup(placer: &Placer<'_>, audit: &Audit, overhead_bytes: u64) -> CleanupPlan {
    let mut plan = CleanupPlan::default();
    let mut surplus_bytes = 0_u64;
    let mut by_node: BTreeMap<NodeId, Vec<(u64, usize)>> = BTreeMap::new();
    for (at, finding) in audit.findings.iter().enumerate() {
        for held in finding.held.iter().filter(|held| is_surplus(held)) {
            surplus_bytes = surplus_bytes.saturating_add(held.bytes);
            if finding.is_diverged() {
                plan.keep(Kept::Diverged, held.bytes);
            } else {
                by_node.entry(held.node).or_default().push((held.bytes, at));
            }
        }
    }
    by_node.values_mut().for_each(|copies| copies.sort_unstable());
    let free = |node: &NodeId| placer.map().node(*node).map_or(0, |node| node.free_bytes);
    let mut queue: BTreeSet<(u64, NodeId)> = by_node.keys().map(|node| (free(node), *node)).collect();
    let mut gone: BTreeSet<(PartitionId, NodeId)> = BTreeSet::new();
    while let Some((free, node)) = queue.pop_first() {
        // The greatest of the fullest node: it has most to gain.
        let Some((bytes, at)) = by_node.get_mut(&node).and_then(Vec::pop) else { continue };
        let finding = &audit.findings[at];
        let rest = proven_without(placer.map(), finding, node, &gone);
        let mut freed = 0;
        if surplus_bytes.saturating_sub(bytes) < overhead_bytes {
            plan.keep(Kept::Overhead, bytes);
        } else if is_enough(placer.map(), placer.policy(), finding, &rest) {
            let kept_by = rest.iter().map(|held| held.node).collect();
            plan.drops.push(Drop { partition: finding.partition, node, bytes, kept_by });
            gone.insert((finding.partition, node));
            surplus_bytes -= bytes;
            freed = bytes;
        } else {
            plan.keep(Kept::Needed, bytes);
        }
        queue.insert((free.saturating_add(freed), node));
    }
    plan
}

/// A misplaced copy counts too: whether it is needed is asked of what remains.
fn is_surplus(held: &Held) -> bool {
    held.place != Place::Desired && held.worth != Worth::Unreachable
}

/// What a draining node holds doesn't count: it is about to leave.
fn proven_without<'a>(
    map: &Map,
    finding: &'a Finding,
    without: NodeId,
    gone: &BTreeSet<(PartitionId, NodeId)>,
) -> Vec<&'a Held> {
    let stays = |held: &&Held| held.node != without && !gone.contains(&(finding.partition, held.node));
    let proven = |held: &&Held| {
        let stays = map.node(held.node).is_some_and(|node| node.state == NodeState::Online);
        stays && held.worth == Worth::Good && held.proof.is_some()
    };
    finding.held.iter().filter(proven).filter(stays).collect()
}

/// Whether what remains meets the policy in full; a preferred spread may stay as far below as it is.
fn is_enough(map: &Map, policy: &Policy, finding: &Finding, rest: &[&Held]) -> bool {
    let strength = match policy.redundancy {
        Redundancy::Copies(_) => rest.len(),
        Redundancy::Pieces { .. } => rest.iter().map(|held| held.piece).collect::<BTreeSet<_>>().len(),
    };
    let all: Vec<&Held> = finding.held.iter().collect();
    let spread = policy.spread.iter().all(|spread| {
        let wanted = usize::from(spread.distinct);
        let wanted = match spread.need {
            Need::Required => wanted,
            Need::Preferred => wanted.min(distinct(map, &all, &spread.label)),
        };
        distinct(map, rest, &spread.label) >= wanted
    });
    strength >= policy.redundancy.width() && spread
}

fn distinct(map: &Map, held: &[&Held], label: &str) -> usize {
    let value = |held: &&Held| map.node(held.node)?.labels.get(label);
    held.iter().filter_map(value).collect::<BTreeSet<_>>().len()
}
