//! Directories and files as the face calls them: each call is an operation that ends some virtual time later.

use std::fmt;
use std::io;
use std::rc::Rc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::inode::PAGE;
use super::{DirRef, Disk, FileRef, Latency, os, strikes};
use crate::block::{Block, BlockMut};
use crate::fs::{Mode, Space};
use crate::rng::Rng;
use crate::sim::node::NodeCore;
use crate::sim::promise::Promise;
use crate::sim::shared::Shared;
use crate::sim::trace::Kind;

/// How a life reaches a disk.
#[derive(Clone)]
struct Mount {
    shared: Rc<Shared>,
    node: Rc<super::super::node::Node>,
    life: u64,
    disk: Rc<Disk>,
    incarnation: u64,
}

impl Mount {
    /// Has `act` done when the disk gets to it, and waits for that. Dropping the future doesn't stop it.
    async fn submit<T: 'static>(
        &self,
        (kind, latency): (Kind, &Latency),
        len: usize,
        detail: u64,
        act: impl FnOnce(&Disk, &mut Rng) -> io::Result<T> + 'static,
    ) -> io::Result<T> {
        let promise = Promise::new();
        let (mount, keeper) = (self.clone(), promise.clone());
        let at = self.disk.ends_at(&self.shared, latency, len);
        self.shared.call_at(at, move |shared| {
            if mount.node.life.get() != mount.life {
                return;
            }
            let there = mount.disk.check_present(mount.incarnation);
            let result = there.and_then(|()| act(&mount.disk, &mut shared.rng_disk.borrow_mut()));
            shared.record(kind, mount.disk.who, detail ^ u64::from(result.is_err()));
            keeper.keep(result);
        });
        promise.kept().await
    }

    fn names(&self) -> (Kind, &Latency) {
        (Kind::Names, &self.disk.config.write)
    }
}

impl NodeCore {
    fn mount(&self, path: &str) -> io::Result<Mount> {
        let disk = self.node.disks.iter().filter(|disk| disk.below(path).is_some());
        let disk = disk.max_by_key(|disk| disk.config.path.len()).ok_or_else(|| {
            let message = format!("no disk of n{} is mounted at or above {path}", self.node.id);
            io::Error::new(io::ErrorKind::NotFound, message)
        })?;
        Ok(Mount {
            shared: self.shared.clone(),
            node: self.node.clone(),
            life: self.life,
            disk: disk.clone(),
            incarnation: disk.incarnation.get(),
        })
    }

    async fn reach_dir(&self, path: &str, get: fn(&Disk, &str) -> io::Result<DirRef>) -> io::Result<Dir> {
        let mount = self.mount(path)?;
        let below = mount.disk.below(path).unwrap_or_default().to_owned();
        let dir = mount.submit(mount.names(), 0, hash(path), move |disk, _| get(disk, &below)).await?;
        Ok(Dir { mount, names: dir, path: path.into() })
    }

    pub async fn open_dir(&self, path: &str) -> io::Result<Dir> {
        self.reach_dir(path, Disk::walk).await
    }

    pub async fn create_dir(&self, path: &str) -> io::Result<Dir> {
        self.reach_dir(path, Disk::make).await
    }
}

/// An open directory of a simulated disk.
#[derive(Clone)]
pub(crate) struct Dir {
    mount: Mount,
    names: DirRef,
    path: Rc<str>,
}

impl fmt::Debug for Dir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sim::Dir({})", self.path)
    }
}

impl Dir {
    pub async fn open_file(&self, name: &str, mode: Mode) -> io::Result<File> {
        let (dir, owned) = (self.names.clone(), name.to_owned());
        let opened =
            self.mount.submit(self.mount.names(), 0, hash(name), move |disk, _| open(disk, &dir, &owned, mode));
        let inode = opened.await.map_err(|error| self.explain(&error, "open", name))?;
        Ok(File { mount: self.mount.clone(), inode, writable: mode != Mode::Read })
    }

    pub async fn list(&self) -> io::Result<Vec<String>> {
        let dir = self.names.clone();
        let listed = self.mount.submit((Kind::Names, &self.mount.disk.config.read), 0, 0, move |_, _| {
            let dir = dir.borrow();
            let mut names: Vec<String> = dir.names.list().chain(dir.dirs.keys()).cloned().collect();
            names.sort_unstable();
            Ok(names)
        });
        listed.await
    }

