//! The chunk log of a lane: the only thing on the write path that is synced, and the truth from which everything
//! else can be rebuilt.
//!
//! A log is a directory: a `superblock` and segment files of one length. Records are appended in batches; each batch
//! is one write and is covered by one sync, and a caller is answered after it. While one batch is syncing the next
//! gathers and may be written already. Segment files are recycled: overwriting blocks that were written before costs
//! a fraction of appending.
//!
//! ```text
//!   append ─► gather ─► write ─► sync ─► apply (the index, in order) ─► answer
//!                batch n+1        batch n
//! ```
//!
//! It knows records, not what they mean: the lane tells it what to do with each durable record (`apply`, the same
//! function for new records and for those found at recovery), which segments nobody needs any more, and how far its
//! index is safe.
//!
//! Invariants:
//! - A record is applied, and its caller answered, only after a sync that covers it; in order of sequence numbers.
//! - After a failed write or sync the log takes no more records: what is durable is unknown. It can still be read.
//! - Bytes that don't match their checksums are never returned.
//! - Nothing that reads damaged bytes panics, and nothing that was answered is skipped without being reported.

pub mod format;
mod gather;
mod map;
mod offline;
mod read;
mod recover;
mod scan;
mod segments;
mod writer;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

pub use format::{Id, Kind, Superblock};
pub use offline::{FileState, Offline, SegmentFile};
pub use read::{Head, ReadError};
pub use recover::{Damage, Opened, Replayed, What};
pub use scan::{Found, Scanner, Step};
pub use segments::SegmentInfo;
pub use writer::Pending;

use self::segments::Segments;
use self::writer::Writer;
use crate::Block;
use crate::fs::{Dir, Mode};
use crate::task::JoinHandle;

/// A log. Clones share it; it belongs to the core that opened it.
#[derive(Clone)]
pub struct Log(Rc<Handle>);

/// What the handles share; the tasks of the log hold the inner part and end with the last handle.
struct Handle {
    inner: Rc<Inner>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.inner.tasks.borrow_mut().clear();
    }
}

struct Inner {
    superblock: Superblock,
    salt: u64,
    options: Options,
    segments: Segments,
    writer: Writer,
    apply: Rc<Apply>,
    /// The writer and the maker of segments; cancelled with the last handle.
    tasks: RefCell<Vec<JoinHandle<()>>>,
    poisoned: RefCell<Option<Arc<str>>>,
    counts: Counts,
}

/// What is done with each durable record, in order.
pub type Apply = dyn Fn(&Entry<'_>);

/// How a log is run. What is fixed when it is made stands in its [`Superblock`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Segments kept for drops, Raft records and compaction when there is no room for data any more: at least one. With two
    /// or more, the last of them is compaction's alone.
    pub reserve: usize,
    /// Segments made ready beyond the reserve before they are needed: at least one.
    pub ahead: usize,
    /// Segments kept for reuse; what is freed beyond them is given back to the file system.
    pub spare_max: usize,
    /// The most segments there may be.
    pub segments_max: usize,
    /// No segment is made that would leave the file system with less room than this.
    pub keep_free: u64,
    /// A batch is closed when it has so many bytes.
    pub batch_bytes: usize,
    /// Bytes of records that may be under way; more wait.
    pub in_flight_bytes: usize,
    /// When new segments are written full of zeros before they are used.
    pub prewrite: Prewrite,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            reserve: 2,
            ahead: 1,
            spare_max: 16,
            segments_max: usize::MAX,
            keep_free: 1 << 30,
            batch_bytes: 1 << 20,
            in_flight_bytes: 64 << 20,
            prewrite: Prewrite::WhenSmall,
        }
    }
}

impl Options {
    /// Refuses what would have somebody wait for ever.
    fn check(&self) -> Result<(), LogError> {
        match (self.reserve, self.ahead) {
            (0, _) => {
                Err(LogError::Options("without a reserve a full one could never be emptied; keep 1 segment or more"))
            }
            (_, 0) => Err(LogError::Options("no segment would ever be made for data; make 1 or more ahead")),
            _ => Ok(()),
        }
    }
}

/// When a new segment file is written full of zeros first. It doubles the bytes written once, and makes each later
/// sync of a small batch several times faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prewrite {
    /// While batches are small: large ones gain nothing by it.
    WhenSmall,
    /// Each.
    Always,
    /// None.
    Never,
}

