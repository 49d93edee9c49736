//! From chunks into an answer: a few pieces ahead, in order, each verified on its way from the disk.
//!
//! What can't be read ends the answer with an error, which HTTP shows as a connection that broke: never as a shorter object.

use std::collections::VecDeque;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use cairn_io::task::{Class, JoinHandle, spawn};
use cairn_meta::index::ChunkId;
use cairn_meta::slot::layout::BucketId;
use cairn_meta::slot::query::{OfUpload, Parts, Query, Reply};
use cairn_meta::version::{Chunk, Content, PartInfo, Payload, UploadId};
use futures_channel::mpsc;
use futures_util::{SinkExt, Stream, StreamExt};

use super::{Permit, disk_error};
use crate::cluster::{Cluster, Freshness};
use crate::disks::DisksError;
use crate::s3::error::{Code, Result, S3Error};

/// The longest piece that is read at once.
const PIECE_BYTES: u64 = 1 << 20;
/// Pieces that are read ahead of the one that is being sent.
const AHEAD: usize = 2;
/// Memory that an answer holds.
pub const HELD_BYTES: usize = (AHEAD + 2) * PIECE_BYTES as usize;
/// Rows of parts that are fetched at once.
const PARTS_AT_ONCE: u32 = 16;

/// Which bytes of an object are wanted.
pub type Span = Range<u64>;

/// What is being read.
pub struct Source {
    /// The cluster.
    pub cluster: Cluster,
    /// The object's bucket.
    pub bucket: BucketId,
    /// The object's key.
    pub key: String,
}

/// The rest of an answer's bytes.
pub struct Read {
    pieces: mpsc::Receiver<Result<Bytes>>,
    /// It ends with this.
    _reading: JoinHandle<()>,
    _permit: Option<Permit>,
}

/// What is read first, and what comes behind it.
pub enum Begun {
    /// All of it.
    Whole(Bytes),
    /// The first piece, and the rest.
    First(Bytes, Read),
}

impl Source {
    /// Begins to read a span of an object's bytes. The first piece is there when this returns, so that what can't be read is an
    /// error that can still be said.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn begin(self, content: Content, span: Span, permit: Option<Permit>) -> Result<Begun> {
        match content.payload {
            Payload::Inline(bytes) => {
                let range = span.start as usize..span.end as usize;
                if range.end > bytes.len() || range.start > range.end {
                    return Err(Code::InternalError.into());
                }
                Ok(Begun::Whole(Bytes::from(bytes).slice(range)))
            }
            Payload::Chunks(chunks) => self.start(Plan::new(pieces(&chunks, &span)), permit).await,
            Payload::Parts(upload) => {
                let parts = parts_of(&content.parts, &span);
                self.start(Plan { pieces: VecDeque::new(), parts, upload: Some(upload) }, permit).await
            }
        }
    }

    async fn start(self, mut plan: Plan, permit: Option<Permit>) -> Result<Begun> {
        let Some(first) = plan.next(&self).await? else { return Ok(Begun::Whole(Bytes::new())) };
        let bytes = fetch(&self.cluster, first).await?;
        if plan.is_empty() {
            return Ok(Begun::Whole(bytes));
        }
        // A channel holds one more than it is said to for each sender.
        let (sender, pieces) = mpsc::channel(0);
        let reading = spawn(Class::Foreground, self.run(plan, sender));
        Ok(Begun::First(bytes, Read { pieces, _reading: reading, _permit: permit }))
    }

    async fn run(self, mut plan: Plan, mut to: mpsc::Sender<Result<Bytes>>) {
        let mut ahead: VecDeque<JoinHandle<Result<Bytes>>> = VecDeque::new();
        loop {
            let next = if ahead.len() < AHEAD { plan.next(&self).await } else { Ok(None) };
            match next {
                Ok(Some(piece)) => {
                    let cluster = self.cluster.clone();
                    ahead.push_back(spawn(Class::Foreground, async move { fetch(&cluster, piece).await }));
                    continue;
                }
                Ok(None) => {}
                Err(error) => {
                    let _ = to.send(Err(error)).await;
                    return;
                }
            }
            let Some(oldest) = ahead.pop_front() else { return };
            let bytes = oldest.await.unwrap_or_else(|_| Err(Code::InternalError.into()));
            let is_bad = bytes.is_err();
            // Nobody listens any more, or there is nothing more to say.
            if to.send(bytes).await.is_err() || is_bad {
                return;
            }
        }
    }
}

impl Stream for Read {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.pieces.poll_next_unpin(cx)
    }
}

/// A part of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    chunk: Chunk,
    range: Range<u64>,
}

/// What is still to be read.
struct Plan {
    pieces: VecDeque<Piece>,
    /// Parts whose chunks aren't known yet, with the span of each that is wanted.
    parts: VecDeque<(PartInfo, Span)>,
    upload: Option<UploadId>,
}

impl Plan {
    fn new(pieces: VecDeque<Piece>) -> Self {
        Self { pieces, parts: VecDeque::new(), upload: None }
    }

    fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.parts.is_empty()
    }

    async fn next(&mut self, source: &Source) -> Result<Option<Piece>> {
        while self.pieces.is_empty() && !self.parts.is_empty() {
            self.look_up(source).await?;
        }
        Ok(self.pieces.pop_front())
    }

    /// Fetches the rows of the next parts.
    async fn look_up(&mut self, source: &Source) -> Result<()> {
        let Some(upload) = self.upload else { return Err(Code::InternalError.into()) };
        let of = OfUpload { bucket: source.bucket, key: source.key.clone(), upload };
        let behind = self.parts.front().map_or(0, |(part, _)| part.number.saturating_sub(1));
        let query = Query::Parts { of, behind, limit: PARTS_AT_ONCE };
        let at = (source.bucket, source.key.as_str());
        // They don't change once they are an object's.
        let reply = source.cluster.query(at, &query, Freshness::Local).await?;
        let Reply::Parts(Parts { parts, .. }) = reply else { return Err(Code::InternalError.into()) };
        for (number, part) in parts {
            let Some((_, span)) =
                self.parts.front().filter(|(info, _)| info.number == number && info.size == part.size)
            else {
                break;
            };
            self.pieces.extend(pieces(&part.chunks, span));
            self.parts.pop_front();
            if self.parts.is_empty() {
                return Ok(());
            }
        }
        if self.pieces.is_empty() { Err(gone()) } else { Ok(()) }
    }
}

/// The object was removed while it was being read, or is damaged.
fn gone() -> S3Error {
    Code::InternalError.says("A part of the object could not be found. Please try again.")
}

/// The pieces of some chunks that cover a span of their bytes.
fn pieces(chunks: &[Chunk], span: &Span) -> VecDeque<Piece> {
    let mut pieces = VecDeque::new();
    let mut at = 0;
    for chunk in chunks {
        let end = at + u64::from(chunk.length);
        let (mut from, to) = (span.start.max(at), span.end.min(end));
        while from < to {
            let next = to.min(from + PIECE_BYTES);
            pieces.push_back(Piece { chunk: *chunk, range: from - at..next - at });
            from = next;
        }
        at = end;
    }
    pieces
}

/// The parts that a span touches, with the span of each.
fn parts_of(parts: &[PartInfo], span: &Span) -> VecDeque<(PartInfo, Span)> {
    let mut at = 0;
    let mut found = VecDeque::new();
    for part in parts {
        let end = at + part.size;
        let (from, to) = (span.start.max(at), span.end.min(end));
        if from < to {
            found.push_back((part.clone(), from - at..to - at));
        }
        at = end;
    }
    found
}

async fn fetch(cluster: &Cluster, Piece { chunk, range }: Piece) -> Result<Bytes> {
    let id = ChunkId(chunk.id);
    let is_whole = range == (0..u64::from(chunk.length));
    let expected = range.end - range.start;
    let disks = cluster.disks();
    let read: Result<Option<Bytes>, DisksError> =
        if is_whole { disks.get(&id).await } else { disks.get_range(&id, range).await };
    let bytes = read.map_err(|error| disk_error(&error))?;
    match bytes {
        Some(bytes) if bytes.len() as u64 == expected => Ok(bytes),
        Some(_) => {
            tracing::error!(chunk = ?id, "a chunk is shorter than the object says");
            Err(Code::InternalError.into())
        }
        None => {
            tracing::error!(chunk = ?id, "a chunk of an object is not here");
            Err(gone())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_span_once() {
        let chunk = |number: u8, length: u32| Chunk { id: [number; 32], length };
        let chunks = [chunk(1, 3 << 20), chunk(2, 10), chunk(3, 2 << 20)];
        let whole = (5 << 20) + 10;
        for span in [0..whole, 5..6, (3 << 20) - 1..(3 << 20) + 11, (3 << 20) + 2..(3 << 20) + 3, 7..7] {
            let found = pieces(&chunks, &span);
            let mut at = span.start;
            for Piece { chunk, range } in &found {
                let before: u64 =
                    chunks.iter().take_while(|one| one.id != chunk.id).map(|one| u64::from(one.length)).sum();
                assert_eq!(before + range.start, at, "{span:?}");
                assert!(range.end - range.start <= PIECE_BYTES && range.end <= u64::from(chunk.length));
                at = before + range.end;
            }
            assert_eq!(at, span.end, "{span:?}");
        }
    }

    #[test]
    fn a_span_touches_the_parts_it_should() {
        let parts =
            [PartInfo { number: 1, size: 10 }, PartInfo { number: 5, size: 0 }, PartInfo { number: 7, size: 5 }];
        let numbers = |span: Span| {
            parts_of(&parts, &span).into_iter().map(|(part, span)| (part.number, span)).collect::<Vec<_>>()
        };
        assert_eq!(numbers(0..15), [(1, 0..10), (7, 0..5)]);
        assert_eq!(numbers(9..11), [(1, 9..10), (7, 0..1)]);
        assert_eq!(numbers(10..15), [(7, 0..5)]);
    }
}
