//! Users whose requests come by another way than HTTP. Each request is put as the operation of S3 that does the same, and policies,
//! lists and ownership are asked about that: one set of rules decides, whichever way is taken.

use std::cell::Cell;
use std::net::SocketAddr;

use cairn_meta::control::bucket::BucketState;
use cairn_meta::slot::command::Which;
use cairn_meta::version::{Content, Lock, LockMode, Pair, Version};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Uri};

use super::access::Verdict;
use super::access::acl::Permission;
use super::auth::{Version as Signed, Who};
use super::call::{Bucket, Call, which as named};
use super::error::{Code, Result, S3Error};
use super::head::{Head, Target};
use super::op::Op;
use super::uri::{Query, Slash, encode};
use super::{Gateway, bucket, date, object};
use crate::cluster::wall_millis;

/// See the module.
pub struct Asker {
    gateway: Gateway,
    who: Who,
    from: SocketAddr,
}

/// What a writer says of an object, without its bytes.
#[derive(Clone, Debug, Default)]
pub struct Stated {
    /// Headers that are repeated on reads.
    pub headers: Vec<Pair>,
    /// The user's.
    pub metadata: Vec<Pair>,
    /// The user's.
    pub tags: Vec<Pair>,
    /// Retention and legal hold, as far as stated.
    pub lock: Lock,
}

/// A read that isn't forbidden; what is found may be.
pub struct Reading {
    call: Call,
    bucket: Bucket,
    verdict: Verdict,
}

/// What is said of something that no header of S3 can carry.
fn unfit(what: &str, name: &str, why: &str) -> S3Error {
    S3Error::argument("", name, format!("{what} {name:?} {why}"))
}

impl Asker {
    /// A user who proved to have this access key.
    pub fn new(gateway: &Gateway, user: &str, access: &str, from: SocketAddr) -> Self {
        let (name, access) = (user.to_owned(), access.to_owned());
        Self { gateway: gateway.clone(), who: Who::User { name, access, signed: Signed::Hello }, from }
    }

    /// The user's name.
    pub fn user(&self) -> &str {
        self.who.for_audit()
    }

    fn call(&self, op: Op, target: Target, query: &[(&str, &str)], headers: HeaderMap) -> Result<Call> {
        let pairs = query.iter().map(|(name, value)| format!("{name}={}", encode(value, Slash::Encoded)));
        let query = Query::parse(&pairs.collect::<Vec<_>>().join("&"))?;
        let method = Method::from_bytes(op.row().method.as_bytes()).map_err(|_| Code::MethodNotAllowed)?;
        let head = Head { method, uri: Uri::default(), target, query, headers };
        let (gateway, who, from) = (self.gateway.clone(), self.who.clone(), self.from);
        Ok(Call { gateway, op, head, who, from, now: wall_millis(), is_older: Cell::default() })
    }

    fn of_object(&self, op: Op, bucket: &Bucket, key: &str, headers: HeaderMap) -> Result<Call> {
        self.call(op, Target::Object(bucket.name().to_owned(), key.to_owned()), &[], headers)
    }

    fn of_bucket(&self, op: Op, bucket: &str) -> Result<Call> {
        self.call(op, Target::Bucket(bucket.to_owned()), &[], HeaderMap::new())
    }

    /// Lets the user write an object; returns what is to be kept of what it says, and the bucket's default lock and list.
    ///
    /// # Errors
    /// If it may not, or says what can't be.
    pub fn write(&self, bucket: &Bucket, key: &str, stated: &Stated) -> Result<Content> {
        let call = self.of_object(Op::PutObject, bucket, key, headers(stated)?)?;
        call.allow_write(bucket, key)?;
        object::of_request(&call, bucket)
    }

    /// Lets the user delete an object.
    ///
    /// # Errors
    /// If it may not.
    pub fn delete(&self, bucket: &Bucket, key: &str) -> Result<()> {
        self.of_object(Op::DeleteObject, bucket, key, HeaderMap::new())?.allow_write(bucket, key)
    }

    /// Lets the user read a key: as it is now, one version of it, or as it was in the past.
    ///
    /// # Errors
    /// If it may not, whatever is there.
    pub async fn read(&self, bucket: &Bucket, key: &str, what: Sight) -> Result<Reading> {
        let target = Target::Object(bucket.name().to_owned(), key.to_owned());
        let id = match what {
            Sight::Version(which) => Some(super::call::name_of(which)),
            Sight::Now | Sight::Past => None,
        };
        let query: Vec<(&str, &str)> = id.iter().map(|id| ("versionId", id.as_str())).collect();
        let call = self.call(Op::GetObject, target, &query, HeaderMap::new())?;
        let action = Op::GetObject.action(what != Sight::Now);
        let which = id.as_deref().map(named).transpose()?;
        let verdict = call.verdict_on(bucket, action, key, which).await?;
        if verdict == Verdict::Denied {
            return Err(Code::AccessDenied.into());
        }
        Ok(Reading { call, bucket: bucket.clone(), verdict })
    }

