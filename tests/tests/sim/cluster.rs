//! A cluster of one, three or five nodes of one or two cores: clients put, get, delete, write on conditions and list through any
//! core of any node, while nodes lose power, stand still, are cut off, their disks fail and their indices are lost. Of five nodes
//! three have a slot, and the others ask them.
//!
//! Promised: what clients saw is linearizable for each key, lists and retries included; what one node shows of a key, however
//! old that may be, is never older than what it showed before, restarts included; in the end every replica of a slot has the same
//! versions, a list shows what reads show, and of a bucket that keeps versions every acknowledged one is there, once.
//!
//! Through the gateways, S3 requests of a simulated HTTP client: bodies within versions and in chunks, uploads of parts, deletes,
//! conditions, lists; and whatever is read is whole.
//!
//! In an evacuation, each node has two disks, and one of them, now this and now that, is to be emptied while all that goes on; in the end
//! each node has one, on which everything is.
//!
//! Cut off, one node of several takes writes on its own; afterwards they are in their slots, each once.
//!
//! In a race, fifty writers at a time want to be the first to create a key: one is, whatever happens meanwhile.
//!
//! The nodes are composed as `cairn serve` composes them: disks, the cluster and a gateway on every core, RPC between nodes and for
//! clients. Half of the requests of those that don't speak S3 come by the public services, with an access key; the others by a way
//! of the test's own.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use cairn_daemon::cluster::{Cluster, Hub};
use cairn_daemon::disks::Hub as DiskHub;
use cairn_io::Shutdown;
use cairn_io::sim::{DiskConfig, Fault, FaultKind, FaultPlan, NodeConfig, NodeId, Profile, World, WorldConfig};
use cairn_meta::index::{Memory, Store};
use cairn_meta::slot::layout::BucketId;

use crate::harness::{Outcome, millis, plan_rng};
use crate::lane::{below, small};

mod client;
mod evacuate;
mod gateway;
mod history;
mod judge;
mod node;
mod public;
mod race;

use history::{History, Shown};

const STORM_MS: u64 = 5_000;
const BIRTH_MS: u64 = 700;
/// How long a node is cut off that takes writes meanwhile: a request may take seconds until it is clear that nobody leads.
const ALONE_MS: u64 = 6_000;
const SLOTS: u32 = 4;
const KEYS: u64 = 5;
const CLIENTS: usize = 4;
const SEGMENT: u32 = 256 << 10;
/// The most nodes that have a slot.
const COPIES: usize = 3;

/// How many nodes a seed has, and cores each of them.
fn size(seed: u64) -> (usize, usize) {
    [(3, 1), (1, 2), (3, 2), (5, 1)][small(seed % 4)]
}

/// Whether the bucket of a seed keeps versions.
fn are_versions_kept(seed: u64) -> bool {
    seed / 4 % 2 == 1
}

pub fn plan(seed: u64) -> FaultPlan {
    plan_on(seed, 1)
}

pub fn plan_with_disks(seed: u64) -> FaultPlan {
    plan_on(seed, 2)
}

fn plan_on(seed: u64, disks: usize) -> FaultPlan {
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
    // Now and then all of it strikes while the cluster is being born.
    let span = millis(if rng.chance(250_000) { BIRTH_MS } else { STORM_MS });
    let profile = Profile { faults_max: 10, lasting_max: millis(1_200), ..Profile::all(&nodes, disks, span) };
    FaultPlan::random(&mut rng, &profile.only(&kinds))
}

/// One node is cut off from all others for long, not from clients; now and then that isn't all.
pub fn plan_cut_off(seed: u64) -> FaultPlan {
    let (mut rng, (count, _)) = (plan_rng(seed), size(seed));
    let alone = NodeId(alone(seed));
    let at = millis(BIRTH_MS + rng.below(400));
    let mut plan = if is_more_than_cut_off(seed) { plan_on(seed, 1) } else { FaultPlan::default() };
    for other in (0..count).map(NodeId).filter(|other| *other != alone) {
        plan = plan.with(at, Fault::Partition { a: alone, b: other, lasting: millis(ALONE_MS) });
    }
    plan
}

