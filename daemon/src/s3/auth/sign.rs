//! The arithmetic of signatures.

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use subtle::ConstantTimeEq;

use super::claim::Claim;
use super::key::SigningKey;
use crate::s3::hash::{hex, sha256, unbase64, unhex};

/// SHA-256 of nothing.
pub const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Whether a text was signed as version 2 did, which is in Base64.
pub fn old_signature(secret: &str, text: &str, stated: &str) -> bool {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("a key has any length");
    mac.update(text.as_bytes());
    let stated: [u8; 20] = unbase64(stated).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
    bool::from(mac.finalize().into_bytes()[..].ct_eq(&stated))
}

/// Whether a signature is the one that a client stated in hexadecimal digits, in a time that says nothing.
pub fn matches(signature: &[u8; 32], stated: &str) -> bool {
    let stated: [u8; 32] = unhex(stated).unwrap_or_default();
    bool::from(signature.ct_eq(&stated))
}

/// Checks the signatures of a body's chunks, each of which covers the one before it.
pub struct ChunkSigner {
    key: SigningKey,
    /// Time and scope, as they are signed.
    head: String,
    previous: String,
}

impl ChunkSigner {
    /// Behind the signature of the request itself.
    pub fn new(key: SigningKey, claim: &Claim<'_>, seed: [u8; 32]) -> Self {
        let head = format!("{}\n{}", claim.stated_time, claim.scope.text());
        Self { key, head, previous: hex(&seed) }
    }

    /// Whether a chunk with this hash may follow.
    pub fn chunk(&mut self, hash: &[u8; 32], stated: &str) -> bool {
        self.follows("AWS4-HMAC-SHA256-PAYLOAD", &[EMPTY_SHA256, "\n", &hex(hash)].concat(), stated)
    }

    /// Whether a trailer may follow.
    pub fn trailer(&mut self, trailer: &[u8], stated: &str) -> bool {
        self.follows("AWS4-HMAC-SHA256-TRAILER", &hex(&sha256(trailer)), stated)
    }

    fn follows(&mut self, algorithm: &str, rest: &str, stated: &str) -> bool {
        let signature = self.key.sign(&[algorithm, "\n", &self.head, "\n", &self.previous, "\n", rest]);
        self.previous = hex(&signature);
        matches(&signature, stated)
    }
}
