//! Checking a lane that nobody has open: every byte of its log, then its index against what the log says. Only reads.
//!
//! What the index should be is found as a start would find it: the log's records are applied, once from the beginning to an
//! empty index, and once from the checkpoint on to the one that is there. The two must then say the same.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::rc::Rc;

use cairn_io::fs::Dir;
use cairn_io::log::format::Drop;
use cairn_io::log::{
    Damage, Entry, FileState, Found, Id, Kind, Location, LogError, Offline, Position, ReadError, Replayed, SegmentFile,
    Step, Superblock, What,
};
use cairn_io::task::yield_now;
use cairn_io::{blocking, task};
use cairn_meta::index::{ChunkEntry, ChunkId, Error, Index, RaftKey, Scan, Step as IndexStep, Store, Table};
use cairn_placement::PartitionId;

use super::state::{State, decode, location, raft_id};
use super::{Differences, LANE_KEY, LaneError, SlotSummary, commit};

/// Problems that are kept; more are only counted.
const PROBLEMS_MAX: usize = 10_000;
/// Entries looked at in one step.
const STEP: usize = 4096;

/// What a check found.
#[derive(Debug)]
pub struct Report {
    /// What never changes about the lane.
    pub superblock: Superblock,
    /// The files that are named as segments.
    pub files: Vec<SegmentFile>,
    /// The segments that are part of the log.
    pub segments: Vec<Segment>,
    /// Where the log goes on; `None` if that couldn't be told.
    pub end: Option<Position>,
    /// What the index is like; `None` if there is none that can be read.
    pub index: Option<IndexFacts>,
    /// What the index has of slots; without one, what the next start makes of the log.
    pub slots: Vec<SlotSummary>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// Problems that there was no room for.
    pub more: u64,
    /// What is as it may be and worth knowing, and what wasn't or couldn't be checked.
    pub notes: Vec<String>,
}

/// A segment, read from end to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Its number.
    pub number: u64,
    /// The bytes that are part of the log.
    pub bytes: u64,
    /// Its records.
    pub records: u64,
    /// Of these, chunks.
    pub chunks: u64,
    /// Bytes of records that are live.
    pub live: u64,
    /// Live records, drops and the like that are damaged, and parts in which records can't be told.
    pub bad: u64,
    /// Records nobody needs that aren't whole: their room may have been given back.
    pub dead_bad: u64,
}

/// What an index is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexFacts {
    /// Up to where it was committed; `None`: never.
    pub checkpoint: Option<Position>,
    /// Partitions of the cluster.
    pub partitions: u32,
    /// Chunks, with what the log has behind the checkpoint.
    pub chunks: u64,
    /// The bytes of their payloads.
    pub chunk_bytes: u64,
    /// Other live records.
    pub records: u64,
    /// Chunks that are withheld.
    pub quarantined: u64,
}

/// What kind of problem it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A file is not what its name says, or can't be read.
    File,
    /// Bytes of a segment in which records can't be told any more.
    Damage,
    /// A record that is needed doesn't match its checksums, or a chunk its name.
    Bad,
    /// Sequence numbers go back.
    Order,
    /// The index can't be read, or isn't this log's.
    Index,
    /// The index has what the log doesn't.
    Dangling,
    /// The index lacks what the log has.
    Lacking,
    /// The index says that it is somewhere else.
    Elsewhere,
    /// A partition's digest isn't that of its chunks.
    Digest,
    /// A segment's live bytes aren't those of its live records.
    Usage,
    /// A slot's rows aren't those that its records of rows give.
    Rows,
    /// A chunk that was found bad before and not repaired.
    Quarantined,
    /// A record that a start found unreadable before.
    Lost,
    /// A slot that isn't opened: some of it was lost, or may have been.
    Incomplete,
}

impl Fault {
    /// Its name, for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Damage => "damage",
            Self::Bad => "bad",
            Self::Order => "order",
            Self::Index => "index",
            Self::Dangling => "dangling",
            Self::Lacking => "lacking",
            Self::Elsewhere => "elsewhere",
            Self::Digest => "digest",
            Self::Usage => "usage",
            Self::Rows => "rows",
            Self::Quarantined => "quarantined",
            Self::Lost => "lost",
            Self::Incomplete => "incomplete",
        }
    }

    /// Whether it lies in the index, which can be made anew.
    pub fn is_of_index(self) -> bool {
        use Fault::{Dangling, Digest, Elsewhere, Index, Lacking, Rows, Usage};
        matches!(self, Index | Dangling | Lacking | Elsewhere | Digest | Usage | Rows)
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What kind it is.
    pub fault: Fault,
    /// The segment it is in.
    pub segment: Option<u64>,
    /// Where in the segment.
    pub offset: Option<u64>,
    /// What it is about.
    pub id: Option<Id>,
    /// What people read.
    pub text: String,
}

