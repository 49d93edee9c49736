//! The rows of slots in a lane's index: what their state machines keep, and how far each has got.
//!
//! A machine's changes, the marks of what it changed and the entry it has applied go into the index together, with nothing
//! awaited in between: one commit of the index has them all or none.
//!
//! In the table of state, keys begin with a byte that says what they are, then the slot (24 bits):
//!
//! | first byte | key behind the slot | value |
//! | --- | --- | --- |
//! | 0 to 127: a generation | the machine's key | the machine's value |
//! | 255: a mark | an entry (u64, big-endian) | the keys of the rows that it changed, each behind its length (u16, little-endian) |
//!
//! A row is *marked* while there is a mark with its key. A slot's rows are those of its current generation; a snapshot is staged as the next one.
//!
//! The log has them too, so that the index can be made anew though Raft's entries are purged
//! ([decision 6](../../../docs/decisions/0006-rows-in-the-log.md)). A *flush* is one record with all rows that are marked, as they
//! are at one entry. What a record of rows means when it is read:
//!
//! | record | rows of the slot have | then |
//! | --- | --- | --- |
//! | flush at `a` | less than `a` | its rows are put: the slot is at `a` |
//! | flush at `a` | `a` or more, as always while the lane is open | nothing is put |
//! | carried at `a` | `a` or less | its rows are put: what an older record said of them, and is still so |
//! | carried at `a` | more | nothing is put |
//! | part of a snapshot | | its rows are staged |
//! | end of a snapshot at `a` | less than `a` | what is staged becomes the slot's rows |
//!
//! In all cases the flush's marks up to `a` go. A record of an earlier life of the slot in this lane means nothing; one of a later
//! life ends the one before, see [`life`].

mod codec;
mod compare;
mod doubt;
mod flush;
mod install;
mod life;
mod merge;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use cairn_meta::index::{Error, Scan, Step, Table, View};
use cairn_meta::rows::{Batch, Machine, Rows, SlotRows};

use super::state::State;
use super::{Lane, LaneError};

pub use codec::Row;
pub(super) use codec::RowsRecord;
pub use compare::{Differences, SlotSummary};

/// Bytes of a record of rows, about.
pub(crate) const ROWS_BYTES_MAX: usize = 1 << 20;
/// Slots are below this.
pub const SLOTS_MAX: u32 = 1 << 24;
/// Generations of a slot's rows; the next of the last is the first.
const GENERATIONS: u8 = 128;
/// Marks: which rows have changed since they were last written into the log.
const MARKS: u8 = 255;

/// An entry of a slot's Raft log: its term and index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// Its term.
    pub term: u64,
    /// Its index.
    pub index: u64,
}

/// An entry whose effect rows in the log have, and who belonged to the group then.
pub type Flushed = (At, Vec<u8>);

/// What the index says of a slot besides its rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotFacts {
    /// The last entry whose effect the rows have.
    pub applied: Option<At>,
    /// Who belonged to the group then; opaque here.
    pub members: Vec<u8>,
    /// The last flush.
    pub flushed: Option<Flushed>,
    /// How often the slot has left this lane and come back.
    pub life: u32,
    /// Which rows are the slot's.
    pub generation: u8,
    /// The snapshot that is being staged.
    pub staging: Option<u64>,
    /// Bytes of rows that are marked, about and rather more; not kept.
    pub marked_bytes: usize,
    /// Bytes of the slot's records of rows; not kept.
    pub record_bytes: u64,
    /// What was left of them when they were merged last; not kept.
    pub merged_bytes: u64,
}

impl SlotFacts {
    /// The generation that is staged.
    fn next_generation(&self) -> u8 {
        (self.generation + 1) % GENERATIONS
    }
}

/// The facts of slots that were asked for.
pub type Facts = BTreeMap<u32, SlotFacts>;

/// Length of what stands before a machine's key.
const PREFIX: usize = 4;

fn prefix(first: u8, slot: u32) -> u32 {
    u32::from(first) << 24 | slot
}

fn key(first: u8, slot: u32, row: &[u8]) -> Vec<u8> {
    [&prefix(first, slot).to_be_bytes()[..], row].concat()
}

/// The keys of rows that one entry changed, as a mark has them.
fn encode_mark<'r>(rows: impl Iterator<Item = &'r Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    for row in rows {
        bytes.extend((row.len() as u16).to_le_bytes());
        bytes.extend(row);
    }
    bytes
}

