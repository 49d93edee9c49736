//! The accept loop of a core, and the life of each connection that comes in.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;

use cairn_io::Bell;
use cairn_io::net::{Listener, Reuse, Stream};
use cairn_io::task::{Class, JoinError, JoinHandle, spawn};
use cairn_io::time::{self, Duration, sleep, timeout};
use cairn_schema::{Advice, Answer, Error, ErrorKind, HelloRequest, Role};
use capnp_rpc::RpcSystem;
use capnp_rpc::rpc_twoparty_capnp::Side;
use futures_channel::oneshot;
use futures_util::future::{join_all, select};

use super::limits::Limits;
use super::network::{self, Network};
use super::proof::{Credential, Nonce, holds};
use super::serve::Link;
use super::service::{Client, Services};
use super::traffic::Traffic;

/// Who a node is, to others.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its cluster.
    pub cluster: [u8; 16],
    /// Its id in the cluster's map; never 0.
    pub node: u64,
    /// Name and version of the program.
    pub software: String,
    /// What it proves to know where it calls. Who calls a node as a peer must know the same.
    pub credential: Credential,
}

impl Identity {
    /// This program's, as that node of that cluster; as a client, `node` is 0.
    pub fn new(cluster: [u8; 16], node: u64, credential: Credential) -> Self {
        Self { cluster, node, software: concat!("cairn ", env!("CARGO_PKG_VERSION")).to_owned(), credential }
    }
}

/// Who may reach a listener. There is no encryption yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exposure {
    /// Programs of this machine.
    #[default]
    Loopback,
    /// Everyone who can reach the address: asked for explicitly.
    Insecure,
}

/// Why a node can't listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Others could reach it, and nobody asked for that.
    #[error(
        "{0} can be reached from other machines, and RPC has no encryption yet: listen on a \
         loopback address (127.0.0.1 or ::1), or say --insecure yes if the network is trusted"
    )]
    Exposed(SocketAddr),
    /// The system refuses.
    #[error("can't listen for RPC on {0}: {1}")]
    Refused(SocketAddr, io::Error),
}

/// What all connections of a core share.
pub struct Core {
    pub(super) limits: Limits,
    pub(super) identity: Identity,
    pub(super) services: Services,
    /// Calls under way.
    pub(super) calls: Cell<usize>,
    /// Rung when no call is under way any more.
    pub(super) idle: Bell,
    pub(super) is_stopping: Cell<bool>,
    /// Connections that ended in a panic.
    panics: Cell<u32>,
    connections: RefCell<BTreeMap<u64, Connection>>,
    next: Cell<u64>,
}

struct Connection {
    traffic: Rc<Traffic>,
    task: JoinHandle<()>,
    /// Dropped, the connection ends.
    end: oneshot::Sender<Never>,
}

/// Never sent: only its sender's end is of interest.
enum Never {}

impl Core {
    /// Whether the caller means this node.
    pub(super) fn check_hello(&self, hello: &HelloRequest) -> Result<(), Error> {
        let wrong = |kind, message: String| Err(Error::new(kind, Advice::FixInput, message));
        let Identity { cluster, node, .. } = &self.identity;
        match hello.cluster {
            Some(theirs) if theirs != *cluster => {
                let message = format!(
                    "this node belongs to cluster {}, and the caller means {}: check the address",
                    hex(cluster),
                    hex(&theirs)
                );
                return wrong(ErrorKind::WrongCluster, message);
            }
            None if hello.role == Role::Peer => {
                return wrong(ErrorKind::BadInput, "a peer must name its cluster".to_owned());
            }
            _ => {}
        }
        if hello.role == Role::Peer && hello.node == 0 {
            return wrong(ErrorKind::BadInput, "a peer must name its node".to_owned());
        }
        if hello.expect != 0 && hello.expect != *node {
            let message = format!("this is node {node}, and the caller means {}: its address changed", hello.expect);
            return wrong(ErrorKind::WrongNode, message);
        }
        Ok(())
    }

    /// Which client says hello, if it is one, and whether it is who it says.
    pub(super) fn authenticate(&self, hello: &HelloRequest, nonce: Option<Nonce>) -> Answer<Option<Client>> {
        let denied = |message: &str| Err(Error::fix_input(ErrorKind::Denied, message));
        let Some(nonce) = nonce.filter(|_| hello.proof.is_some()) else {
            return denied("hello needs a proof: call `challenge` first; docs/protocol.md says how it is made");
        };
        if hello.role == Role::Peer {
            return match &self.identity.credential {
                Credential::Member(secret) if holds(secret, hello, &nonce) => Ok(None),
                _ => denied("the caller has another cluster-secret than this node: copy that file from a node's disk"),
            };
        }
        // One answer, after the same work, whether or not there is such a key: nobody finds out which there are.
        let client = self.services.keys.client(&hello.key)?;
        let secret = client.as_ref().map_or(&[][..], |client| client.secret.as_bytes());
        match (holds(secret, hello, &nonce), client) {
            (true, Some(client)) => Ok(Some(client)),
            _ => denied("there is no such access key, or the proof was made with another secret than its own"),
        }
    }

