//! Compaction: live records of mostly dead segments are written again at the head of the log, and the segments freed.
//!
//! Safe against a crash at every step: copies are ordinary records, durable before anything is freed; a segment is freed only
//! when the index is committed beyond it, so that no recovery reads it again. A drop moves on with its segment's
//! other records for as long as the record it drops is there to come back. A segment with a quarantined record stays until
//! the record is stored again or dropped: when the index is made anew, it is all that says that something was there.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use cairn_io::log::format::Drop;
use cairn_io::log::{Damage, Found, Kind, LogError, Payload, ReadError, Record, Room, Step};
use cairn_io::task::{Class, spawn};
use cairn_io::time::{self, Duration, Instant};
use cairn_meta::index::ChunkId;
use futures_channel::oneshot;

use super::paced::{Next, Paced};
use super::records::claimed_by;
use super::{Lane, LaneError, Underway};
use crate::actor::{Actor, Context, Failure, Stopped, Wake};

/// Segments with at most this share of live bytes are worth rewriting while there is room.
const LIVE_MAX_PERCENT: u64 = 60;
/// And while there is hardly any.
const LIVE_MAX_FULL_PERCENT: u64 = 90;
/// Copies are waited for when there are so many with so many bytes: a batch of fewer is mostly padding, and what is full of
/// drops would take more room than it gives back.
const COPIES: usize = 16;
/// See [`COPIES`].
const COPIES_BYTES: u64 = 1 << 20;
/// And when there are so many, however small: their ids are busy meanwhile.
const COPIES_MAX: usize = 512;
/// A segment that couldn't be freed is tried again after this time, which doubles with each attempt.
const RETRY_MIN: Duration = Duration::from_mins(1);
/// See [`RETRY_MIN`].
const RETRY_MAX: Duration = Duration::from_hours(1);
/// So many of them hold up the rest.
const HINDERED_MAX: usize = 8;

/// What a compaction did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Records written again, and their bytes.
    pub copied: u64,
    /// See `copied`.
    pub copied_bytes: u64,
    /// Bytes of the segment that were read.
    pub read_bytes: u64,
    /// Whether the segment is free now. It isn't if something in it is damaged or quarantined, or if somebody else frees it.
    pub is_freed: bool,
    /// What couldn't be read in it.
    pub damage: Vec<Damage>,
}

/// A segment that is worth compacting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Which.
    pub segment: u64,
    /// Bytes that would be written again, about.
    pub kept: u64,
    /// Its length.
    pub bytes: u64,
}

/// The actor.
pub struct Compact {
    /// The lane.
    pub lane: Lane,
}

/// What may be asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactMessage {
    /// Look for something to do now.
    Look,
}

impl Actor for Compact {
    type Message = CompactMessage;

    async fn run(self, mut context: Context<Self::Message>) -> Result<(), Failure> {
        let mut hindered = Hindered::default();
        loop {
            match context.next().await {
                Wake::Stop => return Ok(()),
                Wake::Message(CompactMessage::Look) | Wake::Due => {}
            }
            while let Some(planned) = hindered.next(self.lane.compaction_plan()) {
                match self.free(planned, &context).await? {
                    Freed::Yes => hindered.forget(planned.segment),
                    Freed::NotNow => break,
                    Freed::No(reason) => {
                        context.status().failed(format!("segment {} can't be freed: {reason}", planned.segment));
                        hindered.add(planned.segment);
                    }
                    Freed::Stopped => return Ok(()),
                }
            }
        }
    }
}

/// What came of an attempt to free a segment.
enum Freed {
    Yes,
    /// Nor would another be: the index can't be committed.
    NotNow,
    /// This one isn't, for this reason.
    No(String),
    Stopped,
}

impl Compact {
    async fn free(&self, planned: Planned, context: &Context<CompactMessage>) -> Result<Freed, LaneError> {
        let Planned { segment, kept, bytes } = planned;
        let why = format!("{kept} of its {bytes} bytes are still needed");
        context.status().working(format!("segment {segment}"), why);
        let done = match self.lane.compact_paying(segment, async |bytes| context.pay(bytes, 1).await).await {
            Ok(None) => return Ok(Freed::Stopped),
            Ok(Some(done)) => done,
            // It is this segment's file that fails, not the log.
            Err(error @ (LaneError::Read(_) | LaneError::Io(_))) => return Ok(Freed::No(error.to_string())),
            Err(error) => return Err(error),
        };
        Ok(match done.damage.first() {
            _ if done.is_freed => Freed::Yes,
            Some(damage) => Freed::No(format!("bytes {:?} of it can't be read; see `cairn fsck`", damage.bytes)),
            None if self.lane.status().commit_failure.is_some() => Freed::NotNow,
            None => Freed::No("something in it is still needed".to_owned()),
        })
    }
}

/// Segments that couldn't be freed. They don't hold up the others, and are tried again after a while.
#[derive(Default)]
struct Hindered(BTreeMap<u64, (Duration, Instant)>);

