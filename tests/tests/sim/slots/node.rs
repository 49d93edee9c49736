//! One life of a node: a lane, its slots, and who asks for them.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use bytes::Bytes;
use cairn_daemon::lane::{Lane, Options as LaneOptions, Owner};
use cairn_daemon::slot::{Options, SlotError, Slots, Transport, Unreachable};
use cairn_io::fs::Dir;
use cairn_io::log::{Log, LogError, Options as LogOptions, Prewrite};
use cairn_io::net::{Listener, Reuse, Stream};
use cairn_io::task::Class;
use cairn_io::time::{Duration, sleep, timeout};
use cairn_meta::index::Store;
use cairn_placement::NodeId as Id;
use futures_util::future::LocalBoxFuture;

use super::register::{Ask, Registers, Request, Said, read, step};
use super::{Books, Cell, Rc, SEGMENT, SLOTS, below, millis, small, task};
use crate::wire;

const PORT: u16 = 7000;
/// What a connection carries: a batch of another node, a client's request, an operator's.
pub const BATCH: u8 = b'b';
pub const REQUEST: u8 = b'r';
pub const MEMBERS: u8 = b'm';
/// What is answered to clients.
pub const SAID: u8 = b's';
pub const ELSEWHERE: u8 = b'e';
pub const AGAIN: u8 = b'a';

pub fn address(replicas: usize, id: u64) -> SocketAddr {
    let host = u8::try_from(id % replicas as u64 + 1).expect("a small world");
    SocketAddr::from(([10, 0, 0, host], PORT))
}

/// Each batch on a connection of its own.
struct Connections {
    replicas: usize,
}

impl Transport for Connections {
    fn send(&self, node: u64, batch: Bytes, limit: Duration) -> LocalBoxFuture<'_, Result<Bytes, Unreachable>> {
        Box::pin(async move {
            let framed = [&[BATCH][..], &batch].concat();
            let answer = wire::ask(address(self.replicas, node), &framed, limit).await;
            answer.map(Bytes::from).map_err(|error| Unreachable { node, reason: error.to_string() })
        })
    }
}

pub async fn run(books: Rc<Books>, node: usize) {
    books.lives.set(books.lives.get() + 1);
    books.open[node].take();
    let ended = live(&books, node).await;
    books.open[node].take();
    *books.ended[node].borrow_mut() = ended.err().unwrap_or_else(|| "it was over".to_owned());
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

async fn live(books: &Rc<Books>, node: usize) -> Result<(), String> {
    let lane = open_lane(books, node).await?;
    let options = Options {
        heartbeat: millis(50),
        election: (millis(150), millis(300)),
        snapshot_entries: 10 + below(20),
        kept_entries: below(8),
        propose_limit: millis(800),
        batch_limit: millis(200),
        proposals_max: 64,
        has_lease_reads: below(4) > 0,
    };
    let me = books.ids[node].get();
    let slots = Slots::new(Id(me), Rc::new(Connections { replicas: books.replicas }), options).map_err(text)?;
    for slot in 0..SLOTS {
        slots.open(slot, &lane, Rc::new(Registers)).await.map_err(text)?;
        if me < books.replicas as u64 {
            let first = (0..books.replicas as u64).map(Id).collect();
            slots.create(slot, &first).await.map_err(text)?;
        }
    }
    *books.open[node].borrow_mut() = Some(slots.clone());
    let listener = Listener::bind(address(books.replicas, node as u64), Reuse::Exclusive).map_err(text)?;
    let serving = task::spawn(Class::Foreground, accept(books.clone(), slots.clone(), listener));
    let compacting = task::spawn(Class::Maintenance, compact(lane.clone()));
    let stopped = loop {
        sleep(millis(20)).await;
        if let Some(reason) = lane.status().poisoned {
            break format!("poisoned: {reason}");
        }
        let stopped = slots.list().into_iter().find_map(|slot| slots.status(slot).ok()?.stopped);
        if let Some(reason) = stopped {
            break format!("a slot stopped: {reason}");
        }
    };
    drop((serving, compacting));
    books.open[node].take();
    slots.close().await;
    // It may be poisoned.
    let _ = lane.close().await;
    Err(stopped)
}

async fn open_lane(books: &Rc<Books>, node: usize) -> Result<Lane, String> {
    let store = Store::Memory(books.indices[node].clone());
    let dir = Dir::create("/disk0/lane").await.map_err(text)?;
    match Log::superblock_of(&dir).await {
        Ok(_) => {}
        Err(LogError::Io(error)) => return Err(text(error)),
        Err(_) => {
            store.clear().map_err(text)?;
            Lane::create(&dir, Owner::default(), 0, SEGMENT).await.map_err(text)?;
            if books.made[node].replace(true) {
                // Whoever this was is lost with its disk.
                books.ids[node].set(books.ids[node].get() + books.replicas as u64);
            }
        }
    }
    let is_lost = books.are_indices_lost.get() || below(5) == 0;
    if is_lost {
        store.clear().map_err(text)?;
    }
    let log = LogOptions {
        reserve: 2,
        ahead: 1,
        spare_max: 3,
        segments_max: 48,
        keep_free: 0,
        batch_bytes: 32 << 10,
        in_flight_bytes: 512 << 10,
        prewrite: Prewrite::WhenSmall,
    };
    let options = LaneOptions {
        log,
        partitions: 4,
        commit_entries: small(20 + below(200)),
        commit_bytes: 64 << 10 << below(4),
        commit_every: millis(20 + below(400)),
        ballast: 0,
        ..LaneOptions::default()
    };
    let (lane, recovered) = Lane::open(&dir, store, options).await.map_err(text)?;
    let is_gap = |damage: &cairn_io::log::Damage| damage.what == cairn_io::log::What::Segment;
    let is_fine = recovered.damage.iter().all(|damage| is_lost && is_gap(damage));
    assert!(is_fine, "node {node} finds damage: {:?}", recovered.damage);
    if is_lost {
        books.rebuilt.set(books.rebuilt.get() + 1);
    }
    Ok(lane)
}

async fn compact(lane: Lane) {
    loop {
        sleep(millis(50 + below(200))).await;
        let Some(planned) = lane.compaction_plan().first().copied() else { continue };
        // A failure poisons the lane, or is one of room.
        let _ = lane.compact(planned.segment).await;
    }
}

async fn accept(books: Rc<Books>, slots: Slots, listener: Listener) {
    let connections = Rc::new(Cell::new(0));
    while let Ok((stream, _)) = listener.accept().await {
        if connections.get() > 200 {
            continue;
        }
        connections.set(connections.get() + 1);
        let (books, slots, connections) = (books.clone(), slots.clone(), connections.clone());
        task::spawn(Class::Foreground, async move {
            let _ = timeout(millis(5_000), serve(&books, &slots, stream)).await;
            connections.set(connections.get() - 1);
        })
        .detach();
    }
}

async fn serve(books: &Rc<Books>, slots: &Slots, mut stream: Stream) -> std::io::Result<()> {
    while let Some(asked) = wire::receive(&mut stream).await? {
        let (kind, rest) = asked.split_first().ok_or(std::io::ErrorKind::InvalidData)?;
        let answer = match *kind {
            BATCH => slots.handle(Bytes::copy_from_slice(rest)).await.map_err(std::io::Error::other)?.to_vec(),
            REQUEST => request(slots, rest).await,
            _ => change_members(books, slots, rest).await,
        };
        wire::send(&mut stream, &answer).await?;
    }
    Ok(())
}

fn slot_of(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (slot, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*slot), rest))
}

