//! A lane: one chunk log and its index, on one disk, owned by one core.
//!
//! ```text
//!   put, drop, append ─► log ─► durable ─► apply ─► index (overlay) ─► answer
//!                                                     │ now and then, on a helper thread
//!   get ─► index ─► log (verified) ─► answer          ▼
//!                                                   LMDB, with the position of the log that it covers
//! ```
//!
//! Everything durable is a record of the log; the index is what the records say, made fast to look up. One function
//! (`State::apply`) turns records into index entries: for new records when they are durable, for those behind the
//! checkpoint at start, and for all of them when the index is rebuilt.
//!
//! It knows no other lane, no peer and no policy. Invariants: what it answered is durable; what it returns is
//! verified; a bad record is quarantined, never returned and never forgotten; after a failed write or sync it reads
//! but doesn't write; what it dropped stays dropped, also after a rebuild from the log alone.

pub mod check;
mod chunks;
mod commit;
mod compact;
mod meaning;
mod paced;
mod records;
mod rows;
mod scrub;
mod state;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use cairn_io::fs::{Dir, Lock};
use cairn_io::log::{
    Damage, Id, Kind, Log, LogError, Options as LogOptions, Pending, Position, ReadError, Record, Room, Superblock,
};
use cairn_io::task::{Class, JoinHandle, spawn};
use cairn_io::time::Duration;
use cairn_io::{Bell, blocking, rng, time};
use cairn_meta::index::{ChunkId, CommitError, Error as IndexError, Index, OpenError, Scan, Store, Table};
use futures_util::FutureExt;
use quick_cache::unsync::Cache;

pub use chunks::{Ingest, Put, Verified};
pub use compact::{Compact, CompactMessage, Compacted, Planned};
pub use meaning::Meaning;
pub use paced::BYTES_PER_SECOND;
pub use records::{Landings, Named};
pub use rows::{At, Differences, Row, SLOTS_MAX, SlotFacts, SlotSummary, SlotView};
pub(crate) use rows::{ROWS_BYTES_MAX, until_room};
pub use scrub::{PERIOD as SCRUB_PERIOD, Scrub, ScrubMessage, Scrubbed};
pub use state::{Quarantined, Usage};

use chunks::Weight;
use state::State;

/// A lane. Clones share it; it belongs to the core that opened it.
#[derive(Clone)]
pub struct Lane(Rc<Inner>);

struct Inner {
    log: Log,
    state: Rc<State>,
    options: Options,
    dir: Dir,
    /// Ids that are being written: one write of an id at a time.
    busy: RefCell<HashSet<Id>>,
    /// Rung when an id is free again or its write was abandoned.
    free: Bell,
    /// Writes that nobody waits for any more; their ids are still busy.
    abandoned: RefCell<Vec<(VecDeque<Pending>, Vec<Id>)>>,
    /// Chunks that were read of late, or read again.
    cache: RefCell<Cache<ChunkId, Bytes, Weight>>,
    /// The longest chunk that is kept there.
    large_max: u64,
    /// Large chunks that were read once of late.
    read_once: RefCell<Cache<ChunkId, ()>>,
    /// Heads of large chunks that were read of late.
    heads: RefCell<Cache<cairn_io::log::Location, Rc<cairn_io::log::Head>, Weight>>,
    /// Rung when the index should be committed, and when it was or couldn't be.
    wanted: Rc<Bell>,
    committed: Bell,
    commit: RefCell<commit::Progress>,
    damage: Vec<Damage>,
    /// Segments with damage in them, which compaction leaves alone.
    given_up: RefCell<BTreeSet<u64>>,
    /// Segments of which all that is needed was written again, which were not freed yet.
    emptied: RefCell<BTreeSet<u64>>,
    /// Segments that are being freed, whoever still waits for it.
    freeing: RefCell<BTreeSet<u64>>,
    counts: Cell<Counts>,
    /// The ballast is there, or none is wanted.
    has_ballast: Cell<bool>,
    task: RefCell<Option<JoinHandle<()>>>,
    _lock: Lock,
}

