//! What a topology can't give of a policy, said precisely.

use std::collections::BTreeMap;
use std::fmt;

use super::topology::Topology;
use crate::id::NodeId;
use crate::map::NodeState;
use crate::policy::{Need, Policy};

/// Why a node may hold nothing new.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exclusion {
    /// It is in this state.
    State(NodeState),
    /// Its weight is set to 0.
    NoWeight,
    /// This selector of the policy keeps it out.
    Forbidden(String),
}

impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(state) => write!(f, "{state}"),
            Self::NoWeight => f.write_str("of weight 0"),
            Self::Forbidden(selector) => write!(f, "kept out by `{selector}`"),
        }
    }
}

/// A part of a policy that the topology can't give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Too few nodes.
    Nodes {
        /// How many the policy wants.
        wanted: usize,
        /// How many there are.
        possible: usize,
        /// The others, counted by what keeps them out.
        excluded: Vec<(Exclusion, usize)>,
    },
    /// Too few different values of a label, together with everything of higher rank in the policy.
    Distinct {
        /// The label.
        label: String,
        /// How strictly the policy means it.
        need: Need,
        /// How many different values the policy wants.
        wanted: usize,
        /// How many can be had.
        possible: usize,
        /// The values that candidates have.
        values: Vec<String>,
    },
}

impl Missing {
    /// Whether data counts as below policy for it.
    pub fn need(&self) -> Need {
        match self {
            Self::Nodes { .. } => Need::Required,
            Self::Distinct { need, .. } => *need,
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nodes { wanted, possible, excluded } => {
                write!(f, "{wanted} nodes wanted, {possible} may be chosen")?;
                excluded.iter().try_for_each(|(why, count)| write!(f, ", {count} {why}"))?;
                f.write_str("; add nodes or lower the redundancy")
            }
            Self::Distinct { label, need, wanted, possible, values } => {
                write!(f, "{wanted} different values of `{label}` wanted ({need}), {possible} possible")?;
                match values.as_slice() {
                    [] => write!(f, "; no node that may be chosen carries the label")?,
                    some => write!(f, "; there are: {}", shortened(some))?,
                }
                write!(f, "; add nodes with other values or lower `distinct`")
            }
        }
    }
}

/// The first few, and how many more.
fn shortened(values: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown = values.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if values.len() > SHOWN { format!("{shown} and {} more", values.len() - SHOWN) } else { shown }
}

pub(super) fn list(
    policy: &Policy,
    width: usize,
    topology: &Topology,
    excluded: &[(NodeId, Exclusion)],
) -> Vec<Missing> {
    let mut missing = Vec::new();
    let wanted = policy.redundancy.width();
    if width < wanted {
        let mut counts = BTreeMap::new();
        excluded.iter().for_each(|(_, why)| *counts.entry(why.clone()).or_default() += 1);
        missing.push(Missing::Nodes { wanted, possible: width, excluded: counts.into_iter().collect() });
    }
    for (at, spread) in policy.spread.iter().enumerate() {
        let (wanted, possible) = (usize::from(spread.distinct), topology.target(at));
        if possible < wanted {
            let (label, need, values) = (spread.label.clone(), spread.need, topology.values(at).to_vec());
            missing.push(Missing::Distinct { label, need, wanted, possible, values });
        }
    }
    missing
}
