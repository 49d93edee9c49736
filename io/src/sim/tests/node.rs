//! Lives, clocks, pauses, and runs that repeat.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::{SECOND, finish, idle, millis, one_node, world_of};
use crate::mesh::Mesh;
use crate::runtime::CoreId;
use crate::sim::{Fault, NodeConfig, NodeId, Program, Status, World, WorldConfig};
use crate::task::{self, Class};
use crate::time::{self, Duration, sleep, timeout};
use crate::{blocking, rng};

const NODE: NodeId = NodeId(0);

/// Two cores that talk over the mesh at drawn times.
fn chatter() -> Program {
    let mesh = Mesh::new(2, 2);
    Box::new(move |core| {
        let endpoint = mesh.endpoint(core).expect("once a life");
        Box::pin(async move {
            let other = CoreId::new(1 - core.index());
            loop {
                let _ = timeout(millis(rng::next_u64() % 7), endpoint.recv()).await;
                let _ = endpoint.send(other, core.index()).await;
                let _ = blocking::run(|| ()).await;
                task::yield_now().await;
            }
        })
    })
}

fn chat(seed: u64) -> (u64, u64) {
    let mut world = World::new(seed, WorldConfig::default());
    for _ in 0..3 {
        world.add_node(NodeConfig { cores: 2, ..NodeConfig::default() }, chatter);
    }
    world.inject(&Fault::Kill { node: NODE, lasting: millis(30) });
    world.run_for(millis(300));
    (world.trace_hash(), world.events())
}

#[test]
fn a_seed_gives_the_same_run_and_another_seed_another() {
    let runs: Vec<_> = (0..10).map(chat).collect();
    assert_eq!(runs, (0..10).map(chat).collect::<Vec<_>>());
    let hashes: std::collections::BTreeSet<u64> = runs.iter().map(|run| run.0).collect();
    assert_eq!(hashes.len(), 10);
    assert!(runs.iter().all(|run| run.1 > 1000), "{runs:?}");
}

#[test]
fn ready_tasks_run_in_every_order() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let mut world = one_node(seed);
        let order = Rc::new(RefCell::new(Vec::new()));
        let shared = order.clone();
        finish(&mut world, 0, async move {
            let tasks = [0, 1, 2].map(|number| {
                let order = shared.clone();
                task::spawn(Class::Foreground, async move { order.borrow_mut().push(number) })
            });
            for task in tasks {
                task.await.unwrap();
            }
        });
        seen.insert(order.take());
    }
    assert_eq!(seen.len(), 6, "{seen:?}");
}

#[test]
fn clocks_drift_and_jump() {
    let mut config = NodeConfig { drift_ppm: 100_000, wall_offset_ms: 5_000, ..NodeConfig::default() };
    let mut world = world_of(1, 1, &config);
    config = NodeConfig::default();
    world.add_node(config, idle);
    let begun = world.now();
    finish(&mut world, 0, async { sleep(SECOND * 11).await });
    let took = (world.now() - begun).as_secs_f64();
    assert!((took - 10.0).abs() < 0.01, "eleven seconds of a clock ten percent fast took {took}");
    let walls = [0, 1].map(|node| finish(&mut world, node, async { time::wall().as_unix_nanos() }));
    let apart = (walls[0] - walls[1]) as f64 / 1e9;
    assert!((apart - 6.0).abs() < 0.01, "five seconds of offset and one of drift: {apart}");
    let before = finish(&mut world, 1, async { (time::now(), time::wall()) });
    world.inject(&Fault::ClockJump { node: NodeId(1), by_ms: -60_000 });
    let after = finish(&mut world, 1, async { (time::now(), time::wall()) });
    assert!(after.1 < before.1 && after.0 >= before.0 && after.0 - before.0 < SECOND);
}

#[test]
fn a_clock_that_is_made_fast_rings_its_alarms_early() {
    let mut world = one_node(1);
    let slept = super::begin(&mut world, 0, async { sleep(SECOND * 10).await });
    world.run_for(SECOND);
    world.inject(&Fault::ClockDrift { node: NODE, ppm: 1_000_000 });
    world.run_for(SECOND * 4);
    assert!(slept.borrow().is_none());
    world.run_for(millis(600));
    assert!(slept.borrow().is_some(), "nine seconds at twice the speed are over");
}