/// How a lane is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How its log is run.
    pub log: LogOptions,
    /// Partitions of the cluster.
    pub partitions: u32,
    /// The index is committed when so many updates wait; at four times as many, writes wait.
    pub commit_entries: usize,
    /// And when the log has grown by so many bytes, which bounds the time that recovery takes.
    pub commit_bytes: u64,
    /// And after this time, if anything waits.
    pub commit_every: Duration,
    /// Memory for small chunks that were read of late, and large ones that were read again.
    pub cache_bytes: u64,
    /// Memory for the checksums of large chunks that were read of late.
    pub heads_bytes: u64,
    /// A chunk that is put again is touched if it wasn't for so long.
    pub touch_after: Duration,
    /// The room of a dropped chunk of at least this length is given back at once.
    pub punch_min: u32,
    /// Room kept on the file system for the index to be committed when the disk is full.
    pub ballast: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            log: LogOptions::default(),
            partitions: cairn_meta::index::PARTITIONS,
            commit_entries: 256 << 10,
            commit_bytes: 1 << 30,
            commit_every: Duration::from_secs(10),
            cache_bytes: 32 << 20,
            heads_bytes: 16 << 20,
            touch_after: Duration::from_hours(1),
            punch_min: 1 << 20,
            ballast: 64 << 20,
        }
    }
}

/// What a lane has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Chunks stored.
    pub puts: u64,
    /// Chunks that were there already when they were to be stored.
    pub puts_existing: u64,
    /// Chunks read, whole or in part.
    pub gets: u64,
    /// Of these, from the cache.
    pub cache_hits: u64,
    /// Chunks dropped.
    pub drops: u64,
    /// Reads that found bad bytes.
    pub bad_reads: u64,
}

/// What one sees of a lane.
#[derive(Clone, Debug)]
pub struct Status {
    /// Why it takes no writes, if so.
    pub poisoned: Option<Arc<str>>,
    /// Whether there is room for data.
    pub has_room: bool,
    /// Why the index couldn't be committed the last time it was tried, if so.
    pub commit_failure: Option<String>,
    /// Records that were found bad and not repaired yet.
    pub quarantined: u64,
    /// What recovery found lost.
    pub damage: Vec<Damage>,
    /// Segments in use, and files that are ready to become segments.
    pub segments: (usize, usize),
    /// Bytes of live records.
    pub live_bytes: u64,
    /// The length of a segment.
    pub segment_bytes: u32,
    /// Up to where the log is applied, and up to where the index is committed.
    pub applied: Position,
    /// See `applied`.
    pub committed: Position,
    /// What it has done.
    pub counts: Counts,
    /// What its log has done.
    pub log: cairn_io::log::Stats,
}

/// What was found when a lane was opened.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// Records of the log that were applied.
    pub records: u64,
    /// Bytes of the log that were read.
    pub bytes: u64,
    /// Where a batch that nobody was answered for was cut off.
    pub torn: Option<Position>,
    /// Records that were answered for and are lost.
    pub damage: Vec<Damage>,
    /// The index was made from the whole log: it was lost, or there never was one.
    pub is_made_anew: bool,
}

/// What a lane has besides chunks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The slots that have anything here.
    pub slots: BTreeSet<u32>,
    /// Versions by name, confirmed or provisional.
    pub has_versions: bool,
}

impl fmt::Display for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slots: Vec<String> = self.slots.iter().take(SLOTS_TOLD).map(ToString::to_string).collect();
        let more = self.slots.len().saturating_sub(SLOTS_TOLD);
        let what = if self.slots.len() == 1 { "the Raft log of slot" } else { "the Raft logs of slots" };
        match (slots.is_empty(), self.has_versions) {
            (true, _) => return f.write_str("versions"),
            (false, _) => write!(f, "{what} {}", slots.join(", "))?,
        }
        if more > 0 {
            write!(f, " and {more} more")?;
        }
        if self.has_versions { f.write_str(", and versions") } else { Ok(()) }
    }
}

/// Slots that are named where somebody reads them; the others are counted.
const SLOTS_TOLD: usize = 8;

