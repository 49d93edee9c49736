//! The load: connections that send prepared requests, in a closed or an open loop, and what that comes to.
//!
//! In a closed loop a connection sends the next request when the last is answered: it measures throughput. In an open
//! loop requests are due at a fixed rate whether or not the ones before are answered, and each one's time counts from
//! when it was due: a server that stalls is charged for everybody who would have waited meanwhile.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use cairn_daemon::http::client::Connection;
use cairn_io::task::{self, Class, JoinHandle};
use cairn_io::time::{self, Duration, Instant, timeout};
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::header::CONNECTION;
use hyper::http::response::Parts;

/// Longer than this an answer isn't waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// After a connection broke: a server that is gone must not be asked a million times.
const PAUSE: Duration = Duration::from_millis(10);

/// A request, and how long a good answer's body is, if that is known.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Signed.
    pub request: Request<Full<Bytes>>,
    /// Bytes that its answer must have.
    pub answer: Option<u64>,
    /// Bytes of it that count as moved, besides the answer's.
    pub sent: u64,
}

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// When the connection is free.
    Closed,
    /// So many a second.
    Open(f64),
}

impl Pace {
    /// When the request of this number is due, counted from the start.
    fn due(self, number: u64) -> Option<Duration> {
        match self {
            Self::Closed => None,
            Self::Open(rate) => Some(Duration::from_secs_f64(number as f64 / rate.max(f64::MIN_POSITIVE))),
        }
    }
}

/// What a load came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Good answers.
    pub ops: u64,
    /// Bytes moved by them, in bodies.
    pub bytes: u64,
    /// Answers that were not good, and requests without one.
    pub errors: u64,
    /// Requests that were due and could not even be sent before the end.
    pub unsent: u64,
    /// The first error, in words.
    pub first_error: Option<String>,
    /// How long it took.
    pub elapsed: Duration,
    /// Nanoseconds of each request, good or not, and how late each one is that was not sent.
    pub times: Histogram<u64>,
}

/// Nothing yet.
impl Default for Outcome {
    fn default() -> Self {
        // From a microsecond to ten minutes; three digits.
        let times = Histogram::new_with_bounds(1000, 600_000_000_000, 3).expect("the bounds are in order");
        Self { ops: 0, bytes: 0, errors: 0, unsent: 0, first_error: None, elapsed: Duration::ZERO, times }
    }
}

impl Outcome {
    /// Good answers a second.
    pub fn rate(&self) -> f64 {
        self.ops as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// Microseconds that so much of the requests took at most.
    pub fn micros(&self, quantile: f64) -> f64 {
        self.times.value_at_quantile(quantile) as f64 / 1e3
    }

    /// Both together.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.ops += other.ops;
        self.bytes += other.bytes;
        self.errors += other.errors;
        self.unsent += other.unsent;
        self.first_error = self.first_error.or_else(|| other.first_error.clone());
        self.elapsed += other.elapsed;
        self.times.add(&other.times).expect("both have the same bounds");
        self
    }

    fn record(&mut self, took: Duration) {
        self.times.saturating_record(took.as_nanos() as u64);
    }

    fn take(&mut self, took: Duration, done: Result<u64, String>) {
        self.record(took);
        match done {
            Ok(bytes) => {
                self.ops += 1;
                self.bytes += bytes;
            }
            Err(why) => self.fail(why),
        }
    }

    fn fail(&mut self, why: String) {
        self.errors += 1;
        self.first_error.get_or_insert(why);
    }
}

/// A load to be put on a server.
#[derive(Clone, Debug)]
pub struct Load {
    /// The server.
    pub to: SocketAddr,
    /// How many connections at once.
    pub connections: usize,
    /// How requests follow each other.
    pub pace: Pace,
    /// For how long.
    pub span: Duration,
    /// The requests, taken in turn, round and round.
    pub requests: Vec<Prepared>,
}

struct Shared {
    load: Load,
    start: Instant,
    next: Cell<u64>,
    outcome: RefCell<Outcome>,
}

