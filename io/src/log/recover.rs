//! Opening a log after whatever happened to it.
//!
//! The chain of batches is followed from the position that the index was committed up to. What is found:
//!
//! | case | how it is told | what is done |
//! | --- | --- | --- |
//! | clean end | no header of a batch where the next would be, and no proof behind it | go on there |
//! | torn batch | the header is there, a record is not whole, and no proof behind it | cut off and wiped: nobody was answered for it |
//! | stale records of a recycled segment | their segment's number is another | they are no part of the chain |
//! | stale records of a batch that was cut off | their sequence numbers lie before the restart | they are no part of the chain |
//! | bad header, bad record in synced data | as torn, but with proof | what is whole is applied; the rest is reported |
//! | bad payload in synced data | the checksum of a span, with proof | applied as not whole, so that the lane quarantines it |
//! | damage at the end of a segment | the next segment by number begins with a later sequence number, with proof | reported |
//! | missing segment in the middle | the same, and a number between them | reported: as lost behind a checkpoint or beside a file that can't be told, else as a gap, for it may have been freed |
//! | a batch that was cut off and is there again | the next segment begins with a restart that names its number | no part of the chain |
//! | two files of one segment | their headers | the later sequence number counts, the other is freed; equal ones: left alone and reported |
//! | what an earlier start wrote and may have failed to sync | marks of batches that were cut off, headers of freed files | written again and synced |
//! | a block that can't be read at the end, or in the header or proof that decides | the disk says so, twice | not opened: it may hold what was answered |
//! | a block that can't be read in synced data | the same | if it can only be a chunk's payload: as a bad payload; else not opened: it may hold a drop or a vote, which the index made now would forget for good. Offline: as damage |
//! | whole batches at the end, without proof | no header behind says that they were synced | written again and synced, then relied on |
//! | a file that is named as a segment and is none | neither header nor batch | reported and left alone |
//! | index ahead of the log | its position's segment is not there | not opened: the index must be rebuilt |
//! | index behind the log, or lost | an earlier position, or none | the same as ever, only longer |
//!
//! *Proof* that a batch was synced is any later batch or segment header that says so: each carries the sequence
//! number below which everything was durable when it was closed. After what is cut off the log goes on with a
//! restart: a batch whose numbers begin far behind all that was ever handed out.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::rc::Rc;

use super::format::{BLOCK, BatchHeader, CUT_OFF, FirstBlock, Kind, SegmentHeader, Superblock};
use super::map::Source;
use super::scan::{Batch, Chain, LOOK_AHEAD, Part, Step, Windows, cut, first_batch, is_whole, step_of};
use super::segments::{Segment, Segments, mark_free};
use super::writer::Writer;
use super::{Apply, Counts, Entry, Handle, Inner, Log, LogError, Options, Position};
use crate::fs::{Dir, File, Mode};
use crate::task::{Class, spawn};
use crate::{Block, block, rng};

/// Bytes written again with one call.
const REWRITE: usize = 1 << 20;
/// How far the numbers of a restart lie behind those before it: more than there can be records under way.
const RESTART_GAP: u64 = 1 << 24;
/// Up to so much more, drawn at random: recoveries that find the same end must not hand out the same numbers, or what an
/// earlier one cut off would continue what a later one wrote.
const RESTART_SPREAD: u64 = 1 << 40;

/// A log that was opened, and what was found.
pub struct Opened {
    /// The log, ready for more.
    pub log: Log,
    /// Records that were applied.
    pub applied: u64,
    /// Bytes of the log that were read for it.
    pub bytes: u64,
    /// Where a torn batch was cut off, if one was.
    pub torn: Option<Position>,
    /// Records that were answered for and are lost.
    pub damage: Vec<Damage>,
    /// Segments that are not there, where the whole log was read. The log can't tell those that were freed from those that
    /// are lost; behind the last checkpoint none was freed.
    pub gaps: Vec<Damage>,
}

