//! Moving slots off disks that are to be emptied, each to the lane that its name ranks first of those that take data.
//!
//! | step | a crash behind it leaves | the next start |
//! | --- | --- | --- |
//! | 1. the group is stopped; others lead it or wait | | opens it where it was |
//! | 2. what it has is copied to the new lane, durable | a part of a copy, or a whole one | opens it where it was; the next attempt erases the copy |
//! | 3. the disk that it leaves is told where it is now | the same twice, and one disk that says which counts | opens it where that says |
//! | 4. the disk that it comes to is told, then the others | | likewise, and tells those that lack it |
//! | 5. the group is started where it is now | | likewise |
//! | 6. what it left is erased | a part of it, marked as left | erases the rest |
//!
//! Step 3 decides. The disk that a slot leaves is told first so that the copy left there is never taken for the slot, whichever
//! disks are there at the next start: with that disk one knows of the move, without it one doesn't see the copy. Step 6 waits until the
//! disk that has the slot says so, too. Nothing else of the node stops meanwhile.
//!
//! A slot whose lane isn't to be emptied stays where it is, also when other lanes would rank before it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use cairn_io::task::Class;
use tracing::{info, warn};

use super::hub::{Core, Line};
use super::papers::{self, Own};
use super::routes::{Spot, name_of};
use super::{CONTROL, Cluster, ClusterError};
use crate::actor::{Actor, Context, Failure, Wake};
use crate::disks::{Disks, NOTHING_APPLIED, Uid};
use crate::line::to_the_end;

/// What one look at all slots came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relocated {
    /// Slots that were moved.
    pub moved: u64,
    /// Slots that are still in lanes that are to be emptied, and why.
    pub left: BTreeMap<u32, String>,
    /// Left-overs that were erased.
    pub erased: u64,
}

/// The actor: one of a node.
pub struct Relocate {
    /// The cluster, as core 0 sees it.
    pub cluster: Cluster,
}

/// What may be asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelocateMessage {
    /// Look now.
    Look,
}

impl Actor for Relocate {
    type Message = RelocateMessage;

    async fn run(self, mut context: Context<Self::Message>) -> Result<(), Failure> {
        // An earlier life may have left something anywhere.
        let mut has_looked = false;
        loop {
            match context.next().await {
                Wake::Stop => return Ok(()),
                Wake::Message(RelocateMessage::Look) | Wake::Due => {}
            }
            let work = Work::new(self.cluster.disks().clone(), Some(self.cluster.core().clone()));
            if has_looked && !work.is_any_leaving() {
                continue;
            }
            let Some(mut own) = work.begin().await? else { continue };
            let slots = work.to_move(&own);
            let total = slots.len() as u64;
            if total > 0 {
                context.status().working(format!("{total} slots"), "their disk is to be emptied");
            }
            let mut left = None;
            for (done, slot) in (0..).zip(slots) {
                if context.is_stopping() {
                    return Ok(());
                }
                left = work.move_slot(&mut own, slot).await?.map(|why| (slot, why)).or(left);
                context.status().progress(done + 1, total);
            }
            work.erase_left_overs(&own).await?;
            has_looked = true;
            if let Some((slot, why)) = left {
                context.status().failed(format!("{} stays for now: {why}", title(slot)));
            }
        }
    }
}

impl Cluster {
    /// Moves all slots off the disks that are to be emptied, and erases what earlier moves left; at most one at a time may
    /// do so. To be asked of core 0.
    ///
    /// # Errors
    /// If the disks can't be read, or a slot is left stopped: the node must be started again.
    pub async fn relocate(&self) -> Result<Relocated, ClusterError> {
        Work::new(self.disks().clone(), Some(self.core().clone())).run().await
    }
}

/// Writes what the node is on disks; one that doesn't take it gets it another time.
async fn write_down(disks: impl IntoIterator<Item = String>, own: &Own) {
    for disk in disks {
        if let Err(error) = papers::write_own(&[disk], own).await {
            warn!(%error, "a disk has no copy of the node's papers; it gets it next time");
        }
    }
}

/// As [`Cluster::relocate`], for a node whose groups don't run.
///
/// # Errors
/// If the disks can't be read or written.
pub async fn relocate_stopped(disks: &Disks) -> Result<Relocated, ClusterError> {
    Work::new(disks.clone(), None).run().await
}

fn title(slot: u32) -> String {
    if slot == CONTROL { "control".to_owned() } else { format!("slot {slot}") }
}

