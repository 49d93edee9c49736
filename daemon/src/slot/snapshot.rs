//! Snapshots: a slot's rows at one entry, on their way to another node.
//!
//! To make one is to flush: afterwards the log doesn't need the entries. What is sent is what the index has committed, seen
//! through a view of its own, so that writes go on meanwhile; it is as new as the last flush at least. The node that gets it
//! stages it part by part and installs it by one record. A transfer that breaks off begins anew.

use std::io;

use cairn_io::rng;

use super::group::Slot;
use super::machine::{SlotMachine, decode_members};
use super::router::Unreachable;
use super::types::{Covered, Vote};
use super::wire::{Question, Reply, SnapshotEnd, SnapshotPart};
use crate::lane::{LaneError, Row, SlotView};

/// A snapshot that is being read.
struct Outgoing {
    view: SlotView,
    covered: Covered,
    bytes_max: usize,
}

impl Outgoing {
    /// Begins to read the rows that a machine has committed.
    async fn open(machine: &SlotMachine) -> Result<Self, LaneError> {
        let view = machine.lane.view_slot(machine.slot).await?;
        let members = decode_members(&view.facts().members).map_err(io::Error::other)?;
        let covered = Covered { last: view.facts().applied, members };
        // A part is a record, here and there; lanes there may have shorter segments.
        let bytes_max = machine.lane.rows_bytes_max().min(PART_BYTES);
        Ok(Self { view, covered, bytes_max })
    }

    /// The next rows; `None` at the end.
    fn next_part(&mut self) -> Result<Option<Vec<Row>>, LaneError> {
        self.view.next_part(self.bytes_max)
    }
}

/// Bytes of a part, about: a third of the smallest segment's payload would do everywhere.
const PART_BYTES: usize = 256 << 10;

/// What became of a snapshot that was sent.
pub enum Sent {
    /// The node has so many entries by it.
    Installed(u64),
    /// It has voted in a later term.
    Higher(Vote),
}

impl Slot {
    /// Sends what is here to another node, by this vote.
    ///
    /// # Errors
    /// If it can't be reached, or it or this node fails.
    pub(super) async fn send_snapshot(&self, node: u64, vote: Vote) -> Result<Sent, Unreachable> {
        let failed = |error: LaneError| Unreachable { node, reason: error.to_string() };
        let other = || Unreachable { node, reason: "it answers another question".to_owned() };
        let limit = self.options.batch_limit;
        let mut outgoing = Outgoing::open(&self.machine).await.map_err(failed)?;
        let (session, mut part) = (rng::next_u64(), 0);
        while let Some(rows) = outgoing.next_part().map_err(failed)? {
            let question = Question::Snapshot(SnapshotPart { vote, session, part, rows });
            match self.router.ask(node, self.number, &question, limit).await? {
                Reply::Staged => part += 1,
                Reply::Higher(higher) | Reply::Installed(higher) => return Ok(Sent::Higher(higher)),
                _ => return Err(other()),
            }
        }
        let has = outgoing.covered.last.map_or(0, |last| last.index + 1);
        let end = Question::Install(SnapshotEnd { vote, session, parts: part, covered: outgoing.covered });
        match self.router.ask(node, self.number, &end, limit * 10).await? {
            Reply::Installed(now) if now == vote => Ok(Sent::Installed(has)),
            Reply::Higher(higher) | Reply::Installed(higher) => Ok(Sent::Higher(higher)),
            _ => Err(other()),
        }
    }
}