/// Puts it on. On a core.
///
/// # Errors
/// If not one connection can be made.
pub async fn run(load: Load) -> Result<Outcome, String> {
    let mut connections = Vec::with_capacity(load.connections);
    for _ in 0..load.connections {
        connections.push(Connection::open(load.to).await.map_err(|error| format!("{}: {error}", load.to))?);
    }
    let shared = Rc::new(Shared { load, start: time::now(), next: Cell::new(0), outcome: RefCell::default() });
    let start = |connection| task::spawn(Class::Foreground, work(shared.clone(), connection));
    let workers: Vec<JoinHandle<()>> = connections.into_iter().map(start).collect();
    for worker in workers {
        worker.await.map_err(|error| error.to_string())?;
    }
    let mut outcome = shared.outcome.take();
    outcome.elapsed = shared.start.elapsed();
    shared.count_unsent(&mut outcome);
    Ok(outcome)
}

async fn work(shared: Rc<Shared>, connection: Connection<Full<Bytes>>) {
    let mut connection = Some(connection);
    while let Some((number, due)) = shared.another() {
        if let Some(due) = due {
            time::sleep_until(due).await;
        }
        let from = due.unwrap_or_else(time::now);
        let prepared = &shared.load.requests[(number % shared.load.requests.len() as u64) as usize];
        let done = exchange(&mut connection, shared.load.to, prepared).await;
        let is_broken = done.is_err() && connection.is_none();
        shared.outcome.borrow_mut().take(from.elapsed(), done);
        if is_broken {
            time::sleep(PAUSE).await;
        }
    }
}

impl Shared {
    /// The next request and when it is due; none when it is over.
    fn another(&self) -> Option<(u64, Option<Instant>)> {
        let (number, span) = (self.next.get(), self.load.span);
        let due = self.load.pace.due(number);
        // What is due before the end is sent though the server be late, but not for ever.
        let is_over = match due {
            Some(due) => due >= span || self.start.elapsed() >= span * 2,
            None => self.start.elapsed() >= span,
        };
        if is_over {
            return None;
        }
        self.next.set(number + 1);
        Some((number, due.map(|due| self.start + due)))
    }

    /// Those that the server left no time for waited at least until now.
    fn count_unsent(&self, outcome: &mut Outcome) {
        let mut number = self.next.get();
        while let Some(due) = self.load.pace.due(number).filter(|due| *due < self.load.span) {
            outcome.record(self.start.elapsed().saturating_sub(due));
            outcome.unsent += 1;
            number += 1;
        }
    }
}

/// Sends a request and reads its answer to the end; how many bytes that moved.
async fn exchange(
    connection: &mut Option<Connection<Full<Bytes>>>,
    to: SocketAddr,
    prepared: &Prepared,
) -> Result<u64, String> {
    let mut open = match connection.take() {
        Some(open) if open.is_open() => open,
        _ => Connection::open(to).await.map_err(|error| error.to_string())?,
    };
    let exchanged = timeout(ANSWER_WITHIN, ask(&mut open, prepared)).await;
    let (bytes, head) = exchanged.map_err(|_| format!("no answer within {} s", ANSWER_WITHIN.as_secs()))??;
    // Only one whose answer was read to its end is of use, if it isn't about to be closed.
    let is_last = head.headers.get(CONNECTION).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
    *connection = Some(open).filter(|_| !is_last);
    let status = head.status;
    if !status.is_success() {
        return Err(format!("it answers {status}"));
    }
    match prepared.answer {
        Some(expected) if expected != bytes => Err(format!("it answers {bytes} bytes instead of {expected}")),
        _ => Ok(bytes + prepared.sent),
    }
}

async fn ask(connection: &mut Connection<Full<Bytes>>, prepared: &Prepared) -> Result<(u64, Parts), String> {
    let response = connection.send(prepared.request.clone()).await.map_err(|error| error.to_string())?;
    let (head, mut body) = response.into_parts();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| error.to_string())?;
        bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok((bytes, head))
}

#[cfg(test)]
mod tests {
    use cairn_io::net::{Listener, Reuse, Stream};
    use cairn_io::{Config, run_one};
    use futures_util::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

