//! `cairn bench meta`: what agreement costs on one node: commits beside the lane's own puts, reads and lists.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use cairn_daemon::cluster::Freshness;
use cairn_io::Config;
use cairn_io::reference::{Machine, RemoteCore, ScratchDir, Stop};

use super::disk::{explain, progress};
use super::objects::{self, Bucket, Job, OBJECT};
use super::pairs::median;
use super::report::{Bar, DriverInfo, FileInfo, Report, Unit};
use crate::out::{self, Failure};

/// Options of `cairn bench meta`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory on the disk to measure; what is made in it is removed at the end
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// How many objects of 1 KiB there are to read and to list
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1000..))]
    objects: u64,
    /// How many slots the cluster has
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4096))]
    slots: u32,
    /// How long to measure, about, once everything is written
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Measure only what has this in its title
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
}

/// One row of the table.
struct Measure {
    title: &'static str,
    ours: Job,
    /// What it is compared with, on the same lane.
    theirs: Job,
    unit: Unit,
    bar: Option<f64>,
}

fn measures() -> Vec<Measure> {
    let of = |title, ours, theirs, unit, bar| Measure { title, ours, theirs, unit, bar };
    let (latest, local) = (Freshness::Latest, Freshness::Local);
    let (large, small) = (Job::PageLaps(Bucket::Large), Job::PageLaps(Bucket::Small));
    let (next_large, next_small) = (Job::NextPageLaps(Bucket::Large), Job::NextPageLaps(Bucket::Small));
    vec![
        of("commit, 64 at a time, beside puts", Job::Commit(64), Job::Put(64), Unit::PerSecond, Some(0.3)),
        of("commit, latency, beside puts", Job::CommitLaps, Job::PutLaps, Unit::Micros, None),
        of("read, latest, beside local", Job::Read(latest, 32), Job::Read(local, 32), Unit::PerSecond, None),
        // Flat means: as long in a hundred times as many.
        of("page of 1,000, beside one of 1/100", large, small, Unit::Micros, Some(1.2)),
        of("next page of 1,000, beside one of 1/100", next_large, next_small, Unit::Micros, Some(1.2)),
    ]
}

/// Does what `cairn bench meta` was asked for.
///
/// # Errors
/// If it can't be measured here, or breaks.
pub fn run(args: &Args) -> Result<(), Failure> {
    let bytes = args.objects * 6 * OBJECT as u64 + (8 << 30);
    let dir = ScratchDir::create(&args.dir, bytes).map_err(|error| Failure::Input(error.to_string()))?;
    let core = RemoteCore::start(&Config::single()).map_err(|error| Failure::Input(error.to_string()))?;
    out::note(core.line());
    let report = measure(args, &core, &dir).map_err(|error| explain(&args.dir, &error))?;
    let text = if args.json {
        serde_json::to_string_pretty(&report).map_err(|error| Failure::Broken(error.to_string()))?
    } else {
        report.table()
    };
    out::print(&text)
}

fn measure(args: &Args, core: &RemoteCore, dir: &ScratchDir) -> io::Result<Report> {
    const ROUNDS: usize = 9;
    let (data, slots, count) = (dir.path().join("disk").display().to_string(), args.slots, args.objects);
    let bar = progress(2, "committing objects");
    core.call(move || objects::create(data, slots, count))?;
    bar.inc(1);
    core.call(objects::fill)?;
    bar.finish_and_clear();
    let wanted = |measure: &Measure| args.only.as_ref().is_none_or(|only| measure.title.contains(only.as_str()));
    let wanted: Vec<Measure> = measures().into_iter().filter(wanted).collect();
    let slices = u32::try_from(2 * ROUNDS * wanted.len().max(1)).map_err(io::Error::other)?;
    let slice = Duration::from_secs(args.seconds) / slices;
    let bar = progress(u64::from(slices), "");
    let driver = if core.line().starts_with("driver: glommio") { "glommio" } else { "monoio" };
    let mut bars = Vec::new();
    for measure in &wanted {
        bar.set_message(measure.title);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            // Nobody always comes first.
            for is_ours in [round % 2 == 0, round % 2 == 1] {
                let (job, figures) = if is_ours { (measure.ours, &mut ours) } else { (measure.theirs, &mut theirs) };
                let tally = core.call(move || objects::run(job, Stop::After(slice)))?;
                figures.push(measure.unit.figure(&tally, OBJECT));
                bar.inc(1);
            }
        }
        bars.push(Bar::new(measure.title, driver, measure.unit, median(ours), median(theirs), measure.bar));
    }
    bar.finish_and_clear();
    core.call(objects::close)?;
    Ok(Report {
        bench: "meta",
        version: env!("CARGO_PKG_VERSION"),
        machine: Machine::here().into(),
        file: FileInfo {
            dir: args.dir.display().to_string(),
            file_system: dir.file_system(),
            bytes: count * OBJECT as u64,
        },
        bare: "the same lane",
        drivers: vec![DriverInfo { name: driver, line: core.line().to_owned() }],
        rounds: ROUNDS,
        slice_ms: slice.as_secs_f64() * 1e3,
        bars,
    })
}
