//! What this machine has: people's files, standard input and output, names of hosts.
//!
//! The files of people lie on any file system and have any length, so `io`'s direct files won't do; every call here goes
//! to a thread that may block. It is part of a command, not of a node.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "see above")]

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cairn_io::{blocking, rng};

/// The address of a host and port.
///
/// # Errors
/// If it has none.
pub async fn find_host(host: String) -> io::Result<SocketAddr> {
    let found = run(move || host.to_socket_addrs().map(Iterator::collect::<Vec<_>>)).await?;
    // Servers on a loopback more often listen on the older of the two.
    let best = found.iter().find(|at| at.is_ipv4()).or(found.first()).copied();
    best.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it has no address"))
}

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file of this length.
    File(u64),
    /// A directory.
    Dir,
    /// A device, a socket.
    Other,
    /// Nothing.
    Missing,
}

/// Looks what is there.
///
/// # Errors
/// If that can't be found out.
pub async fn kind(path: &Path) -> io::Result<Kind> {
    let path = path.to_owned();
    run(move || match fs::metadata(path) {
        Ok(found) if found.is_file() => Ok(Kind::File(found.len())),
        Ok(found) if found.is_dir() => Ok(Kind::Dir),
        Ok(_) => Ok(Kind::Other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Kind::Missing),
        Err(error) => Err(error),
    })
    .await
}

/// A file that is read.
#[derive(Clone, Debug)]
pub struct Input {
    file: Arc<fs::File>,
    /// Its length when it was opened.
    pub len: u64,
}

impl Input {
    /// Opens a file.
    ///
    /// # Errors
    /// If it isn't there or may not be read.
    pub async fn open(path: &Path) -> io::Result<Self> {
        let path = path.to_owned();
        run(move || {
            let file = fs::File::open(path)?;
            let len = file.metadata()?.len();
            Ok(Self { file: Arc::new(file), len })
        })
        .await
    }

    /// Reads bytes `from..to`.
    ///
    /// # Errors
    /// If they aren't there any more.
    pub async fn read(&self, from: u64, to: u64) -> io::Result<Bytes> {
        let file = self.file.clone();
        let len = usize::try_from(to - from).map_err(io::Error::other)?;
        run(move || {
            let mut bytes = BytesMut::zeroed(len);
            file.read_exact_at(&mut bytes, from)?;
            Ok(bytes.freeze())
        })
        .await
    }
}

/// A file that is written beside where it belongs and put there once it is whole.
#[derive(Debug)]
pub struct Output {
    file: Arc<fs::File>,
    path: PathBuf,
    beside: Option<PathBuf>,
}

impl Output {
    /// Makes it, with the directories above it.
    ///
    /// # Errors
    /// If that isn't allowed.
    pub async fn create(path: &Path) -> io::Result<Self> {
        let path = path.to_owned();
        let number = rng::next_u64();
        run(move || {
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
            fs::create_dir_all(dir)?;
            let beside = dir.join(format!(".cairn-{number:016x}.part"));
            let file = fs::File::create_new(&beside)?;
            Ok(Self { file: Arc::new(file), path, beside: Some(beside) })
        })
        .await
    }

    /// Writes bytes at a place.
    ///
    /// # Errors
    /// If the disk is full or fails.
    pub async fn write(&self, at: u64, bytes: Bytes) -> io::Result<()> {
        let file = self.file.clone();
        run(move || file.write_all_at(&bytes, at)).await
    }

    /// Puts it in its place; what was there before is replaced at once.
    ///
    /// # Errors
    /// If that isn't allowed, or the disk fails.
    pub async fn finish(mut self) -> io::Result<()> {
        let Some(beside) = self.beside.take() else { return Ok(()) };
        let (file, path, from) = (self.file.clone(), self.path.clone(), beside.clone());
        let ended = run(move || {
            file.sync_all()?;
            fs::rename(from, path)
        })
        .await;
        if ended.is_err() {
            self.beside = Some(beside);
        }
        ended
    }
}

/// What isn't whole is of no use.
impl Drop for Output {
    fn drop(&mut self) {
        if let Some(beside) = self.beside.take() {
            let _ = fs::remove_file(beside);
        }
    }
}

/// Makes a directory, with those above it.
///
/// # Errors
/// If that isn't allowed.
pub async fn create_dir(path: PathBuf) -> io::Result<()> {
    run(move || fs::create_dir_all(path)).await
}

/// A file below a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it is.
    pub path: PathBuf,
    /// Its name below the directory, with slashes.
    pub name: String,
    /// Its length.
    pub len: u64,
}

