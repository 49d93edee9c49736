//! Dropping what retention lets go: `version::retention` judges, this obeys.

use std::ops::{Bound, ControlFlow};

use super::command::{Place, Trimmed};
use super::commit::finish;
use super::layout::{self, BucketId, RowKey, Space, end_of};
use super::object::{BucketRow, Key, KeyBrief};
use super::{Stepped, answered};
use crate::encoding::row;
use crate::index::{Error, Order};
use crate::rows::{Batch, Rows};
use crate::version::retention::{Keep, Standing, Verdict, judge};
use crate::version::{Kind, Payload, Summary, Version, VersionId};

/// The most versions of one key that a command looks at: the oldest; a later command goes on.
const VERSIONS_MAX: usize = 1000;
/// A command that has changed so many bytes stops. What it may change, whatever it is asked for, is four times as much.
const BYTES_MAX: usize = 256 << 10;

/// Trims keys and says how many versions went. A bucket need not be there any more.
pub(super) fn trim(rows: &mut Batch<'_>, now: u64, places: &[Place]) -> Stepped<Trimmed> {
    let mut done = Trimmed::default();
    for place in places {
        done.rest |= rows.bytes() >= BYTES_MAX;
        if done.rest {
            break;
        }
        let of_key = answered(trim_key(rows, now, place))?.unwrap_or_default();
        done = Trimmed { dropped: done.dropped + of_key.dropped, rest: of_key.rest };
    }
    Ok(done)
}

fn trim_key(rows: &mut Batch<'_>, now: u64, place: &Place) -> Stepped<Trimmed> {
    let mut tally = BucketRow::load(rows, place.bucket.id)?;
    let mut key = Key::load(rows, &tally, (place.bucket.id, &place.key))?;
    let mut due = due(rows, &key, &place.bucket.keep, now)?;
    let fit = fit(&place.key, &due);
    let rest = due.len() > fit || due.len() == VERSIONS_MAX;
    due.truncate(fit);
    for version in &due {
        key.remove(&mut tally, version);
        key.heads.retain(|head| head.id != version.id);
    }
    if !due.is_empty() {
        finish(rows, now, key, tally)?;
    }
    Ok(Trimmed { dropped: due.len() as u64, rest })
}

/// How many of these versions one command drops: one, and others while what they change is not too much.
fn fit(key: &str, due: &[Version]) -> usize {
    /// Of a row's key, beside the name; of a chunk in the list of what is released.
    const ROW: usize = 64;
    let mut bytes = 0;
    let fits = due.iter().take_while(|version| {
        let chunks = match &version.content.payload {
            Payload::Chunks(chunks) => chunks.len(),
            Payload::Inline(_) | Payload::Parts(_) => 1,
        };
        bytes += key.len() + ROW * (1 + chunks);
        bytes <= BYTES_MAX
    });
    fits.count().max(1)
}

/// The versions of a key that retention lets go now, the oldest first.
fn due(rows: &dyn Rows, key: &Key<'_>, keep: &Keep, now: u64) -> Result<Vec<Version>, Error> {
    let newest = newest_kept(rows, key, keep)?;
    let mut due = oldest(rows, key)?;
    due.retain(|version| judge(version, standing(key, version, newest, keep), keep, now) == Verdict::Drop);
    if key.is_there() && key.versions as usize == due.len() + 1 && key.heads.len() == 1 {
        let standing = Standing { heads: 1, ..Standing::default() };
        if judge(&key.row.preferred, standing, keep, now) == Verdict::Drop {
            due.push(key.row.preferred.clone());
        }
    }
    Ok(due)
}

/// What a look at a slot found that may be trimmed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Keys of which retention lets something go; of one with branches it may turn up again.
    pub keys: Vec<(BucketId, String)>,
    /// The row behind which another look goes on; `None`: there is no more.
    pub next: Option<Vec<u8>>,
}

/// Rows that a look goes over, at most.
const LOOK_ROWS: usize = 256;

