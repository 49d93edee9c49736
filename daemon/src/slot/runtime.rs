//! What openraft asks of an async runtime, on `cairn_io`: tasks, time, randomness and channels of one core.
//!
//! It adds nothing to what `cairn_io` promises: in the simulation a run with it is a function of the seed. A dropped
//! join handle lets its task go on, as openraft expects, where one of `cairn_io` would cancel it.

mod mpsc;
mod watch;

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use cairn_io::task::{Class, JoinError, spawn};
use cairn_io::time::{self, Duration, Elapsed};
use cairn_io::{rng, task};
use futures_channel::oneshot;
use openraft::async_runtime::{self, AsyncRuntime};

/// The runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct IoRuntime;

/// What a group does at a set time, which is to tick, it does at a multiple of this. A core has hundreds of groups: it wakes once
/// for all that are about due, and what they have to say to a node leaves in one batch.
const GRID: Duration = Duration::from_millis(64);

impl AsyncRuntime for IoRuntime {
    type JoinError = JoinError;
    type JoinHandle<T: 'static> = JoinHandle<T>;
    type Sleep = time::Sleep;
    type Instant = Instant;
    type TimeoutError = Elapsed;
    type Timeout<R, T: Future<Output = R>> = time::Timeout<T>;
    type ThreadLocalRng = Random;
    type Mpsc = mpsc::Queues;
    type Watch = watch::Watches;
    type Oneshot = Oneshots;
    type Mutex<T: 'static> = Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + 'static,
        T::Output: 'static,
    {
        JoinHandle(Some(spawn(Class::Foreground, future)))
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        time::sleep(duration)
    }

    /// Sleeps a little longer, up to the next point of the grid.
    fn sleep_until(deadline: Instant) -> Self::Sleep {
        let nanos = deadline.0.as_nanos();
        let later = nanos.next_multiple_of(GRID.as_nanos() as u64) - nanos;
        time::sleep_until(deadline.0 + Duration::from_nanos(later))
    }

    fn timeout<R, F: Future<Output = R>>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        time::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R>>(deadline: Instant, future: F) -> Self::Timeout<R, F> {
        time::timeout(deadline.0.since(time::now()), future)
    }

    fn is_panic(error: &JoinError) -> bool {
        matches!(error, JoinError::Panicked(_))
    }

    fn thread_rng() -> Random {
        Random
    }

    /// For openraft's own tests, which run on a core already.
    fn new(_threads: usize) -> Self {
        Self
    }

    /// Runs what is ready at once: a core can't wait for itself, and outside one there is nothing to wait for.
    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("nothing may block a core; start one with cairn_io::run"),
        }
    }

    /// Nothing of openraft's blocks; who needs that has `cairn_io::blocking`.
    async fn spawn_blocking<F, T>(_: F) -> Result<T, io::Error>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        Err(io::Error::new(io::ErrorKind::Unsupported, "use cairn_io::blocking"))
    }
}

/// Waits for a task; dropping it lets the task go on.
pub struct JoinHandle<T>(Option<task::JoinHandle<T>>);

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Some(task) => Pin::new(task).poll(cx),
            None => Poll::Ready(Err(JoinError::Cancelled)),
        }
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(task::JoinHandle::detach);
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JoinHandle").field(&self.0).finish()
    }
}

/// A point on this node's monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(time::Instant);

impl Instant {
    /// How long ago it was.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

impl async_runtime::Instant for Instant {
    fn now() -> Self {
        Self(time::now())
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0 + duration)
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0 - duration)
    }
}

impl SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, duration: Duration) {
        *self = *self - duration;
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.0 - earlier.0
    }
}

/// The randomness of this core.
#[derive(Clone, Copy, Debug)]
pub struct Random;

impl rand_core::TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((rng::next_u64() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(rng::next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        rng::with(|rng| rng::RngCore::fill_bytes(rng, bytes));
        Ok(())
    }
}

/// Channels for one value.
#[derive(Debug)]
pub struct Oneshots;

/// The sending end of a channel for one value.
pub struct OneshotSender<T>(oneshot::Sender<T>);

impl async_runtime::Oneshot for Oneshots {
    type Sender<T> = OneshotSender<T>;
    type Receiver<T> = oneshot::Receiver<T>;
    type ReceiverError = oneshot::Canceled;

    fn channel<T>() -> (Self::Sender<T>, Self::Receiver<T>) {
        let (sender, receiver) = oneshot::channel();
        (OneshotSender(sender), receiver)
    }
}

impl<T> async_runtime::OneshotSender<T> for OneshotSender<T> {
    fn send(self, value: T) -> Result<(), T> {
        self.0.send(value)
    }
}

/// A lock that tasks wait for.
#[derive(Debug)]
pub struct Mutex<T>(futures_util::lock::Mutex<T>);

impl<T: 'static> async_runtime::Mutex<T> for Mutex<T> {
    type Guard<'a> = futures_util::lock::MutexGuard<'a, T>;

    fn new(value: T) -> Self {
        Self(futures_util::lock::Mutex::new(value))
    }

    fn lock(&self) -> impl Future<Output = Self::Guard<'_>> {
        self.0.lock()
    }
}
