//! `cairn place explain`: why something lies where it lies.

use cairn_placement::id::{Group, PartitionId, SlotId};
use cairn_placement::select::{Ranked, Verdict};
use cairn_placement::{Map, Placer};
use serde::Serialize;

use super::{Common, labels, read_map, table};
use crate::out::Failure;

/// What to explain.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The number of a partition; with --bucket, an object's key
    #[arg(value_name = "KEY|PARTITION")]
    target: String,
    /// The id of the bucket that the key is in: explains the slot of its metadata, under the policy of metadata
    #[arg(long, value_name = "ID", conflicts_with = "policy")]
    bucket: Option<u64>,
    /// How many nodes of the ranking to show
    #[arg(long, default_value_t = 12, value_name = "COUNT")]
    show: usize,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct Report {
    group: String,
    policy: String,
    redundancy: String,
    nodes: Vec<u64>,
    missing: Vec<String>,
    ranking: Vec<Row>,
    excluded: Vec<Excluded>,
}

#[derive(Serialize)]
struct Row {
    rank: usize,
    node: u64,
    labels: String,
    weight: u32,
    cost: Option<String>,
    verdict: String,
}

#[derive(Serialize)]
struct Excluded {
    node: u64,
    why: String,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let map = read_map(&args.common.map)?;
    let group = args.group(&map)?;
    let policy = match group {
        Group::Partition(_) => args.common.policy(&map)?,
        Group::Slot(_) => map.meta_policy(),
    };
    let report = report(&Placer::new(&map, policy), group, args.show);
    args.common.print(&report, || report.text())
}

impl Args {
    fn group(&self, map: &Map) -> Result<Group, Failure> {
        if let Some(bucket) = self.bucket {
            return Ok(Group::Slot(SlotId::of_key(bucket, self.target.as_bytes(), map.slots().len() as u32)));
        }
        let target = &self.target;
        let last = map.partitions().len() - 1;
        let number = target.parse::<u32>().ok().filter(|number| *number as usize <= last);
        let wrong =
            || format!("{target:?} is no partition: give a number from 0 to {last}, or a key with its --bucket");
        number.map(|number| Group::Partition(PartitionId(number))).ok_or_else(|| Failure::Input(wrong()))
    }
}

fn report(placer: &Placer<'_>, group: Group, show: usize) -> Report {
    let (map, policy) = (placer.map(), placer.policy());
    let selection = placer.select(group);
    let ranked = placer.explain(group).into_iter().zip(1..);
    let shown = ranked.filter(|(one, rank)| *rank <= show || matches!(one.verdict, Verdict::Taken | Verdict::Pinned));
    let excluded = placer.excluded().iter();
    Report {
        group: group.to_string(),
        policy: policy.name.clone(),
        redundancy: policy.redundancy.to_string(),
        nodes: selection.nodes.iter().map(|node| node.0).collect(),
        missing: selection.missing.iter().map(ToString::to_string).collect(),
        ranking: shown.map(|(one, rank)| row(map, one, rank)).collect(),
        excluded: excluded.map(|(node, why)| Excluded { node: node.0, why: why.to_string() }).collect(),
    }
}

fn row(map: &Map, one: Ranked, rank: usize) -> Row {
    let weight = map.node(one.node).map_or(0, cairn_placement::Node::weight);
    let (cost, verdict) = (one.cost.map(|cost| cost.0.to_string()), one.verdict.to_string());
    Row { rank, node: one.node.0, labels: labels(map, one.node), weight, cost, verdict }
}

impl Report {
    fn text(&self) -> String {
        let nodes: Vec<String> = self.nodes.iter().map(|node| format!("n{node}")).collect();
        let Self { group, policy, redundancy, .. } = self;
        let mut lines = vec![format!("{group} under policy {policy} ({redundancy}) lies on {}\n", nodes.join(", "))];
        let mut rows = table(&["rank", "node", "labels", "weight", "cost (least wins)", ""]);
        for row in &self.ranking {
            let (rank, node, weight) = (row.rank.to_string(), format!("n{}", row.node), row.weight.to_string());
            let cost = row.cost.clone().unwrap_or_default();
            rows.add_row([rank, node, row.labels.clone(), weight, cost, row.verdict.clone()]);
        }
        lines.push(rows.trim_fmt());
        lines.extend(self.excluded.iter().map(|one| format!("n{} may not be chosen: {}", one.node, one.why)));
        lines.extend(self.missing.iter().map(|one| format!("missing: {one}")));
        lines.join("\n")
    }
}
