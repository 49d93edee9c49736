//! Buckets come, are looked at, and go.

use cairn_meta::control::bucket::{BucketSettings, BucketState};
use cairn_meta::control::command::{Command, CreateBucket, Refusal};
use cairn_meta::slot::command::{AbortUpload, Command as SlotCommand, Versioning};
use cairn_meta::slot::list::{Item, Query};
use hyper::StatusCode;
use s3s::dto::{BucketLocationConstraint, CreateBucketConfiguration};

use super::document;
use crate::cluster::{ClusterError, Deleted, Map, new_token};
use crate::s3::access::acl::{Acl, Permission, owner};
use crate::s3::access::document as named;
use crate::s3::answer::Answer;
use crate::s3::auth::{REGION_DEFAULT, Who};
use crate::s3::body::Body;
use crate::s3::call::{Bucket, Call};
use crate::s3::date;
use crate::s3::error::{Code, Result, S3Error};
use crate::s3::xml::{Xml, read};

/// The most buckets of a user.
const BUCKETS_MAX: usize = 1000;
/// How often a deletion is tried while uploads are in its way, and how many of them are aborted each time.
const TRIES: usize = 100;
const UPLOADS_AT_ONCE: u32 = 1000;

/// The buckets of who asks.
pub async fn list(call: &Call) -> Result<Answer> {
    let Who::User { name, .. } = &call.who else { return Err(Code::AccessDenied.into()) };
    let query = &call.head.query;
    let max = crate::s3::head::number::<usize>(query.filled("max-buckets"), "max-buckets")?.unwrap_or(usize::MAX);
    if max == 0 {
        return Err(S3Error::argument(
            "max-buckets",
            "0",
            "Argument max-buckets must be an integer between 1 and 10000.",
        ));
    }
    // It shows what was made a moment ago through another node.
    call.cluster().catch_up().await?;
    let (prefix, after) =
        (query.get("prefix").unwrap_or_default(), query.get("continuation-token").unwrap_or_default());
    let map = call.map();
    let is_shown = |owner: &str| owner == name || call.is_admin();
    let mut own = map.buckets.iter().filter(|(bucket, record)| {
        is_shown(&record.owner)
            && record.state == BucketState::Open
            && bucket.starts_with(prefix)
            && bucket.as_str() > after
    });
    let page: Vec<_> = own.by_ref().take(max).collect();
    let mut xml = Xml::root("ListAllMyBucketsResult");
    owner(&mut xml, "Owner", name);
    xml.open("Buckets");
    for (bucket, record) in &page {
        xml.open("Bucket").text("Name", bucket).text("CreationDate", &date::iso(record.created)).close("Bucket");
    }
    xml.close("Buckets");
    if own.next().is_some() {
        xml.maybe("ContinuationToken", page.last().map(|(bucket, _)| bucket.as_str()));
    }
    if !prefix.is_empty() {
        xml.text("Prefix", prefix);
    }
    Ok(Answer::xml(xml.end("ListAllMyBucketsResult")))
}

/// Makes a bucket.
pub async fn create(call: &Call, body: &mut Body) -> Result<Answer> {
    let Who::User { name: owner, .. } = &call.who else { return Err(Code::AccessDenied.into()) };
    let name = call.head.bucket().unwrap_or_default();
    check_location(call, &document(call, body).await?)?;
    let mut settings = BucketSettings::default();
    let locks = call.head.only("x-amz-bucket-object-lock-enabled")?;
    if locks.is_some_and(|text| text.eq_ignore_ascii_case("true")) {
        (settings.object_lock, settings.versioning) = (true, Versioning::Enabled);
    }
    let ownership = call.head.only("x-amz-object-ownership")?;
    if let Some(ownership) = ownership {
        settings.documents.push((named::OWNERSHIP.to_owned(), super::setting::check_ownership(ownership)?.to_owned()));
    }
    if let Some(acl) = Acl::of_headers(&call.head, &call.map(), owner, owner)? {
        if ownership == Some("BucketOwnerEnforced") && acl != Acl::private(owner) {
            return Err(Code::InvalidBucketAclWithObjectOwnership.into());
        }
        settings.documents.push((named::ACL.to_owned(), acl.text()));
    }
    check_count(&call.map(), owner)?;
    let create = CreateBucket { name: name.to_owned(), owner: owner.clone(), settings: settings.clone() };
    match call.cluster().control(owner, Some(new_token()), Command::CreateBucket(create)).await {
        Err(ClusterError::ControlRefused(Refusal::BucketExists { owner: other, .. })) if other == *owner => {
            exists(call, name, &settings)
        }
        Err(error) => Err(S3Error::from(error).with("BucketName", name)),
        Ok(_) => Ok(Answer::ok().with("location", format!("/{name}"))),
    }
}

