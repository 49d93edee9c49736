//! Group commit: batches are gathered, written ahead of the sync before them, synced, applied and answered in order.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_channel::oneshot;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::format::{BLOCK, BatchHeader, HEADER, IN_PLACE_MIN, RECORD_ALIGN, RecordHeader, SPAN, SegmentHeader, spans};
use super::gather::{FILL, Gather, Gathered};
use super::segments::Segment;
use super::{Entry, Id, Inner, Kind, Location, Log, LogError, Payload, Placed, Position, Record, Room};
use crate::time::Instant;
use crate::{Bell, Block, BlockMut, block, time};

/// Batches that may be on their way to the disk at once; more than one only when they are large.
const WRITES_MAX: usize = 4;
/// Batches of at most so many bytes are made durable by the write itself if nothing else is under way.
const DURABLE_MAX: usize = 512 << 10;
/// Pieces of memory for packing that a log keeps for itself: waiting for the pool while records hold it would be a
/// deadlock.
const FILLS: usize = 48;
/// Before the first record.
const START: Position = Position { segment: 0, offset: 0, sequence: 1 };
/// The longest head of a record.
const HEAD_MAX: usize = HEADER + super::format::PAYLOAD_MAX / SPAN * 8;

pub struct Writer {
    state: RefCell<State>,
    /// There is something to write.
    work: Bell,
    /// There may be room for those who wait to append.
    room: Bell,
}

struct State {
    /// What is written to; `None` before the first segment.
    segment: Option<Rc<Segment>>,
    /// Where in it the next batch begins.
    tail: u32,
    /// The sequence number of the next record.
    next: u64,
    /// Everything before is durable.
    durable: Position,
    /// Everything before is applied, too.
    applied: Position,
    /// Everything before is said to be durable by something that is durable itself.
    proven: Position,
    /// The number that would have followed, had there been no restart; said in the first batch.
    restarts: Option<u64>,
    gather: Option<Gather>,
    /// Batches that wait to be written.
    closed: VecDeque<Batch>,
    /// Memory for packing that is free, and such that somebody else may still hold for a moment.
    fills: Vec<BlockMut>,
    lent: Vec<Block>,
    /// For the header of the segment that was just begun.
    header: Option<BlockMut>,
    /// The batch that gathers is waited for; write it whatever is under way.
    is_urgent: bool,
    /// Bytes of records that are gathered or under way.
    in_flight: usize,
    /// Batches that are under way.
    batches: usize,
    /// Records that are applied and not answered for yet.
    unanswered: usize,
    is_closing: bool,
}

/// A batch on its way.
struct Batch {
    segment: Rc<Segment>,
    offset: u32,
    /// What follows it.
    end: Position,
    /// Everything before this is durable, as its header says.
    proves: Position,
    wall: u64,
    blocks: Vec<Block>,
    packed: Vec<Block>,
    bytes: usize,
    /// What it counts for in `in_flight`.
    weight: usize,
    entries: Vec<Gathered>,
}

/// What is owed for a record that is durable and applied.
struct Answer {
    placed: Placed,
    to: oneshot::Sender<Result<Placed, LogError>>,
}

/// A record that is ready to be gathered.
struct Prepared {
    kind: Kind,
    id: Id,
    payload: Payload,
    length: usize,
    is_aligned: bool,
    table: Vec<u64>,
}

/// What became of an attempt to gather a record.
enum Attempt {
    Gathered(oneshot::Receiver<Result<Placed, LogError>>),
    Wait,
}

/// A record that is on its way: it has its place in the order, and will be applied even if nobody awaits this.
#[derive(Debug)]
#[must_use = "a record is durable only when this says so"]
pub struct Pending(oneshot::Receiver<Result<Placed, LogError>>);

impl Future for Pending {
    type Output = Result<Placed, LogError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // The writer is gone only with the log.
        Pin::new(&mut self.0).poll(cx).map(|answer| answer.unwrap_or(Err(LogError::Closed)))
    }
}

