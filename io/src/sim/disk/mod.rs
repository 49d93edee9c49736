//! A simulated disk: one file system of files in memory, its troubles, and what a power cut leaves of it.
//!
//! A write is visible when its operation ends and durable after a sync that began later. Room of a removed file comes
//! back when its directory is synced.

mod face;
mod inode;
mod names;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use rand_core::RngCore;

use super::config::{DiskConfig, Latency, nanos};
use super::shared::Shared;
use super::trace::Who;
use crate::rng::Rng;
use crate::time::Duration;

pub(crate) use face::{Dir, File};
use inode::{Inode, PAGE};
use names::{DirRef, FileRef};

/// What became of a disk's bytes so far, for whoever judges what programs make of them. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Scars(Rc<ScarsInner>);

#[derive(Debug, Default)]
struct ScarsInner {
    rotten: RefCell<Vec<Scar>>,
    reads_failed: Cell<u64>,
}

/// A bit that rotted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scar {
    /// The name of its file, without its directory.
    pub file: String,
    /// The byte it was in.
    pub at: u64,
}

impl Scars {
    /// The bits that rotted, in order. What is written over them later heals them, which isn't told here.
    pub fn rotten(&self) -> std::cell::Ref<'_, [Scar]> {
        std::cell::Ref::map(self.0.rotten.borrow(), Vec::as_slice)
    }

    /// Reads that failed.
    pub fn reads_failed(&self) -> u64 {
        self.0.reads_failed.get()
    }
}

pub(super) struct Disk {
    pub who: Who,
    pub config: DiskConfig,
    pub trouble: RefCell<Trouble>,
    root: RefCell<DirRef>,
    /// Pages that files hold.
    used: Rc<Cell<u64>>,
    /// World time until which the transfers under way take its bandwidth.
    busy_until: Cell<u64>,
    /// Grows when the disk is lost: handles of an earlier incarnation get errors.
    incarnation: Cell<u64>,
    pub scars: Scars,
}

/// What is wrong with a disk right now. Counters of operations run down; counters of causes are put back by them.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// So many reads will fail.
    pub read_errors: u32,
    /// So many writes will fail.
    pub write_errors: u32,
    /// So many syncs will fail.
    pub sync_errors: u32,
    /// So many writes will be acknowledged and never be there.
    pub lost_writes: u32,
    /// So many writes will land elsewhere.
    pub misdirected_writes: u32,
    /// Causes for there being no room.
    pub full: u32,
    /// Causes for being read-only.
    pub read_only: u32,
    /// Causes for not being there at all.
    pub absent: u32,
    /// What each operation takes longer.
    pub extra: Duration,
}

/// Takes one from a counter; whether there was one.
fn strikes(counter: &mut u32) -> bool {
    let strikes = *counter > 0;
    *counter = counter.saturating_sub(1);
    strikes
}

impl Disk {
    pub fn new(node: usize, index: usize, config: DiskConfig) -> Rc<Self> {
        Rc::new(Self {
            who: Who::new(node, index),
            config,
            trouble: RefCell::default(),
            root: RefCell::default(),
            used: Rc::default(),
            busy_until: Cell::new(0),
            incarnation: Cell::new(0),
            scars: Scars::default(),
        })
    }

    fn pages_total(&self) -> u64 {
        self.config.size / PAGE as u64
    }

    fn pages_free(&self) -> u64 {
        if self.trouble.borrow().full > 0 {
            return 0;
        }
        self.pages_total().saturating_sub(self.used.get())
    }

    /// When an operation that begins now and moves `len` bytes will end.
    fn ends_at(&self, shared: &Shared, latency: &Latency, len: usize) -> u64 {
        let begin = self.busy_until.get().max(shared.now());
        let moved = (len as u64).saturating_mul(1_000_000_000) / self.config.bandwidth.max(1);
        self.busy_until.set(begin.saturating_add(moved));
        let drawn = latency.draw(&mut shared.rng_disk.borrow_mut());
        let extra = nanos(self.trouble.borrow().extra);
        self.busy_until.get().saturating_add(drawn).saturating_add(extra)
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.trouble.borrow().read_only > 0 { Err(os(libc::EROFS)) } else { Ok(()) }
    }

