//! `cairn bucket`: making, listing, changing and deleting buckets.

use clap::Subcommand;
use futures_util::StreamExt;
use serde_json::json;

use super::ls;
use super::rm::delete_all;
use super::setting::{Info, Set};
use crate::out::{self, Failure};
use crate::s3::client::Client;
use crate::s3::settings::Settings;

/// What can be done with buckets.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a bucket
    Create(Create),
    /// List the buckets of the key's owner
    List {
        /// Print a JSON object for each, one a line
        #[arg(long)]
        json: bool,
        /// Where.
        #[command(flatten)]
        server: Settings,
    },
    /// Show the settings of a bucket, or the document of one
    Info(Info),
    /// Change a setting of a bucket
    Set(Set),
    /// Delete a bucket that holds nothing
    Delete(Delete),
}

/// Options of `cairn bucket create`.
#[derive(Clone, Debug, clap::Args)]
pub struct Create {
    /// Its name, or cairn://NAME
    name: String,
    /// Keep the versions that others supersede
    #[arg(long)]
    versioning: bool,
    /// Allow versions to be locked, which keeps versions too
    #[arg(long)]
    object_lock: bool,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Settings,
}

/// Options of `cairn bucket delete`.
#[derive(Clone, Debug, clap::Args)]
pub struct Delete {
    /// Its name, or cairn://NAME
    name: String,
    /// With all that it holds, versions and unfinished uploads too: nothing can be brought back then
    #[arg(long)]
    force: bool,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Settings,
}

pub(super) fn name_of(text: &str) -> Result<String, Failure> {
    let name = text.strip_prefix("cairn://").unwrap_or(text);
    let name = name.strip_suffix('/').unwrap_or(name);
    if name.is_empty() || name.contains('/') {
        return Err(Failure::Input(format!("{text} is no name of a bucket")));
    }
    Ok(name.to_owned())
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// If it isn't allowed.
    pub fn run(self) -> Result<(), Failure> {
        match self {
            Self::Create(create) => super::run(|| create.run()),
            Self::List { json, server } => {
                super::run(move || async move { ls::buckets(&server.client().await?, json).await })
            }
            Self::Info(info) => super::run(|| info.run()),
            Self::Set(set) => super::run(|| set.run()),
            Self::Delete(delete) => super::run(|| delete.run()),
        }
    }
}

impl Create {
    async fn run(self) -> Result<(), Failure> {
        let name = name_of(&self.name)?;
        let client = self.server.client().await?;
        let lock = ("x-amz-bucket-object-lock-enabled".to_owned(), "true".to_owned());
        client.create_bucket(&name, if self.object_lock { std::slice::from_ref(&lock) } else { &[] }).await?;
        if self.versioning {
            client.set_bucket(&name, "versioning", Client::versioning("Enabled")).await?;
        }
        tell(&name, "created", self.json)
    }
}

impl Delete {
    async fn run(self) -> Result<(), Failure> {
        let name = name_of(&self.name)?;
        let client = self.server.client().await?;
        if self.force {
            empty(&client, &name).await?;
        }
        client.delete_bucket(&name).await?;
        tell(&name, "deleted", self.json)
    }
}

/// Deletes all that a bucket holds.
async fn empty(client: &Client, name: &str) -> Result<(), Failure> {
    let mut from = None;
    loop {
        let (entries, next) = client.list_versions(name, "", from.as_ref()).await?;
        let doomed: Vec<_> = entries.into_iter().map(|entry| (entry.key, Some(entry.version_id))).collect();
        for some in doomed.chunks(1000) {
            delete_all(client, name, some).await?;
        }
        if next.is_none() || next == from {
            break;
        }
        from = next;
    }
    // A server without versions lists its objects only so.
    let pages = ls::entries(client, name, String::new()).ready_chunks(1000);
    futures_util::pin_mut!(pages);
    while let Some(page) = pages.next().await {
        let doomed: Result<Vec<_>, Failure> =
            page.into_iter().map(|entry| entry.map(|entry| (entry.key, None))).collect();
        delete_all(client, name, &doomed?).await?;
    }
    Ok(client.abort_uploads(name).await?)
}

pub(super) fn tell(name: &str, outcome: &str, is_json: bool) -> Result<(), Failure> {
    if is_json {
        return out::print(&json!({ "bucket": name, "outcome": outcome }).to_string());
    }
    out::print(&format!("{outcome} cairn://{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_named_either_way() {
        for text in ["b", "cairn://b", "cairn://b/"] {
            assert_eq!(name_of(text).ok().as_deref(), Some("b"));
        }
        for text in ["", "cairn://", "b/k", "cairn://b/k"] {
            assert!(name_of(text).is_err(), "{text:?} was taken");
        }
    }
}