    /// Lets the user list a bucket.
    ///
    /// # Errors
    /// If it may not.
    pub fn list(&self, op: Op, bucket: &Bucket, (prefix, delimiter): (&str, &str), limit: u32) -> Result<()> {
        let limit = limit.to_string();
        let query = [("prefix", prefix), ("delimiter", delimiter), ("max-keys", &limit)];
        let call = self.call(op, Target::Bucket(bucket.name().to_owned()), &query, HeaderMap::new())?;
        call.allow_bucket(bucket, Some(Permission::Read))
    }

    /// Whether the user may know that this bucket is there.
    pub fn sees(&self, bucket: &Bucket) -> bool {
        let call = self.of_bucket(Op::HeadBucket, bucket.name());
        bucket.record().state == BucketState::Open
            && call.is_ok_and(|call| call.owns(bucket) || call.allow_bucket(bucket, Some(Permission::Read)).is_ok())
    }

    /// Lets the bucket's owner, and who may do everything, go on.
    ///
    /// # Errors
    /// If it is somebody else.
    pub fn own(&self, bucket: &Bucket) -> Result<()> {
        let owns = self.of_bucket(Op::HeadBucket, bucket.name())?.owns(bucket);
        if owns { Ok(()) } else { Err(Code::AccessDenied.into()) }
    }

    /// Lets the user have one more bucket.
    ///
    /// # Errors
    /// If it has too many.
    pub fn add_bucket(&self) -> Result<()> {
        bucket::check_count(&self.gateway.cluster().map(), self.user())
    }

    /// Removes an empty bucket.
    ///
    /// # Errors
    /// If the user may not, or it isn't empty.
    pub async fn remove_bucket(&self, name: &str) -> Result<()> {
        bucket::delete(&self.of_bucket(Op::DeleteBucket, name)?).await.map(drop)
    }
}

/// Which of a key's states somebody wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// What is there now.
    Now,
    /// This version.
    Version(Which),
    /// What was there at some time.
    Past,
}

impl Reading {
    /// Lets the user see this version.
    ///
    /// # Errors
    /// If it may not.
    pub fn show(&self, version: &Version) -> Result<()> {
        self.call.allow_object(&self.bucket, version, self.verdict, Permission::Read)
    }

    /// Lets the user know that there is nothing.
    ///
    /// # Errors
    /// If it may not know what there is.
    pub fn show_nothing(&self) -> Result<()> {
        let missing = self.call.missing(&self.bucket, self.call.key(), self.verdict, Code::NoSuchKey.into());
        if missing.code() == Code::NoSuchKey { Ok(()) } else { Err(missing) }
    }
}

/// What is stated, as headers of S3: what these can't carry, S3's clients would never see again.
///
/// # Errors
/// What can't be carried.
pub fn headers(stated: &Stated) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in &stated.headers {
        let small = name.to_ascii_lowercase();
        if !object::is_kept(&small) {
            return Err(unfit("the header", name, "isn't kept with an object; put it into metadata"));
        }
        insert(&mut headers, &small, value)?;
    }
    for (name, value) in &stated.metadata {
        if name.to_ascii_lowercase() != *name {
            return Err(unfit("the metadata", name, "is to be in small letters"));
        }
        insert(&mut headers, &format!("{}{name}", object::META), value)?;
    }
    if !stated.tags.is_empty() {
        let tag = |(name, value): &Pair| format!("{}={}", encode(name, Slash::Encoded), encode(value, Slash::Encoded));
        let tags: Vec<String> = stated.tags.iter().map(tag).collect();
        insert(&mut headers, "x-amz-tagging", &tags.join("&"))?;
    }
    if let Some(retention) = stated.lock.retention {
        let until = date::iso(retention.until);
        if date::read_iso(&until) != Some(retention.until) {
            return Err(unfit("the retention until", &retention.until.to_string(), "is beyond all dates"));
        }
        let is_strict = retention.mode == LockMode::Compliance;
        insert(&mut headers, "x-amz-object-lock-mode", if is_strict { "COMPLIANCE" } else { "GOVERNANCE" })?;
        insert(&mut headers, "x-amz-object-lock-retain-until-date", &until)?;
    }
    if stated.lock.legal_hold {
        insert(&mut headers, "x-amz-object-lock-legal-hold", "ON")?;
    }
    Ok(headers)
}

fn insert(headers: &mut HeaderMap, name: &str, value: &str) -> Result<()> {
    let key = HeaderName::from_bytes(name.as_bytes());
    let key = key.map_err(|_| unfit("the name", name, "can't be that of a header"))?;
    let kept = HeaderValue::from_bytes(value.as_bytes()).ok().filter(|_| value.trim() == value);
    let kept =
        kept.ok_or_else(|| unfit("the value of", name, "has characters that no header can have, or spaces around it"))?;
    // S3 has room for so many only.
    match headers.try_insert(key, kept) {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err(unfit("the name", name, "comes twice")),
        Err(_) => Err(Code::MetadataTooLarge.into()),
    }
}
