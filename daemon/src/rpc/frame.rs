//! Messages as they stand in a stream: a table of segment lengths, then the segments.
//!
//! Memory for a message is taken as its bytes arrive: a length alone, however large, costs nothing.

use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;

use cairn_io::net::Stream;
use cairn_io::time::{Duration, timeout};
use cairn_schema::limits::NESTING_MAX;
use capnp::Word;
use capnp::message::{Builder, HeapAllocator, Reader, ReaderOptions, ReaderSegments};
use futures_util::{AsyncReadExt, AsyncWriteExt};

use super::limits::Limits;
use super::traffic::Traffic;

/// Bytes read ahead: what small messages are read with, many at a time.
const BUFFER: usize = 64 << 10;
/// Memory taken at once for a message whose end has not been seen.
const TRUST: usize = 2 << 20;
/// The format's own limit is larger; nobody who is well needs so many.
const SEGMENTS_MAX: usize = 512;

/// The segments of a message that was received.
#[derive(Debug)]
pub struct Segments {
    words: Vec<Word>,
    /// Where each segment ends.
    ends: Vec<usize>,
}

impl Segments {
    /// Bytes of all segments.
    pub fn bytes(&self) -> usize {
        self.words.len() * 8
    }

    /// The message. Following all its pointers twice over is allowed, so that a message that names one place many times
    /// doesn't grow.
    pub fn into_reader(self) -> Reader<Self> {
        let mut options = ReaderOptions::new();
        options.nesting_limit(NESTING_MAX.into());
        options.traversal_limit_in_words(Some(self.words.len() * 4 + 1024));
        Reader::new(self, options)
    }
}

impl ReaderSegments for Segments {
    fn get_segment(&self, id: u32) -> Option<&[u8]> {
        let at = id as usize;
        let end = *self.ends.get(at)?;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(Word::words_to_bytes(&self.words[start..end]))
    }

    fn len(&self) -> usize {
        self.ends.len()
    }
}

/// Reads messages from a stream.
#[derive(Debug)]
pub struct FrameReader {
    stream: Stream,
    buffer: Vec<u8>,
    /// What of the buffer is read and not yet used.
    start: usize,
    end: usize,
    message_bytes_max: usize,
    message_within: Duration,
    /// Told of whatever arrives.
    traffic: Rc<Traffic>,
}

impl FrameReader {
    /// Reads from `stream` under these limits; tells `traffic` of what arrives.
    pub fn new(stream: Stream, limits: &Limits, traffic: Rc<Traffic>) -> Self {
        let Limits { message_bytes_max, message_within, .. } = *limits;
        Self { stream, buffer: vec![0; BUFFER], start: 0, end: 0, message_bytes_max, message_within, traffic }
    }

    /// Waits until a message begins; false if the stream ends instead. May be dropped and called again.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn begins(&mut self) -> io::Result<bool> {
        if self.start < self.end {
            return Ok(true);
        }
        (self.start, self.end) = (0, 0);
        self.end = self.stream.read(&mut self.buffer).await?;
        self.traffic.hear();
        Ok(self.end > 0)
    }

    /// Reads the message that begins.
    ///
    /// # Errors
    /// If it isn't one, is too long, takes too long, or ends in the middle.
    pub async fn read(&mut self) -> io::Result<Segments> {
        let within = self.message_within;
        timeout(within, self.read_all()).await.unwrap_or_else(|_| {
            Err(io::Error::new(ErrorKind::TimedOut, format!("a message took longer than {within:?} to arrive")))
        })
    }

    async fn read_all(&mut self) -> io::Result<Segments> {
        let ends = self.read_table().await?;
        let words = ends.last().copied().unwrap_or(0);
        let words = self.read_words(words).await?;
        Ok(Segments { words, ends })
    }

    /// Where each segment ends, in words.
    async fn read_table(&mut self) -> io::Result<Vec<usize>> {
        let segments = self.read_number().await?.saturating_add(1) as usize;
        if segments > SEGMENTS_MAX {
            return Err(wrong(format!("a message of {segments} segments, and there may be {SEGMENTS_MAX}")));
        }
        let mut ends = Vec::with_capacity(segments);
        let mut words = 0_usize;
        for _ in 0..segments {
            words += self.read_number().await? as usize;
            ends.push(words);
        }
        if segments.is_multiple_of(2) {
            self.read_number().await?;
        }
        if words > self.message_bytes_max / 8 {
            let max = self.message_bytes_max;
            return Err(wrong(format!("a message of {} bytes, and it may have {max}", words.saturating_mul(8))));
        }
        Ok(ends)
    }

    async fn read_number(&mut self) -> io::Result<u32> {
        while self.end - self.start < 4 {
            self.fill().await?;
        }
        let number = self.buffer[self.start..].first_chunk().expect("four bytes are there");
        self.start += 4;
        Ok(u32::from_le_bytes(*number))
    }

    async fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let read = self.stream.read(&mut self.buffer[self.end..]).await?;
        if read == 0 {
            return Err(ended_within());
        }
        self.end += read;
        self.traffic.hear();
        Ok(())
    }

    async fn read_words(&mut self, total: usize) -> io::Result<Vec<Word>> {
        let mut words = Word::allocate_zeroed_vec(total.min(TRUST / 8));
        let buffered = (self.end - self.start).min(words.len() * 8);
        Word::words_to_bytes_mut(&mut words)[..buffered]
            .copy_from_slice(&self.buffer[self.start..self.start + buffered]);
        self.start += buffered;
        let mut at = buffered;
        loop {
            while at < words.len() * 8 {
                let read = self.stream.read(&mut Word::words_to_bytes_mut(&mut words)[at..]).await?;
                if read == 0 {
                    return Err(ended_within());
                }
                at += read;
                self.traffic.hear();
            }
            if words.len() == total {
                return Ok(words);
            }
            words.resize((words.len() * 2).min(total), capnp::word(0, 0, 0, 0, 0, 0, 0, 0));
        }
    }
}

