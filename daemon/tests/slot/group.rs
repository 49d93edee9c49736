//! Groups of three nodes on one core: each with a lane of its own, messages handed over in memory or, where a test says so,
//! by RPC.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::{Bound, ControlFlow};
use std::rc::Rc;

use bytes::Bytes;
use cairn_daemon::lane::{At, Lane, Options as LaneOptions, Owner, Row};
use cairn_daemon::rpc::{Limits, Pool, Server, Services};
use cairn_daemon::slot::{Options, SlotError, SlotStatus, Slots, Transport, Unreachable};
use cairn_io::fs::Dir;
use cairn_io::log::Options as LogOptions;
use cairn_io::time::{self, Duration, sleep};
use cairn_meta::index::{Error, Order, Store};
use cairn_meta::rows::{Batch, Machine, Rows};
use cairn_placement::NodeId;
use futures_util::future::LocalBoxFuture;

use crate::drivers::{Place, on_each_driver};
use crate::fake::{self, backoff, identity};

on_each_driver!(
    a_group_survives_restarts_and_lost_indices,
    a_node_never_shows_less_than_before_a_restart,
    a_new_member_gets_a_snapshot,
    a_group_of_one_rests_until_others_join,
    a_group_in_which_nothing_happens_rests_until_something_does,
    a_leader_hands_over,
    who_was_to_join_when_it_was_interrupted_leaves,
    a_command_with_too_many_rows_is_refused_and_the_group_goes_on,
    more_rows_between_two_snapshots_than_a_record_holds_are_no_trouble,
    a_replica_that_is_too_old_stops_and_says_so,
    a_group_whose_task_panicked_is_not_taken_for_well,
    a_group_leaves_a_lane_that_takes_no_writes_any_more,
    rows_that_end_before_the_log_begins_are_not_shown,
    rows_that_the_log_never_had_are_in_it_before_it_begins_behind_them,
);

/// `key=value` sets, `key` deletes; the answer is what was there.
pub struct Words;

impl Machine for Words {
    fn apply(&self, rows: &mut Batch<'_>, _: u64, command: &[u8]) -> Result<Vec<u8>, Error> {
        let mut parts = command.splitn(2, |byte| *byte == b'=');
        let key = parts.next().unwrap_or_default();
        let before = rows.get(key)?.unwrap_or_default();
        match key {
            b"newer" => return Err(Error::Newer { what: "a test", level: 9, known: 1 }),
            b"panic" => panic!("as the test wants"),
            b"many" => (0..40_000_u32).for_each(|row| rows.put(row.to_be_bytes(), *b"value")),
            _ => {}
        }
        match parts.next() {
            Some(value) => rows.put(key, value),
            None => rows.delete(key),
        }
        Ok(before)
    }

    fn too_large(&self, bytes: usize, max: usize) -> Vec<u8> {
        format!("{bytes} bytes of rows, at most {max}").into_bytes()
    }
}

/// Who can be reached.
type Net = Rc<RefCell<BTreeMap<u64, Slots>>>;

struct InMemory(Net);

impl Transport for InMemory {
    fn send(&self, node: u64, batch: Bytes, limit: Duration) -> LocalBoxFuture<'_, Result<Bytes, Unreachable>> {
        let there = self.0.borrow().get(&node).cloned();
        Box::pin(async move {
            let no = |reason: &str| Unreachable { node, reason: reason.to_owned() };
            let there = there.ok_or_else(|| no("it is down"))?;
            let answer = time::timeout(limit, there.handle(batch)).await.map_err(|_| no("too slow"))?;
            answer.map_err(|error| no(&error.to_string()))
        })
    }
}

pub struct Node {
    pub id: u64,
    dir: String,
    store: Store,
    lane: Option<Lane>,
    pub slots: Option<Slots>,
    /// Of a cluster over RPC: where it listens.
    pub addr: Option<SocketAddr>,
    pub pool: Option<Rc<Pool>>,
    pub server: Option<Server>,
}

