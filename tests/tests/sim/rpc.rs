//! Three nodes that call each other, also those that lead nothing, while connections break, stall and come back, and
//! nodes crash and pause.
//!
//! Promised: a call takes effect at most once; one that was answered well took effect once, with what was sent; one of which
//! is said that nothing was done never takes effect; nobody waits longer than its deadline; work is not begun behind it; and
//! when the storm is over, everyone reaches everyone and nothing is left under way.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use cairn_daemon::rpc::{
    Answering, Backoff, Caller, Client, ControlService, Credential, Exposure, Identity, KeyService, Limits, Pool,
    RaftService, Server, Services, SlotService,
};
use cairn_io::rng;
use cairn_io::sim::{FaultKind, FaultPlan, NodeConfig, NodeId, Profile, World, WorldConfig};
use cairn_io::task::{Class, spawn};
use cairn_io::time::{Duration, now, sleep};
use cairn_schema::{
    Advice, Answer, Applied, Commit, CommitRequest, Committed, Error, ErrorKind, ListRequest, MapRequest, MapUpdate,
    NodeRef, Outcome as Done, Page, ProposeRequest, RaftRequest, ReadRequest, ReadResult, SlotRequest,
    SnapshotProgress, SnapshotRequest,
};

use crate::harness::{Outcome, millis, plan_rng};

const NODES: u64 = 3;
const PORT: u16 = 7000;
const STORM_MS: u64 = 3_000;
const CLIENTS: usize = 6;
/// A pause ends before anyone looks at the clock again.
const SLACK: Duration = Duration::from_millis(400);
const CLUSTER: [u8; 16] = [3; 16];

pub fn plan(seed: u64) -> FaultPlan {
    let nodes: Vec<NodeId> = (0..NODES as usize).map(NodeId).collect();
    let kinds = [
        FaultKind::Kill,
        FaultKind::PowerCut,
        FaultKind::Pause,
        FaultKind::Partition,
        FaultKind::Cut,
        FaultKind::SlowLink,
        FaultKind::Reset,
        FaultKind::Isolate,
        FaultKind::ClockJump,
        FaultKind::ClockDrift,
    ];
    let profile = Profile { lasting_max: millis(300), ..Profile::all(&nodes, 0, millis(STORM_MS)) };
    FaultPlan::random(&mut plan_rng(seed), &profile.only(&kinds))
}

/// What became of each call, over all lives.
#[derive(Default)]
struct Ledger {
    /// How often each took effect.
    effects: RefCell<BTreeMap<u64, u32>>,
    /// What its caller was told.
    told: RefCell<BTreeMap<u64, Told>>,
    next: Cell<u64>,
    leader: Cell<u64>,
    /// Pairs of nodes that reached each other since the storm.
    reached: RefCell<BTreeMap<(u64, u64), u32>>,
    is_storm_over: Cell<bool>,
    under_way: RefCell<BTreeMap<u64, usize>>,
    broken: RefCell<Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Done,
    Nothing,
    Unknown,
}

impl Ledger {
    fn number(&self) -> u64 {
        self.next.replace(self.next.get() + 1)
    }

    fn take_effect(&self, caller: &Caller, number: u64) {
        *self.effects.borrow_mut().entry(number).or_default() += 1;
        if caller.remaining().is_zero() {
            self.complain(format!("call {number} was begun behind its deadline"));
        }
    }

    fn tell<T>(&self, number: u64, answer: &Result<T, Error>) {
        let told = match answer {
            Ok(_) => Told::Done,
            Err(error) if error.outcome == Done::NothingDone => Told::Nothing,
            Err(_) => Told::Unknown,
        };
        self.told.borrow_mut().insert(number, told);
    }

    fn complain(&self, what: String) {
        self.broken.borrow_mut().push(what);
    }

    fn check(&self) {
        let effects = self.effects.borrow();
        let times = |number| effects.get(number).copied().unwrap_or(0);
        for (number, told) in &*self.told.borrow() {
            let times = times(number);
            let is_fine = match told {
                Told::Done => times == 1,
                Told::Nothing => times == 0,
                Told::Unknown => times <= 1,
            };
            if !is_fine {
                self.complain(format!("call {number} was told {told:?} and took effect {times} times"));
            }
        }
        for (number, times) in effects.iter().filter(|(_, times)| **times > 1) {
            self.complain(format!("call {number} took effect {times} times"));
        }
    }
}

