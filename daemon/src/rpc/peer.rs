//! Another node, as this core sees it: one connection, made when needed, made again when it breaks.
//!
//! A call is sent at most once. What fails before it was sent says that nothing was done; what fails behind that says that
//! nobody knows. Whoever calls decides whether to repeat: the batch of messages of consensus is simply lost, a commit has an
//! idempotency key.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::{Rc, Weak};

use bytes::Bytes;
use cairn_io::net::Stream;
use cairn_io::task::{Class, JoinHandle, spawn};
use cairn_io::time::{self, Duration, Instant, sleep, timeout};
use cairn_io::{Bell, rng};
use cairn_schema::cairn_capnp::{control, hello_response, node, raft, slots};
use cairn_schema::{
    Advice, Answer, Applied, CommitRequest, Committed, Error, ErrorKind, HelloRequest, ListRequest, Malformed,
    MapRequest, MapUpdate, Outcome, Page, ProposeRequest, RaftRequest, ReadRequest, ReadResult, Request, Role,
    SlotRequest, SnapshotProgress, SnapshotRequest, Terms, Wire, limits as wire,
};
use capnp::capability::{FromTypelessPipeline, Response};
use capnp::traits::{FromPointerBuilder, FromPointerReader, Owned, Pipelined};
use capnp_rpc::RpcSystem;
use capnp_rpc::rpc_twoparty_capnp::Side;
use futures_channel::oneshot;
use futures_util::future::select;

use super::limits::{Limits, millis};
use super::network::{self, Network};
use super::pool::{Backoff, Options};
use super::proof::Credential;
use super::serve::{ENVELOPE_BYTES, deadline_passed};
use super::server::Identity;
use super::traffic::Traffic;

/// A node to call. Clones share its connection.
#[derive(Clone)]
pub struct Peer(Rc<Inner>);

struct Inner {
    node: u64,
    addr: SocketAddr,
    options: Options,
    state: RefCell<State>,
    /// Rung when the state changes.
    changed: Bell,
    /// Failures since it last worked.
    failures: Cell<u32>,
}

enum State {
    /// Nobody has asked yet.
    Idle,
    Connecting {
        /// Dropped, it stops.
        _task: JoinHandle<()>,
    },
    Ready(Rc<Session>),
    Failed {
        error: Error,
        until: Instant,
    },
}

/// A connection that was welcomed.
struct Session {
    slots: slots::Client,
    control: control::Client,
    raft: Option<raft::Client>,
    traffic: Rc<Traffic>,
    bytes_max: usize,
    gate: Gate,
    /// Dropped, the connection ends; cancelled, it has ended.
    end: oneshot::Sender<Never>,
}

/// Never sent: only its sender's end is of interest.
enum Never {}

/// As many calls at once as the other side works on.
struct Gate {
    free: async_channel::Receiver<()>,
    back: async_channel::Sender<()>,
}

struct Pass<'a>(&'a Gate);

impl Gate {
    fn new(calls: usize) -> Self {
        let (back, free) = async_channel::bounded(calls.max(1));
        (0..calls.max(1)).for_each(|_| {
            let _ = back.try_send(());
        });
        Self { free, back }
    }

    async fn pass(&self) -> Pass<'_> {
        // The gate holds the other end: it is never closed.
        let _ = self.free.recv().await;
        Pass(self)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let _ = self.0.back.try_send(());
    }
}

impl Peer {
    pub(super) fn new(node: u64, addr: SocketAddr, options: Options) -> Self {
        Self(Rc::new(Inner {
            node,
            addr,
            options,
            state: RefCell::new(State::Idle),
            changed: Bell::default(),
            failures: Cell::new(0),
        }))
    }

    /// Its id.
    pub fn node(&self) -> u64 {
        self.0.node
    }

    /// Where it answers.
    pub fn addr(&self) -> SocketAddr {
        self.0.addr
    }

