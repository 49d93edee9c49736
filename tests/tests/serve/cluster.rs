//! Nodes as processes: one cluster, whichever of them is killed or stands still.

use std::cell::Cell;
use std::net::{SocketAddr, TcpListener};
use std::process::Output;
use std::rc::Rc;
use std::time::Duration as RealDuration;

use bytes::Bytes;
use cairn_daemon::cluster::papers::{read_map, read_secret};
use cairn_daemon::cluster::{Ask, CONTROL, Calls, ClusterError, Freshness, Missed, wall_millis};
use cairn_daemon::rpc::{Backoff, Credential, Identity, Limits, Pool};
use cairn_io::time::{Duration, sleep};
use cairn_io::{Config, DriverChoice, rng, run_one};
use cairn_meta::control::bucket::BucketSettings;
use cairn_meta::control::command as control;
use cairn_meta::slot::command::{Answer, Body, Bucket, Command, Envelope, Place, Refusal, Token, Write, read_answer};
use cairn_meta::slot::query::Query;
use cairn_meta::version::commit::{Condition, Mode, Refused};
use cairn_meta::version::{Content, VersionId};
use cairn_placement::{NodeId, SlotId};
use futures_util::future::join_all;
use serde_json::Value;

use crate::node::{Disks, Node, err, run};
use crate::s3::{Client, Reply, address};
use crate::wires::Wires;

/// Few enough for three programs with all their checks on one machine.
const SLOTS: u32 = 8;

/// The file of settings beside a node's disks.
pub const SETTINGS: &str = "cairn.toml";

/// Some nodes and where they answer RPC.
pub struct Cluster {
    disks: Vec<Disks>,
    pub nodes: Vec<Option<Node>>,
    pub peers: Vec<SocketAddr>,
    /// By which they reach each other.
    wires: Wires,
}

impl Cluster {
    pub fn start(count: usize) -> Self {
        Self::on((0..count).map(|_| Disks::new(1)).collect())
    }

    /// A node on each of these; one beside whose disks there is a file of settings reads that.
    pub fn on(disks: Vec<Disks>) -> Self {
        let count = disks.len();
        // Taken all at once, so that they differ; free again when the nodes want them.
        let taken: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        let peers: Vec<SocketAddr> = taken.iter().map(|taken| taken.local_addr().expect("it is bound")).collect();
        // Before these ports are free again: the wires' own must not be among them.
        let wires = Wires::between(&peers);
        drop(taken);
        let mut cluster = Self { disks, nodes: (0..count).map(|_| None).collect(), peers, wires };
        // The first draws the secret; the others are refused without it, then are given it, as people do.
        cluster.nodes[0] = Some(cluster.begin(0));
        cluster.nodes[0].as_mut().expect("it runs").until("waiting for most nodes");
        let refused = run(&[
            "serve",
            "--data",
            &cluster.disks[1].data(),
            "--cluster-node",
            "2",
            "--cluster-peers",
            &cluster.peers(1),
            "--listen-management",
            "off",
            "--listen-rpc",
            &cluster.peers[1].to_string(),
        ]);
        assert!(refused.status.code() == Some(2) && err(&refused).contains("copy that file"), "{}", err(&refused));
        for node in 1..count {
            let secret = "cluster-secret";
            std::fs::copy(cluster.disks[0].path(0).join(secret), cluster.disks[node].path(0).join(secret))
                .expect("copied");
            cluster.nodes[node] = Some(cluster.begin(node));
        }
        cluster.nodes.iter_mut().flatten().for_each(|node| drop(node.until("the node is ready")));
        cluster
    }

    fn peers(&self, node: usize) -> String {
        let peers: Vec<String> = (1..).zip(self.wires.ends(node)).map(|(node, at)| format!("{node}={at}")).collect();
        peers.join(",")
    }

