//! Bringing chunks home: the plan, the move of one chunk, the pass through a lane, the actor.
//!
//! A chunk is copied to its home, durable there, then dropped where it was; all under the claim of the core that guides it.
//! A crash leaves it in one of the two or in both, and the next pass goes on. There is no list of what is to be moved: a
//! pass looks at every chunk of its lane.
//!
//! | the lane | a chunk whose home is elsewhere | |
//! | --- | --- | --- |
//! | takes data | goes home; stays if that doesn't take it | the map isn't settled while it stays |
//! | is leaving | goes home, or to the next in its ranking that takes it | |
//! | any, and it is home, too | the copy at home is verified, this one dropped | after a crash, or a put while it was here |
//! | any, and its bytes are bad | is dropped if another lane has it; else stays | what is bad is never just gone |

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::rc::Rc;

use cairn_io::log::Payload;
use cairn_io::task::{Class, yield_now};
use cairn_io::{CoreId, here};
use cairn_meta::index::ChunkId;
use cairn_placement::PartitionId;
use cairn_placement::lanes::Lanes;
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::chunks::Standing;
use super::hub::{Core, Line};
use super::map::{DiskState, LaneMap, Uid};
use super::view::{Held, Routing};
use super::{Disks, DisksError, LEAD};
use crate::actor::{Actor, Context, Failure, Stopped, Wake};
use crate::lane::{Lane, Metadata, Put, Verified};

/// Chunks that are moved at once.
const MOVES_MAX: usize = 8;
/// Chunks looked at in one step.
const STEP: usize = 256;
/// Bad chunks looked at in one pass; there are hardly ever more, and if so the next pass sees them.
const BAD_MAX: usize = 10_000;

/// What a pass through a lane came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// The lane.
    pub lane: u32,
    /// The map by which it was done.
    pub epoch: u64,
    /// Chunks that were moved.
    pub moved: u64,
    /// Their bytes.
    pub moved_bytes: u64,
    /// Chunks that don't belong here and are still here.
    pub left: u64,
    /// Of these, those whose bytes are bad.
    pub bad: u64,
    /// Whether it has other things than chunks, which are not moved.
    pub has_metadata: bool,
}

/// Chunks that don't lie where they belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// The lane they are in.
    pub from: u32,
    /// Their home.
    pub to: u32,
    /// How many.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What would be moved under a map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// From where to where.
    pub moves: Vec<Move>,
    /// All chunks of the node, and their bytes.
    pub chunks: u64,
    /// See `chunks`.
    pub bytes: u64,
    /// Of each disk that is there and takes data: what would come, and about how much it has room for.
    pub room: Vec<(Uid, u64, u64)>,
    /// Slots in lanes that are to be emptied, which move, too.
    pub slots: u64,
    /// Why it can't be done as a whole.
    pub obstacles: Vec<String>,
}

impl Plan {
    /// Chunks to be moved, and their bytes.
    pub fn to_move(&self) -> (u64, u64) {
        self.moves.iter().fold((0, 0), |(chunks, bytes), one| (chunks + one.chunks, bytes + one.bytes))
    }
}

/// What came of moving a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It was, or is gone, or is at home here after all.
    Done { moved: bool },
    /// It is still here.
    Stays,
    /// It is still here, and bad.
    Bad,
    /// Another map counts now.
    Changed,
}

/// The actor: one for each core, for all its lanes.
pub struct Settle {
    /// The disks, as its core sees them.
    pub disks: Disks,
}

/// What may be asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettleMessage {
    /// Go through the lanes now, if there is a reason to.
    Look,
}

impl Actor for Settle {
    type Message = SettleMessage;

    async fn run(self, mut context: Context<Self::Message>) -> Result<(), Failure> {
        loop {
            match context.next().await {
                Wake::Stop => return Ok(()),
                Wake::Message(SettleMessage::Look) | Wake::Due => {}
            }
            if self.disks.is_settled() {
                continue;
            }
            self.disks.reopen().await?;
            let map = self.disks.map();
            let planned = self.disks.core().count(map.ranked()).await?;
            let here = self.disks.core().own_lanes();
            let is_here = |lane: u32| here.iter().any(|(own, _)| *own == lane);
            let all: u64 = planned.0.iter().filter(|one| is_here(one.from)).map(|one| one.bytes).sum();
            let what = format!("{} lanes", here.len());
            context.status().working(what, format!("by lane map {}, {all} bytes belong elsewhere", map.epoch));
            let mut done = 0;
            for (lane, _) in here {
                let pay = async |bytes| {
                    context.pay(bytes, 1).await?;
                    done += bytes;
                    context.status().progress(done, all.max(done));
                    Ok(())
                };
                match self.disks.pass_paying(lane, pay).await? {
                    Pass::Stopped => return Ok(()),
                    Pass::Changed => break,
                    Pass::Done(_) => {}
                }
            }
        }
    }
}

