//! A layer of the overlay: updates not yet in the store, in order, visible.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map;
use std::ops::Bound;

use super::table::Table;

/// Bounds of a range of keys.
pub(super) type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// What fits without a heap allocation: a chunk's name, its entry, a Raft key.
const INLINE: usize = 38;

/// Bytes that are mostly short.
pub(super) enum Small {
    Inline { length: u8, bytes: [u8; INLINE] },
    Heap(Box<[u8]>),
}

const _: () = assert!(size_of::<Small>() == 40 && size_of::<Option<Small>>() == 40);

impl Small {
    fn new(from: &[u8]) -> Self {
        if from.len() > INLINE {
            return Self::Heap(from.into());
        }
        let mut bytes = [0; INLINE];
        bytes[..from.len()].copy_from_slice(from);
        Self::Inline { length: from.len() as u8, bytes }
    }

    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Inline { length, bytes } => &bytes[..usize::from(*length)],
            Self::Heap(bytes) => bytes,
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::Inline { .. } => 0,
            Self::Heap(bytes) => bytes.len(),
        }
    }
}

impl Borrow<[u8]> for Small {
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

impl PartialEq for Small {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Small {}

impl PartialOrd for Small {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Small {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

/// `None` stands for a key that is deleted.
type Entries = BTreeMap<Small, Option<Small>>;

/// What a layer says of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says<'a> {
    Value(&'a [u8]),
    Deleted,
    /// Ask what lies below.
    Nothing,
}

/// Memory of an entry beside what its key and value have on the heap: a tree's nodes are two thirds full.
const ENTRY_BYTES: usize = 2 * size_of::<Small>() * 3 / 2;

/// Updates of all tables; a later one of a key replaces an earlier one.
#[derive(Default)]
pub(super) struct Layer {
    tables: [Entries; Table::ALL.len()],
    /// Which chunks are surely not here: a layer has few of a lane's chunks, and a search in vain costs a third to a half
    /// of one in LMDB.
    chunks: Filter,
    heap_bytes: usize,
}

impl Layer {
    pub(super) fn entries(&self) -> usize {
        self.tables.iter().map(BTreeMap::len).sum()
    }

    /// The memory it holds, about.
    pub(super) fn bytes(&self) -> usize {
        self.entries() * ENTRY_BYTES + self.heap_bytes + self.chunks.bytes()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tables.iter().all(BTreeMap::is_empty)
    }

    /// `None` for the value: the key is deleted.
    pub(super) fn put(&mut self, table: Table, key: &[u8], value: Option<&[u8]>) {
        let entries = &mut self.tables[table as usize];
        let (key, value) = (Small::new(key), value.map(Small::new));
        if table == Table::Chunks && !self.chunks.add(key.as_slice()) {
            let keys = entries.keys().map(Small::as_slice).chain([key.as_slice()]);
            self.chunks = Filter::with(2 * (entries.len() + 1), keys);
        }
        let heap = |value: &Option<Small>| value.as_ref().map_or(0, Small::heap_bytes);
        let added = heap(&value);
        match entries.entry(key) {
            btree_map::Entry::Vacant(vacant) => {
                self.heap_bytes += added + vacant.key().heap_bytes();
                vacant.insert(value);
            }
            btree_map::Entry::Occupied(mut occupied) => {
                self.heap_bytes = self.heap_bytes + added - heap(&occupied.insert(value));
            }
        }
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> Says<'_> {
        let entries = &self.tables[table as usize];
        if entries.is_empty() || table == Table::Chunks && !self.chunks.may_have(key) {
            return Says::Nothing;
        }
        match entries.get(key) {
            Some(Some(value)) => Says::Value(value.as_slice()),
            Some(None) => Says::Deleted,
            None => Says::Nothing,
        }
    }

