//! Time: the monotonic clock, the wall clock, and timers on both.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::ops::{Add, Sub};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

pub use std::time::Duration;

use pin_project_lite::pin_project;

use crate::core;

/// A point on this node's monotonic clock. Means nothing on another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    pub(crate) const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's origin (process start, or start of the simulated world).
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time passed since `earlier`; zero if `earlier` lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Time passed since this point.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        now().since(self)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

/// Not before the clock's origin.
impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(nanos))
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// A point on the wall clock: nanoseconds since the Unix epoch. For display and expiry dates; it decides no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(u64);

impl WallTime {
    /// From nanoseconds since the Unix epoch.
    pub const fn from_unix_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn as_unix_nanos(self) -> u64 {
        self.0
    }

    /// Its year, month and day in UTC.
    pub const fn date(self) -> (u64, u64, u64) {
        date(self.0 / 86_400_000_000_000)
    }
}

/// A date and time in UTC, to the millisecond.
impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0 / 1_000_000;
        let rest = millis % 86_400_000;
        let (year, month, day) = self.date();
        let (hours, minutes, seconds) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{:03}Z", rest % 1000)
    }
}

/// The date of a day counted from 1970-01-01, in the Gregorian calendar: years are taken to begin in March, so that a leap
/// day is a year's last.
const fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + if month <= 2 { 1 } else { 0 }, month, day)
}

/// The monotonic clock, now.
pub fn now() -> Instant {
    core::current().backend.now()
}

/// The wall clock, now.
pub fn wall() -> WallTime {
    core::current().backend.wall()
}

/// Waits for `duration`. Never ends early; on monoio it may end up to a millisecond late.
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(now() + duration)
}

/// Waits until `deadline`.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline, key: None }
}

/// Runs `future` for at most `limit`; it is dropped when the time is over.
pub fn timeout<F: Future>(limit: Duration, future: F) -> Timeout<F> {
    Timeout { future, sleep: sleep(limit) }
}

/// The time given to [`timeout`] was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the time allowed is over")]
pub struct Elapsed;

impl From<Elapsed> for std::io::Error {
    fn from(elapsed: Elapsed) -> Self {
        Self::new(std::io::ErrorKind::TimedOut, elapsed)
    }
}

/// Ticks every `period`, first after one period. A tick that was missed is skipped, not made up for.
pub fn interval(period: Duration) -> Interval {
    let period = period.max(Duration::from_nanos(1));
    Interval { period, next: now() + period }
}

/// See [`interval`].
#[derive(Debug)]
pub struct Interval {
    period: Duration,
    next: Instant,
}

impl Interval {
    /// Waits for the next tick and returns when it was due.
    pub async fn tick(&mut self) -> Instant {
        let due = self.next;
        sleep_until(due).await;
        let now = now();
        let mut next = due + self.period;
        if next <= now {
            next = now + self.period;
        }
        self.next = next;
        due
    }
}

/// See [`sleep`].
#[derive(Debug)]
#[must_use = "a sleep does nothing until it is awaited"]
pub struct Sleep {
    deadline: Instant,
    /// The place in the core's timer queue, once polled.
    key: Option<u64>,
}

impl Sleep {
    /// When the sleep ends.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let core = core::current();
        if core.backend.now() >= self.deadline {
            if let Some(key) = self.key.take() {
                core.timers.remove(self.deadline, key);
            }
            return Poll::Ready(());
        }
        let key = core.timers.insert(self.deadline, self.key, cx.waker());
        self.key = Some(key);
        if core.timers.needs_alarm(self.deadline) {
            core.backend.arm(self.deadline);
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let (Some(key), Some(core)) = (self.key, core::try_current()) {
            core.timers.remove(self.deadline, key);
        }
    }
}

pin_project! {
    /// See [`timeout`].
    #[must_use = "a timeout does nothing until it is awaited"]
    pub struct Timeout<F> {
        #[pin]
        future: F,
        sleep: Sleep,
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(this.sleep).poll(cx).map(|()| Err(Elapsed))
    }
}

/// The sleepers of one core, ordered by deadline. 100,000 of them cost a tree of that size and one alarm.
pub(crate) struct Timers {
    queue: RefCell<BTreeMap<(Instant, u64), Waker>>,
    next_key: Cell<u64>,
    /// The deadline the driver's alarm is set for, if any.
    armed: Cell<Option<Instant>>,
}

impl Timers {
    pub fn new() -> Self {
        // Keys of two cores never meet, so that a sleep dropped on a foreign core removes nothing there.
        static CORES: AtomicU64 = AtomicU64::new(0);
        let base = CORES.fetch_add(1, Ordering::Relaxed) << 40;
        Self { queue: RefCell::default(), next_key: Cell::new(base), armed: Cell::new(None) }
    }

    fn insert(&self, deadline: Instant, key: Option<u64>, waker: &Waker) -> u64 {
        let key = key.unwrap_or_else(|| self.next_key.replace(self.next_key.get() + 1));
        let mut queue = self.queue.borrow_mut();
        match queue.get_mut(&(deadline, key)) {
            Some(held) => held.clone_from(waker),
            None => drop(queue.insert((deadline, key), waker.clone())),
        }
        key
    }

    fn remove(&self, deadline: Instant, key: u64) {
        let waker = self.queue.borrow_mut().remove(&(deadline, key));
        drop(waker);
    }

    /// Whether the alarm must be set anew for `deadline`; if so it counts as set.
    fn needs_alarm(&self, deadline: Instant) -> bool {
        let needs = self.armed.get().is_none_or(|armed| deadline < armed);
        if needs {
            self.armed.set(Some(deadline));
        }
        needs
    }

    /// When somebody is to be woken next, at the earliest.
    pub fn next(&self) -> Option<Instant> {
        self.armed.get()
    }

    /// Whether somebody is to be woken.
    pub fn is_due(&self, now: Instant) -> bool {
        self.next().is_some_and(|next| next <= now)
    }

    /// Wakes every sleeper that is due and returns the deadline to set the alarm for next.
    pub fn fire(&self, now: Instant) -> Option<Instant> {
        loop {
            let due = {
                let mut queue = self.queue.borrow_mut();
                match queue.first_entry() {
                    Some(entry) if entry.key().0 <= now => entry.remove(),
                    first => {
                        let next = first.map(|entry| entry.key().0);
                        self.armed.set(next);
                        return next;
                    }
                }
            };
            due.wake();
        }
    }
}

#[test]
fn dates_are_right() {
    let text = |nanos| WallTime::from_unix_nanos(nanos).to_string();
    assert_eq!(text(0), "1970-01-01T00:00:00.000Z");
    assert_eq!(text(951_782_400_000_000_000), "2000-02-29T00:00:00.000Z");
    assert_eq!(text(1_577_836_799_999_000_000), "2019-12-31T23:59:59.999Z");
    assert_eq!(text(4_107_542_400_000_000_000), "2100-03-01T00:00:00.000Z");
}
