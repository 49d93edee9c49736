//! A slot's Raft log: records of the lane's log, and a piece of its end in memory.
//!
//! An entry has its place in the lane's log when `append` returns; whoever waits for it hears when a sync covers it. Until
//! then it is read from memory, and afterwards for as long as there is room. All groups of a lane share its batches
//! and syncs.
//!
//! Invariants: a vote is durable before it is answered; entries are truncated or purged only when none of them is on
//! its way any more, so that none turns up later. What was committed is not kept: after a restart a node serves a read
//! only when a leader of a term begun since has said how far the log is committed, see [`super::Slots::barrier`] and
//! [`super::Slots::read_own`].

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::rc::Rc;

use bytes::Bytes;
use cairn_io::Bell;
use cairn_io::task::{Class, spawn};
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use tracing::warn;

use super::codec::{Reader, Undecodable, Write, decode_entry, encode_payload};
use super::types::{Entry, Group, LogId, Payload, Vote, log_id, term_of};
use crate::lane::{Lane, LaneError, until_room};

/// Entries that are kept in memory when they are durable: bytes and number.
const CACHE_BYTES: usize = 256 << 10;
const CACHE_ENTRIES: usize = 1024;
/// An entry counts for so much more than its command.
const ENTRY_BYTES: usize = 128;
/// Bytes of one answer to "some entries from here on".
pub(super) const READ_BYTES: usize = 1 << 20;

/// The log of one group. Clones share it.
#[derive(Clone)]
pub struct SlotLog(Rc<Inner>);

struct Inner {
    lane: Lane,
    slot: u32,
    ends: RefCell<Ends>,
    recent: RefCell<Recent>,
    /// Appends that are on their way.
    under_way: Cell<usize>,
    /// Whether nobody waits for room any more.
    is_closing: Cell<bool>,
    landed: Bell,
}

/// What isn't an entry: kept in the slot's Raft state.
#[derive(Clone, Debug, Default)]
struct Ends {
    vote: Option<Vote>,
    purged: Option<LogId>,
    last: Option<LogId>,
}

/// The last entries of the log, without a gap.
#[derive(Default)]
struct Recent {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Entries up to here are in the lane's index.
    durable: u64,
    /// Counts truncations: what lands later doesn't speak of the entries that are here now.
    truncations: u64,
}

impl Recent {
    fn first(&self) -> Option<u64> {
        self.entries.front().map(RaftEntry::index)
    }

    fn push(&mut self, entry: Entry) {
        self.bytes += weight(&entry);
        self.entries.push_back(entry);
    }

    fn pop(&mut self, entry: Option<&Entry>) {
        self.bytes -= entry.map_or(0, weight);
    }

    /// Forgets what can be read from disk and there is no room for.
    fn shrink(&mut self) {
        while self.bytes > CACHE_BYTES || self.entries.len() > CACHE_ENTRIES {
            let durable = self.durable;
            let Some(entry) = self.entries.pop_front_if(|entry| entry.log_id.index <= durable) else { return };
            self.pop(Some(&entry));
        }
    }

    /// Copies the entries from `from` on, for as long as `bytes` allow; false if they begin behind it.
    fn copy(&self, from: u64, to: u64, bytes: usize, taken: &mut usize, found: &mut Vec<Entry>) -> bool {
        let Some(begin) = self.first().and_then(|first| from.checked_sub(first)) else { return false };
        for entry in self.entries.iter().skip(begin as usize).take((to - from) as usize) {
            if *taken >= bytes && !found.is_empty() {
                break;
            }
            *taken += weight(entry);
            found.push(entry.clone());
        }
        true
    }

    fn truncate(&mut self, from: u64) {
        while let Some(entry) = self.entries.pop_back_if(|entry| entry.log_id.index >= from) {
            self.pop(Some(&entry));
        }
        self.durable = self.durable.min(from.saturating_sub(1));
        self.truncations += 1;
    }

