//! Requests to one endpoint: signed, sent over connections that are kept, tried again where that may help.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use cairn_daemon::http::client::{AskError, Connection};
use cairn_io::rng;
use cairn_io::time::{self, Duration, timeout};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, StatusCode};

use super::error::{Refusal, S3Error, printable};
use super::sign::{Payload, Signable, Signer, path, query};

/// The longest answer that is taken whole: a listing, an error.
const ANSWER_MAX: usize = 16 << 20;
/// Within which a connection must be there, an answer begin, and its next bytes come.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
const ANSWER_WITHIN: Duration = Duration::from_mins(2);
const BYTES_WITHIN: Duration = Duration::from_mins(1);
/// A way slower than this for a body is none.
const BYTES_PER_SECOND_MIN: u64 = 64 << 10;
/// How often a request is sent at most.
const TRIES: u32 = 5;
/// The first wait between tries; each is twice the one before.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Connections that wait for the next request.
const IDLE_MAX: usize = 64;

/// Where an S3 server is.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where to connect to.
    pub at: SocketAddr,
    /// Its name and port, as requests name it.
    pub host: String,
}

/// What a request asks for.
#[derive(Clone, Debug)]
pub struct Ask {
    method: Method,
    bucket: String,
    key: String,
    query: Vec<(&'static str, String)>,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Ask {
    /// About a bucket, or about all if its name is empty.
    pub fn bucket(method: Method, bucket: &str) -> Self {
        Self::object(method, bucket, "")
    }

    /// About an object.
    pub fn object(method: Method, bucket: &str, key: &str) -> Self {
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        Self { method, bucket, key, query: vec![], headers: vec![], body: Bytes::new() }
    }

    /// With this in its query.
    #[must_use]
    pub fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// With this in its query, if there is a value.
    #[must_use]
    pub fn maybe_query(self, name: &'static str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    /// With this header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.into()));
        self
    }

    /// With these headers.
    #[must_use]
    pub fn headers(self, headers: &[(String, String)]) -> Self {
        headers.iter().fold(self, |ask, (name, value)| ask.header(name, value))
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }

    /// Whether doing it twice is as good as once: a condition that held may not hold again because of the first time.
    fn is_repeatable(&self) -> bool {
        !self.headers.iter().any(|(name, _)| name.starts_with("if-"))
            || matches!(self.method, Method::GET | Method::HEAD)
    }

    /// That it failed after it was answered 200.
    pub(super) fn failed_late(&self, body: &[u8]) -> S3Error {
        S3Error::Refused(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, body, self.what()))
    }

    fn what(&self) -> String {
        match (self.bucket.as_str(), self.key.as_str()) {
            ("", _) => "the list of buckets".to_owned(),
            (bucket, "") => format!("cairn://{bucket}"),
            (bucket, key) => printable(&format!("cairn://{bucket}/{key}")),
        }
    }

    /// Signs it as of now.
    ///
    /// # Errors
    /// If a header can't be sent.
    pub fn sign(
        &self,
        endpoint: &Endpoint,
        signer: &Signer,
        body: BodySignature,
    ) -> Result<Request<Full<Bytes>>, S3Error> {
        let (path, query) = (path(&self.bucket, &self.key), query(&self.query));
        let mut headers = self.headers.clone();
        headers.push(("host".to_owned(), endpoint.host.clone()));
        let payload = match body {
            BodySignature::Signed => Payload::Signed(&self.body),
            BodySignature::Unsigned => Payload::Unsigned,
        };
        let signable =
            Signable { method: self.method.as_str(), path: &path, query: &query, headers: &headers, payload };
        headers.extend(signer.sign(&signable, time::wall()));
        let uri = if query.is_empty() { path } else { format!("{path}?{query}") };
        let impossible = |error: String| S3Error::Impossible(format!("{} can't be asked for: {error}", self.what()));
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(uri)
            .body(Full::new(self.body.clone()))
            .map_err(|error| impossible(error.to_string()))?;
        for (name, value) in headers {
            let (name, value) = header(&name, &value).map_err(impossible)?;
            request.headers_mut().append(name, value);
        }
        Ok(request)
    }
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is no name of a header"))?;
    let value = HeaderValue::from_str(value)
        .map_err(|_| format!("the header {name} can't have the value {value:?}; use printable ASCII"))?;
    Ok((name, value))
}

