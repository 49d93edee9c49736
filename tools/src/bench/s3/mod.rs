//! `cairn bench s3`: a load on any S3 server, beside a bare HTTP server on the same driver in the same run.
//!
//! ```text
//!   scenario ─► load ─┬─► the server
//!    signed before    └─► bare: hyper on our io, in turns with it
//! ```
//!
//! The load runs on one core of its own; so does the bare server. Requests are signed before the clock starts.

mod bare;
mod below;
mod load;
mod report;
mod scenario;

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use cairn_io::reference::{Laps, Machine, RemoteCore, Stop};
use cairn_io::rng::{self, Rng};
use cairn_io::{Config, DriverChoice, time};
use clap::ValueEnum;
use futures_util::{StreamExt, TryStreamExt, stream};
use indicatif::ProgressBar;

use self::below::Disk;
use self::load::{Load, Outcome, Pace};
use self::report::{Figures, Report, Row};
use self::scenario::{Beside, Ground, PAGE, SCENARIOS, SMALL, Scenario, payload};
use super::disk::progress;
use super::pairs::median;
use crate::out::{self, Failure};
use crate::s3::calls::Object;
use crate::s3::client::{Ask, BodySignature, text};
use crate::s3::error::S3Error;
use crate::s3::settings::Settings;

/// Turns that the server and the bare server take.
const ROUNDS: u64 = 5;
/// The share of what a closed loop reached at which an open loop asks, unless told otherwise.
const OPEN_SHARE: f64 = 0.7;
/// Objects stored or deleted at a time before and after.
const FILL_DEPTH: usize = 32;
/// How often what was deleted may be listed again, and how long that is waited for each time.
const LISTED_AGAIN_MAX: u32 = 60;
const LISTED_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Options of `cairn bench s3`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    server: Settings,
    /// The bucket to work in; what is stored there is removed at the end. Without it one is made and deleted again
    #[arg(long, value_name = "NAME")]
    bucket: Option<String>,
    /// How long to measure, about, once everything is stored
    #[arg(long, value_name = "S", default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// How many small objects there are to be read and listed
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1000..=100_000_000))]
    objects: u64,
    /// Requests a second in open loops, instead of 0.7 of what the closed loop reached
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// What of the bodies that are stored is signed
    #[arg(long, value_enum, default_value_t = Bodies::Unsigned)]
    bodies: Bodies,
    /// Measure only what has this in its title
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// A directory on the disk that the server keeps its data on, if that is in this machine: 1 MiB is compared with what
    /// the disk can do too; what is made there is removed at the end
    #[arg(long, value_name = "DIR")]
    disk: Option<PathBuf>,
    /// Judge the ratios as those of a node that runs on this machine
    #[arg(long)]
    bars: bool,
    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Bodies {
    /// Nothing: the server needn't hash them with SHA-256
    Unsigned,
    /// Their SHA-256, which the server checks
    Signed,
}

impl Bodies {
    fn signature(self) -> BodySignature {
        match self {
            Self::Unsigned => BodySignature::Unsigned,
            Self::Signed => BodySignature::Signed,
        }
    }
}

/// Does what `cairn bench s3` was asked for.
///
/// # Errors
/// If the server can't be reached or refuses.
pub fn run(args: &Args) -> Result<(), Failure> {
    let only = args.only.as_deref().unwrap_or_default();
    let scenarios: Vec<Scenario> = SCENARIOS.iter().filter(|scenario| scenario.title.contains(only)).copied().collect();
    if scenarios.is_empty() {
        let titles: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.title).collect();
        return Err(Failure::Input(format!("nothing has {only:?} in its title; there are: {}", titles.join("; "))));
    }
    let disk = args.disk.as_deref().map(Disk::new).transpose()?;
    let rig = Rig::start(args.clone(), disk)?;
    rig.fill(&scenarios)?;
    let measured = rig.measure(&scenarios);
    // What was stored goes, however it went.
    let cleaned = rig.clean();
    let report = measured?;
    cleaned?;
    let text = if args.json {
        serde_json::to_string_pretty(&report).map_err(|error| Failure::Broken(error.to_string()))?
    } else {
        report.table()
    };
    out::print(&text)
}

/// The server, the bare server and the core that asks them.
struct Rig {
    args: Args,
    asking: RemoteCore,
    bare: RemoteCore,
    ground: Ground,
    disk: Option<Disk>,
    /// Whether the bucket is ours to delete.
    is_own_bucket: bool,
    endpoint: String,
    server: Option<String>,
    /// Turns taken so far: what is stored in each has names of its own.
    turn: Cell<u64>,
}

