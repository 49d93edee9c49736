//! Small files that only their owner may read: a text that replaces the one before as a whole.

use std::io;

use cairn_io::block;
use cairn_io::fs::{self, Dir, Mode};

/// The longest there may be.
const BYTES_MAX: usize = 64 << 20;

/// Writes a file of this directory in place of an older one; durable when this returns.
///
/// # Errors
/// If it can't be written; the older one is there then.
pub async fn write(dir: &Dir, name: &str, text: &str) -> io::Result<()> {
    let unfinished = format!("{name}.new");
    if dir.list().await?.contains(&unfinished) {
        dir.remove(&unfinished).await?;
    }
    // Files are made so that only their owner may read and write them.
    let file = dir.open_file(&unfinished, Mode::CreateNew).await?;
    let mut pages = block::alloc(text.len().next_multiple_of(file.align()).max(file.align())).await?;
    pages.fill(0);
    pages[..text.len()].copy_from_slice(text.as_bytes());
    file.write_at(pages.freeze(), 0).await?;
    file.set_len(text.len() as u64).await?;
    file.sync_data().await?;
    dir.rename(&unfinished, name).await?;
    dir.sync().await
}

/// The text of a file; `None` if there is none.
///
/// # Errors
/// If it can't be read.
pub async fn read(dir: &str, name: &str) -> io::Result<Option<String>> {
    match fs::read_text(&format!("{dir}/{name}"), BYTES_MAX).await {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