/// Whether bodies are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodySignature {
    /// The server checks each body against its hash.
    #[default]
    Signed,
    /// Only heads are signed.
    Unsigned,
}

/// Connections that wait for their next request.
type Idle = Rc<RefCell<Vec<Connection<Full<Bytes>>>>>;

/// A client of one endpoint.
pub struct Client {
    endpoint: Endpoint,
    signer: Signer,
    /// Whether it was ever connected.
    is_reached: Cell<bool>,
    idle: Idle,
}

impl Client {
    /// Of this endpoint. Nothing is sent yet.
    pub fn new(endpoint: Endpoint, signer: Signer) -> Self {
        Self { endpoint, signer, is_reached: Cell::new(false), idle: Idle::default() }
    }

    /// Sends a request and returns a good answer's head; its body follows from it.
    ///
    /// # Errors
    /// If the server can't be reached or refuses, also when it is asked again.
    pub async fn send(&self, ask: &Ask) -> Result<Answer, S3Error> {
        self.repeat(ask, || self.send_once(ask)).await
    }

    /// The same with all of the answer's body.
    ///
    /// # Errors
    /// As [`Self::send`], or if the body is too long.
    pub async fn whole(&self, ask: &Ask) -> Result<(HeaderMap, Bytes), S3Error> {
        self.repeat(ask, || async { self.send_once(ask).await?.whole().await }).await
    }

    /// Does it again where that may help.
    async fn repeat<T, F>(&self, ask: &Ask, once: impl Fn() -> F) -> Result<T, S3Error>
    where
        F: Future<Output = Result<T, S3Error>>,
    {
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            match once().await {
                Err(error) if error.is_passing() && self.may_repeat(ask, &error) => {
                    time::sleep(wait(&error, pause)).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                ended => return ended,
            }
        }
        once().await
    }

    fn may_repeat(&self, ask: &Ask, error: &S3Error) -> bool {
        match error {
            // A server that was never there is more likely to be somewhere else than to come back.
            S3Error::Away { .. } => ask.is_repeatable() && self.is_reached.get(),
            _ => true,
        }
    }

    /// The whole body of an answer in XML.
    ///
    /// # Errors
    /// As [`Self::whole`], or if it is something else.
    pub async fn xml<T: serde::de::DeserializeOwned>(&self, ask: &Ask) -> Result<T, S3Error> {
        let (_, body) = self.whole(ask).await?;
        self.parse(&body)
    }

    /// Reads XML.
    ///
    /// # Errors
    /// If it is something else.
    pub fn parse<T: serde::de::DeserializeOwned>(&self, body: &[u8]) -> Result<T, S3Error> {
        let text = std::str::from_utf8(body).map_err(|error| self.nonsense(&error.to_string()))?;
        quick_xml::de::from_str(text).map_err(|error| self.nonsense(&error.to_string()))
    }

    /// That an answer makes no sense.
    pub fn nonsense(&self, why: &str) -> S3Error {
        S3Error::Nonsense { endpoint: self.endpoint.host.clone(), why: printable(why) }
    }

    async fn send_once(&self, ask: &Ask) -> Result<Answer, S3Error> {
        // One that breaks would leave open whether the request was received.
        let kept = self.idle.borrow_mut().pop().filter(|kept| kept.is_open() && ask.is_repeatable());
        if let Some(connection) = kept {
            // The server may have closed it meanwhile: that is no failure yet.
            match self.exchange(connection, ask).await {
                Err(S3Error::Away { .. }) => self.idle.borrow_mut().clear(),
                ended => return ended,
            }
        }
        let opened = timeout(CONNECT_WITHIN, Connection::open(self.endpoint.at)).await;
        let connection = opened.unwrap_or(Err(AskError::Late(self.endpoint.at, CONNECT_WITHIN)));
        let connection = connection.map_err(|error| self.away(&error))?;
        self.is_reached.set(true);
        self.exchange(connection, ask).await
    }

