//! Carrying a slot from a lane of the node to another one, and erasing what it leaves.
//!
//! A slot's group doesn't run meanwhile; who stops it, says where it is now and starts it is the cluster's business. What is carried is
//! all that makes it the replica it was: rows and the entry they have, the Raft state with its vote, the log. Nothing counts until
//! the cluster says so: what a crash leaves in the new lane is erased by the next attempt.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use cairn_io::CoreId;
use cairn_io::rng;
use cairn_io::task::Class;

use super::hub::{Core, Line};
use super::view::{Held, Place};
use super::{Disks, DisksError};
use crate::lane::{At, Lane, SlotView};
use crate::line::to_the_end;

/// Bytes of rows or entries that are carried at once.
const PART_BYTES: usize = 256 << 10;
/// Why a slot can't be carried whose group hasn't begun its work.
pub const NOTHING_APPLIED: &str = "its group has applied nothing since the start; it is moved when it has";

/// The lanes of a node as they are: while this is held none comes, goes, or begins to take or to leave.
pub struct Hold(Held);

impl Hold {
    /// Whether a lane is to be emptied.
    pub fn is_leaving(&self, lane: u32) -> bool {
        self.0.map.lane(lane).is_some_and(|entry| self.0.map.is_leaving(entry.disk))
    }

    /// Whether a lane is open.
    pub fn is_open(&self, lane: u32) -> bool {
        self.0.core_of(lane).is_some()
    }
}

impl Disks {
    /// Keeps the lanes as they are for as long as one likes; changes of the map wait.
    pub fn hold(&self) -> Hold {
        Hold(self.core().enter())
    }

    /// The slots that have anything in the lanes that are open.
    ///
    /// # Errors
    /// If an index can't be read.
    pub async fn slots(&self) -> Result<BTreeMap<u32, BTreeSet<u32>>, DisksError> {
        let core = self.core();
        let ask = |own: &super::hub::OwnLane| Ok(own.lane.metadata()?.map(|found| found.slots).unwrap_or_default());
        core.on_lanes(&core.enter(), ask).await
    }

    /// The lane that a slot of this name is to be moved to: of those that take data, are open and can be written to, the first in
    /// its ranking.
    ///
    /// # Errors
    /// If a core has gone.
    pub async fn lane_taking(&self, name: &[u8; 32]) -> Result<Option<u32>, DisksError> {
        let core = self.core();
        let view = core.enter();
        let takes = core.on_lanes(&view, |own| Ok(own.lane.log().poisoned().is_none() && own.lane.log().has_room()));
        let takes = takes.await?;
        Ok(view.ranked.ranking(name).into_iter().find(|lane| takes.get(lane) == Some(&true)))
    }

    /// Copies all that a slot has in one lane to another; durable when this returns. Its group must not run.
    ///
    /// # Errors
    /// If a lane can't be read or written; what is in the first one is as it was.
    pub async fn carry_slot(&self, slot: u32, from: u32, to: u32) -> Result<(), DisksError> {
        let core = self.core().clone();
        let carry = async move {
            let view = core.enter();
            let [from_core, to_core] = [from, to].map(|lane| view.places.get(&lane).cloned());
            let (Some(Place::Core(from_core)), Some(Place::Core(to_core))) = (from_core, to_core) else {
                return Err(broken("a lane is missing"));
            };
            let carry = move |core: Rc<Core>| async move { core.carry_slot(slot, from, (to_core, to)).await };
            core.run(Line::Guide, Class::Foreground, from_core, carry).await?
        };
        to_the_end(Class::Foreground, carry).await?
    }

    /// Erases all that a slot has in a lane; durable when this returns. Its group must not run there, and never does again.
    ///
    /// # Errors
    /// If the lane can't be written.
    pub async fn erase_slot(&self, slot: u32, lane: u32) -> Result<(), DisksError> {
        let core = self.core().clone();
        let erase = async move {
            let view = core.enter();
            let Some(to) = view.core_of(lane) else { return Err(broken("the lane is missing")) };
            let erase = move |core: Rc<Core>| async move { Ok(core.own(lane)?.lane.erase_slot(slot).await?) };
            core.run(Line::Lane, Class::Maintenance, to, erase).await?
        };
        to_the_end(Class::Maintenance, erase).await?
    }
}

fn broken(what: &str) -> DisksError {
    DisksError::Io(io::Error::other(what.to_owned()))
}

