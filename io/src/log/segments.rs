//! The segment files of a log: which part of it each holds, making them before they are needed, freeing them.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::Rc;

use super::format::{BLOCK, SegmentHeader};
use super::{Counts, LogError, Options, Prewrite, Room};
use crate::fs::{Dir, File, Mode};
use crate::time::{self, Duration};
use crate::{Bell, Block, block};

/// How long to wait before trying again to make a segment that the disk had no room for.
const RETRY: Duration = Duration::from_secs(2);
/// Zeros written with one call.
const ZEROS: usize = 1 << 20;
/// Batches of at most so many bytes gain by segments that were written before.
const SMALL_BATCH: u64 = 256 << 10;

/// A segment of the log.
#[derive(Debug)]
pub struct Segment {
    /// Its number.
    pub number: u64,
    /// The sequence number of its first record.
    pub first: u64,
    /// The file it is in; held until nobody reads it any more.
    pub file: File,
    /// The number in its file's name.
    pub slot: u32,
    /// Some of it was given back to the file system: overwriting it costs as much as appending.
    punched: Cell<bool>,
    /// Somebody is writing that it holds nothing.
    freeing: Cell<bool>,
}

/// A segment, as one sees it from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its number.
    pub number: u64,
    /// The sequence number of its first record.
    pub first: u64,
    /// The number in its file's name.
    pub slot: u32,
}

/// A file that holds nothing and waits to become a segment.
struct Slot {
    number: u32,
    file: File,
}

/// All segment files of one log.
pub struct Segments {
    dir: Dir,
    salt: u64,
    bytes: u32,
    options: Options,
    live: RefCell<BTreeMap<u64, Rc<Segment>>>,
    ready: RefCell<VecDeque<Slot>>,
    next_slot: Cell<u32>,
    /// Why no segment can be made now.
    full: Cell<Option<&'static str>>,
    /// The mean length of the last batches.
    mean_batch: Cell<u64>,
    bell: Bell,
}

impl Segments {
    pub fn new(dir: Dir, salt: u64, bytes: u32, options: Options) -> Self {
        Self {
            dir,
            salt,
            bytes,
            options,
            live: RefCell::default(),
            ready: RefCell::default(),
            next_slot: Cell::new(0),
            full: Cell::new(None),
            mean_batch: Cell::new(0),
            bell: Bell::default(),
        }
    }

    /// A file found at start-up that holds a segment.
    pub fn found(&self, number: u64, first: u64, slot: u32, file: File) -> Rc<Segment> {
        self.next_slot.set(self.next_slot.get().max(slot + 1));
        let segment =
            Rc::new(Segment { number, first, file, slot, punched: Cell::new(false), freeing: Cell::new(false) });
        self.live.borrow_mut().insert(number, segment.clone());
        segment
    }

    /// A file found at start-up that holds nothing.
    pub fn found_unused(&self, slot: u32, file: File) {
        self.next_slot.set(self.next_slot.get().max(slot + 1));
        self.ready.borrow_mut().push_back(Slot { number: slot, file });
    }

    /// A file found at start-up that is neither; nothing touches it.
    pub fn found_bad(&self, slot: u32) {
        self.next_slot.set(self.next_slot.get().max(slot + 1));
    }

    pub fn get(&self, number: u64) -> Option<Rc<Segment>> {
        self.live.borrow().get(&number).cloned()
    }

    pub fn list(&self) -> Vec<SegmentInfo> {
        let info =
            |segment: &Rc<Segment>| SegmentInfo { number: segment.number, first: segment.first, slot: segment.slot };
        self.live.borrow().values().map(info).collect()
    }

    /// The highest number there is.
    pub fn highest(&self) -> u64 {
        self.live.borrow().keys().next_back().copied().unwrap_or(0)
    }

    /// Segments that hold something, and files ready to become one.
    pub fn counts(&self) -> (usize, usize) {
        (self.live.borrow().len(), self.ready.borrow().len())
    }

