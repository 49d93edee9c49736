//! The store in LMDB: one environment, one database for each table.
//!
//! It is always opened without any of LMDB's faster and less safe modes: a commit returns after a full sync.
//!
//! **Reading.** The owner has one read transaction, opened by the first read after a commit was finished. It never keeps
//! pages from being reused: the index is the only writer, a commit reuses only pages that the state before it had freed
//! already, and `settle` drops the transaction after every commit. So it need not be renewed by time or by count. (One for
//! each read would cost 0.12 µs more.)
//!
//! **Views** have transactions of their own, and keep pages from being reused for as long as they live.
//!
//! **Growing.** LMDB may change its map only while no transaction is open. So that happens in `settle`, on the owner,
//! when the commit is over and its hold on the environment gone: the environment is closed and opened with a larger map.
//! The same after any other failure, as LMDB refuses to go on after some. Views end then: whoever has one begins anew.

#![allow(unsafe_code, reason = "whoever maps a file must promise that nobody else changes it")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "LMDB makes its file in a directory that must be there already, and syncs no names"
)]

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::ops::{Bound, ControlFlow};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use heed::types::Bytes;
use heed::{
    CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, MdbError, RoRange, RoRevRange, RoTxn, RwTxn, WithoutTls,
};

use super::super::Stats;
use super::super::commit::Frozen;
use super::super::error::{CommitError, Error, KEY_MAX, OpenError};
use super::super::layer::Bounds;
use super::super::scan::Order;
use super::super::table::{Stored, Table};
use super::{Entries, first_facts, updates};

pub(crate) type Forward<'a> = RoRange<'a, Bytes, Bytes>;
pub(crate) type Backward<'a> = RoRevRange<'a, Bytes, Bytes>;

