//! What `cairn bench lane` measures: chunks by id, durable when stored, verified when read. Every function runs on a
//! core, and a subject belongs to the core that opened it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;
use cairn_daemon::actor::{Rate, Registry, Spec};
use cairn_daemon::lane::{
    BYTES_PER_SECOND, Compact, CompactMessage, Lane, LaneError, Options, Owner, Scrub, ScrubMessage,
};
use cairn_io::fs::Dir;
use cairn_io::log::{Options as LogOptions, Payload, Prewrite, Stats};
use cairn_io::reference::{Laps, Stop, Tally, Watch};
use cairn_io::task::{self, Class, JoinHandle};
use cairn_io::time::{self, Duration};
use cairn_io::{Block, block, rng};
use cairn_meta::index::{ChunkId, Store};

use super::crowd::{all, measure};

/// How long a segment file is, as by default.
pub const SEGMENT: u32 = 256 << 20;

/// A lane on one directory.
pub struct Subject {
    dir: String,
    space: Space,
    lane: Lane,
    /// Chunks that were put while puts were measured, to be dropped again.
    put: RefCell<Vec<ChunkId>>,
    /// Counts them, so that none is there already.
    next: Cell<u64>,
}

/// Sets the numbers of chunks that are put while puts are measured apart from those that stay.
const NEW: u64 = 1 << 39;

/// What is written over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Space {
    /// Blocks that were written before.
    Written,
    /// Blocks that are reserved and were never written.
    Fresh,
}

impl Subject {
    /// Makes an empty one.
    async fn create(dir: String, space: Space) -> io::Result<Self> {
        Lane::create(&Dir::create(&dir).await?, Owner::default(), 0, SEGMENT).await.map_err(failed)?;
        Ok(Self::open(dir, space).await?.0)
    }

    /// Opens one; says how many bytes of its log were read for it.
    async fn open(dir: String, space: Space) -> io::Result<(Self, u64)> {
        let (prewrite, spare_max) = match space {
            Space::Written => (Prewrite::Always, LogOptions::default().spare_max),
            Space::Fresh => (Prewrite::Never, 0),
        };
        let log = LogOptions { prewrite, spare_max, ..LogOptions::default() };
        // No cache of chunks, which would answer instead of the disk, and no holes in segments that are to be recycled.
        let options = Options { log, cache_bytes: 0, punch_min: u32::MAX, ..Options::default() };
        let opened = Lane::open(&Dir::open(&dir).await?, Self::store(&dir), options).await;
        let (lane, recovered) = opened.map_err(failed)?;
        Ok((Self { dir, space, lane, put: RefCell::default(), next: Cell::default() }, recovered.bytes))
    }

    fn store(dir: &str) -> Store {
        Store::lmdb(PathBuf::from(dir))
    }

    /// Stores a chunk; it is durable then.
    async fn put(&self, id: ChunkId, payload: Block) -> io::Result<()> {
        self.lane.put(id, Payload::Blocks(vec![payload])).await.map(drop).map_err(failed)
    }

