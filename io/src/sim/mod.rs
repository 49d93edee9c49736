//! The deterministic world: any number of nodes, their disks and the network between them, from one seed.
//!
//! What it is: a driver behind the same face as the real ones. Each simulated core is a core of `io` with its
//! own run queues, timers, pool and random numbers; a program can't tell the difference, except that nothing takes
//! real time and everything that can go wrong does.
//!
//! What it is not: a model of performance. Latencies and bandwidths are there to make orders of events happen, not to
//! predict a figure. It creates no threads and reads no clock.
//!
//! ```text
//!   World ── seed, FaultPlan ──▶ schedule: next event, or a ready task drawn from all cores
//!     │                             │
//!     ├─ node: lives, cores, clock ─┤        time jumps to the next event; a poll costs a little of it
//!     ├─ disk: names, pages, what a crash leaves of them
//!     ├─ net:  links, TCP, UDP
//!     └─ trace: a hash over everything that happened, and the last of it for people
//! ```
//!
//! Invariants:
//! - A run is a function of the seed, the programs and the plan: no address, real clock, random hash or thread.
//! - What was synced successfully survives every crash; only faults that say so (rot, lost disks) take it away.
//! - Nothing of a life that ended acts on a later one.

mod clock;
mod config;
mod disk;
mod fault;
mod net;
mod node;
mod plan;
mod promise;
mod schedule;
mod shared;
mod trace;
mod world;

#[cfg(test)]
mod tests;

pub use config::{DiskConfig, Latency, NetConfig, NodeConfig, WorldConfig};
pub use disk::{Scar, Scars};
pub use fault::{Fault, FaultKind, ParseFaultError};
pub use node::{NodeId, Program, Status};
pub use plan::{FaultPlan, Profile};
pub use trace::Stats;
pub use world::World;

pub(crate) use disk::{Dir, File};
pub(crate) use net::{Datagram, Listener, Stream};
pub(crate) use node::NodeCore;
