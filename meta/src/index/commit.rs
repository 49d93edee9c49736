//! Write-behind: a frozen layer on its way into the store.

use std::sync::Arc;

use super::digest::Digest;
use super::error::CommitError;
use super::layer::Layer;
use super::store::Writer;
use super::table::Table;

/// A position of the lane's log: every update up to it is in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Checkpoint {
    /// The segment of the log.
    pub segment: u64,
    /// Where in the segment replay begins.
    pub offset: u64,
    /// The log's sequence number there.
    pub sequence: u64,
}

const VERSION: u8 = 1;

impl Checkpoint {
    pub(super) fn encode(&self) -> [u8; 25] {
        let mut bytes = [VERSION; 25];
        for (at, field) in bytes[1..].chunks_exact_mut(8).zip([self.segment, self.offset, self.sequence]) {
            at.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (segment, rest) = rest.split_first_chunk()?;
        let (offset, rest) = rest.split_first_chunk()?;
        let sequence = rest.try_into().ok()?;
        let [segment, offset, sequence] = [*segment, *offset, sequence].map(u64::from_le_bytes);
        (*version == VERSION).then_some(Self { segment, offset, sequence })
    }
}

/// All that one commit writes. Nothing in it changes any more.
pub(super) struct Frozen {
    pub(super) layer: Layer,
    /// The digests that the layer changed, as they are with it; the key is the partition, big-endian.
    pub(super) digests: Vec<([u8; 4], Digest)>,
    /// Covers the layer.
    pub(super) checkpoint: Checkpoint,
}

impl Frozen {
    /// The layer's updates, table after table in the order of keys: LMDB then touches each page once.
    pub(super) fn updates(&self) -> impl Iterator<Item = (Table, &[u8], Option<&[u8]>)> {
        use std::ops::Bound::Unbounded;
        let entries =
            |table| self.layer.range(table, (Unbounded, Unbounded)).map(move |(key, value)| (table, key, value));
        Table::ALL.into_iter().flat_map(entries)
    }
}

/// A commit to be run on a helper thread: it blocks for as long as the disk takes.
#[must_use = "a commit that isn't run commits nothing"]
pub struct Commit {
    pub(super) frozen: Arc<Frozen>,
    pub(super) writer: Writer,
}

impl Commit {
    /// Writes everything in one transaction with a full sync.
    pub fn run(self) -> Committed {
        let Self { frozen, writer } = self;
        let result = writer.commit(&frozen);
        Committed { frozen, result }
    }

    /// How many updates it has to write.
    pub fn entries(&self) -> usize {
        self.frozen.layer.entries()
    }
}

/// A commit that was run; hand it to `finish`.
#[must_use = "the index doesn't know of a commit that isn't finished"]
pub struct Committed {
    pub(super) frozen: Arc<Frozen>,
    pub(super) result: Result<(), CommitError>,
}

/// A layer that is no longer needed. Freeing a large one takes milliseconds: drop it where that doesn't matter.
pub struct Retired {
    pub(super) _frozen: Arc<Frozen>,
}

#[test]
fn a_checkpoint_survives_its_encoding() {
    let checkpoint = Checkpoint { segment: 1, offset: u64::MAX, sequence: 1 << 40 };
    assert_eq!(Checkpoint::decode(&checkpoint.encode()), Some(checkpoint));
    assert_eq!(Checkpoint::decode(&[VERSION; 24]), None);
    assert_eq!(Checkpoint::decode(&[VERSION + 1; 25]), None);
}