impl Log {
    /// Appends a record; it is durable and applied when this returns.
    ///
    /// # Errors
    /// [`LogError::NoRoom`], [`LogError::Poisoned`], [`LogError::TooLong`], [`LogError::Uneven`]. After `Poisoned` the record
    /// may or may not be found at the next start.
    pub async fn append(&self, record: Record, room: Room) -> Result<Placed, LogError> {
        self.submit(record, room).await?.await
    }

    /// Puts a record into the order; it is durable and applied when what this returns says so. Records submitted one
    /// after the other are in that order.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub async fn submit(&self, record: Record, room: Room) -> Result<Pending, LogError> {
        let length = record.payload.len();
        let max = self.payload_max();
        if length > max {
            return Err(LogError::TooLong { length, max });
        }
        let prepared = self.0.inner.prepare(record).await?;
        loop {
            match self.0.inner.gather(&prepared, room)? {
                Attempt::Gathered(answer) => return Ok(Pending(answer)),
                Attempt::Wait => self.0.inner.writer.room.rung().await,
            }
        }
    }

    /// Waits until everything submitted is durable, or after a failure given up, then takes no more records.
    pub async fn close(&self) {
        let writer = &self.0.inner.writer;
        writer.state.borrow_mut().is_closing = true;
        // Whoever waits for room waits in vain from now on.
        writer.wake_all();
        // Also after a failure: a write that is still under way would land on what the next start finds.
        while writer.is_busy() {
            writer.work.ring();
            writer.room.rung().await;
        }
        self.0.inner.tasks.borrow_mut().clear();
    }
}

impl Writer {
    pub async fn new() -> io::Result<Self> {
        let mut fills = Vec::with_capacity(FILLS);
        for _ in 0..FILLS {
            fills.push(block::alloc(FILL).await?);
        }
        // Taken from the end: neighbours in memory in their order, which are written as one.
        fills.reverse();
        let state = State {
            segment: None,
            tail: 0,
            next: 1,
            durable: START,
            applied: START,
            proven: Position::default(),
            restarts: None,
            gather: None,
            closed: VecDeque::new(),
            fills,
            lent: vec![],
            header: None,
            is_urgent: false,
            in_flight: 0,
            batches: 0,
            unanswered: 0,
            is_closing: false,
        };
        Ok(Self { state: RefCell::new(state), work: Bell::default(), room: Bell::default() })
    }

    /// Goes on behind what was recovered.
    pub fn resume(&self, segment: Option<Rc<Segment>>, end: Position, next: u64) {
        let mut state = self.state.borrow_mut();
        state.tail = end.offset;
        if end.offset as usize == BLOCK {
            // Nothing of the segment is there but its header, which is written again with its first batch.
            state.header = state.take_fill();
        }
        state.segment = segment;
        state.restarts = Some(end.sequence);
        state.next = next;
        state.durable = end;
        state.applied = end;
    }

    pub fn applied(&self) -> Position {
        self.state.borrow().applied
    }

    pub fn proven(&self) -> Position {
        self.state.borrow().proven
    }

    /// The number of the segment that is written to.
    pub fn head(&self) -> u64 {
        self.state.borrow().segment.as_ref().map_or(0, |segment| segment.number)
    }

    pub fn wake_all(&self) {
        self.work.ring();
        self.room.ring();
    }

    pub fn is_busy(&self) -> bool {
        let state = self.state.borrow();
        let gathers = state.gather.as_ref().is_some_and(|gather| !gather.entries.is_empty());
        gathers || !state.closed.is_empty() || state.batches > 0 || state.unanswered > 0
    }
}

