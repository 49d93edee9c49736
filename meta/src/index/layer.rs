//! A layer of the overlay: updates not yet in the store, in order, visible.

use std::borrow::{Borrow, Cow};
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, btree_map};
use std::hash::{BuildHasher, Hasher};
use std::ops::{Bound, RangeBounds};

use super::filter::Filter;
use super::table::Table;

/// Bounds of a range of keys.
pub(super) type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Bytes that are mostly short: `N` of them fit without a heap allocation.
#[derive(Clone)]
pub(super) enum Small<const N: usize> {
    Inline { length: u8, bytes: [u8; N] },
    Heap(Box<[u8]>),
}

/// A Raft key, a record's name, the row of a key of 41 bytes: on the way down a tree they are looked at where they are.
type Key = Small<54>;

/// A chunk's entry, a place in the log.
type Value = Small<38>;

impl<const N: usize> Small<N> {
    fn new(from: Cow<'_, [u8]>) -> Self {
        if from.len() > N {
            return Self::Heap(from.into_owned().into_boxed_slice());
        }
        let mut bytes = [0; N];
        bytes[..from.len()].copy_from_slice(&from);
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

impl<const N: usize> Borrow<[u8]> for Small<N> {
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

impl<const N: usize> PartialEq for Small<N> {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl<const N: usize> Eq for Small<N> {}

impl<const N: usize> PartialOrd for Small<N> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<const N: usize> Ord for Small<N> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

/// What a layer has of a key.
#[derive(Clone)]
enum Change {
    Value(Value),
    Deleted,
}

impl Change {
    fn new(value: Option<Cow<'_, [u8]>>) -> Self {
        value.map_or(Self::Deleted, |value| Self::Value(Small::new(value)))
    }

    fn value(&self) -> Option<&[u8]> {
        match self {
            Self::Value(value) => Some(value.as_slice()),
            Self::Deleted => None,
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::Value(value) => value.heap_bytes(),
            Self::Deleted => 0,
        }
    }
}

const _: () = assert!(size_of::<Key>() == 56 && size_of::<Change>() == 40);

type Entries = BTreeMap<Key, Change>;

/// Keys in parts by their first four bytes, which name a slot in the tables that have most: a part is small, so that few keys are
/// looked at on the way down, and those are in the caches if the slot was asked for just now.
#[derive(Default)]
struct Tree(BTreeMap<u32, Entries>);

/// The first four bytes of a key, so that parts sort as keys do.
fn head(key: &[u8]) -> u32 {
    let mut head = [0; 4];
    let length = key.len().min(4);
    head[..length].copy_from_slice(&key[..length]);
    u32::from_be_bytes(head)
}

impl Tree {
    fn entry(&mut self, key: &[u8]) -> btree_map::Entry<'_, Key, Change> {
        self.0.entry(head(key)).or_default().entry(Small::new(key.into()))
    }

    fn get(&self, key: &[u8]) -> Option<&Change> {
        self.0.get(&head(key))?.get(key)
    }

    fn range<'l>(&'l self, bounds: Bounds<'l>) -> impl DoubleEndedIterator<Item = (&'l Key, &'l Change)> {
        let part = |bound: Bound<&[u8]>, otherwise| match bound {
            Bound::Included(key) | Bound::Excluded(key) => head(key),
            Bound::Unbounded => otherwise,
        };
        let parts = self.0.range(part(bounds.0, 0)..=part(bounds.1, u32::MAX));
        parts.flat_map(move |(_, entries)| entries.range::<[u8], _>(bounds))
    }
}

/// What a layer says of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says<'a> {
    Value(&'a [u8]),
    Deleted,
    /// Ask what lies below.
    Nothing,
}

/// Memory of an entry beside what its key and value have on the heap: a tree's nodes are two thirds full.
const ENTRY_BYTES: usize = (size_of::<Key>() + size_of::<Change>()) * 3 / 2;

/// Updates of all tables; a later one of a key replaces an earlier one.
#[derive(Default)]
pub(super) struct Layer {
    /// All but chunks.
    tables: [Tree; Table::ALL.len()],
    /// How many keys these have.
    count: usize,
    /// Of the keys of these.
    filter: Filter,
    chunks: Chunks,
    heap_bytes: usize,
}

impl Layer {
    pub(super) fn entries(&self) -> usize {
        self.count + self.chunks.count
    }

    /// The memory it holds, about.
    pub(super) fn bytes(&self) -> usize {
        self.entries() * ENTRY_BYTES + self.heap_bytes + self.filter.bytes()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries() == 0
    }

    /// `None` for the value: the key is deleted.
    pub(super) fn put(&mut self, table: Table, key: &[u8], value: Option<Cow<'_, [u8]>>) {
        let change = Change::new(value);
        let added = change.heap_bytes();
        if let (Table::Chunks, Ok(name)) = (table, key.try_into()) {
            let before = self.chunks.put(name, change);
            self.heap_bytes = self.heap_bytes + added - before.as_ref().map_or(0, Change::heap_bytes);
            return;
        }
        match self.tables[table as usize].entry(key) {
            btree_map::Entry::Vacant(vacant) => {
                self.heap_bytes += added + vacant.key().heap_bytes();
                vacant.insert(change);
                self.count += 1;
                self.filter.add(table, key);
            }
            btree_map::Entry::Occupied(mut occupied) => {
                self.heap_bytes = self.heap_bytes + added - occupied.insert(change).heap_bytes();
            }
        }
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> Says<'_> {
        let entry = match table {
            Table::Chunks => self.chunks.get(key),
            _ if !self.filter.may_have(table, key) => None,
            _ => self.tables[table as usize].get(key),
        };
        match entry {
            Some(Change::Value(value)) => Says::Value(value.as_slice()),
            Some(Change::Deleted) => Says::Deleted,
            None => Says::Nothing,
        }
    }

    /// The entries of a table within bounds, which must not be the wrong way round.
    pub(super) fn range<'l>(
        &'l self,
        table: Table,
        bounds: Bounds<'l>,
    ) -> impl DoubleEndedIterator<Item = (&'l [u8], Option<&'l [u8]>)> {
        let chunks = (table == Table::Chunks).then(|| self.chunks.range(bounds));
        let others = self.tables[table as usize].range(bounds);
        let others = others.map(|(key, change)| (key.as_slice(), change.value()));
        chunks.into_iter().flatten().chain(others)
    }
}

type Name = [u8; 32];

/// Chunks by name: every put and get of a chunk asks for one of them, few ask for them in order. So they are hashed, in
/// parts by the first byte of the name, of which a range sorts those that it comes to; small parts also grow without
/// holding up the core.
struct Chunks {
    parts: Vec<HashMap<Name, Change, NameHash>>,
    count: usize,
}

const PARTS: usize = 1 << u8::BITS;

impl Default for Chunks {
    fn default() -> Self {
        Self { parts: vec![HashMap::default(); PARTS], count: 0 }
    }
}

impl Chunks {
    fn put(&mut self, name: Name, change: Change) -> Option<Change> {
        let before = self.parts[usize::from(name[0])].insert(name, change);
        self.count += usize::from(before.is_none());
        before
    }

