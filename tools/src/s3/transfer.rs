//! Objects to files, files to objects, objects to objects: in pieces, several at a time, in bounded memory.
//!
//! A piece is a part of an upload or a range of a download. However many objects are on their way, no more pieces than
//! there are turns are in memory.

use std::path::Path;

use bytes::Bytes;
use cairn_io::time::{self, Duration};
use futures_util::{StreamExt, TryStreamExt, stream};
use hyper::StatusCode;
use hyper::header::HeaderMap;
use md5::{Digest, Md5};

use super::calls::{Facts, Object, Part, Stored};
use super::client::{Answer, Client, text};
use super::error::S3Error;
use super::local::{Input, Output, read_input, write_output};
use super::turns::Turns;
use super::words::{bare, etag, etag_of_parts, md5};
use crate::out::Failure;

const MIB: u64 = 1 << 20;
/// Parts of an object; S3 allows no more.
const PARTS_MAX: u64 = 10_000;
/// What S3 copies at once.
const COPY_MAX: u64 = 5 << 30;
/// Bytes of one part when an object is copied in parts.
const COPY_PART: u64 = 1 << 30;
/// How often a download may break off before it gives up, without a byte in between.
const BREAKS_MAX: u32 = 5;

/// How transfers are done.
pub struct Transfer {
    /// The server.
    pub client: Client,
    /// Bytes of a piece.
    pub piece_bytes: u64,
    /// How many pieces are under way.
    pub jobs: usize,
    /// Whether what is there already is made use of.
    pub resume: Resume,
    /// Headers of objects that are stored.
    pub headers: Vec<(String, String)>,
    turns: Turns,
    moved: Box<dyn Fn(u64)>,
}

/// Whether what is there already is made use of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// What is the same is left alone; an upload that broke off is gone on with.
    Yes,
    /// Everything is moved.
    No,
}

/// How a transfer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It was moved.
    Moved(Stored),
    /// It was there.
    Unchanged,
}

impl Transfer {
    /// Through this client; `moved` hears of bytes that are done.
    pub fn new(client: Client, piece_bytes: u64, jobs: usize, resume: Resume, moved: Box<dyn Fn(u64)>) -> Self {
        Self { client, piece_bytes, jobs, resume, headers: vec![], turns: Turns::new(jobs), moved }
    }

    /// Stores a file.
    ///
    /// # Errors
    /// If it can't be read or stored. What is there of it by then stays, to be gone on with.
    pub async fn upload(&self, path: &Path, to: &Object) -> Result<End, Failure> {
        let unread = |error: std::io::Error| local("can't read", path, &error);
        let input = Input::open(path).await.map_err(unread)?;
        if self.resume == Resume::Yes && self.is_there(&input, to).await.map_err(unread)? {
            (self.moved)(input.len);
            return Ok(End::Unchanged);
        }
        if input.len > self.piece_bytes {
            return self.upload_parts(&input, path, to).await.map(End::Moved);
        }
        let _turn = self.turns.take().await;
        let body = input.read(0, input.len).await.map_err(unread)?;
        let stored = self.client.put(to, &self.headers, body).await?;
        (self.moved)(input.len);
        Ok(End::Moved(stored))
    }

    /// Whether the object is this file already.
    async fn is_there(&self, input: &Input, object: &Object) -> std::io::Result<bool> {
        match self.client.head(object, None).await {
            Ok((facts, _)) => self.is_same(input, &facts).await,
            Err(_) => Ok(false),
        }
    }

    /// Whether a file is proven to have an object's content: by its tag, if that is made as this client makes parts.
    async fn is_same(&self, input: &Input, facts: &Facts) -> std::io::Result<bool> {
        if input.len != facts.len {
            return Ok(false);
        }
        let tag = bare(&facts.etag);
        let pieces = Pieces::new(input.len, self.piece_bytes);
        let made = match tag.split_once('-') {
            None => {
                let mut whole = Md5::new();
                for number in 1..=pieces.count() {
                    let (from, to) = pieces.range(number);
                    whole.update(&input.read(from, to).await?);
                }
                etag(&whole.finalize().into())
            }
            Some((_, parts)) if parts.parse() == Ok(pieces.count()) => {
                let mut hashes = Vec::new();
                for number in 1..=pieces.count() {
                    let (from, to) = pieces.range(number);
                    hashes.push(md5(&input.read(from, to).await?));
                }
                etag_of_parts(&hashes)
            }
            Some(_) => return Ok(false),
        };
        Ok(made == tag)
    }

