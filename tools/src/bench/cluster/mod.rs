//! `cairn bench cluster`: three nodes on this machine beside one: what agreement over RPC costs, how soon a node that is gone
//! is replaced, and what a cluster uses that has nothing to do.

mod client;
mod nodes;

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use cairn_io::reference::{Machine, ScratchDir, Stop};
use cairn_io::time::{self, sleep};
use cairn_io::{Config, DriverChoice, run_one};
use indicatif::ProgressBar;
use serde::Serialize;

use super::crowd::measure;
use super::disk::{explain, progress};
use super::pairs::median;
use super::report::{MachineInfo, round};
use crate::out::{self, Failure};
use client::Client;
use nodes::Nodes;

/// Bytes that must be free: segments of four nodes.
const BYTES: u64 = 4 << 30;
/// Commits at a time.
const DEPTH: usize = 64;
/// Turns that one node and three take in commits.
const TURNS: usize = 5;
/// How long a cluster is left alone before what it uses is counted: what was written is committed to indexes meanwhile.
const STILL: Duration = Duration::from_secs(15);

const RATIO_BAR: f64 = 0.35;
const FAILOVER_BAR: f64 = 2.0;
const IDLE_BAR: f64 = 2.0;
const RESIDENT_BAR: u64 = 64 << 20;

/// Options of `cairn bench cluster`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Directory on the disk to measure; what is made in it is removed at the end
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// How many slots the clusters have
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4096))]
    slots: u32,
    /// How long commits are measured, and how long idle nodes are watched
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u64).range(5..=3600))]
    seconds: u64,
    /// How often a leader is killed
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Print one JSON object instead of lines
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Found {
    bench: &'static str,
    version: &'static str,
    machine: MachineInfo,
    slots: u32,
    commits: Rates,
    reads: Rates,
    failover: Failover,
    idle: Idle,
}

/// Operations on objects of 1 KiB a second, [`DEPTH`] at a time: durable commits, or reads of the latest state.
#[derive(Debug, Serialize)]
struct Rates {
    one_node: f64,
    three_nodes: f64,
    ratio: f64,
    bar: Option<f64>,
}

/// From the kill of a slot's leader until the slot takes a commit.
#[derive(Debug, Serialize)]
struct Failover {
    seconds: Vec<f64>,
    median: f64,
    longest: f64,
    bar: f64,
}

/// Each of three nodes that nobody asks for anything.
#[derive(Debug, Serialize)]
struct Idle {
    percent_of_a_core: Vec<f64>,
    bar_percent: f64,
    /// When it had just begun, all of it.
    begun_bytes: Vec<u64>,
    bar_bytes: u64,
    /// After the commits: its own, and what is cached of files.
    own_bytes: Vec<u64>,
    mapped_bytes: Vec<u64>,
}

/// Does what `cairn bench cluster` was asked for.
///
/// # Errors
/// If it can't be measured here, or breaks.
pub fn run(args: &Args) -> Result<(), Failure> {
    let dir = ScratchDir::create(&args.dir, BYTES).map_err(|error| Failure::Input(error.to_string()))?;
    let config = Config { driver: DriverChoice::Monoio, block_bytes_max: 64 << 20, ..Config::single() };
    let (asked, path) = (args.clone(), dir.path().to_owned());
    let measured = run_one(&config, move || async move { measure_all(&asked, &path).await });
    let found = measured.map_err(|error| Failure::Input(error.to_string()))??;
    let text = if args.json {
        serde_json::to_string_pretty(&found).map_err(|error| Failure::Broken(error.to_string()))?
    } else {
        found.text()
    };
    out::print(&text)
}

