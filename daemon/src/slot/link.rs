//! From one group to its member on another node, as openraft sees it.

use std::future::Future;
use std::rc::Rc;

use cairn_io::rng;
use cairn_io::time::Duration;
use futures_util::future::{Either, select};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable as RaftUnreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::{EmptyNode, OptionalSend, RaftNetworkFactory, RaftNetworkV2};

use super::machine::SlotMachine;
use super::router::{Router, Unreachable};
use super::snapshot::{Outgoing, Snapshot, SnapshotData};
use super::types::{Group, Vote};
use super::wire::{Question, Reply, SnapshotEnd, SnapshotPart};

/// Makes the links of a group.
pub struct Links {
    /// Says what there is to say.
    pub router: Rc<Router>,
    /// The group.
    pub slot: u32,
    /// How long one part of a snapshot may take to be durable over there.
    pub part_limit: Duration,
}

/// The link to one member.
pub struct Link {
    router: Rc<Router>,
    slot: u32,
    node: u64,
    part_limit: Duration,
}

impl RaftNetworkFactory<Group> for Links {
    type Network = Link;

    async fn new_client(&mut self, node: u64, _: &EmptyNode) -> Link {
        Link { router: self.router.clone(), slot: self.slot, node, part_limit: self.part_limit }
    }
}

fn unreachable(reason: &Unreachable) -> RPCError<Group> {
    RPCError::Unreachable(RaftUnreachable::new(reason))
}

impl Link {
    async fn ask(&self, question: Question, limit: Duration) -> Result<Reply, Unreachable> {
        self.router.ask(self.node, self.slot, &question, limit).await
    }

    fn other(&self) -> Unreachable {
        Unreachable { node: self.node, reason: "it answers another question".to_owned() }
    }

    async fn send_snapshot(&self, vote: Vote, machine: &SlotMachine) -> Result<Vote, Unreachable> {
        let failed = |error: crate::lane::LaneError| Unreachable { node: self.node, reason: error.to_string() };
        let mut outgoing = Outgoing::open(machine).await.map_err(failed)?;
        let (session, mut part) = (rng::next_u64(), 0);
        while let Some(rows) = outgoing.next_part().map_err(failed)? {
            let question = Question::Snapshot(SnapshotPart { vote, session, part, rows });
            match self.ask(question, self.part_limit).await? {
                Reply::Staged => part += 1,
                Reply::Installed(higher) => return Ok(higher),
                _ => return Err(self.other()),
            }
        }
        let meta = outgoing.meta.clone();
        let end = Question::Install(SnapshotEnd { vote, session, parts: part, meta });
        match self.ask(end, self.part_limit * 10).await? {
            Reply::Installed(vote) => Ok(vote),
            _ => Err(self.other()),
        }
    }
}

impl RaftNetworkV2<Group> for Link {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Group>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Group>, RPCError<Group>> {
        match self.ask(Question::Append(request), option.soft_ttl()).await {
            Ok(Reply::Append(response)) => Ok(response),
            Ok(_) => Err(unreachable(&self.other())),
            Err(reason) => Err(unreachable(&reason)),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Group>,
        option: RPCOption,
    ) -> Result<VoteResponse<Group>, RPCError<Group>> {
        match self.ask(Question::Vote(request), option.soft_ttl()).await {
            Ok(Reply::Vote(response)) => Ok(response),
            Ok(_) => Err(unreachable(&self.other())),
            Err(reason) => Err(unreachable(&reason)),
        }
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Group>,
        option: RPCOption,
    ) -> Result<VoteResponse<Group>, RPCError<Group>> {
        match self.ask(Question::PreVote(request), option.soft_ttl()).await {
            Ok(Reply::Vote(response)) => Ok(response),
            Ok(_) => Err(unreachable(&self.other())),
            Err(reason) => Err(unreachable(&reason)),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Group>, StreamingError<Group>> {
        let SnapshotData::Here(machine) = snapshot.snapshot else {
            return Err(StreamingError::Unreachable(RaftUnreachable::new(&self.other())));
        };
        let sending = std::pin::pin!(self.send_snapshot(vote, &machine));
        match select(sending, Box::pin(cancel)).await {
            Either::Left((Ok(vote), _)) => Ok(SnapshotResponse::new(vote)),
            Either::Left((Err(reason), _)) => Err(StreamingError::Unreachable(RaftUnreachable::new(&reason))),
            Either::Right((closed, _)) => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Group>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Group>, RPCError<Group>> {
        match self.ask(Question::Transfer(request), option.soft_ttl()).await {
            Ok(Reply::Transferring) => Ok(Ok(())),
            Ok(_) => Err(unreachable(&self.other())),
            Err(reason) => Err(unreachable(&reason)),
        }
    }
}
