//! What somebody may do: the bucket's policy, its owner, its and its objects' access control lists, and what its owner blocked.
//!
//! | who | may, unless the policy denies it |
//! | --- | --- |
//! | a user with the rights `admin` | everything, whatever the policy says |
//! | the bucket's owner | everything in it |
//! | whoever the policy allows it | that |
//! | whoever the list of the bucket or the object grants it | that |
//! | everybody else | nothing |

pub mod acl;
pub mod policy;

use std::rc::Rc;

use cairn_meta::slot::command::Which;
use cairn_meta::version::{Pair, Version};

use acl::{Acl, Permission};
use policy::{Asked, Effect, Policy};

use super::Gateway;
use super::call::{Bucket, Call};
use super::error::{Code, Result, S3Error};

/// Of a user who may do everything.
pub const ADMIN: &str = "admin";

/// Documents of a bucket that say who may do what.
pub mod document {
    /// The policy.
    pub const POLICY: &str = "policy";
    /// The access control list.
    pub const ACL: &str = "acl";
    /// Which access is blocked although lists or policies grant it.
    pub const BLOCK: &str = "public-access-block";
    /// Whose objects are.
    pub const OWNERSHIP: &str = "ownership";
}

/// Header of a version that keeps its list.
pub const ACL_HEADER: &str = "x-cairn-acl";

/// What policy and ownership say already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Allowed,
    /// No.
    Denied,
    /// A list may say so.
    Open,
}

impl Call {
    /// Whether this is the bucket's owner, or may do everything.
    pub fn owns(&self, bucket: &Bucket) -> bool {
        self.is_admin() || self.who.user() == Some(bucket.record().owner.as_str())
    }

    /// Whether this may do everything.
    pub fn is_admin(&self) -> bool {
        let Some(name) = self.who.user() else { return false };
        self.map().user(name).is_some_and(|user| user.rights == ADMIN)
    }

    /// What policy and ownership say of an action.
    ///
    /// # Errors
    /// If the policy can't be read.
    pub fn verdict(&self, bucket: &Bucket, action: &str, key: Option<&str>) -> Result<Verdict> {
        let asked = Asked { call: self, bucket: bucket.name(), action, key, prefix: None, tags: &[] };
        self.judge(bucket, self.gateway.policy_of(bucket)?.as_deref(), &asked)
    }

    /// What policy and ownership say of an action on an object whose tags the policy may ask for.
    ///
    /// # Errors
    /// If the policy can't be read, or the object.
    pub async fn verdict_on(&self, bucket: &Bucket, action: &str, key: &str, which: Option<Which>) -> Result<Verdict> {
        let policy = self.gateway.policy_of(bucket)?;
        let tags = match &policy {
            Some(policy) if policy.asks_for_tags() => self.tags_there(bucket, key, which).await?,
            _ => vec![],
        };
        let asked = Asked { call: self, bucket: bucket.name(), action, key: Some(key), prefix: None, tags: &tags };
        self.judge(bucket, policy.as_deref(), &asked)
    }

    async fn tags_there(&self, bucket: &Bucket, key: &str, which: Option<Which>) -> Result<Vec<Pair>> {
        match self.read(bucket, key, which).await {
            Ok(found) => Ok(found.version.content.tags),
            Err(error) if matches!(error.code(), Code::NoSuchKey | Code::NoSuchVersion) => Ok(vec![]),
            Err(error) => Err(error),
        }
    }

    fn judge(&self, bucket: &Bucket, policy: Option<&Policy>, asked: &Asked<'_>) -> Result<Verdict> {
        let action = asked.action;
        if self.is_admin() {
            return Ok(Verdict::Allowed);
        }
        let is_owner = self.owns(bucket);
        // Else an owner could lock itself out for ever.
        let is_rescue =
            is_owner && matches!(action, "s3:GetBucketPolicy" | "s3:PutBucketPolicy" | "s3:DeleteBucketPolicy");
        if let Some(policy) = policy.filter(|_| !is_rescue) {
            let blocked = blocks(bucket);
            match policy.effect(asked) {
                Some(Effect::Deny) => return Ok(Verdict::Denied),
                Some(Effect::Allow) if is_owner || !(blocked.restrict && policy.is_public()) => {
                    return Ok(Verdict::Allowed);
                }
                _ => {}
            }
        }
        Ok(if is_owner { Verdict::Allowed } else { Verdict::Open })
    }

    /// Lets an action on the bucket go on.
    ///
    /// # Errors
    /// `AccessDenied`.
    pub fn allow_bucket(&self, bucket: &Bucket, permission: Option<Permission>) -> Result<()> {
        self.allow_expected(bucket)?;
        let action = self.op.action(self.head.query.has("versionId"));
        self.allow_named(bucket, action, None, permission)
    }

    /// Lets a write of a key go on.
    ///
    /// # Errors
    /// `AccessDenied`.
    pub fn allow_write(&self, bucket: &Bucket, key: &str) -> Result<()> {
        self.allow_expected(bucket)?;
        let action = self.op.action(self.head.query.has("versionId"));
        self.allow_named(bucket, action, Some(key), Some(Permission::Write))
    }

    /// Lets an action go on, given what the bucket's list must grant otherwise.
    ///
    /// # Errors
    /// `AccessDenied`.
    pub fn allow_named(
        &self,
        bucket: &Bucket,
        action: &str,
        key: Option<&str>,
        permission: Option<Permission>,
    ) -> Result<()> {
        self.admit(bucket, self.verdict(bucket, action, key)?, permission)
    }

