//! Files and directories.

use std::io::ErrorKind;

use cairn_io::fs::{Dir, File, Mode};
use cairn_io::task::{Class, spawn, yield_now};
use cairn_io::time::{Duration, timeout};
use cairn_io::{Block, block};
use futures_util::future::{join_all, poll_immediate};

use crate::harness::{Place, Program, alone, on_each_driver};

on_each_driver! {
    what_is_written_is_read: 1,
    reads_need_not_be_aligned: 1,
    reads_stop_at_the_end_of_the_file: 1,
    blocks_are_written_one_after_the_other: 1,
    a_durable_write_that_fails_says_so: 1,
    unaligned_writes_are_refused: 1,
    large_transfers_arrive_whole: 1,
    more_operations_than_the_ring_holds_wait: 1,
    a_dropped_operation_harms_nobody: 1,
    punched_and_allocated_ranges_read_as_zeros: 1,
    a_file_can_be_cut_and_extended: 1,
    modes_mean_what_they_say: 1,
    a_rename_replaces: 1,
    removed_names_are_gone: 1,
    names_are_one_component: 1,
    directories_are_made_with_their_parents: 1,
    space_is_known: 1,
}

const KIB: usize = 1024;

async fn pattern(len: usize, seed: u8) -> Block {
    let mut block = block::alloc(len).await.expect("there is room");
    for (at, byte) in block.iter_mut().enumerate() {
        *byte = (at / 512) as u8 ^ at as u8 ^ seed;
    }
    block.freeze()
}

async fn new_file(place: &Place) -> File {
    let dir = Dir::open(&place.dir).await.expect("it is there");
    dir.open_file("data", Mode::CreateNew).await.expect("it is new")
}

fn what_is_written_is_read() -> Program {
    alone(|place| async move {
        let file = new_file(&place).await;
        assert!(file.align().is_power_of_two() && file.align() <= block::ALIGN);
        let data = pattern(64 * KIB, 1).await;
        file.write_at(data.clone(), 4096).await.expect("written");
        file.sync_data().await.expect("synced");
        assert_eq!(file.len().await.expect("known"), 68 * KIB as u64);
        let back = file.read_at(4096, 64 * KIB).await.expect("read");
        assert!(back[..] == data[..]);
        assert!(file.read_at(0, 4096).await.expect("read").iter().all(|&byte| byte == 0));
        // From a slice in the middle of a block, over part of what is there.
        file.write_at(data.slice(8192..16384), 4096).await.expect("written");
        let back = file.read_at(4096, 8192).await.expect("read");
        assert!(back[..] == data[8192..16384]);
    })
}

fn reads_need_not_be_aligned() -> Program {
    alone(|place| async move {
        let file = new_file(&place).await;
        let data = pattern(32 * KIB, 2).await;
        file.write_at(data.clone(), 0).await.expect("written");
        for (offset, len) in [(0, 1), (1, 4096), (4095, 2), (5000, 20_000), (32 * KIB - 1, 1)] {
            let back = file.read_at(offset as u64, len).await.expect("read");
            assert!(back[..] == data[offset..offset + len], "{len} bytes at {offset}");
        }
    })
}

fn reads_stop_at_the_end_of_the_file() -> Program {
    alone(|place| async move {
        let file = new_file(&place).await;
        assert!(file.is_empty().await.expect("known"));
        assert!(file.read_at(0, 4096).await.expect("read").is_empty());
        file.write_at(pattern(8 * KIB, 3).await, 0).await.expect("written");
        assert_eq!(file.read_at(4096, 64 * KIB).await.expect("read").len(), 4096);
        assert!(file.read_at(1 << 30, 4096).await.expect("read").is_empty());
        file.set_len(5000).await.expect("cut");
        assert_eq!(file.read_at(0, 64 * KIB).await.expect("read").len(), 5000);
        assert_eq!(file.read_at(4990, 100).await.expect("read").len(), 10);
    })
}

