//! Object lock of a bucket: whether versions may be locked, and how long new ones are.

use cairn_meta::control::bucket::DefaultRetention;
use cairn_meta::slot::command::Versioning;
use cairn_meta::version::LockMode;
use s3s::dto::{DefaultRetention as Stated, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockRetentionMode};

use super::document;
use crate::s3::answer::Answer;
use crate::s3::body::Body;
use crate::s3::call::Call;
use crate::s3::error::{Code, Result};
use crate::s3::xml::{Xml, read};

const DAY: u64 = 24 * 3600 * 1000;
/// S3 says so.
const YEAR: u64 = 365 * DAY;
const DAYS_MAX: i32 = 36_500;
const YEARS_MAX: i32 = 100;

/// How new versions are locked.
pub async fn get(call: &Call) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, None)?;
    let settings = &bucket.record().settings;
    if !settings.object_lock {
        return Err(Code::ObjectLockConfigurationNotFoundError.into());
    }
    let mut xml = Xml::root("ObjectLockConfiguration");
    xml.text("ObjectLockEnabled", "Enabled");
    if let Some(default) = settings.default_retention {
        let mode = if default.mode == LockMode::Compliance { "COMPLIANCE" } else { "GOVERNANCE" };
        xml.open("Rule").open("DefaultRetention").text("Mode", mode);
        if default.length % YEAR == 0 {
            xml.plain("Years", default.length / YEAR);
        } else {
            xml.plain("Days", default.length / DAY);
        }
        xml.close("DefaultRetention").close("Rule");
    }
    Ok(Answer::xml(xml.end("ObjectLockConfiguration")))
}

/// Says how new versions are locked.
pub async fn put(call: &Call, body: &mut Body) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, None)?;
    let stated: ObjectLockConfiguration = read(&document(call, body).await?)?;
    if stated.object_lock_enabled.as_ref().map(ObjectLockEnabled::as_str) != Some("Enabled") {
        return Err(Code::MalformedXML.into());
    }
    if bucket.record().settings.versioning != Versioning::Enabled {
        return Err(Code::InvalidBucketState
            .says("Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration"));
    }
    let default = match stated.rule {
        None => None,
        Some(rule) => Some(default(&rule.default_retention.ok_or(Code::MalformedXML)?)?),
    };
    call.set(&bucket, |settings| {
        (settings.object_lock, settings.default_retention) = (true, default);
        Ok(())
    })
    .await?;
    Ok(Answer::ok())
}

fn default(stated: &Stated) -> Result<DefaultRetention> {
    let mode = match stated.mode.as_ref().map(ObjectLockRetentionMode::as_str) {
        Some("GOVERNANCE") => LockMode::Governance,
        Some("COMPLIANCE") => LockMode::Compliance,
        _ => return Err(Code::MalformedXML.into()),
    };
    let wrong = |what: &'static str| Code::InvalidRetentionPeriod.says(what);
    let length = match (stated.days, stated.years) {
        (Some(days), None) if (1..=DAYS_MAX).contains(&days) => days as u64 * DAY,
        (None, Some(years)) if (1..=YEARS_MAX).contains(&years) => years as u64 * YEAR,
        (Some(days), None) if days <= 0 => {
            return Err(wrong("Default retention period must be a positive integer value."));
        }
        (None, Some(years)) if years <= 0 => {
            return Err(wrong("Default retention period must be a positive integer value."));
        }
        (Some(_), None) | (None, Some(_)) => return Err(wrong("Default retention period is too large.")),
        _ => return Err(Code::MalformedXML.into()),
    };
    Ok(DefaultRetention { mode, length })
}