    /// A server that answers each request the same, the tenth after a stall.
    fn serve(answer: &'static [u8], stall: Duration) -> SocketAddr {
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), Reuse::Exclusive).expect("a port");
        let at = listener.local_addr().expect("it listens");
        let asked = Rc::new(Cell::new(0));
        let accept = async move {
            while let Ok((stream, _)) = listener.accept().await {
                task::spawn(Class::Foreground, serve_one(stream, answer, stall, asked.clone())).detach();
            }
        };
        task::spawn(Class::Foreground, accept).detach();
        at
    }

    async fn serve_one(mut stream: Stream, answer: &'static [u8], stall: Duration, asked: Rc<Cell<u32>>) {
        let mut buffer = [0; 4096];
        while let Ok(1..) = stream.read(&mut buffer).await {
            asked.set(asked.get() + 1);
            if asked.get() == 10 {
                time::sleep(stall).await;
            }
            if stream.write_all(answer).await.is_err() || !answer.starts_with(b"HTTP/1.1 2") {
                return;
            }
        }
    }

    fn put_on(answer: &'static [u8], stall: Duration, pace: Pace) -> Outcome {
        let measured = run_one(&Config::single(), move || async move {
            let to = serve(answer, stall);
            let request =
                Request::get("/").header("host", "test").body(Full::default()).expect("the request is in order");
            let requests = vec![Prepared { request, answer: Some(2), sent: 0 }];
            run(Load { to, connections: 1, pace, span: Duration::from_millis(500), requests }).await
        });
        measured.expect("it starts").expect("it connects")
    }

    #[test]
    fn an_open_loop_charges_a_stall_to_all_who_waited() {
        let stall = Duration::from_millis(250);
        let (closed, open) = (put_on(GOOD, stall, Pace::Closed), put_on(GOOD, stall, Pace::Open(1000.0)));
        assert_eq!((closed.errors, open.errors), (0, 0), "{:?} {:?}", closed.first_error, open.first_error);
        assert!(closed.micros(0.9) < 50_000.0, "one of many stalled: {}", closed.micros(0.9));
        assert_eq!(open.times.len(), 500, "whatever the server does, as many are counted as were due");
        assert!(open.micros(0.8) > 50_000.0, "a quarter of a second's worth waited: {}", open.micros(0.8));
    }

    #[test]
    fn requests_are_due_at_even_distances() {
        assert_eq!(Pace::Open(4.0).due(6), Some(Duration::from_millis(1500)));
        assert_eq!(Pace::Closed.due(6), None);
    }

    #[test]
    fn what_was_never_sent_counts_as_late() {
        let outcome = put_on(GOOD, Duration::from_millis(1200), Pace::Open(100.0));
        assert_eq!(outcome.times.len(), 50);
        assert!(outcome.unsent > 30, "the server took no more: {outcome:?}");
        assert!(outcome.micros(0.5) > 500_000.0);
    }

    #[test]
    fn hostile_answers_are_errors() {
        for answer in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong",
            b"HTTP/1.1 999 \xff\r\n\r\n",
            b"HTTP/1.1 503 Slow\r\ncontent-length: 2\r\n\r\nno",
            b"\x16\x03\x01\x02\x00",
            b"\r\n\r\n\r\n",
        ] {
            let outcome = put_on(answer, Duration::ZERO, Pace::Open(20.0));
            let shown = String::from_utf8_lossy(answer);
            assert!(outcome.errors > 0 && outcome.ops == 0 && outcome.first_error.is_some(), "{shown}: {outcome:?}");
        }
    }

    #[test]
    fn outcomes_add_up() {
        let mut one = Outcome::default();
        one.record(Duration::from_millis(1));
        one.fail("first".to_owned());
        let mut two = Outcome::default();
        two.record(Duration::from_hours(1));
        two.fail("second".to_owned());
        let both = one.and(&two);
        assert_eq!((both.errors, both.first_error.as_deref(), both.times.len()), (2, Some("first"), 2));
        assert!(both.micros(1.0) >= 600e6, "what is beyond the bounds counts as the bound");
    }
}
