//! A disk without us: a file of its own, and bare loops of `io_uring`, threads and `pread` over it.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use io_uring::{IoUring, opcode, squeue, types};
use nix::sys::statfs::{self, FsType, fstatfs};

use super::memory::Buffer;
use super::watch::{Laps, Stop, Tally, Watch};
use crate::block::ALIGN;

/// What the file is filled with at a time, and how many such writes are under way.
const FILL: Load = Load { operation: Operation::Write, order: Order::Sequential, bytes: 1 << 20, depth: 8 };

/// Reading or writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reads.
    Read,
    /// Writes over what was written before.
    Write,
}

/// Where the next operation goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Behind the last one, from the front again at the end.
    Sequential,
    /// Anywhere.
    Random,
}

/// What a disk is asked to do.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Reading or writing.
    pub operation: Operation,
    /// In which order.
    pub order: Order,
    /// Bytes of one operation.
    pub bytes: usize,
    /// Operations under way at a time.
    pub depth: usize,
}

/// Counts the series of offsets, so that no two are alike.
static RUNS: AtomicU64 = AtomicU64::new(0);

/// The offsets of a load's operations.
#[derive(Debug)]
pub struct Offsets {
    order: Order,
    bytes: u64,
    /// How many operations find place in the file.
    places: u64,
    state: u64,
}

impl Offsets {
    /// Over a file of `file_bytes`.
    pub fn new(load: &Load, file_bytes: u64) -> Self {
        let bytes = load.bytes as u64;
        let state = match load.order {
            Order::Sequential => 0,
            // Other places every time, or one run would find in a cache what the last one read.
            Order::Random => 0x9e37_79b9_7f4a_7c15 ^ (RUNS.fetch_add(1, Ordering::Relaxed) << 20),
        };
        Self { order: load.order, bytes, places: (file_bytes / bytes).max(1), state }
    }

    /// The next one.
    pub fn next_offset(&mut self) -> u64 {
        let place = self.state % self.places;
        match self.order {
            Order::Sequential => self.state += 1,
            Order::Random => {
                self.state ^= self.state << 13;
                self.state ^= self.state >> 7;
                self.state ^= self.state << 17;
            }
        }
        place * self.bytes
    }
}

/// How a core opens the scratch file: a directory and a name in it.
#[derive(Clone, Debug)]
pub struct Place {
    /// For [`crate::fs::Dir::open`].
    pub dir: String,
    /// For [`crate::fs::Dir::open_file`].
    pub name: String,
}

