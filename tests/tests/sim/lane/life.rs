//! One life of the lane, and what clients do to it.

use super::books::{Known, RaftLog};
use super::*;

const CLIENTS: usize = 5;

pub async fn live(books: Rc<Books>) -> Result<(), LaneError> {
    books.doing("finding");
    let dir = Dir::create("/disk0/lane").await?;
    if !books.made.get() {
        match cairn_io::log::Log::superblock_of(&dir).await {
            Ok(_) => {}
            Err(LogError::Io(error)) => return Err(error.into()),
            Err(_) => Lane::create(&dir, Owner::default(), 0, SEGMENT).await?,
        }
    }
    books.forget_open();
    let is_lost = below(4) == 0;
    if is_lost {
        Store::Memory(books.memory.clone()).clear()?;
        books.is_rebuilding.set(true);
    }
    books.doing("opening");
    let (lane, recovered) = open(&books, &dir, is_lost).await?;
    books.made.set(true);
    books.recoveries.set(books.recoveries.get() + 1);
    check_recovered(&books, &recovered, is_lost);
    pin(&books, &lane).await?;
    audit(&books, &lane);
    let helpers = [
        task::spawn(Class::Maintenance, keep_compacting(books.clone(), lane.clone())),
        task::spawn(Class::Maintenance, keep_scrubbing(books.clone(), lane.clone())),
    ];
    let tasks: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (books, lane) = (books.clone(), lane.clone());
            task::spawn(Class::Foreground, async move {
                while !books.is_storm_over.get() {
                    sleep(millis(below(6))).await;
                    if let Err(error) = act(&books, &lane).await
                        && ends_life(&books, &error)
                    {
                        break;
                    }
                }
            })
        })
        .collect();
    for (at, task) in tasks.into_iter().enumerate() {
        books.doing(format!("storm, client {at}, claims: {:?}", books.open.borrow()));
        let _ = task.await;
    }
    drop(helpers);
    if lane.status().poisoned.is_none() && books.is_storm_over.get() {
        let drained = drain(&books, &lane).await;
        let doing = books.doing.take();
        if let Err(error) = &drained {
            books.doing(format!("{doing}: {error}"));
        }
        if let Err(error) = drained
            && !error.is_poisoned()
            && !matches!(error, LaneError::Io(_) | LaneError::Commit(_) | LaneError::Log(LogError::Closed))
            && !books.excuses_damage()
        {
            let (status, usage) = (lane.status(), lane.usage());
            books.broke(format!("after the storm, {doing}: {error}; {status:?} {usage:?}"));
        }
        if books.has_rotted() {
            books.is_drained.set(true);
        }
    } else {
        check_poisoned(&books, &lane).await;
    }
    Err(LaneError::Log(LogError::Closed))
}

/// A lane so small that a storm of seconds meets every limit, drawn anew for each life.
pub fn small_options(segments_max: usize) -> Options {
    let prewrite = [Prewrite::Always, Prewrite::WhenSmall, Prewrite::Never][small(below(3))];
    let log = LogOptions {
        reserve: 2,
        ahead: 1,
        spare_max: 3,
        segments_max,
        keep_free: 0,
        batch_bytes: 32 << 10,
        in_flight_bytes: 512 << 10,
        prewrite,
    };
    Options {
        log,
        partitions: PARTITIONS,
        commit_entries: small(5 + below(40)),
        commit_bytes: 64 << 10 << below(4),
        commit_every: millis(20 + below(100)),
        cache_bytes: 64 << 10,
        heads_bytes: 4 << 10,
        touch_after: millis(1_000 * below(2)),
        punch_min: 16 << 10,
        ballast: 0,
    }
}

async fn open(books: &Rc<Books>, dir: &Dir, is_lost: bool) -> Result<(Lane, Recovered), LaneError> {
    let mut options = small_options(16);
    options.ballast = 64 << 10 << below(2) >> (below(2) * 20);
    let opened = Lane::open(dir, Store::Memory(books.memory.clone()), options).await;
    if let Err(error) = &opened {
        books.doing(format!("opening (index lost: {is_lost}): {error:?}"));
        let is_io = matches!(error, LaneError::Io(_) | LaneError::Log(LogError::Io(_)));
        if !is_io && books.has_rotted() {
            books.is_beyond.set(true);
        } else if !is_io && books.made.get() {
            books.broke(format!("the lane can't be opened (index lost: {is_lost}): {error}"));
        }
    }
    opened
}