    /// Reads a chunk.
    async fn get(&self, id: &ChunkId) -> io::Result<Bytes> {
        self.lane.get(id).await.map_err(failed)?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Reads a part of a chunk.
    async fn get_range(&self, id: &ChunkId, range: Range<usize>) -> io::Result<Bytes> {
        let range = range.start as u64..range.end as u64;
        self.lane.get_range(id, range).await.map_err(failed)?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// What its log has written.
    fn stats(&self) -> Stats {
        self.lane.status().log
    }

    /// Drops what was put and frees its room, to be written over.
    async fn clean(self: &Rc<Self>) -> io::Result<()> {
        self.drop_all(self.put.take()).await?;
        while let Some(planned) = self.lane.compaction_plan().first() {
            if !self.lane.compact(planned.segment).await.map_err(failed)?.is_freed {
                break;
            }
        }
        Ok(())
    }

    /// Sees to it that compaction has something to do: segments of which every other chunk is dropped.
    async fn wear(self: &Rc<Self>) -> io::Result<()> {
        const CHUNK: usize = 1 << 20;
        if self.lane.compaction_plan().len() >= 2 {
            return Ok(());
        }
        let payload = payload(CHUNK).await?;
        let before = self.put.take();
        let count = 3 * u64::from(SEGMENT) / CHUNK as u64;
        let next = Rc::new(Cell::new(0));
        all(8, || {
            let (subject, next, payload) = (self.clone(), next.clone(), payload.clone());
            async move {
                while next.replace(next.get() + 1) < count {
                    put_next(subject.clone(), payload.clone()).await?;
                }
                Ok(())
            }
        })
        .await?;
        let worn = self.put.replace(before);
        self.drop_all(worn.into_iter().step_by(2).collect()).await
    }

    async fn drop_all(self: &Rc<Self>, chunks: Vec<ChunkId>) -> io::Result<()> {
        let put = Rc::new(chunks);
        let next = Rc::new(Cell::new(0));
        all(256, || {
            let (subject, put, next) = (self.clone(), put.clone(), next.clone());
            async move {
                while let Some(id) = put.get(next.replace(next.get() + 1)) {
                    subject.lane.drop_chunk(id).await.map_err(failed)?;
                }
                Ok(())
            }
        })
        .await?;
        self.lane.commit().await.map_err(failed)
    }
}

fn failed(error: LaneError) -> io::Error {
    io::Error::other(error)
}

thread_local! {
    /// The subjects of this core: its callers come from another thread and can't hold them.
    static OPEN: RefCell<BTreeMap<Name, Rc<Subject>>> = const { RefCell::new(BTreeMap::new()) };
}

/// Which subject: one is read from and recovered, the others are written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// Full of chunks that stay.
    Full,
    /// Written round and round.
    Round,
    /// Written to the end of.
    Fresh,
}

impl Name {
    fn get(self) -> Rc<Subject> {
        OPEN.with_borrow(|open| open.get(&self).cloned()).expect("made before it is used")
    }

    fn set(self, subject: Subject) {
        OPEN.with_borrow_mut(|open| open.insert(self, Rc::new(subject)));
    }
}

/// Chunks of one length.
#[derive(Clone, Copy, Debug)]
pub struct Chunks {
    /// The length of each.
    pub bytes: usize,
    /// How many there are.
    pub count: u64,
}

impl Chunks {
    /// A name as if by a hash: in no order.
    fn id(&self, number: u64) -> ChunkId {
        let mut rng = rng::Rng::from_seed(number << 24 | self.bytes as u64);
        let mut id = [0; 32];
        for word in id.chunks_exact_mut(8) {
            word.copy_from_slice(&rng.below(u64::MAX).to_le_bytes());
        }
        ChunkId(id)
    }

    fn any(&self) -> ChunkId {
        self.id(rng::next_u64() % self.count)
    }
}

/// What a subject is asked to do.
#[derive(Clone, Copy, Debug)]
pub enum Job {
    /// Store chunks, so many at a time.
    Put {
        /// The length of each.
        bytes: usize,
        /// How many are not durable yet.
        depth: usize,
    },
    /// Store chunks one at a time, with the time of each.
    PutLaps {
        /// The length of each.
        bytes: usize,
    },
    /// Read whole chunks anywhere, so many at a time.
    Get {
        /// Which.
        chunks: Chunks,
        /// How many are read at a time.
        depth: usize,
    },
    /// Read parts of chunks anywhere, so many at a time.
    GetRange {
        /// Which.
        chunks: Chunks,
        /// The length of a part.
        bytes: usize,
        /// What its place is a multiple of.
        align: usize,
        /// How many are read at a time.
        depth: usize,
    },
    /// Read whole chunks anywhere, one at a time, with the time of each.
    GetLaps {
        /// Which.
        chunks: Chunks,
    },
    /// Run a small task now and then, with how late each is: whether the core is free.
    Pulse,
    /// Open it again and read all of its log.
    Recover,
}

/// What a subject does beside its job, at the rates it does that by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Nothing.
    Nothing,
    /// Segments half of which is dropped are compacted.
    Compaction,
    /// Everything is read again.
    Scrub,
    /// The index is committed. The job ends with it.
    Commit,
}

/// What came of a job.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// How long it took.
    pub tally: Tally,
    /// What was written meanwhile: batches and bytes from one sync to the next.
    pub cadence: Cadence,
}

