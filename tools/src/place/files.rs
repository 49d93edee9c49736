//! The files that `cairn place` reads and writes. A command by itself, part of no node: there is no core to block, and
//! `io`'s direct files don't exist everywhere that people keep a map.

#![allow(clippy::disallowed_methods, reason = "see above")]

use std::fs;
use std::path::Path;

use crate::out::Failure;

/// The whole text of a file; `option` is how the user named it.
pub(super) fn read(path: &Path, option: &str) -> Result<String, Failure> {
    let refused = |error| format!("can't read {}: {error}; name a file that can be read with {option}", path.display());
    fs::read_to_string(path).map_err(|error| Failure::Input(refused(error)))
}

/// Writes or replaces a file; `option` is how the user named it.
pub(super) fn write(path: &Path, option: &str, text: &str) -> Result<(), Failure> {
    let refused = |error| format!("can't write {}: {error}; name another file with {option}", path.display());
    fs::write(path, text).map_err(|error| Failure::Broken(refused(error)))
}
