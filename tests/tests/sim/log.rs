//! A replica's log: ids in checksummed blocks of 4096 bytes, each durable before anybody is told.

use std::collections::BTreeSet;
use std::io;

use cairn_io::block;
use cairn_io::fs::{Dir, File, Mode};

/// Names one increment: the client and its count.
pub type Id = u64;

const BLOCK: usize = 4096;
/// Checksum, position, number of ids.
const HEADER: usize = 24;
pub const IDS_PER_BLOCK: usize = (BLOCK - HEADER) / 8;

pub struct Log {
    dir: Dir,
    file: File,
    position: u64,
}

/// What was found at start-up.
pub struct Found {
    pub ids: BTreeSet<Id>,
    /// Every block was whole. Otherwise something may be missing that others were told is here.
    pub is_whole: bool,
}

/// Reads what is there, without believing that it is durable.
pub async fn load(dir: &Dir) -> io::Result<Found> {
    let mut found = Found { ids: BTreeSet::new(), is_whole: true };
    let file = match dir.open_file("log", Mode::Read).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            found.is_whole = false;
            return Ok(found);
        }
        Err(error) => return Err(error),
    };
    let blocks = file.len().await?.div_ceil(BLOCK as u64);
    for position in 0..blocks {
        let bytes = file.read_at(position * BLOCK as u64, BLOCK).await?;
        match decode(&bytes, position) {
            Some(ids) => found.ids.extend(ids),
            None => found.is_whole = false,
        }
    }
    Ok(found)
}

impl Log {
    /// Starts a new log with `ids` in it, in the place of the old one.
    ///
    /// The old one is never written again: after a failed sync, what it shows may not be durable and a later sync
    /// would not make it so.
    pub async fn replace(dir: Dir, ids: &BTreeSet<Id>) -> io::Result<Self> {
        if dir.list().await?.iter().any(|name| name == "log.new") {
            dir.remove("log.new").await?;
        }
        let file = dir.open_file("log.new", Mode::CreateNew).await?;
        let mut log = Self { dir, file, position: 0 };
        let ids: Vec<Id> = ids.iter().copied().collect();
        for batch in ids.chunks(IDS_PER_BLOCK) {
            log.write(batch).await?;
        }
        log.file.sync_data().await?;
        log.dir.rename("log.new", "log").await?;
        log.dir.sync().await?;
        Ok(log)
    }

    /// Appends a batch of at most [`IDS_PER_BLOCK`]; durable when it returns.
    pub async fn append(&mut self, ids: &[Id]) -> io::Result<()> {
        self.write(ids).await?;
        self.file.sync_data().await
    }

    async fn write(&mut self, ids: &[Id]) -> io::Result<()> {
        let mut block = block::alloc(BLOCK).await?;
        encode(ids, self.position, &mut block);
        self.file.write_at(block.freeze(), self.position * BLOCK as u64).await?;
        self.position += 1;
        Ok(())
    }
}

fn encode(ids: &[Id], position: u64, block: &mut [u8]) {
    block.fill(0);
    put(block, 1, position);
    put(block, 2, ids.len() as u64);
    for (place, id) in ids.iter().enumerate() {
        put(block, 3 + place, *id);
    }
    let sum = checksum(&block[8..]);
    put(block, 0, sum);
}

fn decode(bytes: &[u8], position: u64) -> Option<Vec<Id>> {
    let whole = bytes.len() == BLOCK && get(bytes, 0) == checksum(&bytes[8..]) && get(bytes, 1) == position;
    let count = if whole { usize::try_from(get(bytes, 2)).ok()? } else { return None };
    Some((0..count.min(IDS_PER_BLOCK)).map(|place| get(bytes, 3 + place)).collect())
}

fn put(bytes: &mut [u8], place: usize, value: u64) {
    bytes[place * 8..place * 8 + 8].copy_from_slice(&value.to_le_bytes());
}

fn get(bytes: &[u8], place: usize) -> u64 {
    bytes[place * 8..place * 8 + 8].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// FNV-1a over words: enough to tell a torn block from a whole one.
fn checksum(bytes: &[u8]) -> u64 {
    let mix = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    (0..bytes.len() / 8).fold(0xcbf2_9ce4_8422_2325, |sum, place| mix(sum, get(bytes, place)))
}