pub struct Cluster {
    net: Net,
    /// Over RPC, on this address; otherwise in memory.
    rpc: Option<IpAddr>,
    pub nodes: Vec<Node>,
}

pub const SLOT: u32 = 3;

pub fn options() -> Options {
    Options {
        heartbeat: Duration::from_millis(50),
        election: (Duration::from_millis(200), Duration::from_millis(400)),
        snapshot_entries: 50,
        kept_entries: 10,
        propose_limit: Duration::from_secs(5),
        ..Options::default()
    }
}

impl Cluster {
    pub async fn new(place: &Place, count: u64, rpc: Option<IpAddr>) -> Self {
        let mut cluster = Self { net: Rc::default(), rpc, nodes: Vec::new() };
        for id in 1..=count {
            let dir = format!("{}/{id}", place.dir);
            let made = Dir::create(&dir).await.expect("a directory");
            Lane::create(&made, Owner::default(), 0, 1 << 20).await.expect("a lane");
            let (store, addr) = (place.store(&dir), rpc.map(|ip| SocketAddr::new(ip, 0)));
            cluster.nodes.push(Node { id, store, dir, lane: None, slots: None, addr, pool: None, server: None });
        }
        for at in 0..count as usize {
            cluster.start(at).await;
        }
        cluster
    }

    pub async fn start(&mut self, at: usize) {
        self.start_with(at, options()).await;
    }

    pub async fn start_with(&mut self, at: usize, options: Options) {
        let pool = self.rpc.map(|_| Rc::new(self.pool(at)));
        let transport: Rc<dyn Transport> = match &pool {
            Some(pool) => pool.clone(),
            None => Rc::new(InMemory(self.net.clone())),
        };
        let node = &mut self.nodes[at];
        let log = LogOptions { keep_free: 0, ahead: 1, reserve: 1, segments_max: 16, ..LogOptions::default() };
        let lane_options = LaneOptions { log, partitions: 4, ballast: 0, ..LaneOptions::default() };
        let dir = Dir::open(&node.dir).await.expect("it is there");
        let (lane, _) = Lane::open(&dir, node.store.clone(), lane_options).await.expect("it opens");
        let slots = Slots::new(NodeId(node.id), transport, options).expect("fine options");
        slots.open(SLOT, &lane, Rc::new(Words)).await.expect("it opens");
        self.net.borrow_mut().insert(node.id, slots.clone());
        (node.lane, node.slots, node.pool) = (Some(lane), Some(slots), pool);
        if self.rpc.is_some() {
            self.listen(at);
        }
    }

    /// What a node calls those with that have begun to listen.
    fn pool(&self, at: usize) -> Pool {
        let pool = Pool::new(identity(self.nodes[at].id), Limits::default(), backoff());
        for other in self.nodes.iter().filter(|other| other.id != self.nodes[at].id) {
            other.addr.filter(|addr| addr.port() != 0).into_iter().for_each(|addr| pool.set(other.id, addr));
        }
        pool
    }

    /// Serves a node's groups by RPC, where it did before, and tells the others.
    pub fn listen(&mut self, at: usize) {
        let Node { id, slots, addr, .. } = &self.nodes[at];
        let raft = Rc::new(slots.clone().expect("it runs"));
        let services = Services { raft, ..fake::services(&Rc::default()) };
        let server = fake::start_at(addr.expect("it is over RPC"), *id, Limits::default(), services);
        let (id, addr) = (*id, server.local_addr());
        (self.nodes[at].addr, self.nodes[at].server) = (Some(addr), Some(server));
        for other in self.nodes.iter().filter(|other| other.id != id) {
            other.pool.iter().for_each(|pool| pool.set(id, addr));
        }
    }

    /// From now on nobody reaches anybody.
    pub fn silence(&self) {
        self.net.borrow_mut().clear();
    }

