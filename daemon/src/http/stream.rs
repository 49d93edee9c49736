//! A connection's stream whose waits end: for a head, for the next request, for a client that doesn't read.

use std::cell::Cell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use cairn_io::net::Stream;
use cairn_io::time::{self, Instant, Sleep};
use hyper::rt;

use super::Limits;

/// What a connection is waiting for, shared by its stream and its service.
pub struct Phase {
    doing: Cell<Doing>,
    since: Cell<Instant>,
    /// Who reads while an answer is under way, without a clock: hyper, to see that the client leaves. It won't read anew
    /// when the answer ends, unless it is woken; and then the clock must run.
    reader: Cell<Option<Waker>>,
    /// Whether the client was too slow: hyper doesn't always say so.
    is_late: Cell<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// The head of a request, since its first byte or since the connection began.
    Head,
    /// A request, since the answer before.
    Idle,
    /// An answer: the client owes nothing but, perhaps, a body, whose own clock runs.
    Busy,
}

impl Phase {
    /// A new connection owes a head.
    pub fn new() -> Rc<Self> {
        let (doing, since) = (Cell::new(Doing::Head), Cell::new(time::now()));
        Rc::new(Self { doing, since, reader: Cell::default(), is_late: Cell::default() })
    }

    /// A request's head is there.
    pub fn begin(&self) {
        self.set(Doing::Busy);
    }

    /// Its answer is handed out.
    pub fn end(&self) {
        self.set(Doing::Idle);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Whether the connection ended because the client was too slow.
    pub fn is_late(&self) -> bool {
        self.is_late.get()
    }

    fn set(&self, doing: Doing) {
        self.doing.set(doing);
        self.since.set(time::now());
    }

    /// An error once the sleep is over.
    fn late(&self, sleep: Option<&mut Sleep>, cx: &mut Context<'_>, why: &str) -> Poll<io::Result<()>> {
        match sleep.map(|sleep| Pin::new(sleep).poll(cx)) {
            Some(Poll::Ready(())) => {
                self.is_late.set(true);
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)))
            }
            Some(Poll::Pending) | None => Poll::Pending,
        }
    }

    fn received(&self) {
        if self.doing.get() == Doing::Idle {
            self.set(Doing::Head);
        }
    }

    /// When the client must have sent something.
    fn deadline(&self, limits: &Limits) -> Option<Instant> {
        match self.doing.get() {
            Doing::Head => Some(self.since.get() + limits.head_within),
            Doing::Idle => Some(self.since.get() + limits.idle_within),
            Doing::Busy => None,
        }
    }
}

/// See the module.
pub struct Guarded {
    stream: Stream,
    phase: Rc<Phase>,
    limits: Limits,
    reading: Option<Sleep>,
    writing: Option<Sleep>,
}

impl Guarded {
    pub fn new(stream: Stream, phase: Rc<Phase>, limits: &Limits) -> Self {
        Self { stream, phase, limits: *limits, reading: None, writing: None }
    }

    /// An error if what is waited for should have come by now.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(deadline) = self.phase.deadline(&self.limits) else {
            self.reading = None;
            self.phase.reader.set(Some(cx.waker().clone()));
            return Poll::Pending;
        };
        if self.reading.as_ref().is_none_or(|sleep| sleep.deadline() != deadline) {
            self.reading = Some(time::sleep_until(deadline));
        }
        self.phase.late(self.reading.as_mut(), cx, "the client sent nothing in time")
    }

    fn after_write(&mut self, cx: &mut Context<'_>, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if wrote.is_ready() {
            self.writing = None;
            return wrote;
        }
        let within = self.limits.stall_within;
        let sleep = self.writing.get_or_insert_with(|| time::sleep(within));
        self.phase.late(Some(sleep), cx, "the client read nothing in time").map_ok(|()| 0)
    }
}

impl rt::Read for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        cursor: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match rt::Read::poll_read(Pin::new(&mut self.stream), cx, cursor) {
            Poll::Ready(Ok(())) => {
                self.phase.received();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_late(cx),
        }
    }
}

impl rt::Write for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = rt::Write::poll_write(Pin::new(&mut self.stream), cx, buffer);
        self.after_write(cx, wrote)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        rt::Write::poll_flush(Pin::new(&mut self.stream), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        rt::Write::poll_shutdown(Pin::new(&mut self.stream), cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = rt::Write::poll_write_vectored(Pin::new(&mut self.stream), cx, buffers);
        self.after_write(cx, wrote)
    }
}
