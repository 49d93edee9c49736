//! Rebalance: pins that bring the busiest nodes down to the bound, moving as little as that takes.
//!
//! Each move runs in two phases: the new node copies and verifies; only then is the pin committed, and the old copy becomes surplus,
//! which the next cleanup may drop. At no moment are there fewer copies than before.

use std::collections::BTreeMap;
use std::fmt;

use crate::id::{Group, NodeId, PartitionId};
use crate::map::Pins;
use crate::select::Placer;

/// What a partition weighs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Bytes of one copy or piece.
    pub bytes: u64,
    /// Requests, in any unit that is the same for all.
    pub load: u64,
}

/// What is to be evened out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Measure {
    /// Bytes held.
    #[default]
    Bytes,
    /// Requests served: hot partitions move first.
    Load,
}

impl Measure {
    fn of(self, size: Size) -> u64 {
        match self {
            Self::Bytes => size.bytes,
            Self::Load => size.load,
        }
    }
}

/// How far to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What is evened out.
    pub measure: Measure,
    /// A node is too busy if it has so many per cent more than its share by weight.
    pub threshold_percent: u32,
    /// Stops after so many moves.
    pub moves_max: usize,
}

impl Default for Options {
    /// Bytes, 50 %, 1000 moves.
    fn default() -> Self {
        Self { measure: Measure::Bytes, threshold_percent: 50, moves_max: 1000 }
    }
}

/// One copy that changes its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Of this partition
    pub partition: PartitionId,
    /// the copy here
    pub from: NodeId,
    /// goes there,
    pub to: NodeId,
    /// which weighs so much.
    pub size: Size,
    /// What `from` has of its share before, in per cent.
    pub from_percent: u64,
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, from, to, size, from_percent } = self;
        let (number, bytes) = (partition.0, size.bytes);
        write!(
            f,
            "move partition {number} from {from} to {to}, {bytes} bytes: {from} has {from_percent} % of its share"
        )
    }
}

/// What to move.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RebalancePlan {
    /// In this order.
    pub moves: Vec<Move>,
    /// The exceptions to commit, each after the moves of its partition are done and verified.
    pub pins: Pins,
    /// Nodes that stay above the bound because no move of theirs is possible.
    pub stuck: Vec<NodeId>,
    /// What the busiest node has of its share, in per cent, before and after.
    pub busiest_percent: (u64, u64),
}

impl RebalancePlan {
    /// All that would be copied.
    pub fn bytes(&self) -> u64 {
        self.moves.iter().fold(0, |sum, one| sum.saturating_add(one.size.bytes))
    }
}

/// Plans pins for partitions of these sizes, listed by number; those beyond the list weigh nothing.
pub fn rebalance(placer: &Placer<'_>, sizes: &[Size], options: Options) -> RebalancePlan {
    let mut state = State::new(placer, sizes, options);
    let mut plan = RebalancePlan::default();
    plan.busiest_percent.0 = state.busiest_percent();
    let mut has_moved = false;
    while plan.moves.len() < options.moves_max {
        match state.busiest(&plan.stuck).map(|from| (from, state.best_move(from))) {
            Some((_, Some(one))) => {
                let nodes = state.apply(&one);
                plan.pins.insert(Group::Partition(one.partition), nodes);
                plan.moves.push(one);
                has_moved = true;
            }
            Some((from, None)) => plan.stuck.push(from),
            // What moved since may have made room for others.
            None if std::mem::take(&mut has_moved) => plan.stuck.clear(),
            None => break,
        }
    }
    plan.busiest_percent.1 = state.busiest_percent();
    plan
}

/// One node's part.
#[derive(Clone, Copy, Default)]
struct Part {
    weight: u64,
    used: u64,
    free_bytes: u64,
}

struct State<'a> {
    placer: &'a Placer<'a>,
    options: Options,
    sizes: Vec<Size>,
    /// For each partition its nodes as the plan has them.
    nodes: Vec<Vec<NodeId>>,
    parts: BTreeMap<NodeId, Part>,
    used: u128,
    weight: u128,
}

