//! A result that an event will bring to a waiting task.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Made twice-owned: one for the event that keeps it, one for the task that waits.
pub(super) struct Promise<T> {
    value: RefCell<Option<T>>,
    waker: Cell<Option<Waker>>,
}

impl<T> Promise<T> {
    pub fn new() -> Rc<Self> {
        Rc::new(Self { value: RefCell::new(None), waker: Cell::new(None) })
    }

    pub fn keep(&self, value: T) {
        *self.value.borrow_mut() = Some(value);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether nobody waits any more; to be asked by the keeper, who holds the other reference.
    pub fn is_abandoned(self: &Rc<Self>) -> bool {
        Rc::strong_count(self) == 1
    }

    pub async fn kept(self: Rc<Self>) -> T {
        std::future::poll_fn(|cx| {
            if let Some(value) = self.value.borrow_mut().take() {
                return Poll::Ready(value);
            }
            self.waker.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await
    }
}
