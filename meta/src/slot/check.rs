//! What must hold of a slot's rows after every command.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};

use super::layout::{self, BucketId, Space};
use super::object::{BucketRow, KeyRow, heads_in_conflict};
use super::upload::{PartRow, UploadRow};
use crate::encoding::decode;
use crate::index::Order;
use crate::rows::Rows;
use crate::version::{Head, Kind, Payload, UploadId, Version, VersionId, heads};

/// All rows of a slot, read.
#[derive(Default)]
struct All {
    keys: BTreeMap<(BucketId, String), (u8, KeyRow)>,
    versions: BTreeMap<(BucketId, String), Vec<(VersionId, Version)>>,
    uploads: BTreeMap<(BucketId, String, UploadId), UploadRow>,
    parts: BTreeMap<(BucketId, String, UploadId), BTreeMap<u16, PartRow>>,
    expiries: BTreeSet<(u64, BucketId, String, VersionId)>,
    buckets: BTreeMap<BucketId, BucketRow>,
    conflicts: BTreeMap<(BucketId, String), u32>,
}

/// Checks all rows.
///
/// # Errors
/// What doesn't hold.
pub fn check_invariants(rows: &dyn Rows) -> Result<(), String> {
    let mut all = All::default();
    let mut bad = None;
    rows.walk((Bound::Unbounded, Bound::Unbounded), Order::Forward, &mut |key, bytes| {
        bad = all.read(key, bytes).err();
        if bad.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .map_err(|error| error.to_string())?;
    bad.map_or(Ok(()), Err)?;
    for (place, (space, row)) in &all.keys {
        let history = all.versions.remove(place).unwrap_or_default();
        check_key(*space, row, &history).map_err(|what| format!("{place:?}: {what}\n{row:#?}\n{history:#?}"))?;
        if all.conflicts.remove(place) != heads_in_conflict(&row.heads()) {
            return Err(format!("{place:?} is in conflict and not listed so, or the other way round"));
        }
        let versions = history.into_iter().map(|(_, version)| version).chain([row.preferred.clone()]);
        check_parts(place, versions, &mut all.parts, &mut all.expiries, &mut all.buckets)?;
    }
    if let Some(place) = all.versions.keys().next() {
        return Err(format!("versions of {place:?}, which isn't there"));
    }
    if let Some(place) = all.conflicts.keys().next() {
        return Err(format!("a conflict of {place:?}, which isn't there"));
    }
    check_uploads(&mut all)?;
    if let Some(stray) = all.parts.keys().next() {
        return Err(format!("parts of {stray:?}, which nobody needs"));
    }
    if let Some(stray) = all.expiries.first() {
        return Err(format!("an expiry of {stray:?}, which isn't there"));
    }
    let wrong = all
        .buckets
        .iter()
        .find(|(_, left)| **left != BucketRow { epoch: left.epoch, closed: left.closed, ..BucketRow::default() });
    wrong.map_or(Ok(()), |(bucket, left)| Err(format!("bucket {bucket} counts what isn't there: {left:?}")))
}

impl All {
    fn read(&mut self, key: &[u8], bytes: &[u8]) -> Result<(), String> {
        let wrong = |what: &str| format!("{what}: {key:?}");
        let name = || layout::read(key).ok_or_else(|| wrong("no key of a row"));
        let of_upload = || {
            let name = layout::read(key)?;
            let (upload, part) = layout::read_upload(name.rest?)?;
            Some((name.bucket, name.key, upload, part))
        };
        let bad = |_| wrong("not decodable");
        match key.first().copied().unwrap_or_default() {
            space if space == Space::Object as u8 || space == Space::Gone as u8 => {
                let name = name()?;
                let row: KeyRow = decode(bytes).map_err(bad)?;
                if self.keys.insert((name.bucket, name.key), (space, row)).is_some() {
                    return Err(wrong("a key with two rows"));
                }
            }
            space if space == Space::Conflict as u8 => {
                let name = name()?;
                self.conflicts.insert((name.bucket, name.key), decode(bytes).map_err(bad)?);
            }
            space if space == Space::Version as u8 => {
                let name = name()?;
                let id = name.rest.and_then(layout::read_id).ok_or_else(|| wrong("no version"))?;
                let version = decode(bytes).map_err(bad)?;
                self.versions.entry((name.bucket, name.key)).or_default().push((id, version));
            }
            space if space == Space::Upload as u8 => {
                let (bucket, name, upload, _) = of_upload().ok_or_else(|| wrong("no upload"))?;
                self.uploads.insert((bucket, name, upload), decode(bytes).map_err(bad)?);
            }
            space if space == Space::Part as u8 => {
                let (bucket, name, upload, part) = of_upload().ok_or_else(|| wrong("no part"))?;
                let part = part.ok_or_else(|| wrong("a part without a number"))?;
                self.parts.entry((bucket, name, upload)).or_default().insert(part, decode(bytes).map_err(bad)?);
            }
            space if space == Space::Expiry as u8 => {
                let (time, name) = layout::read_expiry(key).ok_or_else(|| wrong("no expiry"))?;
                let id = name.rest.and_then(layout::read_id).ok_or_else(|| wrong("no version"))?;
                self.expiries.insert((time, name.bucket, name.key, id));
            }
            space if space == Space::Bucket as u8 => {
                let bucket = name()?.bucket;
                self.buckets.insert(bucket, decode(bytes).map_err(bad)?);
            }
            _ => {}
        }
        Ok(())
    }
}

fn check_key(space: u8, row: &KeyRow, history: &[(VersionId, Version)]) -> Result<(), String> {
    let holds = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
    let right_space = if row.preferred.kind == Kind::Data { Space::Object } else { Space::Gone };
    holds(space == right_space as u8, "the row lies in the wrong space")?;
    holds(history.iter().all(|(id, version)| *id == version.id), "a version under another id")?;
    holds(history.len() == row.history as usize, "the history has another length")?;
    let heads = row.heads();
    holds(heads::preferred(&heads).map(|head| head.id) == Some(row.preferred.id), "another head is preferred")?;
    let find = |id| history.iter().map(|(_, version)| version).find(|version| version.id == id);
    for head in &row.others {
        let version = find(head.id).ok_or("a head isn't kept")?;
        holds(Head::from(version) == *head, "a head is not its version")?;
    }
    for version in history.iter().map(|(_, version)| version).chain([&row.preferred]) {
        let is_head = heads.iter().any(|head| head.id == version.id);
        let covered = heads.iter().any(|head| head.context.has(version.dot));
        holds(is_head != covered, "a version is a head and superseded, or neither")?;
        holds(is_head == version.superseded.is_none(), "when it was superseded is wrong")?;
        holds(version.id <= row.last, "an id above the last")?;
        holds(version.dot.counter > 0 && !version.context.has(version.dot), "a version is its own ancestor")?;
        holds(row.actor != Some(version.dot.actor) || version.dot.counter <= row.commits, "a dot of the future")?;
    }
    let named = row.null.map(|id| find(id).or_else(|| Some(&row.preferred).filter(|version| version.id == id)));
    holds(named.is_none_or(|named| named.is_some_and(|version| version.is_null)), "`null` is no such version")?;
    let mut dots = BTreeSet::new();
    let all = history.iter().map(|(_, version)| version).chain([&row.preferred]);
    holds(all.map(|version| version.dot).all(|dot| dots.insert(dot)), "two versions with one dot")?;
    let ids: Vec<VersionId> = history.iter().map(|(id, _)| *id).collect();
    let numbers: Vec<u64> = history.iter().map(|(_, version)| version.dot.counter).collect();
    holds(ids.is_sorted_by(|one, next| one > next), "the history is not newest first")?;
    holds(!row.linear || heads.len() == 1 && numbers.is_sorted_by(|one, next| one > next), "it isn't linear")
}

fn check_parts(
    (bucket, key): &(BucketId, String),
    versions: impl Iterator<Item = Version>,
    parts: &mut BTreeMap<(BucketId, String, UploadId), BTreeMap<u16, PartRow>>,
    expiries: &mut BTreeSet<(u64, BucketId, String, VersionId)>,
    buckets: &mut BTreeMap<BucketId, BucketRow>,
) -> Result<(), String> {
    let versions: Vec<Version> = versions.collect();
    let tally = buckets.get_mut(bucket).ok_or_else(|| format!("bucket {bucket} has no row"))?;
    let mut count = |count: &mut dyn FnMut(&mut BucketRow) -> Option<()>| {
        count(tally).ok_or_else(|| format!("bucket {bucket} counts too little: {tally:?}"))
    };
    for version in &versions {
        count(&mut |tally| {
            tally.versions = tally.versions.checked_sub(1)?;
            tally.bytes = tally.bytes.checked_sub(version.content.size)?;
            let tombstone = u64::from(version.kind == Kind::Tombstone);
            tally.tombstones = tally.tombstones.checked_sub(tombstone)?;
            Some(())
        })?;
        if let Payload::Parts(upload) = version.content.payload {
            let found = parts.remove(&(*bucket, key.clone(), upload)).unwrap_or_default();
            let stated = version.content.parts.iter().map(|part| (part.number, part.size));
            if !found.iter().map(|(number, part)| (*number, part.size)).eq(stated) {
                return Err(format!("{key}: the parts of {upload} are not those of its version"));
            }
        }
    }
    let Some(preferred) = versions.last() else { return Ok(()) };
    if preferred.kind == Kind::Data {
        count(&mut |tally| {
            tally.objects = tally.objects.checked_sub(1)?;
            Some(())
        })?;
        if let Some(expires) = preferred.content.expires
            && !expiries.remove(&(expires, *bucket, key.clone(), preferred.id))
        {
            return Err(format!("{key}: nothing says when it expires"));
        }
    }
    Ok(())
}

fn check_uploads(all: &mut All) -> Result<(), String> {
    for ((bucket, key, upload), row) in &all.uploads {
        let parts = all.parts.remove(&(*bucket, key.clone(), *upload)).unwrap_or_default();
        let bytes: u64 = parts.values().map(|part| part.size).sum();
        if bytes != row.bytes {
            return Err(format!("{key}: upload {upload} counts {} bytes, its parts have {bytes}", row.bytes));
        }
        let tally = all.buckets.get_mut(bucket).ok_or_else(|| format!("bucket {bucket} has no row"))?;
        tally.uploads = tally.uploads.checked_sub(1).ok_or("too few uploads are counted")?;
        tally.bytes = tally.bytes.checked_sub(bytes).ok_or("too few bytes are counted")?;
    }
    Ok(())
}
