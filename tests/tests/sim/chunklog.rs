//! A chunk log on one disk: tasks append, read, scan, free and punch, while everything a disk and a node can do goes
//! wrong.
//!
//! Promised: what was applied once is applied again at every recovery, where it was and as it was, until its segment is
//! freed; what a recovery didn't show never comes back. Where bits rot, what is lost is told. Only that is excused whose
//! own bytes rotted, or were read in vain.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

use cairn_io::block;
use cairn_io::fs::Dir;
use cairn_io::log::{
    Damage, Entry, Id, Kind, Location, Log, LogError, Options, Payload, Placed, Position, Prewrite, ReadError, Record,
    Room, Step, Superblock, What,
};
use cairn_io::rng;
use cairn_io::sim::{DiskConfig, Fault, FaultKind, FaultPlan, NodeConfig, NodeId, Profile, Scars, World, WorldConfig};
use cairn_io::task::{self, Class};
use cairn_io::time::sleep;

use crate::harness::{Outcome, millis, plan_rng};

const CLIENTS: usize = 4;
const STORM_MS: u64 = 1_500;
/// Room for fewer segments than the log may have, so that the disk itself gets full, too.
const DISK: u64 = 3 << 20;
const NODE: NodeId = NodeId(0);
/// Where a segment's file says what it is: its header's block and its first batch's.
const HEAD: u64 = 8 << 10;

fn rots(seed: u64) -> bool {
    seed.is_multiple_of(3)
}

pub fn plan(seed: u64) -> FaultPlan {
    let kinds = [
        FaultKind::PowerCut,
        FaultKind::PowerCut,
        FaultKind::Kill,
        FaultKind::Kill,
        FaultKind::Pause,
        FaultKind::ReadErrors,
        FaultKind::WriteErrors,
        FaultKind::SyncErrors,
        FaultKind::SyncErrors,
        FaultKind::DiskFull,
        FaultKind::SlowDisk,
        FaultKind::ReadOnly,
    ];
    let profile = Profile { lasting_max: millis(200), ..Profile::all(&[NODE], 1, millis(STORM_MS)) }.only(&kinds);
    let mut rng = plan_rng(seed);
    let mut plan = FaultPlan::random(&mut rng, &profile);
    if rots(seed) {
        let rot = Profile { faults_max: 3, ..profile.only(&[FaultKind::BitRot]) };
        for (at, fault) in FaultPlan::random(&mut rng, &rot).faults() {
            plan = plan.with(*at, fault.clone());
        }
    }
    plan
}

/// What is known of a record from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Handed to the log; may be there.
    Submitted,
    /// Applied: must be there.
    Known(Placed),
    /// A recovery didn't show it; must never be there.
    Lost,
    /// Its segment is being freed, or was.
    Freed,
}

#[derive(Clone, Debug)]
struct Written {
    kind: Kind,
    len: usize,
    state: State,
    is_dead: bool,
    /// When it was handed in and when it was applied, in events.
    submitted: u64,
    applied: u64,
    /// Bits that had rotted before.
    scars: usize,
}

#[derive(Default)]
struct Model {
    /// What became of the disk's bytes.
    scars: RefCell<Scars>,
    /// Reads that had failed when the log was opened.
    reads_failed: Cell<u64>,
    /// The number in the name of each segment's file.
    slots: RefCell<BTreeMap<u64, u32>>,
    segment_bytes: u32,
    /// The lane frees segments in any order, and so always opens from its checkpoint.
    frees_anywhere: bool,
    made: Cell<bool>,
    records: RefCell<BTreeMap<u64, Written>>,
    events: Cell<u64>,
    highest: Cell<u64>,
    checkpoint: Cell<Option<Position>>,
    freed: RefCell<BTreeSet<u64>>,
    acknowledged: Cell<u64>,
    recoveries: Cell<u64>,
    /// The bits that rotted are such that the lane can't be opened, as it says.
    is_beyond: Cell<bool>,
    broken: RefCell<Vec<String>>,
}

/// What a recovery applied.
struct Shown {
    number: u64,
    placed: Placed,
}

