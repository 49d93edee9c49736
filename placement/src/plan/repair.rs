//! Repair: which copies to make, from where, in which order: most endangered first, within limits for nodes and links.

use std::collections::BTreeMap;
use std::fmt;

use super::audit::{Audit, Finding, Lack, LackKind, Standing, Worth};
use crate::id::{NodeId, PartitionId};
use crate::policy::Redundancy;
use crate::select::Placer;

/// How many transfers may run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From one node.
    pub per_source: u32,
    /// To one node.
    pub per_target: u32,
    /// From one node to one other.
    pub per_link: u32,
}

impl Default for Limits {
    /// Two from and to each node, one on each link.
    fn default() -> Self {
        Self { per_source: 2, per_target: 2, per_link: 1 }
    }
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Copies everything from one node.
    Copy,
    /// Computes a piece from others, one from each source.
    Rebuild,
    /// Compares chunk by chunk with the source and exchanges what differs, both ways; `bytes` is the most it can be.
    Sync,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Steps of a round may run at once; a round begins when the one before it is done.
    pub round: u32,
    /// Of this partition,
    pub partition: PartitionId,
    /// this piece (0 of whole copies)
    pub piece: u8,
    /// is made in this way
    pub action: Action,
    /// from what these hold
    pub from: Vec<NodeId>,
    /// on this node,
    pub to: NodeId,
    /// which takes so much room,
    pub bytes: u64,
    /// because it stands so with the partition.
    pub why: Standing,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.action {
            Action::Copy => "copy",
            Action::Rebuild => "rebuild a piece of",
            Action::Sync => "compare and complete",
        };
        let from: Vec<String> = self.from.iter().map(NodeId::to_string).collect();
        let (partition, to, bytes, why) = (self.partition.0, self.to, self.bytes, self.why);
        write!(f, "{verb} partition {partition} from {} to {to}, {bytes} bytes: {why}", from.join(", "))
    }
}

/// Something that can't be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Of this partition
    pub partition: PartitionId,
    /// nothing can be made on this node,
    pub to: NodeId,
    /// because of this.
    pub why: Obstacle,
}

/// What stands in the way of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Fewer good sources than it takes.
    NoSource {
        /// Good ones there are.
        have: usize,
        /// How many it takes.
        need: usize,
    },
    /// Too little free space on the target, counting what the plan already gives it.
    NoRoom {
        /// What would still be free.
        free: u64,
        /// What it takes.
        need: u64,
    },
    /// A limit of 0 forbids any transfer.
    Forbidden,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSource { have, need } => {
                write!(f, "{have} good sources within reach, {need} needed: bring back a node that holds it")
            }
            Self::NoRoom { free, need } => write!(f, "{free} bytes free, {need} needed: run a cleanup or add a disk"),
            Self::Forbidden => f.write_str("a limit of 0 forbids any transfer: raise it"),
        }
    }
}

/// What to do, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairPlan {
    /// By round; within one, most endangered first.
    pub steps: Vec<Step>,
    /// What has to wait for people or for a cleanup.
    pub blocked: Vec<Blocked>,
}

impl RepairPlan {
    /// All that would be written.
    pub fn bytes(&self) -> u64 {
        self.steps.iter().fold(0, |sum, step| sum.saturating_add(step.bytes))
    }
}

/// Plans how to make what an audit found missing.
pub fn repair(placer: &Placer<'_>, audit: &Audit, limits: Limits) -> RepairPlan {
    let mut lacking: Vec<(&Finding, &Lack)> =
        audit.findings.iter().flat_map(|finding| finding.missing.iter().map(move |lack| (finding, lack))).collect();
    lacking.sort_by_key(|(finding, _)| (finding.standing, finding.partition));
    let mut planner = Planner { placer, limits, calendar: Calendar::default(), incoming: BTreeMap::new() };
    let mut plan = RepairPlan::default();
    for (finding, lack) in lacking {
        match planner.step(finding, lack) {
            Ok(step) => plan.steps.push(step),
            Err(why) => plan.blocked.push(Blocked { partition: finding.partition, to: lack.node, why }),
        }
    }
    plan.steps.sort_by_key(|step| step.round); // Stable: most endangered first within a round.
    plan
}

struct Planner<'a> {
    placer: &'a Placer<'a>,
    limits: Limits,
    calendar: Calendar,
    /// Bytes that the plan gives each node.
    incoming: BTreeMap<NodeId, u64>,
}

