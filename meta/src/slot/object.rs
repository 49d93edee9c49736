//! The rows of one key: its heads, its history, and what is counted of its bucket.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use minicbor::{Decode, Encode};

use super::command::Bucket;
use super::expiry;
use super::layout::{self, BucketId, Space, end_of, of_bucket, of_key, of_version};
use crate::encoding::{encode, encode_about, row};
use crate::index::{Error, Order};
use crate::rows::{Batch, Rows};
use crate::version::{Actor, Chunk, Conflict, Head, Kind, Payload, Summary, Version, VersionId, heads};

/// What a slot knows of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct KeyRow {
    /// The preferred head, whole.
    #[n(0)]
    pub preferred: Version,
    /// The other heads; the versions themselves lie in the history.
    #[n(1)]
    pub others: Vec<Head>,
    /// How many versions lie in the history.
    #[n(2)]
    pub history: u32,
    /// The greatest id that the key ever had.
    #[n(3)]
    pub last: VersionId,
    /// Who numbers the slot's own commits; `None`: there were only imports.
    #[n(4)]
    pub actor: Option<Actor>,
    /// The number of the last of them.
    #[n(5)]
    pub commits: u64,
    /// Whether all that ever came were commits, one upon the other: then ids are the order of the history.
    #[n(6)]
    pub linear: bool,
    /// The version that S3 calls `null`.
    #[n(7)]
    pub null: Option<VersionId>,
    /// When the slot last took a version.
    #[n(8)]
    pub clock: u64,
}

/// What lists of versions need of a key, from the same bytes.
#[derive(Clone, Copy, Debug, Decode)]
pub struct KeyBrief<'b> {
    /// The preferred head.
    #[b(0)]
    pub preferred: Summary<'b>,
    /// How many versions lie in the history.
    #[n(2)]
    pub history: u32,
    /// The version that S3 calls `null`.
    #[n(7)]
    pub null: Option<VersionId>,
}

/// What a list of objects needs of a key. All of it lies at the front of the row, before what is long and what is many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyFront<'b> {
    /// The preferred head's name.
    pub id: VersionId,
    /// When it was made.
    pub modified: u64,
    /// Its length in bytes.
    pub size: u64,
    /// What S3 calls it.
    pub etag: &'b str,
}

impl<'b> KeyFront<'b> {
    /// Reads it off a key's row, and nothing behind it.
    ///
    /// # Errors
    /// What is wrong with the front of the bytes.
    pub fn read(bytes: &'b [u8]) -> Result<Self, minicbor::decode::Error> {
        let mut row = minicbor::Decoder::new(bytes);
        enter(&mut row, "a key's row", 1)?;
        enter(&mut row, "a version", 5)?;
        let id = row.decode()?;
        // Its kind, and whether it is called `null`.
        row.skip()?;
        row.skip()?;
        let modified = row.u64()?;
        enter(&mut row, "a content", 2)?;
        Ok(Self { id, modified, size: row.u64()?, etag: row.str()? })
    }
}

/// Goes on with the first of the fields of what is encoded here; it must have so many.
fn enter(row: &mut minicbor::Decoder<'_>, what: &str, fields: u64) -> Result<(), minicbor::decode::Error> {
    match row.array()? {
        Some(count) if count >= fields => Ok(()),
        _ => Err(minicbor::decode::Error::message(format!("{what} has at least {fields} fields"))),
    }
}

impl KeyRow {
    /// All heads.
    pub fn heads(&self) -> Vec<Head> {
        let mut heads = self.others.clone();
        heads.push(Head::from(&self.preferred));
        heads
    }

    /// How many heads it has, if they are in conflict.
    fn in_conflict(&self) -> Option<u32> {
        if self.others.is_empty() { None } else { heads_in_conflict(&self.heads()) }
    }

    fn space(&self) -> Space {
        if self.preferred.kind == Kind::Data { Space::Object } else { Space::Gone }
    }
}

/// How many these heads are, if they are in conflict.
pub(super) fn heads_in_conflict(heads: &[Head]) -> Option<u32> {
    (Conflict::of(heads) != Conflict::No).then_some(heads.len() as u32)
}

