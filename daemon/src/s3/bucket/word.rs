//! Settings of a bucket that S3 doesn't have, each one word: what becomes of writes and reads where nodes are away, or far. Two of
//! them are also headers, by which one request says otherwise.

use bytes::Bytes;
use cairn_meta::control::bucket::{Ack, BucketSettings, Offline, Reads};

use super::document;
use crate::s3::answer::Answer;
use crate::s3::body::Body;
use crate::s3::call::Call;
use crate::s3::error::{Result, S3Error};
use crate::s3::head::Head;

/// Such a setting.
pub struct Word<T: 'static> {
    /// What it is called in a query, and as a header.
    name: &'static str,
    /// What it may be.
    words: &'static [(&'static str, T)],
    of: fn(&mut BucketSettings) -> &mut T,
    wrong: &'static str,
}

/// What a node does with writes while it reaches nobody who leads their slot.
pub const OFFLINE: Word<Offline> = Word {
    name: "x-cairn-offline",
    words: &[("accept", Offline::Accept), ("reject", Offline::Reject)],
    of: |settings| &mut settings.offline,
    wrong: "It is accept or reject.",
};

/// How many nodes have what was written when its writer is answered.
pub const ACK: Word<Ack> = Word {
    name: "x-cairn-ack",
    words: &[("one", Ack::One), ("quorum", Ack::Quorum), ("all", Ack::All)],
    of: |settings| &mut settings.ack,
    wrong: "It is one, quorum or all.",
};

/// What readers are shown.
pub const READ: Word<Reads> = Word {
    name: "x-cairn-read",
    words: &[("preferred", Reads::Preferred), ("confirmed", Reads::Confirmed), ("local", Reads::Local)],
    of: |settings| &mut settings.read,
    wrong: "It is preferred, confirmed or local.",
};

impl<T: Copy + PartialEq> Word<T> {
    /// The word for a value.
    pub fn name_of(&self, value: T) -> &'static str {
        self.words.iter().find(|(_, of)| *of == value).map_or("", |(word, _)| *word)
    }

    /// What a request says in its header, if it does.
    ///
    /// # Errors
    /// If that is none of the words.
    pub fn stated(&self, head: &Head) -> Result<Option<T>> {
        head.only(self.name)?.map(|text| self.read(text)).transpose()
    }

    fn read(&self, text: &str) -> Result<T> {
        let found = self.words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        found.ok_or_else(|| S3Error::argument(self.name, text, self.wrong))
    }

    /// Says which it is for a bucket.
    pub fn get(&self, call: &Call) -> Result<Answer> {
        let bucket = call.bucket()?;
        call.allow_bucket(&bucket, None)?;
        let value = *(self.of)(&mut bucket.record().settings.clone());
        Ok(Answer::of_type("text/plain", Bytes::from_static(self.name_of(value).as_bytes())))
    }

    /// Sets it for a bucket.
    pub async fn put(&self, call: &Call, body: &mut Body) -> Result<Answer> {
        let bucket = call.bucket()?;
        call.allow_bucket(&bucket, None)?;
        let stated = document(call, body).await?;
        let wanted = self.read(String::from_utf8_lossy(&stated).trim())?;
        call.set(&bucket, |settings| {
            *(self.of)(settings) = wanted;
            Ok(())
        })
        .await?;
        Ok(Answer::ok())
    }
}
