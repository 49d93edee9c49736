//! What a slot can be asked: one question, one answer, both bytes where they travel between nodes.
//!
//! Answering changes nothing. How fresh the rows are is the asker's business. A program that doesn't know a question says
//! that it is malformed; newer nodes ask older ones only what the cluster's level allows.

use std::ops::ControlFlow;

use minicbor::{Decode, Encode};

use super::command::Part;
use super::layout::BucketId;
use super::list::{self, ConflictEntry, ObjectEntry, Page, UploadEntry, VersionEntry};
use super::object::BucketRow;
use super::read::{self, Found, Mode};
use super::upload::{self, UploadRow};
use crate::encoding::{Malformed, decode, encode};
use crate::index::Error;
use crate::rows::Rows;
use crate::version::{UploadId, Version};

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Query {
    /// One version of a key.
    #[n(0)]
    Read {
        /// Of this bucket.
        #[n(0)]
        bucket: BucketId,
        /// The key.
        #[n(1)]
        key: String,
        /// Which.
        #[n(2)]
        mode: Mode,
        /// Versions of the key that the asker holds as provisional.
        #[n(3)]
        local: Vec<Version>,
    },
    /// An upload under way.
    #[n(1)]
    Upload(#[n(0)] OfUpload),
    /// Some parts of an upload under way, or of an object made of one.
    #[n(2)]
    Parts {
        /// Of which.
        #[n(0)]
        of: OfUpload,
        /// Behind this number; 0: from the first.
        #[n(1)]
        behind: u16,
        /// The most.
        #[n(2)]
        limit: u32,
    },
    /// A page of objects.
    #[n(3)]
    Objects(#[n(0)] list::Query),
    /// A page of versions.
    #[n(4)]
    Versions(#[n(0)] list::Query),
    /// A page of uploads.
    #[n(5)]
    Uploads(#[n(0)] list::Query),
    /// What is counted of a bucket in this slot.
    #[n(6)]
    Tally(#[n(0)] BucketId),
    /// A page of conflicts.
    #[n(7)]
    Conflicts(#[n(0)] list::Query),
}

/// Names an upload.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct OfUpload {
    /// Of this bucket.
    #[n(0)]
    pub bucket: BucketId,
    /// The object's key.
    #[n(1)]
    pub key: String,
    /// Its name.
    #[n(2)]
    pub upload: UploadId,
}

/// Some parts of an upload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Parts {
    /// With their numbers, which rise.
    #[n(0)]
    pub parts: Vec<(u16, Part)>,
    /// Whether there are more behind the last.
    #[n(1)]
    pub more: bool,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Reply {
    /// The version, if there is one; it may be a deletion.
    #[n(0)]
    Read(#[n(0)] Option<Found>),
    /// The upload, if it is under way.
    #[n(1)]
    Upload(#[n(0)] Option<UploadRow>),
    /// Parts.
    #[n(2)]
    Parts(#[n(0)] Parts),
    /// A page of objects.
    #[n(3)]
    Objects(#[n(0)] Page<ObjectEntry>),
    /// A page of versions.
    #[n(4)]
    Versions(#[n(0)] Page<VersionEntry>),
    /// A page of uploads.
    #[n(5)]
    Uploads(#[n(0)] Page<UploadEntry>),
    /// What is counted.
    #[n(6)]
    Tally(#[n(0)] BucketRow),
    /// A page of conflicts.
    #[n(7)]
    Conflicts(#[n(0)] Page<ConflictEntry>),
}

impl Query {
    /// Answers it from these rows.
    ///
    /// # Errors
    /// If rows can't be read.
    pub fn answer(&self, rows: &dyn Rows) -> Result<Reply, Error> {
        Ok(match self {
            Self::Read { bucket, key, mode, local } => Reply::Read(read::read(rows, (*bucket, key), *mode, local)?),
            Self::Upload(of) => Reply::Upload(upload::load(rows, of.bucket, &of.key, of.upload)?),
            Self::Parts { of, behind, limit } => Reply::Parts(parts(rows, of, *behind, *limit)?),
            Self::Objects(query) => Reply::Objects(list::objects(rows, query)?),
            Self::Versions(query) => Reply::Versions(list::versions(rows, query)?),
            Self::Uploads(query) => Reply::Uploads(list::uploads(rows, query)?),
            Self::Conflicts(query) => Reply::Conflicts(list::conflicts(rows, query)?),
            Self::Tally(bucket) => Reply::Tally(BucketRow::load(rows, *bucket)?),
        })
    }

    /// The bytes of the question.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a question.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        decode(bytes)
    }
}

impl Reply {
    /// The bytes of the answer.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        decode(bytes)
    }
}

/// Parts behind a number, as many as asked for.
fn parts(rows: &dyn Rows, of: &OfUpload, behind: u16, limit: u32) -> Result<Parts, Error> {
    let mut found = Parts::default();
    upload::visit_parts(rows, (of.bucket, &of.key, of.upload), behind, &mut |number, part| {
        if found.parts.len() >= limit as usize {
            found.more = true;
            return ControlFlow::Break(());
        }
        found.parts.push((number, part));
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn questions_and_answers_read_back() {
        let of = OfUpload { bucket: 3, key: "k".to_owned(), upload: UploadId(7) };
        let list = list::Query {
            bucket: 3,
            prefix: "a/".to_owned(),
            delimiter: "/".to_owned(),
            after: Some(list::Position::behind("a/b")),
            limit: 10,
            upto: Some("a/c".to_owned()),
        };
        let rows = BTreeMap::new();
        let read = |mode| Query::Read { bucket: 3, key: "k".to_owned(), mode, local: vec![Version::default()] };
        let queries = [
            read(Mode::Preferred),
            read(Mode::At(8)),
            read(Mode::Exact(crate::version::VersionId(9))),
            Query::Upload(of.clone()),
            Query::Parts { of, behind: 4, limit: 2 },
            Query::Objects(list.clone()),
            Query::Versions(list.clone()),
            Query::Uploads(list.clone()),
            Query::Conflicts(list),
            Query::Tally(3),
        ];
        for query in queries {
            assert_eq!(Query::decode(&query.encode()), Ok(query.clone()));
            let reply = query.answer(&rows).unwrap();
            assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
        }
    }

    #[test]
    fn strange_questions_are_malformed() {
        for bytes in [&[][..], &[0x82, 0x18, 0xff, 0x80], &[0xff; 64]] {
            assert!(Query::decode(bytes).is_err() && Reply::decode(bytes).is_err());
        }
    }
}