/// How a subject wrote.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cadence {
    /// Chunks in one write.
    pub chunks_per_batch: f64,
    /// Bytes, all told, that one sync covered.
    pub bytes_per_sync: f64,
}

/// Makes a subject for the jobs to come.
///
/// # Errors
/// If the disk fails.
pub async fn create(name: Name, dir: String, space: Space) -> io::Result<()> {
    name.set(Subject::create(dir, space).await?);
    Ok(())
}

/// Stores chunks that stay.
///
/// # Errors
/// If the disk fails.
pub async fn fill(name: Name, chunks: Chunks) -> io::Result<()> {
    let (subject, payload) = (name.get(), payload(chunks.bytes).await?);
    let next = Rc::new(Cell::new(0));
    let depth = ((16 << 20) / chunks.bytes).clamp(1, 256);
    all(depth, || {
        let (subject, next, payload) = (subject.clone(), next.clone(), payload.clone());
        async move {
            while next.get() < chunks.count {
                let number = next.replace(next.get() + 1);
                subject.put(chunks.id(number), payload.clone()).await?;
            }
            Ok(())
        }
    })
    .await
}

/// Does a job.
///
/// # Errors
/// If the disk fails.
pub async fn run(name: Name, job: Job, beside: Beside, stop: Stop) -> io::Result<Done> {
    if let Job::Recover = job {
        return Ok(Done { tally: recover(name, stop).await?, cadence: Cadence::default() });
    }
    let subject = name.get();
    let background = Background::start(&subject, beside).await?;
    let before = subject.stats();
    let tally = match job {
        Job::Pulse => pulse(&background, stop).await,
        Job::GetLaps { chunks } => {
            let mut laps = Laps::start(stop);
            while laps.another() {
                check(&subject.get(&chunks.any()).await?, chunks.bytes)?;
            }
            laps.finish()
        }
        Job::PutLaps { bytes } => put_laps(&subject, bytes, stop).await?,
        Job::Put { bytes, depth } => {
            // As many as there are at a time: one alone would stay in the processor's cache.
            let mut payloads = Vec::with_capacity(depth);
            for _ in 0..depth {
                payloads.push(payload(bytes).await?);
            }
            let put = Cell::new(0);
            let next = Rc::new(move || payloads[put.replace(put.get() + 1) % depth].clone());
            measure(&subject, depth, stop, move |subject| put_next(subject, next())).await?
        }
        Job::Get { chunks, depth } => {
            measure(&subject, depth, stop, move |subject| async move {
                check(&subject.get(&chunks.any()).await?, chunks.bytes)
            })
            .await?
        }
        Job::GetRange { chunks, bytes, align, depth } => {
            measure(&subject, depth, stop, move |subject| async move {
                let places = (chunks.bytes - bytes) / align + 1;
                let from = rng::next_u64() as usize % places * align;
                check(&subject.get_range(&chunks.any(), from..from + bytes).await?, bytes)
            })
            .await?
        }
        Job::Recover => unreachable!("done above"),
    };
    let after = subject.stats();
    background.stop().await?;
    if name == Name::Full {
        // What is worn is left for compaction.
        subject.drop_all(subject.put.take()).await?;
    } else {
        subject.clean().await?;
    }
    let (records, batches) = (after.records - before.records, after.batches - before.batches);
    let (bytes, syncs) = (after.batch_bytes - before.batch_bytes, after.syncs - before.syncs);
    let cadence = Cadence {
        chunks_per_batch: records as f64 / batches.max(1) as f64,
        bytes_per_sync: bytes as f64 / syncs.max(1) as f64,
    };
    Ok(Done { tally, cadence })
}

/// What goes on beside a job.
struct Background {
    registry: Registry,
    commit: Option<JoinHandle<io::Result<()>>>,
    /// Whether the commit is over.
    is_over: Rc<Cell<bool>>,
}

impl Background {
    /// Updates that a commit has to write.
    const COMMITTED: u64 = 50_000;

