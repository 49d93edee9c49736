//! What can go wrong, sorted by what the caller does about it.

use std::path::PathBuf;

use super::chunk::Hex;
use super::table::Stored;

/// A read or an update failed. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller's mistake: LMDB has keys of 1 to [`KEY_MAX`] bytes.
    #[error("a key of {length} bytes in table {table}: keys have 1 to {KEY_MAX} bytes")]
    KeyLength {
        /// The table's name.
        table: &'static str,
        /// The key's length.
        length: usize,
    },
    /// The caller's mistake: chunks are changed with `put_chunk` and `drop_chunk`, which keep the digests.
    #[error("table chunks is changed with put_chunk and drop_chunk only")]
    Typed,
    /// Stored bytes mean nothing: the index is corrupt, the log is not.
    #[error("table {table}, key {key}: {reason}; the index is corrupt: run `cairn fsck --rebuild`")]
    Undecodable {
        /// The table's name.
        table: &'static str,
        /// The key, in hexadecimal digits.
        key: String,
        /// What is wrong with the value.
        reason: &'static str,
    },
    /// The store can't be read: stop the lane.
    #[error("can't read the index: {0}")]
    Unreadable(String),
    /// Rows that a newer Cairn wrote, or a command that lets it: this replica can't go on with them.
    #[error("{what} has level {level}, this program knows levels up to {known}: install the Cairn that the others run")]
    Newer {
        /// What can't be understood.
        what: &'static str,
        /// Its level.
        level: u16,
        /// The highest that is known here.
        known: u16,
    },
}

/// The longest key that LMDB takes, built with `longer-keys`, where pages have 4 KiB; with larger pages it would take more.
pub const KEY_MAX: usize = 1982;

impl Error {
    /// A machine's row that means nothing.
    pub(crate) fn row(key: &[u8], reason: &'static str) -> Self {
        Self::undecodable(Stored::Table(super::Table::State), key, reason)
    }

    pub(super) fn undecodable(table: Stored, key: &[u8], reason: &'static str) -> Self {
        Self::Undecodable { table: table.name(), key: Hex(key).to_string(), reason }
    }
}

/// An index can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The number of partitions is fixed when an index is made.
    #[error(
        "the index was made for {stored} partitions and is opened with {asked}: give it the number that its cluster was \
         born with"
    )]
    Partitions {
        /// What the index has.
        stored: u32,
        /// What the caller wants.
        asked: u32,
    },
    /// The caller's mistake.
    #[error("{0} partitions: the index needs a power of two up to {PARTITIONS_MAX}")]
    PartitionCount(u32),
    /// Not an index, or one that is corrupt or of another format. The log has everything to make it anew.
    #[error("the index in {} can't be used: {reason}; run `cairn fsck --rebuild`", dir.display())]
    Unusable {
        /// The index's directory.
        dir: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// This process has it open already, or a commit of the last one is still running.
    #[error("the index in {} is open already in this process", .0.display())]
    InUse(PathBuf),
    /// The system refused: rights, address space, the disk.
    #[error("can't open the index in {}: {reason}", dir.display())]
    System {
        /// The index's directory.
        dir: PathBuf,
        /// What the system says.
        reason: String,
    },
}

/// The largest number of partitions: their digests are kept in memory.
pub const PARTITIONS_MAX: u32 = 1 << 20;

/// A commit failed. Nothing is lost: its layer stays visible, and the next `freeze` hands it out again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// No room in the map of LMDB's file; `finish` has made it larger where it could, so retry at once.
    #[error("the index's memory map is full")]
    MapFull,
    /// No room on the disk: make some, then retry.
    #[error("no room for the index: {0}")]
    DiskFull(String),
    /// Anything else: the disk is not to be trusted.
    #[error("the index can't be committed: {0}")]
    Failed(String),
    /// The caller's mistake: this commit is not the one that the index waits for.
    #[error("a commit of another index")]
    Foreign,
}

impl CommitError {
    /// Whether room is all that is missing.
    pub fn is_no_room(&self) -> bool {
        matches!(self, Self::MapFull | Self::DiskFull(_))
    }
}
