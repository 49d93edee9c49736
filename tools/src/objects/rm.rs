//! `cairn rm`: objects, folders, versions.

use futures_util::StreamExt;
use serde_json::json;

use super::ls::entries;
use super::place::{folder, object, show};
use crate::out::{self, Failure};
use crate::s3::calls::Object;
use crate::s3::client::Client;
use crate::s3::settings::Settings;

/// What one request deletes at most.
const AT_ONCE: usize = 1000;

/// Options of `cairn rm`.
#[allow(clippy::struct_excessive_bools, reason = "each is a flag that people give or don't")]
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// cairn://BUCKET/KEY; with -r all objects whose keys begin with KEY/
    #[arg(required = true)]
    objects: Vec<String>,
    /// All that a bucket or folder holds
    #[arg(long, short)]
    recursive: bool,
    /// With -r every version too: nothing can be brought back then
    #[arg(long, requires = "recursive")]
    versions: bool,
    /// This version
    #[arg(long, value_name = "ID", conflicts_with = "recursive")]
    version: Option<String>,
    /// Say what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
    /// Print a JSON object for each, one a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Settings,
}

/// An object, or one version of it.
type Doomed = (String, Option<String>);

impl Args {
    /// Deletes.
    ///
    /// # Errors
    /// If it isn't allowed, or some could not be deleted.
    pub fn run(self) -> Result<(), Failure> {
        super::run(move || async move {
            let client = self.server.client().await?;
            for text in &self.objects {
                let object = object(text).map_err(Failure::Input)?;
                match (self.recursive, self.versions) {
                    (false, _) => self.one(&client, &object).await?,
                    (true, false) => self.folder(&client, &object).await?,
                    (true, true) => self.with_versions(&client, &object).await?,
                }
            }
            Ok(())
        })
    }

    async fn one(&self, client: &Client, object: &Object) -> Result<(), Failure> {
        if object.key.is_empty() {
            let shown = show(object);
            return Err(Failure::Input(format!("{shown} names no object; add its key, or delete all of it with -r")));
        }
        if !self.dry_run {
            client.delete(object, self.version.as_deref(), &[]).await?;
        }
        self.tell(&object.bucket, &[(object.key.clone(), self.version.clone())])
    }

    async fn folder(&self, client: &Client, at: &Object) -> Result<(), Failure> {
        let pages = entries(client, &at.bucket, folder(&at.key)).ready_chunks(AT_ONCE);
        futures_util::pin_mut!(pages);
        while let Some(page) = pages.next().await {
            let doomed: Result<Vec<Doomed>, Failure> =
                page.into_iter().map(|entry| entry.map(|entry| (entry.key, None))).collect();
            self.delete(client, &at.bucket, &doomed?).await?;
        }
        Ok(())
    }

    async fn with_versions(&self, client: &Client, at: &Object) -> Result<(), Failure> {
        let prefix = folder(&at.key);
        let mut from = None;
        loop {
            let (entries, next) = client.list_versions(&at.bucket, &prefix, from.as_ref()).await?;
            let doomed: Vec<Doomed> = entries.into_iter().map(|entry| (entry.key, Some(entry.version_id))).collect();
            for some in doomed.chunks(AT_ONCE) {
                self.delete(client, &at.bucket, some).await?;
            }
            if next.is_none() || next == from {
                return Ok(());
            }
            from = next;
        }
    }

    async fn delete(&self, client: &Client, bucket: &str, doomed: &[Doomed]) -> Result<(), Failure> {
        if !self.dry_run {
            delete_all(client, bucket, doomed).await?;
        }
        self.tell(bucket, doomed)
    }

    fn tell(&self, bucket: &str, doomed: &[Doomed]) -> Result<(), Failure> {
        let line = |(key, version): &Doomed| {
            if self.json {
                let outcome = if self.dry_run { "would_delete" } else { "deleted" };
                return json!({ "bucket": bucket, "key": key, "version": version, "outcome": outcome }).to_string();
            }
            let verb = if self.dry_run { "would delete" } else { "deleted" };
            let version = version.as_deref().map_or_else(String::new, |version| format!(" version {version}"));
            format!("{verb} cairn://{bucket}/{}{version}", key.escape_debug())
        };
        let lines: Vec<String> = doomed.iter().map(line).collect();
        if lines.is_empty() { Ok(()) } else { out::print(&lines.join("\n")) }
    }
}

/// Deletes up to a thousand; those with names that XML can't hold by themselves.
pub(super) async fn delete_all(client: &Client, bucket: &str, doomed: &[Doomed]) -> Result<(), Failure> {
    let (odd, plain): (Vec<Doomed>, Vec<Doomed>) =
        doomed.iter().cloned().partition(|(key, _)| key.chars().any(char::is_control));
    for (key, version) in odd {
        client.delete(&Object { bucket: bucket.to_owned(), key }, version.as_deref(), &[]).await?;
    }
    if plain.is_empty() {
        return Ok(());
    }
    let failed = client.delete_many(bucket, &plain).await?;
    let Some(first) = failed.first() else { return Ok(()) };
    let line = format!(
        "{} could not be deleted; the first is {:?}: {}: {}",
        failed.len(),
        first.key,
        first.code,
        first.message.escape_debug()
    );
    Err(if first.code == "AccessDenied" { Failure::Refused(line) } else { Failure::Broken(line) })
}
