//! A cluster of one, on real files: buckets, objects and lists, and all of it again after a restart; and what its clients get by RPC.

#![allow(clippy::disallowed_methods, reason = "it takes disks away behind the node's back")]

mod alone;
mod clients;
mod place;
mod relocate;
