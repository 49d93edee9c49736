//! `cairn place simulate`: how even a cluster would be, what events would move, what failures would lose.

use std::path::PathBuf;

use cairn_placement::map::Parts;
use cairn_placement::policy::{Need, Policy, Redundancy};
use cairn_placement::simulate::{Loss, balance, label_units, losses, movement, node_units};
use cairn_placement::{Map, Node, Placer};
use serde::Serialize;

use super::events::{Event, read_events};
use super::{files, plot, table};
use crate::out::{self, Failure};

/// The cluster to imagine.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Nodes, all alike
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    nodes: u64,
    /// Racks, over which the nodes are dealt
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    racks: u64,
    /// Copies such as 3, or pieces such as 4+2
    #[arg(long, default_value = "3")]
    redundancy: Redundancy,
    /// Different racks required for each partition; as many as there can be unless said
    #[arg(long)]
    spread: Option<u8>,
    /// Partitions
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    partitions: u32,
    /// Objects, such as 1e9, taken to be spread evenly over the partitions
    #[arg(long, default_value = "1e9", value_parser = parse_count)]
    objects: u64,
    /// Events, one a line: `add COUNT`, `drain NODE`, `offline NODE`, `offline rack RACK`; # begins a comment
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// Draws for each number of failures
    #[arg(long, default_value_t = 1000)]
    trials: u64,
    /// Draw how full the nodes are
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn parse_count(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no number such as 1000000 or 1e9");
    let (digits, zeros) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let zeros: u32 = zeros.parse().map_err(|_| wrong())?;
    let factor = 10_u64.checked_pow(zeros).ok_or_else(wrong)?;
    digits.replace('_', "").parse::<u64>().ok().and_then(|digits| digits.checked_mul(factor)).ok_or_else(wrong)
}

#[derive(Serialize)]
struct Report {
    nodes: u64,
    racks: u64,
    redundancy: String,
    missing: Vec<String>,
    balance: Balance,
    events: Vec<Moved>,
    losses: Vec<Lost>,
}

/// Partitions and objects of the least full, the middle and the fullest node.
#[derive(Serialize)]
struct Balance {
    partitions: [u64; 3],
    objects: [u64; 3],
}

#[derive(Serialize)]
struct Moved {
    event: String,
    copies: u64,
    moved: u64,
    share: u64,
    missing: Vec<String>,
}

#[derive(Serialize)]
struct Lost {
    what: &'static str,
    failures: usize,
    trials: u64,
    with_loss: u64,
    /// Of all partitions over all draws, how many in a million.
    partitions_per_million: u64,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let events = args.events.as_deref().map(read_events).transpose()?.unwrap_or_default();
    let map = args.cluster()?;
    let placer = Placer::new(&map, &map.policies()[0]);
    let held: Vec<u64> = balance(&placer).into_iter().map(|(_, count)| count).collect();
    let report = Report {
        nodes: args.nodes,
        racks: args.racks,
        redundancy: args.redundancy.to_string(),
        missing: said(&placer),
        balance: args.balance(held.clone()),
        events: moved(&map, &events)?,
        losses: args.losses(&placer),
    };
    if let Some(file) = &args.svg {
        files::write(file, "--svg", &plot::svg(held))?;
    }
    if args.json {
        let json = serde_json::to_string_pretty(&report);
        return out::print(&json.map_err(|error| Failure::Broken(format!("can't make JSON of the answer: {error}")))?);
    }
    out::print(&report.text())
}

fn said(placer: &Placer<'_>) -> Vec<String> {
    placer.missing().iter().map(ToString::to_string).collect()
}

/// A node as all others: 8 TiB.
fn node(id: u64, racks: u64) -> Node {
    Node::new(id, 8 << 40).label("rack", &format!("r{}", id % racks))
}

impl Args {
    fn cluster(&self) -> Result<Map, Failure> {
        let width = self.redundancy.width() as u64;
        let most = self.racks.min(self.nodes).min(width).max(1) as u8;
        let policy = Policy { redundancy: self.redundancy, ..Policy::copies("data", 1) };
        let policy = policy.spread("rack", self.spread.unwrap_or(most), Need::Required);
        let policies = vec![policy, Policy::copies("meta", 1)];
        let nodes = (1..=self.nodes).map(|id| node(id, self.racks)).collect();
        let (partitions, meta) = (self.partitions, "meta".to_owned());
        let map = Map::new(Parts { nodes, policies, meta, partitions, ..Parts::default() });
        map.map_err(|faults| {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            Failure::Input(faults.join("\n"))
        })
    }

