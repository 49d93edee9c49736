//! `cairn place`: what a cluster map means, without a cluster. Reads a map file, changes nothing.

mod events;
mod explain;
mod files;
mod plan;
mod plot;
mod simulate;

use std::path::{Path, PathBuf};

use cairn_placement::Map;
use cairn_placement::policy::Policy;
use clap::Subcommand;
use serde::Serialize;

use crate::out::{self, Failure};

/// What can be asked of a map.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say where a partition, or the metadata of a key, lies and why: ranking, scores, constraints, result
    Explain(explain::Args),
    /// Show what a change of nodes or a rebalance would move, and whether it is possible
    #[command(subcommand)]
    Plan(plan::Command),
    /// Imagine a cluster: how even it is, what events move, what failures lose
    Simulate(simulate::Args),
}

impl Command {
    /// Reads the map and prints the answer.
    ///
    /// # Errors
    /// If the map is wrong or doesn't have what was asked for.
    pub fn run(&self) -> Result<(), Failure> {
        match self {
            Self::Explain(args) => explain::run(args),
            Self::Plan(command) => plan::run(command),
            Self::Simulate(args) => simulate::run(args),
        }
    }
}

/// Which map and how to print.
#[derive(Debug, clap::Args)]
struct Common {
    /// The map file, in TOML (docs/placement.md shows one)
    #[arg(long, value_name = "FILE")]
    map: PathBuf,
    /// The policy; the first of the map unless said
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Common {
    fn policy<'a>(&self, map: &'a Map) -> Result<&'a Policy, Failure> {
        let Some(name) = &self.policy else { return Ok(&map.policies()[0]) };
        let names: Vec<&str> = map.policies().iter().map(|policy| policy.name.as_str()).collect();
        let unknown = || Failure::Input(format!("the map has no policy {name:?}; it has {}", names.join(", ")));
        map.policy(name).ok_or_else(unknown)
    }

    /// As JSON if that was asked for, else as text.
    fn print(&self, report: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
        if !self.json {
            return out::print(&text());
        }
        let json = serde_json::to_string_pretty(report);
        out::print(&json.map_err(|error| Failure::Broken(format!("can't make JSON of the answer: {error}")))?)
    }
}

fn read_map(path: &Path) -> Result<Map, Failure> {
    let text = files::read(path, "--map")?;
    Map::from_toml(&text).map_err(|error| Failure::Input(format!("{} is no map:\n{error}", path.display())))
}

/// A table without lines, for eyes and for `awk`.
fn table(header: &[&str]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING).set_header(header.to_vec());
    table
}

/// Labels as selectors write them.
fn labels(map: &Map, node: cairn_placement::NodeId) -> String {
    let labels = map.node(node).map(|node| &node.labels).into_iter().flatten();
    labels.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}
