//! The head of a request: which bucket and key it names, its parameters and headers.

use hyper::header::HeaderMap;
use hyper::http::request::Parts;
use hyper::{Method, Uri};

use super::error::{Code, Result, S3Error};
use super::uri::{Query, decode};

/// Bytes of a key.
pub const KEY_MAX: usize = 1024;

/// What a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// No bucket.
    Service,
    /// A bucket.
    Bucket(String),
    /// A bucket and a key.
    Object(String, String),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Head {
    /// Its method.
    pub method: Method,
    /// As it was sent: signatures are over this.
    pub uri: Uri,
    /// What it names.
    pub target: Target,
    /// Its parameters.
    pub query: Query,
    /// Its headers.
    pub headers: HeaderMap,
}

impl Head {
    /// Reads a head. A host below one of `domains` names the bucket.
    ///
    /// # Errors
    /// `InvalidURI`, `InvalidBucketName`, `KeyTooLongError`.
    pub fn read(parts: Parts, domains: &[String]) -> Result<Self> {
        let Parts { method, uri, headers, .. } = parts;
        let query = Query::parse(uri.query().unwrap_or_default())?;
        let path = decode(uri.path())?;
        let host = host(&uri, &headers);
        let target = match host.and_then(|host| bucket_of_host(host, domains)) {
            Some(bucket) => object(bucket, path.strip_prefix('/').unwrap_or(&path))?,
            None => target(&path)?,
        };
        Ok(Self { method, uri, target, query, headers })
    }

    /// The bucket that it names.
    pub fn bucket(&self) -> Option<&str> {
        match &self.target {
            Target::Service => None,
            Target::Bucket(bucket) | Target::Object(bucket, _) => Some(bucket),
        }
    }

    /// The key that it names; empty if it names none.
    pub fn key(&self) -> &str {
        match &self.target {
            Target::Object(_, key) => key,
            Target::Service | Target::Bucket(_) => "",
        }
    }

    /// A header as text; `None` if it isn't there or is no text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let value = self.headers.get(name)?;
        std::str::from_utf8(value.as_bytes()).ok()
    }

    /// A header as text.
    ///
    /// # Errors
    /// If there are several, which can't all be meant, or it is no text.
    pub fn only(&self, name: &str) -> Result<Option<&str>> {
        let mut values = self.headers.get_all(name).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let text = std::str::from_utf8(value.as_bytes()).ok().filter(|_| values.next().is_none());
        text.map(|text| Some(text.trim())).ok_or_else(|| S3Error::argument(name, "", "The header is not valid."))
    }

    /// The length of its body, as it states it.
    ///
    /// # Errors
    /// If it states something else than a number.
    pub fn content_length(&self) -> Result<Option<u64>> {
        number(self.only("content-length")?, "Content-Length")
    }
}

/// Reads a number that a client stated.
///
/// # Errors
/// `InvalidArgument` if it is none.
pub fn number<T: std::str::FromStr>(text: Option<&str>, name: &str) -> Result<Option<T>> {
    let Some(text) = text else { return Ok(None) };
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let read = text.parse().ok().filter(|_| is_plain);
    read.map(Some)
        .ok_or_else(|| S3Error::argument(name, text, format!("Provided {name} not an integer or within integer range")))
}

fn host<'h>(uri: &'h Uri, headers: &'h HeaderMap) -> Option<&'h str> {
    uri.host().or_else(|| headers.get("host").and_then(|host| host.to_str().ok()))
}

/// Whether a request is for a host below one of these domains.
pub fn is_below(parts: &Parts, domains: &[String]) -> bool {
    !domains.is_empty() && host(&parts.uri, &parts.headers).is_some_and(|host| bucket_of_host(host, domains).is_some())
}

fn bucket_of_host<'h>(host: &'h str, domains: &[String]) -> Option<&'h str> {
    let host = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
        .map_or(host, |(name, _)| name);
    domains.iter().find_map(|domain| below(host, domain))
}

/// What is before a domain in a host's name, whose letters count the same large and small.
fn below<'h>(host: &'h str, domain: &str) -> Option<&'h str> {
    let (before, rest) = host.split_at_checked(host.len().checked_sub(domain.len())?)?;
    before.strip_suffix('.').filter(|_| rest.eq_ignore_ascii_case(domain))
}

fn target(path: &str) -> Result<Target> {
    let path = path.strip_prefix('/').unwrap_or(path);
    match path.split_once('/') {
        None if path.is_empty() => Ok(Target::Service),
        None => object(path, ""),
        Some((bucket, key)) => object(bucket, key),
    }
}

fn object(bucket: &str, key: &str) -> Result<Target> {
    // Names that no bucket can have are not looked up; which are allowed is for control to say.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if bucket.is_empty() || bucket.len() > 255 || !bucket.bytes().all(is_plain) {
        return Err(S3Error::from(Code::InvalidBucketName).with("BucketName", bucket));
    }
    match key.len() {
        0 => Ok(Target::Bucket(bucket.to_owned())),
        1..=KEY_MAX => Ok(Target::Object(bucket.to_owned(), key.to_owned())),
        size => Err(S3Error::from(Code::KeyTooLongError)
            .with("Size", size.to_string())
            .with("MaxSizeAllowed", KEY_MAX.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(uri: &str, host: &str) -> Result<Head> {
        let request = hyper::Request::builder().uri(uri).header("host", host).body(()).unwrap();
        Head::read(request.into_parts().0, &["s3.example".to_owned()])
    }

    #[test]
    fn paths_and_hosts_name_buckets_and_keys() {
        let object = |bucket: &str, key: &str| Target::Object(bucket.to_owned(), key.to_owned());
        let cases = [
            ("/", "x", Target::Service),
            ("/b1", "x", Target::Bucket("b1".to_owned())),
            ("/b1/", "x", Target::Bucket("b1".to_owned())),
            ("/b1/a/b", "x", object("b1", "a/b")),
            ("/b1//a", "x", object("b1", "/a")),
            ("/b1/a%20b+c", "s3.example:9000", object("b1", "a b+c")),
            ("/a/b", "b.1.s3.example:9000", object("b.1", "a/b")),
            ("/", "b1.s3.example", Target::Bucket("b1".to_owned())),
            ("/k", "b1.S3.Example", object("b1", "k")),
            ("/b1", "s3.example", Target::Bucket("b1".to_owned())),
            ("/b1", "ü3.example", Target::Bucket("b1".to_owned())),
            ("/b1", "b1.s3.example.org", Target::Bucket("b1".to_owned())),
        ];
        for (uri, host, expected) in cases {
            assert_eq!(read(uri, host).unwrap().target, expected, "{uri} at {host}");
        }
    }

    #[test]
    fn what_no_bucket_and_key_can_be_is_said() {
        let code = |uri: &str| read(uri, "x").unwrap_err().code();
        assert_eq!(code("//k"), Code::InvalidBucketName);
        assert_eq!(code("/b%2fc/k%00%zz"), Code::InvalidURI);
        assert_eq!(code("/b%ff/k"), Code::InvalidURI);
        assert_eq!(code(&format!("/b/{}", "k".repeat(1025))), Code::KeyTooLongError);
        assert!(read(&format!("/b/{}", "k".repeat(1024)), "x").is_ok());
    }
}
