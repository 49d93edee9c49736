//! Pings between nodes of two cores each, over TCP, UDP, mesh and disk, under every kind of fault there is.
//!
//! Promised: what a stream brings back is what was sent, a datagram arrives whole or not at all, a message over the mesh
//! arrives once, and a node that is left alone makes progress.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use cairn_io::fs::{Dir, Mode};
use cairn_io::mesh::{Endpoint, Mesh};
use cairn_io::net::{Datagram, Listener, Reuse, Stream};
use cairn_io::sim::{DiskConfig, FaultPlan, NodeConfig, NodeId, Profile, Program, World, WorldConfig};
use cairn_io::task::{self, Class};
use cairn_io::time::{sleep, timeout};
use cairn_io::{CoreId, block, blocking, cores, rng};
use futures_util::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Outcome, millis, plan_rng};

const NODES: usize = 4;
const CORES: usize = 2;
const STREAM_PORT: u16 = 7100;
const DATAGRAM_PORT: u16 = 7200;
const STORM_MS: u64 = 4_000;

pub fn plan(seed: u64) -> FaultPlan {
    let nodes: Vec<NodeId> = (0..NODES).map(NodeId).collect();
    FaultPlan::random(&mut plan_rng(seed), &Profile::all(&nodes, 2, millis(STORM_MS)))
}

/// Things that worked, over all lives.
#[derive(Default)]
struct Score {
    streams: Cell<u64>,
    datagrams: Cell<u64>,
    messages: Cell<u64>,
    files: Cell<u64>,
    wrong: Cell<u64>,
}

fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

pub fn run(seed: u64, plan: &FaultPlan) -> Outcome {
    let mut world = World::new(seed, WorldConfig::default());
    let score = Rc::new(Score::default());
    for node in 0..NODES {
        let score = score.clone();
        let disks = ["/disk0", "/disk1"].map(|path| DiskConfig::new(path, 16 << 20)).to_vec();
        let config = NodeConfig { cores: CORES, disks, ..NodeConfig::default() };
        world.add_node(config, move || boot(node, score.clone()));
    }
    world.apply(plan);
    world.run_for(millis(STORM_MS));
    world.calm();
    let before = (score.streams.get(), score.datagrams.get(), score.messages.get(), score.files.get());
    let seen = score.clone();
    let lively = world.run_until(millis(60_000), || {
        let (streams, datagrams, messages, files) = before;
        let streams = seen.streams.get() > streams + 20 && seen.datagrams.get() > datagrams + 20;
        streams && seen.messages.get() > messages + 20 && seen.files.get() > files + 20
    });
    let panics: Vec<String> = (0..NODES).flat_map(|node| world.panics(NodeId(node))).collect();
    let verdict = match (score.wrong.get(), panics.as_slice(), lively) {
        (0, [], true) => Ok(()),
        (wrong, panics, lively) => {
            Err(format!("{wrong} wrong answers, panics {panics:?}, lively afterwards: {lively}"))
        }
    };
    Outcome::of(&world, verdict)
}

fn boot(node: usize, score: Rc<Score>) -> Program {
    let mesh = Mesh::new(CORES, 4);
    Box::new(move |core| {
        let endpoint = mesh.endpoint(core).expect("each core takes its endpoint once a life");
        Box::pin(run_core(node, core, endpoint, score.clone()))
    })
}

async fn run_core(node: usize, core: CoreId, mesh: Endpoint<u64>, score: Rc<Score>) {
    use cairn_io::task::spawn;
    let mesh = Rc::new(mesh);
    let tasks = [
        spawn(Class::Foreground, answer_streams(node)),
        spawn(Class::Foreground, datagrams(node, core, score.clone())),
        spawn(Class::Replication, receive_messages(mesh.clone(), score.clone())),
        spawn(Class::Replication, send_messages(core, mesh)),
        spawn(Class::Maintenance, files(core, score.clone())),
    ];
    loop {
        sleep(millis(2 + rng::next_u64() % 20)).await;
        let peer = rng::with(|rng| rng.below(NODES as u64));
        let answered = timeout(millis(500), ping_stream(address(peer, STREAM_PORT))).await;
        match answered {
            Ok(Ok(true)) => count(&score.streams),
            Ok(Ok(false)) => count(&score.wrong),
            // Cut, refused or reset: that is what faults do.
            Ok(Err(_)) | Err(_) => {}
        }
        let _ = &tasks;
    }
}

