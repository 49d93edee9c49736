//! One request on its way: who asks, for what, and what most operations need.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use cairn_io::rng;
use cairn_io::time::{self, Duration, Instant, sleep};
use cairn_meta::control::bucket::{Ack, BucketSettings, BucketState, Offline, Reads};
use cairn_meta::control::command::{Command as Control, SetBucket};
use cairn_meta::slot::command::{Answer as Done, Body, Command, Place, Refusal, Which, Write};
use cairn_meta::slot::query::{Query, Reply};
use cairn_meta::slot::read::{Found, Mode as Reading, is_nameable};
use cairn_meta::version::commit::Mode;
use cairn_meta::version::{Kind, State, VersionId};
use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};

use super::Gateway;
use super::answer::Answer;
use super::auth::Who;
use super::bucket::word::{ACK, READ};
use super::error::{Code, Result, S3Error};
use super::head::Head;
use super::op::Op;
pub use crate::cluster::Bucket;
use crate::cluster::{Cluster, ClusterError, Commit, Freshness, Map, Terms, new_token, new_version};

/// How long something is tried again that others change meanwhile: less than clients wait for an answer.
const AGAIN_WITHIN: Duration = Duration::from_secs(15);
/// The pause before, which grows up to the second one: a hundred that want the same thing come one after the other.
const AGAIN_AFTER: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(160));

/// Somebody who tries again.
struct Again {
    begun: Instant,
    pause: Duration,
}

impl Again {
    fn new() -> Self {
        Self { begun: time::now(), pause: AGAIN_AFTER.0 }
    }

    /// Waits for the next try.
    ///
    /// # Errors
    /// `OperationAborted` when it took too long.
    async fn wait(&mut self) -> Result<()> {
        if self.begun.elapsed() > AGAIN_WITHIN {
            return Err(Code::OperationAborted.into());
        }
        // Not all at the same time, or they would meet again.
        let part = rng::next_u64() % 1000;
        sleep(self.pause / 2 + self.pause.mul_f64(part as f64 / 1000.0)).await;
        self.pause = (self.pause * 2).min(AGAIN_AFTER.1);
        Ok(())
    }
}

/// See the module.
pub struct Call {
    /// Whose it is.
    pub gateway: Gateway,
    /// What is asked for.
    pub op: Op,
    /// How.
    pub head: Head,
    /// By whom.
    pub who: Who,
    /// From where.
    pub from: SocketAddr,
    /// When, in milliseconds since the Unix epoch.
    pub now: u64,
    /// Nobody led what it asked for: it was shown what this node has, however old that is.
    pub is_older: Cell<bool>,
}

impl Bucket {
    /// A document that it keeps.
    pub fn document(&self, name: &str) -> Option<&str> {
        let documents = &self.record().settings.documents;
        documents.iter().find(|(known, _)| known == name).map(|(_, text)| text.as_str())
    }
}

impl Call {
    /// The cluster.
    pub fn cluster(&self) -> &Cluster {
        self.gateway.cluster()
    }

    /// The map.
    pub fn map(&self) -> Rc<Map> {
        self.cluster().map()
    }

    /// The bucket that the request names.
    ///
    /// # Errors
    /// `NoSuchBucket`.
    pub fn bucket(&self) -> Result<Bucket> {
        self.bucket_named(self.head.bucket().unwrap_or_default())
    }

    /// A bucket.
    ///
    /// # Errors
    /// `NoSuchBucket`.
    pub fn bucket_named(&self, name: &str) -> Result<Bucket> {
        let found = self.map().find(name).filter(|bucket| bucket.record().state == BucketState::Open);
        found.ok_or_else(|| S3Error::from(Code::NoSuchBucket).with("BucketName", name))
    }

    /// The key that the request names.
    pub fn key(&self) -> &str {
        self.head.key()
    }

    /// Has the slot of a key obey; with the bucket's latest settings, should they have changed.
    ///
    /// # Errors
    /// What it refuses.
    pub async fn command(&self, bucket: &Bucket, key: &str, command: impl Fn(Place) -> Command) -> Result<Done> {
        // Another token each time: what was refused stays refused for its token.
        let attempt = async |place: Place, settings: &BucketSettings| {
            let of = (place.bucket.id, key);
            let done = self.cluster().command(of, Some(new_token()), command(place)).await?;
            if self.ack(settings) == Ack::All {
                self.cluster().all_have_of(of).await?;
            }
            Ok(done)
        };
        self.with_settings(bucket, key, attempt).await
    }

