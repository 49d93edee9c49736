//! The index of a lane: ordered tables of bytes, chunks with their entries, a digest for each partition.
//!
//! It is synchronous and has no thread. One core owns it; commits run wherever the owner takes them. It knows no log: the
//! owner makes an update durable there first, then tells the index, and after a crash replays the log from the
//! [`Checkpoint`] on. What this crate's LMDB loses is thus only time.
//!
//! ```text
//!   put, delete ──► active layer ──freeze──► frozen layer ──Commit::run (helper)──► store: LMDB, full sync
//!   get, step   ──► active layer, then frozen layer, then store                      │
//!                                      ▲───────────────── finish ◄─ Committed ◄──────┘
//! ```
//!
//! | what happens | active layer | frozen layer | a read sees |
//! | --- | --- | --- | --- |
//! | `put`, `delete` | grows | stays | the update, at once |
//! | `freeze` | becomes the frozen one; a new one is empty | handed out as a `Commit` | the same |
//! | `freeze`, a commit in flight | grows on | stays | the same |
//! | `finish`, committed | stays | dropped | the same, from the store |
//! | `finish`, failed | grows on | stays; the next `freeze` hands it out again | the same |
//! | a `Commit` is dropped unrun | grows on | stays; the next `freeze` hands it out again | the same |
//! | crash | lost | lost, or committed as a whole | what the checkpoint covers |
//!
//! Invariants: the tables, the digests and the checkpoint in the store belong together, as they change in one
//! transaction; a digest is always that of the chunks which reads see.

mod chunk;
mod commit;
mod digest;
mod error;
mod filter;
mod layer;
mod scan;
mod store;
mod table;

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashSet;
use std::mem;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use cairn_placement::PartitionId;

pub use chunk::{ChunkEntry, ChunkId};
pub use commit::{Checkpoint, Commit, Committed, Retired};
pub use digest::Digest;
pub use error::{CommitError, Error, KEY_MAX, OpenError, PARTITIONS_MAX};
pub use scan::{Order, Scan, Step};
pub use store::Store;
#[cfg(feature = "reference")]
pub use store::reference;
#[cfg(feature = "sim")]
pub use store::{Fault, Memory};
pub use table::{RaftKey, Table};

use commit::Frozen;
use digest::Digests;
use layer::{Layer, Says};
use store::Backend;
use table::Stored;

/// Partitions of a cluster that says nothing else.
pub const PARTITIONS: u32 = 4096;

/// The index of one lane.
///
/// Reads take `&self` and updates `&mut self`, so what a read hands to its closure can't change under it. It may be moved
/// to another thread (opening takes a while), never shared.
pub struct Index {
    backend: Backend,
    /// Updates since the last freeze.
    active: Layer,
    /// Being committed, or waiting for a retry. In flight while a `Commit` or `Committed` has a share of it.
    frozen: Option<Arc<Frozen>>,
    /// Of the chunks that reads see, both layers included.
    digests: Digests,
    /// What the store covers; `None` until the first commit.
    checkpoint: Option<Checkpoint>,
    commits: u64,
    commits_failed: u64,
    /// Short keys that were looked for and aren't in the store, nor were put since: each command asks its slot for the same.
    absent: RefCell<HashSet<(Table, u64)>>,
}

/// What such a key is, if it is so short.
fn short(table: Table, key: &[u8]) -> Option<(Table, u64)> {
    let mut bytes = [0; 8];
    bytes.get_mut(..key.len()).filter(|room| room.len() < 8)?.copy_from_slice(key);
    bytes[7] = key.len() as u8;
    Some((table, u64::from_le_bytes(bytes)))
}

/// So many of them are remembered at most.
const ABSENT_MAX: usize = 1 << 12;

/// A copy of a key and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// What the overlay holds, for whoever decides that writes must wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Updates in the active layer.
    pub active_entries: usize,
    /// Its memory in bytes, about.
    pub active_bytes: usize,
    /// Updates being committed or waiting for a retry; 0 if there is no frozen layer.
    pub frozen_entries: usize,
    /// Their memory in bytes, about.
    pub frozen_bytes: usize,
}