#[test]
fn a_paused_node_stands_still_and_its_timers_are_late() {
    let mut world = one_node(1);
    let ticks = Rc::new(Cell::new(0));
    let counted = ticks.clone();
    let _ticking = super::begin(&mut world, 0, async move {
        let mut interval = time::interval(millis(100));
        loop {
            interval.tick().await;
            counted.set(counted.get() + 1);
        }
    });
    world.run_for(SECOND);
    let before = ticks.get();
    assert!((9..=10).contains(&before), "{before}");
    world.inject(&Fault::Pause { node: NODE, lasting: SECOND * 30 });
    world.run_for(SECOND * 29);
    assert_eq!(ticks.get(), before);
    world.run_for(SECOND * 2);
    assert!((before + 9..=before + 11).contains(&ticks.get()), "missed ticks are skipped: {}", ticks.get());
}

#[test]
fn each_life_is_booted_anew_and_drops_what_the_last_one_had() {
    struct Dropped(Rc<Cell<u32>>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let (boots, drops) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let (booted, dropped) = (boots.clone(), drops.clone());
    let mut world = World::new(1, WorldConfig::default());
    let node = world.add_node(NodeConfig { cores: 2, ..NodeConfig::default() }, move || {
        booted.set(booted.get() + 1);
        let dropped = dropped.clone();
        Box::new(move |_| {
            let guard = Dropped(dropped.clone());
            Box::pin(async move {
                sleep(SECOND * 1000).await;
                drop(guard);
            })
        })
    });
    world.run_for(millis(10));
    for (round, text) in ["kill node=n0 lasting=1s", "power-cut node=n0 lasting=1s"].iter().enumerate() {
        world.inject(&text.parse().unwrap());
        assert_eq!(world.status(node), Status::Down);
        assert_eq!((boots.get(), drops.get()), (round + 1, 2 * (u32::try_from(round).unwrap() + 1)));
        world.run_for(SECOND * 2);
        assert_eq!(world.status(node), Status::Running);
    }
    drop(world);
    assert_eq!((boots.get(), drops.get()), (3, 6));
    assert_eq!(Rc::strong_count(&boots), 1, "the world and all its tasks are gone");
}

#[test]
fn ends_and_panics_of_programs_are_seen_and_restarted() {
    let lives = Rc::new(Cell::new(0));
    let counted = lives.clone();
    let mut world = World::new(1, WorldConfig::default());
    let config = NodeConfig { restart_after: Some(SECOND), ..NodeConfig::default() };
    let node = world.add_node(config, move || {
        counted.set(counted.get() + 1);
        let life = counted.get();
        Box::new(move |_| {
            Box::pin(async move {
                sleep(millis(10)).await;
                assert!(life != 2, "the second life is short");
                crate::shutdown::current().requested().await;
            })
        })
    });
    world.run_for(millis(100));
    assert_eq!((world.status(node), lives.get()), (Status::Running, 1));
    world.shut_down(node);
    world.run_for(millis(100));
    assert_eq!(world.status(node), Status::Ended);
    world.run_for(SECOND * 10);
    assert_eq!((world.status(node), lives.get()), (Status::Running, 3));
    assert_eq!(world.panics(node).len(), 1);
    assert!(world.panics(node)[0].contains("the second life is short"));
}

#[test]
fn a_busy_task_moves_time_and_starves_nobody() {
    let mut world = one_node(1);
    let _busy = super::begin(&mut world, 0, async {
        loop {
            task::yield_now().await;
        }
    });
    finish(&mut world, 0, async { sleep(millis(5)).await });
    assert!(world.stats().polls > 1000);
}

#[test]
#[should_panic(expected = "seed 77: more than 10000 steps")]
fn a_livelock_is_told_with_its_seed() {
    let config = WorldConfig { steps_max: 10_000, ..WorldConfig::default() };
    let mut world = World::new(77, config);
    world.add_node(NodeConfig::default(), || {
        Box::new(|_| {
            Box::pin(async {
                loop {
                    task::yield_now().await;
                }
            })
        })
    });
    world.run_for(Duration::from_mins(1));
}