/// How far a check is: what is done now, and how much of it.
pub type Progress<'a> = &'a dyn Fn(&'static str, u64, u64);

/// Checks the lane in a directory. `partitions` counts only where no index says how many there are.
///
/// # Errors
/// `WouldBlock` if a node has the lane; if there is no superblock that can be read; or if a newer Cairn wrote it.
pub async fn check(dir: &Dir, store: Store, partitions: u32, progress: Progress<'_>) -> Result<Report, LaneError> {
    let _lock = dir.lock().await?;
    progress("segment files", 0, 1);
    let log = Offline::open(dir).await?;
    let mut report = Report {
        superblock: *log.superblock(),
        files: log.files().to_vec(),
        segments: vec![],
        end: None,
        index: None,
        slots: vec![],
        problems: vec![],
        more: 0,
        notes: vec![],
    };
    report.look_at_files(&log);
    let stored = report.open_index(store).await;
    let partitions = stored.as_ref().map_or(partitions, Index::partitions);
    progress("replaying the log", 0, 1);
    let from_log = State::new(Index::unstored(partitions)?, usize::MAX)?;
    let (whole, from_log) = replay(&log, None, from_log).await?;
    let ends = match whole {
        Ok(whole) => Some(report.look_at_log(&log, whole)),
        Err(error) => {
            report.add(Fault::Damage, format!("the log can't be followed to its end: {error}"));
            report.note(
                "What lies behind the end of the log couldn't be told from what is part of it, nor which records are \
                         live by the log alone; the index was not compared with the log.",
            );
            None
        }
    };
    let has_index = stored.is_some();
    let index = match stored {
        Some(index) => index,
        None => Index::unstored(partitions)?,
    };
    let indexed = report.catch_up(&log, index).await?;
    let bad = report.read_segments(&log, ends.as_ref(), &indexed, progress).await?;
    progress("index", 0, 1);
    report.count(&indexed)?;
    for slot in indexed.all_slots()? {
        report.slots.push(indexed.summary(slot)?);
        if let Some(lost) = indexed.doubt_about(slot)? {
            let text =
                format!("slot {slot} isn't opened: a damaged part of the log may have taken some of it along ({lost})");
            report.add(Fault::Incomplete, text);
        }
        yield_now().await;
    }
    if ends.is_some() && has_index {
        report.compare(&log, &indexed, &from_log, &bad).await?;
        report.compare_rows(&indexed, &from_log).await?;
    }
    if has_index {
        report.check_digests(&indexed).await?;
        report.check_usage(&indexed);
    } else {
        report.index = None;
    }
    report.look_at_memory(&indexed)?;
    for state in [&indexed, &from_log] {
        if let Some(failure) = state.failure() {
            report.add(Fault::Index, format!("a record of the log couldn't be applied to the index: {failure}"));
        }
    }
    report.note(
        "Not checked: rows of slots that changed since they were last written into the log, when chunks were last touched, \
         and whether records that nobody needs are whole.",
    );
    report.problems.sort_by_key(|problem| (problem.fault, problem.segment, problem.offset));
    Ok(report)
}

/// Applies the log's records since `from` to a state.
async fn replay(
    log: &Offline,
    from: Option<Position>,
    state: State,
) -> Result<(Result<Replayed, LogError>, Rc<State>), LaneError> {
    let state = Rc::new(state);
    let apply = {
        let state = state.clone();
        move |entry: &Entry<'_>| state.apply(entry)
    };
    Ok((log.replay(from, &apply).await, state))
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    fn add(&mut self, fault: Fault, text: String) {
        self.push(Problem { fault, segment: None, offset: None, id: None, text });
    }

    fn add_at(&mut self, fault: Fault, (kind, id): (Kind, &Id), at: Location, text: &str) {
        let (segment, offset) = (Some(at.segment), Some(u64::from(at.offset)));
        let text = format!("{kind:?} {:?}: {text}", ChunkId(*id));
        self.push(Problem { fault, segment, offset, id: Some(*id), text });
    }

    fn push(&mut self, problem: Problem) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        } else {
            self.more += 1;
        }
    }

    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    fn look_at_files(&mut self, log: &Offline) {
        let whole = u64::from(self.superblock.segment_bytes);
        let mut unused = 0;
        for SegmentFile { name, length, state } in log.files() {
            let short = format!("has {length} bytes, a segment of this lane has {whole}: it was cut short");
            match state {
                FileState::Segment { number, .. } if *length < whole => {
                    let text = format!("{name} {short}");
                    self.push(Problem {
                        fault: Fault::File,
                        segment: Some(*number),
                        offset: Some(*length),
                        id: None,
                        text,
                    });
                }
                FileState::Segment { .. } => {}
                FileState::Unused if *length < whole => {
                    self.note(format!("{name} holds nothing and {short}; harmless"));
                }
                FileState::Unused => unused += 1,
                FileState::Bad => self.add(
                    Fault::File,
                    format!(
                        "{name} is named as a segment and its beginning is neither one nor empty: it was overwritten"
                    ),
                ),
                FileState::Duplicate(number) => self.add(
                    Fault::File,
                    format!("{name} holds segment {number}, as another file does: one is a copy; move one away"),
                ),
                FileState::Unreadable(error) => {
                    self.add(Fault::File, format!("{name} can't be read, so nothing in it was checked: {error}"));
                }
            }
        }
        if unused > 0 {
            self.note(format!("{unused} segment files hold nothing and wait for use; their content was not looked at"));
        }
        if log.segments().is_empty() {
            self.note("There are no segments: the lane is empty, or its files are gone.");
        }
        for damage in log.damage() {
            self.push(damaged(
                damage,
                "the header of the segment doesn't match its checksum; its batches say what it is",
            ));
        }
    }

    async fn open_index(&mut self, store: Store) -> Option<Index> {
        let opened = blocking::run(move || Index::open_read_only(&store)).await;
        match opened {
            Ok(Ok(Some(index))) => {
                let lane = index.get(Table::Lane, LANE_KEY);
                if lane.is_ok_and(|lane| lane.is_some_and(|lane| lane != self.superblock.lane)) {
                    self.add(Fault::Index, "the index belongs to another lane".to_owned());
                    return None;
                }
                return Some(index);
            }
            Ok(Ok(None)) => self.note("There is no index; the next start makes it from the log."),
            Ok(Err(error)) => self.add(Fault::Index, error.to_string()),
            Err(error) => self.add(Fault::Index, format!("the index can't be opened: {error}")),
        }
        None
    }

    /// Takes note of what following the whole log found, and returns where each segment ends.
    fn look_at_log(&mut self, log: &Offline, whole: Replayed) -> BTreeMap<u64, u64> {
        self.end = Some(whole.end);
        if let Some(torn) = whole.torn {
            self.note(format!(
                "The log ends at {}:{} with a batch that was never finished, for which nobody was answered; the next start \
                 cuts it off.",
                torn.segment, torn.offset
            ));
        }
        // Reading a segment up to its end doesn't show what is lost behind it.
        let is_at_end =
            |damage: &&Damage| whole.ends.get(&damage.segment).is_some_and(|end| damage.bytes.start == *end);
        for damage in whole.damage.iter().filter(|damage| damage.what == What::Batch).filter(is_at_end) {
            self.push(damaged(damage, "the last batches of the segment can't be told any more"));
        }
        let gaps = whole.gaps.len() + whole.damage.iter().filter(|damage| damage.what == What::Segment).count();
        if gaps > 0 {
            self.note(format!(
                "Between segments there are {gaps} gaps, as freed segments leave them. Whether one was lost instead shows \
                 only where the index needs it."
            ));
        }
        for number in log.segments().into_iter().filter(|number| !whole.ends.contains_key(number)) {
            self.note(format!(
                "Segment {number} lies behind the end of the log; the next start frees it. Not checked."
            ));
        }
        whole.ends
    }

    /// Brings the index as it is stored up to where the log is, as a start would.
    async fn catch_up(&mut self, log: &Offline, index: Index) -> Result<Rc<State>, LaneError> {
        let checkpoint = index.checkpoint().map(commit::position);
        let partitions = index.partitions();
        let (replayed, state) = replay(log, checkpoint, State::new(index, usize::MAX)?).await?;
        match replayed {
            Ok(replayed) => {
                for damage in replayed.damage.iter().filter(|damage| damage.what == What::Segment) {
                    self.push(damaged(damage, "records behind the checkpoint are missing with a segment"));
                }
                if checkpoint.is_some_and(|checkpoint| checkpoint > replayed.end) {
                    self.add(Fault::Index, format!("the log ends at {:?}, before the index does", replayed.end));
                }
            }
            Err(error @ LogError::IndexAhead(_)) => self.add(Fault::Index, error.to_string()),
            // Said already of the whole log.
            Err(_) => {}
        }
        let facts = IndexFacts { checkpoint, partitions, chunks: 0, chunk_bytes: 0, records: 0, quarantined: 0 };
        self.index = Some(facts);
        Ok(state)
    }

    /// Reads all records of all segments. Returns where those lie that are needed and bad.
    async fn read_segments(
        &mut self,
        log: &Offline,
        ends: Option<&BTreeMap<u64, u64>>,
        indexed: &State,
        progress: Progress<'_>,
    ) -> Result<BTreeSet<Location>, LaneError> {
        let numbers = log.segments();
        let (mut bad, mut last) = (BTreeSet::new(), 0);
        for (number, done) in numbers.iter().zip(0..) {
            progress("reading segments", done, numbers.len() as u64);
            let end = ends.map(|ends| ends.get(number).copied());
            if end == Some(None) {
                continue;
            }
            let mut segment = Segment { number: *number, ..Segment::default() };
            let mut scanner = log.scan(*number, end.flatten())?;
            while let Some(step) = scanner.next().await? {
                match step {
                    Step::Record(found) => {
                        self.look_at(&found, indexed, &mut segment, &mut bad)?;
                        if found.sequence <= last {
                            let text = format!("its sequence number {} isn't behind {last}", found.sequence);
                            self.add_at(Fault::Order, (found.kind, &found.id), found.location, &text);
                        }
                        last = found.sequence.max(last);
                    }
                    Step::Damage(damage) => {
                        segment.bad += 1;
                        self.push(damaged(&damage, "records can't be told from these bytes any more"));
                    }
                }
            }
            segment.bytes = scanner.offset() as u64;
            self.segments.push(segment);
        }
        Ok(bad)
    }

    fn look_at(
        &mut self,
        found: &Found,
        indexed: &State,
        segment: &mut Segment,
        bad: &mut BTreeSet<Location>,
    ) -> Result<(), LaneError> {
        let Found { kind, id, location: at, .. } = found;
        segment.records += 1;
        segment.chunks += u64::from(*kind == Kind::Chunk);
        let is_live = indexed.is_live(*kind, id, *at)?;
        if is_live {
            segment.live += u64::from(at.extent);
        }
        let wrong = if !found.is_whole {
            "its bytes don't match their checksum"
        } else if *kind == Kind::Chunk && *blake3::hash(&found.payload).as_bytes() != *id {
            "its bytes match their checksum and not its name: it was stored wrong"
        } else if *kind == Kind::Drop && Drop::decode(&found.payload).is_none() {
            "it doesn't say what it drops"
        } else {
            return Ok(());
        };
        // Drops and notes are no entries of the index, and needed all the same.
        if is_live || matches!(kind, Kind::Drop | Kind::Touch | Kind::Checkpoint) {
            segment.bad += 1;
            bad.insert(*at);
            self.add_at(Fault::Bad, (*kind, id), *at, wrong);
        } else {
            segment.dead_bad += 1;
        }
        Ok(())
    }

    /// Compares the index with what the log alone says.
    async fn compare(
        &mut self,
        log: &Offline,
        indexed: &State,
        from_log: &State,
        bad: &BTreeSet<Location>,
    ) -> Result<(), LaneError> {
        let mut withheld = 0_u64;
        for table in [Table::Chunks, Table::Records, Table::Raft] {
            let mut strange = Vec::new();
            each(indexed, table, |key, value| {
                let (at, theirs) = (place(table, value), there(from_log, table, key)?);
                if at != theirs {
                    strange.push((key.to_vec(), at, theirs));
                }
                Ok(())
            })
            .await?;
            for (key, at, theirs) in strange {
                let Some(at) = at else {
                    self.add(Fault::Index, format!("an entry of table {} can't be read", table.name()));
                    continue;
                };
                if bad.contains(&at) {
                    continue;
                }
                let Some((kind, id)) = name(indexed, table, &key)? else {
                    self.add(Fault::Index, format!("a key of table {} can't be read", table.name()));
                    continue;
                };
                if let Some(theirs) = theirs {
                    let text = format!("the log has it at {}:{}", theirs.segment, theirs.offset);
                    self.add_at(Fault::Elsewhere, (kind, &id), at, &text);
                    continue;
                }
                let text = match log.read(at, kind, &id).await {
                    Ok(_) => "the index has it, but the log says that it was dropped or cut off".to_owned(),
                    Err(ReadError::Missing(segment)) => {
                        format!("the index has it in segment {segment}, which is missing")
                    }
                    Err(ReadError::Bad(_)) => "the index has it where something else lies, or damaged bytes".to_owned(),
                    Err(ReadError::Io(error)) => format!("the index has it where the disk can't be read ({error})"),
                };
                self.add_at(Fault::Dangling, (kind, &id), at, &text);
            }
            let mut lacking = Vec::new();
            each(from_log, table, |key, value| {
                if there(indexed, table, key)?.is_none() {
                    lacking.push((key.to_vec(), place(table, value)));
                }
                Ok(())
            })
            .await?;
            for (key, at) in lacking {
                let (Some((kind, id)), Some(at)) = (name(from_log, table, &key)?, at) else { continue };
                if kind == Kind::Chunk && indexed.quarantine_of(&ChunkId(id))?.is_some() {
                    withheld += 1;
                } else {
                    self.add_at(Fault::Lacking, (kind, &id), at, "the log has it live, the index doesn't have it");
                }
            }
        }
        if withheld > 0 {
            self.note(format!(
                "{withheld} chunks are quarantined and readable in the log: an older copy, or bytes that were bad only \
                 once. A rebuild would bring them back."
            ));
        }
        Ok(())
    }

    /// Compares the rows of slots with what the log alone says.
    async fn compare_rows(&mut self, indexed: &State, from_log: &State) -> Result<(), LaneError> {
        let slots: BTreeSet<u32> = indexed.all_slots()?.into_iter().chain(from_log.all_slots()?).collect();
        for slot in slots {
            let found = indexed.differences(from_log, slot)?;
            if found != Differences::default() {
                let Differences { only_index, only_log, other } = found;
                let text = format!(
                    "slot {slot}: {only_index} rows are in the index and not in the log, {only_log} in the log and not in \
                     the index, {other} are not the same"
                );
                self.add(Fault::Rows, text);
            }
            yield_now().await;
        }
        Ok(())
    }

    /// Counts what the index has.
    fn count(&mut self, indexed: &State) -> Result<(), LaneError> {
        let Some(facts) = &mut self.index else { return Ok(()) };
        let index = indexed.index.borrow();
        for digest in index.digests() {
            facts.chunks += digest.count;
            facts.chunk_bytes += digest.bytes;
        }
        for table in [Table::Records, Table::Raft] {
            let mut scan = Scan::all(table);
            let mut visit = |_: &[u8], _: &[u8]| {
                facts.records += 1;
                ControlFlow::Continue(())
            };
            while index.step(&mut scan, STEP, &mut visit)? == IndexStep::More {}
        }
        facts.quarantined = indexed.quarantined();
        Ok(())
    }

    async fn check_digests(&mut self, indexed: &State) -> Result<(), LaneError> {
        let partitions = indexed.index.borrow().partitions();
        for partition in (0..partitions).map(PartitionId) {
            let (kept, counted) = {
                let index = indexed.index.borrow();
                (index.digest(partition), index.recount(partition)?)
            };
            if kept != counted {
                self.add(
                    Fault::Digest,
                    format!(
                        "partition {}: the digest says {} chunks of {} bytes, there are {} of {}",
                        partition.0, kept.count, kept.bytes, counted.count, counted.bytes
                    ),
                );
            }
            if partition.0 % 64 == 0 {
                yield_now().await;
            }
        }
        Ok(())
    }

    /// Live bytes by segment, beside what was found in reading.
    fn check_usage(&mut self, indexed: &State) {
        let kept: BTreeMap<u64, u64> =
            indexed.usage().into_iter().map(|(number, usage)| (number, usage.live)).collect();
        let read: BTreeMap<u64, u64> = self.segments.iter().map(|segment| (segment.number, segment.live)).collect();
        let numbers: BTreeSet<u64> = kept.keys().chain(read.keys()).copied().collect();
        for number in numbers {
            let (kept, read) = (kept.get(&number).copied().unwrap_or(0), read.get(&number).copied().unwrap_or(0));
            if kept != read {
                let text = format!("the index says that {kept} bytes are live, {read} were found");
                self.push(Problem { fault: Fault::Usage, segment: Some(number), offset: None, id: None, text });
            }
        }
    }

    /// What was found wrong before and written down.
    fn look_at_memory(&mut self, indexed: &State) -> Result<(), LaneError> {
        let mut bad = Vec::new();
        let index = indexed.index.borrow();
        let mut scan = Scan::all(Table::Quarantine);
        let mut visit = |key: &[u8], value: &[u8]| {
            if let (Ok(id), Some(at)) = (Id::try_from(key), decode(value)) {
                bad.push((id, at));
            }
            ControlFlow::Continue(())
        };
        while index.step(&mut scan, STEP, &mut visit)? == IndexStep::More {}
        for (id, at) in bad {
            let text = "it was found bad and waits to be stored again from another copy";
            self.add_at(Fault::Quarantined, (Kind::Chunk, &id), at, text);
        }
        let (mut lost, mut damage) = (Vec::new(), 0_u64);
        let mut scan = Scan::prefix(Table::Lane, b"lost");
        let mut visit = |_: &[u8], value: &[u8]| {
            let parts = value.first().zip(value.get(1..33)).zip(value.get(33..).and_then(decode));
            if let Some(((kind, id), at)) = parts {
                lost.push((*kind, id.to_vec(), at));
            }
            ControlFlow::Continue(())
        };
        while index.step(&mut scan, STEP, &mut visit)? == IndexStep::More {}
        for (kind, id, at) in lost {
            if let (Some(kind), Ok(id)) = (Kind::from_number(kind), Id::try_from(id)) {
                self.add_at(Fault::Lost, (kind, &id), at, "it couldn't be read when the lane was opened");
            }
        }
        let mut scan = Scan::prefix(Table::Lane, b"damage");
        let mut visit = |_: &[u8], _: &[u8]| {
            damage += 1;
            ControlFlow::Continue(())
        };
        while index.step(&mut scan, STEP, &mut visit)? == IndexStep::More {}
        if damage > 0 {
            self.note(format!(
                "Starts of this lane have found damage in {damage} places; what is left of it is listed."
            ));
        }
        Ok(())
    }
}

