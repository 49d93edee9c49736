//! Files of the kernel: data through the core's ring where there is one, the rest on threads that may block.

use std::fs;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use nix::fcntl::{AtFlags, FallocateFlags, Flock, FlockArg, OFlag, fallocate, openat, renameat};
use nix::sys::stat::Mode as Permissions;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::{Mode, Space};
use crate::block::{ALIGN, Block, BlockMut};
use crate::core;
use crate::driver::ring::Ring;
use crate::task::JoinError;

/// Blocks written with one call of the kernel.
const VECTOR_MAX: usize = libc::UIO_MAXIOV as usize;

/// Up to one byte more than `max` of a file.
pub(crate) async fn read_whole(path: &str, max: usize) -> io::Result<Vec<u8>> {
    let path = path.to_owned();
    blocking(move || {
        let explain = |error: io::Error| io::Error::new(error.kind(), format!("can't read {path}: {error}"));
        let mut bytes = Vec::new();
        let file = fs::File::open(&path).map_err(explain)?;
        io::Read::take(file, max as u64 + 1).read_to_end(&mut bytes).map_err(explain)?;
        Ok(bytes)
    })
    .await
}

/// Held while it lives.
pub(crate) type Lock = Flock<OwnedFd>;

#[derive(Clone, Debug)]
pub(crate) struct Dir {
    fd: Arc<OwnedFd>,
    path: Arc<str>,
}

impl Dir {
    pub async fn open(path: &str) -> io::Result<Self> {
        let path: Arc<str> = path.into();
        blocking(move || {
            let fd = open_dir(Path::new(&*path))?;
            Ok(Self { fd: Arc::new(fd), path })
        })
        .await
    }

    pub async fn create(path: &str) -> io::Result<Self> {
        let path: Arc<str> = path.into();
        blocking(move || {
            create_synced(Path::new(&*path))?;
            let fd = open_dir(Path::new(&*path))?;
            Ok(Self { fd: Arc::new(fd), path })
        })
        .await
    }

    pub async fn open_file(&self, name: &str, mode: Mode) -> io::Result<File> {
        let (dir, name) = (self.clone(), name.to_owned());
        let (fd, align) = blocking(move || dir.open_direct(&name, mode)).await?;
        let ring = core::current().real().ring.clone();
        Ok(File(Rc::new(Inner { fd: Arc::new(fd), align, ring })))
    }

    fn open_direct(&self, name: &str, mode: Mode) -> io::Result<(OwnedFd, usize)> {
        let flags = OFlag::O_DIRECT
            | OFlag::O_CLOEXEC
            | match mode {
                Mode::Read => OFlag::O_RDONLY,
                Mode::Write => OFlag::O_RDWR,
                Mode::Create => OFlag::O_RDWR | OFlag::O_CREAT,
                Mode::CreateNew => OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL,
            };
        let permissions = Permissions::from_bits_truncate(0o600);
        let opened = openat(&*self.fd, name, flags, permissions);
        let fd = opened.map_err(|errno| match errno {
            nix::Error::EINVAL => self.no_direct_io(name),
            errno => self.explain(errno, "open", name),
        })?;
        let align = direct_alignment(&fd).map_err(|errno| self.explain(errno, "inspect", name))?;
        match align {
            Some(0) => Err(self.no_direct_io(name)),
            Some(align) if align > ALIGN => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!(
                    "the device of {} wants direct I/O in blocks of {align} bytes and {ALIGN} is the most; use another device",
                    self.path
                ),
            )),
            Some(align) => Ok((fd, align)),
            // The kernel doesn't say (before 6.1); every disk takes whole pages.
            None => Ok((fd, ALIGN)),
        }
    }

    fn no_direct_io(&self, name: &str) -> io::Error {
        let path = &self.path;
        io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "the file system of {path}/{name} can't do direct I/O; put the directory on ext4, xfs or a block device's own file system"
            ),
        )
    }

    fn explain(&self, errno: nix::Error, what: &str, name: &str) -> io::Error {
        let error = io::Error::from(errno);
        io::Error::new(error.kind(), format!("can't {what} {}/{name}: {error}", self.path))
    }

    pub async fn lock(&self) -> io::Result<Lock> {
        let dir = self.clone();
        blocking(move || {
            // A descriptor of its own: the lock belongs to it, and goes when it is closed.
            let fd = open_dir(Path::new(&*dir.path))?;
            Flock::lock(fd, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
                let error = io::Error::from(errno);
                let message = format!("can't lock {}: {error}; another process uses it", dir.path);
                io::Error::new(error.kind(), message)
            })
        })
        .await
    }

    pub async fn list(&self) -> io::Result<Vec<String>> {
        let dir = self.clone();
        blocking(move || {
            let copy = dir.fd.try_clone()?;
            let mut entries = nix::dir::Dir::from_fd(copy)?;
            let mut names = Vec::new();
            for entry in entries.iter() {
                let name = entry?.file_name().to_string_lossy().into_owned();
                if name != "." && name != ".." {
                    names.push(name);
                }
            }
            names.sort_unstable();
            Ok(names)
        })
        .await
    }

    pub async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (dir, from, to) = (self.clone(), from.to_owned(), to.to_owned());
        blocking(move || {
            renameat(&*dir.fd, from.as_str(), &*dir.fd, to.as_str())
                .map_err(|errno| dir.explain(errno, "rename", &from))
        })
        .await
    }

    pub async fn remove(&self, name: &str) -> io::Result<()> {
        let (dir, name) = (self.clone(), name.to_owned());
        blocking(move || {
            unlinkat(&*dir.fd, name.as_str(), UnlinkatFlags::NoRemoveDir)
                .map_err(|errno| dir.explain(errno, "remove", &name))
        })
        .await
    }

    pub async fn sync(&self) -> io::Result<()> {
        let fd = self.fd.clone();
        blocking(move || Ok(nix::unistd::fsync(&*fd)?)).await
    }

    pub async fn space(&self) -> io::Result<Space> {
        let fd = self.fd.clone();
        blocking(move || {
            let stat = nix::sys::statvfs::fstatvfs(&*fd)?;
            let unit = stat.fragment_size();
            Ok(Space { total: stat.blocks() * unit, free: stat.blocks_available() * unit })
        })
        .await
    }
}

