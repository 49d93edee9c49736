//! The world as a test holds it.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use super::config::{NodeConfig, WorldConfig, nanos};
use super::disk::Scars;
use super::fault::Fault;
use super::node::{Ending, Node, NodeId, Program, Slot, Status};
use super::plan::FaultPlan;
use super::schedule::Schedule;
use super::shared::Shared;
use super::trace::Stats;
use crate::core;
use crate::runtime::CoreId;
use crate::task::{Class, JoinHandle};
use crate::time::Duration;

/// Nodes, disks and a network, all made from one seed. Everything happens inside [`World::run_for`] and its kin, on the
/// calling thread; between two calls the world stands still and programs' shared state may be looked at.
pub struct World {
    shared: Rc<Shared>,
    schedule: Schedule,
    /// Steps taken: at least one per event in the trace.
    steps: u64,
}

impl World {
    /// An empty world.
    pub fn new(seed: u64, config: WorldConfig) -> Self {
        Self { shared: Shared::new(seed, config), schedule: Schedule::default(), steps: 0 }
    }

    /// The seed it was made from.
    pub fn seed(&self) -> u64 {
        self.shared.seed
    }

    /// Adds a node and starts it. `boot` is called at each start, so what its cores share (a mesh, say) is made for
    /// each life anew; the program it returns runs on every core as a Foreground task.
    ///
    /// # Panics
    /// If the configuration is impossible: no core, an address or a disk's path taken twice.
    pub fn add_node(&mut self, config: NodeConfig, boot: impl FnMut() -> Program + 'static) -> NodeId {
        let id = self.shared.nodes.borrow().len();
        let ip = config.address.unwrap_or_else(|| default_ip(id));
        check(&config);
        let slots: Vec<Rc<Slot>> = (0..config.cores)
            .map(|core| Slot::new(&self.shared, self.schedule.slots.len() + core, id, CoreId::new(core)))
            .collect();
        self.schedule.slots.extend(slots.iter().cloned());
        self.shared.net.borrow_mut().add_node(ip);
        let node = Node::new(&self.shared, id, ip, config, slots, Box::new(boot));
        self.shared.nodes.borrow_mut().push(node.clone());
        node.start(&self.shared);
        NodeId(id)
    }

    /// The address of a node.
    pub fn address(&self, node: NodeId) -> IpAddr {
        self.node(node).ip
    }

    /// What a node is doing.
    pub fn status(&self, node: NodeId) -> Status {
        self.node(node).status.get()
    }

    /// What the programs of a node have panicked with, in all its lives. Panics of other tasks go to their joiners.
    pub fn panics(&self, node: NodeId) -> Vec<String> {
        self.node(node).panics.borrow().clone()
    }

