//! What happened: a hash over every event, counts, and the last events for people.

use std::collections::VecDeque;
use std::fmt;
use std::ops::AddAssign;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::time::Duration;

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// A task was polled; the detail is its class and place in the queue.
    Poll,
    /// A core's alarm rang.
    Alarm,
    /// A node started; the detail is its life.
    Start,
    /// A node's life ended; the detail is that life.
    End,
    /// A fault struck; the detail is a hash of its text.
    Fault,
    /// A disk operation ended; the detail is its place and content.
    Read,
    Write,
    Sync,
    Names,
    Space,
    /// A part of a stream was sent; the detail is a hash of its bytes.
    Send,
    /// A part of a stream arrived; the detail is its length.
    Deliver,
    /// A step of opening or ending a connection.
    Connect,
    Reset,
    Timeout,
    /// A datagram arrived; the detail is a hash of its bytes.
    Datagram,
    /// Blocking work was done.
    Blocking,
    /// A fault or pause ended.
    Over,
}

/// Who it happened to: a node and, where it matters, one of its cores or disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Who {
    pub node: u32,
    pub part: u32,
}

impl Who {
    pub fn new(node: usize, part: usize) -> Self {
        Self { node: saturate(node), part: saturate(part) }
    }
}

fn saturate(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// How much happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Everything that is in the trace.
    pub events: u64,
    /// Task polls among them.
    pub polls: u64,
    /// Disk operations ended.
    pub disk_operations: u64,
    /// Stream parts and datagrams that arrived.
    pub deliveries: u64,
    /// Faults that struck.
    pub faults: u64,
    /// Lives that began.
    pub starts: u64,
}

impl AddAssign for Stats {
    fn add_assign(&mut self, more: Self) {
        self.events += more.events;
        self.polls += more.polls;
        self.disk_operations += more.disk_operations;
        self.deliveries += more.deliveries;
        self.faults += more.faults;
        self.starts += more.starts;
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, polls, disk_operations, deliveries, faults, starts } = self;
        write!(f, "{events} events: {polls} polls, {disk_operations} disk operations, {deliveries} deliveries, ")?;
        write!(f, "{faults} faults, {starts} starts of nodes")
    }
}

struct Entry {
    at: u64,
    kind: Kind,
    who: Who,
    detail: u64,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = Duration::from_nanos(self.at).as_secs_f64();
        write!(f, "{at:>15.9}  n{}.{}  {:?} {:x}", self.who.node, self.who.part, self.kind, self.detail)
    }
}

pub(super) struct Trace {
    hash: u64,
    pub stats: Stats,
    tail: VecDeque<Entry>,
    tail_max: usize,
}

impl Trace {
    pub fn new(seed: u64, tail_max: usize) -> Self {
        Self { hash: seed, stats: Stats::default(), tail: VecDeque::with_capacity(tail_max), tail_max }
    }

    pub fn record(&mut self, at: u64, kind: Kind, who: Who, detail: u64) {
        let mut bytes = [0; 25];
        bytes[..8].copy_from_slice(&at.to_le_bytes());
        bytes[8..12].copy_from_slice(&who.node.to_le_bytes());
        bytes[12..16].copy_from_slice(&who.part.to_le_bytes());
        bytes[16..24].copy_from_slice(&detail.to_le_bytes());
        bytes[24] = kind as u8;
        // The hash so far seeds the next one: a chain over every event in order.
        self.hash = xxh3_64_with_seed(&bytes, self.hash);
        self.count(kind);
        if self.tail_max > 0 {
            if self.tail.len() == self.tail_max {
                self.tail.pop_front();
            }
            self.tail.push_back(Entry { at, kind, who, detail });
        }
    }

    fn count(&mut self, kind: Kind) {
        self.stats.events += 1;
        match kind {
            Kind::Poll => self.stats.polls += 1,
            Kind::Read | Kind::Write | Kind::Sync | Kind::Names | Kind::Space => self.stats.disk_operations += 1,
            Kind::Deliver | Kind::Datagram => self.stats.deliveries += 1,
            Kind::Fault => self.stats.faults += 1,
            Kind::Start => self.stats.starts += 1,
            _ => {}
        }
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn tail(&self) -> String {
        self.tail.iter().map(Entry::to_string).collect::<Vec<_>>().join("\n")
    }
}