    async fn upload_parts(&self, input: &Input, path: &Path, to: &Object) -> Result<Stored, Failure> {
        let pieces = Pieces::new(input.len, self.piece_bytes);
        let (upload, there) = self.begin(to).await?;
        let parts = stream::iter(1..=pieces.count()).map(|number| {
            let there = there.iter().find(|part| u64::from(part.number) == number);
            self.upload_part(input, path, pieces.range(number), to, &upload, (number as u32, there))
        });
        let parts: Result<Vec<Part>, Failure> = parts.buffer_unordered(self.jobs).try_collect().await;
        match parts {
            Ok(parts) => self.complete(to, &upload, parts).await,
            Err(failure) => Err(self.give_up(to, &upload, failure).await),
        }
    }

    /// An upload to add parts to, and the parts it has.
    async fn begin(&self, to: &Object) -> Result<(String, Vec<There>), Failure> {
        if self.resume == Resume::Yes
            && let Some(begun) = self.client.uploads(to).await?.pop()
        {
            let parts = self.client.parts(to, &begun.upload_id).await?;
            let there =
                parts.into_iter().map(|part| There { number: part.part_number, etag: part.etag, len: part.size });
            return Ok((begun.upload_id, there.collect()));
        }
        Ok((self.begin_anew(to).await?, vec![]))
    }

    async fn begin_anew(&self, to: &Object) -> Result<String, Failure> {
        // A condition holds for the object, so it is asked at the end.
        let headers: Vec<_> = self.headers.iter().filter(|(name, _)| !is_condition(name)).cloned().collect();
        Ok(self.client.begin_upload(to, &headers).await?)
    }

    async fn upload_part(
        &self,
        input: &Input,
        path: &Path,
        (from, to): (u64, u64),
        object: &Object,
        upload: &str,
        (number, there): (u32, Option<&There>),
    ) -> Result<Part, Failure> {
        let _turn = self.turns.take().await;
        let body = input.read(from, to).await.map_err(|error| local("can't read", path, &error))?;
        let is_there = |there: &&There| there.len == to - from && bare(&there.etag) == etag(&md5(&body));
        let part = match there.filter(is_there) {
            Some(there) => Part { number, etag: there.etag.clone() },
            None => self.client.put_part(object, upload, number, body).await?,
        };
        (self.moved)(to - from);
        Ok(part)
    }

    async fn complete(&self, to: &Object, upload: &str, mut parts: Vec<Part>) -> Result<Stored, Failure> {
        parts.sort_by_key(|part| part.number);
        let conditions: Vec<_> = self.headers.iter().filter(|(name, _)| is_condition(name)).cloned().collect();
        match self.client.complete_upload(to, upload, &parts, &conditions).await {
            Err(S3Error::Refused(refusal)) if refusal.code == "NoSuchUpload" => {
                // It may have been done by a request whose answer was lost.
                let refused = S3Error::Refused(refusal);
                let Ok((facts, _)) = self.client.head(to, None).await else { return Err(refused.into()) };
                let is_ours = tag_of(&parts).is_some_and(|tag| tag == bare(&facts.etag));
                let Facts { etag, version, .. } = facts;
                if is_ours { Ok(Stored { etag, version, state: None }) } else { Err(refused.into()) }
            }
            Err(error @ S3Error::Refused(_)) => Err(self.give_up(to, upload, error.into()).await),
            ended => Ok(ended?),
        }
    }

    /// What is refused won't be gone on with; what broke off may be.
    async fn give_up(&self, to: &Object, upload: &str, failure: Failure) -> Failure {
        match failure {
            Failure::Refused(_) | Failure::Missing(_) => {
                // The parts stay if this fails too; the first failure is the one to be told.
                let _ = self.client.abort_upload(to, upload).await;
                failure
            }
            Failure::Input(why) => {
                Failure::Broken(format!("{why}. Run it again with --resume to go on where it ended"))
            }
            Failure::Broken(why) => {
                Failure::Broken(format!("{why}; run it again with --resume to go on where it ended"))
            }
            other => other,
        }
    }

