//! PostObject: what browsers upload by a form, under a policy that its author signed.

use cairn_meta::version::commit::Mode;
use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::Value;

use super::answer::Answer;
use super::auth::{SKEW_MAX, Scope, SigningKey, Version, Who, matches, old_signature};
use super::body::{Body, Fields};
use super::call::Call;
use super::date;
use super::error::{Code, Result, S3Error};
use super::hash::{hex, unbase64};
use super::head::{KEY_MAX, Target};
use super::object::{Checks, of_request, put_body, quoted, tags_of_xml, written};
use super::uri::{Slash, encode};
use super::xml::Xml;

/// Fields that become headers of the object's, beside those beginning with `x-amz-`.
const HEADERS: [&str; 6] =
    ["cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires"];
/// Fields that a policy need not speak of.
const FREE: [&str; 6] = ["file", "policy", "signature", "awsaccesskeyid", "x-amz-signature", "submit"];

/// Stores what a form brings.
pub async fn post(mut call: Call, body: &mut Body) -> Result<Answer> {
    let kind = call.head.header("content-type").unwrap_or_default().to_owned();
    let mut fields = body.form(&kind).await?;
    // The policy is about the key as it will be.
    let file_name = fields.file_name.clone();
    if let Some((_, key)) = fields.fields.iter_mut().find(|(name, _)| name == "key") {
        *key = key.replace("${filename}", &file_name);
    }
    let bucket = call.bucket()?;
    let gateway = call.gateway.clone();
    let limits = gateway.know_key(|| prove(&mut call, &fields, bucket.name())).await?;
    let key = fields.get("key").filter(|key| !key.is_empty());
    let key = key.ok_or_else(|| {
        S3Error::argument(
            "key",
            "",
            "Bucket POST must contain a field named 'key'.  If it is specified, please check the order of the fields.",
        )
    })?;
    let key = key.to_owned();
    if key.len() > KEY_MAX {
        return Err(Code::KeyTooLongError.into());
    }
    call.head.target = Target::Object(bucket.name().to_owned(), key.clone());
    take_headers(&mut call, &fields)?;
    call.allow_write(&bucket, &key)?;
    let mut content = of_request(&call, &bucket)?;
    if let Some(tagging) = fields.get("tagging") {
        content.tags = tags_of_xml(tagging.as_bytes(), 10)?;
    }
    let checks = Checks::read(&call.head)?;
    let limited = Limited { limits, checks };
    let (stored, commit) = limited.put(&call, &bucket, &key, body, content).await?;
    let etag = hex(&stored);
    Ok(written(answer(&call, &fields, bucket.name(), &key, &etag), &bucket, &commit))
}

/// A body whose length the policy bounds.
struct Limited {
    limits: Option<(u64, u64)>,
    checks: Checks,
}

impl Limited {
    async fn put(
        &self,
        call: &Call,
        bucket: &super::call::Bucket,
        key: &str,
        body: &mut Body,
        content: cairn_meta::version::Content,
    ) -> Result<([u8; 16], crate::cluster::Commit)> {
        body.bound(self.limits);
        let (stored, commit) = put_body(call, bucket, key, body, content, &self.checks, Mode::Overwrite).await?;
        Ok((stored.md5, commit))
    }
}

fn denied(what: &str) -> S3Error {
    Code::AccessDenied.says(format!("Invalid according to Policy: {what}"))
}

/// Finds out who signed the form, and what its policy allows for the file's length.
fn prove(call: &mut Call, fields: &Fields, bucket: &str) -> Result<Option<(u64, u64)>> {
    let Some(policy) = fields.get("policy") else {
        let claims = ["signature", "awsaccesskeyid", "x-amz-signature"].iter().any(|name| fields.get(name).is_some());
        return if claims {
            Err(S3Error::argument("policy", "", "Bucket POST must contain a field named 'policy'."))
        } else {
            Ok(None)
        };
    };
    let signed = if fields.get("x-amz-signature").is_some() {
        of_version_4(call, fields, policy)?
    } else {
        of_version_2(call, fields, policy)?
    };
    call.who = signed;
    Policy::read(policy)?.check(fields, bucket, call.now)
}

