//! A cluster of one or three nodes of one or two cores: clients put, get, delete, write on conditions and list through any core
//! of any node, while nodes lose power, stand still, are cut off, and their disks fail.
//!
//! Promised: what clients saw is linearizable for each key, lists and retries included, so no acknowledged version is lost and
//! a token has one effect; in the end every replica of a slot has the same versions, and a list shows what reads show.
//!
//! The nodes are composed as `cairn serve` composes them: disks, the cluster on every core, RPC between nodes. Only the way in
//! for clients is the test's own.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use cairn_daemon::cluster::{Cluster, Hub};
use cairn_daemon::disks::Hub as DiskHub;
use cairn_io::Shutdown;
use cairn_io::sim::{DiskConfig, FaultKind, FaultPlan, NodeConfig, NodeId, Profile, World, WorldConfig};
use cairn_meta::index::{Memory, Store};

use crate::harness::{Outcome, millis, plan_rng};
use crate::lane::{below, small};

mod client;
mod history;
mod judge;
mod node;

use history::History;

const STORM_MS: u64 = 5_000;
const SLOTS: u32 = 4;
const KEYS: u64 = 5;
const CLIENTS: usize = 4;
const SEGMENT: u32 = 256 << 10;

/// How many nodes a seed has, and cores each of them.
fn size(seed: u64) -> (usize, usize) {
    [(3, 1), (1, 2), (3, 2), (3, 1)][small(seed % 4)]
}

pub fn plan(seed: u64) -> FaultPlan {
    let (mut rng, (count, _)) = (plan_rng(seed), size(seed));
    let nodes: Vec<NodeId> = (0..count).map(NodeId).collect();
    let kinds = [
        FaultKind::PowerCut,
        FaultKind::PowerCut,
        FaultKind::Kill,
        FaultKind::Kill,
        FaultKind::Pause,
        FaultKind::Pause,
        FaultKind::ClockJump,
        FaultKind::ClockDrift,
        FaultKind::Cut,
        FaultKind::Partition,
        FaultKind::Isolate,
        FaultKind::Isolate,
        FaultKind::Reset,
        FaultKind::SlowLink,
        FaultKind::WriteErrors,
        FaultKind::SyncErrors,
        FaultKind::SlowDisk,
        FaultKind::ReadOnly,
    ];
    let profile = Profile { faults_max: 10, lasting_max: millis(1_200), ..Profile::all(&nodes, 1, millis(STORM_MS)) };
    FaultPlan::random(&mut rng, &profile.only(&kinds))
}

/// What outlives the nodes, and what the judge sees of them.
pub struct Books {
    replicas: usize,
    cores: usize,
    /// The indexes, by node and the directories of their lanes.
    memories: Arc<Mutex<BTreeMap<String, Memory>>>,
    /// Whether a node's disks were made.
    is_made: Vec<Cell<bool>>,
    /// What is open on core 0 of each node.
    open: Vec<RefCell<Option<Cluster>>>,
    /// How the last life of each node ended.
    ended: Vec<RefCell<String>>,
    lives: Cell<u64>,
    history: History,
    is_storm_over: Cell<bool>,
    /// Clients that ask for nothing more.
    done: Cell<usize>,
    /// Commands and lists that were answered.
    answered: Cell<u64>,
    verdict: RefCell<Option<Result<(), String>>>,
}

/// More lives than any weather excuses: something ends them.
const LIVES_MAX: u64 = 1_000;

impl Books {
    fn new((replicas, cores): (usize, usize)) -> Self {
        Self {
            replicas,
            cores,
            memories: Arc::default(),
            is_made: (0..replicas).map(|_| Cell::new(false)).collect(),
            open: (0..replicas).map(|_| RefCell::default()).collect(),
            ended: (0..replicas).map(|_| RefCell::default()).collect(),
            lives: Cell::new(0),
            history: History::default(),
            is_storm_over: Cell::new(false),
            done: Cell::new(0),
            answered: Cell::new(0),
            verdict: RefCell::default(),
        }
    }

    /// Where a node's lane keeps its index.
    fn store(memories: &Mutex<BTreeMap<String, Memory>>, node: usize, path: &str) -> Store {
        let mut memories = memories.lock().unwrap_or_else(PoisonError::into_inner);
        Store::Memory(memories.entry(format!("{node}:{path}")).or_default().clone())
    }
}

pub fn run(seed: u64, plan: &FaultPlan) -> Outcome {
    let books = Rc::new(Books::new(size(seed)));
    let mut world = World::new(seed, WorldConfig::default());
    for node in 0..books.replicas {
        let disk = DiskConfig { sectors_tear: false, ..DiskConfig::new("/disk0", 24 << 20) };
        let config = NodeConfig {
            disks: vec![disk],
            cores: books.cores,
            restart_after: Some(millis(30)),
            ..NodeConfig::default()
        };
        let books = books.clone();
        world.add_node(config, move || {
            let (disks, hub, over) = (DiskHub::new(books.cores), Hub::new(books.cores), Shutdown::new());
            let books = books.clone();
            books.lives.set(books.lives.get() + 1);
            books.open[node].take();
            Box::new(move |core| {
                let life = node::Life { books: books.clone(), node, core, disks: disks.clone(), hub: hub.clone() };
                let over = over.clone();
                Box::pin(async move {
                    let (living, ended) = (life.live(), over.requested());
                    futures_util::pin_mut!(living, ended);
                    futures_util::future::select(living, ended).await;
                    over.request();
                })
            })
        });
    }
    for client in 0..=CLIENTS {
        let books = books.clone();
        world.add_node(NodeConfig { disks: Vec::new(), ..NodeConfig::default() }, move || {
            let books = books.clone();
            Box::new(move |_core| {
                let books = books.clone();
                Box::pin(async move {
                    if client == CLIENTS { judge::run(books).await } else { client::run(books, client).await }
                })
            })
        });
    }
    world.apply(plan);
    world.run_for(millis(STORM_MS));
    let verdict = judge(&mut world, &books);
    Outcome::of(&world, verdict)
}

/// After the storm everything works again, and what was seen has an explanation.
fn judge(world: &mut World, books: &Rc<Books>) -> Result<(), String> {
    world.calm();
    books.is_storm_over.set(true);
    let seen = books.clone();
    let is_over =
        world.run_until(millis(120_000), move || seen.lives.get() > LIVES_MAX || seen.verdict.borrow().is_some());
    let panics: Vec<String> = (0..=books.replicas + CLIENTS).flat_map(|node| world.panics(NodeId(node))).collect();
    if !panics.is_empty() {
        return Err(format!("programs panicked: {panics:?}"));
    }
    if !is_over || books.verdict.borrow().is_none() {
        let done = books.done.get();
        return Err(format!(
            "two minutes later there is no verdict; {done} clients are done; last lives: {:?}",
            books.ended
        ));
    }
    books.verdict.take().unwrap_or(Ok(()))?;
    if books.answered.get() < 10 {
        return Err(format!("only {} requests were answered", books.answered.get()));
    }
    books.history.check()
}
