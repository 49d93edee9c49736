//! `cairn log dump`: the records of a lane's log, one line each.

use std::path::PathBuf;

use cairn_daemon::lane::Meaning;
use cairn_io::log::{Damage, FileState, Found, Kind, LogError, Offline, Step, Superblock};
use serde_json::{Value, json};

use super::text::{hex, time};
use super::{lanes, on_core, open, refused};
use crate::out::{self, Failure};

/// Lines printed at once.
const LINES: usize = 512;
/// Of an id that is printed short.
const SHORT: usize = 8;

/// What to print.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The directory of the lane, which has the superblock and the segment files; or of a disk, for all its lanes. No node
    /// may write to it meanwhile
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Only this segment
    #[arg(long, value_name = "N")]
    segment: Option<u64>,
    /// Only records of this kind
    #[arg(long, value_name = "KIND", value_parser = parse_kind)]
    kind: Option<Kind>,
    /// At most so many records
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Print ids whole
    #[arg(long)]
    long: bool,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// The names of kinds, as they are given and printed.
fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Chunk => "chunk",
        Kind::Drop => "drop",
        Kind::RaftEntry => "raft-entry",
        Kind::RaftState => "raft-state",
        Kind::Version => "version",
        Kind::Provisional => "provisional",
        Kind::Checkpoint => "checkpoint",
        Kind::Touch => "touch",
        Kind::Rows => "rows",
    }
}

fn parse_kind(text: &str) -> Result<Kind, String> {
    let names = Kind::ALL.map(name).join(", ");
    Kind::ALL.into_iter().find(|kind| name(*kind) == text).ok_or_else(|| format!("kinds of records are {names}"))
}

/// Lines on their way out.
struct Printer {
    args: Args,
    lines: Vec<String>,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let args = args.clone();
    on_core(move || async move {
        for dir in lanes(&args.dir).await? {
            dump(Args { dir, ..args.clone() }).await?;
        }
        Ok(())
    })
}

async fn dump(args: Args) -> Result<(), Failure> {
    let dir = open(&args.dir).await?;
    let path = args.dir.clone();
    let wrong = |error: LogError| refused(&path, &error.into());
    let log = Offline::open(&dir).await.map_err(wrong)?;
    let mut segments = log.segments();
    if let Some(wanted) = args.segment {
        if !segments.contains(&wanted) {
            let ends = segments.first().zip(segments.last());
            let there = ends.map_or_else(|| "none".to_owned(), |(first, last)| format!("{first} to {last}"));
            return Err(Failure::Input(format!("there is no segment {wanted} here; there are {there}")));
        }
        segments.retain(|number| *number == wanted);
    }
    let (kind, limit) = (args.kind, args.limit.unwrap_or(u64::MAX));
    let mut printer = Printer { args, lines: vec![] };
    printer.superblock(log.superblock())?;
    printer.files(&log)?;
    let (mut printed, mut damaged) = (0, log.damage().len());
    'all: for number in segments {
        let mut scanner = log.scan(number, None).map_err(|error| refused(&path, &error.into()))?;
        while let Some(step) = scanner.next().await.map_err(wrong)? {
            match step {
                Step::Record(found) if kind.is_none_or(|kind| kind == found.kind) => {
                    if printed == limit {
                        break 'all;
                    }
                    printed += 1;
                    printer.record(&found)?;
                }
                Step::Record(_) => {}
                Step::Damage(damage) => {
                    damaged += 1;
                    printer.damage(&damage)?;
                }
            }
        }
    }
    printer.flush()?;
    if damaged > 0 {
        out::note(
            "Where the log ends, what was never finished looks damaged too, and nothing is lost with it: `cairn fsck` tells \
             which it is.",
        );
    }
    Ok(())
}

impl Printer {
    fn line(&mut self, text: impl FnOnce(&Args) -> String, json: impl FnOnce() -> Value) -> Result<(), Failure> {
        self.lines.push(if self.args.json { json().to_string() } else { text(&self.args) });
        if self.lines.len() >= LINES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let lines = std::mem::take(&mut self.lines);
        if lines.is_empty() { Ok(()) } else { out::print(&lines.join("\n")) }
    }

