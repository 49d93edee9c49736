//! Versioning of a bucket.

use cairn_meta::slot::command::Versioning;
use s3s::dto::{BucketVersioningStatus, VersioningConfiguration};

use super::document;
use crate::s3::answer::Answer;
use crate::s3::body::Body;
use crate::s3::call::Call;
use crate::s3::error::{Code, Result, S3Error};
use crate::s3::xml::{Xml, read};

/// Whether versioning is on.
pub async fn get(call: &Call) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, None)?;
    let mut xml = Xml::root("VersioningConfiguration");
    match bucket.record().settings.versioning {
        Versioning::Off => {}
        Versioning::Enabled => {
            xml.text("Status", "Enabled");
        }
        Versioning::Suspended => {
            xml.text("Status", "Suspended");
        }
    }
    Ok(Answer::xml(xml.end("VersioningConfiguration")))
}

/// Turns it on, or suspends it.
pub async fn put(call: &Call, body: &mut Body) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, None)?;
    let stated: VersioningConfiguration = read(&document(call, body).await?)?;
    if stated.mfa_delete.as_ref().is_some_and(|mfa| mfa.as_str() == "Enabled") {
        return Err(S3Error::not_implemented("MFA delete"));
    }
    let wanted = match stated.status.as_ref().map(BucketVersioningStatus::as_str) {
        Some("Enabled") => Versioning::Enabled,
        Some("Suspended") => Versioning::Suspended,
        _ => return Err(Code::MalformedXML.into()),
    };
    if bucket.record().settings.object_lock && wanted == Versioning::Suspended {
        return Err(Code::InvalidBucketState.says(
            "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed.",
        ));
    }
    call.set(&bucket, |settings| {
        settings.versioning = wanted;
        Ok(())
    })
    .await?;
    Ok(Answer::ok())
}
