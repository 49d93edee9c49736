//! A replicated counter: three replicas, each with a log on disk; two clients that add and read.
//!
//! The counter is the number of distinct ids that replicas hold, so an increment that is sent twice counts once. An
//! increment is acknowledged when two of three replicas have it durable; a read asks two replicas that serve. A replica
//! with a damaged or missing log serves nobody until it has asked both others what they hold.
//!
//! Promised: a read that begins after an acknowledgement sees that increment, and no read sees one that nobody made.
//! Faults in the model: everything, except that bits rot and disks are lost on one replica only, and that writes which
//! are acknowledged and not there, or elsewhere, are beyond it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use cairn_io::fs::Dir;
use cairn_io::net::{Listener, Reuse, Stream};
use cairn_io::rng;
use cairn_io::sim::{FaultKind, FaultPlan, NodeConfig, NodeId, Profile, Program, World, WorldConfig};
use cairn_io::task::{self, Class};
use cairn_io::time::{self, sleep, timeout};
use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::bell::Bell;
use crate::harness::{Outcome, millis, plan_rng};
use crate::log::{self, IDS_PER_BLOCK, Id, Log};
use crate::wire;

const REPLICAS: usize = 3;
const CLIENTS: usize = 2;
const MAJORITY: usize = 2;
const PORT: u16 = 7000;
/// Faults strike within this time; afterwards everything must come back.
const STORM_MS: u64 = 8_000;

/// The faults of a seed: any kind on any node, rot and lost disks on replica 0 only.
pub fn plan(seed: u64) -> FaultPlan {
    let mut rng = plan_rng(seed);
    let one_only = [FaultKind::BitRot, FaultKind::LoseDisk];
    let beyond = [FaultKind::LoseWrites, FaultKind::MisdirectWrites];
    let all: Vec<NodeId> = (0..REPLICAS + CLIENTS).map(NodeId).collect();
    let anywhere = Profile::all(&all, 1, millis(STORM_MS)).without(&one_only).without(&beyond);
    let on_one = Profile { faults_max: 3, ..Profile::all(&[NodeId(0)], 1, millis(STORM_MS)).only(&one_only) };
    let mut plan = FaultPlan::random(&mut rng, &anywhere);
    for (at, fault) in FaultPlan::random(&mut rng, &on_one).faults() {
        plan = plan.with(*at, fault.clone());
    }
    plan
}

/// What the clients saw; the judge looks at it.
#[derive(Default)]
struct History {
    attempted: RefCell<BTreeSet<Id>>,
    acknowledged: RefCell<BTreeSet<Id>>,
    broken: RefCell<Vec<String>>,
    reads: Cell<u64>,
}

pub fn run(seed: u64, plan: &FaultPlan) -> Outcome {
    let mut world = World::new(seed, WorldConfig::default());
    let history = Rc::new(History::default());
    for replica in 0..REPLICAS {
        let config = NodeConfig { restart_after: Some(millis(200)), ..NodeConfig::default() };
        world.add_node(config, move || program(move || Box::pin(run_replica(replica))));
    }
    for client in 0..CLIENTS {
        let history = history.clone();
        let next = Rc::new(Cell::new(0));
        let config = NodeConfig { disks: Vec::new(), ..NodeConfig::default() };
        world.add_node(config, move || {
            let (history, next) = (history.clone(), next.clone());
            program(move || Box::pin(run_client(client, history.clone(), next.clone())))
        });
    }
    world.apply(plan);
    world.run_for(millis(STORM_MS));
    let verdict = judge(&mut world, &history);
    Outcome::of(&world, verdict)
}

fn program(run: impl Fn() -> LocalBoxFuture<'static, ()> + 'static) -> Program {
    Box::new(move |_core| run())
}

/// After the storm: no promise was broken, and in calm weather clients get on with it.
fn judge(world: &mut World, history: &Rc<History>) -> Result<(), String> {
    let panics: Vec<String> = (0..REPLICAS + CLIENTS).flat_map(|node| world.panics(NodeId(node))).collect();
    if !panics.is_empty() {
        return Err(format!("programs panicked: {panics:?}"));
    }
    world.run_for(millis(STORM_MS / 3));
    world.calm();
    let (acknowledged, reads) = (history.acknowledged.borrow().len(), history.reads.get());
    let seen = history.clone();
    let lively = world.run_until(millis(120_000), || {
        seen.acknowledged.borrow().len() > acknowledged + 5 && seen.reads.get() > reads + 5
    });
    if let Some(broken) = history.broken.borrow().first() {
        return Err(broken.clone());
    }
    if lively { Ok(()) } else { Err("two minutes after the storm nothing works yet".to_owned()) }
}

