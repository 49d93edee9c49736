//! The cluster as one core of a node sees it: its map, its objects' metadata, its chunks.
//!
//! ```text
//!   s3, rpc ─► command, query ─► the slot of the key ─► its group
//!          ─► list            ─► every slot, merged
//!          ─► control         ─► the control group ─► a new map
//!          ─► disks           ─► chunks
//! ```
//!
//! It decides nothing about objects: what a command means is the machines' business (`cairn_meta::slot`, `control`).
//! Invariants: an answer to a command is given when it is durable on a majority; a fresh answer shows all that was
//! answered before it was asked for; after [`Cluster::control`] this core's map has the change.

mod bucket;
mod error;
mod map;
mod open;
mod seal;

use std::cell::RefCell;
use std::rc::Rc;

use cairn_io::{rng, time};
use cairn_meta::control::command as control;
use cairn_meta::control::state::Whole;
use cairn_meta::slot::command::{self, Token, read_answer};
use cairn_meta::slot::layout::BucketId;
use cairn_meta::slot::list::{self, Listed, ObjectEntry, Page, UploadEntry, VersionEntry};
use cairn_meta::slot::query::{Query, Reply};
use cairn_meta::version::{UploadId, VersionId};
use cairn_placement::SlotId;
use futures_util::future::try_join_all;

pub use bucket::Deleted;
pub use error::ClusterError;
pub use map::{AccessKey, Map};
pub use open::Options;
pub use seal::Seal;

use crate::disks::Disks;
use crate::lane::SLOTS_MAX;
use crate::slot::Slots;

/// The control group among the slots of a node.
pub const CONTROL: u32 = SLOTS_MAX - 1;

/// How fresh an answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// It shows all that was answered before it was asked for.
    Latest,
    /// It shows what this node has, at once.
    Local,
}

/// See the module. Clones share it; it belongs to one core.
#[derive(Clone)]
pub struct Cluster(Rc<Inner>);

struct Inner {
    slots: Slots,
    disks: Disks,
    seal: Seal,
    map: RefCell<Rc<Map>>,
}

impl Cluster {
    /// The map that this core has.
    pub fn map(&self) -> Rc<Map> {
        self.0.map.borrow().clone()
    }

    /// The chunks of this node.
    pub fn disks(&self) -> &Disks {
        &self.0.disks
    }

    /// What seals the secrets of access keys.
    pub fn seal(&self) -> &Seal {
        &self.0.seal
    }

    /// Has control make a change, wanted by `who`.
    ///
    /// # Errors
    /// If it is refused, or it isn't known whether it was made.
    pub async fn control(
        &self,
        who: &str,
        token: Option<Token>,
        command: control::Command,
    ) -> Result<control::Answer, ClusterError> {
        let envelope = control::Envelope { time: wall_millis(), who: who.to_owned(), token, command };
        let answer = self.0.slots.propose(CONTROL, envelope.encode().into()).await?;
        self.refresh()?;
        control::read_answer(&answer)?.map_err(ClusterError::ControlRefused)
    }

    /// Has the slot of a key obey a command.
    ///
    /// # Errors
    /// If the whole command is refused, or it isn't known whether it was obeyed.
    pub async fn command(
        &self,
        (bucket, key): (BucketId, &str),
        token: Option<Token>,
        command: command::Command,
    ) -> Result<command::Answer, ClusterError> {
        self.command_slot(self.slot_of(bucket, key), token, command).await
    }

    /// Has a slot obey a command.
    async fn command_slot(
        &self,
        slot: u32,
        token: Option<Token>,
        command: command::Command,
    ) -> Result<command::Answer, ClusterError> {
        let envelope = command::Envelope { time: wall_millis(), token, command };
        let answer = self.0.slots.propose(slot, envelope.encode().into()).await?;
        read_answer(&answer)?.map_err(ClusterError::Refused)
    }

