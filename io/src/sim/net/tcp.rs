//! A TCP connection: two ends, and what flows to each of them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use xxhash_rust::xxh3::xxh3_64;

use super::listen::Offer;
use super::{arrival, is_cut, listen, os, reaches};
use crate::sim::config::nanos;
use crate::sim::shared::{Event, Shared};
use crate::sim::trace::{Kind, Who};

/// Side 0 connected, side 1 accepted.
pub(in crate::sim) struct Conn {
    ends: [RefCell<End>; 2],
    nodes: [usize; 2],
    addrs: [SocketAddr; 2],
}

/// What one side has of the connection.
struct End {
    /// A program, or a listener's backlog, still holds it; otherwise whatever arrives is answered with a reset.
    held: bool,
    /// Why it failed, as an errno.
    error: Option<i32>,
    /// Nothing more will be sent from here.
    finished: bool,
    /// Nothing more is wanted here.
    read_shut: bool,
    incoming: Pipe,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// What flows to one end.
#[derive(Default)]
struct Pipe {
    /// All bytes sent and not yet read, in order.
    bytes: VecDeque<u8>,
    /// How many of them have arrived.
    arrived: usize,
    /// The rest, in parts, with the world time each arrives at the earliest.
    parts: VecDeque<(u64, Part)>,
    /// An event for the first part is in the queue, or the pipe is on the list of stalled ones.
    expected: bool,
    ended: bool,
    /// World time since which nothing gets through.
    stalled_since: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The last step of opening: the listener learns of the connection.
    Open,
    Data(usize),
    End,
}

impl Conn {
    pub fn new(nodes: [usize; 2], addrs: [SocketAddr; 2]) -> Rc<Self> {
        let end = || {
            RefCell::new(End {
                held: true,
                error: None,
                finished: false,
                read_shut: false,
                incoming: Pipe::default(),
                reader: None,
                writer: None,
            })
        };
        Rc::new(Self { ends: [end(), end()], nodes, addrs })
    }

    pub fn node(&self, side: usize) -> usize {
        self.nodes[side]
    }

    pub fn addr(&self, side: usize) -> SocketAddr {
        self.addrs[side]
    }

    fn who(&self, side: usize) -> Who {
        Who::new(self.nodes[side], usize::from(self.addrs[side].port()))
    }

    /// Tells the listener at side 1, behind nothing and before all data.
    pub fn open(self: &Rc<Self>, shared: &Shared) {
        self.send_part(shared, 0, Part::Open, 0);
    }

    /// Puts a part on its way from `side` to the other.
    fn send_part(self: &Rc<Self>, shared: &Shared, side: usize, part: Part, len: usize) {
        let to = 1 - side;
        let at = arrival(shared, self.nodes[side], self.nodes[to], len + 40);
        let mut end = self.ends[to].borrow_mut();
        let at = end.incoming.parts.back().map_or(at, |(last, _)| at.max(*last));
        end.incoming.parts.push_back((at, part));
        if !std::mem::replace(&mut end.incoming.expected, true) {
            shared.at(at, Event::Deliver(self.clone(), to));
        }
    }

    /// What is due at `side` arrives, unless it can't get there.
    pub fn deliver(self: &Rc<Self>, shared: &Rc<Shared>, side: usize) {
        let mut end = self.ends[side].borrow_mut();
        if end.incoming.parts.is_empty() {
            end.incoming.expected = false;
            return;
        }
        if !reaches(shared, self.nodes[1 - side], self.nodes[side]) {
            self.stall(shared, side, &mut end);
            return;
        }
        if end.incoming.stalled_since.take().is_some() && breaks_on_healing(shared) {
            drop(end);
            self.fail(shared, 0, libc::ECONNRESET);
            self.fail(shared, 1, libc::ECONNRESET);
            return;
        }
        if !end.held {
            let answered = end.hears_strangers();
            end.incoming = Pipe::default();
            drop(end);
            if answered {
                self.send_reset(shared, side);
            }
            return;
        }
        drop(end);
        self.take_due(shared, side);
    }

    fn take_due(self: &Rc<Self>, shared: &Rc<Shared>, side: usize) {
        let now = shared.now();
        let mut arrived = 0;
        loop {
            let mut end = self.ends[side].borrow_mut();
            match end.incoming.parts.front() {
                Some((at, _)) if *at > now => {
                    shared.at(*at, Event::Deliver(self.clone(), side));
                    break;
                }
                Some(_) => {}
                None => {
                    end.incoming.expected = false;
                    break;
                }
            }
            let Some((_, part)) = end.incoming.parts.pop_front() else { break };
            match part {
                Part::Data(len) => {
                    end.incoming.arrived += len;
                    arrived += len;
                    if end.read_shut {
                        end.discard();
                    }
                }
                Part::End => end.incoming.ended = true,
                Part::Open => {
                    drop(end);
                    match listen::offer(shared, self) {
                        Offer::Taken => {}
                        Offer::Later => return,
                        Offer::Refused => {
                            self.ends[side].borrow_mut().incoming = Pipe::default();
                            return;
                        }
                    }
                }
            }
        }
        shared.record(Kind::Deliver, self.who(side), arrived as u64);
        self.wake_reader(side);
    }