    /// Lets an action go on of which policy and ownership say this.
    ///
    /// # Errors
    /// `AccessDenied`.
    pub fn admit(&self, bucket: &Bucket, verdict: Verdict, permission: Option<Permission>) -> Result<()> {
        match verdict {
            Verdict::Allowed => Ok(()),
            Verdict::Denied => Err(Code::AccessDenied.into()),
            Verdict::Open => {
                let granted = permission
                    .is_some_and(|permission| bucket_acl(bucket).grants(self.who.user(), permission, ignores(bucket)));
                if granted { Ok(()) } else { Err(Code::AccessDenied.into()) }
            }
        }
    }

    /// Lets an action on an object go on that its own list may grant.
    ///
    /// # Errors
    /// `AccessDenied`.
    pub fn allow_object(
        &self,
        bucket: &Bucket,
        version: &Version,
        verdict: Verdict,
        permission: Permission,
    ) -> Result<()> {
        match verdict {
            Verdict::Allowed => Ok(()),
            Verdict::Denied => Err(Code::AccessDenied.into()),
            Verdict::Open => {
                let granted = object_acl(bucket, version).grants(self.who.user(), permission, ignores(bucket));
                if granted { Ok(()) } else { Err(Code::AccessDenied.into()) }
            }
        }
    }

    /// What is said of an object that isn't there: that, to those who may list; to others only that they may not know.
    pub fn missing(&self, bucket: &Bucket, key: &str, verdict: Verdict, error: S3Error) -> S3Error {
        let may_list = || {
            let action = "s3:ListBucket";
            let asked = Asked { call: self, bucket: bucket.name(), action, key: None, prefix: Some(key), tags: &[] };
            let policy = self.gateway.policy_of(bucket)?;
            self.admit(bucket, self.judge(bucket, policy.as_deref(), &asked)?, Some(Permission::Read))
        };
        let is_missing = matches!(error.code(), Code::NoSuchKey | Code::NoSuchVersion | Code::MethodNotAllowed);
        let is_hidden = is_missing && (verdict == Verdict::Denied || may_list().is_err());
        if is_hidden { Code::AccessDenied.into() } else { error }
    }

    /// Whether the bucket is its whom the client expects.
    ///
    /// # Errors
    /// `AccessDenied`.
    pub fn allow_expected(&self, bucket: &Bucket) -> Result<()> {
        match self.head.only("x-amz-expected-bucket-owner")? {
            Some(expected) if expected != bucket.record().owner => Err(Code::AccessDenied.into()),
            _ => Ok(()),
        }
    }
}

impl Gateway {
    /// The policy of a bucket, read once for each state of its settings.
    fn policy_of(&self, bucket: &Bucket) -> Result<Option<Rc<Policy>>> {
        let Some(text) = bucket.document(document::POLICY) else { return Ok(None) };
        let (id, epoch) = (bucket.record().id, bucket.record().epoch);
        let mut policies = self.0.policies.borrow_mut();
        if let Some((of, policy)) = policies.get(&id)
            && *of == epoch
        {
            return Ok(Some(policy.clone()));
        }
        let policy = Rc::new(Policy::read(text)?);
        policies.insert(id, (epoch, policy.clone()));
        Ok(Some(policy))
    }
}

/// The list of a bucket.
pub fn bucket_acl(bucket: &Bucket) -> Acl {
    let kept = bucket.document(document::ACL).and_then(Acl::read);
    kept.unwrap_or_else(|| Acl::private(&bucket.record().owner))
}

/// The list of an object.
pub fn object_acl(bucket: &Bucket, version: &Version) -> Acl {
    headers_acl(bucket, &version.content.headers)
}

/// The list among the headers of an object, or of an upload that is to be one.
pub fn headers_acl(bucket: &Bucket, headers: &[Pair]) -> Acl {
    let kept = headers.iter().find(|(name, _)| name == ACL_HEADER).and_then(|(_, text)| Acl::read(text));
    kept.unwrap_or_else(|| Acl::private(&bucket.record().owner))
}

/// Whose objects in a bucket are, and whether lists count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Whoever writes one; lists count.
    Writer,
    /// The bucket's owner if the writer's list says so; lists count.
    Preferred,
    /// The bucket's owner; no list counts.
    Enforced,
}

/// Whose objects in this bucket are.
pub fn ownership(bucket: &Bucket) -> Ownership {
    match bucket.document(document::OWNERSHIP) {
        Some("BucketOwnerEnforced") => Ownership::Enforced,
        Some("BucketOwnerPreferred") => Ownership::Preferred,
        _ => Ownership::Writer,
    }
}

/// What is blocked although lists or policies grant it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "S3 has these four switches")]
pub struct Blocks {
    /// Lists that grant something to everybody can't be put.
    pub acls: bool,
    /// What lists grant to everybody doesn't count.
    pub ignore: bool,
    /// Policies that grant something to everybody can't be put.
    pub policy: bool,
    /// What such policies grant doesn't count.
    pub restrict: bool,
}

/// What the bucket's owner blocked.
pub fn blocks(bucket: &Bucket) -> Blocks {
    let Some(text) = bucket.document(document::BLOCK) else { return Blocks::default() };
    let has = |name: &str| text.split(',').any(|one| one == name);
    Blocks { acls: has("acls"), ignore: has("ignore"), policy: has("policy"), restrict: has("restrict") }
}

/// Which grants of lists don't count.
fn ignores(bucket: &Bucket) -> acl::Ignore {
    match (ownership(bucket), blocks(bucket).ignore) {
        (Ownership::Enforced, _) => acl::Ignore::All,
        (_, true) => acl::Ignore::Public,
        (_, false) => acl::Ignore::Nothing,
    }
}