    /// Whether a connection stands.
    pub fn is_connected(&self) -> bool {
        matches!(*self.0.state.borrow(), State::Ready(_))
    }

    /// Adds versions to one slot.
    ///
    /// # Errors
    /// What the node answers, or why there is no answer. Likewise for all calls below.
    pub async fn commit(&self, request: CommitRequest, within: Duration) -> Answer<Vec<Answer<Committed>>> {
        self.call(request, within, |session| Ok(session.slots.commit_request())).await
    }

    /// Finds one version.
    pub async fn read(&self, request: ReadRequest, within: Duration) -> Answer<ReadResult> {
        self.call(request, within, |session| Ok(session.slots.read_request())).await
    }

    /// Lists a page.
    pub async fn list(&self, request: ListRequest, within: Duration) -> Answer<Page> {
        self.call(request, within, |session| Ok(session.slots.list_request())).await
    }

    /// Hands over a batch of messages of consensus.
    pub async fn raft(&self, data: Bytes, within: Duration) -> Answer<Bytes> {
        let request = RaftRequest { data, ..RaftRequest::default() };
        self.call(request, within, |session| session.raft().map(raft::Client::batch_request)).await
    }

    /// Has a group that the node leads obey a command.
    pub async fn command(&self, request: SlotRequest, within: Duration) -> Answer<Bytes> {
        self.call(request, within, |session| session.raft().map(raft::Client::command_request)).await
    }

    /// Asks a group on the node.
    pub async fn query(&self, request: SlotRequest, within: Duration) -> Answer<Bytes> {
        self.call(request, within, |session| session.raft().map(raft::Client::query_request)).await
    }

    /// Hands over a part of a snapshot.
    pub async fn snapshot(&self, request: SnapshotRequest, within: Duration) -> Answer<SnapshotProgress> {
        self.call(request, within, |session| session.raft().map(raft::Client::snapshot_request)).await
    }

    /// The map, if it is newer than what the caller has.
    pub async fn map(&self, request: MapRequest, within: Duration) -> Answer<MapUpdate> {
        self.call(request, within, |session| Ok(session.control.map_request())).await
    }

    /// Waits for a newer map.
    pub async fn wait(&self, request: MapRequest, within: Duration) -> Answer<MapUpdate> {
        self.call(request, within, |session| Ok(session.control.wait_request())).await
    }

    /// Changes the map.
    pub async fn propose(&self, request: ProposeRequest, within: Duration) -> Answer<Applied> {
        self.call(request, within, |session| Ok(session.control.propose_request())).await
    }

    /// One call. Dropping the future cancels it, on the other side too.
    async fn call<R, F>(
        &self,
        mut request: R,
        within: Duration,
        begin: impl FnOnce(&Session) -> Result<capnp::capability::Request<R::Form, F>, Error>,
    ) -> Answer<R::Answer>
    where
        R: Request,
        Answer<R::Answer>: Wire<Form = F>,
        F: Owned + Pipelined + Unpin + 'static,
        F::Pipeline: FromTypelessPipeline,
        for<'a> <R::Form as Owned>::Builder<'a>: FromPointerBuilder<'a>,
        for<'a> F::Reader<'a>: FromPointerReader<'a>,
    {
        let deadline = time::now() + within;
        let session = before(deadline, self.session()).await??;
        let _pass = before(deadline, session.gate.pass()).await?;
        session.check_room(self)?;
        let remaining = deadline.since(time::now());
        if remaining.is_zero() {
            return Err(deadline_passed());
        }
        request.call_mut().deadline_ms = millis(remaining);
        let mut call = begin(&session)?;
        request.write(call.get());
        check_length(call.hook.get().target_size())?;
        let sent = call.send().promise;
        let response = match timeout(remaining, sent).await {
            Ok(Ok(response)) => response,
            Ok(Err(exception)) => return Err(self.lost(&exception)),
            Err(_) => return Err(deadline_passed().with_outcome(Outcome::Unknown)),
        };
        read_answer(&response).map_err(|error| self.misunderstood(&error))?
    }

