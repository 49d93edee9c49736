//! The files of this workspace.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// A directory of sources.
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    pub fn workspace() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace");
        Self { root: root.to_owned() }
    }

    /// A file's text; empty if it isn't there.
    pub fn text(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap_or_default()
    }

    /// Whether a file or directory is there.
    pub fn has(&self, path: &str) -> bool {
        self.root.join(path.trim_start_matches('/')).exists()
    }

    /// The names in a directory, sorted.
    pub fn names(&self, dir: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(dir)).into_iter().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect();
        names.sort_unstable();
        names
    }

    /// Every file with one of the endings: its path from the root and its text.
    pub fn files(&self, endings: &[&str]) -> Vec<(String, String)> {
        let mut found = Vec::new();
        self.collect(Path::new(""), endings, &mut found);
        found
    }

    fn collect(&self, dir: &Path, endings: &[&str], found: &mut Vec<(String, String)>) {
        for name in self.names(&dir.to_string_lossy()) {
            let path = dir.join(&name);
            let whole = self.root.join(&path);
            let hidden = name.starts_with('.') && name != ".ci" && name != ".cargo" && name != ".config";
            if hidden || name == "target" || name == "node_modules" || whole.is_symlink() {
                continue;
            }
            if whole.is_dir() {
                self.collect(&path, endings, found);
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                let text = fs::read_to_string(&whole).unwrap_or_default();
                found.push((path.to_string_lossy().into_owned(), text));
            }
        }
    }
}
