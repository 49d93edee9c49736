//! `cairn bench disk`: what a disk and the loopback can do bare, and what each driver reaches.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_io::reference::{Load, Machine, Operation, Order, Scratch};
use cairn_io::{DriverChoice, StartError};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};

use super::pairs::{Driver, LARGE, Rig, SMALL, What};
use super::report::{Bar, DriverInfo, FileInfo, Report, Unit};
use crate::out::{self, Failure};

const MIB: u64 = 1 << 20;
/// Less would fit into a disk's own cache and into a few operations under way.
const SIZE_MIN: u64 = 16 * MIB;

/// Options of `cairn bench disk`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory on the disk to measure; the file in it has no name and vanishes with the command
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Which drivers to measure
    #[arg(long, value_enum, default_value_t = Drivers::All)]
    driver: Drivers,
    /// Length of the file to measure on, such as 512MiB or 4GiB; at least 16MiB
    #[arg(long, value_name = "BYTES", default_value = "512MiB", value_parser = parse_size)]
    size: u64,
    /// How long to measure, about, once the file is written [default: 30, with --long 240]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: Option<u64>,
    /// Measure longer, for steadier figures
    #[arg(long)]
    long: bool,
    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Drivers {
    /// Every driver that can run here; the promised ratios are for the one that `auto` chooses
    All,
    /// glommio where it can run, else monoio
    Auto,
    /// glommio, or an error that says what is missing
    Glommio,
    /// monoio, on io_uring where allowed, else on epoll
    Monoio,
}

/// One row of the table.
struct Measure {
    title: &'static str,
    what: What,
    unit: Unit,
    /// What is promised of the driver that `auto` chooses.
    bar: Option<f64>,
}

/// Depth-1 latency and socket throughput may cost half as much again as the bare system calls.
const SLOWER_MAX: f64 = 1.5;

const MEASURES: &[Measure] = &[
    small_reads("read 4 KiB, depth 32", 32, Some(0.80)),
    small_reads("read 4 KiB, depth 128", 128, None),
    large("read 1 MiB, depth 1", Operation::Read, 1, None),
    large("read 1 MiB, depth 8", Operation::Read, 8, Some(0.90)),
    large("write 1 MiB, depth 1", Operation::Write, 1, None),
    large("write 1 MiB, depth 8", Operation::Write, 8, Some(0.90)),
    Measure { title: "read 4 KiB, latency", what: What::ReadLaps, unit: Unit::Micros, bar: Some(SLOWER_MAX) },
    Measure { title: "TCP echo, latency", what: What::EchoLaps, unit: Unit::Micros, bar: Some(SLOWER_MAX) },
    Measure { title: "TCP echo, 64 connections", what: What::EchoCrowd(64), unit: Unit::PerSecond, bar: None },
    Measure { title: "TCP send 1 MiB", what: What::Send, unit: Unit::MibPerSecond, bar: Some(1.0 / SLOWER_MAX) },
];

const fn small_reads(title: &'static str, depth: usize, bar: Option<f64>) -> Measure {
    let load = Load { operation: Operation::Read, order: Order::Random, bytes: SMALL, depth };
    Measure { title, what: What::Disk(load), unit: Unit::PerSecond, bar }
}

const fn large(title: &'static str, operation: Operation, depth: usize, bar: Option<f64>) -> Measure {
    let load = Load { operation, order: Order::Sequential, bytes: LARGE, depth };
    Measure { title, what: What::Disk(load), unit: Unit::MibPerSecond, bar }
}

/// Does what `cairn bench disk` was asked for.
///
/// # Errors
/// If it can't be measured here, or breaks.
pub fn run(args: &Args) -> Result<(), Failure> {
    let bytes = args.size / MIB * MIB;
    let scratch = Scratch::create(&args.dir, bytes).map_err(|error| Failure::Input(error.to_string()))?;
    let (drivers, default) = start(args.driver).map_err(|error| Failure::Input(error.to_string()))?;
    for driver in &drivers {
        out::note(&driver.line);
    }
    fill(&scratch).map_err(|error| explain(&args.dir, &error))?;
    let rig = Rig::new(drivers, scratch).map_err(|error| explain(&args.dir, &error))?;
    let report = measure(&rig, default, args).map_err(|error| explain(&args.dir, &error))?;
    let text = if args.json {
        serde_json::to_string_pretty(&report).map_err(|error| Failure::Broken(error.to_string()))?
    } else {
        report.table()
    };
    out::print(&text)
}