/// A part of the log in which records that were answered for can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub segment: u64,
    /// The bytes of the segment that don't match.
    pub bytes: Range<u64>,
    /// The sequence numbers of what was there; empty if unknown.
    pub sequences: Range<u64>,
    /// What is damaged.
    pub what: What,
}

/// What is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Records in a batch whose header is whole.
    Records,
    /// Whole batches.
    Batch,
    /// A segment is not there.
    Segment,
    /// The first block of a segment's file, whose batches are readable.
    SegmentHeader,
    /// A file that is named as a segment and holds nothing that can be read.
    File,
}

impl Log {
    /// Opens a log: applies all records since `from` (from the beginning if there is none), and goes on behind them.
    ///
    /// # Errors
    /// If this is no log, if a newer Cairn wrote it, if the index is ahead of it, if it belongs to another lane, if the
    /// options make no sense, or if the disk fails.
    pub async fn open(
        dir: &Dir,
        options: Options,
        from: Option<Position>,
        apply: Rc<Apply>,
    ) -> Result<Opened, LogError> {
        options.check()?;
        let superblock = Log::superblock_of(dir).await?;
        let salt = superblock.salt();
        let segments = Segments::new(dir.clone(), salt, superblock.segment_bytes, options.clone());
        let mut damage = Vec::new();
        // A life that was killed may have left names that the directory doesn't hold for good.
        dir.sync().await?;
        let headers = find_segments(dir, &superblock, &segments, &mut damage).await?;
        let mut recovery = Recovery::new(&segments, headers, salt, &*apply, damage);
        let (end, torn) = recovery.run(from).await?;
        recovery.settle(end).await?;
        let (damage, gaps) = (recovery.damage, recovery.gaps);
        let (applied, bytes) = (recovery.applied, recovery.bytes);
        let segment = segments.get(end.segment);
        let writer = Writer::new().await?;
        writer.resume(segment, end, end.sequence + RESTART_GAP + rng::next_u64() % RESTART_SPREAD);
        let inner = Rc::new(Inner {
            superblock,
            salt,
            options,
            segments,
            writer,
            apply,
            tasks: RefCell::default(),
            poisoned: RefCell::default(),
            counts: Counts::default(),
        });
        let make = {
            let inner = inner.clone();
            async move { inner.segments.keep_making(&inner.counts, || inner.writer.wake_all()).await }
        };
        let tasks = vec![spawn(Class::Foreground, inner.clone().write()), spawn(Class::Foreground, make)];
        inner.tasks.replace(tasks);
        let log = Log(Rc::new(Handle { inner }));
        Ok(Opened { log, applied, bytes, torn, damage, gaps })
    }
}

/// Opens all segment files and tells what each holds.
async fn find_segments(
    dir: &Dir,
    superblock: &Superblock,
    segments: &Segments,
    damage: &mut Vec<Damage>,
) -> Result<Vec<SegmentHeader>, LogError> {
    let salt = superblock.salt();
    let mut headers: Vec<SegmentHeader> = Vec::new();
    for slot in Segments::files(dir).await? {
        let file = Segments::open_file(dir, slot, Mode::Write).await?;
        let (first, unreadable) = read_or_ones(&file, 2 * BLOCK).await?;
        let (head, batch) = first.split_at(BLOCK.min(first.len()));
        let batch = BatchHeader::decode(batch, salt)?;
        if let Some(error) = unreadable
            && batch.is_none()
        {
            // Nobody knows what is in this file; it may hold what was answered for.
            return Err(error.into());
        }
        let Some(header) = header_of(head, batch, salt, damage)? else {
            if is_unused(head, salt)? {
                let is_freed = head.iter().any(|byte| *byte != 0);
                keep_unused(segments, slot, file, is_freed).await?;
            } else {
                damage.push(bad_file(superblock));
                segments.found_bad(slot);
            }
            continue;
        };
        let Some(place) = headers.iter().position(|other| other.number == header.number) else {
            headers.push(header);
            segments.found(header.number, header.first, slot, file);
            continue;
        };
        // An earlier life began this segment and a start cut it off, but failed to make that durable: numbers only rise.
        match header.first.cmp(&headers[place].first) {
            Ordering::Less => keep_unused(segments, slot, file, true).await?,
            Ordering::Equal => {
                damage.push(bad_file(superblock));
                segments.found_bad(slot);
            }
            Ordering::Greater => {
                let stale = segments.discard(header.number).expect("found before");
                keep_unused(segments, stale.slot, stale.file.clone(), true).await?;
                headers[place] = header;
                segments.found(header.number, header.first, slot, file);
            }
        }
    }
    headers.sort_unstable_by_key(|header| header.number);
    Ok(headers)
}

