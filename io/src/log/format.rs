//! The bytes of a log: superblock, segment header, batch, record. `docs/format.md` has the same tables.
//!
//! Everything is little-endian. Checksums are xxh3-64, seeded with the lane's salt, so that nothing of another lane
//! or of an earlier life of the disk passes for a record of this one. Parsing never panics, whatever the bytes.

use twox_hash::XxHash3_64;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::FormatError;

/// What batches, segment headers and large payloads begin at a multiple of.
pub const BLOCK: usize = 4096;
/// The version that this code writes; it reads all up to it.
pub const VERSION: u8 = 1;
/// The length of a record's header.
pub const HEADER: usize = 64;
/// A payload has one checksum for so many bytes, so that a part of it can be read and verified alone.
pub const SPAN: usize = 64 << 10;
/// Payloads of at least this length that come in aligned memory are written from where they are.
pub const IN_PLACE_MIN: usize = 64 << 10;
/// No payload is longer.
pub const PAYLOAD_MAX: usize = 16 << 20;
/// Records begin at a multiple of this.
pub const RECORD_ALIGN: usize = 8;
/// The smallest segment: room for its header and a batch of the smallest sense.
pub const SEGMENT_MIN: u32 = 64 << 10;
/// The largest segment.
pub const SEGMENT_MAX: u32 = 2 << 30;

/// All numbers of segments and records are below this, so that there is always a next one.
pub const NUMBER_MAX: u64 = 1 << 62;

const SUPERBLOCK_MAGIC: [u8; 8] = *b"CAIRNLNE";
const SEGMENT_MAGIC: [u8; 8] = *b"CAIRNSEG";
const RECORD_MAGIC: u32 = u32::from_le_bytes(*b"CRNR");
/// What the header of a batch that was cut off is overwritten with; the rest of its block becomes zeros. It says so, so
/// that the start after one whose sync failed writes it again.
pub const CUT_OFF: [u8; 4] = *b"CRNX";

/// The kind of a batch's header, which is a record of its own without a payload.
const BATCH: u8 = 0;
/// In a batch's flags: the first after a recovery. It doesn't follow the number before it but names it.
const RESTART: u8 = 1;
/// In a record's flags: the payload begins at the next multiple of [`BLOCK`].
const ALIGNED: u8 = 0x80;

/// Facts about a lane that never change, in the file `superblock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The cluster the lane belongs to; zeros while it belongs to none.
    pub cluster: [u8; 16],
    /// The node that formatted it.
    pub node: [u8; 16],
    /// Its own name, drawn at random; salts every checksum.
    pub lane: [u8; 16],
    /// Its number on its node.
    pub number: u32,
    /// The length of a segment file.
    pub segment_bytes: u32,
    /// When it was made: nanoseconds since the Unix epoch.
    pub created: u64,
}

impl Superblock {
    /// The file's content.
    pub fn encode(&self) -> [u8; BLOCK] {
        let mut bytes = [0; BLOCK];
        bytes[0..8].copy_from_slice(&SUPERBLOCK_MAGIC);
        bytes[8] = VERSION;
        bytes[12..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.cluster);
        bytes[32..48].copy_from_slice(&self.node);
        bytes[48..64].copy_from_slice(&self.lane);
        bytes[64..68].copy_from_slice(&self.segment_bytes.to_le_bytes());
        bytes[72..80].copy_from_slice(&self.created.to_le_bytes());
        let sum = xxh3_64_with_seed(&bytes[..504], 0);
        bytes[504..512].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads the file's content.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        if bytes.len() < 512 || bytes[0..8] != SUPERBLOCK_MAGIC {
            return Err(FormatError::NotALane);
        }
        check_version(bytes[8])?;
        if xxh3_64_with_seed(&bytes[..504], 0) != u64_at(bytes, 504) {
            return Err(FormatError::Damaged("the superblock's checksum doesn't match"));
        }
        let segment_bytes = u32_at(bytes, 64);
        if !(SEGMENT_MIN..=SEGMENT_MAX).contains(&segment_bytes) || !(segment_bytes as usize).is_multiple_of(BLOCK) {
            return Err(FormatError::Damaged("the superblock's segment length makes no sense"));
        }
        Ok(Self {
            cluster: array_at(bytes, 16),
            node: array_at(bytes, 32),
            lane: array_at(bytes, 48),
            number: u32_at(bytes, 12),
            segment_bytes,
            created: u64_at(bytes, 72),
        })
    }

    /// What seeds the lane's checksums.
    pub fn salt(&self) -> u64 {
        xxh3_64_with_seed(&self.lane, u64::from(self.number))
    }
}

