//! Scans: the overlay's two layers and the store read as one ordered table, in bounded steps.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::iter::Peekable;
use std::ops::{Bound, ControlFlow};

use super::error::Error;
use super::layer::Bounds;
use super::store::Entries;
use super::table::Table;

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// From the least key to the greatest.
    Forward,
    /// From the greatest key to the least.
    Backward,
}

/// A place in a range of keys, from which `Index::step` goes on.
///
/// Between steps it holds keys only, no transaction: it may be kept for as long as one likes, over commits too. It meets
/// every key that is there during the whole scan, each once and in order; a key that comes or goes meanwhile may be met
/// or not. A value is that of the step which meets it.
#[derive(Clone, Debug)]
pub struct Scan {
    pub(super) table: Table,
    pub(super) order: Order,
    low: Bound<Vec<u8>>,
    high: Bound<Vec<u8>>,
}

impl Scan {
    /// All keys of a table.
    pub fn all(table: Table) -> Self {
        Self { table, order: Order::Forward, low: Bound::Unbounded, high: Bound::Unbounded }
    }

    /// The keys within bounds; none if the bounds are the wrong way round.
    pub fn range(table: Table, low: Bound<&[u8]>, high: Bound<&[u8]>) -> Self {
        Self::within(table, low.map(<[u8]>::to_vec), high.map(<[u8]>::to_vec))
    }

    /// The same for bounds that were made for it.
    pub fn within(table: Table, low: Bound<Vec<u8>>, high: Bound<Vec<u8>>) -> Self {
        Self { low, high, ..Self::all(table) }
    }

    /// The keys that begin with `prefix`.
    pub fn prefix(table: Table, prefix: &[u8]) -> Self {
        let mut after = prefix.to_vec();
        while after.pop_if(|last| *last == u8::MAX).is_some() {}
        let high = match after.last_mut() {
            Some(last) => {
                *last += 1;
                Bound::Excluded(after)
            }
            None => Bound::Unbounded,
        };
        Self { low: Bound::Included(prefix.to_vec()), high, ..Self::all(table) }
    }

    /// The same keys from the greatest to the least.
    #[must_use]
    pub fn backward(self) -> Self {
        Self { order: Order::Backward, ..self }
    }

    /// The keys behind this one, in a forward scan.
    #[must_use]
    pub fn after(self, key: &[u8]) -> Self {
        Self { low: Bound::Excluded(key.to_vec()), ..self }
    }

    pub(super) fn bounds(&self) -> Bounds<'_> {
        (self.low.as_ref().map(Vec::as_slice), self.high.as_ref().map(Vec::as_slice))
    }

    /// Nothing can lie within; ordered maps panic on such bounds.
    pub(super) fn is_empty(&self) -> bool {
        match self.bounds() {
            (Bound::Included(low), Bound::Included(high)) => low > high,
            (Bound::Included(low) | Bound::Excluded(low), Bound::Included(high) | Bound::Excluded(high)) => low >= high,
            _ => false,
        }
    }

    /// Goes on behind this key.
    pub(super) fn continue_behind(&mut self, key: Vec<u8>) {
        match self.order {
            Order::Forward => self.low = Bound::Excluded(key),
            Order::Backward => self.high = Bound::Excluded(key),
        }
    }
}

/// Whether a scan has more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Step on.
    More,
    /// The end of the range.
    Done,
}

/// What layers say of a key: `None` means that it is deleted.
pub(super) type Said<'a> = (&'a [u8], Option<&'a [u8]>);

/// Calls `visit` for each key of the three in order, with what the uppermost says of it. The last key looked at goes to
/// `last`; it ends when `visit` breaks or after `budget` keys.
pub(super) fn merge<'a>(
    (active, frozen): (impl Iterator<Item = Said<'a>>, impl Iterator<Item = Said<'a>>),
    store: Entries<'a>,
    (order, budget): (Order, usize),
    last: &mut Vec<u8>,
    mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
) -> Result<Step, Error> {
    let (mut active, mut frozen, mut store) = (active.peekable(), frozen.peekable(), store.peekable());
    for _ in 0..budget {
        if let Some(Err(_)) = store.peek() {
            store.next().transpose()?;
        }
        let heads = [head(&mut active), head(&mut frozen), store_head(&mut store)];
        let Some(first) = heads.into_iter().flatten().reduce(|first, key| earlier(order, first, key)) else {
            return Ok(Step::Done);
        };
        last.clear();
        last.extend_from_slice(first);
        let from_active = active.next_if(|(key, _)| *key == last.as_slice());
        let from_frozen = frozen.next_if(|(key, _)| *key == last.as_slice());
        let from_store = store.next_if(|entry| matches!(entry, Ok((key, _)) if **key == **last)).transpose()?;
        let value = match (from_active.or(from_frozen), from_store) {
            (Some((_, said)), _) => said.map(Cow::Borrowed),
            (None, stored) => stored.map(|(_, value)| value),
        };
        if let Some(value) = value
            && visit(last, &value).is_break()
        {
            return Ok(Step::More);
        }
    }
    Ok(Step::More)
}

fn head<'a>(layer: &mut Peekable<impl Iterator<Item = Said<'a>>>) -> Option<&'a [u8]> {
    layer.peek().map(|(key, _)| *key)
}

fn store_head<'s>(store: &'s mut Peekable<Entries<'_>>) -> Option<&'s [u8]> {
    store.peek().and_then(|entry| entry.as_ref().ok()).map(|(key, _)| &**key)
}

fn earlier<'a>(order: Order, a: &'a [u8], b: &'a [u8]) -> &'a [u8] {
    match (a.cmp(b), order) {
        (Ordering::Greater, Order::Forward) | (Ordering::Less, Order::Backward) => b,
        _ => a,
    }
}

#[test]
fn a_prefix_ends_where_it_should() {
    let high = |prefix: &[u8]| Scan::prefix(Table::State, prefix).high;
    assert_eq!(high(&[1, 2]), Bound::Excluded(vec![1, 3]));
    assert_eq!(high(&[1, 255, 255]), Bound::Excluded(vec![2]));
    assert_eq!(high(&[255, 255]), Bound::Unbounded);
    assert_eq!(high(&[]), Bound::Unbounded);
}

#[test]
fn bounds_the_wrong_way_round_hold_nothing() {
    use Bound::{Excluded, Included, Unbounded};
    let empty = |low, high| Scan::range(Table::State, low, high).is_empty();
    assert!(empty(Included(b"b"), Included(b"a")));
    assert!(empty(Excluded(b"a"), Excluded(b"a")) && empty(Included(b"a"), Excluded(b"a")));
    assert!(!empty(Included(b"a"), Included(b"a")) && !empty(Unbounded, Excluded(b"a")));
}
