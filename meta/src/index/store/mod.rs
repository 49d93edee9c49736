//! Where commits go: LMDB, or memory in simulations.

pub(super) mod lmdb;
#[cfg(feature = "sim")]
mod memory;
#[cfg(feature = "reference")]
pub mod reference;

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use super::commit::Frozen;
use super::digest::Digest;
use super::error::{CommitError, Error, OpenError};
use super::layer::Bounds;
use super::scan::Order;
use super::table::{Stored, Table};
use super::{Checkpoint, Stats};

#[cfg(feature = "sim")]
pub use memory::{Fault, Memory};

/// Where an index keeps what is committed.
#[derive(Clone, Debug)]
pub enum Store {
    /// LMDB, in `index/data.mdb` of the lane's directory.
    Lmdb {
        /// The lane's directory; it must exist.
        dir: PathBuf,
        /// Address space to reserve for the file, in bytes; it takes no memory and no disk.
        map_size: u64,
    },
    /// Memory that outlives the index: a simulated crash keeps what was committed.
    #[cfg(feature = "sim")]
    Memory(Memory),
}

/// Address space is free, and a map that is never full never has to grow.
const MAP_SIZE: u64 = 1 << 40;

impl Store {
    /// LMDB in this lane's directory, with room for any index.
    pub fn lmdb(dir: impl Into<PathBuf>) -> Self {
        Self::Lmdb { dir: dir.into(), map_size: MAP_SIZE }
    }

    /// An empty store in memory; each clone of it is the same one.
    #[cfg(feature = "sim")]
    pub fn memory() -> Self {
        Self::Memory(Memory::default())
    }

    /// Removes the index, so that it can be made anew from the log. No index of this store may be open.
    pub fn clear(&self) -> Result<(), OpenError> {
        match self {
            Self::Lmdb { dir, .. } => lmdb::clear(dir),
            #[cfg(feature = "sim")]
            Self::Memory(memory) => {
                memory.clear();
                Ok(())
            }
        }
    }
}

/// Of the layout of the store: which tables there are and what their values are like.
const FORMAT: u32 = 2;

const FORMAT_KEY: &[u8] = b"format";
const PARTITIONS_KEY: &[u8] = b"partitions";
const CHECKPOINT_KEY: &[u8] = b"checkpoint";

/// What a new store begins with.
fn first_facts(partitions: u32) -> [(&'static [u8], [u8; 4]); 2] {
    [(FORMAT_KEY, FORMAT.to_le_bytes()), (PARTITIONS_KEY, partitions.to_le_bytes())]
}

/// An update of the store: `None` deletes.
type Update<'a> = (Stored, &'a [u8], Option<Cow<'a, [u8]>>);

/// All that a commit writes, table after table in the order of keys.
fn updates(frozen: &Frozen) -> impl Iterator<Item = Update<'_>> {
    let entries = frozen.updates().map(|(table, key, value)| (Stored::Table(table), key, value.map(Cow::Borrowed)));
    let digests = frozen.digests.iter().map(|(key, digest)| {
        let value = (*digest != Digest::default()).then(|| Cow::Owned(digest.encode().to_vec()));
        (Stored::Digests, &key[..], value)
    });
    let checkpoint = (Stored::Facts, CHECKPOINT_KEY, Some(Cow::Owned(frozen.checkpoint.encode().to_vec())));
    entries.chain(digests).chain([checkpoint])
}

/// An open store.
pub(super) enum Backend {
    Lmdb(lmdb::Home),
    #[cfg(feature = "sim")]
    Memory(Memory),
    /// Empty for ever: what is put into the index stays in its overlay.
    Nothing,
}

impl Backend {
    /// Opens a store that is there, to read it and change nothing; `None` if there is none.
    pub(super) fn open_read_only(store: &Store) -> Result<Option<Self>, OpenError> {
        match store {
            Store::Lmdb { dir, map_size } => Ok(lmdb::Home::open_read_only(dir, *map_size)?.map(Self::Lmdb)),
            #[cfg(feature = "sim")]
            Store::Memory(memory) => Ok(Some(Self::Memory(memory.clone()))),
        }
    }

    /// Opens the store; an empty one is made for so many partitions.
    pub(super) fn open(store: &Store, partitions: u32) -> Result<Self, OpenError> {
        match store {
            Store::Lmdb { dir, map_size } => lmdb::Home::open(dir, *map_size, partitions).map(Self::Lmdb),
            #[cfg(feature = "sim")]
            Store::Memory(memory) => {
                memory.prepare(partitions);
                Ok(Self::Memory(memory.clone()))
            }
        }
    }

    /// The index's directory.
    pub(super) fn dir(&self) -> PathBuf {
        match self {
            Self::Lmdb(home) => home.dir().to_owned(),
            #[cfg(feature = "sim")]
            Self::Memory(_) => PathBuf::from("memory"),
            Self::Nothing => PathBuf::new(),
        }
    }

    pub(super) fn get_with<R>(
        &self,
        table: Stored,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, Error> {
        match self {
            Self::Lmdb(home) => Ok(home.get(table, key)?.map(read)),
            #[cfg(feature = "sim")]
            Self::Memory(memory) => Ok(memory.get(table, key).as_deref().map(read)),
            Self::Nothing => Ok(None),
        }
    }

    /// The entries within bounds; in memory at most `limit` of them.
    #[cfg_attr(not(feature = "sim"), expect(unused_variables, reason = "only memory copies"))]
    pub(super) fn range(
        &self,
        table: Stored,
        bounds: Bounds<'_>,
        order: Order,
        limit: usize,
    ) -> Result<Entries<'_>, Error> {
        match self {
            Self::Lmdb(home) => home.range(table, bounds, order),
            #[cfg(feature = "sim")]
            Self::Memory(memory) => Ok(Entries::Copied(memory.range(table, bounds, order, limit).into_iter())),
            Self::Nothing => Ok(Entries::Empty),
        }
    }

