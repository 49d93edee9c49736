//! The node: what is composed of the crates below it.
//!
//! Today that is the frame in which every background worker of the node runs; see [`actor`].

#![forbid(unsafe_code)]

pub mod actor;