/// What is counted of a bucket in a slot, and whether it is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct BucketRow {
    /// Epoch of the latest settings that came with a command.
    #[n(0)]
    pub epoch: u64,
    /// Keys with an object.
    #[n(1)]
    pub objects: u64,
    /// All versions.
    #[n(2)]
    pub versions: u64,
    /// Their bytes, and those of the parts of uploads under way.
    #[n(3)]
    pub bytes: u64,
    /// Uploads under way.
    #[n(4)]
    pub uploads: u64,
    /// It was empty and is being deleted: what comes with the same epoch or an earlier one is refused.
    #[n(5)]
    pub closed: bool,
    /// Tombstones among the versions.
    #[n(6)]
    pub tombstones: u64,
}

impl BucketRow {
    /// Reads that of a bucket.
    pub fn load(rows: &dyn Rows, bucket: BucketId) -> Result<Self, Error> {
        let key = of_bucket(Space::Bucket, bucket);
        rows.get(&key)?.map_or(Ok(Self::default()), |bytes| row(&key, &bytes))
    }

    pub(super) fn store(&self, rows: &mut Batch<'_>, bucket: BucketId) {
        rows.put(of_bucket(Space::Bucket, bucket), encode(self));
    }

    /// Whether a command with these settings may go on; then they are the latest.
    pub(super) fn admits(&mut self, bucket: &Bucket) -> bool {
        if bucket.epoch < self.epoch || (self.closed && bucket.epoch == self.epoch) {
            return false;
        }
        (self.epoch, self.closed) = (bucket.epoch, false);
        true
    }

    /// Nothing of the bucket is in the slot that anybody could ask for. What is left are tombstones.
    pub(super) fn is_empty(&self) -> bool {
        self.uploads == 0 && self.versions == self.tombstones
    }

    /// Where a key of the bucket may be: if there are as many versions as objects, none is without an object.
    fn spaces(&self) -> &'static [Space] {
        if self.versions > self.objects { &[Space::Object, Space::Gone] } else { &[Space::Object] }
    }

    fn count(&mut self, version: &Version) {
        self.versions += 1;
        self.bytes += version.content.size;
        self.tombstones += u64::from(version.kind == Kind::Tombstone);
    }

    fn discount(&mut self, version: &Version) {
        self.versions -= 1;
        self.bytes -= version.content.size;
        self.tombstones -= u64::from(version.kind == Kind::Tombstone);
    }
}

/// The row of a key; `None`: the slot knows nothing of it.
pub fn load(rows: &dyn Rows, bucket: BucketId, key: &str) -> Result<Option<KeyRow>, Error> {
    load_from(rows, &[Space::Object, Space::Gone], bucket, key)
}

fn load_from(rows: &dyn Rows, spaces: &[Space], bucket: BucketId, key: &str) -> Result<Option<KeyRow>, Error> {
    for space in spaces {
        let at = of_key(*space, bucket, key);
        let mut found = None;
        rows.lend(&at, &mut |bytes| found = Some(row(&at, bytes)))?;
        if found.is_some() {
            return found.transpose();
        }
    }
    Ok(None)
}

/// A version of a key that isn't its preferred one; `None`: it isn't there.
pub fn other_version(
    rows: &dyn Rows,
    (bucket, key): (BucketId, &str),
    id: VersionId,
) -> Result<Option<Version>, Error> {
    let at = of_version(bucket, key, id);
    rows.get(&at)?.map(|bytes| row(&at, &bytes)).transpose()
}

/// The versions of a key that aren't preferred, newest first.
pub fn history(rows: &dyn Rows, bucket: BucketId, key: &str) -> Result<Vec<Version>, Error> {
    let prefix = layout::behind_key(Space::Version, bucket, key);
    let mut found = Vec::new();
    let mut bad = None;
    let end = end_of(&prefix);
    rows.walk(layout::range(&prefix, end.as_ref()), Order::Forward, &mut |at, bytes| match row(at, bytes) {
        Ok(version) => {
            found.push(version);
            ControlFlow::Continue(())
        }
        Err(error) => {
            bad = Some(error);
            ControlFlow::Break(())
        }
    })?;
    bad.map_or(Ok(found), Err)
}

/// A key while a command changes it: what its rows will say, and what they said.
pub(super) struct Key<'k> {
    pub bucket: BucketId,
    pub key: &'k str,
    /// As it was.
    before: Option<KeyRow>,
    /// Heads, all of them whole where they are known so.
    pub heads: Vec<Head>,
    /// What the row will say of all but its heads.
    pub row: KeyRow,
    /// Versions to be put, by id; the preferred one goes into the row.
    changed: BTreeMap<VersionId, Option<Version>>,
    /// How many versions there are.
    pub versions: u32,
    /// Chunks and uploads that no version of this key lists any more.
    pub released: Released,
}