    fn superblock(&mut self, superblock: &Superblock) -> Result<(), Failure> {
        let Superblock { cluster, node, lane, number, segment_bytes, created } = *superblock;
        let text = |_: &Args| {
            format!(
                "lane {} (number {number} of node {}, cluster {}), segments of {segment_bytes} bytes, made {}",
                hex(&lane),
                hex(&node),
                hex(&cluster),
                time(created)
            )
        };
        self.line(text, || {
            json!({
                "type": "superblock", "lane": hex(&lane), "number": number, "node": hex(&node), "cluster": hex(&cluster),
                "segment_bytes": segment_bytes, "created": time(created),
            })
        })
    }

    fn files(&mut self, log: &Offline) -> Result<(), Failure> {
        for file in log.files() {
            let state = match &file.state {
                FileState::Segment { number, first } => format!("segment {number}, from sequence {first}"),
                FileState::Unused => "unused".to_owned(),
                FileState::Bad => "BAD: neither a segment nor unused".to_owned(),
                FileState::Duplicate(number) => format!("BAD: segment {number} once more"),
                FileState::Unreadable(error) => format!("UNREADABLE: {error}"),
            };
            self.line(
                |_| format!("{} {:>10} bytes: {state}", file.name, file.length),
                || json!({ "type": "file", "name": file.name, "bytes": file.length, "state": state }),
            )?;
        }
        for damage in log.damage() {
            self.damage(damage)?;
        }
        self.line(
            |_| {
                "    sequence  time                      kind         id                segment:offset     stored  "
                    .to_owned()
            },
            || json!({ "type": "begin" }),
        )
    }

    fn record(&mut self, found: &Found) -> Result<(), Failure> {
        let Found { kind, id, sequence, wall, location: at, length, is_whole, .. } = found;
        let meaning = explain(&Meaning::of(found));
        let text = |args: &Args| {
            let id = hex(if args.long { &id[..] } else { &id[..SHORT] });
            let place = format!("{}:{}", at.segment, at.offset);
            let state = if *is_whole { "whole" } else { "BAD" };
            let length = if *length == at.stored { String::new() } else { format!(" of {length}") };
            let line = format!(
                "{sequence:>12}  {}  {:<11}  {id}  {place:<16} {:>8}{length}  {state}  {meaning}",
                time(*wall),
                name(*kind),
                at.stored
            );
            line.trim_end().to_owned()
        };
        self.line(text, || {
            json!({
                "type": "record", "sequence": sequence, "time": time(*wall), "kind": name(*kind), "id": hex(id),
                "segment": at.segment, "offset": at.offset, "extent": at.extent, "stored": at.stored, "length": length,
                "whole": is_whole, "meaning": meaning,
            })
        })
    }

    fn damage(&mut self, damage: &Damage) -> Result<(), Failure> {
        let Damage { segment, bytes, sequences, what } = damage;
        let what = format!("{what:?}").to_lowercase();
        let text = |_: &Args| {
            format!(
                "DAMAGE in segment {segment}, bytes {} to {} ({what}), sequence numbers {} to {}",
                bytes.start, bytes.end, sequences.start, sequences.end
            )
        };
        self.line(text, || {
            json!({
                "type": "damage", "segment": segment, "from": bytes.start, "to": bytes.end, "what": what,
                "sequences": [sequences.start, sequences.end],
            })
        })
    }
}

fn explain(meaning: &Meaning) -> String {
    match meaning {
        Meaning::Drops(drop) => format!("drops {} up to {}:{}", name(drop.of), drop.segment, drop.offset),
        Meaning::Covers(position) => {
            format!("index committed up to {}:{}, sequence {}", position.segment, position.offset, position.sequence)
        }
        Meaning::RaftEntry { slot, index, term } => format!("slot {slot} index {index} term {term}"),
        Meaning::RaftState { slot, first } => format!("slot {slot} keeps from {first}"),
        Meaning::Plain => String::new(),
        Meaning::Unreadable => "its bytes say nothing".to_owned(),
    }
}
