//! Slots on one, three or five nodes: clients put, get, compare-and-swap and delete while nodes lose power, stand still, are cut
//! off, lose a disk and are replaced, members come and go, snapshots travel and indices are lost.
//!
//! Promised: what clients saw is linearizable for each key, retries included; in the end all replicas have the same rows, and
//! every group rests; and so it is again when every index is made anew from its log.
//!
//! A node that lost its disk comes back under another id: what it had voted for and stored is gone with the disk. Until an
//! operator has put the new one in its place it counts as lost, so at most one disk of three or five is.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use cairn_daemon::slot::Slots;
use cairn_io::sim::{DiskConfig, Fault, FaultKind, FaultPlan, NodeConfig, NodeId, Profile, World, WorldConfig};
use cairn_io::{rng, task};
use cairn_meta::index::{Memory, Order};

use crate::harness::{Outcome, millis, plan_rng};

mod client;
mod history;
mod node;
mod register;

use history::History;

const STORM_MS: u64 = 4_000;
const SLOTS: u32 = 4;
const KEYS: u64 = 2;
const CLIENTS: usize = 3;
const SEGMENT: u32 = 256 << 10;

/// How long the clients of a seed wait at most before they ask again: so long, for some, that groups rest meanwhile.
fn pause_ms(seed: u64) -> u64 {
    [60, 60, 1_000][small(seed / 4 % 3)]
}

/// How many nodes a seed has.
fn replicas(seed: u64) -> usize {
    [3, 1, 3, 5][small(seed % 4)]
}

pub fn plan(seed: u64) -> FaultPlan {
    let (mut rng, count) = (plan_rng(seed), replicas(seed));
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
        FaultKind::DiskFull,
        FaultKind::SlowDisk,
        FaultKind::ReadOnly,
    ];
    let profile = Profile { faults_max: 12, lasting_max: millis(1_200), ..Profile::all(&nodes, 1, millis(STORM_MS)) };
    let mut plan = FaultPlan::random(&mut rng, &profile.only(&kinds));
    if count > 1 && rng.chance(300_000) {
        let at = millis(500 + rng.below(STORM_MS - 500));
        plan = plan.with(at, Fault::LoseDisk { node: NodeId(0), disk: 0, lasting: millis(100) });
    }
    plan
}

/// What outlives the nodes, and what the judge sees of them.
pub struct Books {
    replicas: usize,
    /// How long a client waits before it asks again, at most.
    pause_ms: u64,
    /// The index of each node's lane.
    indices: Vec<Memory>,
    /// Whether a node's lane was ever made.
    made: Vec<Cell<bool>>,
    /// Who each node is.
    ids: Vec<Cell<u64>>,
    /// What is open on each node.
    open: Vec<RefCell<Option<Slots>>>,
    /// How the last life of each node ended.
    ended: Vec<RefCell<String>>,
    history: History,
    /// Two nodes that are to be left alone with each other now.
    cut: Cell<Option<[usize; 2]>>,
    is_storm_over: Cell<bool>,
    /// Members are taken out: not where two are left then and one of them may lose its disk, a majority for ever.
    are_members_removed: bool,
    /// Clients that ask for nothing more.
    done: Cell<usize>,
    /// Nodes begin with an index made anew.
    are_indices_lost: Cell<bool>,
    rebuilt: Cell<u64>,
    lives: Cell<u64>,
}

/// More lives than any weather excuses: something ends them.
const LIVES_MAX: u64 = 1_000;

impl Books {
    fn new(seed: u64, plan: &FaultPlan) -> Self {
        let replicas = replicas(seed);
        let is_disk_lost = plan.faults().iter().any(|(_, fault)| fault.kind() == FaultKind::LoseDisk);
        Self {
            replicas,
            pause_ms: pause_ms(seed),
            indices: (0..replicas).map(|_| Memory::default()).collect(),
            made: (0..replicas).map(|_| Cell::new(false)).collect(),
            ids: (0..replicas as u64).map(Cell::new).collect(),
            open: (0..replicas).map(|_| RefCell::default()).collect(),
            ended: (0..replicas).map(|_| RefCell::default()).collect(),
            history: History::default(),
            cut: Cell::default(),
            is_storm_over: Cell::new(false),
            are_members_removed: replicas > 3 || replicas == 3 && !is_disk_lost,
            done: Cell::new(0),
            are_indices_lost: Cell::new(false),
            rebuilt: Cell::new(0),
            lives: Cell::new(0),
        }
    }

    /// The nodes as they are now.
    fn members(&self) -> BTreeSet<u64> {
        self.ids.iter().map(Cell::get).collect()
    }
}

pub fn run(seed: u64, plan: &FaultPlan) -> Outcome {
    let books = Rc::new(Books::new(seed, plan));
    let mut world = World::new(seed, WorldConfig::default());
    for node in 0..books.replicas {
        let disk = DiskConfig { sectors_tear: false, ..DiskConfig::new("/disk0", 16 << 20) };
        let config = NodeConfig { disks: vec![disk], restart_after: Some(millis(30)), ..NodeConfig::default() };
        let books = books.clone();
        world.add_node(config, move || {
            let books = books.clone();
            Box::new(move |_core| Box::pin(node::run(books.clone(), node)))
        });
    }
    for client in 0..=CLIENTS {
        let books = books.clone();
        world.add_node(NodeConfig { disks: Vec::new(), ..NodeConfig::default() }, move || {
            let books = books.clone();
            Box::new(move |_core| {
                let books = books.clone();
                Box::pin(async move {
                    if client == CLIENTS { client::operate(books).await } else { client::run(books, client).await }
                })
            })
        });
    }
    world.apply(plan);
    storm(&mut world, &books);
    let verdict = judge(&mut world, &books);
    // What is open has files, these the world, that the programs, and they the books: a ring that would stay.
    books.open.iter().for_each(|open| drop(open.take()));
    Outcome::of(&world, verdict)
}

