//! Plans: what follows from what should be held and what is. A plan is a value: shown first, executed elsewhere.
//!
//! ```text
//!   Inventory ── audit ──► Audit ── repair ──► copies to make, most endangered first
//!   (reports of nodes)       ├──── cleanup ──► copies to drop, never below policy
//!                            └──── ledger ───► how far below policy, by failure domain
//!
//!   sizes and loads ────── rebalance ─────────► pins
//!   a change of nodes ──── change ────────────► what would move, and whether it can
//! ```

pub mod audit;
pub mod change;
pub mod cleanup;
pub mod inventory;
pub mod ledger;
pub mod rebalance;
pub mod repair;

pub use audit::{Audit, Finding, audit};
pub use inventory::{Digest, Holding, Inventory, Proof};
