//! Who asks: signatures of version 4, and of the older 2, in headers and in queries, checked against the access keys of the map.
//!
//! ```text
//!   Authorization header ─┐                    ┌─► Who (a user, or nobody)
//!   X-Amz-… in the query ─┼─► claim ─► check ──┤
//!   a form's fields ──────┘                    └─► Framing (what the body is signed with, how it comes)
//! ```
//!
//! It decides who somebody is, not what they may do. The clock is the node's. Signatures are compared in constant time; no secret is
//! in an error or in the log.

mod claim;
mod key;
mod old;
mod sign;

pub use claim::{Claim, Scope};
pub use key::{SigningKey, SigningKeys};
pub use sign::{ChunkSigner, matches, old_signature};

use cairn_io::time::Duration;

use super::date;
use super::error::{Code, Result, S3Error};
use super::hash::unhex;
use super::head::Head;
use crate::cluster::Map;
use claim::{Place, too_skewed};
use sign::EMPTY_SHA256;

/// How far a client's clock may be off.
pub const SKEW_MAX: Duration = Duration::from_mins(15);

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Who {
    /// Somebody without a key.
    #[default]
    Anonymous,
    /// A user.
    User {
        /// Its name.
        name: String,
        /// The public half of the key that was used.
        access: String,
        /// How it signed.
        signed: Version,
    },
}

/// A way of signing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 2.
    Old,
    /// 4.
    New,
    /// Not at all: the hello of its connection proved who it is.
    Hello,
}

impl Version {
    /// As policies call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Old => "AWS",
            Self::New => "AWS4-HMAC-SHA256",
            Self::Hello => "CAIRN-HELLO-1",
        }
    }
}

impl Who {
    /// The user's name; `None`: it is nobody.
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::Anonymous => None,
            Self::User { name, .. } => Some(name),
        }
    }

    /// For the audit.
    pub fn for_audit(&self) -> &str {
        self.user().unwrap_or("anonymous")
    }
}

/// How a body comes, and what proves it.
pub enum Framing {
    /// As it is, unproven.
    Plain,
    /// As it is; its SHA-256 was signed.
    Sha256([u8; 32]),
    /// In chunks with heads of their own.
    Chunked {
        /// Checks the chunks' signatures; `None`: they have none.
        signer: Option<Box<ChunkSigner>>,
        /// Whether headers come behind the last.
        has_trailer: bool,
    },
}

/// What a signature proves.
pub struct Proof {
    /// Who asks.
    pub who: Who,
    /// What is known of the body.
    pub framing: Framing,
}

/// The part of the configuration that signatures depend on.
#[derive(Clone, Debug)]
pub struct Realm {
    /// The region that clients sign for, beside the one that all know.
    pub region: String,
}

/// The region that clients take when they are told none.
pub const REGION_DEFAULT: &str = "us-east-1";

impl Realm {
    /// Whether signatures for this region are taken.
    pub fn knows(&self, region: &str) -> bool {
        region == self.region || region == REGION_DEFAULT
    }
}

/// Checks the signature of a request.
///
/// # Errors
/// What S3 says of a signature that doesn't hold.
pub fn check(head: &Head, map: &Map, keys: &SigningKeys, realm: &Realm, now: u64) -> Result<Proof> {
    if old::is_old(head) {
        let who = old::check(head, map, now)?;
        return Ok(Proof { who, framing: framing(head, None)? });
    }
    let Some(claim) = Claim::of(head)? else {
        let framing = framing(head, None)?;
        return Ok(Proof { who: Who::Anonymous, framing });
    };
    claim.check_scope(realm)?;
    check_time(&claim, now)?;
    let key = map
        .key(claim.scope.access)
        .ok_or_else(|| S3Error::from(Code::InvalidAccessKeyId).with("AWSAccessKeyId", claim.scope.access))?;
    let signing = keys.get(&claim.scope, &key.secret);
    let signed = claim
        .verify(head, &signing)?
        .ok_or_else(|| S3Error::from(Code::SignatureDoesNotMatch).with("AWSAccessKeyId", claim.scope.access))?;
    let who = Who::User { name: key.user.clone(), access: claim.scope.access.to_owned(), signed: Version::New };
    let framing = framing(head, Some(Signed { claim, key: signing, signature: signed }))?;
    Ok(Proof { who, framing })
}

fn check_time(claim: &Claim, now: u64) -> Result<()> {
    let skew = SKEW_MAX.as_millis() as u64;
    match claim.place {
        Place::Query { expires } => {
            if claim.time > now + skew {
                return Err(Code::AccessDenied.says("Request is not yet valid"));
            }
            if now > claim.time.saturating_add(expires * 1000) {
                let ended = date::iso(claim.time.saturating_add(expires * 1000));
                return Err(Code::AccessDenied
                    .says("Request has expired")
                    .with("Expires", ended)
                    .with("ServerTime", date::iso(now)));
            }
            Ok(())
        }
        Place::Header => too_skewed(claim.time, now),
    }
}

/// A request whose signature holds.
struct Signed<'h> {
    claim: Claim<'h>,
    key: SigningKey,
    signature: [u8; 32],
}

/// What `x-amz-content-sha256` says of the body.
fn framing(head: &Head, signed: Option<Signed<'_>>) -> Result<Framing> {
    let wrong = || {
        S3Error::argument(
            "x-amz-content-sha256",
            "",
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value.",
        )
    };
    let stated = head.only("x-amz-content-sha256")?;
    let in_header = signed.as_ref().is_some_and(|signed| signed.claim.place == Place::Header);
    let chunks = |has_trailer| {
        let signed = signed.ok_or_else(|| Code::AccessDenied.says("Signed chunks need a signed request"))?;
        if signed.claim.place != Place::Header {
            return Err(S3Error::not_implemented("A presigned URL with signed chunks"));
        }
        let signer = ChunkSigner::new(signed.key, &signed.claim, signed.signature);
        Ok(Framing::Chunked { signer: Some(Box::new(signer)), has_trailer })
    };
    match stated {
        None if in_header => {
            Err(Code::InvalidRequest.says("Missing required header for this request: x-amz-content-sha256"))
        }
        None | Some("UNSIGNED-PAYLOAD") => Ok(Framing::Plain),
        Some("STREAMING-UNSIGNED-PAYLOAD-TRAILER") => Ok(Framing::Chunked { signer: None, has_trailer: true }),
        Some("STREAMING-AWS4-HMAC-SHA256-PAYLOAD") => chunks(false),
        Some("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER") => chunks(true),
        Some(text) if text.starts_with("STREAMING-AWS4-ECDSA") => Err(S3Error::not_implemented("Signature version 4A")),
        Some(EMPTY_SHA256) => Ok(Framing::Sha256(unhex(EMPTY_SHA256).ok_or_else(wrong)?)),
        Some(text) => Ok(Framing::Sha256(unhex(text).ok_or_else(wrong)?)),
    }
}
