//! Slots leave a disk that is emptied: while they serve, while nobody does, and after a crash at each step.

use std::sync::{Arc, Mutex};

use cairn_daemon::cluster::papers::{self, Own};
use cairn_daemon::cluster::{CONTROL, Cluster, Relocated, relocate_stopped};
use cairn_daemon::disks::map::DiskState;
use cairn_daemon::disks::{Disks, Uid};
use cairn_io::time::{Duration, sleep};
use cairn_meta::index::Store;
use cairn_meta::slot::command::Body;
use cairn_meta::version::Payload;

use crate::alone::{await_bucket, content, keys, make_bucket, names, read, write};
use crate::place::{Place, SLOTS};

/// The disk that has control, so that there is something to move off it.
async fn disk_of_control(disks: &Disks) -> Uid {
    let own = papers::read_own(&data(disks).await).await.expect("read").expect("there");
    disks.map().lane(own.places[&CONTROL].lane).expect("it is in the map").disk
}

/// The paths of the disks that are there.
async fn data(disks: &Disks) -> Vec<String> {
    disks.status().await.expect("asked").disks.into_iter().filter_map(|it| it.path).collect()
}

async fn path_of(disks: &Disks, disk: Uid) -> String {
    let status = disks.status().await.expect("asked");
    status.disks.into_iter().find(|it| it.entry.id == disk).and_then(|it| it.path).expect("it is there")
}

/// The slots in the lanes of a disk.
async fn slots_on(disks: &Disks, disk: Uid) -> Vec<(u32, u32)> {
    let (slots, map) = (disks.slots().await.expect("read"), disks.map());
    let of_disk = slots.into_iter().filter(|(lane, _)| map.lane(*lane).is_some_and(|lane| lane.disk == disk));
    of_disk.flat_map(|(lane, slots)| slots.into_iter().map(move |slot| (slot, lane))).collect()
}

/// Goes through the lanes of this core until the disk has left.
async fn until_gone(disks: &Disks, disk: Uid) {
    while disks.map().disk(disk).is_some() {
        for (lane, _) in disks.own_lanes() {
            disks.pass(lane).await.expect("passed");
        }
        sleep(Duration::from_millis(2)).await;
    }
}

async fn fill(cluster: &Cluster) {
    let bucket = make_bucket(cluster, "photos").await;
    for name in names(40) {
        write(cluster, &bucket, &name, Body::Object(content(&name))).await;
    }
    write(cluster, &bucket, "key-007", Body::Deletion).await;
}

async fn check(cluster: &Cluster) {
    // A group that was started just now is led in a moment.
    while cluster.groups().await.leaderless > 0 {
        sleep(Duration::from_millis(2)).await;
    }
    let groups = cluster.groups().await;
    assert_eq!((groups.led, groups.moving, groups.stopped), (u64::from(SLOTS) + 1, 0, vec![]));
    let bucket = cluster.map().bucket("photos").expect("it is still there").clone();
    let mut expected = names(40);
    expected.remove(7);
    let found = keys(cluster, &bucket, 7).await;
    assert_eq!(found.into_iter().filter(|key| key.starts_with("key-")).collect::<Vec<_>>(), expected);
    for name in expected {
        assert_eq!(read(cluster, &bucket, &name).await, Some(Payload::Inline(name.into_bytes())));
    }
    assert_eq!(read(cluster, &bucket, "key-007").await, None);
}

/// A new cluster with something in it, on two disks, and the path of the one that has control.
fn filled() -> (Place, String) {
    let place = Place::with_disks(2);
    let path = Arc::new(Mutex::new(String::new()));
    let found = path.clone();
    place.run(move |cluster| {
        let found = found.clone();
        async move {
            fill(&cluster).await;
            let disk = disk_of_control(cluster.disks()).await;
            *found.lock().expect("whole") = path_of(cluster.disks(), disk).await;
        }
    });
    let path = path.lock().expect("whole").clone();
    (place, path)
}

fn hide(path: &str) -> String {
    let hidden = format!("{path}.away");
    std::fs::rename(path, &hidden).expect("renamed");
    hidden
}

