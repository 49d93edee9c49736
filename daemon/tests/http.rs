//! HTTP serving on each driver: what clients do that mean well, and what others do.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use cairn_daemon::http::{Body, Limits, Serve, Server, Spread, Watch};
use cairn_io::net::{Listener, Reuse, Stream};
use cairn_io::sim::{NetConfig, NodeConfig, World, WorldConfig};
use cairn_io::task::{Class, JoinHandle, spawn};
use cairn_io::time::{Duration, sleep, timeout};
use cairn_io::{Config, DriverChoice, Shutdown, run, run_one};
use futures_util::future::{LocalBoxFuture, join};
use futures_util::{AsyncReadExt, AsyncWriteExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::{Request, Response};

/// Long enough for anything that happens at all.
const PATIENCE: Duration = Duration::from_secs(20);

type Answer = UnsyncBoxBody<Bytes, std::io::Error>;

fn full(text: &str) -> Answer {
    Full::new(Bytes::copy_from_slice(text.as_bytes())).map_err(|never| match never {}).boxed_unsync()
}

/// A service with every kind of behaviour.
struct Scripted;

impl Serve for Scripted {
    type Body = Answer;

    async fn serve(&self, request: Request<Body>, _: SocketAddr) -> Response<Answer> {
        let path = request.uri().path().to_owned();
        let body = match path.as_str() {
            "/slow" => {
                sleep(Duration::from_millis(300)).await;
                full("slow")
            }
            "/never" => std::future::pending().await,
            "/panic" => panic!("as asked for"),
            "/panic-later" => {
                let pieces = (0..2).map(|piece| {
                    assert!(piece < 1, "as asked for");
                    Ok(Frame::data(Bytes::from_static(b"a piece")))
                });
                StreamBody::new(futures_util::stream::iter(pieces)).boxed_unsync()
            }
            "/long" => {
                let piece = Bytes::from(vec![7; 64 << 10]);
                let pieces = (0..512).map(move |_| Ok(Frame::data(piece.clone())));
                StreamBody::new(futures_util::stream::iter(pieces)).boxed_unsync()
            }
            "/echo" => match request.into_body().collect().await {
                Ok(body) => Full::new(body.to_bytes()).map_err(|never| match never {}).boxed_unsync(),
                Err(error) => return status(408, &error.to_string()),
            },
            _ => full("hello"),
        };
        Response::new(body)
    }

    fn panicked(&self) -> Response<Answer> {
        status(500, "it broke")
    }
}

fn status(code: u16, text: &str) -> Response<Answer> {
    let mut response = Response::new(full(text));
    *response.status_mut() = code.try_into().expect("a status");
    response
}

/// Short waits, so that they are all waited for.
fn limits() -> Limits {
    Limits {
        connections_max: 4,
        head_bytes_max: 8192,
        head_within: Duration::from_millis(300),
        idle_within: Duration::from_millis(600),
        stall_within: Duration::from_millis(300),
        drain_within: Duration::from_secs(5),
        ..Limits::default()
    }
}

/// A server on this core.
struct Running {
    addr: SocketAddr,
    watch: Watch,
    stop: Shutdown,
    task: JoinHandle<usize>,
}

impl Running {
    fn start(place: SocketAddr, limits: Limits) -> Self {
        let server = Server::bind(place, Reuse::Exclusive, limits).expect("a free port");
        let (addr, watch, stop) = (server.local_addr().expect("bound"), server.watch(), Shutdown::new());
        let until = stop.clone();
        let task =
            spawn(
                Class::Foreground,
                async move { server.serve(Scripted, async move { until.requested().await }).await },
            );
        Self { addr, watch, stop, task }
    }

    async fn connect(&self) -> Stream {
        Stream::connect(self.addr).await.expect("it listens")
    }

    /// Sends bytes on a connection of their own and reads all that comes back.
    async fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        // A server that refuses may close before it has read all.
        let _ = stream.write_all(bytes).await;
        rest(&mut stream).await
    }

    async fn get(&self, path: &str) -> String {
        self.exchange(format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").as_bytes()).await
    }

    /// After whatever happened: it still answers, nothing is left open, and it stops.
    async fn ends_well(self) {
        until("all connections have ended", || self.watch.counts().connections == 0).await;
        assert!(self.get("/").await.ends_with("hello"));
        until("all connections have ended", || self.watch.counts().connections == 0).await;
        assert_eq!(self.watch.counts().underway, 0);
        self.stop.request();
        assert_eq!(timeout(PATIENCE, self.task).await.expect("it stops").expect("no panic"), 0);
        assert!(Stream::connect(self.addr).await.is_err(), "nobody listens any more");
    }
}

async fn rest(stream: &mut Stream) -> String {
    let mut bytes = Vec::new();
    // A connection that is reset has said what it had to say.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the connection ends");
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let waiting = async {
        while !done() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

type Test = Arc<dyn Fn(SocketAddr) -> LocalBoxFuture<'static, ()> + Send + Sync>;

fn on_each_driver<F: Future<Output = ()> + 'static>(test: impl Fn(SocketAddr) -> F + Send + Sync + 'static) {
    let test: Test = Arc::new(move |place| Box::pin(test(place)));
    for driver in [DriverChoice::Glommio, DriverChoice::Monoio] {
        let (test, config) = (test.clone(), Config { driver, ..Config::single() });
        run_one(&config, move || test(SocketAddr::from(([127, 0, 0, 1], 0)))).expect("the driver runs here");
    }
    for seed in 0..5 {
        simulate(seed, test.clone());
    }
}

fn simulate(seed: u64, test: Test) {
    let net = NetConfig::default();
    let mut world = World::new(seed, WorldConfig { net, ..WorldConfig::default() });
    let (ended, ip) = (Rc::new(RefCell::new(false)), Rc::new(RefCell::new(None)));
    let (end, address) = (ended.clone(), ip.clone());
    let node = world.add_node(NodeConfig::default(), move || {
        let (test, end, address) = (test.clone(), end.clone(), address.clone());
        Box::new(move |_| {
            let (test, end, address) = (test.clone(), end.clone(), address.clone());
            Box::pin(async move {
                let ip = address.borrow().expect("the world stands still until it is set");
                test(SocketAddr::new(ip, 0)).await;
                end.replace(true);
            })
        })
    });
    ip.replace(Some(world.address(node)));
    world.run_until(Duration::from_hours(1), || *ended.borrow());
    assert!(
        *ended.borrow() && world.panics(node).iter().all(|panic| panic.contains("as asked for")),
        "seed {seed}: {:?}",
        world.panics(node)
    );
}

/// Says that it is over when it is dropped, however that comes.
struct End<'a>(&'a Shutdown);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.request();
    }
}

