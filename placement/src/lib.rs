//! Who should hold what, and the plans that follow from it.
//!
//! Pure functions: the same values in, the same decision out, on every machine and in every build. This crate knows no
//! disk, socket, clock, thread or random number, and decides nothing by floating point; what it needs to know comes as
//! a value, and what should happen leaves as one.
//!
//! ```text
//!   Map ── nodes, labels, states, policies, pins
//!    │
//!   rank ── for each group an order of all nodes (score, ring, modulo)
//!    │
//!   select ── the first nodes in that order which meet the policy; what is missing, if none can
//!    │
//!   plan ── from what is held: audit, ledger, repair, cleanup, rebalance, change of nodes
//!    │
//!   simulate ── what all that implies, counted: for people who plan a cluster
//!
//!   lanes ── within a node: which lane a chunk belongs to, by the same score
//! ```
//!
//! Invariants: a selection depends on the map's content only, never on the order in which it was told; nodes that may
//! not be given data never are; constraints hold whenever the topology can meet them, and otherwise the result says
//! which don't. `docs/placement.md` specifies the score to the bit.

#![forbid(unsafe_code)]

pub mod id;
pub mod lanes;
pub mod map;
pub mod plan;
pub mod policy;
pub mod rank;
pub mod score;
pub mod select;
pub mod selector;
pub mod simulate;

pub use id::{Epoch, Group, NodeId, PartitionId, SlotId};
pub use map::{Map, Node, NodeState};
pub use select::{Placer, Selection};