    /// A connection that was welcomed: waits while one is being made, and fails at once during the pause after a failure.
    async fn session(&self) -> Answer<Rc<Session>> {
        loop {
            let changed = self.0.changed.rung();
            match &*self.0.state.borrow() {
                State::Ready(session) => return Ok(session.clone()),
                State::Failed { error, until } if *until > time::now() => {
                    return Err(Error { advice: later(error, *until), ..error.clone() });
                }
                State::Connecting { .. } | State::Idle | State::Failed { .. } => {}
            }
            self.connect_unless_connecting();
            changed.await;
        }
    }

    fn connect_unless_connecting(&self) {
        let mut state = self.0.state.borrow_mut();
        if !matches!(*state, State::Connecting { .. }) {
            *state = State::Connecting { _task: spawn(Class::Foreground, connect(Rc::downgrade(&self.0))) };
        }
    }

    fn lost(&self, exception: &capnp::Error) -> Error {
        let (node, addr) = (self.0.node, self.0.addr);
        let (kind, advice) = match exception.kind {
            capnp::ErrorKind::Disconnected => (ErrorKind::Unreachable, Advice::TryElsewhere(0)),
            capnp::ErrorKind::Unimplemented => {
                let message = format!("node {node} at {addr} is too old for this call: upgrade it");
                return Error::fix_input(ErrorKind::Unsupported, message);
            }
            _ => {
                let message = format!("node {node} at {addr} can't answer: {}", exception.extra);
                let error = Error::new(ErrorKind::Internal, Advice::Stop, message);
                return error.with_outcome(Outcome::Unknown);
            }
        };
        let message = format!("the connection to node {node} at {addr} broke in the middle of the call: {exception}");
        Error::new(kind, advice, message).with_outcome(Outcome::Unknown)
    }

    fn misunderstood(&self, error: &Malformed) -> Error {
        let message = format!("node {} at {} answered what can't be read: {error}", self.0.node, self.0.addr);
        Error::new(ErrorKind::Internal, Advice::Stop, message).with_outcome(Outcome::Unknown)
    }
}

async fn before<T>(deadline: Instant, future: impl Future<Output = T>) -> Answer<T> {
    timeout(deadline.since(time::now()), future).await.map_err(|_| deadline_passed())
}

/// What to do during the pause after this error: it is kept, but for how long still to wait.
fn later(error: &Error, until: Instant) -> Advice {
    match error.advice {
        Advice::TryElsewhere(_) => Advice::TryElsewhere(millis(until.since(time::now())).max(1)),
        ref advice => advice.clone(),
    }
}

fn check_length(size: capnp::Result<capnp::MessageSize>) -> Answer<()> {
    let bytes = size.map_or(u64::MAX, |size| size.word_count.saturating_mul(8));
    let max = wire::MESSAGE_BYTES_MAX as u64 - ENVELOPE_BYTES;
    if bytes <= max {
        return Ok(());
    }
    let message = format!("the request has {bytes} bytes, and may have {max}: send less at once");
    Err(Error::fix_input(ErrorKind::TooLarge, message))
}

fn read_answer<T>(response: &Response<<Answer<T> as Wire>::Form>) -> Result<Answer<T>, Malformed>
where
    Answer<T>: Wire,
    <Answer<T> as Wire>::Form: Pipelined,
    for<'a> <<Answer<T> as Wire>::Form as Owned>::Reader<'a>: FromPointerReader<'a>,
{
    Answer::<T>::read(response.get()?)
}

impl Session {
    fn raft(&self) -> Answer<&raft::Client> {
        self.raft.as_ref().ok_or_else(|| {
            Error::fix_input(ErrorKind::Unsupported, "consensus is between nodes: say hello as a peer, not as a client")
        })
    }

