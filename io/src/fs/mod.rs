//! Files and directories: positioned direct I/O on aligned blocks.
//!
//! Nothing here is buffered: a write is in the file when its future is ready and survives a power cut only after
//! [`File::sync_data`]. A new, renamed or removed name survives one only after [`Dir::sync`].

mod real;

use std::io;

use crate::core;
use crate::driver::{Backend, each};
use crate::{Block, BlockMut};

#[cfg(feature = "sim")]
use crate::sim;

/// How [`Dir::open_file`] opens a file. Always readable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The file exists and is only read.
    #[default]
    Read,
    /// The file exists and is read and written.
    Write,
    /// Read and written; made when it doesn't exist.
    Create,
    /// Read and written; it is an error if it exists.
    CreateNew,
}

/// Room on the file system of a directory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub total: u64,
    /// What this process may still use.
    pub free: u64,
}

/// All of a small file that people write, such as a configuration: through the page cache, so from any file system.
///
/// # Errors
/// If it can't be read, is longer than `max` bytes or is not UTF-8.
pub async fn read_text(path: &str, max: usize) -> io::Result<String> {
    let bytes = match &core::current().backend {
        Backend::Real(_) => real::read_whole(path, max).await?,
        #[cfg(feature = "sim")]
        Backend::Sim(_) => {
            let (dir, name) = path.rsplit_once('/').unwrap_or((".", path));
            let file = Dir::open(dir).await?.open_file(name, Mode::Read).await?;
            let len = usize::try_from(file.len().await?).unwrap_or(usize::MAX);
            if len == 0 { vec![] } else { file.read_at(0, len.min(max + 1)).await?.to_vec() }
        }
    };
    if bytes.len() > max {
        let message = format!("{path} is longer than the {max} bytes it may have");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("{path} is not UTF-8")))
}

/// An open directory. Clones share it.
#[derive(Clone, Debug)]
pub struct Dir(DirKind);

#[derive(Clone, Debug)]
enum DirKind {
    Real(real::Dir),
    #[cfg(feature = "sim")]
    Sim(sim::Dir),
}

/// An open file. Clones share it.
#[derive(Clone, Debug)]
pub struct File(FileKind);

#[derive(Clone, Debug)]
enum FileKind {
    Real(real::File),
    #[cfg(feature = "sim")]
    Sim(sim::File),
}

/// See [`Dir::lock`].
#[derive(Debug)]
pub struct Lock {
    _real: Option<real::Lock>,
}

impl Dir {
    /// Opens an existing directory.
    ///
    /// # Errors
    /// If it isn't there, isn't a directory or may not be read.
    pub async fn open(path: &str) -> io::Result<Self> {
        match &core::current().backend {
            Backend::Real(_) => real::Dir::open(path).await.map(|dir| Self(DirKind::Real(dir))),
            #[cfg(feature = "sim")]
            Backend::Sim(node) => node.open_dir(path).await.map(|dir| Self(DirKind::Sim(dir))),
        }
    }

    /// Opens a directory, making it and its missing parents, each synced into its own parent.
    ///
    /// # Errors
    /// If a part of the path can't be made or opened.
    pub async fn create(path: &str) -> io::Result<Self> {
        match &core::current().backend {
            Backend::Real(_) => real::Dir::create(path).await.map(|dir| Self(DirKind::Real(dir))),
            #[cfg(feature = "sim")]
            Backend::Sim(node) => node.create_dir(path).await.map(|dir| Self(DirKind::Sim(dir))),
        }
    }

    /// Opens a file of this directory for direct I/O.
    ///
    /// # Errors
    /// As the mode says, or if the file system can't do direct I/O in blocks of at most 4096 bytes.
    pub async fn open_file(&self, name: &str, mode: Mode) -> io::Result<File> {
        check_name(name)?;
        match &self.0 {
            DirKind::Real(dir) => dir.open_file(name, mode).await.map(|file| File(FileKind::Real(file))),
            #[cfg(feature = "sim")]
            DirKind::Sim(dir) => dir.open_file(name, mode).await.map(|file| File(FileKind::Sim(file))),
        }
    }

    /// The names in this directory, sorted.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn list(&self) -> io::Result<Vec<String>> {
        each!(DirKind, self, dir => dir.list().await)
    }

    /// Gives the file `from` the name `to`, replacing what had it. Durable after [`Dir::sync`].
    ///
    /// # Errors
    /// If `from` isn't there or the directory can't be written.
    pub async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_name(from)?;
        check_name(to)?;
        each!(DirKind, self, dir => dir.rename(from, to).await)
    }

    /// Removes a file's name. Durable after [`Dir::sync`].
    ///
    /// # Errors
    /// If it isn't there or the directory can't be written.
    pub async fn remove(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        each!(DirKind, self, dir => dir.remove(name).await)
    }

    /// Makes the names in this directory durable.
    ///
    /// # Errors
    /// If the device fails; what is durable is then unknown.
    pub async fn sync(&self) -> io::Result<()> {
        each!(DirKind, self, dir => dir.sync().await)
    }

    /// Locks the directory against every other process that does, until the lock is dropped or the process ends.
    ///
    /// # Errors
    /// `WouldBlock` if another holds it.
    pub async fn lock(&self) -> io::Result<Lock> {
        match &self.0 {
            DirKind::Real(dir) => dir.lock().await.map(|lock| Lock { _real: Some(lock) }),
            // A simulated node is the only process on its disks.
            #[cfg(feature = "sim")]
            DirKind::Sim(_) => Ok(Lock { _real: None }),
        }
    }

    /// Room on this directory's file system.
    ///
    /// # Errors
    /// If the file system doesn't say.
    pub async fn space(&self) -> io::Result<Space> {
        each!(DirKind, self, dir => dir.space().await)
    }
}

