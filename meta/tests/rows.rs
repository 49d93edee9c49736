//! A batch over rows, and a slot's rows in an index, read like a plain map.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use cairn_meta::index::{Index, Order, Store, Table};
use cairn_meta::rows::{Batch, Rows, SlotRows};
use proptest::collection::vec;
use proptest::prelude::*;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;
type Changes = Vec<(Vec<u8>, Option<u8>)>;

fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![Just(0), Just(1), Just(u8::MAX)], 0..4)
}

fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![key().prop_map(Bound::Included), key().prop_map(Bound::Excluded), Just(Bound::Unbounded)]
}

fn changes() -> impl Strategy<Value = Changes> {
    vec((key(), any::<Option<u8>>()), 0..40)
}

fn change(map: &mut Map, changes: &Changes) {
    for (key, value) in changes {
        match value {
            Some(value) => map.insert(key.clone(), vec![*value]),
            None => map.remove(key),
        };
    }
}

/// The rows that a walk meets, up to `most`.
fn walk(rows: &dyn Rows, (low, high): (&Bound<Vec<u8>>, &Bound<Vec<u8>>), order: Order, most: usize) -> Vec<Vec<u8>> {
    let mut met = Vec::new();
    let range = (low.as_ref().map(Vec::as_slice), high.as_ref().map(Vec::as_slice));
    rows.walk(range, order, &mut |key, value| {
        met.push([key, b"=", value].concat());
        if met.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })
    .unwrap();
    met
}

proptest! {
    #[test]
    fn a_batch_over_a_slots_rows_reads_like_a_map(
        slot in prop_oneof![Just(0), Just(7), Just(u32::MAX)],
        (below, above) in (changes(), changes()),
        (low, high) in (bound(), bound()),
        most in 1_usize..20,
    ) {
        let mut index = Index::open(&Store::memory(), 4).unwrap();
        let mut map = Map::new();
        change(&mut map, &below);
        for neighbour in [slot.wrapping_sub(1), slot.wrapping_add(1)] {
            index.put(Table::State, &[&neighbour.to_be_bytes()[..], b"x"].concat(), b"other").unwrap();
        }
        for (key, value) in &map {
            index.put(Table::State, &[&slot.to_be_bytes()[..], key].concat(), value).unwrap();
        }
        let rows = SlotRows::new(&index, slot);
        let mut batch = Batch::new(&rows);
        for (key, value) in &above {
            match value {
                Some(value) => batch.put(key.clone(), vec![*value]),
                None => batch.delete(key.clone()),
            }
        }
        for order in [Order::Forward, Order::Backward] {
            prop_assert_eq!(walk(&rows, (&low, &high), order, most), walk(&map, (&low, &high), order, most));
        }
        change(&mut map, &above);
        for order in [Order::Forward, Order::Backward] {
            prop_assert_eq!(walk(&batch, (&low, &high), order, most), walk(&map, (&low, &high), order, most));
        }
        for (key, _) in below.iter().chain(&above) {
            prop_assert_eq!(batch.get(key).unwrap(), Rows::get(&map, key).unwrap());
        }
        for (key, value) in batch.into_changes() {
            prop_assert_eq!(map.get(&key), value.as_ref());
        }
    }
}