impl Inner {
    /// Brings a payload into the form it is written in and sums it up.
    async fn prepare(&self, record: Record) -> Result<Prepared, LogError> {
        let length = record.payload.len();
        let payload = match record.payload {
            Payload::Bytes(bytes) if length >= IN_PLACE_MIN => Payload::Blocks(vec![copy(&[&bytes]).await?]),
            Payload::Blocks(blocks) => {
                if blocks.iter().rev().skip(1).any(|block| !block.len().is_multiple_of(SPAN)) {
                    return Err(LogError::Uneven);
                }
                let mut aligned = Vec::with_capacity(blocks.len());
                for block in blocks {
                    aligned.push(if block.is_aligned(BLOCK) { block } else { copy(&[&block]).await? });
                }
                if record.kind != Kind::Chunk && aligned.len() > 1 {
                    let parts: Vec<&[u8]> = aligned.iter().map(|block| &**block).collect();
                    aligned = vec![copy(&parts).await?];
                }
                Payload::Blocks(aligned)
            }
            payload @ Payload::Bytes(_) => payload,
        };
        let mut table = Vec::with_capacity(spans(length));
        let mut sum =
            |bytes: &[u8]| table.extend(bytes.chunks(SPAN).map(|span| super::format::span_sum(span, self.salt)));
        match &payload {
            Payload::Bytes(bytes) => sum(bytes),
            Payload::Blocks(blocks) => blocks.iter().for_each(|block| sum(block)),
        }
        let is_aligned = length >= IN_PLACE_MIN;
        Ok(Prepared { kind: record.kind, id: record.id, payload, length, is_aligned, table })
    }

    /// Puts a record into the batch that gathers, if there is room now.
    fn gather(&self, record: &Prepared, room: Room) -> Result<Attempt, LogError> {
        self.check_poison()?;
        let state = &mut *self.writer.state.borrow_mut();
        if state.is_closing {
            return Err(LogError::Closed);
        }
        let weight = record.length + HEADER;
        let is_over = state.in_flight > 0 && state.in_flight + weight > self.options.in_flight_bytes;
        if is_over || !self.segments.admits(room)? {
            return Ok(Attempt::Wait);
        }
        let segment_bytes = self.superblock.segment_bytes as usize;
        loop {
            let gather = state.gather.get_or_insert_with(|| Gather::new(state.tail, state.next));
            let header = RecordHeader {
                kind: record.kind,
                is_aligned: record.is_aligned,
                extension: 0,
                stored: record.length as u32,
                length: record.length as u32,
                sequence: state.next,
                id: record.id,
            };
            let at = gather.record_at();
            let end = (at + header.extent(at) + RECORD_ALIGN).next_multiple_of(BLOCK);
            let fits = state.segment.is_some() && end <= segment_bytes;
            if !gather.entries.is_empty() && (!fits || gather.len() >= self.options.batch_bytes) {
                self.close_batch(state);
                continue;
            }
            if !fits {
                // The batch that gathers is empty, so nothing is lost with it but its memory.
                let unused = state.gather.take().map(Gather::into_memory);
                state.fills.extend(unused.into_iter().flatten());
                if !self.rotate(state, room)? {
                    return Ok(Attempt::Wait);
                }
                continue;
            }
            if gather.wants_memory(&header) {
                let Some(fill) = state.take_fill() else {
                    state.is_urgent = true;
                    self.writer.work.ring();
                    return Ok(Attempt::Wait);
                };
                state.gather.as_mut().expect("just made").give(fill);
                continue;
            }
            let mut head = [0; HEAD_MAX];
            let head = &mut head[..header.head()];
            header.encode_into(self.salt, &record.table, head);
            let (offset, extent) = gather.add(&header, head, &record.payload);
            let number = state.segment.as_ref().map_or(0, |segment| segment.number);
            let location = Location { segment: number, offset, extent, stored: header.stored };
            let applied = if record.kind == Kind::Chunk { Payload::EMPTY } else { record.payload.clone() };
            let (answer, answered) = oneshot::channel();
            let (kind, id, length) = (record.kind, record.id, header.length);
            gather.entries.push(Gathered { kind, id, location, length, payload: applied, answer });
            state.next += 1;
            state.in_flight += weight;
            self.writer.work.ring();
            return Ok(Attempt::Gathered(answered));
        }
    }

    /// Begins the next segment; false if one must be waited for.
    fn rotate(&self, state: &mut State, room: Room) -> Result<bool, LogError> {
        if state.header.is_none() {
            state.header = state.take_fill();
        }
        if state.header.is_none() {
            return Ok(false);
        }
        let number = self.segments.highest().max(state.segment.as_ref().map_or(0, |segment| segment.number)) + 1;
        let Some(segment) = self.segments.rotate(number, state.next, room)? else { return Ok(false) };
        state.segment = Some(segment);
        state.tail = BLOCK as u32;
        Ok(true)
    }