    /// The entries of a table within bounds, which must not be the wrong way round.
    pub(super) fn range(
        &self,
        table: Table,
        bounds: Bounds<'_>,
    ) -> impl DoubleEndedIterator<Item = (&[u8], Option<&[u8]>)> {
        let range = self.tables[table as usize].range::<[u8], _>(bounds);
        range.map(|(key, value)| (key.as_slice(), value.as_ref().map(Small::as_slice)))
    }
}

/// A Bloom filter with two probes. Chunks' names are hashes already, so their bytes are the probes.
#[derive(Default)]
struct Filter {
    words: Vec<u64>,
    /// How many keys it may yet take before it is too full to be of use.
    room: usize,
}

/// So that one search in vain of seventy is made after all.
const BITS_PER_KEY: usize = 16;

impl Filter {
    fn with<'a>(room: usize, keys: impl Iterator<Item = &'a [u8]>) -> Self {
        let room = room.next_power_of_two().max(1024);
        let mut filter = Self { words: vec![0; room * BITS_PER_KEY / 64], room };
        keys.for_each(|key| {
            filter.add(key);
        });
        filter
    }

    fn bytes(&self) -> usize {
        self.words.len() * 8
    }

    /// Where the probes of a key are; not its first bytes, which a lane's share of partitions may have in common.
    fn probes(&self, key: &[u8]) -> [(usize, u64); 2] {
        let bytes = key.get(8..24).unwrap_or(&[0; 16]);
        let probe = |from: usize| {
            let number = u64::from_le_bytes(bytes[from..from + 8].try_into().unwrap_or_default());
            ((number >> 6) as usize & (self.words.len() - 1), 1 << (number & 63))
        };
        [probe(0), probe(8)]
    }

    /// `false`: it is full.
    fn add(&mut self, key: &[u8]) -> bool {
        if self.room == 0 {
            return false;
        }
        self.room -= 1;
        self.probes(key).into_iter().for_each(|(word, bit)| self.words[word] |= bit);
        true
    }

    fn may_have(&self, key: &[u8]) -> bool {
        !self.words.is_empty() && self.probes(key).into_iter().all(|(word, bit)| self.words[word] & bit != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u64) -> [u8; 32] {
        let mut name = [0; 32];
        for (at, bytes) in (1..).zip(name.chunks_mut(8)) {
            bytes.copy_from_slice(&(number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(at)).to_le_bytes());
        }
        name
    }

    #[test]
    fn no_chunk_is_hidden_by_the_filter() {
        let mut layer = Layer::default();
        for number in 0..5000 {
            layer.put(Table::Chunks, &name(number), Some(&number.to_le_bytes()));
        }
        for number in 0..5000 {
            assert_eq!(layer.get(Table::Chunks, &name(number)), Says::Value(&number.to_le_bytes()));
        }
        let suspected = (5000..15000).filter(|number| layer.chunks.may_have(&name(*number))).count();
        assert!(suspected < 1000, "{suspected} of 10000 strangers pass");
    }

    #[test]
    fn bytes_held_are_counted_off_again() {
        let mut layer = Layer::default();
        let long = [7; 300];
        layer.put(Table::Records, &long, Some(&long));
        assert_eq!((layer.entries(), layer.heap_bytes), (1, 600));
        layer.put(Table::Records, &long, Some(b"short"));
        assert_eq!((layer.entries(), layer.heap_bytes), (1, 300));
        layer.put(Table::Records, &long, None);
        assert_eq!(layer.get(Table::Records, &long), Says::Deleted);
        assert_eq!((layer.entries(), layer.heap_bytes), (1, 300), "a deletion is an entry too");
    }

    #[test]
    fn short_and_long_keys_sort_alike() {
        let mut layer = Layer::default();
        let keys = [vec![1], vec![1; 38], vec![1; 39], vec![1, 2], vec![2; 100], vec![3]];
        keys.iter().rev().for_each(|key| layer.put(Table::State, key, Some(key)));
        let range = layer.range(Table::State, (Bound::Unbounded, Bound::Unbounded));
        assert!(range.map(|(key, _)| key.to_vec()).eq(keys));
    }
}
