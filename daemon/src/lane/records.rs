//! The other records of a lane: versions, provisional versions, and the Raft logs of its slots.

use std::cell::{Cell, RefCell};
use std::ops::{Bound, ControlFlow, RangeInclusive};
use std::rc::Rc;

use bytes::Bytes;
use cairn_io::Bell;
use cairn_io::log::format::Drop;
use cairn_io::log::{Id, Kind, Location, Payload, Record, Room};
use cairn_meta::index::{RaftKey, Scan, Step, Table};

use super::rows::At;
use super::state::{decode, raft_id, record_key};
use super::{Claim, Lane, LaneError, Underway};

/// What is stored by name beside chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Named {
    /// A version, so that the index of metadata can be rebuilt.
    Version,
    /// A version that no leader has confirmed yet.
    Provisional,
}

impl Named {
    fn kind(self) -> Kind {
        match self {
            Self::Version => Kind::Version,
            Self::Provisional => Kind::Provisional,
        }
    }
}

/// Length of what stands before a Raft state: the first entry that is kept.
const FIRST: usize = 8;
/// Length of a location before what else a value has.
pub(super) const LOCATION: usize = 20;
/// Entries looked at in one step.
const STEP: usize = 1024;

impl Lane {
    /// Stores a record by name; one that was there under this name is replaced. Durable when this returns.
    ///
    /// # Errors
    /// No room, poisoned, too long.
    pub async fn put_named(&self, named: Named, id: Id, bytes: Bytes) -> Result<(), LaneError> {
        self.wait_for_index().await?;
        let claim = self.claim(id).await;
        self.write(claim, Record { kind: named.kind(), id, payload: Payload::Bytes(bytes) }, Room::Ordinary).await
    }

    /// Reads a record by name.
    ///
    /// # Errors
    /// If it is bad or the disk fails.
    pub async fn get_named(&self, named: Named, id: &Id) -> Result<Option<Bytes>, LaneError> {
        let key = record_key(named.kind(), id);
        self.read_record(Table::Records, &key, named.kind(), id).await
    }

    /// Drops a record by name; durable when this returns. False if it wasn't here.
    ///
    /// # Errors
    /// As [`Lane::drop_chunk`].
    pub async fn drop_named(&self, named: Named, id: &Id) -> Result<bool, LaneError> {
        let claim = self.claim(*id).await;
        self.check_poison()?;
        let at = self.record_at(Table::Records, &record_key(named.kind(), id))?;
        let Some(at) = at else { return Ok(false) };
        let drop = Drop { of: named.kind(), segment: at.segment, offset: at.offset };
        let payload = Payload::Bytes(drop.encode().to_vec().into());
        self.write(claim, Record { kind: Kind::Drop, id: *id, payload }, self.room_for_drops()).await?;
        Ok(true)
    }

