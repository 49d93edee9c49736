//! Access control lists of objects, kept among a version's headers.

use cairn_meta::slot::command::{Amend, Change, Command, Which};
use s3s::dto::AccessControlPolicy;

use super::get::shown;
use crate::s3::access::acl::{Acl, Permission};
use crate::s3::access::{ACL_HEADER, Ownership, blocks, object_acl, ownership};
use crate::s3::answer::Answer;
use crate::s3::body::Body;
use crate::s3::bucket::document;
use crate::s3::call::{Bucket, Call};
use crate::s3::error::{Code, Result};
use crate::s3::xml::read;

/// The list of a version.
pub async fn get_acl(call: &Call) -> Result<Answer> {
    let (bucket, found) = shown(call, Permission::ReadAcp).await?;
    let acl = match ownership(&bucket) {
        Ownership::Enforced => Acl::private(&bucket.record().owner),
        Ownership::Preferred | Ownership::Writer => object_acl(&bucket, &found.version),
    };
    Ok(call.about(Answer::xml(acl.to_xml()), &bucket, &found))
}

/// Replaces the list of a version.
pub async fn put_acl(call: &Call, body: &mut Body) -> Result<Answer> {
    let (bucket, found) = shown(call, Permission::WriteAcp).await?;
    let owner = object_acl(&bucket, &found.version).owner;
    let acl = stated(call, body, &bucket, &owner).await?;
    let which = Which::Id(found.version.id);
    let mut headers = found.version.content.headers;
    headers.retain(|(name, _)| name != ACL_HEADER);
    headers.push((ACL_HEADER.to_owned(), acl.text()));
    let amend = |place| Command::Amend(Amend { place, which, change: Change::Headers(headers.clone()) });
    call.command(&bucket, call.key(), amend).await?;
    Ok(Answer::ok())
}

/// The list that a request states, in headers or in its body.
///
/// # Errors
/// If it states none, or it may not be put.
pub async fn stated(call: &Call, body: &mut Body, bucket: &Bucket, owner: &str) -> Result<Acl> {
    let map = call.map();
    let bytes = document(call, body).await?;
    let acl = match Acl::of_headers(&call.head, &map, owner, &bucket.record().owner)? {
        Some(_) if !bytes.is_empty() => return Err(Code::UnexpectedContent.into()),
        Some(acl) => acl,
        None if bytes.is_empty() => {
            return Err(Code::MissingSecurityHeader.says("Your request was missing a required header: x-amz-acl"));
        }
        None => {
            let policy: AccessControlPolicy = read(&bytes).map_err(|_| Code::MalformedACLError)?;
            Acl::of_xml(&policy, &map, owner)?
        }
    };
    let gives_all = call.head.only("x-amz-acl")? == Some("bucket-owner-full-control");
    let is_usual = gives_all || (!bytes.is_empty() && acl == Acl::private(&bucket.record().owner));
    match ownership(bucket) {
        Ownership::Enforced if !is_usual => Err(Code::AccessControlListNotSupported.into()),
        _ if acl.is_public() && blocks(bucket).acls => Err(Code::AccessDenied.into()),
        _ => Ok(acl),
    }
}
