//! Chunks: storing, reading, dropping, listing.

use std::ops::{ControlFlow, Range};
use std::rc::Rc;

use bytes::Bytes;
use cairn_io::log::format::{Drop, SPAN};
use cairn_io::log::{Head, Kind, Location, Payload, ReadError, Record, Room};
use cairn_io::task::yield_now;
use cairn_io::{Block, BlockMut, block, time};
use cairn_meta::index::{ChunkEntry, ChunkId, Digest, Scan, Step, Table};
use cairn_placement::PartitionId;
use futures_util::Stream;
use futures_util::stream::unfold;
use quick_cache::Weighter;
use quick_cache::unsync::Cache;

use super::state::{self, Quarantined, location};
use super::{Claim, Lane, LaneError};

/// Chunks up to this length are kept in the cache when they are read.
const SMALL_MAX: u32 = SPAN as u32;
/// Larger ones, up to this part of the cache, when they are read again: one reader of much doesn't sweep it.
pub const LARGE_SHARE: u64 = 16;
/// How many large chunks that were read once are remembered.
pub const READ_ONCE: usize = 4096;
/// Entries looked at in one step of a listing.
const LIST_STEP: usize = 1024;
/// What a stream reads at once.
const PIECE: usize = 1 << 20;

/// What came of storing a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is stored now.
    New,
    /// It was there; its age begins anew.
    Existing,
}

/// What came of verifying a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// Its bytes have its name.
    Good,
    /// They don't; it is quarantined now.
    Bad,
    /// It isn't here.
    Absent,
}

/// Weighs what a cache holds.
#[derive(Clone)]
pub struct Weight;

impl Weighter<ChunkId, Bytes> for Weight {
    fn weight(&self, _: &ChunkId, bytes: &Bytes) -> u64 {
        bytes.len() as u64 + 96
    }
}

impl Weighter<Location, Rc<Head>> for Weight {
    fn weight(&self, _: &Location, head: &Rc<Head>) -> u64 {
        head.weight() as u64 + 64
    }
}

/// A cache of so many bytes, of items of about this length.
pub fn cache<K: std::hash::Hash + Eq, V>(bytes: u64, item: u64) -> Cache<K, V, Weight>
where
    Weight: Weighter<K, V>,
{
    Cache::with_weighter((bytes / item) as usize, bytes, Weight)
}

impl Lane {
    /// Stores a chunk; durable when this returns. The caller has made sure that the bytes have this name.
    ///
    /// # Errors
    /// No room, poisoned, too long.
    pub async fn put(&self, id: ChunkId, payload: Payload) -> Result<Put, LaneError> {
        self.wait_for_index().await?;
        let claim = self.claim(id.0).await;
        self.check_poison()?;
        if let Some(entry) = self.chunk(&id)? {
            self.touch(claim, &entry).await?;
            self.count(|counts| counts.puts_existing += 1);
            return Ok(Put::Existing);
        }
        self.write(claim, Record { kind: Kind::Chunk, id: id.0, payload }, Room::Ordinary).await?;
        self.count(|counts| counts.puts += 1);
        Ok(Put::New)
    }

    /// Whether a chunk is here and, as far as is known, good.
    ///
    /// # Errors
    /// If the index can't be read.
    pub fn has(&self, id: &ChunkId) -> Result<bool, LaneError> {
        Ok(self.chunk(id)?.is_some())
    }

    /// What the index says of a chunk.
    ///
    /// # Errors
    /// If the index can't be read.
    pub fn chunk(&self, id: &ChunkId) -> Result<Option<ChunkEntry>, LaneError> {
        Ok(self.0.state.index.borrow().chunk(id)?)
    }

    /// Reads a chunk whole; `None` if it isn't here.
    ///
    /// # Errors
    /// [`LaneError::Quarantined`] if its bytes are bad; or if the disk fails.
    pub async fn get(&self, id: &ChunkId) -> Result<Option<Bytes>, LaneError> {
        self.count(|counts| counts.gets += 1);
        loop {
            let Some(entry) = self.find(id)? else { return Ok(None) };
            if let Some(bytes) = self.cached(id) {
                return Ok(Some(bytes));
            }
            match self.0.log.read(location(&entry), Kind::Chunk, &id.0).await {
                Ok(block) => {
                    if self.is_to_be_cached(id, entry.length) {
                        // A copy: the block's memory is the pool's.
                        self.0.cache.borrow_mut().insert(*id, Bytes::copy_from_slice(&block));
                    }
                    return Ok(Some(block.into_bytes()));
                }
                Err(error) => self.doubt(id, &entry, error).await?,
            }
        }
    }

