//! Signing keys: derived from a secret for a day, a region and a service, and kept for a while, as deriving costs four hashes.

use std::cell::RefCell;
use std::rc::Rc;

use hmac::{Hmac, KeyInit, Mac};
use quick_cache::unsync::Cache;
use sha2::Sha256;

use super::claim::Scope;

/// Keys that are kept.
const KEYS_MAX: usize = 256;

/// A key for a day, a region and a service, ready to sign.
#[derive(Clone)]
pub struct SigningKey(Rc<Hmac<Sha256>>);

impl SigningKey {
    /// Derives it.
    pub fn derive(secret: &str, scope: &Scope<'_>) -> Self {
        let secret = Self::of(format!("AWS4{secret}").as_bytes());
        [scope.date, scope.region, scope.service, "aws4_request"]
            .iter()
            .fold(secret, |key, part| Self::of(&key.sign(&[part])))
    }

    fn of(key: &[u8]) -> Self {
        Self(Rc::new(Hmac::new_from_slice(key).expect("a key has any length")))
    }

    /// Signs a text, given in pieces.
    pub fn sign(&self, text: &[&str]) -> [u8; 32] {
        let mut mac = Hmac::clone(&self.0);
        text.iter().for_each(|piece| mac.update(piece.as_bytes()));
        mac.finalize().into_bytes().into()
    }
}

/// Keys that were derived of late, of one core, by the credentials that name them. What is kept goes with the secret that it was
/// made of.
pub struct SigningKeys(RefCell<Cache<String, (String, SigningKey)>>);

impl Default for SigningKeys {
    fn default() -> Self {
        Self(RefCell::new(Cache::new(KEYS_MAX)))
    }
}

impl SigningKeys {
    /// The key of a scope.
    pub fn get(&self, scope: &Scope<'_>, secret: &str) -> SigningKey {
        if let Some((of, key)) = self.0.borrow_mut().get(scope.credential)
            && of == secret
        {
            return key.clone();
        }
        let key = SigningKey::derive(secret, scope);
        self.0.borrow_mut().insert(scope.credential.to_owned(), (secret.to_owned(), key.clone()));
        key
    }
}
