//! Directories: names as they are, names as a power cut would leave them, and what lies between.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::inode::Inode;
use crate::rng::Rng;

pub(super) type DirRef = Rc<RefCell<Directory>>;
pub(super) type FileRef = Rc<RefCell<Inode>>;

#[derive(Default)]
pub(super) struct Directory {
    pub names: Names,
    pub dirs: BTreeMap<String, DirRef>,
}

impl Directory {
    pub fn power_cut(&mut self, rng: &mut Rng) {
        self.names.power_cut(rng);
        for dir in self.dirs.values() {
            dir.borrow_mut().power_cut(rng);
        }
    }

    pub fn collect_files(&self, files: &mut Vec<FileRef>) {
        self.names.collect_files(files);
        for dir in self.dirs.values() {
            dir.borrow().collect_files(files);
        }
    }

    /// A name of a file in this directory or below it.
    pub fn name_of(&self, file: &FileRef) -> Option<String> {
        let below = || self.dirs.values().find_map(|dir| dir.borrow().name_of(file));
        self.names.name_of(file).or_else(below)
    }
}

/// The files of one directory.
#[derive(Default)]
pub(super) struct Names {
    current: BTreeMap<String, FileRef>,
    durable: BTreeMap<String, FileRef>,
    /// Changes since the last sync, in order and numbered.
    pending: Vec<(u64, Change)>,
    last: u64,
}

#[derive(Clone)]
enum Change {
    Link { name: String, file: FileRef },
    Rename { from: String, to: String, file: FileRef },
    Unlink { name: String },
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, FileRef>) {
        match self {
            Self::Link { name, file } => drop(names.insert(name.clone(), file.clone())),
            Self::Rename { from, to, file } => {
                // Under an older name there may be another file, if its own removal was lost.
                if names.get(from).is_some_and(|held| Rc::ptr_eq(held, file)) {
                    names.remove(from);
                }
                names.insert(to.clone(), file.clone());
            }
            Self::Unlink { name } => drop(names.remove(name)),
        }
    }
}

impl Names {
    pub fn get(&self, name: &str) -> Option<FileRef> {
        self.current.get(name).cloned()
    }

    pub fn list(&self) -> impl Iterator<Item = &String> {
        self.current.keys()
    }

    pub fn link(&mut self, name: &str, file: FileRef) {
        self.change(Change::Link { name: name.to_owned(), file });
    }

    /// False if there is no such name.
    pub fn rename(&mut self, from: &str, to: &str) -> bool {
        let Some(file) = self.get(from) else { return false };
        if from != to {
            self.change(Change::Rename { from: from.to_owned(), to: to.to_owned(), file });
        }
        true
    }

    /// False if there is no such name.
    pub fn unlink(&mut self, name: &str) -> bool {
        let there = self.current.contains_key(name);
        if there {
            self.change(Change::Unlink { name: name.to_owned() });
        }
        there
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.last += 1;
        self.pending.push((self.last, change));
    }

    /// The number of the latest change: what a sync that begins now will cover.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// A sync has ended that covers the changes up to `cut`.
    pub fn settle(&mut self, cut: u64) {
        let covered = self.pending.partition_point(|(number, _)| *number <= cut);
        for (_, change) in self.pending.drain(..covered) {
            change.apply(&mut self.durable);
        }
    }

    /// Some of the changes survive: half the time those up to a point, as an ordered journal would have it, else any.
    pub fn power_cut(&mut self, rng: &mut Rng) {
        let ordered = rng.chance(500_000);
        let point = rng.below(self.pending.len() as u64 + 1);
        for (place, (_, change)) in self.pending.drain(..).enumerate() {
            let kept = if ordered { (place as u64) < point } else { rng.chance(500_000) };
            if kept {
                change.apply(&mut self.durable);
            }
        }
        self.current = self.durable.clone();
    }

    fn name_of(&self, file: &FileRef) -> Option<String> {
        let mut all = self.current.iter().chain(&self.durable);
        all.find(|(_, held)| Rc::ptr_eq(held, file)).map(|(name, _)| name.clone())
    }

    fn collect_files(&self, files: &mut Vec<FileRef>) {
        files.extend(self.current.values().cloned());
        let only_durable = self
            .durable
            .iter()
            .filter(|(name, file)| !self.current.get(*name).is_some_and(|held| Rc::ptr_eq(held, file)));
        for (_, file) in only_durable {
            // A renamed file has two names for a while and is still one file.
            if !files.iter().any(|held| Rc::ptr_eq(held, file)) {
                files.push(file.clone());
            }
        }
    }
}
