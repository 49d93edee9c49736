//! The list of versions that S3 can name: of each key the newest id first, delete markers among them.

use std::collections::VecDeque;
use std::ops::{Bound, ControlFlow};

use minicbor::{Decode, Encode};

use super::{Filling, Item, Listed, Page, Position, Query, Sub, Within, behind_prefix, behind_row};
use crate::encoding::row;
use crate::index::{Error, Order};
use crate::rows::Rows;
use crate::slot::layout::{self, BucketId, Space, end_of, of_version};
use crate::slot::object::KeyBrief;
use crate::version::{Kind, Summary, VersionId};

/// A version in a list.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct VersionEntry {
    /// The object's key.
    #[n(0)]
    pub key: String,
    /// Its name.
    #[n(1)]
    pub id: VersionId,
    /// What kind it is.
    #[n(2)]
    pub kind: Kind,
    /// Whether S3 calls it `null`.
    #[n(3)]
    pub is_null: bool,
    /// Whether it is the preferred head.
    #[n(4)]
    pub is_latest: bool,
    /// Its length in bytes.
    #[n(5)]
    pub size: u64,
    /// What S3 calls it.
    #[n(6)]
    pub etag: String,
    /// When it was made, in milliseconds since the Unix epoch.
    #[n(7)]
    pub modified: u64,
}

impl Listed for VersionEntry {
    fn order(&self) -> (&str, Within) {
        (&self.key, Within::version(self.id))
    }
}

/// Keys in a row without anything to show; then the page ends early.
const BARREN_MAX: usize = 10_000;

/// Keys read at once, at most.
const BATCH_MAX: usize = 128;

/// A page of versions.
///
/// # Errors
/// If rows can't be read.
pub fn versions(rows: &dyn Rows, query: &Query) -> Result<Page<VersionEntry>, Error> {
    versions_within(rows, query, BARREN_MAX)
}

fn versions_within(rows: &dyn Rows, query: &Query, barren_max: usize) -> Result<Page<VersionEntry>, Error> {
    let mut page = Filling::new(query);
    let mut keys = [Keys::new(query, Space::Object), Keys::new(query, Space::Gone)];
    let mut barren = 0;
    if query.limit == 0 {
        return Ok(page.page());
    }
    loop {
        let [objects, gone] = &mut keys;
        let key = match (objects.peek(rows)?, gone.peek(rows)?) {
            (Some(object), Some(deleted)) if deleted.name < object.name => gone.pop(),
            (Some(_), _) => objects.pop(),
            (None, _) => gone.pop(),
        };
        let Some(key) = key else { break };
        let shown = query.roll_up(&key.name);
        let after = query.after.as_ref().filter(|after| after.name == key.name).map(|after| after.within);
        let most = if shown.is_some() { 1 } else { query.limit as usize + 1 };
        let found = nameable(rows, query.bucket, &key, after, most)?;
        barren = if found.is_empty() { barren + 1 } else { 0 };
        if barren >= barren_max {
            let next = Some(Position { name: key.name, within: Within::Key });
            return Ok(Page { items: page.items, next });
        }
        let room = match shown {
            Some(shown) if !found.is_empty() => {
                for keys in &mut keys {
                    keys.seek(behind_prefix(keys.space, query.bucket, shown));
                }
                page.push(Item::Prefix(shown.to_owned()))
            }
            _ => found.into_iter().all(|entry| page.push(Item::Entry(entry))),
        };
        if !room {
            break;
        }
    }
    Ok(page.page())
}

/// A key, and what its row says.
struct Key {
    name: String,
    row: Vec<u8>,
    bytes: Vec<u8>,
}

/// The keys of one space, in order.
struct Keys {
    space: Space,
    begin: Vec<u8>,
    end: Option<Vec<u8>>,
    read: VecDeque<Key>,
    /// Keys read next: at first what a page may show and one more, then ever more, as many may have nothing to show.
    batch: usize,
    is_done: bool,
}

impl Keys {
    fn new(query: &Query, space: Space) -> Self {
        let (begin, end) = query.range(space);
        let batch = BATCH_MAX.min(query.limit.saturating_add(1) as usize);
        Self { space, begin, end, read: VecDeque::new(), batch, is_done: false }
    }

    fn seek(&mut self, begin: Vec<u8>) {
        self.read.retain(|key| key.row >= begin);
        self.begin = begin.max(std::mem::take(&mut self.begin));
    }

    fn peek(&mut self, rows: &dyn Rows) -> Result<Option<&Key>, Error> {
        if self.read.is_empty() && !self.is_done {
            self.fill(rows)?;
        }
        Ok(self.read.front())
    }

    fn pop(&mut self) -> Option<Key> {
        self.read.pop_front()
    }

