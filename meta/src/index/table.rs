//! The tables of an index, and the keys that have a shape of their own.

/// An ordered table of bytes to bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// The chunks of the lane, by hash. Written through `put_chunk` and `drop_chunk` only: they keep the digests.
    Chunks,
    /// The segments of the log.
    Segments,
    /// Records that failed verification, until they are repaired.
    Quarantine,
    /// Raft entries and hard states: see [`RaftKey`].
    Raft,
    /// The other records of the log that are live, by id: versions, provisional versions, drops.
    Records,
    /// What state machines keep; the keys begin with the slot.
    State,
    /// Facts about the lane itself.
    Lane,
}

impl Table {
    /// Every table, in the order in which a commit writes them.
    pub const ALL: [Self; 7] =
        [Self::Chunks, Self::Segments, Self::Quarantine, Self::Raft, Self::Records, Self::State, Self::Lane];

    /// Its name on disk and in messages.
    pub fn name(self) -> &'static str {
        Stored::Table(self).name()
    }
}

/// What lies in the store: the tables, and what the index keeps for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    Table(Table),
    /// The digest of each partition that isn't empty: partition (u32, big-endian) to `Digest`.
    Digests,
    /// Format, number of partitions, checkpoint.
    Facts,
}

impl Stored {
    pub(super) const COUNT: usize = 9;
    pub(super) const NAMES: [&str; Self::COUNT] =
        ["chunks", "segments", "quarantine", "raft", "records", "state", "lane", "digests", "facts"];

    pub(super) fn place(self) -> usize {
        match self {
            Self::Table(table) => table as usize,
            Self::Digests => 7,
            Self::Facts => 8,
        }
    }

    pub(super) fn name(self) -> &'static str {
        Self::NAMES[self.place()]
    }
}

/// The key of a Raft entry: entries of a slot lie together, in the order of their index. A slot's hard state may have the
/// slot alone (4 bytes) as its key: it stands before the slot's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RaftKey {
    /// The Raft group.
    pub slot: u32,
    /// The entry's index in the group's log.
    pub index: u64,
}

impl RaftKey {
    /// The key's bytes, in the order of slot, then index.
    pub fn encode(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.slot.to_be_bytes());
        bytes[4..].copy_from_slice(&self.index.to_be_bytes());
        bytes
    }

    /// `None` if these bytes are no such key.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (slot, index) = bytes.split_first_chunk()?;
        Some(Self { slot: u32::from_be_bytes(*slot), index: u64::from_be_bytes(index.try_into().ok()?) })
    }
}

#[test]
fn raft_keys_sort_by_slot_then_index() {
    let keys = [(0, u64::MAX), (1, 0), (1, 255), (1, 256), (256, 1)];
    let keys = keys.map(|(slot, index)| RaftKey { slot, index });
    assert!(keys.map(RaftKey::encode).is_sorted());
    for key in keys {
        assert_eq!(RaftKey::decode(&key.encode()), Some(key));
    }
    assert!(7_u32.to_be_bytes()[..] < RaftKey { slot: 7, index: 0 }.encode()[..], "the hard state comes first");
    assert_eq!(RaftKey::decode(&[0; 11]), None);
}

#[test]
fn each_table_has_its_place() {
    let places: Vec<usize> = Table::ALL.into_iter().map(|table| Stored::Table(table).place()).collect();
    assert_eq!(places, [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!((Table::Raft.name(), Stored::Digests.name(), Stored::Facts.name()), ("raft", "digests", "facts"));
}
