//! Lists of a slot: objects, versions, uploads, conflicts; page by page, and the pages of all slots merged into one.
//!
//! A page begins behind a [`Position`], which is a name, not a state kept somewhere: others may write between two pages, and what is
//! there all the time is listed exactly once. Names that have the delimiter behind the prefix are shown once as a
//! common prefix, and the list goes on behind all of them by one seek.
//!
//! A page tells as far as it goes: up to `next`, or to the end. So pages of many slots merge: up to the least
//! `next` of them everything is known.

mod conflicts;
mod gather;
mod objects;
mod uploads;
mod versions;

pub use conflicts::{ConflictEntry, conflicts, count_conflicts};
pub use gather::Gathering;
pub use objects::{ObjectEntry, objects};
pub use uploads::{UploadEntry, uploads};
pub use versions::{VersionEntry, versions};

use std::ops::{Bound, ControlFlow};

use minicbor::{Decode, Encode};

use super::layout::{BucketId, Space, end_of, of_key};
use crate::index::{Error, Order};
use crate::rows::Rows;
use crate::version::{UploadId, VersionId};

/// What to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Query {
    /// Of this bucket.
    #[n(0)]
    pub bucket: BucketId,
    /// Names that begin so.
    #[n(1)]
    pub prefix: String,
    /// Names that have this behind the prefix are shown up to it; empty: none are.
    #[n(2)]
    pub delimiter: String,
    /// From behind this; `None`: from the beginning.
    #[n(3)]
    pub after: Option<Position>,
    /// The most items of a page.
    #[n(4)]
    pub limit: u32,
    /// A page ends behind this key though there may be more.
    #[n(5)]
    pub upto: Option<String>,
}

/// How far a list has come.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Position {
    /// A key or a common prefix.
    #[n(0)]
    pub name: String,
    /// How much of it.
    #[n(1)]
    pub within: Within,
}

/// How much of a name a list has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Within {
    /// Items of this key up to this one: see `Position::version` and `upload`.
    #[n(0)]
    Item(#[n(0)] Sub),
    /// This key and no other.
    #[n(1)]
    Key,
    /// All that is shown under one common prefix with it, or this key.
    #[n(2)]
    All,
}

crate::encoding::wide_id! {
    /// A place among the items of one key.
    Sub
}

impl Within {
    fn version(id: VersionId) -> Self {
        Self::Item(Sub(!id.0))
    }

    fn upload(upload: UploadId) -> Self {
        Self::Item(Sub(upload.0))
    }
}

impl Position {
    /// Behind a name, which may be a common prefix, or a key that is shown as part of one.
    pub fn behind(name: impl Into<String>) -> Self {
        Self { name: name.into(), within: Within::All }
    }

    /// Behind a version of a key.
    pub fn version(key: impl Into<String>, id: VersionId) -> Self {
        Self { name: key.into(), within: Within::version(id) }
    }

    /// Behind an upload of a key.
    pub fn upload(key: impl Into<String>, upload: UploadId) -> Self {
        Self { name: key.into(), within: Within::upload(upload) }
    }

    fn order(&self) -> (&str, Within) {
        (&self.name, self.within)
    }
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Page<T> {
    /// In the order of names, then in that of the items of one key.
    #[n(0)]
    pub items: Vec<Item<T>>,
    /// Where the next page begins; `None`: this was the last.
    #[n(1)]
    pub next: Option<Position>,
}

/// What a page shows.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Item<T> {
    /// An object, a version, an upload.
    #[n(0)]
    Entry(#[n(0)] T),
    /// There are some whose names begin so.
    #[n(1)]
    Prefix(#[n(0)] String),
}

/// An entry of a list.
pub trait Listed {
    /// Its key, and how much of it a list has shown when this is shown.
    fn order(&self) -> (&str, Within);
}

impl<T: Listed> Item<T> {
    /// The list has come so far when this is shown.
    pub fn position(&self) -> Position {
        let (name, within) = self.order();
        Position { name: name.to_owned(), within }
    }

    fn order(&self) -> (&str, Within) {
        match self {
            Self::Entry(entry) => entry.order(),
            Self::Prefix(prefix) => (prefix, Within::All),
        }
    }
}

impl Query {
    /// The common prefix under which a key is shown, if it is shown so.
    fn roll_up<'n>(&self, name: &'n str) -> Option<&'n str> {
        let rest = name.strip_prefix(self.prefix.as_str()).filter(|_| !self.delimiter.is_empty())?;
        let at = rest.find(self.delimiter.as_str())?;
        Some(&name[..self.prefix.len() + at + self.delimiter.len()])
    }

    /// The first row to look at in a space, and the end.
    fn range(&self, space: Space) -> (Vec<u8>, Option<Vec<u8>>) {
        let prefix = of_key(space, self.bucket, &self.prefix);
        let upto = self.upto.as_ref().map(|upto| behind_rows(of_key(space, self.bucket, upto)));
        let end = [end_of(&prefix), upto].into_iter().flatten().min();
        let begin = self.after.as_ref().map(|after| match (after.within, self.roll_up(&after.name)) {
            (Within::Item(_) | Within::All, Some(shown)) => behind_prefix(space, self.bucket, shown),
            (Within::All | Within::Key, _) => behind_rows(of_key(space, self.bucket, &after.name)),
            (Within::Item(_), None) => of_key(space, self.bucket, &after.name),
        });
        (begin.unwrap_or_default().max(prefix), end)
    }
}

