//! One connection's capabilities: admission, deadline, a task of its own for each call, and the answer as data.

use std::cell::{Cell, OnceCell};
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;

use cairn_io::rng;
use cairn_io::task::{Class, JoinError, spawn};
use cairn_io::time::{self, Duration, timeout};
use cairn_schema::cairn_capnp::{control, node, raft, slots};
use cairn_schema::limits::HOPS_MAX;
use cairn_schema::{Advice, Answer, Error, ErrorKind, HelloRequest, Outcome, Request, Role, Terms, Wire, limits};
use capnp::capability::{Params, Results};
use capnp::traits::{FromPointerBuilder, FromPointerReader, Owned};

use super::limits::{Limits, millis};
use super::proof::Nonce;
use super::server::Core;
use super::service::{Caller, Client, Services};
use super::traffic::Traffic;

/// One connection, as its capabilities see it.
pub struct Link {
    core: Rc<Core>,
    traffic: Rc<Traffic>,
    /// Where it comes from.
    from: SocketAddr,
    /// Drawn when it is first asked for.
    nonce: Cell<Option<Nonce>>,
    /// Set by the first hello that is answered well.
    guest: OnceCell<Guest>,
    has_said_hello: Cell<bool>,
    is_waiting: Cell<bool>,
}

/// Who was welcomed.
struct Guest {
    role: Role,
    node: u64,
    client: Option<Rc<Client>>,
}

impl Link {
    pub fn new(core: Rc<Core>, traffic: Rc<Traffic>, from: SocketAddr) -> Rc<Self> {
        let (nonce, guest) = (Cell::new(None), OnceCell::new());
        let (has_said_hello, is_waiting) = (Cell::new(false), Cell::new(false));
        Rc::new(Self { core, traffic, from, nonce, guest, has_said_hello, is_waiting })
    }

    pub fn core(&self) -> &Rc<Core> {
        &self.core
    }

    pub fn traffic(&self) -> &Rc<Traffic> {
        &self.traffic
    }

    /// Whether it may stay without further ado.
    pub fn is_welcome(&self) -> bool {
        self.guest.get().is_some()
    }

    /// The capability that a connection begins with.
    pub fn bootstrap(self: &Rc<Self>) -> node::Client {
        capnp_rpc::new_client(NodeServer(self.clone()))
    }

    fn limits(&self) -> &Limits {
        &self.core.limits
    }

    /// Whether one more call may be worked on, before anything of it is looked at.
    fn admit(&self) -> Result<Permit, Error> {
        let limits = self.limits();
        let slow_down = |what: String, max: usize| {
            let message = format!("{what}, and there may be {max}: wait for answers before asking more");
            Err(Error::new(ErrorKind::SlowDown, Advice::RetryHere(millis(limits.retry_after)), message))
        };
        if self.core.is_stopping.get() {
            let advice = Advice::TryElsewhere(millis(limits.drain_within));
            return Err(Error::new(ErrorKind::Stopping, advice, "this node is about to stop: ask another one"));
        }
        let (calls, bytes) = (self.traffic.calls(), self.traffic.bytes());
        if calls > limits.calls_max {
            return slow_down(format!("{calls} calls of this connection are under way"), limits.calls_max);
        }
        if bytes > limits.bytes_max {
            return slow_down(format!("{bytes} bytes of this connection are held"), limits.bytes_max);
        }
        if self.core.calls.get() >= limits.core_calls_max {
            let message = format!("{} calls are under way on this core of the node", limits.core_calls_max);
            return Err(Error::new(ErrorKind::SlowDown, Advice::TryElsewhere(millis(limits.retry_after)), message));
        }
        Ok(Permit::new(self.core.clone()))
    }

    fn caller_of(&self, request: &impl Request) -> Result<Caller, Error> {
        let info = request.call();
        if info.hops > HOPS_MAX {
            let message = format!("{} hops, and there may be {HOPS_MAX}", info.hops);
            return Err(Error { field: "call.hops".to_owned(), ..Error::fix_input(ErrorKind::BadInput, message) });
        }
        let limits = self.limits();
        let within = match info.deadline_ms {
            0 => limits.deadline,
            millis => Duration::from_millis(millis.into()).min(limits.deadline_max),
        };
        // Who isn't welcome has no capability to call.
        let denied = |message: &str| Error::fix_input(ErrorKind::Denied, message);
        let guest = self.guest.get().ok_or_else(|| denied("say hello first"))?;
        if let Some(client) = &guest.client
            && self.core.services.keys.client(&client.access)?.as_ref() != Some(&**client)
        {
            return Err(denied("the access key of this connection was removed or replaced: connect with another"));
        }
        let (client, from, deadline) = (guest.client.clone(), self.from, time::now() + within);
        let (role, node) = (guest.role, guest.node);
        Ok(Caller { role, node, client, from, deadline, hops: info.hops, trace: info.trace })
    }
}

