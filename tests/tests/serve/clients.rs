//! A stranger's client of RPC: it has the schema, the words of `docs/protocol.md` and a library for Cap'n Proto, and shares no code with
//! the node. Three nodes serve it as one.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use cairn_io::net::Stream;
use cairn_io::task::{Class, spawn};
use cairn_io::time::{Duration, sleep};
use cairn_io::{Config, DriverChoice, run_one};
use cairn_schema::cairn_capnp::{
    commit_response, commit_result, control, error, hello_response, node, propose_response, read_response, slots,
};
use capnp_rpc::RpcSystem;
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::twoparty::VatNetwork;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::cluster::Cluster;

/// An access key: its two halves.
type Key = (String, String);

/// What the node said: nothing, or the kind of its error and what it advises.
type Said<T> = Result<T, (String, String)>;

struct Stranger {
    slots: slots::Client,
    control: control::Client,
}

fn proof((access, secret): &Key, nonce: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    mac.update(&[b"cairn hello 1", nonce, &[0; 1 + 8 + 8], access.as_bytes()].concat());
    mac.finalize().into_bytes().to_vec()
}

fn refused<T>(said: capnp::Result<error::Reader<'_>>) -> Said<T> {
    let said = said.expect("there");
    let advice = match said.get_advice().which().expect("known") {
        error::advice::Stop(()) => "stop",
        error::advice::RetryHere(_) => "retry here",
        error::advice::GoTo(_) => "go to",
        error::advice::FixInput(()) => "fix input",
        error::advice::TryElsewhere(_) => "try elsewhere",
    };
    Err((format!("{:?}", said.get_kind().expect("known")), advice.to_owned()))
}

impl Stranger {
    async fn hello(at: SocketAddr, key: Option<&Key>) -> Said<Self> {
        let stream = Stream::connect(at).await.expect("it listens");
        let network = VatNetwork::new(stream.clone(), stream, Side::Client, capnp::message::ReaderOptions::new());
        let mut system = RpcSystem::new(Box::new(network), None);
        let node: node::Client = system.bootstrap(Side::Server);
        spawn(Class::Foreground, async move {
            let _ = system.await;
        })
        .detach();
        let challenge = node.challenge_request().send().promise.await.expect("anyone may ask");
        let nonce = challenge.get().expect("there").get_nonce().expect("there").to_vec();
        let mut call = node.hello_request();
        call.get().set_protocol_min(1);
        call.get().set_protocol_max(1);
        if let Some(key) = key {
            call.get().set_key(key.0.as_str());
            call.get().set_proof(&proof(key, &nonce));
        }
        let answer = call.send().promise.await.expect("errors are data");
        match answer.get().expect("there").which().expect("known") {
            hello_response::Welcome(welcome) => {
                let welcome = welcome.expect("there");
                Ok(Self { slots: welcome.get_slots().expect("there"), control: welcome.get_control().expect("there") })
            }
            hello_response::Error(error) => refused(error),
        }
    }

    async fn create_bucket(&self, name: &str) -> Said<u64> {
        let mut call = self.control.propose_request();
        call.get().set_idempotency(&[3; 16]);
        call.get().get_change().init_create_bucket().set_name(name);
        let answer = call.send().promise.await.expect("errors are data");
        match answer.get().expect("there").which().expect("known") {
            propose_response::Applied(applied) => Ok(applied.expect("there").get_bucket()),
            propose_response::Error(error) => refused(error),
        }
    }

    /// The version, or, of the whole call or this commit, why there is none.
    async fn put(&self, bucket: u64, key: &str, text: &str, how: How) -> Said<(u64, u64)> {
        let mut call = self.slots.commit_request();
        call.get().get_call().expect("there").set_deadline_ms(how.deadline_ms);
        let mut commit = call.get().init_commits(1).get(0);
        commit.set_bucket(bucket);
        commit.set_key(key);
        commit.set_idempotency(&[how.intent; 16]);
        if how.only_new {
            commit.reborrow().get_mode().init_conditional(1).get(0).set_absent(());
        }
        let mut content = commit.init_content();
        content.set_size(text.len() as u64);
        content.get_payload().set_inline(text.as_bytes());
        let answer = call.send().promise.await.expect("errors are data");
        let results = match answer.get().expect("there").which().expect("known") {
            commit_response::Results(results) => results.expect("there"),
            commit_response::Error(error) => return refused(error),
        };
        match results.get(0).which().expect("known") {
            commit_result::Committed(committed) => {
                let version = committed.expect("there").get_version().expect("there");
                Ok((version.get_high(), version.get_low()))
            }
            commit_result::Error(error) => refused(error),
        }
    }

