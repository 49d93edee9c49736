//! Reading a segment at a pace: what an actor reads it pays for.

use cairn_io::log::{Scanner, Step};

use super::LaneError;
use crate::actor::{Rate, Stopped};

/// What compaction and scrub may read each second unless they are told otherwise. Compaction writes at most as much.
pub const BYTES_PER_SECOND: Rate = Rate::PerSecond(64 << 20);

/// Reads all records of a segment in order and pays for each piece that was read.
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

    pub async fn next(&mut self) -> Result<Next, LaneError> {
        let Some(step) = self.scanner.next().await? else { return Ok(Next::End) };
        let ahead = self.offset();
        if ahead > self.paid {
            if (self.pay)(ahead - self.paid).await.is_err() {
                return Ok(Next::Stopped);
            }
            self.paid = ahead;
        }
        Ok(Next::Step(step))
    }
}
