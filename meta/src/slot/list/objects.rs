//! The list of objects: keys whose preferred head is one. Deleted keys lie elsewhere and cost nothing.

use minicbor::{Decode, Encode};

use super::{Listed, Page, Query, Within, fill};
use crate::index::Error;
use crate::rows::Rows;
use crate::slot::layout::{self, Space};
use crate::slot::object::KeyFront;
use crate::version::VersionId;

/// An object in a list.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ObjectEntry {
    /// Its key.
    #[n(0)]
    pub key: String,
    /// Its preferred head.
    #[n(1)]
    pub id: VersionId,
    /// Its length in bytes.
    #[n(2)]
    pub size: u64,
    /// What S3 calls it.
    #[n(3)]
    pub etag: String,
    /// When it was made, in milliseconds since the Unix epoch.
    #[n(4)]
    pub modified: u64,
}

impl Listed for ObjectEntry {
    fn order(&self) -> (&str, Within) {
        (&self.key, Within::All)
    }
}

/// A page of objects. What expires is listed until its tombstone is written.
///
/// # Errors
/// If rows can't be read.
pub fn objects(rows: &dyn Rows, query: &Query) -> Result<Page<ObjectEntry>, Error> {
    fill(rows, query, Space::Object, query.range(Space::Object), entry)
}

fn entry(at: &[u8], bytes: &[u8]) -> Result<ObjectEntry, Error> {
    let name = layout::read(at).ok_or_else(|| Error::row(at, "no key of an object"))?;
    let front = KeyFront::read(bytes).map_err(|_| Error::row(at, "not what a machine writes there"))?;
    let KeyFront { id, modified, size, etag } = front;
    Ok(ObjectEntry { key: name.key, id, size, etag: etag.to_owned(), modified })
}
