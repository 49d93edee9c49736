//! What a writer says about an object in headers.

use cairn_meta::version::{Content, Pair};

use super::{lock_of_request, tags_of_header};
use crate::s3::access::acl::Acl;
use crate::s3::access::{ACL_HEADER, Ownership, blocks, ownership};
use crate::s3::call::{Bucket, Call};
use crate::s3::error::{Code, Result, S3Error};
use crate::s3::head::Head;
use crate::s3::headers::TTL;

/// Headers that are kept and repeated as they came.
const REPEATED: [&str; 6] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
    "x-amz-website-redirect-location",
];
/// Of objects whose writer says nothing.
const TYPE_DEFAULT: &str = "binary/octet-stream";
/// Begins the headers of metadata.
pub const META: &str = "x-amz-meta-";
/// The longest that an object can be told to live, a hundred years: in seconds.
const TTL_MAX: u64 = 100 * 365 * 24 * 60 * 60;
/// Classes of storage that S3 knows. Here there is one.
const CLASSES: [&str; 2] = ["STANDARD", "REDUCED_REDUNDANCY"];

/// Whether a header, in small letters, is kept with an object.
pub fn is_kept(name: &str) -> bool {
    name == "content-type" || REPEATED.contains(&name)
}

/// Headers and metadata as a request states them.
///
/// # Errors
/// If one can't be kept.
pub fn stated_headers(head: &Head) -> Result<(Vec<Pair>, Vec<Pair>)> {
    let mut headers = vec![(
        "content-type".to_owned(),
        head.only("content-type")?.filter(|kind| !kind.is_empty()).unwrap_or(TYPE_DEFAULT).to_owned(),
    )];
    for name in REPEATED {
        let Some(value) = head.only(name)? else { continue };
        let value = if name == "content-encoding" { without_framing(value) } else { value.to_owned() };
        if !value.is_empty() {
            headers.push((name.to_owned(), value));
        }
    }
    if let Some(redirect) = head.only("x-amz-website-redirect-location")?
        && !(redirect.starts_with('/') || redirect.starts_with("http://") || redirect.starts_with("https://"))
    {
        return Err(Code::InvalidRequest
            .says("The website redirect location must have a prefix of 'http://' or 'https://' or '/'."));
    }
    check_class(head)?;
    Ok((headers, metadata(head)?))
}

fn metadata(head: &Head) -> Result<Vec<Pair>> {
    let mut found: Vec<Pair> = Vec::new();
    for (name, value) in &head.headers {
        let Some(name) = name.as_str().strip_prefix(META) else { continue };
        let value = std::str::from_utf8(value.as_bytes())
            .map_err(|_| S3Error::argument("x-amz-meta", name, "Metadata has to be UTF-8."))?
            .trim();
        match found.iter_mut().find(|(known, _)| known == name) {
            Some((_, values)) => values.extend([",", value]),
            None => found.push((name.to_owned(), value.to_owned())),
        }
    }
    Ok(found)
}

/// The encoding that is the object's own, not that of the way.
fn without_framing(value: &str) -> String {
    if !value.contains("aws-chunked") {
        return value.to_owned();
    }
    let own: Vec<&str> =
        value.split(',').map(str::trim).filter(|one| !one.is_empty() && *one != "aws-chunked").collect();
    own.join(", ")
}

fn check_class(head: &Head) -> Result<()> {
    match head.only("x-amz-storage-class")? {
        Some(class) if !CLASSES.contains(&class) => {
            Err(S3Error::from(Code::InvalidStorageClass).with("StorageClassRequested", class))
        }
        _ => Ok(()),
    }
}

/// All that a request says about the object to be, without bytes.
///
/// # Errors
/// If something can't be.
pub fn of_request(call: &Call, bucket: &Bucket) -> Result<Content> {
    let (mut headers, metadata) = stated_headers(&call.head)?;
    headers.extend(acl_of_request(call, bucket)?.map(|acl| (ACL_HEADER.to_owned(), acl.text())));
    let tags = call.head.only("x-amz-tagging")?.map_or(Ok(vec![]), tags_of_header)?;
    let lock = lock_of_request(call, bucket)?;
    Ok(Content { headers, metadata, tags, lock, expires: expiry_of_request(call)?, ..Content::default() })
}

/// When the object is to be gone, if the request says how long it is to live.
///
/// # Errors
/// If it says what can't be.
pub fn expiry_of_request(call: &Call) -> Result<Option<u64>> {
    let Some(text) = call.head.only(TTL)? else { return Ok(None) };
    let seconds = text.parse().ok().filter(|seconds| (1..=TTL_MAX).contains(seconds));
    let seconds =
        seconds.ok_or_else(|| S3Error::argument(TTL, text, format!("It is a number of seconds, 1 to {TTL_MAX}.")))?;
    Ok(Some(call.now + 1000 * seconds))
}

/// The list of a new object; `None`: the one that an owner's objects have anyway.
///
/// # Errors
/// If it may not be put.
pub fn acl_of_request(call: &Call, bucket: &Bucket) -> Result<Option<Acl>> {
    let owner = &bucket.record().owner;
    let writer = call.who.user().unwrap_or(owner);
    let stated = Acl::of_headers(&call.head, &call.map(), writer, owner)?;
    let gives_all = call.head.only("x-amz-acl")? == Some("bucket-owner-full-control");
    if let Some(acl) = &stated
        && acl.is_public()
        && blocks(bucket).acls
    {
        return Err(Code::AccessDenied.into());
    }
    match ownership(bucket) {
        Ownership::Enforced if stated.is_some() && !gives_all => Err(Code::AccessControlListNotSupported.into()),
        Ownership::Enforced => Ok(None),
        Ownership::Preferred if gives_all => Ok(None),
        Ownership::Preferred | Ownership::Writer => {
            let acl = stated.unwrap_or_else(|| Acl::private(writer));
            Ok(Some(acl).filter(|acl| *acl != Acl::private(owner)))
        }
    }
}
