//! Which function answers which operation.

use super::answer::Answer;
use super::body::Body;
use super::bucket::word;
use super::call::Call;
use super::error::{Result, S3Error};
use super::op::Op;
use super::{bucket, list, object, upload};

/// Answers a request.
///
/// # Errors
/// What the operation says.
pub async fn dispatch(call: &Call, body: &mut Body) -> Result<Answer> {
    match call.op {
        Op::GetObject => object::get(call).await,
        Op::PutObject => object::put(call, body).await,
        Op::HeadObject => object::head(call).await,
        Op::DeleteObject => object::delete(call).await,
        Op::ListObjects => list::objects(call).await,
        Op::ListObjectsV2 => list::objects_v2(call).await,
        Op::ListObjectVersions => list::versions(call).await,
        Op::ListConflicts => list::conflicts(call).await,
        Op::CreateMultipartUpload
        | Op::UploadPart
        | Op::UploadPartCopy
        | Op::CompleteMultipartUpload
        | Op::AbortMultipartUpload
        | Op::ListParts
        | Op::ListMultipartUploads => Box::pin(of_upload(call, body)).await,
        Op::DeleteObjects
        | Op::CopyObject
        | Op::GetObjectAttributes
        | Op::GetObjectAcl
        | Op::PutObjectAcl
        | Op::GetObjectTagging
        | Op::PutObjectTagging
        | Op::DeleteObjectTagging
        | Op::GetObjectRetention
        | Op::PutObjectRetention
        | Op::GetObjectLegalHold
        | Op::PutObjectLegalHold => Box::pin(of_object(call, body)).await,
        _ => Box::pin(of_bucket(call, body)).await,
    }
}

async fn of_upload(call: &Call, body: &mut Body) -> Result<Answer> {
    match call.op {
        Op::CreateMultipartUpload => upload::create(call).await,
        Op::UploadPart => upload::put_part(call, body).await,
        Op::UploadPartCopy => upload::copy_part(call).await,
        Op::CompleteMultipartUpload => upload::complete(call, body).await,
        Op::AbortMultipartUpload => upload::abort(call).await,
        Op::ListParts => upload::list_parts(call).await,
        Op::ListMultipartUploads => upload::list_uploads(call).await,
        other => Err(S3Error::not_implemented(other.name())),
    }
}

async fn of_object(call: &Call, body: &mut Body) -> Result<Answer> {
    match call.op {
        Op::DeleteObjects => object::delete_many(call, body).await,
        Op::CopyObject => object::copy(call).await,
        Op::GetObjectAttributes => object::attributes(call).await,
        Op::GetObjectAcl => object::get_acl(call).await,
        Op::PutObjectAcl => object::put_acl(call, body).await,
        Op::GetObjectTagging => object::get_tags(call).await,
        Op::PutObjectTagging => object::put_tags(call, body).await,
        Op::DeleteObjectTagging => object::delete_tags(call).await,
        Op::GetObjectRetention => object::get_retention(call).await,
        Op::PutObjectRetention => object::put_retention(call, body).await,
        Op::GetObjectLegalHold => object::get_hold(call).await,
        Op::PutObjectLegalHold => object::put_hold(call, body).await,
        other => Err(S3Error::not_implemented(other.name())),
    }
}

async fn of_bucket(call: &Call, body: &mut Body) -> Result<Answer> {
    match call.op {
        Op::ListBuckets => bucket::list(call).await,
        Op::CreateBucket => bucket::create(call, body).await,
        Op::DeleteBucket => bucket::delete(call).await,
        Op::HeadBucket => bucket::head(call).await,
        Op::GetBucketLocation => bucket::location(call).await,
        Op::GetBucketVersioning => bucket::get_versioning(call).await,
        Op::PutBucketVersioning => bucket::put_versioning(call, body).await,
        Op::GetBucketAck => word::ACK.get(call),
        Op::PutBucketAck => word::ACK.put(call, body).await,
        Op::GetBucketOffline => word::OFFLINE.get(call),
        Op::PutBucketOffline => word::OFFLINE.put(call, body).await,
        Op::GetBucketRead => word::READ.get(call),
        Op::PutBucketRead => word::READ.put(call, body).await,
        Op::GetObjectLockConfiguration => bucket::get_lock(call).await,
        Op::PutObjectLockConfiguration => bucket::put_lock(call, body).await,
        Op::GetBucketTagging => bucket::get_tags(call).await,
        Op::PutBucketTagging => bucket::put_tags(call, body).await,
        Op::DeleteBucketTagging => bucket::delete_tags(call).await,
        Op::GetBucketCors => bucket::cors::get(call),
        Op::PutBucketCors => bucket::cors::put(call, body).await,
        Op::DeleteBucketCors => bucket::cors::delete(call).await,
        Op::GetBucketLifecycleConfiguration => bucket::get_lifecycle(call).await,
        Op::PutBucketLifecycleConfiguration => bucket::put_lifecycle(call, body).await,
        Op::DeleteBucketLifecycle => bucket::delete_lifecycle(call).await,
        Op::GetBucketWebsite => bucket::website::get(call),
        Op::PutBucketWebsite => bucket::website::put(call, body).await,
        Op::DeleteBucketWebsite => bucket::website::delete(call).await,
        _ => of_setting(call, body).await,
    }
}

async fn of_setting(call: &Call, body: &mut Body) -> Result<Answer> {
    match call.op {
        Op::GetBucketAcl => bucket::get_acl(call).await,
        Op::PutBucketAcl => bucket::put_acl(call, body).await,
        Op::GetBucketPolicy => bucket::get_policy(call).await,
        Op::GetBucketPolicyStatus => bucket::get_policy_status(call).await,
        Op::PutBucketPolicy => bucket::put_policy(call, body).await,
        Op::DeleteBucketPolicy => bucket::delete_policy(call).await,
        Op::GetBucketOwnershipControls => bucket::get_ownership(call).await,
        Op::PutBucketOwnershipControls => bucket::put_ownership(call, body).await,
        Op::DeleteBucketOwnershipControls => bucket::delete_ownership(call).await,
        Op::GetPublicAccessBlock => bucket::get_block(call).await,
        Op::PutPublicAccessBlock => bucket::put_block(call, body).await,
        Op::DeletePublicAccessBlock => bucket::delete_block(call).await,
        Op::GetBucketEncryption => bucket::get_encryption(call).await,
        Op::DeleteBucketEncryption => bucket::delete_encryption(call).await,
        Op::GetBucketReplication => bucket::get_replication(call).await,
        Op::GetBucketRequestPayment => bucket::get_payer(call).await,
        Op::GetBucketLogging => bucket::get_empty(call, "BucketLoggingStatus").await,
        Op::GetBucketNotificationConfiguration => bucket::get_empty(call, "NotificationConfiguration").await,
        Op::GetBucketAccelerateConfiguration => bucket::get_empty(call, "AccelerateConfiguration").await,
        other => Err(S3Error::not_implemented(other.name())),
    }
}
