//! Taking over what was provisional elsewhere: each version once, in whatever order they come.

use std::collections::BTreeMap;

use super::command::{Committed, Import, Refusal};
use super::commit::{drop_replaced, finish, replaced, view};
use super::object::Key;
use super::{Stepped, admit, ring};
use crate::index::Error;
use crate::rows::{Batch, Rows};
use crate::version::commit::{self, Marker, Row};
use crate::version::{Bypass, Origin, State, Version, VersionId};

/// Imports one version. When it is answered the node may forget its own.
pub fn import(rows: &mut Batch<'_>, now: u64, import: &Import) -> Stepped<Committed> {
    let Import { place, version } = import;
    let mut tally = admit(rows, place)?;
    version.content.check()?;
    if !version.id.is_sound() {
        return Err(Refusal::Id(version.id).into());
    }
    let marker_key = marker_key(place.bucket.id, &place.key, version.id);
    let mut key = Key::load(rows, place.bucket.id, &place.key)?;
    let here = key.version(rows, version.id)?.is_some() || ring::IMPORTS.find(rows, &marker_key)?.is_some();
    let marker = if here { Marker::Here } else { Marker::None };
    let kept = BTreeMap::new();
    let decision = commit::decide_import(version, marker, &view(&key, place.bucket, &kept), key.row.actor)?;
    let (id, kind, is_null, row) = (version.id, version.kind, version.is_null, decision.row);
    let superseded = decision.superseded.clone();
    if row == Row::I1 {
        let heads = key.heads.len() as u32;
        return Ok(Committed { id: Some(id), kind, is_null, row, heads, superseded });
    }
    let mut old = if is_null { replaced(rows, &key, &decision)? } else { vec![] };
    // Nobody waits for this answer to whom a lock could be explained: the locked one stays, with no name of its own.
    old.retain(|version| version.content.lock.hold(now, Bypass::Nothing).is_none());
    let committed = now.max(key.row.clock);
    let (state, origin) = (State::Confirmed, Origin::Imported);
    let version = Version { committed, state, origin, superseded: None, ..version.clone() };
    if is_null && row == Row::I2 && version.content.lock.hold(now, Bypass::Nothing).is_none() {
        old.push(version.clone());
    }
    key.row.linear = false;
    key.add(rows, &mut tally, version)?;
    if is_null && row != Row::I2 && takes_the_name(rows, &key, id)? {
        key.row.null = Some(id);
    }
    drop_replaced(&mut key, &mut tally, place.bucket, old);
    ring::IMPORTS.push(rows, &marker_key, &[], now)?;
    let heads = finish(rows, now, key, tally)?;
    Ok(Committed { id: Some(id), kind, is_null, row, heads, superseded })
}

fn marker_key(bucket: u64, key: &str, id: VersionId) -> Vec<u8> {
    [&bucket.to_be_bytes()[..], &id.0.to_be_bytes(), key.as_bytes()].concat()
}

/// Whether an imported head is the one called `null` now: not beside a head that the slot committed, and of several imported ones
/// the greatest id is, in whatever order they came.
fn takes_the_name(rows: &dyn Rows, key: &Key<'_>, id: VersionId) -> Result<bool, Error> {
    let Some(null) = key.row.null else { return Ok(true) };
    let is_head = key.heads.iter().any(|head| head.id == null);
    let named = key.version(rows, null)?;
    Ok(named.is_none_or(|named| !is_head || named.origin == Origin::Imported && named.id < id))
}
