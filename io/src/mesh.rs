//! The mesh: a bounded queue of messages between every pair of a node's cores.
//!
//! Each pair has its own lock-free queue, so a core that floods another is slowed down alone. A sender waits while
//! its queue to that core is full; a receiver takes what is there in batches, from each core in turn.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use crossbeam::queue::ArrayQueue;
use futures_util::task::AtomicWaker;

use crate::runtime::CoreId;

/// A mesh for messages of one type, to be shared by all cores of a node; each core takes its [`Endpoint`] once.
pub struct Mesh<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for Mesh<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

struct Shared<T> {
    cores: usize,
    /// From core f to core t at `f * cores + t`.
    lanes: Vec<Pair<T>>,
    /// Of each core: woken when a message arrives.
    receivers: Vec<AtomicWaker>,
    taken: Vec<AtomicBool>,
    /// Of each core: its endpoint is gone and nothing will be received any more.
    closed: Vec<AtomicBool>,
}

struct Pair<T> {
    queue: ArrayQueue<T>,
    /// The sender, waiting for room. One task's waker; it passes the wake-up on to the others of its core.
    sender: AtomicWaker,
}

/// The other core has stopped; the message is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the receiving core has stopped")]
pub struct Closed<T>(pub T);

/// Why [`Endpoint::try_send`] gave the message back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrySendError<T> {
    /// The queue to that core is full.
    #[error("the queue to that core is full")]
    Full(T),
    /// The other core has stopped.
    #[error("the receiving core has stopped")]
    Closed(T),
}

impl<T: std::marker::Send + 'static> Mesh<T> {
    /// A mesh of `cores` cores with room for `capacity` messages in each direction of each pair.
    ///
    /// # Panics
    /// If either is zero.
    pub fn new(cores: usize, capacity: usize) -> Self {
        assert!(cores > 0 && capacity > 0, "a mesh needs cores and capacity");
        let pair = || Pair { queue: ArrayQueue::new(capacity), sender: AtomicWaker::new() };
        let flags = || (0..cores).map(|_| AtomicBool::new(false)).collect();
        Self {
            shared: Arc::new(Shared {
                cores,
                lanes: (0..cores * cores).map(|_| pair()).collect(),
                receivers: (0..cores).map(|_| AtomicWaker::new()).collect(),
                taken: flags(),
                closed: flags(),
            }),
        }
    }

    /// The endpoint of `core`.
    ///
    /// # Errors
    /// If there is no such core in the mesh, or its endpoint was taken before.
    pub fn endpoint(&self, core: CoreId) -> io::Result<Endpoint<T>> {
        let taken = self.shared.taken.get(core.index()).ok_or_else(|| {
            let message = format!("{core} is not in a mesh of {} cores", self.shared.cores);
            io::Error::new(io::ErrorKind::InvalidInput, message)
        })?;
        if taken.swap(true, Ordering::SeqCst) {
            let message = format!("the endpoint of {core} was taken before");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        Ok(Endpoint {
            shared: self.shared.clone(),
            core: core.index(),
            turn: Cell::new(0),
            blocked: (0..self.shared.cores).map(|_| RefCell::default()).collect(),
        })
    }
}

/// One core's end of a mesh.
pub struct Endpoint<T> {
    shared: Arc<Shared<T>>,
    core: usize,
    /// The core whose queue is looked at first next time.
    turn: Cell<usize>,
    /// Per receiving core: this core's tasks that wait for room.
    blocked: Vec<RefCell<Vec<Waker>>>,
}

impl<T> Endpoint<T> {
    /// Sends without waiting.
    ///
    /// # Errors
    /// Gives the message back if the queue is full or the receiver is gone.
    ///
    /// # Panics
    /// If `to` is not in the mesh.
    pub fn try_send(&self, to: CoreId, message: T) -> Result<(), TrySendError<T>> {
        let to = to.index();
        if self.shared.closed[to].load(Ordering::SeqCst) {
            return Err(TrySendError::Closed(message));
        }
        self.pair(to).queue.push(message).map_err(TrySendError::Full)?;
        self.shared.receivers[to].wake();
        Ok(())
    }

