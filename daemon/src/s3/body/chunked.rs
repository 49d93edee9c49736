//! `aws-chunked`: chunks with heads of their own, perhaps signed, perhaps with headers behind the last.
//!
//! ```text
//!   10000;chunk-signature=…\r\n <data> \r\n  ...  0;chunk-signature=…\r\n x-amz-checksum-crc32c:…\r\n \r\n
//!   └────────── head ─────────┘                   └─────── last ───────┘ └───────── trailer ─────────┘
//! ```
//!
//! It is fed bytes and gives bytes; it waits for nothing. Data is given before the signature of its chunk is checked, as it is of no use
//! before the body has ended: [`Decoder::finish`] says whether all held.

use bytes::{Buf, Bytes, BytesMut};
use sha2::{Digest, Sha256};

use crate::s3::auth::ChunkSigner;
use crate::s3::error::{Code, Result, S3Error};

/// Bytes of a line.
const LINE_MAX: usize = 4096;
/// Lines of a trailer.
const TRAILERS_MAX: usize = 32;

/// See the module.
pub struct Decoder {
    signer: Option<Box<ChunkSigner>>,
    has_trailer: bool,
    /// Bytes of data that may still come.
    left: u64,
    state: State,
    /// A line that isn't whole yet.
    line: BytesMut,
    /// Of the chunk's data so far; only if it is signed.
    hasher: Sha256,
    /// The signature that the chunk's head states.
    stated: String,
    trailers: Vec<(String, String)>,
    trailer_signature: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A chunk's head comes next.
    Head,
    /// So many bytes of data.
    Data(u64),
    /// The end of the line behind data.
    Behind,
    /// Behind the last chunk.
    Trailer,
    /// Nothing more may come.
    Done,
}

impl Decoder {
    /// For so many bytes of data.
    pub fn new(signer: Option<Box<ChunkSigner>>, has_trailer: bool, expected: u64) -> Self {
        Self {
            signer,
            has_trailer,
            left: expected,
            state: State::Head,
            line: BytesMut::new(),
            hasher: Sha256::new(),
            stated: String::new(),
            trailers: Vec::new(),
            trailer_signature: None,
        }
    }

    /// Takes of the input and gives data; `None`: the input is used up.
    ///
    /// # Errors
    /// If it isn't framed or signed as it should be.
    pub fn take(&mut self, input: &mut Bytes) -> Result<Option<Bytes>> {
        while !input.is_empty() {
            if let State::Data(left) = self.state {
                let data = input.split_to(usize::try_from(left).unwrap_or(usize::MAX).min(input.len()));
                if self.signer.is_some() {
                    self.hasher.update(&data);
                }
                self.state = match left - data.len() as u64 {
                    0 => State::Behind,
                    left => State::Data(left),
                };
                return Ok(Some(data));
            }
            let Some(line) = self.next_line(input)? else { break };
            self.on_line(&line)?;
        }
        Ok(None)
    }

    /// A line without its end, once it is whole.
    fn next_line(&mut self, input: &mut Bytes) -> Result<Option<BytesMut>> {
        let end = input.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(input.len(), |end| end + 1);
        if self.line.len() + taken > LINE_MAX {
            return Err(malformed());
        }
        self.line.extend_from_slice(&input[..taken]);
        input.advance(taken);
        if end.is_none() {
            return Ok(None);
        }
        let mut line = std::mem::take(&mut self.line);
        line.truncate(line.len() - 1);
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        Ok(Some(line))
    }

    fn on_line(&mut self, line: &[u8]) -> Result<()> {
        let text = std::str::from_utf8(line).map_err(|_| malformed())?;
        match self.state {
            State::Head => self.on_head(text),
            State::Behind if text.is_empty() => {
                self.state = State::Head;
                self.check_chunk()
            }
            State::Trailer => self.on_trailer(text),
            State::Behind | State::Done | State::Data(_) => Err(malformed()),
        }
    }

    fn on_head(&mut self, text: &str) -> Result<()> {
        let (size, rest) = text.split_once(';').unwrap_or((text, ""));
        let is_hex = (1..=16).contains(&size.len()) && size.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size = u64::from_str_radix(size, 16).ok().filter(|_| is_hex).ok_or_else(malformed)?;
        let signature = rest.split(';').find_map(|part| part.trim().strip_prefix("chunk-signature="));
        signature.unwrap_or_default().clone_into(&mut self.stated);
        if self.signer.is_some() && signature.is_none() {
            return Err(malformed());
        }
        self.left = self.left.checked_sub(size).ok_or(Code::IncompleteBody)?;
        if size > 0 {
            self.state = State::Data(size);
            return Ok(());
        }
        self.state = State::Trailer;
        self.check_chunk()
    }