    fn get(&self, name: &[u8]) -> Option<&Change> {
        let name: &Name = name.try_into().ok()?;
        self.parts[usize::from(name[0])].get(name)
    }

    fn range<'l>(&'l self, bounds: Bounds<'l>) -> impl DoubleEndedIterator<Item = (&'l [u8], Option<&'l [u8]>)> {
        let first = |bound: Bound<&[u8]>, otherwise| match bound {
            Bound::Included(key) | Bound::Excluded(key) => key.first().map_or(0, |byte| usize::from(*byte)),
            Bound::Unbounded => otherwise,
        };
        let parts = first(bounds.0, 0)..=first(bounds.1, PARTS - 1);
        parts.flat_map(move |part| {
            let within =
                self.parts[part].iter().filter(move |(name, _)| RangeBounds::<[u8]>::contains(&bounds, &name[..]));
            let mut sorted: Vec<(&Name, &Change)> = within.collect();
            sorted.sort_unstable_by_key(|(name, _)| *name);
            sorted.into_iter().map(|(name, change)| (&name[..], change.value()))
        })
    }
}

/// A chunk's name is a hash already: some of its bytes are taken, but not the first, which one part has in common.
#[derive(Clone, Copy, Default)]
struct NameHash(u64);

impl BuildHasher for NameHash {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self(0)
    }
}

