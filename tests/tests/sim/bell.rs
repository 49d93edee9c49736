//! Waiting for a change of state that tasks of one core share.

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Rung whenever something has changed; whoever waits looks again.
#[derive(Default)]
pub struct Bell {
    waiting: RefCell<Vec<Waker>>,
}

impl Bell {
    pub fn ring(&self) {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Waits until `done` has something to say.
    pub async fn until<T>(&self, mut done: impl FnMut() -> Option<T>) -> T {
        poll_fn(|cx| {
            let said = done();
            if said.is_none() {
                self.waiting.borrow_mut().push(cx.waker().clone());
            }
            said.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}
