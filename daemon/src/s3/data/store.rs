//! From a body into chunks: copied once into aligned memory, hashed, stored while the next chunk fills.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use cairn_io::BlockMut;
use cairn_io::block::alloc;
use cairn_io::log::Payload as Stuff;
use cairn_io::task::{Class, JoinHandle, spawn};
use cairn_meta::index::ChunkId;
use cairn_meta::version::{Chunk, INLINE_MAX, Payload};

use super::{Admission, CHUNK_BYTES, Permit, disk_error};
use crate::disks::{Disks, DisksError};
use crate::lane::Put;
use crate::s3::body::Body;
use crate::s3::error::{Code, Result, S3Error};
use crate::s3::hash::{Algorithm, Hasher, Md5Hasher};
use crate::s3::md5::{BodyMd5, Hashing};

/// The longest body of one request.
pub const BODY_MAX: u64 = 5 << 30;
/// Up to here a body is gathered and stored at once.
const SMALL_MAX: usize = 64 << 10;
/// Chunks of a body that are in memory: one that fills, the others on their way to the disk.
const CHUNKS_AT_ONCE: usize = 2;
/// The same when there is memory to spare.
const CHUNKS_AT_BEST: usize = 4;

/// Whether bytes may lie in the version itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inline {
    /// If there are few of them.
    Allowed,
    /// Parts are chunks.
    Never,
}

/// What was stored.
pub struct Stored {
    /// Bytes.
    pub size: u64,
    /// Of all of them.
    pub md5: [u8; 16],
    /// The checksums that were wanted.
    pub sums: Vec<(Algorithm, Vec<u8>)>,
    /// Where they are.
    pub payload: Payload,
}

/// Hashes being made of a body.
pub struct Sums {
    md5: Md5Hasher,
    hashers: Vec<(Algorithm, Hasher)>,
}

impl Sums {
    /// These, beside MD5.
    pub fn new(algorithms: &[Algorithm]) -> Self {
        let hashers = algorithms.iter().map(|one| (*one, Hasher::new(*one))).collect();
        Self { md5: Md5Hasher::default(), hashers }
    }

    /// Takes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        self.update_checksums(bytes);
    }

    /// The same for all but MD5.
    fn update_checksums(&mut self, bytes: &[u8]) {
        self.hashers.iter_mut().for_each(|(_, hasher)| hasher.update(bytes));
    }

    /// What was hashed, and where it lies.
    pub fn stored(self, size: u64, payload: Payload) -> Stored {
        let md5 = self.md5.clone().finish();
        self.stored_as(md5, size, payload)
    }

    fn stored_as(self, md5: [u8; 16], size: u64, payload: Payload) -> Stored {
        let sums = self.hashers.into_iter().map(|(algorithm, hasher)| (algorithm, hasher.finish())).collect();
        Stored { size, md5, sums, payload }
    }
}

/// Stores a body. Nothing lists what was stored if it fails: GC finds it.
///
/// # Errors
/// As the body's, if there is no memory or no room.
pub async fn store(
    body: &mut Body,
    disks: &Disks,
    admission: &Rc<Admission>,
    hashing: &Hashing,
    sums: Sums,
    inline: Inline,
) -> Result<Stored> {
    match body.expected() {
        Some(length) if length > BODY_MAX => Err(Code::EntityTooLarge.into()),
        Some(length) if length <= SMALL_MAX as u64 => small(body, disks, admission, sums, inline).await,
        // Boxed, as below: small bodies have no need of that room.
        _ => {
            Box::pin(async { Storing::begin(body, disks, admission, hashing, sums).await?.run(body, inline).await })
                .await
        }
    }
}

async fn small(
    body: &mut Body,
    disks: &Disks,
    admission: &Rc<Admission>,
    mut sums: Sums,
    inline: Inline,
) -> Result<Stored> {
    let _permit = admission.admit(body.expected().unwrap_or_default() as usize).await?;
    let bytes = body.all(SMALL_MAX).await?;
    sums.update(&bytes);
    let size = bytes.len() as u64;
    let is_inline = inline == Inline::Allowed && bytes.len() <= INLINE_MAX;
    let payload = match bytes.len() {
        _ if is_inline => Payload::Inline(bytes.to_vec()),
        0 => Payload::Chunks(Vec::new()),
        length => {
            let id = *blake3::hash(&bytes).as_bytes();
            let put = Box::pin(disks.put(ChunkId(id), Stuff::Bytes(bytes)));
            put.await.map_err(|error| disk_error(&error))?;
            Payload::Chunks(vec![Chunk { id, length: length as u32 }])
        }
    };
    Ok(sums.stored(size, payload))
}

