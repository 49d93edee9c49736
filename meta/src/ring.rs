//! A list of which the oldest entries go by themselves: markers, and hints for others.
//!
//! Rows: `list` number → key and value; `entry` key → number and value, where there is a key to find it by; `list` alone →
//! the next number and the oldest. It needs no clock: how many entries it keeps is a number. Where a time is given it
//! only lets old entries go earlier, never below a number that is kept in any case, so that a wrong clock costs little.

use std::ops::Bound;

use minicbor::{Decode, Encode};

use crate::encoding::{encode, row};
use crate::index::{Error, Order};
use crate::rows::{Batch, Rows};

/// A list of that kind.
#[derive(Clone, Copy, Debug)]
pub struct Ring {
    /// First byte of the rows in order.
    list: u8,
    /// First byte of the rows by key; `None`: nobody looks for an entry.
    entry: Option<u8>,
    /// The most entries.
    max: u64,
    /// So many stay whatever their age.
    min: u64,
    /// Older ones go, in milliseconds.
    age: u64,
    /// Most keys begin with the time, so that they come in order: then what is new needn't be looked for.
    rises: bool,
}

/// Answers to commands with a token: what a client retries, it retries soon.
pub const TOKENS: Ring =
    Ring { list: b't', entry: Some(b'T'), max: 1 << 16, min: 1 << 10, age: 15 * 60 * 1000, rises: true };

/// Imports: a node may come back late to ask again, so age doesn't matter.
pub const IMPORTS: Ring =
    Ring { list: b'i', entry: Some(b'I'), max: 1 << 20, min: 1 << 20, age: u64::MAX, rises: false };

/// Chunks that ceased to be referenced. Hints: what is lost of them a full mark finds.
pub const RELEASED: Ring = Ring { list: b'r', entry: None, max: 1 << 12, min: 1 << 12, age: u64::MAX, rises: false };

/// So many old entries go for each new one, so that no command pays for many.
const GO: usize = 2;

#[derive(Clone, Debug, Default, Encode, Decode)]
struct Ends {
    #[n(0)]
    next: u64,
    #[n(1)]
    oldest: u64,
    /// The greatest of the keys that rise; `None`: there was none, or earlier programs have written some.
    #[cbor(n(2), with = "minicbor::bytes")]
    greatest: Option<Vec<u8>>,
    /// The time of the oldest, if it was looked at: it needn't be read again to know that it isn't due.
    #[n(3)]
    since: Option<u64>,
}

impl Ends {
    /// Whether no key that rises is as great as this one.
    fn are_before(&self, key: &[u8]) -> bool {
        self.greatest.as_ref().map_or(self.next == self.oldest, |greatest| key > greatest.as_slice())
    }
}

#[derive(Debug, Encode, Decode)]
struct Listed<'b> {
    #[cbor(b(0), with = "minicbor::bytes")]
    key: &'b [u8],
    #[n(1)]
    time: u64,
    #[cbor(b(2), with = "minicbor::bytes")]
    value: &'b [u8],
}

/// An entry in order: its number and its value.
pub type Numbered = (u64, Vec<u8>);

impl Ring {
    fn numbered(self, number: u64) -> Vec<u8> {
        [&[self.list][..], &number.to_be_bytes()].concat()
    }

    /// Whether a key is of those that rise; those that don't begin with this bit.
    fn rises_by(self, key: &[u8]) -> bool {
        self.rises && key.first().is_some_and(|first| *first < 0x80)
    }

    fn keyed(self, key: &[u8]) -> Option<Vec<u8>> {
        self.entry.map(|space| [&[space][..], key].concat())
    }

    /// The value under a key.
    pub fn find(self, rows: &dyn Rows, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        if self.rises_by(key) && self.ends(rows)?.are_before(key) {
            return Ok(None);
        }
        let keyed = self.keyed(key);
        let found = keyed.as_ref().map(|keyed| rows.get(keyed)).transpose()?.flatten();
        Ok(found.and_then(|found| found.get(8..).map(<[u8]>::to_vec)))
    }