/// What a node does: notes it.
struct Service {
    node: u64,
    ledger: Rc<Ledger>,
}

fn number_of(bytes: &[u8]) -> u64 {
    bytes.first_chunk().copied().map_or(u64::MAX, u64::from_le_bytes)
}

fn unused<T>() -> Answering<'static, T> {
    Box::pin(async { Err(Error::new(ErrorKind::Unsupported, Advice::Stop, "not in this scenario")) })
}

impl KeyService for Service {
    fn client(&self, _: &str) -> Answer<Option<Client>> {
        Ok(None)
    }
}

impl SlotService for Service {
    fn commit<'a>(&'a self, caller: Caller, request: &'a CommitRequest) -> Answering<'a, Vec<Answer<Committed>>> {
        Box::pin(async move {
            let leader = self.ledger.leader.get();
            if leader != self.node {
                let advice = Advice::GoTo(NodeRef { node: leader, address: String::new() });
                return Err(Error::new(ErrorKind::NotLeader, advice, "another one leads"));
            }
            for commit in &request.commits {
                self.ledger.take_effect(&caller, commit.bucket);
            }
            sleep(millis(rng::next_u64() % 5)).await;
            Ok(request.commits.iter().map(|_| Ok(Committed::default())).collect())
        })
    }

    fn read<'a>(&'a self, _: Caller, _: &'a ReadRequest) -> Answering<'a, ReadResult> {
        unused()
    }

    fn list<'a>(&'a self, _: Caller, _: &'a ListRequest) -> Answering<'a, Page> {
        unused()
    }
}

impl RaftService for Service {
    fn batch<'a>(&'a self, caller: Caller, request: &'a RaftRequest) -> Answering<'a, Bytes> {
        Box::pin(async move {
            self.ledger.take_effect(&caller, number_of(&request.data));
            // Some are slower than their callers wait.
            sleep(millis(rng::next_u64() % 40)).await;
            Ok(request.data.clone())
        })
    }

    fn command<'a>(&'a self, _: Caller, _: &'a SlotRequest) -> Answering<'a, Bytes> {
        unused()
    }

    fn query<'a>(&'a self, _: Caller, _: &'a SlotRequest) -> Answering<'a, Bytes> {
        unused()
    }

    fn snapshot<'a>(&'a self, _: Caller, _: &'a SnapshotRequest) -> Answering<'a, SnapshotProgress> {
        unused()
    }
}

impl ControlService for Service {
    fn map<'a>(&'a self, _: Caller, _: &'a MapRequest) -> Answering<'a, MapUpdate> {
        unused()
    }

    fn wait<'a>(&'a self, _: Caller, _: &'a MapRequest) -> Answering<'a, MapUpdate> {
        unused()
    }

    fn propose<'a>(&'a self, _: Caller, _: &'a ProposeRequest) -> Answering<'a, Applied> {
        unused()
    }
}

pub fn run(seed: u64, plan: &FaultPlan) -> Outcome {
    let mut world = World::new(seed, WorldConfig::default());
    let ledger = Rc::new(Ledger::default());
    ledger.leader.set(1);
    for node in 1..=NODES {
        let ledger = ledger.clone();
        let config = NodeConfig { cores: 1, restart_after: Some(millis(20)), ..NodeConfig::default() };
        world.add_node(config, move || {
            let ledger = ledger.clone();
            Box::new(move |_| Box::pin(live(node, ledger.clone())))
        });
    }
    world.apply(plan);
    world.run_for(millis(STORM_MS));
    world.calm();
    ledger.is_storm_over.set(true);
    let seen = ledger.clone();
    let pairs = (NODES * NODES) as usize;
    let is_lively = world.run_until(millis(60_000), || {
        let reached = seen.reached.borrow();
        reached.len() == pairs && reached.values().all(|times| *times > 3)
    });
    // Long enough for every deadline to pass and every connection that is gone to be noticed.
    let quiet = ledger.clone();
    let is_quiet = world.run_until(millis(30_000), || {
        let under_way = quiet.under_way.borrow();
        under_way.len() == NODES as usize && under_way.values().all(|calls| *calls == 0)
    });
    ledger.check();
    if !is_lively {
        ledger.complain(format!("a minute after the storm these reached each other: {:?}", ledger.reached.borrow()));
    }
    if !is_quiet {
        ledger.complain(format!("calls are still under way: {:?}", ledger.under_way.borrow()));
    }
    for node in 0..NODES as usize {
        world.panics(NodeId(node)).into_iter().for_each(|panic| ledger.complain(panic));
    }
    let verdict = ledger.broken.borrow().first().map_or(Ok(()), |broken| Err(broken.clone()));
    Outcome::of(&world, verdict)
}

