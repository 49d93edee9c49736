//! Plans of faults: drawn from a seed, written as text, and made smaller while they still break something.

use std::fmt;
use std::str::FromStr;

use super::fault::{Fault, FaultKind, Field, ParseFaultError};
use super::node::NodeId;
use crate::rng::Rng;
use crate::time::Duration;

/// Faults and when they strike. As text: one a line, the time first; `#` begins a remark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan {
    faults: Vec<(Duration, Fault)>,
}

impl FaultPlan {
    /// Nothing goes wrong.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a fault.
    #[must_use]
    pub fn with(mut self, at: Duration, fault: Fault) -> Self {
        self.faults.push((at, fault));
        self.sort();
        self
    }

    /// The faults in order of time.
    pub fn faults(&self) -> &[(Duration, Fault)] {
        &self.faults
    }

    /// How many faults.
    pub fn len(&self) -> usize {
        self.faults.len()
    }

    /// Whether nothing goes wrong.
    pub fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    fn sort(&mut self) {
        self.faults.sort_by_key(|(at, _)| *at);
    }

    /// Draws a plan.
    pub fn random(rng: &mut Rng, profile: &Profile) -> Self {
        let mut plan = Self::new();
        if profile.kinds.is_empty() || profile.nodes.is_empty() {
            return plan;
        }
        let count = rng.below(u64::from(profile.faults_max) + 1);
        for _ in 0..count {
            let at = rng.below(millis(profile.span) + 1);
            let kind = profile.kinds[draw_place(rng, profile.kinds.len())];
            plan.faults.push((Duration::from_millis(at), profile.draw(rng, kind)));
        }
        plan.sort();
        plan
    }

    /// A smaller plan for which `fails` still holds: first faults are left out, in halves and then one by one, then
    /// what is left is made shorter. The same plan if it doesn't fail.
    #[must_use]
    pub fn shrink(&self, mut fails: impl FnMut(&FaultPlan) -> bool) -> Self {
        if !fails(self) {
            return self.clone();
        }
        let mut best = self.clone();
        let mut chunk = best.len().div_ceil(2);
        while chunk > 0 && !best.is_empty() {
            if !best.leave_out(chunk, &mut fails) {
                chunk /= 2;
            }
            chunk = chunk.min(best.len());
        }
        best.shorten(&mut fails);
        best
    }

    /// Tries to do without each run of `chunk` faults; whether any could be spared.
    fn leave_out(&mut self, chunk: usize, fails: &mut impl FnMut(&FaultPlan) -> bool) -> bool {
        let mut spared = false;
        let mut from = 0;
        while from < self.len() {
            let mut candidate = self.clone();
            candidate.faults.drain(from..(from + chunk).min(self.len()));
            if fails(&candidate) {
                *self = candidate;
                spared = true;
            } else {
                from += chunk;
            }
        }
        spared
    }

    /// Halves how long each fault lasts for as long as that changes nothing, a few times at most.
    fn shorten(&mut self, fails: &mut impl FnMut(&FaultPlan) -> bool) {
        for place in 0..self.len() {
            for _ in 0..4 {
                let Some(shorter) = halved(&self.faults[place].1) else { break };
                let mut candidate = self.clone();
                candidate.faults[place].1 = shorter;
                if !fails(&candidate) {
                    break;
                }
                *self = candidate;
            }
        }
    }
}

/// The fault, lasting half as long; `None` where it makes no difference.
fn halved(fault: &Fault) -> Option<Fault> {
    let mut shorter = fault.clone();
    let (Fault::PowerCut { lasting, .. }
    | Fault::Kill { lasting, .. }
    | Fault::Pause { lasting, .. }
    | Fault::Cut { lasting, .. }
    | Fault::Partition { lasting, .. }
    | Fault::Isolate { lasting, .. }
    | Fault::SlowLink { lasting, .. }
    | Fault::DatagramNoise { lasting, .. }
    | Fault::DiskFull { lasting, .. }
    | Fault::SlowDisk { lasting, .. }
    | Fault::ReadOnly { lasting, .. }
    | Fault::LoseDisk { lasting, .. }) = &mut shorter
    else {
        return None;
    };
    let half = millis(*lasting) / 2;
    *lasting = Duration::from_millis(half);
    (half > 0).then_some(shorter)
}

