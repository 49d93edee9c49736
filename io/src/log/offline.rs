//! A log that nobody has open, only read: for people, for fsck, and for damaged disks.

use super::format::{BLOCK, BatchHeader, Id, Kind, SegmentHeader, Superblock, spans_match};
use super::map::Source;
use super::read::decode;
use super::recover::{self, Replayed, header_of, is_unused, read_or_ones};
use super::scan::{Chain, Scanner};
use super::segments::{Segments, name_of};
use super::{Apply, Damage, Location, Log, LogError, Options, Position, ReadError};
use crate::Block;
use crate::fs::{Dir, Mode};

/// A log on disk. Nothing here writes, makes a file or takes a lock.
pub struct Offline {
    superblock: Superblock,
    salt: u64,
    segments: Segments,
    headers: Vec<SegmentHeader>,
    files: Vec<SegmentFile>,
    damage: Vec<Damage>,
}

/// A file that is named as a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFile {
    /// Its name.
    pub name: String,
    /// Its length.
    pub length: u64,
    /// What it holds.
    pub state: FileState,
}

/// What a file that is named as a segment holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileState {
    /// A segment.
    Segment {
        /// The segment's number.
        number: u64,
        /// The sequence number of its first record.
        first: u64,
    },
    /// Nothing: it was made, or freed, and waits for use.
    Unused,
    /// Something else.
    Bad,
    /// The same segment as another file.
    Duplicate(u64),
    /// Nobody knows: it can't be opened, or the disk can't read its beginning.
    Unreadable(String),
}

impl Offline {
    /// Looks at a log's superblock and at the beginning of each of its segment files.
    ///
    /// # Errors
    /// If there is no superblock that this code can read, or a newer Cairn wrote the log.
    pub async fn open(dir: &Dir) -> Result<Self, LogError> {
        let superblock = Log::superblock_of(dir).await?;
        let salt = superblock.salt();
        let segments = Segments::new(dir.clone(), salt, superblock.segment_bytes, Options::default());
        let mut offline = Self { superblock, salt, segments, headers: vec![], files: vec![], damage: vec![] };
        for slot in Segments::files(dir).await? {
            let (length, state) = match offline.look(dir, slot).await {
                Err(LogError::Io(error)) => (0, FileState::Unreadable(error.to_string())),
                looked => looked?,
            };
            offline.files.push(SegmentFile { name: name_of(slot), length, state });
        }
        offline.headers.sort_unstable_by_key(|header| header.number);
        Ok(offline)
    }

    async fn look(&mut self, dir: &Dir, slot: u32) -> Result<(u64, FileState), LogError> {
        let file = Segments::open_file(dir, slot, Mode::Read).await?;
        let length = file.len().await?;
        let (first, unreadable) = read_or_ones(&file, 2 * BLOCK).await?;
        let (head, batch) = first.split_at(BLOCK.min(first.len()));
        let batch = BatchHeader::decode(batch, self.salt)?;
        if let Some(error) = unreadable
            && batch.is_none()
        {
            return Ok((length, FileState::Unreadable(error.to_string())));
        }
        let state = match header_of(head, batch, self.salt, &mut self.damage)? {
            Some(SegmentHeader { number, first, .. })
                if self.headers.iter().any(|other| other.number == number && other.first >= first) =>
            {
                FileState::Duplicate(number)
            }
            Some(header) => {
                // As a start would: the later one counts, the other was cut off.
                self.headers.retain(|other| other.number != header.number);
                for file in &mut self.files {
                    if matches!(file.state, FileState::Segment { number, .. } if number == header.number) {
                        file.state = FileState::Duplicate(header.number);
                    }
                }
                self.headers.push(header);
                self.segments.found(header.number, header.first, slot, file);
                FileState::Segment { number: header.number, first: header.first }
            }
            None if is_unused(head, self.salt)? => FileState::Unused,
            None => FileState::Bad,
        };
        Ok((length, state))
    }

    /// What never changes about it.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// All files that are named as segments, by name.
    pub fn files(&self) -> &[SegmentFile] {
        &self.files
    }

    /// The segments there are, by number.
    pub fn segments(&self) -> Vec<u64> {
        self.headers.iter().map(|header| header.number).collect()
    }

    /// Headers of segments that were found damaged; the segments' batches say what they are.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Reads all records of a segment in order, up to `end` or as far as they go. Behind the end of the log lies what
    /// was never finished, which looks like damage: [`Offline::replay`] tells where that is.
    ///
    /// # Errors
    /// [`ReadError::Missing`].
    pub fn scan(&self, segment: u64, end: Option<u64>) -> Result<Scanner, ReadError> {
        let found = self.segments.get(segment).ok_or(ReadError::Missing(segment))?;
        let bytes = self.superblock.segment_bytes as usize;
        let source = Source::map(&found.file, bytes);
        let chain = Chain::new(source, self.salt, segment, BLOCK, None);
        Ok(Scanner::new(chain, end.map_or(bytes, |end| end as usize), found.first, None))
    }

    /// Hands all records since `from` to `apply`, as opening the log would, but writes nothing: of what a start would cut
    /// off it only tells.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub async fn replay(&self, from: Option<Position>, apply: &Apply) -> Result<Replayed, LogError> {
        recover::replay(&self.segments, self.headers.clone(), self.salt, from, apply).await
    }

    /// Reads a whole payload and verifies it, and that it is this record.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read(&self, at: Location, kind: Kind, id: &Id) -> Result<Block, ReadError> {
        let found = self.segments.get(at.segment).ok_or(ReadError::Missing(at.segment))?;
        let (from, to) = (u64::from(at.offset), u64::from(at.offset) + u64::from(at.extent));
        if at.stored > at.extent || to > u64::from(self.superblock.segment_bytes) {
            // No place of this log; and a wild length would ask for as much memory.
            return Err(ReadError::Bad(at));
        }
        let bytes = found.file.read_at(from, at.extent as usize).await?;
        let header = decode(&bytes, at, kind, id, self.salt)?;
        let payload = bytes.slice(((at.extent - at.stored) as usize).min(bytes.len())..);
        if payload.len() != at.stored as usize || !spans_match(header.table(&bytes), 0, &payload, self.salt) {
            return Err(ReadError::Bad(at));
        }
        Ok(payload)
    }
}
