//! `cairn disk`: the disks of a node that isn't running: shown, added, emptied, filled evenly.
//!
//! The same library does it in a running node; here it works on the directories themselves, which a running node has
//! locked.

mod show;
mod work;

use cairn_daemon::disks::map::Uid;
use cairn_daemon::disks::{Disks, DisksError, Format, Hub, LaneState, Options, Status, format};
use cairn_io::{Config, run_one, shutdown};
use clap::Subcommand;

use crate::lane::text::parse_bytes;
use crate::out::{self, Failure};

/// What can be done with disks.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Make the disks of a new node, in empty directories
    Format(Make),
    /// Show the node's disks and lanes
    List(List),
    /// Add a disk in an empty directory, and move its share of the chunks there
    Add(Add),
    /// Move everything off a disk, then take it out of the node
    Evacuate(Evacuate),
    /// Bring every chunk to where it belongs: goes on with what was interrupted, and follows changed capacities
    Rebalance(Rebalance),
}

/// Which node.
#[derive(Clone, Debug, clap::Args)]
struct Node {
    /// All disks of the node, as in its configuration: directories separated by commas
    #[arg(long, value_name = "DIR,...", value_delimiter = ',', required = true)]
    data: Vec<String>,
    /// Partitions of the cluster
    #[arg(long, value_name = "N", default_value_t = cairn_meta::index::PARTITIONS)]
    partitions: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// How chunks are moved.
#[derive(Clone, Debug, clap::Args)]
struct Pace {
    /// Show what would be moved, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Move at most so many bytes a second, such as 100MiB
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    bytes_per_second: Option<u64>,
}

/// How disks are made.
#[derive(Clone, Copy, Debug, clap::Args)]
struct How {
    /// Lanes on each new disk; as many cores can work on it at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    lanes: u32,
    /// The length of a lane's segments, from 64KiB to 2GiB
    #[arg(long, value_name = "BYTES", default_value = "256MiB", value_parser = parse_segment)]
    segment: u32,
}

impl From<How> for Format {
    fn from(how: How) -> Self {
        Self { lanes: how.lanes, segment_bytes: how.segment }
    }
}

fn parse_segment(text: &str) -> Result<u32, String> {
    use cairn_io::log::format::{BLOCK, SEGMENT_MAX, SEGMENT_MIN};
    let fits = |bytes: &u64| {
        (u64::from(SEGMENT_MIN)..=u64::from(SEGMENT_MAX)).contains(bytes) && bytes.is_multiple_of(BLOCK as u64)
    };
    let bytes = Some(parse_bytes(text)?).filter(fits);
    bytes.map(|bytes| bytes as u32).ok_or_else(|| "choose 64KiB to 2GiB, a multiple of 4KiB".to_owned())
}

/// Options of `cairn disk format`.
#[derive(Clone, Debug, clap::Args)]
pub struct Make {
    #[command(flatten)]
    node: Node,
    #[command(flatten)]
    how: How,
}

/// Options of `cairn disk list`.
#[derive(Clone, Debug, clap::Args)]
pub struct List {
    #[command(flatten)]
    node: Node,
}

/// Options of `cairn disk add`.
#[derive(Clone, Debug, clap::Args)]
pub struct Add {
    /// The directory of the new disk: empty, or not there yet
    #[arg(value_name = "DIR")]
    dir: String,
    #[command(flatten)]
    node: Node,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    pace: Pace,
}

/// Options of `cairn disk evacuate`.
#[derive(Clone, Debug, clap::Args)]
pub struct Evacuate {
    /// The disk: its directory, or its id as `cairn disk list` shows it, or how that begins
    #[arg(value_name = "DISK")]
    disk: String,
    /// The disk is gone for good: take it out of the node although nothing can be moved off it
    #[arg(long, conflicts_with = "dry_run")]
    lost: bool,
    /// Take a disk back that was to be emptied
    #[arg(long, conflicts_with = "lost")]
    keep: bool,
    /// Only begin: the node moves everything while it serves, from when it is started again
    #[arg(long, conflicts_with_all = ["lost", "keep", "dry_run"])]
    while_serving: bool,
    #[command(flatten)]
    node: Node,
    #[command(flatten)]
    pace: Pace,
}

/// Options of `cairn disk rebalance`.
#[derive(Clone, Debug, clap::Args)]
pub struct Rebalance {
    /// Count a disk as one of so many bytes, such as DISK=2TiB; DISK=auto lets it follow its capacity again
    #[arg(long, value_name = "DISK=BYTES", value_parser = parse_weight)]
    weight: Vec<(String, Option<u64>)>,
    #[command(flatten)]
    node: Node,
    #[command(flatten)]
    pace: Pace,
}

fn parse_weight(text: &str) -> Result<(String, Option<u64>), String> {
    let (disk, bytes) = text.rsplit_once('=').ok_or("write DISK=BYTES, or DISK=auto")?;
    let bytes = if bytes == "auto" { None } else { Some(parse_bytes(bytes)?) };
    Ok((disk.to_owned(), bytes))
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// If the disks can't be opened, the change is impossible, or not everything could be moved.
    pub fn run(&self) -> Result<(), Failure> {
        let command = self.clone();
        let config = Config { block_bytes_max: 512 << 20, ..Config::single() };
        shutdown::on_signals(&config.shutdown).map_err(|error| Failure::Broken(error.to_string()))?;
        let program = move || async move {
            match command {
                Self::Format(make) => make.run().await,
                Self::List(list) => list.run().await,
                Self::Add(add) => add.run().await,
                Self::Evacuate(evacuate) => evacuate.run().await,
                Self::Rebalance(rebalance) => rebalance.run().await,
            }
        };
        run_one(&config, program).map_err(|error| Failure::Input(error.to_string()))?
    }
}

impl Node {
    /// Opens the disks and does something with them.
    async fn with<T>(&self, work: impl AsyncFnOnce(&Disks) -> Result<T, Failure>) -> Result<T, Failure> {
        let mut options = Options::new(self.data.clone());
        options.lane.partitions = self.partitions;
        options.lane.ballast = 0;
        let disks = Disks::open(&Hub::new(1), options).await.map_err(|error| refused(&error))?;
        let done = work(&disks).await;
        let closed = disks.close().await;
        let done = done?;
        closed
            .map_err(|error| Failure::Broken(format!("all is done, but a lane can't be closed in order: {error}")))?;
        Ok(done)
    }