    pub fn begin(&self, node: usize) -> Node {
        let (number, peers, at) = ((node + 1).to_string(), self.peers(node), self.peers[node].to_string());
        let usual = ["--cluster-slots", "8", "--cluster-node", &number, "--cluster-peers", &peers, "--listen-rpc", &at];
        let file = self.disks[node].beside(SETTINGS);
        let config = if file.exists() { vec!["--config", file.to_str().expect("UTF-8")] } else { vec![] };
        Node::begin(&self.disks[node], &[&usual, &config[..]].concat())
    }

    /// Begins a node that nobody tells what control knows, and waits until it is ready all the same.
    fn begin_untold(&mut self, node: usize) {
        let begun = self.begin(node);
        let begun = self.nodes[node].insert(begun);
        begun.until("going on with what was written down");
        begun.until("the node is ready");
    }

    /// An access key.
    pub fn make_key(&self) -> Value {
        let made = self.key(0, &["create", "ann", "--json"]);
        serde_json::from_slice(&made.stdout).expect("JSON")
    }

    /// Somebody who asks this node.
    pub fn client(&self, node: usize, key: &Value) -> Client {
        Client::new(address(self.nodes[node].as_ref().expect("it runs")), key)
    }

    /// `cairn key`, of a node that runs.
    pub fn key(&self, node: usize, more: &[&str]) -> Output {
        self.cairn(node, &[&["key"], more].concat())
    }

    /// A command about a node that runs.
    pub fn cairn(&self, node: usize, command: &[&str]) -> Output {
        let (at, data) = (self.nodes[node].as_ref().expect("it runs").addr.to_string(), self.disks[node].data());
        run(&[command, &["--at", &at, "--data", &data]].concat())
    }

    /// Has control put a setting there that no command would.
    pub fn put_setting(&self, name: &str, value: &str) {
        let put = control::PutSetting { name: name.to_owned(), value: Some(value.to_owned()), expected: None };
        let put = |pool: Rc<Pool>| async move { propose(&pool, control::Command::PutSetting(put)).await };
        assert_eq!(asking((self.identity(), self.peers.clone()), put), Ok(control::Answer::Done));
    }

    /// Reads something that a node wrote down on its disk.
    fn read<T: Send + 'static>(&self, node: usize, read: impl AsyncFnOnce(&[String]) -> T + Send + 'static) -> T {
        let disk = self.disks[node].path(0).to_str().expect("UTF-8").to_owned();
        let config = Config { driver: DriverChoice::Monoio, ..Config::single() };
        run_one(&config, || async move { read(&[disk]).await }).expect("it runs")
    }

    /// Waits until a node has written the map down that it has now.
    fn until_written(&self, node: usize) {
        let status = self.nodes[node].as_ref().expect("it runs").status();
        let epoch = status["cluster"]["epoch"].as_u64().expect("a number");
        while self.read(node, read_map).is_none_or(|map| map.epoch < epoch) {
            std::thread::sleep(RealDuration::from_millis(200));
        }
    }

    /// Somebody who has the secret of a node's disk.
    fn identity(&self) -> Identity {
        let secret = self.read(0, read_secret).expect("readable").expect("it is there");
        Identity::new(secret.cluster.0.to_be_bytes(), 99, Credential::Member(secret.membership()))
    }
}

/// Says something to the group of a slot until whoever leads it answers; it may be said twice.
async fn insist(pool: &Pool, slot: u32, command: Bytes, first: u64) -> Bytes {
    let mut node = first;
    for _ in 0..600 {
        match pool.command(NodeId(node), slot, command.clone(), Duration::from_secs(5)).await {
            Ok(answer) => return answer,
            Err(Missed::Elsewhere(Some(leader))) if leader.0 != node => node = leader.0,
            Err(Missed::Final(ClusterError::Broken(why))) => panic!("slot {slot} on node {node}: {why}"),
            Err(_) => {
                node = node % 3 + 1;
                sleep(Duration::from_millis(20 + rng::next_u64() % 30)).await;
            }
        }
    }
    panic!("slot {slot} says nothing for long")
}

