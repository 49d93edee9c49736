//! Faults: what can go wrong, as data, as text, and as deeds.
//!
//! Each fault is complete in itself: what begins also says when it ends, so any subset of a plan is a plan.

use std::fmt;
use std::rc::Rc;
use std::str::FromStr;

use xxhash_rust::xxh3::xxh3_64;

use super::config::nanos;
use super::disk::{Disk, Trouble};
use super::net::{self, Link};
use super::node::{Ending, Node, NodeId};
use super::shared::Shared;
use super::trace::{Kind, Who};
use crate::time::Duration;

/// A text that is no fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a fault: {reason}")]
pub struct ParseFaultError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A value within a fault's text.
pub(super) trait Field: Sized {
    fn show(&self) -> String;
    fn parse(text: &str) -> Option<Self>;
}

macro_rules! number_fields {
    ($($number:ty),*) => {$(
        impl Field for $number {
            fn show(&self) -> String {
                self.to_string()
            }

            fn parse(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        }
    )*};
}

number_fields!(u32, i64, usize);

impl Field for NodeId {
    fn show(&self) -> String {
        self.to_string()
    }

    fn parse(text: &str) -> Option<Self> {
        text.strip_prefix('n')?.parse().ok().map(Self)
    }
}

const UNITS: [(&str, u64); 4] = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)];

impl Field for Duration {
    fn show(&self) -> String {
        let nanos = nanos(*self);
        let (unit, size) = UNITS.into_iter().find(|(_, size)| nanos.is_multiple_of(*size)).unwrap_or(("ns", 1));
        format!("{}{unit}", nanos / size)
    }

    fn parse(text: &str) -> Option<Self> {
        let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let (_, size) = UNITS.into_iter().find(|(unit, _)| *unit == &text[digits.len()..])?;
        let count: u64 = digits.parse().ok()?;
        count.checked_mul(size).map(Self::from_nanos)
    }
}

/// Makes the faults, their kinds, and their text, from one table.
macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident $word:literal { $($(#[$field_doc:meta])* $field:ident: $type:ty),* })*) => {
        /// Something that goes wrong.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Fault {
            $($(#[$doc])* $name { $($(#[$field_doc])* $field: $type),* },)*
        }

        /// A fault without its particulars.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum FaultKind {
            $($(#[$doc])* $name,)*
        }

        impl FaultKind {
            /// Every kind.
            pub const ALL: &[FaultKind] = &[$(FaultKind::$name),*];
        }

        impl Fault {
            /// What kind of fault it is.
            pub fn kind(&self) -> FaultKind {
                match self {
                    $(Self::$name { .. } => FaultKind::$name,)*
                }
            }
        }

        impl fmt::Display for Fault {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name { $($field),* } => {
                        f.write_str($word)?;
                        $(write!(f, concat!(" ", stringify!($field), "={}"), $field.show())?;)*
                    })*
                }
                Ok(())
            }
        }

        impl FromStr for Fault {
            type Err = ParseFaultError;

            fn from_str(text: &str) -> Result<Self, ParseFaultError> {
                let words = Words::new(text);
                match words.name() {
                    $($word => Ok(Self::$name { $($field: words.get(stringify!($field))?),* }),)*
                    _ => Err(words.wrong("no fault has this name".to_owned())),
                }
            }
        }
    };
}