    pub async fn stop(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.server = None;
        self.net.borrow_mut().remove(&node.id);
        node.slots.take().expect("it runs").close().await;
        let lane = node.lane.take().expect("it runs");
        lane.close().await.expect("it is closed");
        drop(lane);
        sleep(Duration::from_millis(50)).await;
    }

    /// All that is left of a node's slots is in its log.
    async fn restart_without_index(&mut self, at: usize) {
        self.stop(at).await;
        self.nodes[at].store.clear().expect("nobody has it open");
        self.start(at).await;
    }

    /// Has a command applied by whoever leads.
    pub async fn propose(&self, command: &str) -> Vec<u8> {
        for _ in 0..400 {
            for node in &self.nodes {
                let Some(slots) = &node.slots else { continue };
                match slots.propose(SLOT, Bytes::copy_from_slice(command.as_bytes())).await {
                    Ok(answer) => return answer,
                    Err(SlotError::NotLeader { .. }) => {}
                    Err(error) => panic!("{command}: {error}"),
                }
            }
            sleep(Duration::from_millis(25)).await;
        }
        panic!("nobody leads")
    }

    pub fn leader(&self) -> Option<usize> {
        let leads =
            |node: &Node| node.slots.as_ref().is_some_and(|slots| slots.status(SLOT).is_ok_and(|it| it.is_leader));
        self.nodes.iter().position(leads)
    }

    /// The rows of a node when it has caught up with this entry.
    pub async fn rows(&self, at: usize, applied: u64) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let slots = self.nodes[at].slots.as_ref().expect("it runs");
        for _ in 0..800 {
            if slots.status(SLOT).expect("it is open").applied >= Some(applied) {
                break;
            }
            sleep(Duration::from_millis(25)).await;
        }
        assert!(slots.status(SLOT).expect("open").applied >= Some(applied), "{:?}", slots.status(SLOT));
        let read = slots.read(SLOT, |rows| {
            let mut table = BTreeMap::new();
            let walked = rows.walk((Bound::Unbounded, Bound::Unbounded), Order::Forward, &mut |key, value| {
                table.insert(key.to_vec(), value.to_vec());
                ControlFlow::Continue(())
            });
            walked.map(|()| table)
        });
        read.expect("it is open").expect("it is readable")
    }

    pub async fn applied(&self) -> u64 {
        for _ in 0..400 {
            if let Some(leader) = self.leader() {
                let slots = self.nodes[leader].slots.as_ref().expect("it leads");
                if slots.barrier(SLOT).await.is_ok() {
                    return slots.status(SLOT).expect("open").applied.expect("something");
                }
            }
            sleep(Duration::from_millis(25)).await;
        }
        panic!("nobody leads")
    }
}

pub fn ids(ids: impl IntoIterator<Item = u64>) -> BTreeSet<NodeId> {
    ids.into_iter().map(NodeId).collect()
}

/// So many nodes; the first three are the group's.
pub async fn begin(place: &Place, count: u64) -> Cluster {
    let cluster = Cluster::new(place, count, None).await;
    let slots = cluster.nodes[0].slots.as_ref().expect("it runs");
    slots.create(SLOT, &ids(1..=3)).await.expect("it begins");
    cluster
}

async fn a_group_survives_restarts_and_lost_indices(place: Place) {
    let mut cluster = begin(&place, 3).await;
    for number in 0..200 {
        cluster.propose(&format!("key{}={}", number % 40, "x".repeat(number))).await;
    }
    assert_eq!(cluster.propose("key1").await, vec![b'x'; 161]);
    let before = cluster.rows(0, cluster.applied().await).await;
    assert_eq!(before.len(), 39);
    let status = cluster.nodes[0].slots.as_ref().expect("it runs").status(SLOT).expect("open");
    assert!(status.purged > Some(50), "entries were given up: {status:?}");
    for at in 0..3 {
        cluster.restart_without_index(at).await;
    }
    let applied = cluster.applied().await;
    for at in 0..3 {
        assert_eq!(cluster.rows(at, applied).await, before, "node {at}");
    }
    assert_eq!(cluster.propose("key2=again").await, vec![b'x'; 162]);
}