fn only_if_absent(bucket: Bucket, key: &str, writer: u64) -> Envelope {
    let content = Content {
        size: 8,
        payload: cairn_meta::version::Payload::Inline(writer.to_be_bytes().into()),
        ..Content::default()
    };
    let place = Place { bucket, key: key.to_owned() };
    let id = VersionId::new(wall_millis(), u128::from(rng::next_u64()));
    let write = Write { place, id, mode: Mode::Conditional(vec![Condition::Absent]), body: Body::Object(content) };
    Envelope {
        time: wall_millis(),
        token: Some(Token(u128::from(rng::next_u64()) | 1)),
        command: Command::Commit(vec![write]),
    }
}

/// Fifty writers of one key that each want to be the first: says how many were.
async fn race(pool: Rc<Pool>, bucket: Bucket, key: String) -> usize {
    let slot = SlotId::of_key(bucket.id, key.as_bytes(), SLOTS).0;
    let won = Rc::new(Cell::new(0));
    let write = |writer: u64| {
        let (pool, won, envelope) = (pool.clone(), won.clone(), only_if_absent(bucket, &key, writer));
        async move {
            let answer = insist(&pool, slot, envelope.encode().into(), writer % 3 + 1).await;
            match read_answer(&answer).expect("it is understood") {
                Ok(Answer::Committed(each)) => match &each[..] {
                    [Ok(_)] => won.set(won.get() + 1),
                    [Err(Refusal::Commit(Refused::Precondition { .. }))] => {}
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            }
        }
    };
    join_all((0..50).map(write)).await;
    won.get()
}

/// Who leads a slot.
async fn leader_of(pool: &Pool, slot: u32) -> usize {
    let ask = Bytes::from(Ask::Slot(Query::Tally(1), Freshness::Latest).encode());
    for turn in 0..600 {
        let node = turn % 3 + 1;
        if pool.ask(NodeId(node), slot, ask.clone(), Duration::from_secs(5)).await.is_ok() {
            return node as usize - 1;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("nobody leads slot {slot} for long")
}

/// Has control make a change.
async fn propose(pool: &Pool, command: control::Command) -> control::Answered {
    let token = Some(Token(u128::from(rng::next_u64()) | 1));
    let envelope = control::Envelope { time: wall_millis(), who: "ann".to_owned(), token, command };
    let answer = insist(pool, CONTROL, envelope.encode().into(), 2).await;
    control::read_answer(&answer).expect("it is understood")
}

async fn make_bucket(pool: &Pool) -> Bucket {
    let create = control::CreateBucket {
        name: "photos".to_owned(),
        owner: "ann".to_owned(),
        settings: BucketSettings::default(),
    };
    match propose(pool, control::Command::CreateBucket(create)).await {
        Ok(control::Answer::Bucket { id, epoch, .. }) => {
            let BucketSettings { versioning, keep, caps, .. } = BucketSettings::default();
            Bucket { id, epoch, versioning, keep, caps }
        }
        other => panic!("{other:?}"),
    }
}

/// Runs something that asks the three nodes.
fn asking<T: Send + 'static, F: std::future::Future<Output = T> + 'static>(
    (identity, peers): (Identity, Vec<SocketAddr>),
    work: impl FnOnce(Rc<Pool>) -> F + Send + 'static,
) -> T {
    let config = Config { driver: DriverChoice::Monoio, block_bytes_max: 16 << 20, ..Config::single() };
    let run = run_one(&config, move || async move {
        let backoff = Backoff { first: Duration::from_millis(20), max: Duration::from_millis(200) };
        let pool = Rc::new(Pool::new(identity, Limits::default(), backoff));
        (1..).zip(peers).for_each(|(node, at)| pool.set(node, at));
        work(pool).await
    });
    run.expect("it runs")
}

#[test]
fn one_of_fifty_writers_is_first_whoever_is_killed_cut_off_or_stands_still() {
    let mut cluster = Cluster::start(3);
    let who = (cluster.identity(), cluster.peers.clone());
    let bucket = asking(who.clone(), |pool| async move { make_bucket(&pool).await });
    for round in 0..10 {
        let key = format!("key-{round}");
        let slot = SlotId::of_key(bucket.id, key.as_bytes(), SLOTS).0;
        let leader = asking(who.clone(), move |pool| async move { leader_of(&pool, slot).await });
        let with = who.clone();
        let racing = std::thread::spawn(move || asking(with, move |pool| race(pool, bucket, key)));
        std::thread::sleep(RealDuration::from_millis(7 * round));
        let first = || assert_eq!(racing.join().expect("it doesn't panic"), 1, "round {round}");
        let node = cluster.nodes[leader].take().expect("it runs");
        match round % 3 {
            0 => {
                node.kill();
                first();
                cluster.nodes[leader] = Some(cluster.begin(leader));
                continue;
            }
            1 => {
                node.signal("-STOP");
                std::thread::sleep(RealDuration::from_secs(4));
                node.signal("-CONT");
            }
            // Writers reach it, and it reaches nobody.
            _ => {
                cluster.wires.cut(leader, true);
                std::thread::sleep(RealDuration::from_secs(4));
                let now = asking(who.clone(), move |pool| async move { leader_of(&pool, slot).await });
                assert_ne!(now, leader, "nobody follows it any more");
                cluster.wires.cut(leader, false);
            }
        }
        first();
        cluster.nodes[leader] = Some(node);
    }
    // Whatever node is asked, it is one cluster.
    let key = |node: usize, more: &[&str]| cluster.key(node, more);
    for node in 0..3 {
        cluster.nodes[node].as_ref().expect("it runs").until_status("it is ready", |status| status["state"] == "ready");
        let made = key(node, &["create", &format!("user-{node}")]);
        assert!(made.status.success(), "{}", err(&made));
        for other in 0..3 {
            let sees = || String::from_utf8_lossy(&key(other, &["list"]).stdout).contains(&format!("user-{node}"));
            assert!(
                (0..50).any(|_| sees() || {
                    std::thread::sleep(RealDuration::from_millis(100));
                    false
                }),
                "{other}"
            );
        }
    }
    for node in cluster.nodes.iter_mut().filter_map(Option::take) {
        node.stop();
    }
}

/// A request that is made again while nobody can say what becomes of it.
pub fn settled(client: &mut Client, method: &str, target: &str, body: &[u8]) -> Reply {
    for _ in 0..60 {
        let reply = client.ask(method, target, &[], body);
        if reply.status != 503 {
            return reply;
        }
        std::thread::sleep(RealDuration::from_millis(500));
    }
    panic!("{method} {target} is not settled for long")
}

#[test]
fn a_node_that_is_left_alone_takes_writes_and_hands_them_over() {
    let mut cluster = Cluster::start(3);
    let key = cluster.make_key();
    let mut client = cluster.client(2, &key);
    settled(&mut client, "PUT", "/photos", b"").good();
    let versioning = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    settled(&mut client, "PUT", "/photos?versioning", versioning).good();
    settled(&mut client, "PUT", "/strict", b"").good();
    settled(&mut client, "PUT", "/strict?x-cairn-offline", b"reject").good();
    settled(&mut client, "PUT", "/strict/kept", b"before").good();
    for key in ["kept", "changed", "deleted"] {
        let put = settled(&mut client, "PUT", &format!("/photos/{key}"), b"before").good();
        assert_eq!((put.header("x-cairn-state"), put.header("x-cairn-durability")), ("confirmed", "copies=2/3"));
        // What it makes of this later is above it only if it knows of it.
        while client.ask("GET", &format!("/photos/{key}"), &[("x-cairn-read", "local")], b"").status != 200 {
            std::thread::sleep(RealDuration::from_millis(50));
        }
    }
    let large = settled(&mut client, "PUT", "/photos/large", &[b'x'; 5000]).good();
    assert_eq!(large.header("x-cairn-durability"), "copies=1/1", "its bytes are on one node");
    cluster.until_written(2);
    for node in 0..2 {
        cluster.nodes[node].take().expect("it runs").kill();
    }
    // A write that it leads before it knows that it is alone is in its log, and may be committed when the others are back, beside those below.
    while settled(&mut client, "GET", "/photos/changed", b"").good().header("x-cairn-read") != "local" {
        std::thread::sleep(RealDuration::from_millis(50));
    }
    let put = settled(&mut client, "PUT", "/photos/changed", b"alone").good();
    assert_eq!((put.header("x-cairn-state"), put.header("x-cairn-durability")), ("provisional", "copies=1/3"));
    let alone = put.header("x-amz-version-id").to_owned();
    let again = settled(&mut client, "PUT", "/photos/changed", b"alone again").good();
    assert_eq!(settled(&mut client, "DELETE", "/photos/deleted", b"").good().header("x-cairn-state"), "provisional");
    // What it shows is what it has, and it says so.
    for (target, body) in [("/photos/changed", "alone again"), ("/photos/kept", "before")] {
        let got = settled(&mut client, "GET", target, b"").good();
        assert_eq!((got.text().as_str(), got.header("x-cairn-read")), (body, "local"));
    }
    let one = settled(&mut client, "GET", &format!("/photos/changed?versionId={alone}"), b"").good();
    assert_eq!((one.text().as_str(), one.header("x-cairn-state")), ("alone", "provisional"));
    let gone = settled(&mut client, "GET", "/photos/deleted", b"");
    assert_eq!((gone.status, gone.header("x-cairn-state")), (404, "provisional"));
    // Nobody alone decides what needs all to agree.
    for headers in [("if-none-match", "*"), ("if-match", again.header("etag"))] {
        assert_eq!(client.ask("PUT", "/photos/changed", &[headers], b"x").status, 503);
    }
    assert_eq!(client.ask("GET", "/photos/kept", &[("x-cairn-read", "confirmed")], b"").status, 503);
    for method in ["GET", "PUT", "DELETE"] {
        assert_eq!(client.ask(method, "/strict/kept", &[], b"").status, 503);
    }
    let node = cluster.nodes[2].take().expect("it runs");
    assert_eq!(node.until_status("it says so", |it| it["cluster"]["provisional"] == 3)["cluster"]["provisional"], 3);
    // What it led it leads no more, as far as anybody could tell.
    node.until_status("nobody leads", |it| it["cluster"]["led"] == 0 && it["cluster"]["followed"] == 0);
    // It doesn't hang on memory: nor does who its buckets and users are, though nobody tells it now.
    node.kill();
    cluster.begin_untold(2);
    let mut client = cluster.client(2, &key);
    let put = settled(&mut client, "PUT", "/photos/restarted", b"alone").good();
    assert_eq!(put.header("x-cairn-state"), "provisional");
    assert_eq!(client.ask("GET", "/strict/kept", &[], b"").status, 503);
    // It can't know how much it showed before.
    assert_eq!(client.ask("GET", "/photos/kept", &[], b"").status, 503);
    cluster.nodes[2].take().expect("it runs").kill();
    for node in 0..3 {
        cluster.nodes[node] = Some(cluster.begin(node));
    }
    cluster.nodes.iter_mut().flatten().for_each(|node| drop(node.until("the node is ready")));
    let back = cluster.nodes[2].as_ref().expect("it runs");
    back.until_status("its slots have them", |status| status["cluster"]["provisional"] == 0);
    let mut other = cluster.client(0, &key);
    let got = settled(&mut other, "GET", "/photos/changed", b"").good();
    assert_eq!((got.text().as_str(), got.header("x-cairn-state")), ("alone again", "confirmed"));
    assert_eq!(settled(&mut other, "GET", "/photos/deleted", b"").status, 404);
    let versions = settled(&mut other, "GET", "/photos?versions", b"").good();
    assert_eq!((versions.elements("VersionId").len(), versions.elements("DeleteMarker").len()), (8, 1));
    assert!(versions.elements("VersionId").contains(&alone));
    for node in cluster.nodes.iter_mut().filter_map(Option::take) {
        node.stop();
    }
}

#[test]
fn what_was_deleted_while_a_node_was_away_stays_deleted() {
    let mut cluster = Cluster::start(3);
    let key = cluster.make_key();
    let mut client = cluster.client(0, &key);
    settled(&mut client, "PUT", "/photos", b"").good();
    let names = |kind: &str| (0..12).map(|number| format!("/photos/{kind}-{number}")).collect::<Vec<_>>();
    for target in [names("deleted"), names("changed")].concat() {
        settled(&mut client, "PUT", &target, b"before").good();
    }
    cluster.nodes[2].take().expect("it runs").kill();
    for target in names("deleted") {
        settled(&mut client, "DELETE", &target, b"").good();
    }
    for target in names("changed") {
        settled(&mut client, "PUT", &target, b"after").good();
    }
    // Who knows of it leaves only when the other one is back, which is needed from then on.
    cluster.nodes[2] = Some(cluster.begin(2));
    cluster.nodes[2].as_mut().expect("it runs").until("the node is ready");
    cluster.nodes[0].take().expect("it runs").kill();
    let mut client = cluster.client(2, &key);
    for target in names("deleted") {
        assert_eq!(settled(&mut client, "GET", &target, b"").status, 404, "{target}");
    }
    for target in names("changed") {
        assert_eq!(settled(&mut client, "GET", &target, b"").good().text(), "after", "{target}");
    }
    let listed = settled(&mut client, "GET", "/photos?list-type=2", b"").good().elements("Key");
    assert!(listed.len() == 12 && listed.iter().all(|name| name.starts_with("changed")), "{listed:?}");
    for node in cluster.nodes.iter_mut().filter_map(Option::take) {
        node.stop();
    }
}

#[test]
fn slots_serve_though_controls_nodes_are_away() {
    let mut cluster = Cluster::start(5);
    let key = cluster.make_key();
    let mut client = cluster.client(3, &key);
    settled(&mut client, "PUT", "/photos", b"").good();
    cluster.until_written(3);
    // What can't be written is written as soon as it can.
    let map = cluster.disks[3].path(0).join("map");
    std::fs::remove_file(&map).and_then(|()| std::fs::create_dir(&map)).expect("it is there");
    settled(&mut client, "PUT", "/more", b"").good();
    cluster.nodes[3].as_mut().expect("it runs").until("the map can't be written down");
    std::fs::remove_dir(&map).expect("it is empty");
    cluster.until_written(3);
    // Control is on the first three.
    for node in [0, 1, 3] {
        cluster.nodes[node].take().expect("it runs").kill();
    }
    cluster.begin_untold(3);
    let mut client = cluster.client(3, &key);
    let mut confirmed = 0;
    for number in 0..16 {
        let target = format!("/photos/{number}");
        let put = settled(&mut client, "PUT", &target, b"without control").good();
        if put.header("x-cairn-state") == "confirmed" {
            assert_eq!(settled(&mut client, "GET", &target, b"").good().text(), "without control");
            confirmed += 1;
        }
    }
    // Seven of ten slots have two of the three nodes that are left.
    assert!((4..16).contains(&confirmed), "{confirmed} of 16 have a leader");
    for node in cluster.nodes.iter_mut().filter_map(Option::take) {
        node.kill();
    }
}