impl File {
    /// Reads up to `len` bytes at `offset`; the block is shorter where the file ends.
    ///
    /// Offset and length should be multiples of the file's [`File::align`]; otherwise the blocks around them are
    /// read and cut.
    ///
    /// # Errors
    /// If the device fails, or memory for `len` bytes can never be had.
    pub async fn read_at(&self, offset: u64, len: usize) -> io::Result<Block> {
        let align = self.align() as u64;
        let start = offset / align * align;
        let skip = usize::try_from(offset - start).expect("below the alignment");
        let span = (skip + len).next_multiple_of(self.align());
        let block = self.read_into_at(crate::block::alloc(span).await?, start).await?.freeze();
        let from = skip.min(block.len());
        Ok(block.slice(from..(from + len).min(block.len())))
    }

    /// Fills `block` from `offset`, both aligned; it comes back shorter where the file ends.
    ///
    /// # Errors
    /// `InvalidInput` if unaligned, or if the device fails.
    pub async fn read_into_at(&self, block: BlockMut, offset: u64) -> io::Result<BlockMut> {
        self.check_aligned(offset, block.len(), "read")?;
        each!(FileKind, self, file => file.read_at(block, offset).await)
    }

    /// Writes all of `block` at `offset`, both aligned.
    ///
    /// # Errors
    /// `InvalidInput` if unaligned; `StorageFull`; or if the device fails: part of it may then be written.
    pub async fn write_at(&self, block: Block, offset: u64) -> io::Result<()> {
        self.write_vectored_at(vec![block], offset).await
    }

    /// Writes the blocks one after the other at `offset`, each aligned in address and length.
    ///
    /// # Errors
    /// As [`File::write_at`].
    pub async fn write_vectored_at(&self, blocks: Vec<Block>, offset: u64) -> io::Result<()> {
        self.check_blocks(&blocks, offset)?;
        each!(FileKind, self, file => file.write_at(blocks, offset).await)
    }

    /// Writes the blocks one after the other at `offset`, and makes them durable: sooner than a write and a
    /// [`File::sync_data`] one after the other.
    ///
    /// # Errors
    /// As [`File::write_at`] and [`File::sync_data`].
    pub async fn write_durably_at(&self, blocks: Vec<Block>, offset: u64) -> io::Result<()> {
        self.check_blocks(&blocks, offset)?;
        match &self.0 {
            FileKind::Real(file) => file.write_durably_at(blocks, offset).await,
            #[cfg(feature = "sim")]
            FileKind::Sim(file) => {
                file.write_at(blocks, offset).await?;
                file.sync_data().await
            }
        }
    }

    /// Makes everything written so far, and the length needed to read it, durable.
    ///
    /// # Errors
    /// If the device fails: what is durable is then unknown, and a later success proves nothing about it.
    pub async fn sync_data(&self) -> io::Result<()> {
        each!(FileKind, self, file => file.sync_data().await)
    }

    /// Reserves room for a range; what was never written there reads as zeros. Makes the file longer if need be.
    ///
    /// # Errors
    /// `StorageFull`, or if the file system can't.
    pub async fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        each!(FileKind, self, file => file.allocate(offset, len).await)
    }

    /// Gives the room of a range back; it then reads as zeros. The file keeps its length.
    ///
    /// # Errors
    /// If the file system can't.
    pub async fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        each!(FileKind, self, file => file.punch(offset, len).await)
    }

    /// The length in bytes.
    ///
    /// # Errors
    /// If the device fails.
    pub async fn len(&self) -> io::Result<u64> {
        each!(FileKind, self, file => file.len().await)
    }

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// If the device fails.
    pub async fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len().await? == 0)
    }

    /// Cuts or extends the file; what is added reads as zeros.
    ///
    /// # Errors
    /// If the file system can't.
    pub async fn set_len(&self, len: u64) -> io::Result<()> {
        each!(FileKind, self, file => file.set_len(len).await)
    }

    /// The unit of offsets and lengths in direct I/O here: a power of two, at most [`crate::block::ALIGN`].
    pub fn align(&self) -> usize {
        each!(FileKind, self, file => file.align())
    }

    fn check_blocks(&self, blocks: &[Block], offset: u64) -> io::Result<()> {
        for block in blocks {
            self.check_aligned(offset, block.len(), "write")?;
            if !block.is_aligned(self.align()) {
                return Err(unaligned("write", self.align()));
            }
        }
        Ok(())
    }

    /// The kernel's file, to map it; a simulated one has none.
    pub(crate) fn descriptor(&self) -> Option<std::sync::Arc<std::os::fd::OwnedFd>> {
        match &self.0 {
            FileKind::Real(file) => Some(file.descriptor()),
            #[cfg(feature = "sim")]
            FileKind::Sim(_) => None,
        }
    }

    fn check_aligned(&self, offset: u64, len: usize, what: &str) -> io::Result<()> {
        if offset.is_multiple_of(self.align() as u64) && len.is_multiple_of(self.align()) {
            return Ok(());
        }
        Err(unaligned(what, self.align()))
    }
}

fn unaligned(what: &str, align: usize) -> io::Error {
    let message = format!("direct {what} not in multiples of {align} bytes; pad it, or use read_at");
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// Names are single path components, so that a directory handle reaches nothing outside its directory.
fn check_name(name: &str) -> io::Result<()> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        let message = format!("{name:?} is not a file name: give one path component");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(())
}
