//! When a measured loop ends, and what it counted. Both sides of a comparison use these.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// When a measured loop starts no further operation.
#[derive(Clone, Copy, Debug)]
pub enum Stop {
    /// When this much time has passed.
    After(Duration),
    /// When this many operations were started.
    Ops(u64),
}

/// What a measured loop did.
#[derive(Clone, Copy, Debug)]
pub struct Tally {
    /// Operations completed.
    pub ops: u64,
    /// From the first one's start to the last one's end.
    pub elapsed: Duration,
    /// The median time of one; zero where single ones weren't timed.
    pub median: Duration,
    /// What one in a hundred took longer than; zero like the median.
    pub tail: Duration,
}

impl Tally {
    /// Operations in a second.
    pub fn rate(&self) -> f64 {
        self.ops as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// Counts the operations of a loop and says when it ends. Threads and tasks may share it.
#[derive(Debug)]
pub struct Watch {
    started: Instant,
    stop: Stop,
    begun: AtomicU64,
}

impl Watch {
    /// Starts now.
    pub fn start(stop: Stop) -> Self {
        Self { started: Instant::now(), stop, begun: AtomicU64::new(0) }
    }

    /// Whether another operation is to be started; it then counts as done. The first always is.
    pub fn another(&self) -> bool {
        let begun = self.begun.load(Ordering::Relaxed);
        let go_on = match self.stop {
            Stop::After(time) => begun == 0 || self.started.elapsed() < time,
            Stop::Ops(ops) => begun < ops,
        };
        if go_on {
            self.begun.fetch_add(1, Ordering::Relaxed);
        }
        go_on
    }

    /// To be called when the last operation has ended.
    pub fn finish(&self) -> Tally {
        let (ops, elapsed) = (self.begun.load(Ordering::Relaxed), self.started.elapsed());
        Tally { ops, elapsed, median: Duration::ZERO, tail: Duration::ZERO }
    }
}

/// The times of single operations, one after the other.
#[derive(Debug)]
pub struct Laps {
    watch: Watch,
    lap_started: Option<Instant>,
    times: Vec<Duration>,
}

impl Laps {
    /// Starts now.
    pub fn start(stop: Stop) -> Self {
        Self { watch: Watch::start(stop), lap_started: None, times: Vec::with_capacity(1 << 16) }
    }

    /// Ends the running lap, if any, and says whether to run another, which starts now.
    pub fn another(&mut self) -> bool {
        let now = Instant::now();
        if let Some(started) = self.lap_started.take() {
            self.times.push(now - started);
        }
        let go_on = self.watch.another();
        if go_on {
            self.lap_started = Some(now);
        }
        go_on
    }

    /// To be called after [`Laps::another`] said no.
    pub fn finish(mut self) -> Tally {
        self.times.sort_unstable();
        let at = |place: usize| self.times.get(place).copied().unwrap_or_default();
        let (median, tail) = (at(self.times.len() / 2), at(self.times.len() * 99 / 100));
        Tally { ops: self.times.len() as u64, median, tail, ..self.watch.finish() }
    }
}