impl fmt::Display for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.faults.iter().try_for_each(|(at, fault)| writeln!(f, "{} {fault}", at.show()))
    }
}

impl FromStr for FaultPlan {
    type Err = ParseFaultError;

    fn from_str(text: &str) -> Result<Self, ParseFaultError> {
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        let faults = lines.filter(|line| !line.is_empty()).map(parse_line).collect::<Result<_, _>>()?;
        let mut plan = Self { faults };
        plan.sort();
        Ok(plan)
    }
}

fn parse_line(line: &str) -> Result<(Duration, Fault), ParseFaultError> {
    let (at, fault) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let at = Duration::parse(at).ok_or_else(|| ParseFaultError {
        text: line.to_owned(),
        reason: "it doesn't begin with a time such as 1500ms".to_owned(),
    })?;
    Ok((at, fault.trim().parse()?))
}

/// What plans are drawn from.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Which nodes may suffer.
    pub nodes: Vec<NodeId>,
    /// How many disks each of them has.
    pub disks: usize,
    /// Faults strike within this time.
    pub span: Duration,
    /// The most faults in a plan; some plans have few.
    pub faults_max: u32,
    /// The longest that a fault lasts.
    pub lasting_max: Duration,
    /// Which kinds; one that is listed twice comes twice as often.
    pub kinds: Vec<FaultKind>,
}

impl Profile {
    /// Every kind of fault, up to twenty of them, each at most a third of `span`.
    pub fn all(nodes: &[NodeId], disks: usize, span: Duration) -> Self {
        let kinds = FaultKind::ALL.to_vec();
        Self { nodes: nodes.to_vec(), disks, span, faults_max: 20, lasting_max: span / 3, kinds }
    }

    /// Only these kinds.
    #[must_use]
    pub fn only(mut self, kinds: &[FaultKind]) -> Self {
        self.kinds = kinds.to_vec();
        self
    }

    /// All but these kinds.
    #[must_use]
    pub fn without(mut self, kinds: &[FaultKind]) -> Self {
        self.kinds.retain(|kind| !kinds.contains(kind));
        self
    }

    fn draw(&self, rng: &mut Rng, kind: FaultKind) -> Fault {
        let node = self.draw_node(rng);
        let other = self.draw_other(rng, node);
        let disk = draw_place(rng, self.disks.max(1));
        let lasting = self.draw_lasting(rng);
        let count = 1 + u32::try_from(rng.below(3)).expect("below 3");
        match kind {
            FaultKind::PowerCut => Fault::PowerCut { node, lasting },
            FaultKind::Kill => Fault::Kill { node, lasting },
            FaultKind::Pause => Fault::Pause { node, lasting },
            FaultKind::ClockJump => Fault::ClockJump { node, by_ms: draw_signed(rng, 3_600_000) },
            FaultKind::ClockDrift => Fault::ClockDrift { node, ppm: draw_signed(rng, 100_000) },
            FaultKind::Cut => Fault::Cut { from: node, to: other, lasting },
            FaultKind::Partition => Fault::Partition { a: node, b: other, lasting },
            FaultKind::Isolate => Fault::Isolate { node, lasting },
            FaultKind::Reset => Fault::Reset { a: node, b: other },
            FaultKind::SlowLink => Fault::SlowLink { from: node, to: other, factor: 10 * count, lasting },
            FaultKind::DatagramNoise => Fault::DatagramNoise {
                from: node,
                to: other,
                loss: 200_000 * count,
                duplicate: 100_000 * count,
                lasting,
            },
            FaultKind::BitRot => Fault::BitRot { node, disk, pages: count },
            FaultKind::MisdirectWrites => Fault::MisdirectWrites { node, disk, count },
            FaultKind::LoseWrites => Fault::LoseWrites { node, disk, count },
            FaultKind::ReadErrors => Fault::ReadErrors { node, disk, count },
            FaultKind::WriteErrors => Fault::WriteErrors { node, disk, count },
            FaultKind::SyncErrors => Fault::SyncErrors { node, disk, count },
            FaultKind::DiskFull => Fault::DiskFull { node, disk, lasting },
            FaultKind::SlowDisk => {
                Fault::SlowDisk { node, disk, extra: Duration::from_millis(5 * u64::from(count)), lasting }
            }
            FaultKind::ReadOnly => Fault::ReadOnly { node, disk, lasting },
            FaultKind::LoseDisk => Fault::LoseDisk { node, disk, lasting },
        }
    }

