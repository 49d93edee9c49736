//! From landed to answered: what a majority has is committed, what is committed is applied in order, whoever waits for it is
//! answered, and in time the log begins later.

use std::io;
use std::rc::Rc;

use cairn_io::task::yield_now;

use super::group::Slot;
use super::log::behind;
use super::types::{At, Entry};
use super::{SlotError, another_leads, stopped};
use crate::lane::LaneError;

/// Entries applied before others get their turn on the core.
const ENTRIES_AT_ONCE: usize = 64;

impl Slot {
    /// Submits what was pushed to the log, and does what follows from what has landed.
    pub fn drive(&self) {
        if !self.runs.is_submitting.get() && !self.log.submit_now() {
            self.runs.is_submitting.set(true);
            self.run(async |slot: Rc<Self>| {
                let submitted = slot.log.submit().await;
                slot.runs.is_submitting.set(false);
                if let Err(error) = submitted {
                    slot.fail(&error);
                }
            });
        }
        self.advance();
    }

    /// Commits what a majority has by now, and applies what is committed.
    pub fn advance(&self) {
        {
            let mut raft = self.raft.borrow_mut();
            if let Some(committed) = raft.quorum_has(self.log.landed_to()) {
                raft.commit(committed);
                raft.heard = raft.heard.max(Some(committed));
            }
        }
        self.apply();
        self.forget();
        self.changed.ring();
    }

    /// Keeps in memory what is yet to be applied here, or to be sent to another, and the entry before it, by which the other sees that
    /// it fits: memory that is used again at once is still in the processor's caches.
    fn forget(&self) {
        let needed = self.applied.get().min(self.raft.borrow().all_have());
        self.log.forget(needed.saturating_sub(1));
    }

    /// Applies what is committed, as far as nothing need be waited for; the rest in a task.
    fn apply(&self) {
        if self.is_over() || self.applied.get() >= self.raft.borrow().committed || self.runs.is_applying.replace(true) {
            return;
        }
        match self.apply_some() {
            Ok(true) => self.runs.is_applying.set(false),
            Ok(false) => self.run(async |slot: Rc<Self>| {
                if let Err(error) = slot.apply_rest().await {
                    slot.fail(&error);
                }
            }),
            Err(error) => {
                self.runs.is_applying.set(false);
                self.fail(&error);
            }
        }
        self.keep_if_due();
    }

    /// Applies entries that are in memory; false if there are more.
    fn apply_some(&self) -> Result<bool, LaneError> {
        let lane = &self.machine.lane;
        if !lane.is_index_near() {
            return Ok(false);
        }
        for _ in 0..ENTRIES_AT_ONCE {
            let next = self.applied.get();
            if next >= self.raft.borrow().committed {
                return Ok(true);
            }
            let entry = if lane.is_flush_due(self.number)? { None } else { self.log.recent(next) };
            let Some(entry) = entry else { return Ok(false) };
            self.apply_entry(entry)?;
        }
        Ok(self.applied.get() >= self.raft.borrow().committed)
    }

    async fn apply_rest(&self) -> io::Result<()> {
        let lane = &self.machine.lane;
        loop {
            lane.wait_to_apply().await.map_err(io::Error::other)?;
            lane.flush_if_due(self.number).await.map_err(io::Error::other)?;
            if self.apply_some().map_err(io::Error::other)? {
                break;
            }
            let (next, committed) = (self.applied.get(), self.raft.borrow().committed);
            if next < committed && self.log.recent(next).is_none() {
                // Behind what there is room for in memory.
                for entry in self.log.read_there(next, committed.min(next + ENTRIES_AT_ONCE as u64)).await? {
                    lane.flush_if_due(self.number).await.map_err(io::Error::other)?;
                    self.apply_entry(entry).map_err(io::Error::other)?;
                }
            }
            yield_now().await;
        }
        // Nothing is awaited between the last look and this.
        self.runs.is_applying.set(false);
        self.forget();
        self.changed.ring();
        self.keep_if_due();
        Ok(())
    }

    fn apply_entry(&self, entry: Entry) -> Result<(), LaneError> {
        let at = entry.at;
        let answer = self.machine.apply(entry)?;
        self.applied.set(at.index + 1);
        let mut waiting = self.waiting.borrow_mut();
        while let Some(first) = waiting.pop_front_if(|first| first.at.index <= at.index) {
            if first.at == at {
                let _ = first.answer.send(Ok(answer));
                break;
            }
            let _ = first.answer.send(Err(another_leads()));
        }
        Ok(())
    }

    /// Waits until nothing is applied, and keeps it so until what this returns is dropped.
    pub async fn stand_still(&self) -> StandsStill<'_> {
        while self.runs.is_applying.replace(true) {
            self.changed.rung().await;
        }
        StandsStill(self)
    }

    /// Has the rows written into the lane's log, and the group's log begin later, when enough was applied since the last time.
    fn keep_if_due(&self) {
        if self.applied.get() < self.flushed.get() + self.options.snapshot_entries || self.runs.is_keeping.replace(true)
        {
            return;
        }
        self.run(async |slot: Rc<Self>| {
            let kept = slot.keep().await;
            slot.runs.is_keeping.set(false);
            match kept {
                Ok(()) => slot.keep_if_due(),
                Err(error) => slot.fail(&error),
            }
        });
    }

    async fn keep(&self) -> io::Result<()> {
        let lane = &self.machine.lane;
        let flushed = lane.flush_slot(self.number).await.map_err(io::Error::other)?;
        lane.merge_if_due(self.number).await.map_err(io::Error::other)?;
        self.flushed.set(behind(flushed.map(|(at, _)| at)));
        // Of what is kept for others nothing is given up, nor what would hardly be worth it.
        let first = self.flushed.get().saturating_sub(self.options.kept_entries);
        if first < self.log.begins() + (self.options.snapshot_entries / 4).max(1) {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        match self.log.at(first - 1).map_err(io::Error::other)? {
            Some(upto) => self.log.purge(upto).await,
            None => Ok(()),
        }
    }

    /// The last entry that is applied.
    pub fn last_applied(&self) -> Result<Option<At>, SlotError> {
        self.machine.applied().map_err(stopped)
    }
}

/// Nothing is applied.
pub struct StandsStill<'s>(&'s Slot);

impl Drop for StandsStill<'_> {
    fn drop(&mut self) {
        self.0.runs.is_applying.set(false);
        self.0.changed.ring();
    }
}
