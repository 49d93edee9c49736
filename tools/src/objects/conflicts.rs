//! `cairn conflicts`: which objects several writers, who didn't know of each other, left with several heads.

use serde_json::json;

use super::ls::{plain_table, printable};
use super::place::{object, show};
use crate::out::{self, Failure};
use crate::s3::calls::Object;
use crate::s3::settings::Settings;
use crate::s3::shapes::ConflictEntry;

/// Options of `cairn conflicts`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// cairn://BUCKET, or with what the keys shall begin with
    place: String,
    /// Print a JSON object for each, one a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Settings,
}

impl Args {
    /// Asks and prints, a page at a time.
    ///
    /// # Errors
    /// If there is no such bucket, or it isn't allowed.
    pub fn run(self) -> Result<(), Failure> {
        super::run(move || async move {
            let at = object(&self.place).map_err(Failure::Input)?;
            let client = self.server.client().await?;
            let (mut from, mut found) = (None, 0);
            loop {
                let page = client.list_conflicts(&at.bucket, &at.key, from.as_deref()).await?;
                found += page.conflict.len();
                self.print(&at.bucket, &page.conflict)?;
                if page.next_start_after.is_none() || page.next_start_after == from {
                    break;
                }
                from = page.next_start_after;
            }
            if found == 0 && !self.json {
                out::print(&format!("nothing of {} is in conflict", show(&at)))?;
            }
            Ok(())
        })
    }

    fn print(&self, bucket: &str, conflicts: &[ConflictEntry]) -> Result<(), Failure> {
        if conflicts.is_empty() {
            return Ok(());
        }
        let name = |entry: &ConflictEntry| show(&Object { bucket: bucket.to_owned(), key: entry.key.clone() });
        if self.json {
            let line = |entry: &ConflictEntry| json!({ "object": name(entry), "heads": entry.heads }).to_string();
            return out::print(&conflicts.iter().map(line).collect::<Vec<_>>().join("\n"));
        }
        let mut table = plain_table();
        table.add_rows(conflicts.iter().map(|entry| [format!("{} heads", entry.heads), printable(&name(entry))]));
        out::print(&table.trim_fmt())
    }
}
