//! GetObject and HeadObject.

use cairn_meta::slot::read::Found;
use cairn_meta::version::{LockMode, Version};
use hyper::StatusCode;
use hyper::header::HeaderName;

use super::condition::Conditions;
use super::range::{Wanted, wanted};
use crate::s3::access::acl::Permission;
use crate::s3::access::{ACL_HEADER, Verdict};
use crate::s3::answer::{Answer, Out};
use crate::s3::call::{Bucket, Call};
use crate::s3::data::{HELD_BYTES, Source};
use crate::s3::date;
use crate::s3::error::{Code, Result, S3Error};
use crate::s3::hash::Algorithm;
use crate::s3::head::Head;
use crate::s3::op::Op;

/// An ETag as it is written.
pub fn quoted(etag: &str) -> String {
    ["\"", etag, "\""].concat()
}

/// Answers with an object.
pub async fn get(call: &Call) -> Result<Answer> {
    let (bucket, found) = shown(call, Permission::Read).await?;
    answer(call, &bucket, found).await
}

/// Answers with an object's headers.
pub async fn head(call: &Call) -> Result<Answer> {
    let (bucket, found) = shown(call, Permission::Read).await?;
    let (answer, length) = described(call, &bucket, &found)?;
    Ok(answer.with("content-length", length.to_string()))
}

/// The object that a request names, if who asks may have it.
///
/// # Errors
/// What S3 says if there is none, or it may not.
pub async fn shown(call: &Call, permission: Permission) -> Result<(Bucket, Found)> {
    let bucket = call.bucket()?;
    let verdict = call.object_verdict(&bucket)?;
    let found = call.read_object(&bucket, call.key(), call.which()?).await;
    let found = found.map_err(|error| call.missing(&bucket, verdict, error))?;
    call.allow_object(&bucket, &found.version, verdict, permission)?;
    Ok((bucket, found))
}

impl Call {
    /// What policy and ownership say of what is asked for.
    ///
    /// # Errors
    /// `AccessDenied`, if they say no: then it doesn't matter whether there is an object.
    pub fn object_verdict(&self, bucket: &Bucket) -> Result<Verdict> {
        self.allow_expected(bucket)?;
        let action = self.op.action(self.head.query.has("versionId"));
        match self.verdict(bucket, action, Some(self.key()))? {
            Verdict::Denied => Err(Code::AccessDenied.into()),
            other => Ok(other),
        }
    }
}

/// An object as an answer, whole or in part.
pub async fn answer(call: &Call, bucket: &Bucket, found: Found) -> Result<Answer> {
    let (mut answer, _) = described(call, bucket, &found)?;
    let content = found.version.content;
    let span = wanted(&call.head, &content)?.span(content.size);
    let length = span.end - span.start;
    let is_large = length > 64 << 10;
    let permit =
        if is_large { Some(call.gateway.admission().admit(HELD_BYTES.min(length as usize)).await?) } else { None };
    let source = Source { cluster: call.cluster().clone(), bucket: bucket.record.id, key: call.key().to_owned() };
    answer.body = Out::begun(source.begin(content, span, permit).await?, length);
    Ok(answer)
}

/// An answer's head, and how long its body is to be.
fn described(call: &Call, bucket: &Bucket, found: &Found) -> Result<(Answer, u64)> {
    let version = &found.version;
    let unchanged = |error: S3Error| match error.code() {
        // What hasn't changed still says what it is.
        Code::NotModified => header("etag", &quoted(&version.content.etag))
            .map_or(error.clone(), |(name, value)| error.header(name, value)),
        _ => error,
    };
    Conditions::read(&call.head, "")?.check(version).map_err(unchanged)?;
    let wanted = wanted(&call.head, &version.content)?;
    let span = wanted.span(version.content.size);
    let mut answer = of_version(
        version,
        &wanted,
        call.head.only("x-amz-checksum-mode")?.is_some_and(|mode| mode.eq_ignore_ascii_case("enabled")),
    );
    if wanted != Wanted::Whole && span.start != span.end {
        answer.status = StatusCode::PARTIAL_CONTENT;
        let last = span.end - 1;
        answer = answer.with("content-range", format!("bytes {}-{last}/{}", span.start, version.content.size));
    }
    override_headers(call, &mut answer)?;
    let answer = call.about(answer, bucket, found);
    Ok((conflict(answer, found), span.end - span.start))
}

