//! Digests: what a lane holds of each partition, in a form that nodes can compare without listing chunks.

use cairn_placement::PartitionId;

use super::chunk::ChunkId;

/// What a lane holds of one partition. Equal digests mean equal chunks, unless someone finds hashes to that end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// Number of chunks.
    pub count: u64,
    /// Sum of their payloads' lengths.
    pub bytes: u64,
    /// XOR of their names.
    pub xor: [u8; 32],
}

const VERSION: u8 = 1;

pub(super) const ENCODED: usize = 49;

impl Digest {
    /// One more chunk.
    pub fn add(&mut self, id: &ChunkId, length: u32) {
        self.count = self.count.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(u64::from(length));
        self.mix(id);
    }

    /// One less.
    pub fn remove(&mut self, id: &ChunkId, length: u32) {
        self.count = self.count.wrapping_sub(1);
        self.bytes = self.bytes.wrapping_sub(u64::from(length));
        self.mix(id);
    }

    fn mix(&mut self, id: &ChunkId) {
        self.xor.iter_mut().zip(id.0).for_each(|(mixed, byte)| *mixed ^= byte);
    }

    pub(super) fn encode(&self) -> [u8; ENCODED] {
        let mut bytes = [0; ENCODED];
        bytes[0] = VERSION;
        bytes[1..9].copy_from_slice(&self.count.to_le_bytes());
        bytes[9..17].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[17..].copy_from_slice(&self.xor);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (count, rest) = rest.split_first_chunk()?;
        let (bytes, rest) = rest.split_first_chunk()?;
        let xor = rest.try_into().ok()?;
        (*version == VERSION).then_some(Self {
            count: u64::from_le_bytes(*count),
            bytes: u64::from_le_bytes(*bytes),
            xor,
        })
    }
}

/// The digests of all partitions, and which of them changed since the last freeze.
pub(super) struct Digests {
    all: Vec<Digest>,
    /// Each changed partition once.
    changed: Vec<u32>,
    is_changed: Vec<bool>,
}

impl Digests {
    pub(super) fn new(partitions: u32) -> Self {
        let partitions = partitions as usize;
        Self { all: vec![Digest::default(); partitions], changed: Vec::new(), is_changed: vec![false; partitions] }
    }

    pub(super) fn all(&self) -> &[Digest] {
        &self.all
    }

    /// As loaded: no change.
    pub(super) fn set(&mut self, partition: u32, digest: Digest) -> Option<()> {
        *self.all.get_mut(partition as usize)? = digest;
        Some(())
    }

    /// The chunk had the length `before` (`None`: it wasn't there) and has `after`.
    pub(super) fn replace(&mut self, id: &ChunkId, before: Option<u32>, after: Option<u32>) {
        if before == after {
            return;
        }
        let partition = PartitionId::of_chunk(&id.0, self.all.len() as u32).0;
        let digest = &mut self.all[partition as usize];
        before.into_iter().for_each(|length| digest.remove(id, length));
        after.into_iter().for_each(|length| digest.add(id, length));
        if !std::mem::replace(&mut self.is_changed[partition as usize], true) {
            self.changed.push(partition);
        }
    }

    /// The digests changed since the last call, in the order of partitions.
    pub(super) fn take_changed(&mut self) -> Vec<(u32, Digest)> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        changed.iter().for_each(|partition| self.is_changed[*partition as usize] = false);
        changed.into_iter().map(|partition| (partition, self.all[partition as usize])).collect()
    }
}

#[test]
fn a_digest_survives_its_encoding() {
    let digest = Digest { count: 3, bytes: u64::MAX, xor: [9; 32] };
    assert_eq!(Digest::decode(&digest.encode()), Some(digest));
    assert_eq!(Digest::decode(&[VERSION; ENCODED - 1]), None);
    assert_eq!(Digest::decode(&[VERSION; ENCODED + 1]), None);
    assert_eq!(Digest::decode(&[0; ENCODED]), None);
}

#[test]
fn what_came_and_went_leaves_nothing() {
    let mut digests = Digests::new(4);
    let id = ChunkId([0xFF; 32]);
    digests.replace(&id, None, Some(10));
    digests.replace(&id, Some(10), Some(12));
    assert_eq!(digests.all()[3], Digest { count: 1, bytes: 12, xor: [0xFF; 32] });
    assert_eq!(digests.take_changed().len(), 1, "named once");
    digests.replace(&id, Some(12), Some(12));
    assert!(digests.take_changed().is_empty(), "the same again is no change");
    digests.replace(&id, Some(12), None);
    assert_eq!(digests.take_changed(), [(3, Digest::default())]);
}
