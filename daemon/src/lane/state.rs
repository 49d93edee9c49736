//! What the records of a lane's log mean to its index.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};
use std::rc::Rc;

use cairn_io::log::format::Drop;
use cairn_io::log::{Damage, Entry, Id, Kind, Location, SegmentInfo};
use cairn_io::time;
use cairn_meta::index::{ChunkEntry, ChunkId, Error, Index, RaftKey, Scan, Step, Table};

use super::records::{LOCATION, Landings, first_kept, slot_of};
use super::rows::Facts;
use super::{ANEW, commit};

/// The index, and how much of each segment is live.
pub struct State {
    pub index: RefCell<Index>,
    segments: RefCell<BTreeMap<u64, Usage>>,
    /// Segments whose usage the index doesn't have yet.
    changed: RefCell<BTreeSet<u64>>,
    /// When the index is made anew from the log: no chunk counts as older than this.
    rebuilt: Option<u32>,
    /// Until the log is open: nobody else commits then, and the overlay must stay within bounds.
    commit_at: Cell<Option<usize>>,
    /// What went wrong with the index while records were applied.
    failure: RefCell<Option<String>>,
    quarantined: Cell<u64>,
    /// How many quarantined records each segment has: to free it would be to forget that they were there.
    bad_in: RefCell<BTreeMap<u64, u64>>,
    /// The segment that the index was committed up to, as the log says.
    noted: Cell<u64>,
    /// What is known of slots, as the index has it.
    pub(super) facts: RefCell<Facts>,
    /// Whether nothing is known to be lost, as is almost always so: then nobody need look for it.
    pub(super) is_nothing_lost: Cell<bool>,
    /// Behind the last entry that each Raft log ever had here.
    raft_ends: RefCell<BTreeMap<u32, u64>>,
    /// Entries of Raft logs that have become durable.
    pub(super) landings: Rc<Landings>,
}

/// What is live of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of live records.
    pub live: u64,
    /// Bytes of drops, and how many segments there were when the last was written.
    pub drops: u64,
    /// See `drops`.
    pub among: u64,
    /// Above 0: it holds records that were written again in segments from this number on and not dropped here. A drop of
    /// what lies there must outlive this segment, too, or a rebuild would bring the old copy back.
    pub copied_since: u64,
}

/// A record that was found bad, as its quarantine says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Which chunk.
    pub id: ChunkId,
    /// Where its bytes lie that don't match.
    pub location: Location,
    /// When they were found: nanoseconds since the Unix epoch.
    pub found: u64,
}

/// Nanoseconds since the Unix epoch at the beginning of 2020.
const YEAR_2020: u64 = 1_577_836_800 * 1_000_000_000;

/// The index counts in seconds since 2020.
pub fn seconds(wall: u64) -> u32 {
    u32::try_from(wall.saturating_sub(YEAR_2020) / 1_000_000_000).unwrap_or(u32::MAX)
}

pub fn location(entry: &ChunkEntry) -> Location {
    Location { segment: entry.segment, offset: entry.offset, extent: entry.stored, stored: entry.length }
}

/// A location in the tables of records.
pub fn encode(at: Location) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[0..8].copy_from_slice(&at.segment.to_le_bytes());
    bytes[8..12].copy_from_slice(&at.offset.to_le_bytes());
    bytes[12..16].copy_from_slice(&at.extent.to_le_bytes());
    bytes[16..20].copy_from_slice(&at.stored.to_le_bytes());
    bytes
}

/// Reads a location from the front of a value.
pub fn decode(bytes: &[u8]) -> Option<Location> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let segment = u64::from_le_bytes(bytes.get(0..8)?.try_into().ok()?);
    Some(Location { segment, offset: word(8)?, extent: word(12)?, stored: word(16)? })
}

/// The key of a version or of a slot's Raft state in the table of records.
pub fn record_key(kind: Kind, id: &Id) -> [u8; 33] {
    let mut key = [0; 33];
    key[0] = kind as u8;
    key[1..].copy_from_slice(id);
    key
}

/// The id of a Raft entry's record: slot, index, term, each big-endian.
pub fn raft_id(key: RaftKey, term: u64) -> Id {
    let mut id = [0; 32];
    id[..12].copy_from_slice(&key.encode());
    id[12..20].copy_from_slice(&term.to_be_bytes());
    id
}