    fn draw_node(&self, rng: &mut Rng) -> NodeId {
        self.nodes[draw_place(rng, self.nodes.len())]
    }

    /// Another node than `node`, where there is one.
    fn draw_other(&self, rng: &mut Rng, node: NodeId) -> NodeId {
        let others: Vec<NodeId> = self.nodes.iter().copied().filter(|other| *other != node).collect();
        if others.is_empty() { node } else { others[draw_place(rng, others.len())] }
    }

    /// Mostly short, sometimes up to the most: both a blink and a long night find bugs.
    fn draw_lasting(&self, rng: &mut Rng) -> Duration {
        let most = millis(self.lasting_max).max(1);
        let most = if rng.chance(500_000) { most } else { most.div_ceil(10) };
        Duration::from_millis(1 + rng.below(most))
    }
}

fn draw_place(rng: &mut Rng, len: usize) -> usize {
    usize::try_from(rng.below(len as u64)).expect("a place in memory")
}

fn draw_signed(rng: &mut Rng, most: i64) -> i64 {
    let width = most.unsigned_abs() * 2 + 1;
    i64::try_from(rng.below(width)).expect("a small number") - most
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(seed: u64) -> FaultPlan {
        let nodes = [NodeId(0), NodeId(1), NodeId(2)];
        FaultPlan::random(&mut Rng::from_seed(seed), &Profile::all(&nodes, 2, Duration::from_secs(30)))
    }

    #[test]
    fn a_plan_is_read_as_it_is_written() {
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let plan = draw(seed);
            kinds.extend(plan.faults().iter().map(|(_, fault)| fault.kind()));
            assert_eq!(plan.to_string().parse(), Ok(plan));
        }
        assert_eq!(kinds.len(), FaultKind::ALL.len(), "every kind is drawn sometime");
        let remarked = "# why\n\n 2s kill node=n1 lasting=10ms # here\n1ms reset a=n0 b=n2\n";
        assert_eq!(
            remarked.parse::<FaultPlan>().unwrap().to_string(),
            "1ms reset a=n0 b=n2\n2s kill node=n1 lasting=10ms\n"
        );
    }

    #[test]
    fn shrinking_finds_the_two_faults_that_matter() {
        let kill = |node| Fault::Kill { node: NodeId(node), lasting: Duration::from_secs(8) };
        let mut plan = (0..40).map(draw).find(|plan| plan.len() > 12).unwrap();
        plan = plan.with(Duration::from_secs(3), kill(7)).with(Duration::from_secs(9), kill(8));
        let kills = |plan: &FaultPlan, node| {
            plan.faults().iter().any(|(_, fault)| matches!(fault, Fault::Kill { node: NodeId(it), .. } if *it == node))
        };
        let mut tries = 0;
        let small = plan.shrink(|plan| {
            tries += 1;
            kills(plan, 7) && kills(plan, 8)
        });
        assert_eq!(small.to_string(), "3s kill node=n7 lasting=500ms\n9s kill node=n8 lasting=500ms\n");
        assert!(tries < 100, "{tries} tries");
    }

    #[test]
    fn a_plan_that_does_not_fail_is_left_alone() {
        let plan = draw(3);
        assert_eq!(plan.shrink(|_| false), plan);
    }
}
