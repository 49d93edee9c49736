//! Asking a running node for what needs its management token, and printing what it answers.

use std::net::SocketAddr;

use bytes::Bytes;
use cairn_daemon::http::client::{Method, StatusCode, send};
use cairn_daemon::manage::ErrorBody;
use cairn_io::time::Duration;
use cairn_io::{Config, DriverChoice, run_one};
use serde::de::DeserializeOwned;

use super::at::At;
use crate::out::{self, Failure};

/// What the exit codes of such commands mean.
pub const HELP: &str = "\
Exit codes:
  0  done
  1  begun, but went wrong: the node can't do it now, or its answer makes no sense
  2  not begun: bad input, or nobody answers; the message says what to change
  3  there is no such thing
  4  the node refuses: not allowed, or not as things are (was changed)";

const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// Which node is asked, and how the answer is printed.
#[derive(Clone, Debug, clap::Args)]
pub struct About {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: At,
}

impl About {
    /// Asks with the token, and says what the node answers if it is done.
    ///
    /// # Errors
    /// If nobody answers, or says no.
    pub fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, Failure> {
        let (at, token) = (self.at.address()?, format!("Bearer {}", self.at.token()?));
        let io = Config { driver: DriverChoice::Monoio, block_bytes_max: 1 << 20, ..Config::single() };
        let path = path.to_owned();
        let asking = move || async move { ask(at, method, path, token, body).await };
        let (status, body) = run_one(&io, asking).map_err(|error| Failure::Input(error.to_string()))??;
        if status.is_success() {
            return Ok(body);
        }
        let why = serde_json::from_slice::<ErrorBody>(&body).map(|body| body.error.message);
        let message = format!("{at} answers {status}: {}", why.unwrap_or_default());
        Err(match status {
            StatusCode::BAD_REQUEST => Failure::Input(message),
            StatusCode::NOT_FOUND => Failure::Missing(message),
            StatusCode::UNAUTHORIZED | StatusCode::CONFLICT => Failure::Refused(message),
            _ => Failure::Broken(message),
        })
    }

    /// Prints an answer: as it is for programs, or this text.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn print(&self, body: &[u8], text: impl FnOnce() -> String) -> Result<(), Failure> {
        out::print(&if self.json { String::from_utf8_lossy(body).into_owned() } else { text() })
    }
}

/// An answer, taken apart.
///
/// # Errors
/// If it is another than was asked for.
pub fn understand<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| Failure::Broken(format!("the node's answer makes no sense: {error}")))
}

async fn ask(
    at: SocketAddr,
    method: Method,
    path: String,
    token: String,
    body: Bytes,
) -> Result<(StatusCode, Bytes), Failure> {
    let headers = [("authorization", token.as_str())];
    let asked = send(at, (method, &path), &headers, body, ANSWER_WITHIN).await;
    asked.map_err(|error| Failure::Input(format!("{error}; is the node running, and is this its address?")))
}