impl Hindered {
    /// The best segment that isn't to be left alone now. None while too many wait: each may have been copied for nothing.
    fn next(&mut self, plan: Vec<Planned>) -> Option<Planned> {
        self.0.retain(|segment, _| plan.iter().any(|planned| planned.segment == *segment));
        let now = time::now();
        let waits = |segment: u64| self.0.get(&segment).is_some_and(|(_, until)| now < *until);
        let is_known = |segment: u64| self.0.contains_key(&segment);
        let has_few = self.0.len() < HINDERED_MAX;
        plan.into_iter().find(|planned| !waits(planned.segment) && (has_few || is_known(planned.segment)))
    }

    fn add(&mut self, segment: u64) {
        let pause = self.0.get(&segment).map_or(RETRY_MIN, |(pause, _)| (*pause * 2).min(RETRY_MAX));
        self.0.insert(segment, (pause, time::now() + pause));
    }

    fn forget(&mut self, segment: u64) {
        self.0.remove(&segment);
    }
}

impl Lane {
    /// The segments that are worth compacting, best first: where most room is won for the bytes that must be copied, the
    /// older the better. What the actor would do, without doing it.
    pub fn compaction_plan(&self) -> Vec<Planned> {
        let committed = self.status().committed.segment.min(self.0.log.head_segment());
        let segments = self.0.log.segments();
        // The log has room for as long as something fits into its last segment; that is too late.
        let has_room = self.0.log.segment_counts().1 > self.0.log.options().reserve;
        let most = if has_room { LIVE_MAX_PERCENT } else { LIVE_MAX_FULL_PERCENT };
        let bytes = u64::from(self.0.log.superblock().segment_bytes);
        let is_left_alone =
            |segment: u64| self.is_given_up(segment) || self.0.state.has_bad(segment) || self.is_being_freed(segment);
        let sealed = segments.iter().filter(|segment| segment.number < committed && !is_left_alone(segment.number));
        let plan = |segment: u64| {
            let kept = self.0.state.usage_of(segment).kept(segments.len() as u64);
            // Cost and benefit of log-structured file systems: room won times age over bytes read and written.
            let room_and_age = u128::from(bytes.saturating_sub(kept)) * u128::from(committed - segment);
            let score = room_and_age * 1024 / u128::from(bytes + kept);
            (kept * 100 <= bytes * most).then_some((score, Planned { segment, kept, bytes }))
        };
        let mut plans: Vec<_> = sealed.filter_map(|segment| plan(segment.number)).collect();
        plans.sort_unstable_by_key(|(score, planned)| (Reverse(*score), planned.segment));
        plans.into_iter().map(|(_, planned)| planned).collect()
    }

    /// The last segment is compaction's, unless that has nothing to free: then only a drop can give it something.
    pub(super) fn room_for_drops(&self) -> Room {
        let is_last = self.0.log.segment_counts().1 <= 1;
        if is_last && self.compaction_plan().is_empty() { Room::Last } else { Room::Reserve }
    }

    /// Compacts one segment.
    ///
    /// # Errors
    /// Poisoned, no room even in the reserve, or if the disk fails; the segment is then as good as before.
    pub async fn compact(&self, segment: u64) -> Result<Compacted, LaneError> {
        let done = self.compact_paying(segment, async |_| Ok(())).await?;
        Ok(done.unwrap_or_default())
    }

