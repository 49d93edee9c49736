//! Websites of buckets: the document that says what is shown for a path that ends with a slash, and for what isn't there.

use s3s::dto::WebsiteConfiguration;

use super::document;
use crate::s3::answer::Answer;
use crate::s3::body::Body;
use crate::s3::call::{Bucket, Call};
use crate::s3::error::{Code, Result, S3Error};
use crate::s3::xml::{read, write};

const DOCUMENT: &str = "website";

/// The document.
pub fn get(call: &Call) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, None)?;
    bucket
        .document(DOCUMENT)
        .map(Answer::xml)
        .ok_or_else(|| S3Error::from(Code::NoSuchWebsiteConfiguration).with("BucketName", bucket.name()))
}

/// Replaces it.
pub async fn put(call: &Call, body: &mut Body) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, None)?;
    let website: WebsiteConfiguration = read(&document(call, body).await?)?;
    if website.routing_rules.as_ref().is_some_and(|rules| !rules.is_empty()) {
        return Err(S3Error::not_implemented("A website with routing rules"));
    }
    match (&website.index_document, &website.redirect_all_requests_to) {
        (Some(index), None) if !index.suffix.is_empty() && !index.suffix.contains('/') => {}
        (Some(index), None) => {
            return Err(S3Error::argument(
                "IndexDocument",
                index.suffix.as_str(),
                "The IndexDocument Suffix is not well formed",
            ));
        }
        (None, Some(_)) if website.error_document.is_none() => {}
        _ => return Err(Code::MalformedXML.into()),
    }
    call.set_document(&bucket, DOCUMENT, Some(&write(&website))).await?;
    Ok(Answer::ok())
}

/// Removes it.
pub async fn delete(call: &Call) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, None)?;
    call.set_document(&bucket, DOCUMENT, None).await?;
    Ok(Answer::no_content())
}

/// What a bucket shows as a website; `None`: it is none.
pub fn of(bucket: &Bucket) -> Option<WebsiteConfiguration> {
    read(bucket.document(DOCUMENT)?.as_bytes()).ok()
}
