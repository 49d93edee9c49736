//! Lifecycle rules of a bucket: kept if all of them are understood.

use s3s::dto::{BucketLifecycleConfiguration, LifecycleRule};

use super::document;
use crate::s3::answer::Answer;
use crate::s3::body::Body;
use crate::s3::call::Call;
use crate::s3::error::{Code, Result, S3Error};
use crate::s3::xml::{read, write};

/// The document's name.
pub const DOCUMENT: &str = "lifecycle";
const RULES_MAX: usize = 1000;
const ID_MAX: usize = 255;

/// The rules.
pub async fn get(call: &Call) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, None)?;
    bucket.document(DOCUMENT).map(Answer::xml).ok_or_else(|| Code::NoSuchLifecycleConfiguration.into())
}

/// Replaces the rules.
pub async fn put(call: &Call, body: &mut Body) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, None)?;
    let mut rules: BucketLifecycleConfiguration = read(&document(call, body).await?)?;
    check(&mut rules)?;
    call.set_document(&bucket, DOCUMENT, Some(&write(&rules))).await?;
    Ok(Answer::ok())
}

/// Removes them.
pub async fn delete(call: &Call) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, None)?;
    call.set_document(&bucket, DOCUMENT, None).await?;
    Ok(Answer::no_content())
}

fn check(rules: &mut BucketLifecycleConfiguration) -> Result<()> {
    if rules.rules.is_empty() || rules.rules.len() > RULES_MAX {
        return Err(Code::MalformedXML.into());
    }
    let mut known: Vec<String> = Vec::new();
    for (at, rule) in rules.rules.iter_mut().enumerate() {
        let id = rule.id.get_or_insert_with(|| format!("rule-{}", at + 1)).clone();
        if id.len() > ID_MAX {
            return Err(S3Error::argument("ID", id, "ID length should not exceed allowed limit of 255"));
        }
        if known.contains(&id) {
            return Err(S3Error::argument("ID", id, "Rule ID must be unique. Found same ID for more than one rule"));
        }
        known.push(id);
        check_rule(rule)?;
    }
    Ok(())
}

fn check_rule(rule: &LifecycleRule) -> Result<()> {
    if !matches!(rule.status.as_str(), "Enabled" | "Disabled") {
        return Err(Code::MalformedXML.into());
    }
    if rule.transitions.as_ref().is_some_and(|list| !list.is_empty())
        || rule.noncurrent_version_transitions.as_ref().is_some_and(|list| !list.is_empty())
    {
        return Err(S3Error::not_implemented("A lifecycle rule with transitions"));
    }
    let does_something = rule.expiration.is_some()
        || rule.noncurrent_version_expiration.is_some()
        || rule.abort_incomplete_multipart_upload.is_some();
    if !does_something
        || (rule.filter.is_some() && rule.prefix.is_some())
        || (rule.filter.is_none() && rule.prefix.is_none())
    {
        return Err(Code::MalformedXML.into());
    }
    if let Some(expiration) = &rule.expiration {
        let stated =
            [expiration.days.is_some(), expiration.date.is_some(), expiration.expired_object_delete_marker.is_some()];
        if stated.iter().filter(|is| **is).count() != 1 {
            return Err(Code::MalformedXML.into());
        }
        positive("Expiration", expiration.days)?;
        let is_midnight = |date: &s3s::dto::Timestamp| {
            crate::s3::date::millis_of(date.clone()).is_some_and(|millis| millis % 86_400_000 == 0)
        };
        if expiration.date.as_ref().is_some_and(|date| !is_midnight(date)) {
            return Err(S3Error::argument("Date", "", "'Date' must be at midnight GMT"));
        }
    }
    if let Some(expiration) = &rule.noncurrent_version_expiration {
        if expiration.noncurrent_days.is_none() {
            return Err(Code::MalformedXML.into());
        }
        positive("NoncurrentVersionExpiration", expiration.noncurrent_days)?;
        positive("NoncurrentVersionExpiration", expiration.newer_noncurrent_versions)?;
    }
    if let Some(abort) = &rule.abort_incomplete_multipart_upload {
        positive("AbortIncompleteMultipartUpload", abort.days_after_initiation)?;
    }
    Ok(())
}

fn positive(action: &str, days: Option<i32>) -> Result<()> {
    match days {
        Some(days) if days <= 0 => Err(S3Error::argument(
            "Days",
            days.to_string(),
            format!("'Days' for {action} action must be a positive integer"),
        )),
        _ => Ok(()),
    }
}
