//! The node: what is composed of the crates below it.
//!
//! ```text
//!   config ─► node ─┬─► each core: s3, clients ─► cluster ─► slot ─► disks ─► lane      actor
//!                   │                      └─► line (other cores), rpc (other nodes)
//!                   ├─► core 0: manage ─► http
//!                   └─► trace: a line for each event
//! ```
//!
//! [`actor`] is the frame in which every background worker of the node runs; [`lane`] stores on one disk, [`disks`] on all
//! disks of the node; [`http`] serves requests, [`manage`] is the management API. [`node`] puts them together as [`config`]
//! says, and [`trace`] is its log. [`slot`] are the Raft groups that agree on metadata, [`cluster`] what a core of a node can ask of them, here and
//! elsewhere, [`rpc`] the connections between nodes and from clients, [`s3`] the gateway, and [`clients`] what those of RPC get.

#![forbid(unsafe_code)]
// NOTE: from a node's main future down to a write of an actor, futures nest deeper than the usual 128.
#![recursion_limit = "256"]

pub mod actor;
pub mod clients;
pub mod cluster;
pub mod config;
pub mod disks;
pub mod http;
pub mod lane;
mod line;
pub mod manage;
pub mod node;
mod private;
pub mod rpc;
pub mod s3;
pub mod slot;
pub mod trace;
