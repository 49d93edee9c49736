//! What a node does for its callers: traits that the node implements, and what it knows of each call.
//!
//! Requests have been read and checked against the limits of the wire. A future may be dropped at any await: the caller
//! gave up, or its deadline passed. What must not stop half-way belongs into a task.

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;

use cairn_io::time::{self, Duration, Instant};
use cairn_schema::{
    Answer, Applied, CommitRequest, Committed, ListRequest, MapRequest, MapUpdate, Page, ProposeRequest, RaftRequest,
    ReadRequest, ReadResult, Role, SlotRequest, SnapshotProgress, SnapshotRequest,
};
use futures_util::future::LocalBoxFuture;

/// A user of the cluster, by the access key that its program proved to know.
#[derive(Clone, PartialEq, Eq)]
pub struct Client {
    /// The public half of the access key.
    pub access: String,
    /// Its secret half.
    pub secret: String,
    /// Whose it is.
    pub user: String,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("access", &self.access).field("user", &self.user).finish_non_exhaustive()
    }
}

/// Who calls, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// What it proved to be.
    pub role: Role,
    /// A peer's id; 0 for a client.
    pub node: u64,
    /// The user of a client; `None` of a peer.
    pub client: Option<Rc<Client>>,
    /// Where the connection comes from.
    pub from: SocketAddr,
    /// When it stops waiting.
    pub deadline: Instant,
    /// How often the request was forwarded already.
    pub hops: u8,
    /// For logs.
    pub trace: u64,
}

impl Caller {
    /// How long it still waits.
    pub fn remaining(&self) -> Duration {
        self.deadline.since(time::now())
    }
}

/// An answer that is being made.
pub type Answering<'a, T> = LocalBoxFuture<'a, Answer<T>>;

/// Objects.
pub trait SlotService {
    /// Adds versions to one slot.
    fn commit<'a>(&'a self, caller: Caller, request: &'a CommitRequest) -> Answering<'a, Vec<Answer<Committed>>>;

    /// Finds one version.
    fn read<'a>(&'a self, caller: Caller, request: &'a ReadRequest) -> Answering<'a, ReadResult>;

    /// Lists a page.
    fn list<'a>(&'a self, caller: Caller, request: &'a ListRequest) -> Answering<'a, Page>;
}

/// The cluster map.
pub trait ControlService {
    /// The map, if it is newer than what the caller has.
    fn map<'a>(&'a self, caller: Caller, request: &'a MapRequest) -> Answering<'a, MapUpdate>;

    /// Waits for a newer map. Out of time is no error: `Unchanged`, shortly before the deadline.
    fn wait<'a>(&'a self, caller: Caller, request: &'a MapRequest) -> Answering<'a, MapUpdate>;

    /// Changes the map.
    fn propose<'a>(&'a self, caller: Caller, request: &'a ProposeRequest) -> Answering<'a, Applied>;
}

/// What nodes have for each other.
pub trait RaftService {
    /// Takes a batch of messages and answers with one.
    fn batch<'a>(&'a self, caller: Caller, request: &'a RaftRequest) -> Answering<'a, bytes::Bytes>;

    /// Has a group that this node leads obey a command.
    fn command<'a>(&'a self, caller: Caller, request: &'a SlotRequest) -> Answering<'a, bytes::Bytes>;

    /// Asks a group of this node.
    fn query<'a>(&'a self, caller: Caller, request: &'a SlotRequest) -> Answering<'a, bytes::Bytes>;

    /// Takes a part of a snapshot.
    fn snapshot<'a>(&'a self, caller: Caller, request: &'a SnapshotRequest) -> Answering<'a, SnapshotProgress>;
}

/// Which access keys there are.
pub trait KeyService {
    /// Whose access key that is; `None`: it is none that may be used.
    ///
    /// # Errors
    /// If this node doesn't know yet.
    fn client(&self, access: &str) -> Answer<Option<Client>>;
}

/// All that a node offers on its RPC port.
#[derive(Clone)]
pub struct Services {
    /// Asked in hello and before each call of a client.
    pub keys: Rc<dyn KeyService>,
    /// To everyone.
    pub slots: Rc<dyn SlotService>,
    /// To everyone.
    pub control: Rc<dyn ControlService>,
    /// To peers.
    pub raft: Rc<dyn RaftService>,
}