fn blocks_are_written_one_after_the_other() -> Program {
    alone(|place| async move {
        let file = new_file(&place).await;
        let blocks = join_all((0..1500).map(|n| pattern(4096, n as u8))).await;
        file.write_vectored_at(blocks.clone(), 0).await.expect("more blocks than one call takes");
        for (n, block) in blocks.iter().enumerate().step_by(97) {
            let back = file.read_at(n as u64 * 4096, 4096).await.expect("read");
            assert!(back[..] == block[..], "block {n}");
        }
        // Neighbours in memory, all in order, all the other way round, and with parts left out.
        let some: Vec<Block> = join_all((0..4).map(|n| pattern(8 * KIB, n + 9))).await;
        let backward: Vec<Block> = some.iter().rev().cloned().collect();
        let parts: Vec<Block> = some.iter().map(|block| block.slice(..4096)).collect();
        for blocks in [some, backward, parts] {
            file.write_vectored_at(blocks.clone(), 4096).await.expect("written");
            let written: Vec<u8> = blocks.iter().flat_map(|block| block.to_vec()).collect();
            assert!(file.read_at(4096, written.len()).await.expect("read")[..] == written[..]);
        }
        file.write_vectored_at(Vec::new(), 0).await.expect("nothing is easily written");
    })
}

fn a_durable_write_that_fails_says_so() -> Program {
    alone(|place| async move {
        new_file(&place).await.write_at(pattern(8 * KIB, 3).await, 0).await.expect("written");
        let dir = Dir::open(&place.dir).await.expect("it is there");
        let file = dir.open_file("data", Mode::Read).await.expect("it can be read");
        let blocks = vec![pattern(4096, 1).await, pattern(4096, 2).await];
        let written = timeout(Duration::from_secs(20), file.write_durably_at(blocks, 0)).await;
        written.expect("it ends").expect_err("it may only be read");
    })
}

fn unaligned_writes_are_refused() -> Program {
    alone(|place| async move {
        let file = new_file(&place).await;
        let data = pattern(8 * KIB, 4).await;
        let odd_len = file.write_at(data.slice(..100), 0).await;
        let odd_offset = file.write_at(data.clone(), 7).await;
        let odd_memory = file.write_at(data.slice(100..4196), 0).await;
        for refused in [odd_len, odd_offset, odd_memory] {
            assert_eq!(refused.expect_err("it is not aligned").kind(), ErrorKind::InvalidInput);
        }
        assert!(file.is_empty().await.expect("known"));
    })
}

fn large_transfers_arrive_whole() -> Program {
    alone(|place| async move {
        let file = new_file(&place).await;
        let data = pattern(16 << 20, 5).await;
        file.write_at(data.clone(), 0).await.expect("written");
        file.sync_data().await.expect("synced");
        assert!(file.read_at(0, 16 << 20).await.expect("read")[..] == data[..]);
    })
}

fn more_operations_than_the_ring_holds_wait() -> Program {
    alone(|place| async move {
        let file = new_file(&place).await;
        let tasks: Vec<_> = (0..1000u64)
            .map(|n| {
                let file = file.clone();
                spawn(Class::ALL[n as usize % 3], async move {
                    let data = pattern(4096, n as u8).await;
                    file.write_at(data.clone(), n * 4096).await.expect("written");
                    assert!(file.read_at(n * 4096, 4096).await.expect("read")[..] == data[..], "block {n}");
                })
            })
            .collect();
        // Some are dropped wherever they are.
        yield_now().await;
        for (n, task) in tasks.into_iter().enumerate() {
            if n % 10 == 3 {
                drop(task);
            } else {
                task.await.expect("no panic");
            }
        }
    })
}

fn a_dropped_operation_harms_nobody() -> Program {
    alone(|place| async move {
        let file = new_file(&place).await;
        file.write_at(pattern(1 << 20, 6).await, 0).await.expect("written");
        for _ in 0..50 {
            // Begun and dropped at once, if it isn't done yet: the kernel may still fill the memory, which nobody else
            // may get meanwhile.
            let _ = poll_immediate(Box::pin(file.read_at(0, 1 << 20))).await;
            yield_now().await;
            let mut fresh = block::alloc(1 << 20).await.expect("there is room");
            fresh.fill(0xAA);
            yield_now().await;
            assert!(fresh.iter().all(|&byte| byte == 0xAA));
        }
    })
}

fn punched_and_allocated_ranges_read_as_zeros() -> Program {
    alone(|place| async move {
        let file = new_file(&place).await;
        file.allocate(0, 1 << 20).await.expect("there is room");
        assert_eq!(file.len().await.expect("known"), 1 << 20);
        assert!(file.read_at(512 << 10, 4096).await.expect("read").iter().all(|&byte| byte == 0));
        let data = pattern(64 * KIB, 7).await;
        file.write_at(data.clone(), 0).await.expect("written");
        file.punch(16384, 8192).await.expect("punched");
        assert_eq!(file.len().await.expect("known"), 1 << 20);
        let back = file.read_at(0, 64 * KIB).await.expect("read");
        assert!(back[..16384] == data[..16384] && back[24576..] == data[24576..]);
        assert!(back[16384..24576].iter().all(|&byte| byte == 0));
    })
}

