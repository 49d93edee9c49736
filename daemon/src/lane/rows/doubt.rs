//! Slots of which records were lost: with a damaged part of the log there may go rows, votes or entries that were answered for.
//!
//! A replica that shows less than it answered for is worse than one that is missing: the others would count on it. So such a
//! slot isn't opened until somebody has said that what is left is enough.
//!
//! | what was lost | whose | until |
//! | --- | --- | --- |
//! | a record of rows | its slot's | the slot begins another life in this lane, or the record is dropped: others say what it said |
//! | a Raft state | its slot's | a later one is there |
//! | an entry of a Raft log | its slot's | it is purged, or another has its place |
//! | bytes in which no record can be told, when the index is made anew | that of each slot that is there | the slot begins another life |

use std::ops::ControlFlow;

use cairn_io::log::{Damage, Id, Kind, Location, What};
use cairn_meta::index::{Error, RaftKey, Scan, Step, Table};

use super::State;
use super::codec::life_of;
use crate::lane::records::{first_kept, slot_id, slot_of, state_in};
use crate::lane::state::{decode, record_key};
use crate::lane::{Lane, LaneError};

const LOST: &[u8] = b"lost";
/// Of a slot, where records were, when the index was made anew, of which nothing is known.
const DOUBT: &[u8] = b"doubt";

fn doubt_key(slot: u32) -> Vec<u8> {
    [DOUBT, &slot.to_be_bytes()].concat()
}

/// A record that couldn't be read when the lane was opened, under this key.
struct Lost {
    key: Vec<u8>,
    kind: Kind,
    id: Id,
    at: Location,
}

impl State {
    /// Takes note of damage that was found while the index was made anew. A missing segment is none: freed ones are missing, too.
    pub(in crate::lane) fn doubt(&self, damage: &[Damage]) -> Result<(), Error> {
        let is_loss = |damage: &&Damage| matches!(damage.what, What::Records | What::Batch | What::File);
        let Some(first) = damage.iter().find(is_loss) else { return Ok(()) };
        let text = format!("segment {}, bytes {} to {}", first.segment, first.bytes.start, first.bytes.end);
        for slot in self.all_slots()? {
            self.index.borrow_mut().put(Table::Lane, &doubt_key(slot), text.as_bytes())?;
        }
        Ok(())
    }

    /// A record that was lost has been dropped up to this place: what it said doesn't matter any more.
    pub(in crate::lane) fn forgive(&self, kind: Kind, id: &Id, upto: (u64, u32)) -> Result<(), Error> {
        if self.is_nothing_lost.get() {
            return Ok(());
        }
        let all = self.lost_records()?;
        self.is_nothing_lost.set(all.is_empty());
        for lost in all {
            if (lost.kind, &lost.id) == (kind, id) && (lost.at.segment, lost.at.offset) <= upto {
                self.index.borrow_mut().delete(Table::Lane, &lost.key)?;
            }
        }
        Ok(())
    }

    /// Why a slot may not be what it was, if so.
    pub(in crate::lane) fn doubt_about(&self, slot: u32) -> Result<Option<String>, Error> {
        for lost in self.lost_records()? {
            if slot_of(&lost.id) == slot && self.is_missed(slot, &lost)? {
                let what = match lost.kind {
                    Kind::Rows => "rows",
                    Kind::RaftState => "votes",
                    _ => "entries of its log",
                };
                return Ok(Some(format!("{what} at {}:{}", lost.at.segment, lost.at.offset)));
            }
        }
        let unknown = self.index.borrow().get(Table::Lane, &doubt_key(slot))?;
        Ok(unknown.map(|place| format!("what was in {}", String::from_utf8_lossy(&place))))
    }

    fn is_missed(&self, slot: u32, lost: &Lost) -> Result<bool, Error> {
        let place = |table, key: &[u8]| Ok::<_, Error>(self.index.borrow().get_with(table, key, decode)?.flatten());
        let is_later =
            |at: Option<Location>| at.is_some_and(|at| (at.segment, at.offset) > (lost.at.segment, lost.at.offset));
        Ok(match lost.kind {
            Kind::Rows => life_of(&lost.id) >= self.with_facts(slot, |facts| facts.life)?,
            Kind::RaftState => !is_later(place(Table::Records, &record_key(Kind::RaftState, &slot_id(slot)))?),
            Kind::RaftEntry => {
                let index = RaftKey::decode(&lost.id[..12]).map_or(0, |key| key.index);
                index >= self.first_kept(slot)? && !is_later(place(Table::Raft, &lost.id[..12])?)
            }
            _ => false,
        })
    }

    /// The first entry that a slot's Raft log may have.
    fn first_kept(&self, slot: u32) -> Result<u64, Error> {
        let read = |value: &[u8]| state_in(value).and_then(first_kept);
        let state = record_key(Kind::RaftState, &slot_id(slot));
        Ok(self.index.borrow().get_with(Table::Records, &state, read)?.flatten().unwrap_or(0))
    }

    fn lost_records(&self) -> Result<Vec<Lost>, Error> {
        let (mut found, mut scan) = (Vec::new(), Scan::prefix(Table::Lane, LOST));
        let mut visit = |key: &[u8], value: &[u8]| {
            let parts = value.first().zip(value.get(1..33)).zip(value.get(33..).and_then(decode));
            if let Some(((kind, id), at)) = parts
                && let (Some(kind), Ok(id)) = (Kind::from_number(*kind), Id::try_from(id))
            {
                found.push(Lost { key: key.to_vec(), kind, id, at });
            }
            ControlFlow::Continue(())
        };
        while self.index.borrow().step(&mut scan, 1024, &mut visit)? == Step::More {}
        Ok(found)
    }

    /// A slot that begins another life has nothing of the one before to lose.
    pub(super) fn doubt_no_more(&self, slot: u32) -> Result<(), Error> {
        self.index.borrow_mut().delete(Table::Lane, &doubt_key(slot))
    }

    /// Forgets every doubt.
    fn trust(&self) -> Result<(), Error> {
        for lost in self.lost_records()? {
            if matches!(lost.kind, Kind::Rows | Kind::RaftState | Kind::RaftEntry) {
                self.index.borrow_mut().delete(Table::Lane, &lost.key)?;
            }
        }
        let mut doubts = Vec::new();
        let mut scan = Scan::prefix(Table::Lane, DOUBT);
        let mut visit = |key: &[u8], _: &[u8]| {
            doubts.push(key.to_vec());
            ControlFlow::Continue(())
        };
        while self.index.borrow().step(&mut scan, 1024, &mut visit)? == Step::More {}
        doubts.iter().try_for_each(|key| self.index.borrow_mut().delete(Table::Lane, key))
    }
}

impl Lane {
    /// What was lost of a slot or may have been, for people; `None` if it is what it was.
    ///
    /// # Errors
    /// If the index can't be read.
    pub fn slot_doubt(&self, slot: u32) -> Result<Option<String>, LaneError> {
        Ok(self.0.state.doubt_about(slot)?)
    }

    /// Has slots be opened with what is left of them. Committed when this returns.
    ///
    /// # Errors
    /// If the index can't be read or committed.
    pub async fn accept_loss(&self) -> Result<(), LaneError> {
        self.0.state.trust()?;
        self.commit().await
    }
}
