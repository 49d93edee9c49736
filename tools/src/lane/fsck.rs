//! `cairn fsck`: is a lane what it should be, and if its index isn't, another.

use std::path::{Path, PathBuf};

use cairn_daemon::lane::check::{Fault, Problem, Report, check};
use cairn_daemon::lane::{At, Lane, LaneError, Options, SlotSummary};
use cairn_io::fs::Dir;
use cairn_io::time::{Duration, sleep};
use cairn_meta::index::{PARTITIONS, Store};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::text::{hex, time};
use super::{lanes, on_core, open, refused};
use crate::out::{self, Failure};

/// What the exit codes of this command mean.
pub const HELP: &str = "\
Memory: some 200 bytes for each record that is live. The log is read three times.

Exit codes:
  0  the lane is clean
  1  problems were found, or something went wrong
  2  not begun: this is no lane, a node has it open, or bad options";

/// Problems printed for people; JSON has all that were kept.
const SHOWN: usize = 200;
const INDEX: &str = "index";

/// Options of `cairn fsck`.
#[derive(Clone, Debug, clap::Args)]
pub struct Fsck {
    /// The directory of the lane, which has the superblock and the segment files; or of a disk, for all its lanes
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Move the index aside and make it anew from the log, then check again
    #[arg(long)]
    rebuild: bool,
    /// Have slots opened with what is left of them, of which a damaged part of the log may have taken something along. Others
    /// of their groups may have been promised more: not where another node has these slots
    #[arg(long, conflicts_with = "rebuild")]
    accept_loss: bool,
    /// Partitions of the cluster, for an index that can't be asked
    #[arg(long, value_name = "N", default_value_t = PARTITIONS)]
    partitions: u32,
    /// Print one JSON object for each lane
    #[arg(long)]
    json: bool,
}

/// What a rebuild did.
struct Rebuilt {
    /// Where the index is now that was there before.
    old: Option<PathBuf>,
    records: u64,
    after: Report,
}

impl Fsck {
    /// Checks the lane, and makes its index anew if that was asked for.
    ///
    /// # Errors
    /// If something is wrong with it, or it can't be checked.
    pub fn run(&self) -> Result<(), Failure> {
        let fsck = self.clone();
        on_core(move || async move { fsck.check_all().await })
    }

    /// One lane after the other; what is wrong with one doesn't keep the others from being checked.
    async fn check_all(self) -> Result<(), Failure> {
        let mut worst = Ok(());
        for dir in lanes(&self.dir).await? {
            match (Self { dir, ..self.clone() }.check().await, &worst) {
                (Err(Failure::ReaderGone), _) => return Err(Failure::ReaderGone),
                (Err(failure), Ok(())) => worst = Err(failure),
                // The first is told at the end, with the exit code.
                (Err(failure), Err(_)) => out::note(&format!("cairn: {failure}")),
                (Ok(()), _) => {}
            }
        }
        worst
    }

    async fn check(self) -> Result<(), Failure> {
        let dir = open(&self.dir).await?;
        let before = self.look(&dir, self.partitions).await?;
        if self.accept_loss {
            return self.accept(&dir, &before).await;
        }
        if !self.rebuild {
            self.print(&before, None)?;
            return verdict(&before);
        }
        let partitions = before.index.map_or(self.partitions, |index| index.partitions);
        let rebuilt = self.make_anew(&dir, partitions).await?;
        self.print(&before, Some(&rebuilt))?;
        verdict(&rebuilt.after)
    }