/// What may use the reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Data: refused when only the reserve is left.
    Ordinary,
    /// What must go on when the disk is full: drops, Raft records. Refused when only the last segment is left, or there
    /// would be no room to free any.
    Reserve,
    /// What frees segments: compaction, and what it takes to do without a segment.
    Last,
}

/// A record to append.
#[derive(Clone, Debug)]
pub struct Record {
    /// What it is.
    pub kind: Kind,
    /// What it is about.
    pub id: Id,
    /// Its bytes.
    pub payload: Payload,
}

/// The bytes of a record to append.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Copied into the batch.
    Bytes(Bytes),
    /// Aligned memory, written from where it is if there is enough of it. All but the last block must have a
    /// multiple of [`format::SPAN`] bytes.
    Blocks(Vec<Block>),
}

impl Payload {
    /// No bytes.
    pub const EMPTY: Self = Self::Bytes(Bytes::new());

    /// The number of bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Blocks(blocks) => blocks.iter().map(|block| block.len()).sum(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The number of its segment.
    pub segment: u64,
    /// Where in the segment it begins.
    pub offset: u32,
    /// Its length to the end of the payload.
    pub extent: u32,
    /// The length of the payload, which ends the record.
    pub stored: u32,
}

impl Location {
    /// Where in the segment the payload begins.
    pub fn payload_at(&self) -> u32 {
        self.offset + (self.extent - self.stored)
    }
}

/// A point in the log between two batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The number of a segment.
    pub segment: u64,
    /// Where in it.
    pub offset: u32,
    /// The sequence number of the next record.
    pub sequence: u64,
}

/// A durable record, as it is applied.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Where its batch begins: everything before has been applied.
    pub batch: Position,
    /// Nothing up to here will be cut off, whatever happens. Only recovery comes upon records of which it doesn't know yet.
    pub is_settled: bool,
    /// What it is.
    pub kind: Kind,
    /// What it is about.
    pub id: &'a Id,
    /// Its place in the order.
    pub sequence: u64,
    /// When its batch was written: nanoseconds since the Unix epoch.
    pub wall: u64,
    /// Where it is.
    pub location: Location,
    /// The payload's length as it was handed in.
    pub length: u32,
    /// The payload, except a chunk's.
    pub payload: &'a [u8],
    /// The payload matches its checksums. A record that was durable and no longer matches is applied all the same,
    /// so that it can be reported, with an empty payload.
    pub is_whole: bool,
}

/// Where an appended record is, now that it is durable and applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its place in the order.
    pub sequence: u64,
    /// Where it is.
    pub location: Location,
}

