//! What the disk below a server can do: its bare reads, and the puts of a lane on it.

use std::io;
use std::path::Path;
use std::time::Duration;

use cairn_io::Config;
use cairn_io::reference::{Load, Operation, Order, RemoteCore, Scratch, ScratchDir, Stop};

use super::scenario::{Below, LARGE};
use crate::bench::disk::explain;
use crate::bench::subject::{self, Beside, Job, Name, SEGMENT, Space};
use crate::out::Failure;

const MIB: u64 = 1 << 20;
/// The file that is read: more than a disk's own cache holds.
const FILE: u64 = 512 * MIB;
/// Segments that the puts of one turn may fill before they are cleaned up.
const SEGMENTS: u64 = 12;
/// How many are under way, as in the scenarios.
const DEPTH: usize = 8;

/// A directory on that disk.
pub struct Disk {
    core: RemoteCore,
    scratch: Scratch,
    // Removed last.
    _dir: ScratchDir,
}

impl Disk {
    /// Makes what is read and written; all of it vanishes with this.
    ///
    /// # Errors
    /// If the directory can't take it.
    pub fn new(dir: &Path) -> Result<Self, Failure> {
        let input = |error: &dyn std::fmt::Display| Failure::Input(error.to_string());
        let lane = ScratchDir::create(dir, FILE + SEGMENTS * u64::from(SEGMENT)).map_err(|error| input(&error))?;
        let scratch = Scratch::create(dir, FILE).map_err(|error| input(&error))?;
        let core = RemoteCore::start(&Config::single()).map_err(|error| input(&error))?;
        let place = lane.path().join("round").display().to_string();
        let made = scratch.fill(|_| ()).and_then(|()| {
            core.call(move || subject::create(Name::Round, place, Space::Written))?;
            // Once round, so that every segment there will be has been written to.
            let puts = SEGMENTS / 2 * u64::from(SEGMENT) / LARGE as u64;
            let job = Job::Put { bytes: LARGE, depth: DEPTH };
            core.call(move || subject::run(Name::Round, job, Beside::Nothing, Stop::Ops(puts))).map(drop)
        });
        made.map_err(|error| explain(dir, &error))?;
        Ok(Self { core, scratch, _dir: lane })
    }

    /// How many of 1 MiB it does in a second.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn rate(&self, below: Below, slice: Duration) -> io::Result<f64> {
        let stop = Stop::After(slice);
        let tally = match below {
            Below::Reads => {
                let load = Load { operation: Operation::Read, order: Order::Random, bytes: LARGE, depth: DEPTH };
                self.scratch.load(&load, stop)?
            }
            Below::Puts => {
                let job = Job::Put { bytes: LARGE, depth: DEPTH };
                self.core.call(move || subject::run(Name::Round, job, Beside::Nothing, stop))?.tally
            }
        };
        Ok(tally.rate())
    }
}
