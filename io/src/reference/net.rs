//! Sockets without us: a bare epoll echo, plain `write`, and the one client both sides are measured with.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use slab::Slab;

use super::memory::Buffer;
use super::watch::{Laps, Stop, Tally, Watch};

/// Bytes of one echoed message.
pub const MESSAGE_BYTES: usize = 128;

/// What the sink takes from its socket at a time.
const SINK_BYTES: usize = 256 << 10;

/// Marks the listener among the descriptors of an epoll.
const LISTENER: u64 = u64::MAX;

/// Sends back what it receives: `epoll_wait`, `read`, `write` and nothing else, on its own thread.
#[derive(Debug)]
pub struct EchoServer(Service);

impl EchoServer {
    /// Starts it on a free port of the loopback.
    ///
    /// # Errors
    /// If the system has no port, thread or descriptor left.
    pub fn start() -> io::Result<Self> {
        Service::start("echo", serve_echo).map(Self)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.0.addr
    }
}

/// Receives and forgets, one connection after the other, on its own thread.
#[derive(Debug)]
pub struct Sink(Service);

impl Sink {
    /// Starts it on a free port of the loopback.
    ///
    /// # Errors
    /// If the system has no port or thread left.
    pub fn start() -> io::Result<Self> {
        Service::start("sink", serve_sink).map(Self)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.0.addr
    }
}

/// A thread with a listener. Dropped, it is asked to end and waited for.
#[derive(Debug)]
struct Service {
    addr: SocketAddr,
    ending: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Service {
    fn start(name: &str, serve: fn(&TcpListener, &AtomicBool) -> io::Result<()>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let addr = listener.local_addr()?;
        let ending = Arc::new(AtomicBool::new(false));
        let flag = ending.clone();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            // A client sees a broken connection and reports that.
            drop(serve(&listener, &flag));
        })?;
        Ok(Self { addr, ending, thread: Some(thread) })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        // The thread sleeps until somebody connects.
        drop(TcpStream::connect(self.addr));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn serve_sink(listener: &TcpListener, ending: &AtomicBool) -> io::Result<()> {
    let mut buffer = vec![0; SINK_BYTES];
    loop {
        let (mut stream, _) = listener.accept()?;
        if ending.load(Ordering::SeqCst) {
            return Ok(());
        }
        while stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
    }
}

fn serve_echo(listener: &TcpListener, ending: &AtomicBool) -> io::Result<()> {
    let mut crowd = Crowd::new()?;
    crowd.epoll.add(listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    while !ending.load(Ordering::SeqCst) {
        crowd.turn(|crowd, key| {
            if key == LISTENER {
                crowd.admit(listener.accept()?.0)?;
            } else {
                crowd.echo(key)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Connections watched by one epoll. Blocking ones: each is read once when readable, and messages are small.
struct Crowd {
    epoll: Epoll,
    streams: Slab<TcpStream>,
    buffer: [u8; 4096],
}

impl Crowd {
    fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self { epoll, streams: Slab::new(), buffer: [0; 4096] })
    }

    fn admit(&mut self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let place = self.streams.vacant_entry();
        self.epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, place.key() as u64))?;
        place.insert(stream);
        Ok(())
    }

    /// Waits until something is readable and has `handle` see to each.
    fn turn(&mut self, mut handle: impl FnMut(&mut Self, u64) -> io::Result<()>) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 64];
        let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
            Err(nix::Error::EINTR) => 0,
            waited => waited?,
        };
        events[..count].iter().try_for_each(|event| handle(self, event.data()))
    }

    /// Receives without sending back.
    fn take(&mut self, key: u64) -> io::Result<usize> {
        self.streams[key as usize].read(&mut self.buffer)
    }

    /// Sends back what there is to read; returns how much, 0 when the connection is over.
    fn echo(&mut self, key: u64) -> io::Result<usize> {
        let stream = &mut self.streams[key as usize];
        let read = stream.read(&mut self.buffer).unwrap_or(0);
        if read == 0 {
            self.epoll.delete(&*stream)?;
            self.streams.remove(key as usize);
            return Ok(0);
        }
        stream.write_all(&self.buffer[..read])?;
        Ok(read)
    }
}

/// Messages there and back over one connection, one at a time.
///
/// # Errors
/// If the connection breaks.
pub fn echo_laps(server: SocketAddr, stop: Stop) -> io::Result<Tally> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    let mut message = [1; MESSAGE_BYTES];
    let mut laps = Laps::start(stop);
    while laps.another() {
        stream.write_all(&message)?;
        stream.read_exact(&mut message)?;
    }
    Ok(laps.finish())
}

/// Messages there and back over `depth` connections, one at a time on each.
///
/// # Errors
/// If a connection breaks.
pub fn echo_crowd(server: SocketAddr, depth: usize, stop: Stop) -> io::Result<Tally> {
    let mut crowd = Crowd::new()?;
    for _ in 0..depth {
        crowd.admit(TcpStream::connect(server)?)?;
    }
    let watch = Watch::start(stop);
    let mut under_way = 0;
    for (_, stream) in &mut crowd.streams {
        if watch.another() {
            stream.write_all(&[1; MESSAGE_BYTES])?;
            under_way += 1;
        }
    }
    while under_way > 0 {
        crowd.turn(|crowd, key| {
            // Sending an answer back is the next message.
            let another = watch.another();
            under_way -= usize::from(!another);
            let taken = if another { crowd.echo(key)? } else { crowd.take(key)? };
            if taken == 0 { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
        })?;
    }
    Ok(watch.finish())
}

/// Writes `len` bytes to `sink` again and again, with plain `write`.
///
/// # Errors
/// If the connection breaks.
pub fn send(sink: SocketAddr, len: usize, stop: Stop) -> io::Result<Tally> {
    let mut stream = TcpStream::connect(sink)?;
    stream.set_nodelay(true)?;
    let buffer = Buffer::new(len);
    let watch = Watch::start(stop);
    while watch.another() {
        stream.write_all(&buffer)?;
    }
    Ok(watch.finish())
}
