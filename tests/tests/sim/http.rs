//! An HTTP server that is stopped again and again while clients ask, over a network that does what networks do.
//!
//! Promised: an answer that looks whole is whole; stopping ends within its limit and leaves nothing open; and on a network
//! that works, a request that was taken gets its whole answer although the server is being stopped.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use cairn_daemon::http::client::get;
use cairn_daemon::http::{Body, Limits, Serve, Server};
use cairn_io::net::Reuse;
use cairn_io::rng;
use cairn_io::sim::{FaultPlan, NodeConfig, NodeId, Profile, World, WorldConfig};
use cairn_io::task::{Class, spawn};
use cairn_io::time::{self, Duration, sleep};
use futures_util::future::join_all;
use futures_util::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::{Request, Response, StatusCode};

use crate::harness::{Outcome, millis, plan_rng};

const PORT: u16 = 8080;
const CLIENTS: usize = 3;
/// Bytes of a piece.
const PIECE: usize = 1000;
const STORM_MS: u64 = 4_000;
const DRAIN: Duration = Duration::from_secs(3);

type Pieces = stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, std::convert::Infallible>>>;

pub fn plan(seed: u64) -> FaultPlan {
    let nodes: Vec<NodeId> = (0..=CLIENTS).map(NodeId).collect();
    FaultPlan::random(&mut plan_rng(seed), &Profile::all(&nodes, 1, millis(STORM_MS)))
}

/// What is known of all lives.
#[derive(Default)]
struct Books {
    /// The network works and nobody is killed.
    is_calm: Cell<bool>,
    /// Requests of calm times whose handler began, and their answers that arrived whole.
    begun: Cell<u64>,
    whole: Cell<u64>,
    /// Stops in calm times, and those that had requests under way.
    stops: Cell<u64>,
    busy_stops: Cell<u64>,
    broken: RefCell<Option<String>>,
}

impl Books {
    fn broke(&self, what: String) {
        self.broken.borrow_mut().get_or_insert(what);
    }
}

/// Says a number of bytes after a while, in pieces.
struct Counting(Rc<Books>);

impl Serve for Counting {
    type Body = StreamBody<Pieces>;

    async fn serve(&self, request: Request<Body>, _: SocketAddr) -> Response<Self::Body> {
        let was_calm = self.0.is_calm.get();
        self.0.begun.set(self.0.begun.get() + u64::from(was_calm));
        let mut words = request.uri().path().trim_start_matches('/').split('-').map(|word| word.parse().unwrap_or(0));
        let (pieces, wait) = (words.next().unwrap_or(0), words.next().unwrap_or(0));
        sleep(millis(wait)).await;
        let piece = |at: u64| Ok(Frame::data(Bytes::from(vec![at as u8; PIECE])));
        Response::new(StreamBody::new(stream::iter((0..pieces).map(piece).collect::<Vec<_>>())))
    }

    fn panicked(&self) -> Response<Self::Body> {
        self.0.broke("a handler panicked".to_owned());
        Response::new(StreamBody::new(stream::iter(vec![])))
    }
}

