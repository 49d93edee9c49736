//! The version graph of one key: what a version is, which one supersedes which, which one is shown.
//!
//! Pure: no I/O, no clock, no randomness. Times are display and retention, never order; ids and dots arrive as values.
//!
//! ```text
//!   content (what a writer states) ─┐
//!   mode (overwrite, derive, ...) ──┼─► commit::decide ──► dot, context, parents ──► a Version
//!   heads of the key ───────────────┘
//! ```
//!
//! Invariants: no head's dot is in the context of another head; every version that is kept and no head has its dot in the
//! context of some head; the preferred head is the same wherever the same heads are known.

pub mod causality;
pub mod commit;
pub mod content;
pub mod heads;
pub mod id;
pub mod lock;
pub mod retention;

pub use causality::{Context, Dot};
pub use content::{BadContent, Checksum, Chunk, Content, INLINE_MAX, Pair, PartInfo, Payload};
pub use heads::{Conflict, Head};
pub use id::{Actor, BadId, UploadId, VersionId};
pub use lock::{Bypass, Hold, Lock, LockMode, Retention};

use minicbor::{Decode, Encode};

/// What kind of state a version is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Kind {
    /// An object.
    #[default]
    #[n(0)]
    Data,
    /// The object is gone; after its retention, so is this.
    #[n(1)]
    Tombstone,
    /// The object is gone for those who don't ask for a version. It stays until it is erased.
    #[n(2)]
    DeleteMarker,
}

/// Who has a version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum State {
    /// One node, durably, which could reach no leader.
    #[n(0)]
    Provisional,
    /// A majority of the slot's replicas.
    #[default]
    #[n(1)]
    Confirmed,
}

/// How a version came into its slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Origin {
    /// It was provisional elsewhere and was imported.
    #[n(0)]
    Imported,
    /// The slot itself committed it.
    #[default]
    #[n(1)]
    Committed,
}

/// One immutable state of an object. Only tags, lock and `superseded` change later.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Version {
    /// Its name.
    #[n(0)]
    pub id: VersionId,
    /// What kind of state it is.
    #[n(1)]
    pub kind: Kind,
    /// Whether S3 calls it `null`: made while the bucket's versioning was off or suspended.
    #[n(2)]
    pub is_null: bool,
    /// When it was made, in milliseconds since the Unix epoch, as its maker's clock said. For display.
    #[n(3)]
    pub modified: u64,
    /// What its writer stated; empty but for data.
    #[n(4)]
    pub content: Content,
    /// What it was made from, or what it replaced; empty: it is a root. May name versions that are kept no more.
    #[n(5)]
    pub parents: Vec<VersionId>,
    /// Its causal name.
    #[n(6)]
    pub dot: Dot,
    /// The dots of its ancestors.
    #[n(7)]
    pub context: Context,
    /// Who has it.
    #[n(8)]
    pub state: State,
    /// How it came into its slot.
    #[n(9)]
    pub origin: Origin,
    /// When the slot took it, in milliseconds: never earlier than what the key took before. For reads in the past.
    #[n(10)]
    pub committed: u64,
    /// When it ceased to be a head; `None`: it is one.
    #[n(11)]
    pub superseded: Option<u64>,
}

impl Version {
    /// Whether this version has the other among its ancestors.
    pub fn supersedes(&self, other: Dot) -> bool {
        self.context.has(other)
    }

    /// What conditions need of it.
    pub fn summary(&self) -> Summary<'_> {
        let Content { size, etag, expires, .. } = &self.content;
        let content = content::Brief { size: *size, etag, expires: *expires };
        let Self { id, kind, is_null, modified, .. } = *self;
        Summary { id, kind, is_null, modified, content }
    }

    /// Whether a reader at this time finds an object here; an object past its expiry is none.
    pub fn is_object(&self, now: u64) -> bool {
        self.kind == Kind::Data && self.content.expires.is_none_or(|expires| expires > now)
    }
}

/// What lists and conditions need of a version, read from the same bytes without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Decode)]
pub struct Summary<'b> {
    /// Its name.
    #[n(0)]
    pub id: VersionId,
    /// What kind of state it is.
    #[n(1)]
    pub kind: Kind,
    /// Whether S3 calls it `null`.
    #[n(2)]
    pub is_null: bool,
    /// When it was made.
    #[n(3)]
    pub modified: u64,
    /// Of its content.
    #[b(4)]
    pub content: content::Brief<'b>,
}