#[derive(Clone, Debug)]
pub(crate) struct File(Rc<Inner>);

struct Inner {
    fd: Arc<OwnedFd>,
    align: usize,
    /// Without one, data goes through threads too.
    ring: Option<Rc<Ring>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "fd {}", self.fd.as_raw_fd())
    }
}

impl File {
    pub fn descriptor(&self) -> Arc<OwnedFd> {
        self.0.fd.clone()
    }

    pub async fn read_at(&self, mut block: BlockMut, offset: u64) -> io::Result<BlockMut> {
        let wanted = block.len();
        let mut have = 0;
        while have < wanted {
            let read;
            (read, block) = self.read_once(block, have, offset + have as u64).await;
            let read = read?;
            have += read;
            // A part that ends within a disk block is the end of the file.
            if read == 0 || !read.is_multiple_of(self.0.align) {
                break;
            }
        }
        block.set_len(have);
        Ok(block)
    }

    async fn read_once(&self, block: BlockMut, from: usize, offset: u64) -> (io::Result<usize>, BlockMut) {
        if let Some(ring) = &self.0.ring {
            return ring.read(&self.0.fd, block, from, offset).await;
        }
        let fd = self.0.fd.clone();
        let mut block = block;
        let result = blocking(move || {
            let read = retry(|| borrow(&fd).read_at(&mut block[from..], offset));
            Ok((read, block))
        });
        match result.await {
            Ok(done) => done,
            // The thread panicked and took the block with it; reading panics for no input we know.
            Err(error) => panic!("reading failed in a way that lost its block: {error}"),
        }
    }

    pub async fn write_durably_at(&self, blocks: Vec<Block>, offset: u64) -> io::Result<()> {
        let mut blocks = blocks;
        if let Some(ring) = &self.0.ring
            && (1..=VECTOR_MAX).contains(&blocks.len())
        {
            let done;
            (done, blocks) = ring.write_and_sync(&self.0.fd, blocks, offset).await;
            if done? {
                return Ok(());
            }
        }
        self.write_at(blocks, offset).await?;
        self.sync_data().await
    }

    pub async fn write_at(&self, blocks: Vec<Block>, offset: u64) -> io::Result<()> {
        let mut left: Vec<Block> = blocks.into_iter().filter(|block| !block.is_empty()).collect();
        let mut offset = offset;
        while !left.is_empty() {
            let rest = left.split_off(left.len().min(VECTOR_MAX));
            let (written, blocks) = self.write_once(left, offset).await;
            let written = written?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            offset += written as u64;
            left = skip(blocks, written);
            left.extend(rest);
        }
        Ok(())
    }