/// The kernel gives connections to cores by chance; all the same each has as many as the other.
#[test]
fn connections_are_spread_over_the_cores() {
    const EACH: usize = 12;
    for driver in [DriverChoice::Glommio, DriverChoice::Monoio] {
        let free = || Listener::bind(([127, 0, 0, 1], 0).into(), Reuse::Exclusive)?.local_addr();
        let place = run_one(&Config::single(), move || async move { free() }).expect("it runs").expect("a free port");
        let (spread, over) = (Spread::new(2), Shutdown::new());
        // Of each core: connections of its server, and one more once it listens.
        let seen = [AtomicUsize::new(0), AtomicUsize::new(0)];
        let shared = Arc::new((spread, seen, over));
        let config = Config { driver, cores: 2, ..Config::default() };
        let ended = run(&config, move |core| {
            let shared = shared.clone();
            async move {
                let (spread, seen, over) = &*shared;
                let limits = Limits { connections_max: 100, idle_within: PATIENCE, ..limits() };
                let server = Server::bind(place, Reuse::Shared, limits).and_then(|server| server.spread(spread));
                let (server, until_over) = (server.expect("it is free"), over.clone());
                let watch = server.watch();
                let serving = async move { server.serve(Scripted, async move { until_over.requested().await }).await };
                let serving = spawn(Class::Foreground, serving);
                let telling = async {
                    while !over.is_requested() {
                        seen[core.index()].store(1 + watch.counts().connections, Ordering::SeqCst);
                        sleep(Duration::from_millis(1)).await;
                    }
                };
                let asking = async {
                    if core.index() > 0 {
                        return;
                    }
                    let _end = End(over);
                    let are = |count: usize| seen.iter().all(|seen| seen.load(Ordering::SeqCst) == 1 + count);
                    until("both listen", || are(0)).await;
                    let mut streams = Vec::new();
                    for _ in 0..2 * EACH {
                        let mut stream = Stream::connect(place).await.expect("it listens");
                        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("it reads");
                        let mut answer = [0; 256];
                        let count =
                            timeout(PATIENCE, stream.read(&mut answer)).await.expect("an answer").expect("whole");
                        assert!(answer[..count].ends_with(b"hello"));
                        streams.push(stream);
                    }
                    until("each has half of them", || are(EACH)).await;
                    drop(streams);
                    until("they have ended", || are(0)).await;
                };
                join(telling, asking).await;
                assert_eq!(serving.await.expect("no panic"), 0);
            }
        });
        assert_eq!(ended.expect("it runs").results, [Ok(()), Ok(())], "{driver:?}");
    }
}