    /// Reads a part of a chunk, cut where the chunk ends, and no more of the disk than it takes to verify it.
    ///
    /// # Errors
    /// As [`Lane::get`].
    pub async fn get_range(&self, id: &ChunkId, range: Range<u64>) -> Result<Option<Bytes>, LaneError> {
        loop {
            let Some(entry) = self.find(id)? else { return Ok(None) };
            if entry.length <= SMALL_MAX {
                let whole = self.get(id).await?;
                return Ok(whole.map(|whole| whole.slice(cut(&range, entry.length))));
            }
            self.count(|counts| counts.gets += 1);
            let range = cut(&range, entry.length);
            if range.is_empty() {
                return Ok(Some(Bytes::new()));
            }
            if let Some(whole) = self.cached(id) {
                return Ok(Some(whole.slice(range)));
            }
            match self.read_part(id, &entry, range).await {
                Ok(block) => return Ok(Some(block.into_bytes())),
                Err(error) => self.doubt(id, &entry, error).await?,
            }
        }
    }

    fn cached(&self, id: &ChunkId) -> Option<Bytes> {
        let bytes = self.0.cache.borrow_mut().get(id).cloned()?;
        self.count(|counts| counts.cache_hits += 1);
        Some(bytes)
    }

    /// Whether a chunk that was just read whole is worth its room.
    fn is_to_be_cached(&self, id: &ChunkId, length: u32) -> bool {
        if length <= SMALL_MAX {
            return true;
        }
        if u64::from(length) > self.0.large_max {
            return false;
        }
        let mut once = self.0.read_once.borrow_mut();
        let is_read_again = once.remove(id).is_some();
        if !is_read_again {
            once.insert(*id, ());
        }
        is_read_again
    }

    /// Reads several parts of a chunk, one after the other.
    ///
    /// # Errors
    /// As [`Lane::get`].
    pub async fn get_ranges(&self, id: &ChunkId, ranges: &[Range<u64>]) -> Result<Option<Vec<Bytes>>, LaneError> {
        let mut parts = Vec::with_capacity(ranges.len());
        for range in ranges {
            let Some(part) = self.get_range(id, range.clone()).await? else { return Ok(None) };
            parts.push(part);
        }
        Ok(Some(parts))
    }

    /// A chunk's bytes piece by piece; ends early with an error if the chunk is dropped or found bad meanwhile.
    ///
    /// # Errors
    /// As [`Lane::get`].
    pub fn stream(&self, id: ChunkId) -> Result<Option<impl Stream<Item = Result<Bytes, LaneError>>>, LaneError> {
        let Some(entry) = self.find(&id)? else { return Ok(None) };
        let (lane, length) = (self.clone(), u64::from(entry.length));
        Ok(Some(unfold(0_u64, move |at| {
            let lane = lane.clone();
            async move {
                if at >= length {
                    return None;
                }
                let end = (at + PIECE as u64).min(length);
                let piece = match lane.get_range(&id, at..end).await {
                    Ok(piece) => piece.ok_or(LaneError::Read(ReadError::Bad(location(&entry)))),
                    Err(error) => Err(error),
                };
                let next = if piece.is_ok() { end } else { length };
                Some((piece, next))
            }
        })))
    }

    /// Takes a chunk in piece by piece, and stores it when its bytes turn out to have its name.
    ///
    /// # Errors
    /// If the lane could never hold so many bytes.
    pub async fn ingest(&self, id: ChunkId, length: usize) -> Result<Ingest, LaneError> {
        let max = self.0.log.payload_max();
        if length > max {
            return Err(cairn_io::log::LogError::TooLong { length, max }.into());
        }
        let block = if length == 0 { None } else { Some(block::alloc(length).await?) };
        Ok(Ingest { lane: self.clone(), id, block, filled: 0, length, hasher: blake3::Hasher::new() })
    }