impl Pressure {
    /// Updates in both layers.
    pub fn entries(&self) -> usize {
        self.active_entries + self.frozen_entries
    }

    /// Memory of both layers.
    pub fn bytes(&self) -> usize {
        self.active_bytes + self.frozen_bytes
    }
}

/// Facts about the index as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Entries of each table in the store, in the order of `Table::ALL`; the overlay not counted.
    pub entries: [u64; Table::ALL.len()],
    /// Size of LMDB's file; 0 in memory, like the following.
    pub file_bytes: u64,
    /// Address space reserved for it.
    pub map_bytes: u64,
    /// Pages of the file, free ones included.
    pub pages: u64,
    /// Size of a page.
    pub page_bytes: u64,
    /// Levels of the table of chunks.
    pub chunks_depth: u32,
    /// Commits that succeeded since it was opened.
    pub commits: u64,
    /// Commits that failed since it was opened.
    pub commits_failed: u64,
}

impl Index {
    /// Opens the index of a store, or makes it in an empty one. `partitions` is the cluster's and a power of two.
    pub fn open(store: &Store, partitions: u32) -> Result<Self, OpenError> {
        if !partitions.is_power_of_two() || partitions > PARTITIONS_MAX {
            return Err(OpenError::PartitionCount(partitions));
        }
        let backend = Backend::open(store, partitions)?;
        Self::load(backend, Some(partitions))
    }

    /// Opens an index that is there, with the number of partitions it has, and changes nothing on disk: what is put into it
    /// stays in its overlay and can't be committed. `None` if there is none. The caller holds the lane's lock.
    pub fn open_read_only(store: &Store) -> Result<Option<Self>, OpenError> {
        Backend::open_read_only(store)?.map(|backend| Self::load(backend, None)).transpose()
    }

    /// An empty index without a store, to find out what one should be like: it can't be committed.
    pub fn unstored(partitions: u32) -> Result<Self, OpenError> {
        if !partitions.is_power_of_two() || partitions > PARTITIONS_MAX {
            return Err(OpenError::PartitionCount(partitions));
        }
        let (backend, active, digests) = (Backend::Nothing, Layer::default(), Digests::new(partitions));
        Ok(Self {
            backend,
            active,
            frozen: None,
            digests,
            checkpoint: None,
            commits: 0,
            commits_failed: 0,
            absent: RefCell::default(),
        })
    }

    fn load(backend: Backend, partitions: Option<u32>) -> Result<Self, OpenError> {
        let unusable = |reason: String| OpenError::Unusable { dir: backend.dir(), reason };
        let (_, stored) = backend.facts().map_err(unusable)?;
        let partitions = partitions.unwrap_or(stored);
        if stored != partitions {
            return Err(OpenError::Partitions { stored, asked: partitions });
        }
        if !partitions.is_power_of_two() || partitions > PARTITIONS_MAX {
            return Err(unusable(format!("it says that there are {partitions} partitions")));
        }
        let digests = load_digests(&backend, partitions).map_err(unusable)?;
        let checkpoint = backend.checkpoint().map_err(|error| unusable(error.to_string()))?;
        Ok(Self {
            backend,
            active: Layer::default(),
            frozen: None,
            digests,
            checkpoint,
            commits: 0,
            commits_failed: 0,
            absent: RefCell::default(),
        })
    }

