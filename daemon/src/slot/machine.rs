//! A group's state machine as openraft sees it: any [`Machine`], its rows in the lane's index.
//!
//! It is write-behind: what is applied is visible at once and durable when the index is committed next. Until then the
//! entries of the Raft log have it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use cairn_meta::rows::{Machine, Rows};
use futures_util::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftStateMachine};

use super::codec::{Reader, Undecodable, Write};
use super::log::io_error;
use super::snapshot::{Builder, Snapshot, SnapshotData};
use super::types::{Answer, Command, Group, LogId, Payload, SnapshotMeta, StoredMembership, log_id, term_of};
use crate::lane::{At, Lane, LaneError};

/// Entries applied before others get their turn on the core.
const ENTRIES_AT_ONCE: usize = 64;

/// The state machine of a slot. Clones share it.
#[derive(Clone)]
pub struct SlotMachine {
    pub(super) lane: Lane,
    pub(super) slot: u32,
    machine: Rc<dyn Machine>,
    /// Counts the clones.
    shared: Rc<()>,
}

impl SlotMachine {
    /// The machine of a slot whose rows are in this lane.
    pub fn new(lane: &Lane, slot: u32, machine: Rc<dyn Machine>) -> Self {
        Self { lane: lane.clone(), slot, machine, shared: Rc::default() }
    }

    /// Whether nobody else has a clone: then nothing is being applied, nor a snapshot sent.
    pub fn is_alone(&self) -> bool {
        Rc::strong_count(&self.shared) == 1
    }

    /// Lends its rows as they are now.
    ///
    /// # Errors
    /// If the index can't be read.
    pub fn read<R>(&self, read: impl FnOnce(&dyn Rows) -> R) -> Result<R, LaneError> {
        self.lane.read_slot(self.slot, read)
    }

    /// The last entry applied.
    ///
    /// # Errors
    /// If the index can't be read.
    pub fn applied(&self) -> Result<Option<At>, LaneError> {
        self.lane.slot_applied(self.slot)
    }

    fn apply_entry(&self, id: &LogId, payload: Payload) -> Result<Answer, LaneError> {
        let at = at(id);
        match payload {
            Payload::Blank => self.lane.pass_in_slot(self.slot, at, None)?,
            Payload::Membership(membership) => {
                let stored = StoredMembership::new(Some(*id), membership);
                self.lane.pass_in_slot(self.slot, at, Some(encode_members(&stored)))?;
            }
            Payload::Normal(Command(bytes)) => {
                // openraft would not notice that its worker has gone: the group would hang.
                let apply = || self.lane.apply_to_slot(self.slot, at, &*self.machine, &bytes);
                let applied = catch_unwind(AssertUnwindSafe(apply)).unwrap_or_else(|_| {
                    let message = "a defect: applying a command panicked, and the node's log says why; report it";
                    Err(LaneError::Io(io::Error::other(message)))
                });
                return applied.map(Answer);
            }
        }
        Ok(Answer::default())
    }
}

impl RaftStateMachine<Group> for SlotMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let facts = self.lane.slot_facts(self.slot).map_err(io_error)?;
        Ok((facts.applied.map(log_id_of), decode_members(&facts.members).map_err(io::Error::other)?))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Group>, io::Error>> + Unpin + OptionalSend,
    {
        let mut applied = 0;
        while let Some(entry) = entries.next().await {
            if applied % ENTRIES_AT_ONCE == 0 {
                self.lane.wait_to_apply().await.map_err(io_error)?;
            }
            applied += 1;
            let (entry, responder) = entry?;
            let answer = self.apply_entry(&entry.log_id, entry.payload).map_err(io_error)?;
            responder.into_iter().for_each(|responder| responder.send(answer.clone()));
            self.lane.flush_if_due(self.slot).await.map_err(io_error)?;
            if applied % ENTRIES_AT_ONCE == 0 {
                cairn_io::task::yield_now().await;
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder(self.clone())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, data: SnapshotData) -> Result<(), io::Error> {
        super::snapshot::install(self, meta, data).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        super::snapshot::current(self)
    }
}

/// Who belongs to a group, in bytes for the lane.
pub(super) fn encode_members(members: &StoredMembership) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put_stored_membership(members);
    bytes
}

/// See [`encode_members`]; nobody if nothing was ever said.
pub(super) fn decode_members(bytes: &[u8]) -> Result<StoredMembership, Undecodable> {
    if bytes.is_empty() {
        return Ok(StoredMembership::default());
    }
    let mut reader = Reader::new("membership of a slot", bytes);
    let members = reader.stored_membership()?;
    reader.end()?;
    Ok(members)
}

/// The name of an entry as the lane knows it.
pub(super) fn at(id: &LogId) -> At {
    At { term: term_of(id), index: id.index }
}

/// See [`at`].
pub(super) fn log_id_of(at: At) -> LogId {
    log_id(at.term, at.index)
}
