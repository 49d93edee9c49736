//! What a node does with writes to a bucket while it reaches nobody who leads their slot. S3 has no such setting: it is a word of
//! Cairn's own, `accept` or `reject`.

use bytes::Bytes;
use cairn_meta::control::bucket::Offline;

use super::document;
use crate::s3::answer::Answer;
use crate::s3::body::Body;
use crate::s3::call::Call;
use crate::s3::error::{Result, S3Error};

const WORDS: [(&str, Offline); 2] = [("accept", Offline::Accept), ("reject", Offline::Reject)];

/// Says which it is.
pub async fn get(call: &Call) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, None)?;
    let offline = bucket.record().settings.offline;
    let word = WORDS.iter().find(|(_, of)| *of == offline).map_or("", |(word, _)| *word);
    Ok(Answer::of_type("text/plain", Bytes::from_static(word.as_bytes())))
}

/// Sets it.
pub async fn put(call: &Call, body: &mut Body) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, None)?;
    let stated = document(call, body).await?;
    let stated = String::from_utf8_lossy(&stated);
    let wanted = WORDS.iter().find(|(word, _)| *word == stated.trim()).map(|(_, offline)| *offline);
    let wanted = wanted.ok_or_else(|| {
        S3Error::argument("x-cairn-offline", stated.trim(), "The body is one word: accept or reject.")
    })?;
    call.set(&bucket, |settings| {
        settings.offline = wanted;
        Ok(())
    })
    .await?;
    Ok(Answer::ok())
}
