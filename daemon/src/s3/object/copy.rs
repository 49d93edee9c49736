//! CopyObject: another version that lists the same bytes. Nothing is read and nothing moved.

use cairn_meta::slot::command::{Body as What, Which};
use cairn_meta::slot::query::{OfUpload, Parts, Query, Reply};
use cairn_meta::slot::read::Found;
use cairn_meta::version::{Chunk, Content, Payload};

use super::condition::{Conditions, write_mode};
use super::content::{acl_of_request, expiry_of_request};
use super::{lock_of_request, quoted, stated_headers, tags_of_header, written};
use crate::s3::access::acl::Permission;
use crate::s3::access::{ACL_HEADER, Verdict};
use crate::s3::answer::Answer;
use crate::s3::call::{Bucket, Call, names_versions, version_name, which};
use crate::s3::date;
use crate::s3::error::{Code, Result, S3Error};
use crate::s3::hash::Algorithm;
use crate::s3::head::{Head, KEY_MAX};
use crate::s3::uri::decode;
use crate::s3::xml::Xml;

/// The largest object that is copied by one request, as S3 has it.
const COPY_MAX: u64 = 5 << 30;
/// Rows of parts that are fetched at once.
const PARTS_AT_ONCE: u32 = 256;

/// What is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its bucket.
    pub bucket: String,
    /// Its key.
    pub key: String,
    /// Its version; `None`: the one that is shown.
    pub which: Option<Which>,
}

impl Origin {
    /// Reads `x-amz-copy-source`.
    ///
    /// # Errors
    /// If it names nothing.
    pub fn read(head: &Head) -> Result<Self> {
        let text = head.only("x-amz-copy-source")?.unwrap_or_default();
        let wrong = || {
            S3Error::argument(
                "x-amz-copy-source",
                text,
                "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
            )
        };
        let (path, version) = match text.rsplit_once("?versionId=") {
            Some((path, version)) => (path, Some(version)),
            None => (text, None),
        };
        let path = decode(path).map_err(|_| wrong())?;
        let (bucket, key) = path.strip_prefix('/').unwrap_or(&path).split_once('/').ok_or_else(wrong)?;
        if bucket.is_empty() || key.is_empty() || key.len() > KEY_MAX {
            return Err(wrong());
        }
        let which = version.map(which).transpose()?;
        Ok(Self { bucket: bucket.to_owned(), key: key.to_owned(), which })
    }
}

/// Finds what is to be copied, if who asks may read it and its conditions hold.
///
/// # Errors
/// What S3 says if not.
pub async fn origin(call: &Call) -> Result<(Bucket, Found)> {
    let origin = Origin::read(&call.head)?;
    call.gateway.know_bucket(Some(&origin.bucket)).await?;
    let bucket = call.bucket_named(&origin.bucket)?;
    if let Some(expected) = call.head.only("x-amz-source-expected-bucket-owner")?
        && expected != bucket.record().owner
    {
        return Err(Code::AccessDenied.into());
    }
    let action = if origin.which.is_some() { "s3:GetObjectVersion" } else { "s3:GetObject" };
    let verdict = call.verdict_on(&bucket, action, &origin.key, origin.which).await?;
    if verdict == Verdict::Denied {
        return Err(Code::AccessDenied.into());
    }
    let found = call.read_object(&bucket, &origin.key, origin.which).await;
    let found = found.map_err(|error| match error.code() {
        Code::MethodNotAllowed => Code::InvalidRequest
            .says("The source of a copy request may not specifically refer to a delete marker by version id."),
        _ => call.missing(&bucket, &origin.key, verdict, error),
    })?;
    call.allow_object(&bucket, &found.version, verdict, Permission::Read)?;
    Conditions::read(&call.head, "x-amz-copy-source-")?.check(&found.version).map_err(|error| match error.code() {
        Code::NotModified => Code::PreconditionFailed.into(),
        _ => error,
    })?;
    Ok((bucket, found))
}