/// What makes a replica the one it is, besides rows and entries.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Facts {
    applied: Option<At>,
    members: Vec<u8>,
    raft: Option<(u64, Vec<u8>)>,
    ends: Option<[(u64, u64); 2]>,
}

impl Facts {
    fn of(lane: &Lane, slot: u32) -> Result<Self, DisksError> {
        let facts = lane.slot_facts(slot)?;
        let (raft, ends) = (lane.raft_state(slot)?, lane.raft_ends(slot)?);
        Ok(Self { applied: facts.applied, members: facts.members, raft, ends })
    }
}

/// The lane that a slot comes to.
struct Target<'c> {
    core: &'c Rc<Core>,
    slot: u32,
    owner: CoreId,
    lane: u32,
}

impl Target<'_> {
    async fn run<T, F>(&self, work: impl FnOnce(Lane, u32) -> F + Send + 'static) -> Result<T, DisksError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, DisksError>> + 'static,
    {
        let (lane, slot) = (self.lane, self.slot);
        let run = move |core: Rc<Core>| async move { work(core.own(lane)?.lane.clone(), slot).await };
        self.core.run(Line::Lane, Class::Foreground, self.owner, run).await?
    }

    /// Carries the rows that an index has committed.
    async fn take_rows(&self, view: &mut SlotView, bytes_max: usize) -> Result<(), DisksError> {
        let Some(at) = view.facts().applied else { return Ok(()) };
        let (session, mut parts) = (rng::next_u64(), 0);
        while let Some(rows) = view.next_part(bytes_max)? {
            let part = parts;
            self.run(move |lane, slot| async move { Ok(lane.stage_rows(slot, session, part, rows).await?) }).await?;
            parts += 1;
        }
        let members = view.facts().members.clone();
        let install =
            move |lane: Lane, slot| async move { Ok(lane.install_staged(slot, session, parts, at, members).await?) };
        self.run(install).await
    }

    async fn take_entries(&self, from: &Lane, [(_, first), (_, last)]: [(u64, u64); 2]) -> Result<(), DisksError> {
        let (mut entries, mut bytes): (Vec<(u64, u64, Bytes)>, usize) = (Vec::new(), 0);
        for index in first..=last {
            let read = from.read_raft(self.slot, index..=index).await?;
            let Some(entry) = read.into_iter().next() else { return Err(broken("its Raft log has a hole")) };
            bytes += entry.2.len();
            entries.push(entry);
            if bytes >= PART_BYTES || entries.len() >= 256 || index == last {
                let batch = std::mem::take(&mut entries);
                bytes = 0;
                self.run(move |lane, slot| async move { Ok(lane.append_raft(slot, batch).await?) }).await?;
            }
        }
        Ok(())
    }
}

impl Core {
    /// Carries a slot of a lane of this core.
    async fn carry_slot(self: &Rc<Self>, slot: u32, from: u32, (owner, to): (CoreId, u32)) -> Result<(), DisksError> {
        let from = self.own(from)?.lane.clone();
        let target = Target { core: self, slot, owner, lane: to };
        if from.log().poisoned().is_some() {
            // What its last writes came to shows with the next start.
            return Err(broken("the lane it is in takes no writes"));
        }
        let welcome = async |lane: Lane, slot| Ok((lane.welcome_slot(slot).await?, lane.rows_bytes_max()));
        let (was_there, rows_bytes) = target.run(welcome).await?;
        let mut view = from.view_slot(slot).await?;
        let facts = Facts::of(&from, slot)?;
        if facts.applied != view.facts().applied {
            return Err(broken("its rows are still changing"));
        }
        if was_there && facts.applied.is_none() {
            // With no rows of its own nothing would tell rows of an earlier life from those of this one.
            return Err(broken(NOTHING_APPLIED));
        }
        let Some((first, state)) = facts.raft.clone() else { return Err(broken("it has no Raft state there")) };
        target.take_rows(&mut view, rows_bytes.min(from.rows_bytes_max()).min(PART_BYTES)).await?;
        // Before the entries: the mark of one that has left would purge them if compaction copied it meanwhile.
        target.run(move |lane, slot| async move { Ok(lane.set_raft_state(slot, first, &state).await?) }).await?;
        if let Some(ends) = facts.ends {
            target.take_entries(&from, ends).await?;
        }
        let taken = target.run(|lane, slot| async move { Facts::of(&lane, slot) }).await?;
        if taken != facts || Facts::of(&from, slot)? != facts {
            return Err(broken("the copy is not what it should be; report this, with the node's log"));
        }
        Ok(())
    }
}
