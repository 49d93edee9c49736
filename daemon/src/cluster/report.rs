//! What one sees of the groups of this node.

use cairn_meta::slot::list::count_conflicts;
use cairn_placement::NodeId;
use futures_util::future::join_all;

use super::hub::{Core, Line};
use super::{CONTROL, Cluster};

/// Conflicts of a group that are counted: more say nothing more, and counting takes time.
const CONFLICTS_MAX: u64 = 10_000;

/// The groups of a node, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// Led here.
    pub led: u64,
    /// Led by another node.
    pub followed: u64,
    /// Of those that are here, without a leader that was heard lately.
    pub leaderless: u64,
    /// In which nothing happens: they cost next to nothing.
    pub resting: u64,
    /// On their way to another disk, and so not running for a moment.
    pub moving: u64,
    /// Entries that are committed and not applied here yet.
    pub lag: u64,
    /// Provisional versions that this node holds.
    pub provisional: u64,
    /// Keys in conflict in groups that are led here.
    pub conflicts: u64,
    /// Groups that have stopped here or can't be opened, and why.
    pub stopped: Vec<(u32, String)>,
    /// Who leads control, if that is known here.
    pub control_leader: Option<NodeId>,
}

impl Groups {
    fn add(mut self, other: Self) -> Self {
        self.led += other.led;
        self.followed += other.followed;
        self.leaderless += other.leaderless;
        self.resting += other.resting;
        self.moving += other.moving;
        self.lag += other.lag;
        self.provisional += other.provisional;
        self.conflicts += other.conflicts;
        self.stopped.extend(other.stopped);
        self.control_leader = self.control_leader.or(other.control_leader);
        self
    }
}

impl Core {
    /// Of this core.
    fn groups(&self) -> Groups {
        let mut groups = Groups { provisional: self.count_held(), ..Groups::default() };
        for (slot, _) in self.routes.borrow().of_core(self.id) {
            let status = match self.slots.status(slot) {
                Ok(status) => status,
                Err(_) if self.moving.borrow().contains(&slot) => {
                    groups.moving += 1;
                    continue;
                }
                Err(error) => {
                    let why = self.failed.borrow().get(&slot).cloned();
                    groups.stopped.push((slot, why.unwrap_or_else(|| error.to_string())));
                    continue;
                }
            };
            groups.lag += status.lag;
            groups.resting += u64::from(status.is_resting && status.stopped.is_none());
            let is_led = self.slots.is_led(slot).unwrap_or(false);
            let leader = status.leader.filter(|_| is_led);
            match (status.stopped, leader) {
                (Some(why), _) => groups.stopped.push((slot, why)),
                (None, Some(_)) if status.is_leader => {
                    groups.led += 1;
                    groups.conflicts += self.conflicts(slot);
                }
                (None, Some(_)) => groups.followed += 1,
                (None, None) => groups.leaderless += 1,
            }
            if slot == CONTROL {
                groups.control_leader = leader;
            }
        }
        groups
    }

    /// Keys in conflict in a group of this core, counted up to [`CONFLICTS_MAX`].
    fn conflicts(&self, slot: u32) -> u64 {
        if slot == CONTROL {
            return 0;
        }
        self.slots.read(slot, |rows| count_conflicts(rows, CONFLICTS_MAX)).ok().and_then(Result::ok).unwrap_or_default()
    }
}

impl Cluster {
    /// The groups of this node, on all its cores that answer.
    pub async fn groups(&self) -> Groups {
        let core = self.core();
        let ask = |to| core.run(Line::Lead, to, |core| async move { core.groups() });
        let asked = join_all(core.all().map(ask)).await;
        let mut groups = asked.into_iter().flatten().fold(Groups::default(), Groups::add);
        let missing = core.routes.borrow().missing().clone();
        groups.stopped.extend(missing.into_iter().map(|(slot, lane)| (slot, format!("its lane {lane} is missing"))));
        groups.stopped.sort_unstable();
        groups
    }

    /// This node's number.
    pub fn node(&self) -> NodeId {
        self.core().me
    }
}
