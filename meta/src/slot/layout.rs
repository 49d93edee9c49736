//! Where a slot keeps what: the keys of its rows. `docs/format.md` has the same table.
//!
//! | key | value | |
//! | --- | --- | --- |
//! | `b` bucket | `BucketRow` | what is counted of a bucket, and whether it is closed |
//! | `c` bucket name | `u32` | a key in conflict, and how many heads it has |
//! | `d` bucket name | `KeyRow` | a key whose preferred head is no object |
//! | `e` time bucket name 0 id | nothing | an object that expires: the preferred head of its key |
//! | `i` number, `I` version | see `ring` | imports that must not happen again |
//! | `k` bucket name | `KeyRow` | a key whose preferred head is an object, that head whole |
//! | `l` | `u16` | the level of commands that the slot takes |
//! | `p` bucket name 0 upload part | `PartRow` | a part of an upload, or of an object made of one |
//! | `r` number | see `ring` | chunks that ceased to be referenced, until GC has looked at them |
//! | `t` number, `T` token | see `ring` | answers given to commands with a token |
//! | `u` bucket name 0 upload | `UploadRow` | an upload under way |
//! | `v` bucket name 0 id | `Version` | a version that isn't the preferred head, newest first |
//!
//! Numbers are big-endian: bucket, time and number 8 bytes, id, upload, version and token 16, part 2; an id in `e` and `v` is
//! inverted, so that rows sort newest first. A *name* is an object's key with every byte raised by one: UTF-8 has no
//! byte above 0xF4, so none overflows, 0 ends a name, and rows sort as keys do by their bytes. So a read of an object is
//! one row, a page of a list one walk over `k`, which meets no deleted object, and a key of 1,024 bytes makes rows with
//! keys of at most 1,061.

use std::ops::Bound;

use crate::rows::Range;
use crate::version::{UploadId, VersionId};

/// The longest key of an object, in bytes, as S3 has it.
pub const OBJECT_KEY_MAX: usize = 1024;

/// What a row is: its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Space {
    /// Of a bucket.
    Bucket = b'b',
    /// A key in conflict.
    Conflict = b'c',
    /// A key without an object.
    Gone = b'd',
    /// What expires.
    Expiry = b'e',
    /// A key with an object.
    Object = b'k',
    /// The level of commands.
    Level = b'l',
    /// A part.
    Part = b'p',
    /// An upload.
    Upload = b'u',
    /// A version that isn't preferred.
    Version = b'v',
}

/// A bucket's name for itself: handed out by control, never reused.
pub type BucketId = u64;

/// The longest key of a row: of a part.
const ROW_KEY_MAX: usize = 1 + 8 + OBJECT_KEY_MAX + 1 + 16 + 2;

/// Rows lie behind the 4 bytes of their slot.
const _: () = assert!(ROW_KEY_MAX + 4 <= crate::index::KEY_MAX);

/// The beginning of all rows of a bucket in a space.
pub fn of_bucket(space: Space, bucket: BucketId) -> Vec<u8> {
    let mut row = Vec::with_capacity(64);
    row.push(space as u8);
    row.extend_from_slice(&bucket.to_be_bytes());
    row
}

/// The row of a key, or the beginning of all rows of keys with this prefix.
pub fn of_key(space: Space, bucket: BucketId, key: &str) -> Vec<u8> {
    let mut row = of_bucket(space, bucket);
    push_name(&mut row, key);
    row
}

fn push_name(row: &mut Vec<u8>, key: &str) {
    row.extend(key.bytes().map(|byte| byte + 1));
}

/// The beginning of all rows behind a key.
pub fn behind_key(space: Space, bucket: BucketId, key: &str) -> Vec<u8> {
    let mut row = of_key(space, bucket, key);
    row.push(0);
    row
}

/// The row of a version that isn't preferred.
pub fn of_version(bucket: BucketId, key: &str, id: VersionId) -> Vec<u8> {
    let mut row = behind_key(Space::Version, bucket, key);
    row.extend_from_slice(&(!id.0).to_be_bytes());
    row
}

/// The row of an upload.
pub fn of_upload(bucket: BucketId, key: &str, upload: UploadId) -> Vec<u8> {
    let mut row = behind_key(Space::Upload, bucket, key);
    row.extend_from_slice(&upload.0.to_be_bytes());
    row
}

/// The beginning of the rows of an upload's parts.
pub fn of_parts(bucket: BucketId, key: &str, upload: UploadId) -> Vec<u8> {
    let mut row = behind_key(Space::Part, bucket, key);
    row.extend_from_slice(&upload.0.to_be_bytes());
    row
}

/// The row of a part.
pub fn of_part(bucket: BucketId, key: &str, upload: UploadId, part: u16) -> Vec<u8> {
    let mut row = of_parts(bucket, key, upload);
    row.extend_from_slice(&part.to_be_bytes());
    row
}