fn address(replica: usize) -> SocketAddr {
    let host = u8::try_from(replica + 1).expect("a small world");
    SocketAddr::from(([10, 0, 0, host], PORT))
}

// What is said: a letter, then ids of eight bytes each.

const ADD: u8 = b'a';
const STORE: u8 = b's';
const READ: u8 = b'r';
/// As a read, answered even by a replica that doesn't serve yet.
const COPY: u8 = b'c';
const YES: u8 = b'y';
const NO: u8 = b'n';

fn say(letter: u8, ids: impl IntoIterator<Item = Id>) -> Vec<u8> {
    let mut text = vec![letter];
    ids.into_iter().for_each(|id| text.extend_from_slice(&id.to_le_bytes()));
    text
}

fn hear(text: &[u8]) -> (u8, Vec<Id>) {
    let (letter, rest) = text.split_first().unwrap_or((&NO, &[]));
    let ids = rest.chunks_exact(8).map(|chunk| Id::from_le_bytes(chunk.try_into().expect("chunks of eight")));
    (*letter, ids.collect())
}

async fn ask(replica: usize, text: &[u8]) -> io::Result<Vec<Id>> {
    let answer = wire::ask(address(replica), text, millis(150)).await?;
    match hear(&answer) {
        (YES, ids) => Ok(ids),
        _ => Err(io::Error::other("the replica says no")),
    }
}

/// One life of a replica. It ends at the first error of its disk: what the disk has is learned by the next life.
struct Replica {
    me: usize,
    /// Durable here.
    ids: RefCell<BTreeSet<Id>>,
    serving: Cell<bool>,
    /// Waiting to be written.
    queue: RefCell<Vec<Id>>,
    /// The disk has failed, and this life is about to end.
    failed: Cell<bool>,
    /// Rung when any of the above has changed.
    changed: Bell,
}

async fn run_replica(me: usize) {
    // The disk may be gone, full or read-only: then this life ends and the next one tries again.
    let _ = live(me).await;
}

async fn live(me: usize) -> io::Result<()> {
    let dir = Dir::create("/disk0/counter").await?;
    let found = log::load(&dir).await?;
    let replica = Rc::new(Replica {
        me,
        ids: RefCell::new(found.ids),
        serving: Cell::new(false),
        queue: RefCell::default(),
        failed: Cell::new(false),
        changed: Bell::default(),
    });
    let listener = Listener::bind(address(me), Reuse::Exclusive)?;
    task::spawn(Class::Foreground, accept(replica.clone(), listener)).detach();
    if !found.is_whole {
        replica.ask_both_others().await;
    }
    let known = replica.ids.borrow().clone();
    let log = Log::replace(dir, &known).await?;
    replica.serving.set(true);
    replica.clone().write(log).await
}

impl Replica {
    fn others(&self) -> impl Iterator<Item = usize> {
        let me = self.me;
        (0..REPLICAS).filter(move |other| *other != me)
    }

    /// Whatever this replica once acknowledged, one of the others has.
    async fn ask_both_others(&self) {
        for other in self.others() {
            loop {
                if let Ok(ids) = ask(other, &say(COPY, [])).await {
                    self.ids.borrow_mut().extend(ids);
                    break;
                }
                sleep(millis(50)).await;
            }
        }
    }

    /// Writes what is queued, batch by batch, for ever or until the disk fails.
    async fn write(self: Rc<Self>, mut log: Log) -> io::Result<()> {
        loop {
            let batch = self.changed.until(|| self.next_batch()).await;
            let written = log.append(&batch).await;
            self.failed.set(written.is_err());
            self.ids.borrow_mut().extend(batch.iter().filter(|_| written.is_ok()));
            self.changed.ring();
            written?;
        }
    }

    fn next_batch(&self) -> Option<Vec<Id>> {
        let mut queue = self.queue.borrow_mut();
        let len = queue.len().min(IDS_PER_BLOCK);
        (len > 0).then(|| queue.drain(..len).collect())
    }

