//! A slot that leaves a lane, and one that comes: its lives there.
//!
//! A slot moves when its disk is emptied, and may come back. What the log has of its first life must not mix with the second when
//! the index is made anew, though records that were dropped lie in segments for long. So each stay is a *life* with a number, which every
//! record of rows has in its id: the first one of a later life ends what was before.
//!
//! Where a slot's Raft state was, a mark says that it has left. There are two:
//!
//! | Raft state | group | rows and log |
//! | --- | --- | --- |
//! | a state | may be opened | are the slot's |
//! | leaving | is never opened here again | are being erased; a crash leaves some |
//! | gone, and how many lives there were | likewise | are erased, also when the index is made anew |
//! | a state, in a later life | may be opened | are the slot's |

use std::collections::BTreeSet;
use std::ops::{Bound, ControlFlow};

use cairn_io::log::{Entry, Kind};
use cairn_io::task::yield_now;
use cairn_meta::index::{Error, RaftKey, Scan, Step, Table};

use super::{ABOUT, APPLIED, GENERATIONS, LIFE, MARKS, SLOTS_MAX, SlotFacts, fact_key, prefix};
use crate::lane::records::{first_kept, slot_of, state_in};
use crate::lane::state::State;
use crate::lane::{Lane, LaneError};

/// Rows deleted before others get their turn.
const STEP: usize = 256;
/// The first entry that is kept of a log that has left: none.
const FIRST: u64 = u64::MAX;
const LEAVING: u8 = 0;
const GONE: u8 = 1;

/// What stands in place of the Raft state of a slot that has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It is being erased.
    Leaving,
    /// Nothing is left of so many lives and the one before them.
    Erased(u32),
}

impl Gone {
    fn encode(self) -> Vec<u8> {
        match self {
            Self::Leaving => vec![LEAVING],
            Self::Erased(life) => [&[GONE][..], &life.to_le_bytes()].concat(),
        }
    }

    /// Reads it from what a Raft state's record has; `None` if that is a state.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        match (first_kept(payload), payload.get(8..)?) {
            (Some(FIRST), [LEAVING]) => Some(Self::Leaving),
            (Some(FIRST), [GONE, life @ ..]) => Some(Self::Erased(decode(life)?)),
            _ => None,
        }
    }
}

