//! hyper's runtime traits on our streams, tasks and timers.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_io::AsyncWrite;
use hyper::rt;

use super::Stream;
use crate::task::{self, Class};
use crate::time::{self, Duration};

impl rt::Read for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // SAFETY: the slice goes to `recv` alone, which writes and never reads it; nothing is de-initialised.
        let room = unsafe {
            let room = cursor.as_mut();
            std::slice::from_raw_parts_mut(room.as_mut_ptr().cast::<u8>(), room.len())
        };
        let len = ready!(self.poll_recv(cx, room))?;
        // SAFETY: the first `len` bytes were written just now.
        unsafe { cursor.advance(len) };
        Poll::Ready(Ok(()))
    }
}

impl rt::Write for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(self, cx, buffer)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(self, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_close(self, cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write_vectored(self, cx, buffers)
    }
}

/// Runs hyper's tasks on the current core.
#[derive(Clone, Copy, Debug)]
pub struct HyperExecutor(pub Class);

impl<F> rt::Executor<F> for HyperExecutor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        task::spawn(self.0, future).detach();
    }
}

/// hyper's timers on the current core's clock.
///
/// hyper wants `Send` sleeps and `std` instants; the sleeps stay on the core that made them all the same, because
/// hyper's connections do.
#[derive(Clone, Copy, Debug)]
pub struct HyperTimer;

struct HyperSleep(time::Sleep);

impl Future for HyperSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl rt::Sleep for HyperSleep {}

impl rt::Timer for HyperTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(HyperSleep(time::sleep(duration)))
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn rt::Sleep>> {
        let now = self.now();
        self.sleep(deadline.saturating_duration_since(now))
    }

    fn now(&self) -> std::time::Instant {
        crate::driver::std_instant(time::now())
    }
}