/// The row that says when an object expires.
pub fn of_expiry(time: u64, bucket: BucketId, key: &str, id: VersionId) -> Vec<u8> {
    let mut row = vec![Space::Expiry as u8];
    row.extend_from_slice(&time.to_be_bytes());
    row.extend_from_slice(&bucket.to_be_bytes());
    push_name(&mut row, key);
    row.push(0);
    row.extend_from_slice(&(!id.0).to_be_bytes());
    row
}

/// Behind all rows that begin so; `None`: nothing is.
pub fn end_of(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// The range of all rows that begin so.
pub fn range<'b>(prefix: &'b [u8], end: Option<&'b Vec<u8>>) -> Range<'b> {
    (Bound::Included(prefix), end.map_or(Bound::Unbounded, |end| Bound::Excluded(end.as_slice())))
}

/// A row's key, read back.
#[derive(Debug, PartialEq, Eq)]
pub struct RowKey<'r> {
    /// The bucket.
    pub bucket: BucketId,
    /// The object's key.
    pub key: String,
    /// What stands behind its end, if it has one.
    pub rest: Option<&'r [u8]>,
}

/// Reads the key of a row of `k`, `d`, `v`, `u` or `p`; `None` if it is none.
pub fn read(row: &[u8]) -> Option<RowKey<'_>> {
    let (bucket, name) = row.get(1..)?.split_first_chunk()?;
    read_name(u64::from_be_bytes(*bucket), name)
}

fn read_name(bucket: BucketId, name: &[u8]) -> Option<RowKey<'_>> {
    let end = name.iter().position(|byte| *byte == 0);
    let (name, rest) = end.map_or((name, None), |end| (&name[..end], Some(&name[end + 1..])));
    let key = String::from_utf8(name.iter().map(|byte| byte - 1).collect()).ok()?;
    Some(RowKey { bucket, key, rest })
}

/// Reads the key of a row of `e`: the time, and the rest of it.
pub fn read_expiry(row: &[u8]) -> Option<(u64, RowKey<'_>)> {
    let (time, row) = row.get(1..)?.split_first_chunk()?;
    let (bucket, name) = row.split_first_chunk()?;
    Some((u64::from_be_bytes(*time), read_name(u64::from_be_bytes(*bucket), name)?))
}

/// Reads an inverted id.
pub fn read_id(rest: &[u8]) -> Option<VersionId> {
    rest.try_into().ok().map(|bytes| VersionId(!u128::from_be_bytes(bytes)))
}

/// Reads an upload, and the number of a part if there is one.
pub fn read_upload(rest: &[u8]) -> Option<(UploadId, Option<u16>)> {
    let (upload, part) = rest.split_first_chunk()?;
    let upload = UploadId(u128::from_be_bytes(*upload));
    match part {
        [] => Some((upload, None)),
        part => Some((upload, Some(u16::from_be_bytes(part.try_into().ok()?)))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = String> {
        "[\u{0}\u{1}a/\u{7f}\u{80}\u{7ff}\u{ffff}\u{10ffff}]{0,6}"
    }

    proptest! {
        #[test]
        fn rows_sort_as_keys_do((a, b) in (key(), key()), (one, other) in any::<(u128, u128)>()) {
            let row = |key: &str| of_key(Space::Object, 7, key);
            prop_assert_eq!(row(&a).cmp(&row(&b)), a.as_bytes().cmp(b.as_bytes()));
            let version = |key: &str, id| of_version(7, key, VersionId(id));
            let expected = a.as_bytes().cmp(b.as_bytes()).then(other.cmp(&one));
            prop_assert_eq!(version(&a, one).cmp(&version(&b, other)), expected);
            prop_assert_eq!(row(&a).starts_with(&row(&b)), a.starts_with(&b));
        }

        #[test]
        fn rows_are_read_back(key in key(), (bucket, id, time) in any::<(u64, u128, u64)>(), part in any::<u16>()) {
            let row = of_version(bucket, &key, VersionId(id));
            let found = read(&row).unwrap();
            prop_assert_eq!((found.bucket, &found.key, found.rest.and_then(read_id)), (bucket, &key, Some(VersionId(id))));
            let row = of_part(bucket, &key, UploadId(id), part);
            prop_assert_eq!(read(&row).unwrap().rest.and_then(read_upload), Some((UploadId(id), Some(part))));
            let row = of_key(Space::Object, bucket, &key);
            prop_assert_eq!(read(&row).unwrap(), RowKey { bucket, key: key.clone(), rest: None });
            let row = of_expiry(time, bucket, &key, VersionId(id));
            let (found, rest) = read_expiry(&row).unwrap();
            prop_assert_eq!((found, rest.bucket, rest.key), (time, bucket, key));
        }
    }

    #[test]
    fn the_end_of_a_prefix_is_behind_all_that_begins_so() {
        assert_eq!(end_of(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(end_of(&[7, 255, 255]), Some(vec![8]));
        assert_eq!(end_of(&[255]), None);
    }

    #[test]
    fn the_longest_key_fits() {
        let key = "\u{10ffff}".repeat(OBJECT_KEY_MAX / 4);
        assert_eq!(of_part(u64::MAX, &key, UploadId(1), 1).len(), ROW_KEY_MAX);
    }
}
