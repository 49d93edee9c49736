//! Reading a segment from end to end: batches in their chain, records in their batches, what lies damaged between.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;

use super::format::{BLOCK, BatchHeader, CUT_OFF, HEADER, RECORD_ALIGN, RecordHeader, SegmentHeader, spans_match};
use super::map::Source;
use super::{Damage, FormatError, Id, Kind, Location, LogError, What};
use crate::Block;
use crate::fs::File;
use crate::time::{self, Duration};

/// Read with one call.
const WINDOW: usize = 1 << 20;
/// Windows that are read ahead.
const AHEAD: usize = 3;
/// After which a block that couldn't be read is read once more.
const RETRY: Duration = Duration::from_millis(5);
/// How far behind a batch that doesn't match the next one is looked for: more than can be under way at once.
pub const LOOK_AHEAD: usize = 96 << 20;

/// A record as it lies in a segment.
#[derive(Clone, Debug)]
pub struct Found {
    /// What it is.
    pub kind: Kind,
    /// What it is about.
    pub id: Id,
    /// Its place in the order.
    pub sequence: u64,
    /// When its batch was written: nanoseconds since the Unix epoch.
    pub wall: u64,
    /// Where it is.
    pub location: Location,
    /// The payload's length as it was handed in.
    pub length: u32,
    /// The payload, as it lies there.
    pub payload: Bytes,
    /// The payload matches its checksums.
    pub is_whole: bool,
}

/// What a [`Scanner`] comes upon.
#[derive(Clone, Debug)]
pub enum Step {
    /// A record.
    Record(Found),
    /// Bytes in which records are lost.
    Damage(Damage),
}

/// A file that is read forward in large pieces.
pub struct Windows {
    file: File,
    held: VecDeque<(usize, Bytes)>,
    ahead: FuturesOrdered<Reading>,
    /// Where the next piece to be read begins.
    next: usize,
    /// Where the file ends.
    end: usize,
    unreadable: Vec<Range<usize>>,
}

type Reading = std::pin::Pin<Box<dyn Future<Output = (usize, Bytes, Vec<Range<usize>>)>>>;

impl Windows {
    pub fn new(file: File, end: usize) -> Self {
        Self { file, held: VecDeque::new(), ahead: FuturesOrdered::new(), next: 0, end, unreadable: vec![] }
    }

    /// Bytes of the file; fewer where it ends. What can't be read is zeros.
    pub async fn bytes(&mut self, offset: usize, len: usize) -> io::Result<Bytes> {
        let end = (offset + len).min(self.end);
        if offset >= end {
            return Ok(Bytes::new());
        }
        while self.held.front().is_some_and(|(at, bytes)| at + bytes.len() <= offset) {
            self.held.pop_front();
        }
        let covered = self.held.front().is_some_and(|(at, _)| *at <= offset);
        if !covered && !self.held.is_empty()
            || self.held.is_empty() && !(self.oldest_ahead()..self.next + 1).contains(&offset)
        {
            // Somewhere else: nothing that was read ahead is of use.
            self.held.clear();
            self.ahead = FuturesOrdered::new();
            self.next = offset / BLOCK * BLOCK;
        }
        while self.held.back().map_or(0, |(at, bytes)| at + bytes.len()) < end {
            while self.ahead.len() <= AHEAD && self.next < self.end {
                let (file, at, len) = (self.file.clone(), self.next, WINDOW.min(self.end - self.next));
                self.ahead.push_back(Box::pin(async move {
                    let (bytes, bad) = read(&file, at, len).await;
                    (at, bytes, bad)
                }));
                self.next += len;
            }
            let Some((at, bytes, bad)) = self.ahead.next().await else { break };
            self.unreadable.extend(bad);
            if at + bytes.len() > offset {
                self.held.push_back((at, bytes));
            }
        }
        if let Some((at, bytes)) = self.held.iter().find(|(at, bytes)| *at <= offset && end <= at + bytes.len()) {
            return Ok(bytes.slice(offset - at..end - at));
        }
        let mut whole = BytesMut::with_capacity(end - offset);
        for (at, bytes) in &self.held {
            let (from, to) = (offset.max(*at), end.min(at + bytes.len()));
            if from < to {
                whole.extend_from_slice(&bytes[from - at..to - at]);
            }
        }
        Ok(whole.freeze())
    }