/// The first block of a segment file: which part of the log it holds. It is within one sector, so it is never torn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Counts the segments of the lane; a recycled file gets a new one. 0: the file holds nothing.
    pub number: u64,
    /// The sequence number of its first record.
    pub first: u64,
    /// Everything below this sequence number was durable when the header was written.
    pub synced: u64,
}

/// What the first block of a segment file turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstBlock {
    /// Zeros: never used.
    Unused,
    /// A header.
    Header(SegmentHeader),
    /// Neither.
    Bad,
}

impl SegmentHeader {
    /// Writes the header into the first 512 bytes of `block`, the rest becomes zeros.
    pub fn encode_into(&self, salt: u64, block: &mut [u8]) {
        block.fill(0);
        block[0..8].copy_from_slice(&SEGMENT_MAGIC);
        block[8] = VERSION;
        block[16..24].copy_from_slice(&self.number.to_le_bytes());
        block[24..32].copy_from_slice(&self.first.to_le_bytes());
        block[32..40].copy_from_slice(&self.synced.to_le_bytes());
        let sum = xxh3_64_with_seed(&block[..40], salt);
        block[40..48].copy_from_slice(&sum.to_le_bytes());
    }

    /// Reads the first block of a segment file.
    pub fn decode(bytes: &[u8], salt: u64) -> Result<FirstBlock, FormatError> {
        if bytes.len() < 48 {
            return Ok(FirstBlock::Bad);
        }
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(FirstBlock::Unused);
        }
        if bytes[0..8] != SEGMENT_MAGIC || xxh3_64_with_seed(&bytes[..40], salt) != u64_at(bytes, 40) {
            return Ok(FirstBlock::Bad);
        }
        check_version(bytes[8])?;
        let header = Self { number: u64_at(bytes, 16), first: u64_at(bytes, 24), synced: u64_at(bytes, 32) };
        let numbers = [header.number, header.first, header.synced];
        Ok(match header.number {
            _ if numbers.iter().any(|number| *number >= NUMBER_MAX) => FirstBlock::Bad,
            0 => FirstBlock::Unused,
            _ => FirstBlock::Header(header),
        })
    }
}

/// The header of what is written and synced together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The sequence number of its first record.
    pub first: u64,
    /// For the first batch after a recovery: the number that would have followed.
    pub restarts: Option<u64>,
    /// Everything below this sequence number was durable when the batch was closed.
    pub synced: u64,
    /// The wall clock then: nanoseconds since the Unix epoch.
    pub wall: u64,
    /// Its length with header and padding, a multiple of [`BLOCK`].
    pub bytes: u32,
    /// How many records it has.
    pub records: u32,
    /// The number of its segment.
    pub segment: u64,
}

impl BatchHeader {
    /// The header's bytes.
    pub fn encode(&self, salt: u64) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..4].copy_from_slice(&RECORD_MAGIC.to_le_bytes());
        bytes[4] = VERSION;
        bytes[5] = BATCH;
        bytes[6] = if self.restarts.is_some() { RESTART } else { 0 };
        bytes[8..16].copy_from_slice(&self.restarts.unwrap_or(0).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.synced.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.wall.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.records.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.segment.to_le_bytes());
        let sum = xxh3_64_with_seed(&bytes[..56], salt);
        bytes[56..64].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads a batch's header; `None` if these bytes are none.
    pub fn decode(bytes: &[u8], salt: u64) -> Result<Option<Self>, FormatError> {
        if bytes.len() < HEADER || u32_at(bytes, 0) != RECORD_MAGIC || bytes[5] != BATCH {
            return Ok(None);
        }
        if xxh3_64_with_seed(&bytes[..56], salt) != u64_at(bytes, 56) {
            return Ok(None);
        }
        check_version(bytes[4])?;
        let header = Self {
            first: u64_at(bytes, 16),
            restarts: (bytes[6] & RESTART != 0).then(|| u64_at(bytes, 8)),
            synced: u64_at(bytes, 24),
            wall: u64_at(bytes, 32),
            bytes: u32_at(bytes, 40),
            records: u32_at(bytes, 44),
            segment: u64_at(bytes, 48),
        };
        let bytes = header.bytes as usize;
        let numbers = [header.first, header.restarts.unwrap_or(0), header.synced, header.segment];
        let makes_sense = bytes >= BLOCK
            && bytes.is_multiple_of(BLOCK)
            && header.records as usize <= bytes / HEADER
            && numbers.iter().all(|number| *number < NUMBER_MAX);
        Ok(makes_sense.then_some(header))
    }
}