/// How a pass ended.
enum Pass {
    Done(Passed),
    /// Another map counts now.
    Changed,
    Stopped,
}

impl Disks {
    /// Whether there is nothing to move: every chunk is at home, and no disk is to be emptied.
    pub fn is_settled(&self) -> bool {
        let map = self.map();
        map.is_settled && map.disks.iter().all(|disk| disk.state == DiskState::Active)
    }

    /// After a change that failed at an unlucky moment nothing is moved until another one has been written.
    async fn reopen(&self) -> Result<(), DisksError> {
        let core = self.core();
        let view = core.enter();
        let (routing, epoch) = (view.routing, view.map.epoch);
        drop(view);
        if routing == (Routing::Search { is_open: false }) { core.allow_elsewhere(epoch).await } else { Ok(()) }
    }

    /// Goes through a lane of this core, moves what belongs elsewhere, and tells core 0. `None` if another map counts
    /// meanwhile, or the lane isn't this core's.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn pass(&self, lane: u32) -> Result<Option<Passed>, DisksError> {
        Ok(match self.pass_paying(lane, async |_| Ok(())).await? {
            Pass::Done(passed) => Some(passed),
            Pass::Changed | Pass::Stopped => None,
        })
    }

    /// The core that has a lane, if it is open.
    pub fn core_of_lane(&self, lane: u32) -> Option<CoreId> {
        self.core().enter().core_of(lane)
    }

    /// Of the lanes that are open, the one that something of this name belongs to.
    pub fn lane_for(&self, name: &[u8; 32]) -> Option<u32> {
        let view = self.core().enter();
        view.ranked.ranking(name).into_iter().find(|lane| view.core_of(*lane).is_some())
    }

    /// The lanes of this core.
    pub fn own_lanes(&self) -> Vec<(u32, Lane)> {
        self.core().own_lanes().into_iter().map(|(number, own)| (number, own.lane.clone())).collect()
    }

    /// What would be moved under a map: the one that counts, or one that could.
    ///
    /// # Errors
    /// If an index can't be read.
    pub async fn plan(&self, map: &LaneMap) -> Result<Plan, DisksError> {
        let core = self.core();
        let count = |to| {
            let ranked = map.ranked();
            core.run(Line::Lane, Class::Maintenance, to, move |core| async move { core.count(ranked).await })
        };
        let counted = join_all((0..core.cores).map(CoreId::new).map(count)).await;
        let mut plan = Plan::default();
        for counted in counted {
            let (moves, chunks, bytes) = counted??;
            plan.moves.extend(moves);
            plan.chunks += chunks;
            plan.bytes += bytes;
        }
        plan.moves.sort_unstable_by_key(|one| (one.from, one.to));
        self.find_room(map, &mut plan).await?;
        Ok(plan)
    }

    async fn find_room(&self, map: &LaneMap, plan: &mut Plan) -> Result<(), DisksError> {
        let status = self.status().await?;
        let log = &self.core().options.lane.log;
        for disk in status.disks.iter().filter(|disk| !map.is_leaving(disk.entry.id)) {
            let Some(space) = disk.space else { continue };
            let lanes = || status.lanes.iter().filter(|lane| lane.entry.disk == disk.entry.id);
            let inside: u64 = lanes().map(|lane| lane.state.room_inside(log.reserve)).sum();
            let room = space.free.saturating_sub(log.keep_free) + inside;
            let is_of_disk = |lane| map.lane(lane).is_some_and(|lane| lane.disk == disk.entry.id);
            let incoming = plan.moves.iter().filter(|one| is_of_disk(one.to)).map(|one| one.bytes).sum();
            plan.room.push((disk.entry.id, incoming, room));
        }
        let leaving: Vec<u32> =
            map.lanes.iter().filter(|lane| map.is_leaving(lane.disk)).map(|lane| lane.number).collect();
        let off: u64 = plan.moves.iter().filter(|one| leaving.contains(&one.from)).map(|one| one.bytes).sum();
        let room: u64 = plan.room.iter().map(|(_, _, room)| room).sum();
        // A disk that comes with the map isn't among those that have been asked.
        let is_known = map.disks.iter().all(|disk| status.map.disk(disk.id).is_some());
        if off > room && is_known {
            plan.obstacles.push(format!("{off} bytes must go, and the other disks have room for {room}; add a disk"));
        }
        let core = self.core();
        let held =
            core.on_lanes(&core.enter(), |own| Ok(own.lane.metadata().map_err(|error| error.to_string()))).await?;
        let held = || held.iter().filter(|(lane, _)| leaving.contains(lane));
        plan.slots = held().map(|(_, found)| slots_of(found)).sum();
        plan.obstacles.extend(held().filter_map(|(lane, found)| stays((*lane, found.clone()))));
        for lane in &status.lanes {
            if let super::LaneState::Missing(reason) = &lane.state {
                let number = lane.entry.number;
                plan.obstacles.push(format!("lane {number} is missing ({reason}); the map isn't settled without it"));
            }
        }
        Ok(())
    }

    async fn pass_paying(
        &self,
        lane: u32,
        mut pay: impl AsyncFnMut(u64) -> Result<(), Stopped>,
    ) -> Result<Pass, DisksError> {
        let core = self.core();
        // It may have left the node since whoever asks looked.
        let Ok(own) = core.own(lane).map(|own| own.lane.clone()) else { return Ok(Pass::Changed) };
        let map = self.map();
        let is_open = |core: &Rc<Core>| {
            let view = core.enter();
            view.map.epoch == map.epoch && view.routing != (Routing::Search { is_open: false })
        };
        let ranked = map.ranked();
        let mut passed = Passed { lane, epoch: map.epoch, ..Passed::default() };
        let mut note = |outcome: Outcome, bytes: u64| match outcome {
            Outcome::Done { moved } => {
                passed.moved += u64::from(moved);
                passed.moved_bytes += if moved { bytes } else { 0 };
                ControlFlow::Continue(())
            }
            Outcome::Stays => {
                passed.left += 1;
                ControlFlow::Continue(())
            }
            Outcome::Bad => {
                (passed.left, passed.bad) = (passed.left + 1, passed.bad + 1);
                ControlFlow::Continue(())
            }
            Outcome::Changed => ControlFlow::Break(()),
        };
        let epoch = map.epoch;
        let start = |id: ChunkId, bytes: u64, is_bad: bool| {
            let carry = move |core: Rc<Core>, view: Held| async move {
                match view.routing {
                    Routing::Search { is_open: true } if view.map.epoch == epoch => {}
                    // A settled map with a leaving disk: nothing is misplaced but what the disk's removal waits for.
                    _ => return Ok(Outcome::Changed),
                }
                if is_bad { core.drop_bad(&view, id, lane).await } else { core.carry(&view, id, lane).await }
            };
            async move { (core.guide(Class::Maintenance, id, carry).await, bytes) }
        };
        if !is_open(core) {
            return Ok(Pass::Changed);
        }
        let mut moving = FuturesUnordered::new();
        for partition in (0..core.options.lane.partitions).map(PartitionId) {
            let mut after = None;
            loop {
                let page = own.list(partition, after.as_ref(), STEP)?;
                for (id, entry) in page.iter().filter(|(id, _)| ranked.home(&id.0) != Some(lane)) {
                    if pay(u64::from(entry.length)).await.is_err() {
                        return Ok(Pass::Stopped);
                    }
                    moving.push(start(*id, u64::from(entry.length), false));
                    while moving.len() >= MOVES_MAX {
                        let Some((outcome, bytes)) = moving.next().await else { break };
                        if note(outcome??, bytes).is_break() {
                            return Ok(Pass::Changed);
                        }
                    }
                }
                let Some((last, _)) = page.last().filter(|_| page.len() == STEP) else { break };
                after = Some(*last);
                yield_now().await;
            }
            if partition.0.is_multiple_of(64) {
                yield_now().await;
            }
        }
        for bad in own.quarantine(BAD_MAX)? {
            if ranked.home(&bad.id.0) != Some(lane) {
                moving.push(start(bad.id, 0, true));
            }
        }
        while let Some((outcome, bytes)) = moving.next().await {
            if note(outcome??, bytes).is_break() {
                return Ok(Pass::Changed);
            }
        }
        // What was under way when it failed may be here after the next start.
        passed.left += u64::from(own.log().poisoned().is_some());
        passed.has_metadata = own.metadata()?.is_some();
        let tell = move |core: Rc<Core>| async move { core.lead()?.passed(&core, passed).await };
        core.run(Line::Lead, Class::Maintenance, LEAD, tell).await??;
        Ok(Pass::Done(passed))
    }
}