    /// The listener has no room: the last step of opening is tried again later, as a SYN would be.
    pub fn open_later(self: &Rc<Self>, shared: &Shared) {
        let later = shared.now() + nanos(crate::time::Duration::from_secs(1));
        let mut end = self.ends[1].borrow_mut();
        end.incoming.parts.push_front((later, Part::Open));
        end.incoming.expected = true;
        shared.at(later, Event::Deliver(self.clone(), 1));
    }

    fn stall(self: &Rc<Self>, shared: &Shared, side: usize, end: &mut End) {
        // Stays `expected`: whoever empties the list of stalled ones makes the event.
        shared.net.borrow_mut().stalled.push((self.clone(), side));
        if end.incoming.stalled_since.is_some() {
            return;
        }
        let since = shared.now();
        end.incoming.stalled_since = Some(since);
        let patience = nanos(shared.config.net.silence_timeout);
        let conn = Rc::downgrade(self);
        shared.call_after(patience, move |shared| {
            let Some(conn) = conn.upgrade() else { return };
            let still = conn.ends[side].borrow().incoming.stalled_since == Some(since);
            if still {
                shared.record(Kind::Timeout, conn.who(1 - side), 0);
                conn.fail(shared, 1 - side, libc::ETIMEDOUT);
                // The other end was never told, and will hear of it only when it sends.
                conn.ends[1 - side].borrow_mut().held = false;
            }
        });
    }

    /// Tells the other side that nobody is here; lost if the way is cut.
    pub fn send_reset(self: &Rc<Self>, shared: &Shared, side: usize) {
        let (from, to) = (self.nodes[side], self.nodes[1 - side]);
        if is_cut(shared, from, to) {
            return;
        }
        let (conn, at) = (self.clone(), arrival(shared, from, to, 40));
        shared.call_at(at, move |shared| {
            if reaches(shared, from, to) {
                conn.fail(shared, 1 - side, libc::ECONNRESET);
            }
        });
    }

    /// The connection fails at this side. What has arrived may still be read, or not: both happen.
    pub fn fail(&self, shared: &Shared, side: usize, error: i32) {
        let mut end = self.ends[side].borrow_mut();
        if !end.held || end.error.is_some() {
            return;
        }
        shared.record(Kind::Reset, self.who(side), u64::from(error.unsigned_abs()));
        end.error = Some(error);
        // After a timeout the other end knows nothing, and goes on waiting for what it has sent to arrive.
        if error != libc::ETIMEDOUT {
            end.forget_unsent();
            if shared.rng_net.borrow_mut().chance(500_000) {
                end.discard();
            }
        }
        drop(end);
        // What this side has sent and didn't get through never will.
        self.ends[1 - side].borrow_mut().forget_unsent();
        self.wake_reader(side);
        self.wake_writer(side);
    }

    /// This side's node is gone; `told` if its kernel lives to tell the other.
    pub fn vanish(self: &Rc<Self>, shared: &Shared, side: usize, told: bool) {
        let mut end = self.ends[side].borrow_mut();
        let was_held = std::mem::replace(&mut end.held, false);
        end.discard();
        drop(end);
        if was_held && told {
            self.send_reset(shared, side);
        }
        if !told {
            self.ends[1 - side].borrow_mut().forget_unsent();
        }
        // Whoever waits for room finds some, sends, and learns what has become of the connection.
        self.wake_writer(1 - side);
    }

    fn wake_reader(&self, side: usize) {
        let waker = self.ends[side].borrow_mut().reader.take();
        waker.into_iter().for_each(Waker::wake);
    }

    fn wake_writer(&self, side: usize) {
        let waker = self.ends[side].borrow_mut().writer.take();
        waker.into_iter().for_each(Waker::wake);
    }

    pub fn poll_read(
        &self,
        shared: &Shared,
        side: usize,
        cx: &Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut end = self.ends[side].borrow_mut();
        if end.read_shut || buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if end.incoming.arrived == 0 {
            return end.poll_read_empty(cx);
        }
        let len = draw_part(shared, end.incoming.arrived.min(buffer.len()));
        end.incoming.take(&mut buffer[..len]);
        drop(end);
        self.wake_writer(1 - side);
        Poll::Ready(Ok(len))
    }

