//! One life of one core, and what its clients do.

use super::*;

const CLIENTS: usize = 3;

pub async fn live(books: Rc<Books>, hub: Hub, core: CoreId, over: Shutdown) {
    if core.index() == 0 && !books.is_formatted.get() {
        if books.data.borrow().is_empty() {
            let count = 1 + small(below(3));
            let paths = (0..count).map(|disk| books.fresh_path(disk)).collect();
            books.data.replace(paths);
        }
        let (data, how) = (books.data.borrow().clone(), admin::format_of());
        let is_made = match format(&data, Uid([7; 16]), how).await {
            Ok(_) => true,
            // A life before was broken off between the first map and the last.
            Err(DisksError::Refused(_)) => Disks::open(&Hub::new(1), books.options()).await.is_ok(),
            Err(error) => return books.chunks.doing(format!("formatting: {error}")),
        };
        books.is_formatted.set(is_made);
        if !books.is_formatted.get() {
            return;
        }
    }
    let disks = match Disks::open(&hub, books.options()).await {
        Ok(disks) => disks,
        Err(error) => {
            books.chunks.is_beyond.set(books.is_calm() && are_all_lost(&books, &error));
            return books.chunks.doing(format!("opening: {error}"));
        }
    };
    if core.index() == 0 {
        let Ok(status) = disks.status().await else { return };
        let is_missing = |lane: &cairn_daemon::disks::LaneStatus| matches!(lane.state, LaneState::Missing(_));
        books.is_missing.set(status.lanes.iter().any(is_missing));
        pin(&books, &disks).await;
        books.is_open.set(true);
    }
    while !books.is_open.get() {
        sleep(millis(1)).await;
    }
    let registry = Registry::new();
    let spec = Spec { schedule: Schedule::Every(millis(10 + below(60))), backoff: millis(5), ..Spec::new("settle") };
    let actor = disks.clone();
    let started = registry.start(&spec, move || Settle { disks: actor.clone() });
    assert!(started.is_ok(), "the only one");
    let compacting = task::spawn(Class::Maintenance, keep_compacting(books.clone(), disks.clone()));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (books, disks) = (books.clone(), disks.clone());
            task::spawn(Class::Foreground, async move {
                while !books.is_calm() && !books.wants_restart.get() {
                    sleep(millis(below(8))).await;
                    if let Err(error) = act(&books, &disks).await
                        && !is_explained(&error)
                    {
                        books.broke(format!("an error that nothing explains: {error}"));
                    }
                }
            })
        })
        .collect();
    if core.index() == 0 {
        admin::run(&books, &disks, &over).await;
    } else {
        over.requested().await;
    }
    for client in clients {
        let _ = client.await;
    }
    drop(compacting);
    registry.stop_all().await;
}

/// Whether a node can't be opened because all of its disks were lost: those that are there aren't its any more.
fn are_all_lost(books: &Books, error: &DisksError) -> bool {
    let DisksError::Open(text) = error else { return false };
    let is_told = |path: &String, reason: &str| text.contains(&format!("{path}: {reason}"));
    let is_lost = |path: &String| admin::LOST.iter().any(|reason| is_told(path, reason));
    let is_other = |path: &String| is_told(path, "it was removed") || is_told(path, "it was never added");
    let data = books.data.borrow();
    data.iter().any(is_lost) && data.iter().all(|path| is_lost(path) || is_other(path))
}

async fn keep_compacting(books: Rc<Books>, disks: Disks) {
    loop {
        sleep(millis(below(40))).await;
        for (_, lane) in disks.own_lanes() {
            if let Some(segment) = lane.compaction_plan().first().map(|planned| planned.segment)
                && let Ok(done) = lane.compact(segment).await
                // Of a disk that is gone nobody can tell what it had.
                && done.damage.iter().any(|damage| !books.may_lose || !damage.sequences.is_empty())
            {
                books.broke(format!("compaction finds damage: {done:?}"));
            }
        }
    }
}

/// After an opening nothing is under way: all that is known must be so, and what could be either is one of the two from
/// now on.
async fn pin(books: &Rc<Books>, disks: &Disks) {
    for at in 0..small(CHUNKS) {
        let chunk = books.chunks.chunk(at);
        let Ok(is_here) = disks.has(&chunk.id).await else { continue };
        let should = if is_here { Known::Here } else { Known::Gone };
        if chunk.known != Known::Either && chunk.known != should {
            let map = disks.map();
            books.broke(format!("after opening chunk {at} is {should:?} and should be {:?}, by {map:?}", chunk.known));
        }
        books.chunks.change(at, |chunk| chunk.known = should);
        if below(4) == 0
            && let Err(error) = check_get(books, disks, at).await
            && !is_explained(&error)
        {
            books.broke(format!("after opening chunk {at}: {error}"));
        }
    }
}

/// One thing a client does.
async fn act(books: &Rc<Books>, disks: &Disks) -> Result<(), DisksError> {
    let at = small(below(CHUNKS));
    match below(100) {
        0..40 => put(books, disks, at).await,
        40..58 => drop_chunk(books, disks, at).await,
        58..78 => check_get(books, disks, at).await,
        78..84 => check_has(books, disks, at).await,
        84..90 => check_list(books, disks).await,
        90..95 => {
            check_digest(books, disks, PartitionId(u32::try_from(below(u64::from(PARTITIONS))).unwrap_or(0))).await
        }
        95..98 => {
            let (one, other) = futures_util::future::join(put(books, disks, at), put(books, disks, at)).await;
            one.and(other)
        }
        _ => {
            let (one, other) = futures_util::future::join(put(books, disks, at), drop_chunk(books, disks, at)).await;
            one.and(other)
        }
    }
}

