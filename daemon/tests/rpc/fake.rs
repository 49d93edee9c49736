//! A node that keeps its objects in memory and does with a Raft batch what the batch says, and a client that shares no
//! code with the node's own.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use cairn_daemon::rpc::{
    Answering, Backoff, Caller, Client, ControlService, Credential, Exposure, Identity, KeyService, Limits, Pool,
    RaftService, Server, Services, SlotService,
};
use cairn_io::net::Stream;
use cairn_io::task::{Class, JoinHandle, spawn};
use cairn_io::time::{Duration, sleep};
use cairn_schema::cairn_capnp::{hello_response, node};
use cairn_schema::*;
use capnp_rpc::RpcSystem;
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::twoparty::VatNetwork;

use crate::harness::Place;

pub const CLUSTER: [u8; 16] = [7; 16];
/// An access key and its secret.
pub const KEY: (&str, &str) = ("KEY-ann", "secret of ann");

/// A node of the cluster.
pub fn identity(node: u64) -> Identity {
    Identity::new(CLUSTER, node, member())
}

/// What nodes of the cluster know.
pub fn member() -> Credential {
    Credential::Member([5; 32])
}

/// What the user knows.
pub fn key() -> Credential {
    Credential::Key { access: KEY.0.to_owned(), secret: KEY.1.to_owned() }
}

/// What the node under test has seen and does.
#[derive(Default)]
pub struct Fake {
    /// The version and content of each key.
    pub objects: RefCell<BTreeMap<String, (VersionId, Content)>>,
    /// Commits that it was asked for.
    pub asked: Cell<u32>,
    /// Calls that began to stall, and those that were dropped in it.
    pub stalled: Cell<u32>,
    pub dropped: Cell<u32>,
    pub epoch: Cell<u64>,
    /// The access key was removed.
    pub is_key_gone: Cell<bool>,
}

struct Stall<'a>(&'a Fake);

impl Drop for Stall<'_> {
    fn drop(&mut self) {
        self.0.dropped.set(self.0.dropped.get() + 1);
    }
}

impl Fake {
    async fn stall(&self) {
        self.stalled.set(self.stalled.get() + 1);
        let _dropped = Stall(self);
        std::future::pending::<()>().await;
    }

    fn put(&self, commit: &Commit) -> Answer<Committed> {
        let mut objects = self.objects.borrow_mut();
        let is_there = objects.contains_key(&commit.key);
        if is_there && commit.mode == CommitMode::Conditional(vec![Condition::Absent]) {
            return Err(Error::fix_input(ErrorKind::PreconditionFailed, "the key is there"));
        }
        let version = VersionId(objects.len() as u128 + 1);
        objects.insert(commit.key.clone(), (version, commit.content.clone()));
        Ok(Committed { version, heads: 1, ..Committed::default() })
    }
}

impl KeyService for Fake {
    fn client(&self, access: &str) -> Answer<Option<Client>> {
        let is_there = access == KEY.0 && !self.is_key_gone.get();
        let client = || Client { access: access.to_owned(), secret: KEY.1.to_owned(), user: "ann".to_owned() };
        Ok(is_there.then(client))
    }
}

impl SlotService for Fake {
    fn commit<'a>(&'a self, _: Caller, request: &'a CommitRequest) -> Answering<'a, Vec<Answer<Committed>>> {
        self.asked.set(self.asked.get() + 1);
        Box::pin(async move { Ok(request.commits.iter().map(|commit| self.put(commit)).collect()) })
    }

    fn read<'a>(&'a self, _: Caller, request: &'a ReadRequest) -> Answering<'a, ReadResult> {
        Box::pin(async move {
            let objects = self.objects.borrow();
            let Some((id, content)) = objects.get(&request.key) else {
                return Ok(ReadResult::Absent { marker: VersionId(0), from_leader: true });
            };
            let version = Box::new(Version { id: *id, content: content.clone(), ..Version::default() });
            Ok(ReadResult::Found { version, heads: vec![*id], from_leader: true })
        })
    }