/// Takes in a file that holds nothing: made but never finished, or freed. Of one that was freed this is written again: an
/// earlier life's sync may have failed, and what was there would be back after a power cut.
async fn keep_unused(segments: &Segments, slot: u32, file: File, is_freed: bool) -> io::Result<()> {
    if is_freed {
        mark_free(&file, segments.salt()).await?;
    }
    if file.allocate(0, u64::from(segments.bytes())).await.is_err() {
        // It lacks its end or has holes, and a full disk must not keep the lane from opening.
        segments.found_bad(slot);
    } else {
        segments.found_unused(slot, file);
    }
    Ok(())
}

fn bad_file(superblock: &Superblock) -> Damage {
    Damage { segment: 0, bytes: 0..u64::from(superblock.segment_bytes), sequences: 0..0, what: What::File }
}

/// Which segment a file holds, by its first block, or else by its first batch; `None` if it holds none.
pub(super) fn header_of(
    head: &[u8],
    batch: Option<BatchHeader>,
    salt: u64,
    damage: &mut Vec<Damage>,
) -> Result<Option<SegmentHeader>, LogError> {
    Ok(match SegmentHeader::decode(head, salt)? {
        FirstBlock::Header(header) => Some(header),
        FirstBlock::Unused => None,
        FirstBlock::Bad => batch.map(|batch| {
            let (segment, bytes) = (batch.segment, 0..BLOCK as u64);
            damage.push(Damage { segment, bytes, sequences: 0..0, what: What::SegmentHeader });
            SegmentHeader { number: batch.segment, first: batch.first, synced: 0 }
        }),
    })
}

pub(super) fn is_unused(head: &[u8], salt: u64) -> Result<bool, LogError> {
    Ok(head.is_empty() || SegmentHeader::decode(head, salt)? == FirstBlock::Unused)
}

/// Reads the front of a file block by block; what can't be read is ones, which are damaged. The error is the first
/// block's.
pub(super) async fn read_or_ones(file: &File, len: usize) -> io::Result<(Block, Option<io::Error>)> {
    if let Ok(block) = file.read_at(0, len).await {
        return Ok((block, None));
    }
    let mut block = block::alloc(len).await?;
    let mut unreadable = None;
    for (at, part) in (0_u64..).step_by(BLOCK).zip(block.chunks_mut(BLOCK)) {
        match file.read_at(at, part.len()).await {
            Ok(read) if read.len() == part.len() => part.copy_from_slice(&read),
            Err(error) if at == 0 => {
                part.fill(0xff);
                unreadable = Some(error);
            }
            _ => part.fill(0xff),
        }
    }
    Ok((block.freeze(), unreadable))
}

/// What following a log found that was only read.
#[derive(Debug)]
pub struct Replayed {
    /// Where the log goes on.
    pub end: Position,
    /// Where a batch lies that nobody was answered for; the next start cuts it off.
    pub torn: Option<Position>,
    /// Records that were applied.
    pub applied: u64,
    /// Records that were answered for and are lost.
    pub damage: Vec<Damage>,
    /// See [`Opened::gaps`].
    pub gaps: Vec<Damage>,
    /// The segments that are part of the log, and where the log leaves each: what lies behind is of lives cut off.
    pub ends: BTreeMap<u64, u64>,
}

