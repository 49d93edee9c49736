//! Who adds and takes disks, and restarts the node when something is broken; and the last check.

use super::*;

/// How a directory is spoken of whose disk is there and empty.
pub const LOST: [&str; 2] = ["there is no disk of Cairn", "No such file"];

pub fn format_of() -> Format {
    Format { lanes: u32::try_from(1 + below(2)).unwrap_or(1), segment_bytes: SEGMENT }
}

/// Until the life should end.
pub async fn run(books: &Rc<Books>, disks: &Disks, over: &Shutdown) {
    while !over.is_requested() {
        sleep(millis(10 + below(150))).await;
        let Ok(status) = disks.status().await else { return };
        let is_broken = |lane: &cairn_daemon::disks::LaneStatus| match &lane.state {
            LaneState::Open { lane, .. } => lane.poisoned.is_some(),
            LaneState::Missing(_) => true,
        };
        if books.is_calm() {
            if calm(books, disks, &status).await {
                books.chunks.doing("ending a life in the calm");
                return;
            }
            continue;
        }
        if status.lanes.iter().any(is_broken) && below(3) == 0 || below(40) == 0 {
            books.wants_restart.set(true);
            if below(2) == 0 {
                books.chunks.doing("closing the disks");
                let _ = disks.close().await;
            }
            books.chunks.doing("ending a life");
            return;
        }
        books.chunks.doing(format!("changing the disks: {:?} {:?}", status.troubles, disks.map()));
        if let Err(error) = change(books, disks, &status).await
            && !is_explained(&error)
        {
            books.broke(format!("a change of the disks: {error}"));
        }
    }
}

async fn change(books: &Rc<Books>, disks: &Disks, status: &Status) -> Result<(), DisksError> {
    give_up_lost(books, disks, status).await?;
    let ids: Vec<Uid> = status.disks.iter().map(|disk| disk.entry.id).collect();
    let any = ids[small(below(ids.len() as u64))];
    match below(10) {
        0..4 => add(books, disks, status).await,
        4..7 => refusable(disks.evacuate(any).await),
        7 => refusable(disks.keep(any).await),
        8 => refusable(disks.weigh(any, Some((1 + below(20)) << 20)).await),
        _ => refusable(disks.weigh(any, None).await),
    }
}

/// That it would be the last disk is a good reason.
fn refusable(done: Result<(), DisksError>) -> Result<(), DisksError> {
    if matches!(done, Err(DisksError::Refused(_))) { Ok(()) } else { done }
}

async fn add(books: &Rc<Books>, disks: &Disks, status: &Status) -> Result<(), DisksError> {
    let is_used = |disk: &usize| {
        let root = format!("/disk{disk}/");
        status.disks.iter().any(|disk| disk.path.as_ref().is_none_or(|path| path.starts_with(&root)))
    };
    let free: Vec<usize> = (0..DISKS).filter(|disk| !is_used(disk)).collect();
    let Some(&disk) = free.get(small(below(1 + free.len() as u64))) else { return Ok(()) };
    if books.uses.borrow()[disk] >= 3 {
        return Ok(());
    }
    // One that was begun is gone on with, unless its disk is gone.
    let root = format!("/disk{disk}/");
    let begun = status.troubles.iter().find(|(path, reason)| path.starts_with(&root) && reason.contains("never added"));
    let path = begun.map_or_else(|| books.fresh_path(disk), |(path, _)| path.clone());
    if !books.data.borrow().contains(&path) {
        books.data.borrow_mut().push(path.clone());
    }
    // Refused: it was made by an attempt that failed at the end; the next life can use it.
    refusable(disks.add(&path, format_of()).await.map(drop))
}

/// A disk that is there and empty will never be what it was.
async fn give_up_lost(books: &Rc<Books>, disks: &Disks, status: &Status) -> Result<(), DisksError> {
    let are_lost = |(_, reason): &&(String, String)| LOST.iter().any(|lost| reason.starts_with(lost));
    let lost = status.troubles.iter().filter(are_lost).count();
    let gone: Vec<Uid> = status.disks.iter().filter(|disk| disk.path.is_none()).map(|disk| disk.entry.id).collect();
    // Only if it is clear which they are.
    if gone.is_empty() || lost < gone.len() || status.troubles.len() > lost && !books.is_calm() {
        return Ok(());
    }
    for id in gone {
        books.lose_some();
        let given_up = disks.give_up(id).await;
        books.lose_some();
        refusable(given_up)?;
    }
    Ok(())
}

/// Whether the life should end.
async fn calm(books: &Rc<Books>, disks: &Disks, status: &Status) -> bool {
    let told: Vec<_> = status.lanes.iter().map(|lane| format!("{lane:?}")).collect();
    books.chunks.doing(format!("calm: {told:?} {:?} {:?}", status.troubles, disks.map()));
    let mut is_broken = false;
    for lane in &status.lanes {
        match &lane.state {
            LaneState::Open { lane, .. } => is_broken |= lane.poisoned.is_some(),
            LaneState::Missing(_) => is_broken = true,
        }
    }
    if is_broken {
        if let Err(error) = give_up_lost(books, disks, status).await {
            books.broke(format!("after the storm a lost disk can't be given up: {error}"));
        }
        return true;
    }
    if !disks.is_settled() {
        // Without room nothing gets home.
        books.rounds.set(books.rounds.get() + 1);
        if books.rounds.get() > 100
            && let Err(error) = life::drop_chunk(books, disks, small(below(CHUNKS))).await
            && !is_explained(&error)
        {
            books.broke(format!("after the storm a chunk can't be dropped: {error}"));
        }
        return false;
    }
    if let Err(error) = check(books, disks).await {
        books.broke(format!("after the storm: {error}"));
    }
    books.checked.set(books.checked.get() + 1);
    false
}

/// All is quiet: everything is exactly as it should be.
async fn check(books: &Rc<Books>, disks: &Disks) -> Result<(), DisksError> {
    let ranked = disks.map().ranked();
    for at in 0..small(CHUNKS) {
        books.chunks.doing(format!("checking chunk {at}"));
        let chunk = books.chunks.chunk(at);
        if chunk.known == Known::Either {
            let known = if disks.has(&chunk.id).await? { Known::Here } else { Known::Gone };
            books.chunks.change(at, |chunk| chunk.known = known);
        }
        life::check_get(books, disks, at).await?;
    }
    books.chunks.doing("checking listings and digests");
    for (number, lane) in disks.own_lanes() {
        check_home(books, number, &lane, |id| ranked.home(&id.0))?;
    }
    life::check_list(books, disks).await?;
    let digests = disks.digests().await?;
    for partition in 0..PARTITIONS {
        life::check_digest(books, disks, PartitionId(partition)).await?;
        if digests[partition as usize] != disks.digest(PartitionId(partition)).await? {
            books.broke(format!("partition {partition} has two digests"));
        }
    }
    Ok(())
}

fn check_home(
    books: &Books,
    number: u32,
    lane: &Lane,
    home: impl Fn(&ChunkId) -> Option<u32>,
) -> Result<(), DisksError> {
    for partition in (0..PARTITIONS).map(PartitionId) {
        for (id, _) in lane.list(partition, None, usize::MAX)? {
            if home(&id) != Some(number) {
                books.broke(format!("the map is settled, and {id:?} lies in lane {number}, not in {:?}", home(&id)));
            }
        }
    }
    Ok(())
}
