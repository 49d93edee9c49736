//! Ranking: in which order nodes are asked to hold a group. Strategies behind one trait.

mod modulo;
mod rendezvous;
mod ring;

use serde::{Deserialize, Serialize};

pub use modulo::Modulo;
pub use rendezvous::Rendezvous;
pub use ring::Ring;

use crate::id::{Group, NodeId};

/// A node that may be chosen. Where candidates stand in a list, they stand in the order of their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub id: NodeId,
    /// Its share; not 0.
    pub weight: u32,
}

/// A way of ranking candidates, made for one list of them.
pub trait Rank: Send + Sync {
    /// Puts the first `count` candidates for a group into `best`, best first, as places in the list of candidates.
    /// Fewer only if there are fewer candidates. A higher count gives the same list, longer.
    fn best(&self, group: Group, count: usize, best: &mut Vec<u32>);
}

/// Which way of ranking a map uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// By the score of each pair: weights exact, nothing moves without need.
    #[default]
    Rendezvous,
    /// By the next tokens on a circle: cheap with very many nodes, uneven, moves as little.
    Ring {
        /// A node has one token for so much weight (GiB of capacity): 1 to 4096 of them.
        weight_per_token: u32,
    },
    /// Node number `group mod nodes` and those after it. Ignores weights, and almost everything moves when a node
    /// comes or goes: for comparison, and for clusters that never change.
    Modulo,
}

impl Strategy {
    /// Prepares it for these candidates, who stand in the order of their ids.
    pub fn prepare(self, candidates: &[Candidate]) -> Box<dyn Rank> {
        match self {
            Self::Rendezvous => Box::new(Rendezvous::new(candidates)),
            Self::Ring { weight_per_token } => Box::new(Ring::new(candidates, weight_per_token)),
            Self::Modulo => Box::new(Modulo::new(candidates.len())),
        }
    }
}