    /// Commits a version of a key; with the bucket's latest settings, should they have changed.
    ///
    /// # Errors
    /// If the slot refuses it.
    pub async fn commit(&self, bucket: &Bucket, key: &str, mode: Mode, body: Body) -> Result<Commit> {
        let id = new_version();
        let attempt = async |place: Place, settings: &BucketSettings| {
            let terms = Terms { ack: self.ack(settings), offline: settings.offline };
            let write = Write { place, id, mode: mode.clone(), body: body.clone() };
            self.cluster().commit(terms, Some(new_token()), write).await
        };
        self.with_settings(bucket, key, attempt).await
    }

    async fn with_settings<T>(
        &self,
        bucket: &Bucket,
        key: &str,
        attempt: impl AsyncFn(Place, &BucketSettings) -> std::result::Result<T, ClusterError>,
    ) -> Result<T> {
        let (mut bucket, id, mut again) = (bucket.clone(), bucket.record().id, Again::new());
        loop {
            let (bucket_now, settings) = (bucket.record().stamp(), &bucket.record().settings);
            match attempt(Place { bucket: bucket_now, key: key.to_owned() }, settings).await {
                Err(ClusterError::Refused(Refusal::StaleBucket { .. })) => {}
                other => return Ok(other?),
            }
            again.wait().await?;
            let found = self.map().find(bucket.name()).filter(|bucket| bucket.record().id == id);
            bucket = found.ok_or(Code::NoSuchBucket)?;
        }
    }

    /// Asks the slot of a key.
    ///
    /// # Errors
    /// If nobody can answer.
    pub async fn query(&self, bucket: &Bucket, key: &str, query: &Query) -> Result<Reply> {
        Ok(self.cluster().query((bucket.record().id, key), query, self.freshness(bucket)).await?)
    }

    /// When the client wants to be answered. What it says was checked with all headers.
    fn ack(&self, settings: &BucketSettings) -> Ack {
        ACK.stated(&self.head).ok().flatten().unwrap_or(settings.ack)
    }

    /// What the client wants to be shown; that was checked, too. The bucket's own word counts where nothing is made of it.
    fn reads(&self, bucket: &Bucket) -> Reads {
        let only_shows = self.head.method == Method::GET || self.head.method == Method::HEAD;
        let unsaid = if only_shows { bucket.record().settings.read } else { Reads::default() };
        READ.stated(&self.head).ok().flatten().unwrap_or(unsaid)
    }

    /// How fresh the client wants answers.
    pub fn freshness(&self, bucket: &Bucket) -> Freshness {
        match self.reads(bucket) {
            Reads::Preferred | Reads::Confirmed if !self.is_older.get() => Freshness::Latest,
            _ => Freshness::Local,
        }
    }

    /// Which version the request names.
    ///
    /// # Errors
    /// If it is none.
    pub fn which(&self) -> Result<Option<Which>> {
        self.head.query.get("versionId").map(which).transpose()
    }

    /// Reads a version of a key that S3 may show: an object or a delete marker.
    ///
    /// # Errors
    /// `NoSuchKey`, `NoSuchVersion`.
    pub async fn read(&self, bucket: &Bucket, key: &str, which: Option<Which>) -> Result<Found> {
        let mode = match which {
            None | Some(Which::Preferred) if self.reads(bucket) == Reads::Confirmed => Reading::ConfirmedOnly,
            None | Some(Which::Preferred) => Reading::Preferred,
            Some(Which::Null) => Reading::Null,
            Some(Which::Id(id)) => Reading::Exact(id),
        };
        let (record, freshness) = (bucket.record(), self.freshness(bucket));
        // What is only shown may be older where nobody leads; nothing is made of it.
        let or_older = matches!(self.op, Op::GetObject | Op::HeadObject) && record.settings.offline == Offline::Accept;
        let seen = self.cluster().read((record.id, key), mode, freshness, or_older).await?;
        self.is_older.set(self.is_older.get() || seen.freshness != freshness);
        let found = seen.found;
        let missing = || match which {
            None | Some(Which::Preferred) => S3Error::from(Code::NoSuchKey).with("Key", key),
            Some(named) => S3Error::from(Code::NoSuchVersion).with("Key", key).with("VersionId", name_of(named)),
        };
        let found = found.ok_or_else(missing)?;
        let version = &found.version;
        let null = version.is_null.then_some(version.id);
        let is_shown = is_nameable(version, null) && (version.kind != Kind::Data || version.is_object(self.now));
        if is_shown { Ok(found) } else { Err(hidden_by(&found, missing())) }
    }

