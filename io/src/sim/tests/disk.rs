//! What a power cut leaves: synced things always, other things by chance.

use std::io;

use super::{finish, one_node, power_cut};
use crate::block;
use crate::fs::{Dir, File, Mode};
use crate::sim::{Fault, NodeId, World};
use crate::time::Duration;

const PAGE: usize = 4096;
const SECTOR: usize = 512;

pub(super) async fn open(name: &str, mode: Mode) -> io::Result<(Dir, File)> {
    let dir = Dir::create("/disk0/test").await?;
    let file = dir.open_file(name, mode).await?;
    Ok((dir, file))
}

/// A file whose name is durable.
pub(super) async fn create(name: &str) -> io::Result<File> {
    let (dir, file) = open(name, Mode::CreateNew).await?;
    dir.sync().await?;
    Ok(file)
}

pub(super) async fn fill(file: &File, page: u64, pages: usize, with: u8) -> io::Result<()> {
    let mut data = block::alloc(pages * PAGE).await?;
    data.fill(with);
    file.write_at(data.freeze(), page * PAGE as u64).await
}

pub(super) fn content(world: &World, name: &str) -> Option<Vec<u8>> {
    world.read_file(NodeId(0), &format!("/disk0/test/{name}"))
}

#[expect(clippy::naive_bytecount, reason = "a crate for it would be too much")]
fn count(bytes: &[u8], wanted: u8) -> usize {
    bytes.iter().filter(|byte| **byte == wanted).count()
}

#[test]
fn every_unsynced_sector_is_kept_lost_or_torn() {
    let (mut kept, mut lost, mut torn) = (0, 0, 0);
    for seed in 0..300 {
        let mut world = one_node(seed);
        finish(&mut world, 0, async {
            let file = create("a").await?;
            fill(&file, 0, 8, 1).await?;
            file.sync_data().await?;
            fill(&file, 0, 8, 2).await
        })
        .unwrap();
        power_cut(&mut world, 0);
        let bytes = content(&world, "a").expect("its name was synced");
        assert_eq!(bytes.len(), 8 * PAGE, "its length was synced");
        for sector in bytes.chunks(SECTOR) {
            let new = count(sector, 2);
            let old = count(sector, 1);
            assert_eq!(new + old, SECTOR, "seed {seed}: neither the old nor the new");
            match (new, old) {
                (_, 0) => kept += 1,
                (0, _) => lost += 1,
                _ => torn += 1,
            }
        }
    }
    assert!(kept > 1000 && lost > 1000 && torn > 10, "kept {kept}, lost {lost}, torn {torn}");
}

#[test]
fn synced_data_survives_every_power_cut() {
    for seed in 0..200 {
        let mut world = one_node(seed);
        finish(&mut world, 0, async {
            let file = create("a").await?;
            fill(&file, 0, 4, 1).await?;
            fill(&file, 0, 4, 2).await?;
            fill(&file, 9, 1, 3).await?;
            file.sync_data().await?;
            // Unsynced changes elsewhere must not harm it.
            fill(&file, 5, 2, 4).await?;
            file.allocate(0, 40 * PAGE as u64).await
        })
        .unwrap();
        power_cut(&mut world, 0);
        let bytes = content(&world, "a").expect("its name was synced");
        assert!(bytes.len() >= 10 * PAGE, "seed {seed}: {} bytes", bytes.len());
        assert!(bytes[..4 * PAGE].iter().all(|byte| *byte == 2), "seed {seed}");
        assert!(bytes[9 * PAGE..10 * PAGE].iter().all(|byte| *byte == 3), "seed {seed}");
    }
}

#[test]
fn a_write_begun_after_a_sync_is_not_covered_by_it() {
    let mut lost = 0;
    for seed in 0..100 {
        let mut world = one_node(seed);
        finish(&mut world, 0, async {
            let file = create("a").await?;
            fill(&file, 0, 1, 1).await?;
            let (synced, written) = futures_util::future::join(file.sync_data(), fill(&file, 0, 1, 2)).await;
            synced.and(written)
        })
        .unwrap();
        power_cut(&mut world, 0);
        let bytes = content(&world, "a").expect("its name was synced");
        assert!(bytes.len() == PAGE && bytes.iter().all(|byte| *byte == 1 || *byte == 2), "seed {seed}");
        lost += usize::from(bytes[0] == 1);
    }
    assert!((10..90).contains(&lost), "lost {lost} of 100");
}

#[test]
fn lengths_are_unsynced_too() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let mut world = one_node(seed);
        finish(&mut world, 0, async {
            let file = create("a").await?;
            fill(&file, 0, 2, 1).await?;
            file.sync_data().await?;
            fill(&file, 2, 2, 2).await?;
            file.set_len(PAGE as u64 / 2).await
        })
        .unwrap();
        assert_eq!(content(&world, "a").map(|bytes| bytes.len()), Some(PAGE / 2));
        power_cut(&mut world, 0);
        seen.insert(content(&world, "a").expect("its name was synced").len());
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [PAGE / 2, 2 * PAGE, 4 * PAGE]);
}

