//! Sockets of a real kernel and when they are ready.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use ::monoio::net::TcpStream;
use futures_util::future::LocalBoxFuture;
use socket2::{SockRef, Socket as Socket2};

use super::Real;
use super::probe::Kind;
use super::ring::{PollReady, Ring};

/// What one waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    Readable,
    Writable,
}

/// A non-blocking socket of any kind. Calls are tried first; only one that would block waits for readiness, and is not
/// tried again before that, however often it is polled.
pub(crate) struct Socket {
    // IMPORTANT: dropped before `owner`: the waiting ends before the descriptor is closed.
    reader: RefCell<Option<Waiting>>,
    writer: RefCell<Option<Waiting>>,
    owner: Owner,
}

/// Who closes the descriptor, and how one waits for it.
enum Owner {
    Ring(OwnedFd, Rc<Ring>),
    Monoio(Rc<TcpStream>),
}

enum Waiting {
    Ring(PollReady),
    Monoio(LocalBoxFuture<'static, io::Result<()>>),
}

impl Socket {
    pub fn new(real: &Real, socket: Socket2) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let owner = match (real.kind, &real.ring) {
            (Kind::Glommio, Some(ring)) => Owner::Ring(socket.into(), ring.clone()),
            _ => Owner::Monoio(Rc::new(as_monoio(socket.into())?)),
        };
        Ok(Self { reader: RefCell::default(), writer: RefCell::default(), owner })
    }

    /// For calls that don't wait.
    pub fn raw(&self) -> SockRef<'_> {
        SockRef::from(self)
    }

    /// Calls `attempt` until it doesn't answer "would block".
    pub fn poll_io<T>(
        &self,
        cx: &mut Context<'_>,
        interest: Interest,
        mut attempt: impl FnMut(&Socket2) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        if self.place(interest).borrow().is_some() {
            ready!(self.poll_ready(cx, interest))?;
        }
        loop {
            match attempt(&self.raw()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.poll_ready(cx, interest))?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// As [`Socket::poll_io`], waiting.
    pub async fn io<T>(&self, interest: Interest, mut attempt: impl FnMut(&Socket2) -> io::Result<T>) -> io::Result<T> {
        std::future::poll_fn(|cx| self.poll_io(cx, interest, &mut attempt)).await
    }

    pub fn poll_ready(&self, cx: &mut Context<'_>, interest: Interest) -> Poll<io::Result<()>> {
        let mut place = self.place(interest).borrow_mut();
        let waiting = place.get_or_insert_with(|| self.wait(cx, interest));
        let ready = ready!(match waiting {
            Waiting::Ring(waiting) => waiting.poll(cx),
            Waiting::Monoio(waiting) => waiting.as_mut().poll(cx),
        });
        *place = None;
        Poll::Ready(ready)
    }

    fn place(&self, interest: Interest) -> &RefCell<Option<Waiting>> {
        match interest {
            Interest::Readable => &self.reader,
            Interest::Writable => &self.writer,
        }
    }

    fn wait(&self, cx: &Context<'_>, interest: Interest) -> Waiting {
        match &self.owner {
            Owner::Ring(fd, ring) => {
                let events = match interest {
                    Interest::Readable => libc::POLLIN | libc::POLLRDHUP,
                    Interest::Writable => libc::POLLOUT,
                };
                Waiting::Ring(PollReady::new(ring, fd.as_raw_fd(), u32::from(events as u16), cx))
            }
            Owner::Monoio(stream) => {
                let stream = stream.clone();
                Waiting::Monoio(Box::pin(async move {
                    match interest {
                        Interest::Readable => stream.readable(false).await,
                        Interest::Writable => stream.writable(false).await,
                    }
                }))
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.owner {
            Owner::Ring(fd, _) => fd.as_fd(),
            // SAFETY: the stream keeps the descriptor open as long as `self` is borrowed.
            Owner::Monoio(stream) => unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) },
        }
    }
}

/// Hands a descriptor to monoio. Its stream type is used for waiting only, so any pollable descriptor will do.
pub(super) fn as_monoio(fd: OwnedFd) -> io::Result<TcpStream> {
    // SAFETY: the descriptor is owned and handed over.
    let stream = unsafe { std::net::TcpStream::from_raw_fd(fd.into_raw_fd()) };
    TcpStream::from_std(stream)
}