/// The weather of the plan, and the cuts that nodes ask for at a bad moment of theirs.
fn storm(world: &mut World, books: &Rc<Books>) {
    let end = world.now() + millis(STORM_MS);
    loop {
        let seen = books.clone();
        if !world.run_until(end.saturating_sub(world.now()), move || seen.cut.get().is_some()) {
            return;
        }
        let side = books.cut.take().unwrap_or_default();
        for other in (0..books.replicas).filter(|node| !side.contains(node)) {
            for node in side {
                world.inject(&Fault::Partition { a: NodeId(node), b: NodeId(other), lasting: millis(1_000) });
            }
        }
    }
}

/// After the storm: everything works again, all replicas are the same, and so they are when the indices are made anew.
fn judge(world: &mut World, books: &Rc<Books>) -> Result<(), String> {
    world.calm();
    books.is_storm_over.set(true);
    settle(world, books, "after the storm")?;
    books.history.check()?;
    let before = rows(books)?;
    books.are_indices_lost.set(true);
    let rebuilt = books.rebuilt.get();
    for node in 0..books.replicas {
        world.inject(&Fault::PowerCut { node: NodeId(node), lasting: millis(10) });
    }
    let seen = books.clone();
    let is_back = world.run_until(millis(60_000), move || {
        seen.rebuilt.get() >= rebuilt + seen.replicas as u64 && seen.open.iter().all(|open| open.borrow().is_some())
    });
    if !is_back {
        return Err(format!("a node without an index doesn't come back: {:?}", books.ended));
    }
    settle(world, books, "with indices made anew")?;
    let after = rows(books)?;
    if before != after {
        return Err(format!("indices made anew have other rows:\n{before:?}\n{after:?}"));
    }
    Ok(())
}

/// Waits until all members of each slot are there, and have applied the same.
fn settle(world: &mut World, books: &Rc<Books>, when: &str) -> Result<(), String> {
    let seen = books.clone();
    let is_settled = world.run_until(millis(120_000), move || seen.lives.get() > LIVES_MAX || state(&seen).is_ok());
    let panics: Vec<String> = (0..=books.replicas + CLIENTS).flat_map(|node| world.panics(NodeId(node))).collect();
    if !panics.is_empty() {
        return Err(format!("programs panicked: {panics:?}"));
    }
    if is_settled && state(books).is_ok() {
        return Ok(());
    }
    let reason = state(books).err().unwrap_or_default();
    Err(format!("two minutes later, {when}, the slots aren't at rest: {reason}; last lives: {:?}", books.ended))
}

fn state(books: &Books) -> Result<(), String> {
    if books.done.get() < CLIENTS {
        return Err("a client still asks".to_owned());
    }
    let mut applied: BTreeMap<u32, u64> = BTreeMap::new();
    for (node, open) in books.open.iter().enumerate() {
        let open = open.borrow();
        let slots = open.as_ref().ok_or(format!("node {node} is down"))?;
        for slot in 0..SLOTS {
            let status = slots.status(slot).map_err(|error| format!("node {node}: {error}"))?;
            let voters: BTreeSet<u64> = status.voters.iter().map(|id| id.0).collect();
            let index = status.applied.unwrap_or(0);
            let is_same = *applied.entry(slot).or_insert(index) == index;
            let is_good = status.leader.is_some() && status.lag == 0 && voters == books.members() && is_same;
            let is_good = is_good && status.is_resting;
            if !is_good || status.applied.is_none() || status.last != status.applied {
                return Err(format!("node {node}, slot {slot}: {status:?}, others have applied {}", applied[&slot]));
            }
        }
    }
    Ok(())
}

/// Whether every node that is up says that every node belongs to a slot's group.
fn is_complete(books: &Books, slot: u32) -> bool {
    books.open.iter().all(|open| {
        let status = open.borrow().as_ref().and_then(|slots| slots.status(slot).ok());
        status.is_none_or(|status| status.voters.iter().map(|id| id.0).collect::<BTreeSet<_>>() == books.members())
    })
}

type Table = BTreeMap<Vec<u8>, Vec<u8>>;

/// The rows of each slot; all nodes must have the same.
fn rows(books: &Books) -> Result<Vec<Table>, String> {
    let mut all: Vec<Option<Table>> = vec![None; SLOTS as usize];
    for (node, open) in books.open.iter().enumerate() {
        let open = open.borrow();
        let slots = open.as_ref().ok_or("a node is down")?;
        for slot in 0..SLOTS {
            let read = slots.read(slot, |rows| {
                let mut table = Table::new();
                let everything = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
                let walked = rows.walk(everything, Order::Forward, &mut |key, value| {
                    table.insert(key.to_vec(), value.to_vec());
                    std::ops::ControlFlow::Continue(())
                });
                walked.map(|()| table)
            });
            let table = read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
            let first = all[slot as usize].get_or_insert_with(|| table.clone());
            if *first != table {
                return Err(format!("slot {slot} of node {node} differs:\n{table:?}\n{first:?}"));
            }
        }
    }
    Ok(all.into_iter().flatten().collect())
}

fn below(limit: u64) -> u64 {
    rng::next_u64() % limit
}

fn small(number: u64) -> usize {
    usize::try_from(number).expect("a small number")
}
