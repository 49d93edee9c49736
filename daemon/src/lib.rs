//! The node: what is composed of the crates below it.
//!
//! Today that is the frame in which every background worker of the node runs ([`actor`]), the storage of one lane
//! ([`lane`]), the node's disks with all their lanes ([`disks`]), the Raft groups that agree on metadata ([`slot`]), and
//! the connections between nodes and with clients ([`rpc`]).

#![forbid(unsafe_code)]

pub mod actor;
pub mod disks;
pub mod lane;
pub mod rpc;
pub mod slot;
