//! Versions and what they are made of, as the wire has them.

use std::fmt;

use bytes::Bytes;

use crate::cairn_capnp as schema;
use crate::limits::{CHUNKS_MAX, INLINE_BYTES_MAX, LIST_MAX, TEXT_BYTES_MAX};
use crate::wire::{
    InField, Malformed, Wire, list_len, read_array, read_data, read_list, read_text, wire_enum, write_list,
};

/// 128 bits, ordered by time of creation; zero is no version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionId(pub u128);

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// One event of one writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// The writer.
    pub writer: u128,
    /// Which of its events.
    pub counter: u64,
}

/// The events of one writer that a version knows of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The writer.
    pub writer: u128,
    /// All from 1 to this one; 0: none.
    pub up_to: u64,
    /// Single ones above, in rising order.
    pub beyond: Vec<u64>,
}

/// A name and a value: a header, metadata, a tag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

/// A checksum of an object's bytes, as S3 writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checksum {
    /// "CRC32", ...
    pub algorithm: String,
    /// In base64.
    pub value: String,
}

/// A piece of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// BLAKE3-256 of its bytes.
    pub name: [u8; 32],
    /// Their number.
    pub size: u32,
}

wire_enum! {
    /// What a version says of its object.
    VersionKind = VersionKind {
        /// It is there.
        #[default]
        Data,
        /// It is deleted.
        Tombstone,
        /// It is hidden.
        DeleteMarker,
    }
}

wire_enum! {
    /// Who has a version.
    VersionState = VersionState {
        /// A majority.
        #[default]
        Confirmed,
        /// One node, which will hand it over.
        Provisional,
    }
}

/// Where an object's bytes are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Payload {
    /// There are none.
    #[default]
    None,
    /// Here.
    Inline(Bytes),
    /// In these chunks, in order.
    Chunks(Vec<Chunk>),
    /// In the parts of this upload. Not in commits.
    Parts(VersionId),
}

wire_enum! {
    /// Who may shorten a retention.
    LockMode = LockMode {
        /// There is none.
        #[default]
        None,
        /// Those who may bypass governance, and say so.
        Governance,
        /// Nobody.
        Compliance,
    }
}

/// S3's object lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// Whether there is a retention, and of which kind.
    pub mode: LockMode,
    /// Its end.
    pub until: u64,
    /// A hold that ends when it is taken off.
    pub legal_hold: bool,
}

/// Everything about an object that its writer chooses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Data, tombstone or delete marker.
    pub kind: VersionKind,
    /// Bytes of the payload.
    pub size: u64,
    /// Retention and legal hold.
    pub lock: Lock,
    /// Without quotes.
    pub etag: String,
    /// Of the payload.
    pub checksums: Vec<Checksum>,
    /// Content-Type and such.
    pub headers: Vec<Pair>,
    /// The user's.
    pub metadata: Vec<Pair>,
    /// The user's.
    pub tags: Vec<Pair>,
    /// When a tombstone replaces it; 0: never.
    pub expires: u64,
    /// The bytes, or where they are.
    pub payload: Payload,
}

/// A version, whole or (in listings) without payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// Its name.
    pub id: VersionId,
    /// What it replaced.
    pub parents: Vec<VersionId>,
    /// The event that made it.
    pub dot: Dot,
    /// What its writer knew: one element for each writer.
    pub context: Vec<Seen>,
    /// Confirmed or provisional.
    pub state: VersionState,
    /// The rest.
    pub content: Content,
    /// When it was made. Shown to people.
    pub modified: u64,
    /// S3 calls it "null".
    pub is_null: bool,
    /// Nothing supersedes it.
    pub is_head: bool,
}

impl Wire for VersionId {
    type Form = schema::version_id::Owned;

    fn read(from: schema::version_id::Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self(u128::from(from.get_high()) << 64 | u128::from(from.get_low())))
    }

    fn write(&self, mut into: schema::version_id::Builder<'_>) {
        into.set_high((self.0 >> 64) as u64);
        into.set_low(self.0 as u64);
    }
}

impl Wire for Dot {
    type Form = schema::dot::Owned;

    fn read(from: schema::dot::Reader<'_>) -> Result<Self, Malformed> {
        let writer = u128::from(from.get_writer_high()) << 64 | u128::from(from.get_writer_low());
        Ok(Self { writer, counter: from.get_counter() })
    }

    fn write(&self, mut into: schema::dot::Builder<'_>) {
        into.set_writer_high((self.writer >> 64) as u64);
        into.set_writer_low(self.writer as u64);
        into.set_counter(self.counter);
    }
}

impl Wire for Seen {
    type Form = schema::seen::Owned;