pub fn run(seed: u64, plan: &FaultPlan) -> Outcome {
    let model = Rc::new(Model {
        segment_bytes: if seed.is_multiple_of(2) { 128 << 10 } else { 256 << 10 },
        frees_anywhere: seed.is_multiple_of(5),
        ..Model::default()
    });
    let mut world = World::new(seed, WorldConfig::default());
    // The header of a segment relies on a sector that is written whole or not at all; nothing else does.
    let disk = DiskConfig { sectors_whole_below: 512, ..DiskConfig::new("/disk0", DISK) };
    let config = NodeConfig { disks: vec![disk], restart_after: Some(millis(20)), ..NodeConfig::default() };
    let seen = model.clone();
    world.add_node(config, move || {
        let model = seen.clone();
        Box::new(move |_core| {
            let model = model.clone();
            Box::pin(async move {
                // Whatever ended this life, the next one finds out what the disk has.
                let _ = live(model).await;
            })
        })
    });
    model.scars.replace(world.scars(NODE, 0));
    world.apply(plan);
    world.run_for(millis(STORM_MS + 300));
    let verdict = judge(&mut world, &model);
    Outcome::of(&world, verdict)
}

/// After the storm: nothing was broken, appends succeed again, and one more power cut changes nothing.
fn judge(world: &mut World, model: &Rc<Model>) -> Result<(), String> {
    world.calm();
    let (before, seen) = (model.acknowledged.get(), model.clone());
    let done = move || seen.acknowledged.get() > before + 40 || seen.is_bad();
    let is_lively = world.run_until(millis(60_000), done);
    world.inject(&Fault::PowerCut { node: NODE, lasting: millis(10) });
    let (before, seen) = (model.recoveries.get(), model.clone());
    let recovered = world.run_until(millis(60_000), move || seen.recoveries.get() > before || seen.is_bad());
    if let Some(broken) = model.broken.borrow().first() {
        return Err(broken.clone());
    }
    let panics = world.panics(NODE);
    if !panics.is_empty() {
        return Err(format!("programs panicked: {panics:?}"));
    }
    if model.is_beyond.get() || is_lively && recovered {
        return Ok(());
    }
    Err(format!("a minute after the storm nothing works yet (appends: {is_lively}, recovery: {recovered})"))
}

impl Model {
    fn is_bad(&self) -> bool {
        self.is_beyond.get() || !self.broken.borrow().is_empty()
    }

    fn broke(&self, text: String) {
        self.broken.borrow_mut().push(text);
    }

    fn event(&self) -> u64 {
        self.events.set(self.events.get() + 1);
        self.events.get()
    }

    fn reads_failed_now(&self) -> u64 {
        self.scars.borrow().reads_failed()
    }

    fn rotten(&self) -> usize {
        self.scars.borrow().rotten().len()
    }

    /// Whether a bit rotted in this part of a segment, after so many others had.
    fn has_rotted(&self, segment: u64, bytes: &Range<u64>, before: usize) -> bool {
        let scars = self.scars.borrow();
        let file = self.slots.borrow().get(&segment).map(|slot| format!("segment-{slot:08x}"));
        // Where nobody saw the segment, any file may be its own.
        let is_there = |name: &str| file.as_ref().is_none_or(|file| name == file);
        scars.rotten()[before..].iter().any(|scar| is_there(&scar.file) && bytes.contains(&scar.at))
    }

    /// Whether a bit rotted where a record lies.
    fn record_rotted(&self, written: &Written, at: Location) -> bool {
        self.has_rotted(at.segment, &(at.offset.into()..u64::from(at.offset + at.extent)), written.scars)
    }

    /// Whether what is said to be damaged is what rotted.
    fn explains(&self, damage: &Damage, all: &[Damage]) -> bool {
        let head_rotted = || self.scars.borrow().rotten().iter().any(|scar| scar.at < HEAD);
        match damage.what {
            What::File => head_rotted(),
            What::Segment => all.iter().any(|damage| damage.what == What::File),
            What::Records | What::Batch | What::SegmentHeader => self.has_rotted(damage.segment, &damage.bytes, 0),
        }
    }

    fn learn_slots(&self, log: &Log) {
        self.slots.borrow_mut().extend(log.segments().iter().map(|segment| (segment.number, segment.slot)));
    }