    fn ends(self, rows: &dyn Rows) -> Result<Ends, Error> {
        let key = [self.list];
        rows.get(&key)?.map_or(Ok(Ends::default()), |bytes| row(&key, &bytes))
    }

    /// Adds an entry, and lets old ones go.
    pub fn push(self, rows: &mut Batch<'_>, key: &[u8], value: &[u8], time: u64) -> Result<(), Error> {
        let mut ends = self.ends(rows)?;
        if self.rises_by(key) && ends.are_before(key) {
            ends.greatest = Some(key.to_vec());
        }
        if let Some(keyed) = self.keyed(key) {
            rows.put(keyed, [&ends.next.to_be_bytes()[..], value].concat());
        }
        // By number there is only what nobody finds by key.
        let value = if self.entry.is_some() { &[] } else { value };
        rows.put(self.numbered(ends.next), encode(&Listed { key, time, value }));
        ends.next += 1;
        for _ in 0..GO {
            if !self.let_go(rows, &mut ends, time)? {
                break;
            }
        }
        rows.put([self.list], encode(&ends));
        Ok(())
    }

    fn let_go(self, rows: &mut Batch<'_>, ends: &mut Ends, now: u64) -> Result<bool, Error> {
        let entries = ends.next - ends.oldest;
        if entries <= self.min.min(self.max) {
            return Ok(false);
        }
        let stays = |since: u64| entries <= self.max && now.saturating_sub(since) < self.age;
        if ends.since.is_some_and(stays) {
            return Ok(false);
        }
        let number = ends.oldest;
        let numbered = self.numbered(number);
        if let Some(bytes) = rows.get(&numbered)? {
            let listed: Listed<'_> = row(&numbered, &bytes)?;
            if stays(listed.time) {
                ends.since = Some(listed.time);
                return Ok(false);
            }
            if let Some(keyed) = self.keyed(listed.key) {
                // The key may have come again under a later number.
                let found = rows.get(&keyed)?;
                if found.is_some_and(|found| found.starts_with(&number.to_be_bytes())) {
                    rows.delete(keyed);
                }
            }
            rows.delete(numbered);
        }
        (ends.oldest, ends.since) = (number + 1, None);
        Ok(true)
    }

    /// Up to so many of the oldest entries.
    pub fn oldest(self, rows: &dyn Rows, most: usize) -> Result<Vec<Numbered>, Error> {
        let mut found = Vec::new();
        let mut bad = None;
        let first = self.numbered(0);
        let range = (Bound::Included(first.as_slice()), Bound::Excluded(&[self.list + 1][..]));
        rows.walk(range, Order::Forward, &mut |key, bytes| {
            if found.len() >= most {
                return std::ops::ControlFlow::Break(());
            }
            match (key[1..].try_into(), row::<Listed<'_>>(key, bytes)) {
                (Ok(number), Ok(listed)) => found.push((u64::from_be_bytes(number), listed.value.to_vec())),
                (_, listed) => bad = listed.err().or_else(|| Some(Error::row(key, "a number has 8 bytes"))),
            }
            std::ops::ControlFlow::Continue(())
        })?;
        bad.map_or(Ok(found), Err)
    }

