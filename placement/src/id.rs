//! The names of things: nodes, partitions, slots, epochs. All are numbers; none is ever reused for something else.

use std::fmt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A node, for ever: chosen once when it joins. Ranking depends on it, so a node that gets another id is another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// The number of a map: a later one replaces an earlier one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// A group of chunks: the unit of placement, audit and repair of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartitionId(pub u32);

impl PartitionId {
    /// The partition of a chunk: the first 64 bits of its name, big-endian, as a fraction of `partitions`.
    /// Where `partitions` is a power of two these are the name's leading bits.
    pub fn of_chunk(name: &[u8; 32], partitions: u32) -> Self {
        let prefix = name[..8].iter().fold(0, |prefix, byte| (prefix << 8) | u64::from(*byte));
        Self(((u128::from(prefix) * u128::from(partitions)) >> 64) as u32)
    }
}

/// A shard of object metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SlotId(pub u32);

/// Keeps the hash of keys apart from every other use of the hash: "CAIRNKEY", little-endian.
const KEY_SEED: u64 = u64::from_le_bytes(*b"CAIRNKEY");

impl SlotId {
    /// The slot of an object: hash of bucket id (8 bytes, little-endian) and key, modulo `slots`.
    pub fn of_key(bucket: u64, key: &[u8], slots: u32) -> Self {
        let mut bytes = Vec::with_capacity(8 + key.len());
        bytes.extend_from_slice(&bucket.to_le_bytes());
        bytes.extend_from_slice(key);
        Self((xxh3_64_with_seed(&bytes, KEY_SEED) % u64::from(slots.max(1))) as u32)
    }
}

/// What is placed: a partition of data or a slot of metadata. The two are ranked independently of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// A partition of data.
    Partition(PartitionId),
    /// A slot of metadata.
    Slot(SlotId),
}

impl Group {
    /// Keeps partition 7 and slot 7 from having the same ranking: a name of 8 letters, little-endian.
    pub(crate) const fn seed(self) -> u64 {
        match self {
            Self::Partition(_) => u64::from_le_bytes(*b"CAIRNDAT"),
            Self::Slot(_) => u64::from_le_bytes(*b"CAIRNSLT"),
        }
    }

    pub(crate) fn number(self) -> u64 {
        match self {
            Self::Partition(PartitionId(number)) | Self::Slot(SlotId(number)) => u64::from(number),
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partition(PartitionId(number)) => write!(f, "partition {number}"),
            Self::Slot(SlotId(number)) => write!(f, "slot {number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunks_partition_is_its_leading_bits() {
        let mut name = [0xFF; 32];
        name[0] = 0xAB;
        name[1] = 0xC0;
        assert_eq!(PartitionId::of_chunk(&name, 4096), PartitionId(0xABC));
        assert_eq!(PartitionId::of_chunk(&[0xFF; 32], 1000), PartitionId(999), "the last, not one beyond");
        assert_eq!(PartitionId::of_chunk(&[0; 32], 1000), PartitionId(0));
    }

    #[test]
    fn no_number_of_slots_panics() {
        assert_eq!(SlotId::of_key(1, b"key", 0), SlotId(0));
        assert_ne!(SlotId::of_key(1, b"key", 256), SlotId::of_key(2, b"key", 256), "the bucket counts");
    }
}
