//! `cairn ls`: buckets, objects, versions.

use comfy_table::{CellAlignment, Table, presets};
use futures_util::{Stream, StreamExt, stream};
use indicatif::BinaryBytes;
use serde_json::{Value, json};

use super::place::object;
use crate::out::{self, Failure};
use crate::s3::calls::Object;
use crate::s3::client::Client;
use crate::s3::settings::Settings;
use crate::s3::shapes::{ObjectEntry, VersionEntry};
use crate::s3::words::bare;

/// Options of `cairn ls`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// cairn://BUCKET/BEGINNING: objects whose keys begin so, folders summed up; nothing for the buckets
    at: Option<String>,
    /// Every object, those in folders too
    #[arg(long, short)]
    recursive: bool,
    /// Every version and delete marker
    #[arg(long)]
    versions: bool,
    /// Print a JSON object for each, one a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Settings,
}

impl Args {
    /// Lists.
    ///
    /// # Errors
    /// If there is no such bucket, or it isn't allowed.
    pub fn run(self) -> Result<(), Failure> {
        super::run(move || async move {
            let client = self.server.client().await?;
            let Some(at) = &self.at else { return buckets(&client, self.json).await };
            let at = object(at).map_err(Failure::Input)?;
            if self.versions { self.versions(&client, &at).await } else { self.objects(&client, &at).await }
        })
    }

    async fn objects(&self, client: &Client, at: &Object) -> Result<(), Failure> {
        let delimiter = (!self.recursive).then_some("/");
        let mut token = None;
        loop {
            let page = client.list(&at.bucket, &at.key, delimiter, token.as_deref()).await?;
            let folders = page.common_prefixes.iter().map(|folder| Line::Folder(&folder.prefix));
            let mut lines: Vec<Line<'_>> = folders.chain(page.contents.iter().map(Line::Object)).collect();
            // Both come in order; together they should too.
            lines.sort_by_key(Line::name);
            self.print(&lines)?;
            let next = page.next_continuation_token.filter(|_| page.is_truncated);
            if next.is_none() || next == token {
                return Ok(());
            }
            token = next;
        }
    }

    async fn versions(&self, client: &Client, at: &Object) -> Result<(), Failure> {
        let mut from = None;
        loop {
            let (entries, next) = client.list_versions(&at.bucket, &at.key, from.as_ref()).await?;
            self.print(&entries.iter().map(Line::Version).collect::<Vec<_>>())?;
            if next.is_none() || next == from {
                return Ok(());
            }
            from = next;
        }
    }

    /// A page at a time, however many there are.
    fn print(&self, lines: &[Line<'_>]) -> Result<(), Failure> {
        if lines.is_empty() {
            return Ok(());
        }
        if self.json {
            let lines: Vec<String> = lines.iter().map(|line| line.json().to_string()).collect();
            return out::print(&lines.join("\n"));
        }
        let mut table = plain_table();
        table.add_rows(lines.iter().map(Line::cells));
        // Lengths are read from the right.
        table.column_mut(1).into_iter().for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        out::print(&table.trim_fmt())
    }
}

/// Columns without lines.
pub(super) fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(comfy_table::ContentArrangement::Disabled);
    table
}

/// What a listing shows.
enum Line<'a> {
    Folder(&'a str),
    Object(&'a ObjectEntry),
    Version(&'a VersionEntry),
}

impl<'a> Line<'a> {
    fn name(&self) -> &'a str {
        match self {
            Self::Folder(name) => name,
            Self::Object(entry) => &entry.key,
            Self::Version(entry) => &entry.key,
        }
    }

    fn cells(&self) -> Vec<String> {
        let shown = printable(self.name());
        match self {
            Self::Folder(_) => vec![String::new(), "folder".to_owned(), shown],
            Self::Object(entry) => {
                vec![printable(&entry.last_modified), BinaryBytes(entry.size).to_string(), shown]
            }
            Self::Version(entry) => {
                let len = BinaryBytes(entry.size).to_string();
                let len = if entry.is_delete_marker { "deleted".to_owned() } else { len };
                let latest = if entry.is_latest { "latest" } else { "" };
                vec![printable(&entry.last_modified), len, printable(&entry.version_id), latest.to_owned(), shown]
            }
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Folder(prefix) => json!({ "kind": "folder", "key": prefix }),
            Self::Object(ObjectEntry { key, last_modified, etag, size }) => json!({
                "kind": "object", "key": key, "bytes": size, "etag": bare(etag), "modified": last_modified,
            }),
            Self::Version(entry) => json!({
                "kind": if entry.is_delete_marker { "delete_marker" } else { "version" },
                "key": entry.key, "version": entry.version_id, "is_latest": entry.is_latest,
                "bytes": entry.size, "etag": bare(&entry.etag), "modified": entry.last_modified,
            }),
        }
    }
}

/// Names come from others: they must not steer the terminal.
pub(super) fn printable(name: &str) -> String {
    let mut shown = String::with_capacity(name.len());
    for letter in name.chars() {
        if letter.is_control() { shown.extend(letter.escape_default()) } else { shown.push(letter) }
    }
    shown
}

/// Lists the buckets.
pub(super) async fn buckets(client: &Client, is_json: bool) -> Result<(), Failure> {
    let buckets = client.buckets().await?;
    if is_json {
        let line = |bucket: &crate::s3::shapes::BucketEntry| {
            json!({ "kind": "bucket", "bucket": bucket.name, "created": bucket.creation_date }).to_string()
        };
        let lines: Vec<String> = buckets.iter().map(line).collect();
        return if lines.is_empty() { Ok(()) } else { out::print(&lines.join("\n")) };
    }
    if buckets.is_empty() {
        out::note("there are no buckets; make one with `cairn bucket create NAME`");
        return Ok(());
    }
    let mut table = plain_table();
    table.add_rows(
        buckets.iter().map(|bucket| [printable(&bucket.creation_date), format!("cairn://{}", printable(&bucket.name))]),
    );
    out::print(&table.trim_fmt())
}

/// The objects of a bucket whose keys begin so, page after page.
pub(super) fn entries<'a>(
    client: &'a Client,
    bucket: &'a str,
    prefix: String,
) -> impl Stream<Item = Result<ObjectEntry, Failure>> + 'a {
    let pages = stream::unfold(Some(None), move |from: Option<Option<String>>| {
        let prefix = prefix.clone();
        async move {
            let from = from?;
            let page = match client.list(bucket, &prefix, None, from.as_deref()).await {
                Ok(page) => page,
                Err(error) => return Some((vec![Err(error.into())], None)),
            };
            let next = page.next_continuation_token.filter(|_| page.is_truncated);
            // A server that leads in a circle is not followed.
            let next = next.filter(|next| Some(next) != from.as_ref()).map(Some);
            Some((page.contents.into_iter().map(Ok).collect(), next))
        }
    });
    pages.flat_map(stream::iter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_steer_no_terminal() {
        assert_eq!(printable("a\x1b[2Jü\n"), "a\\u{1b}[2Jü\\n");
    }
}
