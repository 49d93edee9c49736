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

mod ask;
mod bucket;
mod commit;
mod contact;
mod error;
mod follow;
mod hub;
mod keys;
mod list;
mod map;
mod open;
pub mod papers;
mod peers;
mod provisional;
mod relocate;
mod report;
mod routes;
mod seal;
mod seek;
mod serve;
mod settings;
mod trim;
mod ttl;

use std::rc::Rc;

use bytes::Bytes;
use cairn_io::{rng, time};
use cairn_meta::control::command as control;
use cairn_meta::slot::command::{self, Refusal, Token, read_answer};
use cairn_meta::slot::layout::BucketId;
use cairn_meta::slot::query::{Query, Reply};
use cairn_meta::version::{UploadId, VersionId};
use cairn_placement::SlotId;

pub use ask::{Ask, Told};
pub use bucket::Deleted;
pub use commit::{Commit, Copies, Terms};
pub use error::ClusterError;
pub use hub::Hub;
pub use keys::{ADMIN, NewKey};
pub use map::{AccessKey, Bucket, Map};
pub use open::Options;
pub use peers::{Calls, Missed, PeerAddress, Peers};
pub use provisional::{Reconcile, ReconcileMessage, Reconciled, Seen};
pub use relocate::{Relocate, RelocateMessage, Relocated, relocate_stopped};
pub use report::Groups;
pub use seal::Seal;
pub use trim::{Trim, TrimMessage};
pub use ttl::{Ttl, TtlMessage};

use crate::disks::Disks;
use crate::lane::SLOTS_MAX;
use hub::Core;
use map::members;

/// The control group among the slots of a node.
pub const CONTROL: u32 = SLOTS_MAX - 1;

/// How fresh an answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// It shows all that was answered before it was asked for.
    Latest,
    /// It shows what this node has: perhaps less than others have, never less than it showed before.
    Local,
}

/// See the module. Clones share it; it belongs to one core.
#[derive(Clone)]
pub struct Cluster(Rc<Handle>);

/// What the handles share; what runs for it on this core ends with the last of them.
struct Handle {
    core: Rc<Core>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.core.stop();
    }
}

impl Cluster {
    fn core(&self) -> &Rc<Core> {
        &self.0.core
    }

    /// The map that this core has.
    pub fn map(&self) -> Rc<Map> {
        self.core().map.borrow().clone()
    }

    /// Is there when this core has another map than when it was asked for.
    pub fn map_changed(&self) -> impl Future<Output = ()> + '_ {
        self.core().map_bell.rung()
    }

    /// Has every core of this node know all that control answered before this was called, as what other nodes change comes a
    /// little later by itself.
    ///
    /// # Errors
    /// If control can't be asked.
    pub async fn catch_up(&self) -> Result<(), ClusterError> {
        // Boxed, as below.
        Box::pin(self.core().catch_up()).await
    }

    /// The chunks of this node.
    pub fn disks(&self) -> &Disks {
        &self.core().disks
    }

    /// What seals the secrets of access keys.
    pub fn seal(&self) -> &Seal {
        &self.core().seal
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
        self.core().control(who, token, command).await
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
        self.reconcile_key(bucket, key).await;
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
        self.command_bytes(slot, envelope.encode().into()).await
    }

    /// The same, of the bytes of an envelope.
    async fn command_bytes(&self, slot: u32, envelope: Bytes) -> Result<command::Answer, ClusterError> {
        // Boxed, as below: what finds a leader is large, and every caller's future would hold it.
        let answer = Box::pin(self.core().command(slot, envelope)).await?;
        match read_answer(&answer)? {
            Ok(answer) => Ok(answer),
            Err(refused) => Err(self.refused(refused).await?),
        }
    }

    /// What a slot says no with, as an error. Who tries again has the map that the slot knows of.
    async fn refused(&self, refused: Refusal) -> Result<ClusterError, ClusterError> {
        if matches!(refused, Refusal::StaleBucket { .. }) {
            self.catch_up().await?;
        }
        Ok(ClusterError::Refused(refused))
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
        if let Some(reply) = self.core().answer_alone(slot, query) {
            return Ok(reply);
        }
        match Box::pin(self.core().ask(slot, Ask::Slot(query.clone(), freshness))).await? {
            Told::Slot(reply) => Ok(reply),
            Told::Whole(_) | Told::Copies(_) => Err(ClusterError::another_question()),
        }
    }

    fn slot_of(&self, bucket: BucketId, key: &str) -> u32 {
        SlotId::of_key(bucket, key.as_bytes(), self.map().born().slots).0
    }
}

impl Core {
    /// See [`Cluster::control`].
    async fn control(
        self: &Rc<Self>,
        who: &str,
        token: Option<Token>,
        command: control::Command,
    ) -> Result<control::Answer, ClusterError> {
        let envelope = control::Envelope { time: wall_millis(), who: who.to_owned(), token, command };
        let answer = self.command(CONTROL, envelope.encode().into()).await?;
        self.catch_up().await?;
        control::read_answer(&answer)?.map_err(ClusterError::ControlRefused)
    }
}

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

/// The name of an intent, for asking again. By the time, as slots forget them: what they remember is then written side by
/// side in their index, and let go of side by side.
pub fn new_token() -> Token {
    Token(new_version().0)
}

#[test]
fn tokens_sort_as_they_were_made() {
    let tokens = cairn_io::run_one(&cairn_io::Config::single(), || async {
        let mut tokens = Vec::new();
        for _ in 0..8 {
            tokens.push(new_token().0);
            time::sleep(time::Duration::from_millis(2)).await;
        }
        tokens
    });
    let tokens = tokens.expect("the core runs");
    assert!(tokens.is_sorted() && !tokens.windows(2).any(|two| two[0] == two[1]), "{tokens:x?}");
}