/// What a record is. The numbers are on disk for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// A chunk's bytes, named by their hash.
    Chunk = 1,
    /// What was there under this id is there no more; the payload says which record, see [`Drop`].
    Drop = 2,
    /// An entry of a slot's Raft log.
    RaftEntry = 3,
    /// A slot's Raft vote and bounds of its log.
    RaftState = 4,
    /// A version, for rebuilding the index.
    Version = 5,
    /// A version that no leader has confirmed yet.
    Provisional = 6,
    /// How far the index was committed: for people and for fsck.
    Checkpoint = 7,
    /// Somebody stored a chunk again that was there: its age begins anew.
    Touch = 8,
    /// Rows of a slot, so that they are there when the Raft entries that made them are not.
    Rows = 9,
}

impl Kind {
    /// All kinds there are.
    pub const ALL: [Self; 9] = [
        Self::Chunk,
        Self::Drop,
        Self::RaftEntry,
        Self::RaftState,
        Self::Version,
        Self::Provisional,
        Self::Checkpoint,
        Self::Touch,
        Self::Rows,
    ];

    /// The kind with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// The name of what a record is about; what it means depends on the kind.
pub type Id = [u8; 32];

/// A record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// What it is.
    pub kind: Kind,
    /// Whether the payload begins at the next multiple of [`BLOCK`] instead of right behind the table.
    pub is_aligned: bool,
    /// The length of the extension between header and table: reserved for encryption and erasure coding.
    pub extension: u32,
    /// The payload's length in the log.
    pub stored: u32,
    /// The payload's length as it was handed in; another than `stored` once there is compression.
    pub length: u32,
    /// Its place in the order of all records of the lane.
    pub sequence: u64,
    /// What it is about.
    pub id: Id,
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRecord {
    /// The header or the table of checksums doesn't match.
    Header,
    /// It reaches beyond the bytes given.
    Cut,
}

impl RecordHeader {
    /// The length of header, extension and table.
    pub fn head(&self) -> usize {
        HEADER + self.extension as usize + spans(self.stored as usize) * 8
    }

    /// Where the payload of a record at `offset` of the segment begins, relative to the record.
    pub fn payload_at(&self, offset: usize) -> usize {
        if self.is_aligned { (offset + self.head()).next_multiple_of(BLOCK) - offset } else { self.head() }
    }

    /// The length of a record at `offset` of the segment, without padding behind it.
    pub fn extent(&self, offset: usize) -> usize {
        self.payload_at(offset) + self.stored as usize
    }

