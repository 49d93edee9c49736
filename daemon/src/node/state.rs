//! What was last seen of the lanes, so that the log tells what has changed, once.

use std::collections::BTreeMap;

use tracing::{error, info, warn};

use crate::disks::{LaneState, LaneStatus, Status};

/// What was last seen of each lane.
#[derive(Debug, Default)]
pub struct State {
    lanes: BTreeMap<u32, Seen>,
    /// Whether it has looked before. A lane that was opened just now is still making room.
    has_looked: bool,
}

/// What is told about of a lane when it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    missing: Option<String>,
    poisoned: Option<String>,
    is_full: bool,
    commit_failure: Option<String>,
    quarantined: u64,
    damage: usize,
}

impl Seen {
    fn of(lane: &LaneStatus) -> Self {
        match &lane.state {
            LaneState::Missing(why) => Self { missing: Some(why.clone()), ..Self::default() },
            LaneState::Open { lane, .. } => Self {
                missing: None,
                poisoned: lane.poisoned.as_deref().map(str::to_owned),
                is_full: !lane.has_room,
                commit_failure: lane.commit_failure.clone(),
                quarantined: lane.quarantined,
                damage: lane.damage.len(),
            },
        }
    }
}

impl State {
    /// Nothing was seen.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells what is worse, or well again, since the last time.
    pub fn note(&mut self, status: &Status) {
        for lane in &status.lanes {
            let (number, mut now) = (lane.entry.number, Seen::of(lane));
            now.is_full &= self.has_looked;
            let before = self.lanes.insert(number, now.clone()).unwrap_or_default();
            tell(number, &before, &now);
        }
        self.has_looked = true;
    }
}

fn tell(lane: u32, before: &Seen, now: &Seen) {
    if let Some(why) = now.missing.as_ref().filter(|_| before.missing.is_none()) {
        error!(lane, %why, "a lane is missing: what it has can't be read until its disk is back");
    }
    if let Some(why) = now.poisoned.as_ref().filter(|_| before.poisoned.is_none()) {
        error!(lane, %why, "a lane is poisoned: it takes no writes until the node is started again");
    }
    if now.is_full != before.is_full {
        if now.is_full {
            warn!(lane, "a lane is full: it takes no data");
        } else {
            info!(lane, "a lane has room again");
        }
    }
    if now.commit_failure != before.commit_failure
        && let Some(why) = &now.commit_failure
    {
        warn!(lane, %why, "the index of a lane could not be committed; it is tried again");
    }
    if now.quarantined > before.quarantined {
        error!(lane, quarantined = now.quarantined, "records of a lane are bad and wait for repair");
    }
    if now.damage > before.damage {
        error!(lane, parts = now.damage, "parts of a lane's log can't be read; `cairn fsck` says which");
    }
}
