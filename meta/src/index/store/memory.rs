//! The store in memory: what was committed survives the index, as on disk. Commits are atomic and fail when told to.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::commit::Frozen;
use super::super::error::CommitError;
use super::super::layer::Bounds;
use super::super::scan::Order;
use super::super::table::Stored;
use super::{first_facts, updates};

/// A store in memory; clones are the same store.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    tables: [BTreeMap<Vec<u8>, Vec<u8>>; Stored::COUNT],
    /// So many commits more fail, and how.
    faults: Option<(u32, Fault)>,
}

/// How a commit fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// As on a full disk.
    NoRoom,
    /// As on a broken one.
    Broken,
}

impl Memory {
    /// Makes the next commits fail, so many of them.
    pub fn fail_commits(&self, commits: u32, fault: Fault) {
        self.lock().faults = Some((commits, fault));
    }

    pub(super) fn clear(&self) {
        *self.lock() = Shared::default();
    }

    pub(super) fn prepare(&self, partitions: u32) {
        let facts = &mut self.lock().tables[Stored::Facts.place()];
        if facts.is_empty() {
            facts.extend(first_facts(partitions).map(|(key, value)| (key.to_vec(), value.to_vec())));
        }
    }

    pub(super) fn get(&self, table: Stored, key: &[u8]) -> Option<Vec<u8>> {
        self.lock().tables[table.place()].get(key).cloned()
    }

    pub(super) fn len(&self, table: Stored) -> u64 {
        self.lock().tables[table.place()].len() as u64
    }

    pub(super) fn range(
        &self,
        table: Stored,
        bounds: Bounds<'_>,
        order: Order,
        limit: usize,
    ) -> Vec<(Vec<u8>, Vec<u8>)> {
        let bounds: (Bound<&[u8]>, Bound<&[u8]>) = bounds;
        let shared = self.lock();
        let range = shared.tables[table.place()].range::<[u8], _>(bounds);
        let copy = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
        match order {
            Order::Forward => range.take(limit).map(copy).collect(),
            Order::Backward => range.rev().take(limit).map(copy).collect(),
        }
    }

    /// A copy of a table.
    pub(super) fn copy(&self, table: Stored) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.lock().tables[table.place()].clone()
    }

    pub(super) fn commit(&self, frozen: &Frozen) -> Result<(), CommitError> {
        let mut shared = self.lock();
        if let Some((commits, fault)) = shared.faults.take_if(|(commits, _)| *commits > 0) {
            shared.faults = Some((commits - 1, fault));
            return Err(match fault {
                Fault::NoRoom => CommitError::DiskFull("told to have none".to_owned()),
                Fault::Broken => CommitError::Failed("told to fail".to_owned()),
            });
        }
        for (table, key, value) in updates(frozen) {
            let entries = &mut shared.tables[table.place()];
            match value {
                Some(value) => drop(entries.insert(key.to_vec(), value.into_owned())),
                None => drop(entries.remove(key)),
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