/// Reads them back.
fn rows_in_mark(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk()?;
        let (row, rest) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
        bytes = rest;
        Some(row)
    })
}

/// The key of a fact in the lane's table.
fn fact_key(slot: u32, which: u8) -> [u8; 9] {
    let mut key = *b"slot\0\0\0\0\0";
    key[4..8].copy_from_slice(&slot.to_be_bytes());
    key[8] = which;
    key
}

const APPLIED: u8 = b'a';
const ABOUT: u8 = b'b';
const LIFE: u8 = b'l';

impl At {
    fn encode(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.term.to_le_bytes());
        bytes[8..].copy_from_slice(&self.index.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (term, index) = bytes.split_first_chunk()?;
        Some(Self { term: u64::from_le_bytes(*term), index: u64::from_le_bytes(index.try_into().ok()?) })
    }
}

impl SlotFacts {
    /// Generation, the snapshot being staged, the last flush (entry, length of members, members), the members of now.
    fn encode_about(&self) -> Vec<u8> {
        let mut bytes = vec![self.generation];
        bytes.push(u8::from(self.staging.is_some()));
        bytes.extend(self.staging.unwrap_or(0).to_le_bytes());
        bytes.push(u8::from(self.flushed.is_some()));
        if let Some((at, members)) = &self.flushed {
            bytes.extend(at.encode());
            bytes.extend((members.len() as u32).to_le_bytes());
            bytes.extend(members);
        }
        bytes.extend(&self.members);
        bytes
    }

    fn decode_about(applied: Option<At>, bytes: &[u8]) -> Option<Self> {
        let ([generation, is_staging], rest) = bytes.split_first_chunk()?;
        let (session, rest) = rest.split_first_chunk()?;
        let ([is_flushed], mut rest) = rest.split_first_chunk()?;
        let mut flushed = None;
        if *is_flushed == 1 {
            let (at, behind) = rest.split_at_checked(16)?;
            let (length, behind) = behind.split_first_chunk()?;
            let (members, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            flushed = Some((At::decode(at)?, members.to_vec()));
            rest = behind;
        }
        let staging = (*is_staging == 1).then(|| u64::from_le_bytes(*session));
        let generation = *generation % GENERATIONS;
        Some(Self { applied, members: rest.to_vec(), flushed, generation, staging, ..Self::default() })
    }
}

impl State {
    /// Looks at the facts of a slot.
    pub fn with_facts<R>(&self, slot: u32, look: impl FnOnce(&SlotFacts) -> R) -> Result<R, Error> {
        self.load_facts(slot)?;
        Ok(look(self.facts.borrow().get(&slot).unwrap_or(&SlotFacts::default())))
    }

    fn load_facts(&self, slot: u32) -> Result<(), Error> {
        if self.facts.borrow().contains_key(&slot) {
            return Ok(());
        }
        let index = self.index.borrow();
        let applied = index.get_with(Table::Lane, &fact_key(slot, APPLIED), At::decode)?.flatten();
        let about =
            index.get_with(Table::Lane, &fact_key(slot, ABOUT), |bytes| SlotFacts::decode_about(applied, bytes))?;
        let life = index.get_with(Table::Lane, &fact_key(slot, LIFE), life::decode)?.flatten().unwrap_or(0);
        let known = about.flatten().unwrap_or(SlotFacts { applied, ..SlotFacts::default() });
        let mut facts = SlotFacts { life, ..known };
        drop(index);
        for row in self.marked(slot)? {
            let place = key(facts.generation, slot, &row);
            let value = self.index.borrow().get_with(Table::State, &place, <[u8]>::len)?;
            facts.marked_bytes += codec::weight(&row, value.unwrap_or(0));
        }
        facts.record_bytes = self.rows_records(slot)?.iter().map(|(_, at)| u64::from(at.extent)).sum();
        facts.merged_bytes = facts.record_bytes;
        self.facts.borrow_mut().insert(slot, facts);
        Ok(())
    }