/// Why a directory can't be measured. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// Nothing of that name.
    #[error("the directory {} doesn't exist; make it or choose another with --dir", .0.display())]
    Missing(PathBuf),
    /// A file, for instance.
    #[error("{} is not a directory; choose one with --dir", .0.display())]
    NotADirectory(PathBuf),
    /// No permission, or a file system for reading only.
    #[error("the directory {} can't be written: {source}; change its permissions or choose another with --dir", .dir.display())]
    Unwritable {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// tmpfs of old kernels, some network and stacked file systems.
    #[error("the file system of {} can't do direct I/O (O_DIRECT); choose a directory on ext4 or xfs with --dir", .0.display())]
    NoDirectIo(PathBuf),
    /// Too full.
    #[error("{} has {} MiB free and {} MiB are needed; make room or ask for less with --size", .dir.display(), .free >> 20, .needed >> 20)]
    NoSpace {
        /// The directory.
        dir: PathBuf,
        /// What is free.
        free: u64,
        /// What the file and a reserve need.
        needed: u64,
    },
    /// Anything else.
    #[error("can't make a file in {}: {source}; choose another directory with --dir", .dir.display())]
    Other {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A file to measure with. It has no name from the moment it exists, so nothing of it is left behind however the
/// program ends.
#[derive(Debug)]
pub struct Scratch {
    pub(super) file: File,
    bytes: u64,
    pub(super) uring: bool,
}

impl Scratch {
    /// Makes an empty file for direct I/O in `dir`; [`Scratch::fill`] gives it its `bytes`.
    ///
    /// # Errors
    /// If the directory can't take such a file.
    pub fn create(dir: &Path, bytes: u64) -> Result<Self, ScratchError> {
        check_dir(dir)?;
        check_space(dir, bytes)?;
        let path = dir.join(format!(".cairn-bench-{}", std::process::id()));
        let opened = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_DIRECT | libc::O_CLOEXEC)
            .open(&path);
        // A file system without direct I/O makes the file and then refuses it, so the name goes in any case but one.
        if !matches!(&opened, Err(error) if error.kind() == io::ErrorKind::AlreadyExists) {
            drop(fs::remove_file(&path));
        }
        let file = opened.map_err(|error| explain(dir, error))?;
        Ok(Self { file, bytes, uring: IoUring::new(8).is_ok() })
    }

    /// Writes the whole file, telling `progress` the bytes written, and makes it durable: what is measured later
    /// touches blocks the disk already has.
    ///
    /// # Errors
    /// If the disk fails or is full.
    pub fn fill(&self, mut progress: impl FnMut(u64)) -> io::Result<()> {
        let step = (64 << 20).min(self.bytes);
        let mut done = 0;
        while done < self.bytes {
            let ops = step.min(self.bytes - done) / FILL.bytes as u64;
            self.load_from(done / FILL.bytes as u64, &FILL, Stop::Ops(ops.max(1)))?;
            done += step;
            progress(done.min(self.bytes));
        }
        self.file.sync_data()
    }

    /// The file's length once filled.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How a core of this process opens the same file: it has no name, so by its descriptor.
    pub fn place(&self) -> Place {
        Place { dir: "/proc/self/fd".to_owned(), name: self.file.as_raw_fd().to_string() }
    }

    /// What the bare loops go through.
    pub fn loops(&self) -> &'static str {
        if self.uring { "io_uring" } else { "threads" }
    }

    /// The file system's name, as far as known.
    pub fn file_system(&self) -> &'static str {
        fstatfs(&self.file).map_or("unknown", |stat| file_system_name(stat.filesystem_type()))
    }

    /// Does `load` as fast as the kernel can: one bare `io_uring` loop, or a thread for each operation under way
    /// where `io_uring` is forbidden.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn load(&self, load: &Load, stop: Stop) -> io::Result<Tally> {
        self.load_from(0, load, stop)
    }

    /// Reads `bytes` at random offsets with plain `pread`, one at a time.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn pread_laps(&self, bytes: usize, stop: Stop) -> io::Result<Tally> {
        let load = Load { operation: Operation::Read, order: Order::Random, bytes, depth: 1 };
        let mut offsets = Offsets::new(&load, self.bytes);
        let mut buffer = Buffer::new(bytes);
        let mut laps = Laps::start(stop);
        while laps.another() {
            self.file.read_exact_at(&mut buffer, offsets.next_offset())?;
        }
        Ok(laps.finish())
    }

    /// As [`Scratch::load`], sequential ones beginning at `place`.
    fn load_from(&self, place: u64, load: &Load, stop: Stop) -> io::Result<Tally> {
        let mut offsets = Offsets::new(load, self.bytes);
        if load.order == Order::Sequential {
            offsets.state = place;
        }
        if self.uring { self.load_by_uring(offsets, load, stop) } else { self.load_by_threads(offsets, load, stop) }
    }

    fn load_by_uring(&self, mut offsets: Offsets, load: &Load, stop: Stop) -> io::Result<Tally> {
        let mut flight = Flight::new(load.depth, load.bytes, load.depth)?;
        let watch = Watch::start(stop);
        let mut free: Vec<usize> = (0..load.depth).collect();
        loop {
            while !free.is_empty() && watch.another() {
                let at = free.pop().expect("it isn't empty");
                let entry = self.entry(load.operation, &mut flight.buffers[at], offsets.next_offset());
                // SAFETY: it works on a buffer of the flight and on a file that is open as long as `self` is borrowed.
                unsafe { flight.push(&entry.user_data(at as u64)) };
            }
            let is_over = !flight.reap(|at, result| {
                free.push(at as usize);
                check(result, load.bytes)
            })?;
            if is_over {
                return Ok(watch.finish());
            }
        }
    }

    fn entry(&self, operation: Operation, buffer: &mut Buffer, offset: u64) -> squeue::Entry {
        let (file, len) = (types::Fd(self.file.as_raw_fd()), buffer.len() as u32);
        match operation {
            Operation::Read => opcode::Read::new(file, buffer.as_mut_ptr(), len).offset(offset).build(),
            Operation::Write => opcode::Write::new(file, buffer.as_ptr(), len).offset(offset).build(),
        }
    }

    fn load_by_threads(&self, offsets: Offsets, load: &Load, stop: Stop) -> io::Result<Tally> {
        let offsets = Mutex::new(offsets);
        let next = || offsets.lock().expect("no thread panics with it").next_offset();
        let mut buffers: Vec<Buffer> = (0..load.depth).map(|_| Buffer::new(load.bytes)).collect();
        let watch = Watch::start(stop);
        thread::scope(|scope| {
            let work = |buffer: &mut Buffer| {
                while watch.another() {
                    match load.operation {
                        Operation::Read => self.file.read_exact_at(buffer, next())?,
                        Operation::Write => self.file.write_all_at(buffer, next())?,
                    }
                }
                io::Result::Ok(())
            };
            let threads: Vec<_> = buffers.iter_mut().map(|buffer| scope.spawn(move || work(buffer))).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("a bare loop doesn't panic"))
        })?;
        Ok(watch.finish())
    }
}

