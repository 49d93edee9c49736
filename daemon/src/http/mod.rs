//! HTTP on our own streams, tasks and timers: what the management API and, later, the S3 gateway are served by.
//!
//! ```text
//!   bind ─► accept ─► connection ─► Guarded stream ─► hyper (HTTP/1) ─► Serve::serve
//!             │           │            waits end: head, idle, write
//!             │           └─ a panic of one request is its 500; of its body, the end of its connection
//!             └─ too many: 503 and closed
//! ```
//!
//! It runs on one core; a node that serves an address on several binds it on each with [`Reuse::Shared`], and they spread
//! the connections among them ([`Spread`]). It knows no path and no protocol above HTTP.
//!
//! Invariants: connections, heads and waits are bounded; whatever comes from outside ends at most its own connection; a
//! request that is being served when [`Server::serve`] is told to stop gets its whole answer, if it takes no longer than
//! [`Limits::drain_within`].

mod answered;
mod body;
pub mod client;
mod date;
mod spread;
mod stream;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use bytes::Bytes;
use cairn_io::net::{Listener, Reuse, Stream};
use cairn_io::task::{Class, spawn};
use cairn_io::time::{self, Duration};
use cairn_io::{Bell, Shutdown};
use futures_util::future::{Either, FutureExt, select};
use futures_util::{AsyncReadExt, AsyncWriteExt, pin_mut};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, DATE, EXPECT, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use tracing::{debug, error, warn};

pub use answered::{Answered, BOUNDS, Latency, Sort};
pub use body::{Body, Stalled};
pub use date::http_date;
pub use spread::Spread;

use body::Answer;
use spread::{End, Place};
use stream::{Guarded, Phase};

/// What answers requests.
pub trait Serve: 'static {
    /// Bodies of answers.
    type Body: hyper::body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + 'static;

    /// Answers one request.
    fn serve(&self, request: Request<Body>, from: SocketAddr) -> impl Future<Output = Response<Self::Body>>;

    /// The answer to a request that panicked.
    fn panicked(&self) -> Response<Self::Body>;
}

/// What is allowed.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; more are answered 503 and closed.
    pub connections_max: usize,
    /// Bytes of a request's head, and of what hyper holds of a connection in each direction.
    pub head_bytes_max: usize,
    /// Headers of a request.
    pub headers_max: usize,
    /// Within which a request's head must be there, from its first byte; of a new connection, from its beginning.
    pub head_within: Duration,
    /// How long a connection may be without a request.
    pub idle_within: Duration,
    /// How long a client may take for the next piece of a body, in either direction.
    pub stall_within: Duration,
    /// How long requests may take once it is told to stop; what is left then is cut off.
    pub drain_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            head_bytes_max: 32 << 10,
            headers_max: 100,
            head_within: Duration::from_secs(10),
            idle_within: Duration::from_mins(1),
            stall_within: Duration::from_secs(30),
            drain_within: Duration::from_secs(10),
        }
    }
}

/// What a server has done and is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that are open.
    pub connections: usize,
    /// Connections taken since the start.
    pub accepted: u64,
    /// Connections refused because there were too many.
    pub refused: u64,
    /// Connections closed because their client was too slow.
    pub timed_out: u64,
    /// Requests that are being answered.
    pub underway: usize,
    /// Requests taken since the start.
    pub requests: u64,
    /// Requests, or bodies of answers, that panicked.
    pub panics: u64,
}

/// A server that listens and doesn't serve yet.
pub struct Server {
    listener: Listener,
    /// Among servers of other cores.
    spread: Option<End>,
    shared: Rc<Shared>,
}

/// What the connections share.
struct Shared {
    limits: Limits,
    counts: Cell<Counts>,
    /// Set when connections are to end when they can.
    draining: Shutdown,
    /// Set when they are to end at once.
    cut: Shutdown,
    /// Rung when a connection ends.
    ended: Bell,
    /// Refused connections whose last bytes are being waited for.
    lingering: Cell<usize>,
    /// The date of the last answer, and the second that it was.
    date: RefCell<(u64, HeaderValue)>,
}

/// A view of a server's counts.
#[derive(Clone)]
pub struct Watch(Rc<Shared>);

impl Watch {
    /// What it has done and is doing.
    pub fn counts(&self) -> Counts {
        self.0.counts.get()
    }
}

