//! The simulated network: who has which address, how links between nodes are, and when what is sent arrives.
//!
//! TCP keeps its promise of order and no loss for as long as a connection lives; cuts make it stall, and what stalls too
//! long, or heals badly, is reset. UDP promises nothing.

#[expect(clippy::unnecessary_wraps, reason = "the same face as the real ones, which ask the kernel")]
mod listen;
#[expect(clippy::unnecessary_wraps, reason = "the same face as the real ones, which ask the kernel")]
mod stream;
mod tcp;
#[expect(clippy::unnecessary_wraps, reason = "the same face as the real ones, which ask the kernel")]
mod udp;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};

use super::config::{NetConfig, nanos};
use super::node::Ending;
use super::shared::{Event, Shared};
use crate::time::Duration;

pub(crate) use listen::Listener;
pub(crate) use stream::Stream;
pub(super) use tcp::Conn;
pub(crate) use udp::Datagram;

use listen::Port;
use udp::Socket;

/// The first port that a socket gets which doesn't ask for one.
const EPHEMERAL: u16 = 32_768;

pub(super) struct Net {
    pub config: NetConfig,
    places: Vec<Place>,
    /// From node f to node t at `f * nodes + t`.
    links: Vec<Link>,
    by_ip: BTreeMap<IpAddr, usize>,
    /// Ends of connections to which something would flow if it could.
    stalled: Vec<(Rc<Conn>, usize)>,
}

/// One node's sockets.
#[derive(Default)]
struct Place {
    listeners: BTreeMap<u16, Vec<Rc<Port>>>,
    datagrams: BTreeMap<u16, Rc<Socket>>,
    /// Connections that have an end here; some may be gone.
    conns: Vec<(Weak<Conn>, usize)>,
    /// How long the list may become before the gone ones are swept out.
    conns_sweep: usize,
    next_port: u16,
}

/// One direction between two nodes.
#[derive(Clone)]
pub(super) struct Link {
    /// Causes for nothing getting through.
    pub cuts: u32,
    /// How many times slower than usual.
    pub slowness: u64,
    /// Added to the usual chances of datagrams, in a million.
    pub datagram_loss: u32,
    pub datagram_duplicate: u32,
    /// World time until which what was sent before takes its bandwidth.
    busy_until: u64,
}

impl Default for Link {
    fn default() -> Self {
        Self { cuts: 0, slowness: 1, datagram_loss: 0, datagram_duplicate: 0, busy_until: 0 }
    }
}

impl Link {
    /// As it was before anything was wrong with it.
    pub fn calm(&mut self) {
        *self = Self { busy_until: self.busy_until, ..Self::default() };
    }
}

impl Net {
    pub fn new(config: NetConfig) -> Self {
        Self { config, places: Vec::new(), links: Vec::new(), by_ip: BTreeMap::new(), stalled: Vec::new() }
    }

    pub fn add_node(&mut self, ip: IpAddr) {
        let before = self.places.len();
        let taken = self.by_ip.insert(ip, before);
        assert!(taken.is_none(), "two nodes have the address {ip}");
        self.places.push(Place { next_port: EPHEMERAL, conns_sweep: 64, ..Place::default() });
        let old = std::mem::take(&mut self.links);
        let count = before + 1;
        self.links = vec![Link::default(); count * count];
        for (index, link) in old.into_iter().enumerate() {
            self.links[index / before * count + index % before] = link;
        }
    }

    /// The link between two nodes, if there are such.
    pub fn link(&mut self, from: usize, to: usize) -> Option<&mut Link> {
        let count = self.places.len();
        if from >= count || to >= count {
            return None;
        }
        self.links.get_mut(from * count + to)
    }

    pub fn links_mut(&mut self) -> impl Iterator<Item = &mut Link> {
        self.links.iter_mut()
    }

    fn is_cut(&self, from: usize, to: usize) -> bool {
        from != to && self.links[from * self.places.len() + to].cuts > 0
    }

    /// The node that an address means to node `from`.
    fn resolve(&self, from: usize, ip: IpAddr) -> Option<usize> {
        if ip.is_loopback() || ip.is_unspecified() { Some(from) } else { self.by_ip.get(&ip).copied() }
    }

    /// A port of this node that nobody uses.
    fn free_port(&mut self, node: usize) -> io::Result<u16> {
        let place = &mut self.places[node];
        for _ in EPHEMERAL..=u16::MAX {
            let port = place.next_port;
            place.next_port = if port == u16::MAX { EPHEMERAL } else { port + 1 };
            if !place.listeners.contains_key(&port) && !place.datagrams.contains_key(&port) {
                return Ok(port);
            }
        }
        Err(os(libc::EADDRINUSE))
    }