/// What one of a disk's lanes has besides chunks, or why nobody can tell.
type Found = Result<Option<Metadata>, String>;

/// How many slots that is.
pub fn slots_of(found: &Found) -> u64 {
    found.iter().flatten().map(|found| found.slots.len() as u64).sum()
}

/// Why a leaving disk stays although its chunks and slots have gone, given what one of its lanes has besides chunks.
pub fn stays((lane, held): (u32, Found)) -> Option<String> {
    match held {
        Ok(held) => held.filter(|held| held.has_versions).map(|_| {
            format!(
                "lane {lane} has versions, which don't move with chunks: its disk stays until they are gone; take it back with \
                 `cairn disk evacuate --keep`"
            )
        }),
        Err(error) => Some(format!("nobody can tell what lane {lane} has besides chunks: {error}")),
    }
}

impl super::LaneState {
    /// Bytes of its segments that hold nothing that is needed, less the reserve.
    fn room_inside(&self, reserve: usize) -> u64 {
        let Self::Open { lane, .. } = self else { return 0 };
        let segments = (lane.segments.0 + lane.segments.1).saturating_sub(reserve) as u64;
        (segments * u64::from(lane.segment_bytes)).saturating_sub(lane.live_bytes)
    }
}

type Counted = (Vec<Move>, u64, u64);

