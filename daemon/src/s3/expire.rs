//! What lifecycle rules let go: objects past their days, versions that others replaced long ago, uploads that nobody completes.
//!
//! | what | is due when | what is done |
//! | --- | --- | --- |
//! | an object that is shown | its days, or the date, are over | deleted: a tombstone or a delete marker, if it is still the one |
//! | a version that isn't shown | so many days have passed since the next one came, and enough newer ones are kept | erased |
//! | a delete marker that is all there is of its key | the rule says so, or its days are over | erased |
//! | an upload | its days are over | aborted |
//!
//! Days end at midnight, as S3 has it. What is locked is refused by its slot and stays.

use cairn_meta::slot::command::{AbortUpload, Answer, Body, Bucket as Stamp, Command, Erase, Place, Which, Write};
use cairn_meta::slot::list::{Item, Position, Query, UploadEntry, VersionEntry};
use cairn_meta::slot::query::{Query as Question, Reply};
use cairn_meta::slot::read::Mode as Reading;
use cairn_meta::version::commit::{Condition, Mode};
use cairn_meta::version::{Bypass, Kind, Pair};
use s3s::dto::{BucketLifecycleConfiguration, LifecycleRule, LifecycleRuleFilter, Tag};

use super::bucket::LIFECYCLE;
use super::date::millis_of;
use super::xml::read;
use crate::actor::{Actor, Context, Failure, Wake};
use crate::cluster::{Cluster, ClusterError, Freshness, new_token, new_version, wall_millis};

const DAY: u64 = 24 * 3600 * 1000;
/// Versions or uploads that are looked at at once.
const PAGE: u32 = 1000;

/// The actor: one of the cluster.
pub struct Expire {
    /// The cluster, as its core sees it.
    pub cluster: Cluster,
}

/// What may be asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpireMessage {
    /// Go through all buckets now.
    Look,
}

/// A rule that is on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rule {
    prefix: String,
    tags: Vec<Pair>,
    larger_than: Option<u64>,
    smaller_than: Option<u64>,
    days: Option<u64>,
    date: Option<u64>,
    lone_markers: bool,
    replaced_days: Option<u64>,
    replaced_kept: usize,
    abort_days: Option<u64>,
}

/// What is to be done about a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Delete,
    Erase,
}

/// How a version stands among those of its key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Standing {
    /// When the next newer one came; `None`: there is none.
    replaced: Option<u64>,
    /// How many that aren't shown are newer.
    newer: usize,
    /// Whether it is the only one.
    is_alone: bool,
}

/// When so many days are over: at the midnight behind.
fn over(since: u64, days: u64) -> u64 {
    since.saturating_add(days.saturating_mul(DAY)).div_ceil(DAY).saturating_mul(DAY)
}

impl Rule {
    fn read(rule: &LifecycleRule) -> Option<Self> {
        if rule.status.as_str() != "Enabled" {
            return None;
        }
        let number = |number: Option<i32>| number.and_then(|number| u64::try_from(number).ok());
        let mut read = Self { prefix: rule.prefix.clone().unwrap_or_default(), ..Self::default() };
        if let Some(filter) = &rule.filter {
            read.narrow(filter)?;
        }
        if let Some(expiration) = &rule.expiration {
            read.days = number(expiration.days);
            read.date = expiration.date.clone().and_then(millis_of);
            read.lone_markers = expiration.expired_object_delete_marker.unwrap_or(false);
        }
        if let Some(replaced) = &rule.noncurrent_version_expiration {
            read.replaced_days = number(replaced.noncurrent_days);
            read.replaced_kept = number(replaced.newer_noncurrent_versions).unwrap_or(0) as usize;
        }
        read.abort_days =
            rule.abort_incomplete_multipart_upload.as_ref().and_then(|abort| number(abort.days_after_initiation));
        Some(read)
    }