pub fn run(seed: u64, plan: &FaultPlan) -> Outcome {
    let mut world = World::new(seed, WorldConfig::default());
    let books = Rc::new(Books::default());
    let address = Rc::new(Cell::new(None));
    let (served, at) = (books.clone(), address.clone());
    let server = world.add_node(NodeConfig::default(), move || {
        let (books, at) = (served.clone(), at.clone());
        Box::new(move |_| Box::pin(keep_serving(books.clone(), at.get().expect("set before time begins"))))
    });
    address.set(Some(SocketAddr::new(world.address(server), PORT)));
    for _ in 0..CLIENTS {
        let (books, at) = (books.clone(), address.clone());
        world.add_node(NodeConfig::default(), move || {
            let (books, at) = (books.clone(), at.clone());
            Box::new(move |_| Box::pin(keep_asking(books.clone(), at.get().expect("set before time begins"))))
        });
    }
    world.apply(plan);
    world.run_for(millis(STORM_MS));
    world.calm();
    // What was cut by a fault may still be given up on.
    world.run_for(Duration::from_secs(8));
    books.is_calm.set(true);
    let seen = books.clone();
    let is_lively = world.run_until(Duration::from_mins(5), || seen.stops.get() >= 5 && seen.busy_stops.get() >= 1);
    let panics: Vec<String> = (0..=CLIENTS).flat_map(|node| world.panics(NodeId(node))).collect();
    let broken = books.broken.borrow().clone();
    let verdict = match (broken, panics.as_slice(), is_lively) {
        (Some(what), _, _) => Err(what),
        (None, [], true) => Ok(()),
        (None, panics, lively) => Err(format!("panics {panics:?}, lively afterwards: {lively}")),
    };
    Outcome::of(&world, verdict)
}

/// Serves for a while, stops, checks what is left, and again.
async fn keep_serving(books: Rc<Books>, at: SocketAddr) {
    let limits = Limits { drain_within: DRAIN, ..Limits::default() };
    loop {
        let Ok(server) = Server::bind(at, Reuse::Exclusive, limits) else {
            sleep(millis(1)).await;
            continue;
        };
        let watch = server.watch();
        let was_calm = books.is_calm.get();
        let stopped = Rc::new(Cell::new(None));
        let stop = {
            let (stopped, watch) = (stopped.clone(), watch.clone());
            async move {
                sleep(millis(20 + rng::next_u64() % 400)).await;
                stopped.set(Some((time::now(), watch.counts().underway)));
            }
        };
        let cut = server.serve(Counting(books.clone()), stop).await;
        let Some((since, underway)) = stopped.get() else { return books.broke("it stopped by itself".to_owned()) };
        let counts = watch.counts();
        if counts.connections > 0 || counts.underway > 0 {
            books.broke(format!("it has stopped and left {counts:?}"));
        }
        if since.elapsed() > DRAIN + millis(500) {
            books.broke(format!("it took {:?} to stop", since.elapsed()));
        }
        if was_calm {
            if cut > 0 {
                books.broke(format!("{cut} connections were cut off on a network that works"));
            }
            books.stops.set(books.stops.get() + 1);
            books.busy_stops.set(books.busy_stops.get() + u64::from(underway > 0));
            // Whoever was answered must have all of it by now, or soon.
            sleep(Duration::from_secs(1)).await;
            if books.whole.get() < books.begun.get() {
                books.broke(format!(
                    "of {} requests that were taken {} were answered",
                    books.begun.get(),
                    books.whole.get()
                ));
            }
        }
    }
}

async fn keep_asking(books: Rc<Books>, at: SocketAddr) {
    let asking = (0..2).map(|_| {
        let books = books.clone();
        spawn(Class::Foreground, async move {
            loop {
                sleep(millis(rng::next_u64() % 120)).await;
                ask(&books, at).await;
            }
        })
    });
    join_all(asking).await;
}

async fn ask(books: &Books, at: SocketAddr) {
    let (pieces, wait) = (rng::next_u64() % 12, rng::next_u64() % 50);
    // Refused, cut, late: that is what servers that stop and networks do.
    let Ok((status, body)) = get(at, &format!("/{pieces}-{wait}"), Duration::from_secs(3)).await else { return };
    if status != StatusCode::OK {
        return books.broke(format!("an answer says {status}"));
    }
    let is_whole = body.len() as u64 == pieces * PIECE as u64
        && body.iter().enumerate().all(|(at, byte)| *byte == (at / PIECE) as u8);
    if !is_whole {
        return books.broke(format!("an answer of {pieces} pieces has {} bytes, or others", body.len()));
    }
    if books.is_calm.get() {
        books.whole.set(books.whole.get() + 1);
    }
}
