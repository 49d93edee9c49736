//! Lists against naive ones, over several slots, page by page, while others write; and that prefixes are not scanned.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use cairn_meta::index::{Error, Order};
use cairn_meta::rows::{Range, Rows, Visit};
use cairn_meta::slot::command::{Command, CreateUpload, Versioning};
use cairn_meta::slot::list::{Item, Listed, Page, Position, Query, merge, objects, uploads, versions};
use cairn_meta::version::{Content, UploadId};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::world::{BUCKET, Map, World};

const SLOTS: usize = 3;

/// Slots whose keys are spread by their bytes.
struct Slots(Vec<World>);

impl Slots {
    fn new() -> Self {
        Self((0..SLOTS).map(|_| World::new(Versioning::Enabled)).collect())
    }

    fn of(&mut self, key: &str) -> &mut World {
        let slot = key.bytes().fold(0, |sum: usize, byte| sum * 31 + usize::from(byte)) % SLOTS;
        &mut self.0[slot]
    }

    /// A page of all slots.
    fn page<T: Listed>(&self, query: &Query, list: impl Fn(&dyn Rows, &Query) -> Result<Page<T>, Error>) -> Page<T> {
        merge(self.0.iter().map(|world| list(&world.rows, query).unwrap()).collect(), query.limit)
    }

    /// All pages, as names and places; every page but the last is full.
    fn all<T: Listed>(
        &self,
        mut query: Query,
        list: impl Fn(&dyn Rows, &Query) -> Result<Page<T>, Error>,
    ) -> Vec<(Position, bool)> {
        let mut all = Vec::new();
        for _ in 0..1000 {
            let page = self.page(&query, &list);
            assert!(page.next.is_none() || page.items.len() == query.limit as usize, "a page that isn't full");
            all.extend(page.items.iter().map(|item| (item.position(), matches!(item, Item::Prefix(_)))));
            match page.next {
                None => return all,
                next => query.after = next,
            }
        }
        panic!("the list has no end: {all:?}")
    }
}

/// What a list shows of these, by the book.
fn naive(all: &[Position], query: &Query) -> Vec<(Position, bool)> {
    let mut shown: Vec<(Position, bool)> = Vec::new();
    for position in all {
        let Some(rest) = position.name.strip_prefix(&query.prefix) else { continue };
        let delimiter = rest.find(&query.delimiter).filter(|_| !query.delimiter.is_empty());
        let item = match delimiter {
            Some(at) => {
                let end = query.prefix.len() + at + query.delimiter.len();
                (Position::behind(&position.name[..end]), true)
            }
            None => (position.clone(), false),
        };
        if shown.last() != Some(&item) {
            shown.push(item);
        }
    }
    shown
}

/// A page ends behind a key if that is wanted, with all that there is of the key, and doesn't say that it was the last.
fn ends_where_it_is_told_to<T: Listed>(
    slots: &Slots,
    upto: &str,
    all: &[Position],
    list: impl Fn(&dyn Rows, &Query) -> Result<Page<T>, Error>,
) {
    let query = Query { bucket: BUCKET, limit: 1000, upto: Some(upto.to_owned()), ..Query::default() };
    let page = slots.page(&query, list);
    let shown: Vec<Position> = page.items.iter().map(Item::position).collect();
    let expected: Vec<Position> = all.iter().filter(|position| position.name.as_str() <= upto).cloned().collect();
    assert_eq!((shown, page.next), (expected, Some(Position::behind(upto))));
}

fn key() -> impl Strategy<Value = String> {
    "[ab/é]{1,5}"
}

