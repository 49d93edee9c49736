//! Erasing a version for ever, and changing what may be changed of one. Locks are enforced here, below every path.

use std::ops::ControlFlow;

use super::command::{Amend, Change, Erase, Erased, Refusal, Which};
use super::commit::finish;
use super::layout::{self, Space, end_of};
use super::object::{self, Key};
use super::trim::is_replaced;
use super::{Stepped, admit};
use crate::encoding::row;
use crate::index::{Error, Order};
use crate::rows::{Batch, Rows};
use crate::version::{Bypass, Head, Kind, Version, VersionId, commit, heads};

/// Erases a version, unless its lock forbids it.
pub fn erase(rows: &mut Batch<'_>, now: u64, erase: &Erase) -> Stepped<Erased> {
    let Erase { place, which, bypass, conditions } = erase;
    let mut tally = admit(rows, place)?;
    let mut key = Key::load(rows, &tally, (place.bucket.id, &place.key))?;
    let version = find(rows, &key, *which)?;
    commit::check(conditions, Some(version.summary()), now)?;
    if let Some(hold) = version.content.lock.hold(now, *bypass) {
        return Err(Refusal::Locked(hold).into());
    }
    let replaced = if version.is_null { replaced(rows, &key, &version, now)? } else { vec![] };
    for version in replaced.iter().chain([&version]) {
        key.remove(&mut tally, version);
    }
    expose(rows, &mut key, version.id)?;
    let Version { id, kind, is_null, .. } = version;
    finish(rows, now, key, tally)?;
    Ok(Erased { id, kind, is_null })
}

/// What it replaced under the name `null`, and nobody could name any more: that must not come back in its place.
fn replaced(rows: &dyn Rows, key: &Key<'_>, version: &Version, now: u64) -> Result<Vec<Version>, Error> {
    let mut history = object::history(rows, key.bucket, key.key)?;
    history.retain(|old| {
        let was_replaced = is_replaced(key.row.null, old) && version.supersedes(old.dot);
        was_replaced && old.superseded.is_some() && old.content.lock.hold(now, Bypass::Nothing).is_none()
    });
    Ok(history)
}

/// Takes a version that was removed out of the heads; its ancestors become heads where nothing else supersedes them.
fn expose(rows: &dyn Rows, key: &mut Key<'_>, id: VersionId) -> Result<(), Error> {
    if !key.heads.iter().any(|head| head.id == id) {
        return Ok(());
    }
    key.heads.retain(|head| head.id != id);
    let candidates = if key.row.linear {
        newest(rows, key)?.into_iter().collect::<Vec<_>>()
    } else {
        object::history(rows, key.bucket, key.key)?
    };
    let kept: Vec<Version> = candidates.into_iter().filter(|version| key.has(version.id)).collect();
    for version in &kept {
        heads::add(&mut key.heads, Head::from(version));
    }
    for mut version in kept {
        if key.heads.iter().any(|head| head.id == version.id) && version.superseded.is_some() {
            version.superseded = None;
            key.put(version);
        }
    }
    if key.row.null.is_none() {
        key.row.null = key.named_null(rows)?;
    }
    Ok(())
}

/// The newest of the history, which is the last but one of a key without branches.
fn newest(rows: &dyn Rows, key: &Key<'_>) -> Result<Option<Version>, Error> {
    let prefix = layout::behind_key(Space::Version, key.bucket, key.key);
    let end = end_of(&prefix);
    let mut found = None;
    rows.walk(layout::range(&prefix, end.as_ref()), Order::Forward, &mut |at, bytes| {
        let version: Result<Version, Error> = row(at, bytes);
        let is_there = version.as_ref().is_ok_and(|version| key.has(version.id));
        if version.is_ok() && !is_there {
            return ControlFlow::Continue(());
        }
        found = Some(version);
        ControlFlow::Break(())
    })?;
    found.transpose()
}

fn find(rows: &dyn Rows, key: &Key<'_>, which: Which) -> Stepped<Version> {
    let id = match which {
        Which::Id(id) => Some(id),
        Which::Null => key.row.null,
        Which::Preferred => key.is_there().then_some(key.row.preferred.id),
    };
    let found = id.map(|id| key.version(rows, id)).transpose()?.flatten();
    found.ok_or(Refusal::NoVersion.into())
}

/// Changes a version's tags, headers or lock.
pub fn amend(rows: &mut Batch<'_>, now: u64, amend: &Amend) -> Stepped<VersionId> {
    let tally = admit(rows, &amend.place)?;
    let mut key = Key::load(rows, &tally, (amend.place.bucket.id, &amend.place.key))?;
    let mut version = find(rows, &key, amend.which)?;
    if version.kind != Kind::Data {
        return Err(Refusal::NoObject.into());
    }
    let content = &mut version.content;
    match &amend.change {
        Change::Tags(tags) => content.tags.clone_from(tags),
        Change::Headers(headers) => content.headers.clone_from(headers),
        Change::LegalHold(held) => content.lock.legal_hold = *held,
        Change::Retention { retention, bypass } => {
            if let Some(hold) = content.lock.forbids(*retention, now, *bypass) {
                return Err(Refusal::Locked(hold).into());
            }
            content.lock.retention = *retention;
        }
    }
    content.check_words()?;
    let id = version.id;
    key.put(version);
    finish(rows, now, key, tally)?;
    Ok(id)
}
