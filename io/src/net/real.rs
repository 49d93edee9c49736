//! Sockets of the kernel, on any real driver.

use std::cell::Cell;
use std::fmt;
use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::net::{Shutdown as How, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use socket2::{Domain, Protocol, SockAddr, Socket as Socket2, Type};

use super::Reuse;
use crate::driver::{Interest, Real, Socket};

/// Connections the kernel keeps until they are accepted.
const BACKLOG: i32 = 1024;

pub(crate) struct Listener {
    socket: Socket,
    real: Rc<Real>,
}

impl Listener {
    pub fn bind(real: &Rc<Real>, addr: SocketAddr, reuse: Reuse) -> io::Result<Self> {
        let socket = open(addr, Type::STREAM, Protocol::TCP)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(reuse == Reuse::Shared)?;
        socket.bind(&addr.into()).map_err(|error| explain(&error, "listen at", addr))?;
        socket.listen(BACKLOG).map_err(|error| explain(&error, "listen at", addr))?;
        Ok(Self { socket: Socket::new(real, socket)?, real: real.clone() })
    }

    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let (socket, peer) = self.socket.io(Interest::Readable, Socket2::accept).await?;
        let stream = Stream::new(&self.real, socket)?;
        Ok((stream, to_addr(&peer)?))
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        to_addr(&self.socket.raw().local_addr()?)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // The driver may close the descriptor a little later; nobody may be let in meanwhile.
        let _ = self.socket.raw().shutdown(How::Both);
    }
}

pub(crate) struct Stream {
    socket: Socket,
    /// The last read had all there was: the next one would most likely find nothing and waits at once.
    is_drained: Cell<bool>,
}

impl Stream {
    fn new(real: &Real, socket: Socket2) -> io::Result<Self> {
        socket.set_tcp_nodelay(true)?;
        Ok(Self { socket: Socket::new(real, socket)?, is_drained: Cell::new(false) })
    }

    /// Another descriptor of the same connection.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.socket.as_fd().try_clone_to_owned()
    }

    pub fn of_descriptor(real: &Real, descriptor: OwnedFd) -> io::Result<Self> {
        Self::new(real, descriptor.into())
    }

    pub async fn connect(real: &Real, addr: SocketAddr) -> io::Result<Self> {
        let stream = Self::new(real, open(addr, Type::STREAM, Protocol::TCP)?)?;
        let target = SockAddr::from(addr);
        let started = stream.socket.raw().connect(&target);
        if let Err(error) = started {
            if error.raw_os_error() != Some(libc::EINPROGRESS) {
                return Err(explain(&error, "connect to", addr));
            }
            std::future::poll_fn(|cx| stream.socket.poll_ready(cx, Interest::Writable)).await?;
            if let Some(error) = stream.socket.raw().take_error()? {
                return Err(explain(&error, "connect to", addr));
            }
        }
        Ok(stream)
    }

    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.is_drained.get() {
            ready!(self.socket.poll_ready(cx, Interest::Readable))?;
            self.is_drained.set(false);
        }
        let read = ready!(self.socket.poll_io(cx, Interest::Readable, |mut socket| socket.read(buffer)))?;
        self.is_drained.set(read > 0 && read < buffer.len());
        Poll::Ready(Ok(read))
    }

    pub fn poll_write(&self, cx: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.socket.poll_io(cx, Interest::Writable, |socket| match buffers {
            [one] => socket.send(one),
            many => socket.send_vectored(&many[..many.len().min(libc::UIO_MAXIOV as usize)]),
        })
    }

    pub fn shutdown(&self, how: How) -> io::Result<()> {
        self.socket.raw().shutdown(how)
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        to_addr(&self.socket.raw().local_addr()?)
    }

    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        to_addr(&self.socket.raw().peer_addr()?)
    }
}

pub(crate) struct Datagram {
    socket: Socket,
}

impl Datagram {
    pub fn bind(real: &Real, addr: SocketAddr) -> io::Result<Self> {
        let socket = open(addr, Type::DGRAM, Protocol::UDP)?;
        socket.bind(&addr.into()).map_err(|error| explain(&error, "bind", addr))?;
        Ok(Self { socket: Socket::new(real, socket)? })
    }

    pub async fn send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        let target = SockAddr::from(to);
        self.socket.io(Interest::Writable, |socket| socket.send_to(bytes, &target)).await.map(|_| ())
    }

    pub async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (len, from) = self
            .socket
            .io(Interest::Readable, |socket| {
                // SAFETY: an initialised slice may be seen as a possibly uninitialised one that is only written.
                let room = unsafe { &mut *(std::ptr::from_mut(buffer) as *mut [MaybeUninit<u8>]) };
                socket.recv_from(room)
            })
            .await?;
        Ok((len, to_addr(&from)?))
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        to_addr(&self.socket.raw().local_addr()?)
    }
}

fn open(addr: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket2> {
    Socket2::new(Domain::for_address(addr), kind, Some(protocol))
}

fn to_addr(addr: &SockAddr) -> io::Result<SocketAddr> {
    addr.as_socket().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an IP address"))
}

fn explain(error: &io::Error, what: &str, addr: SocketAddr) -> io::Error {
    io::Error::new(error.kind(), format!("can't {what} {addr}: {error}"))
}

/// Shows a socket by its descriptor.
macro_rules! debug_by_fd {
    ($($kind:ident),*) => {$(
        impl fmt::Debug for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($kind), "(fd {})"), self.socket.as_fd().as_raw_fd())
            }
        }
    )*};
}

debug_by_fd!(Listener, Stream, Datagram);
