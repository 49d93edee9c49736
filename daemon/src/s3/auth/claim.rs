//! What a request says about its signature, and what that is a signature of.

use std::borrow::Cow;

use crate::s3::date;
use crate::s3::error::{Code, Result, S3Error};
use crate::s3::hash::{hex, sha256};
use crate::s3::head::Head;
use crate::s3::uri::{Slash, decode, encode};

use super::{Realm, SKEW_MAX, SigningKey, matches};

/// The only way of signing that is taken.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// A presigned URL holds a week at most.
const EXPIRES_MAX: u64 = 7 * 24 * 3600;
/// Headers that a signature must cover if they are there.
const COVERED: &str = "x-amz-";

/// For what a key is derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope<'h> {
    /// All of it, as it is stated.
    pub credential: &'h str,
    /// The public half of the access key.
    pub access: &'h str,
    /// The day, as `20130524`.
    pub date: &'h str,
    /// The region.
    pub region: &'h str,
    /// Always `s3`.
    pub service: &'h str,
}

impl<'h> Scope<'h> {
    /// Reads a credential; `None` if it is none.
    pub fn read(credential: &'h str) -> Option<Self> {
        let mut parts = credential.rsplitn(5, '/');
        let end = parts.next()?;
        let (service, region, date) = (parts.next()?, parts.next()?, parts.next()?);
        let access = parts.next().filter(|access| !access.is_empty())?;
        (end == "aws4_request").then_some(Self { credential, access, date, region, service })
    }

    /// As it is signed: all but the access key.
    pub fn text(&self) -> &'h str {
        &self.credential[self.access.len() + 1..]
    }
}

/// Where a request carries its signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the header `Authorization`.
    Header,
    /// In the query.
    Query {
        /// How long it holds, in seconds.
        expires: u64,
    },
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Claim<'h> {
    /// For what the key is derived.
    pub scope: Scope<'h>,
    /// Headers that the signature covers, in small letters, in their order, with semicolons between them.
    pub headers: &'h str,
    /// The signature, in hexadecimal digits.
    pub signature: &'h str,
    /// When it was made, in milliseconds.
    pub time: u64,
    /// The same as it was stated.
    pub stated_time: Cow<'h, str>,
    /// Where it was.
    pub place: Place,
}