/// A call that is worked on.
struct Permit(Rc<Core>);

impl Permit {
    fn new(core: Rc<Core>) -> Self {
        core.calls.set(core.calls.get() + 1);
        Self(core)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.calls.set(self.0.calls.get() - 1);
        if self.0.calls.get() == 0 {
            self.0.idle.ring();
        }
    }
}

/// Serves one call: reads it, works on it until its deadline, writes the answer. The result is an exception only if the
/// answer itself can't be written.
async fn serve<R, F>(
    link: Rc<Link>,
    class: Class,
    params: Params<R::Form>,
    mut results: Results<<Answer<R::Answer> as Wire>::Form>,
    work: impl FnOnce(Services, Caller, R) -> F,
) -> capnp::Result<()>
where
    R: Request,
    R::Answer: 'static,
    Answer<R::Answer>: Wire,
    F: Future<Output = Answer<R::Answer>> + 'static,
    for<'a> <R::Form as Owned>::Reader<'a>: FromPointerReader<'a>,
    for<'a> <<Answer<R::Answer> as Wire>::Form as Owned>::Builder<'a>: FromPointerBuilder<'a>,
{
    let answer = match begin::<R>(&link, params) {
        Ok((permit, caller, request)) => {
            let within = caller.remaining();
            let answer = finish(class, within, work(link.core.services.clone(), caller, request)).await;
            drop(permit);
            answer
        }
        Err(error) => Err(error),
    };
    answer.write(results.get());
    check_length(results.hook.get()?.target_size())
}

/// An answer that the caller would not take ends this call, not the connection: as an exception, which takes its place.
fn check_length(size: capnp::Result<capnp::MessageSize>) -> capnp::Result<()> {
    let bytes = size?.word_count.saturating_mul(8);
    let max = limits::MESSAGE_BYTES_MAX as u64 - ENVELOPE_BYTES;
    if bytes <= max {
        return Ok(());
    }
    Err(capnp::Error::failed(format!("the answer has {bytes} bytes, and may have {max}: ask for less at once")))
}

fn begin<R: Request>(link: &Link, params: Params<R::Form>) -> Result<(Permit, Caller, R), Error>
where
    for<'a> <R::Form as Owned>::Reader<'a>: FromPointerReader<'a>,
{
    let permit = link.admit()?;
    let request = params.get().map_err(cairn_schema::Malformed::from).and_then(R::read)?;
    // Its message may be large, and the work may take long.
    drop(params);
    let caller = link.caller_of(&request)?;
    Ok((permit, caller, request))
}

/// A task of its own, so that a panic ends one call. Dropping this, as capnp-rpc does when the caller gives up, ends the
/// task too.
async fn finish<T: 'static>(
    class: Class,
    within: Duration,
    work: impl Future<Output = Answer<T>> + 'static,
) -> Answer<T> {
    let task = spawn(class, timeout(within, work));
    match task.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(deadline_passed().with_outcome(Outcome::Unknown)),
        Err(JoinError::Panicked(panic)) => {
            let message = format!("a defect of this node: the call panicked ({panic}); report it, with the node's log");
            Err(Error::new(ErrorKind::Internal, Advice::Stop, message).with_outcome(Outcome::Unknown))
        }
        Err(JoinError::Cancelled) => {
            let message = "this node stopped in the middle of the call: ask another one";
            let error = Error::new(ErrorKind::Stopping, Advice::TryElsewhere(1000), message);
            Err(error.with_outcome(Outcome::Unknown))
        }
    }
}

/// What capnp-rpc adds around a request or an answer, at most.
pub(super) const ENVELOPE_BYTES: u64 = 512;

/// Before anything was done.
pub(super) fn deadline_passed() -> Error {
    let message = "the deadline of the call passed: allow more time, or ask less at once";
    Error::new(ErrorKind::DeadlinePassed, Advice::TryElsewhere(0), message)
}

struct NodeServer(Rc<Link>);

impl node::Server for NodeServer {
    fn hello(
        self: Rc<Self>,
        params: node::HelloParams,
        mut results: node::HelloResults,
    ) -> impl Future<Output = capnp::Result<()>> + 'static {
        let greeted = self.greet(&params);
        std::future::ready(self.answer_hello(greeted, &mut results))
    }

    fn ping(
        self: Rc<Self>,
        _: node::PingParams,
        _: node::PingResults,
    ) -> impl Future<Output = capnp::Result<()>> + 'static {
        std::future::ready(Ok(()))
    }

    fn challenge(
        self: Rc<Self>,
        _: node::ChallengeParams,
        mut results: node::ChallengeResults,
    ) -> impl Future<Output = capnp::Result<()>> + 'static {
        let drawn = self.0.nonce.get().map_or_else(rng::secret, Ok);
        let said = drawn.map_err(|error| capnp::Error::failed(format!("no randomness: {error}")));
        std::future::ready(said.map(|nonce| {
            self.0.nonce.set(Some(nonce));
            results.get().set_nonce(&nonce);
        }))
    }
}