    /// Looks at a record as it is applied, new or at recovery; returns its number.
    fn check_entry(&self, entry: &Entry<'_>) -> Option<u64> {
        let number = number_of(entry.id);
        let records = self.records.borrow();
        let Some(written) = records.get(&number) else {
            self.broke(format!("applied, and nobody wrote it: {entry:?}"));
            return None;
        };
        let placed = Placed { sequence: entry.sequence, location: entry.location };
        let is_same = (written.kind, written.len) == (entry.kind, entry.length as usize);
        let payload = if entry.kind == Kind::Chunk || !entry.is_whole { vec![] } else { content(number, written.len) };
        let is_excused = written.is_dead
            || self.reads_failed_now() > self.reads_failed.get()
            || self.record_rotted(written, entry.location);
        if !is_same || *entry.payload != payload {
            self.broke(format!("record {number} is applied as another: {placed:?} for {written:?}"));
        } else if !entry.is_whole && !is_excused {
            self.broke(format!("record {number} is not whole, and nothing rotted: {placed:?}"));
        }
        match written.state {
            State::Known(known) if known != placed => {
                self.broke(format!("record {number} was at {known:?} and is applied at {placed:?}"));
            }
            State::Lost => self.broke(format!("record {number} was lost and is back at {placed:?}")),
            State::Freed if !self.freed.borrow().contains(&placed.location.segment) => {
                self.broke(format!("record {number} was freed and is elsewhere: {placed:?}"));
            }
            _ => {}
        }
        Some(number)
    }

    /// A new record is applied.
    fn applied(&self, entry: &Entry<'_>) {
        let Some(number) = self.check_entry(entry) else { return };
        if entry.sequence <= self.highest.replace(entry.sequence) {
            self.broke(format!("record {number} has sequence number {}, which is used", entry.sequence));
        }
        self.know(number, Placed { sequence: entry.sequence, location: entry.location });
    }

    fn know(&self, number: u64, placed: Placed) {
        let now = self.event();
        if let Some(written) = self.records.borrow_mut().get_mut(&number)
            && written.state == State::Submitted
        {
            (written.state, written.applied) = (State::Known(placed), now);
        }
    }

    /// After a recovery: everything that must be there was shown, and what wasn't is lost.
    fn recovered(&self, from: Option<Position>, shown: &[Shown], damage: &[Damage]) {
        self.recoveries.set(self.recoveries.get() + 1);
        if !shown.is_sorted_by_key(|shown| shown.placed.sequence)
            || shown.windows(2).any(|pair| pair[0].placed.sequence == pair[1].placed.sequence)
        {
            self.broke("records are applied out of order".to_owned());
        }
        let numbers: BTreeSet<u64> = shown.iter().map(|shown| shown.number).collect();
        if numbers.len() != shown.len() {
            self.broke("a record is applied twice".to_owned());
        }
        let reads_failed = self.reads_failed_now() > self.reads_failed.get();
        if !reads_failed && !damage.iter().all(|one| self.explains(one, damage)) {
            self.broke(format!("damage without a cause, from {from:?}: {damage:?}"));
        }
        for shown in shown {
            self.know(shown.number, shown.placed);
        }
        let last = shown.last().map_or(0, |shown| shown.placed.sequence);
        let start = from.map_or((0, 0), |from| (from.segment, u64::from(from.offset)));
        let end = shown.last().map_or(start, |shown| {
            let at = shown.placed.location;
            (at.segment, u64::from(at.offset + at.extent))
        });
        self.highest.set(self.highest.get().max(last));
        let from = from.map_or(0, |from| from.sequence);
        let missing: Vec<(u64, Written)> = {
            let records = self.records.borrow();
            let missing = records.iter().filter(|(number, written)| match written.state {
                State::Known(placed) => placed.sequence >= from && !numbers.contains(number),
                State::Submitted => true,
                State::Lost | State::Freed => false,
            });
            missing.map(|(number, written)| (*number, written.clone())).collect()
        };
        // The end of the log, rotten, is like a write that was torn unless something later says that it was answered.
        let is_proven = |lost: &Written| {
            let records = self.records.borrow();
            shown.iter().any(|shown| records[&shown.number].submitted > lost.applied)
        };
        for (number, written) in missing {
            if let State::Known(placed) = written.state {
                let is_told = damage.iter().any(|damage| damage.sequences.contains(&placed.sequence));
                let lies = placed.location.segment;
                let behind = |segment| if segment == end.0 { end.1..u64::MAX } else { 0..u64::MAX };
                let end_rotted = (end.0..=lies).any(|segment| self.has_rotted(segment, &behind(segment), 0));
                if !is_told && (!end_rotted || is_proven(&written)) {
                    self.broke(format!("record {number} is gone: {written:?}; damage: {damage:?}"));
                }
                if is_told {
                    continue;
                }
            }
            self.records.borrow_mut().get_mut(&number).expect("it is there").state = State::Lost;
        }
    }