    /// Whether a record may be written at all, now.
    pub fn admits(&self, room: Room) -> Result<bool, LogError> {
        if self.ready.borrow().len() >= self.left_by(room) {
            return Ok(true);
        }
        self.bell.ring();
        self.full.get().map_or(Ok(false), |why| Err(LogError::NoRoom(why)))
    }

    /// Takes a ready file as the segment with this number; `None` if one must be waited for.
    pub fn rotate(&self, number: u64, first: u64, room: Room) -> Result<Option<Rc<Segment>>, LogError> {
        let mut ready = self.ready.borrow_mut();
        self.bell.ring();
        if ready.len() <= self.left_by(room) {
            return self.full.get().map_or(Ok(None), |why| Err(LogError::NoRoom(why)));
        }
        let slot = ready.pop_front().expect("there are more than none");
        let punched = Cell::new(false);
        let segment =
            Rc::new(Segment { number, first, file: slot.file, slot: slot.number, punched, freeing: Cell::new(false) });
        self.live.borrow_mut().insert(number, segment.clone());
        Ok(Some(segment))
    }

    /// How many ready files are left to others.
    fn left_by(&self, room: Room) -> usize {
        match room {
            Room::Ordinary => self.options.reserve,
            // A reserve of one is everybody's: what is dropped must be said somewhere.
            Room::Reserve => 1.min(self.options.reserve - 1),
            Room::Last => 0,
        }
    }

    /// What seeds the lane's checksums.
    pub fn salt(&self) -> u64 {
        self.salt
    }

    /// The length of a segment.
    pub fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Forgets a segment that recovery found to hold nothing.
    pub fn discard(&self, number: u64) -> Option<Rc<Segment>> {
        self.live.borrow_mut().remove(&number)
    }

    /// Takes the file of a segment that holds nothing any more.
    pub fn reuse(&self, segment: &Segment) {
        self.ready.borrow_mut().push_back(Slot { number: segment.slot, file: segment.file.clone() });
    }

    /// Remembers how long batches are.
    pub fn saw_batch(&self, bytes: usize) {
        let mean = self.mean_batch.get();
        self.mean_batch.set(mean - mean / 8 + bytes as u64 / 8);
    }

    /// Keeps files ready, for ever.
    pub async fn keep_making(&self, counts: &Counts, changed: impl Fn()) {
        loop {
            let missing = self.ready.borrow().len() < self.options.reserve + self.options.ahead;
            if !missing {
                self.bell.rung().await;
                continue;
            }
            match self.make(counts).await {
                Ok(()) => {
                    self.full.set(None);
                    changed();
                }
                Err(why) => {
                    self.full.set(Some(why));
                    changed();
                    // Room may come back without anybody telling: other files are on this disk too.
                    let _ = time::timeout(RETRY, self.bell.rung()).await;
                    time::sleep(RETRY / 20).await;
                }
            }
        }
    }

