//! A disk's directory: its label, its copy of the lane map, and the directories of its lanes.
//!
//! The map's file has room for two maps and is written once in full when it is made. After that a new map overwrites the
//! older of the two, in place: a full disk can't refuse it, and a torn write leaves the other.

use std::cell::{Cell, RefCell};
use std::io;

use cairn_io::fs::{Dir, File, Lock, Mode, Space};
use cairn_io::log::LogError;
use cairn_io::{block, rng, time};

use super::map::{FormatError, LABEL_BYTES, Label, LaneMap, MAP_BYTES_MAX, Membership, Uid};
use crate::lane::{Lane, LaneError, Owner};

const LABEL: &str = "disk";
const MAP: &str = "lanes";
/// What other programs leave in the root of a file system.
const STRANGERS: [&str; 1] = ["lost+found"];

/// Why a directory isn't one of the node's disks. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// It can't be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Nothing of Cairn's is there.
    #[error("there is no disk of Cairn here; `cairn init` makes a new node, `cairn disk add` one more disk")]
    NotADisk,
    /// Another process has it.
    #[error("another process uses it; stop the node that runs on it")]
    InUse,
    /// One of its files is not what it should be.
    #[error("its file {0:?}: {1}")]
    Format(&'static str, FormatError),
    /// It belongs elsewhere.
    #[error("it belongs to node {node}, not to {ours}; start that node with it, or take it out of this one's `data`")]
    OtherNode {
        /// Whose it is.
        node: Uid,
        /// Who asks.
        ours: Uid,
    },
    /// It was taken out of the node.
    #[error("it was removed from this node; empty the directory to use it as a new disk")]
    Removed,
    /// The map doesn't know it, so that nothing of the node can be on it.
    #[error("it was never added to this node; `cairn disk add` does that")]
    Unknown,
    /// The same disk is there twice.
    #[error("it is the same disk as {0}; take one of the two away, the older copy if one is a copy")]
    Twice(String),
    /// A disk is made in an empty directory.
    #[error("there is {0:?} in it already; choose an empty directory")]
    NotEmpty(String),
    /// One of its lanes can't be made.
    #[error("its lane {0}: {1}")]
    Lane(u32, LaneError),
}

/// The name of a lane's directory.
pub fn lane_name(number: u32) -> String {
    format!("lane-{number:04}")
}

/// An open disk, locked against other processes.
pub struct DiskDir {
    /// Where it is.
    pub path: String,
    label: Cell<Label>,
    /// The newest map it has.
    map: RefCell<Option<LaneMap>>,
    dir: Dir,
    file: RefCell<Option<File>>,
    /// Which half of the file has the newest map.
    half: Cell<u64>,
    _lock: Lock,
}

impl DiskDir {
    /// Opens a disk.
    ///
    /// # Errors
    /// If it is none, is in use, or can't be read.
    pub async fn open(path: &str) -> Result<Self, DiskError> {
        let dir = Dir::open(path).await?;
        let lock = lock(&dir).await?;
        let label = read_label(&dir).await?.ok_or(DiskError::NotADisk)?;
        Self::with_label(path, dir, lock, label).await
    }

    /// Opens a disk, making it in an empty directory, or going on where that was broken off.
    ///
    /// # Errors
    /// If something else is in the directory, or it can't be written.
    pub async fn prepare(path: &str, node: Uid, cluster: Uid) -> Result<Self, DiskError> {
        let dir = Dir::create(path).await?;
        let lock = lock(&dir).await?;
        if let Some(label) = read_label(&dir).await? {
            return Self::with_label(path, dir, lock, label).await;
        }
        let is_ours = |name: &String| name == "disk.new" || STRANGERS.contains(&name.as_str());
        if let Some(name) = dir.list().await?.into_iter().find(|name| !is_ours(name)) {
            return Err(DiskError::NotEmpty(name));
        }
        let created = time::wall().as_unix_nanos();
        let label = Label { disk: draw(), node, cluster, created, membership: Membership::Member };
        write_label(&dir, &label).await?;
        Self::with_label(path, dir, lock, label).await
    }

