//! Writes that this node takes on its own, as it reaches nobody who leads their slot or their writers want no more: each is durable
//! in one of its lanes until the slot has taken it over.
//!
//! | step | a crash behind it leaves | what is done then |
//! | --- | --- | --- |
//! | 1. nobody leads ([`super::seek`]), and the bucket takes such writes; or one copy is asked for ([`super::commit`]) | | |
//! | 2. the version is made of what is known here, and written to a lane | a version that is held; who asked doesn't know | it is handed over like all |
//! | 3. it is answered as provisional | a version that is held | likewise |
//! | 4. somebody leads again, and the slot takes it over | the same version twice | the slot knows it already |
//! | 5. the lane drops it | | |
//!
//! Versions of a key are handed over in the order in which they were made. One that the slot refuses stays here, and is tried again.
//!
//! Invariants: what was answered as provisional is in this node's lanes or in its slot; no two versions have one dot, whatever fails:
//! numbers are counted in memory, each is given away before its version is written, and who doesn't know the last of an actor
//! begins another.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use cairn_io::CoreId;
use cairn_io::log::Id;
use cairn_io::task::Class;
use cairn_meta::control::bucket::BucketState;
use cairn_meta::rows::Rows;
use cairn_meta::slot::command::{self, Command, Committed, Import, Write};
use cairn_meta::slot::layout::BucketId;
use cairn_meta::slot::provisional;
use cairn_meta::slot::query::{Query, Reply};
use cairn_meta::slot::read::{Found, Mode};
use cairn_meta::version::{Dot, Version, VersionId};
use futures_util::future::try_join_all;
use futures_util::lock::Mutex;
use futures_util::{StreamExt, stream};
use tracing::debug;

use super::ask::{Ask, Told};
use super::hub::{Core, Line};
use super::routes::name_of;
use super::{Cluster, ClusterError, Freshness, wall_millis};
use crate::actor::{Actor, Context, Failure, Wake};
use crate::lane::{Lane, LaneError, Named};
use crate::line::to_the_end;
use crate::slot::SlotError;

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The version, if there is one.
    pub found: Option<Found>,
    /// How fresh that is.
    pub freshness: Freshness,
}

/// What one look at all that is held came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Versions that their slots have now.
    pub taken: u64,
    /// Versions that are still held.
    pub left: u64,
    /// Why one of them is.
    pub why: Option<String>,
}

/// What the name of a held version begins with: that of its key.
type KeyName = [u8; 16];

/// Writes of a key come one after the other; keys share so many turns.
const TURNS: usize = 64;
/// Keys of which the last number is remembered. Of one that is forgotten, the next version begins another actor.
const NUMBERED: usize = 1 << 16;
/// Versions that are looked for at a time, and the bytes of their records but for the last.
const BATCH: usize = 512;
const BATCH_BYTES: usize = 1 << 20;
/// Versions of one command, and their bytes but for the last: less than a command may have where segments are short.
const COMMAND: usize = 64;
const COMMAND_BYTES: usize = 32 << 10;
/// Slots that are told at a time.
const SLOTS_AT_ONCE: usize = 16;

/// One core's part of what is held.
pub struct Holding {
    /// Of each core of the node, whether its lanes may hold anything.
    cores: Arc<[AtomicBool]>,
    turns: [Mutex<()>; TURNS],
    /// The dot that the next version of a key may have.
    next: RefCell<BTreeMap<KeyName, Dot>>,
}

/// For the cores of a node.
pub fn cores(count: usize) -> Arc<[AtomicBool]> {
    (0..count).map(|_| AtomicBool::new(true)).collect()
}

impl Holding {
    pub fn new(cores: Arc<[AtomicBool]>) -> Self {
        Self { cores, turns: std::array::from_fn(|_| Mutex::new(())), next: RefCell::default() }
    }

    fn set(&self, core: CoreId, may_hold: bool) {
        self.cores[core.index()].store(may_hold, Ordering::Release);
    }

    fn may_any_hold(&self) -> bool {
        self.cores.iter().any(|core| core.load(Ordering::Acquire))
    }

    fn may_hold(&self, core: CoreId) -> bool {
        self.cores[core.index()].load(Ordering::Acquire)
    }
}