    /// Ends the batch that gathers and puts it in line to be written.
    fn close_batch(&self, state: &mut State) {
        let Some(mut gather) = state.gather.take() else { return };
        let segment = state.segment.clone().expect("a batch gathers only where there is a segment");
        let bytes = gather.padded();
        let header = BatchHeader {
            first: gather.first,
            restarts: state.restarts.take(),
            synced: state.durable.sequence,
            wall: time::wall().as_unix_nanos(),
            bytes: bytes as u32,
            records: gather.entries.len() as u32,
            segment: segment.number,
        };
        let (mut blocks, mut packed, left) = gather.close(&header, self.salt);
        state.fills.extend(left);
        let mut offset = gather.offset;
        if offset as usize == BLOCK {
            let mut first = state.header.take().expect("kept when the segment was begun");
            first.set_len(BLOCK);
            // A segment that a life before began and wrote nothing to has another first record now.
            let header = SegmentHeader { number: segment.number, first: gather.first, synced: state.durable.sequence };
            header.encode_into(self.salt, &mut first);
            packed.push(first.freeze());
            blocks.splice(..0, packed.last().cloned());
            offset = 0;
        }
        state.tail = gather.offset + bytes as u32;
        let end = Position { segment: segment.number, offset: state.tail, sequence: state.next };
        let entries = std::mem::take(&mut gather.entries);
        let weight = entries.iter().map(|entry| entry.length as usize + HEADER).sum();
        state.closed.push_back(Batch {
            segment,
            offset,
            end,
            proves: state.durable,
            wall: header.wall,
            blocks,
            packed,
            bytes,
            weight,
            entries,
        });
    }

    /// The next batch to write, given how many are being written, the length of the last of them, and how many wait for
    /// their sync.
    fn next_batch(&self, writing: usize, last: usize, ahead: usize) -> Option<Batch> {
        let state = &mut *self.writer.state.borrow_mut();
        if writing >= WRITES_MAX {
            return None;
        }
        if state.closed.is_empty() {
            let gather = state.gather.as_ref().filter(|gather| !gather.entries.is_empty())?;
            // A small batch is written when it would be synced next, or when it is as large as the one before it, which
            // would only have the disk wait for it; until then it gathers more.
            let is_next = ahead == 0 && (writing == 0 || writing == 1 && gather.padded() >= last);
            if is_next || state.is_urgent || gather.len() >= self.options.batch_bytes {
                self.close_batch(state);
                state.is_urgent = false;
            }
        }
        let batch = state.closed.pop_front()?;
        state.batches += 1;
        Some(batch)
    }

    /// How many records have gathered.
    fn gathered(&self) -> usize {
        self.writer.state.borrow().gather.as_ref().map_or(0, |gather| gather.entries.len())
    }

    /// What is closed from now on says that this batch is durable.
    fn is_durable(&self, batch: &Batch) {
        self.writer.state.borrow_mut().durable = batch.end;
    }

    /// Applies a durable batch; gives back what is to be answered.
    fn apply_batch(&self, batch: Batch) -> impl Iterator<Item = Answer> + use<> {
        let first = batch.end.sequence - batch.entries.len() as u64;
        let start = Position { offset: batch.end.offset - batch.bytes as u32, sequence: first, ..batch.end };
        for (sequence, entry) in (first..).zip(&batch.entries) {
            (self.apply)(&Entry {
                batch: start,
                is_settled: true,
                kind: entry.kind,
                id: &entry.id,
                sequence,
                wall: batch.wall,
                location: entry.location,
                length: entry.length,
                payload: entry.bytes(),
                is_whole: true,
            });
        }
        let mut state = self.writer.state.borrow_mut();
        state.applied = batch.end;
        state.proven = batch.proves;
        state.unanswered += batch.entries.len();
        state.give_back(&batch);
        drop(state);
        self.segments.saw_batch(batch.bytes);
        self.counts.add(|stats| {
            stats.records += batch.entries.len() as u64;
            stats.batches += 1;
            stats.batch_bytes += batch.bytes as u64;
        });
        (first..).zip(batch.entries).map(|(sequence, entry)| {
            let placed = Placed { sequence, location: entry.location };
            Answer { placed, to: entry.answer }
        })
    }

