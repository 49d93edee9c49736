//! The S3 gateway: what unmodified S3 programs talk to. One for each core; nothing of it crosses cores.
//!
//! ```text
//!   http ─► head ─► auth ─► op ─► access ─► object, upload, bucket, list ─► answer ─► http
//!             │       │                          │ commands, queries ─► cluster
//!             │       └─► body (framing)         └─ bytes ─► data ─► disks
//!             └─ what it names      error, on any way ─► XML
//! ```
//!
//! S3's XML is read and its words are known with the types of s3s; the rest of the protocol is here
//! (`docs/decisions/0007-s3-without-s3ss-service.md`). It keeps nothing: objects are the cluster's, settings the map's.
//!
//! Invariants: what is answered with success is durable; a request's memory is bounded before it begins; what isn't understood is
//! refused by name, never ignored; no secret is in an error, an answer or the log.

pub mod access;
pub mod answer;
pub(crate) mod asker;
mod auth;
mod body;
mod bucket;
pub(crate) mod call;
mod data;
mod date;
mod dispatch;
pub mod error;
pub mod expire;
#[cfg(test)]
mod fuzz;
pub(crate) mod hash;
mod head;
mod headers;
mod list;
mod md5;
mod object;
pub mod op;
mod post;
mod refusal;
mod site;
mod upload;
mod uri;
mod xml;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use cairn_io::rng;
use cairn_io::time::{self, Duration};
use cairn_meta::slot::layout::BucketId;
use hyper::header::{HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use quick_cache::unsync::Cache;

use crate::cluster::{Cluster, wall_millis};
use crate::http::{self, Answered, Serve};

use access::policy::Policy;
use answer::{Answer, Out};
use auth::{Framing, Proof, Realm, SigningKeys, Who};
use body::Body;
use bucket::cors;
use call::Call;
use data::Admission;
use error::{Code, Result, S3Error};
use head::Head;
use md5::Hashing;
use op::Op;

/// How a gateway is run.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Memory for bodies on this core, in bytes.
    pub body_bytes: usize,
    /// The region that it says it is in.
    pub region: String,
    /// Domains below which each host is a bucket.
    pub domains: Vec<String>,
    /// Domains below which each host is a bucket that is shown as a website.
    pub site_domains: Vec<String>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 128 << 20,
            region: auth::REGION_DEFAULT.to_owned(),
            domains: Vec::new(),
            site_domains: Vec::new(),
        }
    }
}

/// See the module. Clones share it.
#[derive(Clone)]
pub struct Gateway(Rc<Inner>);

struct Inner {
    cluster: Cluster,
    admission: Rc<Admission>,
    hashing: Hashing,
    keys: SigningKeys,
    realm: Realm,
    domains: Vec<String>,
    site_domains: Vec<String>,
    /// In errors, for those who run the node.
    host_id: String,
    answered: RefCell<Answered>,
    /// Policies of buckets, each with the epoch of the settings that it was read from.
    policies: RefCell<Cache<BucketId, (u64, Rc<Policy>)>>,
}

/// Policies that are kept ready, of one core.
const POLICIES_MAX: usize = 64;

/// What is counted that isn't one of S3's operations: what names none, questions of browsers, pages of websites.
const NO_OPERATION: &str = "none";
const PREFLIGHT: &str = "preflight";
const PAGE: &str = "website";

impl Gateway {
    /// Of this core's cluster.
    pub fn new(cluster: Cluster, limits: Limits) -> Self {
        let Limits { body_bytes, region, domains, site_domains } = limits;
        let host_id = hash::base64(&hash::sha256(&rng::next_u64().to_be_bytes()));
        let inner = Inner {
            cluster,
            admission: Admission::new(body_bytes),
            hashing: Hashing::default(),
            keys: SigningKeys::default(),
            realm: Realm { region },
            domains,
            site_domains,
            host_id,
            answered: RefCell::default(),
            policies: RefCell::new(Cache::new(POLICIES_MAX)),
        };
        Self(Rc::new(inner))
    }

    fn cluster(&self) -> &Cluster {
        &self.0.cluster
    }

    fn admission(&self) -> &Rc<Admission> {
        &self.0.admission
    }

    fn hashing(&self) -> &Hashing {
        &self.0.hashing
    }

    fn region(&self) -> &str {
        &self.0.realm.region
    }

    /// Whether signatures for this region are taken.
    fn knows(&self, region: &str) -> bool {
        self.0.realm.knows(region)
    }

    /// Memory that bodies hold now, in bytes.
    pub fn body_bytes(&self) -> usize {
        self.0.admission.lent()
    }

    /// What it has answered.
    pub fn answered(&self) -> Answered {
        self.0.answered.borrow().clone()
    }

