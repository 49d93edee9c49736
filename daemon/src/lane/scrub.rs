//! Scrub: everything is read again within a period, at an even pace, and what is bad is quarantined.

use cairn_io::log::{Damage, Kind, Step};
use cairn_io::time::Duration;
use cairn_meta::index::{ChunkId, Table};

use super::paced::{Next, Paced};
use super::{Lane, LaneError, Verified};
use crate::actor::{Actor, Context, Failure, Stopped, Wake};

/// Within which all that is stored is read again.
pub const PERIOD: Duration = Duration::from_hours(14 * 24);

const CURSOR: &[u8] = b"scrub";

/// What a scrub of one segment found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Records that were read, and bytes of the segment.
    pub records: u64,
    /// See `records`.
    pub bytes: u64,
    /// Chunks that are quarantined now and weren't before.
    pub bad: Vec<ChunkId>,
    /// Bytes in which records can't be told any more.
    pub damage: Vec<Damage>,
}

/// The actor. Each time its schedule wakes it, it reads one segment: the schedule sets the pace, the budget the rate.
pub struct Scrub {
    /// The lane.
    pub lane: Lane,
}

/// What may be asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrubMessage {
    /// Read everything, now.
    All,
}

impl Actor for Scrub {
    type Message = ScrubMessage;

    async fn run(self, mut context: Context<Self::Message>) -> Result<(), Failure> {
        loop {
            let count = match context.next().await {
                Wake::Stop => return Ok(()),
                Wake::Message(ScrubMessage::All) => self.lane.0.log.segments().len(),
                Wake::Due => 1,
            };
            for _ in 0..count {
                let Some(segment) = self.lane.next_to_scrub()? else { break };
                context
                    .status()
                    .working(format!("segment {segment}"), "every record is read again within the period".to_owned());
                let scrubbed = self.lane.scrub_paying(segment, async |bytes| context.pay(bytes, 1).await).await?;
                if scrubbed.is_none() {
                    return Ok(());
                }
            }
        }
    }
}

impl Lane {
    /// How often one segment must be scrubbed so that all are within a period.
    pub fn scrub_every(&self, period: Duration) -> Duration {
        period / u32::try_from(self.0.log.segments().len().max(1)).unwrap_or(u32::MAX)
    }

    /// The segment behind the one that was scrubbed last, also across restarts.
    ///
    /// # Errors
    /// If the index can't be read.
    pub fn next_to_scrub(&self) -> Result<Option<u64>, LaneError> {
        let read = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_be_bytes);
        let last = self.0.state.index.borrow().get_with(Table::Lane, CURSOR, read)?.unwrap_or(0);
        let segments = self.0.log.segments();
        let next = segments.iter().find(|segment| segment.number > last).or(segments.first());
        Ok(next.map(|segment| segment.number))
    }

    fn scrubbed(&self, segment: u64) -> Result<(), LaneError> {
        Ok(self.0.state.index.borrow_mut().put(Table::Lane, CURSOR, &segment.to_be_bytes())?)
    }

    /// Reads all records of a segment and quarantines the chunks that are bad.
    ///
    /// # Errors
    /// If the segment can't be opened.
    pub async fn scrub(&self, segment: u64) -> Result<Scrubbed, LaneError> {
        let scrubbed = self.scrub_paying(segment, async |_| Ok(())).await?;
        Ok(scrubbed.unwrap_or_default())
    }

    async fn scrub_paying(
        &self,
        segment: u64,
        pay: impl AsyncFn(u64) -> Result<(), Stopped>,
    ) -> Result<Option<Scrubbed>, LaneError> {
        let mut scrubbed = Scrubbed::default();
        let mut records = Paced::new(self.0.log.scan(segment, None)?, pay);
        loop {
            match records.next(async || Ok(())).await? {
                Next::Step(Step::Record(found)) => {
                    scrubbed.records += 1;
                    let id = ChunkId(found.id);
                    // Dead records need not be whole: their room may have been given back.
                    if found.kind == Kind::Chunk && !found.is_whole && self.is_at(&id, found.location)? {
                        self.suspect(id, &mut scrubbed).await?;
                    }
                }
                Next::Step(Step::Damage(damage)) => scrubbed.damage.push(damage),
                Next::End => break,
                Next::Stopped => return Ok(None),
            }
        }
        scrubbed.bytes = records.offset();
        if !self.0.log.has_segment(segment) {
            // Freed meanwhile, and perhaps written to as another one.
            scrubbed.damage.clear();
        }
        // What lies in damaged bytes can't be told from them, but the index knows what should be there.
        if !scrubbed.damage.is_empty() {
            self.convict_within(segment, &mut scrubbed).await?;
        }
        self.scrubbed(segment)?;
        Ok(Some(scrubbed))
    }

    /// Quarantines the chunks that the index has in the damaged parts of a segment.
    async fn convict_within(&self, segment: u64, scrubbed: &mut Scrubbed) -> Result<(), LaneError> {
        for id in self.chunks_in(segment).await? {
            let Some(entry) = self.chunk(&id)?.filter(|entry| entry.segment == segment) else { continue };
            let is_within = |damage: &Damage| damage.bytes.contains(&u64::from(entry.offset));
            if scrubbed.damage.iter().any(is_within) {
                self.suspect(id, scrubbed).await?;
            }
        }
        Ok(())
    }

    /// Reads a chunk once more: the disk may have failed to read what is good.
    async fn suspect(&self, id: ChunkId, scrubbed: &mut Scrubbed) -> Result<(), LaneError> {
        if self.verify(&id).await? == Verified::Bad {
            scrubbed.bad.push(id);
        }
        Ok(())
    }
}