/// The node that is cut off.
fn alone(seed: u64) -> usize {
    small(seed / 4) % size(seed).0
}

fn is_more_than_cut_off(seed: u64) -> bool {
    seed / 8 % 2 == 1
}

/// What outlives the nodes, and what the judge sees of them.
pub struct Books {
    replicas: usize,
    cores: usize,
    are_versions_kept: bool,
    /// Disks of each node; of two, one is emptied.
    disks: usize,
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
    shown: Shown,
    is_storm_over: Cell<bool>,
    /// Clients that ask for nothing more.
    done: Cell<usize>,
    /// Commands and lists that were answered.
    answered: Cell<u64>,
    /// Those of them that came by the public services.
    answered_publicly: Cell<u64>,
    /// Slots that were moved off disks.
    moved: Cell<u64>,
    /// A node that is asked more often than others.
    preferred: Cell<Option<usize>>,
    /// Keys and values that one node alone took.
    provisional: RefCell<Vec<(u64, u64)>>,
    /// Whether one of them was to be on more nodes.
    was_cut_off: Cell<bool>,
    verdict: RefCell<Option<Result<(), String>>>,
    /// What was not as it should be when it was looked at last.
    seen: RefCell<String>,
}

/// More lives than any weather excuses: something ends them.
const LIVES_MAX: u64 = 1_000;

impl Books {
    fn new(seed: u64, disks: usize) -> Self {
        let (replicas, cores) = size(seed);
        Self {
            replicas,
            cores,
            are_versions_kept: are_versions_kept(seed),
            disks,
            memories: Arc::default(),
            is_made: (0..replicas).map(|_| Cell::new(false)).collect(),
            open: (0..replicas).map(|_| RefCell::default()).collect(),
            ended: (0..replicas).map(|_| RefCell::default()).collect(),
            lives: Cell::new(0),
            history: History::default(),
            shown: Shown::default(),
            is_storm_over: Cell::new(false),
            done: Cell::new(0),
            answered: Cell::new(0),
            answered_publicly: Cell::new(0),
            moved: Cell::new(0),
            preferred: Cell::default(),
            provisional: RefCell::default(),
            was_cut_off: Cell::new(false),
            verdict: RefCell::default(),
            seen: RefCell::default(),
        }
    }

    /// Where a node's lane keeps its index.
    fn store(memories: &Mutex<BTreeMap<String, Memory>>, node: usize, path: &str) -> Store {
        let mut memories = memories.lock().unwrap_or_else(PoisonError::into_inner);
        Store::Memory(memories.entry(format!("{node}:{path}")).or_default().clone())
    }

    /// The bucket, as far as any node knows it.
    fn bucket(&self) -> Option<BucketId> {
        self.open.iter().find_map(|open| Some(open.borrow().as_ref()?.map().bucket(node::BUCKET)?.id))
    }
}

