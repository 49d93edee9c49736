//! Headers of S3's: which are understood. One that isn't may change what a request means, so it is refused, never ignored.

use super::bucket::word::{ACK, READ};
use super::error::{Result, S3Error};
use super::hash::Algorithm;
use super::head::Head;
use super::op::Op;

/// Headers beginning with `x-amz-` that are understood where they matter, or say nothing that matters here.
const KNOWN: &[&str] = &[
    "x-amz-acl",
    // Which the SDK for C++ sends with everything; it never had another value.
    "x-amz-api-version",
    "x-amz-bucket-object-lock-enabled",
    "x-amz-bypass-governance-retention",
    "x-amz-checksum-algorithm",
    "x-amz-checksum-mode",
    "x-amz-checksum-type",
    "x-amz-content-sha256",
    "x-amz-copy-source",
    "x-amz-copy-source-if-match",
    "x-amz-copy-source-if-modified-since",
    "x-amz-copy-source-if-none-match",
    "x-amz-copy-source-if-unmodified-since",
    "x-amz-copy-source-range",
    "x-amz-confirm-remove-self-bucket-access",
    "x-amz-date",
    "x-amz-decoded-content-length",
    "x-amz-expected-bucket-owner",
    "x-amz-grant-full-control",
    "x-amz-grant-read",
    "x-amz-grant-read-acp",
    "x-amz-grant-write",
    "x-amz-grant-write-acp",
    "x-amz-if-match-last-modified-time",
    "x-amz-if-match-size",
    "x-amz-max-parts",
    "x-amz-metadata-directive",
    "x-amz-mp-object-size",
    "x-amz-object-attributes",
    "x-amz-object-lock-legal-hold",
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
    "x-amz-object-ownership",
    "x-amz-optional-object-attributes",
    "x-amz-part-number-marker",
    "x-amz-request-payer",
    "x-amz-sdk-checksum-algorithm",
    "x-amz-source-expected-bucket-owner",
    "x-amz-storage-class",
    "x-amz-tagging",
    "x-amz-tagging-directive",
    "x-amz-te",
    "x-amz-trailer",
    "x-amz-transition-default-minimum-object-size",
    "x-amz-user-agent",
    "x-amz-website-redirect-location",
];

/// Headers beginning with `x-cairn-` that are understood.
const OWN: &[&str] = &["x-cairn-read", "x-cairn-ack", "x-cairn-mode", "x-cairn-parents", TTL];
/// How long an object is to live, in seconds.
pub const TTL: &str = "x-cairn-ttl";

/// Refuses a request with headers that aren't understood, or not by what it asks for.
///
/// # Errors
/// 501 with the header's name, or 400 if one of Cairn's own is in the wrong place or says what isn't known.
pub fn check(head: &Head, op: Op) -> Result<()> {
    if let Some(name) = head.headers.keys().map(hyper::header::HeaderName::as_str).find(|name| !is_known(name)) {
        return Err(S3Error::not_implemented(&format!("The header {name}")).with("Header", name));
    }
    if let Some((name, value)) = head.headers.iter().find(|(name, _)| !is_for(name.as_str(), op)) {
        let value = String::from_utf8_lossy(value.as_bytes());
        let why = format!("{} doesn't know what to do with it.", op.name());
        return Err(S3Error::argument(name.as_str(), &*value, why));
    }
    ACK.stated(head)?;
    READ.stated(head)?;
    Ok(())
}

/// Whether an operation does what a header of Cairn's own asks for; those of S3's are for S3 to say.
fn is_for(name: &str, op: Op) -> bool {
    use Op::{CompleteMultipartUpload, CopyObject, CreateMultipartUpload, DeleteObject, PutObject};
    match name {
        "x-cairn-mode" | "x-cairn-parents" => {
            matches!(op, PutObject | CopyObject | CompleteMultipartUpload | DeleteObject)
        }
        TTL => matches!(op, PutObject | CopyObject | CreateMultipartUpload),
        _ => true,
    }
}

fn is_known(name: &str) -> bool {
    if let Some(rest) = name.strip_prefix("x-amz-") {
        let is_checksum = || Algorithm::ALL.iter().any(|one| one.header() == name);
        return rest.starts_with("meta-") || KNOWN.contains(&name) || is_checksum();
    }
    !name.starts_with("x-cairn-") || OWN.contains(&name)
}