    /// The position up to which the store has everything; `None`: nothing was ever committed, replay the whole log.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.checkpoint
    }

    /// Puts a value, visible at once. Not for chunks.
    pub fn put<'v>(&mut self, table: Table, key: &[u8], value: impl Into<Cow<'v, [u8]>>) -> Result<(), Error> {
        self.update(table, key, Some(value.into()))
    }

    /// Deletes a key if it is there. Not for chunks.
    pub fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), Error> {
        self.update(table, key, None)
    }

    fn update(&mut self, table: Table, key: &[u8], value: Option<Cow<'_, [u8]>>) -> Result<(), Error> {
        if table == Table::Chunks {
            return Err(Error::Typed);
        }
        if key.is_empty() || key.len() > KEY_MAX {
            return Err(Error::KeyLength { table: table.name(), length: key.len() });
        }
        if let Some(short) = short(table, key) {
            self.absent.get_mut().remove(&short);
        }
        self.active.put(table, key, value);
        Ok(())
    }

    /// Reads a value in place: no copy is made of what lies in LMDB.
    pub fn get_with<R>(&self, table: Table, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, Error> {
        let below = || self.frozen.as_ref().map_or(Says::Nothing, |frozen| frozen.layer.get(table, key));
        let says = match self.active.get(table, key) {
            Says::Nothing => below(),
            says => says,
        };
        match says {
            Says::Value(value) => Ok(Some(read(value))),
            Says::Deleted => Ok(None),
            Says::Nothing => self.get_stored(table, key, read),
        }
    }

    fn get_stored<R>(&self, table: Table, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, Error> {
        let short = short(table, key);
        if short.is_some_and(|short| self.absent.borrow().contains(&short)) {
            return Ok(None);
        }
        let found = self.backend.get_with(Stored::Table(table), key, read)?;
        if let Some(short) = short.filter(|_| found.is_none()) {
            let mut absent = self.absent.borrow_mut();
            if absent.len() >= ABSENT_MAX {
                absent.clear();
            }
            absent.insert(short);
        }
        Ok(found)
    }

    /// A copy of a value.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.get_with(table, key, <[u8]>::to_vec)
    }

    /// One step of a scan: calls `visit` with key and value until it breaks, the range ends, or `budget` keys were looked
    /// at, deleted ones that the store still has included. The next step goes on behind the last key.
    pub fn step(
        &self,
        scan: &mut Scan,
        budget: usize,
        visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<Step, Error> {
        if scan.is_empty() {
            return Ok(Step::Done);
        }
        let mut last = Vec::new();
        let (table, order, bounds) = (scan.table, scan.order, scan.bounds());
        let active = self.active.range(table, bounds);
        let frozen = self.frozen.iter().flat_map(|frozen| frozen.layer.range(table, bounds));
        let store = self.backend.range(Stored::Table(table), bounds, order, budget)?;
        let step = match order {
            Order::Forward => scan::merge((active, frozen), store, (order, budget), &mut last, visit),
            Order::Backward => scan::merge((active.rev(), frozen.rev()), store, (order, budget), &mut last, visit),
        }?;
        if !last.is_empty() {
            scan.continue_behind(last);
        }
        Ok(step)
    }

    /// The first key and value of a scan, or what is left of it.
    pub fn first(&self, mut scan: Scan) -> Result<Option<Entry>, Error> {
        let mut found = None;
        while found.is_none() {
            let visit = |key: &[u8], value: &[u8]| {
                found = Some((key.to_vec(), value.to_vec()));
                ControlFlow::Break(())
            };
            if self.step(&mut scan, 64, visit)? == Step::Done {
                break;
            }
        }
        Ok(found)
    }

    /// What the index says of a chunk.
    pub fn chunk(&self, id: &ChunkId) -> Result<Option<ChunkEntry>, Error> {
        match self.get_with(Table::Chunks, &id.0, ChunkEntry::decode)? {
            Some(Err(reason)) => Err(Error::undecodable(Stored::Table(Table::Chunks), &id.0, reason)),
            decoded => Ok(decoded.and_then(Result::ok)),
        }
    }

    /// Puts or replaces a chunk's entry and returns the one before.
    pub fn put_chunk(&mut self, id: &ChunkId, entry: &ChunkEntry) -> Result<Option<ChunkEntry>, Error> {
        let before = self.chunk(id)?;
        self.active.put(Table::Chunks, &id.0, Some(entry.encode()[..].into()));
        self.digests.replace(id, before.map(|before| before.length), Some(entry.length));
        Ok(before)
    }

    /// Forgets a chunk and returns the entry that it had.
    pub fn drop_chunk(&mut self, id: &ChunkId) -> Result<Option<ChunkEntry>, Error> {
        let before = self.chunk(id)?;
        if let Some(before) = before {
            self.active.put(Table::Chunks, &id.0, None);
            self.digests.replace(id, Some(before.length), None);
        }
        Ok(before)
    }

    /// Says that someone wanted the chunk kept at `touched`; an older time changes nothing. `false`: it isn't there.
    pub fn touch(&mut self, id: &ChunkId, touched: u32) -> Result<bool, Error> {
        let Some(before) = self.chunk(id)? else { return Ok(false) };
        if before.touched < touched {
            self.active.put(Table::Chunks, &id.0, Some(ChunkEntry { touched, ..before }.encode()[..].into()));
        }
        Ok(true)
    }

    /// One step over chunks, as `step` does it for bytes. The first entry that doesn't decode ends the step with an error;
    /// the next step goes on behind it.
    pub fn step_chunks(
        &self,
        scan: &mut Scan,
        budget: usize,
        mut visit: impl FnMut(ChunkId, ChunkEntry) -> ControlFlow<()>,
    ) -> Result<Step, Error> {
        let mut wrong = None;
        let step = self.step(scan, budget, |key, value| {
            let id = key.try_into().map(ChunkId).map_err(|_| "its key is no chunk's name");
            match id.and_then(|id| ChunkEntry::decode(value).map(|entry| (id, entry))) {
                Ok((id, entry)) => visit(id, entry),
                Err(reason) => {
                    wrong = Some(Error::undecodable(Stored::Table(Table::Chunks), key, reason));
                    ControlFlow::Break(())
                }
            }
        })?;
        wrong.map_or(Ok(step), Err)
    }

    /// A scan of a partition's chunks; nothing for a partition that doesn't exist.
    pub fn chunks_of(&self, partition: PartitionId) -> Scan {
        let low = self.first_name(partition.0);
        let high = self.first_name(partition.0.saturating_add(1));
        let bound = |name: &Option<[u8; 8]>| name.map(|name| name.to_vec());
        match (bound(&low), bound(&high)) {
            (Some(low), Some(high)) => Scan::range(Table::Chunks, Bound::Included(&low), Bound::Excluded(&high)),
            (Some(low), None) => Scan::range(Table::Chunks, Bound::Included(&low), Bound::Unbounded),
            (None, _) => Scan::range(Table::Chunks, Bound::Excluded(&[0]), Bound::Excluded(&[0])),
        }
    }

    /// How the names of a partition's chunks begin at least: the inverse of `PartitionId::of_chunk` for powers of two.
    fn first_name(&self, partition: u32) -> Option<[u8; 8]> {
        let partitions = self.partitions();
        let width = (1_u128 << 64) / u128::from(partitions);
        (partition < partitions).then(|| ((u128::from(partition) * width) as u64).to_be_bytes())
    }

    /// The number of partitions.
    pub fn partitions(&self) -> u32 {
        self.digests.all().len() as u32
    }

    /// What the lane holds of a partition; nothing of one that doesn't exist.
    pub fn digest(&self, partition: PartitionId) -> Digest {
        self.digests.all().get(partition.0 as usize).copied().unwrap_or_default()
    }

    /// What the lane holds, partition by partition.
    pub fn digests(&self) -> &[Digest] {
        self.digests.all()
    }

    /// The digest of a partition made anew from its chunks, to check the one that is kept. Takes as long as a scan.
    pub fn recount(&self, partition: PartitionId) -> Result<Digest, Error> {
        let mut digest = Digest::default();
        let mut scan = self.chunks_of(partition);
        let mut add = |id, entry: ChunkEntry| {
            digest.add(&id, entry.length);
            ControlFlow::Continue(())
        };
        while self.step_chunks(&mut scan, 1024, &mut add)? == Step::More {}
        Ok(digest)
    }

    /// Freezes the active layer and hands out the commit of it. What the log has before `checkpoint` must all be in the
    /// index by now; some of what comes after may be too, as replay does no harm twice. If the last commit failed or was
    /// dropped, it is handed out again, under its own checkpoint. `None`: a commit is in flight, or there is nothing new.
    pub fn freeze(&mut self, checkpoint: Checkpoint) -> Option<Commit> {
        if self.is_committing() {
            return None;
        }
        if self.frozen.is_none() {
            if self.active.is_empty() && self.checkpoint == Some(checkpoint) {
                return None;
            }
            let digests = self.digests.take_changed();
            let digests = digests.into_iter().map(|(partition, digest)| (partition.to_be_bytes(), digest)).collect();
            self.frozen = Some(Arc::new(Frozen { layer: mem::take(&mut self.active), digests, checkpoint }));
        }
        let frozen = self.frozen.clone()?;
        Some(Commit { frozen, writer: self.backend.writer() })
    }

    /// What is committed now, for as long as one likes: later commits don't show in it. While it lives, pages that they
    /// free aren't reused, so that the file grows.
    pub fn view(&self) -> Result<View, Error> {
        Ok(View(self.backend.view()?))
    }

    /// Whether a commit was handed out that is neither finished nor dropped.
    pub fn is_committing(&self) -> bool {
        self.frozen.as_ref().is_some_and(|frozen| Arc::strong_count(frozen) > 1)
    }

    /// Takes a commit back. If it succeeded, its layer goes; if it failed, the layer stays, reads see it, and `freeze`
    /// hands it out again.
    pub fn finish(&mut self, committed: Committed) -> Result<Retired, CommitError> {
        let Committed { frozen, result } = committed;
        if !self.frozen.as_ref().is_some_and(|ours| Arc::ptr_eq(ours, &frozen)) {
            return Err(CommitError::Foreign);
        }
        self.backend.settle(result.as_ref().err());
        if let Err(error) = result {
            self.commits_failed += 1;
            return Err(error);
        }
        self.commits += 1;
        self.checkpoint = Some(frozen.checkpoint);
        self.frozen = None;
        Ok(Retired { _frozen: frozen })
    }

    /// What the overlay holds.
    pub fn pressure(&self) -> Pressure {
        let frozen = self.frozen.as_ref().map(|frozen| &frozen.layer);
        Pressure {
            active_entries: self.active.entries(),
            active_bytes: self.active.bytes(),
            frozen_entries: frozen.map_or(0, Layer::entries),
            frozen_bytes: frozen.map_or(0, Layer::bytes),
        }
    }

    /// Facts for metrics.
    pub fn stats(&self) -> Result<Stats, Error> {
        let mut stats = Stats { commits: self.commits, commits_failed: self.commits_failed, ..Stats::default() };
        for (entries, table) in stats.entries.iter_mut().zip(Table::ALL) {
            *entries = self.backend.len(Stored::Table(table))?;
        }
        self.backend.stats(&mut stats)?;
        Ok(stats)
    }
}

/// What was committed at one moment.
pub struct View(store::View);

impl View {
    /// A copy of a value.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let mut found = None;
        self.0.range(table, (Bound::Included(key), Bound::Included(key)), |_, value| {
            found = Some(value.to_vec());
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// One step of a forward scan: calls `visit` with key and value until it breaks or the range ends. The next step goes
    /// on behind the last key.
    pub fn step(&self, scan: &mut Scan, mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>) -> Result<Step, Error> {
        if scan.is_empty() {
            return Ok(Step::Done);
        }
        let (mut last, mut step) = (Vec::new(), Step::Done);
        self.0.range(scan.table, scan.bounds(), |key, value| {
            last.clear();
            last.extend_from_slice(key);
            let flow = visit(key, value);
            if flow.is_break() {
                step = Step::More;
            }
            flow
        })?;
        if !last.is_empty() {
            scan.continue_behind(last);
        }
        Ok(step)
    }
}

/// The digests of the store; they must count as many chunks as it has.
fn load_digests(backend: &Backend, partitions: u32) -> Result<Digests, String> {
    let mut digests = Digests::new(partitions);
    let everything = (Bound::Unbounded, Bound::Unbounded);
    let stored = backend.range(Stored::Digests, everything, Order::Forward, usize::MAX);
    let mut count = 0_u64;
    for entry in stored.map_err(|error| error.to_string())? {
        let (key, value) = entry.map_err(|error| error.to_string())?;
        let partition = <[u8; 4]>::try_from(&*key).ok().map(u32::from_be_bytes);
        let digest = Digest::decode(&value);
        let set = partition.zip(digest).and_then(|(partition, digest)| digests.set(partition, digest));
        set.ok_or_else(|| Error::undecodable(Stored::Digests, &key, "no digest of a partition").to_string())?;
        count = count.wrapping_add(digest.map_or(0, |digest| digest.count));
    }
    let chunks = backend.len(Stored::Table(Table::Chunks)).map_err(|error| error.to_string())?;
    if count == chunks { Ok(digests) } else { Err(format!("it has {chunks} chunks, its digests count {count}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_means_nothing_is_named() {
        let mut index = Index::open(&Store::memory(), PARTITIONS).unwrap();
        index.active.put(Table::Chunks, &[0xAB; 32], Some(b"nonsense"[..].into()));
        let error = index.chunk(&ChunkId([0xAB; 32])).unwrap_err().to_string();
        assert!(error.contains("chunks") && error.contains(&"ab".repeat(32)) && error.contains("fsck"), "{error}");
        assert!(index.put_chunk(&ChunkId([0xAB; 32]), &ChunkEntry::decode(&[1; 26]).unwrap()).is_err());
        let mut scan = Scan::all(Table::Chunks);
        let mut visit = |_, _| ControlFlow::Continue(());
        assert!(index.step_chunks(&mut scan, 9, &mut visit).is_err());
        assert_eq!(index.step_chunks(&mut scan, 9, &mut visit).unwrap(), Step::Done, "it goes on behind it");
    }

    #[test]
    fn digests_that_dont_fit_the_chunks_are_refused() {
        let store = Store::memory();
        let mut index = Index::open(&store, PARTITIONS).unwrap();
        index.active.put(Table::Chunks, &[7; 32], Some([1; 26][..].into()));
        let commit = index.freeze(Checkpoint::default()).unwrap();
        index.finish(commit.run()).unwrap();
        assert!(matches!(Index::open(&store, PARTITIONS), Err(OpenError::Unusable { .. })));
    }

    #[test]
    fn a_step_looks_at_no_more_than_its_budget() {
        let mut index = Index::open(&Store::memory(), PARTITIONS).unwrap();
        (0..100_u8).for_each(|key| index.put(Table::Lane, &[key], &[key]).unwrap());
        (0..90).for_each(|key| index.delete(Table::Lane, &[key]).unwrap());
        let mut scan = Scan::all(Table::Lane);
        let mut met = 0;
        let mut visit = |_: &[u8], _: &[u8]| {
            met += 1;
            ControlFlow::Continue(())
        };
        assert_eq!(index.step(&mut scan, 50, &mut visit).unwrap(), Step::More);
        assert_eq!(index.step(&mut scan, 45, &mut visit).unwrap(), Step::More);
        assert_eq!(met, 5, "90 deleted ones were looked at too");
        assert_eq!(index.first(Scan::all(Table::Lane)).unwrap(), Some((vec![90], vec![90])));
    }

    #[test]
    fn a_view_is_of_one_moment_and_each_of_its_scans_ends() {
        let store = Store::memory();
        let mut index = Index::open(&store, PARTITIONS).unwrap();
        (0..10_u8).for_each(|key| index.put(Table::Lane, &[key], &[key]).unwrap());
        let commit = index.freeze(Checkpoint::default()).unwrap();
        index.finish(commit.run()).unwrap();
        let view = index.view().unwrap();
        index.put(Table::Lane, &[3], b"later").unwrap();
        let (mut scan, mut seen) = (Scan::all(Table::Lane), Vec::new());
        for expected in [4, 8, 10, 10] {
            // The third step ends at the end of the range, not because it was told to; the fourth finds nothing more.
            let mut count = 0;
            let mut visit = |key: &[u8], value: &[u8]| {
                assert_eq!(key, value);
                seen.push(key[0]);
                count += 1;
                if count < 4 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            view.step(&mut scan, &mut visit).unwrap();
            assert_eq!(seen.len(), expected);
        }
        assert_eq!(view.get(Table::Lane, &[3]).unwrap(), Some(vec![3]));
    }

    #[test]
    fn what_a_helper_makes_or_holds_may_change_threads() {
        fn is_send<T: Send>() {}
        is_send::<Result<Index, OpenError>>();
        is_send::<Commit>();
        is_send::<Committed>();
        is_send::<Retired>();
    }
}
