//! Are the rows of an index those that its log gives? Asked of a lane that nobody has open.
//!
//! A row that isn't marked has not changed since it was written into the log: what the log alone says of it must be the
//! same. A marked one is newer than the log's rows; the entries behind the last flush make it up.

use std::ops::ControlFlow;

use cairn_meta::index::{Error, RaftKey, Scan, Step, Table};

use super::{At, PREFIX, State, key, prefix};

/// Rows looked at in one step.
const STEP: usize = 1024;

/// What an index has of a slot's rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotSummary {
    /// The slot.
    pub slot: u32,
    /// Its rows.
    pub rows: u64,
    /// The bytes of their keys and values.
    pub bytes: u64,
    /// The last entry whose effect they have.
    pub applied: Option<At>,
    /// The entry whose effect the log's records of rows have: what a rebuild comes to.
    pub flushed: Option<At>,
    /// The last entry of its Raft log.
    pub last: Option<u64>,
}

/// How the rows of an index differ from those that the log gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Rows that only the index has.
    pub only_index: u64,
    /// Rows that only the log has.
    pub only_log: u64,
    /// Rows with two values.
    pub other: u64,
}

impl State {
    /// What it has of a slot.
    pub(in crate::lane) fn summary(&self, slot: u32) -> Result<SlotSummary, Error> {
        let (applied, flushed) =
            self.with_facts(slot, |facts| (facts.applied, facts.flushed.as_ref().map(|(at, _)| *at)))?;
        let mut summary =
            SlotSummary { slot, applied, flushed, last: self.last_entry(slot)?, ..SlotSummary::default() };
        self.each_row(slot, |row, value| {
            summary.rows += 1;
            summary.bytes += (row.len() + value.len()) as u64;
            Ok(())
        })?;
        Ok(summary)
    }

    /// Compares the rows of a slot with what `from_log` has, to which the whole log was applied and nothing else.
    pub(in crate::lane) fn differences(&self, from_log: &Self, slot: u32) -> Result<Differences, Error> {
        let mut found = Differences::default();
        let (ours, theirs) = (self.generation(slot)?, from_log.generation(slot)?);
        let marked = self.marked(slot)?;
        self.each_row(slot, |row, value| {
            if !marked.contains(row) {
                let other =
                    from_log.index.borrow().get_with(Table::State, &key(theirs, slot, row), |it| it == value)?;
                found.only_index += u64::from(other.is_none());
                found.other += u64::from(other == Some(false));
            }
            Ok(())
        })?;
        from_log.each_row(slot, |row, _| {
            let is_here = self.index.borrow().get_with(Table::State, &key(ours, slot, row), |_| ())?.is_some();
            found.only_log += u64::from(!is_here && !marked.contains(row));
            Ok(())
        })?;
        Ok(found)
    }

    fn generation(&self, slot: u32) -> Result<u8, Error> {
        self.with_facts(slot, |facts| facts.generation)
    }

    /// The last entry of a slot's Raft log.
    fn last_entry(&self, slot: u32) -> Result<Option<u64>, Error> {
        let last = self.index.borrow().first(Scan::prefix(Table::Raft, &slot.to_be_bytes()).backward())?;
        Ok(last.and_then(|(key, _)| RaftKey::decode(&key)).map(|key| key.index))
    }

    /// Calls `see` with key and value of each row of a slot.
    fn each_row(&self, slot: u32, mut see: impl FnMut(&[u8], &[u8]) -> Result<(), Error>) -> Result<(), Error> {
        let mut scan = Scan::prefix(Table::State, &prefix(self.generation(slot)?, slot).to_be_bytes());
        loop {
            let mut rows = Vec::new();
            let step = self.index.borrow().step(&mut scan, STEP, |key, value| {
                rows.push((key.get(PREFIX..).unwrap_or(&[]).to_vec(), value.to_vec()));
                ControlFlow::Continue(())
            })?;
            rows.iter().try_for_each(|(row, value)| see(row, value))?;
            if step == Step::Done {
                return Ok(());
            }
        }
    }
}