    /// Whether a part of this range couldn't be read.
    pub fn is_unreadable(&self, range: &Range<usize>) -> bool {
        self.unreadable.iter().any(|bad| bad.start < range.end && range.start < bad.end)
    }

    /// Where the first piece begins that is being read.
    fn oldest_ahead(&self) -> usize {
        self.next.saturating_sub(self.ahead.len() * WINDOW)
    }
}

/// Reads a piece; block by block where the disk fails, with zeros for what it can't read.
async fn read(file: &File, at: usize, len: usize) -> (Bytes, Vec<Range<usize>>) {
    if let Ok(block) = file.read_at(at as u64, len).await {
        return (block.into_bytes(), vec![]);
    }
    let (mut bytes, mut bad) = (BytesMut::with_capacity(len), Vec::new());
    for from in (at..at + len).step_by(BLOCK) {
        let len = BLOCK.min(at + len - from);
        if let Ok(block) = read_twice(file, from as u64, len).await {
            bytes.extend_from_slice(&block);
        } else {
            bad.push(from..from + len);
            bytes.resize(from - at + len, 0);
        }
    }
    (bytes.freeze(), bad)
}

/// Reads a block, and once more after a while if the disk fails: what recovery can't read keeps the lane from opening.
async fn read_twice(file: &File, at: u64, len: usize) -> io::Result<Block> {
    if let Ok(block) = file.read_at(at, len).await {
        return Ok(block);
    }
    time::sleep(RETRY).await;
    file.read_at(at, len).await
}

/// A whole batch, or what is where one should be.
pub enum Batch {
    Whole {
        header: BatchHeader,
        offset: usize,
        bytes: Bytes,
    },
    /// The chain ends here: nothing valid follows, as far as one can see from here.
    End,
}

/// Follows the batches of one segment.
pub struct Chain {
    pub source: Source,
    pub salt: u64,
    pub segment: u64,
    pub offset: usize,
    /// The sequence number that must follow; `None` takes any.
    pub expected: Option<u64>,
    /// Where [`Chain::find_next`] came upon the mark of a batch that was cut off.
    pub marks: Vec<usize>,
}

impl Chain {
    pub fn new(source: Source, salt: u64, segment: u64, offset: usize, expected: Option<u64>) -> Self {
        Self { source, salt, segment, offset, expected, marks: vec![] }
    }

    /// The batch at the present offset, if it continues the chain. Doesn't move on.
    pub async fn peek(&mut self) -> Result<Batch, LogError> {
        let head = self.source.bytes(self.offset, HEADER).await?;
        let Some(header) = BatchHeader::decode(&head, self.salt)? else { return Ok(Batch::End) };
        let follows =
            |expected| header.first == expected || header.restarts == Some(expected) && header.first > expected;
        if header.segment != self.segment || !self.expected.is_none_or(follows) {
            return Ok(Batch::End);
        }
        let bytes = self.source.bytes(self.offset, header.bytes as usize).await?;
        if bytes.len() < header.bytes as usize {
            return Ok(Batch::End);
        }
        Ok(Batch::Whole { header, offset: self.offset, bytes })
    }

    /// Goes on behind a batch.
    pub fn pass(&mut self, header: &BatchHeader) {
        self.offset += header.bytes as usize;
        self.expected = Some(header.first + u64::from(header.records));
    }