/// The first row that doesn't begin with this prefix, behind those that do.
fn behind_prefix(space: Space, bucket: BucketId, prefix: &str) -> Vec<u8> {
    end_of(&of_key(space, bucket, prefix)).expect("a space's letter is not the last byte")
}

/// The least row that is behind this one.
fn behind_row(mut row: Vec<u8>) -> Vec<u8> {
    row.push(0);
    row
}

/// The least row that may be behind all those of this key.
fn behind_rows(mut key: Vec<u8>) -> Vec<u8> {
    // What is behind its end begins with 0, what a longer key goes on with is more.
    key.push(1);
    key
}

/// A page that is being filled.
struct Filling<'q, T> {
    items: Vec<Item<T>>,
    limit: usize,
    upto: Option<&'q str>,
    /// There was more than the limit.
    is_cut: bool,
}

/// Items that there is room for from the beginning: a slot's share of a page.
const ITEMS: usize = 16;

impl<'q, T: Listed> Filling<'q, T> {
    fn new(query: &'q Query) -> Self {
        let limit = query.limit as usize;
        Self { items: Vec::with_capacity(limit.min(ITEMS)), limit, upto: query.upto.as_deref(), is_cut: false }
    }

    fn is_full(&self) -> bool {
        self.items.len() >= self.limit
    }

    /// Adds an item; false: there is no room for it.
    fn push(&mut self, item: Item<T>) -> bool {
        self.is_cut = self.is_full();
        if !self.is_cut {
            self.items.push(item);
        }
        !self.is_cut
    }

    fn page(self) -> Page<T> {
        let cut = self.items.last().filter(|_| self.is_cut).map(Item::position);
        Page { next: cut.or_else(|| self.upto.map(Position::behind)), items: self.items }
    }
}

/// A list of rows that are an entry each: one walk, but for a seek behind each common prefix.
fn fill<T: Listed>(
    rows: &dyn Rows,
    query: &Query,
    space: Space,
    (begin, end): (Vec<u8>, Option<Vec<u8>>),
    read: impl Fn(&[u8], &[u8]) -> Result<T, Error>,
) -> Result<Page<T>, Error> {
    let mut page = Filling::new(query);
    let end = end.as_ref().map_or(Bound::Unbounded, |end| Bound::Excluded(end.as_slice()));
    let mut next = Some(begin).filter(|_| query.limit > 0);
    while let Some(begin) = next.take() {
        let mut bad = None;
        rows.walk((Bound::Included(&begin), end), Order::Forward, &mut |at, bytes| {
            if page.is_full() {
                // Whatever it is, it is more than there is room for.
                page.is_cut = true;
                return ControlFlow::Break(());
            }
            let entry = match read(at, bytes) {
                Ok(entry) => entry,
                Err(error) => {
                    bad = Some(error);
                    return ControlFlow::Break(());
                }
            };
            let Some(shown) = query.roll_up(entry.order().0).map(str::to_owned) else {
                page.push(Item::Entry(entry));
                return ControlFlow::Continue(());
            };
            next = Some(behind_prefix(space, query.bucket, &shown));
            page.push(Item::Prefix(shown));
            ControlFlow::Break(())
        })?;
        bad.map_or(Ok(()), Err)?;
    }
    Ok(page.page())
}

/// Merges the pages that slots gave for one query into one of at most `limit` items.
pub fn merge<T: Listed>(pages: Vec<Page<T>>, limit: u32) -> Page<T> {
    let horizon = pages.iter().filter_map(|page| page.next.as_ref()).min_by_key(|next| next.order()).cloned();
    let (turns, is_cut) = turns(&pages, horizon.as_ref(), limit as usize);
    let mut pages: Vec<_> = pages.into_iter().map(|page| page.items.into_iter()).collect();
    let mut items = Vec::with_capacity(turns.len());
    for (page, is_new) in turns {
        let item = pages.get_mut(page).and_then(Iterator::next);
        items.extend(item.filter(|_| is_new));
    }
    let last = items.last().map(|item| (item.position(), matches!(item, Item::Prefix(_))));
    let next = match (last, horizon) {
        _ if limit == 0 => None,
        (Some((last, _)), _) if is_cut => Some(last),
        // A page may end within what is shown as one prefix already.
        (Some((last, true)), Some(horizon)) if horizon.name.starts_with(&last.name) => Some(last),
        (_, horizon) => horizon,
    };
    Page { items, next }
}

/// Whose turn it is: the pages in the order of their items up to the horizon, and whether an item is another than the one
/// before, until so many are shown. Then whether there are more up to the horizon. It sorts names, as items are larger.
fn turns<T: Listed>(pages: &[Page<T>], horizon: Option<&Position>, limit: usize) -> (Vec<(usize, bool)>, bool) {
    let mut known = Vec::new();
    for (page, Page { items, .. }) in pages.iter().enumerate() {
        let orders = items.iter().map(Item::order);
        let within = orders.take_while(|order| horizon.is_none_or(|horizon| *order <= horizon.order()));
        known.extend(within.map(|order| (order, page)));
    }
    known.sort_unstable();
    let (mut turns, mut shown, mut last) = (Vec::with_capacity(limit.min(known.len())), 0, None);
    for (order, page) in known {
        let is_new = last != Some(order);
        if is_new && shown == limit {
            return (turns, true);
        }
        shown += usize::from(is_new);
        last = Some(order);
        turns.push((page, is_new));
    }
    (turns, false)
}
