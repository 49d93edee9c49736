//! Benchmarks of RPC: calls beside bare TCP on the same driver, in the same run. Each side is a core of its own.
//!
//! `echo`: 128 bytes there and back, one call after the other and 64 at once. `bulk`: 1 MiB there, a word back, one and four
//! at once: whether large data may travel in calls, or needs a stream of its own.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use cairn_daemon::rpc::{
    Answering, Backoff, Caller, Client, ControlService, Credential, Exposure, Identity, KeyService, Limits, Peer, Pool,
    RaftService, Server, Services, SlotService,
};
use cairn_io::net::{Listener, Reuse, Stream};
use cairn_io::reference::RemoteCore;
use cairn_io::task::{Class, spawn};
use cairn_io::{Config, DriverChoice, time};
use cairn_schema::{
    Advice, Answer, Applied, CommitRequest, Committed, Error, ErrorKind, ListRequest, MapRequest, MapUpdate, Page,
    ProposeRequest, RaftRequest, ReadRequest, ReadResult, SlotRequest, SnapshotProgress, SnapshotRequest,
};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use futures_util::future::join_all;
use futures_util::{AsyncReadExt, AsyncWriteExt};

const DRIVERS: [(&str, DriverChoice); 2] = [("glommio", DriverChoice::Glommio), ("monoio", DriverChoice::Monoio)];
const SMALL: usize = 128;
const LARGE: usize = 1 << 20;
const CLUSTER: [u8; 16] = [1; 16];

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    for (size, depths, name) in [(SMALL, [1, 64], "echo"), (LARGE, [1, 4], "bulk")] {
        for depth in depths {
            let mut group = criterion.benchmark_group(format!("rpc/{name}/depth_{depth}"));
            if size == LARGE {
                group.throughput(Throughput::Bytes(LARGE as u64));
            }
            for (driver, choice) in DRIVERS {
                pair(&mut group, driver, choice, size, depth);
            }
            group.finish();
        }
    }
    criterion.final_summary();
}

/// Bare TCP and calls on one driver.
fn pair(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, driver: DriverChoice, size: usize, depth: usize) {
    let start = || RemoteCore::start(&Config { driver, ..Config::single() });
    let (Ok(server), Ok(client)) = (start(), start()) else { return };
    let bare = server.call(serve_bare);
    let rpc = server.call(serve_rpc);
    bench(group, &format!("{name}/tcp"), |times| client.call(move || call_bare(bare, times, size, depth)));
    bench(group, &format!("{name}/call"), |times| client.call(move || call_rpc(rpc, times, size, depth)));
}

fn bench(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, run: impl Fn(u64) -> Duration) {
    group.bench_function(BenchmarkId::from_parameter(name), |bencher| bencher.iter_custom(&run));
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Answers each message, which begins with its length, with its first 128 bytes, or a word if it is large.
async fn serve_bare() -> SocketAddr {
    let listener = Listener::bind(loopback(), Reuse::Exclusive).expect("a free port");
    let addr = listener.local_addr().expect("bound");
    spawn(Class::Foreground, async move {
        while let Ok((stream, _)) = listener.accept().await {
            spawn(Class::Foreground, answer_bare(stream)).detach();
        }
    })
    .detach();
    addr
}

async fn answer_bare(mut stream: Stream) {
    let mut buffer = vec![0; LARGE];
    let mut size = [0; 8];
    if stream.read_exact(&mut size).await.is_err() {
        return;
    }
    let size = u64::from_le_bytes(size) as usize;
    if size == LARGE {
        while stream.read_exact(&mut buffer[..size]).await.is_ok() {
            if stream.write_all(&size.to_le_bytes()).await.is_err() {
                return;
            }
        }
        return;
    }
    // As an echo does: whatever is there goes back at once.
    while let Ok(len @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..len]).await.is_err() {
            return;
        }
    }
}