fn address(node: u64, port: u16) -> SocketAddr {
    let host = u8::try_from(node + 1).expect("a small world");
    SocketAddr::from(([10, 0, 0, host], port))
}

/// Sends up to 64 KiB and reads it back at the same time; whether it was the same.
async fn ping_stream(addr: SocketAddr) -> io::Result<bool> {
    let mut stream = Stream::connect(addr).await?;
    let mut sent = vec![0; 1 + usize::try_from(rng::next_u64() % 65_536).map_err(io::Error::other)?];
    rng::with(|rng| rng::RngCore::fill_bytes(rng, &mut sent));
    let mut sender = stream.clone();
    let send = async {
        sender.write_all(&sent).await?;
        sender.close().await
    };
    let mut received = Vec::new();
    let (sending, receiving) = futures_util::future::join(send, stream.read_to_end(&mut received)).await;
    sending?;
    receiving?;
    Ok(received == sent)
}

async fn answer_streams(node: usize) {
    let Ok(listener) = Listener::bind(address(node as u64, STREAM_PORT), Reuse::Shared) else { return };
    while let Ok((stream, _)) = listener.accept().await {
        task::spawn(Class::Foreground, async move {
            let _ = timeout(millis(2_000), echo(stream)).await;
        })
        .detach();
    }
}

async fn echo(mut stream: Stream) -> io::Result<()> {
    let mut buffer = vec![0; 4096];
    loop {
        let len = stream.read(&mut buffer).await?;
        if len == 0 {
            return stream.close().await;
        }
        stream.write_all(&buffer[..len]).await?;
    }
}

/// Sends numbers with their complement, and counts those that come from others.
async fn datagrams(node: usize, core: CoreId, score: Rc<Score>) {
    let port = DATAGRAM_PORT + u16::try_from(core.index()).expect("few cores");
    let Ok(socket) = Datagram::bind(address(node as u64, port)) else { return };
    let mut buffer = [0; 64];
    loop {
        let peer = rng::with(|rng| rng.below(NODES as u64));
        let number = rng::next_u64();
        let text = [number.to_le_bytes(), (!number).to_le_bytes()].concat();
        if socket.send_to(&text, address(peer, port)).await.is_err() {
            count(&score.wrong);
        }
        if let Ok(Ok((len, _))) = timeout(millis(20), socket.recv_from(&mut buffer)).await {
            let whole = len == 16 && buffer[..8].iter().zip(&buffer[8..16]).all(|(left, right)| *left == !*right);
            count(if whole { &score.datagrams } else { &score.wrong });
        }
        sleep(millis(5)).await;
    }
}

async fn send_messages(core: CoreId, mesh: Rc<Endpoint<u64>>) {
    let mut number = 0;
    loop {
        let to = CoreId::new((core.index() + 1) % cores());
        if mesh.send(to, number).await.is_err() {
            return;
        }
        number += 1;
        sleep(millis(rng::next_u64() % 10)).await;
    }
}

async fn receive_messages(mesh: Rc<Endpoint<u64>>, score: Rc<Score>) {
    let mut expected = 0;
    loop {
        let (_, number) = mesh.recv().await;
        count(if number == expected { &score.messages } else { &score.wrong });
        expected += 1;
    }
}

/// Writes and reads files; with disks this bad only errors and panics are of interest, not what is read.
async fn files(core: CoreId, score: Rc<Score>) {
    loop {
        if use_disk(core).await.is_ok() {
            count(&score.files);
        }
        let _ = blocking::run(|| 1 + 1).await;
        sleep(millis(10)).await;
    }
}

async fn use_disk(core: CoreId) -> io::Result<()> {
    let dir = Dir::create(if rng::next_u64().is_multiple_of(2) { "/disk0/ping" } else { "/disk1/ping" }).await?;
    let name = format!("{core}");
    let file = dir.open_file(&name, Mode::Create).await?;
    let offset = rng::with(|rng| rng.below(64)) * 4096;
    let mut data = block::alloc(8192).await?;
    data.fill(7);
    file.write_at(data.freeze(), offset).await?;
    file.sync_data().await?;
    file.read_at(offset, 8192).await?;
    match rng::with(|rng| rng.below(5)) {
        0 => file.punch(offset, 4096).await?,
        1 => file.allocate(offset, 65_536).await?,
        2 => file.set_len(offset).await?,
        3 => dir.rename(&name, "other").await?,
        _ => {}
    }
    dir.sync().await?;
    dir.space().await.map(|_| ())
}