    /// Stores standard input, however long it is; says how long that was.
    ///
    /// # Errors
    /// If it can't be read or stored, or has more parts than S3 allows.
    pub async fn upload_stream(&self, to: &Object) -> Result<(Stored, u64), Failure> {
        let piece = usize::try_from(self.piece_bytes).unwrap_or(usize::MAX);
        let read = || async move {
            let read = read_input(piece).await;
            read.map_err(|error| Failure::Broken(format!("can't read standard input: {error}")))
        };
        let first = read().await?;
        if first.len() < piece {
            let len = first.len() as u64;
            let stored = self.client.put(to, &self.headers, first).await?;
            (self.moved)(len);
            return Ok((stored, len));
        }
        let upload = self.begin_anew(to).await?;
        let bodies = stream::unfold((1_u64, Some(first)), |(number, ready)| async move {
            let body = match ready {
                Some(body) => Ok(body),
                None => read().await,
            };
            let is_over = body.as_ref().is_ok_and(Bytes::is_empty);
            (!is_over).then(|| (body.map(|body| (number, body)), (number + 1, None)))
        });
        let parts = bodies.map(|body| async {
            let (number, body) = body?;
            self.stream_part(to, &upload, number, body).await
        });
        let parts: Result<Vec<(Part, u64)>, Failure> = parts.buffer_unordered(self.jobs).try_collect().await;
        match parts {
            Ok(parts) => {
                let (parts, lens): (Vec<Part>, Vec<u64>) = parts.into_iter().unzip();
                Ok((self.complete(to, &upload, parts).await?, lens.iter().sum()))
            }
            Err(failure) => {
                // Nobody can send the same stream again.
                let _ = self.client.abort_upload(to, &upload).await;
                Err(failure)
            }
        }
    }

    async fn stream_part(&self, to: &Object, upload: &str, number: u64, body: Bytes) -> Result<(Part, u64), Failure> {
        if number > PARTS_MAX {
            let most = (self.piece_bytes * PARTS_MAX) >> 30;
            return Err(Failure::Input(format!("this is more than {most} GiB: choose a larger --part-size")));
        }
        let len = body.len() as u64;
        let part = self.client.put_part(to, upload, number as u32, body).await?;
        (self.moved)(len);
        Ok((part, len))
    }

    /// Reads an object into a file, which is there once it is whole.
    ///
    /// # Errors
    /// If it can't be read or written, or changes meanwhile.
    pub async fn download(&self, from: &Object, facts: &Facts, to: &Path) -> Result<End, Failure> {
        let unwritten = |error: std::io::Error| local("can't write", to, &error);
        if self.resume == Resume::Yes
            && let Ok(input) = Input::open(to).await
            && self.is_same(&input, facts).await.unwrap_or(false)
        {
            (self.moved)(facts.len);
            return Ok(End::Unchanged);
        }
        let output = Output::create(to).await.map_err(unwritten)?;
        let pieces = Pieces::new(facts.len, self.piece_bytes);
        let ranges = stream::iter((1..=pieces.count()).map(|number| Ok::<_, Failure>(pieces.range(number))));
        let written = ranges.try_for_each_concurrent(self.jobs, |(start, end)| {
            let output = &output;
            async move {
                let _turn = self.turns.take().await;
                let write = |at, bytes| async move { output.write(at, bytes).await.map_err(unwritten) };
                self.fetch(from, facts, (start, end), write).await
            }
        });
        written.await?;
        output.finish().await.map_err(unwritten)?;
        let Facts { etag, version, .. } = facts.clone();
        Ok(End::Moved(Stored { etag, version, state: None }))
    }

    /// Writes bytes of an object to standard output.
    ///
    /// # Errors
    /// If it can't be read or written, or changes meanwhile.
    pub async fn print(&self, from: &Object, facts: &Facts, (start, end): (u64, u64)) -> Result<(), Failure> {
        let write = |_, bytes| async {
            write_output(bytes).await.map_err(|error| match error.kind() {
                std::io::ErrorKind::BrokenPipe => Failure::ReaderGone,
                _ => Failure::Broken(format!("can't write to standard output: {error}")),
            })
        };
        self.fetch(from, facts, (start, end), write).await
    }