    fn balance(&self, mut held: Vec<u64>) -> Balance {
        held.sort_unstable();
        let at = |place: usize| held.get(place).copied().unwrap_or(0);
        let partitions = [at(0), at(held.len() / 2), at(held.len().saturating_sub(1))];
        let objects = |count| u128::from(self.objects) * u128::from(count) / u128::from(self.partitions);
        Balance { partitions, objects: partitions.map(|count| objects(count) as u64) }
    }

    /// From the most node failures that the redundancy bears for sure to three more; one to three racks.
    fn losses(&self, placer: &Placer<'_>) -> Vec<Lost> {
        let borne = self.redundancy.width() - self.redundancy.enough();
        let nodes = node_units(placer);
        let racks = label_units(placer, "rack");
        let mut lost = Vec::new();
        for failures in borne..=borne + 3 {
            lost.push(self.lost("nodes", failures, losses(placer, &nodes, failures, self.trials)));
        }
        for failures in 1..=3 {
            lost.push(self.lost("racks", failures, losses(placer, &racks, failures, self.trials)));
        }
        lost
    }

    fn lost(&self, what: &'static str, failures: usize, loss: Loss) -> Lost {
        let all = u128::from(loss.trials) * u128::from(self.partitions);
        let partitions_per_million = (u128::from(loss.partitions) * 1_000_000 / all.max(1)) as u64;
        Lost { what, failures, trials: loss.trials, with_loss: loss.with_loss, partitions_per_million }
    }
}

/// Each event on the map that the one before it left.
fn moved(map: &Map, events: &[Event]) -> Result<Vec<Moved>, Failure> {
    let mut map = map.clone();
    let mut all = Vec::new();
    for event in events {
        let next = event.apply(&map, node)?;
        let (before, after) = (Placer::new(&map, &map.policies()[0]), Placer::new(&next, &next.policies()[0]));
        let step = movement(&before, &after);
        let (copies, moved, share) = (step.copies, step.moved, step.share);
        all.push(Moved { event: event.to_string(), copies, moved, share, missing: said(&after) });
        map = next;
    }
    Ok(all)
}

impl Report {
    fn text(&self) -> String {
        let mut lines = vec![format!("{} nodes in {} racks, {}\n", self.nodes, self.racks, self.redundancy)];
        lines.extend(self.missing.iter().map(|one| format!("missing: {one}\n")));
        let mut rows = table(&["node", "partitions", "objects"]);
        for (at, name) in ["least full", "middle", "fullest"].into_iter().enumerate() {
            let (partitions, objects) = (self.balance.partitions[at], self.balance.objects[at]);
            rows.add_row([name.to_owned(), partitions.to_string(), objects.to_string()]);
        }
        lines.push(rows.trim_fmt() + "\n");
        if !self.events.is_empty() {
            lines.push(self.events_text() + "\n");
        }
        let mut rows = table(&["failed at once", "draws", "with loss", "partitions lost, per million"]);
        for one in &self.losses {
            let failed = format!("{} {}", one.failures, one.what);
            let counts = [one.trials, one.with_loss, one.partitions_per_million].map(|count| count.to_string());
            rows.add_row([failed].into_iter().chain(counts));
        }
        lines.push(rows.trim_fmt());
        lines.join("\n")
    }

    fn events_text(&self) -> String {
        let mut rows = table(&["event", "copies moved", "had to", "of"]);
        for one in &self.events {
            let counts = [one.moved, one.share, one.copies].map(|count| count.to_string());
            rows.add_row([one.event.clone()].into_iter().chain(counts));
        }
        let mut lines = vec![rows.trim_fmt()];
        for one in &self.events {
            lines.extend(one.missing.iter().map(|missing| format!("missing after {}: {missing}", one.event)));
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_as_people_write_them() {
        assert_eq!(parse_count("1e9"), Ok(1_000_000_000));
        assert_eq!(parse_count("1_000"), Ok(1000));
        for text in ["", "e9", "1e99", "-1", "1.5e3", "many"] {
            assert!(parse_count(text).is_err(), "{text}");
        }
    }
}
