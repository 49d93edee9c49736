//! The bytes of objects: from bodies into chunks, from chunks into answers, in bounded memory.

mod admission;
mod read;
mod store;

pub use admission::{Admission, Permit};
pub use read::{Begun, HELD_BYTES, Read, Source, Span};
pub use store::{Inline, Stored, Sums, store};

/// The length of a chunk; the last of an object is shorter.
pub const CHUNK_BYTES: usize = 4 << 20;

use super::error::{Code, S3Error};
use crate::disks::DisksError;

/// Why bytes can't be stored or read, in S3's words.
pub fn disk_error(error: &DisksError) -> S3Error {
    let is_full = matches!(error, DisksError::Lane(lane) if lane.is_no_room());
    if is_full {
        return Code::InsufficientStorage.says(error.to_string());
    }
    tracing::error!(%error, "chunks could not be stored or read");
    Code::InternalError.into()
}