    /// To what a filter lets through; `None`: it has a tag without name or value.
    fn narrow(&mut self, filter: &LifecycleRuleFilter) -> Option<()> {
        let size = |size: Option<i64>| size.and_then(|size| u64::try_from(size).ok());
        let pair = |tag: &Tag| Some((tag.key.clone()?, tag.value.clone()?));
        if let Some(prefix) = &filter.prefix {
            self.prefix.clone_from(prefix);
        }
        (self.larger_than, self.smaller_than) =
            (size(filter.object_size_greater_than), size(filter.object_size_less_than));
        if let Some(tag) = &filter.tag {
            self.tags.push(pair(tag)?);
        }
        let Some(all) = &filter.and else { return Some(()) };
        if let Some(prefix) = &all.prefix {
            self.prefix.clone_from(prefix);
        }
        self.larger_than = size(all.object_size_greater_than).or(self.larger_than);
        self.smaller_than = size(all.object_size_less_than).or(self.smaller_than);
        self.tags.extend(all.tags.iter().flatten().map(pair).collect::<Option<Vec<_>>>()?);
        Some(())
    }

    fn names(&self, key: &str, size: u64) -> bool {
        key.starts_with(&self.prefix)
            && self.larger_than.is_none_or(|than| size > than)
            && self.smaller_than.is_none_or(|than| size < than)
    }

    /// What is due of a version, but for its tags.
    fn due(&self, entry: &VersionEntry, standing: Standing, now: u64) -> Option<Due> {
        if !self.names(&entry.key, entry.size) {
            return None;
        }
        let days_over = || self.days.is_some_and(|days| over(entry.modified, days) <= now);
        match (entry.is_latest, entry.kind) {
            (true, Kind::Data) => (days_over() || self.date.is_some_and(|date| date <= now)).then_some(Due::Delete),
            (true, _) => (standing.is_alone && (self.lone_markers || days_over())).then_some(Due::Erase),
            (false, _) => {
                let is_over =
                    self.replaced_days.zip(standing.replaced).is_some_and(|(days, since)| over(since, days) <= now);
                (is_over && standing.newer >= self.replaced_kept).then_some(Due::Erase)
            }
        }
    }
}

/// The rules of a bucket that are on. What isn't understood is no rule: it was refused when it was put.
fn rules(document: &str) -> Vec<Rule> {
    let Ok(stated) = read::<BucketLifecycleConfiguration>(document.as_bytes()) else { return Vec::new() };
    stated.rules.iter().filter_map(Rule::read).collect()
}

impl Actor for Expire {
    type Message = ExpireMessage;

    async fn run(self, mut context: Context<Self::Message>) -> Result<(), Failure> {
        loop {
            match context.next().await {
                Wake::Stop => return Ok(()),
                Wake::Message(ExpireMessage::Look) | Wake::Due => {}
            }
            let map = self.cluster.map();
            let with_rules = map.buckets.iter().filter_map(|(name, bucket)| {
                let document = bucket.settings.documents.iter().find(|(known, _)| known == LIFECYCLE)?;
                Some((name.clone(), bucket.stamp(), rules(&document.1)))
            });
            for (name, bucket, rules) in with_rules {
                context.status().working(format!("bucket {name}"), format!("it has {} lifecycle rules", rules.len()));
                let pass = Pass { cluster: &self.cluster, bucket, rules: &rules, now: wall_millis() };
                let pay = async |count: u64| {
                    context.pay(0, count).await.map_err(|_| ClusterError::Busy("the actor is to stop".to_owned()))
                };
                match pass.run(pay).await {
                    Ok(done) if done > 0 => tracing::info!(bucket = name, done, "lifecycle rules were applied"),
                    Ok(_) => {}
                    Err(_) if context.is_stopping() => return Ok(()),
                    Err(error) => {
                        tracing::warn!(bucket = name, %error, "lifecycle rules could not be applied to the end");
                    }
                }
            }
        }
    }
}

/// One way through a bucket.
struct Pass<'p> {
    cluster: &'p Cluster,
    bucket: Stamp,
    rules: &'p [Rule],
    now: u64,
}

