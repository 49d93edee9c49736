//! `cairn bench lane`: what storing and reading chunks costs beside bare loops that write, sync and read as much.

use std::cell::Cell;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use cairn_io::Config;
use cairn_io::reference::Tally;
use cairn_io::reference::{Calls, Durable, Load, Machine, Operation, Order, RemoteCore, Scratch, ScratchDir, Stop};

use super::disk::{explain, parse_size, progress};
use super::pairs::{LARGE, SMALL, median};
use super::report::{Bar, DriverInfo, FileInfo, Report, Unit};
use super::subject::{self, Beside, Cadence, Chunks, Done, Job, Name, SEGMENT, Space};
use crate::out::{self, Failure};

const MIB: u64 = 1 << 20;
/// The largest chunks there are by default.
const HUGE: usize = 4 << 20;
/// Parts of large chunks that are read.
const PART: usize = 64 << 10;
/// Segments that are there at a time while puts are measured, about.
const SEGMENTS: u64 = 6;

/// Options of `cairn bench lane`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory on the disk to measure; what is made in it is removed at the end
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Bytes of chunks to read and recover, and of the bare file, such as 1GiB; at least 16MiB
    #[arg(long, value_name = "BYTES", default_value = "1GiB", value_parser = parse_size)]
    size: u64,
    /// How many chunks of 4 KiB there are among them
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    chunks: u64,
    /// How long to measure, about, once everything is written
    #[arg(long, value_name = "S", default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=3600))]
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
    ours: (Name, Job, Beside),
    theirs: Theirs,
    unit: Unit,
    bar: Option<f64>,
    /// Bytes of one operation of ours.
    bytes: usize,
}

/// What a figure is compared with.
#[derive(Clone, Copy)]
enum Theirs {
    /// Writes of this length, not more than so many bytes at a time not durable, synced as often as ours.
    Writes { depth: usize },
    /// The payloads of a batch of ours with one write, synced as often as ours.
    Batches { depth: usize },
    /// Writes that are synced one by one.
    Laps(Calls),
    /// Reads.
    Reads(Order, usize),
    /// The same job on another subject.
    Ours(Name),
    /// The same job with nothing beside it.
    Idle,
}

/// The slowest of a hundred small tasks may take so much longer while the index is committed.
const COMMIT_SLOWER_MAX: f64 = 1.5;
/// What is left of the throughput beside compaction or scrub.
const BESIDE_MIN: f64 = 0.70;
/// Time may be so much more than the bare calls' for a small durable write.
const SLOWER_MAX: f64 = 1.3;

fn measures(full: &Full) -> Vec<Measure> {
    let put = |title, bytes, depth, theirs, unit, bar| Measure {
        title,
        ours: (Name::Round, Job::Put { bytes, depth }, Beside::Nothing),
        theirs,
        unit,
        bar,
        bytes,
    };
    let laps = |title, theirs, bar| Measure {
        title,
        ours: (Name::Round, Job::PutLaps { bytes: SMALL }, Beside::Nothing),
        theirs,
        unit: Unit::Micros,
        bar,
        bytes: SMALL,
    };
    let get = |title, job, bytes, theirs, unit, bar| Measure {
        title,
        ours: (Name::Full, job, Beside::Nothing),
        theirs,
        unit,
        bar,
        bytes,
    };
    let beside = |title, (name, job, beside), unit, bar| Measure {
        title,
        ours: (name, job, beside),
        theirs: Theirs::Idle,
        unit,
        bar,
        bytes: SMALL,
    };
    let (puts, gets) = (Job::Put { bytes: SMALL, depth: 64 }, Job::Get { chunks: full.small, depth: 32 });
    let get_laps = Job::GetLaps { chunks: full.small };
    let range = |align| Job::GetRange { chunks: full.huge, bytes: PART, align, depth: 8 };
    let (bulk, each) = (Unit::MibPerSecond, Unit::PerSecond);
    vec![
        put("put 4 MiB, 8 at a time", HUGE, 8, Theirs::Writes { depth: 8 }, bulk, Some(0.85)),
        put("put 1 MiB, 8 at a time", LARGE, 8, Theirs::Writes { depth: 8 }, bulk, Some(0.85)),
        put("put 4 KiB, 64 at a time", SMALL, 64, Theirs::Batches { depth: 64 }, each, Some(0.70)),
        laps("put 4 KiB, latency", Theirs::Laps(Calls::Ring), Some(SLOWER_MAX)),
        laps("put 4 KiB, latency beside plain calls", Theirs::Laps(Calls::Plain), None),
        laps("put 4 KiB, latency beside fresh space", Theirs::Ours(Name::Fresh), Some(0.5)),
        get(
            "get 1 MiB, 8 at a time",
            Job::Get { chunks: full.large, depth: 8 },
            LARGE,
            Theirs::Reads(Order::Random, 8),
            bulk,
            Some(0.90),
        ),
        get(
            "get 4 KiB, 32 at a time",
            Job::Get { chunks: full.small, depth: 32 },
            SMALL,
            Theirs::Reads(Order::Random, 32),
            each,
            Some(0.75),
        ),
        get("get 64 KiB of 4 MiB, 8 at a time", range(PART), PART, Theirs::Reads(Order::Random, 8), each, Some(0.75)),
        get("get 64 KiB anywhere of 4 MiB", range(1), PART, Theirs::Reads(Order::Random, 8), each, None),
        // Half the rate is twice the time.
        get("recover", Job::Recover, LARGE, Theirs::Reads(Order::Sequential, 8), bulk, Some(0.50)),
        beside(
            "core's p99 beside a commit",
            (Name::Round, Job::Pulse, Beside::Commit),
            Unit::MicrosTail,
            Some(COMMIT_SLOWER_MAX),
        ),
        beside("get 4 KiB beside scrub", (Name::Full, gets, Beside::Scrub), each, Some(BESIDE_MIN)),
        beside("put 4 KiB beside scrub", (Name::Full, puts, Beside::Scrub), each, Some(BESIDE_MIN)),
        // These wear the subject out, so they come last.
        beside("get 4 KiB beside compaction", (Name::Full, gets, Beside::Compaction), each, Some(BESIDE_MIN)),
        beside("put 4 KiB beside compaction", (Name::Full, puts, Beside::Compaction), each, Some(BESIDE_MIN)),
        beside("get 4 KiB, p99 beside compaction", (Name::Full, get_laps, Beside::Compaction), Unit::MicrosTail, None),
    ]
}