    pub fn poll_write(
        self: &Rc<Self>,
        shared: &Shared,
        side: usize,
        cx: &Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wanted: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        let mut own = self.ends[side].borrow_mut();
        if let Some(error) = own.error {
            return Poll::Ready(Err(os(error)));
        }
        if own.finished {
            return Poll::Ready(Err(os(libc::EPIPE)));
        }
        let queued = self.ends[1 - side].borrow().incoming.bytes.len();
        let room = shared.config.net.window.saturating_sub(queued);
        if wanted > 0 && room == 0 {
            own.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        drop(own);
        let len = draw_part(shared, wanted.min(room));
        if len > 0 {
            let hash = self.ends[1 - side].borrow_mut().incoming.append(buffers, len);
            shared.record(Kind::Send, self.who(side), hash);
            self.send_part(shared, side, Part::Data(len), len);
        }
        Poll::Ready(Ok(len))
    }

    /// Nothing more will be sent from this side.
    pub fn end_sending(self: &Rc<Self>, shared: &Shared, side: usize) -> io::Result<()> {
        let mut end = self.ends[side].borrow_mut();
        if end.error.is_some() {
            return Err(os(libc::ENOTCONN));
        }
        if !std::mem::replace(&mut end.finished, true) {
            drop(end);
            self.send_part(shared, side, Part::End, 0);
        }
        Ok(())
    }

    pub fn shut_reading(&self, side: usize) {
        let mut end = self.ends[side].borrow_mut();
        end.read_shut = true;
        end.discard();
        drop(end);
        self.wake_reader(side);
        self.wake_writer(1 - side);
    }

    /// The program drops its end: an end of file for the other, or a reset if there was something unread.
    pub fn close(self: &Rc<Self>, shared: &Shared, side: usize) {
        let mut end = self.ends[side].borrow_mut();
        if !std::mem::replace(&mut end.held, false) || end.error.is_some() {
            return;
        }
        let unread = end.incoming.arrived > 0;
        end.discard();
        let says_end = !std::mem::replace(&mut end.finished, true);
        drop(end);
        if unread {
            self.send_reset(shared, side);
        } else if says_end {
            self.send_part(shared, side, Part::End, 0);
        }
        self.wake_writer(1 - side);
    }
}

impl End {
    fn poll_read_empty(&mut self, cx: &Context<'_>) -> Poll<io::Result<usize>> {
        if let Some(error) = self.error {
            return Poll::Ready(Err(os(error)));
        }
        if self.incoming.ended {
            return Poll::Ready(Ok(0));
        }
        self.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether what comes to this end, which nobody holds, is answered with a reset: data is, and everything is if this
    /// end vanished without a word. A mere end of file after our own is the usual goodbye.
    fn hears_strangers(&self) -> bool {
        let data = self.incoming.parts.iter().any(|(_, part)| matches!(part, Part::Data(_)));
        data || !self.finished
    }

    /// Drops what has arrived.
    fn discard(&mut self) {
        let arrived = std::mem::take(&mut self.incoming.arrived);
        self.incoming.bytes.drain(..arrived);
    }

    /// Drops what is still on its way here.
    fn forget_unsent(&mut self) {
        self.incoming.parts.clear();
        self.incoming.bytes.truncate(self.incoming.arrived);
        self.incoming.stalled_since = None;
    }
}

impl Pipe {
    fn take(&mut self, out: &mut [u8]) {
        let (front, back) = self.bytes.as_slices();
        let first = front.len().min(out.len());
        let rest = out.len() - first;
        out[..first].copy_from_slice(&front[..first]);
        out[first..].copy_from_slice(&back[..rest]);
        self.bytes.drain(..out.len());
        self.arrived -= out.len();
    }

    /// Appends the first `len` bytes of the buffers; returns a hash of them.
    fn append(&mut self, buffers: &[IoSlice<'_>], len: usize) -> u64 {
        let mut left = len;
        let mut hash = len as u64;
        for buffer in buffers {
            let part = &buffer[..buffer.len().min(left)];
            self.bytes.extend(part);
            hash = hash.rotate_left(17) ^ xxh3_64(part);
            left -= part.len();
            if left == 0 {
                break;
            }
        }
        hash
    }
}

fn breaks_on_healing(shared: &Shared) -> bool {
    shared.rng_net.borrow_mut().chance(shared.config.net.heal_reset_per_million)
}

/// All of it, or now and then less: a program must not count on more.
fn draw_part(shared: &Shared, len: usize) -> usize {
    let mut rng = shared.rng_net.borrow_mut();
    if len > 1 && rng.chance(shared.config.net.partial_per_million) {
        let drawn = 1 + rng.below(len as u64 - 1);
        return usize::try_from(drawn).expect("a length in memory");
    }
    len
}