    async fn look(&self, dir: &Dir, partitions: u32) -> Result<Report, Failure> {
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}");
        let bar = ProgressBar::new(1).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let progress = |what: &'static str, done, all| {
            bar.set_message(what);
            bar.set_length(all);
            bar.set_position(done);
        };
        let report = check(dir, Store::lmdb(&self.dir), partitions, &progress).await;
        bar.finish_and_clear();
        report.map_err(|error| refused(&self.dir, &error))
    }

    async fn make_anew(&self, dir: &Dir, partitions: u32) -> Result<Rebuilt, Failure> {
        let broken = |error: LaneError| refused(&self.dir, &error);
        let old = self.move_aside(dir).await?;
        let kept = old.as_ref().map_or_else(String::new, |old| format!("; the old index is in {}", old.display()));
        let options = Options { partitions, ballast: 0, ..Options::default() };
        let opened = Lane::open(dir, Store::lmdb(&self.dir), options).await;
        let (lane, recovered) =
            opened.map_err(|error| Failure::Broken(format!("can't make the index anew: {error}{kept}")))?;
        let closed = close(dir, lane).await;
        closed.map_err(|error| Failure::Broken(format!("can't commit the new index: {error}{kept}")))?;
        let after = check(dir, Store::lmdb(&self.dir), partitions, &|_, _, _| {}).await.map_err(broken)?;
        Ok(Rebuilt { old, records: recovered.records, after })
    }

    /// Ends the doubts about slots.
    async fn accept(&self, dir: &Dir, before: &Report) -> Result<(), Failure> {
        let broken = |error: LaneError| refused(&self.dir, &error);
        let partitions = before.index.map_or(self.partitions, |index| index.partitions);
        let options = Options { partitions, ballast: 0, ..Options::default() };
        let (lane, _) = Lane::open(dir, Store::lmdb(&self.dir), options).await.map_err(broken)?;
        let accepted = lane.accept_loss().await;
        close(dir, lane).await.and(accepted).map_err(broken)?;
        let after = check(dir, Store::lmdb(&self.dir), partitions, &|_, _, _| {}).await.map_err(broken)?;
        self.print(&after, None)?;
        verdict(&after)
    }

    /// Gives the index that is there another name, durably.
    async fn move_aside(&self, dir: &Dir) -> Result<Option<PathBuf>, Failure> {
        let broken = |error: std::io::Error| Failure::Broken(format!("can't move the old index aside: {error}"));
        let lock = dir.lock().await.map_err(|error| refused(&self.dir, &error.into()))?;
        let names = dir.list().await.map_err(broken)?;
        if !names.iter().any(|name| name == INDEX) {
            return Ok(None);
        }
        let free =
            (1..=names.len() + 1).map(|number| format!("{INDEX}.old-{number}")).find(|name| !names.contains(name));
        let free = free.expect("there are more numbers than names");
        dir.rename(INDEX, &free).await.map_err(broken)?;
        dir.sync().await.map_err(broken)?;
        drop(lock);
        Ok(Some(self.dir.join(free)))
    }

    fn print(&self, before: &Report, rebuilt: Option<&Rebuilt>) -> Result<(), Failure> {
        if self.json {
            let mut value = to_json(before);
            if let Some(Rebuilt { old, records, after }) = rebuilt {
                let old = old.as_ref().map(|old| old.display().to_string());
                value =
                    json!({ "before": value, "old_index": old, "records_applied": records, "after": to_json(after) });
            }
            let text = serde_json::to_string_pretty(&value).map_err(|error| Failure::Broken(error.to_string()))?;
            return out::print(&text);
        }
        let mut parts = vec![to_text(&self.dir, before)];
        if let Some(Rebuilt { old, records, after }) = rebuilt {
            let kept = old.as_ref().map_or_else(String::new, |old| {
                format!(" The old one is in {}; remove it when you don't need it any more.", old.display())
            });
            parts.push(format!("The index was made anew from {records} records of the log.{kept}"));
            parts.push("Checked again:".to_owned());
            parts.push(to_text(&self.dir, after));
        }
        out::print(&parts.join("\n\n"))
    }
}

