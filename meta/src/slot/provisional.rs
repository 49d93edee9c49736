//! A version that is made where nobody leads: what one node knows of the key decides in its slot's stead, and the slot
//! takes the version over later ([`super::command::Command::Import`]).
//!
//! The table of commits is the slot's own, its rows O and D and M, over the heads as this node has them and the provisional ones
//! that it holds. Whether others have later heads shows when the version is imported: it becomes a branch then.
//!
//! What makes it safe to be decided by one alone: its dot is of an actor that nobody else numbers with. The node goes on
//! numbering with one as long as it knows the last number; where it doesn't, the version's own name is a new actor.

use std::collections::BTreeMap;

use super::check_key;
use super::command::{Body, Committed, Place, Refusal, Write};
use super::commit::kind;
use super::object::{self, KeyRow};
use crate::index::Error;
use crate::rows::Rows;
use crate::version::commit::{self, Decision, Mode, View};
use crate::version::{Actor, Content, Dot, Head, Kind, Origin, State, Version, VersionId, heads};

/// What came of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// What is answered.
    pub committed: Committed,
    /// What is to be held; `None`: what was to be deleted isn't there, as far as this node knows.
    pub version: Option<Version>,
}

/// Whether a write that finds its parents so may be provisional: what holds on conditions needs all to know of it.
pub fn may_be(mode: &Mode) -> bool {
    !matches!(mode, Mode::Conditional(_))
}

/// Makes a version. `rows` are the slot's as the node has them, `held` the provisional versions of the key that it holds, and `next`
/// the dot to be used, if the node knows one that is free.
///
/// # Errors
/// If rows can't be read. That it is refused is an answer.
pub fn make(
    rows: &dyn Rows,
    now: u64,
    write: Write,
    held: &[Version],
    next: Option<Dot>,
) -> Result<Result<Made, Refusal>, Error> {
    let Write { place, id, mode, body } = write;
    let row = object::load(rows, place.bucket.id, &place.key)?;
    let mut heads = row.as_ref().map(KeyRow::heads).unwrap_or_default();
    held.iter().for_each(|version| heads::add(&mut heads, Head::from(version)));
    let kept = kept_parents(rows, &place, &mode, held)?;
    let known = row.as_ref().map_or(0, |row| row.history + 1) + held.len() as u32;
    let view = View { heads: &heads, preferred: None, kept: &kept, versions: known, caps: place.bucket.caps };
    let decided = sound(&place, id, &mode, &body).and_then(|()| Ok(commit::decide(&mode, &view, now)?));
    let Decision { row: decided, parents, context, superseded } = match decided {
        Ok(decision) => decision,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let (kind, is_null) = kind(place.bucket.versioning, matches!(body, Body::Object(_)));
    let is_gone = heads::preferred(&heads).is_none_or(|head| head.kind != Kind::Data);
    if kind == Kind::Tombstone && is_gone && mode == Mode::Overwrite {
        let heads = heads.len() as u32;
        let committed = Committed { id: None, kind, is_null, row: decided, heads, superseded: vec![] };
        return Ok(Ok(Made { committed, version: None }));
    }
    let last = held.iter().map(|version| version.id).chain(row.map(|row| row.last)).max();
    // Not the next in order, as a slot would take: another node may do the same at the same time.
    let id = last.filter(|last| *last >= id).map_or(id, |last| VersionId::new(last.millis() + 1, id.0));
    let dot = next.unwrap_or(Dot { actor: Actor(id.0), counter: 1 });
    let content = if let Body::Object(content) = body { content } else { Content::default() };
    let (state, origin) = (State::Provisional, Origin::Imported);
    let version = Version {
        id,
        kind,
        is_null,
        modified: now,
        content,
        parents,
        dot,
        context,
        state,
        origin,
        committed: now,
        superseded: None,
    };
    heads::add(&mut heads, Head::from(&version));
    let committed = Committed { id: Some(id), kind, is_null, row: decided, heads: heads.len() as u32, superseded };
    Ok(Ok(Made { committed, version: Some(version) }))
}

fn sound(place: &Place, id: VersionId, mode: &Mode, body: &Body) -> Result<(), Refusal> {
    check_key(&place.key)?;
    if !id.is_sound() {
        return Err(Refusal::Id(id));
    }
    if !may_be(mode) {
        return Err(Refusal::Malformed("a commit on conditions is never provisional".to_owned()));
    }
    if let Body::Object(content) = body {
        content.check()?;
    }
    Ok(())
}

/// Those of the parents named that are no heads here, if they are kept or held.
fn kept_parents(
    rows: &dyn Rows,
    place: &Place,
    mode: &Mode,
    held: &[Version],
) -> Result<BTreeMap<VersionId, Head>, Error> {
    let Mode::Derive(parents) = mode else { return Ok(BTreeMap::new()) };
    let mut kept = BTreeMap::new();
    for id in parents {
        let version = match held.iter().find(|version| version.id == *id) {
            Some(version) => Some(version.clone()),
            None => object::other_version(rows, (place.bucket.id, &place.key), *id)?,
        };
        kept.extend(version.map(|version| (*id, Head::from(&version))));
    }
    Ok(kept)
}
