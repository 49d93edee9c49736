//! Settings of a bucket that are one document each: policy, list, ownership, blocked access; and those that are always the same.

use s3s::dto::{OwnershipControls, PublicAccessBlockConfiguration};

use super::document;
use crate::s3::access::acl::{Acl, Permission};
use crate::s3::access::policy::{POLICY_MAX, Policy};
use crate::s3::access::{Ownership, blocks, bucket_acl, document as named, ownership};
use crate::s3::answer::Answer;
use crate::s3::body::Body;
use crate::s3::call::Call;
use crate::s3::error::{Code, Result, S3Error};
use crate::s3::object::stated_acl;
use crate::s3::xml::{Xml, read};

/// The list of a bucket.
pub async fn get_acl(call: &Call) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, Some(Permission::ReadAcp))?;
    let acl = match ownership(&bucket) {
        Ownership::Enforced => Acl::private(&bucket.record().owner),
        Ownership::Preferred | Ownership::Writer => bucket_acl(&bucket),
    };
    Ok(Answer::xml(acl.to_xml()))
}

/// Replaces it.
pub async fn put_acl(call: &Call, body: &mut Body) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, Some(Permission::WriteAcp))?;
    let acl = stated_acl(call, body, &bucket, &bucket.record().owner).await?;
    call.set_document(&bucket, named::ACL, Some(&acl.text())).await?;
    Ok(Answer::ok())
}

/// The policy, as it was given.
pub async fn get_policy(call: &Call) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, None)?;
    let missing = || S3Error::from(Code::NoSuchBucketPolicy).with("BucketName", bucket.name());
    let text = bucket.document(named::POLICY).ok_or_else(missing)?;
    Ok(Answer::of_type("application/json", text.to_owned().into()))
}

/// Whether the policy lets everybody do something.
pub async fn get_policy_status(call: &Call) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, None)?;
    let is_public = match bucket.document(named::POLICY) {
        Some(text) => Policy::read(text)?.is_public(),
        None => false,
    };
    let mut xml = Xml::root("PolicyStatus");
    xml.plain("IsPublic", is_public || (bucket_acl(&bucket).is_public() && !blocks(&bucket).ignore));
    Ok(Answer::xml(xml.end("PolicyStatus")))
}

/// Replaces the policy by one whose every word is understood.
pub async fn put_policy(call: &Call, body: &mut Body) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, None)?;
    let bytes = document(call, body).await?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Code::MalformedPolicy)?;
    if text.len() > POLICY_MAX {
        return Err(Code::MalformedPolicy.says("Policies have up to 20 KiB"));
    }
    let policy = Policy::read(text)?;
    policy.check_bucket(bucket.name())?;
    if policy.is_public() && blocks(&bucket).policy {
        return Err(Code::AccessDenied.into());
    }
    call.set_document(&bucket, named::POLICY, Some(text)).await?;
    Ok(Answer::no_content())
}

/// Removes the policy.
pub async fn delete_policy(call: &Call) -> Result<Answer> {
    remove(call, named::POLICY).await
}

async fn remove(call: &Call, name: &str) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, None)?;
    call.set_document(&bucket, name, None).await?;
    Ok(Answer::no_content())
}

/// Whose objects are.
pub async fn get_ownership(call: &Call) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, None)?;
    let text = bucket.document(named::OWNERSHIP).ok_or(Code::OwnershipControlsNotFoundError)?;
    let mut xml = Xml::root("OwnershipControls");
    xml.open("Rule").text("ObjectOwnership", text).close("Rule");
    Ok(Answer::xml(xml.end("OwnershipControls")))
}

/// Says whose objects are.
pub async fn put_ownership(call: &Call, body: &mut Body) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, None)?;
    let stated: OwnershipControls = read(&document(call, body).await?)?;
    let [rule] = &stated.rules[..] else { return Err(Code::MalformedXML.into()) };
    let text = check_ownership(rule.object_ownership.as_str())?;
    if text == "BucketOwnerEnforced" && bucket_acl(&bucket) != Acl::private(&bucket.record().owner) {
        return Err(Code::InvalidBucketAclWithObjectOwnership.into());
    }
    call.set_document(&bucket, named::OWNERSHIP, Some(text)).await?;
    Ok(Answer::ok())
}

/// One of S3's words for it.
///
/// # Errors
/// If it is none.
pub fn check_ownership(text: &str) -> Result<&str> {
    match text {
        "BucketOwnerEnforced" | "BucketOwnerPreferred" | "ObjectWriter" => Ok(text),
        other => Err(S3Error::argument("x-amz-object-ownership", other, "Invalid x-amz-object-ownership header")),
    }
}

/// Forgets it.
pub async fn delete_ownership(call: &Call) -> Result<Answer> {
    remove(call, named::OWNERSHIP).await
}

/// Which access is blocked.
pub async fn get_block(call: &Call) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, None)?;
    bucket.document(named::BLOCK).ok_or(Code::NoSuchPublicAccessBlockConfiguration)?;
    let blocks = blocks(&bucket);
    let mut xml = Xml::root("PublicAccessBlockConfiguration");
    xml.plain("BlockPublicAcls", blocks.acls).plain("IgnorePublicAcls", blocks.ignore);
    xml.plain("BlockPublicPolicy", blocks.policy).plain("RestrictPublicBuckets", blocks.restrict);
    Ok(Answer::xml(xml.end("PublicAccessBlockConfiguration")))
}

/// Blocks access.
pub async fn put_block(call: &Call, body: &mut Body) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, None)?;
    let stated: PublicAccessBlockConfiguration = read(&document(call, body).await?)?;
    let switches = [
        ("acls", stated.block_public_acls),
        ("ignore", stated.ignore_public_acls),
        ("policy", stated.block_public_policy),
        ("restrict", stated.restrict_public_buckets),
    ];
    let on: Vec<&str> = switches.iter().filter(|(_, is_on)| *is_on == Some(true)).map(|(name, _)| *name).collect();
    call.set_document(&bucket, named::BLOCK, Some(&on.join(","))).await?;
    Ok(Answer::ok())
}

/// Blocks nothing.
pub async fn delete_block(call: &Call) -> Result<Answer> {
    remove(call, named::BLOCK).await
}

/// No bucket encrypts by a setting of its own.
pub async fn get_encryption(call: &Call) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, None)?;
    Err(Code::ServerSideEncryptionConfigurationNotFoundError.into())
}

/// What isn't there is gone.
pub async fn delete_encryption(call: &Call) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, None)?;
    Ok(Answer::no_content())
}

/// Nothing is replicated elsewhere.
pub async fn get_replication(call: &Call) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, None)?;
    Err(Code::ReplicationConfigurationNotFoundError.into())
}

/// The bucket's owner pays for requests.
pub async fn get_payer(call: &Call) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, None)?;
    let mut xml = Xml::root("RequestPaymentConfiguration");
    xml.text("Payer", "BucketOwner");
    Ok(Answer::xml(xml.end("RequestPaymentConfiguration")))
}

/// A setting that no bucket has, and whose absence is an empty document.
pub async fn get_empty(call: &Call, element: &str) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, None)?;
    Ok(Answer::xml(Xml::root(element).end(element)))
}
