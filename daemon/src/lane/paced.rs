//! Reading a segment at a pace: what an actor reads it pays for.

use cairn_io::log::{Scanner, Step};

use super::LaneError;
use crate::actor::{Rate, Stopped};

/// What compaction and scrub may read each second unless they are told otherwise. Compaction writes at most as much.
pub const BYTES_PER_SECOND: Rate = Rate::PerSecond(64 << 20);

/// What is paid for at once, but for batches that are longer. Who pays a batch at a time waits between any two records.
const PIECE: u64 = 1 << 20;

/// Reads all records of a segment in order and pays for it in pieces.
pub struct Paced<P> {
    scanner: Scanner,
    pay: P,
    paid: u64,
}

/// What comes next.
pub enum Next {
    /// A record or damage.
    Step(Step),
    /// The end of the segment.
    End,
    /// Whoever pays is to stop.
    Stopped,
}

impl<P: AsyncFn(u64) -> Result<(), Stopped>> Paced<P> {
    pub fn new(scanner: Scanner, pay: P) -> Self {
        Self { scanner, pay, paid: 0 }
    }

    /// How far it has come, in bytes of the segment.
    pub fn offset(&self) -> u64 {
        self.scanner.offset() as u64
    }

    /// What comes next. If it must be paid for, which may take long, `before_paying` is run first: it lets go of what
    /// others wait for.
    pub async fn next(
        &mut self,
        before_paying: impl AsyncFnOnce() -> Result<(), LaneError>,
    ) -> Result<Next, LaneError> {
        let Some(step) = self.scanner.next().await? else { return Ok(Next::End) };
        let unpaid = self.offset().saturating_sub(self.paid);
        if unpaid > 0 {
            before_paying().await?;
            let piece = unpaid.max(PIECE.min((self.scanner.end() as u64).saturating_sub(self.paid)));
            if (self.pay)(piece).await.is_err() {
                return Ok(Next::Stopped);
            }
            self.paid += piece;
        }
        Ok(Next::Step(step))
    }
}
