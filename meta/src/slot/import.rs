//! Taking over what was provisional elsewhere: each version once, in whatever order they come.

use std::collections::BTreeMap;

use super::command::{Committed, Import, Refusal};
use super::commit::{drop_replaced, finish, view};
use super::object::{self, Key};
use super::{Stepped, admit};
use crate::index::Error;
use crate::ring;
use crate::rows::{Batch, Rows};
use crate::version::commit::{self, Marker, Row};
use crate::version::{Bypass, Head, Origin, State, Version, VersionId, heads};

/// Imports one version. When it is answered the node may forget its own.
pub fn import(rows: &mut Batch<'_>, now: u64, import: &Import) -> Stepped<Committed> {
    let Import { place, version } = import;
    let mut tally = admit(rows, place)?;
    version.content.check()?;
    if !version.id.is_sound() {
        return Err(Refusal::Id(version.id).into());
    }
    let marker_key = marker_key(place.bucket.id, &place.key, version.id);
    let mut key = Key::load(rows, &tally, (place.bucket.id, &place.key))?;
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
    let committed = now.max(key.row.clock);
    let (state, origin) = (State::Confirmed, Origin::Imported);
    let version = Version { committed, state, origin, superseded: None, ..version.clone() };
    let named = if is_null { Some(name_null(rows, &key, &version, now)?) } else { None };
    key.row.linear = false;
    key.add(rows, &mut tally, version)?;
    if let Some(Named { null, replaced }) = named {
        key.row.null = null;
        drop_replaced(&mut key, &mut tally, place.bucket, replaced);
    }
    ring::IMPORTS.push(rows, &marker_key, &[], now)?;
    let heads = finish(rows, now, key, tally)?;
    Ok(Committed { id: Some(id), kind, is_null, row, heads, superseded })
}

/// Who is called `null`, and who was replaced under that name.
struct Named {
    null: Option<VersionId>,
    replaced: Vec<Version>,
}

/// Looks at all versions called `null` and a new one. It is the same in whatever order they came: replaced are those that another
/// one supersedes; of the rest, the one that would be preferred has the name. A locked one is not replaced, as nobody
/// waits for this answer to whom that could be explained: it stays, without a name.
fn name_null(rows: &dyn Rows, key: &Key<'_>, new: &Version, now: u64) -> Result<Named, Error> {
    let mut all = object::history(rows, key.bucket, key.key)?;
    all.extend(key.is_there().then(|| key.row.preferred.clone()));
    all.push(new.clone());
    all.retain(|version| version.is_null);
    let is_superseded = |version: &Version| all.iter().any(|other| other.supersedes(version.dot));
    let (mut replaced, rest): (Vec<Version>, Vec<Version>) =
        all.iter().cloned().partition(|version| is_superseded(version));
    replaced.retain(|version| version.content.lock.hold(now, Bypass::Nothing).is_none());
    let rest: Vec<Head> = rest.iter().map(Head::from).collect();
    Ok(Named { null: heads::preferred(&rest).map(|head| head.id), replaced })
}

fn marker_key(bucket: u64, key: &str, id: VersionId) -> Vec<u8> {
    [&bucket.to_be_bytes()[..], &id.0.to_be_bytes(), key.as_bytes()].concat()
}