    fn purge(&mut self, upto: u64) {
        while let Some(entry) = self.entries.pop_front_if(|entry| entry.log_id.index <= upto) {
            self.pop(Some(&entry));
        }
        self.entries.shrink_to(CACHE_ENTRIES.min(self.entries.len() * 2));
    }
}

fn weight(entry: &Entry) -> usize {
    ENTRY_BYTES + if let Payload::Normal(command) = &entry.payload { command.0.len() } else { 0 }
}

/// The first entry that the log may have once it is purged up to here.
fn first_kept(purged: Option<&LogId>) -> u64 {
    purged.map_or(0, |purged| purged.index + 1)
}

impl SlotLog {
    /// The log of a slot in this lane, as it was left.
    ///
    /// # Errors
    /// If the index can't be read or says what no log of this version is like, or the slot has left this lane.
    pub fn open(lane: &Lane, slot: u32) -> Result<Self, LaneError> {
        let mut ends = Ends::default();
        if lane.has_left(slot)? {
            // What it voted since is elsewhere: here it would vote again.
            let message = "the slot was moved to another lane, which the node's disks should say; bring them all back";
            return Err(io::Error::other(message).into());
        }
        if let Some(lost) = lane.slot_doubt(slot)? {
            // The others of its group would count on what it doesn't know any more.
            let message = format!(
                "a damaged part of its lane's log may have taken some of it along ({lost}): bring back a copy of the lane or \
                 its old index, or see `cairn fsck --accept-loss`"
            );
            return Err(io::Error::other(message).into());
        }
        if let Some((_, state)) = lane.raft_state(slot)? {
            ends = Ends::decode(&state).map_err(io::Error::other)?;
        }
        let last = lane.raft_ends(slot)?.map(|[_, (term, index)]| log_id(term, index));
        ends.last = last.max(ends.purged);
        let applied = lane.slot_applied(slot)?.map_or(0, |at| at.index);
        if let Some(purged) = ends.purged.filter(|purged| purged.index > applied) {
            // The entries between would be passed over without a word.
            let message = format!(
                "its rows have entries up to {applied}, and its log begins behind {}: rows were lost; bring back a copy of the lane",
                purged.index
            );
            return Err(io::Error::other(message).into());
        }
        let durable = ends.last.map_or(0, |last| last.index);
        Ok(Self(Rc::new(Inner {
            lane: lane.clone(),
            slot,
            ends: RefCell::new(ends),
            recent: RefCell::new(Recent { durable, ..Recent::default() }),
            under_way: Cell::new(0),
            is_closing: Cell::new(false),
            landed: Bell::default(),
        })))
    }

    /// Takes its place in the lane, if it never has: a lane without a trace of it would be taken for one that it isn't in.
    ///
    /// # Errors
    /// If the lane takes no writes.
    pub async fn begin(&self) -> io::Result<()> {
        let Inner { lane, slot, .. } = &*self.0;
        if lane.raft_state(*slot).map_err(io_error)?.is_some() {
            return Ok(());
        }
        let ends = self.0.ends.borrow().clone();
        self.save(ends).await
    }

    /// Whether the group has ever had anything here.
    pub fn is_new(&self) -> bool {
        let ends = self.0.ends.borrow();
        ends.vote.is_none() && ends.last.is_none()
    }

    /// The last entry.
    pub fn last(&self) -> Option<LogId> {
        self.0.ends.borrow().last
    }

    /// Whether this entry is durable here.
    pub fn is_durable(&self, index: u64) -> bool {
        self.0.recent.borrow().durable >= index
    }

    /// Waits until this entry is durable here. If it never is, because the lane is poisoned, it waits for ever.
    pub async fn landed(&self, index: u64) {
        while !self.is_durable(index) {
            self.0.landed.rung().await;
        }
    }

    /// Waits until no append is on its way.
    pub async fn all_landed(&self) {
        while self.0.under_way.get() > 0 {
            self.0.landed.rung().await;
        }
    }