/// After an accept that failed: what it lacks, such as descriptors, comes back when others end.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// What a connection that is one too many is told.
const TOO_MANY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
/// How long one that was told so may take to read it, and how many are given that time.
const LINGER: Duration = Duration::from_millis(500);
const LINGERING_MAX: usize = 64;

impl Server {
    /// Listens at `addr`.
    ///
    /// # Errors
    /// If the address is taken or not this node's.
    pub fn bind(addr: SocketAddr, reuse: Reuse, limits: Limits) -> io::Result<Self> {
        let listener = Listener::bind(addr, reuse)?;
        let shared = Shared {
            limits,
            counts: Cell::default(),
            draining: Shutdown::new(),
            cut: Shutdown::new(),
            ended: Bell::default(),
            lingering: Cell::default(),
            date: RefCell::new((u64::MAX, HeaderValue::from_static(""))),
        };
        Ok(Self { listener, spread: None, shared: Rc::new(shared) })
    }

    /// Spreads connections over this core and others that serve the same address.
    ///
    /// # Errors
    /// If this core has done so before.
    pub fn spread(self, spread: &Spread) -> io::Result<Self> {
        Ok(Self { spread: Some(spread.end()?), ..self })
    }

    /// Where it listens, the port filled in.
    ///
    /// # Errors
    /// If the socket was closed.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Its counts, also while it serves.
    pub fn watch(&self) -> Watch {
        Watch(self.shared.clone())
    }

    /// Serves until `stop`, then lets what is under way end. Returns how many connections had to be cut off.
    pub async fn serve<S: Serve>(self, service: S, stop: impl Future<Output = ()>) -> usize {
        let Self { listener, spread, shared } = self;
        let service = Rc::new(service);
        {
            let accepting = accept(&listener, spread.as_ref(), &shared, &service);
            pin_mut!(accepting, stop);
            select(accepting, stop).await;
        }
        // From here on nobody is let in.
        drop((listener, spread));
        shared.draining.request();
        if time::timeout(shared.limits.drain_within, shared.all_ended()).await.is_ok() {
            return 0;
        }
        let cut = shared.counts.get().connections;
        shared.cut.request();
        shared.all_ended().await;
        cut
    }
}

async fn accept<S: Serve>(listener: &Listener, spread: Option<&End>, shared: &Rc<Shared>, service: &Rc<S>) {
    loop {
        let (stream, from, place) = match next(listener, spread).await {
            Ok(Some(accepted)) => accepted,
            Ok(None) => continue,
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        if shared.counts.get().connections >= shared.limits.connections_max {
            refuse(shared, stream);
            continue;
        }
        shared.count(|counts| {
            counts.connections += 1;
            counts.accepted += 1;
        });
        let open = Open(shared.clone(), place);
        let connection = connection(stream, from, shared.clone(), service.clone());
        let contained = async move {
            let open = open;
            if AssertUnwindSafe(connection).catch_unwind().await.is_err() {
                open.0.count(|counts| counts.panics += 1);
                error!(%from, "the body of an answer panicked; its connection is closed");
            }
        };
        spawn(Class::Foreground, contained).detach();
    }
}

/// The next connection for this core; `None`: one came, and another core has it.
async fn next(listener: &Listener, spread: Option<&End>) -> io::Result<Option<(Stream, SocketAddr, Option<Place>)>> {
    let Some(spread) = spread else {
        let (stream, from) = listener.accept().await?;
        return Ok(Some((stream, from, None)));
    };
    // First those that have waited at another core already.
    let (handed, accepted) = (spread.handed(), listener.accept());
    pin_mut!(handed, accepted);
    match select(handed, accepted).await {
        Either::Left((handed, _)) => handed.map(|(stream, from, place)| Some((stream, from, Some(place)))),
        Either::Right((accepted, _)) => {
            let (stream, from) = accepted?;
            Ok(spread.place(stream, from)?.map(|(stream, place)| (stream, from, Some(place))))
        }
    }
}

/// A connection that counts as open.
struct Open(Rc<Shared>, #[expect(dead_code, reason = "it counts until it is dropped")] Option<Place>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.count(|counts| counts.connections -= 1);
        self.0.ended.ring();
    }
}