faults! {
    /// A node loses power; its disks keep what was synced and some of the rest. It comes back after a while.
    PowerCut "power-cut" { /** Which. */ node: NodeId, /** How long it is down. */ lasting: Duration }
    /// A node's process is killed; its disks keep what was written. It comes back after a while.
    Kill "kill" { /** Which. */ node: NodeId, /** How long it is down. */ lasting: Duration }
    /// A node stands still, as a stopped process does: its kernel goes on, its timers are late.
    Pause "pause" { /** Which. */ node: NodeId, /** How long. */ lasting: Duration }
    /// A node's wall clock jumps.
    ClockJump "clock-jump" { /** Which. */ node: NodeId, /** By so much, either way. */ by_ms: i64 }
    /// A node's clocks run at another rate from now on.
    ClockDrift "clock-drift" { /** Which. */ node: NodeId, /** Parts per million too fast. */ ppm: i64 }
    /// Nothing gets through in one direction.
    Cut "cut" { /** Sender. */ from: NodeId, /** Receiver. */ to: NodeId, /** How long. */ lasting: Duration }
    /// Nothing gets through in both directions.
    Partition "partition" { /** One. */ a: NodeId, /** Other. */ b: NodeId, /** How long. */ lasting: Duration }
    /// Nothing gets through between a node and any other.
    Isolate "isolate" { /** Which. */ node: NodeId, /** How long. */ lasting: Duration }
    /// All connections between two nodes are reset.
    Reset "reset" { /** One. */ a: NodeId, /** Other. */ b: NodeId }
    /// One direction is slower in latency and bandwidth.
    SlowLink "slow-link" {
        /** Sender. */ from: NodeId,
        /** Receiver. */ to: NodeId,
        /** How many times. */ factor: u32,
        /** How long. */ lasting: Duration
    }
    /// Datagrams in one direction are lost or doubled, so many in a million more than usual.
    DatagramNoise "datagram-noise" {
        /** Sender. */ from: NodeId,
        /** Receiver. */ to: NodeId,
        /** Lost. */ loss: u32,
        /** Doubled. */ duplicate: u32,
        /** How long. */ lasting: Duration
    }
    /// A bit flips in each of so many pages.
    BitRot "bit-rot" { /** Which node. */ node: NodeId, /** Which of its disks. */ disk: usize, /** How many. */ pages: u32 }
    /// The next writes land elsewhere on the disk.
    MisdirectWrites "misdirect-writes" { /** Which node. */ node: NodeId, /** Disk. */ disk: usize, /** How many. */ count: u32 }
    /// The next writes are acknowledged and never there.
    LoseWrites "lose-writes" { /** Which node. */ node: NodeId, /** Disk. */ disk: usize, /** How many. */ count: u32 }
    /// The next reads fail with an I/O error.
    ReadErrors "read-errors" { /** Which node. */ node: NodeId, /** Disk. */ disk: usize, /** How many. */ count: u32 }
    /// The next writes fail with an I/O error, after any part of them.
    WriteErrors "write-errors" { /** Which node. */ node: NodeId, /** Disk. */ disk: usize, /** How many. */ count: u32 }
    /// The next syncs fail with an I/O error; a later success proves nothing about what they were to cover.
    SyncErrors "sync-errors" { /** Which node. */ node: NodeId, /** Disk. */ disk: usize, /** How many. */ count: u32 }
    /// A disk has no room for anything new.
    DiskFull "disk-full" { /** Which node. */ node: NodeId, /** Disk. */ disk: usize, /** How long. */ lasting: Duration }
    /// Every operation of a disk takes longer.
    SlowDisk "slow-disk" {
        /** Which node. */ node: NodeId,
        /** Disk. */ disk: usize,
        /** By so much. */ extra: Duration,
        /** How long. */ lasting: Duration
    }
    /// A disk takes no changes.
    ReadOnly "read-only" { /** Which node. */ node: NodeId, /** Disk. */ disk: usize, /** How long. */ lasting: Duration }
    /// A disk is gone with all that was on it; an empty one is there after a while.
    LoseDisk "lose-disk" { /** Which node. */ node: NodeId, /** Disk. */ disk: usize, /** How long. */ lasting: Duration }
}

/// A fault's text, cut up.
struct Words<'a> {
    text: &'a str,
}

impl<'a> Words<'a> {
    fn new(text: &'a str) -> Self {
        Self { text }
    }

    fn name(&self) -> &'a str {
        self.text.split_whitespace().next().unwrap_or_default()
    }

    fn get<T: Field>(&self, field: &str) -> Result<T, ParseFaultError> {
        let pairs = self.text.split_whitespace().filter_map(|word| word.split_once('='));
        let value = pairs.filter(|(key, _)| *key == field).map(|(_, value)| value).next();
        let value = value.ok_or_else(|| self.wrong(format!("{field}=... is missing")))?;
        T::parse(value).ok_or_else(|| self.wrong(format!("{field} can't be {value:?}")))
    }

    fn wrong(&self, reason: String) -> ParseFaultError {
        ParseFaultError { text: self.text.to_owned(), reason }
    }
}

