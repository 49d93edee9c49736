//! The list of uploads under way, by key and then by name.

use minicbor::{Decode, Encode};

use super::{Listed, Page, Position, Query, Within, behind_row, fill};
use crate::encoding::row;
use crate::index::Error;
use crate::rows::Rows;
use crate::slot::layout::{self, Space, of_upload};
use crate::slot::upload::UploadRow;
use crate::version::{Pair, UploadId};

/// An upload in a list.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct UploadEntry {
    /// The object's key.
    #[n(0)]
    pub key: String,
    /// Its name.
    #[n(1)]
    pub upload: UploadId,
    /// When it began, in milliseconds since the Unix epoch.
    #[n(2)]
    pub created: u64,
    /// Headers of the object to be, with what a gateway keeps there of its own.
    #[n(3)]
    pub headers: Vec<Pair>,
}

impl Listed for UploadEntry {
    fn order(&self) -> (&str, Within) {
        (&self.key, Within::upload(self.upload))
    }
}

/// A page of uploads.
///
/// # Errors
/// If rows can't be read.
pub fn uploads(rows: &dyn Rows, query: &Query) -> Result<Page<UploadEntry>, Error> {
    fill(rows, query, Space::Upload, range(query), entry)
}

/// A key has several rows here.
fn range(query: &Query) -> (Vec<u8>, Option<Vec<u8>>) {
    let (begin, end) = query.range(Space::Upload);
    match &query.after {
        Some(Position { name, within: Within::Item(upload) }) => {
            (begin.max(behind_row(of_upload(query.bucket, name, UploadId(upload.0)))), end)
        }
        _ => (begin, end),
    }
}

fn entry(at: &[u8], bytes: &[u8]) -> Result<UploadEntry, Error> {
    let wrong = || Error::row(at, "no key of an upload");
    let name = layout::read(at).ok_or_else(wrong)?;
    let (upload, _) = name.rest.and_then(layout::read_upload).ok_or_else(wrong)?;
    let UploadRow { content, created, .. } = row(at, bytes)?;
    Ok(UploadEntry { key: name.key, upload, created, headers: content.headers })
}