    /// From now on nobody waits for room: the group is to end, and what it couldn't write fails.
    pub fn close(&self) {
        self.0.is_closing.set(true);
    }

    /// Does something that must be done, again and again until there is room for it: openraft would end a group for ever that
    /// can't write.
    async fn with_room<T>(&self, attempt: impl AsyncFnMut() -> Result<T, LaneError>) -> io::Result<T> {
        let mut has_warned = false;
        let waits = |error: &LaneError| {
            let waits = !self.0.is_closing.get();
            if waits && !std::mem::replace(&mut has_warned, true) {
                warn!(slot = self.0.slot, %error, "a slot stands still until there is room for its log");
            }
            waits
        };
        until_room(waits, attempt).await.map_err(io_error)
    }

    /// Writes what isn't an entry; durable when this returns.
    async fn save(&self, ends: Ends) -> io::Result<()> {
        let Inner { lane, slot, .. } = &*self.0;
        let (first, state) = (first_kept(ends.purged.as_ref()), ends.encode());
        self.with_room(async || lane.set_raft_state(*slot, first, &state).await).await?;
        let mut here = self.0.ends.borrow_mut();
        // Entries may have come meanwhile.
        *here = Ends { last: here.last.max(ends.purged), ..ends };
        Ok(())
    }

    /// Entries from `from` up to `to`, exclusive, as many as are there without a gap and `bytes` allow, but one at least.
    async fn read(&self, from: u64, to: u64, bytes: usize) -> io::Result<Vec<Entry>> {
        let from = from.max(first_kept(self.0.ends.borrow().purged.as_ref()));
        let to = to.min(self.last().map_or(0, |last| last.index + 1));
        let (mut found, mut taken) = (Vec::new(), 0);
        let mut next = from;
        while next < to && (taken < bytes || found.is_empty()) {
            if self.0.recent.borrow().copy(next, to, bytes, &mut taken, &mut found) {
                break;
            }
            let (term, index, payload) = match self.read_one(next).await? {
                Some(read) => read,
                // The log may begin behind what was asked for.
                None if found.is_empty() && self.first()?.is_some_and(|first| first > next) => {
                    next = self.first()?.unwrap_or(to);
                    continue;
                }
                // Purged or truncated meanwhile.
                None => break,
            };
            let entry = decode_entry(term, index, payload).map_err(io::Error::other)?;
            taken += weight(&entry);
            found.push(entry);
            next += 1;
        }
        Ok(found)
    }

    /// The first entry that is there.
    fn first(&self) -> io::Result<Option<u64>> {
        let ends = self.0.lane.raft_ends(self.0.slot).map_err(io_error)?;
        let recent = self.0.recent.borrow().first();
        Ok(ends.map(|[(_, first), _]| first).into_iter().chain(recent).min())
    }

    async fn read_one(&self, index: u64) -> io::Result<Option<(u64, u64, Bytes)>> {
        let read = self.0.lane.read_raft(self.0.slot, index..=index).await.map_err(io_error)?;
        Ok(read.into_iter().next())
    }
}

/// Says that an append isn't on its way any more, however it ended.
struct UnderWay(Rc<Inner>);

impl UnderWay {
    fn new(inner: &Rc<Inner>) -> Self {
        inner.under_way.set(inner.under_way.get() + 1);
        Self(inner.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get() - 1);
        self.0.landed.ring();
    }
}