    /// The first header of a batch of this segment behind the present offset that a later record could have.
    pub async fn find_next(&mut self) -> Result<Option<(usize, BatchHeader)>, LogError> {
        let from = self.offset + BLOCK;
        for offset in (from..from + LOOK_AHEAD).step_by(BLOCK) {
            let head = self.source.bytes(offset, HEADER).await?;
            if head.len() < HEADER {
                break;
            }
            if head.starts_with(&CUT_OFF) {
                self.marks.push(offset);
            }
            let Some(header) = BatchHeader::decode(&head, self.salt)? else { continue };
            if header.segment == self.segment && header.first >= self.expected.unwrap_or(0) {
                return Ok(Some((offset, header)));
            }
        }
        Ok(None)
    }
}

/// The header of a segment's first batch. Segment header and first batch are written together: a batch with another number
/// than the header says is an earlier life's.
pub async fn first_batch(file: &File, segment: &SegmentHeader, salt: u64) -> Result<Option<BatchHeader>, LogError> {
    let batch = BatchHeader::decode(&file.read_at(BLOCK as u64, BLOCK).await?, salt)?;
    Ok(batch.filter(|batch| batch.segment == segment.number && batch.first == segment.first))
}

/// A part of a batch.
pub enum Part<'a> {
    Record {
        header: RecordHeader,
        at: usize,
        payload: &'a [u8],
        is_whole: bool,
    },
    /// Records with these sequence numbers can't be told from the bytes of this range any more.
    Lost {
        range: Range<usize>,
        sequences: Range<u64>,
    },
}

/// Cuts a batch into its records; offsets are relative to the batch.
pub fn cut<'a>(bytes: &'a [u8], batch: &BatchHeader, salt: u64) -> Result<Vec<Part<'a>>, FormatError> {
    let end = batch.first + u64::from(batch.records);
    // Not what the header promises: a record has at least a header's length.
    let mut parts = Vec::with_capacity((batch.records as usize).min(bytes.len() / HEADER));
    let (mut at, mut expected) = (HEADER, batch.first);
    while expected < end {
        match record_at(bytes, at, salt)? {
            Some((header, payload, is_whole)) if header.sequence == expected => {
                parts.push(Part::Record { header, at, payload, is_whole });
                at = (at + header.extent(at)).next_multiple_of(RECORD_ALIGN);
                expected += 1;
            }
            _ => {
                let (from, mut next) = (at, end);
                at += RECORD_ALIGN;
                while at < bytes.len() {
                    if let Some((header, ..)) = record_at(bytes, at, salt)?
                        && (expected + 1..end).contains(&header.sequence)
                    {
                        next = header.sequence;
                        break;
                    }
                    at += RECORD_ALIGN;
                }
                parts.push(Part::Lost { range: from..at.min(bytes.len()), sequences: expected..next });
                expected = next;
            }
        }
    }
    Ok(parts)
}

type Cut<'a> = (RecordHeader, &'a [u8], bool);

/// The record at this place of a batch, its payload, and whether that matches its checksums.
fn record_at(bytes: &[u8], at: usize, salt: u64) -> Result<Option<Cut<'_>>, FormatError> {
    let rest = bytes.get(at..).unwrap_or_default();
    let Ok(header) = RecordHeader::decode(rest, salt)? else { return Ok(None) };
    let payload_at = at + header.payload_at(at);
    let Some(payload) = bytes.get(payload_at..payload_at + header.stored as usize) else { return Ok(None) };
    let is_whole = spans_match(header.table(rest), 0, payload, salt);
    Ok(Some((header, payload, is_whole)))
}

