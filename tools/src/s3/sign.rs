//! Signatures of AWS, version 4, in the `Authorization` header. It signs what it is given and knows no operation.

use std::cell::RefCell;
use std::fmt::{self, Write};

use cairn_io::time::WallTime;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// What a server is told instead of a body's hash when the body isn't signed.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Who asks. Its secret is never shown.
#[derive(Clone)]
pub struct Credentials {
    access_key: String,
    secret_key: String,
}

impl Credentials {
    /// Of a key and its secret.
    pub fn new(access_key: String, secret_key: String) -> Self {
        Self { access_key, secret_key }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

/// What of a body is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// Its hash: the server refuses other bytes.
    Signed(&'a [u8]),
    /// Nothing.
    Unsigned,
}

impl Payload<'_> {
    fn hash(self) -> String {
        match self {
            Self::Signed(bytes) => hex(&Sha256::digest(bytes)),
            Self::Unsigned => UNSIGNED.to_owned(),
        }
    }
}

/// What is signed of a request.
#[derive(Clone, Copy, Debug)]
pub struct Signable<'a> {
    /// As `GET`.
    pub method: &'a str,
    /// Percent-encoded, as it is sent.
    pub path: &'a str,
    /// As [`query`] makes it.
    pub query: &'a str,
    /// Names in lower case; `host` is among them.
    pub headers: &'a [(String, String)],
    /// The body.
    pub payload: Payload<'a>,
}

/// Signs requests.
#[derive(Debug)]
pub struct Signer {
    credentials: Credentials,
    region: String,
    /// The key of a day, as each request of that day needs it.
    day_key: RefCell<Option<(String, [u8; 32])>>,
}

impl Signer {
    /// Signs with these credentials for a region.
    pub fn new(credentials: Credentials, region: String) -> Self {
        Self { credentials, region, day_key: RefCell::default() }
    }

