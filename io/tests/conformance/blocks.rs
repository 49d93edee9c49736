//! Blocks: budget, sharing, crossing cores.

use std::sync::Arc;

use cairn_io::mesh::Mesh;
use cairn_io::task::{Class, spawn, yield_now};
use cairn_io::time::{self, Duration};
use cairn_io::{Block, Config, CoreId, block};

use crate::harness::{On, Program, alone, check, on_each_driver};

on_each_driver! {
    slices_and_bytes_share_memory: 1,
    a_unique_block_is_written_again: 1,
    a_block_returns_to_its_core: 2,
}

fn slices_and_bytes_share_memory() -> Program {
    alone(|_| async {
        let mut block = block::alloc(10_000).await.expect("there is room");
        assert_eq!((block.len(), block.as_ptr() as usize % block::ALIGN), (10_000, 0));
        block.fill(1);
        block[5000..].fill(2);
        let block = block.freeze();
        let tail = block.slice(5000..);
        assert!(std::ptr::eq(&raw const tail[0], &raw const block[5000]));
        let bytes = tail.clone().into_bytes();
        assert!(std::ptr::eq(bytes.as_ptr(), tail.as_ptr()));
        drop((block, tail));
        assert!(bytes.len() == 5000 && bytes.iter().all(|&byte| byte == 2));
        let lent = block::usage().lent;
        assert!(lent >= 10_000);
        drop(bytes);
        assert_eq!(block::usage().lent, 0);
    })
}

fn a_unique_block_is_written_again() -> Program {
    alone(|_| async {
        let block = block::alloc(4096).await.expect("there is room").freeze();
        let other = block.clone();
        let block = block.try_into_mut().expect_err("it is shared");
        drop(other);
        let mut block = block.try_into_mut().expect("it is not shared any more");
        block.set_len(100);
        block.fill(9);
        assert_eq!(&*block.freeze().slice(90..), [9; 10]);
    })
}

fn a_block_returns_to_its_core() -> Program {
    let mesh = Mesh::<Option<Block>>::new(2, 4);
    Arc::new(move |_, core| {
        let mesh = mesh.clone();
        Box::pin(async move {
            let endpoint = mesh.endpoint(core).expect("it is this core's");
            let other = CoreId::new(1 - core.index());
            if core.index() == 1 {
                let (_, block) = endpoint.recv().await;
                assert!(block.expect("a block").iter().all(|&byte| byte == 3));
                endpoint.send(other, None).await.expect("it waits");
                return;
            }
            let mut block = block::alloc(1 << 20).await.expect("there is room");
            block.fill(3);
            endpoint.send(other, Some(block.freeze())).await.expect("it listens");
            endpoint.recv().await;
            let usage = block::usage();
            assert_eq!((usage.lent, usage.cached), (0, 1 << 20));
        })
    })
}

/// A budget of a megabyte on each driver.
fn on_a_small_budget(program: &Program, cores: usize) {
    for on in [On::Glommio, On::Monoio, On::Epoll, On::Sim] {
        let config = Config { block_bytes_max: 1 << 20, registered_bytes: 128 << 10, ..Config::default() };
        let program = program.clone();
        check(on, config, cores, move || program.clone());
    }
}

#[test]
fn out_of_buffers_means_waiting() {
    let program = alone(|_| async {
        let held = block::alloc(1 << 20).await.expect("it just fits");
        assert!(block::try_alloc(1).is_none());
        let waiters: Vec<_> = (0..20u8)
            .map(|n| {
                spawn(Class::Foreground, async move {
                    let mut block = block::alloc(300 << 10).await.expect("in its turn");
                    block.fill(n);
                    yield_now().await;
                    assert!(block::usage().lent <= 1 << 20);
                })
            })
            .collect();
        yield_now().await;
        // One that gives up must not keep the others waiting.
        let mut waiters = waiters.into_iter();
        drop(waiters.next());
        drop(held);
        for waiter in waiters {
            waiter.await.expect("it gets its block");
        }
        assert_eq!(block::usage().lent, 0);
    });
    on_a_small_budget(&program, 1);
}

#[test]
fn cached_memory_counts_and_makes_room() {
    let program = alone(|_| async {
        for len in [4096, 8192, 100_000, 500_000, 4096, 1 << 20, 60_000, 900_000] {
            let blocks = [block::alloc(len).await.expect("it fits")];
            let usage = block::usage();
            assert!(usage.lent + usage.cached <= usage.budget + (128 << 10), "{usage:?}");
            drop(blocks);
        }
    });
    on_a_small_budget(&program, 1);
}

#[test]
fn what_can_never_be_had_is_refused() {
    let program = alone(|_| async {
        for len in [0, (1 << 20) + 1, usize::MAX / 2] {
            let error = block::alloc(len).await.expect_err("it can't be had");
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        }
    });
    on_a_small_budget(&program, 1);
}

#[test]
fn a_waiter_gets_what_another_core_gives_back() {
    // A mesh's endpoints are taken once, so each driver has its own.
    let program = || -> Program {
        let mesh = Mesh::<Block>::new(2, 4);
        Arc::new(move |_, core| {
            let mesh = mesh.clone();
            Box::pin(async move {
                let endpoint = mesh.endpoint(core).expect("it is this core's");
                if core.index() == 1 {
                    let (_, block) = endpoint.recv().await;
                    time::sleep(Duration::from_millis(3)).await;
                    drop(block);
                    return;
                }
                let block = block::alloc(1 << 20).await.expect("it fits");
                endpoint.send(CoreId::new(1), block.freeze()).await.expect("it listens");
                block::alloc(1 << 20).await.expect("the other core gives it back");
            })
        })
    };
    for on in [On::Glommio, On::Monoio, On::Epoll, On::Sim] {
        let config = Config { block_bytes_max: 1 << 20, ..Config::default() };
        check(on, config, 2, program);
    }
}
