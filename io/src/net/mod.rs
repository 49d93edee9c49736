//! The network: TCP and UDP between cores of any nodes.

mod hyper_rt;
mod real;

use std::io::{self, IoSlice};
use std::net::{Shutdown as How, SocketAddr};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};

use crate::core;
use crate::driver::{Backend, each};

#[cfg(feature = "sim")]
use crate::sim;

pub use hyper_rt::{HyperExecutor, HyperTimer};

/// Whether other listeners (of other cores) may share the address; the kernel then spreads connections over them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reuse {
    /// The address is this listener's alone.
    #[default]
    Exclusive,
    /// SO_REUSEPORT.
    Shared,
}

/// Waits for TCP connections.
#[derive(Debug)]
pub struct Listener(ListenerKind);

#[derive(Debug)]
enum ListenerKind {
    Real(real::Listener),
    #[cfg(feature = "sim")]
    Sim(sim::Listener),
}

/// A TCP connection. Clones share it, so one task may read while another writes; one task at a time per direction.
#[derive(Clone, Debug)]
pub struct Stream(StreamKind);

#[derive(Clone, Debug)]
enum StreamKind {
    Real(Rc<real::Stream>),
    #[cfg(feature = "sim")]
    Sim(Rc<sim::Stream>),
}

/// A TCP connection on its way from one core of a node to another. It is closed if nobody takes it.
#[derive(Debug)]
pub struct Handed(OwnedFd);

impl Handed {
    /// Takes it, on the core that is to have it.
    ///
    /// # Errors
    /// If the node is out of what it needs for it.
    ///
    /// # Panics
    /// In the simulation, where nothing is handed over.
    pub fn take(self) -> io::Result<Stream> {
        match &core::current().backend {
            Backend::Real(real) => {
                let stream = real::Stream::of_descriptor(real, self.0)?;
                Ok(Stream(StreamKind::Real(Rc::new(stream))))
            }
            #[cfg(feature = "sim")]
            Backend::Sim(_) => panic!("simulated connections stay where they are"),
        }
    }
}

/// A UDP socket. One task at a time may receive.
#[derive(Debug)]
pub struct Datagram(DatagramKind);

#[derive(Debug)]
enum DatagramKind {
    Real(real::Datagram),
    #[cfg(feature = "sim")]
    Sim(sim::Datagram),
}

impl Listener {
    /// Listens at `addr`; port 0 takes any free one.
    ///
    /// # Errors
    /// If the address is taken or not this node's.
    pub fn bind(addr: SocketAddr, reuse: Reuse) -> io::Result<Self> {
        match &core::current().backend {
            Backend::Real(real) => real::Listener::bind(real, addr, reuse).map(|it| Self(ListenerKind::Real(it))),
            #[cfg(feature = "sim")]
            Backend::Sim(node) => node.listen(addr, reuse).map(|it| Self(ListenerKind::Sim(it))),
        }
    }

    /// The next connection and who made it. May be dropped and called again without losing one.
    ///
    /// # Errors
    /// If the node is out of sockets, or the listener was closed.
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        match &self.0 {
            ListenerKind::Real(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Stream(StreamKind::Real(Rc::new(stream))), peer))
            }
            #[cfg(feature = "sim")]
            ListenerKind::Sim(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Stream(StreamKind::Sim(Rc::new(stream))), peer))
            }
        }
    }

    /// The address it listens at, the port filled in.
    ///
    /// # Errors
    /// If the socket was closed.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        each!(ListenerKind, self, listener => listener.local_addr())
    }
}

impl Stream {
    /// Connects to `addr`, without Nagle's delay. Bound it with [`crate::time::timeout`].
    ///
    /// # Errors
    /// If nobody listens there or the way is cut.
    pub async fn connect(addr: SocketAddr) -> io::Result<Self> {
        match &core::current().backend {
            Backend::Real(real) => {
                let stream = real::Stream::connect(real, addr).await?;
                Ok(Self(StreamKind::Real(Rc::new(stream))))
            }
            #[cfg(feature = "sim")]
            Backend::Sim(node) => {
                let stream = node.connect(addr).await?;
                Ok(Self(StreamKind::Sim(Rc::new(stream))))
            }
        }
    }

    /// Makes it ready for another core of this node; nothing may be under way on it. Gives it back where it can only stay:
    /// in the simulation, or if there are no descriptors left.
    ///
    /// # Errors
    /// The connection itself.
    pub fn hand_over(self) -> Result<Handed, Self> {
        let descriptor = match &self.0 {
            StreamKind::Real(stream) => stream.descriptor().ok(),
            #[cfg(feature = "sim")]
            StreamKind::Sim(_) => None,
        };
        descriptor.map(Handed).ok_or(self)
    }

    /// This end's address.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        each!(StreamKind, self, stream => stream.local_addr())
    }

    /// The other end's address.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        each!(StreamKind, self, stream => stream.peer_addr())
    }

    /// Ends one direction or both; the other end reads its end of file.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn shutdown(&self, how: How) -> io::Result<()> {
        each!(StreamKind, self, stream => stream.shutdown(how))
    }

    fn poll_recv(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        each!(StreamKind, self, stream => stream.poll_read(cx, buffer))
    }

    fn poll_send(&self, cx: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        each!(StreamKind, self, stream => stream.poll_write(cx, buffers))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll_recv(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, &[IoSlice::new(buffer)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, buffers)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown(How::Write))
    }
}

impl Datagram {
    /// A socket at `addr`; port 0 takes any free one.
    ///
    /// # Errors
    /// If the address is taken or not this node's.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        match &core::current().backend {
            Backend::Real(real) => real::Datagram::bind(real, addr).map(|it| Self(DatagramKind::Real(it))),
            #[cfg(feature = "sim")]
            Backend::Sim(node) => node.bind_datagram(addr).map(|it| Self(DatagramKind::Sim(it))),
        }
    }

    /// Sends one datagram. It may be lost, doubled or late.
    ///
    /// # Errors
    /// If it is too long or the network refuses it.
    pub async fn send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        each!(DatagramKind, self, socket => socket.send_to(bytes, to).await)
    }

    /// The next datagram, cut to the buffer's length, and who sent it. May be dropped and called again.
    ///
    /// # Errors
    /// If the socket was closed.
    pub async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        each!(DatagramKind, self, socket => socket.recv_from(buffer).await)
    }

    /// Its address, the port filled in.
    ///
    /// # Errors
    /// If the socket was closed.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        each!(DatagramKind, self, socket => socket.local_addr())
    }
}