impl Core {
    /// What of this core's lanes would belong elsewhere, and all that there is.
    async fn count(&self, ranked: Lanes) -> Result<Counted, DisksError> {
        let mut moves = BTreeMap::<(u32, u32), (u64, u64)>::new();
        let (mut chunks, mut bytes) = (0, 0);
        for (lane, own) in self.own_lanes() {
            for partition in (0..self.options.lane.partitions).map(PartitionId) {
                let mut after = None;
                loop {
                    let page = own.lane.list(partition, after.as_ref(), STEP)?;
                    for (id, entry) in &page {
                        let length = u64::from(entry.length);
                        (chunks, bytes) = (chunks + 1, bytes + length);
                        if let Some(home) = ranked.home(&id.0).filter(|home| *home != lane) {
                            let one = moves.entry((lane, home)).or_default();
                            *one = (one.0 + 1, one.1 + length);
                        }
                    }
                    let Some((last, _)) = page.last().filter(|_| page.len() == STEP) else { break };
                    after = Some(*last);
                    yield_now().await;
                }
                if partition.0.is_multiple_of(64) {
                    yield_now().await;
                }
            }
        }
        let moves = moves.into_iter().map(|((from, to), (chunks, bytes))| Move { from, to, chunks, bytes });
        Ok((moves.collect(), chunks, bytes))
    }

    /// Moves a chunk from a lane to where it belongs.
    async fn carry(self: &Rc<Self>, view: &Held, id: ChunkId, from: u32) -> Result<Outcome, DisksError> {
        debug_assert_eq!(self.guide_of(&id), here());
        let ranking = view.ranked.ranking(&id.0);
        let is_leaving = !ranking.contains(&from);
        let targets = if is_leaving { &ranking[..] } else { &ranking[..ranking.len().min(1)] };
        if targets.first() == Some(&from) {
            return Ok(Outcome::Done { moved: false });
        }
        let bytes = match self.read_at(view, from, id, None).await {
            Ok(Some(bytes)) => bytes,
            // Dropped, or found bad, in which case the rest of the pass sees it.
            Ok(None) => return Ok(Outcome::Done { moved: false }),
            Err(_) => return Ok(Outcome::Stays),
        };
        for (place, &to) in targets.iter().enumerate() {
            if place > 0 {
                self.displaced.set(self.displaced.get() + 1);
            }
            let payload = Payload::Bytes(bytes.clone());
            match self.put_at(view, to, id, payload.clone(), Class::Maintenance).await {
                Ok(Put::New) => {}
                Ok(Put::Existing) => match self.verify_at(view, to, id).await {
                    Ok(Verified::Good) => {}
                    // It is in quarantine now, and a put ends that.
                    Ok(_) if self.put_at(view, to, id, payload, Class::Maintenance).await.is_ok() => {}
                    _ => return Ok(Outcome::Stays),
                },
                Err(error) if error.may_go_elsewhere() => continue,
                Err(_) => return Ok(Outcome::Stays),
            }
            return Ok(match self.drop_at(view, from, id).await {
                Ok(_) => Outcome::Done { moved: true },
                Err(_) => Outcome::Stays,
            });
        }
        Ok(Outcome::Stays)
    }

    /// Drops the bad copy of a chunk that doesn't belong here, if another lane has it whole.
    async fn drop_bad(self: &Rc<Self>, view: &Held, id: ChunkId, from: u32) -> Result<Outcome, DisksError> {
        let found = self.find(view, id).await?;
        match found.get(&from) {
            // It was stored again or dropped.
            None => return Ok(Outcome::Done { moved: false }),
            Some(Standing::Good | Standing::Unknown) => return Ok(Outcome::Stays),
            Some(Standing::Bad) => {}
        }
        for lane in found.iter().filter(|(_, standing)| **standing == Standing::Good).map(|(lane, _)| *lane) {
            if self.verify_at(view, lane, id).await? == Verified::Good {
                let dropped = self.drop_at(view, from, id).await;
                return Ok(if dropped.is_ok() { Outcome::Done { moved: false } } else { Outcome::Bad });
            }
        }
        Ok(Outcome::Bad)
    }
}