impl State {
    pub fn new(index: Index, commit_at: usize) -> Result<Self, Error> {
        let (mut segments, mut quarantined, mut bad_in) = (BTreeMap::new(), 0, BTreeMap::new());
        let mut scan = Scan::all(Table::Segments);
        while index.step(&mut scan, 1024, |key, value| {
            if let (Ok(key), Some(usage)) = (<[u8; 8]>::try_from(key), Usage::decode(value)) {
                segments.insert(u64::from_be_bytes(key), usage);
            }
            ControlFlow::Continue(())
        })? == Step::More
        {}
        let mut scan = Scan::all(Table::Quarantine);
        while index.step(&mut scan, 1024, |_, value| {
            quarantined += 1;
            if let Some(at) = decode(value) {
                *bad_in.entry(at.segment).or_default() += 1;
            }
            ControlFlow::Continue(())
        })? == Step::More
        {}
        // Compaction doesn't carry touches on. Who is younger than they were is kept longer, which harms nobody.
        let rebuilt = index.checkpoint().is_none().then(|| seconds(time::wall().as_unix_nanos()));
        Ok(Self {
            rebuilt,
            index: RefCell::new(index),
            segments: RefCell::new(segments),
            changed: RefCell::default(),
            commit_at: Cell::new(Some(commit_at)),
            failure: RefCell::default(),
            quarantined: Cell::new(quarantined),
            bad_in: RefCell::new(bad_in),
            noted: Cell::new(0),
            facts: RefCell::default(),
            is_nothing_lost: Cell::new(false),
            raft_ends: RefCell::default(),
            landings: Rc::default(),
        })
    }

    /// No segment from this one on was ever freed, as far as the log says.
    pub fn noted(&self) -> u64 {
        self.noted.get()
    }

    /// What a durable record changes. Called in the order of the log.
    pub fn apply(&self, entry: &Entry<'_>) {
        self.commit_while_recovering(entry);
        if let Err(error) = self.try_apply(entry) {
            self.failure.borrow_mut().get_or_insert_with(|| error.to_string());
        }
    }

    /// Whether the index has a record, and there. Of kinds that are no entries, none is.
    pub fn is_live(&self, kind: Kind, id: &Id, at: Location) -> Result<bool, Error> {
        let index = self.index.borrow();
        let found = match kind {
            Kind::Chunk => index.chunk(&ChunkId(*id))?.map(|entry| location(&entry)),
            Kind::RaftEntry => index.get_with(Table::Raft, &id[..12], decode)?.flatten(),
            Kind::Version | Kind::Provisional | Kind::RaftState | Kind::Rows => {
                index.get_with(Table::Records, &record_key(kind, id), decode)?.flatten()
            }
            Kind::Drop | Kind::Touch | Kind::Checkpoint => None,
        };
        Ok(found == Some(at))
    }

    /// Why the index doesn't say what the log says, if so.
    pub fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    fn try_apply(&self, entry: &Entry<'_>) -> Result<(), Error> {
        let at = entry.location;
        match entry.kind {
            Kind::Chunk => self.apply_chunk(entry)?,
            Kind::Drop => match Drop::decode(entry.payload) {
                Some(drop) => {
                    let among = self.segments.borrow().len() as u64;
                    self.change(at.segment, |usage| {
                        usage.drops += u64::from(at.extent);
                        usage.among = among;
                    });
                    self.apply_drop(entry.id, &drop)?;
                }
                None => self.lost(entry),
            },
            Kind::Touch => {
                self.index.borrow_mut().touch(&ChunkId(*entry.id), seconds(entry.wall))?;
            }
            Kind::Version | Kind::Provisional if entry.is_whole => {
                self.place(Table::Records, &record_key(entry.kind, entry.id), at, &[])?;
            }
            Kind::RaftEntry if entry.is_whole => {
                self.place_raft(entry)?;
                self.landings.note(entry.id);
            }
            Kind::RaftState if entry.is_whole => {
                self.place(Table::Records, &record_key(entry.kind, entry.id), at, entry.payload)?;
                self.purge(entry)?;
                self.apply_gone(entry)?;
            }
            Kind::Rows if entry.is_whole => self.apply_rows(entry)?,
            Kind::Version | Kind::Provisional | Kind::RaftEntry | Kind::RaftState | Kind::Rows => self.lost(entry),
            Kind::Checkpoint => {
                let noted = commit::decode_note(entry.payload).map_or(0, |position| position.segment);
                self.noted.set(self.noted.get().max(noted));
            }
        }
        Ok(())
    }