impl Rig {
    fn start(args: Args, disk: Option<Disk>) -> Result<Self, Failure> {
        let core = || RemoteCore::start(&Config { driver: DriverChoice::Auto, ..Config::single() });
        let core = || core().map_err(|error| Failure::Input(error.to_string()));
        let (asking, bare) = (core()?, core()?);
        let (settings, bucket) = (args.server.clone(), args.bucket.clone());
        let (endpoint, server, bucket, is_own_bucket) = asking.call(move || greet(settings, bucket))?;
        let number = asking.call(|| async { rng::next_u64() });
        let ground = Ground { bucket, prefix: format!("cairn-bench-{number:016x}/"), objects: args.objects };
        Ok(Self { args, asking, bare, ground, disk, is_own_bucket, endpoint, server, turn: Cell::new(number) })
    }

    fn fill(&self, scenarios: &[Scenario]) -> Result<(), Failure> {
        let mut lengths: Vec<usize> = scenarios.iter().filter_map(Scenario::needs).collect();
        lengths.sort_unstable();
        lengths.dedup();
        for bytes in lengths {
            let (settings, ground) = (self.args.server.clone(), self.ground.clone());
            let bar = progress(ground.count(bytes), "storing what is read later");
            let counting = bar.clone();
            let filled = self.asking.call(move || fill(settings, ground, bytes, counting));
            bar.finish_and_clear();
            filled.inspect_err(|_| drop(self.clean()))?;
        }
        Ok(())
    }

    fn measure(&self, scenarios: &[Scenario]) -> Result<Report, Failure> {
        // Of each scenario the server's turns, the bare server's, and as much again in the open loop.
        let turns = scenarios.len() as u64 * ROUNDS * 3;
        let slice = Duration::from_secs(self.args.seconds) / u32::try_from(turns).unwrap_or(u32::MAX);
        let bar = progress(turns, "");
        let mut rows = Vec::new();
        for scenario in scenarios {
            bar.set_message(scenario.title);
            rows.push(self.row(scenario, slice, &bar)?);
        }
        bar.finish_and_clear();
        Ok(Report {
            bench: "s3",
            version: env!("CARGO_PKG_VERSION"),
            machine: Machine::here().into(),
            endpoint: self.endpoint.clone(),
            server: self.server.clone(),
            driver: self.asking.line().to_owned(),
            objects: self.ground.objects,
            md5_mib_per_second: self.asking.call(md5_rate),
            rows,
        })
    }

    fn row(&self, scenario: &Scenario, slice: Duration, bar: &ProgressBar) -> Result<Row, Failure> {
        let bare_at = match scenario.beside {
            Beside::Bare => Some(self.start_bare(scenario.bytes)?),
            Beside::Nothing => None,
        };
        let (mut ours, mut theirs, mut below) = (vec![], vec![], vec![]);
        for _ in 0..ROUNDS {
            ours.push(self.turn(scenario, None, Pace::Closed, slice)?);
            bar.inc(1);
            if let Some(at) = bare_at {
                theirs.push(self.turn(scenario, Some(at), Pace::Closed, slice)?);
            }
            below.extend(self.below(scenario, slice)?);
            bar.inc(1);
        }
        let closed = closed(&ours);
        let rate = self.args.rate.map_or(closed.ops_per_second * OPEN_SHARE, |rate| rate as f64).max(1.0);
        let open = self.turn(scenario, None, Pace::Open(rate), slice * ROUNDS as u32)?;
        bar.inc(ROUNDS);
        let open = Figures::new(&open, open.rate(), Some(rate));
        let bare = bare_at.map(|_| self::closed(&theirs));
        let below = (!below.is_empty()).then(|| median(below));
        Ok(Row::new(scenario, (closed, Some(open)), bare, below, self.args.bars))
    }

    /// What the disk does of a scenario, if it is named and it matters.
    fn below(&self, scenario: &Scenario, slice: Duration) -> Result<Option<f64>, Failure> {
        let asked = self.disk.as_ref().zip(scenario.below);
        let rate = asked.map(|(disk, below)| disk.rate(below, slice)).transpose();
        rate.map_err(|error| {
            Failure::Broken(format!("measuring the disk failed: {error}; see the kernel's log about it"))
        })
    }

    fn start_bare(&self, bytes: usize) -> Result<SocketAddr, Failure> {
        let started = self.bare.call(move || async move { bare::serve(bytes) });
        started.map_err(|error| Failure::Input(format!("no port can be had on 127.0.0.1: {error}")))
    }