impl<'h> Claim<'h> {
    /// What a request says; `None`: it isn't signed.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn of(head: &'h Head) -> Result<Option<Self>> {
        let in_query = head.query.has("X-Amz-Algorithm")
            || head.query.has("X-Amz-Signature")
            || head.query.has("X-Amz-Credential");
        let header = head.only("authorization")?;
        match (header, in_query) {
            (Some(_), true) => Err(S3Error::argument(
                "Authorization",
                "",
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified",
            )),
            (Some(""), false) => Err(Code::AccessDenied.into()),
            (Some(text), false) => Self::of_header(head, text).map(Some),
            (None, true) => Self::of_query(head).map(Some),
            (None, false) => Ok(None),
        }
    }

    fn of_header(head: &'h Head, text: &'h str) -> Result<Self> {
        let malformed = |what: &str| {
            Code::AuthorizationHeaderMalformed.says(format!("The authorization header is malformed; {what}"))
        };
        let (algorithm, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        if algorithm != ALGORITHM {
            return Err(S3Error::argument("Authorization", "", "Unsupported Authorization Type"));
        }
        let field = |name: &str| {
            let fields = rest.split(',').filter_map(|field| field.trim().split_once('='));
            fields.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value)
        };
        let credential = field("Credential").ok_or_else(|| malformed("it has no Credential"))?;
        let scope = Scope::read(credential).ok_or_else(|| {
            malformed("the Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\"")
        })?;
        let headers = field("SignedHeaders").ok_or_else(|| malformed("it has no SignedHeaders"))?;
        let signature = field("Signature").ok_or_else(|| malformed("it has no Signature"))?;
        let (time, stated_time) = time_of_header(head)?;
        Ok(Self { scope, headers, signature, time, stated_time, place: Place::Header })
    }

    fn of_query(head: &'h Head) -> Result<Self> {
        let malformed = |what: String| Code::AuthorizationQueryParametersError.says(what);
        let field = |name: &str| {
            head.query.get(name).ok_or_else(|| {
                malformed("Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.".to_owned())
            })
        };
        if field("X-Amz-Algorithm")? != ALGORITHM {
            return Err(malformed(format!("X-Amz-Algorithm only supports \"{ALGORITHM}\"")));
        }
        let scope = Scope::read(field("X-Amz-Credential")?).ok_or_else(|| {
            malformed("Error parsing the X-Amz-Credential parameter; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\"".to_owned())
        })?;
        let stated_time = field("X-Amz-Date")?;
        let time = date::read_compact(stated_time).ok_or_else(|| {
            malformed("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"".to_owned())
        })?;
        let expires: u64 =
            field("X-Amz-Expires")?.parse().map_err(|_| malformed("X-Amz-Expires should be a number".to_owned()))?;
        if expires > EXPIRES_MAX {
            return Err(malformed("X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds".to_owned()));
        }
        let (headers, signature) = (field("X-Amz-SignedHeaders")?, field("X-Amz-Signature")?);
        if head.query.has("X-Amz-Security-Token") {
            return Err(S3Error::not_implemented("A session token"));
        }
        Ok(Self { scope, headers, signature, time, stated_time: stated_time.into(), place: Place::Query { expires } })
    }

    /// Whether it is for this server.
    ///
    /// # Errors
    /// What isn't.
    pub fn check_scope(&self, realm: &Realm) -> Result<()> {
        let wrong = |what: String| match self.place {
            Place::Header => {
                Code::AuthorizationHeaderMalformed.says(format!("The authorization header is malformed; {what}"))
            }
            Place::Query { .. } => Code::AuthorizationQueryParametersError
                .says(format!("Error parsing the X-Amz-Credential parameter; {what}")),
        };
        let Scope { region, service, date, .. } = self.scope;
        if !realm.knows(region) {
            return Err(wrong(format!("the region '{region}' is wrong; expecting '{}'", realm.region))
                .with("Region", realm.region.clone()));
        }
        if service != "s3" {
            return Err(wrong(format!("incorrect service \"{service}\". This endpoint belongs to \"s3\".")));
        }
        if self.stated_time.get(..8) != Some(date) {
            return Err(wrong(format!(
                "Invalid credential date \"{date}\". This date is not the same as X-Amz-Date: \"{}\".",
                self.stated_time
            )));
        }
        Ok(())
    }

    /// What the request's signature is, if this key made it. Clients don't agree on how paths are encoded: as they send them, or as
    /// they should have; `None`: it is neither.
    ///
    /// # Errors
    /// If headers that a signature must cover aren't covered.
    pub fn verify(&self, head: &Head, key: &SigningKey) -> Result<Option<[u8; 32]>> {
        self.check_covered(head)?;
        let sent = head.uri.path();
        let signed = self.sign(head, sent, key)?;
        if matches(&signed, self.signature) {
            return Ok(Some(signed));
        }
        let encoded = encode(&decode(sent)?, Slash::Kept);
        let signed = if encoded == sent { signed } else { self.sign(head, &encoded, key)? };
        Ok(matches(&signed, self.signature).then_some(signed))
    }

    fn sign(&self, head: &Head, path: &str, key: &SigningKey) -> Result<[u8; 32]> {
        let hash = hex(&sha256(self.canonical_request(head, path)?.as_bytes()));
        Ok(key.sign(&[ALGORITHM, "\n", &self.stated_time, "\n", self.scope.text(), "\n", &hash]))
    }

    /// The request as it is signed, if this is how its path is encoded.
    fn canonical_request(&self, head: &Head, path: &str) -> Result<String> {
        let query = head.query.canonical("X-Amz-Signature");
        let mut whole = String::with_capacity(1024);
        whole.extend([head.method.as_str(), "\n", path, "\n", &query, "\n"]);
        for name in self.headers.split(';') {
            whole.extend([name, ":"]);
            push_values(&mut whole, head, name);
            whole.push('\n');
        }
        let payload = head.only("x-amz-content-sha256")?.unwrap_or("UNSIGNED-PAYLOAD");
        whole.extend(["\n", self.headers, "\n", payload]);
        Ok(whole)
    }

    fn check_covered(&self, head: &Head) -> Result<()> {
        let is_covered = |name: &str| self.headers.split(';').any(|covered| covered == name);
        let mut uncovered = head.headers.keys().map(hyper::header::HeaderName::as_str).filter(|name| {
            let must = *name == "host" || (name.starts_with(COVERED) && *name != "x-amz-content-sha256");
            must && !is_covered(name)
        });
        match uncovered.next() {
            Some(name) => Err(Code::AccessDenied
                .says("There were headers present in the request which were not signed")
                .with("HeadersNotSigned", name)),
            None => Ok(()),
        }
    }
}

/// The values of a header, trimmed, runs of spaces made one, with commas between them.
fn push_values(into: &mut String, head: &Head, name: &str) {
    for (at, value) in head.headers.get_all(name).iter().enumerate() {
        if at > 0 {
            into.push(',');
        }
        let text = String::from_utf8_lossy(value.as_bytes());
        let mut words = text.trim().split(' ').filter(|word| !word.is_empty());
        into.push_str(words.next().unwrap_or_default());
        words.for_each(|word| into.extend([" ", word]));
    }
}

fn time_of_header(head: &Head) -> Result<(u64, Cow<'_, str>)> {
    let time = stated_date(head)?;
    let stated = head.only("x-amz-date")?.filter(|stated| stated.len() == 16);
    Ok((time, stated.map_or_else(|| date::compact(time).into(), Cow::Borrowed)))
}

/// When a request says that it was signed, in milliseconds.
///
/// # Errors
/// `AccessDenied` if it doesn't.
pub fn stated_date(head: &Head) -> Result<u64> {
    let stated = match head.only("x-amz-date")? {
        Some(stated) => Some(stated),
        None => head.only("date")?,
    };
    let time = stated.and_then(|stated| date::read_compact(stated).or_else(|| date::read_http(stated)));
    time.ok_or_else(|| Code::AccessDenied.says("AWS authentication requires a valid Date or x-amz-date header"))
}

/// Refuses what was signed too long ago, or by a clock that is ahead.
///
/// # Errors
/// `RequestTimeTooSkewed`.
pub fn too_skewed(time: u64, now: u64) -> Result<()> {
    let skew = SKEW_MAX.as_millis() as u64;
    if time.abs_diff(now) <= skew {
        return Ok(());
    }
    Err(S3Error::from(Code::RequestTimeTooSkewed)
        .with("RequestTime", date::compact(time))
        .with("ServerTime", date::iso(now))
        .with("MaxAllowedSkewMilliseconds", skew.to_string()))
}
