//! What the kernel can do without us: the loops that Cairn's own figures are compared with.
//!
//! Behind the cargo feature `reference`, for `cairn bench` and `benches/` alone. It stands beside the face and shares
//! nothing with it, so that a fault of ours slows down one side only. It holds every system call, thread and clock
//! that comparing needs; its callers need none.

mod disk;
mod durable;
mod machine;
mod memory;
mod net;
mod queue;
mod remote;
mod watch;

pub use disk::{Load, Offsets, Operation, Order, Place, Scratch, ScratchError};
pub use durable::{Calls, Durable, ScratchDir};
pub use machine::Machine;
pub use memory::alloc_and_free;
pub use net::{EchoServer, MESSAGE_BYTES, Sink, echo_crowd, echo_laps, send};
pub use queue::{queue_round_trips, queue_throughput};
pub use remote::RemoteCore;
pub use watch::{Laps, Stop, Tally, Watch};
