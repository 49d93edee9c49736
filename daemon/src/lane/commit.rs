//! Committing the index behind the log: when, and what if there is no room.

use std::rc::{Rc, Weak};

use cairn_io::fs::Mode;
use cairn_io::log::{Kind, Payload, Position, Record, Room};
use cairn_io::task::{Class, spawn};
use cairn_io::time::{self, Duration};
use cairn_io::{Bell, blocking, log};
use cairn_meta::index::{Checkpoint, CommitError};

use super::{BALLAST, Inner, Lane, LaneError};

/// Commits that may fail one after the other for another reason than room; then the disk isn't trusted with more.
const FAILURES_MAX: u32 = 3;
/// How long to wait before a commit is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// The id of a checkpoint's record, which is about nothing else.
const NOTE: log::Id = [0; 32];

/// How far the index is.
pub struct Progress {
    /// Up to where it is committed.
    pub position: Position,
    /// Bytes the log had then.
    bytes: u64,
    /// Why the last commit failed, if it did.
    pub failure: Option<String>,
    failures: u32,
    is_running: bool,
}

impl Progress {
    pub fn new(position: Position) -> Self {
        Self { position, bytes: 0, failure: None, failures: 0, is_running: false }
    }
}

pub fn position(checkpoint: Checkpoint) -> Position {
    Position { segment: checkpoint.segment, offset: checkpoint.offset as u32, sequence: checkpoint.sequence }
}

pub fn checkpoint(position: Position) -> Checkpoint {
    Checkpoint { segment: position.segment, offset: u64::from(position.offset), sequence: position.sequence }
}

/// What a checkpoint's record says.
fn encode_note(position: Position) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[0..8].copy_from_slice(&position.segment.to_le_bytes());
    bytes[8..12].copy_from_slice(&position.offset.to_le_bytes());
    bytes[16..24].copy_from_slice(&position.sequence.to_le_bytes());
    bytes
}

/// Reads what a checkpoint's record says.
pub fn decode_note(bytes: &[u8]) -> Option<Position> {
    let bytes: &[u8; 24] = bytes.try_into().ok()?;
    let number =
        |range: std::ops::Range<usize>| bytes[range].iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte));
    Some(Position { segment: number(0..8), offset: number(8..12) as u32, sequence: number(16..24) })
}

/// Commits whenever it is time, until the lane is gone.
pub async fn keep_committing(lane: Weak<Inner>, wanted: Rc<Bell>, every: Duration) {
    loop {
        // Whoever waits here doesn't keep the lane open.
        let rung = time::timeout(every, wanted.rung()).await;
        let Some(lane) = lane.upgrade().map(Lane) else { return };
        let waits = lane.0.state.index.borrow().pressure().entries() > 0;
        if (waits && rung.is_err() || lane.is_commit_due()) && lane.commit().await.is_err() {
            time::sleep(RETRY).await;
        }
        if let Some(failure) = lane.0.state.failure() {
            lane.0.log.poison(&format!("its index can't be read ({failure})"));
        }
    }
}

impl Lane {
    /// Commits the index up to what is durable now. Returns at once if there is nothing to commit.
    ///
    /// # Errors
    /// If it can't be committed. Nothing is lost: it is tried again, and the log has everything.
    pub async fn commit(&self) -> Result<(), LaneError> {
        while self.0.commit.borrow().is_running {
            self.0.committed.rung().await;
        }
        let running = Running::new(&self.0);
        let result = self.commit_now().await;
        drop(running);
        result
    }

