//! Why the cluster doesn't do something, sorted by what the asker does about it.

use cairn_meta::index::Error as IndexError;
use cairn_meta::{Malformed, control, slot};

use crate::disks::DisksError;
use crate::slot::SlotError;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// The slot says no: nothing was done, and asking so again is of no use.
    #[error(transparent)]
    Refused(slot::command::Refusal),
    /// Control says no, likewise.
    #[error(transparent)]
    ControlRefused(control::command::Refusal),
    /// Too much is under way: nothing was done. Later.
    #[error("{0}")]
    Busy(String),
    /// The disk is full: nothing was done. Something must be deleted, or a disk added.
    #[error("{0}")]
    NoRoom(String),
    /// Nobody who could do it can be reached: nothing was done. Later, or elsewhere.
    #[error("{0}")]
    Unreachable(String),
    /// It may have been done or be done yet. With the same token it can be asked again.
    #[error("{0}")]
    Unknown(String),
    /// A defect, or a failed disk: people must look.
    #[error("{0}")]
    Broken(String),
}

impl ClusterError {
    /// A slot answers something else than it was asked: a defect.
    pub(super) fn another_question() -> Self {
        Self::Broken("a slot answers another question".to_owned())
    }
}

impl From<SlotError> for ClusterError {
    fn from(error: SlotError) -> Self {
        let text = error.to_string();
        match error {
            SlotError::Busy(_) => Self::Busy(text),
            SlotError::NoRoom(_) => Self::NoRoom(text),
            SlotError::NoSlot(_) | SlotError::NotLeader { .. } | SlotError::NoQuorum => Self::Unreachable(text),
            SlotError::Unknown(_) => Self::Unknown(text),
            SlotError::Refused(_) | SlotError::Stopped(_) => Self::Broken(text),
        }
    }
}

impl From<Malformed> for ClusterError {
    fn from(malformed: Malformed) -> Self {
        Self::Broken(format!("an answer is not understood: {malformed}"))
    }
}

impl From<IndexError> for ClusterError {
    fn from(error: IndexError) -> Self {
        Self::Broken(error.to_string())
    }
}

impl From<DisksError> for ClusterError {
    fn from(error: DisksError) -> Self {
        Self::Broken(error.to_string())
    }
}