fn check_recovered(books: &Books, recovered: &Recovered, is_lost: bool) {
    // The log can't tell a segment that was freed from one that was lost.
    let is_gap = |what: What| what == What::Segment;
    let gaps = recovered.damage.iter().filter(|damage| is_gap(damage.what)).count();
    books.is_rebuilding.set(books.is_rebuilding.get() && (is_lost || gaps > 0));
    let is_told = |what: What| books.is_rebuilding.get() && is_gap(what);
    let damage: Vec<_> = recovered.damage.iter().filter(|damage| !is_told(damage.what)).collect();
    if !damage.is_empty() && !books.excuses_damage() {
        books.broke(format!("damage without a cause, index lost {is_lost}: {damage:?}"));
    }
}

/// Whether an error ends the life; says so if it is one that nothing explains.
fn ends_life(books: &Books, error: &LaneError) -> bool {
    match error {
        error if error.is_no_room() => false,
        LaneError::Log(LogError::Poisoned(_) | LogError::Closed) => true,
        LaneError::Io(_)
        | LaneError::Commit(_)
        | LaneError::Log(LogError::Io(_))
        | LaneError::Read(ReadError::Io(_)) => false,
        LaneError::Quarantined(_) | LaneError::Read(_) if books.excuses_damage() => false,
        error => {
            books.broke(format!("an error that nothing explains: {error:?}"));
            true
        }
    }
}

/// After a recovery nothing is under way: all that is known must be so, and all that could be either is one or the other
/// from now on.
async fn pin(books: &Rc<Books>, lane: &Lane) -> Result<(), LaneError> {
    for at in 0..small(CHUNKS) {
        let chunk = books.chunk(at);
        let is_here = lane.has(&chunk.id)?;
        if !is_here && chunk.known == Known::Here && may_be_bad(books, lane, &chunk.id)? {
            books.change(at, |chunk| chunk.known = Known::Either);
            continue;
        }
        let should = if is_here { Known::Here } else { Known::Gone };
        if chunk.known != Known::Either && chunk.known != should && !(books.has_rotted() && should == Known::Here) {
            let is_lost = books.is_rebuilding.get();
            books.broke(format!("after recovery chunk {at} is {should:?} and should be {:?} ({is_lost})", chunk.known));
        }
        books.change(at, |chunk| chunk.known = should);
        if below(4) == 0 {
            check_get(books, lane, at).await?;
        }
    }
    for at in 0..small(NAMES) {
        if let Some(version) = check_record(books, lane, at).await? {
            books.records.borrow_mut()[at].may_be = BTreeSet::from([version]);
        }
    }
    for slot in 0..SLOTS {
        if let Some(log) = check_slot(books, lane, slot).await? {
            books.slots.borrow_mut()[slot as usize].may_be = vec![log];
        }
    }
    Ok(())
}

/// Whether it is no wonder that a chunk isn't there: what couldn't be read for a moment is withheld, never forgotten.
fn may_be_bad(books: &Books, lane: &Lane, id: &ChunkId) -> Result<bool, LaneError> {
    Ok(books.has_rotted() || books.excuses_damage() && lane.is_quarantined(id)?)
}

/// Everything the lane counts is what is there.
pub fn audit(books: &Books, lane: &Lane) {
    for partition in (0..PARTITIONS).map(PartitionId) {
        let mut counted = Digest::default();
        match lane.list(partition, None, usize::MAX) {
            Ok(chunks) => chunks.iter().for_each(|(id, entry)| counted.add(id, entry.length)),
            Err(error) => books.broke(format!("a listing fails: {error}")),
        }
        if lane.digest(partition) != counted {
            books.broke(format!("{partition:?} has the digest {:?} and counts {counted:?}", lane.digest(partition)));
        }
    }
    let live: BTreeMap<u64, u64> = lane
        .usage()
        .into_iter()
        .filter(|(_, usage)| usage.live > 0)
        .map(|(number, usage)| (number, usage.live))
        .collect();
    match lane.recount_usage() {
        Ok(counted) if counted != live => {
            books.broke(format!("live bytes are said to be {live:?} and count {counted:?}"));
        }
        Ok(_) => {}
        Err(error) => books.broke(format!("a recount fails: {error}")),
    }
}