    fn check_chunk(&mut self) -> Result<()> {
        let Some(signer) = &mut self.signer else { return Ok(()) };
        let hash = self.hasher.finalize_reset().into();
        if signer.chunk(&hash, &self.stated) { Ok(()) } else { Err(Code::SignatureDoesNotMatch.into()) }
    }

    fn on_trailer(&mut self, text: &str) -> Result<()> {
        if text.is_empty() {
            self.state = State::Done;
            return Ok(());
        }
        let (name, value) = text.split_once(':').ok_or(Code::MalformedTrailerError)?;
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().to_owned());
        if !self.has_trailer || self.trailers.len() >= TRAILERS_MAX || self.trailer_signature.is_some() {
            return Err(Code::MalformedTrailerError.into());
        }
        if name == "x-amz-trailer-signature" {
            self.trailer_signature = Some(value);
        } else {
            self.trailers.push((name, value));
        }
        Ok(())
    }

    /// What came behind the data, when nothing more comes.
    ///
    /// # Errors
    /// If something is missing.
    pub fn finish(mut self) -> Result<Vec<(String, String)>> {
        // Some clients leave out the empty line at the very end.
        let is_whole = matches!(self.state, State::Trailer | State::Done) && self.line.is_empty() && self.left == 0;
        if !is_whole {
            return Err(Code::IncompleteBody.into());
        }
        if let Some(signer) = self.signer.as_mut().filter(|_| self.has_trailer) {
            let text: String = self.trailers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
            let stated = self.trailer_signature.as_deref().ok_or(Code::MalformedTrailerError)?;
            if !signer.trailer(text.as_bytes(), stated) {
                return Err(Code::SignatureDoesNotMatch.into());
            }
        }
        Ok(self.trailers)
    }
}

fn malformed() -> S3Error {
    Code::InvalidRequest.says("The body is not framed as aws-chunked")
}

#[cfg(test)]
mod tests {
    use super::*;

    type Trailers = Vec<(String, String)>;

    /// Decodes in pieces of some size.
    fn decode(framed: &[u8], expected: u64, piece: usize) -> Result<(Vec<u8>, Trailers)> {
        let mut decoder = Decoder::new(None, true, expected);
        let mut data = Vec::new();
        for piece in framed.chunks(piece) {
            let mut input = Bytes::copy_from_slice(piece);
            while let Some(more) = decoder.take(&mut input)? {
                data.extend_from_slice(&more);
            }
        }
        Ok((data, decoder.finish()?))
    }

    #[test]
    fn chunks_come_out_whole_however_they_are_cut() {
        let framed = b"5\r\nhello\r\nb;x=y\r\n wide world\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n";
        for piece in 1..framed.len() {
            let (data, trailers) = decode(framed, 16, piece).unwrap();
            assert_eq!(data, b"hello wide world");
            assert_eq!(trailers, [("x-amz-checksum-crc32".to_owned(), "AAAAAA==".to_owned())]);
        }
    }

    #[test]
    fn what_is_cut_or_strange_is_refused() {
        let cases: [(&[u8], u64); 12] = [
            (b"", 0),
            (b"5\r\nhel", 5),
            (b"5\r\nhello\r\n", 5),
            (b"5\r\nhello0\r\n\r\n", 5),
            (b"5\r\nhello\r\n0\r\n\r\n", 6),
            (b"5\r\nhello\r\n0\r\n\r\n", 4),
            (b"g\r\n", 5),
            (b"-1\r\n", 5),
            (b"fffffffffffffffff\r\n", 5),
            (b"\r\n", 0),
            (b"0\r\nno colon\r\n\r\n", 0),
            (b"0\r\n\r\nmore\r\n", 0),
        ];
        for (framed, expected) in cases {
            assert!(decode(framed, expected, 7).is_err(), "{}", String::from_utf8_lossy(framed));
        }
        assert!(decode(&[b'1'; 5000], 5, 100).is_err(), "a line has an end");
    }
}