    /// Compacts one segment, paying for each piece before it is read or written; `None` if it was to stop meanwhile.
    async fn compact_paying(
        &self,
        segment: u64,
        pay: impl AsyncFn(u64) -> Result<(), Stopped>,
    ) -> Result<Option<Compacted>, LaneError> {
        let mut done = Compacted::default();
        if self.0.state.has_bad(segment) || self.is_being_freed(segment) {
            // It can't be freed now, and what would be copied would be copied again and again.
            return Ok(Some(done));
        }
        if self.0.emptied.borrow().contains(&segment) {
            // A drop has no place in the index that would tell that it was copied: each attempt would copy it once more,
            // until the reserve is used up.
            done.is_freed = self.free_segment(segment).await?;
            return Ok(Some(done));
        }
        let (mut copies, mut settled_bytes) = (Underway::default(), 0);
        let mut records = Paced::new(self.0.log.scan(segment, None)?, pay);
        loop {
            // Neither a put nor a vote must wait for a claim while this pays.
            let let_go = async || {
                copies.settle().await?;
                settled_bytes = done.copied_bytes;
                Ok(())
            };
            let found = match records.next(let_go).await? {
                Next::Step(Step::Record(found)) => found,
                Next::Step(Step::Damage(damage)) => {
                    done.damage.push(damage);
                    continue;
                }
                Next::End => break,
                Next::Stopped => return Ok(None),
            };
            if !self.is_needed(&found)? {
                continue;
            }
            if found.kind == Kind::Rows {
                copies.settle().await?;
                self.carry_rows(&found.id, found.location, Some(segment)).await?;
                continue;
            }
            let id = claimed_by(found.kind, &found.id);
            if !copies.claims.iter().any(|claim| claim.id == id) {
                if self.is_claimed(&id) {
                    // Whoever has it may be another compaction that waits for what this one has.
                    copies.settle().await?;
                }
                copies.claims.push(self.claim(id).await);
            }
            // It may have been dropped or moved while its id was waited for.
            if !self.is_needed(&found)? {
                continue;
            }
            let mut found = found;
            if !found.is_whole {
                // Once more: the disk may have failed to read it, and what can't be read now must not be freed.
                match self.0.log.read(found.location, found.kind, &found.id).await {
                    Ok(block) => (found.payload, found.is_whole) = (block.into_bytes(), true),
                    Err(ReadError::Io(error)) => return Err(error.into()),
                    Err(_) => {}
                }
            }
            if !found.is_whole {
                if found.kind == Kind::Chunk {
                    self.convict(&ChunkId(found.id), found.location)?;
                } else {
                    let Found { location: at, sequence, .. } = found;
                    let (from, to) = (u64::from(at.offset), u64::from(at.offset + at.extent));
                    let what = cairn_io::log::What::Records;
                    done.damage.push(Damage { segment, bytes: from..to, sequences: sequence..sequence + 1, what });
                }
                continue;
            }
            done.copied += 1;
            done.copied_bytes += u64::from(found.location.extent);
            let record = Record { kind: found.kind, id: found.id, payload: Payload::Bytes(found.payload) };
            copies.pending.push_back(self.0.log.submit(record, Room::Last).await?);
            let (count, bytes) = (copies.pending.len(), done.copied_bytes - settled_bytes);
            if count >= COPIES_MAX || count >= COPIES && bytes >= COPIES_BYTES {
                copies.settle().await?;
                settled_bytes = done.copied_bytes;
            }
        }
        copies.settle().await?;
        done.read_bytes = records.offset();
        self.check_index()?;
        if done.damage.is_empty() {
            self.0.emptied.borrow_mut().insert(segment);
            done.is_freed = self.free_segment(segment).await?;
        } else {
            self.give_up(segment);
        }
        Ok(Some(done))
    }

    /// Frees a segment whose live records are all elsewhere.
    async fn free_segment(&self, segment: u64) -> Result<bool, LaneError> {
        if self.0.commit.borrow().position.segment <= segment {
            self.commit().await?;
        }
        let is_behind = self.0.commit.borrow().position.segment > segment;
        if self.0.state.usage_of(segment).live > 0 || self.0.state.has_bad(segment) {
            self.0.emptied.borrow_mut().remove(&segment);
            return Ok(false);
        }
        if !is_behind {
            return Ok(false);
        }
        self.check_poison()?;
        // Else a rebuild would take the gap for the end of the log, and what lies behind it for never answered.
        if self.0.log.proven().segment <= segment {
            self.note(self.status().committed).await?;
            if self.0.log.proven().segment <= segment {
                return Ok(false);
            }
        }
        // Another compaction may have come as far as this while ours waited.
        if !self.0.log.has_segment(segment) || self.is_being_freed(segment) {
            return Ok(false);
        }
        self.free_to_the_end(segment).await?;
        Ok(true)
    }

    /// Frees a segment, also when whoever asked for it gives up waiting: a segment half freed is neither, and a write of
    /// its header that is still under way would land on whatever the file holds by then.
    async fn free_to_the_end(&self, segment: u64) -> Result<(), LaneError> {
        let (answer, answered) = oneshot::channel();
        self.0.freeing.borrow_mut().insert(segment);
        let lane = self.clone();
        spawn(Class::Maintenance, async move {
            let freed = lane.0.log.free(segment).await;
            lane.0.freeing.borrow_mut().remove(&segment);
            if freed.is_ok() {
                lane.0.state.forget(segment);
                lane.0.emptied.borrow_mut().remove(&segment);
            }
            // Who gave up doesn't want the answer.
            let _ = answer.send(freed);
        })
        .detach();
        // No answer: the core stops.
        answered.await.map_err(|_| LogError::Closed)??;
        Ok(())
    }

    /// Whether a record must not be lost with its segment.
    fn is_needed(&self, found: &Found) -> Result<bool, LaneError> {
        Ok(match found.kind {
            Kind::Drop if !found.is_whole => true,
            Kind::Drop => {
                let own = found.location.segment;
                let may_come_back = |drop: Drop| {
                    drop.segment != own && self.0.log.has_segment(drop.segment)
                        || self.0.state.has_older_copies(drop.segment, own)
                };
                Drop::decode(&found.payload).is_none_or(may_come_back)
            }
            kind => self.0.state.is_live(kind, &found.id, found.location)?,
        })
    }

    fn is_being_freed(&self, segment: u64) -> bool {
        self.0.freeing.borrow().contains(&segment)
    }

    /// A segment with damage in it is left as it is, for people and for fsck.
    fn give_up(&self, segment: u64) {
        self.0.given_up.borrow_mut().insert(segment);
    }

    fn is_given_up(&self, segment: u64) -> bool {
        self.0.given_up.borrow().contains(&segment)
    }
}