    /// capnp-rpc queues without end; what the other side doesn't take must not gather here.
    fn check_room(&self, peer: &Peer) -> Answer<()> {
        if self.traffic.unsent() <= self.bytes_max {
            return Ok(());
        }
        let message = format!("node {} at {} takes less than is sent to it", peer.0.node, peer.0.addr);
        Err(Error::new(ErrorKind::SlowDown, Advice::TryElsewhere(100), message))
    }
}

/// Makes the connection and tells those who wait for it.
async fn connect(peer: Weak<Inner>) {
    let Some(inner) = peer.upgrade() else { return };
    let (node, addr, options) = (inner.node, inner.addr, inner.options.clone());
    drop(inner);
    let opened = open(peer.clone(), node, addr, &options).await;
    let Some(inner) = peer.upgrade() else { return };
    match opened {
        // It ended while the welcome was on its way to here: whoever lives with it found nobody to tell.
        Ok(session) if session.end.is_canceled() => inner.fail(gone(node, addr)),
        Ok(session) => {
            inner.failures.set(0);
            inner.set(State::Ready(Rc::new(session)));
        }
        Err(error) => inner.fail(error),
    }
}

impl Inner {
    fn set(&self, state: State) {
        // What the old state held is dropped with nothing borrowed: its destructors may look here.
        let old = self.state.replace(state);
        drop(old);
        self.changed.ring();
    }

    fn fail(&self, error: Error) {
        let failures = self.failures.get().saturating_add(1);
        self.failures.set(failures);
        let until = time::now() + self.options.backoff.pause(failures);
        self.set(State::Failed { error, until });
    }
}

async fn open(peer: Weak<Inner>, node: u64, addr: SocketAddr, options: &Options) -> Answer<Session> {
    let unreachable = |why: String| {
        let message = format!("node {node} at {addr} can't be reached: {why}");
        Error::new(ErrorKind::Unreachable, Advice::TryElsewhere(0), message)
    };
    let limits = &options.limits;
    let hello_within = limits.hello_within;
    let stream = match timeout(hello_within, Stream::connect(addr)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(unreachable(error.to_string())),
        Err(_) => return Err(unreachable(format!("no connection within {hello_within:?}"))),
    };
    let traffic = Rc::new(Traffic::new());
    let network = Network::new(stream, Side::Client, limits, traffic.clone());
    let mut system = RpcSystem::new(Box::new(network), None);
    let bootstrap: node::Client = system.bootstrap(Side::Server);
    let (welcome, is_welcome) = oneshot::channel();
    let (end, ended) = oneshot::channel();
    spawn(Class::Foreground, live(peer, system, bootstrap.clone(), is_welcome, ended, traffic.clone())).detach();
    match timeout(hello_within, say_hello(&bootstrap, node, &options.identity)).await {
        Ok(Ok((terms, slots, control, raft))) => {
            let _ = welcome.send(ping_every(&terms, limits));
            let calls = (terms.calls_max as usize).min(limits.calls_max);
            let bytes_max = limits.bytes_max;
            Ok(Session { slots, control, raft, traffic, bytes_max, gate: Gate::new(calls), end })
        }
        Ok(Err(Refusal::Broken(exception))) => Err(unreachable(exception.to_string())),
        Ok(Err(Refusal::Refused(error))) => {
            let message = format!("node {node} at {addr} refuses: {}", error.message);
            Err(Error { message, ..error })
        }
        Err(_) => Err(unreachable(format!("no answer to hello within {hello_within:?}"))),
    }
}

/// Often enough that neither side takes the other for gone.
fn ping_every(terms: &Terms, limits: &Limits) -> Duration {
    let theirs = Duration::from_millis(u64::from(terms.idle_ms).max(100));
    theirs.min(limits.idle_within) / 4
}

enum Refusal {
    Broken(capnp::Error),
    Refused(Error),
}