    async fn write_once(&self, blocks: Vec<Block>, offset: u64) -> (io::Result<usize>, Vec<Block>) {
        if let Some(ring) = &self.0.ring {
            return ring.write(&self.0.fd, blocks, offset).await;
        }
        let fd = self.0.fd.clone();
        let first = blocks[0].clone();
        let written = blocking(move || retry(|| borrow(&fd).write_at(&first, offset))).await;
        (written, blocks)
    }

    pub async fn sync_data(&self) -> io::Result<()> {
        if let Some(ring) = &self.0.ring {
            return ring.sync_data(&self.0.fd).await;
        }
        let fd = self.0.fd.clone();
        blocking(move || Ok(nix::unistd::fdatasync(&*fd)?)).await
    }

    pub async fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.fallocate(FallocateFlags::empty(), offset, len).await
    }

    pub async fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        self.fallocate(flags, offset, len).await
    }

    async fn fallocate(&self, flags: FallocateFlags, offset: u64, len: u64) -> io::Result<()> {
        let fd = self.0.fd.clone();
        let (offset, len) = (to_off(offset)?, to_off(len)?);
        blocking(move || retry(|| Ok(fallocate(&*fd, flags, offset, len)?))).await
    }

    pub async fn len(&self) -> io::Result<u64> {
        let fd = self.0.fd.clone();
        blocking(move || Ok(borrow(&fd).metadata()?.len())).await
    }

    pub async fn set_len(&self, len: u64) -> io::Result<()> {
        let fd = self.0.fd.clone();
        blocking(move || borrow(&fd).set_len(len)).await
    }

    pub fn align(&self) -> usize {
        self.0.align
    }
}

/// The blocks without their first `written` bytes.
fn skip(blocks: Vec<Block>, mut written: usize) -> Vec<Block> {
    let mut left = Vec::new();
    for block in blocks {
        let taken = written.min(block.len());
        written -= taken;
        if taken < block.len() {
            left.push(block.slice(taken..));
        }
    }
    left
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    crate::blocking::run(work).await.unwrap_or_else(|error| {
        let message = match error {
            JoinError::Panicked(message) => format!("a file operation panicked: {message}"),
            JoinError::Cancelled => "the node is stopping".to_owned(),
        };
        Err(io::Error::other(message))
    })
}

/// A descriptor as the standard library's file, for the time of a call.
fn borrow(fd: &OwnedFd) -> std::mem::ManuallyDrop<fs::File> {
    use std::os::fd::FromRawFd;
    // SAFETY: never dropped, so the descriptor stays its owner's; the owner outlives the borrow of the call.
    std::mem::ManuallyDrop::new(unsafe { fs::File::from_raw_fd(fd.as_raw_fd()) })
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

fn to_off(bytes: u64) -> io::Result<i64> {
    i64::try_from(bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "beyond the longest file there can be"))
}

fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let opened = fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_CLOEXEC).open(path);
    opened
        .map(OwnedFd::from)
        .map_err(|error| io::Error::new(error.kind(), format!("can't open the directory {}: {error}", path.display())))
}

/// Makes the directory and its missing parents; each new name is synced into its parent.
fn create_synced(path: &Path) -> io::Result<()> {
    let missing: Vec<PathBuf> = path
        .ancestors()
        .filter(|part| !part.as_os_str().is_empty())
        .take_while(|part| !part.exists())
        .map(Path::to_owned)
        .collect();
    for part in missing.iter().rev() {
        if let Err(error) = fs::create_dir(part)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            let message =
                format!("can't make the directory {}: {error}; check its parent's permissions", part.display());
            return Err(io::Error::new(error.kind(), message));
        }
        let parent = part.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        nix::unistd::fsync(open_dir(parent)?)?;
    }
    Ok(())
}

/// The unit of direct I/O on a file: `Some(0)` where there is none, `None` where the kernel doesn't say.
fn direct_alignment(fd: &OwnedFd) -> nix::Result<Option<usize>> {
    let mut answer = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: an empty path with AT_EMPTY_PATH means the descriptor itself; the answer is as large as the call fills.
    let result = unsafe {
        libc::statx(
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            AtFlags::AT_EMPTY_PATH.bits(),
            libc::STATX_DIOALIGN,
            answer.as_mut_ptr(),
        )
    };
    nix::errno::Errno::result(result)?;
    // SAFETY: zeroed before the call, which only fills in.
    let answer = unsafe { answer.assume_init() };
    if answer.stx_mask & libc::STATX_DIOALIGN == 0 {
        return Ok(None);
    }
    Ok(Some(answer.stx_dio_offset_align.max(answer.stx_dio_mem_align) as usize))
}
