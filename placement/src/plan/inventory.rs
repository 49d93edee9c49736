//! What nodes report to hold.

use std::collections::BTreeMap;

use crate::id::{NodeId, PartitionId};

/// Stands for the names of all chunks that a node holds of a partition: equal digests, equal chunks. For pieces too it is
/// made of the chunks' names, so that all pieces of the same chunks have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub u128);

/// When bytes were last read and found right. A number that grows with time; this crate has no clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Proof(pub u64);

/// What one node holds of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Of this partition,
    pub partition: PartitionId,
    /// this node
    pub node: NodeId,
    /// holds this piece, counted from 0; always 0 of whole copies,
    pub piece: u8,
    /// of these chunks,
    pub digest: Digest,
    /// which take so much room there.
    pub bytes: u64,
    /// The last proof, if there ever was one: without it a copy is no reason to delete another.
    pub proof: Option<Proof>,
}

/// What all nodes report, for one policy.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// In the order of partitions, then nodes.
    holdings: Vec<Holding>,
    /// Bytes that metadata says each partition has: so that one which nobody holds is missed.
    expected: BTreeMap<PartitionId, u64>,
}

impl Inventory {
    /// Of reports in any order. Of two reports of a node about a partition the first counts.
    pub fn new(mut holdings: Vec<Holding>) -> Self {
        holdings.sort_by_key(|holding| (holding.partition, holding.node));
        holdings.dedup_by_key(|holding| (holding.partition, holding.node));
        Self { holdings, expected: BTreeMap::new() }
    }

    /// Metadata knows of so many bytes in this partition (of one copy, or of one piece).
    pub fn expect(&mut self, partition: PartitionId, bytes: u64) {
        self.expected.insert(partition, bytes);
    }

    pub(super) fn expected(&self, partition: PartitionId) -> Option<u64> {
        self.expected.get(&partition).copied()
    }

    /// All reports of a partition.
    pub fn of(&self, partition: PartitionId) -> &[Holding] {
        let start = self.holdings.partition_point(|holding| holding.partition < partition);
        let end = start + self.holdings[start..].partition_point(|holding| holding.partition == partition);
        &self.holdings[start..end]
    }
}