fn refusal(error: &SlotError) -> Vec<u8> {
    match error {
        SlotError::NotLeader { leader: Some(leader) } => [&[ELSEWHERE][..], &leader.0.to_le_bytes()].concat(),
        _ => vec![AGAIN],
    }
}

async fn request(slots: &Slots, bytes: &[u8]) -> Vec<u8> {
    let Some((slot, command)) = slot_of(bytes) else { return vec![AGAIN] };
    let Some(request) = Request::decode(command) else { return vec![AGAIN] };
    let said = if request.ask == Ask::Get {
        get(slots, slot, request.key).await
    } else {
        slots.propose(slot, Bytes::copy_from_slice(command)).await
    };
    match said {
        Ok(said) => [&[SAID][..], &said].concat(),
        Err(error) => refusal(&error),
    }
}

async fn get(slots: &Slots, slot: u32, key: u64) -> Result<Vec<u8>, SlotError> {
    slots.barrier(slot).await?;
    let value = slots.read(slot, |rows| read(rows, key))?.map_err(|error| SlotError::Stopped(error.to_string()))?;
    let (_, said): (u64, Said) = step(value, Ask::Get);
    Ok(said.encode())
}

async fn change_members(books: &Rc<Books>, slots: &Slots, bytes: &[u8]) -> Vec<u8> {
    let Some((slot, rest)) = slot_of(bytes) else { return vec![AGAIN] };
    let mut members = books.members();
    rest.iter().for_each(|without| {
        members.remove(&u64::from(*without));
    });
    let leader = slots.status(slot).ok().filter(|status| status.is_leader).and_then(|status| status.leader);
    let leader = leader.map(|leader| leader.0).filter(|leader| members.contains(leader));
    if let Some(leader) = leader.filter(|_| members.len() + 2 == books.replicas && below(2) == 0) {
        cut_soon(books, leader, &members);
    }
    match timeout(millis(1_500), slots.change_voters(slot, &members.into_iter().map(Id).collect())).await {
        Ok(Ok(())) => vec![SAID],
        Ok(Err(error)) => refusal(&error),
        Err(_) => vec![AGAIN],
    }
}

/// Just when two of five are taken out, whoever does it is left with one of those who stay: most of those who will be, and
/// the others are most of those who were.
fn cut_soon(books: &Rc<Books>, leader: u64, stay: &BTreeSet<u64>) {
    let others: Vec<u64> = stay.iter().copied().filter(|id| *id != leader).collect();
    let side = [leader, others[small(below(others.len() as u64))]].map(|id| small(id % books.replicas as u64));
    let (books, after) = (books.clone(), Duration::from_micros(below(6_000)));
    task::spawn(Class::Foreground, async move {
        sleep(after).await;
        books.cut.set(Some(side));
    })
    .detach();
}