/// Why a lane doesn't do something.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    /// The log says so: no room, poisoned, too long, closed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A record can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The index can't be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The index can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The index can't be committed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The chunk is here, but its bytes are not what was stored.
    #[error("chunk {0:?} is bad on this disk and waits for repair; read another copy")]
    Quarantined(ChunkId),
    /// Bytes handed in don't have the name they were given.
    #[error("these bytes are not chunk {0:?}")]
    OtherBytes(ChunkId),
    /// The index in this directory was made for another log.
    #[error("the index belongs to another lane; run `cairn fsck --rebuild` on this one")]
    OtherLane,
    /// The disk.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl LaneError {
    /// Whether room is all that is missing.
    pub fn is_no_room(&self) -> bool {
        match self {
            Self::Log(LogError::NoRoom(_)) => true,
            Self::Commit(error) => error.is_no_room(),
            Self::Io(error) => error.kind() == std::io::ErrorKind::StorageFull,
            _ => false,
        }
    }

    /// Whether the lane takes no writes any more.
    pub fn is_poisoned(&self) -> bool {
        matches!(self, Self::Log(LogError::Poisoned(_)))
    }
}

const LANE_KEY: &[u8] = b"lane";
/// Is there while the index is made anew.
const ANEW: &[u8] = b"anew";
const BALLAST: &str = "ballast";

/// Opens the index of a lane. One that was still being made anew when the node ended is begun again: what the log lacks is noted when
/// all of it was seen.
fn open_index(store: &Store, partitions: u32, lane: [u8; 16]) -> Result<Index, LaneError> {
    let mut index = Index::open(store, partitions)?;
    if index.get(Table::Lane, LANE_KEY)?.is_some_and(|of| of != lane) {
        return Err(LaneError::OtherLane);
    }
    if index.get(Table::Lane, ANEW)?.is_some() {
        drop(index);
        store.clear()?;
        index = Index::open(store, partitions)?;
    }
    if index.get(Table::Lane, LANE_KEY)?.is_none() {
        index.put(Table::Lane, LANE_KEY, &lane)?;
    }
    if index.checkpoint().is_none() {
        index.put(Table::Lane, ANEW, &[])?;
    }
    Ok(index)
}

/// Who a lane belongs to, when it is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Owner {
    /// The cluster; zeros for none.
    pub cluster: [u8; 16],
    /// The node.
    pub node: [u8; 16],
}

impl Lane {
    /// Makes the directory of a new, empty lane.
    ///
    /// # Errors
    /// If there is one, or the disk fails.
    pub async fn create(dir: &Dir, owner: Owner, number: u32, segment_bytes: u32) -> Result<(), LaneError> {
        let mut lane = [0; 16];
        lane[..8].copy_from_slice(&rng::next_u64().to_le_bytes());
        lane[8..].copy_from_slice(&rng::next_u64().to_le_bytes());
        let created = time::wall().as_unix_nanos();
        let Owner { cluster, node } = owner;
        Ok(Log::create(dir, &Superblock { cluster, node, lane, number, segment_bytes, created }).await?)
    }