fn damaged(damage: &Damage, text: &str) -> Problem {
    let Damage { segment, bytes, sequences, .. } = damage;
    let text = format!("{text} (bytes {} to {}, sequence numbers {sequences:?})", bytes.start, bytes.end);
    Problem { fault: Fault::Damage, segment: Some(*segment), offset: Some(bytes.start), id: None, text }
}

/// Looks at all entries of a table.
async fn each(
    state: &State,
    table: Table,
    mut look: impl FnMut(&[u8], &[u8]) -> Result<(), Error>,
) -> Result<(), LaneError> {
    let mut scan = Scan::all(table);
    loop {
        let mut result = Ok(());
        let visit = |key: &[u8], value: &[u8]| match look(key, value) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                result = Err(error);
                ControlFlow::Break(())
            }
        };
        let step = state.index.borrow().step(&mut scan, STEP, visit)?;
        result?;
        if step == IndexStep::Done {
            return Ok(());
        }
        task::yield_now().await;
    }
}

/// Where the record lies that an entry of a table is about.
fn place(table: Table, value: &[u8]) -> Option<Location> {
    match table {
        Table::Chunks => ChunkEntry::decode(value).ok().map(|entry| location(&entry)),
        _ => decode(value),
    }
}

fn there(state: &State, table: Table, key: &[u8]) -> Result<Option<Location>, Error> {
    Ok(state.index.borrow().get_with(table, key, |value| place(table, value))?.flatten())
}

/// Which record an entry is about.
fn name(state: &State, table: Table, key: &[u8]) -> Result<Option<(Kind, Id)>, Error> {
    Ok(match table {
        Table::Chunks => Id::try_from(key).ok().map(|id| (Kind::Chunk, id)),
        Table::Raft => {
            let term = state.index.borrow().get_with(table, key, |value| {
                value.get(20..28).and_then(|term| term.try_into().ok()).map(u64::from_be_bytes)
            })?;
            RaftKey::decode(key).zip(term.flatten()).map(|(key, term)| (Kind::RaftEntry, raft_id(key, term)))
        }
        _ => key.split_first().and_then(|(kind, id)| Kind::from_number(*kind).zip(id.try_into().ok())),
    })
}