/// Whether a user may have one more bucket.
///
/// # Errors
/// `TooManyBuckets` if not.
pub fn check_count(map: &Map, owner: &str) -> Result<()> {
    let own = map.buckets.iter().filter(|(_, record)| record.owner == *owner).count();
    if own >= BUCKETS_MAX { Err(Code::TooManyBuckets.into()) } else { Ok(()) }
}

/// To its owner a bucket that is there already is as good as a new one where clients expect that: in the first region.
fn exists(call: &Call, name: &str, wanted: &BucketSettings) -> Result<Answer> {
    let is_same = call.bucket_named(name)?.record().settings.documents == wanted.documents;
    if call.gateway.region() == REGION_DEFAULT && is_same {
        return Ok(Answer::ok().with("location", format!("/{name}")));
    }
    Err(S3Error::from(Code::BucketAlreadyOwnedByYou).with("BucketName", name))
}

fn check_location(call: &Call, bytes: &[u8]) -> Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let stated: CreateBucketConfiguration = read(bytes)?;
    let region = call.gateway.region();
    match stated.location_constraint.as_ref().map(BucketLocationConstraint::as_str) {
        Some(other) if other != region && !other.is_empty() => {
            let message = format!(
                "The {other} location constraint is incompatible for the region specific endpoint this request was sent to."
            );
            Err(Code::IllegalLocationConstraintException.says(message))
        }
        _ => Ok(()),
    }
}

/// Removes an empty bucket.
pub async fn delete(call: &Call) -> Result<Answer> {
    let name = call.head.bucket().unwrap_or_default();
    // One whose deletion was begun and not finished is deleted again.
    let bucket = call.map().find(name).ok_or_else(|| S3Error::from(Code::NoSuchBucket).with("BucketName", name))?;
    call.allow_bucket(&bucket, None)?;
    for _ in 0..TRIES {
        if call.cluster().delete_bucket(call.who.for_audit(), name).await? == Deleted::Gone {
            return Ok(Answer::no_content());
        }
        // Uploads under way hinder nobody: they end with the bucket.
        if !abort_uploads(call, &call.bucket()?).await? {
            break;
        }
    }
    Err(S3Error::from(Code::BucketNotEmpty).with("BucketName", name))
}

/// Aborts all uploads of a bucket that has nothing else; false: it has.
async fn abort_uploads(call: &Call, bucket: &Bucket) -> Result<bool> {
    let query = |limit| Query { bucket: bucket.record().id, limit, ..Query::default() };
    if !call.cluster().list_versions(query(1)).await?.items.is_empty() {
        return Ok(false);
    }
    let page = call.cluster().list_uploads(query(UPLOADS_AT_ONCE)).await?;
    let mut any = false;
    for item in page.items {
        let Item::Entry(entry) = item else { continue };
        let abort = |place| SlotCommand::AbortUpload(AbortUpload { place, upload: entry.upload });
        match call.command(bucket, &entry.key, abort).await {
            Err(error) if error.code() != Code::NoSuchUpload => return Err(error),
            _ => any = true,
        }
    }
    Ok(any)
}

/// Whether a bucket is there.
pub async fn head(call: &Call) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, Some(Permission::Read))?;
    Ok(Answer::status(StatusCode::OK)
        .with("x-amz-bucket-region", call.gateway.region())
        .with("x-amz-access-point-alias", "false"))
}

/// Where a bucket is.
pub async fn location(call: &Call) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, Some(Permission::Read))?;
    let mut xml = Xml::root("LocationConstraint");
    let region = call.gateway.region();
    // The first region has no name in this answer.
    xml.raw(if region == REGION_DEFAULT { "" } else { region });
    Ok(Answer::xml(xml.end("LocationConstraint")))
}
