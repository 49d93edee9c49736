//! What slots, control and S3's rules say, as errors of the wire: sorted by what the client does about them.

use cairn_meta::control::command::Refusal as ControlRefusal;
use cairn_meta::slot::command::Refusal;
use cairn_meta::slot::layout::BucketId;
use cairn_meta::version::commit::Refused;
use cairn_schema::{Advice, Error, ErrorKind, Outcome};

use crate::cluster::ClusterError;
use crate::s3::error::{Code, S3Error};

/// When to ask again, for those who are told that nobody can do it now.
const AGAIN_MILLIS: u32 = 100;

/// In this field of the request.
pub fn in_field(field: &str, error: Error) -> Error {
    Error { field: field.to_owned(), ..error }
}

pub fn bad_input(field: &str, message: impl Into<String>) -> Error {
    in_field(field, Error::fix_input(ErrorKind::BadInput, message))
}

pub fn no_bucket(id: BucketId) -> Error {
    let message = format!("there is no bucket {id}: the map has the numbers of buckets by their names");
    in_field("bucket", Error::fix_input(ErrorKind::NotFound, message))
}

/// An answer of another sort than the question.
pub fn defect() -> Error {
    let message = "a defect of this node: it was answered something else than it asked; report it, with the node's log";
    Error::new(ErrorKind::Internal, Advice::Stop, message).with_outcome(Outcome::Unknown)
}

/// Why the cluster doesn't do something.
pub fn of_cluster(error: ClusterError) -> Error {
    match error {
        ClusterError::Refused(refusal) => of_slot(&refusal),
        ClusterError::ControlRefused(refusal) => of_control(&refusal),
        ClusterError::Busy(why) => Error::new(ErrorKind::SlowDown, Advice::RetryHere(AGAIN_MILLIS), why),
        ClusterError::NoRoom(why) => Error::new(ErrorKind::NoRoom, Advice::Stop, why),
        ClusterError::Unreachable(why) => Error::new(ErrorKind::NoLeader, Advice::TryElsewhere(AGAIN_MILLIS), why),
        ClusterError::Unknown(why) => {
            Error::new(ErrorKind::Unreachable, Advice::TryElsewhere(AGAIN_MILLIS), why).with_outcome(Outcome::Unknown)
        }
        ClusterError::Broken(why) => {
            tracing::error!(error = %why, "a call failed");
            Error::new(ErrorKind::Internal, Advice::Stop, why).with_outcome(Outcome::Unknown)
        }
    }
}

/// Why a slot did nothing.
pub fn of_slot(refusal: &Refusal) -> Error {
    let kind = match refusal {
        Refusal::Commit(refused) => of_commit(refused),
        Refusal::Content(_) | Refusal::Key(_) | Refusal::Id(_) => ErrorKind::BadInput,
        Refusal::NoVersion | Refusal::NoObject | Refusal::NoUpload => ErrorKind::NotFound,
        Refusal::NotEmpty => ErrorKind::PreconditionFailed,
        Refusal::Locked(_) => ErrorKind::Locked,
        Refusal::TooLarge { .. } => ErrorKind::TooLarge,
        Refusal::StaleBucket { .. } => {
            let advice = Advice::RetryHere(AGAIN_MILLIS);
            return Error::new(ErrorKind::Stale, advice, refusal.to_string());
        }
        Refusal::UploadExists
        | Refusal::PartNumber(_)
        | Refusal::Part(_)
        | Refusal::PartOrder
        | Refusal::PartTooSmall { .. }
        | Refusal::Level { .. }
        | Refusal::Malformed(_) => {
            tracing::error!(%refusal, "a slot refused what a client can't have asked for");
            return Error::new(ErrorKind::Internal, Advice::Stop, refusal.to_string());
        }
    };
    Error::fix_input(kind, refusal.to_string())
}

fn of_commit(refused: &Refused) -> ErrorKind {
    match refused {
        Refused::Precondition { .. } => ErrorKind::PreconditionFailed,
        Refused::UnknownParent(_) => ErrorKind::NotFound,
        Refused::NotHead(_) => ErrorKind::Stale,
        Refused::NoParents | Refused::TooFewParents | Refused::BadImport => ErrorKind::BadInput,
        Refused::TooManyHeads { .. } | Refused::TooManyVersions { .. } => ErrorKind::TooMany,
    }
}

fn of_control(refusal: &ControlRefusal) -> Error {
    let kind = match refusal {
        ControlRefusal::BucketExists { .. } => ErrorKind::Exists,
        ControlRefusal::Missing(_) => ErrorKind::NotFound,
        ControlRefusal::Name(_) | ControlRefusal::Settings(_) => ErrorKind::BadInput,
        ControlRefusal::Changed { .. } | ControlRefusal::State(_) => ErrorKind::Stale,
        ControlRefusal::TooLarge { .. } => ErrorKind::TooLarge,
        ControlRefusal::Unborn => {
            let advice = Advice::TryElsewhere(AGAIN_MILLIS);
            return Error::new(ErrorKind::NoLeader, advice, refusal.to_string());
        }
        _ => return Error::new(ErrorKind::Internal, Advice::Stop, refusal.to_string()),
    };
    Error::fix_input(kind, refusal.to_string())
}

/// What S3's rules say. Nothing was done yet.
pub fn of_s3(error: &S3Error) -> Error {
    let kind = match error.code() {
        Code::AccessDenied => ErrorKind::Denied,
        Code::NoSuchBucket | Code::NoSuchKey | Code::NoSuchVersion => ErrorKind::NotFound,
        Code::BucketNotEmpty => ErrorKind::PreconditionFailed,
        Code::TooManyBuckets => ErrorKind::TooMany,
        Code::OperationAborted => ErrorKind::Stale,
        Code::SlowDown => {
            return Error::new(ErrorKind::SlowDown, Advice::RetryHere(AGAIN_MILLIS), error.message());
        }
        Code::ServiceUnavailable => {
            return Error::new(ErrorKind::NoLeader, Advice::TryElsewhere(AGAIN_MILLIS), error.message());
        }
        Code::InsufficientStorage => return Error::new(ErrorKind::NoRoom, Advice::Stop, error.message()),
        Code::InternalError => return Error::new(ErrorKind::Internal, Advice::Stop, error.message()),
        _ => ErrorKind::BadInput,
    };
    Error::fix_input(kind, error.message())
}

/// As [`of_s3`], where something may have been done.
pub fn of_s3_work(error: &S3Error) -> Error {
    let is_unknown = matches!(error.code(), Code::ServiceUnavailable | Code::InternalError);
    let outcome = if is_unknown { Outcome::Unknown } else { Outcome::NothingDone };
    of_s3(error).with_outcome(outcome)
}
