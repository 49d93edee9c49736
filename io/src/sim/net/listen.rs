//! Listening and connecting.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::tcp::Conn;
use super::{Stream, arrival, local_address, os, reaches};
use crate::net::Reuse;
use crate::sim::config::nanos;
use crate::sim::node::NodeCore;
use crate::sim::promise::Promise;
use crate::sim::shared::Shared;
use crate::sim::trace::{Kind, Who};
use crate::time::Duration;

/// A listener as the network knows it.
pub(super) struct Port {
    addr: SocketAddr,
    reuse: Reuse,
    backlog: RefCell<VecDeque<Rc<Conn>>>,
    waiting: RefCell<Vec<Waker>>,
}

impl Port {
    fn hears(&self, target: SocketAddr) -> bool {
        self.addr.ip().is_unspecified() || self.addr.ip() == target.ip()
    }

    fn wake(&self) {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// A listener as its program holds it.
pub(crate) struct Listener {
    shared: Rc<Shared>,
    node: usize,
    port: Rc<Port>,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sim::Listener({})", self.port.addr)
    }
}

impl NodeCore {
    pub fn listen(&self, addr: SocketAddr, reuse: Reuse) -> io::Result<Listener> {
        let addr = local_address(&self.shared, self.node.id, addr)?;
        let mut net = self.shared.net.borrow_mut();
        let ports = net.places[self.node.id].listeners.entry(addr.port()).or_default();
        let clash = ports.iter().any(|held| {
            let same = held.addr.ip() == addr.ip() || held.hears(addr) || addr.ip().is_unspecified();
            same && !(held.reuse == Reuse::Shared && reuse == Reuse::Shared)
        });
        if clash {
            let message = format!("can't listen at {addr}: the address is taken");
            return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
        }
        let port = Rc::new(Port { addr, reuse, backlog: RefCell::default(), waiting: RefCell::default() });
        ports.push(port.clone());
        Ok(Listener { shared: self.shared.clone(), node: self.node.id, port })
    }

    pub async fn connect(&self, addr: SocketAddr) -> io::Result<Stream> {
        let local_port = self.shared.net.borrow_mut().free_port(self.node.id)?;
        let to = self.shared.net.borrow().resolve(self.node.id, addr.ip()).ok_or_else(|| os(libc::EHOSTUNREACH))?;
        let ip = if to == self.node.id { addr.ip() } else { self.node.ip };
        let promise = Promise::new();
        let attempt = Rc::new(Attempt {
            from: self.node.id,
            to,
            life: self.life,
            local: SocketAddr::new(ip, local_port),
            target: addr,
            gives_up_at: self.shared.now() + nanos(self.shared.config.net.connect_timeout),
            answer: promise.clone(),
        });
        attempt.send(&self.shared, Duration::from_secs(1));
        drop(attempt);
        let connected = promise.kept().await;
        connected.map_err(|error| io::Error::new(error.kind(), format!("can't connect to {addr}: {error}")))
    }
}

/// A connection being made.
struct Attempt {
    from: usize,
    to: usize,
    /// Of the connecting node.
    life: u64,
    local: SocketAddr,
    target: SocketAddr,
    gives_up_at: u64,
    /// A whole stream, so that one that nobody takes any more is closed.
    answer: Rc<Promise<io::Result<Stream>>>,
}

impl Attempt {
    /// Asks the other node; where no answer is to be had, again after a while that doubles.
    fn send(self: &Rc<Self>, shared: &Shared, patience: Duration) {
        let at = arrival(shared, self.from, self.to, 60);
        let attempt = self.clone();
        shared.call_at(at, move |shared| {
            let heard = reaches(shared, attempt.from, attempt.to);
            let listens = heard && listeners(shared, attempt.to, attempt.target).next().is_some();
            let answered = heard && !super::is_cut(shared, attempt.to, attempt.from);
            if answered {
                attempt.answer_arrives(shared, listens);
            } else {
                attempt.send_again(shared, patience);
            }
        });
    }

