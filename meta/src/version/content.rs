//! What a writer states of an object: its bytes or where they are, and what is said about them.

use minicbor::{Decode, Encode};

use super::id::UploadId;
use super::lock::Lock;
use crate::index::ChunkId;

/// The longest payload that lies in the version itself, in bytes.
pub const INLINE_MAX: usize = 4096;

/// Headers, metadata and tags of a version together, in bytes.
pub const WORDS_MAX: usize = 16 << 10;

/// The most chunks that one version lists by itself; more come as parts of an upload.
pub const CHUNKS_MAX: usize = 4096;

/// A name and a value.
pub type Pair = (String, String);

/// A checksum that a client asked for.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Checksum {
    /// Its name, as clients write it.
    #[n(0)]
    pub algorithm: String,
    /// Its value, as clients write it; behind a `-` the number of parts that it is made of, if it is.
    #[n(1)]
    pub value: String,
}

/// A chunk of a payload. Later fields may say that it is a stripe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Chunk {
    /// The BLAKE3-256 of its bytes.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub id: [u8; 32],
    /// How many bytes of the payload it holds.
    #[n(1)]
    pub length: u32,
}

impl Chunk {
    /// Its name in an index.
    pub fn name(&self) -> ChunkId {
        ChunkId(self.id)
    }
}

/// Where the bytes of an object are.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Payload {
    /// Here, up to `INLINE_MAX` of them.
    #[n(0)]
    Inline(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    /// In chunks, in this order.
    #[n(1)]
    Chunks(#[n(0)] Vec<Chunk>),
    /// In the parts of this upload, whose rows stay as long as the version; `Content::parts` says which.
    #[n(2)]
    Parts(#[n(0)] UploadId),
}

impl Payload {
    /// Whether the bytes are nowhere but in the version itself.
    pub fn is_inline(&self) -> bool {
        match self {
            Self::Inline(_) => true,
            Self::Chunks(chunks) => chunks.is_empty(),
            Self::Parts(_) => false,
        }
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::Inline(vec![])
    }
}

/// A part of an object that was uploaded in parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct PartInfo {
    /// Its number, from 1; rising, with gaps.
    #[n(0)]
    pub number: u16,
    /// Its length in bytes.
    #[n(1)]
    pub size: u64,
}

/// What a writer states.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Content {
    /// Its length in bytes.
    #[n(0)]
    pub size: u64,
    /// What S3 calls it; without quotes.
    #[n(1)]
    pub etag: String,
    /// When it is gone by itself, in milliseconds since the Unix epoch; `None`: never.
    #[n(2)]
    pub expires: Option<u64>,
    /// The checksums that clients asked for.
    #[n(3)]
    pub checksums: Vec<Checksum>,
    /// Headers to repeat on reads (`content-type` and its like), and what a gateway keeps of its own.
    #[n(4)]
    pub headers: Vec<Pair>,
    /// What the user says about it.
    #[n(5)]
    pub metadata: Vec<Pair>,
    /// Its tags.
    #[n(6)]
    pub tags: Vec<Pair>,
    /// What keeps it from being removed.
    #[n(7)]
    pub lock: Lock,
    /// Its parts, if it was uploaded so.
    #[n(8)]
    pub parts: Vec<PartInfo>,
    /// Its bytes. Last, so that lists need not look at them.
    #[n(9)]
    pub payload: Payload,
}

/// What lists and conditions need of a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Decode)]
pub struct Brief<'b> {
    /// Its length in bytes.
    #[n(0)]
    pub size: u64,
    /// What S3 calls it.
    #[b(1)]
    pub etag: &'b str,
    /// When it is gone by itself.
    #[n(2)]
    pub expires: Option<u64>,
}