/// What the subject that is read holds: so many small chunks, and of the rest half in large and half in huge ones.
struct Full {
    small: Chunks,
    large: Chunks,
    huge: Chunks,
}

impl Full {
    fn new(args: &Args) -> Self {
        let rest = args.size.saturating_sub(args.chunks * SMALL as u64) / 2;
        let of = |bytes: usize| Chunks { bytes, count: (rest / bytes as u64).max(2) };
        Self { small: Chunks { bytes: SMALL, count: args.chunks }, large: of(LARGE), huge: of(HUGE) }
    }

    fn bytes(&self) -> u64 {
        [self.small, self.large, self.huge].iter().map(|chunks| chunks.count * (chunks.bytes as u64 + 128)).sum()
    }
}

/// Both sides, ready to take turns.
struct Rig {
    core: RemoteCore,
    scratch: Scratch,
    full: Full,
    /// How ours wrote the last time.
    cadence: Cell<Cadence>,
    // Removed last.
    dir: ScratchDir,
}

/// Does what `cairn bench lane` was asked for.
///
/// # Errors
/// If it can't be measured here, or breaks.
pub fn run(args: &Args) -> Result<(), Failure> {
    let full = Full::new(args);
    let bytes = args.size / MIB * MIB;
    let needed = bytes + full.bytes() + (2 * SEGMENTS + 16) * u64::from(SEGMENT);
    let dir = ScratchDir::create(&args.dir, needed).map_err(|error| Failure::Input(error.to_string()))?;
    let scratch = Scratch::create(&args.dir, bytes).map_err(|error| Failure::Input(error.to_string()))?;
    let core = RemoteCore::start(&Config::single()).map_err(|error| Failure::Input(error.to_string()))?;
    out::note(core.line());
    let rig = Rig { core, scratch, full, cadence: Cell::default(), dir };
    let report = rig.prepare(args).and_then(|()| rig.measure(args)).map_err(|error| explain(&args.dir, &error))?;
    let text = if args.json {
        serde_json::to_string_pretty(&report).map_err(|error| Failure::Broken(error.to_string()))?
    } else {
        report.table()
    };
    out::print(&text)
}

impl Rig {
    fn wanted(&self, args: &Args) -> Vec<Measure> {
        let wanted = |measure: &Measure| args.only.as_ref().is_none_or(|only| measure.title.contains(only.as_str()));
        measures(&self.full).into_iter().filter(wanted).collect()
    }

