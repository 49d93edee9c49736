//! Signatures of version 2, which old programs still make: a keyed hash of a request's head, in a header or in the query.
//!
//! They cover neither the body nor the host, and only those parameters of the query that existed then. A request that asks for something
//! by another parameter is refused: whoever carries it could put that there.

use std::collections::BTreeMap;

use crate::cluster::Map;
use crate::s3::date;
use crate::s3::error::{Code, Result, S3Error};
use crate::s3::head::{Head, Target};
use crate::s3::op::is_meaningful;
use crate::s3::uri::decode;

use super::claim::{stated_date, too_skewed};
use super::{Version, Who, old_signature};

/// Parameters that are signed over if they are there, in their order.
const SIGNED: &[&str] = &[
    "accelerate",
    "acl",
    "analytics",
    "cors",
    "delete",
    "inventory",
    "lifecycle",
    "location",
    "logging",
    "metrics",
    "notification",
    "object-lock",
    "partNumber",
    "policy",
    "replication",
    "requestPayment",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "select",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "website",
];

/// What a request says about its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim<'h> {
    access: &'h str,
    signature: &'h str,
    /// The date as it is signed: that of the header, or when it ends.
    date: &'h str,
}

/// Whether a request is signed so.
pub fn is_old(head: &Head) -> bool {
    let in_header = || head.header("authorization").is_some_and(|text| text.starts_with("AWS "));
    let in_query = || head.query.has("Signature") && head.query.has("AWSAccessKeyId");
    in_header() || in_query()
}

/// Checks the signature of a request that is signed so.
///
/// # Errors
/// What S3 says of one that doesn't hold.
pub fn check(head: &Head, map: &Map, now: u64) -> Result<Who> {
    let in_query = ["Signature", "X-Amz-Algorithm", "X-Amz-Signature"].iter().any(|name| head.query.has(name));
    let claim = match (head.only("authorization")?, in_query) {
        (Some(_), true) => return Err(Code::InvalidArgument.says("Only one auth mechanism allowed")),
        (Some(text), false) => of_header(head, text, now)?,
        (None, _) => of_query(head, now)?,
    };
    let params = head.query.pairs().iter();
    if let Some((name, _)) = params.clone().find(|(name, _)| is_meaningful(name) && !SIGNED.contains(&name.as_str())) {
        return Err(Code::InvalidRequest
            .says(format!("Signatures of version 2 don't cover ?{name}. Please use AWS4-HMAC-SHA256.")));
    }
    let missing = || S3Error::from(Code::InvalidAccessKeyId).with("AWSAccessKeyId", claim.access);
    let key = map.key(claim.access).ok_or_else(missing)?;
    let is_signed_as = |text: &str| {
        Ok::<_, S3Error>(old_signature(&key.secret, &string_to_sign(head, claim.date, text)?, claim.signature))
    };
    let path = head.uri.path();
    // Clients name a bucket with a slash where they sign it, and send none.
    let is_bare_bucket = matches!(head.target, Target::Bucket(_)) && !path.ends_with('/');
    let holds = is_signed_as(path)? || (is_bare_bucket && is_signed_as(&format!("{path}/"))?);
    if !holds {
        return Err(S3Error::from(Code::SignatureDoesNotMatch).with("AWSAccessKeyId", claim.access));
    }
    Ok(Who::User { name: key.user.clone(), access: claim.access.to_owned(), signed: Version::Old })
}

fn of_header<'h>(head: &'h Head, text: &'h str, now: u64) -> Result<Claim<'h>> {
    let malformed = || {
        S3Error::argument(
            "Authorization",
            "",
            "AWS authorization header is invalid.  Expected AwsAccessKeyId:signature",
        )
    };
    let (access, signature) = text.strip_prefix("AWS ").unwrap_or(text).split_once(':').ok_or_else(malformed)?;
    too_skewed(stated_date(head)?, now)?;
    // What stands in a header of Amazon's is signed there.
    let date = if head.headers.contains_key("x-amz-date") { "" } else { head.only("date")?.unwrap_or_default() };
    Ok(Claim { access: access.trim(), signature: signature.trim(), date })
}