async fn keep_compacting(books: Rc<Books>, lane: Lane) {
    loop {
        sleep(millis(below(30))).await;
        let committed = lane.status().committed.segment;
        let any: Vec<u64> =
            lane.log().segments().iter().map(|segment| segment.number).filter(|number| *number < committed).collect();
        let segment = match lane.compaction_plan().first().map(|planned| planned.segment) {
            None if !any.is_empty() && below(3) == 0 => Some(any[small(below(any.len() as u64))]),
            worth => worth,
        };
        let Some(segment) = segment else { continue };
        let limit = if below(8) == 0 { millis(below(5)) } else { millis(100_000) };
        match time::timeout(limit, lane.compact(segment)).await {
            Ok(Ok(done)) if !done.damage.is_empty() && !books.excuses_damage() => {
                books.broke(format!("compaction finds damage: {done:?}"));
            }
            Ok(Err(error)) if ends_life(&books, &error) => return,
            _ => {}
        }
    }
}

async fn keep_scrubbing(books: Rc<Books>, lane: Lane) {
    loop {
        sleep(millis(below(60))).await;
        let Ok(Some(segment)) = lane.next_to_scrub() else { continue };
        match lane.scrub(segment).await {
            Ok(found) if !books.excuses_damage() && found.bad.len() + found.damage.len() > 0 => {
                books.broke(format!("scrub finds damage: {found:?}"));
            }
            // Freed before it was looked at.
            Ok(_) | Err(LaneError::Read(ReadError::Missing(_))) => {}
            Err(error) if ends_life(&books, &error) => return,
            Err(_) => {}
        }
    }
}

/// One thing a client does.
async fn act(books: &Rc<Books>, lane: &Lane) -> Result<(), LaneError> {
    let at = small(below(CHUNKS));
    let what = below(100);
    let number = books.version();
    books.open.borrow_mut().insert(number, (at, what));
    let done = act_so(books, lane, at, what).await;
    books.open.borrow_mut().remove(&number);
    done
}

async fn act_so(books: &Rc<Books>, lane: &Lane, at: usize, what: u64) -> Result<(), LaneError> {
    match what {
        0..30 => put(books, lane, at).await,
        30..46 => drop_chunk(books, lane, at).await,
        46..66 => check_get(books, lane, at).await,
        66..74 => put_record(books, lane, small(below(NAMES))).await,
        74..78 => check_record(books, lane, small(below(NAMES))).await.map(drop),
        78..90 => change_slot(books, lane, u32::try_from(below(u64::from(SLOTS))).expect("small")).await,
        90..92 => {
            let fault = if below(2) == 0 { CommitFault::NoRoom } else { CommitFault::Broken };
            books.memory.fail_commits(u32::try_from(1 + below(2)).expect("small"), fault);
            Ok(())
        }
        92..94 => lane.commit().await,
        94..97 => check_list(books, lane),
        97..99 => {
            // Two at once, of the same chunk.
            let (one, other) = futures_util::future::join(put(books, lane, at), put(books, lane, at)).await;
            one.and(other)
        }
        _ if below(30) == 0 => {
            let _ = lane.close().await;
            Ok(())
        }
        _ => Ok(()),
    }
}

fn is_refused(error: &LaneError) -> bool {
    matches!(error, LaneError::Log(LogError::NoRoom(_)))
}

/// Now and then somebody gives up waiting.
fn patience() -> cairn_io::time::Duration {
    if below(8) == 0 { millis(below(3)) } else { millis(1_000_000) }
}

pub async fn put(books: &Rc<Books>, lane: &Lane, at: usize) -> Result<(), LaneError> {
    let chunk = books.chunk(at);
    let payload = if below(2) == 0 && !chunk.bytes.is_empty() {
        let mut block = block::alloc(chunk.bytes.len()).await?;
        block.copy_from_slice(&chunk.bytes);
        Payload::Blocks(vec![block.freeze()])
    } else {
        Payload::Bytes(Bytes::from(chunk.bytes.to_vec()))
    };
    let begun = books.begin_put(at);
    let answer = time::timeout(patience(), lane.put(chunk.id, payload)).await;
    let (stored, result) = match answer {
        Ok(Ok(_)) => (Some(true), Ok(())),
        Ok(Err(error)) => (is_refused(&error).then_some(false), Err(error)),
        Err(_) => (None, Ok(())),
    };
    books.end_put(at, begun, stored);
    result
}