impl NodeServer {
    fn greet(&self, params: &node::HelloParams) -> Result<(Role, Terms), Error> {
        let link = &self.0;
        if link.has_said_hello.replace(true) {
            let message = "hello was said already: it comes once for each connection";
            return Err(Error::fix_input(ErrorKind::BadInput, message));
        }
        let hello = params.get().map_err(cairn_schema::Malformed::from).and_then(HelloRequest::read)?;
        let protocol = hello.negotiate()?;
        link.core.check_hello(&hello)?;
        let client = link.core.authenticate(&hello, link.nonce.get())?.map(Rc::new);
        let _ = link.guest.set(Guest { role: hello.role, node: hello.node, client });
        let (identity, limits) = (&link.core.identity, link.limits());
        let terms = Terms {
            protocol,
            cluster: identity.cluster,
            node: identity.node,
            software: identity.software.clone(),
            calls_max: u32::try_from(limits.calls_max).unwrap_or(u32::MAX),
            bytes_max: u32::try_from(limits.bytes_max).unwrap_or(u32::MAX),
            idle_ms: millis(limits.idle_within),
        };
        Ok((hello.role, terms))
    }

    fn answer_hello(
        &self,
        greeted: Result<(Role, Terms), Error>,
        results: &mut node::HelloResults,
    ) -> capnp::Result<()> {
        let mut answer = results.get();
        answer.set_protocol_min(limits::PROTOCOL);
        answer.set_protocol_max(limits::PROTOCOL);
        match greeted {
            Ok((role, terms)) => {
                let mut welcome = answer.init_welcome();
                terms.write(welcome.reborrow());
                welcome.set_slots(capnp_rpc::new_client(SlotsServer(self.0.clone())));
                welcome.set_control(capnp_rpc::new_client(ControlServer(self.0.clone())));
                if role == Role::Peer {
                    welcome.set_raft(capnp_rpc::new_client(RaftServer(self.0.clone())));
                }
            }
            Err(error) => error.write(answer.init_error()),
        }
        Ok(())
    }
}

/// Methods that differ in nothing but their names.
macro_rules! method {
    ($interface:ident, $name:ident, $params:ident, $results:ident, $class:ident, $service:ident) => {
        fn $name(
            self: Rc<Self>,
            params: $interface::$params,
            results: $interface::$results,
        ) -> impl Future<Output = capnp::Result<()>> + 'static {
            serve(self.0.clone(), Class::$class, params, results, |services, caller, request| async move {
                services.$service.$name(caller, &request).await
            })
        }
    };
}

struct SlotsServer(Rc<Link>);

impl slots::Server for SlotsServer {
    method!(slots, commit, CommitParams, CommitResults, Foreground, slots);
    method!(slots, read, ReadParams, ReadResults, Foreground, slots);
    method!(slots, list, ListParams, ListResults, Foreground, slots);
}

struct RaftServer(Rc<Link>);

impl raft::Server for RaftServer {
    method!(raft, batch, BatchParams, BatchResults, Foreground, raft);
    method!(raft, command, CommandParams, CommandResults, Foreground, raft);
    method!(raft, query, QueryParams, QueryResults, Foreground, raft);
    method!(raft, snapshot, SnapshotParams, SnapshotResults, Replication, raft);
}

struct ControlServer(Rc<Link>);

/// One that waits for a map; each connection may have one.
struct Waiting(Rc<Link>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.is_waiting.set(false);
    }
}

impl control::Server for ControlServer {
    method!(control, map, MapParams, MapResults, Foreground, control);
    method!(control, propose, ProposeParams, ProposeResults, Foreground, control);

    fn wait(
        self: Rc<Self>,
        params: control::WaitParams,
        results: control::WaitResults,
    ) -> impl Future<Output = capnp::Result<()>> + 'static {
        let link = self.0.clone();
        let waiting = (!link.is_waiting.replace(true)).then(|| Waiting(link.clone()));
        serve(link, Class::Foreground, params, results, |services, caller, request| async move {
            if waiting.is_none() {
                let message = "this connection waits for a map already: one at a time";
                return Err(Error::fix_input(ErrorKind::BadInput, message));
            }
            services.control.wait(caller, &request).await
        })
    }
}
