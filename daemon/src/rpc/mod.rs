//! The node's RPC: Cap'n Proto over streams of `cairn_io`, on every core and every driver.
//!
//! What it is: connections, both ways, and what bounds them. The words are `cairn_schema`'s; what they do is the node's,
//! which implements the traits of [`service`].
//!
//! What it is not: it knows no object and no group, and keeps nothing when a connection ends. There is no encryption yet,
//! so [`Server::bind`] refuses what other machines can reach unless told otherwise; who calls proves to know a secret (`proof`).
//!
//! ```text
//!            bytes                      messages                        calls
//!   Stream ─▶ frame ─▶ network (traffic: what is under way) ─▶ capnp-rpc ─▶ serve ─▶ service traits
//!                                                                  ▲
//!                                          pool ─▶ peer ───────────┘
//! ```
//!
//! Invariants:
//! - Nobody is welcome without a proof, and no call is answered whose access key is gone by then.
//! - A peer costs at most what [`Limits`] say, whatever it sends or fails to read.
//! - Each call is answered at most once, with a result or an error that says what to do; a panic ends one call.
//! - A request whose deadline has passed is not worked on.

mod frame;
mod limits;
mod network;
mod peer;
mod pool;
mod proof;
mod serve;
mod server;
pub mod service;
mod traffic;

pub use limits::Limits;
pub use peer::Peer;
pub use pool::{Backoff, Pool};
pub use proof::Credential;
pub use server::{BindError, Exposure, Identity, Server};
pub use service::{Answering, Caller, Client, ControlService, KeyService, RaftService, Services, SlotService};
