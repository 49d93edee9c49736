//! A group's state machine: any [`Machine`], its rows in the lane's index.
//!
//! It is write-behind: what is applied is visible at once and durable when the index is committed next. Until then the
//! entries of the Raft log have it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use cairn_meta::rows::{Machine, Rows};

use super::codec::{Reader, Undecodable, Write};
use super::types::{At, Entry, Members, Payload};
use crate::lane::{Lane, LaneError};

/// The state machine of a slot. Clones share it.
#[derive(Clone)]
pub struct SlotMachine {
    pub(super) lane: Lane,
    pub(super) slot: u32,
    machine: Rc<dyn Machine>,
}

impl SlotMachine {
    /// The machine of a slot whose rows are in this lane.
    pub fn new(lane: &Lane, slot: u32, machine: Rc<dyn Machine>) -> Self {
        Self { lane: lane.clone(), slot, machine }
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

    /// Applies the next entry, and returns what it is answered with.
    ///
    /// # Errors
    /// If the index can't be read, or the machine can't go on.
    pub fn apply(&self, Entry { at, payload }: Entry) -> Result<Vec<u8>, LaneError> {
        match payload {
            Payload::Blank => self.lane.pass_in_slot(self.slot, at, None)?,
            Payload::Members(membership) => {
                let members = Members { at: Some(at), membership };
                self.lane.pass_in_slot(self.slot, at, Some(encode_members(&members)))?;
            }
            Payload::Command(bytes) => {
                // A defect in one slot is no reason for the others to stop.
                let apply = || self.lane.apply_to_slot(self.slot, at, &*self.machine, &bytes);
                return catch_unwind(AssertUnwindSafe(apply)).unwrap_or_else(|_| {
                    let message = "a defect: applying a command panicked, and the node's log says why; report it";
                    Err(LaneError::Io(io::Error::other(message)))
                });
            }
        }
        Ok(Vec::new())
    }
}

/// Who belongs to a group, in bytes for the lane.
pub(super) fn encode_members(members: &Members) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put_members(members);
    bytes
}

/// See [`encode_members`]; nobody if nothing was ever said.
pub(super) fn decode_members(bytes: &[u8]) -> Result<Members, Undecodable> {
    if bytes.is_empty() {
        return Ok(Members::default());
    }
    let mut reader = Reader::new("membership of a slot", bytes);
    let members = reader.members()?;
    reader.end()?;
    Ok(members)
}