/// Closes a lane; nobody has it when this returns.
async fn close(dir: &Dir, lane: Lane) -> Result<(), LaneError> {
    let closed = lane.close().await;
    drop(lane);
    // It lets go of its lock when its last task has ended.
    for _ in 0..100 {
        match dir.lock().await {
            Ok(_) => break,
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
    closed
}

/// The exit code, and what to do.
fn verdict(report: &Report) -> Result<(), Failure> {
    if report.is_clean() {
        return Ok(());
    }
    let count = report.problems.len() as u64 + report.more;
    let of_index = report.problems.iter().filter(|problem| problem.fault.is_of_index()).count();
    let is_log_damaged = report.problems.iter().any(|problem| matches!(problem.fault, Fault::Bad | Fault::Damage));
    let has = |fault: Fault| report.problems.iter().any(|problem| problem.fault == fault);
    let advice = match (of_index, is_log_damaged) {
        _ if has(Fault::Incomplete) => {
            "bring back a copy of the lane, or of its old index; or go on with what is left, where no other node has these \
             slots: `cairn fsck --accept-loss`"
        }
        (_, true) if has(Fault::Rows) => {
            "keep this index: rows of slots are in it that the log has lost, and an index made anew would lack them"
        }
        (0, _) => "start the node: it fetches what is bad here from other copies",
        (_, false) => "`cairn fsck --rebuild` makes the index anew from the log",
        (_, true) => {
            "`cairn fsck --rebuild` makes the index anew from what is whole of the log; what is bad comes from other copies"
        }
    };
    Err(Failure::Broken(format!("{count} problems found; {advice}")))
}

fn to_text(path: &Path, report: &Report) -> String {
    let block = &report.superblock;
    let mut lines = vec![format!(
        "{}: lane {} (number {}), {} segments of {} bytes, made {}",
        path.display(),
        hex(&block.lane),
        block.number,
        report.segments.len(),
        block.segment_bytes,
        time(block.created)
    )];
    if let Some(end) = report.end {
        lines.push(format!("the log ends at {}:{}", end.segment, end.offset));
    }
    match &report.index {
        Some(index) => {
            let upto = index.checkpoint.map_or_else(
                || "never committed".to_owned(),
                |at| format!("committed up to {}:{}", at.segment, at.offset),
            );
            lines.push(format!(
                "index: {upto}; with what the log has behind that, {} chunks of {} bytes, {} other records, {} chunks in quarantine",
                index.chunks, index.chunk_bytes, index.records, index.quarantined
            ));
        }
        None => lines.push("index: none that can be read".to_owned()),
    }
    lines.extend(slots(report));
    if !report.segments.is_empty() {
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::NOTHING);
        table.set_header(["segment", "bytes", "records", "chunks", "live bytes", "bad", "bad, not needed"]);
        for segment in &report.segments {
            let numbers = [
                segment.number,
                segment.bytes,
                segment.records,
                segment.chunks,
                segment.live,
                segment.bad,
                segment.dead_bad,
            ];
            table.add_row(numbers.map(|number| number.to_string()));
        }
        lines.push(String::new());
        lines.push(table.trim_fmt());
    }
    lines.push(String::new());
    lines.extend(report.problems.iter().take(SHOWN).map(line));
    let hidden = report.problems.len().saturating_sub(SHOWN) as u64 + report.more;
    if hidden > 0 {
        lines.push(format!("and {hidden} more problems; --json has up to 10000 of them"));
    }
    if report.is_clean() {
        lines.push("clean".to_owned());
    }
    lines.extend(report.notes.iter().map(|note| format!("note: {note}")));
    lines.join("\n")
}

/// What there is of slots; nothing if there are none.
fn slots(report: &Report) -> Option<String> {
    let (count, rows) = (report.slots.len(), report.slots.iter().map(|slot| slot.rows).sum::<u64>());
    let behind: u64 = report.slots.iter().map(behind).sum();
    let later = match behind {
        0 => String::new(),
        _ => format!("; {behind} entries behind these are applied when the node runs and a leader says which count"),
    };
    (count > 0).then(|| format!("slots: {count} with {rows} rows{later}"))
}

/// Entries of a slot's log whose effect its rows don't have.
fn behind(slot: &SlotSummary) -> u64 {
    slot.last.unwrap_or(0).saturating_sub(slot.applied.map_or(0, |at| at.index))
}

fn line(problem: &Problem) -> String {
    let place = match (problem.segment, problem.offset) {
        (Some(segment), Some(offset)) => format!(" at {segment}:{offset}"),
        (Some(segment), None) => format!(" in segment {segment}"),
        _ => String::new(),
    };
    format!("{}{place}: {}", problem.fault.name(), problem.text)
}

fn to_json(report: &Report) -> Value {
    let block = &report.superblock;
    let position =
        |at: cairn_io::log::Position| json!({ "segment": at.segment, "offset": at.offset, "sequence": at.sequence });
    let segments = report.segments.iter().map(|segment| {
        json!({
            "number": segment.number, "bytes": segment.bytes, "records": segment.records, "chunks": segment.chunks,
            "live_bytes": segment.live, "bad": segment.bad, "bad_not_needed": segment.dead_bad,
        })
    });
    let problems = report.problems.iter().map(|problem| {
        json!({
            "fault": problem.fault.name(), "segment": problem.segment, "offset": problem.offset,
            "id": problem.id.map(|id| hex(&id)), "text": problem.text,
        })
    });
    let files = report
        .files
        .iter()
        .map(|file| json!({ "name": file.name, "bytes": file.length, "state": format!("{:?}", file.state) }));
    json!({
        "clean": report.is_clean(),
        "lane": hex(&block.lane),
        "number": block.number,
        "segment_bytes": block.segment_bytes,
        "created": time(block.created),
        "files": files.collect::<Vec<_>>(),
        "segments": segments.collect::<Vec<_>>(),
        "end": report.end.map(position),
        "slots": report.slots.iter().map(slot_to_json).collect::<Vec<_>>(),
        "index": report.index.map(|index| json!({
            "checkpoint": index.checkpoint.map(position), "partitions": index.partitions, "chunks": index.chunks,
            "chunk_bytes": index.chunk_bytes, "records": index.records, "quarantined": index.quarantined,
        })),
        "problems": problems.collect::<Vec<_>>(),
        "more_problems": report.more,
        "notes": report.notes,
    })
}

fn slot_to_json(slot: &SlotSummary) -> Value {
    let entry = |at: At| json!({ "term": at.term, "index": at.index });
    let SlotSummary { slot: number, rows, bytes, applied, flushed, last } = *slot;
    json!({
        "slot": number, "rows": rows, "bytes": bytes, "applied": applied.map(entry), "in_log": flushed.map(entry),
        "last_entry": last, "entries_behind": behind(slot),
    })
}