fn field<'f>(fields: &'f Fields, name: &str) -> Result<&'f str> {
    fields
        .get(name)
        .ok_or_else(|| S3Error::argument(name, "", format!("Bucket POST must contain a field named '{name}'.")))
}

fn of_version_4(call: &Call, fields: &Fields, policy: &str) -> Result<Who> {
    if field(fields, "x-amz-algorithm")? != "AWS4-HMAC-SHA256" {
        return Err(S3Error::argument("x-amz-algorithm", "", "Only AWS4-HMAC-SHA256 is supported"));
    }
    let credential = field(fields, "x-amz-credential")?;
    let scope = Scope::read(credential)
        .ok_or_else(|| S3Error::argument("x-amz-credential", credential, "The credential is malformed"))?;
    let stamp = field(fields, "x-amz-date")?;
    let time =
        date::read_compact(stamp).ok_or_else(|| S3Error::argument("x-amz-date", stamp, "The date is malformed"))?;
    if time > call.now + SKEW_MAX.as_millis() as u64
        || stamp.get(..8) != Some(scope.date)
        || !call.gateway.knows(scope.region)
        || scope.service != "s3"
    {
        return Err(denied("x-amz-date or x-amz-credential is not valid here"));
    }
    let map = call.map();
    let key = map
        .key(scope.access)
        .ok_or_else(|| S3Error::from(Code::InvalidAccessKeyId).with("AWSAccessKeyId", scope.access))?;
    let signature = SigningKey::derive(&key.secret, &scope).sign(&[policy]);
    if !matches(&signature, field(fields, "x-amz-signature")?) {
        return Err(Code::SignatureDoesNotMatch.into());
    }
    Ok(Who::User { name: key.user.clone(), access: scope.access.to_owned(), signed: Version::New })
}

/// The older way, which forms still use: it signs the policy and nothing else.
fn of_version_2(call: &Call, fields: &Fields, policy: &str) -> Result<Who> {
    let access = field(fields, "awsaccesskeyid")?;
    let stated = field(fields, "signature")?;
    let map = call.map();
    let key = map.key(access).ok_or_else(|| S3Error::from(Code::InvalidAccessKeyId).with("AWSAccessKeyId", access))?;
    if !old_signature(&key.secret, policy, stated) {
        return Err(Code::SignatureDoesNotMatch.into());
    }
    Ok(Who::User { name: key.user.clone(), access: access.to_owned(), signed: Version::Old })
}

/// What the author of a form allows.
struct Policy {
    expires: u64,
    conditions: Vec<Condition>,
}

enum Condition {
    Equals(String, String),
    Begins(String, String),
    Length(u64, u64),
}

impl Policy {
    fn read(text: &str) -> Result<Self> {
        let wrong = |what: &str| Code::InvalidPolicyDocument.says(format!("Invalid Policy: {what}"));
        let bytes = unbase64(text.trim()).ok_or_else(|| wrong("it is not Base64"))?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|_| wrong("Invalid JSON."))?;
        let expires =
            value.get("expiration").and_then(Value::as_str).ok_or_else(|| wrong("Policy missing expiration."))?;
        let expires = date::read_iso(expires).ok_or_else(|| wrong("Invalid 'expiration' value"))?;
        let list =
            value.get("conditions").and_then(Value::as_array).ok_or_else(|| wrong("Policy missing conditions."))?;
        if list.is_empty() {
            return Err(wrong("Policy conditions are empty."));
        }
        let conditions = list.iter().map(Condition::read).collect::<Option<Vec<Vec<Condition>>>>();
        let conditions = conditions.ok_or_else(|| wrong("a condition is malformed"))?.into_iter().flatten().collect();
        Ok(Self { expires, conditions })
    }

    /// Whether a form is as it says; how long its file may be.
    fn check(&self, fields: &Fields, bucket: &str, now: u64) -> Result<Option<(u64, u64)>> {
        if now >= self.expires {
            return Err(denied("Policy expired."));
        }
        let value = |name: &str| if name == "bucket" { Some(bucket) } else { fields.get(name) };
        let mut length = None;
        for condition in &self.conditions {
            match condition {
                Condition::Equals(name, wanted) if value(name) != Some(wanted) => {
                    return Err(denied(&format!("Policy Condition failed: [\"eq\", \"${name}\", \"{wanted}\"]")));
                }
                Condition::Begins(name, wanted)
                    if !value(name).is_some_and(|value| value.starts_with(wanted.as_str())) =>
                {
                    return Err(denied(&format!(
                        "Policy Condition failed: [\"starts-with\", \"${name}\", \"{wanted}\"]"
                    )));
                }
                Condition::Length(min, max) => length = Some((*min, *max)),
                Condition::Equals(..) | Condition::Begins(..) => {}
            }
        }
        let is_covered = |name: &str| {
            self.conditions.iter().any(|one| match one {
                Condition::Equals(known, _) | Condition::Begins(known, _) => known == name,
                Condition::Length(..) => false,
            })
        };
        let must = |name: &str| !FREE.contains(&name) && !name.starts_with("x-ignore-");
        match fields.fields.iter().find(|(name, _)| must(name) && !is_covered(name)) {
            Some((name, _)) => Err(denied(&format!("Extra input fields: {name}"))),
            None => Ok(length),
        }
    }
}

