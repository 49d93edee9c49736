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
use cairn_meta::slot::command::Part;
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
    /// How fresh the version was: rows of its parts that are older could be other parts.
    pub freshness: Freshness,
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
            // Boxed: objects whose bytes are in the version have no need of that room.
            Payload::Chunks(chunks) => Box::pin(self.start(Plan::new(pieces(&chunks, &span)), permit)).await,
            Payload::Parts(upload) => {
                let parts = parts_of(&content.parts, &span);
                Box::pin(self.start(Plan { pieces: VecDeque::new(), parts, upload: Some(upload) }, permit)).await
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

    async fn next(&mut self, rows: &impl PartRows) -> Result<Option<Piece>> {
        while self.pieces.is_empty() && !self.parts.is_empty() {
            self.look_up(rows).await?;
        }
        Ok(self.pieces.pop_front())
    }

    /// Fetches the rows of the next parts. A node that lags may not have them yet, or those of an earlier upload of a part: it is
    /// asked only for what it showed the version of, and only the slot's leader may say that they are gone.
    async fn look_up(&mut self, rows: &impl PartRows) -> Result<()> {
        let Some(upload) = self.upload else { return Err(Code::InternalError.into()) };
        let behind = self.parts.front().map_or(0, |(part, _)| part.number.saturating_sub(1));
        let known = rows.freshness();
        if self.take(rows.parts(upload, behind, known).await?) {
            return Ok(());
        }
        if known == Freshness::Local && self.take(rows.parts(upload, behind, Freshness::Latest).await?) {
            return Ok(());
        }
        Err(gone())
    }

    /// Takes the rows of the next parts, as far as they go; whether there was any.
    fn take(&mut self, parts: Vec<(u16, Part)>) -> bool {
        let before = self.parts.len();
        for (number, part) in parts {
            let next = self.parts.front().filter(|(info, _)| info.number == number && info.size == part.size);
            let Some((_, span)) = next else { break };
            self.pieces.extend(pieces(&part.chunks, span));
            self.parts.pop_front();
        }
        self.parts.len() < before
    }
}

/// Who has the rows of an object's parts.
trait PartRows {
    /// How fresh the object's version was.
    fn freshness(&self) -> Freshness;

    /// The next rows behind a number.
    fn parts(
        &self,
        upload: UploadId,
        behind: u16,
        freshness: Freshness,
    ) -> impl Future<Output = Result<Vec<(u16, Part)>>>;
}

impl PartRows for Source {
    fn freshness(&self) -> Freshness {
        self.freshness
    }

    async fn parts(&self, upload: UploadId, behind: u16, freshness: Freshness) -> Result<Vec<(u16, Part)>> {
        let of = OfUpload { bucket: self.bucket, key: self.key.clone(), upload };
        let query = Query::Parts { of, behind, limit: PARTS_AT_ONCE };
        match self.cluster.query((self.bucket, &self.key), &query, freshness).await? {
            Reply::Parts(Parts { parts, .. }) => Ok(parts),
            _ => Err(Code::InternalError.into()),
        }
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

    fn chunk(number: u8, length: u32) -> Chunk {
        Chunk { id: [number; 32], length }
    }

    /// A node and the leader of its slot, with a part each.
    struct Two {
        /// How the version was read.
        freshness: Freshness,
        here: Vec<(u16, Part)>,
        leader: Vec<(u16, Part)>,
    }

    impl PartRows for Two {
        fn freshness(&self) -> Freshness {
            self.freshness
        }

        async fn parts(&self, _: UploadId, behind: u16, freshness: Freshness) -> Result<Vec<(u16, Part)>> {
            let rows = if freshness == Freshness::Local { &self.here } else { &self.leader };
            Ok(rows.iter().filter(|(number, _)| *number > behind).cloned().collect())
        }
    }

    /// The first chunk that is read of an object of one part.
    fn first_read(freshness: Freshness, here: Option<u8>, leader: Option<u8>) -> Result<u8, Code> {
        let row = |number: u8| {
            let (etag, checksums, chunks) = (String::new(), vec![], vec![chunk(number, 10)]);
            (1, Part { size: 10, etag, modified: 0, checksums, chunks })
        };
        let two =
            Two { freshness, here: here.map(row).into_iter().collect(), leader: leader.map(row).into_iter().collect() };
        let parts = parts_of(&[PartInfo { number: 1, size: 10 }], &(0..10));
        let mut plan = Plan { pieces: VecDeque::new(), parts, upload: Some(UploadId(7)) };
        let next = futures_util::FutureExt::now_or_never(plan.next(&two)).expect("nobody waits");
        next.map(|piece| piece.expect("a piece").chunk.id[0]).map_err(|error| error.code())
    }

    /// The rows of parts were always read on the node that was asked. One that lagged behind the leader, which had said what the
    /// object is, said that its parts were gone, or gave the bytes of a part that had been uploaded again with as many.
    #[test]
    fn a_node_that_lags_says_nothing_of_parts() {
        let (latest, local) = (Freshness::Latest, Freshness::Local);
        assert_eq!(first_read(latest, None, Some(2)), Ok(2), "not here yet");
        assert_eq!(first_read(latest, Some(1), Some(2)), Ok(2), "uploaded again");
        assert_eq!(first_read(latest, Some(1), None), Err(Code::InternalError), "gone, and not here yet");
        // Who wants what this node has gets that, whatever others have.
        assert_eq!(first_read(local, Some(1), None), Ok(1));
        assert_eq!(first_read(local, None, Some(2)), Ok(2));
        assert_eq!(first_read(local, None, None), Err(Code::InternalError));
    }

    #[test]
    fn pieces_cover_a_span_once() {
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
