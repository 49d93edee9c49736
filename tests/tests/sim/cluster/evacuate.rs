//! Who empties a disk of a node that has two, changes their mind now and then, and sees in the end that it is gone.

use cairn_daemon::cluster::Cluster;
use cairn_daemon::disks::map::DiskState;
use cairn_daemon::disks::{Disks, DisksError};
use cairn_io::time::sleep;

use super::{Books, Rc, below, millis, small};

/// On core 0 of a node: has disks emptied, and moves the slots off them.
pub async fn run(books: Rc<Books>, cluster: Cluster) {
    if books.disks < 2 {
        return;
    }
    let disks = cluster.disks().clone();
    sleep(millis(below(800))).await;
    while disks.map().disks.len() > 1 {
        change(&books, &disks).await;
        for _ in 0..=below(3) {
            // What fails shows as a group that has stopped, or is tried again.
            let relocated = cluster.relocate().await;
            books.moved.set(books.moved.get() + relocated.map_or(0, |relocated| relocated.moved));
            sleep(millis(below(60))).await;
        }
    }
    let _ = cluster.relocate().await;
}

/// Has a disk emptied, or takes it back while the storm lasts.
async fn change(books: &Books, disks: &Disks) {
    let map = disks.map();
    let leaving = map.disks.iter().find(|disk| disk.state == DiskState::Leaving);
    let changed: Result<(), DisksError> = match leaving {
        Some(disk) if !books.is_storm_over.get() && below(2) == 0 => disks.keep(disk.id).await,
        Some(_) => Ok(()),
        None => disks.evacuate(map.disks[small(below(map.disks.len() as u64))].id).await,
    };
    // A disk that doesn't take the map has its lanes poisoned.
    let _ = changed;
}

/// On each core: goes through its lanes for as long as there is a reason to, and now and then only while the storm lasts: so disks
/// are taken back and slots go to and fro.
pub async fn settle(books: Rc<Books>, disks: Disks) {
    loop {
        sleep(millis(20 + below(80))).await;
        if disks.is_settled() || !books.is_storm_over.get() && below(20) > 0 {
            continue;
        }
        for (lane, _) in disks.own_lanes() {
            let _ = disks.pass(lane).await;
        }
    }
}

/// Whether each node has one disk now, with nothing on it that belongs elsewhere.
pub fn check(books: &Books) -> Result<(), String> {
    for (node, open) in books.open.iter().enumerate() {
        let cluster = open.borrow().clone().ok_or_else(|| format!("node {node} isn't open"))?;
        let map = cluster.disks().map();
        if map.disks.len() != 1 {
            return Err(format!("node {node} still has {} disks: {map:?}", map.disks.len()));
        }
    }
    Ok(())
}
