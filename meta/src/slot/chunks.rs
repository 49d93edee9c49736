//! Which chunks a slot needs: for the mark of GC, and what it may look at first.

use std::ops::{Bound, ControlFlow};

use super::Hint;
use super::layout::Space;
use super::object::KeyRow;
use super::upload::PartRow;
use crate::encoding::{decode, row};
use crate::index::{Error, Order};
use crate::ring;
use crate::rows::Rows;
use crate::version::{Chunk, Version};

/// A step of a mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Marked {
    /// There is more behind this row.
    More(Vec<u8>),
    /// All rows have been seen.
    Done,
}

/// Calls `visit` with every chunk that rows behind `behind` (from the first if empty) list, looking at up to `budget` rows.
pub fn mark(rows: &dyn Rows, behind: &[u8], budget: usize, visit: &mut dyn FnMut(&Chunk)) -> Result<Marked, Error> {
    let mut left = budget.max(1);
    let (mut last, mut bad) = (None, None);
    let low = if behind.is_empty() { Bound::Unbounded } else { Bound::Excluded(behind) };
    rows.walk((low, Bound::Unbounded), Order::Forward, &mut |key, bytes| {
        bad = mark_row(key, bytes, visit).err();
        left -= 1;
        last = (left == 0).then(|| key.to_vec());
        if left == 0 || bad.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    bad.map_or(Ok(last.map_or(Marked::Done, Marked::More)), Err)
}

fn mark_row(key: &[u8], bytes: &[u8], visit: &mut dyn FnMut(&Chunk)) -> Result<(), Error> {
    let is = |space: Space| key.first() == Some(&(space as u8));
    let chunks: Vec<Chunk> = if is(Space::Object) || is(Space::Gone) {
        row::<KeyRow>(key, bytes)?.preferred.content.chunks().to_vec()
    } else if is(Space::Version) {
        row::<Version>(key, bytes)?.content.chunks().to_vec()
    } else if is(Space::Part) {
        row::<PartRow>(key, bytes)?.chunks
    } else {
        vec![]
    };
    chunks.iter().for_each(visit);
    Ok(())
}

/// The oldest hints at chunks that may not be needed any more, with their numbers. What is here others may still list: only a
/// mark of all slots can tell.
pub fn released(rows: &dyn Rows, most: usize) -> Result<Vec<(u64, Hint)>, Error> {
    let entries = ring::RELEASED.oldest(rows, most)?;
    let read = |(number, bytes): (u64, Vec<u8>)| {
        let hint = decode(&bytes).map_err(|_| Error::row(&number.to_be_bytes(), "no hint at released chunks"))?;
        Ok((number, hint))
    };
    entries.into_iter().map(read).collect()
}