    pub async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (dir, owned_from, owned_to) = (self.names.clone(), from.to_owned(), to.to_owned());
        let renamed = self.mount.submit(self.mount.names(), 0, hash(from) ^ hash(to).rotate_left(1), move |disk, _| {
            disk.check_writable()?;
            let mut dir = dir.borrow_mut();
            if dir.dirs.contains_key(&owned_to) || dir.dirs.contains_key(&owned_from) {
                return Err(os(libc::EISDIR));
            }
            if dir.names.rename(&owned_from, &owned_to) { Ok(()) } else { Err(os(libc::ENOENT)) }
        });
        renamed.await.map_err(|error| self.explain(&error, "rename", from))
    }

    pub async fn remove(&self, name: &str) -> io::Result<()> {
        let (dir, owned) = (self.names.clone(), name.to_owned());
        let removed = self.mount.submit(self.mount.names(), 0, hash(name), move |disk, _| {
            disk.check_writable()?;
            if dir.borrow_mut().names.unlink(&owned) { Ok(()) } else { Err(os(libc::ENOENT)) }
        });
        removed.await.map_err(|error| self.explain(&error, "remove", name))
    }

    pub async fn sync(&self) -> io::Result<()> {
        let dir = self.names.clone();
        let cut = dir.borrow().names.last();
        let synced = self.mount.submit((Kind::Sync, &self.mount.disk.config.sync), 0, cut, move |disk, _| {
            if strikes(&mut disk.trouble.borrow_mut().sync_errors) {
                return Err(os(libc::EIO));
            }
            dir.borrow_mut().names.settle(cut);
            Ok(())
        });
        synced.await
    }

    pub async fn space(&self) -> io::Result<Space> {
        let asked = self.mount.submit((Kind::Space, &self.mount.disk.config.write), 0, 0, |disk, _| {
            let page = PAGE as u64;
            Ok(Space { total: disk.pages_total() * page, free: disk.pages_free() * page })
        });
        asked.await
    }

    fn explain(&self, error: &io::Error, what: &str, name: &str) -> io::Error {
        io::Error::new(error.kind(), format!("can't {what} {}/{name}: {error}", self.path))
    }
}

fn open(disk: &Disk, dir: &DirRef, name: &str, mode: Mode) -> io::Result<FileRef> {
    let mut dir = dir.borrow_mut();
    if dir.dirs.contains_key(name) {
        return Err(os(libc::EISDIR));
    }
    if mode != Mode::Read {
        disk.check_writable()?;
    }
    match (dir.names.get(name), mode) {
        (Some(_), Mode::CreateNew) => Err(os(libc::EEXIST)),
        (Some(file), _) => Ok(file),
        (None, Mode::Read | Mode::Write) => Err(os(libc::ENOENT)),
        (None, Mode::Create | Mode::CreateNew) => {
            let file = disk.new_file();
            dir.names.link(name, file.clone());
            Ok(file)
        }
    }
}

/// An open file of a simulated disk.
#[derive(Clone)]
pub(crate) struct File {
    mount: Mount,
    inode: FileRef,
    writable: bool,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sim::File({} bytes on {})", self.inode.borrow().len(), self.mount.disk.config.path)
    }
}

impl File {
    pub async fn read_at(&self, mut block: BlockMut, offset: u64) -> io::Result<BlockMut> {
        let (inode, len) = (self.inode.clone(), block.len());
        let read = self.mount.submit((Kind::Read, &self.mount.disk.config.read), len, offset, move |disk, rng| {
            if strikes(&mut disk.trouble.borrow_mut().read_errors) {
                disk.scars.0.reads_failed.set(disk.scars.reads_failed() + 1);
                return Err(os(libc::EIO));
            }
            let len = inode.borrow().read_racing(offset, &mut block, rng, disk.config.sector);
            block.set_len(len);
            Ok(block)
        });
        read.await
    }

    pub async fn write_at(&self, blocks: Vec<Block>, offset: u64) -> io::Result<()> {
        self.check_writable()?;
        let len: usize = blocks.iter().map(|block| block.len()).sum();
        let detail = blocks.iter().fold(offset, |hash, block| xxh3_64_with_seed(block, hash));
        let id = self.inode.borrow_mut().launch(offset, blocks);
        let inode = self.inode.clone();
        let write = (Kind::Write, &self.mount.disk.config.write);
        self.mount.submit(write, len, detail, move |disk, rng| land(disk, rng, &inode, id, offset, len)).await
    }

    pub async fn sync_data(&self) -> io::Result<()> {
        let inode = self.inode.clone();
        let cut = inode.borrow_mut().sync_begins();
        let synced = self.mount.submit((Kind::Sync, &self.mount.disk.config.sync), 0, cut, move |disk, rng| {
            if strikes(&mut disk.trouble.borrow_mut().sync_errors) {
                inode.borrow_mut().sync_fails(cut, rng);
                return Err(os(libc::EIO));
            }
            inode.borrow_mut().settle(cut);
            Ok(())
        });
        synced.await
    }