    /// Hands the bytes of a range on, in order, and goes on where it broke off.
    async fn fetch<F: Future<Output = Result<(), Failure>>>(
        &self,
        object: &Object,
        facts: &Facts,
        (start, end): (u64, u64),
        write: impl Fn(u64, Bytes) -> F,
    ) -> Result<(), Failure> {
        let (mut at, mut breaks) = (start, 0);
        loop {
            let before = at;
            let ended = self.fetch_once(object, facts, (&mut at, end), &write).await?;
            breaks = if at > before { 0 } else { breaks + 1 };
            match ended {
                Ok(()) => return Ok(()),
                Err(error) if !matches!(error, S3Error::Away { .. }) || breaks >= BREAKS_MAX => {
                    return Err(error.into());
                }
                Err(_) => time::sleep(Duration::from_millis(200) * breaks).await,
            }
        }
    }

    async fn fetch_once<F: Future<Output = Result<(), Failure>>>(
        &self,
        object: &Object,
        facts: &Facts,
        (at, end): (&mut u64, u64),
        write: &impl Fn(u64, Bytes) -> F,
    ) -> Result<Result<(), S3Error>, Failure> {
        let mut answer = match self.client.get(object, facts, *at, end).await {
            Ok(answer) => answer,
            Err(error) => return Ok(Err(error)),
        };
        if let Err(error) = self.check_range(&answer, facts, (*at, end)) {
            return Ok(Err(error));
        }
        loop {
            let bytes = match answer.bytes().await {
                Ok(Some(bytes)) => bytes,
                Ok(None) if *at == end => return Ok(Ok(())),
                Ok(None) => return Ok(Err(self.client.nonsense("an object that is shorter than it says"))),
                Err(error) => return Ok(Err(error)),
            };
            let len = bytes.len() as u64;
            if len > end - *at {
                return Ok(Err(self.client.nonsense("more of an object than was asked for")));
            }
            write(*at, bytes).await?;
            *at += len;
            (self.moved)(len);
        }
    }

    /// Whether an answer is about the bytes that were asked for.
    fn check_range(&self, answer: &Answer, facts: &Facts, (start, end): (u64, u64)) -> Result<(), S3Error> {
        let is_part = start > 0 || end < facts.len;
        let range = format!("bytes {start}-{}/{}", end.saturating_sub(1), facts.len);
        match (is_part, answer.status, answer.header("content-range")) {
            (false, StatusCode::OK, _) => Ok(()),
            (true, StatusCode::PARTIAL_CONTENT, Some(said)) if said == range => Ok(()),
            (_, status, said) => {
                let why = format!("{status} with the range {said:?} when it was asked for {range}");
                Err(self.client.nonsense(&why))
            }
        }
    }

    /// Copies an object on the server.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn copy(&self, from: &Object, version: Option<&str>, to: &Object) -> Result<(End, u64), Failure> {
        let (facts, headers) = self.client.head(from, version).await?;
        if self.resume == Resume::Yes
            && let Ok((there, _)) = self.client.head(to, None).await
            && (there.len, bare(&there.etag)) == (facts.len, bare(&facts.etag))
        {
            return Ok((End::Unchanged, facts.len));
        }
        let stored = if facts.len <= COPY_MAX {
            self.client.copy(from, version, to, &self.copied(&headers)).await?
        } else {
            self.copy_parts((from, &facts), &headers, to).await?
        };
        (self.moved)(facts.len);
        Ok((End::Moved(stored), facts.len))
    }

    /// The headers of a copy on the server: it keeps the source's words, unless it is told to replace them all.
    fn copied(&self, source: &HeaderMap) -> Vec<(String, String)> {
        if !self.headers.iter().any(|(name, _)| is_kept(name)) {
            return self.headers.clone();
        }
        let mut headers = replaced(&self.headers, source);
        headers.push(("x-amz-metadata-directive".to_owned(), "REPLACE".to_owned()));
        headers
    }

    async fn copy_parts(&self, source: (&Object, &Facts), headers: &HeaderMap, to: &Object) -> Result<Stored, Failure> {
        let pieces = Pieces::new(source.1.len, COPY_PART);
        let mut words = replaced(&self.headers, headers);
        words.retain(|(name, _)| !is_condition(name));
        let upload = self.client.begin_upload(to, &words).await?;
        let parts = stream::iter(1..=pieces.count())
            .map(|number| self.client.copy_part(source, pieces.range(number), to, &upload, number as u32));
        let parts: Result<Vec<Part>, S3Error> = parts.buffer_unordered(self.jobs).try_collect().await;
        match parts {
            Ok(parts) => self.complete(to, &upload, parts).await,
            Err(error) => {
                let _ = self.client.abort_upload(to, &upload).await;
                Err(error.into())
            }
        }
    }
}