/// Starts the drivers asked for; says also which of them `auto` would choose, if it is among them.
fn start(asked: Drivers) -> Result<(Vec<Driver>, Option<&'static str>), StartError> {
    let drivers = match asked {
        Drivers::All => start_all()?,
        Drivers::Auto => vec![Driver::start(DriverChoice::Auto)?],
        Drivers::Glommio => vec![Driver::start(DriverChoice::Glommio)?],
        Drivers::Monoio => vec![Driver::start(DriverChoice::Monoio)?],
    };
    let default = match asked {
        Drivers::All | Drivers::Auto | Drivers::Glommio => drivers.first().map(|driver| driver.name),
        // Where glommio can run, `auto` doesn't choose monoio.
        Drivers::Monoio => Driver::start(DriverChoice::Glommio).is_err().then_some("monoio"),
    };
    Ok((drivers, default))
}

/// The one that `auto` chooses, then the other if it can run too.
fn start_all() -> Result<Vec<Driver>, StartError> {
    let first = Driver::start(DriverChoice::Auto)?;
    let second = (first.name == "glommio").then(|| Driver::start(DriverChoice::Monoio)).transpose()?;
    Ok(std::iter::once(first).chain(second).collect())
}

fn fill(scratch: &Scratch) -> io::Result<()> {
    let bar = progress(scratch.bytes() / MIB, "writing the file");
    scratch.fill(|done| bar.set_position(done / MIB))?;
    bar.finish_and_clear();
    Ok(())
}

fn measure(rig: &Rig, default: Option<&str>, args: &Args) -> io::Result<Report> {
    let (rounds, seconds) = if args.long { (21, 240) } else { (9, 30) };
    let slices = MEASURES.len() * rig.sides().len() * rounds;
    let slice =
        Duration::from_secs(args.seconds.unwrap_or(seconds)) / u32::try_from(slices).map_err(io::Error::other)?;
    let bar = progress(slices as u64, "");
    let mut bars = Vec::new();
    for measure in MEASURES {
        bar.set_message(measure.title);
        let figures =
            rig.compare(measure.what, |tally| measure.unit.figure(tally, LARGE), rounds, slice, || bar.inc(1))?;
        bars.extend(compare(rig, default, measure, &figures));
    }
    bar.finish_and_clear();
    Ok(Report {
        bench: "disk",
        version: env!("CARGO_PKG_VERSION"),
        machine: Machine::here().into(),
        file: FileInfo {
            dir: args.dir.display().to_string(),
            file_system: rig.scratch.file_system(),
            bytes: rig.scratch.bytes(),
        },
        bare: rig.scratch.loops(),
        drivers: rig.drivers.iter().map(|driver| DriverInfo { name: driver.name, line: driver.line.clone() }).collect(),
        rounds,
        slice_ms: slice.as_secs_f64() * 1e3,
        bars,
    })
}

/// `figures` are those of the sides: bare first.
fn compare(rig: &Rig, default: Option<&str>, measure: &Measure, figures: &[f64]) -> Vec<Bar> {
    let drivers = rig.drivers.iter().zip(&figures[1..]);
    drivers
        .map(|(driver, &value)| {
            let bar = measure.bar.filter(|_| default == Some(driver.name));
            Bar::new(measure.title, driver.name, measure.unit, value, figures[0], bar)
        })
        .collect()
}

/// A bar on standard error, if that is a terminal.
pub(super) fn progress(steps: u64, message: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("[{bar:30}] {percent:>3} %  {eta} left  {msg}")
        .expect("the template is well-formed")
        .progress_chars("=> ");
    ProgressBar::new(steps).with_style(style).with_message(message)
}

pub(super) fn explain(dir: &Path, error: &io::Error) -> Failure {
    let dir = dir.display();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Failure::Input(format!("{dir} became full: {error}; make room or ask for less with --size"))
        }
        io::ErrorKind::InvalidInput => Failure::Input(format!(
            "the file system of {dir} can't do direct I/O in blocks of 4 KiB: {error}; choose a directory on ext4 or xfs with --dir"
        )),
        _ => Failure::Broken(format!("measuring in {dir} failed: {error}; see the kernel's log about its disk")),
    }
}

pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let bytes = crate::lane::text::parse_bytes(text)?;
    if bytes >= SIZE_MIN { Ok(bytes) } else { Err("choose at least 16MiB".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("512MiB"), Ok(512 << 20));
        assert_eq!(parse_size("2 g"), Ok(2 << 30));
        assert_eq!(parse_size("16777216"), Ok(16 << 20));
    }

    #[test]
    fn senseless_sizes_are_refused() {
        for text in ["", "MiB", "-5", "1KiB", "16 parsecs", "99999999TiB", "16é"] {
            assert!(parse_size(text).is_err(), "{text:?} was taken");
        }
    }
}