    async fn read(&self, bucket: u64, key: &str) -> Said<Option<String>> {
        let mut call = self.slots.read_request();
        call.get().set_bucket(bucket);
        call.get().set_key(key);
        let answer = call.send().promise.await.expect("errors are data");
        match answer.get().expect("there").which().expect("known") {
            read_response::Found(found) => {
                let content = found.expect("there").get_version().expect("there").get_content().expect("there");
                let cairn_schema::cairn_capnp::content::payload::Inline(bytes) =
                    content.get_payload().which().expect("known")
                else {
                    panic!("it lies in its version")
                };
                Ok(Some(String::from_utf8(bytes.expect("there").to_vec()).expect("a text")))
            }
            read_response::Absent(_) => Ok(None),
            read_response::Error(error) => refused(error),
        }
    }

    async fn names(&self, bucket: u64) -> BTreeSet<String> {
        let mut call = self.slots.list_request();
        call.get().set_bucket(bucket);
        let answer = call.send().promise.await.expect("errors are data");
        let Ok(cairn_schema::cairn_capnp::list_response::Page(page)) = answer.get().expect("there").which() else {
            panic!("it can be listed")
        };
        let entries = page.expect("there").get_entries().expect("there");
        entries.iter().map(|entry| entry.get_key().expect("there").to_string().expect("UTF-8")).collect()
    }
}

#[derive(Clone, Copy)]
struct How {
    intent: u8,
    only_new: bool,
    deadline_ms: u32,
}

/// By this intent, whatever is there.
fn plainly(intent: u8) -> How {
    How { intent, only_new: false, deadline_ms: 30_000 }
}

fn with<T: Send + 'static, F: Future<Output = T> + 'static>(work: impl FnOnce() -> F + Send + 'static) -> T {
    let config = Config { driver: DriverChoice::Monoio, block_bytes_max: 16 << 20, ..Config::single() };
    run_one(&config, work).expect("it runs")
}

fn denied<T>() -> Said<T> {
    Err(("Denied".to_owned(), "fix input".to_owned()))
}

/// A key that was made on one node is known to another a little later.
async fn insist(at: SocketAddr, key: &Key) -> Stranger {
    for _ in 0..200 {
        match Stranger::hello(at, Some(key)).await {
            Ok(stranger) => return stranger,
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("{at} doesn't know the key for long")
}

#[test]
fn a_stranger_uses_any_of_three_nodes_by_rpc() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[0].as_ref().expect("it runs").until_status("it is ready", |status| status["state"] == "ready");
    let made = cluster.make_key();
    let half = |name: &str| made[name].as_str().expect("a text").to_owned();
    let (key, peers): (Key, _) = ((half("access"), half("secret")), cluster.peers.clone());
    let (who, at) = (key.clone(), peers.clone());
    let bucket = with(move || async move {
        assert_eq!(Stranger::hello(at[0], None).await.map(drop), denied(), "without a proof");
        let guess = (who.0.clone(), "guess".to_owned());
        assert_eq!(Stranger::hello(at[0], Some(&guess)).await.map(drop), denied(), "with another secret");
        let mut nodes = vec![];
        for at in at {
            nodes.push(insist(at, &who).await);
        }
        let bucket = nodes[0].create_bucket("photos").await.expect("made");
        // A bucket is known by its number on nodes that have an older map, too.
        assert_eq!(nodes[2].create_bucket("photos").await, Ok(bucket), "the same intent");
        let names: BTreeSet<String> = (0..24).map(|at| format!("key-{at}")).collect();
        for (turn, name) in names.iter().enumerate() {
            // Eight slots with three nodes: most are led by others than who is asked.
            let (intent, [first, second, third]) = (turn as u8 + 1, [0, 1, 2].map(|by| &nodes[(turn + by) % 3]));
            let version = first.put(bucket, name, name, plainly(intent)).await.expect("committed");
            assert_eq!(second.put(bucket, name, name, plainly(intent)).await, Ok(version), "one effect");
            assert_eq!(third.read(bucket, name).await, Ok(Some(name.clone())));
            let only_new = How { intent: 200, only_new: true, deadline_ms: 30_000 };
            let there = third.put(bucket, name, "other", only_new).await;
            assert_eq!(there, Err(("PreconditionFailed".to_owned(), "fix input".to_owned())));
        }
        for node in &nodes {
            assert_eq!(node.names(bucket).await, names);
            assert_eq!(node.read(bucket, "nothing").await, Ok(None));
        }
        bucket
    });
    // Of three nodes one is left: nobody leads, and the deadline says so.
    for node in [1, 2] {
        cluster.nodes[node].take().expect("it runs").kill();
    }
    with(move || async move {
        let node = insist(peers[0], &key).await;
        let hasty = How { intent: 100, only_new: false, deadline_ms: 700 };
        let mut late = node.put(bucket, "key-0", "late", hasty).await;
        // On its way to one that was just killed it may have been done, as far as anybody knows: it is asked again.
        while late == Err(("Unreachable".to_owned(), "try elsewhere".to_owned())) {
            late = node.put(bucket, "key-0", "late", hasty).await;
        }
        assert_eq!(late, Err(("DeadlinePassed".to_owned(), "try elsewhere".to_owned())));
    });
    cluster.nodes[0].take().expect("it runs").kill();
}