    /// Opens a lane: its index where it was committed, then all that the log has behind that.
    ///
    /// # Errors
    /// If another process has it, if log or index can't be read, or if they don't belong together.
    pub async fn open(dir: &Dir, store: Store, options: Options) -> Result<(Self, Recovered), LaneError> {
        let lock = dir.lock().await?;
        let superblock = Log::superblock_of(dir).await?;
        let partitions = options.partitions;
        let opened = blocking::run(move || open_index(&store, partitions, superblock.lane)).await;
        let index = opened.map_err(std::io::Error::other)??;
        let from = index.checkpoint().map(commit::position);
        // Committed before there was a segment: all of the log comes after it.
        let from = from.filter(|from| from.segment > 0);
        let state = Rc::new(State::new(index, options.commit_entries)?);
        let apply = {
            let state = state.clone();
            Rc::new(move |entry: &cairn_io::log::Entry<'_>| state.apply(entry))
        };
        let mut opened = Log::open(dir, options.log.clone(), from, apply).await?;
        // What the log says of its last commit is all there is when the index is made anew.
        opened.damage.extend(opened.gaps.into_iter().filter(|gap| gap.segment >= state.noted()));
        state.recovered(&opened.log.segments(), &opened.damage)?;
        let (records, bytes, torn, damage) = (opened.applied, opened.bytes, opened.torn, opened.damage.clone());
        let inner = Rc::new(Inner {
            log: opened.log,
            state,
            dir: dir.clone(),
            busy: RefCell::default(),
            free: Bell::default(),
            abandoned: RefCell::default(),
            cache: RefCell::new(chunks::cache(options.cache_bytes, 4096)),
            large_max: options.cache_bytes / chunks::LARGE_SHARE,
            read_once: RefCell::new(Cache::new(chunks::READ_ONCE)),
            heads: RefCell::new(chunks::cache(options.heads_bytes, 512)),
            wanted: Rc::default(),
            committed: Bell::default(),
            commit: RefCell::new(commit::Progress::new(from.unwrap_or_default())),
            damage: opened.damage,
            given_up: RefCell::default(),
            emptied: RefCell::default(),
            freeing: RefCell::default(),
            counts: Cell::default(),
            has_ballast: Cell::new(false),
            task: RefCell::default(),
            options,
            _lock: lock,
        });
        inner.keep_ballast().await;
        let (weak, wanted, every) = (Rc::downgrade(&inner), inner.wanted.clone(), inner.options.commit_every);
        let task = spawn(Class::Foreground, commit::keep_committing(weak, wanted, every));
        inner.task.replace(Some(task));
        let is_made_anew = from.is_none() && records > 0;
        Ok((Self(inner), Recovered { records, bytes, torn, damage, is_made_anew }))
    }

    /// Waits for everything under way, commits the index, and takes no more writes.
    ///
    /// # Errors
    /// If the index can't be committed; nothing is lost by that, the next start takes longer.
    pub async fn close(&self) -> Result<(), LaneError> {
        let committed = self.commit().await;
        // Not before: a commit must not be cancelled half-way.
        self.0.task.replace(None);
        // Who waits for a commit waits in vain.
        self.0.committed.ring();
        self.0.log.close().await;
        committed
    }

    /// What one sees of it.
    pub fn status(&self) -> Status {
        let Inner { log, state, commit, damage, counts, .. } = &*self.0;
        Status {
            poisoned: log.poisoned(),
            has_room: log.has_room(),
            commit_failure: commit.borrow().failure.clone(),
            quarantined: state.quarantined(),
            damage: damage.clone(),
            segments: log.segment_counts(),
            live_bytes: state.live_bytes(),
            segment_bytes: log.superblock().segment_bytes,
            applied: log.applied(),
            committed: commit.borrow().position,
            counts: counts.get(),
            log: log.stats(),
        }
    }

    /// What never changes about it.
    pub fn superblock(&self) -> &Superblock {
        self.0.log.superblock()
    }

    /// Its log, for tools that look at records.
    pub fn log(&self) -> &Log {
        &self.0.log
    }

    /// Counts anew from the index what is live in each segment that has anything, to check [`Lane::usage`]. Takes as long
    /// as a scan of everything.
    ///
    /// # Errors
    /// If the index can't be read.
    pub fn recount_usage(&self) -> Result<BTreeMap<u64, u64>, LaneError> {
        Ok(self.0.state.recount()?)
    }

    /// Whether a chunk is here with bytes that are bad.
    ///
    /// # Errors
    /// If the index can't be read.
    pub fn is_quarantined(&self, id: &ChunkId) -> Result<bool, LaneError> {
        Ok(self.0.state.quarantined() > 0 && self.0.state.quarantine_of(id)?.is_some())
    }

    /// What is here besides chunks; `None` if nothing is.
    ///
    /// # Errors
    /// If the index can't be read.
    pub fn metadata(&self) -> Result<Option<Metadata>, LaneError> {
        let slots = self.0.state.all_slots()?;
        let mut found = Metadata { slots, ..Metadata::default() };
        let index = self.0.state.index.borrow();
        for kind in [Kind::Version, Kind::Provisional] {
            found.has_versions |= index.first(Scan::prefix(Table::Records, &[kind as u8]))?.is_some();
        }
        Ok((found != Metadata::default()).then_some(found))
    }

    /// The segments with what is live in each.
    pub fn usage(&self) -> Vec<(u64, Usage)> {
        self.0.state.usage()
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.0.counts.get();
        change(&mut counts);
        self.0.counts.set(counts);
    }

    /// Waits until nobody else writes this id; it is free again when what this returns is dropped.
    async fn claim(&self, id: Id) -> Claim {
        self.0.free_abandoned();
        while !self.0.busy.borrow_mut().insert(id) {
            match self.0.take_abandoned(&id) {
                // Nobody else waits for it. If we give up, too, it is abandoned once more.
                Some(mut underway) => drop(underway.settle().await),
                None => self.0.free.rung().await,
            }
        }
        Claim { inner: self.0.clone(), id }
    }

    /// Whether somebody writes this id.
    fn is_claimed(&self, id: &Id) -> bool {
        self.0.busy.borrow().contains(id)
    }

    /// After a failure nobody knows what the next start finds, so that not even "it is there" can be answered for.
    fn check_poison(&self) -> Result<(), LaneError> {
        self.0.log.poisoned().map_or(Ok(()), |reason| Err(LogError::Poisoned(reason).into()))
    }

    /// Writes one record under a claim; durable and applied when this returns.
    async fn write(&self, claim: Claim, record: Record, room: Room) -> Result<(), LaneError> {
        let mut underway = Underway::default();
        underway.claims.push(claim);
        underway.pending.push_back(self.0.log.submit(record, room).await?);
        underway.settle().await?;
        self.check_index()
    }
}

impl Inner {
    /// Frees the ids of abandoned writes that are over.
    fn free_abandoned(&self) {
        let mut abandoned = self.abandoned.borrow_mut();
        if abandoned.is_empty() {
            return;
        }
        abandoned.retain_mut(|(pending, ids)| {
            while pending.front_mut().is_some_and(|first| first.now_or_never().is_some()) {
                pending.pop_front();
            }
            if pending.is_empty() {
                self.busy.borrow_mut().retain(|id| !ids.contains(id));
            }
            !pending.is_empty()
        });
        drop(abandoned);
        self.free.ring();
    }