    async fn commit_now(&self) -> Result<(), LaneError> {
        let Inner { state, log, commit: progress, .. } = &*self.0;
        state.flush_usage()?;
        let at = log.applied();
        let bytes = log.stats().batch_bytes;
        let Some(commit) = state.index.borrow_mut().freeze(checkpoint(at)) else { return Ok(()) };
        let committed = blocking::run(move || commit.run()).await.map_err(std::io::Error::other)?;
        let finished = state.index.borrow_mut().finish(committed);
        match finished {
            Ok(retired) => {
                // Freeing a large layer takes milliseconds, which the core has no need to spend.
                spawn(Class::Maintenance, async move { drop(blocking::run(move || drop(retired)).await) }).detach();
                let position = state.index.borrow().checkpoint().map(position).unwrap_or_default();
                *progress.borrow_mut() = Progress { position, bytes, failure: None, failures: 0, is_running: true };
                // Without it recovery does the same, only with less proof.
                let _ = self.note(position).await;
                if !self.0.has_ballast.get() {
                    self.0.keep_ballast().await;
                }
                Ok(())
            }
            Err(error) => {
                let failures = {
                    let mut progress = progress.borrow_mut();
                    progress.failure = Some(error.to_string());
                    progress.failures += u32::from(!error.is_no_room());
                    progress.failures
                };
                if let CommitError::DiskFull(_) = &error {
                    // The room that was kept for this moment.
                    let _ = self.0.dir.remove(BALLAST).await;
                    self.0.has_ballast.set(false);
                }
                if failures >= FAILURES_MAX {
                    log.poison(&format!("its index can't be committed ({error})"));
                }
                Err(error.into())
            }
        }
    }

    /// Writes into the log how far the index is: for people, and as a proof that all before was durable.
    pub(super) async fn note(&self, position: Position) -> Result<(), LaneError> {
        let payload = Payload::Bytes(encode_note(position).to_vec().into());
        self.0.log.append(Record { kind: Kind::Checkpoint, id: NOTE, payload }, Room::Last).await?;
        Ok(())
    }

    /// Whether enough waits that the index should be committed now.
    fn is_commit_due(&self) -> bool {
        let entries = self.0.state.index.borrow().pressure().active_entries;
        let grown = self.0.log.stats().batch_bytes.saturating_sub(self.0.commit.borrow().bytes);
        entries >= self.0.options.commit_entries || grown >= self.0.options.commit_bytes
    }

    /// Has the index committed if that is due.
    pub(super) fn ask_for_commit(&self) {
        if self.is_commit_due() {
            self.0.wanted.ring();
        }
    }

    /// Whether the index is too far behind.
    pub(super) fn is_index_far(&self) -> bool {
        self.0.state.index.borrow().pressure().entries() >= self.0.options.commit_entries * 4
    }

    /// Waits while the index is too far behind.
    pub(super) async fn wait_for_index(&self) -> Result<(), LaneError> {
        self.ask_for_commit();
        while self.is_index_far() {
            if let Some(reason) = self.0.log.poisoned() {
                return Err(log::LogError::Poisoned(reason).into());
            }
            if self.0.task.borrow().is_none() {
                return Err(log::LogError::Closed.into());
            }
            if self.0.commit.borrow().failure.is_some() {
                return Err(log::LogError::NoRoom("the index can't be committed").into());
            }
            self.0.wanted.ring();
            self.0.committed.rung().await;
        }
        Ok(())
    }
}

/// A commit that is under way; others wait.
struct Running(Rc<Inner>);

impl Running {
    fn new(inner: &Rc<Inner>) -> Self {
        inner.commit.borrow_mut().is_running = true;
        Self(inner.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.commit.borrow_mut().is_running = false;
        self.0.committed.ring();
    }
}

impl Inner {
    /// Keeps some room on the disk, to give back when the index can't be committed for want of it.
    pub(super) async fn keep_ballast(&self) {
        let bytes = self.options.ballast;
        if bytes == 0 {
            return self.has_ballast.set(true);
        }
        let space = self.dir.space().await;
        if !space.is_ok_and(|space| space.free > self.options.log.keep_free.saturating_add(bytes)) {
            return;
        }
        if let Ok(file) = self.dir.open_file(BALLAST, Mode::Create).await {
            // Without room for it there is none to keep; a later commit tries again.
            self.has_ballast.set(file.allocate(0, bytes).await.is_ok());
        }
    }
}
