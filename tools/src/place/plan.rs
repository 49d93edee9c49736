//! `cairn place plan`: what a change would move, as a dry run on a map file.

use cairn_placement::plan::change::{Change, change};
use cairn_placement::plan::rebalance::{Options, Size, rebalance};
use cairn_placement::{Map, NodeId, Placer};
use serde::Serialize;

use super::{Common, read_map, table};
use crate::out::Failure;

/// Which change.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Empty a node that stays a member
    Drain(One),
    /// Empty a node that then leaves
    Decommission(One),
    /// Let a new node of the same labels and capacity take the place of another
    Replace(Replace),
    /// Bring nodes that have too much down to their share
    Rebalance(Rebalance),
}

/// A node and the data.
#[derive(Debug, clap::Args)]
pub struct One {
    /// The id of the node
    node: u64,
    #[command(flatten)]
    data: Data,
}

/// Two nodes and the data.
#[derive(Debug, clap::Args)]
pub struct Replace {
    /// The id of the node that goes
    node: u64,
    /// The id of the node that comes
    #[arg(long, value_name = "ID")]
    with: u64,
    #[command(flatten)]
    data: Data,
}

/// How far and what data.
#[derive(Debug, clap::Args)]
pub struct Rebalance {
    /// A node has too much with so many per cent more than its share by weight
    #[arg(long, default_value_t = 50, value_name = "PERCENT")]
    threshold: u32,
    #[command(flatten)]
    data: Data,
}

/// What there is to move.
#[derive(Debug, clap::Args)]
struct Data {
    /// Bytes under the policy, each counted once; taken to be spread evenly over the partitions
    #[arg(long, default_value_t = 0, value_name = "BYTES")]
    bytes: u64,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct Report {
    possible: bool,
    obstacles: Vec<String>,
    steps: usize,
    bytes: u64,
    incoming: Vec<Incoming>,
    moves: Vec<Step>,
}

#[derive(Serialize)]
struct Incoming {
    node: u64,
    partitions: usize,
    bytes: u64,
}

#[derive(Serialize)]
struct Step {
    partition: u32,
    from: u64,
    to: u64,
    bytes: u64,
}

pub(super) fn run(command: &Command) -> Result<(), Failure> {
    let (data, report) = match command {
        Command::Drain(one) => (&one.data, changed(&one.data, |_| Ok(Change::Drain(NodeId(one.node))))?),
        Command::Decommission(one) => (&one.data, changed(&one.data, |_| Ok(Change::Decommission(NodeId(one.node))))?),
        Command::Replace(two) => (&two.data, changed(&two.data, |map| two.change(map))?),
        Command::Rebalance(args) => (&args.data, args.report()?),
    };
    data.common.print(&report, || report.text())
}

impl Data {
    /// Bytes of one copy or piece of a partition.
    fn of_partition(&self, map: &Map) -> Result<u64, Failure> {
        let enough = self.common.policy(map)?.redundancy.enough() as u64;
        Ok(self.bytes.div_ceil(map.partitions().len() as u64).div_ceil(enough.max(1)))
    }
}

fn changed(data: &Data, of: impl FnOnce(&Map) -> Result<Change, Failure>) -> Result<Report, Failure> {
    let map = read_map(&data.common.map)?;
    let sizes = vec![data.of_partition(&map)?; map.partitions().len()];
    let plan = change(&map, data.common.policy(&map)?, &sizes, &of(&map)?);
    let plan = plan.map_err(|error| Failure::Input(error.to_string()))?;
    let moves = plan.transfers.iter().map(|one| step(one.partition.0, one.from, one.to, one.bytes));
    let obstacles = plan.obstacles.iter().map(ToString::to_string).collect();
    Ok(Report::new(moves.collect(), obstacles))
}

fn step(partition: u32, from: NodeId, to: NodeId, bytes: u64) -> Step {
    Step { partition, from: from.0, to: to.0, bytes }
}

impl Replace {
    fn change(&self, map: &Map) -> Result<Change, Failure> {
        let old = NodeId(self.node);
        let unknown = || Failure::Input(format!("the map has no node {}; look its id up in [[nodes]]", self.node));
        let mut new = map.node(old).cloned().ok_or_else(unknown)?;
        new.id = NodeId(self.with);
        new.free_bytes = new.capacity_bytes;
        new.state = cairn_placement::NodeState::Online;
        Ok(Change::Replace { old, new })
    }
}

impl Rebalance {
    fn report(&self) -> Result<Report, Failure> {
        let map = read_map(&self.data.common.map)?;
        let bytes = self.data.of_partition(&map)?;
        let sizes = vec![Size { bytes, load: 0 }; map.partitions().len()];
        let placer = Placer::new(&map, self.data.common.policy(&map)?);
        let options = Options { threshold_percent: self.threshold, ..Options::default() };
        let plan = rebalance(&placer, &sizes, options);
        let moves = plan.moves.iter().map(|one| step(one.partition.0, one.from, one.to, one.size.bytes));
        let stuck =
            plan.stuck.iter().map(|node| format!("{node} stays above the bound: no move of its partitions fits"));
        Ok(Report::new(moves.collect(), stuck.collect()))
    }
}

impl Report {
    fn new(moves: Vec<Step>, obstacles: Vec<String>) -> Self {
        let mut incoming: Vec<Incoming> = Vec::new();
        for one in &moves {
            match incoming.iter_mut().find(|incoming| incoming.node == one.to) {
                Some(incoming) => {
                    incoming.partitions += 1;
                    incoming.bytes = incoming.bytes.saturating_add(one.bytes);
                }
                None => incoming.push(Incoming { node: one.to, partitions: 1, bytes: one.bytes }),
            }
        }
        incoming.sort_by_key(|incoming| incoming.node);
        let bytes = moves.iter().fold(0, |sum: u64, one| sum.saturating_add(one.bytes));
        Self { possible: obstacles.is_empty(), obstacles, steps: moves.len(), bytes, incoming, moves }
    }

    fn text(&self) -> String {
        let mut lines = vec![format!("{} copies to make, {} bytes\n", self.steps, self.bytes)];
        if !self.incoming.is_empty() {
            let mut rows = table(&["to", "partitions", "bytes"]);
            for one in &self.incoming {
                rows.add_row([format!("n{}", one.node), one.partitions.to_string(), one.bytes.to_string()]);
            }
            lines.push(rows.trim_fmt() + "\n");
        }
        lines.extend(self.obstacles.iter().map(|one| format!("in the way: {one}")));
        lines.push(if self.possible { "possible" } else { "not possible as things stand" }.to_owned());
        lines.join("\n")
    }
}