    /// Prints what the disks are now, with what was done.
    async fn print(&self, disks: &Disks, done: Option<work::Done>) -> Result<(), Failure> {
        let status = disks.status().await.map_err(|error| refused(&error))?;
        out::print(&if self.json { show::json(&status, done).to_string() } else { show::text(&status, done) })
    }

    fn print_plan(&self, plan: &cairn_daemon::disks::Plan, status: &Status) -> Result<(), Failure> {
        out::print(&if self.json { show::plan_json(plan).to_string() } else { show::plan_text(plan, status) })
    }
}

/// Why something can't be done; what is the user's to change is told from what went wrong.
fn refused(error: &DisksError) -> Failure {
    match error {
        DisksError::Refused(_) | DisksError::Open(_) | DisksError::Disk { .. } | DisksError::NoLane => {
            Failure::Input(error.to_string())
        }
        _ => Failure::Broken(error.to_string()),
    }
}

/// A change needs every disk of the node: what isn't named looks lost.
fn check_complete(status: &Status) -> Result<(), Failure> {
    let missing = status.lanes.iter().find_map(|lane| match &lane.state {
        LaneState::Missing(reason) => Some((lane.entry, reason)),
        LaneState::Open { .. } => None,
    });
    let Some((entry, reason)) = missing else { return Ok(()) };
    let troubles: Vec<String> = status.troubles.iter().map(|(path, reason)| format!(" ({path}: {reason})")).collect();
    Err(Failure::Input(format!(
        "lane {} of disk {} is missing: {reason}{}; name all disks of the node with --data, or give a lost one up with \
         `cairn disk evacuate --lost`",
        entry.number,
        entry.disk,
        troubles.concat()
    )))
}

/// The disk that somebody means.
fn find(status: &Status, name: &str) -> Result<Uid, Failure> {
    let plain = name.trim_end_matches('/');
    let by_path = |path: &String| path.trim_end_matches('/') == plain;
    let is_meant = |disk: &&cairn_daemon::disks::DiskStatus| {
        disk.path.as_ref().is_some_and(by_path) || disk.entry.id.to_string().starts_with(name)
    };
    let mut meant = status.disks.iter().filter(is_meant);
    match (meant.next(), meant.next()) {
        (Some(disk), None) => Ok(disk.entry.id),
        (Some(_), Some(_)) => Err(Failure::Input(format!("{name} is how several disks' ids begin; write more of it"))),
        (None, _) => {
            let known: Vec<String> = status.disks.iter().map(show::name).collect();
            Err(Failure::Input(format!("the node has no disk {name}; it has {}", known.join(", "))))
        }
    }
}

impl Make {
    async fn run(&self) -> Result<(), Failure> {
        let map = format(&self.node.data, Uid::default(), self.how.into()).await.map_err(|error| refused(&error))?;
        self.node.with(async |disks| self.node.print(disks, None).await).await?;
        if !self.node.json {
            out::note(&format!("Node {} has {} disks now.", map.node, map.disks.len()));
        }
        Ok(())
    }
}

impl List {
    async fn run(&self) -> Result<(), Failure> {
        self.node.with(async |disks| self.node.print(disks, None).await).await
    }
}