#[derive(Clone)]
struct Work {
    disks: Disks,
    /// Who has the groups, if they run.
    groups: Option<Rc<Core>>,
}

impl Work {
    fn new(disks: Disks, groups: Option<Rc<Core>>) -> Self {
        Self { disks, groups }
    }

    async fn run(&self) -> Result<Relocated, ClusterError> {
        let mut relocated = Relocated::default();
        let Some(mut own) = self.begin().await? else { return Ok(relocated) };
        for slot in self.to_move(&own) {
            match self.move_slot(&mut own, slot).await? {
                None => relocated.moved += 1,
                Some(why) => drop(relocated.left.insert(slot, why)),
            }
        }
        relocated.erased = self.erase_left_overs(&own).await?;
        Ok(relocated)
    }

    fn is_any_leaving(&self) -> bool {
        let map = self.disks.map();
        map.disks.iter().any(|disk| map.is_leaving(disk.id))
    }

    /// The paths of the disks that are there.
    async fn paths(&self) -> Result<BTreeMap<Uid, String>, ClusterError> {
        let status = self.disks.status().await?;
        Ok(status.disks.into_iter().filter_map(|disk| Some((disk.entry.id, disk.path?))).collect())
    }

    /// What the disks say, written on those that lack it. `None` if they say nothing.
    async fn begin(&self) -> Result<Option<Own>, ClusterError> {
        let paths: Vec<String> = self.paths().await?.into_values().collect();
        if let Some(secret) = papers::read_secret(&paths).await? {
            // A disk that was added lately may be all that is left soon.
            papers::write_secret(&paths, &secret).await?;
        }
        let Some(own) = papers::read_own(&paths).await? else { return Ok(None) };
        write_down(paths, &own).await;
        Ok(Some(own))
    }

    /// The slots in lanes that are to be emptied.
    fn to_move(&self, own: &Own) -> Vec<u32> {
        let hold = self.disks.hold();
        let is_meant = |spot: &Spot| hold.is_leaving(spot.lane) && hold.is_open(spot.lane);
        own.places.iter().filter(|(_, spot)| is_meant(spot)).map(|(slot, _)| *slot).collect()
    }

    /// Moves a slot; if it stays where it is, why. It comes to its end, whoever waits.
    async fn move_slot(&self, own: &mut Own, slot: u32) -> Result<Option<String>, ClusterError> {
        let (work, mut now) = (self.clone(), own.clone());
        let moving = async move {
            let moved = work.try_move(&mut now, slot).await;
            moved.map(|moved| (moved, now))
        };
        let moved = to_the_end(Class::Foreground, moving).await;
        let (stays, now) = moved.map_err(|gone| ClusterError::Unknown(gone.to_string()))??;
        *own = now;
        Ok(stays)
    }

    async fn try_move(&self, own: &mut Own, slot: u32) -> Result<Option<String>, ClusterError> {
        let hold = self.disks.hold();
        let Some(spot) = own.places.get(&slot).copied().filter(|spot| hold.is_leaving(spot.lane)) else {
            return Ok(Some("its disk is not to be emptied any more".to_owned()));
        };
        let Some(to) = self.disks.lane_taking(&name_of(slot)).await? else {
            return Ok(Some("no lane of another disk takes data now".to_owned()));
        };
        let paths = self.paths().await?;
        let path_of = |lane: u32| self.disks.map().lane(lane).and_then(|entry| paths.get(&entry.disk).cloned());
        let (Some(left), Some(taking)) = (path_of(spot.lane), path_of(to)) else {
            return Ok(Some("its disk, or the one it is to go to, is not there".to_owned()));
        };
        if let Some(why) = self.stop(slot).await? {
            return Ok(Some(why));
        }
        let before = own.clone();
        let stays = if let Err(error) = self.disks.carry_slot(slot, spot.lane, to).await {
            Some(error.to_string())
        } else {
            own.places.insert(slot, spot.moved(to));
            match self.decide(own, &before, &left).await {
                Ok(stays) => stays,
                Err(error) => return self.give_up(slot, error).await,
            }
        };
        if stays.is_some() {
            own.places.insert(slot, spot);
        } else {
            let others = paths.into_values().filter(|path| ![&left, &taking].contains(&path));
            write_down(std::iter::once(taking.clone()).chain(others), own).await;
            info!(slot = %title(slot), from = spot.lane, to, "a slot was moved to another lane");
        }
        self.start(slot, own).await?;
        Ok(stays)
    }