#[test]
fn slots_leave_an_evacuated_disk_while_they_serve() {
    let (place, path) = filled();
    place.run_on(2, |cluster, core| async move {
        let disks = cluster.disks().clone();
        if core.index() > 0 {
            let bucket = await_bucket(&cluster, "photos").await;
            let mut late = 0;
            while disks.map().disks.len() > 1 {
                let name = format!("late-{late}");
                write(&cluster, &bucket, &name, Body::Object(content(&name))).await;
                assert_eq!(read(&cluster, &bucket, &name).await, Some(Payload::Inline(name.into_bytes())));
                late += 1;
                for (lane, _) in disks.own_lanes() {
                    disks.pass(lane).await.expect("passed");
                }
            }
            let shown = keys(&cluster, &bucket, 100).await.into_iter().filter(|key| key.starts_with("late-"));
            assert_eq!(shown.count(), late);
            return;
        }
        let disk = disk_of_control(&disks).await;
        let count = slots_on(&disks, disk).await.len() as u64;
        let leaving = disks.map().with_state(disk, DiskState::Leaving);
        let plan = disks.plan(&leaving).await.expect("planned");
        assert_eq!((plan.slots, plan.obstacles), (count, vec![]));
        disks.evacuate(disk).await.expect("begun");
        let status = disks.status().await.expect("asked");
        assert_eq!(status.disks.iter().map(|disk| disk.slots_to_move).sum::<u64>(), count);
        for (lane, _) in disks.own_lanes() {
            disks.pass(lane).await.expect("passed");
        }
        assert_eq!(disks.map().disks.len(), 2, "its slots keep it");
        let relocated = cluster.relocate().await.expect("moved");
        assert_eq!((relocated.moved, relocated.left.len(), relocated.erased), (count, 0, count));
        assert_eq!(slots_on(&disks, disk).await, []);
        until_gone(&disks, disk).await;
        check(&cluster).await;
        assert_eq!(cluster.relocate().await, Ok(Relocated::default()), "nothing is left to do");
    });
    place.run(|cluster| async move { check(&cluster).await });
    hide(&path);
    place.run(|cluster| async move { check(&cluster).await });
}

#[test]
fn slots_leave_a_disk_of_a_node_that_is_stopped() {
    let (place, path) = filled();
    place.run_disks(|disks| async move {
        let disk = disk_of_control(&disks).await;
        let count = slots_on(&disks, disk).await.len() as u64;
        assert_eq!(relocate_stopped(&disks).await, Ok(Relocated::default()), "none has to");
        disks.evacuate(disk).await.expect("begun");
        let relocated = relocate_stopped(&disks).await.expect("moved");
        assert_eq!((relocated.moved, relocated.left.len(), relocated.erased), (count, 0, count));
        until_gone(&disks, disk).await;
    });
    hide(&path);
    place.run(|cluster| async move { check(&cluster).await });
}

/// Copies all slots of the disk with control to the lanes they belong to, as if it left, and returns where they are then.
async fn copy_all(disks: &Disks) -> (Own, String) {
    let disk = disk_of_control(disks).await;
    let path = path_of(disks, disk).await;
    let mut own = papers::read_own(&data(disks).await).await.expect("read").expect("there");
    let to = disks.map().lanes.iter().find(|lane| lane.disk != disk).expect("of the other disk").number;
    for (slot, from) in slots_on(disks, disk).await {
        disks.carry_slot(slot, from, to).await.expect("copied");
        own.places.entry(slot).and_modify(|spot| *spot = spot.moved(to));
    }
    (own, path)
}

#[test]
fn a_copy_that_nobody_spoke_of_does_not_count() {
    let (place, path) = filled();
    for _ in 0..2 {
        place.run_disks(|disks| async move { drop(copy_all(&disks).await) });
        place.run(|cluster| async move {
            let bucket = cluster.map().bucket("photos").expect("it is still there").clone();
            check(&cluster).await;
            for name in names(20) {
                // What the copy has is old now, and more than it should be.
                write(&cluster, &bucket, &format!("tmp-{name}"), Body::Object(content("x"))).await;
                write(&cluster, &bucket, &format!("tmp-{name}"), Body::Deletion).await;
            }
        });
    }
    place.run(|cluster| async move {
        let disk = disk_of_control(cluster.disks()).await;
        cluster.disks().evacuate(disk).await.expect("begun");
        assert!(cluster.relocate().await.expect("moved").moved > 0);
        until_gone(cluster.disks(), disk).await;
        check(&cluster).await;
    });
    hide(&path);
    place.run(|cluster| async move {
        check(&cluster).await;
        let bucket = cluster.map().bucket("photos").expect("it is still there").clone();
        assert_eq!(keys(&cluster, &bucket, 100).await.len(), 39, "what was deleted stays so");
    });
}

