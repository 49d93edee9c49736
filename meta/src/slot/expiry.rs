//! When objects expire: a row for each preferred head that says so, in the order of time.

use std::ops::{Bound, ControlFlow};

use super::layout::{self, BucketId, Space, of_expiry};
use crate::index::{Error, Order};
use crate::rows::{Batch, Rows};
use crate::version::{Kind, Version, VersionId};

/// An object whose time is over: nobody is shown it, and a tombstone is to take its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// When it was over, in milliseconds.
    pub time: u64,
    /// Of this bucket.
    pub bucket: BucketId,
    /// Its key.
    pub key: String,
    /// The version.
    pub id: VersionId,
}

/// Objects whose time is over by `now`, behind one of them if it is given, the oldest first.
///
/// # Errors
/// If rows can't be read.
pub fn expired(rows: &dyn Rows, now: u64, behind: Option<&Expired>, max: usize) -> Result<Vec<Expired>, Error> {
    let begin = vec![Space::Expiry as u8];
    let low = behind.map(|Expired { time, bucket, key, id }| of_expiry(*time, *bucket, key, *id));
    let low = low.as_deref().map_or(Bound::Included(begin.as_slice()), Bound::Excluded);
    let high = [begin.as_slice(), &now.saturating_add(1).to_be_bytes()].concat();
    let (mut found, mut failed) = (Vec::new(), None);
    rows.walk((low, Bound::Excluded(&high)), Order::Forward, &mut |at, _| {
        let read = layout::read_expiry(at).and_then(|(time, key)| {
            let id = layout::read_id(key.rest?)?;
            Some(Expired { time, bucket: key.bucket, key: key.key, id })
        });
        match read {
            Some(read) => found.push(read),
            None => failed = Some(Error::row(at, "no time at which an object expires")),
        }
        if found.len() < max && failed.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    failed.map_or(Ok(found), Err)
}

/// Has the row follow from one preferred head of a key to the next.
pub fn follow(rows: &mut Batch<'_>, (bucket, key): (BucketId, &str), was: Option<&Version>, is: Option<&Version>) {
    let place = |version: &Version| {
        let expires = version.content.expires.filter(|_| version.kind == Kind::Data)?;
        Some(of_expiry(expires, bucket, key, version.id))
    };
    if let Some(at) = was.and_then(place) {
        rows.delete(at);
    }
    if let Some(at) = is.and_then(place) {
        rows.put(at, []);
    }
}