    /// What is committed now, to look at for as long as one likes.
    pub(super) fn view(&self) -> Result<View, Error> {
        match self {
            Self::Lmdb(home) => Ok(View::Lmdb(home.view()?)),
            #[cfg(feature = "sim")]
            Self::Memory(memory) => {
                let copy = |table| memory.copy(Stored::Table(table));
                Ok(View::Copied(Box::new(Table::ALL.map(copy))))
            }
            Self::Nothing => Ok(View::Nothing),
        }
    }

    pub(super) fn len(&self, table: Stored) -> Result<u64, Error> {
        match self {
            Self::Lmdb(home) => home.len(table),
            #[cfg(feature = "sim")]
            Self::Memory(memory) => Ok(memory.len(table)),
            Self::Nothing => Ok(0),
        }
    }

    pub(super) fn checkpoint(&self) -> Result<Option<Checkpoint>, Error> {
        let decoded = self.get_with(Stored::Facts, CHECKPOINT_KEY, Checkpoint::decode)?;
        let wrong = || Error::undecodable(Stored::Facts, CHECKPOINT_KEY, "no checkpoint of a version known here");
        decoded.map(|checkpoint| checkpoint.ok_or_else(wrong)).transpose()
    }

    /// Format and number of partitions, or what is wrong with them.
    pub(super) fn facts(&self) -> Result<(u32, u32), String> {
        let number = |key: &'static [u8]| {
            let read = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_le_bytes);
            let found = self.get_with(Stored::Facts, key, read).map_err(|error| error.to_string())?;
            found.flatten().ok_or_else(|| format!("it doesn't say its {}", String::from_utf8_lossy(key)))
        };
        let format = number(FORMAT_KEY)?;
        if format != FORMAT {
            return Err(format!("it has format {format}, this program knows format {FORMAT}"));
        }
        Ok((format, number(PARTITIONS_KEY)?))
    }

    /// Someone who can commit on another thread.
    pub(super) fn writer(&self) -> Writer {
        match self {
            Self::Lmdb(home) => home.environment().map_or(Writer::None, Writer::Lmdb),
            #[cfg(feature = "sim")]
            Self::Memory(memory) => Writer::Memory(memory.clone()),
            Self::Nothing => Writer::None,
        }
    }

    /// After a commit: what is read from now on is what is there now. After a failed one, the store is opened anew.
    pub(super) fn settle(&mut self, failed: Option<&CommitError>) {
        match self {
            Self::Lmdb(home) => home.settle(failed),
            #[cfg(feature = "sim")]
            Self::Memory(_) => {}
            Self::Nothing => {}
        }
    }

    pub(super) fn stats(&self, stats: &mut Stats) -> Result<(), Error> {
        match self {
            Self::Lmdb(home) => home.stats(stats),
            #[cfg(feature = "sim")]
            Self::Memory(_) => Ok(()),
            Self::Nothing => Ok(()),
        }
    }
}

/// See `Backend::view`.
pub(super) enum View {
    Lmdb(lmdb::View),
    #[cfg(feature = "sim")]
    Copied(Box<[std::collections::BTreeMap<Vec<u8>, Vec<u8>>; Table::ALL.len()]>),
    Nothing,
}

impl View {
    #[cfg_attr(not(feature = "sim"), expect(unused_mut, reason = "only memory calls it here"))]
    pub(super) fn range(
        &self,
        table: Table,
        bounds: Bounds<'_>,
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        match self {
            Self::Lmdb(view) => view.range(Stored::Table(table), bounds, visit),
            #[cfg(feature = "sim")]
            Self::Copied(tables) => {
                let mut rows = tables[Stored::Table(table).place()].range::<[u8], _>(bounds);
                let _ = rows.try_for_each(|(key, value)| visit(key, value));
                Ok(())
            }
            Self::Nothing => Ok(()),
        }
    }
}

/// Commits, once, on whatever thread.
pub(super) enum Writer {
    Lmdb(Arc<lmdb::Environment>),
    #[cfg(feature = "sim")]
    Memory(Memory),
    /// The store could not be opened again after a failure, or is none.
    None,
}

impl Writer {
    pub(super) fn commit(self, frozen: &Frozen) -> Result<(), CommitError> {
        match self {
            Self::Lmdb(environment) => environment.commit(frozen),
            #[cfg(feature = "sim")]
            Self::Memory(memory) => memory.commit(frozen),
            Self::None => Err(CommitError::Failed("it is closed".to_owned())),
        }
    }
}

/// Entries of the store in the order asked for.
pub(super) enum Entries<'a> {
    Forward(lmdb::Forward<'a>),
    Backward(lmdb::Backward<'a>),
    Empty,
    #[cfg(feature = "sim")]
    Copied(std::vec::IntoIter<(Vec<u8>, Vec<u8>)>),
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<(Cow<'a, [u8]>, Cow<'a, [u8]>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = match self {
            Self::Forward(range) => range.next()?,
            Self::Backward(range) => range.next()?,
            Self::Empty => return None,
            #[cfg(feature = "sim")]
            Self::Copied(copied) => return copied.next().map(|(key, value)| Ok((Cow::Owned(key), Cow::Owned(value)))),
        };
        Some(
            entry
                .map(|(key, value)| (Cow::Borrowed(key), Cow::Borrowed(value)))
                .map_err(|error| lmdb::unreadable(&error)),
        )
    }
}