fn ended_within() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "the connection ended within a message")
}

fn wrong(what: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

/// Messages written by one call of the system.
const BATCH: usize = 64;
/// A message up to this size is copied beside its neighbours, which costs less than a slice of its own.
const COPY: usize = 4 << 10;

/// Writes messages to a stream.
#[derive(Debug)]
pub struct FrameWriter {
    stream: Stream,
    write_within: Duration,
    /// Tables, and messages small enough to copy.
    copied: Vec<u8>,
}

impl FrameWriter {
    /// Writes to `stream`; whoever takes no byte for so long is gone.
    pub fn new(stream: Stream, write_within: Duration) -> Self {
        Self { stream, write_within, copied: Vec::new() }
    }

    /// Writes messages, as many as there are at once; at most [`Self::batch_max`].
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn write(&mut self, messages: &[impl AsRef<Builder<HeapAllocator>>]) -> io::Result<()> {
        let mut copied = std::mem::take(&mut self.copied);
        copied.clear();
        // Ends of what is copied, each with the segments that follow it in place.
        let mut pieces: Vec<(usize, Vec<&[u8]>)> = Vec::new();
        for message in messages {
            let segments = message.as_ref().get_segments_for_output();
            copy_table(&mut copied, &segments);
            if segments.iter().map(|segment| segment.len()).sum::<usize>() <= COPY {
                segments.iter().for_each(|segment| copied.extend_from_slice(segment));
            } else {
                pieces.push((copied.len(), segments.to_vec()));
            }
        }
        let mut slices = Vec::with_capacity(pieces.len() * 2 + 1);
        let mut start = 0;
        for (end, segments) in &pieces {
            slices.push(IoSlice::new(&copied[start..*end]));
            slices.extend(segments.iter().map(|segment| IoSlice::new(segment)));
            start = *end;
        }
        slices.push(IoSlice::new(&copied[start..]));
        slices.retain(|slice| !slice.is_empty());
        self.write_slices(&mut slices).await?;
        self.copied = copied;
        Ok(())
    }

    /// Messages that [`Self::write`] takes at once.
    pub const fn batch_max() -> usize {
        BATCH
    }

    async fn write_slices(&mut self, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        // The system takes a limited number at once.
        const SLICES_MAX: usize = 512;
        while !slices.is_empty() {
            let now = slices.len().min(SLICES_MAX);
            let written = timeout(self.write_within, self.stream.write_vectored(&slices[..now])).await??;
            if written == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut slices, written);
        }
        Ok(())
    }

    /// Ends the direction that is written.
    pub async fn close(&mut self) {
        // The other end may have closed it all: then there is nothing left to end.
        let _ = self.stream.close().await;
    }

    /// Ends both directions: who reads notices too.
    pub fn abort(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

fn copy_table(into: &mut Vec<u8>, segments: &[&[u8]]) {
    let number = |number: usize| u32::try_from(number).expect("a message is far shorter").to_le_bytes();
    into.extend_from_slice(&number(segments.len() - 1));
    segments.iter().for_each(|segment| into.extend_from_slice(&number(segment.len() / 8)));
    if segments.len().is_multiple_of(2) {
        into.extend_from_slice(&[0; 4]);
    }
}