async fn measure_all(args: &Args, dir: &std::path::Path) -> Result<Found, Failure> {
    let wrong = |error: io::Error| explain(&args.dir, &error);
    let steps = 4 * TURNS as u64 + 2 + u64::from(args.rounds);
    let bar = progress(steps, "starting nodes");
    let mut three = Nodes::start(dir, "three", 3, args.slots).await?;
    let client = Client::new(&three, args.slots).await.map_err(wrong)?;
    sleep(STILL).await;
    let begun = three.usage().await?;
    let (commits, reads) = {
        let one = Nodes::start(dir, "one", 1, args.slots).await?;
        let alone = Client::new(&one, args.slots).await.map_err(wrong)?;
        bar.inc(1);
        let slice = Duration::from_secs(args.seconds) / (2 * TURNS as u32);
        bar.set_message("commits");
        let commit = |client: Rc<Client>| async move { client.commit_next().await.map(drop) };
        let commits = in_turns([&alone, &client], slice, &bar, commit).await.map_err(wrong)?;
        bar.set_message("reads");
        let read = |client: Rc<Client>| async move { client.read_any().await };
        let reads = in_turns([&alone, &client], slice, &bar, read).await.map_err(wrong)?;
        (Rates { bar: Some(RATIO_BAR), ..commits }, reads)
    };
    bar.set_message("idle");
    let idle = watch_idle(&three, &begun, args.seconds).await?;
    bar.inc(1);
    bar.set_message("leaders are killed");
    let mut seconds = Vec::new();
    for _ in 0..args.rounds {
        let slot = client.commit_next().await.map_err(wrong)?;
        let leader = client.leader_of(slot);
        three.kill(leader);
        let killed = time::now();
        client.commit_to(slot).await.map_err(wrong)?;
        seconds.push(round(killed.elapsed().as_secs_f64()));
        three.begin(leader)?;
        three.until_ready().await?;
        // It has caught up, and no election is under way any more.
        sleep(Duration::from_secs(5)).await;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let longest = seconds.iter().copied().fold(0.0, f64::max);
    let failover = Failover { median: median(seconds.clone()), seconds, longest, bar: FAILOVER_BAR };
    let machine = Machine::here().into();
    Ok(Found {
        bench: "cluster",
        version: env!("CARGO_PKG_VERSION"),
        machine,
        slots: args.slots,
        commits,
        reads,
        failover,
        idle,
    })
}

/// Has one node and three do the same in turns; nobody always comes first.
async fn in_turns<F: Future<Output = io::Result<()>> + 'static>(
    [one, three]: [&Rc<Client>; 2],
    slice: Duration,
    bar: &ProgressBar,
    once: impl Fn(Rc<Client>) -> F + Copy + 'static,
) -> io::Result<Rates> {
    let (mut ones, mut threes) = (Vec::new(), Vec::new());
    for turn in 0..TURNS {
        for is_three in [turn % 2 == 0, turn % 2 == 1] {
            let (who, figures) = if is_three { (three, &mut threes) } else { (one, &mut ones) };
            figures.push(measure(who, DEPTH, Stop::After(slice), once).await?.rate());
            bar.inc(1);
        }
    }
    let (one_node, three_nodes) = (median(ones), median(threes));
    let ratio = round(three_nodes / one_node.max(f64::MIN_POSITIVE));
    Ok(Rates { one_node: round(one_node), three_nodes: round(three_nodes), ratio, bar: None })
}

async fn watch_idle(nodes: &Nodes, fresh: &[nodes::Usage], seconds: u64) -> Result<Idle, Failure> {
    sleep(STILL).await;
    let (before, begun) = (nodes.usage().await?, time::now());
    sleep(Duration::from_secs(seconds)).await;
    let (after, passed) = (nodes.usage().await?, begun.elapsed().as_secs_f64());
    let percent =
        |(before, after): (&nodes::Usage, &nodes::Usage)| round((after.seconds - before.seconds) / passed * 100.0);
    Ok(Idle {
        percent_of_a_core: before.iter().zip(&after).map(percent).collect(),
        bar_percent: IDLE_BAR,
        begun_bytes: fresh.iter().map(|usage| usage.own_bytes + usage.mapped_bytes).collect(),
        bar_bytes: RESIDENT_BAR,
        own_bytes: after.iter().map(|usage| usage.own_bytes).collect(),
        mapped_bytes: after.iter().map(|usage| usage.mapped_bytes).collect(),
    })
}

impl Found {
    fn text(&self) -> String {
        let Self { commits, reads, failover, idle, .. } = self;
        let verdict = |holds: bool| if holds { "holds" } else { "FAILS" };
        let most = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
        let mib = |bytes: &[u64]| bytes.iter().copied().max().unwrap_or(0) >> 20;
        let begun = mib(&idle.begun_bytes);
        let mut text = format!("three nodes beside one, {} slots, on {}\n\n", self.slots, self.machine.line());
        for (what, rates) in [("commits of 1 KiB", commits), ("reads of the latest", reads)] {
            let _ = write!(
                text,
                "{:<33} one node {:.0}/s, three {:.0}/s: {:.2}",
                format!("{what}, {DEPTH} at a time"),
                rates.one_node,
                rates.three_nodes,
                rates.ratio
            );
            let bar = rates.bar.map(|bar| format!(", ≥ {bar:.2} {}", verdict(rates.ratio >= bar)));
            let _ = writeln!(text, "{}", bar.unwrap_or_default());
        }
        let _ = writeln!(
            text,
            "a leader is killed, {} times       p50 {:.2} s, longest {:.2} s, p50 ≤ {:.0} s {}",
            failover.seconds.len(),
            failover.median,
            failover.longest,
            failover.bar,
            verdict(failover.median <= failover.bar)
        );
        let _ = write!(
            text,
            "an idle node                      {:.1} % of a core, ≤ {:.0} % {}; begins with {begun} MiB, ≤ {} MiB {}; \
             after all this {} MiB of its own, {} MiB of cached files",
            most(&idle.percent_of_a_core),
            idle.bar_percent,
            verdict(most(&idle.percent_of_a_core) <= idle.bar_percent),
            idle.bar_bytes >> 20,
            verdict(begun <= idle.bar_bytes >> 20),
            mib(&idle.own_bytes),
            mib(&idle.mapped_bytes)
        );
        text
    }
}
