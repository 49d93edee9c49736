//! Carrying rows on: what old records of rows say and is still so is written again, and the records dropped.
//!
//! A row is still so if it is in no newer flush: if it isn't marked and the slot's rows say the same. Marked rows are flushed
//! first, in the same breath, so that what is not carried on is in the log all the same. That a row is gone is carried
//! on for as long as a segment is there that may say otherwise. The claim on rows keeps flushes and this in one order:
//! the last that the log says of a row is the truth.

use cairn_io::log::format::Drop;
use cairn_io::log::{Id, Kind, Location, Payload, Record, Room};
use cairn_io::rng;
use cairn_meta::index::{Error, Table};

use super::codec::{self, What, rows_id, slot_and_number};
use super::{Row, RowsRecord, SlotFacts, key};
use crate::lane::state::record_key;
use crate::lane::{Lane, LaneError, Underway};

/// Records of rows of one slot are merged when they are twice as long as what the last merge left, and this much.
const MERGE_BYTES_MIN: u64 = 1 << 20;

impl Lane {
    /// Merges the records of rows of a slot if that is worth it.
    ///
    /// # Errors
    /// Poisoned, no room even in the reserve, or if something can't be read.
    pub async fn merge_if_due(&self, slot: u32) -> Result<(), LaneError> {
        let min = MERGE_BYTES_MIN.min(u64::from(self.superblock().segment_bytes));
        let is_due = |facts: &SlotFacts| facts.record_bytes > facts.merged_bytes * 2 + min;
        if self.0.state.with_facts(slot, is_due)? { self.merge_slot(slot).await } else { Ok(()) }
    }

    /// Merges all records of rows that a slot has now.
    ///
    /// # Errors
    /// As [`Lane::merge_if_due`].
    pub async fn merge_slot(&self, slot: u32) -> Result<(), LaneError> {
        for (id, at) in self.0.state.rows_records(slot)? {
            self.carry_rows(&id, at, None).await?;
            cairn_io::task::yield_now().await;
        }
        self.0.state.facts.borrow_mut().entry(slot).and_modify(|facts| facts.merged_bytes = facts.record_bytes);
        Ok(())
    }

    /// Writes again what is still needed of the record of rows at this place, and drops it. Does nothing if it isn't there
    /// any more. `freed` is a segment that is about to go.
    pub(in crate::lane) async fn carry_rows(&self, id: &Id, at: Location, freed: Option<u64>) -> Result<(), LaneError> {
        let (slot, number) = slot_and_number(id);
        let room = if freed.is_some() { Room::Last } else { Room::Reserve };
        if is_end(id) {
            // Its parts mean nothing without it: they go first.
            let parts = self.0.state.rows_records(slot)?;
            for (part, place) in
                parts.into_iter().filter(|(other, _)| other != id && slot_and_number(other).1 == number)
            {
                Box::pin(self.carry_rows(&part, place, freed)).await?;
            }
        }
        let mut underway = Underway::default();
        underway.claims.push(self.claim_rows().await);
        if self.record_at(Table::Records, &record_key(Kind::Rows, id))? != Some(at) {
            return Ok(());
        }
        let bytes = self.0.log.read(at, Kind::Rows, id).await?.into_bytes();
        let Some(record) = RowsRecord::decode(&bytes) else { return Ok(()) };
        if self.0.state.with_facts(slot, |facts| facts.staging == Some(number))? {
            // Not the slot's yet: it stays what it is.
            let copy = Record { kind: Kind::Rows, id: *id, payload: Payload::Bytes(bytes) };
            underway.pending.push_back(self.0.log.submit(copy, room).await?);
            underway.settle().await?;
            return self.check_index();
        }
        // From here to the flush nothing is awaited: rows and marks are those of one moment.
        let marked = self.0.state.marked(slot)?;
        let is_any_marked = record.rows.iter().any(|row| marked.contains(row.key()));
        let rows = self.still_so(slot, &record, |row| marked.contains(row), at, freed)?;
        let flush = if is_any_marked { self.0.state.gather_flush(slot)? } else { None };
        let flushed = self.slot_facts(slot)?.flushed;
        let is_last = flushed.as_ref().is_some_and(|(last, _)| *last == record.at);
        let base = flush.as_ref().map(|flush| flush.flushed.clone()).or(flushed);
        if let Some(flush) = &flush {
            self.submit_flush(&mut underway, slot, flush, room).await?;
        }
        if let Some((at, members)) = base.filter(|_| is_last || !rows.is_empty()) {
            let carried = codec::encode(What::Carried, at, &members, &rows);
            let life = self.0.state.with_facts(slot, |facts| facts.life)?;
            self.submit_rows(&mut underway, rows_id((slot, life), rng::next_u64(), 0), carried, room).await?;
        }
        let drop = Drop { of: Kind::Rows, segment: at.segment, offset: at.offset };
        let payload = Payload::Bytes(drop.encode().to_vec().into());
        let gone = Record { kind: Kind::Drop, id: *id, payload };
        underway.pending.push_back(self.0.log.submit(gone, room).await?);
        underway.settle().await?;
        let extent = u64::from(at.extent);
        let forget = |facts: &mut SlotFacts| facts.record_bytes = facts.record_bytes.saturating_sub(extent);
        self.0.state.facts.borrow_mut().entry(slot).and_modify(forget);
        self.check_index()
    }

    /// The rows of a record that are still so and aren't marked.
    fn still_so<'r>(
        &self,
        slot: u32,
        record: &RowsRecord<'r>,
        is_marked: impl Fn(&[u8]) -> bool,
        at: Location,
        freed: Option<u64>,
    ) -> Result<Vec<Row<&'r [u8]>>, Error> {
        let state = &self.0.state;
        let generation = state.with_facts(slot, |facts| facts.generation)?;
        let mut rows = Vec::new();
        for row in record.rows.iter().filter(|row| !is_marked(row.key())) {
            let place = key(generation, slot, row.key());
            let is_same = |now: &[u8]| matches!(row, Row::Put(_, value) if *value == now);
            match (row, state.index.borrow().get_with(Table::State, &place, is_same)?) {
                (Row::Put(..), Some(true)) => rows.push(*row),
                (Row::Gone(key, since), None) => {
                    let since = if *since == 0 { at.segment } else { *since };
                    let segments = self.0.log.segments();
                    if segments.iter().any(|it| it.number <= since && Some(it.number) != freed) {
                        rows.push(Row::Gone(*key, since));
                    }
                }
                _ => {}
            }
        }
        Ok(rows)
    }
}

/// Whether this is the end of a snapshot: it stands behind all of its parts.
fn is_end(id: &Id) -> bool {
    id[12..16] == u32::MAX.to_be_bytes()
}