impl Condition {
    /// One condition, or as many as an object has members.
    fn read(value: &Value) -> Option<Vec<Self>> {
        match value {
            Value::Object(pairs) if !pairs.is_empty() => pairs
                .iter()
                .map(|(name, value)| Some(Self::Equals(name.to_ascii_lowercase(), value.as_str()?.to_owned())))
                .collect(),
            Value::Array(parts) => {
                let [what, name, value] = &parts[..] else { return None };
                let what = what.as_str()?.to_ascii_lowercase();
                if what == "content-length-range" {
                    let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
                    return Some(vec![Self::Length(number(name)?, number(value)?)]);
                }
                let (name, value) =
                    (name.as_str()?.strip_prefix('$')?.to_ascii_lowercase(), value.as_str()?.to_owned());
                match what.as_str() {
                    "eq" => Some(vec![Self::Equals(name, value)]),
                    "starts-with" => Some(vec![Self::Begins(name, value)]),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// Fields that say about the object what headers say otherwise.
fn take_headers(call: &mut Call, fields: &Fields) -> Result<()> {
    let headers = &mut call.head.headers;
    headers.remove("content-type");
    let own = fields.file_type.iter().map(|kind| ("content-type", kind.as_str()));
    let said = fields.fields.iter().filter_map(|(name, value)| match name.as_str() {
        "acl" => Some(("x-amz-acl", value.as_str())),
        name if HEADERS.contains(&name) => Some((name, value.as_str())),
        "x-amz-algorithm" | "x-amz-credential" | "x-amz-date" | "x-amz-signature" => None,
        name if name.starts_with("x-amz-") => Some((name, value.as_str())),
        _ => None,
    });
    for (name, value) in own.chain(said) {
        let wrong = || S3Error::argument(name, value, "It can't be a header.");
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| wrong())?;
        headers.insert(name, value);
    }
    super::headers::check(&call.head, call.op)
}

fn answer(call: &Call, fields: &Fields, bucket: &str, key: &str, etag: &str) -> Answer {
    let host = call.head.header("host").unwrap_or("localhost");
    let location = format!("http://{host}/{bucket}/{}", encode(key, Slash::Kept));
    if let Some(to) = fields
        .get("success_action_redirect")
        .or_else(|| fields.get("redirect"))
        .filter(|to| to.starts_with("http://") || to.starts_with("https://"))
    {
        let mark = if to.contains('?') { '&' } else { '?' };
        let params = format!("bucket={bucket}&key={}&etag=%22{etag}%22", encode(key, Slash::Encoded));
        return Answer::status(StatusCode::SEE_OTHER)
            .with("location", format!("{to}{mark}{params}"))
            .with("etag", quoted(etag));
    }
    let answer = match fields.get("success_action_status") {
        Some("200") => Answer::ok(),
        Some("201") => {
            let mut xml = Xml::document();
            xml.open("PostResponse")
                .text("Location", &location)
                .text("Bucket", bucket)
                .text("Key", key)
                .text("ETag", &quoted(etag));
            let mut answer = Answer::xml(xml.end("PostResponse"));
            answer.status = StatusCode::CREATED;
            answer
        }
        _ => Answer::no_content(),
    };
    answer.with("etag", quoted(etag)).with("location", location)
}
