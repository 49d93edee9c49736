//! GetObject and HeadObject.

use cairn_meta::slot::query::{OfUpload, Parts, Query, Reply};
use cairn_meta::slot::read::Found;
use cairn_meta::version::{Checksum, Content, LockMode, Payload, Version};
use hyper::StatusCode;
use hyper::header::HeaderName;

use super::condition::Conditions;
use super::range::{Wanted, wanted};
use crate::s3::access::acl::Permission;
use crate::s3::access::{ACL_HEADER, Verdict};
use crate::s3::answer::{Answer, Out};
use crate::s3::call::{Bucket, Call, heads_of};
use crate::s3::data::{HELD_BYTES, Source};
use crate::s3::date;
use crate::s3::error::{Code, Result, S3Error};
use crate::s3::hash::Algorithm;
use crate::s3::head::{Head, number};
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
    let sums = sums_of_part(call, &bucket, &found.version.content).await?;
    let (answer, length) = described(call, &bucket, &found, sums.as_deref())?;
    Ok(answer.with("content-length", length.to_string()))
}

/// The object that a request names, if who asks may have it.
///
/// # Errors
/// What S3 says if there is none, or it may not.
pub async fn shown(call: &Call, permission: Permission) -> Result<(Bucket, Found)> {
    let bucket = call.bucket()?;
    let verdict = call.object_verdict(&bucket).await?;
    let found = call.read_object(&bucket, call.key(), call.which()?).await;
    let found = found.map_err(|error| call.missing(&bucket, call.key(), verdict, error))?;
    call.allow_object(&bucket, &found.version, verdict, permission)?;
    Ok((bucket, found))
}

impl Call {
    /// What policy and ownership say of what is asked for.
    ///
    /// # Errors
    /// `AccessDenied`, if they say no: then it doesn't matter whether there is an object.
    pub async fn object_verdict(&self, bucket: &Bucket) -> Result<Verdict> {
        self.allow_expected(bucket)?;
        let action = self.op.action(self.head.query.has("versionId"));
        match self.verdict_on(bucket, action, self.key(), self.which()?).await? {
            Verdict::Denied => Err(Code::AccessDenied.into()),
            other => Ok(other),
        }
    }
}

/// An object as an answer, whole or in part.
pub async fn answer(call: &Call, bucket: &Bucket, found: Found) -> Result<Answer> {
    let sums = sums_of_part(call, bucket, &found.version.content).await?;
    let (mut answer, _) = described(call, bucket, &found, sums.as_deref())?;
    let content = found.version.content;
    let span = wanted(&call.head, &content)?.span(content.size);
    let length = span.end - span.start;
    let is_large = length > 64 << 10;
    let permit =
        if is_large { Some(call.gateway.admission().admit(HELD_BYTES.min(length as usize)).await?) } else { None };
    let (cluster, key, freshness) = (call.cluster().clone(), call.key().to_owned(), call.freshness(bucket));
    let source = Source { cluster, bucket: bucket.record().id, key, freshness };
    answer.body = Out::begun(source.begin(content, span, permit).await?, length);
    Ok(answer)
}

/// The checksums of the part that a request names; `None`: it names none, or the part is all of the object.
async fn sums_of_part(call: &Call, bucket: &Bucket, content: &Content) -> Result<Option<Vec<Checksum>>> {
    let Wanted::Part(_, 1..) = wanted(&call.head, content)? else { return Ok(None) };
    let number: Option<u16> = number(call.head.query.get("partNumber"), "partNumber")?;
    let is_asked = wants_sums(call)? && !content.checksums.is_empty();
    let (Payload::Parts(upload), Some(number), true) = (&content.payload, number, is_asked) else {
        return Ok(Some(vec![]));
    };
    let of = OfUpload { bucket: bucket.record().id, key: call.key().to_owned(), upload: *upload };
    let query = Query::Parts { of, behind: number.saturating_sub(1), limit: 1 };
    let Reply::Parts(Parts { parts, .. }) = call.query(bucket, call.key(), &query).await? else {
        return Err(Code::InternalError.into());
    };
    Ok(Some(parts.into_iter().find(|(found, _)| *found == number).map_or(vec![], |(_, part)| part.checksums)))
}

fn wants_sums(call: &Call) -> Result<bool> {
    Ok(call.head.only("x-amz-checksum-mode")?.is_some_and(|mode| mode.eq_ignore_ascii_case("enabled")))
}

/// An answer's head, and how long its body is to be; with the checksums of a part, if that is asked for.
fn described(call: &Call, bucket: &Bucket, found: &Found, of_part: Option<&[Checksum]>) -> Result<(Answer, u64)> {
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
    let mut answer = of_version(version, &wanted);
    if wants_sums(call)? && !matches!(wanted, Wanted::Range(_)) {
        answer = with_checksums(answer, &version.content.checksums, of_part);
    }
    if wanted != Wanted::Whole && span.start != span.end {
        answer.status = StatusCode::PARTIAL_CONTENT;
        let last = span.end - 1;
        answer = answer.with("content-range", format!("bytes {}-{last}/{}", span.start, version.content.size));
    }
    override_headers(call, &mut answer)?;
    let answer = call.about(answer, bucket, found);
    let answer = heads_of(found).into_iter().flatten().fold(answer, |answer, (name, ids)| answer.with(name, ids));
    Ok((answer, span.end - span.start))
}

fn header(name: &'static str, value: &str) -> Option<(HeaderName, hyper::header::HeaderValue)> {
    Some((HeaderName::from_static(name), hyper::header::HeaderValue::from_str(value).ok()?))
}

/// What is said of a version whoever asks.
fn of_version(version: &Version, wanted: &Wanted) -> Answer {
    let content = &version.content;
    let mut answer = Answer::ok()
        .with("accept-ranges", "bytes")
        .with("etag", quoted(&content.etag))
        .with("last-modified", date::http(version.modified))
        .maybe("x-cairn-expires", content.expires.map(date::http));
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
    locks(answer, version)
}

/// The checksums of the whole or a part; the type is that of the whole.
fn with_checksums(mut answer: Answer, whole: &[Checksum], of_part: Option<&[Checksum]>) -> Answer {
    for sum in of_part.unwrap_or(whole) {
        let Some(algorithm) = Algorithm::find(&sum.algorithm) else { continue };
        answer = answer.with(algorithm.header(), &sum.value);
    }
    match whole.first() {
        Some(sum) => answer.with("x-amz-checksum-type", sum_type(sum)),
        None => answer,
    }
}

/// How the checksum of a whole was made.
pub fn sum_type(sum: &Checksum) -> &'static str {
    if sum.value.contains('-') { "COMPOSITE" } else { "FULL_OBJECT" }
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
