//! The redundancy ledger: by failure domain, how many partitions and bytes are how far below policy, and how old the last
//! proof is. It is computed from an audit, never counted along: so it can't drift from the truth.

use std::collections::BTreeMap;
use std::fmt;

use super::audit::{Audit, Finding, Standing};
use super::inventory::Proof;
use crate::id::NodeId;
use crate::map::Map;
use crate::policy::{Policy, Redundancy, Spread};
use crate::select::Placer;

/// What may fail at once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Domain {
    /// A node.
    Node,
    /// All nodes with one value of this label. Nodes without it are taken to fail together.
    Label(String),
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => f.write_str("node"),
            Self::Label(label) => f.write_str(label),
        }
    }
}

/// Partitions that stand alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// How many.
    pub partitions: u64,
    /// Their bytes, each counted once.
    pub bytes: u64,
    /// The oldest proof among them; none if a copy among them was never proven.
    pub oldest_proof: Option<Proof>,
}

impl Bucket {
    fn add(&mut self, bytes: u64, proof: Option<Proof>) {
        self.oldest_proof = if self.partitions == 0 { proof } else { self.oldest_proof.min(proof) };
        self.partitions += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// One failure domain of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Of what failures it speaks.
    pub domain: Domain,
    /// How many of them the policy wants to bear.
    pub wanted: usize,
    /// By how many fewer can be borne: 0 is as wanted or better.
    pub short_by: BTreeMap<usize, Bucket>,
    /// What can't be read already.
    pub lost: Bucket,
}

impl Row {
    /// Whether everything bears as many failures as wanted.
    pub fn is_green(&self) -> bool {
        self.lost.partitions == 0 && self.short_by.keys().all(|short| *short == 0)
    }
}

/// The ledger of one policy: nodes first, then the labels it spreads over.
pub fn ledger(placer: &Placer<'_>, audit: &Audit) -> Vec<Row> {
    let policy = placer.policy();
    let redundancy = policy.redundancy;
    let parity = redundancy.width() - redundancy.enough();
    let mut rows = vec![row(placer, audit, Domain::Node, parity)];
    for spread in &policy.spread {
        rows.push(row(placer, audit, Domain::Label(spread.label.clone()), failures_wanted(policy, spread)));
    }
    rows
}

/// Whole copies under d values bear the loss of all but one. Pieces, spread as evenly as d values allow, bear as many
/// values as their largest shares fit into the parity.
fn failures_wanted(policy: &Policy, spread: &Spread) -> usize {
    let distinct = usize::from(spread.distinct).max(1);
    match policy.redundancy {
        Redundancy::Copies(_) => distinct - 1,
        Redundancy::Pieces { parity, .. } => usize::from(parity) / policy.redundancy.width().div_ceil(distinct).max(1),
    }
}

fn row(placer: &Placer<'_>, audit: &Audit, domain: Domain, wanted: usize) -> Row {
    let redundancy = placer.policy().redundancy;
    let mut row = Row { domain, wanted, short_by: BTreeMap::new(), lost: Bucket::default() };
    for finding in &audit.findings {
        let bucket = if finding.standing == Standing::Lost {
            &mut row.lost
        } else {
            let borne = failures_borne(placer.map(), finding, redundancy, &row.domain);
            row.short_by.entry(wanted.saturating_sub(borne)).or_default()
        };
        bucket.add(finding.bytes, finding.oldest_proof(redundancy));
    }
    row
}

/// How many values of a domain may fail, whichever they are, with enough left to read.
pub fn failures_borne(map: &Map, finding: &Finding, redundancy: Redundancy, domain: &Domain) -> usize {
    let counted = finding.counted(redundancy);
    let mut shares: BTreeMap<Key<'_>, usize> = BTreeMap::new();
    for held in &counted {
        *shares.entry(key(map, held.node, domain)).or_default() += 1;
    }
    let mut shares: Vec<usize> = shares.into_values().collect();
    shares.sort_unstable_by(|a, b| b.cmp(a));
    let mut spare = counted.len().saturating_sub(redundancy.enough());
    let borne = shares.iter().take_while(|share| match spare.checked_sub(**share) {
        Some(left) => {
            spare = left;
            true
        }
        None => false,
    });
    borne.count()
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key<'a> {
    Node(NodeId),
    Value(Option<&'a String>),
}

fn key<'a>(map: &'a Map, node: NodeId, domain: &Domain) -> Key<'a> {
    match domain {
        Domain::Node => Key::Node(node),
        Domain::Label(label) => Key::Value(map.node(node).and_then(|node| node.labels.get(label))),
    }
}