    /// Asks the slot of a key.
    ///
    /// # Errors
    /// If nobody can answer.
    pub async fn query(
        &self,
        (bucket, key): (BucketId, &str),
        query: &Query,
        freshness: Freshness,
    ) -> Result<Reply, ClusterError> {
        self.query_slot(self.slot_of(bucket, key), query, freshness).await
    }

    async fn query_slot(&self, slot: u32, query: &Query, freshness: Freshness) -> Result<Reply, ClusterError> {
        if freshness == Freshness::Latest {
            self.0.slots.barrier(slot).await?;
        }
        Ok(self.0.slots.read(slot, |rows| query.answer(rows))??)
    }

    /// A page of objects of a bucket.
    ///
    /// # Errors
    /// If a slot can't be asked.
    pub async fn list_objects(&self, query: list::Query) -> Result<Page<ObjectEntry>, ClusterError> {
        let limit = query.limit;
        self.list(limit, &Query::Objects(query), |reply| match reply {
            Reply::Objects(page) => Some(page),
            _ => None,
        })
        .await
    }

    /// A page of versions of a bucket.
    ///
    /// # Errors
    /// If a slot can't be asked.
    pub async fn list_versions(&self, query: list::Query) -> Result<Page<VersionEntry>, ClusterError> {
        let limit = query.limit;
        self.list(limit, &Query::Versions(query), |reply| match reply {
            Reply::Versions(page) => Some(page),
            _ => None,
        })
        .await
    }

    /// A page of uploads of a bucket.
    ///
    /// # Errors
    /// If a slot can't be asked.
    pub async fn list_uploads(&self, query: list::Query) -> Result<Page<UploadEntry>, ClusterError> {
        let limit = query.limit;
        self.list(limit, &Query::Uploads(query), |reply| match reply {
            Reply::Uploads(page) => Some(page),
            _ => None,
        })
        .await
    }

    async fn list<T: Listed>(
        &self,
        limit: u32,
        query: &Query,
        page: impl Fn(Reply) -> Option<Page<T>>,
    ) -> Result<Page<T>, ClusterError> {
        let slots = 0..self.map().born().slots;
        let replies = try_join_all(slots.map(|slot| self.query_slot(slot, query, Freshness::Latest))).await?;
        Ok(list::merge(replies.into_iter().filter_map(page).collect(), limit))
    }

    fn slot_of(&self, bucket: BucketId, key: &str) -> u32 {
        SlotId::of_key(bucket, key.as_bytes(), self.map().born().slots).0
    }

    /// Takes over what control says now, if that is later.
    fn refresh(&self) -> Result<(), ClusterError> {
        let known = self.map().epoch;
        let whole = self.0.slots.read(CONTROL, |rows| {
            let epoch = cairn_meta::control::state::epoch(rows)?;
            if epoch > known { Whole::read(rows).map(Some) } else { Ok(None) }
        })??;
        if let Some(whole) = whole {
            self.0.map.replace(Rc::new(Map::new(whole, &self.0.seal)));
        }
        Ok(())
    }

    /// Hands over what this node leads, and stops its groups.
    pub async fn close(&self) {
        self.0.slots.hand_over(HAND_OVER_WITHIN).await;
        self.0.slots.close().await;
    }
}

/// How long a node that stops waits for others to take over what it leads.
const HAND_OVER_WITHIN: time::Duration = time::Duration::from_secs(2);

/// The wall clock in milliseconds since the Unix epoch.
pub fn wall_millis() -> u64 {
    (time::wall().as_unix_nanos() / 1_000_000) as u64
}

fn random() -> u128 {
    u128::from(rng::next_u64()) << 64 | u128::from(rng::next_u64())
}

/// The name of a version that is made now.
pub fn new_version() -> VersionId {
    VersionId::new(wall_millis(), random())
}

/// The name of an upload that begins now.
pub fn new_upload() -> UploadId {
    UploadId(new_version().0)
}

/// The name of an intent, for asking again.
pub fn new_token() -> Token {
    Token(random())
}