    /// The rows of a slot that are marked.
    fn marked(&self, slot: u32) -> Result<BTreeSet<Vec<u8>>, Error> {
        let mut scan = Scan::prefix(Table::State, &prefix(MARKS, slot).to_be_bytes());
        let mut marked = BTreeSet::new();
        let mut visit = |_: &[u8], mark: &[u8]| {
            for row in rows_in_mark(mark) {
                // Many entries change the same row.
                if !marked.contains(row) {
                    marked.insert(row.to_vec());
                }
            }
            ControlFlow::Continue(())
        };
        while self.index.borrow().step(&mut scan, 1024, &mut visit)? == Step::More {}
        Ok(marked)
    }

    /// Changes what is known of a slot besides the last applied entry.
    fn change_about(&self, slot: u32, change: impl FnOnce(&mut SlotFacts)) -> Result<(), Error> {
        self.load_facts(slot)?;
        let mut facts = self.facts.borrow_mut();
        let facts = facts.entry(slot).or_default();
        change(facts);
        self.index.borrow_mut().put(Table::Lane, &fact_key(slot, ABOUT), facts.encode_about())
    }

    fn set_applied(&self, slot: u32, at: At) -> Result<(), Error> {
        self.load_facts(slot)?;
        self.facts.borrow_mut().entry(slot).or_default().applied = Some(at);
        self.index.borrow_mut().put(Table::Lane, &fact_key(slot, APPLIED), &at.encode())
    }
}

impl Lane {
    /// What the index says of a slot besides its rows.
    ///
    /// # Errors
    /// If the index can't be read.
    pub fn slot_facts(&self, slot: u32) -> Result<SlotFacts, LaneError> {
        Ok(self.0.state.with_facts(slot, SlotFacts::clone)?)
    }

    /// The last entry whose effect a slot's rows have.
    ///
    /// # Errors
    /// If the index can't be read.
    pub fn slot_applied(&self, slot: u32) -> Result<Option<At>, LaneError> {
        Ok(self.0.state.with_facts(slot, |facts| facts.applied)?)
    }

    /// Lends the rows of a slot as they are now.
    ///
    /// # Errors
    /// If the index can't be read.
    pub fn read_slot<R>(&self, slot: u32, read: impl FnOnce(&dyn Rows) -> R) -> Result<R, LaneError> {
        let generation = self.0.state.with_facts(slot, |facts| facts.generation)?;
        let index = self.0.state.index.borrow();
        Ok(read(&SlotRows::new(&index, prefix(generation, slot))))
    }

    /// Lets a machine apply the command of an entry to a slot's rows, and returns its answer. A command whose rows would not
    /// fit into one record is refused.
    ///
    /// # Errors
    /// If the index can't be read; nothing is changed then.
    pub fn apply_to_slot(
        &self,
        slot: u32,
        at: At,
        machine: &dyn Machine,
        command: &[u8],
    ) -> Result<Vec<u8>, LaneError> {
        let state = &self.0.state;
        let generation = state.with_facts(slot, |facts| facts.generation)?;
        let index = state.index.borrow();
        let rows = SlotRows::new(&index, prefix(generation, slot));
        let mut batch = Batch::new(&rows);
        let answer = machine.apply(&mut batch, at.index, command)?;
        let changes = batch.into_changes();
        drop(index);
        let bytes = changes.iter().map(|(row, value)| codec::weight(row, value.as_ref().map_or(0, Vec::len))).sum();
        if bytes > self.rows_bytes_max() {
            // All replicas see the same command and the same rows, and so refuse it alike.
            state.set_applied(slot, at)?;
            return Ok(machine.too_large(bytes, self.rows_bytes_max()));
        }
        if !changes.is_empty() {
            let mut index = state.index.borrow_mut();
            index.put(Table::State, &key(MARKS, slot, &at.index.to_be_bytes()), encode_mark(changes.keys()))?;
            for (row, value) in changes {
                let place = key(generation, slot, &row);
                match value {
                    Some(value) => index.put(Table::State, &place, value)?,
                    None => index.delete(Table::State, &place)?,
                }
            }
        }
        state.set_applied(slot, at)?;
        state.facts.borrow_mut().entry(slot).and_modify(|facts| facts.marked_bytes += bytes);
        Ok(answer)
    }

    /// Bytes that the rows changed by one command may have, and the rows that are marked: a flush is one record.
    pub fn rows_bytes_max(&self) -> usize {
        (self.0.log.payload_max() / 3).min(ROWS_BYTES_MAX)
    }

