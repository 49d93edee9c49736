//! Asking over HTTP. [`ask`] is what `cairn status` and tests do: one request to a connection. A [`Connection`] is kept
//! for one request after another, by clients that say themselves what is in a request and read its answer bit by bit.

use std::net::SocketAddr;

use bytes::Bytes;
use cairn_io::net::Stream;
use cairn_io::task::{Class, JoinHandle, spawn};
use cairn_io::time::{Duration, timeout};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::header::HOST;
pub use hyper::{Method, StatusCode};
use hyper::{Request, Response};

/// The longest answer that is taken.
pub const ANSWER_MAX: usize = 16 << 20;

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens there, or the way is cut.
    #[error("{0}")]
    Connect(std::io::Error),
    /// It took too long.
    #[error("{0} did not answer within {1:?}")]
    Late(SocketAddr, Duration),
    /// What came is no answer.
    #[error("{0} gave no valid answer: {1}")]
    Broken(SocketAddr, Failed),
}

/// Sends one request and takes all of its answer.
///
/// # Errors
/// If there is none within `limit`.
pub async fn ask(
    to: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    limit: Duration,
) -> Result<(StatusCode, Bytes), AskError> {
    send(to, (method, path), headers, Bytes::new(), limit).await
}

/// The same, with a body.
///
/// # Errors
/// As [`ask`].
pub async fn send(
    to: SocketAddr,
    (method, path): (Method, &str),
    headers: &[(&str, &str)],
    body: Bytes,
    limit: Duration,
) -> Result<(StatusCode, Bytes), AskError> {
    let asking = timeout(limit, ask_patiently(to, (method, path), headers, body)).await;
    asking.unwrap_or(Err(AskError::Late(to, limit)))
}

async fn ask_patiently(
    to: SocketAddr,
    (method, path): (Method, &str),
    headers: &[(&str, &str)],
    body: Bytes,
) -> Result<(StatusCode, Bytes), AskError> {
    let broken = |error: Failed| AskError::Broken(to, error);
    let mut connection = Connection::open(to).await?;
    let mut request = Request::builder().method(method).uri(path).header(HOST, to.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body)).map_err(|error| broken(error.into()))?;
    let response = connection.send(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await.map_err(broken)?;
    Ok((status, body.to_bytes()))
}

/// Asks for what is at a path.
///
/// # Errors
/// As [`ask`].
pub async fn get(to: SocketAddr, path: &str, limit: Duration) -> Result<(StatusCode, Bytes), AskError> {
    ask(to, Method::GET, path, &[], limit).await
}

/// A connection that takes one request after another. Dropping it closes it.
#[derive(Debug)]
pub struct Connection<B> {
    to: SocketAddr,
    sender: http1::SendRequest<B>,
    /// Moves the bytes; ends with the connection.
    _moving: JoinHandle<Result<(), hyper::Error>>,
}

impl<B: Body<Data: Send, Error: Into<Failed>> + 'static> Connection<B> {
    /// Connects. Bound it with [`timeout`].
    ///
    /// # Errors
    /// If nobody listens there.
    pub async fn open(to: SocketAddr) -> Result<Self, AskError> {
        let stream = Stream::connect(to).await.map_err(AskError::Connect)?;
        let shaken = http1::handshake(stream).await;
        let (sender, connection) = shaken.map_err(|error| AskError::Broken(to, error.into()))?;
        Ok(Self { to, sender, _moving: spawn(Class::Foreground, connection) })
    }

    /// Sends a request, which names its host and has a path as its URI, and waits for the head of its answer. The next
    /// one can be sent once the body is read to its end.
    ///
    /// # Errors
    /// If the connection breaks, or what comes is no answer.
    pub async fn send(&mut self, request: Request<B>) -> Result<Response<Incoming>, AskError> {
        let to = self.to;
        let broken = |error: hyper::Error| AskError::Broken(to, error.into());
        self.sender.ready().await.map_err(broken)?;
        self.sender.send_request(request).await.map_err(broken)
    }

    /// Whether it can still be used, as far as is known.
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }
}
