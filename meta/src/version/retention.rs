//! What may be dropped at a time, and why the rest may not. Nothing here drops anything.
//!
//! | row | the version | verdict |
//! | --- | --- | --- |
//! | R1 | is held by its lock | kept |
//! | R2 | is a head and no tombstone | kept: nothing supersedes it (I3) |
//! | R3 | is a tombstone, one of several heads | kept: it is one side of a conflict |
//! | R4 | is a tombstone, the only head, and younger than tombstones are kept | kept |
//! | R5 | is a tombstone, the only head, older, and older versions are kept | kept: they go first |
//! | R6 | is a tombstone, the only head, older, and the only version | **dropped**, and the key with it |
//! | R7 | was replaced under the name `null`, or is a superseded tombstone, not longer ago than those are kept | kept |
//! | R8 | the same, longer ago | **dropped** |
//! | R9 | is superseded, and superseded versions are kept for ever | kept |
//! | R10 | is among the newest superseded ones, so many as are kept whatever their age | kept |
//! | R11 | was superseded not longer ago than such are kept | kept |
//! | R12 | was superseded longer ago | **dropped** |

use minicbor::{Decode, Encode};

use super::lock::{Bypass, Hold};
use super::{Kind, Version};

/// How long a bucket keeps what; times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Keep {
    /// Versions that S3 can't name any more, because another `null` replaced them.
    #[n(0)]
    pub replaced: u64,
    /// Superseded versions that can be asked for; `None`: until somebody erases them.
    #[n(1)]
    pub superseded: Option<u64>,
    /// So many of the superseded versions are kept whatever their age.
    #[n(2)]
    pub superseded_min: u32,
    /// Tombstones.
    #[n(3)]
    pub tombstones: u64,
}

/// 30 days in milliseconds.
const MONTH: u64 = 30 * 24 * 3600 * 1000;

impl Default for Keep {
    /// What S3's clients expect: what was overwritten without versioning is gone, what has a version stays.
    fn default() -> Self {
        Self { replaced: 0, superseded: None, superseded_min: 0, tombstones: MONTH }
    }
}

/// What the verdict depends on beside the version itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// How many heads the key has, if this version is one; 0: it is none.
    pub heads: usize,
    /// How many other versions the key has.
    pub others: usize,
    /// How many superseded versions that can be asked for are newer.
    pub newer: usize,
    /// Whether another version replaced it under the name `null`.
    pub is_replaced: bool,
}

/// Whether a version may be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may (R6, R8, R12).
    Drop,
    /// It may not.
    Keep(Reason),
}

/// Why a version may not be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// R1
    Held(Hold),
    /// R2
    Head,
    /// R3
    Conflict,
    /// R4, R7, R11: not before this time.
    Young {
        /// When it may be dropped, other things being equal.
        until: u64,
    },
    /// R5
    OthersFirst,
    /// R9
    ForEver,
    /// R10
    AmongNewest,
}

/// Whether this version may be dropped now.
pub fn judge(version: &Version, standing: Standing, keep: &Keep, now: u64) -> Verdict {
    if let Some(hold) = version.content.lock.hold(now, Bypass::Nothing) {
        return Verdict::Keep(Reason::Held(hold));
    }
    match (standing.heads, version.kind) {
        (0, _) => judge_superseded(version, standing, keep, now),
        (1, Kind::Tombstone) if standing.others == 0 => after(version.committed, keep.tombstones, now),
        (1, Kind::Tombstone) => match after(version.committed, keep.tombstones, now) {
            Verdict::Drop => Verdict::Keep(Reason::OthersFirst),
            young @ Verdict::Keep(_) => young,
        },
        (_, Kind::Tombstone) => Verdict::Keep(Reason::Conflict),
        (_, Kind::Data | Kind::DeleteMarker) => Verdict::Keep(Reason::Head),
    }
}

fn judge_superseded(version: &Version, standing: Standing, keep: &Keep, now: u64) -> Verdict {
    let since = version.superseded.unwrap_or(version.committed);
    if standing.is_replaced || version.kind == Kind::Tombstone {
        return after(since, keep.replaced, now);
    }
    match keep.superseded {
        None => Verdict::Keep(Reason::ForEver),
        Some(_) if standing.newer < keep.superseded_min as usize => Verdict::Keep(Reason::AmongNewest),
        Some(age) => after(since, age, now),
    }
}

fn after(since: u64, age: u64, now: u64) -> Verdict {
    let until = since.saturating_add(age);
    if now >= until { Verdict::Drop } else { Verdict::Keep(Reason::Young { until }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::{Content, Lock, LockMode, Retention};

    #[test]
    fn verdicts_follow_the_table() {
        use Verdict::{Drop, Keep as Kept};
        let keep = Keep { replaced: 10, superseded: Some(20), superseded_min: 2, tombstones: 100 };
        let for_ever = Keep { superseded: None, ..keep };
        let version = |kind, superseded| Version { kind, superseded, committed: 1000, ..Version::default() };
        let (head, dead) = (version(Kind::Data, None), version(Kind::Tombstone, None));
        let (old, old_dead) = (version(Kind::Data, Some(1000)), version(Kind::Tombstone, Some(1000)));
        let lock = Lock { retention: Some(Retention { mode: LockMode::Compliance, until: 5000 }), legal_hold: false };
        let locked = Version { content: Content { lock, ..Content::default() }, ..old.clone() };
        let one = Standing { heads: 1, ..Standing::default() };
        let behind = Standing { newer: 2, others: 5, ..Standing::default() };
        let young = |until| Kept(Reason::Young { until });
        let rows = [
            ("R1", &locked, behind, keep, 4999, Kept(Reason::Held(Hold::Compliance))),
            ("R1, ended", &locked, behind, keep, 5000, Drop),
            ("R2", &head, one, keep, u64::MAX, Kept(Reason::Head)),
            ("R3", &dead, Standing { heads: 2, ..one }, keep, u64::MAX, Kept(Reason::Conflict)),
            ("R4", &dead, one, keep, 1099, young(1100)),
            ("R5", &dead, Standing { others: 1, ..one }, keep, 1100, Kept(Reason::OthersFirst)),
            ("R6", &dead, one, keep, 1100, Drop),
            ("R7", &old, Standing { is_replaced: true, ..behind }, keep, 1009, young(1010)),
            ("R7", &old_dead, behind, keep, 1009, young(1010)),
            ("R8", &old, Standing { is_replaced: true, ..behind }, for_ever, 1010, Drop),
            ("R8", &old_dead, behind, for_ever, 1010, Drop),
            ("R9", &old, behind, for_ever, u64::MAX, Kept(Reason::ForEver)),
            ("R10", &old, Standing { newer: 1, ..behind }, keep, u64::MAX, Kept(Reason::AmongNewest)),
            ("R11", &old, behind, keep, 1019, young(1020)),
            ("R12", &old, behind, keep, 1020, Drop),
        ];
        for (row, version, standing, keep, now, verdict) in rows {
            assert_eq!(judge(version, standing, &keep, now), verdict, "{row}");
        }
    }
}
