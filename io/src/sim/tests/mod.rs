//! What the world promises and what it may do, over many seeds: a fault that never strikes tests nothing, so these tests
//! ask that each outcome is seen.

#![allow(
    clippy::unchecked_time_subtraction,
    reason = "the world's time never goes back; a test that says so may panic"
)]

mod disk;
mod disk_faults;
mod net;
mod node;

use std::cell::RefCell;
use std::future::{Future, pending};
use std::net::SocketAddr;
use std::rc::Rc;

use super::{Fault, NodeConfig, NodeId, Program, World, WorldConfig};
use crate::runtime::CoreId;
use crate::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A program that does nothing and doesn't end, so that tests can put their own tasks beside it.
fn idle() -> Program {
    Box::new(|_| Box::pin(pending()))
}

/// A world of `count` idle nodes of this kind.
fn world_of(seed: u64, count: usize, config: &NodeConfig) -> World {
    let mut world = World::new(seed, WorldConfig::default());
    for _ in 0..count {
        world.add_node(config.clone(), idle);
    }
    world
}

fn one_node(seed: u64) -> World {
    world_of(seed, 1, &NodeConfig::default())
}

/// The result of a task, once it is there.
type Slot<T> = Rc<RefCell<Option<T>>>;

/// Starts `future` on core 0 of a node.
fn begin<T: 'static>(world: &mut World, node: usize, future: impl Future<Output = T> + 'static) -> Slot<T> {
    let slot = Slot::default();
    let filled = slot.clone();
    let task = async move {
        let value = future.await;
        *filled.borrow_mut() = Some(value);
    };
    world.spawn(NodeId(node), CoreId::new(0), task).expect("the node runs").detach();
    slot
}

/// Runs the world until `future` has ended on core 0 of a node.
fn finish<T: 'static>(world: &mut World, node: usize, future: impl Future<Output = T> + 'static) -> T {
    let slot = begin(world, node, future);
    let ended = world.run_until(SECOND * 600, || slot.borrow().is_some());
    assert!(ended, "seed {}: still waiting after ten minutes:\n{}", world.seed(), world.trace_tail());
    slot.take().expect("it has ended")
}

fn power_cut(world: &mut World, node: usize) {
    world.inject(&Fault::PowerCut { node: NodeId(node), lasting: millis(10) });
    world.run_for(millis(20));
}

fn address(node: usize, port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, u8::try_from(node + 1).expect("a small world")], port))
}