fn key_name(bucket: BucketId, key: &str) -> KeyName {
    let mut hasher = blake3::Hasher::new_derive_key("cairn 2026 held key");
    hasher.update(&bucket.to_be_bytes()).update(key.as_bytes());
    let hash = hasher.finalize();
    let (name, _) = hash.as_bytes().split_first_chunk().expect("32 bytes have 16");
    *name
}

fn held_name(key: KeyName, version: VersionId) -> Id {
    let mut name = [0; 32];
    name[..16].copy_from_slice(&key);
    name[16..].copy_from_slice(&version.0.to_be_bytes());
    name
}

fn of_lane(error: &LaneError) -> ClusterError {
    let text = error.to_string();
    if error.is_no_room() { ClusterError::NoRoom(text) } else { ClusterError::Unknown(text) }
}

impl Cluster {
    /// Reads a version of a key, provisional ones that this node holds among them. Where nobody leads its slot and `or_older`
    /// allows it, it is what this node has.
    ///
    /// # Errors
    /// If nobody can answer.
    pub async fn read(
        &self,
        (bucket, key): (BucketId, &str),
        mode: Mode,
        freshness: Freshness,
        or_older: bool,
    ) -> Result<Seen, ClusterError> {
        let (core, slot) = (self.core(), self.slot_of(bucket, key));
        let may_hold = mode != Mode::ConfirmedOnly && core.holding.may_any_hold();
        let local = if may_hold { core.held(key_name(bucket, key)).await? } else { vec![] };
        let query = Query::Read { bucket, key: key.to_owned(), mode, local };
        let or_older = or_older && mode != Mode::ConfirmedOnly && !core.peers.is_alone();
        let (reply, freshness) = match self.query_slot(slot, &query, freshness).await {
            Err(ClusterError::Unreachable(why)) if or_older => (
                Box::pin(core.answer_from_here(slot, query)).await.ok_or(ClusterError::Unreachable(why))?,
                Freshness::Local,
            ),
            other => (other?, freshness),
        };
        let Reply::Read(found) = reply else { return Err(ClusterError::another_question()) };
        Ok(Seen { found, freshness })
    }

    /// Hands over to their slots what this node holds, as far as somebody leads them.
    ///
    /// # Errors
    /// If what is held can't be read.
    pub async fn reconcile(&self) -> Result<Reconciled, ClusterError> {
        self.reconcile_with(&[], async |_, _| true).await
    }

    /// The same of one key, so that what is written next is made of that and no branch beside it.
    pub(super) async fn reconcile_key(&self, bucket: BucketId, key: &str) {
        if !self.core().holding.may_any_hold() {
            return;
        }
        // Boxed, as it is rarely more than that.
        let reconciled = Box::pin(self.reconcile_with(&key_name(bucket, key), async |_, _| true)).await;
        if let Err(error) = reconciled {
            debug!(%error, "what is held of a key can't be read before it is written");
        }
    }

    /// Hands over what is held under names that begin so. `goes_on` is told before each batch how many versions and bytes it
    /// has, and may end it.
    async fn reconcile_with(
        &self,
        begin: &[u8],
        goes_on: impl AsyncFn(u64, u64) -> bool,
    ) -> Result<Reconciled, ClusterError> {
        let core = self.core();
        let (mut done, mut away) = (Reconciled::default(), BTreeSet::new());
        for to in core.all() {
            let mut behind = None;
            loop {
                let begin = begin.to_vec();
                let look = move |core: Rc<Core>| async move { core.held_behind(&begin, behind).await };
                let batch = core.run(Line::Lead, to, look).await??;
                let Some(last) = batch.last() else { break };
                behind = Some((last.lane, last.name));
                let bytes = batch.iter().map(|held| held.bytes as u64).sum();
                if !goes_on(batch.len() as u64, bytes).await {
                    return Ok(done);
                }
                let taken = self.hand_over(batch, &mut away, &mut done).await;
                done.taken += taken.len() as u64;
                core.run(Line::Lead, to, move |core| async move { core.let_go(&taken).await }).await??;
            }
        }
        Ok(done)
    }

