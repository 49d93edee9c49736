//! `cairn log` and `cairn fsck`: a lane that no node has open, looked at and checked.

mod dump;
mod fsck;
pub(crate) mod text;

use std::path::{Path, PathBuf};

use cairn_daemon::lane::LaneError;
use cairn_io::fs::Dir;
use cairn_io::log::LogError;
use cairn_io::{Config, run_one};
use clap::Subcommand;

pub use fsck::{Fsck, HELP as FSCK_HELP};

use crate::out::Failure;

/// What can be done with a log.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print what lies in a lane's log, record by record, and the damage where it lies
    Dump(dump::Args),
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// If there is no lane, or the output can't be written.
    pub fn run(&self) -> Result<(), Failure> {
        match self {
            Self::Dump(args) => dump::run(args),
        }
    }
}

/// Runs something on a core of its own.
fn on_core<F, T>(program: impl FnOnce() -> F + Send + 'static) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>> + 'static,
    T: Send + 'static,
{
    run_one(&Config::single(), program).map_err(|error| Failure::Input(error.to_string()))?
}

async fn open(path: &Path) -> Result<Dir, Failure> {
    let Some(name) = path.to_str() else {
        return Err(Failure::Input(format!("{} is no name in UTF-8; rename the directory", path.display())));
    };
    Dir::open(name).await.map_err(|error| {
        Failure::Input(format!("can't open {name}: {error}; name the directory of a lane, which has a file superblock"))
    })
}

/// The lanes that a directory means: itself, or those of a disk.
async fn lanes(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let names = open(path).await?.list().await;
    let names = names.map_err(|error| Failure::Broken(format!("can't list {}: {error}", path.display())))?;
    let lanes = names.iter().filter(|name| name.starts_with("lane-")).map(|name| path.join(name));
    let is_disk = names.iter().any(|name| name == "disk") && names.iter().all(|name| name != "superblock");
    Ok(if is_disk { lanes.collect() } else { vec![path.to_owned()] })
}

/// Why a lane can't be looked at. What isn't a lane, or is in use, is the user's to change.
fn refused(path: &Path, error: &LaneError) -> Failure {
    use cairn_io::log::FormatError::Damaged;
    let text = format!("{}: {error}", path.display());
    match error {
        LaneError::Log(LogError::Format(Damaged(_))) => {
            Failure::Broken(format!("{text}; without it nothing of the lane can be verified"))
        }
        LaneError::Log(LogError::Format(_)) | LaneError::Open(_) => Failure::Input(text),
        LaneError::Io(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            Failure::Input(format!("{text}; stop the node that has this lane, then try again"))
        }
        _ => Failure::Broken(text),
    }
}
