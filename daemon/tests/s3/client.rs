//! A client that signs: written apart from the gateway, so that both can't be wrong in the same way unseen.

use std::net::SocketAddr;

use bytes::Bytes;
use cairn_io::net::Stream;
use cairn_io::task::{Class, spawn};
use cairn_io::time::{self, Duration};
use futures_util::{AsyncReadExt, AsyncWriteExt};
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request, StatusCode};
use sha2::{Digest, Sha256};

/// Who asks.
#[derive(Clone, Debug)]
pub struct Client {
    pub at: SocketAddr,
    pub access: String,
    pub secret: String,
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    /// The text of the first element of a name.
    pub fn element(&self, name: &str) -> Option<String> {
        let text = self.text();
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0.to_owned())
    }

    /// The texts of all elements of a name.
    pub fn elements(&self, name: &str) -> Vec<String> {
        let (text, begin) = (self.text(), format!("<{name}>"));
        let rest = text.split(&begin).skip(1);
        rest.filter_map(|rest| Some(rest.split_once(&format!("</{name}>"))?.0.to_owned())).collect()
    }

    /// The code of an error.
    pub fn code(&self) -> String {
        self.element("Code").unwrap_or_else(|| format!("{} without a code: {}", self.status, self.text()))
    }

    /// Fails unless it has this status.
    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        self
    }

    /// Fails unless it is this error.
    #[track_caller]
    pub fn fails(self, status: u16, code: &str) -> Self {
        assert_eq!((self.status.as_u16(), self.code().as_str()), (status, code), "{}", self.text());
        self
    }
}

pub fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

pub fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes))
}

/// The time as signatures have it.
pub fn stamp(millis: u64) -> String {
    let text = time::WallTime::from_unix_nanos(millis * 1_000_000).to_string();
    let digits: String = text.chars().filter(|char| !matches!(char, '-' | ':')).take(15).collect();
    format!("{digits}Z")
}

pub fn now() -> u64 {
    (time::wall().as_unix_nanos() / 1_000_000) as u64
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// What a signature needs to be made again for chunks.
#[derive(Clone, Debug)]
pub struct Signed {
    pub key: Vec<u8>,
    pub stamp: String,
    pub scope: String,
    pub signature: String,
}

impl Client {
    pub fn key(&self, day: &str) -> Vec<u8> {
        let date = hmac(format!("AWS4{}", self.secret).as_bytes(), day);
        let region = hmac(&date, "us-east-1");
        hmac(&hmac(&region, "s3"), "aws4_request")
    }

    /// Headers with a signature made at some time.
    pub fn sign(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        payload: &str,
        at: u64,
    ) -> (Vec<(String, String)>, Signed) {
        let stamp = stamp(at);
        let mut all: Vec<(String, String)> =
            headers.iter().map(|(name, value)| (name.to_lowercase(), (*value).to_owned())).collect();
        if !headers.iter().any(|(name, _)| *name == "host") {
            all.push(("host".to_owned(), self.at.to_string()));
        }
        all.push(("x-amz-date".to_owned(), stamp.clone()));
        all.push(("x-amz-content-sha256".to_owned(), payload.to_owned()));
        all.sort();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut pairs: Vec<(&str, &str)> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .collect();
        pairs.sort_unstable();
        let query: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        let lines: String = all.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
        let canonical = format!("{method}\n{path}\n{}\n{lines}\n{}\n{payload}", query.join("&"), names.join(";"));
        let scope = format!("{}/us-east-1/s3/aws4_request", &stamp[..8]);
        let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", sha256(canonical.as_bytes()));
        let key = self.key(&stamp[..8]);
        let signature = hex(hmac(&key, &text));
        let value = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={}, Signature={signature}",
            self.access,
            names.join(";")
        );
        all.push(("authorization".to_owned(), value));
        (all, Signed { key, stamp, scope, signature })
    }

    /// A presigned target.
    pub fn presign(&self, method: &str, path: &str, expires: u64, at: u64) -> String {
        let stamp = stamp(at);
        let scope = format!("{}/us-east-1/s3/aws4_request", &stamp[..8]);
        let credential = encoded(&format!("{}/{scope}", self.access));
        let query = format!(
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date={stamp}&X-Amz-Expires={expires}&X-Amz-SignedHeaders=host"
        );
        let canonical = format!("{method}\n{path}\n{query}\nhost:{}\n\nhost\nUNSIGNED-PAYLOAD", self.at);
        let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", sha256(canonical.as_bytes()));
        format!("{path}?{query}&X-Amz-Signature={}", hex(hmac(&self.key(&stamp[..8]), &text)))
    }

    /// Signs a request and sends it.
    pub async fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
        let body = body.into();
        let (headers, _) = self.sign(method, target, headers, &sha256(&body), now());
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        bare(self.at, method, target, &headers, body).await
    }

    pub async fn get(&self, target: &str) -> Reply {
        self.send("GET", target, &[], "").await
    }

    pub async fn put(&self, target: &str, body: impl Into<Bytes>) -> Reply {
        self.send("PUT", target, &[], body).await
    }

    pub async fn delete(&self, target: &str) -> Reply {
        self.send("DELETE", target, &[], "").await
    }

    /// Makes a bucket.
    pub async fn bucket(&self, name: &str) {
        self.put(&format!("/{name}"), "").await.is(200);
    }
}

/// Sends a request as it is.
pub async fn bare(
    at: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Reply {
    let stream = Stream::connect(at).await.expect("connected");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.expect("a connection");
    let _connection = spawn(Class::Foreground, connection);
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", at.to_string());
    }
    let request = request.body(Full::new(body.into())).expect("a request");
    let response = time::timeout(Duration::from_secs(30), sender.send_request(request))
        .await
        .expect("in time")
        .expect("an answer");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    Reply { status: parts.status, headers: parts.headers, body }
}

/// Sends bytes and returns what comes back until the server closes or is silent.
pub async fn raw(at: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = Stream::connect(at).await.expect("connected");
    // It may close before it has read all.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let mut piece = vec![0; 64 << 10];
    while let Ok(Ok(read @ 1..)) = time::timeout(Duration::from_millis(700), stream.read(&mut piece)).await {
        answer.extend_from_slice(&piece[..read]);
        if is_whole(&answer) {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| {
        line.to_lowercase().strip_prefix("content-length: ").and_then(|text| text.parse::<usize>().ok())
    });
    length.is_some_and(|length| body.len() >= length)
}