    fn fill(&mut self, rows: &dyn Rows) -> Result<(), Error> {
        let end = self.end.as_ref().map_or(Bound::Unbounded, |end| Bound::Excluded(end.as_slice()));
        let mut bad = None;
        let (read, batch) = (&mut self.read, self.batch);
        rows.walk((Bound::Included(&self.begin), end), Order::Forward, &mut |at, bytes| {
            let Some(found) = layout::read(at) else {
                bad = Some(Error::row(at, "no key of an object"));
                return ControlFlow::Break(());
            };
            read.push_back(Key { name: found.key, row: at.to_vec(), bytes: bytes.to_vec() });
            if read.len() < batch { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        self.is_done = self.read.len() < self.batch;
        self.batch = BATCH_MAX.min(self.batch * 2);
        if let Some(last) = self.read.back() {
            self.begin = behind_row(last.row.clone());
        }
        bad.map_or(Ok(()), Err)
    }
}

/// The versions of a key that can be named, behind a place, the newest id first.
fn nameable(
    rows: &dyn Rows,
    bucket: BucketId,
    key: &Key,
    after: Option<Within>,
    most: usize,
) -> Result<Vec<VersionEntry>, Error> {
    let brief: KeyBrief<'_> = row(&key.row, &key.bytes)?;
    let latest = brief.preferred.id;
    let mut found = Vec::new();
    let mut show = |summary: &Summary<'_>| {
        let hidden = summary.is_null && brief.null != Some(summary.id);
        let shown = after.is_some_and(|after| Within::Item(Sub(!summary.id.0)) <= after);
        if summary.kind != Kind::Tombstone && !hidden && !shown {
            found.push(entry(&key.name, summary, latest));
        }
        found.len() < most
    };
    let mut preferred = Some(&brief.preferred);
    if brief.history > 0 {
        let end = end_of(&layout::behind_key(Space::Version, bucket, &key.name));
        let begin = match after {
            Some(Within::Item(Sub(place))) => behind_row(of_version(bucket, &key.name, VersionId(!place))),
            _ => layout::behind_key(Space::Version, bucket, &key.name),
        };
        let mut bad = None;
        rows.walk(layout::range(&begin, end.as_ref()), Order::Forward, &mut |at, bytes| {
            let summary: Summary<'_> = match row(at, bytes) {
                Ok(summary) => summary,
                Err(error) => {
                    bad = Some(error);
                    return ControlFlow::Break(());
                }
            };
            let first = preferred.take_if(|preferred| preferred.id > summary.id);
            if first.is_none_or(&mut show) && show(&summary) {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        if let Some(bad) = bad {
            return Err(bad);
        }
    }
    if let Some(preferred) = preferred {
        show(preferred);
    }
    found.truncate(most);
    Ok(found)
}

fn entry(key: &str, summary: &Summary<'_>, latest: VersionId) -> VersionEntry {
    let Summary { id, kind, is_null, modified, content } = *summary;
    let (size, etag) = (content.size, content.etag.to_owned());
    VersionEntry { key: key.to_owned(), id, kind, is_null, is_latest: id == latest, size, etag, modified }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::merge;
    use super::*;
    use crate::rows::{Batch, Machine};
    use crate::slot::Slot;
    use crate::slot::command::{Body, Bucket, Command, Envelope, Place, Versioning, Write};
    use crate::version::Content;
    use crate::version::commit::{Caps, Mode};
    use crate::version::retention::Keep;

    type Map = BTreeMap<Vec<u8>, Vec<u8>>;

    fn write(rows: &mut Map, key: &str, body: Body) {
        let (keep, caps) = (Keep::default(), Caps::default());
        let bucket = Bucket { id: 1, epoch: 1, versioning: Versioning::Off, keep, caps };
        let place = Place { bucket, key: key.to_owned() };
        let write = Write { place, id: VersionId(1), mode: Mode::Overwrite, body };
        let command = Envelope { time: 1, token: None, command: Command::Commit(vec![write]) }.encode();
        let mut batch = Batch::new(rows);
        Slot.apply(&mut batch, 1, &command).unwrap();
        for (key, value) in batch.into_changes() {
            match value {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
        }
    }

    /// A page that ends among keys without anything to show goes on there, and shows no prefix twice.
    #[test]
    fn many_tombstones_end_a_page_early_and_lose_nothing() {
        let object = || Body::Object(Content::default());
        let mut slots = [Map::new(), Map::new()];
        for number in 1..8 {
            write(&mut slots[0], &format!("a/{number}"), object());
            write(&mut slots[0], &format!("a/{number}"), Body::Deletion);
        }
        write(&mut slots[0], "a/z", object());
        write(&mut slots[0], "b", object());
        write(&mut slots[1], "a/0", object());
        for (delimiter, expected) in [("/", vec!["a/", "b"]), ("", vec!["a/0", "a/z", "b"])] {
            let (prefix, delimiter) = (String::new(), delimiter.to_owned());
            let mut query = Query { bucket: 1, prefix, delimiter, limit: 10, ..Query::default() };
            let (mut seen, mut pages) = (Vec::new(), 0);
            loop {
                pages += 1;
                let each = slots.iter().map(|rows| versions_within(rows, &query, 3).unwrap()).collect();
                let page = merge(each, query.limit);
                seen.extend(page.items.iter().map(|item| item.position().name));
                match page.next {
                    None => break,
                    next => query.after = next,
                }
            }
            assert_eq!(seen, expected);
            assert!(pages > 1, "the page ended early");
        }
    }
}