impl<'a> State<'a> {
    fn new(placer: &'a Placer<'a>, sizes: &[Size], options: Options) -> Self {
        let table = placer.table();
        let nodes: Vec<Vec<NodeId>> =
            placer.map().partitions().map(|partition| table.nodes(partition).to_vec()).collect();
        let mut all_sizes = sizes.to_vec();
        all_sizes.resize(nodes.len(), Size::default());
        let candidates = placer.map().nodes().iter().filter(|node| placer.is_candidate(node.id));
        let part = |weight| Part { weight, ..Part::default() };
        let mut parts: BTreeMap<NodeId, Part> = candidates
            .map(|node| (node.id, Part { free_bytes: node.free_bytes, ..part(u64::from(node.weight())) }))
            .collect();
        for (nodes, size) in nodes.iter().zip(&all_sizes) {
            for node in nodes {
                let part = parts.entry(*node).or_default();
                part.used = part.used.saturating_add(options.measure.of(*size));
            }
        }
        let used = parts.values().map(|part| u128::from(part.used)).sum();
        let weight = parts.values().map(|part| u128::from(part.weight)).sum();
        Self { placer, options, sizes: all_sizes, nodes, parts, used, weight }
    }

    /// The most that a node may have, in the measure: its share by weight and the threshold on top.
    fn bound(&self, part: Part) -> u64 {
        let percent = 100 + u128::from(self.options.threshold_percent);
        let share = self.used.saturating_mul(u128::from(part.weight)) / self.weight.max(1);
        u64::try_from(share.saturating_mul(percent) / 100).unwrap_or(u64::MAX)
    }

    /// What a node has of its share.
    fn percent(&self, part: Part) -> u64 {
        let share = self.used.saturating_mul(u128::from(part.weight)) / self.weight.max(1);
        let percent = (u128::from(part.used) * 100).checked_div(share).unwrap_or(0);
        u64::try_from(percent).unwrap_or(u64::MAX)
    }

    fn busiest_percent(&self) -> u64 {
        self.parts.values().map(|part| self.percent(*part)).max().unwrap_or(0)
    }

    fn busiest(&self, stuck: &[NodeId]) -> Option<NodeId> {
        let over = self.parts.iter().filter(|(node, part)| part.used > self.bound(**part) && !stuck.contains(node));
        over.max_by_key(|(node, part)| (self.percent(**part), **node)).map(|(node, _)| *node)
    }

    /// The fewest bytes that end the excess; where one partition can't, the one that takes off most.
    fn best_move(&self, from: NodeId) -> Option<Move> {
        let part = *self.parts.get(&from)?;
        let excess = part.used - self.bound(part).min(part.used);
        let measure = |at: usize| self.options.measure.of(self.sizes[at]);
        let mut held: Vec<usize> = (0..self.nodes.len()).filter(|at| self.nodes[*at].contains(&from)).collect();
        held.retain(|at| measure(*at) > 0);
        held.sort_by_key(|at| {
            let (bytes, amount) = (self.sizes[*at].bytes, measure(*at));
            if amount >= excess { (0, bytes, amount) } else { (1, u64::MAX - amount, bytes) }
        });
        let mut targets: Vec<(u64, NodeId)> =
            self.parts.iter().map(|(node, part)| (self.percent(*part), *node)).collect();
        targets.sort_unstable();
        held.into_iter().find_map(|at| {
            let to = targets.iter().map(|(_, node)| *node).find(|to| self.may_move(at, from, *to))?;
            let partition = PartitionId(at as u32);
            Some(Move { partition, from, to, size: self.sizes[at], from_percent: self.percent(part) })
        })
    }

    /// Whether the target has room, stays within its own bound, and the set remains as good.
    fn may_move(&self, at: usize, from: NodeId, to: NodeId) -> bool {
        let Some(part) = self.parts.get(&to) else { return false };
        let size = self.sizes[at];
        let used = part.used.saturating_add(self.options.measure.of(size));
        !self.nodes[at].contains(&to)
            && size.bytes <= part.free_bytes
            && used <= self.bound(*part)
            && self.placer.accepts(&replaced(&self.nodes[at], from, to))
    }

    fn apply(&mut self, one: &Move) -> Vec<NodeId> {
        let amount = self.options.measure.of(one.size);
        if let Some(part) = self.parts.get_mut(&one.from) {
            part.used -= amount; // What it frees isn't counted: its copy stays until a cleanup.
        }
        if let Some(part) = self.parts.get_mut(&one.to) {
            part.used += amount;
            part.free_bytes -= one.size.bytes;
        }
        let nodes = &mut self.nodes[one.partition.0 as usize];
        *nodes = replaced(nodes, one.from, one.to);
        nodes.clone()
    }
}

fn replaced(nodes: &[NodeId], from: NodeId, to: NodeId) -> Vec<NodeId> {
    nodes.iter().map(|node| if *node == from { to } else { *node }).collect()
}