    /// The names of records of a sort that begin so, in order, behind one; so many at most.
    ///
    /// # Errors
    /// If the index can't be read.
    pub fn names_of(
        &self,
        named: Named,
        prefix: &[u8],
        behind: Option<&Id>,
        limit: usize,
    ) -> Result<Vec<Id>, LaneError> {
        let prefix = [&[named.kind() as u8][..], prefix].concat();
        let behind = behind.map(|id| record_key(named.kind(), id));
        let low = behind.as_ref().map_or(Bound::Included(&prefix[..]), |key| Bound::Excluded(&key[..]));
        let mut scan = Scan::range(Table::Records, low, Bound::Unbounded);
        let (mut ids, mut is_over) = (Vec::new(), limit == 0);
        while !is_over {
            let visit = |key: &[u8], _: &[u8]| {
                let id = key.starts_with(&prefix).then(|| Id::try_from(&key[1..]).ok()).flatten();
                ids.extend(id);
                is_over = id.is_none() || ids.len() >= limit;
                if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            is_over |= self.0.state.index.borrow().step(&mut scan, STEP, visit)? == Step::Done;
        }
        Ok(ids)
    }

    /// Appends entries to a slot's Raft log, in order: term, index, bytes. Durable when this returns. An entry with an
    /// index that is there is replaced.
    ///
    /// # Errors
    /// Poisoned, no room even in the reserve.
    pub async fn append_raft(&self, slot: u32, entries: Vec<(u64, u64, Bytes)>) -> Result<(), LaneError> {
        let claim = self.claim(slot_id(slot)).await;
        let records = entries.into_iter().map(|(term, index, bytes)| {
            let id = raft_id(RaftKey { slot, index }, term);
            Record { kind: Kind::RaftEntry, id, payload: Payload::Bytes(bytes) }
        });
        self.append_all(claim, records.collect()).await
    }

    /// Puts an entry behind the last of a slot's Raft log. It has its place when this returns, so that others may follow before
    /// it is durable; [`Lane::landings`] says when it is. Where an entry with such an index was before, it must have been truncated.
    ///
    /// # Errors
    /// Poisoned, no room even in the reserve. It isn't on its way then.
    pub async fn submit_raft(&self, slot: u32, at: At, bytes: Bytes) -> Result<(), LaneError> {
        self.check_poison()?;
        let id = raft_id(RaftKey { slot, index: at.index }, at.term);
        let record = Record { kind: Kind::RaftEntry, id, payload: Payload::Bytes(bytes) };
        drop(self.0.log.submit(record, Room::Reserve).await?);
        Ok(())
    }

    /// Says which entries of Raft logs become durable, from now on.
    pub fn landings(&self) -> Rc<Landings> {
        self.0.state.landings.is_wanted.set(true);
        self.0.state.landings.clone()
    }

    /// The term of an entry of a slot's Raft log; `None` if it isn't there, or not durable yet.
    ///
    /// # Errors
    /// If the index can't be read.
    pub fn raft_term(&self, slot: u32, index: u64) -> Result<Option<u64>, LaneError> {
        let key = RaftKey { slot, index }.encode();
        let term = self.0.state.index.borrow().get_with(Table::Raft, &key, |value| raft_value(value).map(|it| it.1))?;
        Ok(term.flatten())
    }

    /// Drops the entries of a slot's Raft log from this index on. Durable when this returns.
    ///
    /// # Errors
    /// Poisoned, no room even in the reserve.
    pub async fn truncate_raft(&self, slot: u32, from: u64) -> Result<(), LaneError> {
        let claim = self.claim(slot_id(slot)).await;
        let mut records = Vec::new();
        let (low, high) = (RaftKey { slot, index: from }.encode(), RaftKey { slot, index: u64::MAX }.encode());
        // The last first: whatever part of it a crash leaves, the log has no hole.
        let mut scan = Scan::range(Table::Raft, Bound::Included(&low), Bound::Included(&high)).backward();
        let mut visit = |key: &[u8], value: &[u8]| {
            if let (Some(key), Some((at, term))) = (RaftKey::decode(key), raft_value(value)) {
                let drop = Drop { of: Kind::RaftEntry, segment: at.segment, offset: at.offset };
                let payload = Payload::Bytes(drop.encode().to_vec().into());
                records.push(Record { kind: Kind::Drop, id: raft_id(key, term), payload });
            }
            ControlFlow::Continue(())
        };
        while self.0.state.index.borrow().step(&mut scan, STEP, &mut visit)? == Step::More {}
        self.append_all(claim, records).await
    }

    /// Sets a slot's Raft state, opaque here, and drops the entries of its log before `first`, which never goes back.
    /// Durable when this returns.
    ///
    /// # Errors
    /// Poisoned, no room even in the reserve.
    pub async fn set_raft_state(&self, slot: u32, first: u64, state: &[u8]) -> Result<(), LaneError> {
        let id = slot_id(slot);
        let claim = self.claim(id).await;
        let payload = Payload::Bytes([&first.to_le_bytes(), state].concat().into());
        self.append_all(claim, vec![Record { kind: Kind::RaftState, id, payload }]).await
    }

    /// A slot's Raft state, and the first entry its log may have.
    ///
    /// # Errors
    /// If the index can't be read.
    pub fn raft_state(&self, slot: u32) -> Result<Option<(u64, Vec<u8>)>, LaneError> {
        let index = self.0.state.index.borrow();
        let value = index.get(Table::Records, &record_key(Kind::RaftState, &slot_id(slot)))?;
        Ok(value.and_then(|value| {
            let payload = state_in(&value)?;
            Some((first_kept(payload)?, payload.get(FIRST..)?.to_vec()))
        }))
    }

    /// Entries of a slot's Raft log: term, index, bytes.
    ///
    /// # Errors
    /// If one is bad or the disk fails.
    pub async fn read_raft(&self, slot: u32, range: RangeInclusive<u64>) -> Result<Vec<(u64, u64, Bytes)>, LaneError> {
        let mut found = Vec::new();
        for index in range {
            let key = RaftKey { slot, index };
            let value = self.0.state.index.borrow().get(Table::Raft, &key.encode())?;
            let Some((_, term)) = value.as_deref().and_then(raft_value) else { break };
            let id = raft_id(key, term);
            match self.read_record(Table::Raft, &key.encode(), Kind::RaftEntry, &id).await? {
                Some(bytes) => found.push((term, index, bytes)),
                None => break,
            }
        }
        Ok(found)
    }

    /// Term and index of the first and the last entry of a slot's Raft log.
    ///
    /// # Errors
    /// If the index can't be read.
    pub fn raft_ends(&self, slot: u32) -> Result<Option<[(u64, u64); 2]>, LaneError> {
        let index = self.0.state.index.borrow();
        let end = |scan: Scan| -> Result<Option<(u64, u64)>, LaneError> {
            let entry = index.first(scan)?;
            Ok(entry.and_then(|(key, value)| Some((raft_value(&value)?.1, RaftKey::decode(&key)?.index))))
        };
        let prefix = slot.to_be_bytes();
        let first = end(Scan::prefix(Table::Raft, &prefix))?;
        let last = end(Scan::prefix(Table::Raft, &prefix).backward())?;
        Ok(first.zip(last).map(|(first, last)| [first, last]))
    }

    async fn read_record(&self, table: Table, key: &[u8], kind: Kind, id: &Id) -> Result<Option<Bytes>, LaneError> {
        loop {
            let Some(at) = self.record_at(table, key)? else { return Ok(None) };
            match self.0.log.read(at, kind, id).await {
                Ok(block) => return Ok(Some(block.into_bytes())),
                // It was moved or dropped while it was read.
                Err(_) if self.record_at(table, key)? != Some(at) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Appends records one after the other; all are durable when this returns.
    async fn append_all(&self, claim: Claim, records: Vec<Record>) -> Result<(), LaneError> {
        self.check_poison()?;
        let mut underway = Underway::default();
        underway.claims.push(claim);
        for record in records {
            underway.pending.push_back(self.0.log.submit(record, Room::Reserve).await?);
        }
        underway.settle().await?;
        self.check_index()
    }

    /// Where the record with this key lies.
    pub(super) fn record_at(&self, table: Table, key: &[u8]) -> Result<Option<Location>, LaneError> {
        Ok(self.0.state.index.borrow().get_with(table, key, decode)?.flatten())
    }
}

/// Entries of Raft logs that have become durable, until somebody takes them. Compaction, which writes some again, has them come
/// twice.
#[derive(Default)]
pub struct Landings {
    entries: RefCell<Vec<(u32, At)>>,
    /// Whether somebody takes them.
    is_wanted: Cell<bool>,
    bell: Bell,
}

impl Landings {
    /// Waits until there are some.
    pub async fn wait(&self) {
        while self.entries.borrow().is_empty() {
            self.bell.rung().await;
        }
    }

    /// The slots and entries that became durable since this was called before.
    pub fn take(&self) -> Vec<(u32, At)> {
        self.entries.take()
    }

    /// Nobody will ask any more.
    pub fn stop(&self) {
        self.is_wanted.set(false);
        self.entries.take();
    }

    /// Takes note of a record that is durable.
    pub(super) fn note(&self, id: &Id) {
        if !self.is_wanted.get() {
            return;
        }
        let number = |from: usize| id[from..from + 8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        let mut entries = self.entries.borrow_mut();
        if entries.is_empty() {
            self.bell.ring();
        }
        entries.push((slot_of(id), At { index: number(4), term: number(12) }));
    }
}

pub(super) fn slot_id(slot: u32) -> Id {
    let mut id = [0; 32];
    id[..4].copy_from_slice(&slot.to_be_bytes());
    id
}

/// What is claimed to write a record: entries of one Raft log are written in their order.
pub(super) fn claimed_by(kind: Kind, id: &Id) -> Id {
    if kind == Kind::RaftEntry { slot_id(slot_of(id)) } else { *id }
}

/// The slot that the id of a Raft record begins with.
pub(super) fn slot_of(id: &Id) -> u32 {
    u32::from_be_bytes([id[0], id[1], id[2], id[3]])
}

/// The first entry that a Raft state keeps.
pub(super) fn first_kept(payload: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(payload.get(..FIRST)?.try_into().ok()?))
}

/// What the record has of which this value of the table tells where it lies.
pub(super) fn state_in(value: &[u8]) -> Option<&[u8]> {
    value.get(LOCATION..)
}

/// Where a Raft entry lies, and its term.
fn raft_value(value: &[u8]) -> Option<(Location, u64)> {
    let term = value.get(LOCATION..LOCATION + 8)?;
    Some((decode(value)?, u64::from_be_bytes(term.try_into().ok()?)))
}