impl From<capnp::Error> for Refusal {
    fn from(exception: capnp::Error) -> Self {
        Self::Broken(exception)
    }
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        Self::Refused(malformed.into())
    }
}

type Welcome = (Terms, slots::Client, control::Client, Option<raft::Client>);

async fn say_hello(bootstrap: &node::Client, expect: u64, identity: &Identity) -> Result<Welcome, Refusal> {
    let asked = bootstrap.challenge_request().send().promise.await?;
    let nonce = asked.get()?.get_nonce()?.try_into();
    let nonce = nonce.map_err(|_| capnp::Error::failed("its challenge hasn't 32 bytes".to_owned()))?;
    let role = identity.credential.role();
    let key = match &identity.credential {
        Credential::Member(_) => String::new(),
        Credential::Key { access, .. } => access.clone(),
    };
    let mut hello = HelloRequest {
        protocol_min: wire::PROTOCOL,
        protocol_max: wire::PROTOCOL,
        cluster: Some(identity.cluster),
        role,
        node: identity.node,
        expect,
        software: identity.software.clone(),
        key,
        proof: None,
    };
    identity.credential.prove(&mut hello, &nonce);
    let mut call = bootstrap.hello_request();
    hello.write(call.get());
    let response = call.send().promise.await?;
    let response = response.get()?;
    let welcome = match response.which() {
        Ok(hello_response::Which::Welcome(welcome)) => welcome?,
        Ok(hello_response::Which::Error(error)) => return Err(Refusal::Refused(Error::read(error?)?)),
        Err(unknown) => return Err(Malformed::from(unknown).into()),
    };
    let terms = Terms::read(welcome)?;
    let raft = if role == Role::Peer { Some(welcome.get_raft()?) } else { None };
    Ok((terms, welcome.get_slots()?, welcome.get_control()?, raft))
}

/// A connection from hello to its end, of which the peer is told.
async fn live(
    peer: Weak<Inner>,
    system: RpcSystem<Side>,
    bootstrap: node::Client,
    welcome: oneshot::Receiver<Duration>,
    ended: oneshot::Receiver<Never>,
    traffic: Rc<Traffic>,
) {
    let pings = async {
        match welcome.await {
            Ok(every) => ping(&bootstrap, every, &traffic).await,
            // Not welcome: whoever said hello ends this.
            Err(_) => std::future::pending().await,
        }
    };
    let end = async {
        select(ended, pin!(pings)).await;
    };
    network::run(system, end).await;
    let Some(inner) = peer.upgrade() else { return };
    // Before the welcome, whoever connects tells; and by now another connection may stand.
    let is_current = matches!(&*inner.state.borrow(), State::Ready(session) if Rc::ptr_eq(&session.traffic, &traffic));
    if is_current {
        inner.fail(gone(inner.node, inner.addr));
    }
}

fn gone(node: u64, addr: SocketAddr) -> Error {
    let message = format!("the connection to node {node} at {addr} ended");
    Error::new(ErrorKind::Unreachable, Advice::TryElsewhere(0), message)
}

/// Returns when the other side doesn't answer any more.
async fn ping(bootstrap: &node::Client, every: Duration, traffic: &Traffic) {
    loop {
        sleep(every).await;
        if traffic.heard().elapsed() < every {
            continue;
        }
        let mut answer = bootstrap.ping_request().send().promise;
        loop {
            match timeout(every, &mut answer).await {
                Ok(Ok(_)) => break,
                // It is behind what is still to be written, which has a limit of its own; or something else came.
                Err(_) if traffic.unsent() > 0 || traffic.heard().elapsed() < every => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }
}

impl Backoff {
    /// How long to wait after so many failures in a row: half of it is drawn, so that those who lost a node don't all come
    /// back at once.
    fn pause(&self, failures: u32) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(self.max);
        let half = doubled / 2;
        let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
        half + Duration::from_nanos(rng::with(|rng| rng.below(nanos.max(1))))
    }
}