async fn drop_chunk(books: &Rc<Books>, lane: &Lane, at: usize) -> Result<(), LaneError> {
    let chunk = books.chunk(at);
    let begun = books.begin_drop(at);
    let answer = time::timeout(patience(), lane.drop_chunk(&chunk.id)).await;
    books.end_drop(at, begun, matches!(answer, Ok(Ok(_))));
    answer.unwrap_or(Ok(false)).map(drop)
}

pub async fn check_get(books: &Rc<Books>, lane: &Lane, at: usize) -> Result<(), LaneError> {
    let before = books.chunk(at);
    let len = before.bytes.len() as u64;
    let range = if below(3) == 0 {
        0..len
    } else {
        let from = below(len + 1);
        from..from + below(len - from + 1)
    };
    let got = match below(3) {
        0 => lane.get_range(&before.id, range.clone()).await.map(|part| part.map(|part| (part, range))),
        1 => lane
            .get_ranges(&before.id, &[range.clone(), 0..10])
            .await
            .map(|parts| parts.map(|mut parts| (parts.swap_remove(0), range))),
        _ => lane.get(&before.id).await.map(|whole| whole.map(|whole| (whole, 0..len))),
    };
    let sure = books.sure(at, &before);
    match got {
        Ok(Some((bytes, range))) => {
            if bytes[..] != before.bytes[small(range.start)..small(range.end)] {
                books.broke(format!("chunk {at} is read with other bytes in {range:?}"));
            }
            if sure == Some(false) {
                books.broke(format!("chunk {at} was dropped and is read: {:?}", lane.chunk(&before.id)));
            }
            Ok(())
        }
        Ok(None) => {
            if sure == Some(true) && !books.has_rotted() {
                books.broke(format!("chunk {at} is not there and should be"));
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn check_list(books: &Rc<Books>, lane: &Lane) -> Result<(), LaneError> {
    let mut listed = BTreeSet::new();
    for partition in (0..PARTITIONS).map(PartitionId) {
        let mut after = None;
        loop {
            let page = lane.list(partition, after.as_ref(), 3)?;
            listed.extend(page.iter().map(|(id, _)| *id));
            match page.last() {
                Some((id, _)) => after = Some(*id),
                None => break,
            }
        }
    }
    for at in 0..small(CHUNKS) {
        let chunk = books.chunk(at);
        let (sure, is_listed) = (books.sure(at, &chunk), listed.contains(&chunk.id));
        let is_withheld = !is_listed && may_be_bad(books, lane, &chunk.id)?;
        if sure.is_some_and(|sure| sure != is_listed) && !is_withheld && !books.has_rotted() {
            books.broke(format!("chunk {at} is listed: {is_listed}, and there: {sure:?}"));
        }
    }
    audit(books, lane);
    Ok(())
}

fn name_of(at: usize) -> [u8; 32] {
    [u8::try_from(at).expect("few") + 1; 32]
}

fn version_bytes(version: u64) -> Vec<u8> {
    let mut bytes = version.to_le_bytes().to_vec();
    bytes.extend(content(version, small(version * 977 % 3_000)));
    bytes
}

async fn put_record(books: &Rc<Books>, lane: &Lane, at: usize) -> Result<(), LaneError> {
    if std::mem::replace(&mut books.records.borrow_mut()[at].is_busy, true) {
        return Ok(());
    }
    let version = (below(4) > 0).then(|| books.version());
    books.records.borrow_mut()[at].may_be.insert(version);
    let sort = if at.is_multiple_of(2) { Named::Version } else { Named::Provisional };
    let answer = match version {
        Some(version) => {
            let put = lane.put_named(sort, name_of(at), version_bytes(version).into());
            time::timeout(patience(), put).await.unwrap_or(Err(gave_up()))
        }
        None => {
            time::timeout(patience(), lane.drop_named(sort, &name_of(at))).await.unwrap_or(Err(gave_up())).map(drop)
        }
    };
    let record = &mut books.records.borrow_mut()[at];
    record.is_busy = false;
    if answer.is_ok() {
        record.may_be = BTreeSet::from([version]);
    }
    answer
}

fn gave_up() -> LaneError {
    LaneError::Io(std::io::ErrorKind::TimedOut.into())
}

/// Returns the version that a record has, if it can be read.
async fn check_record(books: &Rc<Books>, lane: &Lane, at: usize) -> Result<Option<Option<u64>>, LaneError> {
    let before = books.records.borrow()[at].clone();
    let sort = if at.is_multiple_of(2) { Named::Version } else { Named::Provisional };
    let bytes = match lane.get_named(sort, &name_of(at)).await {
        Ok(bytes) => bytes,
        Err(error) => return if ends_life(books, &error) { Err(error) } else { Ok(None) },
    };
    let after = books.records.borrow()[at].clone();
    let version = bytes.as_ref().map(|bytes| u64::from_le_bytes(*bytes.first_chunk().unwrap_or(&[0; 8])));
    if bytes.is_some_and(|bytes| bytes[..] != version_bytes(version.unwrap_or(0))) {
        books.broke(format!("record {at} is read with other bytes"));
    }
    if !before.may_be.contains(&version) && !after.may_be.contains(&version) && !books.has_rotted() {
        books.broke(format!("record {at} has version {version:?} and should have {:?}", after.may_be));
    }
    Ok(Some(version))
}

fn entry_bytes(slot: u32, term: u64, index: u64) -> Bytes {
    content(u64::from(slot) << 40 | term << 20 | index, small((term * 31 + index * 977) % 2_000)).into()
}

/// Changes a Raft log in one of three ways, unless somebody else does or did and got no answer.
async fn change_slot(books: &Rc<Books>, lane: &Lane, slot: u32) -> Result<(), LaneError> {
    let at = slot as usize;
    let before = {
        let slot = &mut books.slots.borrow_mut()[at];
        let [log] = &slot.may_be[..] else { return Ok(()) };
        let log = log.clone();
        if std::mem::replace(&mut slot.is_busy, true) {
            return Ok(());
        }
        log
    };
    let first = before.state.map_or(1, |(first, _)| first);
    let last = before.entries.keys().next_back().copied().unwrap_or(first.max(1) - 1).max(first - 1);
    let mut steps = vec![before.clone()];
    let mut step = before.clone();
    let answer = match below(10) {
        0..6 => {
            let term = books.version();
            let indices = last + 1..=last + 1 + below(5);
            let entries: Vec<_> = indices.clone().map(|index| (term, index, entry_bytes(slot, term, index))).collect();
            for index in indices {
                step.entries.insert(index, term);
                steps.push(step.clone());
            }
            books.slots.borrow_mut()[at].may_be = steps;
            time::timeout(patience(), lane.append_raft(slot, entries)).await
        }
        6..8 => {
            let from = first + below(last + 2 - first);
            while step.entries.last_key_value().is_some_and(|(index, _)| *index >= from) {
                step.entries.pop_last();
                steps.push(step.clone());
            }
            books.slots.borrow_mut()[at].may_be = steps;
            time::timeout(patience(), lane.truncate_raft(slot, from)).await
        }
        _ => {
            let (vote, first) = (books.version(), first + below(last + 2 - first) / 2);
            step.state = Some((first, vote));
            step.entries.retain(|index, _| *index >= first);
            steps.push(step.clone());
            books.slots.borrow_mut()[at].may_be = steps;
            time::timeout(patience(), lane.set_raft_state(slot, first, &vote.to_le_bytes())).await
        }
    };
    let answer = answer.unwrap_or(Err(gave_up()));
    let slot = &mut books.slots.borrow_mut()[at];
    slot.is_busy = false;
    if answer.is_ok() {
        slot.may_be = vec![step];
    }
    answer
}

/// Returns what a slot has, if it can be read.
async fn check_slot(books: &Rc<Books>, lane: &Lane, slot: u32) -> Result<Option<RaftLog>, LaneError> {
    let vote_of = |vote: &[u8]| u64::from_le_bytes(*vote.first_chunk().unwrap_or(&[0; 8]));
    let state = lane.raft_state(slot)?.map(|(first, vote)| (first, vote_of(&vote)));
    let mut found = RaftLog { state, ..RaftLog::default() };
    if let Some([first, last]) = lane.raft_ends(slot)? {
        let entries = match lane.read_raft(slot, first.1..=last.1).await {
            Ok(entries) => entries,
            Err(error) => return if ends_life(books, &error) { Err(error) } else { Ok(None) },
        };
        for (term, index, bytes) in entries {
            if bytes != entry_bytes(slot, term, index) {
                books.broke(format!("entry {index} of slot {slot} is read with other bytes"));
            }
            found.entries.insert(index, term);
        }
        if found.entries.last_key_value().map(|(index, term)| (*term, *index)) != Some(last) && !books.has_rotted() {
            books.broke(format!("the log of slot {slot} has a hole: {found:?}, and ends with {last:?}"));
        }
    }
    let may_be = books.slots.borrow()[slot as usize].may_be.clone();
    if !may_be.contains(&found) && !books.has_rotted() {
        books.broke(format!("slot {slot} has {found:?} and should have one of {may_be:?}"));
    }
    Ok(Some(found))
}

/// After a failure nothing more is taken, and what is there is still read.
async fn check_poisoned(books: &Rc<Books>, lane: &Lane) {
    for at in 0..small(CHUNKS) {
        if let Err(error) = check_get(books, lane, at).await {
            ends_life(books, &error);
        }
    }
}

/// Everything is dropped, and the room comes back.
async fn drain(books: &Rc<Books>, lane: &Lane) -> Result<(), LaneError> {
    books.doing("draining: commit");
    books.memory.fail_commits(0, CommitFault::NoRoom);
    audit(books, lane);
    let _ = lane.commit().await;
    lane.commit().await?;
    books.doing("draining: drops");
    for at in 0..small(CHUNKS) {
        loop {
            match drop_patiently(books, lane, at).await {
                // The last segment is compaction's: when that has freed one, there is room for drops again.
                Err(error) if error.is_no_room() && compact_best(lane).await?.is_some_and(|done| done.is_freed) => {}
                other => break other?,
            }
        }
    }
    for round in 0..200 {
        books.doing(format!("draining: compaction, round {round}"));
        if compact_best(lane).await?.is_none() {
            break;
        }
        if round == 199 {
            books.broke(format!("compaction doesn't end: {:?}", lane.usage()));
        }
    }
    books.doing("draining: puts");
    for at in 0..small(CHUNKS) {
        for attempt in 0.. {
            let begun = books.begin_put(at);
            let chunk = books.chunk(at);
            let answer = lane.put(chunk.id, Payload::Bytes(Bytes::from(chunk.bytes.to_vec()))).await;
            let stored = match &answer {
                Ok(_) => Some(true),
                Err(error) => is_refused(error).then_some(false),
            };
            books.end_put(at, begun, stored);
            match answer {
                Ok(_) => break,
                // A disk that was full a moment ago is asked again after a while.
                Err(error) if error.is_no_room() && attempt < 100 => sleep(millis(100)).await,
                Err(error) => {
                    if error.is_no_room() && !books.excuses_damage() {
                        let (status, usage) = (lane.status(), lane.usage());
                        books.broke(format!("everything was dropped, and yet: {error}; {status:?} {usage:?}"));
                    }
                    return Err(error);
                }
            }
        }
        check_get(books, lane, at).await?;
    }
    audit(books, lane);
    books.is_drained.set(true);
    Ok(())
}

/// Does what the actor would do next, if there is something.
async fn compact_best(lane: &Lane) -> Result<Option<Compacted>, LaneError> {
    lane.commit().await?;
    match lane.compaction_plan().first() {
        Some(planned) => lane.compact(planned.segment).await.map(Some),
        None => Ok(None),
    }
}

async fn drop_patiently(books: &Rc<Books>, lane: &Lane, at: usize) -> Result<(), LaneError> {
    let chunk = books.chunk(at);
    let begun = books.begin_drop(at);
    let answer = time::timeout(millis(30_000), lane.drop_chunk(&chunk.id)).await;
    books.end_drop(at, begun, matches!(answer, Ok(Ok(_))));
    if let Ok(answer) = answer {
        answer.map(drop)
    } else {
        books.broke(format!("a drop hangs: {:?}", lane.status()));
        Ok(())
    }
}