    /// Answers for records that are durable and applied.
    fn answer(&self, answers: impl ExactSizeIterator<Item = Answer>) {
        self.writer.state.borrow_mut().unanswered -= answers.len();
        for Answer { placed, to } in answers {
            // Whoever gave up waiting doesn't want the answer.
            let _ = to.send(Ok(placed));
        }
        self.writer.room.ring();
    }

    /// Answers for a batch of which nobody knows whether it is durable.
    fn fail(&self, batch: Batch) {
        self.writer.state.borrow_mut().give_back(&batch);
        for entry in batch.entries {
            let reason = self.poisoned.borrow().clone().unwrap_or_else(|| "an unknown failure".into());
            let _ = entry.answer.send(Err(LogError::Poisoned(reason)));
        }
    }

    /// Fails everything that waits to be written.
    fn fail_waiting(&self) {
        let (waiting, gather) = {
            let mut state = self.writer.state.borrow_mut();
            (std::mem::take(&mut state.closed), state.gather.take())
        };
        if waiting.is_empty() && gather.is_none() {
            // To ring would wake the writer, which is here already: for ever.
            return;
        }
        let counted = waiting.len();
        self.writer.state.borrow_mut().batches += counted;
        waiting.into_iter().for_each(|batch| self.fail(batch));
        let mut gather = gather;
        for entry in gather.iter_mut().flat_map(|gather| std::mem::take(&mut gather.entries)) {
            let reason = self.poisoned.borrow().clone().unwrap_or_else(|| "an unknown failure".into());
            let _ = entry.answer.send(Err(LogError::Poisoned(reason)));
        }
        self.writer.state.borrow_mut().in_flight = 0;
        self.writer.wake_all();
    }

    /// Writes and syncs what is gathered, until the log is dropped.
    pub fn write(self: Rc<Self>) -> impl Future<Output = ()> {
        let mut work = Work::new(self);
        std::future::poll_fn(move |cx| work.poll(cx))
    }
}

impl State {
    /// Takes the memory of a batch back, now that nobody writes from it.
    fn give_back(&mut self, batch: &Batch) {
        self.in_flight = self.in_flight.saturating_sub(batch.weight);
        self.batches -= 1;
        // In the order in which they were made: see `Writer::new`.
        self.lent.extend(batch.packed.iter().rev().cloned());
    }

    /// Memory to pack into: what was given back last, as it is in the processor's cache yet.
    fn take_fill(&mut self) -> Option<BlockMut> {
        match self.lent.pop().map(Block::try_into_mut) {
            Some(Ok(fill)) => return Some(fill),
            Some(Err(block)) => self.lent.push(block),
            None => {}
        }
        if self.fills.is_empty() {
            for block in std::mem::take(&mut self.lent) {
                match block.try_into_mut() {
                    Ok(fill) => self.fills.push(fill),
                    Err(block) => self.lent.push(block),
                }
            }
        }
        self.fills.pop()
    }
}

