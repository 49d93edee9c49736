//! UDP: datagrams that are lost, doubled, late or cut off.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};

use xxhash_rust::xxh3::xxh3_64;

use super::{arrival, local_address, os, reaches};
use crate::sim::node::NodeCore;
use crate::sim::shared::Shared;
use crate::sim::trace::{Kind, Who};

/// The longest payload over IPv4.
const LEN_MAX: usize = 65_507;

/// A socket as the network knows it.
#[derive(Default)]
pub(super) struct Socket {
    queue: RefCell<VecDeque<(Rc<[u8]>, SocketAddr)>>,
    waiting: Cell<Option<Waker>>,
}

/// A socket as its program holds it.
pub(crate) struct Datagram {
    shared: Rc<Shared>,
    node: usize,
    life: u64,
    addr: SocketAddr,
    socket: Rc<Socket>,
}

impl fmt::Debug for Datagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sim::Datagram({})", self.addr)
    }
}

impl NodeCore {
    pub fn bind_datagram(&self, addr: SocketAddr) -> io::Result<Datagram> {
        let addr = local_address(&self.shared, self.node.id, addr)?;
        let mut net = self.shared.net.borrow_mut();
        let taken = &mut net.places[self.node.id].datagrams;
        if taken.contains_key(&addr.port()) {
            let message = format!("can't bind {addr}: the address is taken");
            return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
        }
        let socket = Rc::new(Socket::default());
        taken.insert(addr.port(), socket.clone());
        let (shared, node, life) = (self.shared.clone(), self.node.id, self.life);
        Ok(Datagram { shared: shared.clone(), node, life, addr, socket })
    }
}

impl Datagram {
    #[allow(clippy::unused_async, reason = "the real one waits for room in the kernel")]
    pub async fn send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        if bytes.len() > LEN_MAX {
            return Err(os(libc::EMSGSIZE));
        }
        let Some(target) = self.shared.net.borrow().resolve(self.node, to.ip()) else {
            return Err(os(libc::ENETUNREACH));
        };
        let copies = self.draw_copies(target);
        let payload: Rc<[u8]> = bytes.into();
        for _ in 0..copies {
            self.send_copy(target, to.port(), payload.clone());
        }
        Ok(())
    }

    /// How many times it arrives.
    fn draw_copies(&self, target: usize) -> usize {
        if target == self.node {
            return 1;
        }
        let mut net = self.shared.net.borrow_mut();
        let (loss, duplicate) = (net.config.datagram_loss_per_million, net.config.datagram_duplicate_per_million);
        let extra = net.link(self.node, target).map_or((0, 0), |link| (link.datagram_loss, link.datagram_duplicate));
        let mut rng = self.shared.rng_net.borrow_mut();
        if rng.chance(loss.saturating_add(extra.0)) {
            return 0;
        }
        if rng.chance(duplicate.saturating_add(extra.1)) { 2 } else { 1 }
    }

    fn send_copy(&self, target: usize, port: u16, payload: Rc<[u8]>) {
        let mut at = arrival(&self.shared, self.node, target, payload.len() + 28);
        let late = self.shared.config.net.datagram_late_per_million;
        if target != self.node && self.shared.rng_net.borrow_mut().chance(late) {
            let took = at - self.shared.now();
            at += self.shared.rng_net.borrow_mut().below(took.saturating_mul(20) + 1);
        }
        let from = self.node;
        let sender = SocketAddr::new(self.source_ip(target), self.addr.port());
        self.shared.call_at(at, move |shared| {
            if reaches(shared, from, target) {
                arrive(shared, target, port, payload, sender);
            }
        });
    }

    fn source_ip(&self, target: usize) -> std::net::IpAddr {
        let own = self.addr.ip();
        let wrong = own.is_unspecified() || (own.is_loopback() && target != self.node);
        if wrong { self.shared.node(self.node).ip } else { own }
    }

    pub async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        std::future::poll_fn(|cx| {
            let Some((payload, from)) = self.socket.queue.borrow_mut().pop_front() else {
                self.socket.waiting.set(Some(cx.waker().clone()));
                return Poll::Pending;
            };
            let len = payload.len().min(buffer.len());
            buffer[..len].copy_from_slice(&payload[..len]);
            Poll::Ready(Ok((len, from)))
        })
        .await
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }
}

fn arrive(shared: &Shared, node: usize, port: u16, payload: Rc<[u8]>, sender: SocketAddr) {
    let socket = shared.net.borrow().places[node].datagrams.get(&port).cloned();
    let Some(socket) = socket else { return };
    shared.record(Kind::Datagram, Who::new(node, usize::from(port)), xxh3_64(&payload));
    let mut queue = socket.queue.borrow_mut();
    if queue.len() < shared.config.net.datagram_queue_max {
        queue.push_back((payload, sender));
        drop(queue);
        socket.waiting.take().into_iter().for_each(Waker::wake);
    }
}

impl Drop for Datagram {
    fn drop(&mut self) {
        // A later life may have bound the same port.
        if self.shared.nodes.borrow().get(self.node).is_some_and(|node| node.life.get() == self.life)
            && let Some(place) = self.shared.net.borrow_mut().places.get_mut(self.node)
        {
            place.datagrams.remove(&self.addr.port());
        }
    }
}