fn of_query(head: &Head, now: u64) -> Result<Claim<'_>> {
    let query = &head.query;
    let (access, signature) = (query.get("AWSAccessKeyId"), query.get("Signature"));
    let denied = || {
        Code::AccessDenied
            .says("Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters")
    };
    let (access, signature, stated) =
        (access.ok_or_else(denied)?, signature.ok_or_else(denied)?, query.get("Expires").ok_or_else(denied)?);
    let expires: u64 = stated
        .parse()
        .map_err(|_| Code::AccessDenied.says(format!("Invalid date (should be seconds since epoch): {stated}")))?;
    if now / 1000 > expires {
        return Err(Code::AccessDenied
            .says("Request has expired")
            .with("Expires", date::iso(expires.saturating_mul(1000)))
            .with("ServerTime", date::iso(now)));
    }
    Ok(Claim { access, signature, date: stated })
}

fn string_to_sign(head: &Head, date: &str, path: &str) -> Result<String> {
    let plain = |name: &str| head.only(name).map(Option::unwrap_or_default);
    let mut text = format!("{}\n{}\n{}\n{date}\n", head.method, plain("content-md5")?, plain("content-type")?);
    let mut headers: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in &head.headers {
        if !name.as_str().starts_with("x-amz-") {
            continue;
        }
        let value = String::from_utf8_lossy(value.as_bytes());
        let values = headers.entry(name.as_str()).or_default();
        if !values.is_empty() {
            values.push(',');
        }
        values.push_str(value.trim());
    }
    for (name, value) in &headers {
        text.extend([name, ":", value, "\n"]);
    }
    push_resource(&mut text, head, path)?;
    Ok(text)
}

/// What the request names, with the bucket wherever that stood, and the parameters that are signed.
fn push_resource(text: &mut String, head: &Head, path: &str) -> Result<()> {
    // A path that is the key and nothing more: the host names the bucket.
    if let Some(bucket) = head.bucket()
        && decode(path)?.strip_prefix('/') == Some(head.key())
    {
        text.extend(["/", bucket]);
    }
    text.push_str(path);
    let mut sign = '?';
    for name in SIGNED {
        let Some(value) = head.query.get(name) else { continue };
        text.push(sign);
        text.push_str(name);
        if !value.is_empty() {
            text.extend(["=", value]);
        }
        sign = '&';
    }
    Ok(())
}

#[test]
fn it_signs_what_the_other_side_signs() {
    let read = |method: &str, uri: &str, headers: &[(&str, &str)], domain: &str| {
        let mut request = hyper::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Head::read(request.body(()).unwrap().into_parts().0, &[domain.to_owned()]).unwrap()
    };
    // The examples that S3's documentation had, with their key.
    let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    let host = ("host", "johnsmith.s3.amazonaws.com");
    let cases = [
        (
            read("GET", "/photos/puppy.jpg", &[host, ("date", "Tue, 27 Mar 2007 19:36:42 +0000")], "s3.amazonaws.com"),
            "Tue, 27 Mar 2007 19:36:42 +0000",
            "bWq2s1WEIj+Ydj0vQ697zp+IXMU=",
        ),
        (
            read(
                "PUT",
                "/photos/puppy.jpg",
                &[host, ("content-type", "image/jpeg"), ("date", "Tue, 27 Mar 2007 21:15:45 +0000")],
                "s3.amazonaws.com",
            ),
            "Tue, 27 Mar 2007 21:15:45 +0000",
            "MyyxeRY7whkBe+bq8fHCL/2kKUg=",
        ),
        (
            read("GET", "/?acl", &[host], "s3.amazonaws.com"),
            "Tue, 27 Mar 2007 19:44:46 +0000",
            "c2WLPFtWHVgbEmeEG93a4cG37dM=",
        ),
    ];
    for (head, date, signature) in cases {
        let text = string_to_sign(&head, date, head.uri.path()).unwrap();
        assert!(old_signature(secret, &text, signature), "{text}");
    }
    let head = read("GET", "/b/b/k?prefix=x&versionId=%2B&acl", &[("x-amz-b", "2"), ("x-amz-a", "1")], "s3.test");
    assert_eq!(head.target, Target::Object("b".to_owned(), "b/k".to_owned()));
    let signed = "GET\n\n\nD\nx-amz-a:1\nx-amz-b:2\n/b/b/k?acl&versionId=+";
    assert_eq!(string_to_sign(&head, "D", head.uri.path()).unwrap(), signed);
}