/// What ceased to be referenced.
#[derive(Clone, Debug, Default)]
pub(super) struct Released {
    pub chunks: Vec<Chunk>,
    /// Uploads whose parts belonged to a version.
    pub uploads: Vec<crate::version::UploadId>,
}

impl<'k> Key<'k> {
    /// What the slot knows of it, in a bucket of which these are the counts.
    pub fn load(rows: &dyn Rows, tally: &BucketRow, (bucket, key): (BucketId, &'k str)) -> Result<Self, Error> {
        let before = load_from(rows, tally.spaces(), bucket, key)?;
        let heads = before.as_ref().map(KeyRow::heads).unwrap_or_default();
        let versions = before.as_ref().map_or(0, |row| row.history + 1);
        let row = before.clone().unwrap_or_else(|| KeyRow { linear: true, ..KeyRow::default() });
        let (changed, released) = (BTreeMap::new(), Released::default());
        Ok(Self { bucket, key, before, heads, row, changed, versions, released })
    }

    /// Whether the slot knows anything of it.
    pub fn is_there(&self) -> bool {
        !self.heads.is_empty()
    }

    /// Whether a version is not being removed.
    pub fn has(&self, id: VersionId) -> bool {
        self.changed.get(&id).is_none_or(Option::is_some)
    }

    /// False: it was not in the history, so there is no row of it to delete.
    fn may_be_in_history(&self, id: VersionId) -> bool {
        self.before.as_ref().is_some_and(|before| id <= before.last && id != before.preferred.id)
    }

    /// A head that may be called `null`, if there is one.
    pub fn named_null(&self, rows: &dyn Rows) -> Result<Option<VersionId>, Error> {
        let mut named = None;
        for head in &self.heads {
            let is_null = self.version(rows, head.id)?.is_some_and(|version| version.is_null);
            named = named.max(Some(head.id).filter(|_| is_null));
        }
        Ok(named)
    }

    /// A version of it, as it will be.
    pub fn version(&self, rows: &dyn Rows, id: VersionId) -> Result<Option<Version>, Error> {
        match (self.changed.get(&id), &self.before) {
            (Some(changed), _) => Ok(changed.clone()),
            (None, Some(before)) if before.preferred.id == id => Ok(Some(before.preferred.clone())),
            (None, Some(_)) => other_version(rows, (self.bucket, self.key), id),
            (None, None) => Ok(None),
        }
    }

    /// The same for a version that is not asked for again.
    fn take_version(&mut self, rows: &dyn Rows, id: VersionId) -> Result<Option<Version>, Error> {
        match self.changed.get_mut(&id) {
            Some(changed) => Ok(changed.take()),
            None => self.version(rows, id),
        }
    }

    /// Puts a version, new or changed.
    pub fn put(&mut self, version: Version) {
        self.changed.insert(version.id, Some(version));
    }

    /// Removes a version, whatever stands against it; who calls this has asked.
    pub fn remove(&mut self, tally: &mut BucketRow, version: &Version) {
        self.changed.insert(version.id, None);
        self.versions -= 1;
        tally.discount(version);
        match &version.content.payload {
            Payload::Inline(_) => {}
            Payload::Chunks(chunks) => self.released.chunks.extend_from_slice(chunks),
            Payload::Parts(upload) => self.released.uploads.push(*upload),
        }
        if self.row.null == Some(version.id) {
            self.row.null = None;
        }
    }

    /// Adds a version that wasn't there. It becomes a head if no head supersedes it; heads that it supersedes are none any more.
    pub fn add(&mut self, rows: &dyn Rows, tally: &mut BucketRow, mut version: Version) -> Result<(), Error> {
        let mut superseded: Vec<VersionId> = self.heads.iter().map(|head| head.id).collect();
        heads::add(&mut self.heads, Head::from(&version));
        superseded.retain(|id| !self.heads.iter().any(|head| head.id == *id));
        for id in superseded {
            if let Some(mut old) = self.version(rows, id)? {
                old.superseded = Some(version.committed);
                self.put(old);
            }
        }
        if !self.heads.iter().any(|head| head.id == version.id) {
            version.superseded = Some(version.committed);
        }
        self.versions += 1;
        tally.count(&version);
        self.row.last = self.row.last.max(version.id);
        self.row.clock = version.committed;
        self.put(version);
        Ok(())
    }

    /// Writes what has changed.
    pub fn store(mut self, rows: &mut Batch<'_>, tally: &mut BucketRow) -> Result<Released, Error> {
        let (bucket, key) = (self.bucket, self.key);
        let preferred = match heads::preferred(&self.heads) {
            None => None,
            Some(head) => {
                let id = head.id;
                let found = self.take_version(rows, id)?;
                Some(found.ok_or_else(|| Error::row(key.as_bytes(), "a head's version is missing"))?)
            }
        };
        let was = self.before.as_ref().map(|row| &row.preferred);
        let is = preferred.as_ref();
        tally.objects -= u64::from(was.is_some_and(|was| was.kind == Kind::Data));
        tally.objects += u64::from(is.is_some_and(|is| is.kind == Kind::Data));
        for (old, new) in [(was, None), (None, is)] {
            expiry::follow(rows, (bucket, key), old, new);
        }
        match (self.before.as_ref().and_then(KeyRow::in_conflict), heads_in_conflict(&self.heads)) {
            (_, Some(heads)) => rows.put(of_key(Space::Conflict, bucket, key), encode(&heads)),
            (Some(_), None) => rows.delete(of_key(Space::Conflict, bucket, key)),
            (None, None) => {}
        }
        // Who is preferred no more goes into the history; who is preferred now leaves it.
        if let Some(was) = was.filter(|was| is.is_none_or(|is| is.id != was.id)) {
            self.changed.entry(was.id).or_insert_with(|| Some(was.clone()));
        }
        let moved = is.filter(|is| was.is_none_or(|was| was.id != is.id)).map(|is| is.id);
        for (id, version) in &self.changed {
            let at = of_version(bucket, key, *id);
            match version.as_ref().filter(|_| is.is_none_or(|is| is.id != *id)) {
                Some(version) => rows.put(at, encode(version)),
                None if self.may_be_in_history(*id) => rows.delete(at),
                None => {}
            }
        }
        if let Some(id) = moved.filter(|id| !self.changed.contains_key(id)) {
            rows.delete(of_version(bucket, key, id));
        }
        let space = was.map(|_| self.before.as_ref().map_or(Space::Gone, KeyRow::space));
        let Some(preferred) = preferred else {
            if let Some(space) = space {
                rows.delete(of_key(space, bucket, key));
            }
            return Ok(self.released);
        };
        let id = preferred.id;
        self.row.others = std::mem::take(&mut self.heads).into_iter().filter(|head| head.id != id).collect();
        self.row.others.sort_unstable_by_key(|head| head.id);
        self.row.history = self.versions - 1;
        self.row.preferred = preferred;
        if let Some(space) = space.filter(|space| *space != self.row.space()) {
            rows.delete(of_key(space, bucket, key));
        }
        let about = ROW_BYTES + self.row.preferred.content.inline_bytes();
        rows.put(of_key(self.row.space(), bucket, key), encode_about(about, &self.row));
        Ok(self.released)
    }
}

/// Bytes of a key's row, about and without what lies in it.
const ROW_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::Content;