    fn read(from: schema::seen::Reader<'_>) -> Result<Self, Malformed> {
        let writer = u128::from(from.get_writer_high()) << 64 | u128::from(from.get_writer_low());
        let beyond = read_counters(from.get_beyond()).field("beyond")?;
        let up_to = from.get_up_to();
        let is_rising = beyond.is_sorted_by(|one, next| one < next);
        if !is_rising || beyond.first().is_some_and(|first| *first <= up_to) {
            return Err(Malformed::new("not in rising order above upTo")).field("beyond");
        }
        Ok(Self { writer, up_to, beyond })
    }

    fn write(&self, mut into: schema::seen::Builder<'_>) {
        into.set_writer_high((self.writer >> 64) as u64);
        into.set_writer_low(self.writer as u64);
        into.set_up_to(self.up_to);
        let mut beyond = into.init_beyond(list_len(self.beyond.len()));
        for (at, counter) in (0..).zip(&self.beyond) {
            beyond.set(at, *counter);
        }
    }
}

impl Wire for Pair {
    type Form = schema::pair::Owned;

    fn read(from: schema::pair::Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            name: read_text(from.get_name(), TEXT_BYTES_MAX).field("name")?,
            value: read_text(from.get_value(), TEXT_BYTES_MAX).field("value")?,
        })
    }

    fn write(&self, mut into: schema::pair::Builder<'_>) {
        into.set_name(self.name.as_str());
        into.set_value(self.value.as_str());
    }
}

impl Wire for Checksum {
    type Form = schema::checksum::Owned;

    fn read(from: schema::checksum::Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            algorithm: read_text(from.get_algorithm(), TEXT_BYTES_MAX).field("algorithm")?,
            value: read_text(from.get_value(), TEXT_BYTES_MAX).field("value")?,
        })
    }

    fn write(&self, mut into: schema::checksum::Builder<'_>) {
        into.set_algorithm(self.algorithm.as_str());
        into.set_value(self.value.as_str());
    }
}

impl Wire for Chunk {
    type Form = schema::chunk::Owned;

    fn read(from: schema::chunk::Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { name: read_array(from.get_name()).field("name")?, size: from.get_size() })
    }

    fn write(&self, mut into: schema::chunk::Builder<'_>) {
        into.set_name(&self.name);
        into.set_size(self.size);
    }
}

impl Wire for Lock {
    type Form = schema::lock::Owned;

    fn read(from: schema::lock::Reader<'_>) -> Result<Self, Malformed> {
        let mode = LockMode::of(from.get_mode().field("mode")?);
        Ok(Self { mode, until: from.get_until(), legal_hold: from.get_legal_hold() })
    }

    fn write(&self, mut into: schema::lock::Builder<'_>) {
        into.set_mode(self.mode.form());
        into.set_until(self.until);
        into.set_legal_hold(self.legal_hold);
    }
}

impl Wire for Content {
    type Form = schema::content::Owned;

    fn read(from: schema::content::Reader<'_>) -> Result<Self, Malformed> {
        let content = Self {
            kind: VersionKind::of(from.get_kind().field("kind")?),
            size: from.get_size(),
            lock: Lock::read(from.get_lock()?).field("lock")?,
            etag: read_text(from.get_etag(), TEXT_BYTES_MAX).field("etag")?,
            checksums: read_checksums(from).field("checksums")?,
            headers: read_pairs(from.get_headers()).field("headers")?,
            metadata: read_pairs(from.get_metadata()).field("metadata")?,
            tags: read_pairs(from.get_tags()).field("tags")?,
            expires: from.get_expires(),
            payload: read_payload(from.get_payload()).field("payload")?,
        };
        content.check_texts()?;
        Ok(content)
    }

    fn write(&self, mut into: schema::content::Builder<'_>) {
        into.set_kind(self.kind.form());
        into.set_size(self.size);
        self.lock.write(into.reborrow().init_lock());
        into.set_etag(self.etag.as_str());
        into.set_expires(self.expires);
        write_list!(into.reborrow().init_checksums(list_len(self.checksums.len())), &self.checksums);
        write_list!(into.reborrow().init_headers(list_len(self.headers.len())), &self.headers);
        write_list!(into.reborrow().init_metadata(list_len(self.metadata.len())), &self.metadata);
        write_list!(into.reborrow().init_tags(list_len(self.tags.len())), &self.tags);
        let mut payload = into.init_payload();
        match &self.payload {
            Payload::None => payload.set_none(()),
            Payload::Inline(bytes) => payload.set_inline(bytes),
            Payload::Chunks(chunks) => write_list!(payload.init_chunks(list_len(chunks.len())), chunks),
            Payload::Parts(upload) => upload.write(payload.init_parts()),
        }
    }
}

