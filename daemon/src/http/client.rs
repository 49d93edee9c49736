//! Asking over HTTP: what `cairn status` and tests do. One request to a connection.

use std::net::SocketAddr;

use bytes::Bytes;
use cairn_io::net::Stream;
use cairn_io::task::{Class, spawn};
use cairn_io::time::{Duration, timeout};
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::HOST;
pub use hyper::{Method, StatusCode};

/// The longest answer that is taken.
pub const ANSWER_MAX: usize = 16 << 20;

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
    Broken(SocketAddr, Box<dyn std::error::Error + Send + Sync>),
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
    let broken = |error: Box<dyn std::error::Error + Send + Sync>| AskError::Broken(to, error);
    let stream = Stream::connect(to).await.map_err(AskError::Connect)?;
    let (mut sender, connection) = http1::handshake(stream).await.map_err(|error| broken(error.into()))?;
    // Ends with this function, in whatever way that does.
    let _connection = spawn(Class::Foreground, connection);
    let mut request = Request::builder().method(method).uri(path).header(HOST, to.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body)).map_err(|error| broken(error.into()))?;
    let response = sender.send_request(request).await.map_err(|error| broken(error.into()))?;
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