#[test]
fn requests_are_answered_one_after_the_other_on_a_connection() {
    on_each_driver(|place| async move {
        let server = Running::start(place, limits());
        let mut stream = server.connect().await;
        // Two at once, the second with a body.
        let both = b"GET / HTTP/1.1\r\nhost: a\r\n\r\nPOST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc";
        stream.write_all(both).await.expect("sent");
        let text = rest(&mut stream).await;
        assert!(text.contains("hello") && text.ends_with("abc"), "{text}");
        assert!(text.to_lowercase().contains("\r\ndate: "), "answers are dated: {text}");
        assert_eq!(server.watch.counts().requests, 2);
        server.ends_well().await;
    });
}

#[test]
fn a_panic_ends_its_request_only() {
    on_each_driver(|place| async move {
        let server = Running::start(place, limits());
        let mut stream = server.connect().await;
        stream
            .write_all(b"GET /panic HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .await
            .expect("sent");
        let text = rest(&mut stream).await;
        assert!(text.starts_with("HTTP/1.1 500") && text.contains("it broke"), "{text}");
        assert!(text.ends_with("hello"), "the connection goes on: {text}");
        // The answer has begun: all that is left is to end it before its end.
        let text = server.get("/panic-later").await;
        assert!(!text.ends_with("0\r\n\r\n"), "{text}");
        assert_eq!(server.watch.counts().panics, 2);
        server.ends_well().await;
    });
}

#[test]
fn what_is_no_request_is_refused() {
    on_each_driver(|place| async move {
        let server = Running::start(place, limits());
        let many: String = (0..200).map(|at| format!("h{at}: x\r\n")).collect();
        let cases = [
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n".to_vec(), "HTTP/1.1 400"),
            (b"GET\r\n\r\n".to_vec(), "HTTP/1.1 400"),
            (b"GET / HTTP/9.9\r\n\r\n".to_vec(), "HTTP/1.1 400"),
            (b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n".to_vec(), "HTTP/1.1 400"),
            (b"POST / HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd".to_vec(), "HTTP/1.1 400"),
            (format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000)).into_bytes(), "HTTP/1.1 4"),
            (format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "a".repeat(100_000)).into_bytes(), "HTTP/1.1 431"),
            (format!("GET / HTTP/1.1\r\n{many}\r\n").into_bytes(), "HTTP/1.1 431"),
        ];
        for (bytes, begins) in cases {
            let text = server.exchange(&bytes).await;
            // What was not read when it closed may have taken the answer with it.
            assert!(
                text.starts_with(begins) || text.is_empty(),
                "{:?}: {text}",
                String::from_utf8_lossy(&bytes[..20.min(bytes.len())])
            );
        }
        assert_eq!(server.watch.counts().requests, 0);
        server.ends_well().await;
    });
}