impl RaftLogStorage<Group> for SlotLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Group>, io::Error> {
        let ends = self.0.ends.borrow();
        Ok(LogState { last_purged_log_id: ends.purged, last_log_id: ends.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let ends = Ends { vote: Some(*vote), ..self.0.ends.borrow().clone() };
        self.save(ends).await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Group>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let inner = &self.0;
        let under_way = UnderWay::new(inner);
        let mut encoded = Vec::new();
        let (mut last, truncations) = (0, inner.recent.borrow().truncations);
        for entry in entries {
            let LogId { index, .. } = entry.log_id;
            encoded.push((term_of(&entry.log_id), index, Bytes::from(encode_payload(&entry.payload))));
            inner.ends.borrow_mut().last = Some(entry.log_id);
            inner.recent.borrow_mut().push(entry);
            last = index;
        }
        let mut appending = inner.lane.appending(inner.slot).map_err(io_error)?;
        for (term, index, bytes) in encoded {
            self.with_room(async || appending.add(term, index, bytes.clone()).await).await?;
        }
        spawn(Class::Foreground, async move {
            let settled = appending.settle().await;
            let mut recent = under_way.0.recent.borrow_mut();
            if settled.is_ok() && recent.truncations == truncations {
                recent.durable = recent.durable.max(last);
                recent.shrink();
            }
            drop(recent);
            drop(under_way);
            callback.io_completed(settled.map_err(io_error));
        })
        .detach();
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.all_landed().await;
        let from = first_kept(last.as_ref());
        self.0.recent.borrow_mut().truncate(from);
        let here = self.last();
        self.0.ends.borrow_mut().last = if here.is_some_and(|here| here.index < from) { here } else { last };
        self.with_room(async || self.0.lane.truncate_raft(self.0.slot, from).await).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.all_landed().await;
        let Inner { lane, slot, .. } = &*self.0;
        let flushed = lane.slot_facts(*slot).map_err(io_error)?.flushed;
        if flushed.is_none_or(|(flushed, _)| flushed.index < upto.index) {
            // What others had committed was applied here before it was in this log, and then it never was: openraft begins its
            // log behind it, and only the index has it.
            lane.flush_slot(*slot).await.map_err(io_error)?;
        }
        self.0.recent.borrow_mut().purge(upto.index);
        let before = self.0.ends.borrow().clone();
        self.save(Ends { purged: before.purged.max(Some(upto)), ..before }).await
    }
}

impl RaftLogReader<Group> for SlotLog {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(to) => *to,
            Bound::Unbounded => u64::MAX,
        };
        self.read(from, to, usize::MAX).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.0.ends.borrow().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, READ_BYTES).await
    }
}

const VERSION: u8 = 1;

impl Ends {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION, u8::from(self.vote.is_some())];
        self.vote.iter().for_each(|vote| bytes.put_vote(vote));
        bytes.put_log_id_option(self.purged.as_ref());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, Undecodable> {
        let mut reader = Reader::new("Raft state", bytes);
        if reader.u8()? != VERSION {
            return Err(reader.wrong());
        }
        let vote = if reader.bool()? { Some(reader.vote()?) } else { None };
        let purged = reader.log_id_option()?;
        reader.end()?;
        Ok(Self { vote, purged, last: None })
    }
}

pub(super) fn io_error(error: LaneError) -> io::Error {
    match error {
        LaneError::Io(error) => error,
        error => io::Error::other(error.to_string()),
    }
}

/// What nodes have stored: it is read for ever.
#[test]
fn a_raft_state_of_version_1_is_these_bytes() {
    let bytes: &[&[u8]] = &[
        &[1, 1],
        &[4, 3, 0, 0, 0, 0, 0, 0],
        &[2, 0, 0, 0, 0, 0, 0, 0, 1],
        &[1, 3, 0, 0, 0, 0, 0, 0, 0],
        &[44, 1, 0, 0, 0, 0, 0, 0],
    ];
    let ends = Ends::decode(&bytes.concat()).expect("it is one");
    let vote = ends.vote.expect("there is one");
    assert_eq!((vote.leader_id.term, vote.leader_id.voted_for, ends.purged), (0x0304, 2, Some(log_id(3, 300))));
    assert_eq!(ends.encode(), bytes.concat());
    assert_eq!(Ends::decode(&[1, 0, 0]).expect("it is one").encode(), [1, 0, 0]);
}
