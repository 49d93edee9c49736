//! One face for disk, network, time, tasks and cores, and the drivers behind it.
//!
//! What it is: everything nondeterministic or kernel-made that Cairn uses. A program written against this
//! crate runs on bare metal (glommio), in a container that forbids `io_uring` (monoio on epoll), and in a
//! deterministic world made from a seed (`sim`), without a line changed.
//!
//! What it is not: it knows no key and no peer, and has no opinion on protocols. The one format it knows is that of
//! the chunk log ([`log`]), which is written the way it is because of what disks and `io_uring` do.
//!
//! ```text
//!   task  time  fs  net  mesh  blocking  rng  Block        the face: concrete types
//!     │     │    │   │     │       │
//!   exec  timers │   │   queues  threads                   shared by all drivers
//!     │     │    │   │     │
//!   ┌─┴─────┴────┴───┴─────┴─┐   ┌──────────────────┐
//!   │ glommio  │  monoio     │   │ sim: one world,  │      drivers: park, wake, readiness, alarm
//!   │   + one ring per core  │   │ one seed         │
//!   └────────────────────────┘   └──────────────────┘
//! ```
//!
//! Invariants:
//! - A future made on a core is polled and dropped on that core only.
//! - A panic in a task is an error for whoever joins it; it never ends the core.
//! - Every queue and pool is bounded; at the bound one waits.
//! - In `sim`, a run is a function of its seed.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this crate is what everybody else is told to use instead"
)]

pub mod block;
pub mod blocking;
pub mod fs;
pub mod lines;
pub mod log;
pub mod mesh;
pub mod net;
pub mod rng;
pub mod shutdown;
pub mod task;
pub mod time;

mod bell;
mod core;
mod driver;
mod exec;
mod limit;
mod runtime;

#[cfg(feature = "reference")]
pub mod reference;
#[cfg(feature = "sim")]
pub mod sim;

pub use bell::Bell;
pub use block::{Block, BlockMut};
pub use runtime::{Config, CoreId, DriverChoice, Pin, StartError, cores, driver_line, here, run, run_one};
pub use shutdown::Shutdown;
