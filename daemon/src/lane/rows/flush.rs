//! Writing marked rows into the log, and what records of rows mean to the index.

use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use cairn_io::log::{Entry, Id, Kind, Location, Payload, Record, Room};
use cairn_io::rng;
use cairn_meta::index::{Error, Scan, Step, Table};

use super::codec::{Encoder, What, life_of, rows_id, slot_and_number};
use super::{Flushed, MARKS, Row, RowsRecord, SlotFacts, key, prefix, until_room};
use crate::lane::state::{State, decode, record_key};
use crate::lane::{Claim, Lane, LaneError, Underway};

/// Claimed by whoever writes rows that are already the slot's: flushes and what is carried on have one order for the
/// lane.
const ROWS_CLAIM: Id = [0xFF; 32];

/// All marked rows of a slot at one moment.
pub(super) struct Flush {
    record: Bytes,
    /// The entry whose effect they have.
    pub(super) flushed: Flushed,
    /// What the slot's facts said of them.
    marked_bytes: usize,
}

impl Lane {
    /// Writes the rows of a slot that changed since the last time into the log, as they are now. Returns the entry whose
    /// effect they have, when they are durable; `None` if nothing was ever applied. Waits for room as long as it takes.
    ///
    /// # Errors
    /// Poisoned, or if the index can't be read.
    pub async fn flush_slot(&self, slot: u32) -> Result<Option<Flushed>, LaneError> {
        until_room(|_| true, async || self.try_flush(slot).await).await
    }

    async fn try_flush(&self, slot: u32) -> Result<Option<Flushed>, LaneError> {
        let mut underway = Underway::default();
        underway.claims.push(self.claim_rows().await);
        let Some(flush) = self.0.state.gather_flush(slot)? else {
            return Ok(self.slot_facts(slot)?.flushed);
        };
        self.submit_flush(&mut underway, slot, &flush, Room::Reserve).await?;
        underway.settle().await?;
        self.check_index()?;
        Ok(Some(flush.flushed))
    }

    /// Whether so much of a slot is marked that with another command a record could become too long: then it must be flushed
    /// first.
    ///
    /// # Errors
    /// If the index can't be read.
    pub fn is_flush_due(&self, slot: u32) -> Result<bool, LaneError> {
        Ok(self.0.state.with_facts(slot, |facts| facts.marked_bytes)? >= self.rows_bytes_max())
    }

    /// Flushes a slot if it must be. To be called before each command.
    ///
    /// # Errors
    /// As [`Lane::flush_slot`].
    pub async fn flush_if_due(&self, slot: u32) -> Result<(), LaneError> {
        if self.is_flush_due(slot)? {
            self.flush_slot(slot).await?;
        }
        Ok(())
    }

    pub(super) async fn claim_rows(&self) -> Claim {
        self.claim(ROWS_CLAIM).await
    }

    pub(super) async fn submit_flush(
        &self,
        underway: &mut Underway,
        slot: u32,
        flush: &Flush,
        room: Room,
    ) -> Result<(), LaneError> {
        let life = self.0.state.with_facts(slot, |facts| facts.life)?;
        self.submit_rows(underway, rows_id((slot, life), rng::next_u64(), 0), flush.record.clone(), room).await?;
        // What was marked meanwhile is another flush's.
        let written =
            |facts: &mut SlotFacts| facts.marked_bytes = facts.marked_bytes.saturating_sub(flush.marked_bytes);
        self.0.state.facts.borrow_mut().entry(slot).and_modify(written);
        Ok(())
    }

    pub(super) async fn submit_rows(
        &self,
        underway: &mut Underway,
        id: Id,
        record: impl Into<Bytes>,
        room: Room,
    ) -> Result<(), LaneError> {
        let payload = Payload::Bytes(record.into());
        underway.pending.push_back(self.0.log.submit(Record { kind: Kind::Rows, id, payload }, room).await?);
        Ok(())
    }
}

impl State {
    /// All rows of a slot that are marked, as they are now; `None` if the log has all that was applied.
    pub(super) fn gather_flush(&self, slot: u32) -> Result<Option<Flush>, Error> {
        let facts = self.with_facts(slot, SlotFacts::clone)?;
        let Some(at) = facts.applied else { return Ok(None) };
        if facts.flushed.as_ref().is_some_and(|(flushed, members)| (*flushed, members) == (at, &facts.members)) {
            return Ok(None);
        }
        let mut record = Encoder::new(What::Flush, at, &facts.members, facts.marked_bytes);
        for row in self.marked(slot)? {
            let place = key(facts.generation, slot, &row);
            let put = |value: &[u8]| record.push(&Row::Put(&row[..], value));
            if self.index.borrow().get_with(Table::State, &place, put)?.is_none() {
                record.push(&Row::Gone(&row[..], 0));
            }
        }
        let (record, flushed) = (record.finish().into(), (at, facts.members));
        Ok(Some(Flush { record, flushed, marked_bytes: facts.marked_bytes }))
    }