async fn a_node_never_shows_less_than_before_a_restart(place: Place) {
    let word = |rows: &dyn Rows| rows.get(b"key").expect("it is readable");
    let mut cluster = begin(&place, 3).await;
    cluster.propose("key=old").await;
    cluster.propose("key=new").await;
    cluster.rows(0, cluster.applied().await).await;
    let own = |cluster: &Cluster| cluster.nodes[0].slots.clone().expect("it runs");
    let shown = own(&cluster).read_own(SLOT, word).await.expect("it shows it");
    assert_eq!(shown.as_deref(), Some(&b"new"[..]));
    for at in 0..3 {
        cluster.stop(at).await;
    }
    cluster.nodes[0].store.clear().expect("nobody has it open");
    cluster.start(0).await;
    let slots = own(&cluster);
    assert_eq!(slots.read(SLOT, word).expect("it is open"), None, "the rows went back");
    let alone = time::timeout(Duration::from_millis(500), slots.read_own(SLOT, word)).await;
    assert!(!matches!(alone, Ok(Ok(_))), "it shows {alone:?} and can't know whether it showed more");
    cluster.start(1).await;
    cluster.start(2).await;
    let again = slots.read_own(SLOT, word).await.expect("it shows it again");
    assert_eq!(again, shown);
}

async fn a_new_member_gets_a_snapshot(place: Place) {
    let mut cluster = begin(&place, 4).await;
    for number in 0..300 {
        cluster.propose(&format!("key{number}={}", "y".repeat(1000))).await;
    }
    cluster.propose("key7").await;
    cluster.applied().await;
    let leader = cluster.leader().expect("it leads");
    let old: Vec<u64> = (1..=3).filter(|id| *id != leader as u64 + 1).collect();
    let voters = ids([leader as u64 + 1, old[0], 4]);
    let slots = cluster.nodes[leader].slots.clone().expect("it runs");
    slots.change_voters(SLOT, &voters).await.expect("it is changed");
    let applied = cluster.applied().await;
    let expected = cluster.rows(leader, applied).await;
    assert_eq!(expected.len(), 299);
    assert_eq!(cluster.rows(3, applied).await, expected);
    let status = cluster.nodes[3].slots.as_ref().expect("it runs").status(SLOT).expect("open");
    assert!(status.purged > Some(0) && status.voters == voters, "it came by a snapshot: {status:?}");
    cluster.restart_without_index(3).await;
    assert_eq!(cluster.rows(3, applied).await, expected, "from its log alone");
}

async fn a_group_of_one_rests_until_others_join(place: Place) {
    let mut cluster = Cluster::new(&place, 3, None).await;
    let slots = cluster.nodes[0].slots.clone().expect("it runs");
    slots.create(SLOT, &ids([1])).await.expect("it begins");
    cluster.propose("key=value").await;
    // Longer than any election may take.
    sleep(Duration::from_secs(1)).await;
    let status = slots.status(SLOT).expect("open");
    assert!(status.is_leader && status.term == 1, "it leads without being asked: {status:?}");
    let read = slots.read_alone(SLOT, |rows| rows.get(b"key"));
    assert_eq!(read.expect("nobody else need be asked").expect("it is readable"), Some(b"value".to_vec()));
    slots.change_voters(SLOT, &ids(1..=3)).await.expect("others join");
    cluster.rows(1, cluster.applied().await).await;
    cluster.stop(1).await;
    cluster.stop(2).await;
    sleep(options().election.1).await;
    assert!(slots.read_alone(SLOT, |_| ()).is_none(), "another may have answered since");
    cluster.start(1).await;
    cluster.start(2).await;
    cluster.stop(0).await;
    assert_eq!(cluster.propose("key").await, b"value", "the others notice that it has gone");
}

