//! What a server has answered: how often, and how long that took, by sort and status.

use std::collections::BTreeMap;

use cairn_io::time::Duration;

/// The upper ends of the buckets, in seconds. The last has none.
pub const BOUNDS: [f64; 12] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// How long requests of one sort took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latency {
    /// Requests that took no longer than each bound and longer than the one before.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// What they took together.
    pub sum: Duration,
}

impl Latency {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// A sort of requests and the status that was answered. Sorts are from a list of the server's own, so that nobody can make any number.
pub type Sort = (&'static str, u16);

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answered(BTreeMap<Sort, Latency>);

impl Answered {
    /// Counts one answer.
    pub fn count(&mut self, sort: &'static str, status: u16, took: Duration) {
        let latency = self.0.entry((sort, status)).or_default();
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        latency.buckets[bucket] += 1;
        latency.sum += took;
    }

    /// Adds what another server has answered.
    pub fn add(&mut self, other: &Self) {
        for (sort, theirs) in &other.0 {
            let own = self.0.entry(*sort).or_default();
            own.buckets.iter_mut().zip(theirs.buckets).for_each(|(own, theirs)| *own += theirs);
            own.sum += theirs.sum;
        }
    }

    /// All of it.
    pub fn entries(&self) -> impl Iterator<Item = (&Sort, &Latency)> {
        self.0.iter()
    }
}

#[test]
fn what_several_servers_answered_is_added() {
    let millis = Duration::from_millis;
    let (mut one, mut two) = (Answered::default(), Answered::default());
    one.count("GetObject", 200, millis(1));
    two.count("GetObject", 200, millis(1));
    two.count("GetObject", 200, millis(6000));
    two.count("GetObject", 404, millis(3));
    one.add(&two);
    let counts: Vec<(u16, u64, Duration)> =
        one.entries().map(|((_, status), latency)| (*status, latency.count(), latency.sum)).collect();
    assert_eq!(counts, [(200, 3, millis(6002)), (404, 1, millis(3))]);
    let (_, got) = one.entries().next().unwrap();
    assert_eq!((got.buckets[1], got.buckets[BOUNDS.len()]), (2, 1));
}