    /// Has slots take these over; returns those that they have.
    async fn hand_over(
        &self,
        batch: Vec<HeldRecord>,
        away: &mut BTreeSet<u32>,
        done: &mut Reconciled,
    ) -> Vec<(u32, Id)> {
        let (map, mut of_slots) = (self.map(), BTreeMap::<u32, Vec<Held>>::new());
        for HeldRecord { lane, name, bytes, import } in batch {
            let mut import = match import {
                Ok(import) => import,
                Err(why) => {
                    done.leave(1, why);
                    continue;
                }
            };
            let bucket = map.find_id(import.place.bucket.id);
            let Some(bucket) = bucket.filter(|bucket| bucket.record().state == BucketState::Open) else {
                done.leave(1, format!("the bucket of {:?} is gone", import.place.key));
                continue;
            };
            import.place.bucket = bucket.record().stamp();
            let slot = self.slot_of(import.place.bucket.id, &import.place.key);
            of_slots.entry(slot).or_default().push(Held { record: (lane, name), bytes, import });
        }
        let mut taken = Vec::new();
        let tell = |(slot, held)| {
            let is_away = away.contains(&slot);
            async move { (slot, self.hand_over_to(slot, held, is_away).await) }
        };
        let told: Vec<_> = stream::iter(of_slots).map(tell).buffer_unordered(SLOTS_AT_ONCE).collect().await;
        for (slot, HandedOver { records, is_away, left }) in told {
            taken.extend(records);
            done.left += left.left;
            done.why = left.why.or(done.why.take());
            if is_away {
                away.insert(slot);
            }
        }
        taken
    }

    /// Has one slot take these over, in their order.
    async fn hand_over_to(&self, slot: u32, held: Vec<Held>, is_away: bool) -> HandedOver {
        let mut done = HandedOver { is_away, ..HandedOver::default() };
        let mut turns = commands(held);
        turns.reverse();
        while let Some(turn) = turns.pop() {
            if done.is_away {
                done.left.leave(turn.len(), format!("nobody leads slot {slot} now"));
                continue;
            }
            let imports = turn.iter().map(|held| held.import.clone()).collect();
            match self.command_slot(slot, None, Command::Import(imports)).await {
                Ok(command::Answer::Committed(each)) => {
                    for (Held { record, .. }, answer) in turn.into_iter().zip(each) {
                        match answer {
                            Ok(_) => done.records.push(record),
                            Err(refusal) => done.left.leave(1, refusal.to_string()),
                        }
                    }
                }
                Ok(_) => done.left.leave(turn.len(), ClusterError::another_question().to_string()),
                // One that a slot can't take must not keep others back.
                Err(ClusterError::Broken(_) | ClusterError::Refused(_)) if turn.len() > 1 => {
                    turns.extend(turn.into_iter().rev().map(|one| vec![one]));
                }
                Err(error) => {
                    done.is_away = !matches!(error, ClusterError::Broken(_) | ClusterError::Refused(_));
                    done.left.leave(turn.len(), error.to_string());
                }
            }
        }
        done
    }
}

/// Cuts what is held into what one command may have.
fn commands(held: Vec<Held>) -> Vec<Vec<Held>> {
    let mut commands: Vec<Vec<Held>> = Vec::new();
    let mut bytes = 0;
    for one in held {
        match commands.last_mut() {
            Some(last) if last.len() < COMMAND && bytes < COMMAND_BYTES => last.push(one),
            _ => {
                bytes = 0;
                commands.push(vec![one]);
            }
        }
        bytes += commands.last().and_then(|last| last.last()).map_or(0, |one| one.bytes);
    }
    commands
}

impl Reconciled {
    fn leave(&mut self, count: usize, why: String) {
        self.left += count as u64;
        self.why = Some(why);
    }
}

/// A held version on its way to its slot.
struct Held {
    /// Its lane and its name there.
    record: (u32, Id),
    bytes: usize,
    import: Import,
}

/// What became of those of one slot.
#[derive(Default)]
struct HandedOver {
    /// The slot has these.
    records: Vec<(u32, Id)>,
    /// Nobody leads it.
    is_away: bool,
    /// The others.
    left: Reconciled,
}

/// A held version as it lies in a lane.
struct HeldRecord {
    lane: u32,
    name: Id,
    bytes: usize,
    /// Or why it can't be read.
    import: Result<Import, String>,
}

