//! Why a group lies where it lies: each node of the ranking, and what became of it.

use std::fmt;

use super::Placer;
use crate::id::{Group, NodeId};
use crate::rank::Strategy;
use crate::score::{Cost, Reciprocal};

/// What became of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Chosen: the map pins the group to it.
    Pinned,
    /// Chosen for its rank.
    Taken,
    /// Ranked before a node that was chosen, but with it the spread could no longer be met.
    Passed,
    /// Ranked behind all that were chosen.
    Behind,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pinned => "taken: pinned",
            Self::Taken => "taken",
            Self::Passed => "passed: with it the spread can't be met",
            Self::Behind => "behind",
        })
    }
}

/// A node of the ranking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranked {
    /// Which.
    pub node: NodeId,
    /// Its cost; none with a strategy that has no scores.
    pub cost: Option<Cost>,
    /// What became of it.
    pub verdict: Verdict,
}

impl Placer<'_> {
    /// Every candidate for a group in ranking order, with its cost and what became of it.
    pub fn explain(&self, group: Group) -> Vec<Ranked> {
        let chosen = self.select(group).nodes;
        let pinned = self.map().pin(group).unwrap_or(&[]);
        let ranking = self.ranking(group);
        let by_rank = |node: &NodeId| chosen.contains(node) && !pinned.contains(node);
        let last = ranking.iter().rposition(by_rank);
        let verdict = |at: usize, node: NodeId| {
            if chosen.contains(&node) {
                if pinned.contains(&node) { Verdict::Pinned } else { Verdict::Taken }
            } else if last.is_some_and(|last| at < last) {
                Verdict::Passed
            } else {
                Verdict::Behind
            }
        };
        let ranked = ranking.iter().enumerate();
        ranked
            .map(|(at, node)| Ranked { node: *node, cost: self.cost(group, *node), verdict: verdict(at, *node) })
            .collect()
    }

    fn cost(&self, group: Group, node: NodeId) -> Option<Cost> {
        let weight = self.map().node(node)?.weight();
        let reciprocal = Reciprocal::of_weight(weight)?;
        (self.map().strategy() == Strategy::Rendezvous).then(|| Cost::of(group, node, reciprocal))
    }
}