/// Applies all records since `from` and changes nothing on disk.
pub(super) async fn replay(
    segments: &Segments,
    headers: Vec<SegmentHeader>,
    salt: u64,
    from: Option<Position>,
    apply: &Apply,
) -> Result<Replayed, LogError> {
    let mut recovery = Recovery { is_read_only: true, ..Recovery::new(segments, headers, salt, apply, vec![]) };
    let (end, torn) = recovery.run(from).await?;
    let Recovery { applied, damage, gaps, ends, .. } = recovery;
    Ok(Replayed { end, torn, applied, damage, gaps, ends })
}

struct Recovery<'a> {
    segments: &'a Segments,
    headers: Vec<SegmentHeader>,
    salt: u64,
    apply: &'a Apply,
    damage: Vec<Damage>,
    gaps: Vec<Damage>,
    applied: u64,
    bytes: u64,
    /// Everything below is said to have been durable.
    synced: u64,
    /// Batches of which nothing says so: segment, bytes, the sequence number behind.
    unproven: Vec<(u64, Range<u64>, u64)>,
    /// Where the chain of each segment ended.
    ends: BTreeMap<u64, u64>,
    /// The segment and the offset behind whose block no header of a batch was found, nor the mark of one.
    nothing_behind: Option<(u64, usize)>,
    /// Nothing is written, and files are mapped where they can be.
    is_read_only: bool,
}

impl<'a> Recovery<'a> {
    fn new(
        segments: &'a Segments,
        headers: Vec<SegmentHeader>,
        salt: u64,
        apply: &'a Apply,
        damage: Vec<Damage>,
    ) -> Self {
        Self {
            segments,
            headers,
            salt,
            apply,
            damage,
            gaps: vec![],
            applied: 0,
            bytes: 0,
            synced: 0,
            unproven: vec![],
            ends: BTreeMap::new(),
            nothing_behind: None,
            is_read_only: false,
        }
    }

    /// Applies everything and returns where the log goes on, and where something was cut off.
    async fn run(&mut self, from: Option<Position>) -> Result<(Position, Option<Position>), LogError> {
        // Before its first record a log is in no segment.
        let from = from.filter(|from| from.segment != 0);
        let Some(start) = self.start(from)? else {
            return Ok((Position { segment: 0, offset: 0, sequence: 1 }, None));
        };
        let mut at = start;
        let mut index = self.headers.iter().position(|header| header.number == at.segment).unwrap_or(0);
        loop {
            let segment = self.segments.get(at.segment).expect("in the list of headers");
            let mut chain = self.chain(&segment, at);
            let torn = self.follow(&mut chain).await?;
            self.ends.insert(at.segment, chain.offset as u64);
            self.bytes += (chain.offset as u64).saturating_sub(u64::from(at.offset));
            let sequence = chain.expected.unwrap_or(at.sequence);
            at = Position { segment: at.segment, offset: chain.offset as u32, sequence };
            if torn {
                self.discard(index + 1).await?;
                return Ok((at, Some(at)));
            }
            let Some(next) = self.headers.get(index + 1).copied() else { return Ok((at, None)) };
            // Where the next segment doesn't follow, either it was never synced, or what lies between is lost.
            if !self.continues(next, sequence).await? {
                if !self.is_proven(at, sequence).await? {
                    self.discard(index + 1).await?;
                    return Ok((at, None));
                }
                self.report_missing(at, next, from.is_some());
                at.sequence = next.first;
            }
            at = Position { segment: next.number, offset: BLOCK as u32, sequence: at.sequence };
            index += 1;
        }
    }

    /// Takes note that what lies between here and the next segment isn't there.
    fn report_missing(&mut self, at: Position, next: SegmentHeader, is_behind_checkpoint: bool) {
        let (segment, sequences) = (at.segment, at.sequence..next.first);
        if next.number == segment + 1 {
            let bytes = u64::from(at.offset)..u64::from(self.segments.bytes());
            self.damage.push(Damage { segment, bytes, sequences, what: What::Batch });
            return;
        }
        let gap = Damage { segment: segment + 1, bytes: 0..0, sequences, what: What::Segment };
        // A file that can't be told may be the one that is missing.
        if is_behind_checkpoint || self.damage.iter().any(|damage| damage.what == What::File) {
            self.damage.push(gap);
        } else {
            self.gaps.push(gap);
        }
    }