/// Goes through the files below a directory, one directory at a time. Links are followed to files, not to directories.
#[derive(Debug)]
pub struct Walk {
    /// Directories yet to be read, with their names below the first.
    dirs: Vec<(PathBuf, String)>,
}

impl Walk {
    /// Through this directory.
    pub fn new(dir: &Path) -> Self {
        Self { dirs: vec![(dir.to_owned(), String::new())] }
    }

    /// The files of the next directory, and what can't be taken along; none at the end.
    pub async fn next(&mut self) -> Option<Result<(Vec<Found>, Vec<String>), String>> {
        let (dir, prefix) = self.dirs.pop()?;
        let shown = dir.display().to_string();
        let read = run(move || read_dir(&dir, &prefix)).await;
        Some(read.map_err(|error| format!("{shown}: {error}")).map(|mut seen| {
            self.dirs.append(&mut seen.dirs);
            (seen.files, seen.strange)
        }))
    }
}

#[derive(Default)]
struct Seen {
    files: Vec<Found>,
    dirs: Vec<(PathBuf, String)>,
    /// What is neither, or has a name that no key can have.
    strange: Vec<String>,
}

fn read_dir(dir: &Path, prefix: &str) -> io::Result<Seen> {
    let mut seen = Seen::default();
    let mut entries = fs::read_dir(dir)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let Ok(name) = entry.file_name().into_string() else {
            seen.strange.push(format!("{}: its name is not UTF-8", path.display()));
            continue;
        };
        let name = format!("{prefix}{name}");
        match (entry.file_type()?.is_dir(), fs::metadata(&path)) {
            (true, _) => seen.dirs.push((path, format!("{name}/"))),
            (_, Ok(found)) if found.is_file() => seen.files.push(Found { path, name, len: found.len() }),
            (_, Ok(_)) => seen.strange.push(format!("{}: neither a file nor a directory", path.display())),
            (_, Err(error)) => seen.strange.push(format!("{}: {error}", path.display())),
        }
    }
    // The last is taken first.
    seen.dirs.reverse();
    Ok(seen)
}

/// The next bytes of standard input: as many as asked for, fewer only at its end.
///
/// # Errors
/// If it can't be read.
pub async fn read_input(len: usize) -> io::Result<Bytes> {
    run(move || {
        let mut bytes = Vec::new();
        io::stdin().lock().take(len as u64).read_to_end(&mut bytes)?;
        Ok(bytes.into())
    })
    .await
}

/// Writes to standard output.
///
/// # Errors
/// If nobody reads it any more, or the disk is full.
pub async fn write_output(bytes: Bytes) -> io::Result<()> {
    run(move || {
        let mut out = io::stdout().lock();
        out.write_all(&bytes)?;
        out.flush()
    })
    .await
}

async fn run<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    blocking::run(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use cairn_io::{Config, run_one};

    use super::*;

    #[test]
    fn an_output_is_there_whole_or_not_at_all() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a/b");
        let at = path.clone();
        let write = move || async move {
            drop(Output::create(&at).await?);
            assert_eq!(kind(&at).await?, Kind::Missing, "given up");
            let output = Output::create(&at).await?;
            output.write(2, Bytes::from_static(b"cd")).await?;
            output.write(0, Bytes::from_static(b"ab")).await?;
            assert_eq!(kind(&at).await?, Kind::Missing, "not whole yet");
            output.finish().await
        };
        run_one(&Config::single(), write).expect("it starts").expect("it is written");
        let there: Vec<_> = fs::read_dir(dir.path().join("a")).expect("it is there").collect();
        assert_eq!(there.len(), 1, "nothing is left beside it: {there:?}");
        assert_eq!(fs::read(path).expect("it is there"), b"abcd");
    }

    #[test]
    fn a_walk_finds_every_file_once() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("x/y")).expect("made");
        for name in ["x/y/1", "x/2", "3"] {
            fs::write(dir.path().join(name), name).expect("written");
        }
        std::os::unix::fs::symlink("..", dir.path().join("x/loop")).expect("linked");
        let root = dir.path().to_owned();
        let walked = run_one(&Config::single(), move || async move {
            let (mut walk, mut names, mut strange) = (Walk::new(&root), vec![], 0);
            while let Some(seen) = walk.next().await {
                let (files, others) = seen.expect("it can be read");
                names.extend(files.into_iter().map(|found| (found.name, found.len)));
                strange += others.len();
            }
            (names, strange)
        });
        let (mut names, strange) = walked.expect("it starts");
        names.sort();
        assert_eq!(names, [("3".to_owned(), 1), ("x/2".to_owned(), 3), ("x/y/1".to_owned(), 5)]);
        assert_eq!(strange, 1, "the link to a directory");
    }
}
