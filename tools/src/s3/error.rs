//! Why a request failed, sorted by what its caller does, and what a user is told to do next.

use cairn_daemon::http::client::AskError;
use hyper::StatusCode;
use serde::Deserialize;

use crate::out::Failure;

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    /// Nobody was reached, or the way was cut: worth another try.
    #[error("{endpoint}: {why}")]
    Away {
        /// Who was asked.
        endpoint: String,
        /// What happened.
        why: String,
    },
    /// The server says no.
    #[error("{0}")]
    Refused(Refusal),
    /// The server answers what makes no sense.
    #[error("{endpoint} answers what no S3 server should: {why}")]
    Nonsense {
        /// Who was asked.
        endpoint: String,
        /// What is wrong with it.
        why: String,
    },
    /// It was never sent: the request itself is impossible.
    #[error("{0}")]
    Impossible(String),
}

/// What a server says when it refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status of the answer.
    pub status: StatusCode,
    /// As `NoSuchKey`; of an answer without a body, the status in words.
    pub code: String,
    /// What the server says about it.
    pub message: String,
    /// What it was about.
    pub what: String,
    /// How many seconds the server asks to wait.
    pub retry_after: Option<u64>,
    /// The heads of what isn't there, if they are several and the one that is shown is a deletion.
    pub head_ids: Option<String>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} ({})", self.what, self.code, self.status.as_u16())?;
        if self.message.is_empty() { Ok(()) } else { write!(f, ": {}", self.message.trim_end_matches('.')) }
    }
}

/// The body of a refusal.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ErrorBody {
    code: String,
    message: String,
}

impl Refusal {
    /// From an answer about `what`. A body that makes no sense adds nothing.
    pub fn new(status: StatusCode, body: &[u8], what: String) -> Self {
        let text = String::from_utf8_lossy(body);
        let body: ErrorBody = quick_xml::de::from_str(&text).unwrap_or_default();
        let code = if body.code.is_empty() { words(status) } else { printable(&body.code) };
        Self { status, code, message: printable(&body.message), what, retry_after: None, head_ids: None }
    }

    /// Whether another try may do.
    pub fn is_passing(&self) -> bool {
        matches!(self.status.as_u16(), 429 | 500 | 502 | 503 | 504)
    }

    /// What its user does next.
    fn next_step(&self) -> Option<&'static str> {
        Some(match self.code.as_str() {
            "NoSuchBucket" => "see what there is with `cairn bucket list`, or make it with `cairn bucket create`",
            "NoSuchKey" | "Not Found" => "see what there is with `cairn ls cairn://BUCKET`",
            "NoSuchVersion" => "see what there is with `cairn ls --versions`",
            "BucketNotEmpty" => "empty it with `cairn rm -r --versions`, or delete it with all it holds with --force",
            "BucketAlreadyExists" => "it belongs to somebody else: choose another name",
            "BucketAlreadyOwnedByYou" => "it is there and yours: use it",
            "InvalidBucketName" => "choose 3 to 63 lower-case letters, digits, dots and hyphens",
            "AccessDenied" | "Forbidden" => "ask the owner of the bucket for permission, or use another key",
            "InvalidAccessKeyId" | "SignatureDoesNotMatch" => "correct --access-key and --secret-key",
            "RequestTimeTooSkewed" => "set the clock of this machine",
            "AuthorizationHeaderMalformed" => "name the server's region with --region",
            "PreconditionFailed" | "Precondition Failed" => "somebody changed it: look at it with `cairn stat`",
            "SlowDown" | "ServiceUnavailable" => "it is busy: try again later, or with fewer --jobs",
            "InsufficientStorage" | "Insufficient Storage" => "make room on the server, or add a disk or a node",
            "NotImplemented" | "Not Implemented" => "this server can't do that",
            _ => return None,
        })
    }
}

fn words(status: StatusCode) -> String {
    status.canonical_reason().unwrap_or("an unknown status").to_owned()
}

/// What comes from outside must not steer a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

impl S3Error {
    /// Of a connection to `endpoint`.
    pub fn from_ask(endpoint: &str, error: &AskError) -> Self {
        if let AskError::Broken(_, error) = error
            && error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse)
        {
            return Self::Nonsense { endpoint: endpoint.to_owned(), why: error.to_string() };
        }
        let why = match error {
            AskError::Connect(error) => format!("can't be reached: {error}"),
            AskError::Late(_, limit) => format!("did not answer within {} s", limit.as_secs()),
            AskError::Broken(_, error) => format!("the connection broke: {error}"),
        };
        Self::Away { endpoint: endpoint.to_owned(), why }
    }

    /// Whether another try may do.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Away { .. } => true,
            Self::Refused(refusal) => refusal.is_passing(),
            Self::Nonsense { .. } | Self::Impossible(_) => false,
        }
    }

    /// Whether the server says that there is no such thing.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.status == StatusCode::NOT_FOUND)
    }

    fn next_step(&self) -> Option<&'static str> {
        match self {
            Self::Away { .. } => Some("is a node running there? Name another with --endpoint or CAIRN_ENDPOINT"),
            Self::Refused(refusal) => refusal.next_step(),
            Self::Nonsense { .. } => Some("is that an S3 endpoint? A node's is the one of its setting `listen_s3`"),
            Self::Impossible(_) => None,
        }
    }

    /// What it is in one line, with the next step.
    pub fn line(&self) -> String {
        match self.next_step() {
            Some(step) => format!("{self}; {step}"),
            None => self.to_string(),
        }
    }
}

impl From<S3Error> for Failure {
    fn from(error: S3Error) -> Self {
        let line = error.line();
        match error {
            S3Error::Away { .. } | S3Error::Impossible(_) => Self::Input(line),
            S3Error::Nonsense { .. } => Self::Broken(line),
            S3Error::Refused(refusal) => match refusal.status.as_u16() {
                404 => Self::Missing(line),
                401 | 403 | 409 | 412 => Self::Refused(line),
                400..500 => Self::Input(line),
                _ => Self::Broken(line),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, body: &[u8]) -> Refusal {
        Refusal::new(StatusCode::from_u16(status).expect("a status"), body, "cairn://b/k".to_owned())
    }

    #[test]
    fn a_refusal_is_read_and_says_what_to_do() {
        let body = b"<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code><Message>It isn't there.</Message></Error>";
        let error = S3Error::Refused(refusal(404, body));
        let line = error.line();
        assert!(line.starts_with("cairn://b/k: NoSuchBucket (404): It isn't there; "), "{line}");
        assert!(line.contains("cairn bucket create") && error.is_missing() && !error.is_passing());
    }

    #[test]
    fn a_refusal_that_makes_no_sense_is_one_all_the_same() {
        for body in [&b""[..], b"<", b"\xff\xfe", b"<Error><Code>", b"{\"code\": 1}", b"<Error><Code/><Code/></Error>"]
        {
            let refusal = refusal(503, body);
            assert_eq!(refusal.code, "Service Unavailable", "{body:?}");
            assert!(refusal.is_passing());
        }
    }

    #[test]
    fn a_refusal_steers_no_terminal() {
        let refusal = refusal(400, b"<Error><Code>A\x1b[2J</Code><Message>b\x07</Message></Error>");
        assert!(!refusal.to_string().chars().any(char::is_control), "{refusal:?}");
    }
}