    fn list<'a>(&'a self, _: Caller, request: &'a ListRequest) -> Answering<'a, Page> {
        Box::pin(async move {
            let objects = self.objects.borrow();
            if request.prefix == "large" {
                let tags = vec![Pair { name: "x".repeat(16_000), value: String::new() }];
                let content = Content { tags, ..Content::default() };
                let version = Box::new(Version { content, ..Version::default() });
                let entry = Entry { key: "large".to_owned(), kind: EntryKind::Version(version) };
                return Ok(Page { entries: vec![entry; 1000 + request.page_size as usize], cursor: vec![] });
            }
            let matching = objects.iter().filter(|(key, _)| key.starts_with(&request.prefix));
            let entry = |(key, (id, _)): (&String, &(VersionId, Content))| Entry {
                key: key.clone(),
                kind: EntryKind::Version(Box::new(Version { id: *id, ..Version::default() })),
            };
            Ok(Page { entries: matching.take(request.page_size as usize).map(entry).collect(), cursor: vec![] })
        })
    }
}

impl RaftService for Fake {
    fn batch<'a>(&'a self, _: Caller, request: &'a RaftRequest) -> Answering<'a, Bytes> {
        Box::pin(async move {
            match &request.data[..] {
                b"panic" => panic!("as asked"),
                b"stall" => self.stall().await,
                b"nap" => sleep(Duration::from_millis(50)).await,
                _ => {}
            }
            Ok(request.data.clone())
        })
    }

    fn command<'a>(&'a self, _: Caller, request: &'a SlotRequest) -> Answering<'a, Bytes> {
        Box::pin(async move { Ok(request.data.clone()) })
    }

    fn query<'a>(&'a self, _: Caller, request: &'a SlotRequest) -> Answering<'a, Bytes> {
        Box::pin(async move { Ok(request.data.clone()) })
    }

    fn snapshot<'a>(&'a self, _: Caller, request: &'a SnapshotRequest) -> Answering<'a, SnapshotProgress> {
        let received = request.offset + request.data.len() as u64;
        let done = SnapshotProgress::Done(request.header.clone());
        Box::pin(async move { Ok(if request.is_last { done } else { SnapshotProgress::Received(received) }) })
    }
}

impl ControlService for Fake {
    fn map<'a>(&'a self, _: Caller, request: &'a MapRequest) -> Answering<'a, MapUpdate> {
        let epoch = self.epoch.get();
        let map = ClusterMap { epoch, cluster: CLUSTER, ..ClusterMap::default() };
        let is_newer = epoch > request.have;
        Box::pin(async move { Ok(if is_newer { MapUpdate::Map(Box::new(map)) } else { MapUpdate::Unchanged(epoch) }) })
    }

    fn wait<'a>(&'a self, caller: Caller, request: &'a MapRequest) -> Answering<'a, MapUpdate> {
        Box::pin(async move {
            while self.epoch.get() <= request.have && caller.remaining() > Duration::from_secs(2) {
                sleep(Duration::from_millis(5)).await;
            }
            self.map(caller, request).await
        })
    }

    fn propose<'a>(&'a self, _: Caller, request: &'a ProposeRequest) -> Answering<'a, Applied> {
        Box::pin(async move {
            self.epoch.set(self.epoch.get() + 1);
            let bucket = u64::from(matches!(request.change, Change::CreateBucket(_)));
            Ok(Applied { epoch: self.epoch.get(), bucket })
        })
    }
}

/// Shared by the four traits.
pub fn services(fake: &Rc<Fake>) -> Services {
    Services { keys: fake.clone(), slots: fake.clone(), control: fake.clone(), raft: fake.clone() }
}

/// Limits small and short enough to be met in a test.
pub fn limits() -> Limits {
    Limits {
        calls_max: 8,
        hello_within: Duration::from_secs(2),
        message_within: Duration::from_secs(1),
        write_within: Duration::from_secs(1),
        idle_within: Duration::from_secs(2),
        drain_within: Duration::from_secs(3),
        ..Limits::default()
    }
}

pub fn backoff() -> Backoff {
    Backoff { first: Duration::from_millis(20), max: Duration::from_millis(200) }
}

/// Node `node` at an address.
pub fn start_at(addr: SocketAddr, node: u64, limits: Limits, services: Services) -> Server {
    let exposure = if addr.ip().is_loopback() { Exposure::Loopback } else { Exposure::Insecure };
    Server::bind(addr, exposure, identity(node), limits, services).expect("a free port")
}

