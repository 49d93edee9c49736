//! The other nodes of a cluster, as one core reaches them.

use std::rc::Rc;

use bytes::Bytes;
use cairn_io::time::Duration;
use cairn_placement::NodeId;
use futures_util::future::LocalBoxFuture;

use super::ClusterError;
use crate::slot::SlotError;

/// Why a slot gave no answer, and what that means for who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missed {
    /// Nothing was done: another node leads, which is named if known.
    Elsewhere(Option<NodeId>),
    /// Nothing was done: that node can't be reached, or can't do it now.
    Away(String),
    /// That is the answer.
    Final(ClusterError),
}

impl From<ClusterError> for Missed {
    fn from(error: ClusterError) -> Self {
        Self::Final(error)
    }
}

impl From<SlotError> for Missed {
    fn from(error: SlotError) -> Self {
        match error {
            SlotError::NotLeader { leader } => Self::Elsewhere(leader),
            // Of a command it isn't known whether its entry is committed yet.
            SlotError::NoSlot(_) | SlotError::NoQuorum => Self::Away(error.to_string()),
            error => Self::Final(error.into()),
        }
    }
}

/// Carries commands and questions to a slot on another node, as bytes.
pub trait Calls {
    /// Has a slot that a node leads obey a command.
    fn command(
        &self,
        to: NodeId,
        slot: u32,
        data: Bytes,
        within: Duration,
    ) -> LocalBoxFuture<'_, Result<Bytes, Missed>>;

    /// Asks a slot on a node.
    fn ask(&self, to: NodeId, slot: u32, data: Bytes, within: Duration) -> LocalBoxFuture<'_, Result<Bytes, Missed>>;

    /// Whether a node answers at all.
    fn is_there(&self, node: NodeId, within: Duration) -> LocalBoxFuture<'_, bool>;
}

/// A node of the static list, and where it answers RPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// Which.
    pub node: NodeId,
    /// "host:port".
    pub address: String,
}

/// See the module.
#[derive(Clone)]
pub struct Peers {
    /// All nodes of the cluster as configured, this one among them, in the order of their numbers. Of a cluster of one: only this one.
    pub list: Vec<PeerAddress>,
    /// How they are reached.
    pub calls: Rc<dyn Calls>,
}

impl Peers {
    /// There is nobody else.
    pub fn none(me: NodeId) -> Self {
        Self { list: vec![PeerAddress { node: me, address: String::new() }], calls: Rc::new(Nobody) }
    }

    /// Whether there is nobody else.
    pub fn is_alone(&self) -> bool {
        self.list.len() == 1
    }

    /// The numbers of all nodes.
    pub fn nodes(&self) -> Vec<NodeId> {
        self.list.iter().map(|peer| peer.node).collect()
    }
}

/// A cluster of one has no peers.
struct Nobody;

impl Nobody {
    fn miss<'a, T: 'a>(to: NodeId) -> LocalBoxFuture<'a, Result<T, Missed>> {
        Box::pin(std::future::ready(Err(Missed::Away(format!(
            "node {to} is not configured: name it in cluster.peers"
        )))))
    }
}

impl Calls for Nobody {
    fn command(&self, to: NodeId, _: u32, _: Bytes, _: Duration) -> LocalBoxFuture<'_, Result<Bytes, Missed>> {
        Self::miss(to)
    }

    fn ask(&self, to: NodeId, _: u32, _: Bytes, _: Duration) -> LocalBoxFuture<'_, Result<Bytes, Missed>> {
        Self::miss(to)
    }

    fn is_there(&self, _: NodeId, _: Duration) -> LocalBoxFuture<'_, bool> {
        Box::pin(std::future::ready(false))
    }
}