    /// A record that must be there.
    fn some_known(&self) -> Option<(u64, Written, Placed)> {
        let records = self.records.borrow();
        let from = below(records.len() as u64 + 1);
        let (number, written) =
            records.range(from..).chain(records.iter()).find(|(_, it)| matches!(it.state, State::Known(_)))?;
        let State::Known(placed) = written.state else { return None };
        Some((*number, written.clone(), placed))
    }

    fn may_be_bad(&self, number: u64, error: &ReadError) -> bool {
        let written = &self.records.borrow()[&number];
        let State::Known(Placed { location, .. }) = written.state else { return true };
        let is_missing = matches!(error, ReadError::Missing(_)) && self.has_rotted(location.segment, &(0..HEAD), 0);
        written.is_dead || is_missing || self.record_rotted(written, location)
    }

    /// Puts another record into the books and makes it.
    async fn new_record(&self, max: usize) -> Result<(u64, Record), LogError> {
        let len = match below(100) {
            0..10 => 0,
            10..40 => below(300),
            40..70 => below(5_000),
            70..85 => below(60_000),
            _ => 60_000 + below(70_000),
        };
        let len = usize::try_from(len).expect("a length in memory").min(max);
        let kind = Kind::ALL[usize::try_from(below(8)).expect("below 8")];
        let submitted = self.event();
        let number = self.records.borrow().len() as u64;
        let scars = self.rotten();
        let written = Written { kind, len, state: State::Submitted, is_dead: false, submitted, applied: 0, scars };
        self.records.borrow_mut().insert(number, written);
        let bytes = content(number, len);
        let payload = if len > 0 && below(2) == 0 {
            let mut block = block::alloc(len).await?;
            block.copy_from_slice(&bytes);
            Payload::Blocks(vec![block.freeze()])
        } else {
            Payload::Bytes(bytes.into())
        };
        Ok((number, Record { kind, id: id_of(number), payload }))
    }
}

fn below(limit: u64) -> u64 {
    rng::next_u64() % limit
}

fn id_of(number: u64) -> Id {
    let mut id = [7; 32];
    id[..8].copy_from_slice(&number.to_le_bytes());
    id
}

fn number_of(id: &Id) -> u64 {
    u64::from_le_bytes(*id.first_chunk().expect("eight bytes of 32"))
}

