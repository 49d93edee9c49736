//! Many transfers at once: what they come to, and what went wrong with some.

use std::cell::RefCell;

use futures_util::{Stream, StreamExt};
use indicatif::BinaryBytes;
use serde_json::json;

use super::progress::Progress;
use crate::out::Failure;
use crate::s3::transfer::End;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Print {
    /// A sentence for people.
    Words,
    /// A JSON object for each transfer, one a line.
    Json,
    /// Nothing: standard output is the target.
    Nothing,
}

/// One transfer that ended well.
#[derive(Clone, Debug)]
pub struct Done {
    /// From where.
    pub source: String,
    /// To where.
    pub target: String,
    /// How long it is.
    pub bytes: u64,
    /// What came of it.
    pub end: End,
}

impl Done {
    fn json(&self) -> String {
        let mut line = json!({ "source": self.source, "target": self.target, "bytes": self.bytes });
        match &self.end {
            End::Unchanged => line["outcome"] = json!("unchanged"),
            End::Moved(stored) => {
                line["outcome"] = json!("copied");
                line["etag"] = json!(crate::s3::words::bare(&stored.etag));
                line["version"] = json!(stored.version);
                line["state"] = json!(stored.state);
            }
        }
        line.to_string()
    }

    /// Prints it by itself.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn print(&self, print: Print, progress: &Progress) -> Result<(), Failure> {
        let Self { source, target, .. } = self;
        match (print, &self.end) {
            (Print::Nothing, _) => Ok(()),
            (Print::Json, _) => progress.print(&self.json()),
            (Print::Words, End::Unchanged) => progress.print(&format!("{target} is {source} already")),
            (Print::Words, End::Moved(stored)) => {
                // Said only where it isn't what everybody expects.
                let state = stored.state.as_deref().filter(|state| *state != "confirmed");
                let state = state.map_or_else(String::new, |state| format!(", {state}"));
                progress.print(&format!("{source} -> {target} ({}{state})", BinaryBytes(self.bytes)))
            }
        }
    }
}

/// What many transfers came to.
#[derive(Debug, Default)]
struct Sum {
    moved: u64,
    unchanged: u64,
    bytes: u64,
    failed: u64,
}

/// Runs transfers, so many at a time. One that fails is told and the others go on, unless all would fail alike.
///
/// # Errors
/// If one or more failed.
pub async fn run<F: Future<Output = Result<Done, Failure>>>(
    transfers: impl Stream<Item = F>,
    jobs: usize,
    print: Print,
    progress: &Progress,
) -> Result<(), Failure> {
    let sum = RefCell::new(Sum::default());
    let ends = transfers.buffer_unordered(jobs);
    futures_util::pin_mut!(ends);
    while let Some(end) = ends.next().await {
        let mut sum = sum.borrow_mut();
        match end {
            Ok(done) => {
                let count = if done.end == End::Unchanged { &mut sum.unchanged } else { &mut sum.moved };
                *count += 1;
                sum.bytes += if done.end == End::Unchanged { 0 } else { done.bytes };
                if print == Print::Json {
                    done.print(print, progress)?;
                }
            }
            Err(failure @ (Failure::Input(_) | Failure::ReaderGone | Failure::Stopped)) => return Err(failure),
            Err(failure) => {
                progress.note(&format!("cairn: {failure}"));
                sum.failed += 1;
            }
        }
    }
    progress.end();
    let Sum { moved, unchanged, bytes, failed } = sum.into_inner();
    if print == Print::Words {
        let same = if unchanged > 0 { format!(", {unchanged} unchanged") } else { String::new() };
        crate::out::print(&format!("{moved} copied ({}){same}", BinaryBytes(bytes)))?;
    }
    match failed {
        0 => Ok(()),
        _ => Err(Failure::Broken(format!(
            "{failed} of {} failed; run it again with --resume to try those alone",
            moved + unchanged + failed
        ))),
    }
}