/// A request that counts as being answered.
struct Underway(Rc<Shared>);

impl Underway {
    fn new(shared: &Rc<Shared>) -> Self {
        shared.count(|counts| {
            counts.underway += 1;
            counts.requests += 1;
        });
        Self(shared.clone())
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.count(|counts| counts.underway -= 1);
    }
}

impl Shared {
    fn count(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }

    /// What an answer's header says of the time.
    fn date(&self) -> HeaderValue {
        let now = time::wall();
        let second = now.as_unix_nanos() / 1_000_000_000;
        let mut date = self.date.borrow_mut();
        if date.0 != second
            && let Ok(value) = HeaderValue::from_str(&http_date(now))
        {
            *date = (second, value);
        }
        date.1.clone()
    }

    async fn all_ended(&self) {
        while self.counts.get().connections > 0 {
            self.ended.rung().await;
        }
    }
}

/// Tells one connection too many that it is one, without waiting for it.
fn refuse(shared: &Rc<Shared>, mut stream: Stream) {
    shared.count(|counts| counts.refused += 1);
    if shared.lingering.get() >= LINGERING_MAX {
        return;
    }
    shared.lingering.set(shared.lingering.get() + 1);
    let shared = shared.clone();
    let tell = async move {
        let told = time::timeout(LINGER, async {
            stream.write_all(TOO_MANY).await?;
            stream.shutdown(std::net::Shutdown::Write)?;
            // What it sends is read: a socket closed before that would take the answer back.
            let mut rest = [0; 4096];
            while stream.read(&mut rest).await? > 0 {}
            io::Result::Ok(())
        });
        // It may have gone, or be slow: it is closed all the same.
        let _ = told.await;
        shared.lingering.set(shared.lingering.get() - 1);
    };
    spawn(Class::Foreground, tell).detach();
}

/// One connection, from its first byte to its last.
async fn connection<S: Serve>(stream: Stream, from: SocketAddr, shared: Rc<Shared>, service: Rc<S>) {
    let limits = shared.limits;
    let phase = Phase::new();
    let guarded = Guarded::new(stream, phase.clone(), &limits);
    let answer = {
        let (shared, phase) = (shared.clone(), phase.clone());
        service_fn(move |request: Request<Incoming>| {
            phase.begin();
            let (shared, service, phase) = (shared.clone(), service.clone(), phase.clone());
            async move {
                let underway = Underway::new(&shared);
                let is_asking_for_nothing =
                    request.headers().contains_key(EXPECT) && hyper::body::Body::is_end_stream(request.body());
                let request = request.map(|body| Body::new(body, limits.stall_within));
                let contained = AssertUnwindSafe(service.serve(request, from)).catch_unwind().await;
                let mut response = contained.unwrap_or_else(|_| {
                    shared.count(|counts| counts.panics += 1);
                    error!(%from, "a request panicked");
                    service.panicked()
                });
                response.headers_mut().entry(DATE).or_insert_with(|| shared.date());
                // Who waits for "100 Continue" before a body of no bytes gets none, as HTTP allows. Clients built on botocore take
                // the next answer of the connection for this one then, and wait for its end.
                if is_asking_for_nothing {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, std::convert::Infallible>(response.map(|body| Answer::new(body, phase, underway)))
            }
        })
    };
    let mut builder = http1::Builder::new();
    builder
        .max_buf_size(limits.head_bytes_max.max(8192))
        .max_headers(limits.headers_max)
        // The guarded stream knows when a head begins; hyper's clock is the system's, and so is its date.
        .header_read_timeout(None)
        .auto_date_header(false);
    let serving = builder.serve_connection(guarded, answer);
    pin_mut!(serving);
    let (draining, cut) = (shared.draining.requested(), shared.cut.requested());
    pin_mut!(draining, cut);
    let ended = match select(serving.as_mut(), draining).await {
        Either::Left((ended, _)) => ended,
        Either::Right(_) => {
            serving.as_mut().graceful_shutdown();
            match select(serving, cut).await {
                Either::Left((ended, _)) => ended,
                Either::Right(_) => return,
            }
        }
    };
    shared.count(|counts| counts.timed_out += u64::from(phase.is_late()));
    if let Err(error) = ended {
        debug!(%from, %error, is_late = phase.is_late(), "a connection ended early");
    }
}