    /// Waits until the ids are durable here; false if that won't come.
    async fn store(&self, ids: &[Id]) -> bool {
        if !self.serving.get() {
            return false;
        }
        self.queue.borrow_mut().extend_from_slice(ids);
        self.changed.ring();
        let stored = || ids.iter().all(|id| self.ids.borrow().contains(id));
        let outcome = self.changed.until(|| if stored() { Some(true) } else { self.failed.get().then_some(false) });
        timeout(millis(200), outcome).await.unwrap_or(false)
    }

    /// Durable on two of three; the third may get it or not.
    async fn add(self: &Rc<Self>, ids: Vec<Id>) -> bool {
        let mut copies: FuturesUnordered<LocalBoxFuture<'_, bool>> = FuturesUnordered::new();
        let here = self.clone();
        let own = ids.clone();
        copies.push(Box::pin(async move { here.store(&own).await }));
        for other in self.others() {
            let text = say(STORE, ids.iter().copied());
            copies.push(Box::pin(async move { ask(other, &text).await.is_ok() }));
        }
        let mut durable = 0;
        while let Some(stored) = copies.next().await {
            durable += usize::from(stored);
            if durable == MAJORITY {
                return true;
            }
        }
        false
    }

    async fn answer(self: &Rc<Self>, text: &[u8]) -> Vec<u8> {
        let (letter, ids) = hear(text);
        let done = match letter {
            ADD => self.serving.get() && self.add(ids).await,
            STORE => self.store(&ids).await,
            READ => self.serving.get(),
            COPY => true,
            _ => false,
        };
        match (done, letter) {
            (true, READ | COPY) => say(YES, self.ids.borrow().iter().copied()),
            (true, _) => say(YES, []),
            (false, _) => say(NO, []),
        }
    }
}

async fn accept(replica: Rc<Replica>, listener: Listener) {
    while let Ok((stream, _)) = listener.accept().await {
        let replica = replica.clone();
        task::spawn(Class::Foreground, async move {
            // A peer that goes away in the middle is the peer's business.
            let _ = timeout(millis(5_000), serve(replica, stream)).await;
        })
        .detach();
    }
}

async fn serve(replica: Rc<Replica>, mut stream: Stream) -> io::Result<()> {
    while let Some(text) = wire::receive(&mut stream).await? {
        let answer = replica.answer(&text).await;
        wire::send(&mut stream, &answer).await?;
    }
    Ok(())
}

/// Adds and reads for ever. `next` outlives this life, so that no id is used for two increments.
async fn run_client(client: usize, history: Rc<History>, next: Rc<Cell<u64>>) {
    loop {
        sleep(millis(5 + rng::next_u64() % 30)).await;
        if rng::next_u64().is_multiple_of(4) {
            read(&history).await;
        } else {
            let id = (client as u64) << 32 | next.replace(next.get() + 1);
            add(&history, id).await;
        }
    }
}

/// Tries for a while, at one replica after the other; an id may well be sent to several.
async fn add(history: &History, id: Id) {
    history.attempted.borrow_mut().insert(id);
    let begun = time::now();
    while begun.elapsed() < millis(2_000) {
        let replica = usize::try_from(rng::next_u64() % REPLICAS as u64).expect("below three");
        if ask(replica, &say(ADD, [id])).await.is_ok() {
            history.acknowledged.borrow_mut().insert(id);
            return;
        }
        sleep(millis(20)).await;
    }
}

/// Reads two replicas and holds the result against what was acknowledged before.
async fn read(history: &History) {
    let before: BTreeSet<Id> = history.acknowledged.borrow().clone();
    let skip = usize::try_from(rng::next_u64() % REPLICAS as u64).expect("below three");
    let mut seen = BTreeSet::new();
    for replica in (0..REPLICAS).filter(|replica| *replica != skip) {
        let Ok(ids) = ask(replica, &say(READ, [])).await else { return };
        seen.extend(ids);
    }
    history.reads.set(history.reads.get() + 1);
    let lost: Vec<&Id> = before.difference(&seen).collect();
    if !lost.is_empty() {
        let text = format!("at {:?} replicas other than {skip} have lost {lost:x?}", time::now());
        history.broken.borrow_mut().push(text);
    }
    let attempted = history.attempted.borrow();
    let invented: Vec<&Id> = seen.difference(&attempted).collect();
    if !invented.is_empty() {
        history.broken.borrow_mut().push(format!("nobody made {invented:x?}"));
    }
}
