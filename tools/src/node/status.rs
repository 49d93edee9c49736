//! `cairn status`: what a running node says of itself.

use cairn_daemon::http::client::get;
use cairn_daemon::manage::ErrorBody;
use cairn_daemon::manage::report::{
    ActorReport, ActorState, ClusterReport, LaneReport, LaneState, NodeReport, NodeState,
};
use cairn_io::time::Duration;
use cairn_io::{Config, DriverChoice, run_one};
use comfy_table::{Table, presets};
use indicatif::{BinaryBytes, HumanDuration};

use super::at::At;
use crate::out::{self, Failure};

/// What the exit codes of this command mean.
pub const HELP: &str = "\
Exit codes:
  0  the node is ready
  1  it answers and isn't ready, or its answer makes no sense
  2  nobody answers at that address, or wrong settings";

const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Options of `cairn status`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    at: At,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Asks and prints.
    ///
    /// # Errors
    /// If nobody answers, or the node isn't ready.
    pub fn run(&self) -> Result<(), Failure> {
        let at = self.at.address()?;
        let io = Config { driver: DriverChoice::Monoio, block_bytes_max: 1 << 20, ..Config::single() };
        let asking = move || async move { get(at, "/status", ANSWER_WITHIN).await };
        let asked = run_one(&io, asking).map_err(|error| Failure::Input(error.to_string()))?;
        let (status, body) =
            asked.map_err(|error| Failure::Input(format!("{error}; is the node running, and is this its address?")))?;
        if !status.is_success() {
            let why = serde_json::from_slice::<ErrorBody>(&body).map(|body| body.error.message);
            return Err(Failure::Broken(format!("{at} answers {status}: {}", why.unwrap_or_default())));
        }
        let report: NodeReport = serde_json::from_slice(&body)
            .map_err(|error| Failure::Broken(format!("{at} answers something else than a node's state: {error}")))?;
        if self.json {
            out::print(&String::from_utf8_lossy(&body))?;
        } else {
            out::print(&text(&report))?;
        }
        report.readiness().map_err(|why| Failure::Broken(format!("not ready: {why}")))
    }
}

fn text(report: &NodeReport) -> String {
    let state = match report.state {
        NodeState::Starting => "starting",
        NodeState::Ready if report.readiness().is_ok() => "ready",
        NodeState::Ready => "not ready",
        NodeState::Draining => "stopping",
    };
    let up = HumanDuration(Duration::from_secs(report.uptime_seconds));
    let name = if report.node.is_empty() { "(its disks are being opened)" } else { &report.node };
    let mut parts = vec![format!("node {name}: {state}, up for {up}, cairn {}\n{}", report.version, report.driver)];
    parts.extend(report.cluster.as_ref().map(cluster));
    if !report.lanes.is_empty() {
        parts.push(lanes(report));
    }
    let busy = |actor: &&ActorReport| actor.state != ActorState::Idle || actor.failures > 0;
    if report.cores.iter().flat_map(|core| &core.actors).any(|actor| busy(&actor)) {
        parts.push(actors(report));
    }
    let leaving = report.disks.iter().filter(|disk| disk.is_leaving);
    parts.extend(leaving.map(|disk| {
        let name = disk.path.as_ref().unwrap_or(&disk.disk);
        format!("{name} is being emptied: {} slots still to move", disk.slots_to_move)
    }));
    parts.extend(report.troubles.iter().map(|trouble| format!("{} is not used: {}", trouble.path, trouble.why)));
    let whys = report.lanes.iter().filter_map(|lane| lane.why.as_ref().map(|why| format!("lane {}: {why}", lane.lane)));
    parts.extend(whys);
    parts.join("\n")
}

fn cluster(cluster: &ClusterReport) -> String {
    let ClusterReport { node, nodes, epoch, led, followed, leaderless, .. } = cluster;
    let control =
        cluster.control_leader.map_or_else(|| "led by nobody".to_owned(), |node| format!("led by node {node}"));
    let mut lines = vec![format!(
        "cluster {}: node {node} of {nodes}, map {epoch}, control {control}; groups: {led} led, {followed} followed, \
         {leaderless} without a leader, {} stopped",
        cluster.cluster,
        cluster.stopped.len()
    )];
    if cluster.provisional > 0 {
        lines.push(format!("{} provisional versions are here that their slots don't have yet", cluster.provisional));
    }
    if cluster.conflicts > 0 {
        let text = "objects in conflict in groups that it leads: `cairn conflicts cairn://BUCKET` lists them";
        lines.push(format!("{} {text}", cluster.conflicts));
    }
    lines.extend(cluster.stopped.iter().map(|stopped| format!("{} has stopped here: {}", stopped.group, stopped.why)));
    lines.join("\n")
}

fn lanes(report: &NodeReport) -> String {
    let path = |lane: &LaneReport| {
        let disk = report.disks.iter().find(|disk| disk.disk == lane.disk);
        disk.and_then(|disk| disk.path.clone()).unwrap_or_else(|| "(not here)".to_owned())
    };
    let free = |lane: &LaneReport| {
        let disk = report.disks.iter().find(|disk| disk.disk == lane.disk);
        disk.and_then(|disk| disk.free_bytes).map_or_else(|| "-".to_owned(), |free| BinaryBytes(free).to_string())
    };
    let mut table = Table::new();
    let header = ["lane", "core", "state", "chunks", "bytes", "segments", "bad", "damage", "disk", "free"];
    table.load_preset(presets::NOTHING).set_header(header);
    for lane in &report.lanes {
        let state = match lane.state {
            LaneState::Open => "open",
            LaneState::Full => "full",
            LaneState::Poisoned => "poisoned",
            LaneState::Missing => "missing",
        };
        let detail = lane.detail.clone().unwrap_or_default();
        let shown = |text: String| if lane.detail.is_some() { text } else { "-".to_owned() };
        table.add_row([
            lane.lane.to_string(),
            shown(detail.core.to_string()),
            state.to_owned(),
            shown(detail.chunks.to_string()),
            shown(BinaryBytes(detail.chunk_bytes).to_string()),
            shown(detail.segments.to_string()),
            shown(detail.quarantined.to_string()),
            shown(detail.damage.len().to_string()),
            path(lane),
            free(lane),
        ]);
    }
    table.trim_fmt()
}

fn actors(report: &NodeReport) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["actor", "core", "lane", "state", "what", "why", "failures"]);
    for (core, actor) in report.cores.iter().flat_map(|core| core.actors.iter().map(|actor| (core.core, actor))) {
        if actor.state == ActorState::Idle && actor.failures == 0 {
            continue;
        }
        let state = format!("{:?}", actor.state).to_lowercase();
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        table.add_row([
            actor.name.clone(),
            core.to_string(),
            actor.lane.map_or_else(|| "-".to_owned(), |lane| lane.to_string()),
            state,
            text(&actor.what),
            text(&actor.why),
            actor.failures.to_string(),
        ]);
    }
    table.trim_fmt()
}