    /// The abandoned write of this id.
    fn take_abandoned(self: &Rc<Self>, id: &Id) -> Option<Underway> {
        let mut abandoned = self.abandoned.borrow_mut();
        let at = abandoned.iter().position(|(_, ids)| ids.contains(id))?;
        let (pending, ids) = abandoned.swap_remove(at);
        Some(Underway { pending, claims: ids.into_iter().map(|id| Claim { inner: self.clone(), id }).collect() })
    }
}

/// Records on their way and the ids that are claimed for them. Whoever gives up waiting abandons it: the ids stay busy
/// until the records are applied, or others would decide by an index that is about to change.
#[derive(Default)]
struct Underway {
    pending: VecDeque<Pending>,
    claims: Vec<Claim>,
}

impl Underway {
    /// Waits until all are durable and applied.
    async fn settle(&mut self) -> Result<(), LogError> {
        while let Some(first) = self.pending.front_mut() {
            let answer = first.await;
            self.pending.pop_front();
            answer?;
        }
        self.claims.clear();
        Ok(())
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        let Some(inner) = self.claims.first().map(|claim| claim.inner.clone()) else { return };
        let ids: Vec<Id> = self.claims.drain(..).map(|claim| claim.id).collect();
        if !self.pending.is_empty() {
            inner.busy.borrow_mut().extend(&ids);
            inner.abandoned.borrow_mut().push((std::mem::take(&mut self.pending), ids));
            inner.free_abandoned();
        }
    }
}

/// See [`Lane::claim`].
struct Claim {
    inner: Rc<Inner>,
    id: Id,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.inner.busy.borrow_mut().remove(&self.id);
        self.inner.free.ring();
    }
}