    fn apply_chunk(&self, entry: &Entry<'_>) -> Result<(), Error> {
        let (id, at) = (ChunkId(*entry.id), entry.location);
        if !entry.is_whole {
            let is_there = self.index.borrow().chunk(&id)?.is_some();
            return if is_there { Ok(()) } else { self.quarantine(&id, at, entry.wall) };
        }
        let touched = seconds(entry.wall).max(self.rebuilt.unwrap_or(0));
        let Location { segment, offset, extent: stored, .. } = at;
        let chunk = ChunkEntry { segment, offset, stored, length: entry.length, flags: 0, touched };
        let before = self.index.borrow_mut().put_chunk(&id, &chunk)?;
        if self.quarantined.get() > 0
            && let Some(bad) = self.acquit(&id)?
        {
            self.outlived(bad.segment, at.segment);
        }
        let Some(before) = before else {
            self.add(at);
            return Ok(());
        };
        // A copy that compaction made is as old as what it was made from.
        self.index.borrow_mut().put_chunk(&id, &ChunkEntry { touched: before.touched, ..chunk })?;
        if location(&before) != at {
            self.add(at);
            self.copied(location(&before), at);
        }
        Ok(())
    }

    fn apply_drop(&self, id: &Id, drop: &Drop) -> Result<(), Error> {
        let is_meant = |at: Location| (at.segment, at.offset) <= (drop.segment, drop.offset);
        let mut index = self.index.borrow_mut();
        if drop.of == Kind::Chunk {
            let id = ChunkId(*id);
            let gone = index.chunk(&id)?.map(|entry| location(&entry)).filter(|at| is_meant(*at));
            if gone.is_some() {
                index.drop_chunk(&id)?;
            }
            std::mem::drop(index);
            gone.into_iter().for_each(|at| self.dropped(at, drop));
            let quarantined = self.quarantine_of(&id)?;
            if let Some(bad) = quarantined.filter(|bad| is_meant(bad.location)) {
                self.acquit(&id)?;
                self.outlived(bad.location.segment, drop.segment);
            }
            return Ok(());
        }
        std::mem::drop(index);
        self.forgive(drop.of, id, (drop.segment, drop.offset))?;
        let mut index = self.index.borrow_mut();
        let named = record_key(drop.of, id);
        let (table, key) = match drop.of {
            Kind::RaftEntry => (Table::Raft, &id[..12]),
            _ => (Table::Records, &named[..]),
        };
        let gone = index.get_with(table, key, decode)?.flatten().filter(|at| is_meant(*at));
        if let Some(at) = gone {
            index.delete(table, key)?;
            std::mem::drop(index);
            self.dropped(at, drop);
        }
        Ok(())
    }

    /// Entries of a Raft log before the first that its state keeps are gone.
    fn purge(&self, entry: &Entry<'_>) -> Result<(), Error> {
        let Some(first) = first_kept(entry.payload) else { return Ok(()) };
        let slot = slot_of(entry.id);
        let (low, high) = (RaftKey { slot, index: 0 }.encode(), RaftKey { slot, index: first }.encode());
        let mut scan = Scan::range(Table::Raft, Bound::Included(&low), Bound::Excluded(&high));
        let mut gone = Vec::new();
        let mut visit = |key: &[u8], value: &[u8]| {
            gone.push((key.to_vec(), decode(value)));
            ControlFlow::Continue(())
        };
        while self.index.borrow().step(&mut scan, 4096, &mut visit)? == Step::More {}
        for (key, at) in gone {
            self.index.borrow_mut().delete(Table::Raft, &key)?;
            at.into_iter().for_each(|at| self.remove(at));
        }
        Ok(())
    }

    /// Sets where an entry of a Raft log lies. Almost always it is the next of its log: then nothing need be looked for.
    fn place_raft(&self, entry: &Entry<'_>) -> Result<(), Error> {
        let (key, term) = (&entry.id[..12], &entry.id[12..20]);
        let Some(RaftKey { slot, index }) = RaftKey::decode(key) else { return Ok(()) };
        let known = self.raft_ends.borrow().get(&slot).copied();
        let end = if let Some(end) = known {
            end
        } else {
            let last = self.index.borrow().first(Scan::prefix(Table::Raft, &slot.to_be_bytes()).backward())?;
            last.and_then(|(key, _)| RaftKey::decode(&key)).map_or(0, |last| last.index.saturating_add(1))
        };
        self.raft_ends.borrow_mut().insert(slot, end.max(index.saturating_add(1)));
        if index < end {
            return self.place(Table::Raft, key, entry.location, term);
        }
        let mut value = [0; LOCATION + 8];
        value[..LOCATION].copy_from_slice(&encode(entry.location));
        value[LOCATION..].copy_from_slice(term);
        self.index.borrow_mut().put(Table::Raft, key, &value)?;
        self.add(entry.location);
        Ok(())
    }

