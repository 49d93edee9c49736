//! Says of most keys that aren't in a layer that they aren't, without a walk down its trees: two bits for each key that is.
//!
//! Most of what is looked up in a layer isn't there: a new object is looked for under two names before its row is put. It
//! forgets nothing, as a layer doesn't either, and grows by another, larger part: to hash all keys again would hold up
//! the core.

use super::table::Table;

/// Bits for each key, at least: then about one key in a hundred is looked for in vain because of a part.
const BITS_PER_KEY: usize = 16;
/// Bits of the first part.
const BITS_MIN: usize = 1 << 13;
/// How much larger the next is: four parts have room for all that one commit takes.
const GROWTH: usize = 8;

/// See the module.
#[derive(Default)]
pub struct Filter(Vec<Part>);

struct Part {
    /// A power of two of bits.
    words: Vec<u64>,
    /// Keys that were added.
    keys: usize,
}

/// A key's place in a part of any size.
#[derive(Clone, Copy)]
struct Hashed(u64);

/// Odd, with its bits well mixed: the golden ratio.
const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;

impl Hashed {
    /// It needs to be fast, not safe: who finds keys that collide makes them as slow as they were without a filter.
    fn new(table: Table, key: &[u8]) -> Self {
        let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(MULTIPLIER).rotate_left(29);
        let (words, rest) = key.as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        let hash = mix(key.len() as u64, table as u64);
        let hash = words.iter().fold(hash, |hash, word| mix(hash, u64::from_le_bytes(*word)));
        let hash = mix(hash, u64::from_le_bytes(last));
        Self((hash ^ hash >> 32).wrapping_mul(MULTIPLIER))
    }
}

impl Filter {
    /// Adds a key that wasn't there.
    pub fn add(&mut self, table: Table, key: &[u8]) {
        let key = Hashed::new(table, key);
        if self.0.last().is_none_or(Part::is_full) {
            let bits = self.0.last().map_or(BITS_MIN, |part| part.bits() * GROWTH);
            self.0.push(Part { words: vec![0; bits / 64], keys: 0 });
        }
        self.0.last_mut().into_iter().for_each(|part| part.add(key));
    }

    /// False: this key was never added.
    pub fn may_have(&self, table: Table, key: &[u8]) -> bool {
        let key = Hashed::new(table, key);
        self.0.iter().any(|part| part.may_have(key))
    }

    /// The memory it takes.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|part| part.bits() / 8).sum()
    }
}

impl Part {
    fn add(&mut self, key: Hashed) {
        self.keys += 1;
        for bit in self.bits_of(key) {
            self.words[bit / 64] |= 1 << (bit % 64);
        }
    }

    fn is_full(&self) -> bool {
        self.keys >= self.bits() / BITS_PER_KEY
    }

    fn may_have(&self, key: Hashed) -> bool {
        self.bits_of(key).into_iter().all(|bit| self.words[bit / 64] >> (bit % 64) & 1 == 1)
    }

    fn bits(&self) -> usize {
        self.words.len() * 64
    }

    /// Both of them near each other: one look at memory that isn't in the processor's cache.
    fn bits_of(&self, Hashed(hash): Hashed) -> [usize; 2] {
        let first = hash as usize & (self.bits() - 1);
        [first, first ^ ((hash >> 48) as usize % 511 + 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_there_and_most_else_is_not() {
        let key = |number: u32| format!("photos/2026/{number:08}").into_bytes();
        let mut filter = Filter::default();
        assert!(!filter.may_have(Table::State, &key(0)), "nothing is in an empty one");
        for number in 0..20_000 {
            filter.add(Table::State, &key(number));
            assert!(filter.may_have(Table::State, &key(number)));
        }
        assert!((0..20_000).all(|number| filter.may_have(Table::State, &key(number))));
        let vain = (20_000..40_000).filter(|number| filter.may_have(Table::State, &key(*number))).count();
        assert!(vain < 1_000, "{vain} of 20,000 are looked for in vain");
        assert!((filter.0.len(), filter.bytes()) == (3, (1 << 10) + (1 << 13) + (1 << 16)), "{}", filter.bytes());
    }

    #[test]
    fn keys_that_begin_alike_and_tables_differ() {
        let mut filter = Filter::default();
        filter.add(Table::State, b"abc");
        let others = [(Table::Raft, &b"abc"[..]), (Table::State, b"abc\0"), (Table::State, b"ab"), (Table::State, b"")];
        for (table, key) in others {
            assert!(!filter.may_have(table, key), "{table:?} {key:?}");
        }
    }
}
