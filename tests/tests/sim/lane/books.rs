//! What is known of the lane from outside.

use super::*;

/// Whether a chunk is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    Here,
    Gone,
    /// Something about it was never answered.
    Either,
}

/// One chunk.
#[derive(Clone, Debug)]
pub struct Chunk {
    pub id: ChunkId,
    pub bytes: Rc<Vec<u8>>,
    pub known: Known,
    pub puts: u32,
    pub drops: u32,
    /// Puts that began or ended, and drops.
    pub put_events: u64,
    pub drop_events: u64,
}

/// What a Raft log may be: entries by index, with their terms, and the state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftLog {
    pub entries: BTreeMap<u64, u64>,
    pub state: Option<(u64, u64)>,
}

/// One slot.
#[derive(Clone, Debug)]
pub struct Slot {
    pub may_be: Vec<RaftLog>,
    pub is_busy: bool,
}

/// A named record: the versions that it may have.
#[derive(Clone, Debug)]
pub struct Record {
    pub may_be: BTreeSet<Option<u64>>,
    pub is_busy: bool,
}

pub struct Books {
    /// What became of the disk's bytes.
    pub scars: RefCell<Scars>,
    pub memory: Memory,
    pub made: Cell<bool>,
    pub chunks: RefCell<Vec<Chunk>>,
    pub records: RefCell<Vec<Record>>,
    pub slots: RefCell<Vec<Slot>>,
    pub versions: Cell<u64>,
    /// The index was lost, and may not be made anew completely.
    pub is_rebuilding: Cell<bool>,
    pub recoveries: Cell<u64>,
    pub is_storm_over: Cell<bool>,
    pub is_drained: Cell<bool>,
    /// The bits that rotted are such that the lane can't be opened, as it says.
    pub is_beyond: Cell<bool>,
    pub doing: RefCell<String>,
    /// What clients are about: which chunk, which deed.
    pub open: RefCell<BTreeMap<u64, (usize, u64)>>,
    pub broken: RefCell<Vec<String>>,
}

impl Books {
    pub fn new() -> Self {
        let lens = [0, 1, 500, 4_096, 20_000, 65_536, 70_000, 130_000, 200_000];
        let chunk = |number: u64| {
            let bytes = content(number, lens[small(number) % lens.len()] + small(number) / 3);
            let id = ChunkId(*blake3::hash(&bytes).as_bytes());
            let bytes = Rc::new(bytes);
            Chunk { id, bytes, known: Known::Gone, puts: 0, drops: 0, put_events: 0, drop_events: 0 }
        };
        let record = |_| Record { may_be: BTreeSet::from([None]), is_busy: false };
        let slot = |_| Slot { may_be: vec![RaftLog::default()], is_busy: false };
        Self {
            scars: RefCell::default(),
            memory: Memory::default(),
            made: Cell::new(false),
            chunks: RefCell::new((0..CHUNKS).map(chunk).collect()),
            records: RefCell::new((0..NAMES).map(record).collect()),
            slots: RefCell::new((0..SLOTS).map(slot).collect()),
            versions: Cell::new(1),
            is_rebuilding: Cell::new(false),
            recoveries: Cell::new(0),
            is_storm_over: Cell::new(false),
            is_drained: Cell::new(false),
            is_beyond: Cell::new(false),
            doing: RefCell::default(),
            open: RefCell::default(),
            broken: RefCell::default(),
        }
    }

    pub fn is_bad(&self) -> bool {
        self.is_beyond.get() || !self.broken.borrow().is_empty()
    }

    pub fn broke(&self, text: String) {
        self.broken.borrow_mut().push(text);
    }

    pub fn doing(&self, what: impl Into<String>) {
        *self.doing.borrow_mut() = what.into();
    }

    /// Whether bits have rotted.
    pub fn has_rotted(&self) -> bool {
        !self.scars.borrow().rotten().is_empty()
    }

    /// Whether bytes may be bad, or have been unreadable for a moment, without the lane being to blame.
    pub fn excuses_damage(&self) -> bool {
        self.has_rotted() || self.scars.borrow().reads_failed() > 0
    }

    pub fn version(&self) -> u64 {
        self.versions.set(self.versions.get() + 1);
        self.versions.get()
    }

    pub fn chunk(&self, at: usize) -> Chunk {
        self.chunks.borrow()[at].clone()
    }

    pub fn change(&self, at: usize, change: impl FnOnce(&mut Chunk)) {
        change(&mut self.chunks.borrow_mut()[at]);
    }

    /// The life before is over: what it didn't answer may be or not.
    pub fn forget_open(&self) {
        self.open.borrow_mut().clear();
        for chunk in self.chunks.borrow_mut().iter_mut() {
            if chunk.puts > 0 && chunk.known != Known::Here || chunk.drops > 0 && chunk.known != Known::Gone {
                chunk.known = Known::Either;
            }
            (chunk.puts, chunk.drops) = (0, 0);
        }
        self.records.borrow_mut().iter_mut().for_each(|record| record.is_busy = false);
        self.slots.borrow_mut().iter_mut().for_each(|slot| slot.is_busy = false);
    }

    /// A put begins; returns what it takes to judge its end.
    pub fn begin_put(&self, at: usize) -> u64 {
        self.change(at, |chunk| {
            chunk.puts += 1;
            chunk.put_events += 1;
        });
        self.chunk(at).drop_events
    }

    /// `None`: no answer; otherwise whether it was stored.
    pub fn end_put(&self, at: usize, begun: u64, answer: Option<bool>) {
        self.change(at, |chunk| {
            chunk.puts -= 1;
            chunk.put_events += 1;
            let is_alone = chunk.drops == 0 && chunk.drop_events == begun;
            chunk.known = match (answer, chunk.known) {
                (Some(true), _) | (None, Known::Here) if is_alone => Known::Here,
                // Refused: as if it had never been.
                (Some(false), known) => known,
                _ => Known::Either,
            };
        });
    }

    pub fn begin_drop(&self, at: usize) -> u64 {
        self.change(at, |chunk| {
            chunk.drops += 1;
            chunk.drop_events += 1;
        });
        self.chunk(at).put_events
    }

    pub fn end_drop(&self, at: usize, begun: u64, answered: bool) {
        self.change(at, |chunk| {
            chunk.drops -= 1;
            chunk.drop_events += 1;
            let is_alone = chunk.puts == 0 && chunk.put_events == begun;
            chunk.known = match (answered, chunk.known) {
                (true, _) | (false, Known::Gone) if is_alone => Known::Gone,
                _ => Known::Either,
            };
        });
    }

    /// What must be true of a chunk from `before` until now, if anything is sure.
    pub fn sure(&self, at: usize, before: &Chunk) -> Option<bool> {
        let now = self.chunk(at);
        let no_drops = before.drops == 0 && now.drop_events == before.drop_events;
        let no_puts = before.puts == 0 && now.put_events == before.put_events;
        match (before.known, now.known) {
            (Known::Here, Known::Here) if no_drops => Some(true),
            (Known::Gone, Known::Gone) if no_puts => Some(false),
            _ => None,
        }
    }
}
