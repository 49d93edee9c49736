//! Slots over the node's RPC: batches go out through the pool of peers and come in as calls of `Raft.batch`.
//!
//! It decides nothing. A batch that fails is lost, whether it arrived or not: Raft says again what matters. What a peer says
//! must be in its own name, as it gave it in its hello.

use bytes::Bytes;
use cairn_io::task::{Class, spawn};
use cairn_io::time::Duration;
use cairn_schema::limits::DATA_BYTES_MAX;
use cairn_schema::{
    Advice, Answer, Error, ErrorKind, Outcome, RaftRequest, SlotRequest, SnapshotProgress, SnapshotRequest,
};
use futures_channel::oneshot;
use futures_util::future::LocalBoxFuture;

use super::log::READ_BYTES;
use super::router::{BATCH_BYTES, Transport, Unreachable};
use super::wire::sender_of;
use super::{Slots, Undecodable};
use crate::lane::ROWS_BYTES_MAX;
use crate::rpc::{Answering, Caller, Pool, RaftService};

// A batch is longer than `BATCH_BYTES` only if it is one question. The longest has entries for as long as `READ_BYTES`
// allow, the last of which is the longest command. One that the wire refused would be said again for ever.
const _: () = assert!(BATCH_BYTES < DATA_BYTES_MAX && READ_BYTES + 2 * ROWS_BYTES_MAX < DATA_BYTES_MAX);

impl Transport for Pool {
    fn send(&self, node: u64, batch: Bytes, limit: Duration) -> LocalBoxFuture<'_, Result<Bytes, Unreachable>> {
        let peer = self.peer(node);
        Box::pin(async move {
            let unreachable = |error: Error| Unreachable { node, reason: error.to_string() };
            peer.map_err(unreachable)?.raft(batch, limit).await.map_err(unreachable)
        })
    }
}

impl RaftService for Slots {
    fn batch<'a>(&'a self, caller: Caller, request: &'a RaftRequest) -> Answering<'a, Bytes> {
        Box::pin(async move {
            let sender = sender_of(&request.data).map_err(bad)?;
            if sender != caller.node {
                let message = format!("node {} sends a batch of node {sender}: each sends its own", caller.node);
                return Err(Error::fix_input(ErrorKind::BadInput, message));
            }
            handle(self, request.data.clone()).await
        })
    }

    fn command<'a>(&'a self, _: Caller, _: &'a SlotRequest) -> Answering<'a, Bytes> {
        Box::pin(std::future::ready(Err(not_here())))
    }

    fn query<'a>(&'a self, _: Caller, _: &'a SlotRequest) -> Answering<'a, Bytes> {
        Box::pin(std::future::ready(Err(not_here())))
    }

    fn snapshot<'a>(&'a self, _: Caller, _: &'a SnapshotRequest) -> Answering<'a, SnapshotProgress> {
        let message = "slots take their snapshots in batches: send it as `Raft.batch`";
        Box::pin(std::future::ready(Err(Error::fix_input(ErrorKind::Unsupported, message))))
    }
}

/// Groups alone don't know what commands and questions mean: the cluster does.
fn not_here() -> Error {
    Error::fix_input(ErrorKind::Unsupported, "this node has groups and no cluster: nothing can be asked of them here")
}

/// In a task of its own: whoever asked may hang up, and a snapshot whose part is being staged, or which is being installed,
/// must come to its end before another begins.
async fn handle(slots: &Slots, batch: Bytes) -> Answer<Bytes> {
    let (slots, (sender, answer)) = (slots.clone(), oneshot::channel());
    spawn(Class::Foreground, async move {
        let _ = sender.send(slots.handle(batch).await);
    })
    .detach();
    if let Ok(handled) = answer.await {
        return handled.map_err(bad);
    }
    let message = "a defect of this node: the batch was dropped; report it, with the node's log";
    Err(Error::new(ErrorKind::Internal, Advice::Stop, message).with_outcome(Outcome::Unknown))
}

fn bad(wrong: Undecodable) -> Error {
    Error::fix_input(ErrorKind::BadInput, format!("{wrong}: run the same version of the program on all nodes"))
}
