//! Object lock: retention and legal hold of a version. What they forbid is enforced by the slot.

use cairn_meta::slot::command::{Amend, Change, Command, Which};
use cairn_meta::version::{Lock, LockMode, Retention};
use s3s::dto::{ObjectLockLegalHold, ObjectLockLegalHoldStatus, ObjectLockRetention};

use super::delete::bypass;
use crate::s3::access::acl::Permission;
use crate::s3::answer::Answer;
use crate::s3::body::Body;
use crate::s3::bucket::document;
use crate::s3::call::{Bucket, Call};
use crate::s3::date;
use crate::s3::error::{Code, Result, S3Error};
use crate::s3::xml::{Xml, read};

use super::get::shown;

/// The lock of a new version: as its request says, else as the bucket does.
///
/// # Errors
/// If it can't be.
pub fn lock_of_request(call: &Call, bucket: &Bucket) -> Result<Lock> {
    let head = &call.head;
    let mode = head.only("x-amz-object-lock-mode")?;
    let until = head.only("x-amz-object-lock-retain-until-date")?;
    let hold = head.only("x-amz-object-lock-legal-hold")?;
    let settings = &bucket.record().settings;
    if (mode.is_some() || until.is_some() || hold.is_some()) && !settings.object_lock {
        return Err(Code::InvalidRequest.says("Bucket is missing Object Lock Configuration"));
    }
    let legal_hold = match hold {
        None | Some("OFF") => false,
        Some("ON") => {
            call.allow_named(bucket, "s3:PutObjectLegalHold", Some(call.key()), Some(Permission::Write))?;
            true
        }
        Some(other) => {
            return Err(S3Error::argument(
                "x-amz-object-lock-legal-hold",
                other,
                "Legal Hold must be either of 'ON' or 'OFF'",
            ));
        }
    };
    let retention = match (mode, until) {
        (None, None) => settings
            .default_retention
            .map(|default| Retention { mode: default.mode, until: call.now.saturating_add(default.length) }),
        (Some(mode), Some(until)) => {
            call.allow_named(bucket, "s3:PutObjectRetention", Some(call.key()), Some(Permission::Write))?;
            Some(Retention { mode: lock_mode(mode)?, until: future(date::read_iso(until), call.now)? })
        }
        _ => {
            return Err(S3Error::argument(
                "x-amz-object-lock-mode",
                "",
                "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied",
            ));
        }
    };
    Ok(Lock { retention, legal_hold })
}

fn lock_mode(text: &str) -> Result<LockMode> {
    match text {
        "GOVERNANCE" => Ok(LockMode::Governance),
        "COMPLIANCE" => Ok(LockMode::Compliance),
        other => Err(S3Error::argument("x-amz-object-lock-mode", other, "Unknown wormMode directive.")),
    }
}

fn future(until: Option<u64>, now: u64) -> Result<u64> {
    let until = until.ok_or_else(|| {
        S3Error::argument(
            "x-amz-object-lock-retain-until-date",
            "",
            "The retain until date must be provided in ISO 8601 format",
        )
    })?;
    if until <= now {
        return Err(S3Error::argument(
            "x-amz-object-lock-retain-until-date",
            date::iso(until),
            "The retain until date must be in the future!",
        ));
    }
    Ok(until)
}

/// Whether the bucket has object lock.
fn check_locks(bucket: &Bucket) -> Result<()> {
    if bucket.record().settings.object_lock {
        Ok(())
    } else {
        Err(Code::InvalidRequest.says("Bucket is missing Object Lock Configuration"))
    }
}

async fn amend(call: &Call, bucket: &Bucket, change: Change) -> Result<()> {
    let which = call.which()?.unwrap_or(Which::Preferred);
    let change = |place| Command::Amend(Amend { place, which, change: change.clone() });
    let changed = call.command(bucket, call.key(), change).await;
    changed.map(drop).map_err(|error| super::tag::of_amended(error, call))
}

/// Sets the retention of a version.
pub async fn put_retention(call: &Call, body: &mut Body) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_expected(&bucket)?;
    call.allow_named(&bucket, "s3:PutObjectRetention", Some(call.key()), None)?;
    check_locks(&bucket)?;
    let stated: ObjectLockRetention = read(&document(call, body).await?)?;
    let retention = match (stated.mode, stated.retain_until_date) {
        (None, None) => None,
        (Some(mode), Some(until)) => {
            let mode = match mode.as_str() {
                "GOVERNANCE" => LockMode::Governance,
                "COMPLIANCE" => LockMode::Compliance,
                _ => return Err(Code::MalformedXML.into()),
            };
            Some(Retention { mode, until: future(date::millis_of(until), call.now)? })
        }
        _ => return Err(Code::MalformedXML.into()),
    };
    let bypass = bypass(call, &bucket, call.key())?;
    amend(call, &bucket, Change::Retention { retention, bypass }).await?;
    Ok(Answer::ok())
}

/// The retention of a version.
pub async fn get_retention(call: &Call) -> Result<Answer> {
    check_locks(&call.bucket()?)?;
    let (_, found) = shown(call, Permission::FullControl).await?;
    let retention = found.version.content.lock.retention.ok_or(Code::NoSuchObjectLockConfiguration)?;
    let mut xml = Xml::root("Retention");
    let mode = if retention.mode == LockMode::Compliance { "COMPLIANCE" } else { "GOVERNANCE" };
    xml.text("Mode", mode).text("RetainUntilDate", &date::iso(retention.until));
    Ok(Answer::xml(xml.end("Retention")))
}

/// Puts a legal hold on a version, or takes it off.
pub async fn put_hold(call: &Call, body: &mut Body) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_expected(&bucket)?;
    call.allow_named(&bucket, "s3:PutObjectLegalHold", Some(call.key()), None)?;
    check_locks(&bucket)?;
    let stated: ObjectLockLegalHold = read(&document(call, body).await?)?;
    let is_held = match stated.status.as_ref().map(ObjectLockLegalHoldStatus::as_str) {
        Some("ON") => true,
        Some("OFF") => false,
        _ => return Err(Code::MalformedXML.into()),
    };
    amend(call, &bucket, Change::LegalHold(is_held)).await?;
    Ok(Answer::ok())
}

/// Whether a version is held.
pub async fn get_hold(call: &Call) -> Result<Answer> {
    check_locks(&call.bucket()?)?;
    let (_, found) = shown(call, Permission::FullControl).await?;
    let mut xml = Xml::root("LegalHold");
    xml.text("Status", if found.version.content.lock.legal_hold { "ON" } else { "OFF" });
    Ok(Answer::xml(xml.end("LegalHold")))
}
