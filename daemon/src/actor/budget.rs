//! Budgets: how fast an actor may work, changeable while it does.

use std::cell::{Cell, RefCell};
use std::task::{Poll, Waker};

use cairn_io::time::{self, Duration, Instant};
use futures_util::future::select;
use futures_util::pin_mut;

/// How much of something may be used per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// As much as the machine gives.
    Unlimited,
    /// So many per second; 0 stands still.
    PerSecond(u64),
}

/// Two token buckets on the core's clock. Work is paid for before it is done; a bucket holds at most one second's
/// worth, and a piece larger than that is let through on credit, so that nothing is too large to ever be done.
#[derive(Debug)]
pub struct Budget {
    bytes: Bucket,
    operations: Bucket,
    /// Those who wait, to look again after a change.
    waiting: RefCell<Vec<Waker>>,
    /// Counts the changes.
    changes: Cell<u64>,
}

impl Budget {
    /// A budget of these rates, with full buckets.
    pub fn new(bytes: Rate, operations: Rate) -> Self {
        Self {
            bytes: Bucket::new(bytes),
            operations: Bucket::new(operations),
            waiting: RefCell::default(),
            changes: Cell::new(0),
        }
    }

    /// Bytes and operations per second.
    pub fn rates(&self) -> (Rate, Rate) {
        (self.bytes.rate.get(), self.operations.rate.get())
    }

    /// Changes the rates; whoever waits goes on at the new ones at once.
    pub fn set(&self, bytes: Rate, operations: Rate) {
        self.bytes.set(bytes);
        self.operations.set(operations);
        self.changes.set(self.changes.get() + 1);
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Waits until both buckets are out of debt, then takes from both.
    pub async fn pay(&self, bytes: u64, operations: u64) {
        loop {
            let now = time::now();
            let wait = self.bytes.wait(now).max(self.operations.wait(now));
            if wait == Wait::For(Duration::ZERO) {
                self.bytes.take(bytes);
                self.operations.take(operations);
                return;
            }
            let changed = self.changed();
            match wait {
                Wait::For(wait) => {
                    let slept = time::sleep(wait);
                    pin_mut!(changed, slept);
                    select(changed, slept).await;
                }
                Wait::ForEver => changed.await,
            }
        }
    }

    async fn changed(&self) {
        let seen = self.changes.get();
        std::future::poll_fn(|cx| {
            if self.changes.get() != seen {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

/// How long until a bucket is out of debt. Ordered: for ever is longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wait {
    For(Duration),
    ForEver,
}

const SECOND: i128 = 1_000_000_000;

/// Tokens in billionths, so that a rate times nanoseconds is exact.
#[derive(Debug)]
struct Bucket {
    rate: Cell<Rate>,
    /// Below zero: a debt that must be worked off before the next piece.
    billionths: Cell<i128>,
    filled: Cell<Option<Instant>>,
}

impl Bucket {
    fn new(rate: Rate) -> Self {
        let full = match rate {
            Rate::Unlimited => 0,
            Rate::PerSecond(rate) => i128::from(rate) * SECOND,
        };
        Self { rate: Cell::new(rate), billionths: Cell::new(full), filled: Cell::new(None) }
    }

    fn set(&self, rate: Rate) {
        // What was earned so far was earned at the old rate.
        self.fill(time::now());
        self.rate.set(rate);
    }

    fn fill(&self, now: Instant) {
        let Rate::PerSecond(rate) = self.rate.get() else {
            self.filled.set(Some(now));
            return;
        };
        let since = self.filled.replace(Some(now)).map_or(Duration::ZERO, |filled| now.since(filled));
        let earned = i128::from(rate) * i128::try_from(since.as_nanos()).unwrap_or(i128::MAX / SECOND);
        let full = i128::from(rate) * SECOND;
        self.billionths.set(self.billionths.get().saturating_add(earned).min(full));
    }

    fn wait(&self, now: Instant) -> Wait {
        self.fill(now);
        let held = self.billionths.get();
        match self.rate.get() {
            Rate::Unlimited => Wait::For(Duration::ZERO),
            Rate::PerSecond(0) => Wait::ForEver,
            Rate::PerSecond(_) if held > 0 => Wait::For(Duration::ZERO),
            Rate::PerSecond(rate) => {
                // One billionth more than the debt, rounded up to whole nanoseconds.
                let nanos = (1 - held + i128::from(rate) - 1) / i128::from(rate);
                Wait::For(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
            }
        }
    }

    fn take(&self, amount: u64) {
        if self.rate.get() != Rate::Unlimited {
            self.billionths.set(self.billionths.get() - i128::from(amount) * SECOND);
        }
    }
}
