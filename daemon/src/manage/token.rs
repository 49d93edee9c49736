//! The token that allows to stop a node: 256 random bits in a file that only its owner may read, made anew at each start.

use std::io;

use cairn_io::fs::Dir;
use cairn_io::rng;

use crate::private;

/// The file's name in a data directory.
pub const FILE: &str = "management-token";

/// What a token is compared with: only its hash is kept, so that it can't come into a log or a dump of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(blake3::Hash);

impl Token {
    /// Makes a token and writes it into a file of this directory, in place of an older one.
    ///
    /// # Errors
    /// If the file can't be written, or the system has no randomness to give.
    pub async fn create(dir: &Dir) -> io::Result<Self> {
        let text: String = rng::secret()?.iter().map(|byte| format!("{byte:02x}")).collect();
        private::write(dir, FILE, &format!("{text}\n")).await?;
        Ok(Self(blake3::hash(text.as_bytes())))
    }

    /// Whether this is the token. Hashes are compared in a time that says nothing about them.
    pub fn is(&self, text: &str) -> bool {
        self.0 == blake3::hash(text.as_bytes())
    }
}
