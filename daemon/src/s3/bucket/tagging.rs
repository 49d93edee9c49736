//! Tags of a bucket.

use crate::s3::answer::Answer;
use crate::s3::body::Body;
use crate::s3::call::Call;
use crate::s3::error::{Code, Result};
use crate::s3::object::{tags_of_xml, tags_xml};

use super::document;

const DOCUMENT: &str = "tagging";
const TAGS_MAX: usize = 50;

/// The tags.
pub async fn get(call: &Call) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, None)?;
    bucket.document(DOCUMENT).map(Answer::xml).ok_or_else(|| Code::NoSuchTagSet.into())
}

/// Replaces them.
pub async fn put(call: &Call, body: &mut Body) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, None)?;
    let tags = tags_of_xml(&document(call, body).await?, TAGS_MAX)?;
    call.set_document(&bucket, DOCUMENT, Some(&tags_xml(&tags))).await?;
    Ok(Answer::no_content())
}

/// Removes them.
pub async fn delete(call: &Call) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, None)?;
    call.set_document(&bucket, DOCUMENT, None).await?;
    Ok(Answer::no_content())
}
