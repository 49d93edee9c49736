//! A bell: whoever waits for something to change on this core looks again when it rings.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::task::{Context, Poll, Waker};

/// Wakes everybody who waits whenever something may have changed.
///
/// Look first, then wait: on one core nothing can happen between the two unless one awaits in between.
#[derive(Default)]
pub struct Bell {
    rings: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

impl Bell {
    /// Wakes all who wait.
    pub fn ring(&self) {
        self.rings.set(self.rings.get() + 1);
        let waiting = self.waiting.take();
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Waits for the next ring after this call.
    pub fn rung(&self) -> impl Future<Output = ()> + '_ {
        let mut seen = self.rings.get();
        std::future::poll_fn(move |cx| self.poll_rung(cx, &mut seen))
    }

    /// Ready if it rang since the count in `seen`, which is brought up to date.
    pub(crate) fn poll_rung(&self, cx: &Context<'_>, seen: &mut u64) -> Poll<()> {
        let rings = self.rings.get();
        if std::mem::replace(seen, rings) != rings {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell").field("rings", &self.rings.get()).finish_non_exhaustive()
    }
}