    fn send_again(self: Rc<Self>, shared: &Shared, patience: Duration) {
        let at = shared.now() + nanos(patience);
        if at >= self.gives_up_at {
            let attempt = self.clone();
            shared.call_at(self.gives_up_at, move |shared| attempt.end(shared, Err(os(libc::ETIMEDOUT))));
            return;
        }
        shared.call_at(at, move |shared| {
            if !self.is_moot(shared) {
                self.send(shared, patience * 2);
            }
        });
    }

    fn answer_arrives(self: Rc<Self>, shared: &Shared, listens: bool) {
        let at = arrival(shared, self.to, self.from, 60);
        shared.call_at(at, move |shared| {
            if self.is_moot(shared) {
                return;
            }
            if !listens {
                self.end(shared, Err(os(libc::ECONNREFUSED)));
                return;
            }
            let conn = Conn::new([self.from, self.to], [self.local, self.target]);
            let mut net = shared.net.borrow_mut();
            net.remember(self.from, &conn, 0);
            net.remember(self.to, &conn, 1);
            drop(net);
            conn.open(shared);
            self.end(shared, Ok(Stream::new(shared.clone(), conn, 0)));
        });
    }

    /// Nobody waits for the answer any more.
    fn is_moot(&self, shared: &Shared) -> bool {
        shared.node(self.from).life.get() != self.life || self.answer.is_abandoned()
    }

    fn end(&self, shared: &Shared, result: io::Result<Stream>) {
        if !self.is_moot(shared) {
            shared.record(Kind::Connect, Who::new(self.from, self.to), u64::from(result.is_ok()));
            self.answer.keep(result);
        }
    }
}

/// Who of a node listens at an address.
fn listeners(shared: &Shared, node: usize, target: SocketAddr) -> impl Iterator<Item = Rc<Port>> {
    let net = shared.net.borrow();
    let ports = net.places[node].listeners.get(&target.port()).cloned().unwrap_or_default();
    ports.into_iter().filter(move |port| port.hears(target))
}

/// What becomes of a connection at its accepting end.
pub(super) enum Offer {
    /// It is in a backlog.
    Taken,
    /// The backlog is full; it will be offered again.
    Later,
    /// Nobody listens any more.
    Refused,
}

/// A connection is complete: a listener drawn from those that share the address takes it into its backlog.
pub(super) fn offer(shared: &Rc<Shared>, conn: &Rc<Conn>) -> Offer {
    let ports: Vec<Rc<Port>> = listeners(shared, conn.node(1), conn.addr(1)).collect();
    if ports.is_empty() {
        conn.vanish(shared, 1, true);
        return Offer::Refused;
    }
    let drawn = shared.rng_net.borrow_mut().below(ports.len() as u64);
    let port = &ports[usize::try_from(drawn).expect("a place in memory")];
    if port.backlog.borrow().len() >= shared.config.net.backlog {
        conn.open_later(shared);
        return Offer::Later;
    }
    port.backlog.borrow_mut().push_back(conn.clone());
    port.wake();
    Offer::Taken
}

impl Listener {
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let conn = std::future::poll_fn(|cx| {
            if let Some(conn) = self.port.backlog.borrow_mut().pop_front() {
                return Poll::Ready(conn);
            }
            let mut waiting = self.port.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
        let peer = conn.addr(0);
        Ok((Stream::new(self.shared.clone(), conn, 1), peer))
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.port.addr)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Absent when the node's life has ended: its sockets were cleared then.
        if let Some(place) = self.shared.net.borrow_mut().places.get_mut(self.node)
            && let Some(ports) = place.listeners.get_mut(&self.port.addr.port())
        {
            ports.retain(|port| !Rc::ptr_eq(port, &self.port));
            if ports.is_empty() {
                place.listeners.remove(&self.port.addr.port());
            }
        }
        let left = std::mem::take(&mut *self.port.backlog.borrow_mut());
        for conn in left {
            conn.vanish(&self.shared, 1, true);
        }
    }
}
