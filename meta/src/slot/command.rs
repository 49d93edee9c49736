//! What a slot is told, and what it answers.
//!
//! A command is its level (2 bytes, little-endian), then an [`Envelope`]. Answers are a `Result` of [`Answer`] and [`Refusal`];
//! both stay readable like rows (see `encoding`).

use minicbor::{Decode, Encode};

use super::layout::BucketId;
use crate::encoding::{Malformed, decode, encode, encode_behind, wide_id};
use crate::version::commit::{Caps, Mode, Refused, Row};
use crate::version::retention::Keep;
use crate::version::{BadContent, Bypass, Chunk, Content, Hold, Kind, Pair, Retention, UploadId, Version, VersionId};

/// The level of the commands below. A new command, field or meaning raises it.
pub const LEVEL: u16 = 1;

wide_id! {
    /// Names one intent of a client: no other has the same; kept for retries. Where they begin with the time, those of a
    /// moment are kept side by side.
    Token
}

/// A command and what goes with each.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Envelope {
    /// The leader's clock, in milliseconds since the Unix epoch.
    #[n(0)]
    pub time: u64,
    /// The same token again has no effect and the same answer, as long as the slot remembers: see `ring::TOKENS`.
    #[n(1)]
    pub token: Option<Token>,
    /// What to do.
    #[n(2)]
    pub command: Command,
}

impl Envelope {
    /// The bytes of the command.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.command.bytes());
        bytes.extend_from_slice(&LEVEL.to_le_bytes());
        encode_behind(&mut bytes, self);
        bytes
    }

    /// The level of a command, and the command if it is known here.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Leveled, Malformed> {
        let (level, rest) =
            bytes.split_first_chunk().ok_or_else(|| Malformed("a command without a level".to_owned()))?;
        match u16::from_le_bytes(*level) {
            level if level > LEVEL => Ok(Leveled::Newer(level)),
            level => Ok(Leveled::Known(level, Box::new(decode(rest)?))),
        }
    }
}

/// A command as far as it is understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leveled {
    /// Its level, and itself.
    Known(u16, Box<Envelope>),
    /// It has a level that is unknown here.
    Newer(u16),
}

/// What S3 calls the versioning of a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Versioning {
    /// It was never on: what is overwritten or deleted can't be asked for.
    #[default]
    #[n(0)]
    Off,
    /// Each version can be asked for.
    #[n(1)]
    Enabled,
    /// It was on: older versions can still be asked for; new ones replace each other under the name `null`.
    #[n(2)]
    Suspended,
}

/// Which bucket, and its settings as the map has them: they travel with each command, so that no slot must be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Bucket {
    /// Its id.
    #[n(0)]
    pub id: BucketId,
    /// Epoch of the map in which its settings last changed. A slot that knows later ones refuses.
    #[n(1)]
    pub epoch: u64,
    /// Its versioning.
    #[n(2)]
    pub versioning: Versioning,
    /// How long it keeps what.
    #[n(3)]
    pub keep: Keep,
    /// What is allowed for one key.
    #[n(4)]
    pub caps: Caps,
}

impl Bucket {
    /// One of which control knows nothing any more.
    pub fn gone(id: BucketId) -> Self {
        Self { id, epoch: 0, versioning: <_>::default(), keep: <_>::default(), caps: <_>::default() }
    }
}

