//! What this node does for its peers: batches of messages between groups go to the cores that have these groups; commands and
//! questions to the core that has the slot, and nowhere else. Whoever asks looks for the leader itself ([`super::seek`]), so
//! nothing is sent on from node to node.

use std::collections::BTreeMap;

use bytes::Bytes;
use cairn_io::CoreId;
use cairn_io::task::Class;
use cairn_io::time::Duration;
use cairn_placement::NodeId;
use cairn_schema::{
    Advice, Answer, CallInfo, Error, ErrorKind, NodeRef, Outcome, RaftRequest, SlotRequest, SnapshotProgress,
    SnapshotRequest,
};
use futures_util::future::{LocalBoxFuture, join_all};

use super::ask::Ask;
use super::hub::Line;
use super::peers::{Calls, Missed};
use super::{Cluster, ClusterError};
use crate::line::to_the_end;
use crate::rpc::{Answering, Caller, Pool, RaftService};
use crate::slot::{Piece, Undecodable, decode_batch, encode_batch, sender_of};

/// When to ask again, for those who are told that nobody leads now.
const AGAIN_MILLIS: u32 = 100;

impl RaftService for Cluster {
    fn batch<'a>(&'a self, caller: Caller, request: &'a RaftRequest) -> Answering<'a, Bytes> {
        Box::pin(async move {
            let sender = sender_of(&request.data).map_err(bad)?;
            if sender != caller.node {
                let message = format!("node {} sends a batch of node {sender}: each sends its own", caller.node);
                return Err(Error::fix_input(ErrorKind::BadInput, message));
            }
            // Whoever asked may hang up; a part of a snapshot that is being staged must come to its end all the same.
            let (cluster, batch) = (self.clone(), request.data.clone());
            let taken = to_the_end(Class::Foreground, async move { cluster.take_batch(&batch).await }).await;
            taken.map_err(|_| defect("the batch was dropped"))?.map_err(bad)
        })
    }

    fn command<'a>(&'a self, _: Caller, request: &'a SlotRequest) -> Answering<'a, Bytes> {
        Box::pin(async move {
            let slot = request.slot;
            let (core, command) = (self.core().clone(), request.data.clone());
            let owner = core.core_of(slot).ok_or_else(|| no_slot(slot))?;
            // It is proposed whether or not somebody waits for it.
            let obeyed = async move { core.command_on(owner, slot, command).await };
            let obeyed = to_the_end(Class::Foreground, obeyed).await.map_err(|_| defect("the command was dropped"))?;
            obeyed.map_err(|missed| self.error(missed))
        })
    }

    fn query<'a>(&'a self, _: Caller, request: &'a SlotRequest) -> Answering<'a, Bytes> {
        Box::pin(async move {
            let slot = request.slot;
            let owner = self.core().core_of(slot).ok_or_else(|| no_slot(slot))?;
            let ask = Ask::decode(&request.data)
                .map_err(|malformed| Error::fix_input(ErrorKind::BadInput, malformed.to_string()))?;
            let told = self.core().ask_on(owner, slot, ask).await;
            told.map(|told| told.encode().into()).map_err(|missed| self.error(missed))
        })
    }

    fn snapshot<'a>(&'a self, _: Caller, _: &'a SnapshotRequest) -> Answering<'a, SnapshotProgress> {
        let message = "slots take their snapshots in batches: send it as `Raft.batch`";
        Box::pin(std::future::ready(Err(Error::fix_input(ErrorKind::Unsupported, message))))
    }
}

impl Cluster {
    /// Has each core take what is for its groups, and puts what they answer at once into one batch.
    async fn take_batch(&self, batch: &Bytes) -> Result<Bytes, Undecodable> {
        let core = self.core();
        let (from, pieces) = decode_batch(core.me.0, batch)?;
        let mut of_cores: BTreeMap<CoreId, Vec<Piece>> = BTreeMap::new();
        for piece in pieces {
            // A slot that isn't here: this core says so.
            let owner = core.core_of(piece.slot).unwrap_or(core.id);
            of_cores.entry(owner).or_default().push(piece);
        }
        let take = |(to, pieces): (CoreId, Vec<Piece>)| {
            core.run(Line::Raft, to, move |core| async move { core.slots.take(from, pieces).await })
        };
        // What a core that has gone was asked is asked again by who waits for it.
        let answers: Vec<Piece> =
            join_all(of_cores.into_iter().map(take)).await.into_iter().flatten().flatten().collect();
        Ok(encode_batch(core.me.0, from, &answers).into())
    }