fn a_file_can_be_cut_and_extended() -> Program {
    alone(|place| async move {
        let file = new_file(&place).await;
        file.write_at(pattern(16 * KIB, 8).await, 0).await.expect("written");
        file.set_len(4096).await.expect("cut");
        file.set_len(8192).await.expect("extended");
        let back = file.read_at(0, 16 * KIB).await.expect("read");
        assert!(back.len() == 8192 && back[4096..].iter().all(|&byte| byte == 0));
    })
}

fn modes_mean_what_they_say() -> Program {
    alone(|place| async move {
        let dir = Dir::open(&place.dir).await.expect("it is there");
        for mode in [Mode::Read, Mode::Write] {
            let missing = dir.open_file("file", mode).await.expect_err("it isn't there");
            assert_eq!(missing.kind(), ErrorKind::NotFound);
            assert!(missing.to_string().contains("file"), "{missing}");
        }
        let file = dir.open_file("file", Mode::Create).await.expect("it is made");
        file.write_at(pattern(4096, 9).await, 0).await.expect("written");
        let taken = dir.open_file("file", Mode::CreateNew).await.expect_err("it exists");
        assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
        let again = dir.open_file("file", Mode::Create).await.expect("it exists");
        assert_eq!(again.len().await.expect("known"), 4096);
        let readable = dir.open_file("file", Mode::Read).await.expect("it exists");
        assert_eq!(readable.read_at(0, 4096).await.expect("read").len(), 4096);
        readable.write_at(pattern(4096, 9).await, 0).await.expect_err("it is open for reading");
        let missing = Dir::open(&format!("{}/nowhere", place.dir)).await.expect_err("it isn't there");
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    })
}

fn a_rename_replaces() -> Program {
    alone(|place| async move {
        let dir = Dir::open(&place.dir).await.expect("it is there");
        for (name, seed) in [("old", 1), ("new", 2)] {
            let file = dir.open_file(name, Mode::CreateNew).await.expect("it is new");
            file.write_at(pattern(4096, seed).await, 0).await.expect("written");
        }
        dir.rename("new", "old").await.expect("renamed");
        dir.sync().await.expect("synced");
        assert_eq!(dir.list().await.expect("listed"), ["old"]);
        let file = dir.open_file("old", Mode::Read).await.expect("it exists");
        assert!(file.read_at(0, 4096).await.expect("read")[..] == pattern(4096, 2).await[..]);
        let missing = dir.rename("new", "old").await.expect_err("it is gone");
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    })
}

fn removed_names_are_gone() -> Program {
    alone(|place| async move {
        let dir = Dir::open(&place.dir).await.expect("it is there");
        let file = dir.open_file("file", Mode::CreateNew).await.expect("it is new");
        file.write_at(pattern(4096, 1).await, 0).await.expect("written");
        dir.remove("file").await.expect("removed");
        assert!(dir.list().await.expect("listed").is_empty());
        assert_eq!(dir.remove("file").await.expect_err("it is gone").kind(), ErrorKind::NotFound);
        assert_eq!(file.read_at(0, 4096).await.expect("an open file lives on").len(), 4096);
    })
}

fn names_are_one_component() -> Program {
    alone(|place| async move {
        let dir = Dir::open(&place.dir).await.expect("it is there");
        for name in ["", ".", "..", "a/b", "/etc/passwd", "nul\0"] {
            let refused = dir.open_file(name, Mode::Create).await.expect_err("it is no name");
            assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{name:?}");
        }
    })
}

fn directories_are_made_with_their_parents() -> Program {
    alone(|place| async move {
        let path = format!("{}/a/b/c", place.dir);
        for _ in 0..2 {
            let dir = Dir::create(&path).await.expect("made, or there already");
            dir.open_file("file", Mode::Create).await.expect("it can be used");
        }
        let root = Dir::open(&place.dir).await.expect("it is there");
        assert_eq!(root.list().await.expect("listed"), ["a"]);
    })
}

fn space_is_known() -> Program {
    alone(|place| async move {
        let dir = Dir::open(&place.dir).await.expect("it is there");
        let space = dir.space().await.expect("known");
        assert!(space.free > 0 && space.free <= space.total);
    })
}
