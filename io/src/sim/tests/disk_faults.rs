//! Disks that fail, lie and forget.

use std::io;

use super::disk::{content, create, fill, open};
use super::{finish, millis, one_node, power_cut};
use crate::fs::{Dir, Mode};
use crate::sim::{Fault, NodeId, World};

const NODE: NodeId = NodeId(0);
const PAGE: usize = 4096;

fn with_file(seed: u64) -> World {
    let mut world = one_node(seed);
    finish(&mut world, 0, async {
        let file = create("a").await?;
        fill(&file, 0, 8, 1).await?;
        file.sync_data().await
    })
    .unwrap();
    world
}

fn is_eio(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EIO)
}

#[test]
fn the_next_operations_fail_and_then_no_more() {
    let mut world = with_file(1);
    world.inject(&Fault::ReadErrors { node: NODE, disk: 0, count: 1 });
    world.inject(&Fault::WriteErrors { node: NODE, disk: 0, count: 1 });
    world.inject(&Fault::SyncErrors { node: NODE, disk: 0, count: 1 });
    finish(&mut world, 0, async {
        let (_, file) = open("a", Mode::Write).await?;
        assert!(is_eio(&file.read_at(0, PAGE).await.unwrap_err()));
        assert!(is_eio(&fill(&file, 0, 1, 2).await.unwrap_err()));
        assert!(is_eio(&file.sync_data().await.unwrap_err()));
        file.read_at(0, PAGE).await?;
        fill(&file, 0, 1, 2).await?;
        file.sync_data().await
    })
    .unwrap();
}

/// PostgreSQL, 2018: a failed fsync was tried again, and the success believed.
#[test]
fn a_sync_that_succeeds_after_one_that_failed_proves_nothing() {
    let mut lost = 0;
    for seed in 0..100 {
        let mut world = with_file(seed);
        world.inject(&Fault::SyncErrors { node: NODE, disk: 0, count: 1 });
        finish(&mut world, 0, async {
            let (_, file) = open("a", Mode::Write).await?;
            fill(&file, 0, 8, 2).await?;
            file.sync_data().await.unwrap_err();
            file.sync_data().await
        })
        .unwrap();
        power_cut(&mut world, 0);
        lost += usize::from(content(&world, "a").expect("it is there").contains(&1));
    }
    assert!(lost > 50, "lost in {lost} of 100");
}

#[test]
fn rot_flips_as_many_bits_as_it_says() {
    for seed in 0..20 {
        let mut world = with_file(seed);
        world.inject(&Fault::BitRot { node: NODE, disk: 0, pages: 1 });
        let flipped: u32 = content(&world, "a").unwrap().iter().map(|byte| (byte ^ 1).count_ones()).sum();
        assert_eq!(flipped, 1);
        power_cut(&mut world, 0);
        let flipped: u32 = content(&world, "a").unwrap().iter().map(|byte| (byte ^ 1).count_ones()).sum();
        assert_eq!(flipped, 1, "it rotted on the medium");
    }
}

#[test]
fn lost_and_misdirected_writes_are_acknowledged() {
    let mut hit = 0;
    for seed in 0..20 {
        let mut world = with_file(seed);
        world.inject(&Fault::LoseWrites { node: NODE, disk: 0, count: 1 });
        world.inject(&Fault::MisdirectWrites { node: NODE, disk: 0, count: 1 });
        finish(&mut world, 0, async {
            let (_, file) = open("a", Mode::Write).await?;
            fill(&file, 0, 1, 2).await?;
            fill(&file, 1, 1, 3).await?;
            file.sync_data().await
        })
        .unwrap();
        let bytes = content(&world, "a").unwrap();
        assert!(!bytes.contains(&2), "the first is nowhere");
        hit += usize::from(bytes[PAGE] != 3 && bytes.contains(&3));
    }
    assert!(hit > 10, "landed elsewhere in {hit} of 20");
}

#[test]
fn a_full_or_read_only_disk_refuses_until_it_is_over() {
    let mut world = with_file(1);
    let fault = |text: &str| text.parse::<Fault>().unwrap();
    world.inject(&fault("disk-full node=n0 disk=0 lasting=1s"));
    finish(&mut world, 0, async {
        let (dir, file) = open("a", Mode::Write).await?;
        assert_eq!(fill(&file, 20, 1, 2).await.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(dir.space().await?.free, 0);
        fill(&file, 0, 1, 2).await
    })
    .unwrap();
    world.run_for(super::SECOND);
    world.inject(&fault("read-only node=n0 disk=0 lasting=1s"));
    finish(&mut world, 0, async {
        let (dir, file) = open("a", Mode::Read).await?;
        file.read_at(0, PAGE).await?;
        assert_eq!(dir.remove("a").await.unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
        assert_eq!(open("a", Mode::Write).await.unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
        crate::time::sleep(super::SECOND).await;
        let (_, file) = open("a", Mode::Write).await?;
        fill(&file, 20, 1, 2).await
    })
    .unwrap();
}

#[test]
fn a_lost_disk_comes_back_empty() {
    let mut world = with_file(1);
    let outcome = super::begin(&mut world, 0, async {
        let (_, file) = open("a", Mode::Write).await?;
        crate::time::sleep(millis(500)).await;
        assert!(is_eio(&file.read_at(0, PAGE).await.unwrap_err()), "while it is gone");
        crate::time::sleep(super::SECOND).await;
        assert!(is_eio(&file.read_at(0, PAGE).await.unwrap_err()), "the file was on the old one");
        Dir::create("/disk0/test").await?.list().await
    });
    world.run_for(millis(100));
    world.inject(&Fault::LoseDisk { node: NODE, disk: 0, lasting: super::SECOND });
    world.run_for(super::SECOND * 3);
    assert_eq!(outcome.take().expect("it has ended").unwrap(), Vec::<String>::new());
}

#[test]
fn a_slow_disk_is_slow() {
    let mut world = with_file(1);
    world.inject(&Fault::SlowDisk { node: NODE, disk: 0, extra: millis(70), lasting: super::SECOND });
    let before = world.now();
    finish(&mut world, 0, async { open("a", Mode::Read).await }).unwrap();
    assert!(world.now() - before > millis(140), "two operations");
}