/// Whether every record of a batch is there and whole.
pub fn is_whole(parts: &[Part<'_>]) -> bool {
    parts.iter().all(|part| matches!(part, Part::Record { is_whole: true, .. }))
}

/// What follows the last record of a segment, by which one tells whether its end is there.
pub(super) enum Behind {
    /// The record with this sequence number.
    Sequence(u64),
    /// A segment: its file and its header.
    Segment(File, SegmentHeader),
}

/// Reads all records of one segment in order, and reports what is damaged.
pub struct Scanner {
    chain: Chain,
    /// Where to stop, if before the end of the chain.
    end: usize,
    /// The sequence number of the segment's first record.
    first: u64,
    /// What follows the last one, if that is known and until it was asked for.
    behind: Option<Behind>,
    /// What is lost at the end was told.
    is_over: bool,
    found: VecDeque<Step>,
}

impl Scanner {
    pub(super) fn new(chain: Chain, end: usize, first: u64, behind: Option<Behind>) -> Self {
        Self { chain, end, first, behind, is_over: false, found: VecDeque::new() }
    }

    /// What is lost at the end of the segment, where nothing behind it there shows it. Where what decides can't be read,
    /// anything may be lost.
    async fn lost_at_end(&mut self) -> Result<Option<Step>, LogError> {
        if std::mem::replace(&mut self.is_over, true) {
            return Ok(None);
        }
        let came = self.chain.expected.unwrap_or(self.first);
        let (from, to) = (self.chain.offset, self.end);
        let (before, is_unread) = match self.behind.take() {
            None => (came, self.chain.source.is_unreadable(&(from..to.min(from + BLOCK)))),
            Some(Behind::Sequence(sequence)) => (sequence, false),
            Some(Behind::Segment(file, next)) => match first_batch(&file, &next, self.chain.salt).await {
                Err(LogError::Io(_)) => (came, true),
                batch => (batch?.map_or(came, |batch| batch.restarts.unwrap_or(batch.first)), false),
            },
        };
        let (segment, bytes) = (self.chain.segment, from as u64..to as u64);
        let damage = Damage { segment, bytes, sequences: came..before.max(came), what: What::Batch };
        Ok((came < before || is_unread).then_some(Step::Damage(damage)))
    }

    /// How far it has come, in bytes of the segment.
    pub fn offset(&self) -> usize {
        self.chain.offset
    }

    /// Where it ends at the latest, in bytes of the segment.
    pub fn end(&self) -> usize {
        self.end
    }

    /// The next record or damage; `None` at the end of the segment.
    ///
    /// # Errors
    /// If a newer Cairn wrote it.
    pub async fn next(&mut self) -> Result<Option<Step>, LogError> {
        loop {
            if let Some(step) = self.found.pop_front() {
                return Ok(Some(step));
            }
            if self.chain.offset >= self.end {
                return self.lost_at_end().await;
            }
            match self.chain.peek().await? {
                Batch::Whole { header, offset, bytes } => {
                    let parts = cut(&bytes, &header, self.chain.salt)?;
                    for part in parts {
                        self.found.push_back(step_of(&part, &header, offset, &bytes));
                    }
                    self.chain.pass(&header);
                }
                Batch::End => match self.chain.find_next().await? {
                    Some((offset, header)) if offset < self.end => {
                        let sequences = self.chain.expected.unwrap_or(self.first)..header.first;
                        let bytes = self.chain.offset as u64..offset as u64;
                        let what = What::Batch;
                        self.found.push_back(Step::Damage(Damage {
                            segment: self.chain.segment,
                            bytes,
                            sequences,
                            what,
                        }));
                        self.chain.offset = offset;
                        self.chain.expected = Some(header.restarts.unwrap_or(header.first));
                    }
                    _ => return self.lost_at_end().await,
                },
            }
        }
    }
}

/// What a part of a batch at `offset` is.
pub fn step_of(part: &Part<'_>, batch: &BatchHeader, offset: usize, bytes: &Bytes) -> Step {
    match part {
        Part::Record { header, at, payload, is_whole } => Step::Record(Found {
            kind: header.kind,
            id: header.id,
            sequence: header.sequence,
            wall: batch.wall,
            location: Location {
                segment: batch.segment,
                offset: (offset + at) as u32,
                extent: header.extent(*at) as u32,
                stored: header.stored,
            },
            length: header.length,
            payload: bytes.slice_ref(payload),
            is_whole: *is_whole,
        }),
        Part::Lost { range, sequences } => Step::Damage(Damage {
            segment: batch.segment,
            bytes: (offset + range.start) as u64..(offset + range.end) as u64,
            sequences: sequences.clone(),
            what: What::Records,
        }),
    }
}
