//! Operations on buckets. Their settings lie in the map; documents are kept as text, checked when they come.

pub mod cors;
mod life;
mod lifecycle;
mod lock;
mod setting;
mod tagging;
mod versioning;
pub mod website;
pub mod word;

use bytes::Bytes;

use super::body::Body;
use super::call::Call;
use super::error::Result;
use super::object::Checks;

pub use life::{check_count, create, delete, head, list, location};
pub use lifecycle::{DOCUMENT as LIFECYCLE, delete as delete_lifecycle, get as get_lifecycle, put as put_lifecycle};
pub use lock::{get as get_lock, put as put_lock};
pub use setting::{
    delete_block, delete_encryption, delete_ownership, delete_policy, get_acl, get_block, get_empty, get_encryption,
    get_ownership, get_payer, get_policy, get_policy_status, get_replication, put_acl, put_block, put_ownership,
    put_policy,
};
pub use tagging::{delete as delete_tags, get as get_tags, put as put_tags};
pub use versioning::{get as get_versioning, put as put_versioning};

/// The longest document of a request.
pub const DOCUMENT_MAX: usize = 1 << 20;

/// The document that a request brings, as its client meant it.
///
/// # Errors
/// If it is too long, or not what its checksums say.
pub async fn document(call: &Call, body: &mut Body) -> Result<Bytes> {
    checked(&Checks::read(&call.head)?, body).await
}

/// A document whose request's checksums, but for MD5, are those of something else.
///
/// # Errors
/// As [`document`].
pub async fn document_about(call: &Call, body: &mut Body) -> Result<Bytes> {
    checked(&Checks::of_md5(&call.head)?, body).await
}

async fn checked(checks: &Checks, body: &mut Body) -> Result<Bytes> {
    let bytes = body.all(DOCUMENT_MAX).await?;
    checks.verify_document(&bytes, body.trailers())?;
    Ok(bytes)
}