fn query() -> impl Strategy<Value = Query> {
    ("[ab/é]{0,2}", prop_oneof![Just(""), Just("/"), Just("b"), Just("é/")], 1_u32..6).prop_map(
        |(prefix, delimiter, limit)| Query {
            bucket: BUCKET,
            prefix,
            delimiter: delimiter.to_owned(),
            limit,
            ..Query::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn lists_are_what_naive_ones_are(
        writes in vec((key(), any::<bool>()), 0..40),
        begun in vec(key(), 0..20),
        (query, upto) in (query(), key()),
    ) {
        let mut slots = Slots::new();
        let mut keys: BTreeMap<String, Vec<Position>> = BTreeMap::new();
        let mut there = BTreeSet::new();
        for (key, deletes) in &writes {
            let world = slots.of(key);
            let committed = if *deletes { world.delete(key) } else { world.put(key, "x") };
            keys.entry(key.clone()).or_default().insert(0, Position::version(key.as_str(), committed.id.unwrap()));
            if *deletes { there.remove(key) } else { there.insert(key.clone()) };
        }
        let mut uploading = BTreeSet::new();
        for (number, key) in (1..).zip(&begun) {
            let world = slots.of(key);
            let (place, upload) = (world.place(key), UploadId(number));
            world.apply(Command::CreateUpload(CreateUpload { place, upload, content: Content::default() })).unwrap();
            uploading.insert((key.clone(), number));
        }
        let all: Vec<Position> = there.iter().map(Position::behind).collect();
        prop_assert_eq!(slots.all(query.clone(), objects), naive(&all, &query));
        ends_where_it_is_told_to(&slots, &upto, &all, objects);
        let all: Vec<Position> = keys.into_values().flatten().collect();
        prop_assert_eq!(slots.all(query.clone(), versions), naive(&all, &query));
        ends_where_it_is_told_to(&slots, &upto, &all, versions);
        let all: Vec<Position> =
            uploading.into_iter().map(|(key, number)| Position::upload(key, UploadId(number))).collect();
        prop_assert_eq!(slots.all(query.clone(), uploads), naive(&all, &query));
        ends_where_it_is_told_to(&slots, &upto, &all, uploads);
    }

    /// B16: what is there all the time is listed once, whatever others do between two pages.
    #[test]
    fn pages_are_stable_while_others_write(
        kept in proptest::collection::btree_set(key(), 1..15),
        others in vec((key(), any::<bool>()), 0..40),
        limit in 1_u32..4,
    ) {
        let mut slots = Slots::new();
        for key in &kept {
            slots.of(key).put(key, "x");
        }
        let mut others = others.into_iter().filter(|(key, _)| !kept.contains(key));
        let mut query = Query { bucket: BUCKET, limit, ..Query::default() };
        let mut seen = Vec::new();
        loop {
            let page = slots.page(&query, objects);
            seen.extend(page.items.iter().map(|item| item.position().name).filter(|name| kept.contains(name)));
            for (key, deletes) in others.by_ref().take(5) {
                let world = slots.of(&key);
                if deletes { world.delete(&key) } else { world.put(&key, "y") };
            }
            match page.next {
                None => break,
                next => query.after = next,
            }
        }
        prop_assert_eq!(seen, kept.into_iter().collect::<Vec<_>>());
    }

    /// A client may begin anywhere, with a name that is part of a common prefix, too: that is shown already.
    #[test]
    fn a_list_begins_behind_any_name(keys in proptest::collection::btree_set(key(), 0..30), after in key(), query in query()) {
        let mut slots = Slots::new();
        for key in &keys {
            slots.of(key).put(key, "x");
        }
        let all: Vec<Position> = keys.iter().map(Position::behind).collect();
        let mut expected = naive(&all, &query);
        let begins = |(shown, is_prefix): &(Position, bool)| {
            shown.name > after && !(*is_prefix && after.starts_with(&shown.name))
        };
        expected.retain(begins);
        let from = Query { after: Some(Position::behind(after.as_str())), ..query };
        prop_assert_eq!(slots.all(from, objects), expected);
    }
}

/// Rows that count how many of them are looked at.
struct Counted<'m>(&'m Map, Cell<usize>);

impl Rows for Counted<'_> {
    fn lend(&self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        self.1.set(self.1.get() + 1);
        self.0.lend(key, read)
    }

    fn walk(&self, range: Range<'_>, order: Order, visit: &mut Visit<'_>) -> Result<(), Error> {
        self.0.walk(range, order, &mut |key, value| {
            self.1.set(self.1.get() + 1);
            visit(key, value)
        })
    }
}

/// MinIO 21621: a LIST of millions of keys takes an hour. Here: common prefixes are jumped over, deleted keys aren't met.
#[test]
fn list_of_many_keys_looks_at_what_it_shows() {
    let mut world = World::new(Versioning::Off);
    let mut rows = Map::new();
    for key in ["a/", "b/", "gone/"] {
        world.put(key, "x");
        let row = world.rows.iter().find(|(row, _)| row[0] == b'k').map(|(row, value)| (row.clone(), value.clone()));
        let (row, value) = row.unwrap();
        for number in 0_u32..5000 {
            let space = if key == "gone/" { b'd' } else { b'k' };
            let name = number.to_string().bytes().map(|byte| byte + 1).collect::<Vec<u8>>();
            let mut row = [&row[..], &name].concat();
            row[0] = space;
            rows.insert(row, value.clone());
        }
        world = World::new(Versioning::Off);
    }
    let rows = Counted(&rows, Cell::new(0));
    let query =
        |delimiter: &str, limit| Query { bucket: BUCKET, delimiter: delimiter.to_owned(), limit, ..Query::default() };
    let page = objects(&rows, &query("/", 1000)).unwrap();
    assert_eq!(page.items.len(), 2);
    assert!(rows.1.get() <= 3, "{} rows for two prefixes", rows.1.get());
    rows.1.set(0);
    let page = objects(&rows, &query("", 1000)).unwrap();
    assert_eq!((page.items.len(), rows.1.get()), (1000, 1001), "one walk");
    rows.1.set(0);
    // A slot's share of a page.
    let page = versions(&rows, &query("", 10)).unwrap();
    assert_eq!(page.items.len(), 10);
    assert!(rows.1.get() <= 22, "{} rows for ten versions", rows.1.get());
}