#[test]
fn names_are_durable_after_the_directory_is_synced() {
    let (mut created, mut removed, mut renamed) = (0, 0, 0);
    for seed in 0..200 {
        let mut world = one_node(seed);
        finish(&mut world, 0, async {
            for (name, with) in [("old", 1), ("target", 2), ("source", 3)] {
                let file = create(name).await?;
                fill(&file, 0, 1, with).await?;
                file.sync_data().await?;
            }
            let (dir, _) = open("new", Mode::CreateNew).await?;
            dir.remove("old").await?;
            dir.rename("source", "target").await
        })
        .unwrap();
        power_cut(&mut world, 0);
        created += usize::from(content(&world, "new").is_some());
        removed += usize::from(content(&world, "old").is_none());
        let target = content(&world, "target").expect("a rename is never half done")[0];
        let source = content(&world, "source").map(|bytes| bytes[0]);
        assert!(matches!((source, target), (Some(3), 2) | (None, 3)), "seed {seed}: {source:?} {target}");
        renamed += usize::from(target == 3);
    }
    for (what, count) in [("created", created), ("removed", removed), ("renamed", renamed)] {
        assert!((20..180).contains(&count), "{what}: {count} of 200");
    }
}

#[test]
fn a_killed_process_loses_nothing_that_was_written() {
    for seed in 0..50 {
        let mut world = one_node(seed);
        finish(&mut world, 0, async {
            let (_, file) = open("a", Mode::CreateNew).await?;
            fill(&file, 0, 3, 1).await
        })
        .unwrap();
        world.inject(&Fault::Kill { node: NodeId(0), lasting: Duration::from_millis(1) });
        world.run_for(Duration::from_millis(5));
        assert_eq!(content(&world, "a"), Some(vec![1; 3 * PAGE]), "seed {seed}");
    }
}

#[test]
fn a_write_in_flight_at_a_power_cut_may_be_there_in_part() {
    let (mut none, mut all, mut some) = (0, 0, 0);
    for seed in 0..300 {
        let mut world = one_node(seed);
        finish(&mut world, 0, async {
            let file = create("a").await?;
            fill(&file, 0, 4, 1).await?;
            file.sync_data().await
        })
        .unwrap();
        let _running = super::begin(&mut world, 0, async {
            let (_, file) = open("a", Mode::Write).await?;
            fill(&file, 0, 4, 2).await
        });
        // Somewhere between opening and the end of the write.
        world.run_for(Duration::from_micros(40 + seed % 60));
        power_cut(&mut world, 0);
        let bytes = content(&world, "a").expect("its name was synced");
        match count(&bytes, 2) {
            0 => none += 1,
            len if len == bytes.len() => all += 1,
            _ => some += 1,
        }
    }
    assert!(none > 20 && all > 5 && some > 20, "none {none}, all {all}, some {some}");
}

#[test]
fn writes_that_overlap_in_flight_mix_by_sectors() {
    let mut mixed = 0;
    for seed in 0..50 {
        let mut world = one_node(seed);
        finish(&mut world, 0, async {
            let file = create("a").await?;
            let (left, right) = futures_util::future::join(fill(&file, 0, 2, 1), fill(&file, 1, 2, 2)).await;
            left.and(right)
        })
        .unwrap();
        let bytes = content(&world, "a").expect("it is there");
        assert!(bytes[..PAGE].iter().all(|byte| *byte == 1) && bytes[2 * PAGE..].iter().all(|byte| *byte == 2));
        let firsts: Vec<u8> = bytes[PAGE..2 * PAGE].chunks(SECTOR).map(|sector| sector[0]).collect();
        mixed += usize::from(firsts.contains(&1) && firsts.contains(&2));
    }
    assert!(mixed > 25, "mixed in {mixed} of 50");
}

#[test]
fn holes_and_reserved_room_read_as_zeros() {
    let mut world = one_node(1);
    let bytes = finish(&mut world, 0, async {
        let file = create("a").await?;
        fill(&file, 0, 4, 7).await?;
        file.punch(PAGE as u64, PAGE as u64).await?;
        file.allocate(4 * PAGE as u64, PAGE as u64).await?;
        assert_eq!(file.len().await?, 5 * PAGE as u64);
        file.set_len(3 * PAGE as u64 + 100).await?;
        file.set_len(4 * PAGE as u64).await?;
        file.read_at(0, 16 * PAGE).await
    })
    .unwrap();
    let mut expected = vec![7; 4 * PAGE];
    expected[PAGE..2 * PAGE].fill(0);
    expected[3 * PAGE + 100..].fill(0);
    assert_eq!(*bytes, *expected);
}

#[test]
fn room_runs_out_and_comes_back() {
    let mut config = crate::sim::NodeConfig::default();
    config.disks[0].size = 16 * PAGE as u64;
    for seed in 0..20 {
        let mut world = super::world_of(seed, 1, &config);
        finish(&mut world, 0, async {
            let (dir, file) = open("a", Mode::CreateNew).await?;
            fill(&file, 0, 10, 1).await?;
            let full = fill(&file, 10, 7, 2).await.unwrap_err();
            assert_eq!(full.kind(), io::ErrorKind::StorageFull);
            // What has room already is still written.
            fill(&file, 0, 10, 3).await?;
            drop(file);
            dir.remove("a").await?;
            dir.sync().await?;
            assert_eq!(dir.space().await?, crate::fs::Space { total: 16 * 4096, free: 16 * 4096 });
            let (_, file) = open("b", Mode::CreateNew).await?;
            fill(&file, 0, 16, 1).await
        })
        .unwrap();
    }
}