impl Pass<'_> {
    /// Does what is due; says how much that was.
    async fn run(&self, pay: impl AsyncFn(u64) -> Result<(), ClusterError>) -> Result<u64, ClusterError> {
        let mut done = 0;
        let query = |after| Query { bucket: self.bucket.id, after, limit: PAGE, ..Query::default() };
        let mut after: Option<Position> = None;
        // Versions of a key may lie on several pages: the last key of a page waits for the next.
        let mut held: Vec<VersionEntry> = Vec::new();
        loop {
            let page = self.cluster.list_versions(query(after.take())).await?;
            pay(page.items.len() as u64).await?;
            for item in page.items {
                let Item::Entry(entry) = item else { continue };
                if held.first().is_some_and(|first| first.key != entry.key) {
                    done += self.key(&std::mem::take(&mut held)).await?;
                }
                held.push(entry);
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        done += self.key(&held).await?;
        loop {
            let page = self.cluster.list_uploads(query(after.take())).await?;
            pay(page.items.len() as u64).await?;
            for item in &page.items {
                let Item::Entry(entry) = item else { continue };
                done += self.upload(entry).await?;
            }
            after = page.next;
            if after.is_none() {
                return Ok(done);
            }
        }
    }

    /// All versions of a key, the newest first.
    async fn key(&self, versions: &[VersionEntry]) -> Result<u64, ClusterError> {
        let (mut done, mut newer) = (0, 0);
        for (at, entry) in versions.iter().enumerate() {
            let replaced = at.checked_sub(1).map(|newer| versions[newer].modified);
            let standing = Standing { replaced, newer, is_alone: versions.len() == 1 };
            newer += usize::from(!entry.is_latest);
            for rule in self.rules {
                let Some(due) = rule.due(entry, standing, self.now) else { continue };
                if self.has_tags(entry, &rule.tags).await? {
                    done += self.obey(entry, due).await?;
                    break;
                }
            }
        }
        Ok(done)
    }

    async fn has_tags(&self, entry: &VersionEntry, tags: &[Pair]) -> Result<bool, ClusterError> {
        if tags.is_empty() {
            return Ok(true);
        }
        let question = Question::Read {
            bucket: self.bucket.id,
            key: entry.key.clone(),
            mode: Reading::Exact(entry.id),
            local: vec![],
        };
        let reply = self.cluster.query((self.bucket.id, &entry.key), &question, Freshness::Latest).await?;
        let Reply::Read(Some(found)) = reply else { return Ok(false) };
        Ok(tags.iter().all(|tag| found.version.content.tags.contains(tag)))
    }

    async fn obey(&self, entry: &VersionEntry, due: Due) -> Result<u64, ClusterError> {
        let place = Place { bucket: self.bucket, key: entry.key.clone() };
        let command = match due {
            Due::Delete => {
                // Somebody may have written meanwhile.
                let mode = Mode::Conditional(vec![Condition::Head(Some(entry.id))]);
                Command::Commit(vec![Write { place, id: new_version(), mode, body: Body::Deletion }])
            }
            Due::Erase => {
                Command::Erase(Erase { place, which: Which::Id(entry.id), bypass: Bypass::Nothing, conditions: vec![] })
            }
        };
        self.say(&entry.key, command).await
    }

    async fn upload(&self, entry: &UploadEntry) -> Result<u64, ClusterError> {
        let is_over = |rule: &Rule| {
            entry.key.starts_with(&rule.prefix)
                && rule.abort_days.is_some_and(|days| over(entry.created, days) <= self.now)
        };
        if !self.rules.iter().any(is_over) {
            return Ok(0);
        }
        let place = Place { bucket: self.bucket, key: entry.key.clone() };
        self.say(&entry.key, Command::AbortUpload(AbortUpload { place, upload: entry.upload })).await
    }

    /// One refusal hinders nothing else: it is locked, or no longer there.
    async fn say(&self, key: &str, command: Command) -> Result<u64, ClusterError> {
        match self.cluster.command((self.bucket.id, key), Some(new_token()), command).await {
            Ok(answer) => Ok(done(&answer)),
            Err(ClusterError::Refused(_)) => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// How many versions an answer says were made or dropped: a write may be refused within it.
fn done(answer: &Answer) -> u64 {
    match answer {
        Answer::Committed(each) => each.iter().filter(|one| one.is_ok()).count() as u64,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_meta::slot::command::Refusal;
    use cairn_meta::version::VersionId;

    fn entry(kind: Kind, is_latest: bool, modified: u64) -> VersionEntry {
        VersionEntry {
            key: "a/k".to_owned(),
            id: VersionId(1),
            kind,
            is_null: false,
            is_latest,
            size: 10,
            etag: String::new(),
            modified,
        }
    }

    #[test]
    fn what_was_refused_is_not_counted() {
        let refused = Refusal::Key(0);
        assert_eq!(done(&Answer::Committed(vec![Err(refused)])), 0);
        assert_eq!(done(&Answer::Done), 1);
    }

    #[test]
    fn days_end_at_midnight() {
        assert_eq!(over(0, 1), DAY);
        assert_eq!(over(1, 1), 2 * DAY);
        assert_eq!(over(u64::MAX, 1), u64::MAX, "never");
    }

    #[test]
    fn what_is_due_follows_the_table() {
        let alone = Standing { is_alone: true, ..Standing::default() };
        let replaced = |at, newer| Standing { replaced: Some(at), newer, is_alone: false };
        let days = Rule { days: Some(2), ..Rule::default() };
        let old = Rule { replaced_days: Some(3), replaced_kept: 1, ..Rule::default() };
        let markers = Rule { lone_markers: true, ..Rule::default() };
        let cases = [
            (&days, entry(Kind::Data, true, 0), alone, 2 * DAY - 1, None),
            (&days, entry(Kind::Data, true, 0), alone, 2 * DAY, Some(Due::Delete)),
            (&days, entry(Kind::Data, false, 0), replaced(0, 5), 9 * DAY, None),
            (&old, entry(Kind::Data, false, 0), replaced(DAY, 1), 4 * DAY, Some(Due::Erase)),
            (&old, entry(Kind::Data, false, 0), replaced(DAY, 1), 4 * DAY - 1, None),
            (&old, entry(Kind::Data, false, 0), replaced(DAY, 0), 9 * DAY, None),
            (&old, entry(Kind::Data, true, 0), alone, 9 * DAY, None),
            (&markers, entry(Kind::DeleteMarker, true, 0), alone, 0, Some(Due::Erase)),
            (&markers, entry(Kind::DeleteMarker, true, 0), Standing::default(), 0, None),
            (&markers, entry(Kind::Data, true, 0), alone, 9 * DAY, None),
        ];
        for (rule, entry, standing, now, expected) in cases {
            assert_eq!(rule.due(&entry, standing, now), expected, "{rule:?} {entry:?} {standing:?} at {now}");
        }
    }

    #[test]
    fn rules_are_read_with_their_filters() {
        let read = |rule: &str| rules(&format!("<LifecycleConfiguration><Rule>{rule}</Rule></LifecycleConfiguration>"));
        let found = read(
            "<Filter><And><Prefix>a/</Prefix><Tag><Key>t</Key><Value>1</Value></Tag><ObjectSizeGreaterThan>5</ObjectSizeGreaterThan></And></Filter><Status>Enabled</Status><Expiration><Days>3</Days></Expiration>",
        );
        let expected = Rule {
            prefix: "a/".to_owned(),
            tags: vec![("t".to_owned(), "1".to_owned())],
            larger_than: Some(5),
            days: Some(3),
            ..Rule::default()
        };
        assert_eq!(found, [expected]);
        assert!(found[0].names("a/b", 6) && !found[0].names("b", 6) && !found[0].names("a/b", 5));
        assert!(read("<Prefix/><Status>Disabled</Status><Expiration><Days>3</Days></Expiration>").is_empty());
    }
}