async fn call_bare(addr: SocketAddr, times: u64, size: usize, depth: usize) -> Duration {
    let mut stream = Stream::connect(addr).await.expect("it listens");
    stream.write_all(&(size as u64).to_le_bytes()).await.expect("written");
    let answer = if size == LARGE { 8 } else { size };
    let message = vec![7; size * depth];
    let started = time::now();
    let mut left = times;
    let mut back = vec![0; answer * depth];
    while left > 0 {
        let now = (depth as u64).min(left) as usize;
        stream.write_all(&message[..size * now]).await.expect("written");
        stream.read_exact(&mut back[..answer * now]).await.expect("answered");
        left -= now as u64;
    }
    started.elapsed()
}

async fn call_rpc(addr: SocketAddr, times: u64, size: usize, depth: usize) -> Duration {
    let pool = Pool::new(identity(2), Limits::default(), Backoff::default());
    pool.set(1, addr);
    let peer = pool.peer(1).expect("set");
    let message = Bytes::from(vec![7; size]);
    call(&peer, &message).await;
    let started = time::now();
    let callers = (0..depth as u64).map(|caller| {
        let (peer, message) = (&peer, &message);
        let times = times / depth as u64 + u64::from(caller < times % depth as u64);
        async move {
            for _ in 0..times {
                call(peer, message).await;
            }
        }
    });
    join_all(callers).await;
    started.elapsed()
}

async fn call(peer: &Peer, message: &Bytes) {
    peer.raft(message.clone(), Duration::from_secs(60)).await.expect("answered");
}

async fn serve_rpc() -> SocketAddr {
    let service = Rc::new(Echo);
    let services = Services { keys: service.clone(), slots: service.clone(), control: service.clone(), raft: service };
    let identity = identity(1);
    let server = Server::bind(loopback(), Exposure::Loopback, identity, Limits::default(), services);
    let server = server.expect("a free port");
    let addr = server.local_addr();
    spawn(Class::Foreground, async move {
        let _server = server;
        std::future::pending::<()>().await;
    })
    .detach();
    addr
}

fn identity(node: u64) -> Identity {
    Identity::new(CLUSTER, node, Credential::Member([7; 32]))
}

/// Returns what is small, and a word for what is large.
struct Echo;

impl KeyService for Echo {
    fn client(&self, _: &str) -> Answer<Option<Client>> {
        Ok(None)
    }
}

impl RaftService for Echo {
    fn batch<'a>(&'a self, _: Caller, request: &'a RaftRequest) -> Answering<'a, Bytes> {
        let answer = if request.data.len() == LARGE { Bytes::from_static(&[0; 8]) } else { request.data.clone() };
        Box::pin(async move { Ok(answer) })
    }

    fn command<'a>(&'a self, _: Caller, _: &'a SlotRequest) -> Answering<'a, Bytes> {
        unused()
    }

    fn query<'a>(&'a self, _: Caller, _: &'a SlotRequest) -> Answering<'a, Bytes> {
        unused()
    }

    fn snapshot<'a>(&'a self, _: Caller, _: &'a SnapshotRequest) -> Answering<'a, SnapshotProgress> {
        unused()
    }
}

fn unused<T>() -> Answering<'static, T> {
    Box::pin(async { Err(Error::new(ErrorKind::Unsupported, Advice::Stop, "not measured")) })
}

impl SlotService for Echo {
    fn commit<'a>(&'a self, _: Caller, _: &'a CommitRequest) -> Answering<'a, Vec<Answer<Committed>>> {
        unused()
    }

    fn read<'a>(&'a self, _: Caller, _: &'a ReadRequest) -> Answering<'a, ReadResult> {
        unused()
    }

    fn list<'a>(&'a self, _: Caller, _: &'a ListRequest) -> Answering<'a, Page> {
        unused()
    }
}

impl ControlService for Echo {
    fn map<'a>(&'a self, _: Caller, _: &'a MapRequest) -> Answering<'a, MapUpdate> {
        unused()
    }

    fn wait<'a>(&'a self, _: Caller, _: &'a MapRequest) -> Answering<'a, MapUpdate> {
        unused()
    }

    fn propose<'a>(&'a self, _: Caller, _: &'a ProposeRequest) -> Answering<'a, Applied> {
        unused()
    }
}