impl Cluster {
    fn status(&self, at: usize) -> SlotStatus {
        self.nodes[at].slots.as_ref().expect("it runs").status(SLOT).expect("it is open")
    }

    /// Waits until the group rests on every node that runs.
    pub async fn until_all_rest(&self) {
        let running: Vec<usize> = (0..self.nodes.len()).filter(|at| self.nodes[*at].slots.is_some()).collect();
        for _ in 0..400 {
            if running.iter().all(|at| self.status(*at).is_resting) {
                return;
            }
            sleep(Duration::from_millis(25)).await;
        }
        panic!("{:?}", running.iter().map(|at| self.status(*at)).collect::<Vec<_>>());
    }
}

async fn a_group_in_which_nothing_happens_rests_until_something_does(place: Place) {
    let mut cluster = begin(&place, 3).await;
    cluster.propose("key=one").await;
    cluster.until_all_rest().await;
    let before = cluster.status(0);
    // Longer than any of them waits for a leader.
    sleep(Duration::from_secs(2)).await;
    let after = cluster.status(0);
    assert!(after.is_resting && (after.term, after.leader) == (before.term, before.leader), "{after:?}");
    // What is written then is written everywhere, and read.
    assert_eq!(cluster.propose("key=two").await, b"one");
    let applied = cluster.applied().await;
    for at in 0..3 {
        assert_eq!(cluster.rows(at, applied).await[&b"key"[..]], b"two", "node {at}");
    }
    cluster.until_all_rest().await;
    // Who was away is awake, and so is the leader; it goes on leading.
    let leader = cluster.leader().expect("it leads");
    let follower = (leader + 1) % 3;
    cluster.stop(follower).await;
    cluster.start(follower).await;
    assert!(!cluster.status(follower).is_resting);
    cluster.until_all_rest().await;
    assert_eq!((cluster.leader(), cluster.status(leader).term), (Some(leader), after.term));
    let own = cluster.nodes[follower].slots.clone().expect("it runs");
    own.read_own(SLOT, |_| ()).await.expect("it has heard how far the log is committed before it rests");
    // Without the leader, the others notice though they rest.
    cluster.stop(leader).await;
    assert_eq!(cluster.propose("key=three").await, b"two");
    cluster.start(leader).await;
    cluster.until_all_rest().await;
    assert_eq!(cluster.propose("key").await, b"three");
    // Nor does resting keep a leader from handing over, or members from being changed.
    cluster.until_all_rest().await;
    let leader = cluster.leader().expect("it leads");
    let slots = cluster.nodes[leader].slots.clone().expect("it runs");
    slots.hand_over(Duration::from_secs(10)).await;
    assert!(!cluster.status(leader).is_leader);
    cluster.until_all_rest().await;
    let leader = cluster.leader().expect("it leads");
    let without = ids((1..=3).filter(|id| *id != (leader as u64 + 1) % 3 + 1));
    let slots = cluster.nodes[leader].slots.clone().expect("it runs");
    slots.change_voters(SLOT, &without).await.expect("it is changed");
    assert_eq!(cluster.status(leader).voters, without);
}

async fn a_leader_hands_over(place: Place) {
    let cluster = begin(&place, 3).await;
    cluster.propose("key=value").await;
    cluster.applied().await;
    let leader = cluster.leader().expect("it leads");
    let slots = cluster.nodes[leader].slots.clone().expect("it runs");
    slots.hand_over(Duration::from_secs(10)).await;
    assert!(!slots.status(SLOT).expect("open").is_leader);
    cluster.propose("key").await;
    assert_ne!(cluster.leader(), Some(leader));
}