    /// Sets where the record with this key lies.
    pub(super) fn place(&self, table: Table, key: &[u8], at: Location, rest: &[u8]) -> Result<(), Error> {
        let before = self.index.borrow().get_with(table, key, decode)?.flatten();
        if before == Some(at) {
            return Ok(());
        }
        self.index.borrow_mut().put(table, key, [&encode(at), rest].concat())?;
        self.add(at);
        if let Some(before) = before {
            self.copied(before, at);
        }
        Ok(())
    }

    /// A record that was answered for and isn't readable: a drop or a piece of metadata. It is kept in sight.
    pub(super) fn lost(&self, entry: &Entry<'_>) {
        let key = [b"lost", &entry.sequence.to_be_bytes()[..]].concat();
        let value = [&[entry.kind as u8][..], entry.id, &encode(entry.location)].concat();
        // The lane's table takes any bytes.
        let _ = self.index.borrow_mut().put(Table::Lane, &key, &value);
        self.is_nothing_lost.set(false);
    }

    /// Takes note of what opening the log found.
    pub fn recovered(&self, segments: &[SegmentInfo], damage: &[Damage]) -> Result<(), Error> {
        self.commit_at.set(None);
        let there: BTreeSet<u64> = segments.iter().map(|segment| segment.number).collect();
        let gone: Vec<u64> = self.segments.borrow().keys().filter(|number| !there.contains(number)).copied().collect();
        for number in gone {
            let usage = self.segments.borrow().get(&number).copied().unwrap_or_default();
            if usage.live == 0 {
                self.forget(number);
            }
        }
        if self.rebuilt.is_some() {
            self.doubt(damage)?;
            self.index.borrow_mut().delete(Table::Lane, ANEW)?;
        }
        for damage in damage {
            let key = [b"damage", &damage.segment.to_be_bytes()[..], &damage.bytes.start.to_be_bytes()].concat();
            self.index.borrow_mut().put(Table::Lane, &key, format!("{damage:?}").as_bytes())?;
        }
        Ok(())
    }

    /// Withholds a chunk whose bytes are bad, until it is stored again or dropped.
    pub fn quarantine(&self, id: &ChunkId, at: Location, wall: u64) -> Result<(), Error> {
        let mut index = self.index.borrow_mut();
        if index.chunk(id)?.is_some_and(|entry| location(&entry) == at) {
            index.drop_chunk(id)?;
            self.remove(at);
        }
        match index.get_with(Table::Quarantine, &id.0, decode)? {
            None => self.quarantined.set(self.quarantined.get() + 1),
            Some(before) => before.into_iter().for_each(|before| self.bad_no_more(before.segment)),
        }
        *self.bad_in.borrow_mut().entry(at.segment).or_default() += 1;
        index.put(Table::Quarantine, &id.0, [&encode(at)[..], &wall.to_le_bytes()].concat())
    }

    /// Ends a quarantine, if there is one; returns where the bad record lies.
    fn acquit(&self, id: &ChunkId) -> Result<Option<Location>, Error> {
        let mut index = self.index.borrow_mut();
        let Some(bad) = index.get_with(Table::Quarantine, &id.0, decode)? else { return Ok(None) };
        self.quarantined.set(self.quarantined.get() - 1);
        bad.into_iter().for_each(|bad| self.bad_no_more(bad.segment));
        index.delete(Table::Quarantine, &id.0)?;
        Ok(bad)
    }

    fn bad_no_more(&self, segment: u64) {
        let mut bad_in = self.bad_in.borrow_mut();
        if let Some(count) = bad_in.get_mut(&segment) {
            *count -= 1;
            if *count == 0 {
                bad_in.remove(&segment);
            }
        }
    }

    /// Whether a segment has records that are quarantined.
    pub fn has_bad(&self, segment: u64) -> bool {
        self.bad_in.borrow().contains_key(&segment)
    }

    pub fn quarantine_of(&self, id: &ChunkId) -> Result<Option<Quarantined>, Error> {
        let read = |value: &[u8]| quarantined(*id, value);
        Ok(self.index.borrow().get_with(Table::Quarantine, &id.0, read)?.flatten())
    }

    pub fn quarantined(&self) -> u64 {
        self.quarantined.get()
    }

    pub fn live_bytes(&self) -> u64 {
        self.segments.borrow().values().map(|usage| usage.live).sum()
    }

    pub fn usage(&self) -> Vec<(u64, Usage)> {
        self.segments.borrow().iter().map(|(number, usage)| (*number, *usage)).collect()
    }

    pub fn usage_of(&self, segment: u64) -> Usage {
        self.segments.borrow().get(&segment).copied().unwrap_or_default()
    }

