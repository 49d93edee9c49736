//! Reading records by their place: verified, whole or in parts.

use std::io;
use std::ops::Range;
use std::rc::Rc;

use super::format::{Id, Kind, RecordHeader, SPAN, SegmentHeader, spans_match};
use super::map::Source;
use super::scan::{Behind, Chain, Scanner, Windows};
use super::segments::Segment;
use super::{Location, Log, LogError, Position, Room, SegmentInfo};
use crate::Block;

/// A record's head: what is needed to read and verify parts of its payload.
#[derive(Clone, Debug)]
pub struct Head {
    header: RecordHeader,
    table: Rc<[u8]>,
}

impl Head {
    /// Bytes that it takes in memory.
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.table.len()
    }

    /// The payload's length.
    pub fn length(&self) -> u32 {
        self.header.length
    }
}

/// Why a record can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// What is there is not what was written.
    #[error("the bytes at {0:?} don't match their checksum")]
    Bad(Location),
    /// The segment is not there.
    #[error("segment {0} is missing")]
    Missing(u64),
    /// The disk failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Log {
    /// Reads a whole payload and verifies it, and that it is this record.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read(&self, at: Location, kind: Kind, id: &Id) -> Result<Block, ReadError> {
        let segment = self.segment(at)?;
        let bytes = segment.file.read_at(u64::from(at.offset), at.extent as usize).await?;
        let header = self.decode(&bytes, at, kind, id)?;
        let payload = bytes.slice((at.extent - at.stored) as usize..);
        if !spans_match(header.table(&bytes), 0, &payload, self.0.inner.salt) {
            return Err(ReadError::Bad(at));
        }
        Ok(payload)
    }

    /// Reads what it takes to read parts of a record.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read_head(&self, at: Location, kind: Kind, id: &Id) -> Result<Head, ReadError> {
        let segment = self.segment(at)?;
        let bytes = segment.file.read_at(u64::from(at.offset), (at.extent - at.stored) as usize).await?;
        let header = self.decode(&bytes, at, kind, id)?;
        Ok(Head { header, table: header.table(&bytes).into() })
    }

    /// Reads a part of a payload, and no more than the spans it touches, and verifies those.
    ///
    /// # Errors
    /// [`ReadError`].
    ///
    /// # Panics
    /// If the range reaches outside the payload.
    pub async fn read_part(&self, at: Location, head: &Head, range: Range<usize>) -> Result<Block, ReadError> {
        let stored = at.stored as usize;
        assert!(range.start <= range.end && range.end <= stored, "{range:?} of a payload of {stored} bytes");
        let segment = self.segment(at)?;
        let (from, to) = (range.start / SPAN * SPAN, range.end.next_multiple_of(SPAN).min(stored));
        let bytes = segment.file.read_at(u64::from(at.payload_at()) + from as u64, to - from).await?;
        if bytes.len() != to - from || !spans_match(&head.table, from / SPAN, &bytes, self.0.inner.salt) {
            return Err(ReadError::Bad(at));
        }
        Ok(bytes.slice(range.start - from..range.end - from))
    }

    /// The segments that hold something, in order.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.0.inner.segments.list()
    }

    /// Whether a segment is there.
    pub fn has_segment(&self, number: u64) -> bool {
        self.0.inner.segments.get(number).is_some()
    }

    /// Everything before is said to be durable by something that is durable itself.
    pub fn proven(&self) -> Position {
        self.0.inner.writer.proven()
    }

    /// The number of the segment that is written to now.
    pub fn head_segment(&self) -> u64 {
        self.0.inner.writer.head()
    }

    /// Segments in use, and files that are ready to become segments.
    pub fn segment_counts(&self) -> (usize, usize) {
        self.0.inner.segments.counts()
    }

    /// Whether there is room for data, or some is being made.
    ///
    /// # Errors
    /// [`LogError::NoRoom`]: only what is kept for drops, Raft records and compaction is left.
    pub fn check_room(&self) -> Result<(), LogError> {
        self.0.inner.segments.admits(Room::Ordinary).map(drop)
    }

    /// Whether data would be taken now. False while only the reserve is left, even if more is being made.
    pub fn has_room(&self) -> bool {
        matches!(self.0.inner.segments.admits(Room::Ordinary), Ok(true))
    }

    /// Reads all records of a segment in order; the one that is written to, up to what is applied.
    ///
    /// # Errors
    /// [`ReadError::Missing`].
    pub fn scan(&self, segment: u64, from: Option<Position>) -> Result<Scanner, ReadError> {
        let inner = &self.0.inner;
        let found = inner.segments.get(segment).ok_or(ReadError::Missing(segment))?;
        let applied = self.applied();
        let bytes = inner.superblock.segment_bytes as usize;
        let end = if segment >= applied.segment { applied.offset as usize } else { bytes };
        let end = if segment > applied.segment { 0 } else { end };
        let offset = from.map_or(super::format::BLOCK, |from| from.offset as usize);
        let behind = if segment == applied.segment {
            Some(Behind::Sequence(applied.sequence))
        } else {
            let next = inner.segments.get(segment + 1).filter(|next| next.number <= applied.segment);
            let header = |next: &Segment| SegmentHeader { number: next.number, first: next.first, synced: 0 };
            next.map(|next| Behind::Segment(next.file.clone(), header(&next)))
        };
        let source = Source::Windows(Windows::new(found.file.clone(), bytes));
        let expected = from.map(|from| from.sequence);
        Ok(Scanner::new(Chain::new(source, inner.salt, segment, offset, expected), end, found.first, behind))
    }

    /// Frees a segment of which nobody needs anything any more. The caller's index must be committed beyond it. Await it
    /// to the end: what is left of one that was given up half-way is freed only after the next start.
    ///
    /// # Errors
    /// If the disk fails; the segment is then still there.
    pub async fn free(&self, segment: u64) -> io::Result<()> {
        // A batch of a segment behind the head may still be on its way, and would overwrite what says that it is free.
        if segment >= self.applied().segment {
            let message = format!("segment {segment} is written to; it can't be freed");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let freed = self.0.inner.segments.free(segment, &self.0.inner.counts).await;
        self.0.inner.writer.wake_all();
        freed
    }

    /// Gives the payload's room of a dead record back to the file system, as far as it fills whole blocks. Returns the
    /// bytes given back: none while recovery could take the hole for a torn batch, and cut off what lies behind it.
    ///
    /// # Errors
    /// If the file system can't.
    pub async fn punch(&self, at: Location) -> io::Result<u64> {
        let Some(segment) = self.0.inner.segments.get(at.segment) else { return Ok(0) };
        let proven = self.proven();
        if (at.segment, at.offset) >= (proven.segment, proven.offset) {
            return Ok(0);
        }
        let block = super::format::BLOCK as u64;
        let from = u64::from(at.payload_at()).next_multiple_of(block);
        let to = u64::from(at.offset + at.extent) / block * block;
        if from >= to {
            return Ok(0);
        }
        self.0.inner.segments.punch(&segment, from, to - from).await?;
        self.0.inner.writer.wake_all();
        Ok(to - from)
    }

    fn segment(&self, at: Location) -> Result<Rc<Segment>, ReadError> {
        self.0.inner.segments.get(at.segment).ok_or(ReadError::Missing(at.segment))
    }

    fn decode(&self, bytes: &[u8], at: Location, kind: Kind, id: &Id) -> Result<RecordHeader, ReadError> {
        decode(bytes, at, kind, id, self.0.inner.salt)
    }
}

/// Reads the head of a record, which must be of this kind and id and as long as its place says.
pub(super) fn decode(bytes: &[u8], at: Location, kind: Kind, id: &Id, salt: u64) -> Result<RecordHeader, ReadError> {
    match RecordHeader::decode(bytes, salt) {
        Ok(Ok(header))
            if header.kind == kind
                && header.id == *id
                && header.stored == at.stored
                && header.extent(at.offset as usize) == at.extent as usize
                && bytes.len() >= (at.extent - at.stored) as usize =>
        {
            Ok(header)
        }
        _ => Err(ReadError::Bad(at)),
    }
}