/// Copies an object.
pub async fn copy(call: &Call) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_write(&bucket, call.key())?;
    let mode = write_mode(&call.head)?;
    let (from, found) = origin(call).await?;
    let source = &found.version.content;
    if source.size > COPY_MAX {
        return Err(Code::InvalidRequest.says(
            "The specified copy source is larger than the maximum allowable size for a copy source: 5368709120",
        ));
    }
    let replaces = replaces(&call.head, "x-amz-metadata-directive")?;
    let is_itself = from.name() == bucket.name() && Origin::read(&call.head)?.key == call.key();
    let changes = replaces
        || ["x-amz-storage-class", "x-amz-website-redirect-location"]
            .iter()
            .any(|name| call.head.headers.contains_key(*name));
    if is_itself && !changes && Origin::read(&call.head)?.which.is_none() {
        return Err(Code::InvalidRequest.says("This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes."));
    }
    let origin_key = Origin::read(&call.head)?.key;
    let content = content_of(call, &bucket, (&from, &origin_key), source, replaces).await?;
    let (etag, sums) = (content.etag.clone(), content.checksums.clone());
    let commit = call.commit(&bucket, call.key(), mode, What::Object(content)).await?;
    let mut xml = Xml::root("CopyObjectResult");
    xml.text("LastModified", &date::iso(call.now)).text("ETag", &quoted(&etag));
    for sum in &sums {
        xml.maybe(Algorithm::find(&sum.algorithm).map_or("Checksum", Algorithm::element), Some(&sum.value));
    }
    let answer = Answer::xml(xml.end("CopyObjectResult"));
    let version = &found.version;
    let source_name = names_versions(&from).then(|| version_name(version.id, version.is_null));
    Ok(written(answer.maybe("x-amz-copy-source-version-id", source_name), &bucket, &commit))
}

/// What the copy says of itself.
async fn content_of(
    call: &Call,
    bucket: &Bucket,
    (from, key): (&Bucket, &str),
    source: &Content,
    replaces_words: bool,
) -> Result<Content> {
    let mut content = Content { parts: vec![], expires: expiry_of_request(call)?, ..source.clone() };
    if replaces_words {
        (content.headers, content.metadata) = stated_headers(&call.head)?;
    }
    content.headers.retain(|(name, _)| name != ACL_HEADER);
    content.headers.extend(acl_of_request(call, bucket)?.map(|acl| (ACL_HEADER.to_owned(), acl.text())));
    if let Some(redirect) = call.head.only("x-amz-website-redirect-location")?.filter(|_| !replaces_words) {
        content.headers.retain(|(name, _)| name != "x-amz-website-redirect-location");
        content.headers.push(("x-amz-website-redirect-location".to_owned(), redirect.to_owned()));
    }
    if replaces(&call.head, "x-amz-tagging-directive")? {
        content.tags = call.head.only("x-amz-tagging")?.map_or(Ok(vec![]), tags_of_header)?;
    }
    content.lock = lock_of_request(call, bucket)?;
    content.payload = match payload_chunks(call, from, key, source).await? {
        Some(chunks) => Payload::Chunks(chunks),
        None => content.payload,
    };
    Ok(content)
}

/// The chunks of an object, wherever they are listed; `None`: its bytes lie in the version.
///
/// # Errors
/// If they can't be read.
pub async fn payload_chunks(call: &Call, bucket: &Bucket, key: &str, content: &Content) -> Result<Option<Vec<Chunk>>> {
    let upload = match &content.payload {
        Payload::Inline(_) => return Ok(None),
        Payload::Chunks(chunks) => return Ok(Some(chunks.clone())),
        Payload::Parts(upload) => *upload,
    };
    let mut chunks = Vec::new();
    let mut behind = 0;
    loop {
        let of = OfUpload { bucket: bucket.record().id, key: key.to_owned(), upload };
        let query = Query::Parts { of, behind, limit: PARTS_AT_ONCE };
        let Reply::Parts(Parts { parts, more }) = call.query(bucket, key, &query).await? else {
            return Err(Code::InternalError.into());
        };
        behind = parts.last().map_or(behind, |(number, _)| *number);
        chunks.extend(parts.into_iter().flat_map(|(_, part)| part.chunks));
        if !more {
            break;
        }
    }
    let listed: u64 = chunks.iter().map(|chunk| u64::from(chunk.length)).sum();
    // It was replaced while its parts were read.
    if listed == content.size { Ok(Some(chunks)) } else { Err(Code::OperationAborted.into()) }
}

fn replaces(head: &Head, name: &str) -> Result<bool> {
    match head.only(name)? {
        None | Some("COPY") => Ok(false),
        Some("REPLACE") => Ok(true),
        Some(other) => Err(S3Error::argument(name, other, "Unknown directive.")),
    }
}
