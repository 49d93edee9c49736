//! What clients of the RPC port get: objects and control, in the words of `cairn.capnp`, with the rights of a user.
//!
//! ```text
//!   rpc ─► Clients ─► bucket (of the map) ─► s3::asker: may this user? ─► words: wire to machine ─► cluster ─► the slot's leader
//!                                                                                 errors as data ◄─┘
//! ```
//!
//! It decides nothing about objects, and who may do what is for S3's rules to say. Locks and conditions are the state machine's business.
//! Invariants: nothing is done for who isn't the user of an access key that there is; an idempotency key has one effect.

mod commit;
mod control;
mod error;
#[cfg(test)]
mod fuzz;
mod list;
mod read;
mod words;

use cairn_meta::control::bucket::BucketState;
use cairn_meta::slot::layout::BucketId;
use cairn_schema::{
    Advice, Answer, Applied, CommitRequest, Committed, Error, ErrorKind, ListRequest, MapRequest, MapUpdate, Page,
    ProposeRequest, ReadRequest, ReadResult,
};

use crate::cluster::Cluster;
use crate::rpc::{Answering, Caller, Client, ControlService, KeyService, SlotService};
use crate::s3::asker::Asker;
use crate::s3::call::Bucket;
use crate::s3::{Gateway, Limits};

/// See the module. One for each core.
pub struct Clients {
    cluster: Cluster,
    /// Whose rules decide. It takes no bodies.
    gateway: Gateway,
}

impl Clients {
    /// Of this core's cluster.
    pub fn new(cluster: Cluster) -> Self {
        let gateway = Gateway::new(cluster.clone(), Limits { body_bytes: 0, ..Limits::default() });
        Self { cluster, gateway }
    }

    /// The user who calls.
    fn asker(&self, caller: &Caller) -> Answer<Asker> {
        let client = caller.client.as_deref().ok_or_else(|| {
            let message = "objects and control are for users: say hello as a client, with an access key";
            Error::fix_input(ErrorKind::Unsupported, message)
        })?;
        Ok(Asker::new(&self.gateway, &client.user, &client.access, caller.from))
    }

    /// A bucket that may be used.
    async fn bucket(&self, id: BucketId) -> Answer<Bucket> {
        let bucket = self.find_bucket(id).await?;
        if bucket.record().state == BucketState::Open { Ok(bucket) } else { Err(error::no_bucket(id)) }
    }

    /// A bucket, be it that it is being deleted.
    async fn find_bucket(&self, id: BucketId) -> Answer<Bucket> {
        // A bucket's number is the epoch that it was made in: a map before that can't have it.
        if id > self.cluster.map().epoch {
            self.cluster.catch_up().await.map_err(error::of_cluster)?;
        }
        self.cluster.map().find_id(id).ok_or_else(|| error::no_bucket(id))
    }
}

impl KeyService for Clients {
    fn client(&self, access: &str) -> Answer<Option<Client>> {
        let map = self.cluster.map();
        if map.cluster.is_none() {
            let message = "this node is still starting and knows no access keys yet";
            return Err(Error::new(ErrorKind::NoLeader, Advice::TryElsewhere(500), message));
        }
        let client = |access: &str| {
            let key = map.key(access)?;
            Some(Client { access: access.to_owned(), secret: key.secret.clone(), user: key.user.clone() })
        };
        Ok(client(access))
    }
}

impl SlotService for Clients {
    fn commit<'a>(&'a self, caller: Caller, request: &'a CommitRequest) -> Answering<'a, Vec<Answer<Committed>>> {
        Box::pin(async move { Ok(self.commit_all(&self.asker(&caller)?, &request.commits).await) })
    }

    fn read<'a>(&'a self, caller: Caller, request: &'a ReadRequest) -> Answering<'a, ReadResult> {
        Box::pin(async move { self.read_one(&self.asker(&caller)?, request).await })
    }

    fn list<'a>(&'a self, caller: Caller, request: &'a ListRequest) -> Answering<'a, Page> {
        Box::pin(async move { self.list_page(&self.asker(&caller)?, request).await })
    }
}

impl ControlService for Clients {
    fn map<'a>(&'a self, caller: Caller, request: &'a MapRequest) -> Answering<'a, MapUpdate> {
        Box::pin(async move { self.map_for(&self.asker(&caller)?, request.have).await })
    }

    fn wait<'a>(&'a self, caller: Caller, request: &'a MapRequest) -> Answering<'a, MapUpdate> {
        Box::pin(async move {
            self.newer_map(&caller, request.have).await;
            self.map_for(&self.asker(&caller)?, request.have).await
        })
    }

    fn propose<'a>(&'a self, caller: Caller, request: &'a ProposeRequest) -> Answering<'a, Applied> {
        Box::pin(async move { self.change(&self.asker(&caller)?, request).await })
    }
}