impl Content {
    /// Each text is short enough by itself; together they must be as well.
    fn check_texts(&self) -> Result<(), Malformed> {
        let pairs = self.headers.iter().chain(&self.metadata).chain(&self.tags);
        let pairs: usize = pairs.map(|pair| pair.name.len() + pair.value.len()).sum();
        let sums: usize = self.checksums.iter().map(|sum| sum.algorithm.len() + sum.value.len()).sum();
        let bytes = pairs + sums + self.etag.len();
        if bytes <= TEXT_BYTES_MAX {
            return Ok(());
        }
        let reason = format!(
            "etag, checksums, headers, metadata and tags have {bytes} bytes together, and may have {TEXT_BYTES_MAX}"
        );
        Err(Malformed::new(reason))
    }
}

/// The payload agrees with the size, so that nobody behind this has to wonder which of the two to believe. Whole
/// contents only: a listing's have a size and no payload. Parts are of no commit.
pub(crate) fn check_size(content: &Content) -> Result<(), Malformed> {
    let bytes = match &content.payload {
        Payload::None => 0,
        Payload::Inline(bytes) => bytes.len() as u64,
        Payload::Chunks(chunks) => chunks.iter().map(|chunk| u64::from(chunk.size)).sum(),
        Payload::Parts(_) => return Err(Malformed::new("only completing an upload makes an object of its parts")),
    };
    if bytes == content.size {
        return Ok(());
    }
    Err(Malformed::new(format!("{}, but the payload has {bytes} bytes", content.size))).field("size")
}

fn read_checksums(from: schema::content::Reader<'_>) -> Result<Vec<Checksum>, Malformed> {
    read_list!(from.get_checksums(), LIST_MAX, Checksum::read)
}

fn read_pairs(
    from: capnp::Result<capnp::struct_list::Reader<'_, schema::pair::Owned>>,
) -> Result<Vec<Pair>, Malformed> {
    read_list!(from, LIST_MAX, Pair::read)
}

fn read_payload(from: schema::content::payload::Reader<'_>) -> Result<Payload, Malformed> {
    use schema::content::payload::Which;
    match from.which()? {
        Which::None(()) => Ok(Payload::None),
        Which::Inline(bytes) => {
            let bytes = read_data(bytes, INLINE_BYTES_MAX).field("inline")?;
            Ok(Payload::Inline(Bytes::copy_from_slice(bytes)))
        }
        Which::Chunks(chunks) => read_chunks(chunks).field("chunks").map(Payload::Chunks),
        Which::Parts(upload) => Ok(Payload::Parts(VersionId::read(upload?)?)),
    }
}

fn read_chunks(
    from: capnp::Result<capnp::struct_list::Reader<'_, schema::chunk::Owned>>,
) -> Result<Vec<Chunk>, Malformed> {
    read_list!(from, CHUNKS_MAX, Chunk::read)
}

pub(crate) fn read_ids(
    from: capnp::Result<capnp::struct_list::Reader<'_, schema::version_id::Owned>>,
) -> Result<Vec<VersionId>, Malformed> {
    read_list!(from, LIST_MAX, VersionId::read)
}

fn read_counters(from: capnp::Result<capnp::primitive_list::Reader<'_, u64>>) -> Result<Vec<u64>, Malformed> {
    read_list!(from, LIST_MAX, Ok::<u64, Malformed>)
}

pub(crate) fn read_context(
    from: capnp::Result<capnp::struct_list::Reader<'_, schema::seen::Owned>>,
) -> Result<Vec<Seen>, Malformed> {
    read_list!(from, LIST_MAX, Seen::read)
}

impl Wire for Version {
    type Form = schema::version::Owned;

    fn read(from: schema::version::Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            id: VersionId::read(from.get_id()?)?,
            parents: read_ids(from.get_parents()).field("parents")?,
            dot: Dot::read(from.get_dot()?)?,
            context: read_context(from.get_context()).field("context")?,
            state: VersionState::of(from.get_state().field("state")?),
            content: Content::read(from.get_content()?).field("content")?,
            modified: from.get_modified(),
            is_null: from.get_is_null(),
            is_head: from.get_is_head(),
        })
    }

    fn write(&self, mut into: schema::version::Builder<'_>) {
        self.id.write(into.reborrow().init_id());
        self.dot.write(into.reborrow().init_dot());
        write_list!(into.reborrow().init_parents(list_len(self.parents.len())), &self.parents);
        write_list!(into.reborrow().init_context(list_len(self.context.len())), &self.context);
        into.set_state(self.state.form());
        into.set_modified(self.modified);
        into.set_is_null(self.is_null);
        into.set_is_head(self.is_head);
        self.content.write(into.init_content());
    }
}
