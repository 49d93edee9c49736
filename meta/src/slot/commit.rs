//! A commit of the slot itself.

use std::collections::BTreeMap;

use super::command::{Body, Bucket, Committed, Refusal, Versioning, Write};
use super::object::{BucketRow, Key};
use super::{Stepped, admit, release};
use crate::index::Error;
use crate::rows::{Batch, Rows};
use crate::version::commit::{self, Decision, Mode, Row, View};
use crate::version::{Actor, Bypass, Content, Head, Kind, Version, VersionId};

/// Commits one version.
pub fn write(rows: &mut Batch<'_>, now: u64, write: Write) -> Stepped<Committed> {
    let Write { place, id, mode, body } = write;
    let tally = admit(rows, &place)?;
    let content = match body {
        Body::Object(content) => {
            content.check()?;
            Some(content)
        }
        Body::Deletion => None,
    };
    make(rows, now, (place.bucket, &place.key), tally, New { id, mode: &mode, content })
}

/// What is to be made.
pub struct New<'n> {
    pub id: VersionId,
    pub mode: &'n Mode,
    /// `None`: a deletion.
    pub content: Option<Content>,
}

/// Makes a version where the decision table lets it be.
pub fn make(
    rows: &mut Batch<'_>,
    now: u64,
    (bucket, name): (Bucket, &str),
    mut tally: BucketRow,
    new: New<'_>,
) -> Stepped<Committed> {
    if !new.id.is_sound() {
        return Err(Refusal::Id(new.id).into());
    }
    let mut key = Key::load(rows, &tally, (bucket.id, name))?;
    let decision = decide(rows, &key, bucket, new.mode, now)?;
    let (kind, is_null) = kind(bucket.versioning, new.content.is_some());
    if kind == Kind::Tombstone && is_gone(&key) && matches!(new.mode, Mode::Overwrite | Mode::Conditional(_)) {
        let heads = key.heads.len() as u32;
        return Ok(Committed { id: None, kind, is_null, row: decision.row, heads, superseded: vec![] });
    }
    let replaced = if is_null { replaced(rows, &key, &decision)? } else { vec![] };
    unlocked(&replaced, now)?;
    let id = if key.is_there() { new.id.max(key.row.last.next()) } else { new.id };
    let actor = *key.row.actor.get_or_insert(Actor(id.0));
    let dot = commit::next_dot(actor, key.row.commits);
    key.row.commits = dot.counter;
    key.row.linear &= key.heads.len() <= 1 && !matches!(decision.row, Row::D2);
    let Decision { row, parents, context, superseded } = decision;
    let content = new.content.unwrap_or_default();
    let committed = now.max(key.row.clock);
    let version =
        Version { id, kind, is_null, modified: now, content, parents, dot, context, committed, ..Version::default() };
    key.add(rows, &mut tally, version)?;
    drop_replaced(&mut key, &mut tally, bucket, replaced);
    if is_null {
        key.row.null = Some(id);
    }
    finish(rows, now, key, tally)
        .map(|heads| Committed { id: Some(id), kind, is_null, row, heads, superseded })
        .map_err(Into::into)
}

/// Writes a key that was changed. Returns how many heads it has.
pub fn finish(rows: &mut Batch<'_>, now: u64, key: Key<'_>, mut tally: BucketRow) -> Result<u32, Error> {
    let (bucket, name, heads) = (key.bucket, key.key, key.heads.len() as u32);
    let released = key.store(rows, &mut tally)?;
    tally.store(rows, bucket);
    release(rows, (bucket, name), now, released)?;
    Ok(heads)
}

fn decide(rows: &dyn Rows, key: &Key<'_>, bucket: Bucket, mode: &Mode, now: u64) -> Stepped<Decision> {
    let kept = kept_parents(rows, key, mode)?;
    Ok(commit::decide(mode, &view(key, bucket, &kept), now)?)
}

/// What the decision table looks at.
pub fn view<'k>(key: &'k Key<'_>, bucket: Bucket, kept: &'k BTreeMap<VersionId, Head>) -> View<'k> {
    let preferred = key.is_there().then(|| key.row.preferred.summary());
    View { heads: &key.heads, preferred, kept, versions: key.versions, caps: bucket.caps }
}

/// Those of the parents named that are no heads, if they are kept.
fn kept_parents(rows: &dyn Rows, key: &Key<'_>, mode: &Mode) -> Result<BTreeMap<VersionId, Head>, Error> {
    let Mode::Derive(parents) = mode else { return Ok(BTreeMap::new()) };
    let mut kept = BTreeMap::new();
    for id in parents.iter().filter(|id| !key.heads.iter().any(|head| head.id == **id)) {
        if let Some(version) = key.version(rows, *id)? {
            kept.insert(*id, Head::from(&version));
        }
    }
    Ok(kept)
}

/// What a write makes under this versioning, and whether S3 calls it `null`.
pub fn kind(versioning: Versioning, is_object: bool) -> (Kind, bool) {
    let is_null = versioning != Versioning::Enabled;
    match (is_object, versioning) {
        (true, _) => (Kind::Data, is_null),
        (false, Versioning::Off) => (Kind::Tombstone, is_null),
        (false, Versioning::Enabled | Versioning::Suspended) => (Kind::DeleteMarker, is_null),
    }
}

fn is_gone(key: &Key<'_>) -> bool {
    !key.is_there() || key.row.preferred.kind != Kind::Data
}

/// The versions called `null` that a new one of that name replaces: those that it supersedes.
fn replaced(rows: &dyn Rows, key: &Key<'_>, decision: &Decision) -> Result<Vec<Version>, Error> {
    let mut ids = decision.superseded.clone();
    ids.extend(key.row.null.filter(|null| !ids.contains(null)));
    let mut found = Vec::new();
    for id in ids {
        let version = key.version(rows, id)?;
        found.extend(version.filter(|version| version.is_null && decision.context.has(version.dot)));
    }
    Ok(found)
}

/// A locked version is never replaced: nobody could name it any more.
fn unlocked(replaced: &[Version], now: u64) -> Stepped<()> {
    let hold = replaced.iter().find_map(|version| version.content.lock.hold(now, Bypass::Nothing));
    hold.map_or(Ok(()), |hold| Err(Refusal::Locked(hold).into()))
}

/// Drops at once what was replaced, where the bucket keeps no such versions.
pub fn drop_replaced(key: &mut Key<'_>, tally: &mut BucketRow, bucket: Bucket, replaced: Vec<Version>) {
    if bucket.keep.replaced == 0 {
        for version in replaced {
            key.remove(tally, &version);
        }
    }
}