    /// Drops a chunk; durable when this returns. False if it wasn't here.
    ///
    /// # Errors
    /// Poisoned, no room even in the reserve while compaction makes some, or if the disk fails.
    pub async fn drop_chunk(&self, id: &ChunkId) -> Result<bool, LaneError> {
        let claim = self.claim(id.0).await;
        self.check_poison()?;
        let at = match self.chunk(id)? {
            Some(entry) => location(&entry),
            None => match self.0.state.quarantine_of(id)? {
                Some(bad) => bad.location,
                None => return Ok(false),
            },
        };
        let drop = Drop { of: Kind::Chunk, segment: at.segment, offset: at.offset };
        let payload = Payload::Bytes(drop.encode().to_vec().into());
        self.write(claim, Record { kind: Kind::Drop, id: id.0, payload }, self.room_for_drops()).await?;
        self.0.cache.borrow_mut().remove(id);
        self.count(|counts| counts.drops += 1);
        if at.stored >= self.0.options.punch_min {
            // Only room: compaction gets it too, later.
            let _ = self.0.log.punch(at).await;
        }
        Ok(true)
    }

    /// Chunks of a partition in order of their names, after this one, at most so many.
    ///
    /// # Errors
    /// If the index can't be read.
    pub fn list(
        &self,
        partition: PartitionId,
        after: Option<&ChunkId>,
        max: usize,
    ) -> Result<Vec<(ChunkId, ChunkEntry)>, LaneError> {
        let index = self.0.state.index.borrow();
        let mut found = Vec::new();
        let mut scan = index.chunks_of(partition);
        if let Some(after) = after {
            let last = PartitionId::of_chunk(&after.0, index.partitions());
            if last > partition {
                return Ok(found);
            }
            if last == partition {
                scan = scan.after(&after.0);
            }
        }
        // Not the steps are counted but what they find: deleted entries are looked at, too.
        while found.len() < max {
            let visit = |id, entry| {
                found.push((id, entry));
                if found.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            if index.step_chunks(&mut scan, LIST_STEP, visit)? == Step::Done {
                break;
            }
        }
        Ok(found)
    }

    /// What the lane holds of a partition.
    pub fn digest(&self, partition: PartitionId) -> Digest {
        self.0.state.index.borrow().digest(partition)
    }

    /// What the lane holds, partition by partition.
    pub fn digests(&self) -> Vec<Digest> {
        self.0.state.index.borrow().digests().to_vec()
    }

    /// The chunks whose bytes are bad, at most so many.
    ///
    /// # Errors
    /// If the index can't be read.
    pub fn quarantine(&self, max: usize) -> Result<Vec<Quarantined>, LaneError> {
        let mut found = Vec::new();
        let mut scan = Scan::all(Table::Quarantine);
        while found.len() < max {
            let visit = |key: &[u8], value: &[u8]| {
                let id = <[u8; 32]>::try_from(key).ok().map(ChunkId);
                found.extend(id.and_then(|id| state::quarantined(id, value)));
                if found.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            if self.0.state.index.borrow().step(&mut scan, LIST_STEP, visit)? == Step::Done {
                break;
            }
        }
        Ok(found)
    }

    /// Reads a chunk past every cache and checks that its bytes have its name.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn verify(&self, id: &ChunkId) -> Result<Verified, LaneError> {
        loop {
            let Some(entry) = self.chunk(id)? else {
                let is_bad = self.0.state.quarantine_of(id)?.is_some();
                return Ok(if is_bad { Verified::Bad } else { Verified::Absent });
            };
            let read = match self.0.log.read(location(&entry), Kind::Chunk, &id.0).await {
                Ok(block) if *blake3::hash(&block).as_bytes() == id.0 => return Ok(Verified::Good),
                Ok(_) => Err(ReadError::Bad(location(&entry))),
                Err(error) => Err(error),
            };
            match read.map_or_else(|error| error, |()| unreachable!("the good case has returned")) {
                ReadError::Bad(at) if self.is_at(id, at)? => {
                    self.convict(id, at)?;
                    return Ok(Verified::Bad);
                }
                error => self.doubt(id, &entry, error).await?,
            }
        }
    }

    /// The chunks that a segment holds. Takes as long as looking at all chunks of the lane.
    ///
    /// # Errors
    /// If the index can't be read.
    pub async fn chunks_in(&self, segment: u64) -> Result<Vec<ChunkId>, LaneError> {
        let mut found = Vec::new();
        let mut scan = Scan::all(Table::Chunks);
        let mut visit = |id, entry: ChunkEntry| {
            found.extend((entry.segment == segment).then_some(id));
            ControlFlow::Continue(())
        };
        while self.0.state.index.borrow().step_chunks(&mut scan, LIST_STEP, &mut visit)? == Step::More {
            yield_now().await;
        }
        Ok(found)
    }

    /// What the index says of a chunk that is to be read.
    fn find(&self, id: &ChunkId) -> Result<Option<ChunkEntry>, LaneError> {
        let entry = self.chunk(id)?;
        if entry.is_none() && self.0.state.quarantined() > 0 && self.0.state.quarantine_of(id)?.is_some() {
            return Err(LaneError::Quarantined(*id));
        }
        Ok(entry)
    }

    async fn read_part(&self, id: &ChunkId, entry: &ChunkEntry, range: Range<usize>) -> Result<Block, ReadError> {
        let at = location(entry);
        let held = self.0.heads.borrow_mut().get(&at).cloned();
        let head = if let Some(head) = held {
            head
        } else {
            let head = Rc::new(self.0.log.read_head(at, Kind::Chunk, &id.0).await?);
            self.0.heads.borrow_mut().insert(at, head.clone());
            head
        };
        self.0.log.read_part(at, &head, range).await
    }

    /// After a read that failed: returns if the chunk is worth another look, quarantines it if it is bad.
    pub(super) async fn doubt(&self, id: &ChunkId, entry: &ChunkEntry, error: ReadError) -> Result<(), LaneError> {
        let at = location(entry);
        self.count(|counts| counts.bad_reads += 1);
        if !self.is_at(id, at)? {
            // It was dropped or moved while it was read.
            return Ok(());
        }
        if let ReadError::Io(error) = error {
            return Err(error.into());
        }
        // Once more: what was bad in memory or on its way need not be bad on disk.
        if self.0.log.read(at, Kind::Chunk, &id.0).await.is_ok() || !self.is_at(id, at)? {
            self.0.heads.borrow_mut().remove(&at);
            return Ok(());
        }
        self.convict(id, at)?;
        Err(LaneError::Quarantined(*id))
    }

    pub(super) fn is_at(&self, id: &ChunkId, at: Location) -> Result<bool, LaneError> {
        Ok(self.chunk(id)?.is_some_and(|entry| location(&entry) == at))
    }

    pub(super) fn convict(&self, id: &ChunkId, at: Location) -> Result<(), LaneError> {
        self.0.cache.borrow_mut().remove(id);
        Ok(self.0.state.quarantine(id, at, time::wall().as_unix_nanos())?)
    }

    /// Lets a chunk's age begin anew, unless it did not long ago.
    async fn touch(&self, claim: Claim, entry: &ChunkEntry) -> Result<(), LaneError> {
        let now = state::seconds(time::wall().as_unix_nanos());
        if u64::from(now.saturating_sub(entry.touched)) < self.0.options.touch_after.as_secs() {
            return Ok(());
        }
        let record = Record { kind: Kind::Touch, id: claim.id, payload: Payload::EMPTY };
        self.write(claim, record, Room::Ordinary).await
    }

    /// Nothing is answered for that the index didn't take.
    pub(super) fn check_index(&self) -> Result<(), LaneError> {
        match self.0.state.failure() {
            None => Ok(()),
            Some(failure) => {
                self.0.wanted.ring();
                let reason = format!("its index can't be read ({failure})");
                Err(cairn_io::log::LogError::Poisoned(reason.into()).into())
            }
        }
    }
}

fn cut(range: &Range<u64>, length: u32) -> Range<usize> {
    let end = range.end.min(u64::from(length)) as usize;
    (range.start.min(end as u64) as usize)..end
}

/// A chunk that is taken in.
pub struct Ingest {
    lane: Lane,
    id: ChunkId,
    block: Option<BlockMut>,
    filled: usize,
    length: usize,
    hasher: blake3::Hasher,
}

impl Ingest {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// If they are more than was said.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), LaneError> {
        let end = self.filled + bytes.len();
        if end > self.length {
            return Err(LaneError::OtherBytes(self.id));
        }
        if let Some(block) = &mut self.block {
            block[self.filled..end].copy_from_slice(bytes);
        }
        self.hasher.update(bytes);
        self.filled = end;
        Ok(())
    }

    /// Stores the chunk.
    ///
    /// # Errors
    /// [`LaneError::OtherBytes`] if the bytes don't have the name; as [`Lane::put`].
    pub async fn finish(self) -> Result<Put, LaneError> {
        if self.filled != self.length || *self.hasher.finalize().as_bytes() != self.id.0 {
            return Err(LaneError::OtherBytes(self.id));
        }
        let payload = self.block.map_or(Payload::EMPTY, |block| Payload::Blocks(vec![block.freeze()]));
        self.lane.put(self.id, payload).await
    }
}
