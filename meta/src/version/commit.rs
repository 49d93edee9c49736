//! What a commit does to the graph: the decision table. `docs/semantics.md` has the same one, row by row.
//!
//! | row | mode | when | the new version's parents | heads afterwards |
//! | --- | --- | --- | --- | --- |
//! | O1 | overwrite | the key has no heads | none | the new one |
//! | O2 | overwrite | it has | the preferred head | the new one in its place; branches stay |
//! | D1 | derive | all named parents are heads | those | the new one in their place |
//! | D2 | derive | a named parent is kept, but no head | those | the new one beside the others: a branch |
//! | D3 | derive | a named parent isn't kept here | | refused: unknown parent |
//! | D4 | derive | no parent is named | | refused: no parents |
//! | C1 | conditional | the conditions hold | as O1 or O2 | as O1 or O2 |
//! | C2 | conditional | one doesn't | | refused: precondition failed |
//! | M1 | merge | two parents or more, all heads | those | the new one in their place |
//! | M2 | merge | a named parent is no head | | refused: not a head |
//! | M3 | merge | fewer than two parents | | refused: too few parents |
//! | I1 | import | its marker or itself is here | | nothing changes |
//! | I2 | import | a head supersedes it | its own | the same; it goes to the history |
//! | I3 | import | it supersedes every head, or there is none | its own | itself: fast-forward |
//! | I4 | import | a head remains | its own | itself beside that: a branch |
//! | I5 | import | its dot is not its own, or it is its own ancestor | | refused: bad import |
//! | X1 | all but I1, I2 | there would be more heads than allowed | | refused: too many heads |
//! | X2 | all but I1 | there would be more versions than allowed | | refused: too many versions |

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use super::causality::{Context, Dot};
use super::heads::{self, Head};
use super::id::{Actor, VersionId};
use super::{Summary, Version};
use crate::version::Kind;

