//! Snapshots: a slot's rows at one entry, on their way to another node.
//!
//! To build one is to flush: afterwards the log doesn't need the entries. What is sent is what the index has committed, seen
//! through a view of its own, so that writes go on meanwhile; it is as new as the last flush at least. The node that gets it
//! stages it part by part and installs it by one record. A transfer that breaks off begins anew.

use std::io;

use cairn_io::rng;
use openraft::storage::RaftSnapshotBuilder;

use super::log::io_error;
use super::machine::{SlotMachine, at, decode_members, encode_members, log_id_of};
use super::types::{Group, SnapshotMeta};
use crate::lane::{LaneError, Row, SlotView};

/// A snapshot as openraft hands it around.
pub type Snapshot = openraft::type_config::alias::SnapshotOf<Group, SnapshotData>;

/// Where its rows are.
pub enum SnapshotData {
    /// In this node's lane.
    Here(SlotMachine),
    /// Staged in the lane that is to have them, in so many parts.
    Staged {
        /// What names the transfer.
        session: u64,
        /// How many.
        parts: u32,
    },
}

/// Builds a snapshot.
pub struct Builder(pub(super) SlotMachine);

impl RaftSnapshotBuilder<Group> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let SlotMachine { lane, slot, .. } = &self.0;
        lane.flush_slot(*slot).await.map_err(io_error)?;
        lane.merge_if_due(*slot).await.map_err(io_error)?;
        let nothing = || Snapshot { meta: SnapshotMeta::default(), snapshot: SnapshotData::Here(self.0.clone()) };
        Ok(current(&self.0)?.unwrap_or_else(nothing))
    }
}

/// The last that was built.
pub(super) fn current(machine: &SlotMachine) -> Result<Option<Snapshot>, io::Error> {
    let facts = machine.lane.slot_facts(machine.slot).map_err(io_error)?;
    let Some((at, members)) = facts.flushed else { return Ok(None) };
    let last_membership = decode_members(&members).map_err(io::Error::other)?;
    let meta = SnapshotMeta { last_log_id: Some(log_id_of(at)), last_membership };
    Ok(Some(Snapshot { meta, snapshot: SnapshotData::Here(machine.clone()) }))
}

/// Makes a snapshot the machine's state.
pub(super) async fn install(machine: &SlotMachine, meta: &SnapshotMeta, data: SnapshotData) -> Result<(), io::Error> {
    let SlotMachine { lane, slot, .. } = machine;
    let Some(last) = &meta.last_log_id else { return Ok(()) };
    let (session, parts) = match data {
        SnapshotData::Staged { session, parts } => (session, parts),
        SnapshotData::Here(source) => {
            let mut outgoing = Outgoing::open(&source).await.map_err(io_error)?;
            let (session, mut parts) = (rng::next_u64(), 0);
            while let Some(rows) = outgoing.next_part().map_err(io_error)? {
                lane.stage_rows(*slot, session, parts, rows).await.map_err(io_error)?;
                parts += 1;
            }
            (session, parts)
        }
    };
    let members = encode_members(&meta.last_membership);
    lane.install_staged(*slot, session, parts, at(last), members).await.map_err(io_error)
}

/// A snapshot that is being read.
pub struct Outgoing {
    view: SlotView,
    /// What it covers.
    pub meta: SnapshotMeta,
    bytes_max: usize,
}

impl Outgoing {
    /// Begins to read the rows that a machine has committed.
    pub async fn open(machine: &SlotMachine) -> Result<Self, LaneError> {
        let view = machine.lane.view_slot(machine.slot).await?;
        let members = decode_members(&view.facts().members).map_err(io::Error::other)?;
        let meta = SnapshotMeta { last_log_id: view.facts().applied.map(log_id_of), last_membership: members };
        // A part is a record, here and there; lanes there may have shorter segments.
        let bytes_max = machine.lane.rows_bytes_max().min(PART_BYTES);
        Ok(Self { view, meta, bytes_max })
    }

    /// The next rows; `None` at the end.
    pub fn next_part(&mut self) -> Result<Option<Vec<Row>>, LaneError> {
        self.view.next_part(self.bytes_max)
    }
}

/// Bytes of a part, about: a third of the smallest segment's payload would do everywhere.
const PART_BYTES: usize = 256 << 10;