impl Hasher for NameHash {
    fn write(&mut self, bytes: &[u8]) {
        // Arrays tell their length first; that says nothing.
        if let Some(bytes) = bytes.get(8..16) {
            self.0 = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
        }
    }

    fn finish(&self) -> u64 {
        self.0
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
    fn chunks_are_found_by_name_and_shown_in_order() {
        let mut layer = Layer::default();
        let mut expected = BTreeMap::new();
        for number in 0..5000_u64 {
            let value = (number % 7 != 0).then(|| number.to_le_bytes());
            layer.put(Table::Chunks, &name(number), value.as_ref().map(|value| value[..].into()));
            expected.insert(name(number).to_vec(), value.map(|value| value.to_vec()));
        }
        assert_eq!((layer.entries(), layer.get(Table::Chunks, &name(5000))), (5000, Says::Nothing));
        assert_eq!(layer.get(Table::Chunks, &name(7)), Says::Deleted);
        assert_eq!(layer.get(Table::Chunks, &name(8)), Says::Value(&8_u64.to_le_bytes()));
        let (low, high) = (name(17).min(name(99)), name(17).max(name(99)));
        let bounds = [
            (Bound::Unbounded, Bound::Unbounded),
            (Bound::Included(&low[..]), Bound::Excluded(&high[..])),
            (Bound::Excluded(&low[..]), Bound::Included(&high[..])),
            (Bound::Included(&low[..8]), Bound::Excluded(&high[..8])),
            (Bound::Unbounded, Bound::Excluded(&low[..1])),
        ];
        for bounds in bounds {
            let seen = layer.range(Table::Chunks, bounds).map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec)));
            let seen: Vec<_> = seen.collect();
            let wanted = expected.range::<[u8], _>(bounds).map(|(key, value)| (key.clone(), value.clone()));
            assert!(seen.iter().cloned().eq(wanted), "{bounds:?}");
            let backward = layer.range(Table::Chunks, bounds).rev().map(|(key, _)| key.to_vec());
            assert!(backward.eq(seen.into_iter().rev().map(|(key, _)| key)), "{bounds:?} backward");
        }
    }

    #[test]
    fn bytes_held_are_counted_off_again() {
        let mut layer = Layer::default();
        let long = [7; 300];
        layer.put(Table::Records, &long, Some(long[..].into()));
        assert_eq!((layer.entries(), layer.heap_bytes), (1, 600));
        layer.put(Table::Records, &long, Some(b"short"[..].into()));
        assert_eq!((layer.entries(), layer.heap_bytes), (1, 300));
        layer.put(Table::Records, &long, None);
        assert_eq!(layer.get(Table::Records, &long), Says::Deleted);
        assert_eq!((layer.entries(), layer.heap_bytes), (1, 300), "a deletion is an entry too");
    }

    #[test]
    fn short_and_long_keys_sort_alike() {
        let mut layer = Layer::default();
        let keys = [vec![1], vec![1, 0], vec![1; 54], vec![1; 55], vec![1, 2], vec![2, 0, 0, 0], vec![2; 100], vec![3]];
        keys.iter().rev().for_each(|key| layer.put(Table::State, key, Some(key.into())));
        for (from, low) in keys.iter().enumerate() {
            for (to, high) in keys.iter().enumerate().skip(from) {
                let bounds = (Bound::Included(&low[..]), Bound::Included(&high[..]));
                let seen: Vec<Vec<u8>> = layer.range(Table::State, bounds).map(|(key, _)| key.to_vec()).collect();
                assert_eq!(seen, keys[from..=to], "{low:?} to {high:?}");
                let bounds = (Bound::Excluded(&low[..]), Bound::Unbounded);
                let behind = layer.range(Table::State, bounds).rev().map(|(key, _)| key.to_vec());
                assert!(behind.eq(keys[from + 1..].iter().rev().cloned()), "behind {low:?}");
            }
        }
    }
}
