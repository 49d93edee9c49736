//! How secrets lie in the control group: sealed with a secret of the cluster that no log and no row contains.
//!
//! XChaCha20-Poly1305; the name of what is sealed goes along as associated data, so that one sealed secret can't be put in
//! the place of another. The first byte is the format.

use std::io;

use cairn_io::rng;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};

const FORMAT: u8 = 1;
const NONCE_BYTES: usize = 24;

/// The secret of a cluster, which seals others.
#[derive(Clone)]
pub struct Seal(XChaCha20Poly1305);

impl Seal {
    /// Length of the cluster's secret.
    pub const BYTES: usize = 32;

    /// With this secret.
    pub fn new(secret: &[u8; Self::BYTES]) -> Self {
        Self(XChaCha20Poly1305::new(secret.into()))
    }

    /// Seals a text under a name.
    ///
    /// # Errors
    /// If the system has no randomness to give.
    pub fn close(&self, name: &str, text: &str) -> io::Result<Vec<u8>> {
        let random = rng::secret()?;
        let (nonce, _) = random.split_first_chunk::<NONCE_BYTES>().expect("a secret is longer than a nonce");
        let payload = Payload { msg: text.as_bytes(), aad: name.as_bytes() };
        let sealed =
            self.0.encrypt(&XNonce::from(*nonce), payload).expect("a text is shorter than what the cipher takes");
        Ok([&[FORMAT][..], nonce, &sealed].concat())
    }

    /// Opens what was sealed under this name with this secret; `None` if it wasn't.
    pub fn open(&self, name: &str, sealed: &[u8]) -> Option<String> {
        let (format, rest) = sealed.split_first()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>().filter(|_| *format == FORMAT)?;
        let payload = Payload { msg: sealed, aad: name.as_bytes() };
        let text = self.0.decrypt(&XNonce::from(*nonce), payload).ok()?;
        String::from_utf8(text).ok()
    }
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}