/// A content that no version may have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Encode, Decode)]
pub enum BadContent {
    /// The inline payload is too long.
    #[error("an inline payload has up to {INLINE_MAX} bytes, this one has {0}: store it in chunks")]
    #[n(0)]
    Inline(#[n(0)] u64),
    /// The payload has another length than stated.
    #[error("the payload has {found} bytes where {stated} are stated")]
    #[n(1)]
    Size {
        /// What is stated.
        #[n(0)]
        stated: u64,
        /// What the payload has.
        #[n(1)]
        found: u64,
    },
    /// Too much is said about it.
    #[error("headers, metadata and tags have up to {WORDS_MAX} bytes together, these have {0}")]
    #[n(2)]
    Words(#[n(0)] u64),
    /// Too many chunks.
    #[error("a version lists up to {CHUNKS_MAX} chunks, this one {0}: upload it in parts")]
    #[n(3)]
    Chunks(#[n(0)] u64),
    /// Only the completion of an upload makes versions of parts.
    #[error("only completing an upload makes an object of its parts")]
    #[n(4)]
    Parts,
}

impl Content {
    /// Whether a writer may state this.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), BadContent> {
        self.check_words()?;
        if !self.parts.is_empty() {
            return Err(BadContent::Parts);
        }
        let found = match &self.payload {
            Payload::Parts(_) => return Err(BadContent::Parts),
            Payload::Inline(bytes) if bytes.len() > INLINE_MAX => return Err(BadContent::Inline(bytes.len() as u64)),
            Payload::Inline(bytes) => bytes.len() as u64,
            Payload::Chunks(chunks) => chunk_bytes(chunks)?,
        };
        if found == self.size { Ok(()) } else { Err(BadContent::Size { stated: self.size, found }) }
    }

    /// Bytes that lie in it.
    pub fn inline_bytes(&self) -> usize {
        if let Payload::Inline(bytes) = &self.payload { bytes.len() } else { 0 }
    }

    /// Whether so much may be said about it.
    ///
    /// # Errors
    /// How much too much.
    pub fn check_words(&self) -> Result<(), BadContent> {
        let length = |pairs: &[Pair]| pairs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        let checksums = self.checksums.iter().map(|sum| sum.algorithm.len() + sum.value.len()).sum::<usize>();
        let lists = [&self.headers, &self.metadata, &self.tags].map(|pairs| length(pairs));
        let words = lists.iter().sum::<usize>() + checksums + self.etag.len();
        if words > WORDS_MAX { Err(BadContent::Words(words as u64)) } else { Ok(()) }
    }

    /// The chunks that it lists by itself.
    pub fn chunks(&self) -> &[Chunk] {
        match &self.payload {
            Payload::Chunks(chunks) => chunks,
            Payload::Inline(_) | Payload::Parts(_) => &[],
        }
    }
}

/// The bytes in a list of chunks that is not too long.
pub(crate) fn chunk_bytes(chunks: &[Chunk]) -> Result<u64, BadContent> {
    if chunks.len() > CHUNKS_MAX {
        return Err(BadContent::Chunks(chunks.len() as u64));
    }
    Ok(chunks.iter().map(|chunk| u64::from(chunk.length)).sum())
}

#[test]
fn contents_are_checked() {
    let inline = |length: usize| Content {
        size: length as u64,
        payload: Payload::Inline(vec![7; length]),
        ..Content::default()
    };
    assert_eq!(inline(INLINE_MAX).check(), Ok(()));
    assert_eq!(inline(INLINE_MAX + 1).check(), Err(BadContent::Inline(4097)));
    assert_eq!(Content { size: 3, ..inline(2) }.check(), Err(BadContent::Size { stated: 3, found: 2 }));
    let chunks = vec![Chunk { id: [1; 32], length: u32::MAX }; 2];
    let large = Content { size: 2 * u64::from(u32::MAX), payload: Payload::Chunks(chunks), ..Content::default() };
    assert_eq!(large.check(), Ok(()));
    let many = Payload::Chunks(vec![Chunk { id: [1; 32], length: 1 }; CHUNKS_MAX + 1]);
    assert_eq!(Content { payload: many, ..Content::default() }.check(), Err(BadContent::Chunks(4097)));
    let words = Content { tags: vec![("a".repeat(WORDS_MAX), "b".to_owned())], ..Content::default() };
    assert!(matches!(words.check(), Err(BadContent::Words(_))));
    assert_eq!(Content { payload: Payload::Parts(UploadId(1)), ..Content::default() }.check(), Err(BadContent::Parts));
}