    /// Forgets all entries with numbers up to this one. Returns how many there were.
    pub fn forget(self, rows: &mut Batch<'_>, up_to: u64) -> Result<u64, Error> {
        let mut ends = self.ends(rows)?;
        let end = ends.next.min(up_to.saturating_add(1));
        let gone = end.saturating_sub(ends.oldest);
        for number in ends.oldest..end {
            rows.delete(self.numbered(number));
        }
        (ends.oldest, ends.since) = (ends.oldest.max(end), None);
        rows.put([self.list], encode(&ends));
        Ok(gone)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const SMALL: Ring = Ring { list: b'x', entry: Some(b'X'), max: 8, min: 3, age: 100, rises: false };

    fn push(map: &mut BTreeMap<Vec<u8>, Vec<u8>>, ring: Ring, key: &[u8], time: u64) {
        let mut batch = Batch::new(map);
        ring.push(&mut batch, key, &[b"=", key].concat(), time).unwrap();
        for (key, value) in batch.into_changes() {
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
    }

    #[test]
    fn the_newest_stay_and_age_only_helps() {
        let mut map = BTreeMap::new();
        for number in 0_u8..20 {
            push(&mut map, SMALL, &[number], 0);
        }
        let there = |map: &BTreeMap<_, _>| -> Vec<u8> {
            (0..=255).filter(|key| SMALL.find(map, &[*key]).unwrap() == Some(vec![b'=', *key])).collect()
        };
        assert_eq!(there(&map), [12, 13, 14, 15, 16, 17, 18, 19]);
        for number in 20_u8..30 {
            push(&mut map, SMALL, &[number], u64::MAX);
        }
        let late = there(&map);
        assert!(late.len() >= 3 && late.contains(&29) && !late.contains(&12), "a clock gone mad leaves {late:?}");
        push(&mut map, SMALL, &[29], 0);
        for number in 30_u8..36 {
            push(&mut map, SMALL, &[number], 0);
        }
        assert!(there(&map).contains(&29), "it came again");
        assert!(map.len() <= 2 * 8 + 1, "{} rows", map.len());
    }

    /// Rows that count how often they are asked for an entry by its key.
    struct Asked<'m>(&'m BTreeMap<Vec<u8>, Vec<u8>>, std::cell::Cell<u32>);

    impl Rows for Asked<'_> {
        fn lend(&self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
            self.1.set(self.1.get() + u32::from(key.first() == Some(&b'X')));
            self.0.lend(key, read)
        }

        fn walk(
            &self,
            range: crate::rows::Range<'_>,
            order: Order,
            visit: &mut crate::rows::Visit<'_>,
        ) -> Result<(), Error> {
            self.0.walk(range, order, visit)
        }
    }

    #[test]
    fn what_rises_is_only_looked_for_where_it_may_be() {
        let ring = Ring { rises: true, ..SMALL };
        let mut map = BTreeMap::new();
        let asked = |map: &BTreeMap<_, _>, key: u8| {
            let rows = Asked(map, std::cell::Cell::new(0));
            let found = ring.find(&rows, &[key]).unwrap();
            (found.is_some(), rows.1.get())
        };
        assert_eq!(asked(&map, 3), (false, 0), "nothing is there");
        for key in [3, 7, 5, 0x90] {
            push(&mut map, ring, &[key], 0);
        }
        assert_eq!([3, 5, 7].map(|key| asked(&map, key)), [(true, 1); 3], "in whatever order they came");
        assert_eq!([4, 6].map(|key| asked(&map, key)), [(false, 1); 2]);
        assert_eq!([8, 0x7f].map(|key| asked(&map, key)), [(false, 0); 2]);
        assert_eq!(
            [0x90, 0xa0].map(|key| asked(&map, key)),
            [(true, 1), (false, 1)],
            "what doesn't rise hinders nothing"
        );
        // What earlier programs wrote may be anything.
        let ends = ring.ends(&map).unwrap();
        map.insert(vec![b'x'], encode(&(ends.next, ends.oldest)));
        assert_eq!([7, 8].map(|key| asked(&map, key)), [(true, 1), (false, 1)]);
        push(&mut map, ring, &[9], 0);
        assert_eq!([7, 9, 10].map(|key| asked(&map, key)), [(true, 1), (true, 1), (false, 1)]);
    }

    #[test]
    fn entries_are_taken_from_the_old_end() {
        let ring = Ring { entry: None, ..SMALL };
        let mut map = BTreeMap::new();
        for number in 0_u8..4 {
            push(&mut map, ring, &[number], 0);
        }
        assert_eq!(ring.oldest(&map, 2).unwrap(), [(0, b"=\0".to_vec()), (1, b"=\x01".to_vec())]);
        let mut batch = Batch::new(&map);
        assert_eq!(ring.forget(&mut batch, 1).unwrap(), 2);
        assert_eq!(ring.forget(&mut batch, 1).unwrap(), 0);
        assert_eq!(ring.oldest(&batch, 9).unwrap().len(), 2);
        assert_eq!(ring.forget(&mut batch, u64::MAX).unwrap(), 2);
    }
}