    /// Writes header and table (there is no extension yet) to the front of `out`.
    pub fn encode_into(&self, salt: u64, table: &[u64], out: &mut [u8]) {
        let (header, rest) = out.split_at_mut(HEADER);
        header[0..4].copy_from_slice(&RECORD_MAGIC.to_le_bytes());
        header[4] = VERSION;
        header[5] = self.kind as u8;
        header[6] = if self.is_aligned { ALIGNED } else { 0 };
        header[7] = (self.extension / 8) as u8;
        header[8..12].copy_from_slice(&self.stored.to_le_bytes());
        header[12..16].copy_from_slice(&self.length.to_le_bytes());
        header[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        header[24..56].copy_from_slice(&self.id);
        for (sum, place) in table.iter().zip(rest.chunks_exact_mut(8)) {
            place.copy_from_slice(&sum.to_le_bytes());
        }
        let sum = head_sum(&header[..56], &rest[..table.len() * 8], salt);
        header[56..64].copy_from_slice(&sum.to_le_bytes());
    }

    /// Reads header, extension and table from the front of `bytes`.
    pub fn decode(bytes: &[u8], salt: u64) -> Result<Result<Self, NoRecord>, FormatError> {
        if bytes.len() < HEADER {
            return Ok(Err(NoRecord::Cut));
        }
        if u32_at(bytes, 0) != RECORD_MAGIC || bytes[5] == BATCH {
            return Ok(Err(NoRecord::Header));
        }
        let (extension, stored) = (u32::from(bytes[7]) * 8, u32_at(bytes, 8));
        if stored as usize > PAYLOAD_MAX {
            return Ok(Err(NoRecord::Header));
        }
        let head = HEADER + extension as usize + spans(stored as usize) * 8;
        let Some(rest) = bytes.get(HEADER..head) else { return Ok(Err(NoRecord::Cut)) };
        if head_sum(&bytes[..56], rest, salt) != u64_at(bytes, 56) {
            return Ok(Err(NoRecord::Header));
        }
        // From here on it is what somebody wrote on purpose: what isn't known is newer than this code.
        check_version(bytes[4])?;
        let kind = Kind::from_number(bytes[5]).ok_or(FormatError::NewerKind(bytes[5]))?;
        let flags = bytes[6];
        if flags & !ALIGNED != 0 || extension != 0 {
            return Err(FormatError::NewerFeature { kind: bytes[5], flags: flags & !ALIGNED });
        }
        Ok(Ok(Self {
            kind,
            is_aligned: flags & ALIGNED != 0,
            extension,
            stored,
            length: u32_at(bytes, 12),
            sequence: u64_at(bytes, 16),
            id: array_at(bytes, 24),
        }))
    }

    /// The checksums of the payload's spans, out of the bytes that [`RecordHeader::decode`] accepted.
    pub fn table<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[HEADER + self.extension as usize..self.head()]
    }
}

/// How many checksums a payload of this length has.
pub fn spans(stored: usize) -> usize {
    stored.div_ceil(SPAN)
}

/// The checksum of one span of a payload: the same hash as that of headers, by code that finds out what the processor can
/// do, which halves its cost for long spans.
pub fn span_sum(span: &[u8], salt: u64) -> u64 {
    XxHash3_64::oneshot_with_seed(salt, span)
}

/// Whether these whole spans of a payload, beginning with number `first`, match their checksums.
pub fn spans_match(table: &[u8], first: usize, bytes: &[u8], salt: u64) -> bool {
    let mut sums = table.get(first * 8..).unwrap_or_default().chunks_exact(8);
    bytes.chunks(SPAN).all(|span| sums.next().is_some_and(|sum| u64_at(sum, 0) == span_sum(span, salt)))
}

/// What a [`Kind::Drop`] says besides the id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drop {
    /// The kind of what was dropped.
    pub of: Kind,
    /// Where the record lies that was dropped. All records of that kind and id up to there are gone; a later one isn't.
    /// While the segment exists the drop must exist too, or a rebuild would bring the record back.
    pub segment: u64,
    /// Where in that segment.
    pub offset: u32,
}

impl Drop {
    /// Its length.
    pub const BYTES: usize = 16;

    /// The payload.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0] = self.of as u8;
        bytes[4..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.segment.to_le_bytes());
        bytes
    }

    /// Reads the payload.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let of = Kind::from_number(*bytes.first()?)?;
        (bytes.len() == Self::BYTES).then(|| Self { of, segment: u64_at(bytes, 8), offset: u32_at(bytes, 4) })
    }
}

fn check_version(version: u8) -> Result<(), FormatError> {
    match version {
        1..=VERSION => Ok(()),
        newer => Err(FormatError::NewerVersion(newer)),
    }
}

fn head_sum(header: &[u8], rest: &[u8], salt: u64) -> u64 {
    let sum = xxh3_64_with_seed(header, salt);
    if rest.is_empty() { sum } else { xxh3_64_with_seed(rest, sum) }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a slice of N bytes is an array of N bytes")
}

#[test]
fn spans_and_headers_have_the_same_hash() {
    let bytes: Vec<u8> = (0..=SPAN).map(|at| (at * 31 + at / 251) as u8).collect();
    for length in (0..600).chain([1024, 4095, 4096, SPAN - 1, SPAN]) {
        let span = &bytes[..length];
        assert_eq!(span_sum(span, 7), xxh3_64_with_seed(span, 7), "{length} bytes");
    }
}