impl Planner<'_> {
    fn step(&mut self, finding: &Finding, lack: &Lack) -> Result<Step, Obstacle> {
        let action = match (lack.kind, self.placer.policy().redundancy) {
            (LackKind::Differs, _) => Action::Sync,
            (LackKind::Absent, Redundancy::Copies(_)) => Action::Copy,
            (LackKind::Absent, Redundancy::Pieces { .. }) => Action::Rebuild,
        };
        let (sources, action) = self.sources(finding, lack, action)?;
        let Limits { per_source, per_target, per_link } = self.limits;
        if per_source == 0 || per_target == 0 || per_link == 0 {
            return Err(Obstacle::Forbidden);
        }
        self.reserve(lack.node, finding.bytes)?;
        let need = if action == Action::Rebuild { self.placer.policy().redundancy.enough() } else { 1 };
        let (round, from) = self.calendar.book(&sources, need, lack.node, self.limits);
        let Finding { partition, bytes, standing: why, .. } = *finding;
        Ok(Step { round, partition, piece: lack.piece, action, from, to: lack.node, bytes, why })
    }

    /// Who can give it. A piece that exists elsewhere is copied rather than computed.
    fn sources(&self, finding: &Finding, lack: &Lack, action: Action) -> Result<(Vec<NodeId>, Action), Obstacle> {
        let redundancy = self.placer.policy().redundancy;
        let good = finding.held.iter().filter(|held| held.worth == Worth::Good && held.node != lack.node);
        let whole: Vec<NodeId> = good.filter(|held| held.piece == lack.piece).map(|held| held.node).collect();
        let (have, need, action) = match action {
            Action::Rebuild if !whole.is_empty() => (whole, 1, Action::Copy),
            Action::Rebuild => {
                let pieces = finding.counted(redundancy).into_iter().map(|held| held.node);
                (pieces.filter(|node| *node != lack.node).collect(), redundancy.enough(), Action::Rebuild)
            }
            Action::Sync if whole.is_empty() => {
                let any = finding.counted(redundancy).into_iter().map(|held| held.node);
                (any.filter(|node| *node != lack.node).collect(), 1, Action::Sync)
            }
            other => (whole, 1, other),
        };
        if have.len() < need {
            return Err(Obstacle::NoSource { have: have.len(), need });
        }
        Ok((have, action))
    }

    fn reserve(&mut self, to: NodeId, need: u64) -> Result<(), Obstacle> {
        let free = self.placer.map().node(to).map_or(0, |node| node.free_bytes);
        let incoming = self.incoming.entry(to).or_default();
        let free = free.saturating_sub(*incoming);
        if need > free {
            return Err(Obstacle::NoRoom { free, need });
        }
        *incoming += need;
        Ok(())
    }
}

/// Who does how much in which round.
#[derive(Default)]
struct Calendar {
    sending: BTreeMap<(u32, NodeId), u32>,
    receiving: BTreeMap<(u32, NodeId), u32>,
    links: BTreeMap<(u32, NodeId, NodeId), u32>,
    /// Before this round a target has no place left.
    open: BTreeMap<NodeId, u32>,
}

impl Calendar {
    /// The first round in which the target has a place and `need` of the sources have; the least busy ones of them.
    fn book(&mut self, sources: &[NodeId], need: usize, to: NodeId, limits: Limits) -> (u32, Vec<NodeId>) {
        let mut round = self.open.get(&to).copied().unwrap_or(0);
        loop {
            let busy = |node: NodeId| self.sending.get(&(round, node)).copied().unwrap_or(0);
            let linked = |node: NodeId| self.links.get(&(round, node, to)).copied().unwrap_or(0);
            let idle = |node: &NodeId| busy(*node) < limits.per_source && linked(*node) < limits.per_link;
            let mut able: Vec<NodeId> = sources.iter().copied().filter(idle).collect();
            if able.len() >= need {
                able.sort_by_key(|node| busy(*node));
                able.truncate(need);
                self.note(round, &able, to, limits);
                return (round, able);
            }
            round += 1;
            while self.receiving.get(&(round, to)).is_some_and(|count| *count >= limits.per_target) {
                round += 1;
            }
        }
    }

    fn note(&mut self, round: u32, sources: &[NodeId], to: NodeId, limits: Limits) {
        for node in sources {
            *self.sending.entry((round, *node)).or_default() += 1;
            *self.links.entry((round, *node, to)).or_default() += 1;
        }
        *self.receiving.entry((round, to)).or_default() += 1;
        let mut open = self.open.get(&to).copied().unwrap_or(0);
        while self.receiving.get(&(open, to)).is_some_and(|count| *count >= limits.per_target) {
            open += 1;
        }
        self.open.insert(to, open);
    }
}