async fn copy(parts: &[&[u8]]) -> io::Result<Block> {
    let mut block = block::alloc(parts.iter().map(|part| part.len()).sum()).await?;
    let mut at = 0;
    for part in parts {
        block[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    Ok(block.freeze())
}

/// Which batch was written, and whether it is durable already.
type Written = Pin<Box<dyn Future<Output = (u64, bool, io::Result<()>)>>>;
type Synced = Pin<Box<dyn Future<Output = io::Result<()>>>>;

/// What the writer has under way.
struct Work {
    inner: Rc<Inner>,
    /// Rings of the bell that were heard.
    heard: u64,
    writes: FuturesUnordered<Written>,
    /// Batches in order, from the oldest that isn't durable.
    batches: VecDeque<(u64, bool, Batch)>,
    next: u64,
    /// The sync under way and how many batches it covers.
    sync: Option<(usize, Synced)>,
    /// Batches that are durable, to be applied.
    durable: Vec<Batch>,
    /// Records that are applied, to be answered for.
    answers: VecDeque<Answer>,
    pace: Pace,
}

/// What is faster: to wait until all who were answered have come back and to write for all of them at once, or to write
/// for some of them while others compute. With callers that ask again as soon as they are answered, the first takes a
/// sync and the time of all callers for each round, the second two syncs. So it depends on which of the two is longer.
#[derive(Default)]
struct Pace {
    /// Nanoseconds that it takes to make a batch durable, however small, about.
    batch: u64,
    /// Nanoseconds until a caller comes back, about.
    caller: u64,
    /// When a sync was begun that is under way, or a write that ends with one.
    begun: Option<Instant>,
    /// How many callers were answered when the writer ran last, and when.
    answered: Option<(usize, Instant)>,
}

impl Pace {
    /// The tasks that were woken with the answers have run now.
    fn came_back(&mut self) {
        if let Some((callers, when)) = self.answered.take() {
            let each = when.elapsed().as_nanos() as u64 / callers as u64;
            self.caller = if self.caller == 0 { each } else { (7 * self.caller + each) / 8 };
        }
    }

    /// Something is durable. The shortest of late counts: it was held up by nothing else.
    fn ended(&mut self) {
        if let Some(begun) = self.begun.take() {
            let took = begun.elapsed().as_nanos() as u64;
            self.batch = if self.batch == 0 { took } else { took.min(self.batch + self.batch / 64) };
        }
    }

    /// Whether it is better to wait for so many callers.
    fn come_soon(&self, callers: usize) -> bool {
        self.caller * callers as u64 <= self.batch
    }
}

impl Work {
    fn new(inner: Rc<Inner>) -> Self {
        Self {
            inner,
            heard: 0,
            writes: FuturesUnordered::new(),
            batches: VecDeque::new(),
            next: 0,
            sync: None,
            durable: vec![],
            answers: VecDeque::new(),
            pace: Pace::default(),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.pace.came_back();
        loop {
            let mut moved = self.inner.writer.work.poll_rung(cx, &mut self.heard).is_ready();
            moved |= self.reap(cx);
            let waits = self.waits_for_callers();
            // Before anybody is answered: the disk works while callers compute.
            if !waits {
                moved |= self.start_writes();
                moved |= self.start_sync();
            }
            if !moved || waits {
                self.answer(cx, waits);
                return Poll::Pending;
            }
        }
    }

    /// Takes in what the disk has done.
    fn reap(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while let Poll::Ready(Some((number, is_durable, result))) = self.writes.poll_next_unpin(cx) {
            moved = true;
            self.wrote(number, is_durable, result);
        }
        if let Some((covered, sync)) = &mut self.sync
            && let Poll::Ready(result) = sync.as_mut().poll(cx)
        {
            let covered = *covered;
            self.sync = None;
            moved = true;
            self.synced(covered, result);
        }
        moved
    }

    /// Whether the next batch waits for those who are to be answered now.
    fn waits_for_callers(&self) -> bool {
        let callers = self.durable.iter().map(|batch| batch.entries.len()).sum::<usize>();
        callers > 0 && self.batches.is_empty() && self.pace.come_soon(callers + self.inner.gathered())
    }

    /// Applies what is durable and answers for it. If the disk has nothing to do and isn't waited for, only half of the
    /// callers at first, so that what they ask for is written while the others compute.
    fn answer(&mut self, cx: &Context<'_>, waits: bool) {
        let is_rest = !self.answers.is_empty();
        for batch in self.durable.drain(..) {
            self.answers.extend(self.inner.apply_batch(batch));
        }
        let many = self.answers.len();
        let now = if self.batches.is_empty() && !waits && !is_rest { many.div_ceil(2) } else { many };
        if now > 0 {
            self.inner.answer(self.answers.drain(..now));
            self.pace.answered = Some((now, time::now()));
            // Behind the tasks that were just woken.
            cx.waker().wake_by_ref();
        }
    }

    fn start_writes(&mut self) -> bool {
        if self.inner.poisoned.borrow().is_some() {
            if self.batches.is_empty() {
                self.inner.fail_waiting();
            }
            return false;
        }
        let mut started = false;
        loop {
            let syncing = self.sync.as_ref().map_or(0, |(covered, _)| *covered);
            let ahead = self.batches.iter().skip(syncing).filter(|(_, is_written, _)| *is_written).count();
            let last = self.batches.back().map_or(0, |(.., batch)| batch.bytes);
            let Some(mut batch) = self.inner.next_batch(self.writes.len(), last, ahead) else { return started };
            let (number, segment, offset) = (self.next, batch.segment.clone(), u64::from(batch.offset));
            let blocks = std::mem::take(&mut batch.blocks);
            self.next += 1;
            // With nothing else to be made durable, one call does both and saves a way to the kernel and back. While
            // large batches follow one another, one sync is to cover several.
            let is_durable = self.batches.is_empty() && batch.bytes <= DURABLE_MAX;
            if is_durable {
                self.pace.begun = Some(time::now());
            }
            self.batches.push_back((number, false, batch));
            self.writes.push(Box::pin(async move {
                let file = &segment.file;
                let written = if is_durable {
                    file.write_durably_at(blocks, offset).await
                } else {
                    file.write_vectored_at(blocks, offset).await
                };
                (number, is_durable, written)
            }));
            started = true;
        }
    }

    fn wrote(&mut self, number: u64, is_durable: bool, result: io::Result<()>) {
        if let Some(batch) = self.batches.iter_mut().find(|(other, ..)| *other == number) {
            batch.1 = true;
        }
        if let Err(error) = result {
            self.inner.poison(&format!("a write to the log failed ({error})"));
        } else if is_durable && self.sync.is_none() {
            // It was the oldest when it was written, and no sync has begun since.
            return self.synced(1, Ok(()));
        }
        self.give_up_if_poisoned();
    }

    fn start_sync(&mut self) -> bool {
        let covered = self.batches.iter().take_while(|(_, is_written, _)| *is_written).count();
        if self.sync.is_some() || covered == 0 || self.inner.poisoned.borrow().is_some() {
            return false;
        }
        let mut files: Vec<Rc<Segment>> = Vec::with_capacity(1);
        for (_, _, batch) in self.batches.iter().take(covered) {
            if files.last().is_none_or(|last| last.number != batch.segment.number) {
                files.push(batch.segment.clone());
            }
        }
        let sync = async move {
            for segment in files {
                segment.file.sync_data().await?;
            }
            Ok(())
        };
        self.pace.begun = Some(time::now());
        self.sync = Some((covered, Box::pin(sync)));
        true
    }

    fn synced(&mut self, covered: usize, result: io::Result<()>) {
        match result {
            Ok(()) if self.inner.poisoned.borrow().is_none() => {
                self.pace.ended();
                self.inner.counts.add(|stats| stats.syncs += 1);
                for (.., batch) in self.batches.drain(..covered) {
                    self.inner.is_durable(&batch);
                    self.durable.push(batch);
                }
            }
            Ok(()) => {}
            Err(error) => self.inner.poison(&format!("a sync of the log failed ({error})")),
        }
        self.give_up_if_poisoned();
    }

    /// After a failure nothing under way is believed: what was not answered yet fails when the last write is over.
    fn give_up_if_poisoned(&mut self) {
        if self.inner.poisoned.borrow().is_none() || !self.writes.is_empty() || self.sync.is_some() {
            return;
        }
        self.fail_all();
    }

    fn fail_all(&mut self) {
        for (.., batch) in self.batches.drain(..) {
            self.inner.fail(batch);
            self.inner.writer.room.ring();
        }
        self.inner.fail_waiting();
    }
}

impl Drop for Work {
    /// A panic here is a bug; nobody may wait for ever because of it.
    fn drop(&mut self) {
        // With this go the answers that are owed. Whoever closes the log doesn't wait for them.
        if let Ok(mut state) = self.inner.writer.state.try_borrow_mut() {
            state.unanswered = 0;
        }
        if std::thread::panicking() {
            self.inner.poison("the writer of the log failed; this is a bug");
            self.fail_all();
        }
    }
}
