//! `cairn bench`: figures of this machine, each as a ratio against something measured in the same run.

pub mod cluster;
pub mod crowd;
pub mod disk;
pub mod lane;
pub mod load;
pub mod meta;
pub mod objects;
pub mod pairs;
pub mod report;
pub mod s3;
pub mod subject;

use clap::Subcommand;

use crate::out::Failure;

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measure a disk and the loopback: bare system calls beside what each driver reaches
    Disk(disk::Args),
    /// Measure storing and reading chunks on a disk: the chunk log beside bare writes, syncs and reads
    Lane(lane::Args),
    /// Measure agreement on one node: commits, reads and lists of objects, beside the lane's own puts
    Meta(meta::Args),
    /// Measure three nodes on this machine beside one: commits, failover, and what they use when idle
    Cluster(cluster::Args),
    /// Measure an S3 server, ours or another: requests in closed and open loops, beside bare HTTP
    S3(Box<s3::Args>),
}

impl Command {
    /// Measures and prints.
    ///
    /// # Errors
    /// If it can't be measured here, or breaks.
    pub fn run(&self) -> Result<(), Failure> {
        match self {
            Self::Disk(args) => disk::run(args),
            Self::Lane(args) => lane::run(args),
            Self::Meta(args) => meta::run(args),
            Self::Cluster(args) => cluster::run(args),
            Self::S3(args) => s3::run(args),
        }
    }
}