    pub async fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let range = offset..end_of(offset, len)?;
        self.change(offset, move |disk, inode| {
            if inode.borrow().pages_missing(range.clone()) > disk.pages_free() {
                return Err(os(libc::ENOSPC));
            }
            inode.borrow_mut().allocate(range);
            Ok(())
        })
        .await
    }

    pub async fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let end = end_of(offset, len)?;
        self.change(offset, move |_, inode| {
            let mut inode = inode.borrow_mut();
            let end = end.min(inode.len().next_multiple_of(PAGE as u64));
            inode.punch(offset..end.max(offset));
            Ok(())
        })
        .await
    }

    pub async fn set_len(&self, len: u64) -> io::Result<()> {
        end_of(len, 0)?;
        self.change(len, move |_, inode| {
            inode.borrow_mut().set_len(len);
            Ok(())
        })
        .await
    }

    async fn change(
        &self,
        detail: u64,
        act: impl FnOnce(&Disk, &FileRef) -> io::Result<()> + 'static,
    ) -> io::Result<()> {
        self.check_writable()?;
        let inode = self.inode.clone();
        let change = (Kind::Space, &self.mount.disk.config.write);
        let changed = self.mount.submit(change, 0, detail, move |disk, _| {
            disk.check_writable()?;
            act(disk, &inode)
        });
        changed.await
    }

    pub async fn len(&self) -> io::Result<u64> {
        let inode = self.inode.clone();
        let asked =
            self.mount.submit((Kind::Space, &self.mount.disk.config.write), 0, 0, move |_, _| Ok(inode.borrow().len()));
        asked.await
    }

    pub fn align(&self) -> usize {
        self.mount.disk.config.align
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(os(libc::EBADF)) }
    }
}

/// A write ends, one way or another.
fn land(disk: &Disk, rng: &mut Rng, inode: &FileRef, id: u64, offset: u64, len: usize) -> io::Result<()> {
    let outcome = disk.check_writable().and_then(|()| draw_outcome(disk));
    match outcome {
        Ok(Outcome::Lands) => land_with_room(disk, rng, inode, id, offset, len),
        Ok(Outcome::GetsLost) => {
            inode.borrow_mut().abort(id);
            Ok(())
        }
        Ok(Outcome::GoesAstray) => {
            let data = inode.borrow_mut().abort(id).unwrap_or_default();
            if let Some(victim) = disk.draw_victim(rng) {
                let pages = victim.borrow().len() / PAGE as u64 + 1;
                victim.borrow_mut().hit(rng.below(pages) * PAGE as u64, data);
            }
            Ok(())
        }
        Err(error) => {
            // A failed write may have changed any part of what it was to write.
            let part = rng.below(len as u64 / disk.config.sector as u64 + 1) * disk.config.sector as u64;
            if disk.check_writable().is_ok() && inode.borrow().pages_missing(offset..offset + part) <= disk.pages_free()
            {
                inode.borrow_mut().land(id, part, rng, disk.config.sector);
            } else {
                inode.borrow_mut().abort(id);
            }
            Err(error)
        }
    }
}

enum Outcome {
    Lands,
    GetsLost,
    GoesAstray,
}

fn draw_outcome(disk: &Disk) -> io::Result<Outcome> {
    let mut trouble = disk.trouble.borrow_mut();
    if strikes(&mut trouble.write_errors) {
        return Err(os(libc::EIO));
    }
    if strikes(&mut trouble.lost_writes) {
        return Ok(Outcome::GetsLost);
    }
    if strikes(&mut trouble.misdirected_writes) {
        return Ok(Outcome::GoesAstray);
    }
    Ok(Outcome::Lands)
}

fn land_with_room(disk: &Disk, rng: &mut Rng, inode: &FileRef, id: u64, offset: u64, len: usize) -> io::Result<()> {
    let missing = inode.borrow().pages_missing(offset..offset + len as u64);
    let free = disk.pages_free();
    if missing <= free {
        inode.borrow_mut().land(id, len as u64, rng, disk.config.sector);
        return Ok(());
    }
    // As many pages as fit may be written before the error.
    let part = rng.below(free + 1) * PAGE as u64;
    inode.borrow_mut().land(id, part.min(len as u64), rng, disk.config.sector);
    Err(os(libc::ENOSPC))
}

fn end_of(offset: u64, len: u64) -> io::Result<u64> {
    let end = offset.checked_add(len).filter(|end| i64::try_from(*end).is_ok());
    end.ok_or_else(|| os(libc::EFBIG))
}

fn hash(text: &str) -> u64 {
    xxh3_64_with_seed(text.as_bytes(), 0)
}