    fn check_present(&self, incarnation: u64) -> io::Result<()> {
        let there = self.trouble.borrow().absent == 0 && self.incarnation.get() == incarnation;
        if there { Ok(()) } else { Err(os(libc::EIO)) }
    }

    /// The power is cut: names and pages that weren't synced are kept, lost or torn.
    pub fn power_cut(&self, rng: &mut Rng) {
        self.root.borrow().borrow_mut().power_cut(rng);
        let tears_from = self.config.sectors_tear.then_some(self.config.sectors_whole_below);
        for file in self.files() {
            file.borrow_mut().power_cut(rng, self.config.sector, tears_from);
        }
    }

    /// The process is gone but the kernel lives: what was under way ends somehow, the rest stays.
    pub fn process_gone(&self, rng: &mut Rng) {
        for file in self.files() {
            file.borrow_mut().end_in_flight(rng, self.config.sector);
        }
    }

    /// Everything on it is gone, and whoever has it open gets errors.
    pub fn lose(&self) {
        self.incarnation.set(self.incarnation.get() + 1);
        let lost = self.root.take();
        drop(lost);
    }

    /// Flips a bit in each of `pages` pages drawn from those that files hold.
    pub fn rot(&self, rng: &mut Rng, pages: u32) {
        let files: Vec<FileRef> = self.files().into_iter().filter(|file| file.borrow().has_pages()).collect();
        if files.is_empty() {
            return;
        }
        for _ in 0..pages {
            let file = draw(rng, &files);
            let at = file.borrow_mut().rot(rng);
            let name = self.root.borrow().borrow().name_of(file);
            self.scars.0.rotten.borrow_mut().push(Scar { file: name.unwrap_or_default(), at });
        }
    }

    /// A file that a misdirected write may hit.
    fn draw_victim(&self, rng: &mut Rng) -> Option<FileRef> {
        let files = self.files();
        (!files.is_empty()).then(|| draw(rng, &files).clone())
    }

    /// Every file with a name, now or durably, in a fixed order.
    fn files(&self) -> Vec<FileRef> {
        let mut files = Vec::new();
        self.root.borrow().borrow().collect_files(&mut files);
        files
    }

    /// The content of a file by its full path.
    pub fn peek(&self, path: &str) -> Option<Vec<u8>> {
        let (dirs, name) = self.below(path)?.rsplit_once('/').unwrap_or(("", self.below(path)?));
        let dir = self.walk(dirs).ok()?;
        let file = dir.borrow().names.get(name)?;
        let file = file.borrow();
        let mut bytes = vec![0; usize::try_from(file.len()).ok()?];
        file.read(0, &mut bytes);
        Some(bytes)
    }

    /// The rest of `path` below this disk's own, if it lies there.
    pub fn below<'a>(&self, path: &'a str) -> Option<&'a str> {
        let rest = path.strip_prefix(self.config.path.trim_end_matches('/'))?;
        (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_matches('/'))
    }

    fn walk(&self, path: &str) -> io::Result<DirRef> {
        parts(path).try_fold(self.root.borrow().clone(), |dir, part| {
            let dir = dir.borrow();
            match dir.dirs.get(part) {
                Some(next) => Ok(next.clone()),
                None if dir.names.get(part).is_some() => Err(os(libc::ENOTDIR)),
                None => Err(os(libc::ENOENT)),
            }
        })
    }

    /// Makes what is missing of a path. Durable at once: the face syncs each new directory into its parent.
    fn make(&self, path: &str) -> io::Result<DirRef> {
        parts(path).try_fold(self.root.borrow().clone(), |dir, part| {
            let mut dir = dir.borrow_mut();
            if dir.names.get(part).is_some() {
                return Err(os(libc::EEXIST));
            }
            if !dir.dirs.contains_key(part) {
                self.check_writable()?;
            }
            Ok(dir.dirs.entry(part.to_owned()).or_default().clone())
        })
    }

    fn new_file(&self) -> FileRef {
        Rc::new(RefCell::new(Inode::new(self.used.clone())))
    }
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".")
}

fn draw<'a, T>(rng: &mut Rng, from: &'a [T]) -> &'a T {
    let place = rng.next_u64() % from.len() as u64;
    &from[usize::try_from(place).expect("a place in memory")]
}

fn os(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}