    /// Where to begin.
    fn start(&self, from: Option<Position>) -> Result<Option<Position>, LogError> {
        let first = self.headers.first().copied();
        match (from, first) {
            (Some(from), _) if self.headers.iter().any(|header| header.number == from.segment) => Ok(Some(from)),
            (Some(from), _) => Err(LogError::IndexAhead(from)),
            (None, None) => Ok(None),
            (None, Some(first)) => {
                Ok(Some(Position { segment: first.number, offset: BLOCK as u32, sequence: first.first }))
            }
        }
    }

    fn chain(&self, segment: &Rc<Segment>, at: Position) -> Chain {
        let bytes = self.segments.bytes() as usize;
        let source = if self.is_read_only {
            Source::map(&segment.file, bytes)
        } else {
            Source::Windows(Windows::new(segment.file.clone(), bytes))
        };
        Chain::new(source, self.salt, at.segment, at.offset as usize, Some(at.sequence))
    }

    /// Applies the batches of one segment. True if the log ends here with a batch that was never answered for.
    async fn follow(&mut self, chain: &mut Chain) -> Result<bool, LogError> {
        let next = self.headers.iter().find(|header| header.number > chain.segment).copied();
        let mut cut_at = match next {
            Some(next) => self.restart_of(next).await,
            None => Ok(None),
        };
        loop {
            let at = Position {
                segment: chain.segment,
                offset: chain.offset as u32,
                sequence: chain.expected.unwrap_or_default(),
            };
            // An earlier start cut off what is here, torn or whole, and what came next didn't fit into its place. Proofs
            // behind it are none of this batch.
            if matches!(cut_at, Ok(Some(sequence)) if sequence == at.sequence) {
                return Ok(false);
            }
            match chain.peek().await? {
                Batch::Whole { header, offset, bytes } => {
                    let parts = cut(&bytes, &header, self.salt)?;
                    if !is_whole(&parts) {
                        cut_at = Ok(cut_at?);
                        let range = offset..offset + header.bytes as usize;
                        if !self.is_proven(at, header.first).await? {
                            refuse_unreadable(&chain.source, &range)?;
                            return Ok(true);
                        }
                        for part in &parts {
                            self.refuse_unread(chain, &unaccounted(part, offset))?;
                        }
                    }
                    self.apply(&parts, &header, offset, &bytes);
                    chain.pass(&header);
                    self.note(&header, offset);
                }
                Batch::End => {
                    // Where the next segment goes on, what lies behind is of lives that were cut off.
                    if next.is_some_and(|next| next.first == at.sequence) {
                        return Ok(false);
                    }
                    cut_at = Ok(cut_at?);
                    let Some((offset, header)) = chain.find_next().await? else {
                        self.nothing_behind = chain.marks.is_empty().then_some((chain.segment, chain.offset));
                        let range = chain.offset..chain.offset + BLOCK;
                        if next.is_none() || !self.is_proven(at, at.sequence).await? {
                            refuse_unreadable(&chain.source, &range)?;
                        }
                        self.refuse_unread(chain, &range)?;
                        return Ok(false);
                    };
                    if !self.is_proven(at, at.sequence).await? {
                        refuse_unreadable(&chain.source, &(chain.offset..chain.offset + BLOCK))?;
                        return Ok(true);
                    }
                    self.refuse_unread(chain, &(chain.offset..offset))?;
                    let sequences = at.sequence..header.first;
                    let bytes = chain.offset as u64..offset as u64;
                    self.damage.push(Damage { segment: chain.segment, bytes, sequences, what: What::Batch });
                    chain.offset = offset;
                    chain.expected = Some(header.first);
                }
            }
        }
    }

