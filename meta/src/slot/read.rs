//! Reading one key: which version a reader gets.
//!
//! | mode | the version |
//! | --- | --- |
//! | preferred | the preferred head, of confirmed and, where the reader has such, local provisional ones |
//! | confirmed only | the preferred head of those that the slot has |
//! | provisional allowed | as preferred; the reader says that it doesn't insist on the slot's leader |
//! | exact | the version of that id, wherever it is in the graph |
//! | null | the version that S3 calls `null` |
//! | at a time | the preferred one of those that were heads then, as far as they are kept |

use minicbor::{Decode, Encode};

use super::layout::BucketId;
use super::object::{self, KeyRow};
use crate::index::Error;
use crate::rows::Rows;
use crate::version::{Conflict, Head, Kind, State, Version, VersionId, heads};

/// What a reader wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Mode {
    /// See the module.
    #[n(0)]
    Preferred,
    /// See the module.
    #[n(1)]
    ConfirmedOnly,
    /// See the module.
    #[n(2)]
    ProvisionalAllowed,
    /// See the module.
    #[n(3)]
    Exact(#[n(0)] VersionId),
    /// See the module.
    #[n(4)]
    Null,
    /// See the module. In milliseconds since the Unix epoch.
    #[n(5)]
    At(#[n(0)] u64),
}

/// What a reader gets.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Found {
    /// The version: an object, or a deletion, which says that there is none.
    #[n(0)]
    pub version: Version,
    /// All heads, the provisional ones that the reader has among them; the preferred one is last.
    #[n(1)]
    pub heads: Vec<Head>,
    /// Whether the heads agree.
    #[n(2)]
    pub conflict: Conflict,
    /// Whether others would be shown the same: not if the version is provisional, nor if one that is hides what they see.
    #[cbor(n(3), default)]
    pub state: State,
}

impl Found {
    /// Whether a reader at this time finds an object.
    pub fn is_object(&self, now: u64) -> bool {
        self.version.is_object(now)
    }
}

/// Reads a key. `local` are versions of it that this node holds as provisional.
///
/// # Errors
/// If rows can't be read. That there is no such key or version is `None`.
pub fn read(
    rows: &dyn Rows,
    (bucket, key): (BucketId, &str),
    mode: Mode,
    local: &[Version],
) -> Result<Option<Found>, Error> {
    let row = object::load(rows, bucket, key)?;
    let slot_only = matches!(mode, Mode::ConfirmedOnly | Mode::At(_) | Mode::Null);
    let local = if slot_only { &[] } else { local };
    let mut heads = row.as_ref().map(KeyRow::heads).unwrap_or_default();
    local.iter().for_each(|version| heads::add(&mut heads, Head::from(version)));
    heads.sort_unstable_by_key(Head::rank);
    let wanted = match mode {
        Mode::Exact(id) => Some(id),
        Mode::Null => row.as_ref().and_then(|row| row.null),
        Mode::At(time) => at(rows, (bucket, key), row.as_ref(), time)?,
        Mode::Preferred | Mode::ConfirmedOnly | Mode::ProvisionalAllowed => heads.last().map(|head| head.id),
    };
    let Some(id) = wanted else { return Ok(None) };
    let preferred = row.as_ref().map(|row| row.preferred.id);
    let found = match row {
        Some(row) if row.preferred.id == id => Some(row.preferred),
        Some(_) => object::other_version(rows, (bucket, key), id)?,
        None => None,
    };
    // What the slot has taken over meanwhile is shown as the slot has it.
    let found = found.or_else(|| local.iter().find(|version| version.id == id).cloned());
    let conflict = Conflict::of(&heads);
    let is_by_rank = matches!(mode, Mode::Preferred | Mode::ProvisionalAllowed);
    Ok(found.map(|version| {
        let is_hiding = is_by_rank && preferred != Some(id);
        let state = if is_hiding { State::Provisional } else { version.state };
        Found { version, heads, conflict, state }
    }))
}

fn at(
    rows: &dyn Rows,
    (bucket, key): (BucketId, &str),
    row: Option<&KeyRow>,
    time: u64,
) -> Result<Option<VersionId>, Error> {
    let Some(row) = row else { return Ok(None) };
    let was_head =
        |version: &Version| version.committed <= time && version.superseded.is_none_or(|superseded| superseded > time);
    let history = object::history(rows, bucket, key)?;
    let then: Vec<Head> =
        history.iter().chain([&row.preferred]).filter(|version| was_head(version)).map(Head::from).collect();
    Ok(heads::preferred(&then).map(|head| head.id))
}

/// Whether a version found in the past or by name is one that S3 lets be named.
pub fn is_nameable(found: &Version, null: Option<VersionId>) -> bool {
    found.kind != Kind::Tombstone && (!found.is_null || null == Some(found.id))
}