fn content(number: u64, len: usize) -> Vec<u8> {
    let words = (0..len.div_ceil(8) as u64).map(|at| (at ^ number << 20).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
    bytes.truncate(len);
    bytes
}

/// One life of the lane.
async fn live(model: Rc<Model>) -> Result<(), LogError> {
    let dir = Dir::create("/disk0/lane").await?;
    if !model.made.get() {
        let superblock = Superblock {
            cluster: [1; 16],
            node: [2; 16],
            lane: [3; 16],
            number: 0,
            segment_bytes: model.segment_bytes,
            created: 0,
        };
        match Log::superblock_of(&dir).await {
            Ok(_) => {}
            Err(LogError::Io(error)) => return Err(error.into()),
            Err(_) => Log::create(&dir, &superblock).await?,
        }
    }
    let log = open(&model, &dir).await?;
    model.made.set(true);
    check_reads(&model, &log, 20).await;
    let tasks: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (model, log) = (model.clone(), log.clone());
            task::spawn(Class::Foreground, async move {
                loop {
                    sleep(millis(below(6))).await;
                    if act(&model, &log).await.is_err() {
                        break;
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        let _ = task.await;
    }
    if let Some(reason) = log.poisoned() {
        check_poisoned(&model, &log).await;
        return Err(LogError::Poisoned(reason));
    }
    Ok(())
}

async fn open(model: &Rc<Model>, dir: &Dir) -> Result<Log, LogError> {
    let options = Options {
        reserve: 2,
        ahead: 1,
        spare_max: 3,
        segments_max: 12,
        keep_free: 0,
        batch_bytes: 32 << 10,
        in_flight_bytes: 512 << 10,
        prewrite: [Prewrite::Always, Prewrite::WhenSmall, Prewrite::Never][usize::try_from(below(3)).expect("below 3")],
    };
    let keeps_checkpoint = model.frees_anywhere || below(4) > 0;
    if !keeps_checkpoint {
        // An index that is lost takes its checkpoint along.
        model.checkpoint.set(None);
    }
    let from = model.checkpoint.get();
    let shown = Rc::new(RefCell::new(Some(Vec::new())));
    let (seen, books) = (shown.clone(), model.clone());
    let apply = move |entry: &Entry<'_>| match &mut *seen.borrow_mut() {
        Some(shown) => {
            let placed = Placed { sequence: entry.sequence, location: entry.location };
            shown.extend(books.check_entry(entry).map(|number| Shown { number, placed }));
        }
        None => books.applied(entry),
    };
    model.reads_failed.set(model.reads_failed_now());
    let opened = match Log::open(dir, options, from, Rc::new(apply)).await {
        Ok(opened) => opened,
        Err(error) => {
            let is_io = matches!(error, LogError::Io(_));
            if !is_io && model.rotten() > 0 {
                model.is_beyond.set(true);
            } else if !is_io && model.made.get() {
                model.broke(format!("the lane can't be opened from {from:?}: {error}"));
            }
            return Err(error);
        }
    };
    let shown = shown.borrow_mut().take().unwrap_or_default();
    if opened.applied != shown.len() as u64 {
        model.broke(format!("{} records were applied, it says, and not {}", opened.applied, shown.len()));
    }
    model.learn_slots(&opened.log);
    model.recovered(from, &shown, &opened.damage);
    Ok(opened.log)
}

/// One thing a client does. An error ends the life.
async fn act(model: &Rc<Model>, log: &Log) -> Result<(), LogError> {
    model.learn_slots(log);
    match below(100) {
        0..50 => append(model, log, 1).await,
        50..60 => append(model, log, 2 + below(8)).await,
        60..70 => {
            check_reads(model, log, 1).await;
            Ok(())
        }
        70..74 => {
            check_scan(model, log).await;
            Ok(())
        }
        74..84 => {
            move_checkpoint(model, log);
            Ok(())
        }
        84..90 => {
            free(model, log).await;
            Ok(())
        }
        90..95 => {
            punch(model, log).await;
            Ok(())
        }
        95..99 => {
            // Somebody gives up waiting: the record is written or not.
            let (_, record) = model.new_record(log.payload_max()).await?;
            let _ = cairn_io::time::timeout(millis(below(2)), log.append(record, Room::Ordinary)).await;
            Ok(())
        }
        _ if below(20) == 0 => {
            log.close().await;
            Err(LogError::Closed)
        }
        _ => Ok(()),
    }
}

async fn append(model: &Rc<Model>, log: &Log, count: u64) -> Result<(), LogError> {
    let mut pending = Vec::new();
    for _ in 0..count {
        let (number, record) = model.new_record(log.payload_max()).await?;
        let room = if below(10) == 0 { Room::Reserve } else { Room::Ordinary };
        match log.submit(record, room).await {
            Ok(answer) => pending.push((number, answer)),
            Err(LogError::NoRoom(_)) => {
                move_checkpoint(model, log);
                free(model, log).await;
            }
            Err(error) => return Err(error),
        }
    }
    for (number, answer) in pending {
        let placed = answer.await?;
        model.acknowledged.set(model.acknowledged.get() + 1);
        let state = model.records.borrow()[&number].state;
        if state != State::Freed && state != State::Known(placed) {
            model.broke(format!("record {number} is acknowledged at {placed:?}, and it is {state:?}"));
        }
    }
    Ok(())
}

fn move_checkpoint(model: &Model, log: &Log) {
    let applied = log.applied();
    if log.poisoned().is_none() && model.checkpoint.get().is_none_or(|before| before < applied) {
        model.checkpoint.set(Some(applied));
    }
}

async fn free(model: &Model, log: &Log) {
    let Some(checkpoint) = model.checkpoint.get() else { return };
    let mut old: Vec<u64> = log.segments().iter().map(|segment| segment.number).collect();
    old.retain(|number| *number < checkpoint.segment);
    if old.is_empty() {
        return;
    }
    let place = if model.frees_anywhere { below(old.len() as u64) } else { 0 };
    let segment = old[usize::try_from(place).expect("a place in memory")];
    model.freed.borrow_mut().insert(segment);
    for written in model.records.borrow_mut().values_mut() {
        if matches!(written.state, State::Known(placed) if placed.location.segment == segment) {
            written.state = State::Freed;
        }
    }
    // If the disk fails it may be there or not, and nobody minds.
    let _ = log.free(segment).await;
}

async fn punch(model: &Model, log: &Log) {
    let Some((number, _, placed)) = model.some_known() else { return };
    model.records.borrow_mut().get_mut(&number).expect("it is there").is_dead = true;
    let _ = log.punch(placed.location).await;
}

async fn check_reads(model: &Model, log: &Log, count: usize) {
    for _ in 0..count {
        let Some((number, written, placed)) = model.some_known() else { return };
        let (at, expected) = (placed.location, content(number, written.len));
        let result = if below(2) == 0 {
            log.read(at, written.kind, &id_of(number)).await.map(|read| read[..] == expected)
        } else {
            read_part(log, at, written.kind, number, &expected).await
        };
        match result {
            Ok(true) | Err(ReadError::Io(_)) => {}
            Ok(false) => model.broke(format!("record {number} at {at:?} is read with other bytes")),
            Err(error) if model.may_be_bad(number, &error) => {}
            Err(error) => model.broke(format!("record {number} can't be read: {error}; {written:?}")),
        }
    }
}

async fn read_part(log: &Log, at: Location, kind: Kind, number: u64, expected: &[u8]) -> Result<bool, ReadError> {
    let head = log.read_head(at, kind, &id_of(number)).await?;
    let from = usize::try_from(below(expected.len() as u64 + 1)).expect("a place in memory");
    let len = usize::try_from(below((expected.len() - from) as u64 + 1)).expect("a length in memory");
    let part = log.read_part(at, &head, from..from + len).await?;
    Ok(part[..] == expected[from..from + len])
}

/// A scan finds everything that is known of a segment, and nothing else.
async fn check_scan(model: &Model, log: &Log) {
    let segments = log.segments();
    if segments.is_empty() {
        return;
    }
    let segment = segments[usize::try_from(below(segments.len() as u64)).expect("a place in memory")].number;
    let known_of = || -> BTreeMap<u64, Placed> {
        let records = model.records.borrow();
        let known = records.iter().filter_map(|(number, written)| match written.state {
            State::Known(placed) if placed.location.segment == segment => Some((*number, placed)),
            _ => None,
        });
        known.collect()
    };
    let (expected, reads_failed) = (known_of(), model.reads_failed_now());
    model.learn_slots(log);
    let Ok(mut scanner) = log.scan(segment, None) else { return };
    let (mut found, mut damage) = (BTreeMap::new(), Vec::new());
    loop {
        match scanner.next().await {
            Ok(Some(Step::Record(record))) => {
                let number = number_of(&record.id);
                if record.is_whole && record.payload[..] != content(number, record.length as usize)[..] {
                    model.broke(format!("a scan finds record {number} with other bytes"));
                }
                found.insert(number, Placed { sequence: record.sequence, location: record.location });
            }
            Ok(Some(Step::Damage(more))) => damage.push(more),
            Ok(None) => break,
            Err(error) => {
                model.broke(format!("a scan of segment {segment} fails: {error}"));
                break;
            }
        }
    }
    if model.freed.borrow().contains(&segment) {
        return;
    }
    let reads_failed = model.reads_failed_now() > reads_failed;
    if !reads_failed && !damage.iter().all(|one| model.explains(one, &damage)) {
        model.broke(format!("a scan finds damage without a cause: {damage:?}"));
    }
    let known = known_of();
    for (number, placed) in &found {
        if known.get(number) != Some(placed) {
            model.broke(format!("a scan finds record {number} at {placed:?}, which is {:?}", known.get(number)));
        }
    }
    for (number, placed) in expected {
        let is_told = damage.iter().any(|damage| damage.sequences.contains(&placed.sequence));
        if !found.contains_key(&number) && !is_told && !reads_failed {
            model.broke(format!("a scan doesn't find record {number} at {placed:?}"));
        }
    }
}

/// After a failure nothing more is taken, and what is there is still read.
async fn check_poisoned(model: &Rc<Model>, log: &Log) {
    check_reads(model, log, 10).await;
    if let Ok((number, record)) = model.new_record(log.payload_max()).await
        && !matches!(log.append(record, Room::Reserve).await, Err(LogError::Poisoned(_)))
    {
        model.broke(format!("a poisoned log takes record {number}"));
    }
}
