//! A bound on how many of something a core has under way.

use std::cell::{Cell, RefCell};
use std::task::{Poll, Waker};

/// Gives out so many permits; more wait.
pub(crate) struct Limit {
    free: Cell<usize>,
    waiting: RefCell<Vec<Waker>>,
}

impl Limit {
    pub fn new(max: usize) -> Self {
        Self { free: Cell::new(max), waiting: RefCell::default() }
    }

    /// Waits until fewer than the most are under way.
    pub async fn permit(&self) -> Permit<'_> {
        std::future::poll_fn(|cx| {
            if let Some(free) = self.free.get().checked_sub(1) {
                self.free.set(free);
                return Poll::Ready(Permit(self));
            }
            self.waiting.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

/// One of those that may be under way; given back when dropped.
pub(crate) struct Permit<'a>(&'a Limit);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.free.set(self.0.free.get() + 1);
        // All of them: one that was dropped meanwhile must not swallow the only wake-up.
        let waiting = self.0.waiting.take();
        waiting.into_iter().for_each(Waker::wake);
    }
}
