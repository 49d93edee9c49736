//! One end of a TCP connection as its program holds it.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::{Shutdown as How, SocketAddr};
use std::rc::Rc;
use std::task::{Context, Poll};

use super::tcp::Conn;
use crate::sim::shared::Shared;

pub(crate) struct Stream {
    shared: Rc<Shared>,
    conn: Rc<Conn>,
    side: usize,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sim::Stream({} to {})", self.conn.addr(self.side), self.conn.addr(1 - self.side))
    }
}

impl Stream {
    pub(super) fn new(shared: Rc<Shared>, conn: Rc<Conn>, side: usize) -> Self {
        Self { shared, conn, side }
    }

    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.conn.poll_read(&self.shared, self.side, cx, buffer)
    }

    pub fn poll_write(&self, cx: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.conn.poll_write(&self.shared, self.side, cx, buffers)
    }

    pub fn shutdown(&self, how: How) -> io::Result<()> {
        if matches!(how, How::Read | How::Both) {
            self.conn.shut_reading(self.side);
        }
        if matches!(how, How::Write | How::Both) {
            self.conn.end_sending(&self.shared, self.side)?;
        }
        Ok(())
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.conn.addr(self.side))
    }

    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.conn.addr(1 - self.side))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.conn.close(&self.shared, self.side);
    }
}
