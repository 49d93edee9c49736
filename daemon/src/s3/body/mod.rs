//! Bodies of requests: taken out of their framing, proven, counted.

mod chunked;
mod form;

pub use chunked::Decoder;
pub use form::{Fields, Form};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};

use super::auth::Framing;
use super::error::{Code, Result, S3Error};
use super::head::{Head, number};
use crate::http;

/// See the module. It ends with an error, never early.
pub struct Body {
    inner: http::Body,
    framing: Unframing,
    /// Bytes of the object that are to come; `None`: nobody said.
    expected: Option<u64>,
    seen: u64,
    /// The least and the most bytes that it may have.
    bounds: Option<(u64, u64)>,
    /// What came behind the bytes.
    trailers: Vec<(String, String)>,
}

enum Unframing {
    Plain,
    Sha256 {
        stated: [u8; 32],
        hasher: Sha256,
    },
    Chunked {
        decoder: Box<Decoder>,
        input: Bytes,
    },
    /// The file of a form.
    Form(Box<Form>),
    Done,
}

impl Body {
    /// Of a request whose signature said how its body comes.
    ///
    /// # Errors
    /// If the head states no length where it must.
    pub fn new(inner: http::Body, framing: Framing, head: &Head) -> Result<Self> {
        let stated = head.content_length()?;
        let decoded = number(head.only("x-amz-decoded-content-length")?, "x-amz-decoded-content-length")?;
        let (framing, expected) = match framing {
            Framing::Plain => (Unframing::Plain, stated),
            Framing::Sha256(stated_hash) => (Unframing::Sha256 { stated: stated_hash, hasher: Sha256::new() }, stated),
            Framing::Chunked { signer, has_trailer } => {
                let expected = decoded.ok_or(Code::MissingContentLength)?;
                let decoder = Box::new(Decoder::new(signer, has_trailer, expected));
                (Unframing::Chunked { decoder, input: Bytes::new() }, Some(expected))
            }
        };
        Ok(Self { inner, framing, expected, seen: 0, bounds: None, trailers: Vec::new() })
    }

    /// How many bytes it has; `None`: nobody said.
    pub fn expected(&self) -> Option<u64> {
        self.expected
    }

    /// What came behind the bytes; complete when these have ended.
    pub fn trailers(&self) -> &[(String, String)] {
        &self.trailers
    }

    /// Lets it have no fewer and no more bytes than these.
    pub fn bound(&mut self, bounds: Option<(u64, u64)>) {
        self.bounds = bounds;
    }

    fn check_bounds(&self, is_whole: bool) -> Result<()> {
        match self.bounds {
            Some((_, max)) if self.seen > max => Err(Code::EntityTooLarge.into()),
            Some((min, _)) if is_whole && self.seen < min => Err(Code::EntityTooSmall.into()),
            _ => Ok(()),
        }
    }

    /// The next bytes; `None`: it has ended, and all that was said about it is true.
    ///
    /// # Errors
    /// If it is cut short, longer than stated, not as signed, or too slow.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Unframing::Chunked { decoder, input } = &mut self.framing
                && let Some(data) = decoder.take(input)?
            {
                self.seen += data.len() as u64;
                return Ok(Some(data));
            }
            if let Unframing::Form(form) = &mut self.framing {
                let held = form.take_file(&Bytes::new());
                if !held.is_empty() {
                    self.seen += held.len() as u64;
                    self.check_bounds(false)?;
                    return Ok(Some(held));
                }
            }
            let Some(frame) = self.inner.frame().await else { return self.end().map(|()| None) };
            // What HTTP itself puts behind a body is nothing of S3's.
            let Ok(data) = frame.map_err(|error| broken(&*error))?.into_data() else { continue };
            match &mut self.framing {
                Unframing::Chunked { input, .. } => {
                    debug_assert!(input.is_empty());
                    *input = data;
                    continue;
                }
                Unframing::Sha256 { hasher, .. } => hasher.update(&data),
                Unframing::Form(form) => {
                    let file = form.take_file(&data);
                    if file.is_empty() {
                        continue;
                    }
                    self.seen += file.len() as u64;
                    self.check_bounds(false)?;
                    return Ok(Some(file));
                }
                Unframing::Plain | Unframing::Done => {}
            }
            if data.is_empty() {
                continue;
            }
            self.seen += data.len() as u64;
            return Ok(Some(data));
        }
    }

    fn end(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.framing, Unframing::Done) {
            Unframing::Plain | Unframing::Done => {}
            Unframing::Sha256 { stated, hasher } => {
                if <[u8; 32]>::from(hasher.finalize()) != stated {
                    return Err(Code::XAmzContentSHA256Mismatch.into());
                }
            }
            Unframing::Chunked { decoder, .. } => self.trailers = decoder.finish()?,
            Unframing::Form(form) if form.is_done() => return self.check_bounds(true),
            Unframing::Form(_) => return Err(Code::IncompleteBody.into()),
        }
        match self.expected {
            Some(expected) if expected != self.seen => Err(Code::IncompleteBody.into()),
            _ => Ok(()),
        }
    }

    /// Reads it as a form up to its file, which is what comes next then.
    ///
    /// # Errors
    /// If it is none.
    pub async fn form(&mut self, content_type: &str) -> Result<Fields> {
        let mut form = Form::new(content_type)?;
        loop {
            let Some(data) = self.next().await? else { return Err(Code::MalformedPOSTRequest.into()) };
            if form.take_fields(&data)? {
                break;
            }
        }
        let fields = form.fields();
        (self.framing, self.expected, self.seen) = (Unframing::Form(Box::new(form)), None, 0);
        Ok(fields)
    }

    /// All of it, for documents.
    ///
    /// # Errors
    /// If it is longer than `max`, or as [`Body::next`].
    pub async fn all(&mut self, max: usize) -> Result<Bytes> {
        let too_long = || {
            Code::MaxMessageLengthExceeded.says(format!("Your request was too big; up to {max} bytes are taken here."))
        };
        if self.expected.is_some_and(|expected| expected > max as u64) {
            return Err(too_long());
        }
        let Some(first) = self.next().await? else { return Ok(Bytes::new()) };
        let mut whole: Option<BytesMut> = None;
        while let Some(more) = self.next().await? {
            let whole = whole.get_or_insert_with(|| BytesMut::from(&first[..]));
            whole.extend_from_slice(&more);
            if whole.len() > max {
                return Err(too_long());
            }
        }
        Ok(whole.map_or(first, BytesMut::freeze))
            .and_then(|all| if all.len() > max { Err(too_long()) } else { Ok(all) })
    }
}

/// Why a body broke off.
fn broken(error: &(dyn std::error::Error + Send + Sync + 'static)) -> S3Error {
    if error.is::<http::Stalled>() { Code::RequestTimeout.into() } else { Code::IncompleteBody.into() }
}