/// Says which heads there are if they are several: whoever merges them names them all.
fn conflict(answer: Answer, found: &Found) -> Answer {
    if found.heads.len() < 2 {
        return answer;
    }
    let ids: Vec<String> = found.heads.iter().map(|head| head.id.to_string()).collect();
    answer.with("x-cairn-heads", ids.len().to_string()).with("x-cairn-head-ids", ids.join(","))
}

fn header(name: &'static str, value: &str) -> Option<(HeaderName, hyper::header::HeaderValue)> {
    Some((HeaderName::from_static(name), hyper::header::HeaderValue::from_str(value).ok()?))
}

/// What is said of a version whoever asks.
fn of_version(version: &Version, wanted: &Wanted, with_sums: bool) -> Answer {
    let content = &version.content;
    let mut answer = Answer::ok()
        .with("accept-ranges", "bytes")
        .with("etag", quoted(&content.etag))
        .with("last-modified", date::http(version.modified));
    for (name, value) in content.headers.iter().filter(|(name, _)| name != ACL_HEADER && !name.starts_with("x-cairn-"))
    {
        if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
            answer.set(name, value);
        }
    }
    for (name, value) in &content.metadata {
        if let Ok(name) = HeaderName::from_bytes(format!("x-amz-meta-{name}").as_bytes()) {
            answer.set(name, value);
        }
    }
    if !content.tags.is_empty() {
        answer = answer.with("x-amz-tagging-count", content.tags.len().to_string());
    }
    if let Wanted::Part(_, count @ 1..) = wanted {
        answer = answer.with("x-amz-mp-parts-count", count.to_string());
    }
    if with_sums && !matches!(wanted, Wanted::Range(_)) {
        answer = sums(answer, version);
    }
    locks(answer, version)
}

/// The checksums that a version keeps.
fn sums(mut answer: Answer, version: &Version) -> Answer {
    for sum in &version.content.checksums {
        let Some(algorithm) = Algorithm::find(&sum.algorithm) else { continue };
        let kind = if sum.value.contains('-') { "COMPOSITE" } else { "FULL_OBJECT" };
        answer = answer.with(algorithm.header(), &sum.value).with("x-amz-checksum-type", kind);
    }
    answer
}

fn locks(mut answer: Answer, version: &Version) -> Answer {
    let lock = &version.content.lock;
    if let Some(retention) = lock.retention {
        let mode = if retention.mode == LockMode::Compliance { "COMPLIANCE" } else { "GOVERNANCE" };
        answer = answer
            .with("x-amz-object-lock-mode", mode)
            .with("x-amz-object-lock-retain-until-date", date::iso(retention.until));
    }
    if lock.legal_hold { answer.with("x-amz-object-lock-legal-hold", "ON") } else { answer }
}

/// Headers that the query puts in the place of the object's own.
fn override_headers(call: &Call, answer: &mut Answer) -> Result<()> {
    const OVERRIDES: [(&str, &str); 6] = [
        ("response-content-type", "content-type"),
        ("response-content-language", "content-language"),
        ("response-expires", "expires"),
        ("response-cache-control", "cache-control"),
        ("response-content-disposition", "content-disposition"),
        ("response-content-encoding", "content-encoding"),
    ];
    let head: &Head = &call.head;
    for (param, name) in OVERRIDES {
        let Some(value) = head.query.get(param).filter(|_| matches!(call.op, Op::GetObject | Op::HeadObject)) else {
            continue;
        };
        if call.who.user().is_none() {
            return Err(Code::InvalidRequest
                .says("Request specific response headers cannot be used for anonymous GET requests."));
        }
        let (name, value) =
            header(name, value).ok_or_else(|| S3Error::argument(param, value, "It can't be a header."))?;
        answer.headers.insert(name, value);
    }
    Ok(())
}