    async fn with_label(path: &str, dir: Dir, lock: Lock, label: Label) -> Result<Self, DiskError> {
        let (file, map, half) = match dir.open_file(MAP, Mode::Write).await {
            Ok(file) => {
                let (map, half) = read_maps(&file).await?;
                (Some(file), Some(map), half)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (None, None, 0),
            Err(error) => return Err(error.into()),
        };
        let (label, map, file) = (Cell::new(label), RefCell::new(map), RefCell::new(file));
        Ok(Self { path: path.to_owned(), label, map, dir, file, half: Cell::new(half), _lock: lock })
    }

    /// Who it is.
    pub fn label(&self) -> Label {
        self.label.get()
    }

    /// The newest map it has.
    pub fn map(&self) -> Option<LaneMap> {
        self.map.borrow().clone()
    }

    /// Writes another map; durable when this returns.
    ///
    /// # Errors
    /// If the disk fails; it then has this map or the one before.
    pub async fn write_map(&self, map: &LaneMap) -> Result<(), DiskError> {
        let file = self.file.borrow().clone();
        if let Some(file) = file {
            let half = 1 - self.half.get();
            let bytes = map.encode();
            let mut block = block::alloc(bytes.len()).await?;
            block.copy_from_slice(&bytes);
            file.write_durably_at(vec![block.freeze()], half * MAP_BYTES_MAX as u64).await?;
            self.half.set(half);
        } else {
            let file = make_map(&self.dir, map).await?;
            self.file.replace(Some(file));
            self.half.set(0);
        }
        self.map.replace(Some(map.clone()));
        Ok(())
    }

    /// Says on the disk itself that it isn't one of the node's any more.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn write_removed(&self) -> Result<(), DiskError> {
        let label = Label { membership: Membership::Removed, ..self.label() };
        write_label(&self.dir, &label).await?;
        self.label.set(label);
        Ok(())
    }

    /// Where a lane is.
    pub fn lane_path(&self, number: u32) -> String {
        format!("{}/{}", self.path, lane_name(number))
    }

    /// Makes a lane, and returns its name and whether it is new: one that was made before is taken as it is.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn make_lane(&self, number: u32, segment_bytes: u32) -> Result<(Uid, bool), DiskError> {
        let broken = |error| DiskError::Lane(number, error);
        let dir = Dir::create(&self.lane_path(number)).await?;
        let label = self.label();
        let owner = Owner { cluster: label.cluster.0, node: label.node.0 };
        let is_new = match Lane::create(&dir, owner, number, segment_bytes).await {
            Ok(()) => true,
            Err(LaneError::Log(LogError::Io(error))) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(broken(error)),
        };
        let superblock = cairn_io::log::Log::superblock_of(&dir).await.map_err(|error| broken(error.into()))?;
        Ok((Uid(superblock.lane), is_new))
    }

    /// Room on its file system.
    ///
    /// # Errors
    /// If the file system doesn't say.
    pub async fn space(&self) -> io::Result<Space> {
        self.dir.space().await
    }
}

/// A name that nothing else has.
pub fn draw() -> Uid {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&rng::next_u64().to_le_bytes());
    bytes[8..].copy_from_slice(&rng::next_u64().to_le_bytes());
    Uid(bytes)
}

async fn lock(dir: &Dir) -> Result<Lock, DiskError> {
    dir.lock().await.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => DiskError::InUse,
        _ => error.into(),
    })
}

async fn read_label(dir: &Dir) -> Result<Option<Label>, DiskError> {
    let file = match dir.open_file(LABEL, Mode::Read).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let bytes = file.read_at(0, LABEL_BYTES).await?;
    Label::decode(&bytes).map(Some).map_err(|error| DiskError::Format(LABEL, error))
}

/// Replaces the label as a whole.
async fn write_label(dir: &Dir, label: &Label) -> io::Result<()> {
    let unfinished = format!("{LABEL}.new");
    let file = dir.open_file(&unfinished, Mode::Create).await?;
    let mut block = block::alloc(LABEL_BYTES).await?;
    block.copy_from_slice(&label.encode());
    file.write_at(block.freeze(), 0).await?;
    file.sync_data().await?;
    dir.rename(&unfinished, LABEL).await?;
    dir.sync().await
}

/// The newer of the two maps of a file, and which half has it.
async fn read_maps(file: &File) -> Result<(LaneMap, u64), DiskError> {
    let wrong = |error| DiskError::Format(MAP, error);
    let mut best: Result<(LaneMap, u64), FormatError> = Err(FormatError::Damaged("it has no map"));
    for half in [0, 1] {
        let bytes = file.read_at(half * MAP_BYTES_MAX as u64, MAP_BYTES_MAX).await?;
        match LaneMap::decode(&bytes) {
            Ok(map) => {
                if best.as_ref().is_ok_and(|(best, _)| best.epoch >= map.epoch) {
                    continue;
                }
                best = Ok((map, half));
            }
            // Whatever the other half has, it is older.
            Err(FormatError::Newer(version)) => return Err(wrong(FormatError::Newer(version))),
            Err(_) => {}
        }
    }
    best.map_err(wrong)
}

/// Makes the file, with a first map in it.
async fn make_map(dir: &Dir, map: &LaneMap) -> io::Result<File> {
    let unfinished = format!("{MAP}.new");
    let file = dir.open_file(&unfinished, Mode::Create).await?;
    let mut block = block::alloc(2 * MAP_BYTES_MAX).await?;
    block.fill(0);
    let bytes = map.encode();
    block[..bytes.len()].copy_from_slice(&bytes);
    file.write_at(block.freeze(), 0).await?;
    file.sync_data().await?;
    dir.rename(&unfinished, MAP).await?;
    dir.sync().await?;
    Ok(file)
}