    /// Tells the disk that a slot leaves where it is now. If that disk still says what it said before, it stays there, and why.
    async fn decide(&self, own: &Own, before: &Own, left: &String) -> Result<Option<String>, ClusterError> {
        let disk = std::slice::from_ref(left);
        let Err(error) = papers::write_own(disk, own).await else { return Ok(None) };
        match papers::read_own(disk).await {
            Ok(Some(there)) if there == *before => Ok(Some(error.to_string())),
            // Which of the two the next start finds nobody knows, so neither may go on.
            _ => Err(ClusterError::Broken(format!(
                "{error}; a slot stays stopped until the node is started again, as it may be in either of two lanes"
            ))),
        }
    }

    /// Stops a slot's group; if it can't be, why.
    async fn stop(&self, slot: u32) -> Result<Option<String>, ClusterError> {
        let Some(core) = &self.groups else { return Ok(None) };
        let owner = core.core_of(slot).unwrap_or(core.id);
        if !self.runs(slot).await? {
            return Ok(Some("its group doesn't run here; start the node again".to_owned()));
        }
        let has_applied =
            move |core: Rc<Core>| async move { core.slots.status(slot).is_ok_and(|it| it.applied.is_some()) };
        if !core.run(Line::Lead, owner, has_applied).await? {
            // Stopped again and again, it would never come to it: after each start it first waits before it votes.
            return Ok(Some(NOTHING_APPLIED.to_owned()));
        }
        core.note_moving(slot, true).await?;
        match core.run(Line::Lead, owner, move |core| async move { core.slots.leave(slot).await }).await? {
            Ok(()) => Ok(None),
            Err(error) => self.give_up(slot, error.into()).await,
        }
    }

    /// A group stays stopped until the node is started again.
    async fn give_up<T>(&self, slot: u32, error: ClusterError) -> Result<T, ClusterError> {
        if let Some(core) = &self.groups {
            let why = error.to_string();
            let note = move |core: Rc<Core>| async move { drop(core.failed.borrow_mut().insert(slot, why)) };
            core.run(Line::Lead, core.core_of(slot).unwrap_or(core.id), note).await?;
            core.note_moving(slot, false).await?;
        }
        Err(error)
    }

    /// Starts a slot's group where it is now.
    async fn start(&self, slot: u32, own: &Own) -> Result<(), ClusterError> {
        let Some(core) = &self.groups else { return Ok(()) };
        core.set_routes(own).await?;
        core.open_groups(BTreeSet::from([slot])).await?;
        core.note_moving(slot, false).await
    }

    /// Erases what slots have in other lanes than theirs; returns how many such there were.
    async fn erase_left_overs(&self, own: &Own) -> Result<u64, ClusterError> {
        let (found, mut erased) = (self.disks.slots().await?, 0);
        let paths = self.paths().await?;
        for (lane, slots) in &found {
            for slot in slots {
                let Some(spot) = own.places.get(slot).filter(|spot| spot.lane != *lane) else { continue };
                let is_there = found.get(&spot.lane).is_some_and(|slots| slots.contains(slot));
                let disk = self.disks.map().lane(spot.lane).and_then(|entry| paths.get(&entry.disk).cloned());
                let (true, Some(disk)) = (is_there && self.runs(*slot).await?, disk) else { continue };
                papers::write_own(&[disk], own).await?;
                self.disks.erase_slot(*slot, *lane).await?;
                erased += 1;
            }
        }
        Ok(erased)
    }

    /// Whether a slot's group runs where it is now, as far as groups run at all.
    async fn runs(&self, slot: u32) -> Result<bool, ClusterError> {
        let Some(core) = &self.groups else { return Ok(true) };
        let Some(owner) = core.core_of(slot) else { return Ok(false) };
        let stopped = core.run(Line::Lead, owner, move |core| async move { core.slots.stopped(slot) }).await?;
        Ok(stopped == Ok(None))
    }
}

impl Core {
    /// Takes note on every core that a slot is on its way, or has arrived.
    async fn note_moving(self: &Rc<Self>, slot: u32, is_moving: bool) -> Result<(), ClusterError> {
        for to in self.all() {
            let note = move |core: Rc<Core>| async move {
                let mut moving = core.moving.borrow_mut();
                if is_moving {
                    moving.insert(slot)
                } else {
                    moving.remove(&slot)
                };
            };
            self.run(Line::Lead, to, note).await?;
        }
        Ok(())
    }
}
