//! A slot's Raft log: records of the lane's log, and a piece of its end in memory.
//!
//! An entry is *pushed*, in order and at once; then it is submitted to the lane's log, at once where there is room, else by a task;
//! then it lands, which means that a sync covers it. Until it has landed it is read from memory, and afterwards for as long as
//! somebody may need it and there is room there. All groups of a lane share its batches and syncs.
//!
//! Invariants: a vote is durable before it is answered; entries are truncated or purged only when none of them is on its way any
//! more, so that none turns up later. What was committed is not kept: after a restart a node serves a read only when a leader of
//! a term begun since has said how far the log is committed, see [`super::Slots::barrier`] and [`super::Slots::read_own`].

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use cairn_io::Bell;
use futures_util::FutureExt;
use tracing::warn;

use super::codec::{Reader, Undecodable, Write, decode_entry, encode_payload};
use super::types::{At, Entry, Payload, Vote};
use crate::lane::{Lane, LaneError, until_room};

/// Entries that are kept in memory when they have landed: bytes and number.
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
    /// Whether nobody waits for room any more.
    is_closing: Cell<bool>,
    landed: Bell,
}

/// What isn't an entry: kept in the slot's Raft state.
#[derive(Clone, Debug, Default)]
struct Ends {
    vote: Option<Vote>,
    purged: Option<At>,
    last: Option<At>,
}

/// The last entries of the log, without a gap.
#[derive(Default)]
struct Recent {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Entries before this one have landed.
    landed: u64,
    /// Entries before this one are submitted.
    submitted: u64,
}

impl Recent {
    fn get(&self, index: u64) -> Option<&Entry> {
        let first = self.entries.front()?.at.index;
        self.entries.get(index.checked_sub(first)? as usize)
    }

    fn push(&mut self, entry: Entry) {
        self.bytes += weight(&entry);
        self.entries.push_back(entry);
    }

    fn pop(&mut self, entry: &Entry) {
        self.bytes -= weight(entry);
    }

    /// Forgets what can be read from disk and there is no room for.
    fn shrink(&mut self) {
        while self.bytes > CACHE_BYTES || self.entries.len() > CACHE_ENTRIES {
            let landed = self.landed;
            let Some(entry) = self.entries.pop_front_if(|entry| entry.at.index < landed) else { return };
            self.pop(&entry);
        }
    }

    fn truncate(&mut self, from: u64) {
        while let Some(entry) = self.entries.pop_back_if(|entry| entry.at.index >= from) {
            self.pop(&entry);
        }
        self.landed = self.landed.min(from);
        self.submitted = self.submitted.min(from);
    }

    fn drop_before(&mut self, index: u64) {
        while let Some(entry) = self.entries.pop_front_if(|entry| entry.at.index < index) {
            self.pop(&entry);
        }
    }

    fn purge(&mut self, upto: u64) {
        self.drop_before(upto + 1);
        self.landed = self.landed.max(upto + 1);
        self.submitted = self.submitted.max(upto + 1);
        self.entries.shrink_to(CACHE_ENTRIES.min(self.entries.len() * 2));
    }
}

fn weight(entry: &Entry) -> usize {
    ENTRY_BYTES + if let Payload::Command(command) = &entry.payload { command.len() } else { 0 }
}

