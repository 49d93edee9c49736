//! What a world, its nodes, disks and network are made with. Defaults are a small, healthy cluster in one room.

use std::net::IpAddr;

use crate::rng::Rng;
use crate::time::Duration;

/// How long something takes: evenly between `min` and `max`, now and then up to `tail_max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// The least.
    pub min: Duration,
    /// The most, in the ordinary case.
    pub max: Duration,
    /// How many of a million are drawn from the tail instead.
    pub tail_per_million: u32,
    /// The most in the tail.
    pub tail_max: Duration,
}

impl Latency {
    /// Between `min` and `max` microseconds, one in a hundred up to ten times `max`.
    pub const fn micros(min: u64, max: u64) -> Self {
        Self {
            min: Duration::from_micros(min),
            max: Duration::from_micros(max),
            tail_per_million: 10_000,
            tail_max: Duration::from_micros(max * 10),
        }
    }

    pub(super) fn draw(&self, rng: &mut Rng) -> u64 {
        let top = if rng.chance(self.tail_per_million) { self.tail_max } else { self.max };
        let (min, top) = (nanos(self.min), nanos(top));
        min + rng.below(top.saturating_sub(min) + 1)
    }
}

/// What a world is made with.
#[derive(Clone, Debug)]
pub struct WorldConfig {
    /// Virtual time that polling a task takes, up to twice as much; above zero, so that a busy loop moves time.
    pub poll_cost: Duration,
    /// How long a call on the blocking pool takes.
    pub blocking: Latency,
    /// The network between the nodes.
    pub net: NetConfig,
    /// Steps (polls, events, jumps of time) after which the run fails as a livelock.
    pub steps_max: u64,
    /// How many of the last events are kept for [`super::World::trace_tail`].
    pub trace_tail: usize,
}

impl Default for WorldConfig {
    fn default() -> Self {
        Self {
            poll_cost: Duration::from_nanos(500),
            blocking: Latency::micros(20, 500),
            net: NetConfig::default(),
            steps_max: 200_000_000,
            trace_tail: 64,
        }
    }
}

/// What the network is like while no fault says otherwise.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// One way between two nodes.
    pub latency: Latency,
    /// One way within a node.
    pub loopback: Latency,
    /// Bytes a second from one node to another.
    pub bandwidth: u64,
    /// Bytes of one direction of a connection that are sent and not yet read; a writer waits at the bound.
    pub window: usize,
    /// Connections a listener holds until they are accepted.
    pub backlog: usize,
    /// How many of a million reads and writes of a stream do less than they could.
    pub partial_per_million: u32,
    /// A connection attempt without an answer fails after this.
    pub connect_timeout: Duration,
    /// A connection whose data gets no answer fails after this.
    pub silence_timeout: Duration,
    /// How many of a million connections are reset, rather than resumed, when a cut they stalled in heals.
    pub heal_reset_per_million: u32,
    /// How many of a million datagrams are lost.
    pub datagram_loss_per_million: u32,
    /// How many of a million datagrams arrive twice.
    pub datagram_duplicate_per_million: u32,
    /// How many of a million datagrams take up to twenty times the latency, and so arrive behind later ones.
    pub datagram_late_per_million: u32,
    /// Datagrams a socket holds until they are received; more are lost.
    pub datagram_queue_max: usize,
}

impl Default for NetConfig {
    fn default() -> Self {
        Self {
            latency: Latency::micros(50, 300),
            loopback: Latency::micros(5, 20),
            bandwidth: 1_250_000_000,
            window: 256 << 10,
            backlog: 128,
            partial_per_million: 100_000,
            connect_timeout: Duration::from_mins(1),
            silence_timeout: Duration::from_mins(1),
            heal_reset_per_million: 250_000,
            datagram_loss_per_million: 1_000,
            datagram_duplicate_per_million: 500,
            datagram_late_per_million: 5_000,
            datagram_queue_max: 256,
        }
    }
}

/// One disk of a node: a file system mounted at a path.
#[derive(Clone, Debug)]
pub struct DiskConfig {
    /// Where its root directory is.
    pub path: String,
    /// Bytes it holds, in whole pages of 4096.
    pub size: u64,
    /// The unit in which unsynced writes are kept or lost: 512 or 4096.
    pub sector: usize,
    /// The unit of direct I/O, a power of two from 512 to 4096.
    pub align: usize,
    /// Whether a power cut may leave the front of a sector new and its end old.
    pub sectors_tear: bool,
    /// Of each file, sectors before this byte are left whole all the same: for programs that must rely on it there.
    pub sectors_whole_below: u64,
    /// How long a read takes.
    pub read: Latency,
    /// How long a write takes.
    pub write: Latency,
    /// How long a sync takes.
    pub sync: Latency,
    /// Bytes a second.
    pub bandwidth: u64,
}

impl DiskConfig {
    /// An ordinary disk of `size` bytes at `path`.
    pub fn new(path: impl Into<String>, size: u64) -> Self {
        Self {
            path: path.into(),
            size,
            sector: 512,
            align: 4096,
            sectors_tear: true,
            sectors_whole_below: 0,
            read: Latency::micros(60, 150),
            write: Latency::micros(15, 60),
            sync: Latency::micros(40, 400),
            bandwidth: 2_000_000_000,
        }
    }
}

/// What a node is made with.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// How many cores, at least 1.
    pub cores: usize,
    /// Its disks; no path lies within another's.
    pub disks: Vec<DiskConfig>,
    /// Its address; `None` takes 10.0.x.y from its number.
    pub address: Option<IpAddr>,
    /// How far its wall clock is off, in milliseconds.
    pub wall_offset_ms: i64,
    /// How much faster its clocks run, in parts per million.
    pub drift_ppm: i64,
    /// How long after its programs end or panic they are started again; `None` leaves it down.
    pub restart_after: Option<Duration>,
    /// Memory for blocks per core.
    pub block_bytes_max: usize,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            cores: 1,
            disks: vec![DiskConfig::new("/disk0", 1 << 30)],
            address: None,
            wall_offset_ms: 0,
            drift_ppm: 0,
            restart_after: None,
            block_bytes_max: 64 << 20,
        }
    }
}

/// A duration in whole nanoseconds; the longest there is where it doesn't fit.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