    /// One load on the server, or on the one at `other`.
    fn turn(
        &self,
        scenario: &Scenario,
        other: Option<SocketAddr>,
        pace: Pace,
        span: Duration,
    ) -> Result<Outcome, Failure> {
        self.turn.set(self.turn.get().wrapping_add(1));
        let (settings, ground, scenario) = (self.args.server.clone(), self.ground.clone(), *scenario);
        let (signature, turn) = (self.args.bodies.signature(), self.turn.get());
        let outcome = self.asking.call(move || async move {
            let (endpoint, signer) = settings.parts().await?;
            let requests = ground.prepare(&scenario, (&endpoint, &signer), signature, turn)?;
            let to = other.unwrap_or(endpoint.at);
            let load = Load { to, connections: scenario.connections, pace, span, requests };
            load::run(load).await.map_err(Failure::Broken)
        })?;
        match &outcome.first_error {
            Some(error) if outcome.ops == 0 => {
                Err(Failure::Broken(format!("{}: not one good answer: {error}", scenario.title)))
            }
            _ => Ok(outcome),
        }
    }

    fn clean(&self) -> Result<(), Failure> {
        let (settings, ground) = (self.args.server.clone(), self.ground.clone());
        let is_own_bucket = self.is_own_bucket;
        let note = format!("what was stored under cairn://{}/{} is still there", ground.bucket, ground.prefix);
        let cleaned = self.asking.call(move || clean(settings, ground, is_own_bucket));
        cleaned.inspect_err(|_| out::note(&note))
    }
}

/// Turns of a closed loop as one.
fn closed(turns: &[Outcome]) -> Figures {
    let rate = median(turns.iter().map(Outcome::rate).collect());
    let (first, others) = turns.split_first().expect("there are turns");
    let all = others.iter().fold(first.clone(), Outcome::and);
    Figures::new(&all, rate, None)
}

/// Looks who answers, and sees to a bucket.
async fn greet(settings: Settings, bucket: Option<String>) -> Result<(String, Option<String>, String, bool), Failure> {
    let (endpoint, _) = settings.parts().await?;
    let client = settings.client().await?;
    let (headers, _) = client.whole(&Ask::bucket(hyper::Method::GET, "")).await?;
    let server = text(&headers, "server").map(str::to_owned);
    let is_own = bucket.is_none();
    let bucket = bucket.unwrap_or_else(|| format!("cairn-bench-{:012x}", rng::next_u64() >> 16));
    if is_own {
        client.create_bucket(&bucket, &[]).await?;
    } else {
        client.list(&bucket, "cairn-bench", Some("/"), None).await?;
    }
    Ok((endpoint.host, server, bucket, is_own))
}

async fn fill(settings: Settings, ground: Ground, bytes: usize, bar: ProgressBar) -> Result<(), Failure> {
    let client = settings.client().await?;
    let payload = payload(bytes, &mut Rng::from_seed(bytes as u64));
    let depth = if bytes == SMALL { FILL_DEPTH } else { 4 };
    let stored = stream::iter(0..ground.count(bytes)).map(|number| {
        let object = Object { bucket: ground.bucket.clone(), key: ground.key(bytes, number) };
        let (client, payload, bar) = (&client, payload.clone(), &bar);
        async move {
            client.put(&object, &[], payload).await?;
            bar.inc(1);
            Ok::<(), S3Error>(())
        }
    });
    Ok(stored.buffer_unordered(depth).try_collect().await?)
}

async fn clean(settings: Settings, ground: Ground, is_own_bucket: bool) -> Result<(), Failure> {
    let client = settings.client().await?;
    let (mut before, mut again) = (String::new(), 0);
    loop {
        let page = client.list(&ground.bucket, &ground.prefix, None, None).await?;
        let Some(first) = page.contents.first() else { break };
        if first.key == before {
            if again == LISTED_AGAIN_MAX {
                return Err(Failure::Broken(format!("{before} was deleted and is there all the same")));
            }
            // Where one node's word is enough for a write, lists come to know of it a little later.
            again += 1;
            time::sleep(LISTED_AGAIN_AFTER).await;
        } else {
            (before, again) = (first.key.clone(), 0);
        }
        for keys in page.contents.chunks(PAGE) {
            let keys: Vec<_> = keys.iter().map(|entry| (entry.key.clone(), None)).collect();
            if let Some(failed) = client.delete_many(&ground.bucket, &keys).await?.first() {
                return Err(Failure::Broken(format!("{} can't be deleted: {}", failed.key, failed.message)));
            }
        }
    }
    if is_own_bucket {
        client.delete_bucket(&ground.bucket).await?;
    }
    Ok(())
}

/// MiB of bodies that one core could make tags of in a second.
async fn md5_rate() -> f64 {
    let body = payload(1 << 20, &mut Rng::from_seed(5));
    let mut laps = Laps::start(Stop::After(Duration::from_millis(200)));
    while laps.another() {
        std::hint::black_box(crate::s3::words::md5(&body));
    }
    laps.finish().rate()
}