/// The entry behind this one.
pub fn behind(at: Option<At>) -> u64 {
    at.map_or(0, |at| at.index + 1)
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
        let last = lane.raft_ends(slot)?.map(|[_, (term, index)]| At { term, index });
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
        let end = behind(ends.last);
        Ok(Self(Rc::new(Inner {
            lane: lane.clone(),
            slot,
            ends: RefCell::new(ends),
            recent: RefCell::new(Recent { landed: end, submitted: end, ..Recent::default() }),
            is_closing: Cell::new(false),
            landed: Bell::default(),
        })))
    }

    /// Takes its place in the lane, if it never has: a lane without a trace of it would be taken for one that it isn't in.
    ///
    /// # Errors
    /// If the lane takes no writes.
    pub async fn begin(&self) -> io::Result<()> {
        let Inner { lane, slot, ends, .. } = &*self.0;
        if lane.raft_state(*slot).map_err(io_error)?.is_some() {
            return Ok(());
        }
        let ends = ends.borrow().clone();
        self.save(ends).await
    }

    /// Whether the group has ever had anything here.
    pub fn is_new(&self) -> bool {
        let ends = self.0.ends.borrow();
        ends.vote.is_none() && ends.last.is_none()
    }

    /// Whom this node has voted for.
    pub fn vote(&self) -> Vote {
        self.0.ends.borrow().vote.unwrap_or_default()
    }

    /// The last entry that was given up.
    pub fn purged(&self) -> Option<At> {
        self.0.ends.borrow().purged
    }

    /// The last entry.
    pub fn last(&self) -> Option<At> {
        self.0.ends.borrow().last
    }

    /// The index of the next entry.
    pub fn end(&self) -> u64 {
        behind(self.last())
    }

    /// The index of the first entry that may be there.
    pub fn begins(&self) -> u64 {
        behind(self.purged())
    }

    /// The name of an entry that is there, or is the last that was given up.
    ///
    /// # Errors
    /// If the index can't be read.
    pub fn at(&self, index: u64) -> Result<Option<At>, LaneError> {
        let (purged, last) = (self.purged(), self.last());
        if purged.is_some_and(|purged| purged.index >= index) {
            return Ok(purged.filter(|purged| purged.index == index));
        }
        if last.is_none_or(|last| last.index <= index) {
            return Ok(last.filter(|last| last.index == index));
        }
        if let Some(entry) = self.0.recent.borrow().get(index) {
            return Ok(Some(entry.at));
        }
        Ok(self.0.lane.raft_term(self.0.slot, index)?.map(|term| At { term, index }))
    }

    /// Entries before this one have landed.
    pub fn landed_to(&self) -> u64 {
        self.0.recent.borrow().landed
    }

    /// Whether this entry has landed.
    pub fn is_durable(&self, index: u64) -> bool {
        index < self.landed_to()
    }

    /// Waits until this entry has landed; false if the group ends before.
    pub async fn landed(&self, index: u64) -> bool {
        while !self.is_durable(index) {
            if self.0.is_closing.get() {
                return false;
            }
            self.0.landed.rung().await;
        }
        true
    }

    /// Waits until no entry is on its way: all have landed, nobody brings them on their way any more, or the lane takes no writes.
    pub async fn all_landed(&self) {
        loop {
            let end = if self.0.is_closing.get() { self.0.recent.borrow().submitted } else { self.end() };
            if self.landed_to() >= end || self.0.lane.check().is_err() {
                return;
            }
            self.0.landed.rung().await;
        }
    }

    /// From now on nobody waits for room: the group is to end, and what isn't submitted never is.
    pub fn close(&self) {
        self.0.is_closing.set(true);
        self.0.landed.ring();
    }

    /// Does something that must be done, again and again until there is room for it: a group that couldn't write would end.
    async fn with_room<T>(&self, attempt: impl AsyncFnMut() -> Result<T, LaneError>) -> io::Result<T> {
        let mut has_warned = false;
        let waits = |error: &LaneError| {
            let waits = !self.0.is_closing.get();
            if waits && !std::mem::replace(&mut has_warned, true) {
                warn!(slot = self.0.slot, %error, "a slot stands still until there is room for its log");
            }
            waits
        };
        // Boxed: what goes on without waiting has no room for it.
        Box::pin(until_room(waits, attempt)).await.map_err(io_error)
    }

    /// Writes what isn't an entry; durable when this returns.
    async fn save(&self, ends: Ends) -> io::Result<()> {
        let Inner { lane, slot, .. } = &*self.0;
        let (first, state) = (behind(ends.purged), ends.encode());
        self.with_room(async || lane.set_raft_state(*slot, first, &state).await).await?;
        let mut here = self.0.ends.borrow_mut();
        // Entries may have come meanwhile.
        *here = Ends { last: here.last.max(ends.purged), ..ends };
        Ok(())
    }

    /// Votes; durable when this returns.
    ///
    /// # Errors
    /// If the lane takes no writes.
    pub async fn save_vote(&self, vote: Vote) -> io::Result<()> {
        let ends = Ends { vote: Some(vote), ..self.0.ends.borrow().clone() };
        self.save(ends).await
    }

    /// Puts the next entry behind the last.
    pub fn push(&self, entry: Entry) {
        self.0.ends.borrow_mut().last = Some(entry.at);
        self.0.recent.borrow_mut().push(entry);
    }

    /// The next entry to be submitted, as the lane takes it.
    fn next_to_submit(&self) -> Option<(At, Bytes)> {
        let recent = self.0.recent.borrow();
        recent.get(recent.submitted).map(|entry| (entry.at, encode_payload(&entry.payload).into()))
    }

    fn is_submitted(&self, at: At) {
        self.0.recent.borrow_mut().submitted = at.index + 1;
    }

    /// Submits what was pushed, if there is room for it at once; false if somebody must [`SlotLog::submit`].
    pub fn submit_now(&self) -> bool {
        while let Some((at, bytes)) = self.next_to_submit() {
            match self.0.lane.submit_raft(self.0.slot, at, bytes).now_or_never() {
                Some(Ok(())) => self.is_submitted(at),
                _ => return false,
            }
        }
        true
    }

    /// Submits what was pushed, and waits for room as long as it takes. Nobody else may meanwhile.
    ///
    /// # Errors
    /// If the lane takes no writes.
    pub async fn submit(&self) -> io::Result<()> {
        while let Some((at, bytes)) = self.next_to_submit() {
            self.with_room(async || self.0.lane.submit_raft(self.0.slot, at, bytes.clone()).await).await?;
            self.is_submitted(at);
        }
        Ok(())
    }

    /// This entry has landed, and so have all before it.
    pub fn has_landed(&self, at: At) {
        let mut recent = self.0.recent.borrow_mut();
        // Compaction writes old ones again.
        if at.index >= recent.landed && at.index < recent.submitted {
            recent.landed = at.index + 1;
            recent.shrink();
            self.0.landed.ring();
        }
    }

    /// Keeps no entry in memory that has landed and is before this one: hardly anybody will ask for it.
    pub fn forget(&self, before: u64) {
        let mut recent = self.0.recent.borrow_mut();
        let before = before.min(recent.landed);
        recent.drop_before(before);
        if recent.entries.is_empty() {
            recent.entries = VecDeque::new();
        }
    }

    /// An entry, if it is in memory.
    pub fn recent(&self, index: u64) -> Option<Entry> {
        self.0.recent.borrow().get(index).cloned()
    }

    /// Entries from `from` up to `to`, exclusive, as many as are there without a gap and [`READ_BYTES`] allow, but one at least.
    /// Nothing if the first has been given up.
    ///
    /// # Errors
    /// If one is bad or the disk fails.
    pub async fn read(&self, from: u64, to: u64) -> io::Result<Vec<Entry>> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        for index in from..to.min(self.end()) {
            if bytes >= READ_BYTES {
                break;
            }
            let entry = match self.recent(index) {
                Some(entry) => entry,
                None => match Box::pin(self.read_one(index)).await? {
                    Some(entry) => entry,
                    // Given up or cut off meanwhile.
                    None => break,
                },
            };
            bytes += weight(&entry);
            found.push(entry);
        }
        Ok(found)
    }

    /// The same where the first must be there.
    ///
    /// # Errors
    /// If it isn't, also.
    pub async fn read_there(&self, from: u64, to: u64) -> io::Result<Vec<Entry>> {
        let found = self.read(from, to).await?;
        let missing = || io::Error::other(format!("entry {from} of its log is missing; see `cairn fsck`"));
        if found.is_empty() { Err(missing()) } else { Ok(found) }
    }

    async fn read_one(&self, index: u64) -> io::Result<Option<Entry>> {
        if index < self.begins() {
            return Ok(None);
        }
        let read = self.0.lane.read_raft(self.0.slot, index..=index).await.map_err(io_error)?;
        let entry = read.into_iter().next().map(|(term, index, payload)| decode_entry(term, index, payload));
        entry.transpose().map_err(io::Error::other)
    }

    /// Cuts off all entries from this one on; durable when this returns.
    ///
    /// # Errors
    /// If the lane takes no writes.
    pub async fn truncate(&self, from: u64) -> io::Result<()> {
        self.all_landed().await;
        let before = from.checked_sub(1).map(|index| self.at(index)).transpose().map_err(io_error)?.flatten();
        self.0.recent.borrow_mut().truncate(from);
        self.0.ends.borrow_mut().last = before;
        self.with_room(async || self.0.lane.truncate_raft(self.0.slot, from).await).await
    }

    /// Gives up all entries up to this one, which is committed; durable when this returns.
    ///
    /// # Errors
    /// If the lane takes no writes.
    pub async fn purge(&self, upto: At) -> io::Result<()> {
        self.all_landed().await;
        let Inner { lane, slot, .. } = &*self.0;
        let flushed = lane.slot_facts(*slot).map_err(io_error)?.flushed;
        if flushed.is_none_or(|(flushed, _)| flushed.index < upto.index) {
            // What others had committed was applied here before it was in this log, and then it never was: the log begins
            // behind it, and only the index has it.
            lane.flush_slot(*slot).await.map_err(io_error)?;
        }
        let before = self.0.ends.borrow().clone();
        self.save(Ends { purged: before.purged.max(Some(upto)), ..before }).await?;
        self.0.recent.borrow_mut().purge(upto.index);
        Ok(())
    }
}

const VERSION: u8 = 1;

impl Ends {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION, u8::from(self.vote.is_some())];
        self.vote.iter().for_each(|vote| bytes.put_vote(vote));
        bytes.put_at_option(self.purged);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, Undecodable> {
        let mut reader = Reader::new("Raft state", bytes);
        if reader.u8()? != VERSION {
            return Err(reader.wrong());
        }
        let vote = if reader.bool()? { Some(reader.vote()?) } else { None };
        let purged = reader.at_option()?;
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
    assert_eq!((vote, ends.purged), (Vote::elected(0x0304, 2), Some(At { term: 3, index: 300 })));
    assert_eq!(ends.encode(), bytes.concat());
    assert_eq!(Ends::decode(&[1, 0, 0]).expect("it is one").encode(), [1, 0, 0]);
}