/// How a commit finds its parents.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Mode {
    /// It supersedes the preferred head, whatever that is.
    #[n(0)]
    Overwrite,
    /// It supersedes the versions named.
    #[n(1)]
    Derive(#[n(0)] Vec<VersionId>),
    /// As overwrite, if all of these hold.
    #[n(2)]
    Conditional(#[n(0)] Vec<Condition>),
    /// It supersedes several heads, which it was made of.
    #[n(3)]
    Merge(#[n(0)] Vec<VersionId>),
}

/// What must hold of the preferred head. To an expired object the same applies as to one that is deleted: it isn't there.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Condition {
    /// There is an object. (`If-Match: *`)
    #[n(0)]
    Exists,
    /// There is none. (`If-None-Match: *`)
    #[n(1)]
    Absent,
    /// There is an object with one of these. (`If-Match`)
    #[n(2)]
    Etag(#[n(0)] Vec<String>),
    /// There is none with one of these. (`If-None-Match`)
    #[n(3)]
    NotEtag(#[n(0)] Vec<String>),
    /// The preferred head is this version, also where that is a deletion. `None`: there is no head at all.
    #[n(4)]
    Head(#[n(0)] Option<VersionId>),
    /// The object was not modified after this time. (`If-Unmodified-Since`, in milliseconds)
    #[n(5)]
    UnmodifiedSince(#[n(0)] u64),
    /// The object has this size.
    #[n(6)]
    Size(#[n(0)] u64),
}

/// The row of the table that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
#[expect(missing_docs, reason = "the table says what each row means")]
pub enum Row {
    #[n(0)]
    O1,
    #[n(1)]
    O2,
    #[n(2)]
    D1,
    #[n(3)]
    D2,
    #[n(4)]
    C1,
    #[n(5)]
    M1,
    #[n(6)]
    I1,
    #[n(7)]
    I2,
    #[n(8)]
    I3,
    #[n(9)]
    I4,
}

/// Why a commit has no effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Encode, Decode)]
pub enum Refused {
    /// D3
    #[error("the parent {0} is not kept here: read the object's heads and derive from those")]
    #[n(0)]
    UnknownParent(#[n(0)] VersionId),
    /// D4
    #[error("no parents are named: name the versions that this one is derived from, or overwrite")]
    #[n(1)]
    NoParents,
    /// C2
    #[error("precondition failed: {condition:?}")]
    #[n(2)]
    Precondition {
        /// The first that doesn't hold.
        #[n(0)]
        condition: Condition,
        /// Whether there is an object.
        #[n(1)]
        exists: bool,
    },
    /// M2
    #[error("{0} is no head: read the heads again and merge those")]
    #[n(3)]
    NotHead(#[n(0)] VersionId),
    /// M3
    #[error("a merge has two parents or more")]
    #[n(4)]
    TooFewParents,
    /// I5
    #[error("the version says of itself what can't be: its dot is taken, or is among its ancestors")]
    #[n(5)]
    BadImport,
    /// X1
    #[error("the object has {max} heads, no more are allowed: merge some of them")]
    #[n(6)]
    TooManyHeads {
        /// The most.
        #[n(0)]
        max: u32,
    },
    /// X2
    #[error("the object has {max} versions, no more are allowed: let retention drop some, or erase some")]
    #[n(7)]
    TooManyVersions {
        /// The most.
        #[n(0)]
        max: u32,
    },
}

/// What is allowed for one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Caps {
    /// The most heads.
    #[n(0)]
    pub heads: u32,
    /// The most versions, heads among them.
    #[n(1)]
    pub versions: u32,
}

impl Default for Caps {
    fn default() -> Self {
        Self { heads: 32, versions: 1 << 20 }
    }
}

/// What is known of the key.
#[derive(Clone, Copy, Debug)]
pub struct View<'k> {
    /// Its heads.
    pub heads: &'k [Head],
    /// Of its preferred head; `None`: there are no heads.
    pub preferred: Option<Summary<'k>>,
    /// Those of the parents named that are kept and no heads.
    pub kept: &'k BTreeMap<VersionId, Head>,
    /// How many versions it has.
    pub versions: u32,
    /// What is allowed.
    pub caps: Caps,
}

/// What becomes of the new version and of the heads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Which row decided.
    pub row: Row,
    /// The new version's parents.
    pub parents: Vec<VersionId>,
    /// The new version's context.
    pub context: Context,
    /// Heads that are none any more.
    pub superseded: Vec<VersionId>,
}

/// Decides about a commit by the slot itself.
///
/// # Errors
/// Why it has no effect.
pub fn decide(mode: &Mode, view: &View<'_>, now: u64) -> Result<Decision, Refused> {
    let decision = match mode {
        Mode::Overwrite => overwrite(view, None),
        Mode::Conditional(conditions) => {
            check(conditions, view.preferred, now)?;
            overwrite(view, Some(Row::C1))
        }
        Mode::Derive(parents) => derive(parents, view)?,
        Mode::Merge(parents) => merge(parents, view)?,
    };
    within_caps(decision, view)
}

fn overwrite(view: &View<'_>, row: Option<Row>) -> Decision {
    let parent: Vec<&Head> = heads::preferred(view.heads).into_iter().collect();
    let plain = if parent.is_empty() { Row::O1 } else { Row::O2 };
    supersede(row.unwrap_or(plain), &parent, view)
}

fn derive(parents: &[VersionId], view: &View<'_>) -> Result<Decision, Refused> {
    if parents.is_empty() {
        return Err(Refused::NoParents);
    }
    let find = |id: &VersionId| head(view, *id).or_else(|| view.kept.get(id)).ok_or(Refused::UnknownParent(*id));
    let found = parents.iter().map(find).collect::<Result<Vec<&Head>, Refused>>()?;
    let all_heads = parents.iter().all(|id| head(view, *id).is_some());
    Ok(supersede(if all_heads { Row::D1 } else { Row::D2 }, &found, view))
}

fn merge(parents: &[VersionId], view: &View<'_>) -> Result<Decision, Refused> {
    let find = |id: &VersionId| head(view, *id).ok_or(Refused::NotHead(*id));
    let found = parents.iter().map(find).collect::<Result<Vec<&Head>, Refused>>()?;
    let decision = supersede(Row::M1, &found, view);
    if decision.parents.len() < 2 { Err(Refused::TooFewParents) } else { Ok(decision) }
}

fn head<'k>(view: &View<'k>, id: VersionId) -> Option<&'k Head> {
    view.heads.iter().find(|head| head.id == id)
}

/// A version whose ancestors are these and theirs.
fn supersede(row: Row, parents: &[&Head], view: &View<'_>) -> Decision {
    let mut context = Context::default();
    let mut names: Vec<VersionId> = Vec::new();
    for parent in parents {
        context.join(&parent.context);
        context.add(parent.dot);
        if !names.contains(&parent.id) {
            names.push(parent.id);
        }
    }
    let superseded = superseded(&context, view);
    Decision { row, parents: names, context, superseded }
}

fn superseded(context: &Context, view: &View<'_>) -> Vec<VersionId> {
    view.heads.iter().filter(|head| context.has(head.dot)).map(|head| head.id).collect()
}

/// What was found of an import's marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// It was never imported, and isn't here.
    None,
    /// It was imported before, or is here.
    Here,
}

/// Decides about a version that was provisional elsewhere. `actor` is the one by whose name the slot itself numbers.
///
/// # Errors
/// Why it has no effect. The node that holds it keeps it then.
pub fn decide_import(
    version: &Version,
    marker: Marker,
    view: &View<'_>,
    actor: Option<Actor>,
) -> Result<Decision, Refused> {
    let Version { dot, context, parents, .. } = version;
    let decision = |row, superseded| Decision { row, parents: parents.clone(), context: context.clone(), superseded };
    if marker == Marker::Here {
        return Ok(decision(Row::I1, vec![]));
    }
    let taken = view.heads.iter().any(|head| head.dot == *dot) || Some(dot.actor) == actor;
    if taken || dot.counter == 0 || context.has(*dot) {
        return Err(Refused::BadImport);
    }
    if view.heads.iter().any(|head| head.context.has(*dot)) {
        return within_caps(decision(Row::I2, vec![]), view);
    }
    let superseded = superseded(context, view);
    let row = if superseded.len() == view.heads.len() { Row::I3 } else { Row::I4 };
    within_caps(decision(row, superseded), view)
}

fn within_caps(decision: Decision, view: &View<'_>) -> Result<Decision, Refused> {
    let Caps { heads: heads_max, versions: versions_max } = view.caps;
    let heads = view.heads.len() - decision.superseded.len() + usize::from(decision.row != Row::I2);
    if heads > view.heads.len() && heads > heads_max as usize {
        return Err(Refused::TooManyHeads { max: heads_max });
    }
    if view.versions >= versions_max {
        return Err(Refused::TooManyVersions { max: versions_max });
    }
    Ok(decision)
}

/// Checks conditions against a version: the preferred head, or the one that a command names. `None`: there is none.
///
/// # Errors
/// The first condition that doesn't hold.
pub fn check(conditions: &[Condition], version: Option<Summary<'_>>, now: u64) -> Result<(), Refused> {
    let object = version.filter(|summary| is_object(summary, now));
    let failed = conditions.iter().find(|condition| !holds(condition, version, object));
    failed.map_or(Ok(()), |condition| {
        Err(Refused::Precondition { condition: condition.clone(), exists: object.is_some() })
    })
}

fn is_object(summary: &Summary<'_>, now: u64) -> bool {
    summary.kind == Kind::Data && summary.content.expires.is_none_or(|expires| expires > now)
}

fn holds(condition: &Condition, preferred: Option<Summary<'_>>, object: Option<Summary<'_>>) -> bool {
    let is_one_of =
        |etags: &[String]| object.is_some_and(|object| etags.iter().any(|etag| etag == object.content.etag));
    match condition {
        Condition::Exists => object.is_some(),
        Condition::Absent => object.is_none(),
        Condition::Etag(etags) => is_one_of(etags),
        Condition::NotEtag(etags) => !is_one_of(etags),
        Condition::Head(id) => preferred.map(|preferred| preferred.id) == *id,
        Condition::UnmodifiedSince(time) => object.is_some_and(|object| object.modified <= *time),
        Condition::Size(size) => object.is_some_and(|object| object.content.size == *size),
    }
}

/// The dot that a slot gives its next version of a key.
pub fn next_dot(actor: Actor, commits: u64) -> Dot {
    Dot { actor, counter: commits.saturating_add(1) }
}

#[cfg(test)]
#[path = "commit_tests.rs"]
mod tests;
