//! A value that tasks of one core watch: only the last one counts.

use std::cell::{Ref, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use openraft::async_runtime::watch::{RecvError, SendError};
use openraft::async_runtime::{Watch, WatchReceiver, WatchSender};

/// See [`Watch`].
#[derive(Debug)]
pub struct Watches;

struct Watched<T> {
    value: RefCell<T>,
    about: RefCell<About>,
}

struct About {
    /// Counts the values.
    version: u64,
    senders: usize,
    receivers: usize,
    waiting: Vec<Waker>,
}

impl<T> Watched<T> {
    fn change(&self) {
        let mut about = self.about.borrow_mut();
        about.version += 1;
        let waiting = std::mem::take(&mut about.waiting);
        drop(about);
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// The sending end.
pub struct Sender<T>(Rc<Watched<T>>);

/// The receiving end, with the version it has seen.
pub struct Receiver<T>(Rc<Watched<T>>, u64);

impl Watch for Watches {
    type Sender<T> = Sender<T>;
    type Receiver<T> = Receiver<T>;
    type Ref<'a, T: 'a> = Ref<'a, T>;

    fn channel<T>(first: T) -> (Sender<T>, Receiver<T>) {
        let about = About { version: 0, senders: 1, receivers: 1, waiting: Vec::new() };
        let watched = Rc::new(Watched { value: RefCell::new(first), about: RefCell::new(about) });
        (Sender(watched.clone()), Receiver(watched, 0))
    }
}

impl<T> WatchSender<Watches, T> for Sender<T> {
    fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.0.about.borrow().receivers == 0 {
            return Err(SendError(value));
        }
        let before = self.0.value.replace(value);
        self.0.change();
        drop(before);
        Ok(())
    }

    fn send_if_modified<F>(&self, modify: F) -> bool
    where
        F: FnOnce(&mut T) -> bool,
    {
        let is_modified = modify(&mut self.0.value.borrow_mut());
        if is_modified {
            self.0.change();
        }
        is_modified
    }

    fn borrow_watched(&self) -> Ref<'_, T> {
        self.0.value.borrow()
    }

    fn subscribe(&self) -> Receiver<T> {
        self.0.about.borrow_mut().receivers += 1;
        let version = self.0.about.borrow().version;
        Receiver(self.0.clone(), version)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.about.borrow_mut().senders += 1;
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut about = self.0.about.borrow_mut();
        about.senders -= 1;
        if about.senders == 0 {
            let waiting = std::mem::take(&mut about.waiting);
            drop(about);
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

impl<T> WatchReceiver<Watches, T> for Receiver<T> {
    async fn changed(&mut self) -> Result<(), RecvError> {
        poll_fn(|cx| {
            let mut about = self.0.about.borrow_mut();
            if about.version != self.1 {
                self.1 = about.version;
                return Poll::Ready(Ok(()));
            }
            if about.senders == 0 {
                return Poll::Ready(Err(RecvError(())));
            }
            if !about.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                about.waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    fn borrow_watched(&self) -> Ref<'_, T> {
        self.0.value.borrow()
    }

    fn borrow_and_update(&mut self) -> Ref<'_, T> {
        self.1 = self.0.about.borrow().version;
        self.0.value.borrow()
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.0.about.borrow_mut().receivers += 1;
        Self(self.0.clone(), self.1)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.about.borrow_mut().receivers -= 1;
    }
}
