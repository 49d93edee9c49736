//! What a state machine reads and writes: one ordered table of bytes, its own.
//!
//! A machine sees [`Rows`] and changes them through a [`Batch`]; whoever runs it takes the changes of a command as a whole
//! or not at all. No machine knows which slot it is of, where its rows lie, or what time it is.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use crate::index::{Error, Index, Order, Scan, Step, Table};

/// Rows seen by one call of `Index::step`.
const STEP: usize = 256;

/// Called with the key and the value of a row; breaks to end the walk.
pub type Visit<'v> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'v;

/// The two bounds of a walk.
pub type Range<'b> = (Bound<&'b [u8]>, Bound<&'b [u8]>);

/// A machine that a log of commands drives: the same commands give the same rows and answers everywhere.
pub trait Machine {
    /// Applies the command that is entry `at` of the log, and answers it. A command that can't be obeyed, or not even be
    /// understood, is answered so; it is no error.
    ///
    /// # Errors
    /// If rows can't be read. Nothing of the batch is taken then.
    fn apply(&self, rows: &mut Batch<'_>, at: u64, command: &[u8]) -> Result<Vec<u8>, Error>;

    /// What is answered instead, when a command would have changed so many bytes of rows and a command may change only so
    /// many. Nothing of its batch is taken then.
    fn too_large(&self, bytes: usize, max: usize) -> Vec<u8>;
}

/// Rows to read.
pub trait Rows {
    /// Lends the value under this key, if there is one.
    ///
    /// # Errors
    /// If the rows can't be read.
    fn lend(&self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<(), Error>;

    /// A copy of the value under this key.
    ///
    /// # Errors
    /// If the rows can't be read.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let mut found = None;
        self.lend(key, &mut |value| found = Some(value.to_vec()))?;
        Ok(found)
    }

    /// Visits the rows within a range in order, until the visitor breaks.
    ///
    /// # Errors
    /// If the rows can't be read.
    fn walk(&self, range: Range<'_>, order: Order, visit: &mut Visit<'_>) -> Result<(), Error>;
}

impl Rows for BTreeMap<Vec<u8>, Vec<u8>> {
    fn lend(&self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        self.get(key).into_iter().for_each(|value| read(value));
        Ok(())
    }

    fn walk(&self, range: Range<'_>, order: Order, visit: &mut Visit<'_>) -> Result<(), Error> {
        if is_empty(range) {
            return Ok(());
        }
        let rows = self.range::<[u8], _>(range);
        let mut visit = |(key, value): (&Vec<u8>, &Vec<u8>)| visit(key, value);
        let _ = match order {
            Order::Forward => rows.into_iter().try_for_each(&mut visit),
            Order::Backward => rows.rev().try_for_each(&mut visit),
        };
        Ok(())
    }
}

/// The rows of one slot in a lane's index.
#[derive(Clone, Copy)]
pub struct SlotRows<'i> {
    index: &'i Index,
    slot: [u8; 4],
}

impl<'i> SlotRows<'i> {
    /// The rows of this slot.
    pub fn new(index: &'i Index, slot: u32) -> Self {
        Self { index, slot: slot.to_be_bytes() }
    }

    fn key(&self, key: &[u8]) -> Vec<u8> {
        [&self.slot[..], key].concat()
    }
}

impl Rows for SlotRows<'_> {
    fn lend(&self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        self.index.get_with(Table::State, &self.key(key), read).map(drop)
    }

    fn walk(&self, (low, high): Range<'_>, order: Order, visit: &mut Visit<'_>) -> Result<(), Error> {
        let low = match low {
            Bound::Unbounded => Bound::Included(self.slot.to_vec()),
            low => low.map(|key| self.key(key)),
        };
        let high = match (high, u32::from_be_bytes(self.slot).checked_add(1)) {
            (Bound::Unbounded, Some(next)) => Bound::Excluded(next.to_be_bytes().to_vec()),
            (high, _) => high.map(|key| self.key(key)),
        };
        let scan = Scan::within(Table::State, low, high);
        let mut scan = if order == Order::Backward { scan.backward() } else { scan };
        let mut flow = ControlFlow::Continue(());
        let mut more = Step::More;
        while flow.is_continue() && more == Step::More {
            more = self.index.step(&mut scan, STEP, |key, value| {
                flow = visit(&key[self.slot.len()..], value);
                flow
            })?;
        }
        Ok(())
    }
}

/// Rows with changes that nobody else sees yet.
pub struct Batch<'r> {
    below: &'r dyn Rows,
    changes: Changes,
}

/// What a batch changed: keys to their new values, `None` where the row is deleted.
pub type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

impl<'r> Batch<'r> {
    /// No changes yet.
    pub fn new(below: &'r dyn Rows) -> Self {
        Self { below, changes: Changes::new() }
    }

    /// Sets the value under a key.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.changes.insert(key.into(), Some(value.into()));
    }

    /// Deletes the row under a key, if there is one.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.changes.insert(key.into(), None);
    }

    /// Bytes of the rows changed so far, keys and values.
    pub fn bytes(&self) -> usize {
        self.changes.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum()
    }

    /// The changes, for whoever makes them last.
    pub fn into_changes(self) -> Changes {
        self.changes
    }
}

impl Rows for Batch<'_> {
    fn lend(&self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        match self.changes.get(key) {
            Some(changed) => {
                changed.iter().for_each(|value| read(value));
                Ok(())
            }
            None => self.below.lend(key, read),
        }
    }

    fn walk(&self, range: Range<'_>, order: Order, visit: &mut Visit<'_>) -> Result<(), Error> {
        if is_empty(range) {
            return Ok(());
        }
        let changes = self.changes.range::<[u8], _>(range);
        match order {
            Order::Forward => merge(changes, |key, other| key < other, self.below, (range, order), visit),
            Order::Backward => merge(changes.rev(), |key, other| key > other, self.below, (range, order), visit),
        }
    }
}

/// Walks changes and the rows below them as one.
fn merge<'c>(
    changes: impl Iterator<Item = (&'c Vec<u8>, &'c Option<Vec<u8>>)>,
    comes_before: impl Fn(&[u8], &[u8]) -> bool,
    below: &dyn Rows,
    (range, order): (Range<'_>, Order),
    visit: &mut Visit<'_>,
) -> Result<(), Error> {
    let mut changes = changes.peekable();
    let mut broken = false;
    let mut show = |key: &[u8], value: Option<&[u8]>| {
        let flow = value.map_or(ControlFlow::Continue(()), |value| visit(key, value));
        broken |= flow.is_break();
        flow
    };
    below.walk(range, order, &mut |key, value| {
        while let Some((changed, new)) = changes.next_if(|(changed, _)| comes_before(changed, key)) {
            show(changed, new.as_deref())?;
        }
        match changes.next_if(|(changed, _)| changed.as_slice() == key) {
            Some((_, new)) => show(key, new.as_deref()),
            None => show(key, Some(value)),
        }
    })?;
    if !broken {
        let _ = changes.try_for_each(|(key, new)| match new {
            Some(value) => visit(key, value),
            None => ControlFlow::Continue(()),
        });
    }
    Ok(())
}

/// Nothing can lie within; ordered maps panic on such bounds.
fn is_empty(range: Range<'_>) -> bool {
    match range {
        (Bound::Included(low), Bound::Included(high)) => low > high,
        (Bound::Included(low) | Bound::Excluded(low), Bound::Included(high) | Bound::Excluded(high)) => low >= high,
        _ => false,
    }
}