impl Core {
    /// Makes a provisional version and holds it.
    pub async fn hold(self: &Rc<Self>, slot: u32, write: Write) -> Result<Committed, ClusterError> {
        let drawn =
            || self.disks.lane_for(&name_of(slot)).and_then(|lane| Some((lane, self.disks.core_of_lane(lane)?)));
        let place = self.routes.borrow().place_of(slot).or_else(drawn);
        let (lane, owner) = place.ok_or_else(|| {
            ClusterError::Unreachable(format!("nobody leads slot {slot} now, and no lane of this node takes data"))
        })?;
        let core = self.clone();
        let held = async move {
            core.run(Line::Slot, owner, move |core| async move { core.hold_here(slot, lane, write).await }).await
        };
        // It is held whether or not somebody waits for it.
        to_the_end(Class::Foreground, held).await.map_err(|gone| ClusterError::Unknown(gone.to_string()))??
    }

    async fn hold_here(self: Rc<Self>, slot: u32, lane: u32, write: Write) -> Result<Committed, ClusterError> {
        let missing = || ClusterError::Unreachable(format!("lane {lane} is not open on this core"));
        let lane = self.disks.own_lanes().into_iter().find(|(number, _)| *number == lane).ok_or_else(missing)?.1;
        lane.check_room().map_err(|error| of_lane(&error))?;
        let (place, key) = (write.place.clone(), key_name(write.place.bucket.id, &write.place.key));
        let _turn = self.holding.turns[usize::from(key[0]) % TURNS].lock().await;
        let held = self.held(key).await?;
        // Nothing is awaited until the number is given away.
        let next = self.holding.next.borrow().get(&key).copied();
        let make = |rows: &dyn Rows| provisional::make(rows, wall_millis(), write.clone(), &held, next);
        let made = match self.slots.read(slot, make) {
            Err(SlotError::NoSlot(_)) => make(&BTreeMap::new()),
            other => other?,
        };
        let made = made?.map_err(ClusterError::Refused)?;
        let Some(version) = made.version else { return Ok(made.committed) };
        self.note_next(key, version.dot);
        let name = held_name(key, version.id);
        let record = Import { place, version }.encode();
        let put = lane.put_named(Named::Provisional, name, record.into()).await;
        // Also if it failed: it may be there.
        self.holding.set(self.id, true);
        put.map_err(|error| of_lane(&error))?;
        Ok(made.committed)
    }

    /// A dot is given away, and the next one of its actor is free.
    fn note_next(&self, key: KeyName, Dot { actor, counter }: Dot) {
        let mut next = self.holding.next.borrow_mut();
        if next.len() >= NUMBERED {
            next.clear();
        }
        next.insert(key, Dot { actor, counter: counter + 1 });
    }

    /// The versions of a key that this node holds, oldest first.
    async fn held(self: &Rc<Self>, key: KeyName) -> Result<Vec<Version>, ClusterError> {
        let ask = |to| self.run(Line::Lead, to, move |core| async move { core.held_here(key).await });
        let asked = try_join_all(self.all().filter(|core| self.holding.may_hold(*core)).map(ask)).await?;
        let mut held: Vec<Version> = asked.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
        held.sort_unstable_by_key(|version| version.id);
        Ok(held)
    }

    async fn held_here(&self, key: KeyName) -> Result<Vec<Version>, ClusterError> {
        let mut held = Vec::new();
        for (_, lane) in self.disks.own_lanes() {
            for name in lane.names_of(Named::Provisional, &key, None, usize::MAX).map_err(|error| of_lane(&error))? {
                // It may have been handed over meanwhile.
                let Some(bytes) = record(&lane, &name).await? else { continue };
                held.push(Import::decode(&bytes)?.version);
            }
        }
        Ok(held)
    }