    /// The headers that a request needs beside its own.
    pub fn sign(&self, request: &Signable<'_>, at: WallTime) -> Vec<(String, String)> {
        let time = compact(at);
        let day = &time[..8];
        let payload_hash = request.payload.hash();
        let added = [("x-amz-content-sha256", payload_hash.as_str()), ("x-amz-date", time.as_str())];
        let mut headers: Vec<(&str, &str)> =
            request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain(added).collect();
        headers.sort_unstable();
        let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let canonical = canonical(request, &headers, &names, &payload_hash);
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let to_sign = format!("{ALGORITHM}\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
        let signature = hex(&mac(&self.day_key(day), to_sign.as_bytes()));
        let access_key = &self.credentials.access_key;
        let authorization =
            format!("{ALGORITHM} Credential={access_key}/{scope},SignedHeaders={names},Signature={signature}");
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        added.into_iter().map(own).chain([("authorization".to_owned(), authorization)]).collect()
    }

    fn day_key(&self, day: &str) -> [u8; 32] {
        if let Some((of, key)) = &*self.day_key.borrow()
            && of == day
        {
            return *key;
        }
        let secret = format!("AWS4{}", self.credentials.secret_key);
        let words = [day, &self.region, "s3", "aws4_request"];
        let key = words.iter().fold(secret.into_bytes(), |key, word| mac(&key, word.as_bytes()).to_vec());
        let key = <[u8; 32]>::try_from(key).expect("a hash has 32 bytes");
        self.day_key.replace(Some((day.to_owned(), key)));
        key
    }
}

fn canonical(request: &Signable<'_>, headers: &[(&str, &str)], names: &str, payload_hash: &str) -> String {
    let mut text = format!("{}\n{}\n{}\n", request.method, request.path, request.query);
    for (name, value) in headers {
        // Runs of spaces count as one.
        let value = value.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        let _ = writeln!(text, "{name}:{value}");
    }
    let _ = write!(text, "\n{names}\n{payload_hash}");
    text
}

fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key may have any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// As `20130524T000000Z`.
fn compact(at: WallTime) -> String {
    let text = at.to_string();
    let whole = text.split('.').next().unwrap_or_default();
    let digits: String = whole.chars().filter(|letter| !matches!(letter, '-' | ':' | 'Z')).collect();
    format!("{digits}Z")
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Percent-encodes everything but letters, digits and `-._~`, and slashes if they are to be kept.
fn encode(text: &str, slash: Slash) -> String {
    let mut encoded = String::with_capacity(text.len());
    for &byte in text.as_bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || byte == b'/' && slash == Slash::Kept;
        if plain {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Slash {
    Kept,
    Encoded,
}

/// The path of a bucket or an object, as requests have it.
pub fn path(bucket: &str, key: &str) -> String {
    match (bucket, key) {
        ("", _) => "/".to_owned(),
        (bucket, "") => format!("/{}", encode(bucket, Slash::Kept)),
        (bucket, key) => format!("/{}/{}", encode(bucket, Slash::Kept), encode(key, Slash::Kept)),
    }
}

/// A query string as it is signed and sent: encoded, in order.
pub fn query(pairs: &[(&str, String)]) -> String {
    let encoded = |(name, value): &(&str, String)| (encode(name, Slash::Encoded), encode(value, Slash::Encoded));
    let mut pairs: Vec<(String, String)> = pairs.iter().map(encoded).collect();
    pairs.sort_unstable();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples in "Authenticating Requests: Using the Authorization Header" of the S3 API reference.
    fn signature(method: &str, path: &str, query: &str, headers: &[(&str, &str)], payload: &[u8]) -> String {
        let credentials =
            Credentials::new("AKIAIOSFODNN7EXAMPLE".to_owned(), "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned());
        let signer = Signer::new(credentials, "us-east-1".to_owned());
        let host = [("host", "examplebucket.s3.amazonaws.com")];
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let headers: Vec<_> = host.iter().chain(headers).map(own).collect();
        let request = Signable { method, path, query, headers: &headers, payload: Payload::Signed(payload) };
        let at = WallTime::from_unix_nanos(1_369_353_600_000_000_000);
        let signed = signer.sign(&request, at);
        let (_, authorization) = signed.iter().find(|(name, _)| name == "authorization").expect("it is signed");
        authorization.rsplit('=').next().unwrap_or_default().to_owned()
    }

    #[test]
    fn a_range_is_signed_as_aws_does() {
        let signed = signature("GET", "/test.txt", "", &[("range", "bytes=0-9")], b"");
        assert_eq!(signed, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
    }

    #[test]
    fn a_put_is_signed_as_aws_does() {
        let headers = [("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")];
        let path = encode("/test$file.text", Slash::Kept);
        let signed = signature("PUT", &path, "", &headers, b"Welcome to Amazon S3.");
        assert_eq!(signed, "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
    }

    #[test]
    fn a_query_without_a_value_is_signed_as_aws_does() {
        let signed = signature("GET", "/", &query(&[("lifecycle", String::new())]), &[], b"");
        assert_eq!(signed, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
    }

    #[test]
    fn a_listing_is_signed_as_aws_does() {
        let query = query(&[("prefix", "J".to_owned()), ("max-keys", "2".to_owned())]);
        let signed = signature("GET", "/", &query, &[], b"");
        assert_eq!(signed, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
    }

    #[test]
    fn keys_are_encoded_once_and_slashes_kept() {
        assert_eq!(path("b", "a/ü +%.txt"), "/b/a/%C3%BC%20%2B%25.txt");
        assert_eq!(path("b", ""), "/b");
        assert_eq!(path("", ""), "/");
        assert_eq!(query(&[("prefix", "a/b c".to_owned()), ("acl", String::new())]), "acl=&prefix=a%2Fb%20c");
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?}", Credentials::new("key".to_owned(), "hush".to_owned()));
        assert!(shown.contains("key") && !shown.contains("hush"), "{shown}");
    }
}
