//! What control is told, and what it answers. The bytes are made as a slot's: level, then envelope.

use minicbor::{Decode, Encode};

use super::bucket::{BucketSettings, BucketState};
use super::state::{Cluster, ClusterId, KeyRecord, NodeRecord, UserRecord};
use crate::encoding::{Malformed, decode, encode_behind};
use crate::slot::command::Token;
use crate::slot::layout::BucketId;

/// The level of the commands below. A new command, field or meaning raises it.
pub const LEVEL: u16 = 1;

/// A command and what goes with each.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Envelope {
    /// The leader's clock, in milliseconds since the Unix epoch.
    #[n(0)]
    pub time: u64,
    /// Who wants it, for the audit: a user, an operator's name, a node.
    #[n(1)]
    pub who: String,
    /// The same token again has no effect and the same answer, as long as control remembers.
    #[n(2)]
    pub token: Option<Token>,
    /// What to do.
    #[n(3)]
    pub command: Command,
}

impl Envelope {
    /// The bytes of the command.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = LEVEL.to_le_bytes().to_vec();
        encode_behind(&mut bytes, self);
        bytes
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Command {
    /// Begins the cluster. The same again changes nothing.
    #[n(0)]
    Birth(#[n(0)] Cluster),
    /// Adds or replaces a node.
    #[n(1)]
    PutNode(#[n(0)] NodeRecord),
    /// Removes a node.
    #[n(2)]
    RemoveNode(#[n(0)] u64),
    /// Makes a bucket.
    #[n(3)]
    CreateBucket(#[n(0)] CreateBucket),
    /// Changes a bucket's settings.
    #[n(4)]
    SetBucket(#[n(0)] SetBucket),
    /// First half of a bucket's deletion: see the module `control`.
    #[n(5)]
    BeginDelete {
        /// Its name.
        #[n(0)]
        name: String,
    },
    /// All slots have closed it.
    #[n(6)]
    FinishDelete {
        /// The bucket.
        #[n(0)]
        id: BucketId,
        /// Since when it was being deleted.
        #[n(1)]
        epoch: u64,
    },
    /// A slot has objects of it.
    #[n(7)]
    CancelDelete {
        /// The bucket.
        #[n(0)]
        id: BucketId,
        /// Since when it was being deleted.
        #[n(1)]
        epoch: u64,
    },
    /// Adds or replaces a user.
    #[n(8)]
    PutUser(#[n(0)] UserRecord),
    /// Removes a user without keys.
    #[n(9)]
    RemoveUser {
        /// Its name.
        #[n(0)]
        name: String,
    },
    /// Adds or replaces an access key.
    #[n(10)]
    PutKey(#[n(0)] KeyRecord),
    /// Removes an access key.
    #[n(11)]
    RemoveKey {
        /// Its public half.
        #[n(0)]
        access: String,
    },
    /// Changes a setting of the cluster.
    #[n(12)]
    PutSetting(#[n(0)] PutSetting),
    /// Allows commands up to this level: every voter knows it.
    #[n(13)]
    RaiseLevel {
        /// The level.
        #[n(0)]
        level: u16,
    },
}

impl Command {
    /// One line for people, without secrets.
    pub fn summary(&self) -> String {
        match self {
            Self::Birth(cluster) => format!("cluster {} is born", cluster.id),
            Self::PutNode(node) => format!("put node {} at {}", node.id, node.address),
            Self::RemoveNode(id) => format!("remove node {id}"),
            Self::CreateBucket(create) => format!("create bucket {}", create.name),
            Self::SetBucket(set) => format!("set bucket {}", set.name),
            Self::BeginDelete { name } => format!("begin to delete bucket {name}"),
            Self::FinishDelete { id, .. } => format!("finish deleting bucket {id}"),
            Self::CancelDelete { id, .. } => format!("cancel deleting bucket {id}: it is not empty"),
            Self::PutUser(user) => format!("put user {}", user.name),
            Self::RemoveUser { name } => format!("remove user {name}"),
            Self::PutKey(key) => format!("put access key {} of {}", key.access, key.user),
            Self::RemoveKey { access } => format!("remove access key {access}"),
            Self::PutSetting(setting) => format!("put setting {}", setting.name),
            Self::RaiseLevel { level } => format!("raise the level to {level}"),
        }
    }
}

/// A bucket to be.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CreateBucket {
    /// Its name, by S3's rules.
    #[n(0)]
    pub name: String,
    /// Whose it is: a user's name.
    #[n(1)]
    pub owner: String,
    /// Its settings.
    #[n(2)]
    pub settings: BucketSettings,
}

/// New settings of a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SetBucket {
    /// Its name.
    #[n(0)]
    pub name: String,
    /// The epoch of the settings that these were made of; `None`: whatever they are.
    #[n(1)]
    pub expected: Option<u64>,
    /// All of them.
    #[n(2)]
    pub settings: BucketSettings,
}

/// A new value of a setting.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PutSetting {
    /// Its name.
    #[n(0)]
    pub name: String,
    /// Its value; `None`: it goes back to what the program says.
    #[n(1)]
    pub value: Option<String>,
    /// The epoch of the value that this one was made of; `None`: whatever it is; 0: there was none.
    #[n(2)]
    pub expected: Option<u64>,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Answer {
    /// Done, and nothing to say.
    #[n(0)]
    Done,
    /// A bucket as it is now.
    #[n(1)]
    Bucket {
        /// Its id.
        #[n(0)]
        id: BucketId,
        /// When it last changed.
        #[n(1)]
        epoch: u64,
        /// What it is in.
        #[n(2)]
        state: BucketState,
    },
}

/// Why something was not done. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Encode, Decode)]
pub enum Refusal {
    /// Nothing goes before the birth.
    #[error("the cluster isn't born yet: run `cairn init` first")]
    #[n(0)]
    Unborn,
    /// It is another cluster.
    #[error("this is cluster {id} already; its id, slots and partitions are fixed for ever")]
    #[n(1)]
    Born {
        /// Which.
        #[n(0)]
        id: ClusterId,
    },
    /// Numbers that no cluster can have.
    #[error("a cluster has at least one slot, and a power of two of partitions")]
    #[n(2)]
    Numbers,
    /// The name is taken.
    #[error("there is a bucket of this name already, which belongs to {owner}")]
    #[n(3)]
    BucketExists {
        /// Whose it is.
        #[n(0)]
        owner: String,
        /// Which.
        #[n(1)]
        id: BucketId,
    },
    /// There is no such thing.
    #[error("no such {0}")]
    #[n(4)]
    Missing(#[n(0)] String),
    /// The name can't be.
    #[error("{0}")]
    #[n(5)]
    Name(#[n(0)] String),
    /// Somebody was faster.
    #[error("it was changed at epoch {found}: read it again")]
    #[n(6)]
    Changed {
        /// When it last changed.
        #[n(0)]
        found: u64,
    },
    /// Settings that don't go together, or not after the old ones.
    #[error("{0}")]
    #[n(7)]
    Settings(#[n(0)] String),
    /// The bucket is being deleted, or isn't.
    #[error("the bucket is {0:?}")]
    #[n(8)]
    State(#[n(0)] BucketState),
    /// A user with access keys stays.
    #[error("the user has access keys: remove those first")]
    #[n(9)]
    HasKeys,
    /// The access key is another user's.
    #[error("this access key belongs to another user")]
    #[n(10)]
    KeyTaken,
    /// The command is of a level that the cluster doesn't allow yet.
    #[error("the command has level {level}, the cluster allows {allowed}: finish the upgrade of all nodes first")]
    #[n(11)]
    Level {
        /// Its level.
        #[n(0)]
        level: u16,
        /// What is allowed.
        #[n(1)]
        allowed: u16,
    },
    /// It would change more rows than fit into one record.
    #[error(
        "the command would change {bytes} bytes of rows, and may change {max}: split it, or say less about each object"
    )]
    #[n(13)]
    TooLarge {
        /// Of rows.
        #[n(0)]
        bytes: u64,
        /// Of rows.
        #[n(1)]
        max: u64,
    },
    /// The command can't be read.
    #[error("the command is not understood: {0}")]
    #[n(12)]
    Malformed(#[n(0)] String),
}

/// What control answers.
pub type Answered = Result<Answer, Refusal>;

/// Reads an answer.
///
/// # Errors
/// What is wrong with the bytes.
pub fn read_answer(bytes: &[u8]) -> Result<Answered, Malformed> {
    decode(bytes)
}