    fn error(&self, missed: Missed) -> Error {
        match missed {
            Missed::Elsewhere(Some(leader)) => {
                let nodes = &self.core().peers.list;
                let address = nodes.iter().find(|peer| peer.node == leader).map(|peer| peer.address.clone());
                let leader = NodeRef { node: leader.0, address: address.unwrap_or_default() };
                Error::new(ErrorKind::NotLeader, Advice::GoTo(leader), "another node leads the slot")
            }
            Missed::Elsewhere(None) => nobody_leads("nobody leads the slot, as far as this node knows".to_owned()),
            Missed::Away(why) | Missed::Final(ClusterError::Unreachable(why)) => nobody_leads(why),
            Missed::Final(ClusterError::Busy(why)) => {
                Error::new(ErrorKind::SlowDown, Advice::RetryHere(AGAIN_MILLIS), why)
            }
            Missed::Final(ClusterError::NoRoom(why)) => Error::new(ErrorKind::NoRoom, Advice::Stop, why),
            Missed::Final(ClusterError::Unknown(why)) => nobody_leads(why).with_outcome(Outcome::Unknown),
            Missed::Final(error) => {
                Error::new(ErrorKind::Internal, Advice::Stop, error.to_string()).with_outcome(Outcome::Unknown)
            }
        }
    }
}

fn bad(wrong: Undecodable) -> Error {
    Error::fix_input(ErrorKind::BadInput, format!("{wrong}: run the same version of the program on all nodes"))
}

fn defect(what: &str) -> Error {
    let message = format!("a defect of this node: {what}; report it, with the node's log");
    Error::new(ErrorKind::Internal, Advice::Stop, message).with_outcome(Outcome::Unknown)
}

fn no_slot(slot: u32) -> Error {
    nobody_leads(format!("slot {slot} is not on this node, or not open yet"))
}

fn nobody_leads(why: String) -> Error {
    Error::new(ErrorKind::NoLeader, Advice::TryElsewhere(AGAIN_MILLIS), why)
}

/// What an answer of another node means for who looks for the leader.
fn missed(error: Error) -> Missed {
    match (error.outcome, error.kind, error.advice) {
        (Outcome::NothingDone, ErrorKind::NotLeader, Advice::GoTo(leader)) => {
            Missed::Elsewhere((leader.node != 0).then_some(NodeId(leader.node)))
        }
        (Outcome::NothingDone, ErrorKind::SlowDown, _) => Missed::Final(ClusterError::Busy(error.message)),
        (Outcome::NothingDone, ErrorKind::NoRoom, _) => Missed::Final(ClusterError::NoRoom(error.message)),
        (Outcome::NothingDone, _, Advice::TryElsewhere(_) | Advice::RetryHere(_) | Advice::GoTo(_)) => {
            Missed::Away(error.message)
        }
        (Outcome::Unknown, ErrorKind::Internal, _) | (Outcome::NothingDone, ..) => {
            Missed::Final(ClusterError::Broken(error.message))
        }
        (Outcome::Unknown, ..) => Missed::Final(ClusterError::Unknown(error.message)),
    }
}

fn request(slot: u32, data: Bytes) -> SlotRequest {
    SlotRequest { call: CallInfo { hops: 1, ..CallInfo::default() }, slot, data }
}

impl Calls for Pool {
    fn command(
        &self,
        to: NodeId,
        slot: u32,
        data: Bytes,
        within: Duration,
    ) -> LocalBoxFuture<'_, Result<Bytes, Missed>> {
        let peer = self.peer(to.0);
        Box::pin(async move {
            let call = async { peer?.command(request(slot, data), within).await };
            let answer: Answer<Bytes> = call.await;
            answer.map_err(missed)
        })
    }

    fn ask(&self, to: NodeId, slot: u32, data: Bytes, within: Duration) -> LocalBoxFuture<'_, Result<Bytes, Missed>> {
        let peer = self.peer(to.0);
        Box::pin(async move {
            let call = async { peer?.query(request(slot, data), within).await };
            let answer: Answer<Bytes> = call.await;
            // A question changes nothing: whether it arrived is no matter.
            answer.map_err(|error| match error.kind {
                ErrorKind::Unreachable | ErrorKind::DeadlinePassed => Missed::Away(error.message),
                _ => missed(error),
            })
        })
    }

    fn is_there(&self, node: NodeId, within: Duration) -> LocalBoxFuture<'_, bool> {
        let peer = self.peer(node.0);
        Box::pin(async move {
            // A batch with nothing in it: that a connection stands says nothing of a network that drops what it should carry.
            let nothing = encode_batch(self.me(), node.0, &[]).into();
            match peer {
                Ok(peer) => peer.raft(nothing, within).await.is_ok(),
                Err(_) => false,
            }
        })
    }
}
