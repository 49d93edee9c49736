//! The list of conflicts: keys with several heads of which one is an object.

use std::ops::ControlFlow;

use minicbor::{Decode, Encode};

use super::{Listed, Page, Query, Within, fill};
use crate::encoding::row;
use crate::index::{Error, Order};
use crate::rows::Rows;
use crate::slot::layout::{self, Space, end_of, range};

/// A conflict in a list.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ConflictEntry {
    /// The key.
    #[n(0)]
    pub key: String,
    /// How many heads it has.
    #[n(1)]
    pub heads: u32,
}

impl Listed for ConflictEntry {
    fn order(&self) -> (&str, Within) {
        (&self.key, Within::All)
    }
}

/// A page of conflicts.
///
/// # Errors
/// If rows can't be read.
pub fn conflicts(rows: &dyn Rows, query: &Query) -> Result<Page<ConflictEntry>, Error> {
    fill(rows, query, Space::Conflict, query.range(Space::Conflict), entry)
}

/// How many keys of a slot are in conflict, counted so far.
///
/// # Errors
/// If rows can't be read.
pub fn count_conflicts(rows: &dyn Rows, max: u64) -> Result<u64, Error> {
    let (begin, mut count) = ([Space::Conflict as u8], 0);
    let end = end_of(&begin);
    rows.walk(range(&begin, end.as_ref()), Order::Forward, &mut |_, _| {
        count += 1;
        if count < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(count)
}

fn entry(at: &[u8], bytes: &[u8]) -> Result<ConflictEntry, Error> {
    let name = layout::read(at).ok_or_else(|| Error::row(at, "no key of an object"))?;
    Ok(ConflictEntry { key: name.key, heads: row(at, bytes)? })
}