    /// Makes what the measures need.
    fn prepare(&self, args: &Args) -> io::Result<()> {
        let wanted = self.wanted(args);
        let needs = |name| {
            wanted
                .iter()
                .any(|measure| measure.ours.0 == name || matches!(measure.theirs, Theirs::Ours(other) if other == name))
        };
        let bar = progress(self.scratch.bytes() / MIB, "writing the bare file");
        self.scratch.fill(|done| bar.set_position(done / MIB))?;
        bar.finish_and_clear();
        let bar = progress(6, "filling the log");
        for name in [Name::Full, Name::Round, Name::Fresh].into_iter().filter(|&name| needs(name)) {
            let space = if name == Name::Fresh { Space::Fresh } else { Space::Written };
            let dir = self.dir.path().join(format!("{name:?}").to_lowercase()).display().to_string();
            self.core.call(move || subject::create(name, dir, space))?;
            bar.inc(1);
        }
        if needs(Name::Full) {
            for chunks in [self.full.small, self.full.large, self.full.huge] {
                self.core.call(move || subject::fill(Name::Full, chunks))?;
                bar.inc(1);
            }
        }
        if needs(Name::Round) {
            // Twice round, so that every segment there will be has been written to.
            let puts = 2 * SEGMENTS * u64::from(SEGMENT) / HUGE as u64;
            let job = Job::Put { bytes: HUGE, depth: 4 };
            self.core.call(move || subject::run(Name::Round, job, Beside::Nothing, Stop::Ops(puts)))?;
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn measure(&self, args: &Args) -> io::Result<Report> {
        const ROUNDS: usize = 9;
        let wanted = self.wanted(args);
        let slices = u32::try_from(2 * ROUNDS * wanted.len().max(1)).map_err(io::Error::other)?;
        let slice = Duration::from_secs(args.seconds) / slices;
        let bar = progress(u64::from(slices), "");
        let driver = if self.core.line().starts_with("driver: glommio") { "glommio" } else { "monoio" };
        let mut bars = Vec::new();
        for measure in &wanted {
            bar.set_message(measure.title);
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for round in 0..ROUNDS {
                // Nobody always comes first; but theirs does as ours did.
                if round % 2 == 1 {
                    theirs.push(measure.unit.figure(&self.run_theirs(measure, slice)?, measure.bytes));
                }
                let done = self.run_ours(measure.ours, slice)?;
                self.cadence.set(done.cadence);
                ours.push(measure.unit.figure(&done.tally, measure.bytes));
                if round % 2 == 0 {
                    theirs.push(measure.unit.figure(&self.run_theirs(measure, slice)?, measure.bytes));
                }
                bar.inc(2);
            }
            bars.push(Bar::new(measure.title, driver, measure.unit, median(ours), median(theirs), measure.bar));
        }
        bar.finish_and_clear();
        Ok(Report {
            bench: "lane",
            version: env!("CARGO_PKG_VERSION"),
            machine: Machine::here().into(),
            file: FileInfo {
                dir: args.dir.display().to_string(),
                file_system: self.scratch.file_system(),
                bytes: self.scratch.bytes(),
            },
            bare: self.scratch.loops(),
            drivers: vec![DriverInfo { name: driver, line: self.core.line().to_owned() }],
            rounds: ROUNDS,
            slice_ms: slice.as_secs_f64() * 1e3,
            bars,
        })
    }

    fn run_ours(&self, (name, job, beside): (Name, Job, Beside), slice: Duration) -> io::Result<Done> {
        // Recovery is whole or nothing.
        let stop = if let Job::Recover = job { Stop::Ops(1) } else { Stop::After(slice) };
        self.core.call(move || subject::run(name, job, beside, stop))
    }

    /// Counts in operations of ours.
    fn run_theirs(&self, measure: &Measure, slice: Duration) -> io::Result<Tally> {
        let (cadence, bytes) = (self.cadence.get(), measure.bytes);
        let stop = Stop::After(slice);
        match measure.theirs {
            Theirs::Ours(name) => Ok(self.run_ours((name, measure.ours.1, Beside::Nothing), slice)?.tally),
            Theirs::Idle => Ok(self.run_ours((measure.ours.0, measure.ours.1, Beside::Nothing), slice)?.tally),
            Theirs::Laps(calls) => self.scratch.durable_laps(bytes, calls, stop),
            Theirs::Reads(order, depth) => {
                let whole = Stop::Ops(self.scratch.bytes() / bytes as u64);
                let stop = if order == Order::Sequential { whole } else { stop };
                self.scratch.load(&Load { operation: Operation::Read, order, bytes, depth }, stop)
            }
            Theirs::Writes { depth } => {
                let sync_bytes = cadence.bytes_per_sync as u64;
                self.scratch.durable(&Durable { bytes, depth, sync_bytes }, stop)
            }
            Theirs::Batches { depth } => {
                let chunks = (cadence.chunks_per_batch.round() as usize).clamp(1, depth);
                let load = Durable { bytes: chunks * bytes, depth: depth.div_ceil(chunks), sync_bytes: 1 };
                let tally = self.scratch.durable(&load, stop)?;
                Ok(Tally { ops: tally.ops * chunks as u64, ..tally })
            }
        }
    }
}
