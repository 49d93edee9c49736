//! Cairn's words on the wire: `cairn.capnp`, the code generated from it, and plain Rust types with conversions.
//!
//! What it is: the one place where bytes from another program become values. [`Wire::read`] checks every length, enumerant
//! and number that `cairn.capnp` limits, so what it returns is well formed; what it refuses, it refuses as [`Malformed`], with
//! the field. What is *meant* (does this bucket exist, who leads the slot) is decided elsewhere.
//!
//! What it is not: it opens no connection, knows no clock, and no other crate of Cairn.
//!
//! ```text
//!   cairn.capnp ──(capnp, capnpc)──▶ cairn_capnp.rs      checked in; `test:the_generated_code_is_that_of_the_schema`
//!                                        │
//!   wire     Wire, Malformed, encode, decode             how a type is read and written
//!   error    Error, Advice, Outcome                      what a request is told when it has no result
//!   hello    who talks to whom, and how
//!   version  versions and what they are made of
//!   slots  raft  control                                 requests and answers, one file per capability
//! ```
//!
//! Invariants:
//! - No bytes make `read` panic, or allocate more than a small multiple of their length.
//! - `read` of what `write` wrote is what was written, if it keeps the limits.

#![forbid(unsafe_code)]

mod control;
mod error;
mod hello;
mod raft;
mod slots;
mod version;
mod wire;

// Generated: nobody reads it, so neither lints nor formatting nor documentation apply.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    clippy::unimplemented,
    reason = "written by capnpc from cairn.capnp, which is the text to read"
)]
#[rustfmt::skip]
pub mod cairn_capnp;

pub use control::{Applied, Bucket, Change, ClusterMap, MapRequest, MapUpdate, Offline, ProposeRequest};
pub use error::{Advice, Answer, Error, ErrorKind, NodeRef, Outcome};
pub use hello::{CallInfo, HelloRequest, Role, Terms};
pub use raft::{CONTROL_GROUP, RaftRequest, SlotRequest, SnapshotProgress, SnapshotRequest};
pub use slots::{
    Ack, Commit, CommitMode, CommitRequest, Committed, Condition, Effect, Entry, EntryKind, Import, ListRequest,
    Listing, Page, ReadMode, ReadRequest, ReadResult, Scope,
};
pub use version::{
    Checksum, Chunk, Content, Dot, Lock, LockMode, Pair, Payload, Seen, Version, VersionId, VersionKind, VersionState,
};
pub use wire::{Malformed, Request, Wire, decode, encode};

/// The limits of the wire, as `cairn.capnp` states them.
pub mod limits {
    use crate::cairn_capnp as schema;

    /// The newest and so far only protocol.
    pub const PROTOCOL: u16 = schema::PROTOCOL;
    /// The longest message, in bytes of all segments.
    pub const MESSAGE_BYTES_MAX: usize = schema::MESSAGE_BYTES_MAX as usize;
    /// The deepest nesting of pointers in a message.
    pub const NESTING_MAX: u16 = schema::NESTING_MAX;
    /// Calls of one connection that are not both answered and finished.
    pub const QUESTIONS_MAX: usize = schema::QUESTIONS_MAX as usize;
    /// The longest `Data` of a Raft batch, and text of a map.
    pub const DATA_BYTES_MAX: usize = schema::DATA_BYTES_MAX as usize;
    /// The longest part of a snapshot.
    pub const SNAPSHOT_PART_BYTES_MAX: usize = schema::SNAPSHOT_PART_BYTES_MAX as usize;
    /// Keys, prefixes, delimiters, start-afters.
    pub const KEY_BYTES_MAX: usize = schema::KEY_BYTES_MAX as usize;
    /// Payload that lives in the version itself.
    pub const INLINE_BYTES_MAX: usize = schema::INLINE_BYTES_MAX as usize;
    /// Any text, and the sum of all texts of one content.
    pub const TEXT_BYTES_MAX: usize = schema::TEXT_BYTES_MAX as usize;
    /// Elements of any list without another limit.
    pub const LIST_MAX: usize = schema::LIST_MAX as usize;
    /// Chunks of one version.
    pub const CHUNKS_MAX: usize = schema::CHUNKS_MAX as usize;
    /// Nodes and buckets of a map.
    pub const MAP_MAX: usize = schema::MAP_MAX as usize;
    /// Commits of one batch.
    pub const COMMITS_MAX: usize = schema::COMMITS_MAX as usize;
    /// Entries of one page.
    pub const PAGE_MAX: usize = schema::PAGE_MAX as usize;
    /// How often a request may be forwarded.
    pub const HOPS_MAX: u8 = schema::HOPS_MAX;
}
