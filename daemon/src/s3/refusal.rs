//! What a slot refuses, in S3's words.

use cairn_meta::slot::command::Refusal;
use cairn_meta::version::BadContent;
use cairn_meta::version::commit::{Condition, Refused};

use super::error::{Code, S3Error};

/// See the module.
pub fn to_error(refusal: &Refusal) -> S3Error {
    match refusal {
        Refusal::Commit(refused) => commit(refused),
        Refusal::Content(BadContent::Words(_)) | Refusal::TooLarge { .. } => Code::MetadataTooLarge.into(),
        Refusal::Content(BadContent::Chunks(_)) => Code::EntityTooLarge.into(),
        Refusal::Key(length) if *length > 0 => Code::KeyTooLongError.into(),
        Refusal::Key(_) => Code::InvalidURI.into(),
        Refusal::StaleBucket { .. } => Code::OperationAborted.into(),
        Refusal::NotEmpty => Code::BucketNotEmpty.into(),
        Refusal::NoVersion => Code::NoSuchVersion.into(),
        Refusal::NoObject => Code::MethodNotAllowed.into(),
        Refusal::Locked(_) => Code::AccessDenied.says("Access Denied because object protected by object lock."),
        Refusal::NoUpload => Code::NoSuchUpload.into(),
        Refusal::PartNumber(number) => S3Error::argument(
            "partNumber",
            number.to_string(),
            "Part number must be an integer between 1 and 10000, inclusive",
        ),
        Refusal::Part(_) => Code::InvalidPart.into(),
        Refusal::PartOrder => Code::InvalidPartOrder.into(),
        Refusal::PartTooSmall { number, size, min } => S3Error::from(Code::EntityTooSmall)
            .with("ProposedSize", size.to_string())
            .with("MinSizeAllowed", min.to_string())
            .with("PartNumber", number.to_string()),
        Refusal::Content(_)
        | Refusal::UploadExists
        | Refusal::Level { .. }
        | Refusal::Id(_)
        | Refusal::Malformed(_) => {
            tracing::error!(%refusal, "a slot refused what the gateway should not have asked for");
            Code::InternalError.into()
        }
    }
}

fn commit(refused: &Refused) -> S3Error {
    match refused {
        // What isn't there can't match: S3 says that, not that the condition failed.
        Refused::Precondition {
            condition: Condition::Etag(_) | Condition::Exists | Condition::Size(_) | Condition::UnmodifiedSince(_),
            exists: false,
        } => Code::NoSuchKey.into(),
        Refused::Precondition { condition, .. } => {
            S3Error::from(Code::PreconditionFailed).with("Condition", header_of(condition))
        }
        Refused::UnknownParent(_) | Refused::NotHead(_) | Refused::NoParents | Refused::TooFewParents => {
            S3Error::argument("x-cairn-parents", "", refused.to_string())
        }
        Refused::TooManyHeads { .. } | Refused::TooManyVersions { .. } => {
            Code::InvalidRequest.says(refused.to_string())
        }
        Refused::BadImport => Code::InternalError.into(),
    }
}

/// The header that states a condition.
fn header_of(condition: &Condition) -> &'static str {
    match condition {
        Condition::Exists | Condition::Etag(_) => "If-Match",
        Condition::Absent | Condition::NotEtag(_) => "If-None-Match",
        Condition::Head(_) => "x-cairn-if-head",
        Condition::UnmodifiedSince(_) => "If-Unmodified-Since",
        Condition::Size(_) => "x-amz-if-match-size",
    }
}