    async fn exchange(&self, mut connection: Connection<Full<Bytes>>, ask: &Ask) -> Result<Answer, S3Error> {
        let request = ask.sign(&self.endpoint, &self.signer, BodySignature::Signed)?;
        let within = ANSWER_WITHIN + Duration::from_secs(ask.body.len() as u64 / BYTES_PER_SECOND_MIN);
        let sent = timeout(within, connection.send(request)).await;
        let sent = sent.unwrap_or(Err(AskError::Late(self.endpoint.at, within)));
        let (head, body) = sent.map_err(|error| self.away(&error))?.into_parts();
        let is_last = text(&head.headers, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let way =
            Way { connection: Some(connection), is_last, idle: self.idle.clone(), host: self.endpoint.host.clone() };
        let answer = Answer { status: head.status, headers: head.headers, body, way };
        if answer.status.is_success() { Ok(answer) } else { Err(refuse(answer, ask).await) }
    }

    fn away(&self, error: &AskError) -> S3Error {
        S3Error::from_ask(&self.endpoint.host, error)
    }
}

fn wait(error: &S3Error, pause: Duration) -> Duration {
    let asked = match error {
        S3Error::Refused(Refusal { retry_after: Some(seconds), .. }) => Duration::from_secs(*seconds),
        _ => Duration::ZERO,
    };
    // Not all at once again.
    let spread = rng::next_u64() % (pause.as_millis() as u64).max(1);
    (pause + Duration::from_millis(spread)).max(asked).min(PAUSE_MAX)
}

async fn refuse(answer: Answer, ask: &Ask) -> S3Error {
    let (status, what) = (answer.status, ask.what());
    let retry_after = answer.header(RETRY_AFTER.as_str()).and_then(|seconds| seconds.parse().ok());
    let head_ids = answer.header("x-cairn-head-ids").map(str::to_owned);
    // Without its body it is a refusal all the same.
    let body = answer.whole().await.map(|(_, body)| body).unwrap_or_default();
    S3Error::Refused(Refusal { retry_after, head_ids, ..Refusal::new(status, &body, what) })
}

/// The connection that an answer comes over.
struct Way {
    connection: Option<Connection<Full<Bytes>>>,
    /// Whether the server closes it after the answer.
    is_last: bool,
    idle: Idle,
    host: String,
}

impl Way {
    /// The answer is over: the next one may come.
    fn free(&mut self) {
        let mut idle = self.idle.borrow_mut();
        if let Some(connection) = self.connection.take()
            && idle.len() < IDLE_MAX
            && !self.is_last
        {
            idle.push(connection);
        }
    }

    fn broken(&mut self, why: String) -> S3Error {
        self.connection = None;
        S3Error::Away { endpoint: self.host.clone(), why }
    }
}

/// A good answer, its body still to come.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    body: Incoming,
    way: Way,
}

impl Answer {
    /// A header, if it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        text(&self.headers, name)
    }

    /// The next bytes of the body; none at its end.
    ///
    /// # Errors
    /// If the connection breaks before that.
    pub async fn bytes(&mut self) -> Result<Option<Bytes>, S3Error> {
        loop {
            let Ok(frame) = timeout(BYTES_WITHIN, self.body.frame()).await else {
                return Err(self.way.broken(format!("sent nothing for {} s", BYTES_WITHIN.as_secs())));
            };
            match frame {
                None => {
                    self.way.free();
                    return Ok(None);
                }
                Some(Err(error)) => return Err(self.way.broken(format!("the answer broke off: {error}"))),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    async fn whole(mut self) -> Result<(HeaderMap, Bytes), S3Error> {
        let mut whole = BytesMut::new();
        while let Some(bytes) = self.bytes().await? {
            if whole.len() + bytes.len() > ANSWER_MAX {
                let why = format!("an answer longer than {} MiB", ANSWER_MAX >> 20);
                return Err(S3Error::Nonsense { endpoint: self.way.host, why });
            }
            whole.extend_from_slice(&bytes);
        }
        Ok((self.headers, whole.freeze()))
    }
}

/// A header, if it is there and text.
pub fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