/// Looks for keys that may be trimmed, among a part of those without an object and of those with a history. `keep` says how long a
/// bucket keeps what.
///
/// # Errors
/// If rows can't be read.
pub fn look(rows: &dyn Rows, now: u64, keep: &dyn Fn(BucketId) -> Keep, behind: Option<&[u8]>) -> Result<Due, Error> {
    const SPACES: [Space; 2] = [Space::Gone, Space::Version];
    let (mut candidates, mut next, mut bad, mut left) = (Vec::<(BucketId, String)>::new(), None, None, LOOK_ROWS);
    for space in SPACES {
        let (low, high) = ([space as u8], [space as u8 + 1]);
        let low = behind.map_or(Bound::Included(low.as_slice()), |behind| Bound::Excluded(behind.max(&low)));
        if matches!(low, Bound::Excluded(low) if *low >= high[..]) {
            continue;
        }
        let high = Bound::Excluded(high.as_slice());
        rows.walk((low, high), Order::Forward, &mut |at, bytes| {
            match candidate(space, at, bytes, keep) {
                Ok(Some(key)) if candidates.last() != Some(&key) => candidates.push(key),
                Ok(_) => {}
                Err(error) => bad = Some(error),
            }
            left -= 1;
            if left == 0 {
                next = Some(at.to_vec());
            }
            if left > 0 && bad.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        if let Some(error) = bad {
            return Err(error);
        }
        if next.is_some() {
            break;
        }
    }
    let mut keys = Vec::new();
    for (bucket, name) in candidates {
        let tally = BucketRow::load(rows, bucket)?;
        if !due(rows, &Key::load(rows, &tally, (bucket, &name))?, &keep(bucket), now)?.is_empty() {
            keys.push((bucket, name));
        }
    }
    Ok(Due { keys, next })
}

/// The key of a row, if anything but a lock and the time may stand against dropping what lies there.
fn candidate(
    space: Space,
    at: &[u8],
    bytes: &[u8],
    keep: &dyn Fn(BucketId) -> Keep,
) -> Result<Option<(BucketId, String)>, Error> {
    let Some(RowKey { bucket, key, .. }) = layout::read(at) else {
        return Err(Error::row(at, "no row of a key"));
    };
    let is_candidate = if space == Space::Gone {
        row::<KeyBrief<'_>>(at, bytes)?.preferred.kind == Kind::Tombstone
    } else {
        let Summary { kind, is_null, .. } = row(at, bytes)?;
        is_null || kind == Kind::Tombstone || keep(bucket).superseded.is_some()
    };
    Ok(is_candidate.then_some((bucket, key)))
}

fn standing(key: &Key<'_>, version: &Version, newest: Option<VersionId>, keep: &Keep) -> Standing {
    let is_head = key.heads.iter().any(|head| head.id == version.id);
    let among_newest = newest.is_none_or(|newest| version.id >= newest);
    Standing {
        heads: if is_head { key.heads.len() } else { 0 },
        others: key.versions as usize - 1,
        newer: if among_newest { 0 } else { keep.superseded_min as usize },
        is_replaced: is_replaced(key.row.null, version),
    }
}

/// Whether S3 can't name it any more.
pub fn is_replaced(null: Option<VersionId>, version: &Version) -> bool {
    version.is_null && null != Some(version.id)
}

/// The oldest of the newest superseded versions that are kept whatever their age; `None`: all are among them.
fn newest_kept(rows: &dyn Rows, key: &Key<'_>, keep: &Keep) -> Result<Option<VersionId>, Error> {
    if keep.superseded_min == 0 {
        return Ok(Some(VersionId(u128::MAX)));
    }
    let (mut left, mut last) = (keep.superseded_min, None);
    walk(rows, key, Order::Forward, &mut |version| {
        let counts = version.superseded.is_some() && version.kind != Kind::Tombstone;
        left -= u32::from(counts && !is_replaced(key.row.null, &version));
        last = Some(version.id).filter(|_| left == 0);
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(last)
}

fn oldest(rows: &dyn Rows, key: &Key<'_>) -> Result<Vec<Version>, Error> {
    let mut found = Vec::new();
    walk(rows, key, Order::Backward, &mut |version| {
        found.push(version);
        if found.len() < VERSIONS_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(found)
}

fn walk(
    rows: &dyn Rows,
    key: &Key<'_>,
    order: Order,
    visit: &mut dyn FnMut(Version) -> ControlFlow<()>,
) -> Result<(), Error> {
    let prefix = layout::behind_key(Space::Version, key.bucket, key.key);
    let end = end_of(&prefix);
    let mut bad = None;
    rows.walk(layout::range(&prefix, end.as_ref()), order, &mut |at, bytes| match row(at, bytes) {
        Ok(version) => visit(version),
        Err(error) => {
            bad = Some(error);
            ControlFlow::Break(())
        }
    })?;
    bad.map_or(Ok(()), Err)
}