fn address(node: u64) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, u8::try_from(node).expect("a small world")], PORT))
}

/// Small and short, so that limits are met.
fn limits() -> Limits {
    Limits {
        calls_max: 4,
        hello_within: millis(200),
        message_within: millis(200),
        write_within: millis(200),
        idle_within: millis(400),
        deadline: millis(500),
        ..Limits::default()
    }
}

async fn live(node: u64, ledger: Rc<Ledger>) {
    ledger.under_way.borrow_mut().remove(&node);
    let identity = Identity::new(CLUSTER, node, Credential::Member([7; 32]));
    let backoff = Backoff { first: millis(10), max: millis(200) };
    let pool = Rc::new(Pool::new(identity.clone(), limits(), backoff));
    (1..=NODES).for_each(|other| pool.set(other, address(other)));
    let service = || Service { node, ledger: ledger.clone() };
    let services = Services {
        keys: Rc::new(service()),
        slots: Rc::new(service()),
        control: Rc::new(service()),
        raft: Rc::new(service()),
    };
    let server = Server::bind(address(node), Exposure::Insecure, identity, limits(), services);
    let server = server.expect("the port is free when a node starts");
    let clients: Vec<_> =
        (0..CLIENTS).map(|_| spawn(Class::Foreground, client(node, pool.clone(), ledger.clone()))).collect();
    loop {
        sleep(millis(10)).await;
        if server.panics() > 0 {
            ledger.complain(format!("a connection of node {node} panicked"));
        }
        if ledger.is_storm_over.get() && clients.iter().all(cairn_io::task::JoinHandle::is_finished) {
            ledger.under_way.borrow_mut().insert(node, server.calls());
        }
        if !ledger.is_storm_over.get() && rng::with(|rng| rng.chance(20_000)) {
            ledger.leader.set(1 + rng::next_u64() % NODES);
        }
    }
}

/// Calls others until the storm is over and it has reached all of them a few times.
async fn client(node: u64, pool: Rc<Pool>, ledger: Rc<Ledger>) {
    let is_done = || (1..=NODES).all(|to| ledger.reached.borrow().get(&(node, to)).is_some_and(|times| *times > 3));
    while !ledger.is_storm_over.get() || !is_done() {
        let to = 1 + rng::next_u64() % NODES;
        let within = millis(5 + rng::next_u64() % 200);
        let begun = now();
        let number = ledger.number();
        let is_answered = if rng::next_u64().is_multiple_of(2) {
            commit(&pool, &ledger, to, number, within).await
        } else {
            raft(&pool, &ledger, to, number, within).await
        };
        if begun.elapsed() > within + SLACK {
            ledger.complain(format!("call {number} had {within:?} and took {:?}", begun.elapsed()));
        }
        if is_answered && ledger.is_storm_over.get() {
            *ledger.reached.borrow_mut().entry((node, to)).or_default() += 1;
        }
        sleep(millis(rng::next_u64() % 20)).await;
    }
}

async fn raft(pool: &Pool, ledger: &Ledger, to: u64, number: u64, within: Duration) -> bool {
    // Up to 20 KiB, so that messages come in pieces.
    let mut data = vec![number as u8; 8 + (rng::next_u64() % 20_000) as usize];
    data[..8].copy_from_slice(&number.to_le_bytes());
    let data = Bytes::from(data);
    let answer = pool.peer(to).expect("set").raft(data.clone(), within).await;
    ledger.tell(number, &answer);
    if answer.as_ref().is_ok_and(|back| *back != data) {
        ledger.complain(format!("call {number} brought back something else"));
    }
    answer.is_ok()
}

async fn commit(pool: &Pool, ledger: &Ledger, to: u64, number: u64, within: Duration) -> bool {
    let commit = Commit { bucket: number, key: "k".to_owned(), ..Commit::default() };
    let request = CommitRequest { commits: vec![commit], ..CommitRequest::default() };
    let answer = pool.peer(to).expect("set").commit(request, within).await;
    ledger.tell(number, &answer);
    answer.is_ok()
}