/// A body that is being cut into chunks.
struct Storing<'s> {
    disks: &'s Disks,
    /// All but MD5.
    sums: Sums,
    md5: BodyMd5,
    /// The chunk that fills, and how much of it has.
    filling: Option<(BlockMut, usize)>,
    under_way: VecDeque<JoinHandle<Result<Put, DisksError>>>,
    /// The most chunks in memory.
    at_once: usize,
    chunks: Vec<Chunk>,
    size: u64,
    _permits: (Permit, Option<Permit>),
}

impl<'s> Storing<'s> {
    async fn begin(
        body: &Body,
        disks: &'s Disks,
        admission: &Rc<Admission>,
        hashing: &Hashing,
        sums: Sums,
    ) -> Result<Self> {
        let length = body.expected().map_or(usize::MAX, |length| usize::try_from(length).unwrap_or(usize::MAX));
        let needed = length.min(CHUNKS_AT_ONCE * CHUNK_BYTES);
        let permit = admission.admit(needed).await?;
        let is_long = length > CHUNKS_AT_ONCE * CHUNK_BYTES;
        let more = (CHUNKS_AT_BEST - CHUNKS_AT_ONCE) * CHUNK_BYTES;
        let spare = if is_long { admission.try_admit(more) } else { None };
        let at_once = if spare.is_some() { CHUNKS_AT_BEST } else { CHUNKS_AT_ONCE };
        let (filling, under_way, chunks) = (None, VecDeque::new(), Vec::new());
        let md5 = hashing.begin();
        Ok(Self { disks, sums, md5, filling, under_way, at_once, chunks, size: 0, _permits: (permit, spare) })
    }

    async fn run(mut self, body: &mut Body, inline: Inline) -> Result<Stored> {
        while let Some(data) = body.next().await? {
            self.sums.update_checksums(&data);
            self.size += data.len() as u64;
            if self.size > BODY_MAX {
                return Err(Code::EntityTooLarge.into());
            }
            self.fill(data, body.expected()).await?;
        }
        let is_inline = inline == Inline::Allowed && self.size <= INLINE_MAX as u64;
        if is_inline {
            let bytes = self.filling.take().map_or_else(Vec::new, |(block, filled)| block[..filled].to_vec());
            self.sums.md5.update(&bytes);
            return Ok(self.sums.stored(self.size, Payload::Inline(bytes)));
        }
        self.flush().await?;
        self.wait_for(0).await?;
        Ok(self.sums.stored_as(self.md5.finish().await?, self.size, Payload::Chunks(self.chunks)))
    }

    async fn fill(&mut self, mut data: Bytes, expected: Option<u64>) -> Result<()> {
        while !data.is_empty() {
            let left = expected.map_or(CHUNK_BYTES as u64, |all| all.saturating_sub(self.chunked()).max(1));
            let (block, filled) = match &mut self.filling {
                Some(filling) => filling,
                empty => {
                    let block = alloc(left.min(CHUNK_BYTES as u64) as usize).await.map_err(|_| S3Error::slow_down())?;
                    empty.insert((block, 0))
                }
            };
            let taken = data.split_to(data.len().min(block.len() - *filled));
            block[*filled..*filled + taken.len()].copy_from_slice(&taken);
            *filled += taken.len();
            if *filled == block.len() {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Bytes in chunks that are full.
    fn chunked(&self) -> u64 {
        self.chunks.iter().map(|chunk| u64::from(chunk.length)).sum()
    }

    /// Sends off what has filled, and waits until there is memory for the next.
    async fn flush(&mut self) -> Result<()> {
        let Some((mut block, filled)) = self.filling.take() else { return Ok(()) };
        block.set_len(filled);
        let block = block.freeze();
        let id = *blake3::hash(&block).as_bytes();
        self.chunks.push(Chunk { id, length: filled as u32 });
        let (disks, stuff) = (self.disks.clone(), Stuff::Blocks(vec![block.clone()]));
        let put = async move { disks.put(ChunkId(id), stuff).await };
        self.under_way.push_back(spawn(Class::Foreground, put));
        self.md5.update(block).await?;
        self.wait_for(self.at_once - 1).await
    }

    /// Waits until no more than so many chunks are on their way.
    async fn wait_for(&mut self, left: usize) -> Result<()> {
        while self.under_way.len() > left {
            let Some(oldest) = self.under_way.pop_front() else { break };
            let put = oldest.await.map_err(|_| Code::InternalError)?;
            put.map_err(|error| disk_error(&error))?;
        }
        Ok(())
    }
}
