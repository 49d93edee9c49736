//! The node: what is composed of the crates below it.
//!
//! Today that is the frame in which every background worker of the node runs ([`actor`]), and the storage of one disk's
//! lane ([`lane`]).

#![forbid(unsafe_code)]

pub mod actor;
pub mod lane;