/// A key of a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Place {
    /// The bucket.
    #[n(0)]
    pub bucket: Bucket,
    /// The object's key.
    #[n(1)]
    pub key: String,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Command {
    /// Commits versions, each for itself: one that is refused hinders no other.
    #[n(0)]
    Commit(#[n(0)] Vec<Write>),
    /// Takes over what was provisional elsewhere, each version at most once.
    #[n(1)]
    Import(#[n(0)] Vec<Import>),
    /// Erases one version for ever. Its ancestors become heads again where nothing else supersedes them.
    #[n(2)]
    Erase(#[n(0)] Erase),
    /// Changes what may be changed of a version.
    #[n(3)]
    Amend(#[n(0)] Amend),
    /// Drops of these keys what retention lets go.
    #[n(4)]
    Trim(#[n(0)] Vec<Place>),
    /// Begins an upload.
    #[n(5)]
    CreateUpload(#[n(0)] CreateUpload),
    /// Adds a part to an upload, or replaces it.
    #[n(6)]
    PutPart(#[n(0)] PutPart),
    /// Makes an object of parts.
    #[n(7)]
    CompleteUpload(#[n(0)] CompleteUpload),
    /// Ends an upload without an object.
    #[n(8)]
    AbortUpload(#[n(0)] AbortUpload),
    /// Closes a bucket that is empty here.
    #[n(9)]
    CloseBucket {
        /// The bucket.
        #[n(0)]
        bucket: BucketId,
        /// Of the map that says that it is being deleted. What comes with an earlier one is refused from now on.
        #[n(1)]
        epoch: u64,
    },
    /// Forgets released chunks up to this number: GC has looked at them.
    #[n(10)]
    ForgetReleased {
        /// The last of them.
        #[n(0)]
        up_to: u64,
    },
    /// Allows commands up to this level: every node of the cluster knows it.
    #[n(11)]
    RaiseLevel {
        /// The level.
        #[n(0)]
        level: u16,
    },
}

/// What a write makes.
#[expect(clippy::large_enum_variant, reason = "objects are what most writes make")]
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Body {
    /// An object.
    #[n(0)]
    Object(#[n(0)] Content),
    /// A deletion: a tombstone, or a delete marker where the bucket has versions.
    #[n(1)]
    Deletion,
}

/// A commit.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Write {
    /// Where.
    #[n(0)]
    pub place: Place,
    /// The version's name, unless the key has a later one: then it gets the next.
    #[n(1)]
    pub id: VersionId,
    /// How it finds its parents.
    #[n(2)]
    pub mode: Mode,
    /// What it makes.
    #[n(3)]
    pub body: Body,
}

/// A version that was provisional elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Import {
    /// Where.
    #[n(0)]
    pub place: Place,
    /// Itself, with its id, dot and context.
    #[n(1)]
    pub version: Version,
}

impl Import {
    /// Its bytes, as the node that holds it keeps them.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads such bytes.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        decode(bytes)
    }
}

/// Which version of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Which {
    /// This one.
    #[n(0)]
    Id(#[n(0)] VersionId),
    /// The one that S3 calls `null`.
    #[n(1)]
    Null,
    /// The preferred head.
    #[n(2)]
    Preferred,
}

/// An erasure.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Erase {
    /// Where.
    #[n(0)]
    pub place: Place,
    /// Which version.
    #[n(1)]
    pub which: Which,
    /// Whether it bypasses governance.
    #[n(2)]
    pub bypass: Bypass,
    /// What must hold of that version; see `commit::check`.
    #[n(3)]
    pub conditions: Vec<crate::version::commit::Condition>,
}

/// A change of a version.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Amend {
    /// Where.
    #[n(0)]
    pub place: Place,
    /// Which version. It must be an object.
    #[n(1)]
    pub which: Which,
    /// What changes.
    #[n(2)]
    pub change: Change,
}

/// What may be changed of a version.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Change {
    /// Its tags, all of them.
    #[n(0)]
    Tags(#[n(0)] Vec<Pair>),
    /// Its retention, as far as that may be loosened.
    #[n(1)]
    Retention {
        /// The new one.
        #[n(0)]
        retention: Option<Retention>,
        /// Whether it bypasses governance.
        #[n(1)]
        bypass: Bypass,
    },
    /// Whether it is held.
    #[n(2)]
    LegalHold(#[n(0)] bool),
    /// Headers, all of them: what a gateway keeps there of its own.
    #[n(3)]
    Headers(#[n(0)] Vec<Pair>),
}

/// The beginning of an upload.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CreateUpload {
    /// Where.
    #[n(0)]
    pub place: Place,
    /// Its name.
    #[n(1)]
    pub upload: UploadId,
    /// What is said about the object to be; without bytes.
    #[n(2)]
    pub content: Content,
}

/// A part.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Part {
    /// Its length in bytes.
    #[n(0)]
    pub size: u64,
    /// What S3 calls it; without quotes.
    #[n(1)]
    pub etag: String,
    /// When it came, in milliseconds since the Unix epoch.
    #[n(2)]
    pub modified: u64,
    /// The checksums that clients asked for.
    #[n(3)]
    pub checksums: Vec<crate::version::Checksum>,
    /// Its bytes.
    #[n(4)]
    pub chunks: Vec<Chunk>,
}

/// A part that came.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PutPart {
    /// Where.
    #[n(0)]
    pub place: Place,
    /// Of which upload.
    #[n(1)]
    pub upload: UploadId,
    /// Its number, 1 to `PARTS_MAX`.
    #[n(2)]
    pub number: u16,
    /// Itself.
    #[n(3)]
    pub part: Part,
}

/// The most parts of an upload.
pub const PARTS_MAX: u16 = 10_000;

/// The completion of an upload.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CompleteUpload {
    /// Where.
    #[n(0)]
    pub place: Place,
    /// Which upload.
    #[n(1)]
    pub upload: UploadId,
    /// The parts that the object is made of, with rising numbers, and their etags.
    #[n(2)]
    pub parts: Vec<(u16, String)>,
    /// No part but the last may be shorter.
    #[n(3)]
    pub part_min: u64,
    /// As in a write.
    #[n(4)]
    pub id: VersionId,
    /// As in a write.
    #[n(5)]
    pub mode: Mode,
    /// The object's.
    #[n(6)]
    pub etag: String,
    /// The object's.
    #[n(7)]
    pub checksums: Vec<crate::version::Checksum>,
}

/// The end of an upload without an object.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AbortUpload {
    /// Where.
    #[n(0)]
    pub place: Place,
    /// Which upload.
    #[n(1)]
    pub upload: UploadId,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Answer {
    /// Of each write or import, in their order.
    #[n(0)]
    Committed(#[n(0)] Vec<Result<Committed, Refusal>>),
    /// A version was erased.
    #[n(1)]
    Erased(#[n(0)] Erased),
    /// A version was changed.
    #[n(2)]
    Amended(#[n(0)] VersionId),
    /// Versions were dropped.
    #[n(3)]
    Trimmed(#[n(0)] Trimmed),
    /// Done, and nothing to say.
    #[n(4)]
    Done,
    /// An upload became an object.
    #[n(5)]
    Completed(#[n(0)] Committed),
}

/// What a trim did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Trimmed {
    /// So many versions were dropped.
    #[n(0)]
    pub dropped: u64,
    /// It stopped before the end: what a command may change isn't enough for all. Asked again, it goes on.
    #[n(1)]
    pub rest: bool,
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Committed {
    /// The version; `None`: there was nothing to delete.
    #[n(0)]
    pub id: Option<VersionId>,
    /// What kind it is.
    #[n(1)]
    pub kind: Kind,
    /// Whether S3 calls it `null`.
    #[n(2)]
    pub is_null: bool,
    /// The row of the decision table.
    #[n(3)]
    pub row: Row,
    /// How many heads the key has now; above 1: a conflict.
    #[n(4)]
    pub heads: u32,
    /// The heads that it superseded.
    #[n(5)]
    pub superseded: Vec<VersionId>,
}

/// What was erased.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Erased {
    /// The version.
    #[n(0)]
    pub id: VersionId,
    /// What kind it was.
    #[n(1)]
    pub kind: Kind,
    /// Whether S3 called it `null`.
    #[n(2)]
    pub is_null: bool,
}

/// Why something was not done. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Encode, Decode)]
pub enum Refusal {
    /// The decision table says no.
    #[error(transparent)]
    #[n(0)]
    Commit(#[n(0)] Refused),
    /// The content can't be.
    #[error(transparent)]
    #[n(1)]
    Content(#[n(0)] BadContent),
    /// The key can't be.
    #[error("a key has 1 to 1024 bytes of UTF-8, this one has {0}")]
    #[n(2)]
    Key(#[n(0)] u64),
    /// The bucket's settings have changed since: fetch the map, try again.
    #[error(
        "the bucket's settings are those of epoch {stated}, the slot knows epoch {known}: fetch the map and try again"
    )]
    #[n(3)]
    StaleBucket {
        /// What the command says.
        #[n(0)]
        stated: u64,
        /// What the slot knows.
        #[n(1)]
        known: u64,
    },
    /// The bucket is not empty here.
    #[error("the bucket is not empty")]
    #[n(4)]
    NotEmpty,
    /// There is no such version.
    #[error("no such version")]
    #[n(5)]
    NoVersion,
    /// What was asked for is a deletion.
    #[error("the version is a deletion, not an object")]
    #[n(6)]
    NoObject,
    /// The version is locked.
    #[error("the version is locked: {0:?}")]
    #[n(7)]
    Locked(#[n(0)] Hold),
    /// There is no such upload: it was completed, aborted or never begun.
    #[error("no such upload")]
    #[n(8)]
    NoUpload,
    /// An upload of that name is there.
    #[error("an upload of this name has begun already")]
    #[n(9)]
    UploadExists,
    /// The number is none.
    #[error("parts have numbers from 1 to {PARTS_MAX}, not {0}")]
    #[n(10)]
    PartNumber(#[n(0)] u16),
    /// A part isn't there, or has another etag.
    #[error("part {0} is not there, or another one came since")]
    #[n(11)]
    Part(#[n(0)] u16),
    /// The numbers don't rise, or there are none.
    #[error("the parts are not in the order of their numbers, or there are none")]
    #[n(12)]
    PartOrder,
    /// A part that isn't the last is too short.
    #[error("part {number} has {size} bytes, at least {min} are needed for all but the last")]
    #[n(13)]
    PartTooSmall {
        /// Its number.
        #[n(0)]
        number: u16,
        /// Its length.
        #[n(1)]
        size: u64,
        /// What is needed.
        #[n(2)]
        min: u64,
    },
    /// The command is of a level that the cluster doesn't allow yet.
    #[error("the command has level {level}, the cluster allows {allowed}: finish the upgrade of all nodes first")]
    #[n(14)]
    Level {
        /// Its level.
        #[n(0)]
        level: u16,
        /// What is allowed.
        #[n(1)]
        allowed: u16,
    },
    /// The id can't be.
    #[error("{0} is no id of a version made in this age: ids begin with milliseconds since 1970")]
    #[n(16)]
    Id(#[n(0)] VersionId),
    /// It would change more rows than fit into one record.
    #[error(
        "the command would change {bytes} bytes of rows, and may change {max}: split it, or say less about each object"
    )]
    #[n(17)]
    TooLarge {
        /// Of rows.
        #[n(0)]
        bytes: u64,
        /// Of rows.
        #[n(1)]
        max: u64,
    },
    /// The command can't be read.
    #[error("the command is not understood: {0}")]
    #[n(15)]
    Malformed(#[n(0)] String),
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        Self::Commit(refused)
    }
}

impl From<BadContent> for Refusal {
    fn from(bad: BadContent) -> Self {
        Self::Content(bad)
    }
}

/// Bytes of a command or of one of its writes, about and without what lies in it.
const BYTES: usize = 256;

impl Command {
    /// Whether there is more to keep when it is obeyed: an object, an upload, a part. Others free something, or change a little.
    pub fn stores(&self) -> bool {
        match self {
            Self::Commit(writes) => writes.iter().any(|write| matches!(write.body, Body::Object(_))),
            Self::Import(_) | Self::CreateUpload(_) | Self::PutPart(_) => true,
            Self::Erase(_)
            | Self::Amend(_)
            | Self::Trim(_)
            | Self::CompleteUpload(_)
            | Self::AbortUpload(_)
            | Self::CloseBucket { .. }
            | Self::ForgetReleased { .. }
            | Self::RaiseLevel { .. } => false,
        }
    }

    /// How many bytes it has, about.
    fn bytes(&self) -> usize {
        let Self::Commit(writes) = self else { return BYTES };
        let of = |write: &Write| match &write.body {
            Body::Object(content) => BYTES + write.place.key.len() + content.inline_bytes(),
            Body::Deletion => BYTES,
        };
        BYTES + writes.iter().map(of).sum::<usize>()
    }
}

/// What a slot answers.
pub type Answered = Result<Answer, Refusal>;

/// Reads an answer.
///
/// # Errors
/// What is wrong with the bytes.
pub fn read_answer(bytes: &[u8]) -> Result<Answered, Malformed> {
    decode(bytes)
}