    async fn start(subject: &Rc<Subject>, beside: Beside) -> io::Result<Self> {
        let (registry, is_over) = (Registry::new(), Rc::new(Cell::new(false)));
        let lane = subject.lane.clone();
        let mut commit = None;
        // It begins without the second's worth that a budget has at first, as if it had run for long.
        let spec = |name| Spec { bytes: Rate::PerSecond(0), ..Spec::new(name) };
        match beside {
            Beside::Nothing => {}
            Beside::Compaction => {
                subject.wear().await?;
                let mailbox = registry.start(&spec("compact"), move || Compact { lane: lane.clone() });
                let sent = mailbox.map_err(io::Error::other)?.try_send(CompactMessage::Look);
                sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
                registry.set_budget("compact", BYTES_PER_SECOND, Rate::Unlimited);
            }
            Beside::Scrub => {
                let mailbox = registry.start(&spec("scrub"), move || Scrub { lane: lane.clone() });
                let sent = mailbox.map_err(io::Error::other)?.try_send(ScrubMessage::All);
                sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
                registry.set_budget("scrub", BYTES_PER_SECOND, Rate::Unlimited);
            }
            Beside::Commit => {
                let payload = payload(8).await?;
                let last = subject.next.get() + Self::COMMITTED;
                all(256, || {
                    let (subject, payload) = (subject.clone(), payload.clone());
                    async move {
                        while subject.next.get() < last {
                            put_next(subject.clone(), payload.clone()).await?;
                        }
                        Ok(())
                    }
                })
                .await?;
                let is_over = is_over.clone();
                commit = Some(task::spawn(Class::Foreground, async move {
                    let committed = lane.commit().await.map_err(failed);
                    is_over.set(true);
                    committed
                }));
            }
        }
        Ok(Self { registry, commit, is_over })
    }

    async fn stop(self) -> io::Result<()> {
        self.registry.stop_all().await;
        match self.commit {
            Some(commit) => commit.await.map_err(io::Error::other)?,
            None => Ok(()),
        }
    }
}

/// Looks every so often how late a task runs that is due.
async fn pulse(background: &Background, stop: Stop) -> Tally {
    const EVERY: Duration = Duration::from_micros(200);
    let mut laps = Laps::start(stop);
    while !background.is_over.get() && laps.another() {
        time::sleep(EVERY).await;
    }
    laps.finish()
}

async fn put_next(subject: Rc<Subject>, payload: Block) -> io::Result<()> {
    let number = subject.next.replace(subject.next.get() + 1);
    let id = Chunks { bytes: payload.len(), count: u64::MAX }.id(NEW | number);
    subject.put.borrow_mut().push(id);
    subject.put(id, payload).await
}

async fn put_laps(subject: &Rc<Subject>, bytes: usize, stop: Stop) -> io::Result<Tally> {
    let payload = payload(bytes).await?;
    let mut laps = Laps::start(stop);
    while laps.another() {
        put_next(subject.clone(), payload.clone()).await?;
    }
    Ok(laps.finish())
}

async fn recover(name: Name, stop: Stop) -> io::Result<Tally> {
    let (dir, space) = {
        let subject = name.get();
        (subject.dir.clone(), subject.space)
    };
    let watch = Watch::start(stop);
    let mut read = 0;
    while watch.another() {
        // What is opened again is closed first, and its index lost, so that the whole log is read.
        let closed = OPEN.with_borrow_mut(|open| open.remove(&name));
        if let Some(subject) = closed {
            subject.lane.close().await.map_err(failed)?;
        }
        Subject::store(&dir).clear().map_err(io::Error::other)?;
        let (subject, bytes) = Subject::open(dir.clone(), space).await?;
        name.set(subject);
        read += bytes;
    }
    // Counted in MiB, as large reads of a disk are.
    Ok(Tally { ops: read >> 20, ..watch.finish() })
}

fn check(read: &Bytes, bytes: usize) -> io::Result<()> {
    if read.len() == bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Bytes like no others, so that nothing on the way can leave them out.
async fn payload(len: usize) -> io::Result<Block> {
    let mut block = block::alloc(len).await?;
    for word in block.chunks_exact_mut(8) {
        word.copy_from_slice(&rng::next_u64().to_le_bytes());
    }
    Ok(block.freeze())
}
