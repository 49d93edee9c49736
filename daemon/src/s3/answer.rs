//! Answers: a status, headers, and bytes that are there or being read.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::StreamExt;
use hyper::body::{Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use super::data::{Begun, Read};
use crate::cluster::Copies;

/// Headers that most answers have room for from the beginning.
const HEADERS: usize = 12;

/// An answer without what goes into each.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its bytes.
    pub body: Out,
}

/// The bytes of an answer.
pub enum Out {
    /// None.
    Empty,
    /// These.
    Bytes(Bytes),
    /// These, then what is read yet; so many in all that haven't been sent.
    Reading {
        /// The next, if it is there.
        first: Option<Bytes>,
        /// The rest.
        rest: Read,
        /// Bytes that haven't been sent.
        left: u64,
    },
}

impl Answer {
    /// 200 without bytes.
    pub fn ok() -> Self {
        Self::status(StatusCode::OK)
    }

    /// A status without bytes.
    pub fn status(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::with_capacity(HEADERS), body: Out::Empty }
    }

    /// 204.
    pub fn no_content() -> Self {
        Self::status(StatusCode::NO_CONTENT)
    }

    /// 200 with a document.
    pub fn xml(document: impl Into<String>) -> Self {
        Self::of_type("application/xml", Bytes::from(document.into()))
    }

    /// 200 with bytes of a type.
    pub fn of_type(kind: &'static str, bytes: Bytes) -> Self {
        let mut answer = Self { body: Out::Bytes(bytes), ..Self::ok() };
        answer.headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        answer
    }

    /// With a header, if its value can be one.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl AsRef<str>) -> Self {
        self.set(HeaderName::from_static(name), value.as_ref());
        self
    }

    /// Says how many nodes have what was written.
    #[must_use]
    pub fn with_copies(self, Copies { durable, of }: Copies) -> Self {
        self.with("x-cairn-durability", format!("copies={durable}/{of}"))
    }

    /// With a header, if there is a value.
    #[must_use]
    pub fn maybe(self, name: &'static str, value: Option<impl AsRef<str>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Sets a header. A value that none can have is left out: it was checked when it came.
    pub fn set(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            self.headers.insert(name, value);
        }
    }

    /// As HTTP has it.
    pub fn into_response(self) -> Response<Out> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

impl Out {
    /// What a reader began.
    pub fn begun(begun: Begun, length: u64) -> Self {
        match begun {
            Begun::Whole(bytes) => Self::Bytes(bytes),
            Begun::First(first, rest) => Self::Reading { first: Some(first), rest, left: length },
        }
    }
}

/// An answer that breaks off: what is missing could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the rest of the object can't be read")]
pub struct BrokenOff;

impl hyper::body::Body for Out {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Reading { first, rest, left } => {
                let next = match first.take() {
                    Some(first) => Some(Ok(first)),
                    None => match rest.poll_next_unpin(cx) {
                        Poll::Ready(next) => next,
                        Poll::Pending => return Poll::Pending,
                    },
                };
                match next {
                    Some(Ok(bytes)) => {
                        *left = left.saturating_sub(bytes.len() as u64);
                        Poll::Ready(Some(Ok(Frame::data(bytes))))
                    }
                    None if *left == 0 => Poll::Ready(None),
                    Some(Err(_)) | None => Poll::Ready(Some(Err(BrokenOff))),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Reading { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Empty => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Reading { left, .. } => *left,
        })
    }
}