/// A world with the nodes of a cluster, and nobody who asks them.
fn begin(seed: u64, disks: usize) -> (World, Rc<Books>) {
    let books = Rc::new(Books::new(seed, disks));
    let mut world = World::new(seed, WorldConfig::default());
    for node in 0..books.replicas {
        let disk =
            |disk: usize| DiskConfig { sectors_tear: false, ..DiskConfig::new(format!("/disk{disk}"), 24 << 20) };
        let config = NodeConfig {
            disks: (0..disks).map(disk).collect(),
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
    (world, books)
}

/// Adds a machine that runs this.
fn add<F: Future<Output = ()> + 'static>(
    world: &mut World,
    books: &Rc<Books>,
    program: impl Fn(Rc<Books>) -> F + 'static,
) {
    let (books, program) = (books.clone(), Rc::new(program));
    world.add_node(NodeConfig { disks: Vec::new(), ..NodeConfig::default() }, move || {
        let (books, program) = (books.clone(), program.clone());
        Box::new(move |_core| Box::pin(program(books.clone())))
    });
}

pub fn run(seed: u64, plan: &FaultPlan) -> Outcome {
    serve(seed, plan, 1)
}

/// The same while disks are emptied.
pub fn evacuation(seed: u64, plan: &FaultPlan) -> Outcome {
    serve(seed, plan, 2)
}

fn serve(seed: u64, plan: &FaultPlan, disks: usize) -> Outcome {
    let (mut world, books) = begin(seed, disks);
    (0..CLIENTS).for_each(|client| add(&mut world, &books, move |books| client::run(books, client)));
    add(&mut world, &books, client::look_on);
    add(&mut world, &books, judge::run);
    world.apply(plan);
    world.run_for(millis(STORM_MS));
    let verdict = judge(&mut world, &books, CLIENTS + 2).and_then(|()| {
        if books.answered_publicly.get() == 0 {
            return Err("no request by the public services was answered".to_owned());
        }
        if books.disks > 1 && books.moved.get() == 0 {
            return Err("no slot was moved".to_owned());
        }
        books.shown.check()?;
        books.history.check()
    });
    Outcome::of(&world, verdict)
}

/// S3 programs in place of the clients.
pub fn run_gateway(seed: u64, plan: &FaultPlan) -> Outcome {
    let (mut world, books) = begin(seed, 1);
    let verdict = serve_programs(&mut world, &books, plan, STORM_MS);
    Outcome::of(&world, verdict)
}

fn serve_programs(world: &mut World, books: &Rc<Books>, plan: &FaultPlan, storm_ms: u64) -> Result<(), String> {
    (0..CLIENTS).for_each(|client| add(world, books, move |books| gateway::run(books, client)));
    add(world, books, gateway::judge);
    world.apply(plan);
    world.run_for(millis(storm_ms));
    judge(world, books, CLIENTS + 1).and_then(|()| books.history.check())
}

/// The same while one node is cut off: what it takes on its own is there afterwards, once.
pub fn cut_off(seed: u64, plan: &FaultPlan) -> Outcome {
    let (mut world, books) = begin(seed, 1);
    books.preferred.set(Some(alone(seed)));
    let outcome = serve_programs(&mut world, &books, plan, ALONE_MS + 1_500);
    let was_alone = !is_more_than_cut_off(seed) && books.replicas > 1;
    let verdict = outcome.and_then(|()| {
        let has_taken = !was_alone || books.was_cut_off.get();
        has_taken.then_some(()).ok_or_else(|| "a node that was cut off took nothing".to_owned())
    });
    Outcome::of(&world, verdict)
}

/// Fifty writers of one key at a time, that each want to be the first.
pub fn race(seed: u64, plan: &FaultPlan) -> Outcome {
    let (mut world, books) = begin(seed, 1);
    add(&mut world, &books, race::run);
    world.apply(plan);
    world.run_for(millis(STORM_MS));
    let verdict = judge(&mut world, &books, 1);
    Outcome::of(&world, verdict)
}

fn judge(world: &mut World, books: &Rc<Books>, askers: usize) -> Result<(), String> {
    let verdict = wait(world, books, askers);
    // What is open has files, these the world, that the programs, and they the books: a ring that would stay.
    books.open.iter().for_each(|open| drop(open.take()));
    verdict
}

/// After the storm everything works again, and there is a verdict.
fn wait(world: &mut World, books: &Rc<Books>, askers: usize) -> Result<(), String> {
    world.calm();
    books.is_storm_over.set(true);
    let seen = books.clone();
    let is_over =
        world.run_until(millis(120_000), move || seen.lives.get() > LIVES_MAX || seen.verdict.borrow().is_some());
    let panics: Vec<String> = (0..books.replicas + askers).flat_map(|node| world.panics(NodeId(node))).collect();
    if !panics.is_empty() {
        return Err(format!("programs panicked: {panics:?}"));
    }
    if !is_over || books.verdict.borrow().is_none() {
        let done = books.done.get();
        return Err(format!(
            "two minutes later there is no verdict; {done} clients are done; last seen: {:?}; last lives: {:?}",
            books.seen.borrow(),
            books.ended
        ));
    }
    books.verdict.take().unwrap_or(Ok(()))?;
    if books.answered.get() < 10 {
        return Err(format!("only {} requests were answered", books.answered.get()));
    }
    Ok(())
}