/// Now and then somebody gives up waiting. What they asked for goes on, and may be done at any time while this life lasts.
fn patience() -> cairn_io::time::Duration {
    if below(40) == 0 { millis(below(3)) } else { millis(1_000_000) }
}

async fn put(books: &Rc<Books>, disks: &Disks, at: usize) -> Result<(), DisksError> {
    let chunk = books.chunks.chunk(at);
    let payload = Payload::Bytes(Bytes::from(chunk.bytes.to_vec()));
    let begun = books.chunks.begin_put(at);
    let Ok(answer) = time::timeout(patience(), disks.put(chunk.id, payload)).await else { return Ok(()) };
    books.chunks.end_put(at, begun, answer.is_ok().then_some(true));
    answer.map(drop)
}

pub async fn drop_chunk(books: &Rc<Books>, disks: &Disks, at: usize) -> Result<(), DisksError> {
    let chunk = books.chunks.chunk(at);
    let begun = books.chunks.begin_drop(at);
    let Ok(answer) = time::timeout(patience(), disks.drop_chunk(&chunk.id)).await else { return Ok(()) };
    books.chunks.end_drop(at, begun, answer.is_ok());
    answer.map(drop)
}

pub async fn check_get(books: &Rc<Books>, disks: &Disks, at: usize) -> Result<(), DisksError> {
    let before = books.chunks.chunk(at);
    let len = before.bytes.len() as u64;
    let from = below(len + 1);
    let (got, range) = match below(2) {
        0 => (disks.get_range(&before.id, from..len).await?, from..len),
        _ => (disks.get(&before.id).await?, 0..len),
    };
    let sure = books.chunks.sure(at, &before);
    match got {
        Some(bytes) => {
            if bytes[..] != before.bytes[small(range.start)..small(range.end)] {
                books.broke(format!("chunk {at} is read with other bytes in {range:?}"));
            }
            if sure == Some(false) {
                books.broke(format!("chunk {at} was dropped and is read, by {:?}", disks.map()));
            }
        }
        None if sure == Some(true) => {
            books.broke(format!("chunk {at} is not there and should be, by {:?}", disks.map()));
        }
        None => {}
    }
    Ok(())
}

async fn check_has(books: &Rc<Books>, disks: &Disks, at: usize) -> Result<(), DisksError> {
    let before = books.chunks.chunk(at);
    let has = disks.has(&before.id).await?;
    if books.chunks.sure(at, &before).is_some_and(|sure| sure != has) {
        books.broke(format!("chunk {at} is said to be there: {has}, by {:?}", disks.map()));
    }
    Ok(())
}

pub async fn check_list(books: &Rc<Books>, disks: &Disks) -> Result<(), DisksError> {
    let before: Vec<_> = (0..small(CHUNKS)).map(|at| books.chunks.chunk(at)).collect();
    let mut listed = Vec::new();
    for partition in (0..PARTITIONS).map(PartitionId) {
        let mut after = None;
        loop {
            let page = disks.list(partition, after.as_ref(), 3).await?;
            listed.extend(page.iter().map(|listed| listed.id));
            match page.last() {
                Some(last) => after = Some(last.id),
                None => break,
            }
        }
    }
    if !listed.is_sorted_by(|one, other| one < other) {
        books.broke(format!("a listing is out of order or has something twice: {listed:?}"));
    }
    let listed: BTreeSet<ChunkId> = listed.into_iter().collect();
    for (at, chunk) in before.iter().enumerate() {
        let (sure, is_listed) = (books.chunks.sure(at, chunk), listed.contains(&chunk.id));
        let is_excused = books.is_missing.get() && !is_listed;
        if sure.is_some_and(|sure| sure != is_listed) && !is_excused {
            let (has, now) = (disks.has(&chunk.id).await, books.chunks.chunk(at));
            books.broke(format!(
                "chunk {at} is listed: {is_listed}, and there: {sure:?} (asked again: {has:?}), before {chunk:?}, now {now:?}, by {:?}",
                disks.map()
            ));
        }
    }
    Ok(())
}

pub async fn check_digest(books: &Rc<Books>, disks: &Disks, partition: PartitionId) -> Result<(), DisksError> {
    let before: Vec<_> = (0..small(CHUNKS)).map(|at| books.chunks.chunk(at)).collect();
    let digest = disks.digest(partition).await?;
    let (mut counted, mut is_sure) = (Digest::default(), true);
    let mut most = 0;
    for (at, chunk) in before.iter().enumerate() {
        if PartitionId::of_chunk(&chunk.id.0, PARTITIONS) != partition {
            continue;
        }
        most += 1;
        match books.chunks.sure(at, chunk) {
            Some(true) => counted.add(&chunk.id, u32::try_from(chunk.bytes.len()).expect("small")),
            Some(false) => {}
            None => is_sure = false,
        }
    }
    if digest.count > most || is_sure && !books.is_missing.get() && digest != counted {
        books.broke(format!("{partition:?} has {digest:?} and counts {counted:?} of {most}, by {:?}", disks.map()));
    }
    Ok(())
}