/// Node 1 at any port.
pub fn start(place: &Place, limits: Limits) -> (Server, Rc<Fake>) {
    let fake = Rc::new(Fake::default());
    (start_at(place.any_port(), 1, limits, services(&fake)), fake)
}

/// What node 2 calls others with.
pub fn pool(server: &Server) -> Pool {
    let pool = Pool::new(identity(2), limits(), backoff());
    pool.set(1, server.local_addr());
    pool
}

pub fn put(key: &str, payload: &'static [u8]) -> CommitRequest {
    let content =
        Content { size: payload.len() as u64, payload: Payload::Inline(payload.into()), ..Content::default() };
    CommitRequest {
        commits: vec![Commit { key: key.into(), content, ..Commit::default() }],
        ..CommitRequest::default()
    }
}

/// A connection as capnp-rpc's own network makes it; the stream is there for whoever wants to spoil it.
pub struct Stranger {
    pub node: node::Client,
    pub system: JoinHandle<()>,
}

impl Stranger {
    pub async fn connect(addr: SocketAddr) -> Self {
        let stream = Stream::connect(addr).await.expect("connected");
        let network = VatNetwork::new(stream.clone(), stream, Side::Client, capnp::message::ReaderOptions::new());
        let mut system = RpcSystem::new(Box::new(network), None);
        let node = system.bootstrap(Side::Server);
        let system = spawn(Class::Foreground, async move {
            let _ = system.await;
        });
        Self { node, system }
    }

    /// Says hello with the proof that its role asks for.
    pub async fn hello(&self, hello: &HelloRequest) -> Result<Guest, Error> {
        let credential = if hello.role == Role::Peer { member() } else { key() };
        let mut hello = hello.clone();
        credential.prove(&mut hello, &self.challenge().await);
        self.hello_as_it_is(&hello).await
    }

    pub async fn challenge(&self) -> [u8; 32] {
        let asked = self.node.challenge_request().send().promise.await.expect("anyone may ask");
        asked.get().expect("there").get_nonce().expect("there").try_into().expect("32 bytes")
    }

    pub async fn hello_as_it_is(&self, hello: &HelloRequest) -> Result<Guest, Error> {
        let mut call = self.node.hello_request();
        hello.write(call.get());
        let response = call.send().promise.await.expect("errors are data");
        let response = response.get().expect("a response");
        assert_eq!((response.get_protocol_min(), response.get_protocol_max()), (1, 1), "said whatever the answer");
        match response.which().expect("known") {
            hello_response::Which::Welcome(welcome) => {
                let welcome = welcome.expect("a welcome");
                assert!(welcome.has_control(), "for all");
                Ok(Guest {
                    terms: Terms::read(welcome).expect("well formed"),
                    slots: welcome.get_slots().expect("for all"),
                    raft: welcome.has_raft().then(|| welcome.get_raft().expect("there")),
                })
            }
            hello_response::Which::Error(error) => Err(Error::read(error.expect("there")).expect("well formed")),
        }
    }
}

/// What a stranger has after hello.
pub struct Guest {
    pub terms: Terms,
    pub slots: cairn_capnp::slots::Client,
    pub raft: Option<cairn_capnp::raft::Client>,
}

impl Guest {
    pub async fn batch(&self, data: &[u8]) -> capnp::Result<Answer<Bytes>> {
        let mut call = self.raft.as_ref().expect("a peer").batch_request();
        RaftRequest { data: Bytes::copy_from_slice(data), ..RaftRequest::default() }.write(call.get());
        let response = call.send().promise.await?;
        Ok(Answer::<Bytes>::read(response.get()?).expect("well formed"))
    }
}

pub fn client() -> HelloRequest {
    let (software, key) = ("stranger".to_owned(), KEY.0.to_owned());
    HelloRequest { protocol_min: 1, protocol_max: 1, software, key, ..HelloRequest::default() }
}

pub fn peer() -> HelloRequest {
    HelloRequest { cluster: Some(CLUSTER), role: Role::Peer, node: 3, key: String::new(), ..client() }
}
