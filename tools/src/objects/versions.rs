//! `cairn versions` and `cairn merge`: what a key has been, which of its versions are heads, and how several become one.
//!
//! Writers who didn't know of each other leave a key with several heads. Readers are shown the preferred one; all are kept
//! until somebody merges them.

use serde_json::json;

use super::ls::plain_table;
use super::place::{show, whole_object};
use crate::out::{self, Failure};
use crate::s3::calls::Object;
use crate::s3::client::{Client, text};
use crate::s3::error::{Refusal, S3Error};
use crate::s3::settings::Settings;
use crate::s3::shapes::VersionEntry;

/// Options of `cairn versions`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// cairn://BUCKET/KEY
    object: String,
    /// Print a JSON object for each, one a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Settings,
}

/// Options of `cairn merge`.
#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("content").required(true))]
pub struct MergeArgs {
    /// cairn://BUCKET/KEY
    object: String,
    /// Keep what this version holds
    #[arg(long, value_name = "ID", group = "content")]
    keep: Option<String>,
    /// Put what this object holds in the place of all heads
    #[arg(long, value_name = "cairn://BUCKET/KEY", group = "content")]
    with: Option<String>,
    /// Delete the object
    #[arg(long, group = "content")]
    delete: bool,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Settings,
}

/// What a version is to its key.
fn role(entry: &VersionEntry, heads: &[String]) -> &'static str {
    match (entry.is_latest, heads.contains(&entry.version_id)) {
        (true, _) => "shown",
        (false, true) => "head",
        (false, false) => "",
    }
}

/// The heads of a key if they are several.
async fn heads(client: &Client, object: &Object) -> Result<Vec<String>, S3Error> {
    let ids = match client.head(object, None).await {
        Ok((_, headers)) => text(&headers, "x-cairn-head-ids").map(str::to_owned),
        Err(S3Error::Refused(Refusal { head_ids: Some(ids), .. })) => Some(ids),
        Err(error) => return Err(error),
    };
    let ids = ids.unwrap_or_default();
    Ok(ids.split(',').filter(|id| !id.is_empty()).map(str::to_owned).collect())
}

async fn of_key(client: &Client, object: &Object) -> Result<Vec<VersionEntry>, S3Error> {
    let (mut found, mut from) = (Vec::new(), None);
    loop {
        let (page, next) = client.list_versions(&object.bucket, &object.key, from.as_ref()).await?;
        // Keys come in order, and the shortest with this prefix is the key itself.
        let is_over = page.iter().any(|entry| entry.key != object.key);
        found.extend(page.into_iter().filter(|entry| entry.key == object.key));
        if is_over || next.is_none() || next == from {
            return Ok(found);
        }
        from = next;
    }
}

impl Args {
    /// Asks and prints.
    ///
    /// # Errors
    /// If there is nothing of that name, or it isn't allowed.
    pub fn run(self) -> Result<(), Failure> {
        super::run(move || async move {
            let object = whole_object(&self.object)?;
            let client = self.server.client().await?;
            let entries = of_key(&client, &object).await?;
            if entries.is_empty() {
                return Err(Failure::Missing(format!("there is no version of {}", show(&object))));
            }
            let is_object = entries.iter().any(|entry| entry.is_latest && !entry.is_delete_marker);
            let heads = match heads(&client, &object).await {
                // What is deleted, and nothing else, isn't there.
                Err(S3Error::Refused(_)) if !is_object => vec![],
                heads => heads?,
            };
            out::print(&if self.json { lines(&entries, &heads) } else { table(&entries, &heads) })
        })
    }
}

fn lines(entries: &[VersionEntry], heads: &[String]) -> String {
    let line = |entry: &VersionEntry| {
        json!({
            "version": entry.version_id, "bytes": entry.size, "modified": entry.last_modified,
            "deleted": entry.is_delete_marker, "shown": entry.is_latest,
            "head": !role(entry, heads).is_empty(),
        })
        .to_string()
    };
    entries.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn table(entries: &[VersionEntry], heads: &[String]) -> String {
    let mut table = plain_table();
    for entry in entries {
        let bytes = if entry.is_delete_marker { "deleted".to_owned() } else { entry.size.to_string() };
        table.add_row([&entry.version_id, role(entry, heads), &bytes, &entry.last_modified]);
    }
    let mut text = table.trim_fmt();
    if heads.len() > 1 {
        text.push_str("\nSeveral writers didn't know of each other; `cairn merge` makes one version of the heads.");
    }
    text
}

impl MergeArgs {
    /// Merges.
    ///
    /// # Errors
    /// If a head was added meanwhile, or it isn't allowed.
    pub fn run(self) -> Result<(), Failure> {
        super::run(move || async move {
            let object = whole_object(&self.object)?;
            let client = self.server.client().await?;
            let heads = heads(&client, &object).await?;
            if heads.is_empty() {
                let name = show(&object);
                return if self.json {
                    out::print(&json!({ "object": name, "merged": 0 }).to_string())
                } else {
                    out::print(&format!("{name} has one head: there is nothing to merge"))
                };
            }
            let headers =
                [("x-cairn-mode".to_owned(), "merge".to_owned()), ("x-cairn-parents".to_owned(), heads.join(","))];
            let version = match (&self.with, &self.keep) {
                _ if self.delete => client.delete(&object, None, &headers).await?,
                (Some(other), _) => client.copy(&whole_object(other)?, None, &object, &headers).await?.version,
                (None, keep) => client.copy(&object, keep.as_deref(), &object, &headers).await?.version,
            };
            let (name, count) = (show(&object), heads.len());
            let into = if self.delete { "a deletion" } else { "one version" };
            out::print(&if self.json {
                json!({ "object": name, "merged": count, "version": version, "heads": heads }).to_string()
            } else {
                format!("merged {count} heads of {name} into {}", version.as_deref().unwrap_or(into))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_told_from_what_they_replaced() {
        let entry = |id: &str, is_latest| VersionEntry { version_id: id.to_owned(), is_latest, ..<_>::default() };
        let heads = ["left".to_owned(), "right".to_owned()];
        let roles =
            [("left", true), ("right", false), ("base", false)].map(|(id, latest)| role(&entry(id, latest), &heads));
        assert_eq!(roles, ["shown", "head", ""]);
        let entries = [entry("left", true), entry("right", false)];
        assert!(table(&entries, &heads).contains("cairn merge") && !table(&entries, &[]).contains("cairn merge"));
        assert_eq!(lines(&entries, &heads).lines().count(), 2);
    }
}