#[test]
fn the_disk_that_a_slot_leaves_says_where_it_is() {
    let (place, path) = filled();
    place.run_disks(|disks| async move {
        let (own, path) = copy_all(&disks).await;
        // The node died before the other disk was told.
        papers::write_own(std::slice::from_ref(&path), &own).await.expect("written");
        let mut data = data(&disks).await;
        for _ in 0..2 {
            assert_eq!(papers::read_own(&data).await, Ok(Some(own.clone())), "whichever is read first");
            data.reverse();
        }
    });
    let hidden = hide(&path);
    let opened = place.try_run(|_| async {});
    assert!(opened.is_err_and(|why| why.contains("missing")), "the other disk knows of no copy");
    std::fs::rename(&hidden, &path).expect("renamed");
    // Here it is the only one, and what it has doesn't count any more.
    let other = place.data().into_iter().find(|other| *other != path).expect("two disks");
    let hidden = hide(&other);
    let opened = place.try_run(|_| async {});
    assert!(opened.is_err_and(|why| why.contains("missing")), "its copy was left");
    std::fs::rename(&hidden, &other).expect("renamed");
    place.run(|cluster| async move {
        check(&cluster).await;
        assert!(cluster.relocate().await.expect("looked").erased > 0, "what was left behind");
        check(&cluster).await;
    });
    hide(&path);
    let opened = place.try_run(|cluster| async move { check(&cluster).await });
    assert_eq!(opened, Ok(()), "every disk was told");
}

#[test]
fn a_slot_never_wakes_where_it_was() {
    let (place, path) = filled();
    let old = path.clone();
    place.run_disks(move |disks| {
        let old = old.clone();
        async move {
            let data = data(&disks).await;
            let before = papers::read_own(&data).await.expect("read").expect("there");
            let disk = disk_of_control(&disks).await;
            assert_eq!(path_of(&disks, disk).await, old);
            disks.evacuate(disk).await.expect("begun");
            relocate_stopped(&disks).await.expect("moved");
            disks.keep(disk).await.expect("kept");
            // Somebody's mistake: papers from a backup, say.
            let mut own = papers::read_own(&data).await.expect("read").expect("there");
            let first = before.places[&CONTROL].lane;
            own.places.entry(CONTROL).and_modify(|spot| *spot = spot.moved(first));
            papers::write_own(&data, &own).await.expect("written");
        }
    });
    let opened = place.try_run(|_| async {});
    assert!(opened.as_ref().is_err_and(|why| why.contains("was moved to another lane")), "{opened:?}");
}

#[test]
fn slots_that_come_back_to_a_disk_have_nothing_of_their_first_time_there() {
    let (place, _) = filled();
    // Off each disk in turn, which is then kept: some slots come back to where they were.
    for round in 0..4 {
        place.run(move |cluster| async move {
            let (disks, bucket) = (cluster.disks().clone(), cluster.map().bucket("photos").expect("there").clone());
            let disk = disk_of_control(&disks).await;
            disks.evacuate(disk).await.expect("begun");
            assert!(cluster.relocate().await.expect("moved").moved > 0);
            disks.keep(disk).await.expect("kept");
            for name in names(40) {
                let body = if round % 2 == 0 { Body::Object(content("x")) } else { Body::Deletion };
                write(&cluster, &bucket, &format!("tmp-{name}"), body).await;
            }
            for (_, lane) in disks.own_lanes() {
                for slot in (0..SLOTS).chain([CONTROL]) {
                    lane.merge_slot(slot).await.expect("merged");
                }
            }
            check(&cluster).await;
        });
        // Also when all that is left is the logs.
        place.run_disks(|disks| async move {
            let status = disks.status().await.expect("asked");
            let path = |disk: Uid| status.disks.iter().find(|it| it.entry.id == disk).and_then(|it| it.path.clone());
            let lanes: Vec<String> = status
                .lanes
                .iter()
                .filter_map(|lane| {
                    Some(format!("{}/{}", path(lane.entry.disk)?, cairn_daemon::disks::lane_name(lane.entry.number)))
                })
                .collect();
            disks.close().await.expect("closed");
            for lane in lanes {
                Store::lmdb(&lane).clear().expect("no index is open");
            }
        });
        place.run(move |cluster| async move {
            check(&cluster).await;
            let bucket = cluster.map().bucket("photos").expect("it is still there").clone();
            let count = keys(&cluster, &bucket, 100).await.len();
            assert_eq!(count, if round % 2 == 0 { 79 } else { 39 }, "round {round}");
        });
    }
}