impl Fault {
    /// Has it happen. What it names and isn't there is left alone.
    pub(super) fn strike(&self, shared: &Rc<Shared>) {
        shared.record(Kind::Fault, Who::new(0, 0), xxh3_64(self.to_string().as_bytes()));
        self.strike_node(shared);
        self.strike_link(shared);
        self.strike_disk(shared);
    }

    fn strike_node(&self, shared: &Rc<Shared>) {
        match *self {
            Self::PowerCut { node, lasting } => take_down(shared, node, lasting, Ending::PowerCut),
            Self::Kill { node, lasting } => take_down(shared, node, lasting, Ending::Killed),
            Self::Pause { node, lasting } => {
                if let Some(node) = find(shared, node) {
                    node.pause(shared.now().saturating_add(nanos(lasting)));
                }
            }
            Self::ClockJump { node, by_ms } => {
                if let Some(node) = find(shared, node) {
                    node.clock.borrow_mut().jump(by_ms);
                }
            }
            Self::ClockDrift { node, ppm } => {
                if let Some(node) = find(shared, node) {
                    node.clock.borrow_mut().drift(shared.now(), ppm);
                    node.reset_alarms(shared);
                }
            }
            _ => {}
        }
    }

    fn strike_link(&self, shared: &Rc<Shared>) {
        match *self {
            Self::Cut { from, to, lasting } => cut(shared, vec![(from.0, to.0)], lasting),
            Self::Partition { a, b, lasting } => cut(shared, vec![(a.0, b.0), (b.0, a.0)], lasting),
            Self::Isolate { node, lasting } => {
                let others = (0..shared.nodes.borrow().len()).filter(|other| *other != node.0);
                cut(shared, others.flat_map(|other| [(node.0, other), (other, node.0)]).collect(), lasting);
            }
            Self::Reset { a, b } => net::reset_between(shared, a.0, b.0),
            Self::SlowLink { from, to, factor, lasting } => {
                let factor = u64::from(factor.max(1));
                change_link(
                    shared,
                    (from.0, to.0),
                    lasting,
                    move |link| link.slowness = link.slowness.saturating_mul(factor),
                    move |link| {
                        link.slowness = (link.slowness / factor).max(1);
                    },
                );
            }
            Self::DatagramNoise { from, to, loss, duplicate, lasting } => {
                let begin = move |link: &mut Link| {
                    link.datagram_loss = link.datagram_loss.saturating_add(loss);
                    link.datagram_duplicate = link.datagram_duplicate.saturating_add(duplicate);
                };
                let end = move |link: &mut Link| {
                    link.datagram_loss = link.datagram_loss.saturating_sub(loss);
                    link.datagram_duplicate = link.datagram_duplicate.saturating_sub(duplicate);
                };
                change_link(shared, (from.0, to.0), lasting, begin, end);
            }
            _ => {}
        }
    }

    fn strike_disk(&self, shared: &Rc<Shared>) {
        let count = |node: NodeId, disk: usize, add: &dyn Fn(&mut Trouble)| {
            if let Some(disk) = find_disk(shared, node, disk) {
                add(&mut disk.trouble.borrow_mut());
            }
        };
        match *self {
            Self::BitRot { node, disk, pages } => {
                if let Some(disk) = find_disk(shared, node, disk) {
                    disk.rot(&mut shared.rng_disk.borrow_mut(), pages);
                }
            }
            Self::MisdirectWrites { node, disk, count: more } => count(node, disk, &|it| it.misdirected_writes += more),
            Self::LoseWrites { node, disk, count: more } => count(node, disk, &|it| it.lost_writes += more),
            Self::ReadErrors { node, disk, count: more } => count(node, disk, &|it| it.read_errors += more),
            Self::WriteErrors { node, disk, count: more } => count(node, disk, &|it| it.write_errors += more),
            Self::SyncErrors { node, disk, count: more } => count(node, disk, &|it| it.sync_errors += more),
            Self::DiskFull { node, disk, lasting } => {
                change_disk(shared, (node, disk), lasting, |it| it.full += 1, |it| it.full = it.full.saturating_sub(1));
            }
            Self::ReadOnly { node, disk, lasting } => {
                let end = |it: &mut Trouble| it.read_only = it.read_only.saturating_sub(1);
                change_disk(shared, (node, disk), lasting, |it| it.read_only += 1, end);
            }
            Self::SlowDisk { node, disk, extra, lasting } => {
                let end = move |it: &mut Trouble| it.extra = it.extra.saturating_sub(extra);
                change_disk(shared, (node, disk), lasting, move |it| it.extra += extra, end);
            }
            Self::LoseDisk { node, disk, lasting } => {
                if let Some(lost) = find_disk(shared, node, disk) {
                    lost.lose();
                }
                let end = |it: &mut Trouble| it.absent = it.absent.saturating_sub(1);
                change_disk(shared, (node, disk), lasting, |it| it.absent += 1, end);
            }
            _ => {}
        }
    }
}