    fn forget_ended(&self) {
        self.connections.borrow_mut().retain(|_, connection| !connection.task.is_finished());
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A core's RPC: listens until it is dropped or drained.
pub struct Server {
    core: Rc<Core>,
    addr: SocketAddr,
    /// Dropped, it stops.
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens at `addr`; other cores may listen there too.
    ///
    /// # Errors
    /// If the address is not loopback and nobody said that it need not be, or can't be had.
    pub fn bind(
        addr: SocketAddr,
        exposure: Exposure,
        identity: Identity,
        limits: Limits,
        services: Services,
    ) -> Result<Self, BindError> {
        if exposure == Exposure::Loopback && !addr.ip().is_loopback() {
            return Err(BindError::Exposed(addr));
        }
        let refused = |error| BindError::Refused(addr, error);
        let listener = Listener::bind(addr, Reuse::Shared).map_err(refused)?;
        let addr = listener.local_addr().map_err(refused)?;
        let core = Rc::new(Core {
            limits,
            identity,
            services,
            calls: Cell::new(0),
            idle: Bell::default(),
            is_stopping: Cell::new(false),
            panics: Cell::new(0),
            connections: RefCell::default(),
            next: Cell::new(0),
        });
        let accepting = spawn(Class::Foreground, accept(core.clone(), listener));
        Ok(Self { core, addr, accepting: Some(accepting) })
    }

    /// Where it listens, the port filled in.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Connections that live.
    pub fn connections(&self) -> usize {
        self.core.forget_ended();
        self.core.connections.borrow().len()
    }

    /// Calls that are worked on.
    pub fn calls(&self) -> usize {
        self.core.calls.get()
    }

    /// Connections that ended in a panic: a defect of this program, whatever the peer sent.
    pub fn panics(&self) -> u32 {
        self.core.panics.get()
    }

    /// Stops: no new connections, new calls are told so, calls under way are finished and answered, as long as the limits
    /// allow. Returns how many calls were cut off.
    pub async fn drain(mut self) -> usize {
        self.core.is_stopping.set(true);
        self.accepting = None;
        let end = time::now() + self.core.limits.drain_within;
        let idle = async {
            while self.core.calls.get() > 0 {
                self.core.idle.rung().await;
            }
        };
        let _ = timeout(end.since(time::now()), idle).await;
        while time::now() < end && self.core.connections.borrow().values().any(has_unsent) {
            sleep(Duration::from_millis(1)).await;
        }
        let cut_off = self.core.calls.get();
        let connections = std::mem::take(&mut *self.core.connections.borrow_mut());
        let (tasks, ends): (Vec<_>, Vec<_>) = connections.into_values().map(|it| (it.task, it.end)).unzip();
        drop(ends);
        join_all(tasks).await;
        cut_off
    }
}

impl Drop for Server {
    /// A connection holds the core that holds the connection.
    fn drop(&mut self) {
        let connections = std::mem::take(&mut *self.core.connections.borrow_mut());
        for Connection { task, end, .. } in connections.into_values() {
            drop(end);
            task.detach();
        }
    }
}

/// An answer is counted when capnp-rpc is handed it, and until it has been written.
fn has_unsent(connection: &Connection) -> bool {
    !connection.task.is_finished() && (connection.traffic.unsent() > 0 || connection.traffic.calls() > 0)
}

async fn accept(core: Rc<Core>, listener: Listener) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => admit(&core, stream, from),
            // Out of sockets, most likely: some will be closed. Trying at once would take the whole core.
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

fn admit(core: &Rc<Core>, stream: Stream, from: SocketAddr) {
    core.forget_ended();
    if core.connections.borrow().len() >= core.limits.connections_max {
        return;
    }
    let traffic = Rc::new(Traffic::new());
    let (end, ended) = oneshot::channel();
    let link = Link::new(core.clone(), traffic.clone(), from);
    let task = spawn(Class::Foreground, supervise(link, stream, ended));
    let number = core.next.replace(core.next.get() + 1);
    core.connections.borrow_mut().insert(number, Connection { traffic, task, end });
}

/// A panic in a connection ends this connection alone, and is counted.
async fn supervise(link: Rc<Link>, stream: Stream, ended: oneshot::Receiver<Never>) {
    let core = link.core().clone();
    let task = spawn(Class::Foreground, live(link, stream, ended));
    if let Err(JoinError::Panicked(_)) = task.await {
        core.panics.set(core.panics.get() + 1);
    }
}

/// A connection from its first byte to its last.
async fn live(link: Rc<Link>, stream: Stream, ended: oneshot::Receiver<Never>) {
    let limits = &link.core().limits;
    let network = Network::new(stream, Side::Server, limits, link.traffic().clone());
    let hello_within = limits.hello_within;
    let system = RpcSystem::new(Box::new(network), Some(link.bootstrap().client));
    let impatience = async {
        sleep(hello_within).await;
        if link.is_welcome() {
            std::future::pending::<()>().await;
        }
    };
    let end = async {
        select(ended, pin!(impatience)).await;
    };
    network::run(system, end).await;
}
