//! Staging a snapshot: its rows go into the log and the index part by part, as a generation that nobody reads. One record
//! makes it the slot's. A crash in between leaves parts that the next snapshot, or the next start, drops.

use std::ops::ControlFlow;

use cairn_io::log::format::Drop;
use cairn_io::log::{Id, Kind, Payload, Record, Room};
use cairn_io::task::yield_now;
use cairn_meta::index::{Scan, Step, Table};

use super::codec::{self, What, rows_id, slot_and_number};
use super::{At, GENERATIONS, PREFIX, Row, SlotFacts, key, prefix};
use crate::lane::{Lane, LaneError, Underway};

/// Rows looked at or deleted before others get their turn.
const STEP: usize = 256;

impl Lane {
    /// Stages a part of the snapshot with this number; durable when this returns. A part with a number of its own that was
    /// staged before is replaced.
    ///
    /// # Errors
    /// Poisoned, no room even in the reserve, or if the index can't be read.
    pub async fn stage_rows(&self, slot: u32, session: u64, part: u32, rows: Vec<Row>) -> Result<(), LaneError> {
        self.wait_for_index().await?;
        if self.0.state.with_facts(slot, |facts| facts.staging != Some(session))? {
            self.drop_staged(slot).await?;
        }
        let record = codec::encode(What::Part, At::default(), &[], &rows);
        let mut underway = Underway::default();
        let life = self.0.state.with_facts(slot, |facts| facts.life)?;
        self.submit_rows(&mut underway, rows_id((slot, life), session, part), record, Room::Reserve).await?;
        underway.settle().await?;
        self.check_index()
    }

    /// Makes a staged snapshot the slot's rows. `parts` is how many were staged.
    ///
    /// # Errors
    /// Poisoned, no room even in the reserve, or if the index can't be read.
    pub async fn install_staged(
        &self,
        slot: u32,
        session: u64,
        parts: u32,
        at: At,
        members: Vec<u8>,
    ) -> Result<(), LaneError> {
        let staged = self.0.state.with_facts(slot, |facts| facts.staging)?;
        if staged.is_some_and(|it| it != session) || (parts > 0 && staged.is_none()) {
            return Err(std::io::Error::other("another snapshot is being staged; send this one again").into());
        }
        // So that the log alone says so, too, when the parts have been carried on.
        self.stage_gone(slot, session, parts).await?;
        let claim = self.claim_rows().await;
        let mut underway = Underway::default();
        underway.claims.push(claim);
        let record = codec::encode::<&[u8]>(What::End, at, &members, &[]);
        let life = self.0.state.with_facts(slot, |facts| facts.life)?;
        self.submit_rows(&mut underway, rows_id((slot, life), session, u32::MAX), record, Room::Reserve).await?;
        underway.settle().await?;
        self.check_index()?;
        self.sweep_slot(slot).await
    }

    /// Deletes what is neither a slot's rows nor being staged: what a crash left, or an installed snapshot replaced.
    ///
    /// # Errors
    /// If the index can't be read.
    pub async fn sweep_slot(&self, slot: u32) -> Result<(), LaneError> {
        let (now, next, is_staging) = self
            .0
            .state
            .with_facts(slot, |facts| (facts.generation, facts.next_generation(), facts.staging.is_some()))?;
        for generation in (0..GENERATIONS).filter(|it| *it != now && !(is_staging && *it == next)) {
            while self.0.state.clear_some(prefix(generation, slot), STEP)? == Step::More {
                self.wait_to_apply().await?;
                yield_now().await;
            }
        }
        Ok(())
    }

    /// Drops the parts of a snapshot that was never finished.
    ///
    /// # Errors
    /// Poisoned, no room even in the reserve, or if the index can't be read.
    pub async fn drop_staged(&self, slot: u32) -> Result<(), LaneError> {
        let Some(session) = self.0.state.with_facts(slot, |facts| facts.staging)? else { return Ok(()) };
        self.drop_rows(slot, |id| slot_and_number(id).1 == session).await?;
        self.0.state.change_about(slot, |facts| facts.staging = None)?;
        self.sweep_slot(slot).await
    }

    /// Drops those of a slot's records of rows; durable when this returns.
    pub(super) async fn drop_rows(&self, slot: u32, is_meant: impl Fn(&Id) -> bool) -> Result<(), LaneError> {
        let mut underway = Underway::default();
        underway.claims.push(self.claim_rows().await);
        for (id, at) in self.0.state.rows_records(slot)?.into_iter().filter(|(id, _)| is_meant(id)) {
            let drop = Drop { of: Kind::Rows, segment: at.segment, offset: at.offset };
            let payload = Payload::Bytes(drop.encode().to_vec().into());
            underway
                .pending
                .push_back(self.0.log.submit(Record { kind: Kind::Drop, id, payload }, Room::Reserve).await?);
            let extent = u64::from(at.extent);
            let forget = |facts: &mut SlotFacts| facts.record_bytes = facts.record_bytes.saturating_sub(extent);
            self.0.state.facts.borrow_mut().entry(slot).and_modify(forget);
        }
        underway.settle().await?;
        Ok(())
    }

    /// Stages that rows are gone which the slot has now and the snapshot doesn't.
    async fn stage_gone(&self, slot: u32, session: u64, parts: u32) -> Result<(), LaneError> {
        let (now, next) = self.0.state.with_facts(slot, |facts| (facts.generation, facts.next_generation()))?;
        let (mut part, mut gone, mut bytes) = (parts, Vec::new(), 0);
        let mut scan = Scan::prefix(Table::State, &prefix(now, slot).to_be_bytes());
        loop {
            let mut keys = Vec::new();
            let step = self.0.state.index.borrow().step(&mut scan, STEP, |key, _| {
                keys.push(key.get(PREFIX..).unwrap_or(&[]).to_vec());
                ControlFlow::Continue(())
            })?;
            for row in keys {
                if self.0.state.index.borrow().get_with(Table::State, &key(next, slot, &row), |_| ())?.is_none() {
                    bytes += codec::weight(&row, 0);
                    gone.push(Row::Gone(row, 0));
                }
            }
            let is_last = step == Step::Done;
            if !gone.is_empty() && (is_last || bytes >= self.rows_bytes_max()) {
                self.stage_rows(slot, session, part, std::mem::take(&mut gone)).await?;
                (part, bytes) = (part + 1, 0);
            }
            if is_last {
                return Ok(());
            }
            yield_now().await;
        }
    }
}