/// Why the log doesn't do something.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A write or sync failed before.
    #[error("the lane takes no writes since {0}; replace or repair the disk, then restart the node")]
    Poisoned(Arc<str>),
    /// Only the reserve is left, or not even that.
    #[error("no room: {0}; delete something, add a disk or make the lane larger")]
    NoRoom(&'static str),
    /// The record can never be stored.
    #[error("a record of {length} bytes is longer than the {max} that fit here")]
    TooLong {
        /// Its payload.
        length: usize,
        /// The most.
        max: usize,
    },
    /// Blocks that aren't whole spans.
    #[error("all but the last block of a payload must be multiples of {} bytes long", format::SPAN)]
    Uneven,
    /// How it should be run makes no sense.
    #[error("a lane can't be run so: {0}")]
    Options(&'static str),
    /// The log was closed.
    #[error("the lane is closed")]
    Closed,
    /// The index was committed up to a position that the log doesn't have.
    #[error("the index is ahead of the log ({0:?}): segments are missing; run `cairn fsck --rebuild` on the lane")]
    IndexAhead(Position),
    /// What is on disk.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The disk.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Why bytes on disk can't be read by this code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// No superblock here.
    #[error("this is no lane of Cairn: its superblock is missing or something else")]
    NotALane,
    /// It says so itself.
    #[error("written in format {0} by a newer Cairn; this one reads up to {max}: use the newer one", max = format::VERSION)]
    NewerVersion(u8),
    /// A kind of record that this code doesn't know.
    #[error("there are records of kind {0}, which only a newer Cairn knows: use that one")]
    NewerKind(u8),
    /// A record with a flag or an extension that this code doesn't know.
    #[error("a record of kind {kind} has features ({flags:#04x}) that only a newer Cairn knows: use that one")]
    NewerFeature {
        /// The record's kind.
        kind: u8,
        /// The flags that aren't known.
        flags: u8,
    },
    /// Bytes that can't be what was written.
    #[error("damaged: {0}")]
    Damaged(&'static str),
}

/// What a log has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Records made durable.
    pub records: u64,
    /// Batches written.
    pub batches: u64,
    /// Bytes written in batches, padding included.
    pub batch_bytes: u64,
    /// Syncs that succeeded.
    pub syncs: u64,
    /// Segments made, full of zeros or not.
    pub segments_made: u64,
    /// Segments that were written full of zeros first.
    pub segments_prewritten: u64,
    /// Segments freed.
    pub segments_freed: u64,
}

#[derive(Default)]
struct Counts(Cell<Stats>);

impl Counts {
    fn add(&self, change: impl FnOnce(&mut Stats)) {
        let mut stats = self.0.get();
        change(&mut stats);
        self.0.set(stats);
    }
}

const SUPERBLOCK: &str = "superblock";

impl Log {
    /// Makes the directory of a new, empty log.
    ///
    /// # Errors
    /// `AlreadyExists` if there is one; or if the disk fails.
    pub async fn create(dir: &Dir, superblock: &Superblock) -> Result<(), LogError> {
        let names = dir.list().await?;
        if names.iter().any(|name| name == SUPERBLOCK || segments::slot_of(name).is_some()) {
            let message = "there is a lane here already; use an empty directory";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message).into());
        }
        Superblock::decode(&superblock.encode())?;
        let unfinished = format!("{SUPERBLOCK}.new");
        if names.contains(&unfinished) {
            dir.remove(&unfinished).await?;
        }
        let file = dir.open_file(&unfinished, Mode::CreateNew).await?;
        let mut block = crate::block::alloc(format::BLOCK).await?;
        block.copy_from_slice(&superblock.encode());
        file.write_at(block.freeze(), 0).await?;
        file.sync_data().await?;
        dir.rename(&unfinished, SUPERBLOCK).await?;
        dir.sync().await?;
        Ok(())
    }

    /// Reads the superblock of a log.
    ///
    /// # Errors
    /// If there is none that this code can read.
    pub async fn superblock_of(dir: &Dir) -> Result<Superblock, LogError> {
        let file = match dir.open_file(SUPERBLOCK, Mode::Read).await {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(FormatError::NotALane.into()),
            Err(error) => return Err(error.into()),
        };
        Ok(Superblock::decode(&file.read_at(0, format::BLOCK).await?)?)
    }

    /// What never changes about it.
    pub fn superblock(&self) -> &Superblock {
        &self.0.inner.superblock
    }

    /// How it is run.
    pub fn options(&self) -> &Options {
        &self.0.inner.options
    }

    /// Up to where all records have been applied.
    pub fn applied(&self) -> Position {
        self.0.inner.writer.applied()
    }

    /// Why it takes no more records, if so.
    pub fn poisoned(&self) -> Option<Arc<str>> {
        self.0.inner.poisoned.borrow().clone()
    }

    /// Takes no more records from now on, for a reason found elsewhere.
    pub fn poison(&self, reason: &str) {
        self.0.inner.poison(reason);
    }

    /// What it has done.
    pub fn stats(&self) -> Stats {
        self.0.inner.counts.0.get()
    }

    /// The longest payload that fits into a segment.
    pub fn payload_max(&self) -> usize {
        let segment = self.0.inner.superblock.segment_bytes as usize;
        // Segment header, batch header, record header with its table, alignment of the payload and of the batch.
        let around = 4 * format::BLOCK + format::HEADER + format::spans(segment) * 8;
        format::PAYLOAD_MAX.min(segment - around)
    }
}

impl Inner {
    fn poison(&self, reason: &str) {
        let mut poisoned = self.poisoned.borrow_mut();
        if poisoned.is_none() {
            *poisoned = Some(reason.into());
        }
        drop(poisoned);
        self.writer.wake_all();
        self.segments.wake_all();
    }

    fn check_poison(&self) -> Result<(), LogError> {
        match &*self.poisoned.borrow() {
            Some(reason) => Err(LogError::Poisoned(reason.clone())),
            None => Ok(()),
        }
    }
}
