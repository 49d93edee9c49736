//! The peers of a core, by node.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use cairn_io::time::Duration;
use cairn_schema::{Advice, Error, ErrorKind};

use super::limits::Limits;
use super::peer::Peer;
use super::server::Identity;

/// How long to wait before trying a node again that couldn't be reached.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// After the first failure; twice as long after each further one.
    pub first: Duration,
    /// At most.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(50), max: Duration::from_secs(5) }
    }
}

#[derive(Clone)]
pub(super) struct Options {
    pub identity: Identity,
    pub limits: Limits,
    pub backoff: Backoff,
}

/// Everyone this core may call, each with at most one connection.
pub struct Pool {
    options: Options,
    peers: RefCell<BTreeMap<u64, Peer>>,
}

impl Pool {
    /// Nobody yet.
    pub fn new(identity: Identity, limits: Limits, backoff: Backoff) -> Self {
        Self { options: Options { identity, limits, backoff }, peers: RefCell::default() }
    }

    /// Who calls.
    pub fn me(&self) -> u64 {
        self.options.identity.node
    }

    /// That node answers there. A connection to where it was before ends with the calls under way on it.
    pub fn set(&self, node: u64, addr: SocketAddr) {
        let mut peers = self.peers.borrow_mut();
        if peers.get(&node).is_none_or(|peer| peer.addr() != addr) {
            let old = peers.insert(node, Peer::new(node, addr, self.options.clone()));
            drop(peers);
            drop(old);
        }
    }

    /// That node is no more. Calls under way go on.
    pub fn remove(&self, node: u64) {
        let old = self.peers.borrow_mut().remove(&node);
        drop(old);
    }

    /// The nodes, in the order of their ids.
    pub fn nodes(&self) -> Vec<u64> {
        self.peers.borrow().keys().copied().collect()
    }

    /// The peer of that node.
    ///
    /// # Errors
    /// If nobody said where it answers.
    pub fn peer(&self, node: u64) -> Result<Peer, Error> {
        self.peers.borrow().get(&node).cloned().ok_or_else(|| {
            let message = format!("node {node} isn't in this node's map: ask again when the map has arrived");
            Error::new(ErrorKind::Unreachable, Advice::TryElsewhere(1000), message)
        })
    }
}