async fn who_was_to_join_when_it_was_interrupted_leaves(place: Place) {
    let mut cluster = begin(&place, 4).await;
    // More than a node may be behind when it begins to vote.
    for number in 0..150 {
        cluster.propose(&format!("key{number}=value")).await;
    }
    cluster.stop(3).await;
    cluster.applied().await;
    let leader = cluster.leader().expect("it leads");
    let slots = cluster.nodes[leader].slots.clone().expect("it runs");
    let joining = ids([leader as u64 + 1, (leader as u64 + 1) % 3 + 1, 4]);
    let changed = time::timeout(Duration::from_millis(500), slots.change_voters(SLOT, &joining)).await;
    assert!(changed.is_err(), "it waits for a node that isn't there: {changed:?}");
    assert_eq!(cluster.status(leader).learners, ids([4]));
    slots.change_voters(SLOT, &ids(1..=3)).await.expect("as it was");
    assert_eq!((cluster.status(leader).voters, cluster.status(leader).learners), (ids(1..=3), ids([])));
    cluster.until_all_rest().await;
}

async fn a_command_with_too_many_rows_is_refused_and_the_group_goes_on(place: Place) {
    let mut cluster = begin(&place, 3).await;
    let answer = cluster.propose("many=1").await;
    assert!(String::from_utf8_lossy(&answer).contains("at most"), "{answer:?}");
    assert_eq!(cluster.propose("key=value").await, b"");
    let before = cluster.rows(0, cluster.applied().await).await;
    assert_eq!(before.len(), 1, "nothing of it was taken");
    // Nor when it is read from the log again.
    cluster.restart_without_index(1).await;
    let applied = cluster.applied().await;
    for at in 0..3 {
        assert_eq!(cluster.rows(at, applied).await, before, "node {at}");
    }
}

async fn more_rows_between_two_snapshots_than_a_record_holds_are_no_trouble(place: Place) {
    let mut cluster = begin(&place, 3).await;
    for number in 0..60 {
        cluster.propose(&format!("key{number}={}", "z".repeat(60_000))).await;
    }
    let before = cluster.rows(0, cluster.applied().await).await;
    assert_eq!(before.len(), 60);
    for at in 0..3 {
        let slots = cluster.nodes[at].slots.clone().expect("it runs");
        while slots.status(SLOT).expect("open").purged.is_none() {
            assert_eq!(slots.stopped(SLOT), Ok(None), "node {at}");
            sleep(Duration::from_millis(20)).await;
        }
        cluster.restart_without_index(at).await;
    }
    let applied = cluster.applied().await;
    for at in 0..3 {
        assert_eq!(cluster.rows(at, applied).await, before, "node {at}");
    }
}

/// Proposes what no replica survives, and waits until one says why it has stopped.
async fn until_stopped(place: &Place, command: &'static [u8]) -> String {
    let cluster = begin(place, 3).await;
    cluster.propose("key=value").await;
    cluster.applied().await;
    let leader = cluster.leader().expect("it leads");
    let slots = cluster.nodes[leader].slots.clone().expect("it runs");
    let proposed = slots.propose(SLOT, Bytes::from_static(command)).await;
    assert!(matches!(proposed, Err(SlotError::Stopped(_) | SlotError::Unknown(_))), "{proposed:?}");
    for _ in 0..400 {
        if let Some(why) = slots.status(SLOT).expect("it is open").stopped {
            return why;
        }
        sleep(Duration::from_millis(25)).await;
    }
    panic!("it never says that it has stopped")
}

async fn a_replica_that_is_too_old_stops_and_says_so(place: Place) {
    let why = until_stopped(&place, b"newer=1").await;
    assert!(why.contains("install the Cairn that the others run"), "{why}");
}

async fn a_group_whose_task_panicked_is_not_taken_for_well(place: Place) {
    let why = until_stopped(&place, b"panic=1").await;
    assert!(!why.is_empty(), "{why}");
}