    /// Reads a version that is an object.
    ///
    /// # Errors
    /// As [`Call::read`]; of a delete marker what S3 says of one.
    pub async fn read_object(&self, bucket: &Bucket, key: &str, which: Option<Which>) -> Result<Found> {
        let found = self.read(bucket, key, which).await?;
        if found.version.kind == Kind::Data {
            return Ok(found);
        }
        let error = match which {
            None | Some(Which::Preferred) => S3Error::from(Code::NoSuchKey).with("Key", key),
            Some(_) => S3Error::from(Code::MethodNotAllowed)
                .with("Method", self.head.method.as_str())
                .with("ResourceType", "DeleteMarker"),
        };
        let id = version_name(found.version.id, found.version.is_null);
        let mut error = error.header(HeaderName::from_static("x-amz-delete-marker"), HeaderValue::from_static("true"));
        if let Ok(id) = HeaderValue::from_str(&id) {
            error = error.header(HeaderName::from_static("x-amz-version-id"), id);
        }
        Err(hidden_by(&found, error))
    }

    /// Changes the settings of a bucket; again if somebody else was faster.
    ///
    /// # Errors
    /// If it is refused.
    pub async fn set(&self, bucket: &Bucket, change: impl Fn(&mut BucketSettings) -> Result<()>) -> Result<()> {
        let (mut record, mut again) = (bucket.record().clone(), Again::new());
        loop {
            let mut settings = record.settings.clone();
            change(&mut settings)?;
            let set = SetBucket { name: bucket.name().to_owned(), expected: Some(record.epoch), settings };
            let who = self.who.for_audit();
            match self.cluster().control(who, Some(new_token()), Control::SetBucket(set)).await {
                Err(ClusterError::ControlRefused(cairn_meta::control::command::Refusal::Changed { .. })) => {}
                other => return Ok(other.map(drop)?),
            }
            again.wait().await?;
            record = self.bucket_named(bucket.name())?.record().clone();
        }
    }

    /// Puts or removes a document of a bucket.
    ///
    /// # Errors
    /// If it is refused.
    pub async fn set_document(&self, bucket: &Bucket, name: &str, text: Option<&str>) -> Result<()> {
        self.set(bucket, |settings| {
            settings.documents.retain(|(known, _)| known != name);
            settings.documents.extend(text.map(|text| (name.to_owned(), text.to_owned())));
            Ok(())
        })
        .await
    }

    /// An answer that says which version it is about.
    pub fn about(&self, answer: Answer, bucket: &Bucket, found: &Found) -> Answer {
        let version = &found.version;
        let answer =
            answer.with("x-cairn-version-id", version.id.to_string()).with("x-cairn-state", state_name(found.state));
        let asked = if self.is_older.get() { Reads::Local } else { self.reads(bucket) };
        let answer = answer.with("x-cairn-read", READ.name_of(asked));
        if names_versions(bucket) {
            answer.with("x-amz-version-id", version_name(version.id, version.is_null))
        } else {
            answer
        }
    }
}

/// That there is no object, as what hides it says: whether others see the object still, and which heads there are besides.
fn hidden_by(found: &Found, error: S3Error) -> S3Error {
    let state = (found.state == State::Provisional).then(|| ("x-cairn-state", state_name(found.state).to_owned()));
    let headers = state.into_iter().chain(heads_of(found).into_iter().flatten());
    headers.fold(error, |error, (name, value)| match HeaderValue::from_str(&value) {
        Ok(value) => error.header(HeaderName::from_static(name), value),
        Err(_) => error,
    })
}

/// Which heads there are if they are several: whoever merges them names them all.
pub fn heads_of(found: &Found) -> Option<[(&'static str, String); 2]> {
    let ids: Vec<String> = found.heads.iter().map(|head| head.id.to_string()).collect();
    (ids.len() > 1).then(|| [("x-cairn-heads", ids.len().to_string()), ("x-cairn-head-ids", ids.join(","))])
}

/// What Cairn says of who has a version.
pub fn state_name(state: State) -> &'static str {
    match state {
        State::Confirmed => "confirmed",
        State::Provisional => "provisional",
    }
}

/// Whether S3 names versions of this bucket.
pub fn names_versions(bucket: &Bucket) -> bool {
    bucket.record().settings.versioning != cairn_meta::slot::command::Versioning::Off
}

/// A version as S3 names it.
pub fn version_name(id: VersionId, is_null: bool) -> String {
    if is_null { "null".to_owned() } else { id.to_string() }
}

/// A version that a client names.
///
/// # Errors
/// If it is no name of one.
pub fn which(text: &str) -> Result<Which> {
    if text == "null" {
        return Ok(Which::Null);
    }
    let id = text.parse().map_err(|_| S3Error::argument("versionId", text, "Invalid version id specified"))?;
    Ok(Which::Id(id))
}

/// A version as a request names it.
pub fn name_of(which: Which) -> String {
    match which {
        Which::Null => "null".to_owned(),
        Which::Preferred => String::new(),
        Which::Id(id) => id.to_string(),
    }
}
