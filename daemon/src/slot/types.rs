//! What a slot's Raft group is made of: names for openraft's types as they are here.

use std::fmt;

use bytes::Bytes;
use openraft::impls::{BoxedErrorSource, InlineBatch, OneshotResponder};
use openraft::{EmptyNode, RaftTypeConfig};

use super::runtime::IoRuntime;

/// The types of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group;

impl RaftTypeConfig for Group {
    type D = Command;
    type R = Answer;
    type NodeId = u64;
    type Node = EmptyNode;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = Vote;
    type Payload = Payload;
    type Entry = Entry;
    type AsyncRuntime = IoRuntime;
    type Responder<T: 'static> = OneshotResponder<Self, T>;
    type Batch<T: 'static> = InlineBatch<T>;
    type ErrorSource = BoxedErrorSource;
}

/// At most one leader per term, as in Raft's paper; so an entry is named by term and index.
pub type LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>;
/// What a node has voted for.
pub type Vote = openraft::impls::Vote<LeaderId>;
/// The name of an entry.
pub type LogId = openraft::type_config::alias::LogIdOf<Group>;
/// An entry of the log.
pub type Entry = openraft::type_config::alias::DefaultEntryOf<Group>;
/// What an entry carries.
pub type Payload = openraft::EntryPayload<Command, u64, EmptyNode>;
/// Who belongs to the group.
pub type Membership = openraft::Membership<u64, EmptyNode>;
/// The same, with the entry that says so.
pub type StoredMembership = openraft::type_config::alias::StoredMembershipOf<Group>;
/// What a snapshot covers.
pub type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<Group>;

/// What a state machine is told.
#[derive(Clone, PartialEq, Eq)]
pub struct Command(pub Bytes);

/// What it answers; nothing for entries that are Raft's own.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Answer(pub Vec<u8>);

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({} bytes)", self.0.len())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({} bytes)", self.0.len())
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The name of an entry from its parts.
pub fn log_id(term: u64, index: u64) -> LogId {
    LogId::new_term_index(term, index)
}

/// Its term.
pub fn term_of(id: &LogId) -> u64 {
    id.committed_leader_id().term
}