    #[test]
    fn the_front_of_a_row_says_what_the_row_says() {
        let content = Content {
            size: 1 << 40,
            etag: "0123".to_owned(),
            expires: Some(9),
            headers: vec![("content-type".to_owned(), "image/jpeg".to_owned())],
            payload: Payload::Inline(vec![7; 3000]),
            ..Content::default()
        };
        let preferred = Version { id: VersionId(5), is_null: true, modified: 77, content, ..Version::default() };
        let found = KeyRow { preferred, history: 3, null: Some(VersionId(5)), ..KeyRow::default() };
        let bytes = encode(&found);
        let front = KeyFront { id: VersionId(5), modified: 77, size: 1 << 40, etag: "0123" };
        assert_eq!(KeyFront::read(&bytes).unwrap(), front);
        let needed = (0..=bytes.len()).find(|length| KeyFront::read(&bytes[..*length]).is_ok()).unwrap();
        assert!(needed < 64, "{needed} bytes are looked at, the payload among them");
        assert!((0..needed).all(|length| KeyFront::read(&bytes[..length]).is_err()), "a front that is cut is seen");
        let other = encode(&(7_u64, "a row of something else"));
        assert!(KeyFront::read(&other).is_err() && KeyFront::read(&[0x80]).is_err());
    }
}
