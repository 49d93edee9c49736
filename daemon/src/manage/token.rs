//! The token that allows to stop a node: 256 random bits in a file that only its owner may read, made anew at each start.

use std::io;

use cairn_io::fs::{Dir, Mode};
use cairn_io::{block, rng};

/// The file's name in a data directory.
pub const FILE: &str = "management-token";
const NEW: &str = "management-token.new";

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
        if dir.list().await?.iter().any(|name| name == NEW) {
            dir.remove(NEW).await?;
        }
        // Files are made so that only their owner may read and write them.
        let file = dir.open_file(NEW, Mode::CreateNew).await?;
        let mut page = block::alloc(file.align()).await?;
        page.fill(0);
        page[..text.len()].copy_from_slice(text.as_bytes());
        page[text.len()] = b'\n';
        file.write_at(page.freeze(), 0).await?;
        file.set_len(text.len() as u64 + 1).await?;
        file.sync_data().await?;
        dir.rename(NEW, FILE).await?;
        dir.sync().await?;
        Ok(Self(blake3::hash(text.as_bytes())))
    }

    /// Whether this is the token. Hashes are compared in a time that says nothing about them.
    pub fn is(&self, text: &str) -> bool {
        self.0 == blake3::hash(text.as_bytes())
    }
}