    /// Some of what this core's lanes hold under names that begin so, in order behind one.
    async fn held_behind(&self, begin: &[u8], behind: Option<(u32, Id)>) -> Result<Vec<HeldRecord>, ClusterError> {
        if behind.is_none() {
            // Lanes come and go.
            self.look_whether_held()?;
        }
        let (mut found, mut bytes) = (Vec::new(), 0);
        let mut lanes = self.disks.own_lanes();
        lanes.sort_unstable_by_key(|(number, _)| *number);
        lanes.retain(|(number, _)| behind.is_none_or(|(lane, _)| *number >= lane));
        for (number, lane) in lanes {
            let behind = behind.filter(|(lane, _)| *lane == number).map(|(_, name)| name);
            let names = lane.names_of(Named::Provisional, begin, behind.as_ref(), BATCH - found.len());
            for name in names.map_err(|error| of_lane(&error))? {
                let read = record(&lane, &name).await;
                let Some(read) = read.transpose() else { continue };
                let length = read.as_ref().map_or(0, Bytes::len);
                let import = read.and_then(|bytes| Ok(Import::decode(&bytes)?)).map_err(|error| error.to_string());
                found.push(HeldRecord { lane: number, name, bytes: length, import });
                bytes += length;
                if found.len() >= BATCH || bytes >= BATCH_BYTES {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    /// How many versions this core's lanes hold, as far as they can be read.
    pub fn count_held(&self) -> u64 {
        if !self.holding.may_hold(self.id) {
            return 0;
        }
        let count =
            |lane: &Lane| lane.names_of(Named::Provisional, &[], None, usize::MAX).map_or(0, |names| names.len());
        self.disks.own_lanes().iter().map(|(_, lane)| count(lane) as u64).sum()
    }

    /// Takes note of whether this core's lanes hold anything.
    pub fn look_whether_held(&self) -> Result<(), ClusterError> {
        let mut may_hold = false;
        for (_, lane) in self.disks.own_lanes() {
            may_hold |= !lane.names_of(Named::Provisional, &[], None, 1).map_err(|error| of_lane(&error))?.is_empty();
        }
        // Nothing was awaited since.
        self.holding.set(self.id, may_hold);
        Ok(())
    }

    /// Drops what slots have taken over.
    async fn let_go(&self, taken: &[(u32, Id)]) -> Result<(), ClusterError> {
        let lanes: BTreeMap<u32, Lane> = self.disks.own_lanes().into_iter().collect();
        let drop_one = async |(lane, name): &(u32, Id)| {
            let Some(lane) = lanes.get(lane) else { return Ok(()) };
            lane.drop_named(Named::Provisional, name).await.map_err(|error| of_lane(&error))?;
            let (key, _) = name.split_first_chunk::<16>().unwrap_or((&[0; 16], &[]));
            self.holding.next.borrow_mut().remove(key);
            Ok(())
        };
        // One sync serves them all.
        try_join_all(taken.iter().map(drop_one)).await.map(drop)
    }

    /// Answers from what this node has of a slot, however old that is; `None` if that is nothing.
    async fn answer_from_here(self: &Rc<Self>, slot: u32, query: Query) -> Option<Reply> {
        let holds = matches!(&query, Query::Read { local, .. } if !local.is_empty());
        if let Some(owner) = self.core_of(slot) {
            let ask = Ask::Slot(query.clone(), Freshness::Local);
            if let Ok(Told::Slot(reply)) = self.ask_on(owner, slot, ask).await {
                return Some(reply);
            }
        }
        if holds { query.answer(&BTreeMap::new()).ok() } else { None }
    }
}

async fn record(lane: &Lane, name: &Id) -> Result<Option<Bytes>, ClusterError> {
    lane.get_named(Named::Provisional, name).await.map_err(|error| of_lane(&error))
}

/// The actor: one of a node.
pub struct Reconcile {
    /// The cluster, as core 0 sees it.
    pub cluster: Cluster,
}

/// What may be asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReconcileMessage {
    /// Look now.
    Look,
}

impl Actor for Reconcile {
    type Message = ReconcileMessage;

    async fn run(self, mut context: Context<Self::Message>) -> Result<(), Failure> {
        loop {
            match context.next().await {
                Wake::Stop => return Ok(()),
                Wake::Message(ReconcileMessage::Look) | Wake::Due => {}
            }
            let goes_on = async |versions: u64, bytes: u64| {
                let why = "they were taken while nobody led their slots, or for writers who asked for one copy";
                context.status().working(format!("{versions} provisional versions"), why);
                context.pay(bytes, versions).await.is_ok()
            };
            let done = self.cluster.reconcile_with(&[], goes_on).await?;
            if done.taken > 0 {
                tracing::info!(taken = done.taken, left = done.left, "provisional versions were handed over");
            }
            if let Some(why) = done.why {
                context.status().failed(format!("{} provisional versions stay for now: {why}", done.left));
            }
        }
    }
}
