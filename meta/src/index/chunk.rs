//! Chunks: their names and what the index says of each.

use std::fmt;

/// The name of a chunk: the BLAKE3-256 of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId(pub [u8; 32]);

impl fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Hex(&self.0), f)
    }
}

/// Bytes as people read them in messages.
pub(super) struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Where a chunk lies in the lane's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkEntry {
    /// The segment that holds the record.
    pub segment: u64,
    /// Where the record begins in the segment, in bytes.
    pub offset: u32,
    /// Length of the whole record in the log: header, checksums, payload.
    pub stored: u32,
    /// Length of the payload; what digests count.
    pub length: u32,
    /// The lane's own marks; 0 has no meaning.
    pub flags: u8,
    /// When someone last wanted the chunk kept, in seconds since 2020-01-01 UTC: garbage collection spares what was
    /// touched after it began. Enough until 2156.
    pub touched: u32,
}

/// Of the encoding below. Entries of an older version are read for ever; a new field means a new version.
const VERSION: u8 = 1;

pub(super) const ENCODED: usize = 26;

impl ChunkEntry {
    pub(super) fn encode(&self) -> [u8; ENCODED] {
        let mut bytes = [0; ENCODED];
        bytes[0] = VERSION;
        bytes[1..9].copy_from_slice(&self.segment.to_le_bytes());
        bytes[9..13].copy_from_slice(&self.offset.to_le_bytes());
        bytes[13..17].copy_from_slice(&self.stored.to_le_bytes());
        bytes[17..21].copy_from_slice(&self.length.to_le_bytes());
        bytes[21] = self.flags;
        bytes[22..26].copy_from_slice(&self.touched.to_le_bytes());
        bytes
    }

    /// Reads what the index stores of a chunk.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let bytes: &[u8; ENCODED] = match bytes {
            [VERSION, ..] => bytes.try_into().map_err(|_| "a chunk entry of version 1 has 26 bytes")?,
            [] => return Err("it is empty"),
            _ => return Err("a chunk entry of a version unknown here"),
        };
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Ok(Self {
            segment: u64::from(word(1)) | (u64::from(word(5)) << 32),
            offset: word(9),
            stored: word(13),
            length: word(17),
            flags: bytes[21],
            touched: word(22),
        })
    }
}

#[test]
fn an_entry_survives_its_encoding() {
    let entry = ChunkEntry {
        segment: 0x0102_0304_0506_0708,
        offset: u32::MAX,
        stored: 0x1122_3344,
        length: 7,
        flags: 0x80,
        touched: 0xAABB_CCDD,
    };
    let bytes = entry.encode();
    assert_eq!(ChunkEntry::decode(&bytes), Ok(entry));
    assert_eq!(bytes[..3], [1, 8, 7], "little-endian behind the version");
}

#[test]
fn other_bytes_are_refused() {
    assert!(ChunkEntry::decode(&[]).is_err());
    assert!(ChunkEntry::decode(&[VERSION; ENCODED - 1]).is_err());
    assert!(ChunkEntry::decode(&[VERSION; ENCODED + 1]).is_err());
    assert!(ChunkEntry::decode(&[VERSION + 1; ENCODED]).is_err());
}