    async fn make(&self, counts: &Counts) -> Result<(), &'static str> {
        let (live, ready) = self.counts();
        if live + ready >= self.options.segments_max {
            return Err("the lane has all the segments it may have");
        }
        let space = self.dir.space().await.map_err(|_| "the file system doesn't say how much room it has")?;
        if space.free < self.options.keep_free.saturating_add(u64::from(self.bytes)) {
            return Err("the file system has only the room left that is kept free");
        }
        let number = self.next_slot.get();
        self.next_slot.set(number + 1);
        let name = name_of(number);
        let prewrite = match self.options.prewrite {
            Prewrite::Always => true,
            Prewrite::Never => false,
            Prewrite::WhenSmall => self.mean_batch.get() <= SMALL_BATCH,
        };
        match self.make_file(&name, prewrite).await {
            Ok(file) => {
                counts.add(|stats| {
                    stats.segments_made += 1;
                    stats.segments_prewritten += u64::from(prewrite);
                });
                self.ready.borrow_mut().push_back(Slot { number, file });
                Ok(())
            }
            Err(error) => {
                // Without a header it is an unused file; a later start takes it for one.
                let _ = self.dir.remove(&name).await;
                Err(match error.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "the file system is full",
                    _ => "the disk failed to make another segment",
                })
            }
        }
    }

    async fn make_file(&self, name: &str, prewrite: bool) -> io::Result<File> {
        let file = self.dir.open_file(name, Mode::CreateNew).await?;
        file.allocate(0, u64::from(self.bytes)).await?;
        // The header's block at least, so that the file is never empty and its first write never appends.
        let bytes = if prewrite { self.bytes as usize } else { BLOCK };
        let zeros = zeros(bytes.min(ZEROS)).await?;
        for offset in (0..bytes).step_by(ZEROS) {
            let len = ZEROS.min(bytes - offset);
            file.write_at(zeros.slice(..len), offset as u64).await?;
        }
        file.sync_data().await?;
        self.dir.sync().await?;
        Ok(file)
    }

    /// Frees a segment: first its header is made to say so, durably, then the file is kept for reuse or removed.
    pub async fn free(&self, number: u64, counts: &Counts) -> io::Result<()> {
        let Some(segment) = self.get(number) else { return Ok(()) };
        if segment.freeing.replace(true) {
            // The failed sync of one would be the success of the other.
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                format!("segment {number} is being freed already"),
            ));
        }
        let marked = mark_free(&segment.file, self.salt).await;
        segment.freeing.set(false);
        marked?;
        if self.live.borrow_mut().remove(&number).is_none() {
            // Somebody else freed it meanwhile, and waits for us to let go of it.
            return Ok(());
        }
        counts.add(|stats| stats.segments_freed += 1);
        // Whoever reads the file now must find in it what was there: reuse waits for them.
        let mut segment = segment;
        let segment = loop {
            match Rc::try_unwrap(segment) {
                Ok(segment) => break segment,
                Err(shared) => segment = shared,
            }
            time::sleep(Duration::from_millis(1)).await;
        };
        let is_spare = self.ready.borrow().len() < self.options.spare_max.max(self.options.reserve);
        // Holes can be of an earlier life, too, and a write into one fails on a full disk, which poisons the lane.
        let is_spare = is_spare && !segment.punched.get();
        if is_spare && segment.file.allocate(0, u64::from(self.bytes)).await.is_ok() {
            self.ready.borrow_mut().push_back(Slot { number: segment.slot, file: segment.file });
        } else {
            self.dir.remove(&name_of(segment.slot)).await?;
            self.dir.sync().await?;
        }
        self.full.set(None);
        self.bell.ring();
        Ok(())
    }

    /// Gives the room of dead bytes back to the file system.
    pub async fn punch(&self, segment: &Segment, offset: u64, bytes: u64) -> io::Result<()> {
        segment.punched.set(true);
        segment.file.punch(offset, bytes).await?;
        self.full.set(None);
        self.bell.ring();
        Ok(())
    }

    pub fn wake_all(&self) {
        self.bell.ring();
    }

    /// Files whose content is being looked for: all that carry a segment's name.
    pub async fn files(dir: &Dir) -> io::Result<Vec<u32>> {
        Ok(dir.list().await?.iter().filter_map(|name| slot_of(name)).collect())
    }

    pub async fn open_file(dir: &Dir, slot: u32, mode: Mode) -> io::Result<File> {
        dir.open_file(&name_of(slot), mode).await
    }
}

/// Writes durably that a segment's file holds nothing.
pub async fn mark_free(file: &File, salt: u64) -> io::Result<()> {
    let mut block = block::alloc(BLOCK).await?;
    SegmentHeader { number: 0, first: 0, synced: 0 }.encode_into(salt, &mut block);
    file.write_at(block.freeze(), 0).await?;
    file.sync_data().await
}

async fn zeros(len: usize) -> io::Result<Block> {
    let mut block = block::alloc(len).await?;
    block.fill(0);
    Ok(block.freeze())
}

pub fn name_of(slot: u32) -> String {
    format!("segment-{slot:08x}")
}

/// The number in a segment file's name.
pub fn slot_of(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("segment-")?;
    (digits.len() == 8).then(|| u32::from_str_radix(digits, 16).ok())?
}
