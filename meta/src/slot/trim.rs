//! Dropping what retention lets go: `version::retention` judges, this obeys.

use std::ops::ControlFlow;

use super::command::Place;
use super::commit::finish;
use super::layout::{self, Space, end_of};
use super::object::{BucketRow, Key};
use super::{Stepped, answered};
use crate::encoding::row;
use crate::index::{Error, Order};
use crate::rows::{Batch, Rows};
use crate::version::retention::{Keep, Standing, Verdict, judge};
use crate::version::{Kind, Version, VersionId};

/// The most versions of one key that a command looks at: the oldest; a later command goes on.
const VERSIONS_MAX: usize = 1000;

/// Trims keys and says how many versions went. A bucket need not be there any more.
pub fn trim(rows: &mut Batch<'_>, now: u64, places: &[Place]) -> Stepped<u64> {
    let mut dropped = 0;
    for place in places {
        dropped += answered(trim_key(rows, now, place))?.unwrap_or(0);
    }
    Ok(dropped)
}

fn trim_key(rows: &mut Batch<'_>, now: u64, place: &Place) -> Stepped<u64> {
    let mut tally = BucketRow::load(rows, place.bucket.id)?;
    let mut key = Key::load(rows, &tally, (place.bucket.id, &place.key))?;
    let keep = place.bucket.keep;
    let newest = newest_kept(rows, &key, &keep)?;
    let mut dropped = 0;
    for version in oldest(rows, &key)? {
        let standing = standing(&key, &version, newest, &keep);
        if judge(&version, standing, &keep, now) == Verdict::Drop {
            key.remove(&mut tally, &version);
            dropped += 1;
        }
    }
    if key.versions == 1 && key.heads.len() == 1 {
        let preferred = key.row.preferred.clone();
        let standing = Standing { heads: 1, ..Standing::default() };
        if judge(&preferred, standing, &keep, now) == Verdict::Drop {
            key.remove(&mut tally, &preferred);
            key.heads.clear();
            dropped += 1;
        }
    }
    if dropped > 0 {
        finish(rows, now, key, tally)?;
    }
    Ok(dropped)
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