    /// Sends, waiting for room. Dropping the future before it is ready sends nothing.
    ///
    /// # Panics
    /// If `to` is not in the mesh.
    pub fn send(&self, to: CoreId, message: T) -> Send<'_, T> {
        Send { endpoint: self, to: to.index(), message: Some(message), waited: false }
    }

    /// The next message and the core it comes from. Cores are served in turn.
    pub async fn recv(&self) -> (CoreId, T) {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Waits for at least one message and moves up to `max` of them into `batch`; returns how many.
    pub async fn recv_many(&self, batch: &mut Vec<(CoreId, T)>, max: usize) -> usize {
        batch.push(self.recv().await);
        let mut taken = 1;
        while taken < max {
            let Some(message) = self.take() else { break };
            batch.push(message);
            taken += 1;
        }
        taken
    }

    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<(CoreId, T)> {
        if let Some(message) = self.take() {
            return Poll::Ready(message);
        }
        self.shared.receivers[self.core].register(cx.waker());
        // Looked at again: a message may have come before the waker was registered.
        self.take().map_or(Poll::Pending, Poll::Ready)
    }

    fn take(&self) -> Option<(CoreId, T)> {
        let cores = self.shared.cores;
        let turn = self.turn.get();
        (0..cores).map(|step| (turn + step) % cores).find_map(|from| {
            let pair = &self.shared.lanes[from * cores + self.core];
            let message = pair.queue.pop()?;
            pair.sender.wake();
            self.turn.set((from + 1) % cores);
            Some((CoreId::new(from), message))
        })
    }

    fn pair(&self, to: usize) -> &Pair<T> {
        &self.shared.lanes[self.core * self.shared.cores + to]
    }

    /// Lets every task of this core that waits to send to `to` try again.
    fn wake_blocked(&self, to: usize) {
        let blocked = std::mem::take(&mut *self.blocked[to].borrow_mut());
        blocked.into_iter().for_each(Waker::wake);
    }
}

impl<T> Drop for Endpoint<T> {
    fn drop(&mut self) {
        self.shared.closed[self.core].store(true, Ordering::SeqCst);
        while self.take().is_some() {}
        for from in 0..self.shared.cores {
            self.shared.lanes[from * self.shared.cores + self.core].sender.wake();
        }
    }
}

/// See [`Endpoint::send`].
#[must_use = "nothing is sent until this is awaited"]
pub struct Send<'a, T> {
    endpoint: &'a Endpoint<T>,
    to: usize,
    message: Option<T>,
    /// Whether it ever had to wait, and so may have taken a wake-up that others need.
    waited: bool,
}

impl<T> Unpin for Send<'_, T> {}

impl<T> Send<'_, T> {
    fn attempt(&mut self) -> Option<Result<(), Closed<T>>> {
        let message = self.message.take().expect("polled after it was ready");
        match self.endpoint.try_send(CoreId::new(self.to), message) {
            Ok(()) => Some(Ok(())),
            Err(TrySendError::Closed(message)) => Some(Err(Closed(message))),
            Err(TrySendError::Full(message)) => {
                self.message = Some(message);
                None
            }
        }
    }
}

impl<T> Future for Send<'_, T> {
    type Output = Result<(), Closed<T>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(sent) = self.attempt() {
            return Poll::Ready(sent);
        }
        self.waited = true;
        let endpoint = self.endpoint;
        let mut blocked = endpoint.blocked[self.to].borrow_mut();
        if !blocked.iter().any(|waker| waker.will_wake(cx.waker())) {
            blocked.push(cx.waker().clone());
        }
        drop(blocked);
        endpoint.pair(self.to).sender.register(cx.waker());
        // Tried again: room may have come before the waker was registered.
        self.attempt().map_or(Poll::Pending, Poll::Ready)
    }
}

impl<T> Drop for Send<'_, T> {
    fn drop(&mut self) {
        // The queue's one wake-up may have come to this task; whoever else waits must not miss it.
        if self.waited {
            self.endpoint.wake_blocked(self.to);
        }
    }
}