    /// Answers, and says in `sort` what was asked for.
    async fn handle(
        &self,
        parts: Parts,
        body: http::Body,
        from: SocketAddr,
        sort: &Cell<&'static str>,
    ) -> Result<Answer> {
        if head::is_below(&parts, &self.0.site_domains) {
            sort.set(PAGE);
            let head = Head::read(parts, &self.0.site_domains)?;
            self.know_bucket(head.bucket()).await?;
            let call = Call {
                gateway: self.clone(),
                op: Op::GetObject,
                head,
                who: Who::Anonymous,
                from,
                now: wall_millis(),
                is_older: Cell::default(),
            };
            return Box::pin(site::show(call)).await;
        }
        let head = Head::read(parts, &self.0.domains)?;
        if cors::is_preflight(&head) {
            sort.set(PREFLIGHT);
            self.know_bucket(head.bucket()).await?;
            return self.preflight(&head);
        }
        let op = Op::of(&head);
        if let Ok(op) = &op {
            sort.set(op.name());
        }
        let asked_across = head.headers.contains_key("origin").then(|| head.clone());
        let answer = self.obey(head, op, body, from).await;
        match asked_across.and_then(|head| Some((self.bucket_of(&head)?, head))) {
            Some((bucket, head)) => cors::say_whatever(answer, &bucket, &head),
            None => answer,
        }
    }

    async fn obey(&self, head: Head, op: Result<Op>, body: http::Body, from: SocketAddr) -> Result<Answer> {
        let now = wall_millis();
        // A form brings its signature in its body.
        let is_form = matches!(op, Ok(Op::PostObject));
        let proof = if is_form {
            Proof { who: Who::Anonymous, framing: Framing::Plain }
        } else {
            self.know_key(|| auth::check(&head, &self.cluster().map(), &self.0.keys, &self.0.realm, now)).await?
        };
        let op = op?;
        headers::check(&head, op)?;
        self.know_bucket(head.bucket()).await?;
        let mut body = Body::new(body, proof.framing, &head)?;
        let call = Call { gateway: self.clone(), op, head, who: proof.who, from, now, is_older: Cell::default() };
        if is_form {
            return Box::pin(post::post(call, &mut body)).await;
        }
        let answer = dispatch::dispatch(&call, &mut body).await;
        let say =
            |error: S3Error| error.header(HeaderName::from_static("x-cairn-read"), HeaderValue::from_static("local"));
        if call.is_older.get() { answer.map_err(say) } else { answer }
    }

    /// Checks again if the access key isn't known: another node may have made it just now.
    async fn know_key<T>(&self, mut check: impl FnMut() -> Result<T>) -> Result<T> {
        match check() {
            Err(error) if error.code() == Code::InvalidAccessKeyId => {
                self.cluster().catch_up().await?;
                check()
            }
            checked => checked,
        }
    }

    /// Looks again if the bucket that is named isn't known: another node may have made it just now.
    async fn know_bucket(&self, name: Option<&str>) -> Result<()> {
        match name {
            Some(name) if self.cluster().map().bucket(name).is_none() => Ok(self.cluster().catch_up().await?),
            _ => Ok(()),
        }
    }

    fn preflight(&self, head: &Head) -> Result<Answer> {
        cors::preflight(self.bucket_of(head).as_ref(), head)
    }

    fn bucket_of(&self, head: &Head) -> Option<call::Bucket> {
        self.cluster().map().find(head.bucket()?)
    }

    /// An error as an answer.
    fn say(&self, error: &S3Error, method: &Method, path: &str, id: &str) -> Answer {
        let status = error.status();
        let has_body = *method != Method::HEAD && status != StatusCode::NOT_MODIFIED;
        let mut answer = if has_body { Answer::xml(error.to_xml(path, id, &self.0.host_id)) } else { Answer::ok() };
        answer.status = status;
        for (name, value) in error.headers() {
            answer.headers.insert(name.clone(), value.clone());
        }
        answer
    }
}

/// Names a request, for those who look for it.
fn request_id() -> String {
    hash::hex(&rng::next_u64().to_be_bytes()).to_ascii_uppercase()
}

impl Serve for Gateway {
    type Body = Out;

    async fn serve(&self, request: Request<http::Body>, from: SocketAddr) -> Response<Out> {
        let id = request_id();
        let (parts, body) = request.into_parts();
        let (method, uri) = (parts.method.clone(), parts.uri.clone());
        let (began, sort) = (time::now(), Cell::new(NO_OPERATION));
        let answer = match self.handle(parts, body, from, &sort).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(%from, %method, path = uri.path(), id, code = error.code().name(), "a request was refused");
                self.say(&error, &method, uri.path(), &id)
            }
        };
        self.0.answered.borrow_mut().count(sort.get(), answer.status.as_u16(), began.elapsed());
        answer.with("x-amz-request-id", id).with("server", "Cairn").into_response()
    }

    fn panicked(&self) -> Response<Out> {
        self.0.answered.borrow_mut().count(NO_OPERATION, 500, Duration::ZERO);
        let error = S3Error::from(Code::InternalError);
        self.say(&error, &Method::GET, "", &request_id()).into_response()
    }
}