    /// Whether a drop of what lay in this segment keeps an older copy, in a segment other than `freed`, from coming back.
    pub fn has_older_copies(&self, segment: u64, freed: u64) -> bool {
        let segments = self.segments.borrow();
        let mut older = segments.range(..segment).filter(|(number, _)| **number != freed);
        older.any(|(_, usage)| (1..=segment).contains(&usage.copied_since))
    }

    /// The live bytes of each segment that has any, counted anew.
    pub fn recount(&self) -> Result<BTreeMap<u64, u64>, Error> {
        let (mut live, index) = (BTreeMap::<u64, u64>::new(), self.index.borrow());
        let mut add = |at: Location| *live.entry(at.segment).or_default() += u64::from(at.extent);
        let mut scan = Scan::all(Table::Chunks);
        while index.step_chunks(&mut scan, 1024, |_, entry| {
            add(location(&entry));
            ControlFlow::Continue(())
        })? == Step::More
        {}
        for table in [Table::Records, Table::Raft] {
            let mut scan = Scan::all(table);
            while index.step(&mut scan, 1024, |_, value| {
                decode(value).into_iter().for_each(&mut add);
                ControlFlow::Continue(())
            })? == Step::More
            {}
        }
        Ok(live)
    }

    /// A segment that was freed.
    pub fn forget(&self, segment: u64) {
        self.segments.borrow_mut().remove(&segment);
        self.changed.borrow_mut().insert(segment);
    }

    fn change(&self, segment: u64, change: impl FnOnce(&mut Usage)) {
        change(self.segments.borrow_mut().entry(segment).or_default());
        self.changed.borrow_mut().insert(segment);
    }

    fn add(&self, at: Location) {
        self.change(at.segment, |usage| usage.live += u64::from(at.extent));
    }

    fn remove(&self, at: Location) {
        self.change(at.segment, |usage| usage.live = usage.live.saturating_sub(u64::from(at.extent)));
    }

    /// The record at `from` was written again at `to`.
    fn copied(&self, from: Location, to: Location) {
        self.remove(from);
        self.outlived(from.segment, to.segment);
    }

    /// The record at `at` was dropped. When the index is made anew it can be an older copy of what the drop was meant for.
    fn dropped(&self, at: Location, drop: &Drop) {
        self.remove(at);
        self.outlived(at.segment, drop.segment);
    }

    /// The segment has a record whose drop may name another segment, this one or a later one.
    fn outlived(&self, segment: u64, by: u64) {
        if segment != by {
            self.change(segment, |usage| {
                let since = if usage.copied_since == 0 { by } else { usage.copied_since };
                usage.copied_since = since.min(by);
            });
        }
    }

    /// Puts what changed of the segments' usage into the index, so that it is committed with the rest.
    pub fn flush_usage(&self) -> Result<(), Error> {
        let (changed, segments) = (self.changed.take(), self.segments.borrow());
        let mut index = self.index.borrow_mut();
        for number in changed {
            match segments.get(&number) {
                Some(usage) => index.put(Table::Segments, &number.to_be_bytes(), &usage.encode())?,
                None => index.delete(Table::Segments, &number.to_be_bytes())?,
            }
        }
        Ok(())
    }

    /// A long log would fill the memory with updates; nobody else needs this core yet, so it commits right here, up to
    /// where the log is sure to stay.
    fn commit_while_recovering(&self, entry: &Entry<'_>) {
        let Some(limit) = self.commit_at.get().filter(|_| entry.is_settled) else { return };
        if self.index.borrow().pressure().entries() < limit || self.flush_usage().is_err() {
            return;
        }
        let commit = self.index.borrow_mut().freeze(commit::checkpoint(entry.batch));
        if let Some(commit) = commit {
            // A failure shows when the lane commits again; nothing is lost by it.
            let _ = self.index.borrow_mut().finish(commit.run());
        }
    }
}

/// Reads an entry of the quarantine.
pub fn quarantined(id: ChunkId, value: &[u8]) -> Option<Quarantined> {
    let found = u64::from_le_bytes(value.get(20..28)?.try_into().ok()?);
    Some(Quarantined { id, location: decode(value)?, found })
}

impl Usage {
    /// Bytes that a compaction would have to write again, about. Drops are needed as long as what they drop is there to
    /// come back: as time goes by, by ever fewer of the segments there were.
    pub fn kept(&self, segments: u64) -> u64 {
        self.live + self.drops * segments.min(self.among) / self.among.max(1)
    }

    fn encode(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (word, place) in [self.live, self.drops, self.among, self.copied_since].iter().zip(bytes.chunks_mut(8)) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        Some(Self { live: word(0)?, drops: word(8)?, among: word(16)?, copied_since: word(24)? })
    }
}