    /// What a record of rows means, see the table above.
    pub(in crate::lane) fn apply_rows(&self, entry: &Entry<'_>) -> Result<(), Error> {
        let Some(record) = RowsRecord::decode(entry.payload) else {
            self.lost(entry);
            return Ok(());
        };
        let (slot, number) = slot_and_number(entry.id);
        let life = life_of(entry.id);
        if life > self.with_facts(slot, |facts| facts.life)? {
            self.begin_life(slot, life)?;
        }
        let facts = self.with_facts(slot, SlotFacts::clone)?;
        let known = self.index.borrow().get_with(Table::Records, &record_key(Kind::Rows, entry.id), decode)?.flatten();
        if known != Some(entry.location) {
            let added = u64::from(entry.location.extent);
            self.facts.borrow_mut().entry(slot).and_modify(|facts| facts.record_bytes += added);
        }
        self.place(Table::Records, &record_key(Kind::Rows, entry.id), entry.location, &[])?;
        if life < facts.life {
            return Ok(());
        }
        match record.what {
            What::Flush => {
                if facts.applied < Some(record.at) {
                    self.put_rows(slot, facts.generation, &record.rows)?;
                    self.set_applied(slot, record.at)?;
                    self.change_about(slot, |facts| facts.members = record.members.to_vec())?;
                }
                if facts.flushed.as_ref().is_none_or(|(at, _)| *at <= record.at) {
                    self.unmark(slot, record.at.index)?;
                    self.change_about(slot, |facts| facts.flushed = Some((record.at, record.members.to_vec())))?;
                }
            }
            What::Carried => {
                if facts.applied <= Some(record.at) {
                    self.put_rows(slot, facts.generation, &record.rows)?;
                    self.set_applied(slot, record.at)?;
                    self.change_about(slot, |facts| {
                        facts.members = record.members.to_vec();
                        facts.flushed = Some((record.at, record.members.to_vec()));
                    })?;
                }
            }
            What::Part => {
                if facts.staging != Some(number) {
                    self.clear(prefix(facts.next_generation(), slot))?;
                    self.change_about(slot, |facts| facts.staging = Some(number))?;
                }
                self.put_rows(slot, facts.next_generation(), &record.rows)?;
            }
            What::End => {
                if facts.applied < Some(record.at) {
                    if facts.staging != Some(number) {
                        // None of its parts is there any more: what they said was carried on and comes later.
                        self.clear(prefix(facts.next_generation(), slot))?;
                    }
                    self.clear(prefix(MARKS, slot))?;
                    self.set_applied(slot, record.at)?;
                    self.change_about(slot, |facts| {
                        facts.generation = facts.next_generation();
                        facts.members = record.members.to_vec();
                        facts.flushed = Some((record.at, record.members.to_vec()));
                        facts.staging = None;
                        facts.marked_bytes = 0;
                    })?;
                }
            }
        }
        Ok(())
    }

    fn put_rows(&self, slot: u32, generation: u8, rows: &[Row<&[u8]>]) -> Result<(), Error> {
        let mut index = self.index.borrow_mut();
        for row in rows {
            let place = key(generation, slot, row.key());
            match row {
                Row::Put(_, value) => index.put(Table::State, &place, *value)?,
                Row::Gone(..) => index.delete(Table::State, &place)?,
            }
        }
        Ok(())
    }

    /// What entries up to this one changed is in the log: rows that no later one changed aren't marked any more.
    fn unmark(&self, slot: u32, upto: u64) -> Result<(), Error> {
        let (first, last) = (prefix(MARKS, slot).to_be_bytes(), key(MARKS, slot, &upto.to_be_bytes()));
        let mut scan = Scan::range(Table::State, Bound::Included(&first), Bound::Included(&last));
        while self.delete_some(&mut scan, 4096)? == Step::More {}
        Ok(())
    }

    /// Deletes all that begins so in the table of state.
    pub(super) fn clear(&self, prefix: u32) -> Result<(), Error> {
        while self.clear_some(prefix, 4096)? == Step::More {}
        Ok(())
    }

    /// Deletes so many of the keys that begin so.
    pub(super) fn clear_some(&self, prefix: u32, count: usize) -> Result<Step, Error> {
        self.delete_some(&mut Scan::prefix(Table::State, &prefix.to_be_bytes()), count)
    }

    fn delete_some(&self, scan: &mut Scan, count: usize) -> Result<Step, Error> {
        let mut gone = Vec::new();
        let step = self.index.borrow().step(scan, count, |key, _| {
            gone.push(key.to_vec());
            ControlFlow::Continue(())
        })?;
        let mut index = self.index.borrow_mut();
        gone.iter().try_for_each(|key| index.delete(Table::State, key))?;
        Ok(step)
    }

    /// The records of rows of a slot, and where they lie.
    pub(super) fn rows_records(&self, slot: u32) -> Result<Vec<(Id, Location)>, Error> {
        let begin = [&[Kind::Rows as u8][..], &slot.to_be_bytes()].concat();
        let (mut scan, mut found) = (Scan::prefix(Table::Records, &begin), Vec::new());
        let mut visit = |key: &[u8], value: &[u8]| {
            found.extend(key.get(1..).and_then(|id| Id::try_from(id).ok()).zip(decode(value)));
            ControlFlow::Continue(())
        };
        while self.index.borrow().step(&mut scan, 1024, &mut visit)? == Step::More {}
        Ok(found)
    }
}