    fn remember(&mut self, node: usize, conn: &Rc<Conn>, side: usize) {
        let place = &mut self.places[node];
        if place.conns.len() >= place.conns_sweep {
            place.conns.retain(|(conn, _)| conn.strong_count() > 0);
            place.conns_sweep = place.conns.len() * 2 + 64;
        }
        place.conns.push((Rc::downgrade(conn), side));
    }

    /// The ends of connections at this node.
    fn conns_at(&self, node: usize) -> Vec<(Rc<Conn>, usize)> {
        let conns = self.places.get(node).map(|place| place.conns.as_slice()).unwrap_or_default();
        conns.iter().filter_map(|(conn, side)| Some((conn.upgrade()?, *side))).collect()
    }
}

/// When `len` bytes sent now from one node to another arrive, if nothing stops them.
fn arrival(shared: &Shared, from: usize, to: usize, len: usize) -> u64 {
    let mut net = shared.net.borrow_mut();
    let mut rng = shared.rng_net.borrow_mut();
    let now = shared.now();
    if from == to {
        return now + net.config.loopback.draw(&mut rng);
    }
    let latency = net.config.latency.draw(&mut rng);
    let bandwidth = net.config.bandwidth.max(1);
    let count = net.places.len();
    let link = &mut net.links[from * count + to];
    let moved = (len as u64).saturating_mul(1_000_000_000) / bandwidth;
    link.busy_until = link.busy_until.max(now).saturating_add(moved.saturating_mul(link.slowness));
    link.busy_until.saturating_add(latency.saturating_mul(link.slowness))
}

fn is_cut(shared: &Shared, from: usize, to: usize) -> bool {
    shared.net.borrow().is_cut(from, to)
}

/// Whether something sent from one node reaches the other's kernel now.
fn reaches(shared: &Shared, from: usize, to: usize) -> bool {
    !is_cut(shared, from, to) && shared.node(to).is_running()
}

/// Something may flow again: whatever has stalled is sent again, after a while that TCP's retries would take.
pub(super) fn retry_stalled(shared: &Shared) {
    let stalled = std::mem::take(&mut shared.net.borrow_mut().stalled);
    for (conn, side) in stalled {
        let wait = shared.rng_net.borrow_mut().below(nanos(Duration::from_millis(400)));
        shared.at(shared.now() + wait, Event::Deliver(conn, side));
    }
}

/// A node's life is over: its sockets are gone. Peers are told when the kernel still can.
pub(super) fn node_gone(shared: &Rc<Shared>, node: usize, ending: Ending) {
    let (conns, place) = {
        let mut net = shared.net.borrow_mut();
        let conns = net.conns_at(node);
        let next_port = net.places[node].next_port;
        (conns, std::mem::replace(&mut net.places[node], Place { next_port, conns_sweep: 64, ..Place::default() }))
    };
    for (conn, side) in conns {
        conn.vanish(shared, side, ending != Ending::PowerCut);
    }
    drop(place);
}

/// Every connection between the two nodes is reset, at both ends.
pub(super) fn reset_between(shared: &Rc<Shared>, left: usize, right: usize) {
    let conns = shared.net.borrow().conns_at(left);
    for (conn, side) in conns {
        if conn.node(1 - side) == right {
            conn.fail(shared, side, libc::ECONNRESET);
            conn.fail(shared, 1 - side, libc::ECONNRESET);
        }
    }
}

/// The world ends: nothing holds a connection any more.
pub(super) fn clear(shared: &Shared) {
    let (stalled, places) = {
        let mut net = shared.net.borrow_mut();
        (std::mem::take(&mut net.stalled), std::mem::take(&mut net.places))
    };
    drop((stalled, places));
}

/// The address a socket gets that asked for `addr` on this node.
fn local_address(shared: &Shared, node: usize, addr: SocketAddr) -> io::Result<SocketAddr> {
    let ip = shared.node(node).ip;
    if !(addr.ip() == ip || addr.ip().is_unspecified() || addr.ip().is_loopback()) {
        let message = format!("can't bind {addr}: n{node} has the address {ip}");
        return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, message));
    }
    let port = if addr.port() == 0 { shared.net.borrow_mut().free_port(node)? } else { addr.port() };
    Ok(SocketAddr::new(addr.ip(), port))
}

fn os(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}