    /// Time since the world began.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.shared.now())
    }

    /// Lets `duration` pass.
    pub fn run_for(&mut self, duration: Duration) {
        self.run_until(duration, || false);
    }

    /// Lets time pass until `done` says so, asked after each event, or `limit` is over; returns whether it was done.
    ///
    /// # Panics
    /// When it takes more steps than the configuration allows: somebody runs in circles.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut() -> bool) -> bool {
        let end = self.shared.now().saturating_add(nanos(limit));
        while !done() {
            if !self.schedule.step(&self.shared, end) {
                self.shared.set_now(end);
                return done();
            }
            self.steps += 1;
            self.check_progress();
        }
        true
    }

    fn check_progress(&self) {
        assert!(
            self.steps <= self.shared.config.steps_max,
            "seed {}: more than {} steps by {:?}: a livelock? The last of them:\n{}",
            self.shared.seed,
            self.shared.config.steps_max,
            self.now(),
            self.trace_tail(),
        );
    }

    /// Has the faults of `plan` strike, at their times from now.
    pub fn apply(&mut self, plan: &FaultPlan) {
        for (at, fault) in plan.faults() {
            let fault = fault.clone();
            self.shared.call_after(nanos(*at), move |shared| fault.strike(shared));
        }
    }

    /// Has `fault` strike now. One that names a node or disk that isn't there does nothing.
    pub fn inject(&mut self, fault: &Fault) {
        fault.strike(&self.shared);
    }

    /// Starts a node that doesn't run.
    pub fn start(&mut self, node: NodeId) {
        self.node(node).start(&self.shared);
    }

    /// Asks a node to stop in good order: its [`crate::Shutdown`] is requested.
    pub fn shut_down(&mut self, node: NodeId) {
        self.node(node).request_shutdown();
    }

    /// Runs `future` as a task on a core of a running node; `None` if it doesn't run.
    pub fn spawn<F>(&mut self, node: NodeId, core: CoreId, future: F) -> Option<JoinHandle<F::Output>>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let node = self.node(node);
        let slot = node.slots.get(core.index())?;
        let current = slot.current.borrow().clone()?;
        let _entered = core::enter(current.clone());
        let handle = current.exec.spawn(Class::Foreground, future);
        self.shared.woken.push(slot.index);
        Some(handle)
    }

    /// What became of the bytes of a node's disk so far.
    ///
    /// # Panics
    /// If it has no such disk.
    pub fn scars(&self, node: NodeId, disk: usize) -> Scars {
        self.node(node).disks[disk].scars.clone()
    }

    /// What a file holds now, as a program would read it; `None` if there is no such file.
    pub fn read_file(&self, node: NodeId, path: &str) -> Option<Vec<u8>> {
        self.node(node).disks.iter().find_map(|disk| disk.peek(path))
    }

    /// Ends all disturbances of links and disks that have an end, and starts nodes that are down: for the part of a
    /// test that waits for the system to recover. Pauses end, too; damage done stays done.
    pub fn calm(&mut self) {
        super::fault::calm(&self.shared);
    }

    /// A hash over everything that has happened: what, to whom, when. Equal for equal runs.
    pub fn trace_hash(&self) -> u64 {
        self.shared.with_trace(super::trace::Trace::hash)
    }

    /// How many events have happened.
    pub fn events(&self) -> u64 {
        self.shared.with_trace(|trace| trace.stats.events)
    }

    /// How much has happened, by kind.
    pub fn stats(&self) -> Stats {
        self.shared.with_trace(|trace| trace.stats)
    }

    /// The last events, one a line: seconds, node and part, what, detail.
    pub fn trace_tail(&self) -> String {
        self.shared.with_trace(super::trace::Trace::tail)
    }

    fn node(&self, node: NodeId) -> Rc<Node> {
        self.shared.node(node.0)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Tasks own sockets, sockets own the world: cut by hand, or every seed would leak one.
        let nodes: Vec<Rc<Node>> = self.shared.nodes.borrow().clone();
        for node in nodes {
            node.end(&self.shared, Ending::PowerCut);
        }
        self.shared.clear_events();
        super::net::clear(&self.shared);
        let nodes = std::mem::take(&mut *self.shared.nodes.borrow_mut());
        drop(nodes);
    }
}

fn default_ip(id: usize) -> IpAddr {
    let [.., high, low] = (id + 1).to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, 0, high, low))
}

fn check(config: &NodeConfig) {
    assert!(config.cores > 0, "a node needs a core");
    let paths: BTreeSet<&str> = config.disks.iter().map(|disk| disk.path.as_str()).collect();
    assert_eq!(paths.len(), config.disks.len(), "two disks of a node have the same path");
    for disk in &config.disks {
        assert!(disk.path.starts_with('/'), "a disk's path begins with a slash: {:?}", disk.path);
        let good = |unit: usize| unit.is_power_of_two() && (512..=4096).contains(&unit);
        assert!(good(disk.sector) && good(disk.align), "sectors and alignment are powers of two from 512 to 4096");
    }
}