type Tables = [Database<'static, Bytes, Bytes>; Stored::COUNT];

/// The least address space to try with, unless the caller wants still less.
const MAP_SIZE_MIN: u64 = 1 << 30;

/// No processor maps more; a caller may wish for it.
const MAP_SIZE_MAX: u64 = 1 << 60;

/// A multiple of every page size.
const MAP_UNIT: u64 = 1 << 16;

/// The directory of LMDB's files within the lane's.
const DIR: &str = "index";
const FILES: [&str; 2] = ["data.mdb", "lock.mdb"];

/// Removes the index from a lane's directory.
pub(super) fn clear(lane: &Path) -> Result<(), OpenError> {
    let dir = lane.join(DIR);
    for file in FILES {
        match fs::remove_file(dir.join(file)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(system(&dir, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Opens the environment in a directory that exists; if there isn't so much address space, with a smaller map.
pub(crate) fn open_environment(dir: &Path, map_size: u64) -> Result<(Env<WithoutTls>, u64), heed::Error> {
    open_with(dir, map_size, EnvFlags::empty())
}

fn open_with(dir: &Path, map_size: u64, flags: EnvFlags) -> Result<(Env<WithoutTls>, u64), heed::Error> {
    let mut map_size = map_size.clamp(1, MAP_SIZE_MAX).next_multiple_of(MAP_UNIT);
    let floor = map_size.min(MAP_SIZE_MIN);
    loop {
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(map_size as usize).max_dbs(Stored::COUNT as u32);
        // SAFETY: the only flags besides none say that nothing is written, by someone who holds the lock on the lane's
        // directory, or by its node on a disk that can't be written: nobody else writes, so LMDB needs no lock of its own.
        unsafe { options.flags(flags) };
        // SAFETY: the lane's directory is locked by its node, so no other process changes the file; heed sees to it that
        // this one maps it once; and the lock file stays in use, so even a stray reader from outside does no harm.
        match unsafe { options.open(dir) } {
            Err(heed::Error::Io(error)) if error.kind() == ErrorKind::OutOfMemory && map_size > floor => {
                map_size = (map_size / 2).next_multiple_of(MAP_UNIT).max(floor);
            }
            opened => return opened.map(|env| (env, map_size)),
        }
    }
}

/// An open environment with its databases.
pub(crate) struct Environment {
    env: Env<WithoutTls>,
    tables: Tables,
}

impl Environment {
    /// An empty one is made for so many partitions; `None` for them: it must be there.
    fn open(dir: &Path, map_size: u64, partitions: Option<u32>) -> Result<(Self, u64), OpenError> {
        let (env, map_size) = open_environment(dir, map_size).map_err(|error| refused(dir, &error))?;
        make_whole(&env).map_err(|reason| unusable(dir, reason))?;
        let is_empty = env.unnamed_database_stat().entries == 0;
        let tables = if let (true, Some(partitions)) = (is_empty, partitions) {
            let created = create_tables(&env, partitions).map_err(|error| refused(dir, &error))?;
            sync_names(dir).map_err(|error| system(dir, &error))?;
            created
        } else {
            let found = open_tables(&env).map_err(|error| refused(dir, &error))?;
            found.ok_or_else(|| unusable(dir, "it lacks tables: something else made it".to_owned()))?
        };
        Ok((Self { env, tables }, map_size))
    }

    /// Opens one that is there and changes nothing, not even a lock file.
    fn open_read_only(dir: &Path, map_size: u64) -> Result<(Self, u64), OpenError> {
        let flags = EnvFlags::READ_ONLY | EnvFlags::NO_LOCK;
        let (env, map_size) = open_with(dir, map_size, flags).map_err(|error| refused(dir, &error))?;
        check_whole(&env).map_err(|reason| unusable(dir, reason))?;
        let tables = open_tables(&env).map_err(|error| refused(dir, &error))?;
        let tables = tables.ok_or_else(|| unusable(dir, "it lacks tables: something else made it".to_owned()))?;
        Ok((Self { env, tables }, map_size))
    }

    /// Writes a frozen layer in one transaction, synced.
    pub(super) fn commit(&self, frozen: &Frozen) -> Result<(), CommitError> {
        self.write(frozen).map_err(|error| match &error {
            heed::Error::Mdb(MdbError::MapFull) => CommitError::MapFull,
            heed::Error::Io(io) if is_full(io) || self.has_no_room() => CommitError::DiskFull(error.to_string()),
            _ => CommitError::Failed(error.to_string()),
        })
    }

    /// LMDB calls it EIO when only a part of a write found room, so after an error the end of the file is tried. What lies
    /// there is nothing to LMDB, and nobody else writes: the owner has one commit at a time.
    fn has_no_room(&self) -> bool {
        let try_end = || {
            let file = self.env.try_clone_inner_file().map_err(|_| io::Error::from(ErrorKind::Other))?;
            let length = file.metadata()?.len();
            let tried = file.write_all_at(&[0; ROOM], length);
            file.set_len(length).and(tried)
        };
        try_end().is_err_and(|error: io::Error| is_full(&error))
    }

    fn write(&self, frozen: &Frozen) -> heed::Result<()> {
        let mut txn = self.env.write_txn()?;
        for (table, key, value) in updates(frozen) {
            let table = &self.tables[table.place()];
            match value {
                Some(value) => table.put(&mut txn, key, &value)?,
                None => drop(table.delete(&mut txn, key)?),
            }
        }
        txn.commit()
    }
}

/// What LMDB writes at once at least, when it was short of room.
const ROOM: usize = 1 << 18;

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// LMDB syncs its file, not the file's name, and nobody syncs the name of the directory.
fn sync_names(dir: &Path) -> io::Result<()> {
    [Some(dir), dir.parent()].into_iter().flatten().try_for_each(|dir| File::open(dir)?.sync_all())
}

fn create_tables(env: &Env<WithoutTls>, partitions: u32) -> heed::Result<Tables> {
    let created = env.create_databases_and_commit(env.write_txn()?, |opener, txn: &mut RwTxn<'_>| {
        let mut tables = Vec::with_capacity(Stored::COUNT);
        for name in Stored::NAMES {
            tables.push(opener.create_database::<Bytes, Bytes>(txn, Some(name))?);
        }
        for (key, value) in first_facts(partitions) {
            tables[Stored::Facts.place()].put(txn, key, &value)?;
        }
        Ok::<_, heed::Error>(all(tables).map_or(CommitOrAbort::Abort(()), CommitOrAbort::Commit))
    })?;
    created.commit().ok_or(heed::Error::Mdb(MdbError::DbsFull))
}

/// `None` if one is missing.
fn open_tables(env: &Env<WithoutTls>) -> heed::Result<Option<Tables>> {
    let opened = env.open_databases_and_commit(env.read_txn()?, |opener, txn| {
        let mut tables = Vec::with_capacity(Stored::COUNT);
        for name in Stored::NAMES {
            tables.extend(opener.open_database::<Bytes, Bytes>(txn, Some(name))?);
        }
        Ok::<_, heed::Error>(all(tables).map_or(CommitOrAbort::Abort(()), CommitOrAbort::Commit))
    })?;
    Ok(opened.commit())
}

fn all<T>(tables: Vec<T>) -> Option<[T; Stored::COUNT]> {
    tables.try_into().ok()
}

/// Pages at the end of the file that LMDB may have taken and given back without writing them.
const UNWRITTEN_MAX: u64 = 4096;

/// A page that is mapped but beyond the end of the file kills whoever reads it. LMDB leaves a few such pages by itself and
/// never reads them; a file that was cut short has them in use. Behind a longer file they are zeros, which LMDB refuses.
fn make_whole(env: &Env<WithoutTls>) -> Result<(), String> {
    let (file, length, whole) = check_whole(env)?;
    if length < whole { file.set_len(whole).map_err(|error| error.to_string()) } else { Ok(()) }
}

/// The file, its length, and the length it should have.
fn check_whole(env: &Env<WithoutTls>) -> Result<(File, u64, u64), String> {
    let page = u64::from(env.unnamed_database_stat().page_size);
    let whole = (env.info().last_page_number as u64 + 1) * page;
    let file = env.try_clone_inner_file().map_err(|error| error.to_string())?;
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    if length + UNWRITTEN_MAX * page < whole {
        return Err(format!("its file has {length} bytes and needs {whole}: it was cut short"));
    }
    Ok((file, length, whole))
}

/// Reads a file from end to end: a page that the disk can't read would kill whoever touches it in the map.
fn try_reading(path: &Path) -> io::Result<()> {
    let (file, mut piece, mut at) = (File::open(path)?, vec![0; 1 << 20], 0);
    loop {
        match file.read_at(&mut piece, at)? {
            0 => return Ok(()),
            read => at += read as u64,
        }
    }
}

fn unusable(dir: &Path, reason: String) -> OpenError {
    OpenError::Unusable { dir: dir.to_owned(), reason }
}

fn system(dir: &Path, error: &io::Error) -> OpenError {
    OpenError::System { dir: dir.to_owned(), reason: error.to_string() }
}

fn refused(dir: &Path, error: &heed::Error) -> OpenError {
    match error {
        heed::Error::EnvAlreadyOpened => OpenError::InUse(dir.to_owned()),
        heed::Error::Io(error) => system(dir, error),
        _ => unusable(dir, error.to_string()),
    }
}

pub(super) fn unreadable(error: &heed::Error) -> Error {
    Error::Unreadable(error.to_string())
}

/// The owner's side: the environment, and one transaction to read with.
pub(crate) struct Home {
    dir: PathBuf,
    map_size: u64,
    /// `None` while it can't be opened again after a failed commit.
    environment: Option<Arc<Environment>>,
    reader: OnceCell<RoTxn<'static, WithoutTls>>,
    /// Views that may still be in use.
    views: Mutex<Vec<Weak<Viewed>>>,
}

/// The environment and a transaction of its own; nothing after the store had to be opened again.
type Viewed = Mutex<Option<(Arc<Environment>, RoTxn<'static, WithoutTls>)>>;

/// See `Home::view`.
pub(crate) struct View(Arc<Viewed>);

impl View {
    pub(super) fn range(
        &self,
        table: Stored,
        bounds: Bounds<'_>,
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (environment, reader) =
            open.as_ref().ok_or_else(|| Error::Unreadable("it was opened again meanwhile".to_owned()))?;
        for entry in environment.tables[table.place()].range(reader, &bounds).map_err(|error| unreadable(&error))? {
            let (key, value) = entry.map_err(|error| unreadable(&error))?;
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl Home {
    pub(super) fn open(lane: &Path, map_size: u64, partitions: u32) -> Result<Self, OpenError> {
        let dir = lane.join(DIR);
        fs::create_dir(&dir)
            .or_else(|error| if error.kind() == ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })
            .map_err(|error| system(&dir, &error))?;
        let (environment, map_size) = Environment::open(&dir, map_size, Some(partitions))?;
        Ok(Self {
            dir,
            map_size,
            environment: Some(Arc::new(environment)),
            reader: OnceCell::new(),
            views: Mutex::default(),
        })
    }

    /// Opens one that is there to read it; `None` if there is none.
    pub(super) fn open_read_only(lane: &Path, map_size: u64) -> Result<Option<Self>, OpenError> {
        let dir = lane.join(DIR);
        match fs::metadata(dir.join(FILES[0])) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(system(&dir, &error)),
        }
        try_reading(&dir.join(FILES[0])).map_err(|error| system(&dir, &error))?;
        let (environment, map_size) = Environment::open_read_only(&dir, map_size)?;
        Ok(Some(Self {
            dir,
            map_size,
            environment: Some(Arc::new(environment)),
            reader: OnceCell::new(),
            views: Mutex::default(),
        }))
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn environment(&self) -> Option<Arc<Environment>> {
        self.environment.clone()
    }

    fn reading(&self) -> Result<(&Environment, &RoTxn<'static, WithoutTls>), Error> {
        let environment = self.environment.as_ref().ok_or_else(|| Error::Unreadable("it is closed".to_owned()))?;
        if self.reader.get().is_none() {
            let reader = environment.env.clone().static_read_txn().map_err(|error| unreadable(&error))?;
            // Nobody else can have set it: there is one owner, and opening a transaction calls nothing of ours.
            drop(self.reader.set(reader));
        }
        let reader = self.reader.get().ok_or_else(|| Error::Unreadable("no transaction to read with".to_owned()))?;
        Ok((environment, reader))
    }

    pub(super) fn get(&self, table: Stored, key: &[u8]) -> Result<Option<&[u8]>, Error> {
        if key.is_empty() || key.len() > KEY_MAX {
            return Ok(None);
        }
        let (environment, reader) = self.reading()?;
        environment.tables[table.place()].get(reader, key).map_err(|error| unreadable(&error))
    }

    /// LMDB takes no empty key, not even as a bound.
    pub(super) fn range(&self, table: Stored, bounds: Bounds<'_>, order: Order) -> Result<Entries<'_>, Error> {
        let bounds = match bounds {
            (_, Bound::Included([]) | Bound::Excluded([])) => return Ok(Entries::Empty),
            (Bound::Included([]) | Bound::Excluded([]), high) => (Bound::Unbounded, high),
            bounds => bounds,
        };
        let (environment, reader) = self.reading()?;
        let table = &environment.tables[table.place()];
        let entries = match order {
            Order::Forward => table.range(reader, &bounds).map(Entries::Forward),
            Order::Backward => table.rev_range(reader, &bounds).map(Entries::Backward),
        };
        entries.map_err(|error| unreadable(&error))
    }

    /// What is committed now, for as long as one likes.
    pub(super) fn view(&self) -> Result<View, Error> {
        let environment = self.environment.clone().ok_or_else(|| Error::Unreadable("it is closed".to_owned()))?;
        let reader = environment.env.clone().static_read_txn().map_err(|error| unreadable(&error))?;
        let open = Arc::new(Mutex::new(Some((environment, reader))));
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        views.retain(|view| view.strong_count() > 0);
        views.push(Arc::downgrade(&open));
        drop(views);
        Ok(View(open))
    }

    pub(super) fn len(&self, table: Stored) -> Result<u64, Error> {
        let (environment, reader) = self.reading()?;
        environment.tables[table.place()].len(reader).map_err(|error| unreadable(&error))
    }

    pub(super) fn settle(&mut self, failed: Option<&CommitError>) {
        self.reader.take();
        let Some(error) = failed else { return };
        // It can be opened again only when nobody has it open.
        for view in self.views.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            view.upgrade().into_iter().for_each(|view| *view.lock().unwrap_or_else(PoisonError::into_inner) = None);
        }
        self.environment = None;
        let wanted = if *error == CommitError::MapFull { self.map_size.saturating_mul(2) } else { self.map_size };
        // If a larger map is refused, the old one is still better than none.
        let open = |map_size| Environment::open(&self.dir, map_size, None);
        let opened = open(wanted).or_else(|_| open(self.map_size));
        // On a disk that became read-only reads go on, and commits keep failing.
        let opened = opened.or_else(|_| Environment::open_read_only(&self.dir, self.map_size));
        if let Ok((environment, map_size)) = opened {
            self.map_size = map_size;
            self.environment = Some(Arc::new(environment));
        }
    }

    pub(super) fn stats(&self, stats: &mut Stats) -> Result<(), Error> {
        let (environment, reader) = self.reading()?;
        let chunks = environment.tables[Stored::Table(Table::Chunks).place()];
        let chunks = chunks.stat(reader).map_err(|error| unreadable(&error))?;
        stats.file_bytes = environment.env.real_disk_size().map_err(|error| unreadable(&error))?;
        stats.map_bytes = self.map_size;
        stats.page_bytes = u64::from(chunks.page_size);
        stats.pages = environment.env.info().last_page_number as u64 + 1;
        stats.chunks_depth = chunks.depth;
        Ok(())
    }
}
