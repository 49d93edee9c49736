//! PutObject.

use cairn_meta::slot::command::Body as What;
use cairn_meta::version::Content;
use cairn_meta::version::commit::Mode;

use super::condition::write_mode;
use super::{Checks, of_request, quoted};
use crate::cluster::Commit;
use crate::s3::answer::Answer;
use crate::s3::body::Body;
use crate::s3::call::{Bucket, Call, names_versions, state_name, version_name};
use crate::s3::data::{Inline, Stored, store};
use crate::s3::error::{Code, Result};
use crate::s3::hash::{hex, kept};

/// Stores an object.
pub async fn put(call: &Call, body: &mut Body) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_write(&bucket, call.key())?;
    let content = of_request(call, &bucket)?;
    content.check_words().map_err(|_| Code::MetadataTooLarge)?;
    let mode = write_mode(&call.head)?;
    let checks = Checks::read(&call.head)?;
    if content.lock != <_>::default() && !checks.proves() && call.who.user().is_none() {
        return Err(Code::InvalidRequest.says("Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters"));
    }
    let (stored, commit) = put_body(call, &bucket, call.key(), body, content, &checks, mode).await?;
    let answer = Answer::ok().with("etag", quoted(&hex(&stored.md5))).with_sums(&stored.sums);
    Ok(written(answer, &bucket, &commit))
}

/// Stores bytes and commits them as an object.
pub async fn put_body(
    call: &Call,
    bucket: &Bucket,
    key: &str,
    body: &mut Body,
    mut content: Content,
    checks: &Checks,
    mode: Mode,
) -> Result<(Stored, Commit)> {
    let gateway = &call.gateway;
    let mut stored =
        store(body, call.cluster().disks(), gateway.admission(), gateway.hashing(), checks.sums(), Inline::Allowed)
            .await?;
    checks.verify(&stored, body.trailers())?;
    content.size = stored.size;
    content.etag = hex(&stored.md5);
    content.checksums = stored.sums.iter().map(|(algorithm, value)| kept(*algorithm, value)).collect();
    content.payload = std::mem::take(&mut stored.payload);
    let commit = call.commit(bucket, key, mode, What::Object(content)).await?;
    Ok((stored, commit))
}

/// What is said of a version that was made.
pub fn written(answer: Answer, bucket: &Bucket, Commit { committed, state, copies }: &Commit) -> Answer {
    let Some(id) = committed.id else { return answer };
    let answer = answer
        .with("x-cairn-version-id", id.to_string())
        .with("x-cairn-state", state_name(*state))
        .with_copies(*copies);
    let answer = if committed.heads > 1 { answer.with("x-cairn-heads", committed.heads.to_string()) } else { answer };
    if names_versions(bucket) { answer.with("x-amz-version-id", version_name(id, committed.is_null)) } else { answer }
}
