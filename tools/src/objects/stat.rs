//! `cairn stat`: what a server says of an object.

use hyper::header::HeaderMap;
use serde_json::{Map, Value, json};

use super::ls::plain_table;
use super::place::{show, whole_object};
use crate::out::{self, Failure};
use crate::s3::calls::{Facts, Object};
use crate::s3::client::text;
use crate::s3::settings::Settings;
use crate::s3::words::bare;

/// Options of `cairn stat`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// cairn://BUCKET/KEY
    object: String,
    /// This version instead of the newest
    #[arg(long, value_name = "ID")]
    version: Option<String>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Settings,
}

/// What is of the connection and not of the object.
const NOT_ITS: &[&str] = &[
    "accept-ranges",
    "access-control-allow-origin",
    "connection",
    "content-length",
    "date",
    "etag",
    "keep-alive",
    "last-modified",
    "server",
    "vary",
    "x-amz-id-2",
    "x-amz-request-id",
    "x-amz-version-id",
    "x-amzn-requestid",
];

impl Args {
    /// Asks and prints.
    ///
    /// # Errors
    /// If there is no such object, or it isn't allowed.
    pub fn run(self) -> Result<(), Failure> {
        super::run(move || async move {
            let object = whole_object(&self.object)?;
            let client = self.server.client().await?;
            let (facts, headers) = client.head(&object, self.version.as_deref()).await?;
            out::print(&if self.json {
                as_json(&object, &facts, &headers).to_string()
            } else {
                as_table(&object, &facts, &headers)
            })
        })
    }
}

fn others(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let names = headers.keys().map(hyper::header::HeaderName::as_str).filter(|name| !NOT_ITS.contains(name));
    names.filter_map(|name| Some((name, text(headers, name)?)))
}

fn as_json(object: &Object, facts: &Facts, headers: &HeaderMap) -> Value {
    let others: Map<String, Value> = others(headers).map(|(name, value)| (name.to_owned(), json!(value))).collect();
    json!({
        "bucket": object.bucket, "key": object.key, "bytes": facts.len, "etag": bare(&facts.etag),
        "version": facts.version, "modified": text(headers, "last-modified"), "headers": others,
    })
}

fn as_table(object: &Object, facts: &Facts, headers: &HeaderMap) -> String {
    let mut table = plain_table();
    table.add_row(["object", &show(object).escape_debug().to_string()]);
    table.add_row(["bytes", &facts.len.to_string()]);
    table.add_row(["etag", bare(&facts.etag)]);
    let own = [("version", facts.version.as_deref()), ("modified", text(headers, "last-modified"))];
    let own = own.into_iter().filter_map(|(name, value)| Some((name, value?)));
    own.chain(others(headers)).for_each(|(name, value)| {
        table.add_row([name, value]);
    });
    table.trim_fmt()
}