    /// What the disk can't read now it may read at the next start; an index made without it would be wrong for good. Who only
    /// looks is told of it as damage.
    fn refuse_unread(&self, chain: &Chain, range: &Range<usize>) -> Result<(), LogError> {
        if self.is_read_only || !chain.source.is_unreadable(range) {
            return Ok(());
        }
        let message = format!(
            "the disk can't read a part of the log (segment {}, bytes {} to {}) that may say what was dropped or voted \
             for: try again; if it stays so, run `cairn fsck --rebuild` on the lane, which makes its index without that part",
            chain.segment, range.start, range.end
        );
        Err(io::Error::other(message).into())
    }

    fn apply(&mut self, parts: &[Part<'_>], batch: &BatchHeader, offset: usize, bytes: &bytes::Bytes) {
        let end = batch.first + u64::from(batch.records);
        let is_settled = self.headers.last().is_some_and(|last| last.synced >= end);
        for part in parts {
            match step_of(part, batch, offset, bytes) {
                Step::Record(found) => {
                    self.applied += 1;
                    let payload: &[u8] = match part {
                        Part::Record { payload, is_whole: true, .. } if found.kind != Kind::Chunk => payload,
                        _ => &[],
                    };
                    (self.apply)(&Entry {
                        batch: Position { segment: batch.segment, offset: offset as u32, sequence: batch.first },
                        is_settled,
                        kind: found.kind,
                        id: &found.id,
                        sequence: found.sequence,
                        wall: found.wall,
                        location: found.location,
                        length: found.length,
                        payload,
                        is_whole: found.is_whole,
                    });
                }
                Step::Damage(damage) => self.damage.push(damage),
            }
        }
    }

    /// Remembers what must be made durable, now that it was applied.
    fn note(&mut self, batch: &BatchHeader, offset: usize) {
        // The segment's header goes with its first batch.
        let from = if offset == BLOCK { 0 } else { offset as u64 };
        let end = batch.first + u64::from(batch.records);
        self.unproven.push((batch.segment, from..offset as u64 + u64::from(batch.bytes), end));
        if batch.synced > self.synced {
            self.synced = batch.synced;
            self.unproven.retain(|(.., end)| *end > batch.synced);
        }
    }

    /// Makes durable what was applied and may not be: a life that ended before its sync, or whose sync failed, leaves
    /// bytes that are read now and gone after the next power cut. A sync alone proves nothing after one that failed,
    /// so they are written again.
    async fn settle(&mut self, end: Position) -> Result<(), LogError> {
        if end.offset as usize == BLOCK {
            self.unproven.push((end.segment, 0..BLOCK as u64, end.sequence));
        }
        self.wipe(end).await?;
        let unproven = std::mem::take(&mut self.unproven);
        for (at, (number, range, _)) in unproven.iter().enumerate() {
            let segment = self.segments.get(*number).expect("in the list of headers");
            for from in range.clone().step_by(REWRITE) {
                let len = REWRITE.min((range.end - from) as usize);
                segment.file.write_at(segment.file.read_at(from, len).await?, from).await?;
            }
            if unproven.get(at + 1).is_none_or(|(next, ..)| next != number) {
                segment.file.sync_data().await?;
            }
        }
        Ok(())
    }

    /// Makes what was cut off unreadable, so that it is taken for nothing later: not for the end of a segment that goes
    /// on elsewhere, and not for what follows in this one. What bears the mark of an earlier start is marked again: that one's
    /// sync may have failed.
    async fn wipe(&self, end: Position) -> Result<(), LogError> {
        let Some(segment) = self.segments.get(end.segment) else { return Ok(()) };
        let mut chain = self.chain(&segment, end);
        let mut cut_off = Vec::new();
        let first = chain.source.bytes(chain.offset, BLOCK).await?;
        let is_batch = |header: BatchHeader| header.segment == end.segment;
        if first.starts_with(&CUT_OFF) || BatchHeader::decode(&first, self.salt)?.is_some_and(is_batch) {
            cut_off.push(chain.offset);
        }
        if self.nothing_behind != Some((end.segment, chain.offset)) {
            while let Some((offset, _)) = chain.find_next().await? {
                cut_off.push(offset);
                chain.offset = offset;
            }
            cut_off.append(&mut chain.marks);
        }
        for offset in &cut_off {
            let mut mark = block::alloc(BLOCK).await?;
            mark.fill(0);
            mark[..CUT_OFF.len()].copy_from_slice(&CUT_OFF);
            segment.file.write_at(mark.freeze(), *offset as u64).await?;
        }
        if !cut_off.is_empty() {
            segment.file.sync_data().await?;
        }
        Ok(())
    }

    /// Whether a segment goes on behind this sequence number.
    async fn continues(&self, next: SegmentHeader, sequence: u64) -> Result<bool, LogError> {
        Ok(next.first == sequence || self.restart_of(next).await? == Some(sequence))
    }

    /// The sequence number behind which a segment begins with a restart, if it does.
    async fn restart_of(&self, next: SegmentHeader) -> Result<Option<u64>, LogError> {
        let segment = self.segments.get(next.number).expect("in the list of headers");
        Ok(first_batch(&segment.file, &next, self.salt).await?.and_then(|batch| batch.restarts))
    }

    /// Whether anything behind this position says that the record with this sequence number was durable.
    async fn is_proven(&self, at: Position, sequence: u64) -> Result<bool, LogError> {
        if self.headers.iter().any(|header| header.number > at.segment && header.synced > sequence) {
            return Ok(true);
        }
        for header in self.headers.iter().filter(|header| header.number >= at.segment) {
            let segment = self.segments.get(header.number).expect("in the list of headers");
            let offset = if header.number == at.segment { at.offset } else { 0 };
            let mut chain = self.chain(&segment, Position { segment: header.number, offset, sequence });
            let limit = offset as usize + LOOK_AHEAD;
            while let Some((offset, batch)) = chain.find_next().await?.filter(|(offset, _)| *offset < limit) {
                if batch.synced > sequence {
                    return Ok(true);
                }
                chain.offset = offset;
            }
            // What can't be read may be the proof.
            refuse_unreadable(&chain.source, &(offset as usize..limit))?;
        }
        Ok(false)
    }

    /// Frees the segments from this one on: they hold nothing that anybody was answered for.
    async fn discard(&mut self, from: usize) -> Result<(), LogError> {
        let discarded: Vec<SegmentHeader> = self.headers.drain(from.min(self.headers.len())..).collect();
        for header in discarded.into_iter().filter(|_| !self.is_read_only) {
            if let Some(segment) = self.segments.discard(header.number) {
                mark_free(&segment.file, self.salt).await?;
                self.segments.reuse(&segment);
            }
        }
        Ok(())
    }
}

/// The bytes of which nobody can tell what they were, given a part of the batch at `offset`. A chunk whose header is there is
/// known, however bad its payload.
fn unaccounted(part: &Part<'_>, offset: usize) -> Range<usize> {
    match part {
        Part::Record { header, .. } if header.kind == Kind::Chunk => 0..0,
        Part::Record { is_whole: true, .. } => 0..0,
        Part::Record { header, at, .. } => offset + at..offset + at + header.extent(*at),
        Part::Lost { range, .. } => offset + range.start..offset + range.end,
    }
}

/// An unreadable block is no torn write: cutting it off could lose what was answered for.
fn refuse_unreadable(source: &Source, range: &Range<usize>) -> Result<(), LogError> {
    if source.is_unreadable(range) {
        let message = format!(
            "the disk can't read the end of the log (bytes {} to {}), which may hold data: try again, or copy the disk \
             to another with a tool that skips bad blocks and run `cairn fsck` on the copy",
            range.start, range.end
        );
        return Err(io::Error::other(message).into());
    }
    Ok(())
}
