//! The arithmetic of signatures.

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::claim::Claim;
use super::key::SigningKey;
use crate::s3::hash::{hex, sha256, unbase64, unhex};

/// SHA-256 of nothing.
pub const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// HMAC-SHA256 of several pieces.
pub fn hmac(key: &[u8], pieces: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key has any length");
    pieces.iter().for_each(|piece| mac.update(piece));
    mac.finalize().into_bytes().into()
}

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
    pub fn new(key: SigningKey, claim: &Claim, seed: [u8; 32]) -> Self {
        let head = format!("{}\n{}", claim.stated_time, claim.scope.text());
        Self { key, head, previous: hex(&seed) }
    }

    /// Whether a chunk with this hash may follow.
    pub fn chunk(&mut self, hash: &[u8; 32], stated: &str) -> bool {
        let text = format!("AWS4-HMAC-SHA256-PAYLOAD\n{}\n{}\n{EMPTY_SHA256}\n{}", self.head, self.previous, hex(hash));
        self.follows(&text, stated)
    }

    /// Whether a trailer may follow.
    pub fn trailer(&mut self, trailer: &[u8], stated: &str) -> bool {
        let text = format!("AWS4-HMAC-SHA256-TRAILER\n{}\n{}\n{}", self.head, self.previous, hex(&sha256(trailer)));
        self.follows(&text, stated)
    }

    fn follows(&mut self, text: &str, stated: &str) -> bool {
        let signature = self.key.sign(text);
        self.previous = hex(&signature);
        matches(&signature, stated)
    }
}