    /// Takes note of an entry that changes no rows.
    ///
    /// # Errors
    /// If the index can't be read.
    pub fn pass_in_slot(&self, slot: u32, at: At, members: Option<Vec<u8>>) -> Result<(), LaneError> {
        if let Some(members) = members {
            self.0.state.change_about(slot, |facts| facts.members = members)?;
        }
        Ok(self.0.state.set_applied(slot, at)?)
    }

    /// Whether the index is so near behind that more can be applied at once.
    pub fn is_index_near(&self) -> bool {
        self.ask_for_commit();
        !self.is_index_far()
    }

    /// Waits while the index is too far behind, for as long as it takes: what is committed must be applied.
    ///
    /// # Errors
    /// If the lane takes no writes any more.
    pub async fn wait_to_apply(&self) -> Result<(), LaneError> {
        until_room(|_| true, async || self.wait_for_index().await).await
    }

    /// Whether it takes writes.
    ///
    /// # Errors
    /// Poisoned, or if the index couldn't take what the log has.
    pub fn check(&self) -> Result<(), LaneError> {
        self.check_poison()?;
        self.check_index()
    }

    /// Whether there is room for data, or some is being made.
    ///
    /// # Errors
    /// If there is only what is kept for what frees some.
    pub fn check_room(&self) -> Result<(), LaneError> {
        Ok(self.0.log.check_room()?)
    }

    /// Waits while the index is too far behind.
    ///
    /// # Errors
    /// If the lane takes no writes, or has no room for any now.
    pub async fn wait_to_propose(&self) -> Result<(), LaneError> {
        self.check_poison()?;
        self.wait_for_index().await
    }
}

/// How long to wait for room on the disk before looking again.
const ROOM_AGAIN: cairn_io::time::Duration = cairn_io::time::Duration::from_millis(100);

/// Does something again and again until there is room for it, as long as whoever asks `waits` when told that there is none.
pub(crate) async fn until_room<T>(
    mut waits: impl FnMut(&LaneError) -> bool,
    mut attempt: impl AsyncFnMut() -> Result<T, LaneError>,
) -> Result<T, LaneError> {
    loop {
        match attempt().await {
            Err(error) if error.is_no_room() && waits(&error) => cairn_io::time::sleep(ROOM_AGAIN).await,
            other => return other,
        }
    }
}

/// The committed rows of a slot at one moment.
pub struct SlotView {
    view: View,
    scan: Scan,
    facts: SlotFacts,
}

impl SlotView {
    /// What was known of the slot then.
    pub fn facts(&self) -> &SlotFacts {
        &self.facts
    }

    /// Goes on in the order of keys until `visit` breaks.
    ///
    /// # Errors
    /// If the index can't be read, or had to be opened again meanwhile.
    pub fn step(&mut self, mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>) -> Result<Step, LaneError> {
        Ok(self.view.step(&mut self.scan, |key, value| visit(key.get(PREFIX..).unwrap_or(&[]), value))?)
    }

    /// The next rows, about so many bytes of them; `None` at the end.
    ///
    /// # Errors
    /// As [`SlotView::step`].
    pub fn next_part(&mut self, bytes_max: usize) -> Result<Option<Vec<Row>>, LaneError> {
        let (mut rows, mut bytes) = (Vec::new(), 0);
        self.step(|key, value| {
            let row = Row::Put(key.to_vec(), value.to_vec());
            bytes += row.weight();
            rows.push(row);
            if bytes < bytes_max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok((!rows.is_empty()).then_some(rows))
    }
}

impl Lane {
    /// Commits the index and lends what it has of a slot then, for as long as one likes.
    ///
    /// # Errors
    /// If the index can't be committed or read.
    pub async fn view_slot(&self, slot: u32) -> Result<SlotView, LaneError> {
        self.commit().await?;
        let view = self.0.state.index.borrow().view()?;
        let applied = view.get(Table::Lane, &fact_key(slot, APPLIED))?.and_then(|bytes| At::decode(&bytes));
        let about = view.get(Table::Lane, &fact_key(slot, ABOUT))?;
        let facts = about.and_then(|bytes| SlotFacts::decode_about(applied, &bytes));
        let facts = facts.unwrap_or(SlotFacts { applied, ..SlotFacts::default() });
        let scan = Scan::prefix(Table::State, &prefix(facts.generation, slot).to_be_bytes());
        Ok(SlotView { view, scan, facts })
    }
}