#[test]
fn a_slow_client_is_not_waited_for() {
    on_each_driver(|place| async move {
        let server = Running::start(place, limits());
        // Nothing; half a head; a head letter by letter; half a body.
        let (mut silent, mut half, mut slow, mut body) =
            (server.connect().await, server.connect().await, server.connect().await, server.connect().await);
        half.write_all(b"GET / HT").await.expect("sent");
        body.write_all(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nabc").await.expect("sent");
        let mut letters = slow.clone();
        let trickle = spawn(Class::Foreground, async move {
            for letter in b"GET / HTTP/1.1\r\nhost: a-very-long-name-that-takes-ever-so-long" {
                if letters.write_all(&[*letter]).await.is_err() {
                    return;
                }
                sleep(Duration::from_millis(50)).await;
            }
        });
        assert_eq!(rest(&mut silent).await, "");
        assert_eq!(rest(&mut half).await, "");
        assert_eq!(rest(&mut slow).await, "");
        let text = rest(&mut body).await;
        assert!(text.contains("408") && text.contains("sent nothing of its body"), "{text}");
        drop(trickle);
        // A connection without a request ends after a while, too.
        let mut idle = server.connect().await;
        idle.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("sent");
        assert!(rest(&mut idle).await.ends_with("hello"));
        assert!(server.watch.counts().timed_out >= 4, "{:?}", server.watch.counts());
        server.ends_well().await;
    });
}

#[test]
fn a_client_that_does_not_read_is_cut_off() {
    on_each_driver(|place| async move {
        let server = Running::start(place, limits());
        let mut stream = server.connect().await;
        stream.write_all(b"GET /long HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("sent");
        until("it is taken", || server.watch.counts().requests == 1).await;
        until("it is cut off", || server.watch.counts().connections == 0).await;
        assert_eq!(server.watch.counts().timed_out, 1);
        drop(stream);
        server.ends_well().await;
    });
}

#[test]
fn one_connection_too_many_is_told_so() {
    on_each_driver(|place| async move {
        let patient = Limits { head_within: PATIENCE, ..limits() };
        let server = Running::start(place, patient);
        let mut held = Vec::new();
        for _ in 0..patient.connections_max {
            held.push(server.connect().await);
        }
        until("all are taken", || server.watch.counts().connections == 4).await;
        let text = server.get("/").await;
        assert!(text.starts_with("HTTP/1.1 503") && text.contains("retry-after: 1"), "{text}");
        assert_eq!(server.watch.counts().refused, 1);
        drop(held);
        server.ends_well().await;
    });
}

#[test]
fn a_client_that_goes_away_leaves_nothing() {
    on_each_driver(|place| async move {
        let server = Running::start(place, limits());
        for bytes in [
            "GET /never HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nho",
            "POST /echo HTTP/1.1\r\ncontent-length: 9\r\n\r\nabc",
        ] {
            let mut stream = server.connect().await;
            stream.write_all(bytes.as_bytes()).await.expect("sent");
            sleep(Duration::from_millis(50)).await;
            drop(stream);
        }
        server.ends_well().await;
    });
}

#[test]
fn what_is_under_way_ends_before_the_server_does() {
    on_each_driver(|place| async move {
        let server = Running::start(place, limits());
        let (mut slow, mut idle) = (server.connect().await, server.connect().await);
        slow.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("sent");
        until("it is taken", || server.watch.counts().underway == 1).await;
        server.stop.request();
        assert_eq!(rest(&mut idle).await, "", "nobody waits for a connection without a request");
        let text = rest(&mut slow).await;
        assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("slow"), "{text}");
        assert_eq!(timeout(PATIENCE, server.task).await.expect("it stops").expect("no panic"), 0);
    });
}

#[test]
fn what_does_not_end_is_cut_off() {
    on_each_driver(|place| async move {
        let server = Running::start(place, Limits { drain_within: Duration::from_millis(200), ..limits() });
        let mut stuck = server.connect().await;
        stuck.write_all(b"GET /never HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("sent");
        until("it is taken", || server.watch.counts().underway == 1).await;
        server.stop.request();
        assert_eq!(timeout(PATIENCE, server.task).await.expect("it stops").expect("no panic"), 1);
        assert_eq!(server.watch.counts().underway, 0, "its future is gone");
        assert_eq!(rest(&mut stuck).await, "");
    });
}