fn find(shared: &Shared, node: NodeId) -> Option<Rc<Node>> {
    shared.nodes.borrow().get(node.0).cloned()
}

fn find_disk(shared: &Shared, node: NodeId, disk: usize) -> Option<Rc<Disk>> {
    find(shared, node)?.disks.get(disk).cloned()
}

fn take_down(shared: &Rc<Shared>, node: NodeId, lasting: Duration, ending: Ending) {
    let Some(node) = find(shared, node) else { return };
    if !node.is_running() {
        return;
    }
    node.end(shared, ending);
    let life = node.life.get();
    shared.call_after(nanos(lasting), move |shared| {
        if node.life.get() == life {
            node.start(shared);
        }
    });
}

fn cut(shared: &Rc<Shared>, pairs: Vec<(usize, usize)>, lasting: Duration) {
    for_links(shared, &pairs, |link| link.cuts += 1);
    shared.call_after(nanos(lasting), move |shared| {
        shared.record(Kind::Over, Who::new(0, 0), 0);
        for_links(shared, &pairs, |link| link.cuts = link.cuts.saturating_sub(1));
        net::retry_stalled(shared);
    });
}

fn for_links(shared: &Shared, pairs: &[(usize, usize)], change: impl Fn(&mut Link)) {
    let mut net = shared.net.borrow_mut();
    for (from, to) in pairs {
        if let Some(link) = net.link(*from, *to) {
            change(link);
        }
    }
}

fn change_link(
    shared: &Rc<Shared>,
    pair: (usize, usize),
    lasting: Duration,
    begin: impl Fn(&mut Link),
    end: impl Fn(&mut Link) + 'static,
) {
    for_links(shared, &[pair], begin);
    shared.call_after(nanos(lasting), move |shared| {
        shared.record(Kind::Over, Who::new(pair.0, pair.1), 0);
        for_links(shared, &[pair], end);
    });
}

fn change_disk(
    shared: &Rc<Shared>,
    (node, disk): (NodeId, usize),
    lasting: Duration,
    begin: impl Fn(&mut Trouble),
    end: impl Fn(&mut Trouble) + 'static,
) {
    let Some(disk) = find_disk(shared, node, disk) else { return };
    begin(&mut disk.trouble.borrow_mut());
    shared.call_after(nanos(lasting), move |shared| {
        shared.record(Kind::Over, disk.who, 0);
        end(&mut disk.trouble.borrow_mut());
    });
}

/// See [`super::World::calm`]. What ends later finds nothing left to end.
pub(super) fn calm(shared: &Rc<Shared>) {
    for link in shared.net.borrow_mut().links_mut() {
        link.calm();
    }
    let nodes: Vec<Rc<Node>> = shared.nodes.borrow().clone();
    for node in nodes {
        node.paused_until.set(0);
        node.disks.iter().for_each(|disk| *disk.trouble.borrow_mut() = Trouble::default());
        node.start(shared);
    }
    net::retry_stalled(shared);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_they_are_written() {
        for nanos in [0, 1, 999, 1_000, 1_500_000, 30_000_000_000, 7_000_000_001] {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(Duration::parse(&duration.show()), Some(duration));
        }
        assert_eq!(Duration::parse("5"), None);
        assert_eq!(Duration::parse("5min"), None);
    }

    #[test]
    fn a_wrong_text_is_told_why() {
        let parse = |text: &str| text.parse::<Fault>().unwrap_err().to_string();
        assert!(parse("explode node=n1").contains("no fault has this name"));
        assert!(parse("kill node=n1").contains("lasting=... is missing"));
        assert!(parse("kill node=one lasting=1s").contains("node can't be \"one\""));
    }
}