/// A part that is there.
struct There {
    number: u32,
    etag: String,
    len: u64,
}

/// How a length is divided into pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pieces {
    len: u64,
    piece: u64,
}

impl Pieces {
    /// Pieces of this length, or of as many MiB more as it takes for S3 to allow their number.
    fn new(len: u64, piece: u64) -> Self {
        let least = len.div_ceil(PARTS_MAX).div_ceil(MIB) * MIB;
        Self { len, piece: if len.div_ceil(piece) > PARTS_MAX { least } else { piece } }
    }

    /// At least one, for an object may be empty.
    fn count(self) -> u64 {
        self.len.div_ceil(self.piece).max(1)
    }

    /// Where the piece of a number, from 1, begins and ends.
    fn range(self, number: u64) -> (u64, u64) {
        ((number - 1) * self.piece, (number * self.piece).min(self.len))
    }
}

fn is_condition(header: &str) -> bool {
    header.starts_with("if-")
}

/// The tag of an object of these parts, if theirs are made as usual.
fn tag_of(parts: &[Part]) -> Option<String> {
    let hash = |part: &Part| {
        let digits = bare(&part.etag);
        let byte = |at: usize| digits.get(2 * at..2 * at + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
        let bytes: Option<Vec<u8>> = (0..16).map(byte).collect();
        bytes.and_then(|bytes| bytes.try_into().ok())
    };
    parts.iter().map(hash).collect::<Option<Vec<[u8; 16]>>>().map(|hashes| etag_of_parts(&hashes))
}

/// Whether a header is one of an object's words.
fn is_kept(name: &str) -> bool {
    const KEPT: &[&str] =
        &["cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires"];
    KEPT.contains(&name) || name.starts_with("x-amz-meta-")
}

/// What is told, and of a source's words those in whose place nothing is told.
fn replaced(told: &[(String, String)], source: &HeaderMap) -> Vec<(String, String)> {
    let own = |name: &str| Some((name.to_owned(), text(source, name)?.to_owned()));
    let stays = |name: &&str| is_kept(name) && told.iter().all(|(other, _)| other != name);
    let source = source.keys().map(hyper::header::HeaderName::as_str).filter(stays).filter_map(own);
    told.iter().cloned().chain(source).collect()
}

fn local(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    let line = format!("{what} {}: {error}", path.display());
    match error.kind() {
        std::io::ErrorKind::NotFound => Failure::Missing(line),
        std::io::ErrorKind::PermissionDenied => Failure::Refused(line),
        _ => Failure::Broken(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_everything_once() {
        for (len, piece) in [(0, 8), (1, 8), (8, 8), (9, 8), (25, 8), (100 << 30, 8 << 20)] {
            let pieces = Pieces::new(len, piece);
            let mut at = 0;
            for number in 1..=pieces.count() {
                let (from, to) = pieces.range(number);
                assert_eq!(from, at);
                at = to;
            }
            assert!(at == len && pieces.count() <= PARTS_MAX, "{len} in pieces of {piece}");
        }
        assert_eq!(Pieces::new(100 << 30, 8 << 20).piece, 11 << 20);
    }

    #[test]
    fn a_copy_keeps_the_words_that_nothing_replaces() {
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let mut source = HeaderMap::new();
        source.insert("content-type", "text/plain".parse().expect("a value"));
        source.insert("x-amz-meta-a", "1".parse().expect("a value"));
        source.insert("etag", "\"x\"".parse().expect("a value"));
        let told = pairs(&[("content-type", "text/html"), ("if-none-match", "*")]);
        let expected = pairs(&[("content-type", "text/html"), ("if-none-match", "*"), ("x-amz-meta-a", "1")]);
        assert_eq!(replaced(&told, &source), expected);
    }

    #[test]
    fn the_tag_of_parts_is_known_beforehand() {
        let part = |number, etag: &str| Part { number, etag: format!("\"{etag}\"") };
        let (a, b) = (etag(&md5(b"a")), etag(&md5(b"b")));
        assert_eq!(tag_of(&[part(1, &a), part(2, &b)]).as_deref(), Some("96e024ba2074fe77e8e965ba43a704be-2"));
        assert_eq!(tag_of(&[part(1, &a), part(2, "opaque")]), None);
    }
}