/// Reads a life's number.
pub fn decode(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

impl State {
    /// Ends the life of a slot, whatever it has left, and begins this one.
    pub(super) fn begin_life(&self, slot: u32, life: u32) -> Result<(), Error> {
        for first in (0..GENERATIONS).chain([MARKS]) {
            self.clear(prefix(first, slot))?;
        }
        self.doubt_no_more(slot)?;
        let mut index = self.index.borrow_mut();
        for fact in [APPLIED, ABOUT] {
            index.delete(Table::Lane, &fact_key(slot, fact))?;
        }
        index.put(Table::Lane, &fact_key(slot, LIFE), &life.to_le_bytes())?;
        self.facts.borrow_mut().insert(slot, SlotFacts { life, ..SlotFacts::default() });
        Ok(())
    }

    /// What it means if this Raft state says that the slot is gone.
    pub(in crate::lane) fn apply_gone(&self, entry: &Entry<'_>) -> Result<(), Error> {
        let Some(Gone::Erased(life)) = Gone::decode(entry.payload) else { return Ok(()) };
        let slot = slot_of(entry.id);
        // A copy that compaction made may come when the next life has begun.
        if self.with_facts(slot, |facts| facts.life <= life)? { self.begin_life(slot, life) } else { Ok(()) }
    }
}

impl State {
    /// The slots that have rows, records of rows, or a Raft log.
    pub(in crate::lane) fn all_slots(&self) -> Result<BTreeSet<u32>, Error> {
        let mut slots = BTreeSet::new();
        self.slots_with_logs(&mut slots)?;
        self.slots_with_rows(&mut slots)?;
        Ok(slots)
    }

    /// Adds the slots that have a Raft log or state, but those that have left.
    fn slots_with_logs(&self, slots: &mut BTreeSet<u32>) -> Result<(), Error> {
        let index = self.index.borrow();
        let mut next = Some(Scan::all(Table::Raft));
        while let Some((key, _)) = next.take().map(|scan| index.first(scan)).transpose()?.flatten() {
            let Some(RaftKey { slot, .. }) = RaftKey::decode(&key) else { break };
            slots.insert(slot);
            let after = slot.checked_add(1).map(|slot| RaftKey { slot, index: 0 }.encode());
            next = after.map(|key| Scan::range(Table::Raft, Bound::Included(&key), Bound::Unbounded));
        }
        let mut scan = Scan::prefix(Table::Records, &[Kind::RaftState as u8]);
        let mut visit = |key: &[u8], value: &[u8]| {
            let is_there = state_in(value).and_then(Gone::decode).is_none_or(|gone| gone == Gone::Leaving);
            let id = key.get(1..).and_then(|id| id.try_into().ok()).filter(|_| is_there);
            slots.extend(id.map(|id| slot_of(&id)));
            ControlFlow::Continue(())
        };
        while index.step(&mut scan, 1024, &mut visit)? == Step::More {}
        Ok(())
    }

    /// Adds the slots that have rows or records of rows.
    fn slots_with_rows(&self, slots: &mut BTreeSet<u32>) -> Result<(), Error> {
        let index = self.index.borrow();
        // Behind each that is found the next one is looked for: a slot may have millions of rows.
        let mut place = Some(0_u32);
        while let Some(from) = place {
            let scan = Scan::range(Table::State, Bound::Included(&from.to_be_bytes()), Bound::Unbounded);
            let found = index.first(scan)?.and_then(|(key, _)| Some(u32::from_be_bytes(*key.first_chunk()?)));
            slots.extend(found.map(|found| found & (SLOTS_MAX - 1)));
            place = found.and_then(|found| found.checked_add(1));
        }
        let mut slot = Some(0_u32);
        while let Some(from) = slot {
            let low = [&[Kind::Rows as u8][..], &from.to_be_bytes()].concat();
            let scan = Scan::range(Table::Records, Bound::Included(&low), Bound::Excluded(&[Kind::Rows as u8 + 1]));
            let found = index.first(scan)?.and_then(|(key, _)| Some(u32::from_be_bytes(*key.get(1..)?.first_chunk()?)));
            slots.extend(found);
            slot = found.and_then(|found| found.checked_add(1));
        }
        Ok(())
    }
}

impl Lane {
    /// Whether a slot was here and has left.
    ///
    /// # Errors
    /// If the index can't be read.
    pub fn has_left(&self, slot: u32) -> Result<bool, LaneError> {
        Ok(self.gone(slot)?.is_some())
    }

    fn gone(&self, slot: u32) -> Result<Option<Gone>, LaneError> {
        let Some((first, state)) = self.raft_state(slot)? else { return Ok(None) };
        Ok(Gone::decode(&[&first.to_le_bytes(), &state[..]].concat()))
    }

    /// Erases all that a slot has here; durable when this returns. Its group must not run. From the first moment it is never
    /// opened here again. Of what was erased, nothing is done.
    ///
    /// # Errors
    /// Poisoned, no room even in the reserve, or if the index can't be read.
    pub async fn erase_slot(&self, slot: u32) -> Result<(), LaneError> {
        let is_there = self.metadata()?.is_some_and(|found| found.slots.contains(&slot));
        if !is_there {
            return Ok(());
        }
        self.set_raft_state(slot, FIRST, &Gone::Leaving.encode()).await?;
        self.drop_rows(slot, |_| true).await?;
        for first in (0..GENERATIONS).chain([MARKS]) {
            while self.0.state.clear_some(prefix(first, slot), STEP)? == Step::More {
                self.wait_to_apply().await?;
                yield_now().await;
            }
        }
        let life = self.0.state.with_facts(slot, |facts| facts.life)?;
        self.set_raft_state(slot, FIRST, &Gone::Erased(life).encode()).await
    }

    /// Makes room for a slot that comes from another lane: erases what an earlier attempt left, and begins a life. True if it
    /// was here before.
    ///
    /// # Errors
    /// As [`Lane::erase_slot`].
    pub async fn welcome_slot(&self, slot: u32) -> Result<bool, LaneError> {
        self.erase_slot(slot).await?;
        let life = self.0.state.with_facts(slot, |facts| facts.life)?;
        self.0.state.begin_life(slot, life.saturating_add(1))?;
        self.has_left(slot)
    }
}
