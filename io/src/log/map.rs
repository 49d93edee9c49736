//! Where a chain of batches gets its bytes: windows that are read ahead, or the file mapped, for tools that read a log
//! nobody writes to.

use std::io;
use std::ops::Range;

use bytes::Bytes;
use memmap2::{Advice, Mmap, MmapOptions};

use super::scan::Windows;
use crate::fs::File;

/// Brought into memory with one call.
const PIECE: usize = 4 << 20;

/// Bytes of a segment's file, whichever way they are read.
pub enum Source {
    /// Direct reads: for a log in use.
    Windows(Windows),
    /// The page cache: for a log that nobody writes to.
    Mapped(Mapped),
}

/// A mapped file. A page that the disk can't read would kill the process that touches it, so each piece is first brought into
/// memory by a call that fails instead; after a failure the rest is read by windows, which report what they can't read.
pub struct Mapped {
    bytes: Bytes,
    map: std::sync::Arc<Mmap>,
    file: File,
    end: usize,
    /// Which pieces are in memory.
    present: Vec<bool>,
}

/// Hands the mapping to [`Bytes`], which keep it while any part of it is in use.
struct Owner(std::sync::Arc<Mmap>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Source {
    /// Maps a file up to `end`; reads it by windows where it can't be mapped.
    pub fn map(file: &File, end: usize) -> Self {
        match map(file, end) {
            Ok(mapped) => Self::Mapped(mapped),
            Err(_) => Self::Windows(Windows::new(file.clone(), end)),
        }
    }

    /// Bytes of the file; fewer where it ends. What can't be read is zeros.
    pub async fn bytes(&mut self, offset: usize, len: usize) -> io::Result<Bytes> {
        if let Self::Mapped(mapped) = self {
            match mapped.bytes(offset, len) {
                Ok(bytes) => return Ok(bytes),
                Err(_) => *self = Self::Windows(Windows::new(mapped.file.clone(), mapped.end)),
            }
        }
        match self {
            Self::Windows(windows) => windows.bytes(offset, len).await,
            Self::Mapped(_) => unreachable!("a mapping that failed has been replaced"),
        }
    }

    /// Whether a part of this range couldn't be read.
    pub fn is_unreadable(&self, range: &Range<usize>) -> bool {
        match self {
            Self::Windows(windows) => windows.is_unreadable(range),
            Self::Mapped(_) => false,
        }
    }
}

impl Mapped {
    fn bytes(&mut self, offset: usize, len: usize) -> io::Result<Bytes> {
        let (from, to) = (offset.min(self.bytes.len()), (offset + len).min(self.bytes.len()));
        if from >= to {
            return Ok(Bytes::new());
        }
        for piece in from / PIECE..to.div_ceil(PIECE) {
            if !self.present[piece] {
                let at = piece * PIECE;
                self.map.advise_range(Advice::PopulateRead, at, PIECE.min(self.bytes.len() - at))?;
                self.present[piece] = true;
            }
        }
        Ok(self.bytes.slice(from..to))
    }
}

#[allow(unsafe_code, reason = "whoever maps a file must promise that nobody cuts it short")]
fn map(file: &File, end: usize) -> io::Result<Mapped> {
    let descriptor = file.descriptor().ok_or(io::ErrorKind::Unsupported)?;
    let length = nix::sys::stat::fstat(&*descriptor)?.st_size;
    let length = usize::try_from(length).map_err(io::Error::other)?.min(end);
    if length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // SAFETY: `Offline` alone maps files, those of a log that isn't in use: segments are never cut short, and their
    // bytes change only when a node writes to them, which its lock on the directory keeps from running beside `cairn
    // fsck`. `cairn log dump` says that it must not be given a lane in use; there, bytes that change under it are no worse
    // than damaged ones, which every parser here takes.
    let map = std::sync::Arc::new(unsafe { MmapOptions::new().len(length).map(&*descriptor)? });
    let bytes = Bytes::from_owner(Owner(map.clone()));
    Ok(Mapped { bytes, map, file: file.clone(), end, present: vec![false; length.div_ceil(PIECE)] })
}