async fn a_group_leaves_a_lane_that_takes_no_writes_any_more(place: Place) {
    let cluster = Cluster::new(&place, 1, None).await;
    let (lane, slots) =
        (cluster.nodes[0].lane.as_ref().expect("it runs"), cluster.nodes[0].slots.clone().expect("it runs"));
    slots.create(SLOT, &ids([1])).await.expect("it begins");
    cluster.propose("key=value").await;
    let mut proposing = Box::pin(slots.propose(SLOT, Bytes::from_static(b"key=last")));
    assert!(futures_util::poll!(&mut proposing).is_pending(), "it is on its way to the disk");
    drop(proposing);
    lane.log().poison("as the test wants");
    let began = time::now();
    slots.leave(SLOT).await.expect("nothing of it comes any more");
    assert!(began.elapsed() < Duration::from_secs(10), "it waited for what can't land");
    assert_eq!(slots.status(SLOT), Err(SlotError::NoSlot(SLOT)));
}

/// What a damaged log leaves whose last flush is gone: the entries between are purged.
async fn rows_that_the_log_never_had_are_in_it_before_it_begins_behind_them(place: Place) {
    const OTHER: u32 = SLOT + 1;
    let mut cluster = Cluster::new(&place, 1, None).await;
    let node = &cluster.nodes[0];
    let (lane, slots) = (node.lane.as_ref().expect("it runs"), node.slots.as_ref().expect("it runs"));
    lane.apply_to_slot(OTHER, At { term: 1, index: 4 }, &Words, b"key=before").expect("applied");
    lane.flush_slot(OTHER).await.expect("flushed");
    // Others had committed it, and what was on its way into this log was lost with a power cut.
    lane.apply_to_slot(OTHER, At { term: 1, index: 5 }, &Words, b"key=value").expect("applied");
    slots.open(OTHER, lane, Rc::new(Words)).await.expect("it opens");
    cluster.restart_without_index(0).await;
    let node = &cluster.nodes[0];
    let (lane, slots) = (node.lane.as_ref().expect("it runs"), node.slots.as_ref().expect("it runs"));
    slots.open(OTHER, lane, Rc::new(Words)).await.expect("nothing is missing");
    let word = |rows: &dyn Rows| rows.get(b"key").expect("it is readable");
    assert_eq!(slots.read(OTHER, word).expect("it is open").as_deref(), Some(&b"value"[..]));
    cluster.stop(0).await;
}

async fn rows_that_end_before_the_log_begins_are_not_shown(place: Place) {
    const OTHER: u32 = SLOT + 1;
    let mut cluster = Cluster::new(&place, 1, None).await;
    let node = &cluster.nodes[0];
    let (lane, slots) = (node.lane.as_ref().expect("it runs"), node.slots.as_ref().expect("it runs"));
    let rows = vec![Row::Put(b"key".to_vec(), b"value".to_vec())];
    lane.stage_rows(OTHER, 1, 0, rows).await.expect("staged");
    lane.install_staged(OTHER, 1, 1, At { term: 1, index: 4 }, Vec::new()).await.expect("installed");
    // No vote, and purged up to entry 5 of term 1.
    let state = [&[1, 0, 1][..], &1_u64.to_le_bytes(), &5_u64.to_le_bytes()].concat();
    lane.set_raft_state(OTHER, 6, &state).await.expect("stored");
    let refused = slots.open(OTHER, lane, Rc::new(Words)).await.expect_err("entry 5 is nowhere");
    assert!(refused.to_string().contains("rows were lost"), "{refused}");
    let state = [&[1, 0, 1][..], &1_u64.to_le_bytes(), &4_u64.to_le_bytes()].concat();
    lane.set_raft_state(OTHER, 5, &state).await.expect("stored");
    slots.open(OTHER, lane, Rc::new(Words)).await.expect("nothing is missing");
    cluster.stop(0).await;
}