fn open_ring(depth: usize) -> io::Result<IoUring> {
    let entries = u32::try_from(depth).map_err(io::Error::other)?;
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(entries)
        // Kernels before 6.1 don't know the flags.
        .or_else(|_| IoUring::new(entries))
}

/// Operations under way and the buffers that they work on: however a loop ends, the kernel has let go of these first.
pub(super) struct Flight {
    ring: IoUring,
    pub buffers: Vec<Buffer>,
    under_way: usize,
}

impl Flight {
    /// So many buffers of so many bytes, and room for so many operations.
    pub fn new(buffers: usize, bytes: usize, operations: usize) -> io::Result<Self> {
        let buffers = (0..buffers).map(|_| Buffer::new(bytes)).collect();
        Ok(Self { ring: open_ring(operations)?, buffers, under_way: 0 })
    }

    /// Queues an operation.
    ///
    /// # Safety
    /// It works on one of `buffers`, which nobody touches until it is reaped, or on none; its file stays open as long as
    /// this exists.
    // SAFETY: the caller promises what stands above.
    pub unsafe fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: as promised by the caller; the buffers stay until every operation is reaped, see `drop`.
        unsafe { self.ring.submission().push(entry) }.expect("the ring has a place for each operation");
        self.under_way += 1;
    }

    /// Submits what is queued, waits for something to be done and tells `done` the number and the result of each
    /// operation that is. False if nothing was under way.
    pub fn reap(&mut self, done: impl FnMut(u64, i32) -> io::Result<()>) -> io::Result<bool> {
        self.reap_at_least(1, done)
    }

    /// As [`Flight::reap`], for all that is under way.
    pub fn reap_all(&mut self, mut done: impl FnMut(u64, i32) -> io::Result<()>) -> io::Result<()> {
        while self.reap_at_least(self.under_way, &mut done)? {}
        Ok(())
    }

    fn reap_at_least(&mut self, count: usize, mut done: impl FnMut(u64, i32) -> io::Result<()>) -> io::Result<bool> {
        if self.under_way == 0 {
            return Ok(false);
        }
        match self.ring.submit_and_wait(count) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let mut result = Ok(());
        for completion in self.ring.completion() {
            self.under_way -= 1;
            result = result.and(done(completion.user_data(), completion.result()));
        }
        result.map(|()| true)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let left = self.under_way;
        if left > 0 && (self.ring.submit_and_wait(left).is_err() || self.ring.completion().count() < left) {
            // Their memory must stay the kernel's for ever.
            std::mem::forget(std::mem::take(&mut self.buffers));
        }
    }
}

pub(super) fn check(result: i32, bytes: usize) -> io::Result<()> {
    match usize::try_from(result) {
        Err(_) => Err(io::Error::from_raw_os_error(-result)),
        Ok(done) if done < bytes => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(_) => Ok(()),
    }
}

pub(super) fn check_dir(dir: &Path) -> Result<(), ScratchError> {
    match fs::metadata(dir) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(ScratchError::NotADirectory(dir.to_owned())),
        Err(error) => Err(explain(dir, error)),
    }
}

/// A full disk is in nobody's interest: an eighth more than needed must be free.
pub(super) fn check_space(dir: &Path, bytes: u64) -> Result<(), ScratchError> {
    let stat = nix::sys::statvfs::statvfs(dir).map_err(|errno| explain(dir, errno.into()))?;
    let free = stat.blocks_available() * stat.fragment_size();
    let needed = bytes.saturating_add(bytes / 8);
    if free >= needed { Ok(()) } else { Err(ScratchError::NoSpace { dir: dir.to_owned(), free, needed }) }
}

pub(super) fn explain(dir: &Path, source: io::Error) -> ScratchError {
    let dir = dir.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => ScratchError::Missing(dir),
        io::ErrorKind::NotADirectory => ScratchError::NotADirectory(dir),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ScratchError::Unwritable { dir, source },
        io::ErrorKind::InvalidInput => ScratchError::NoDirectIo(dir),
        _ => ScratchError::Other { dir, source },
    }
}

/// The name of the file system that a path is on, as far as known.
pub(super) fn file_system_of(path: &Path) -> &'static str {
    statfs::statfs(path).map_or("unknown", |stat| file_system_name(stat.filesystem_type()))
}

fn file_system_name(kind: FsType) -> &'static str {
    match kind {
        statfs::EXT4_SUPER_MAGIC => "ext4",
        statfs::XFS_SUPER_MAGIC => "xfs",
        statfs::BTRFS_SUPER_MAGIC => "btrfs",
        statfs::TMPFS_MAGIC => "tmpfs (memory)",
        statfs::OVERLAYFS_SUPER_MAGIC => "overlayfs",
        statfs::NFS_SUPER_MAGIC => "nfs",
        _ => "unknown",
    }
}

const _: () = assert!(FILL.bytes.is_multiple_of(ALIGN), "direct I/O is aligned");
