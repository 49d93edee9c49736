//! Signing keys: derived from a secret for a day, a region and a service, and kept for a while, as deriving costs four hashes.

use std::cell::RefCell;
use std::rc::Rc;

use quick_cache::unsync::Cache;

use super::claim::Scope;
use super::sign::hmac;

/// Keys that are kept.
const KEYS_MAX: usize = 256;

/// A key for a day, a region and a service.
#[derive(Clone)]
pub struct SigningKey(Rc<[u8; 32]>);

impl SigningKey {
    /// Derives it.
    pub fn derive(secret: &str, scope: &Scope) -> Self {
        let date = hmac(format!("AWS4{secret}").as_bytes(), &[scope.date.as_bytes()]);
        let region = hmac(&date, &[scope.region.as_bytes()]);
        let service = hmac(&region, &[scope.service.as_bytes()]);
        Self(Rc::new(hmac(&service, &[b"aws4_request"])))
    }

    /// Signs a text.
    pub fn sign(&self, text: &str) -> [u8; 32] {
        hmac(&self.0[..], &[text.as_bytes()])
    }
}

/// Keys that were derived of late, of one core. What is kept goes with the secret that it was made of.
pub struct SigningKeys(RefCell<Cache<Scope, (String, SigningKey)>>);

impl Default for SigningKeys {
    fn default() -> Self {
        Self(RefCell::new(Cache::new(KEYS_MAX)))
    }
}

impl SigningKeys {
    /// The key of a scope.
    pub fn get(&self, scope: &Scope, secret: &str) -> SigningKey {
        if let Some((of, key)) = self.0.borrow_mut().get(scope)
            && of == secret
        {
            return key.clone();
        }
        let key = SigningKey::derive(secret, scope);
        self.0.borrow_mut().insert(scope.clone(), (secret.to_owned(), key.clone()));
        key
    }
}
