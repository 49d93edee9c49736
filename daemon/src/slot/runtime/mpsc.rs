//! Bounded queues between tasks of one core. Memory is taken as values arrive, not for the bound: hundreds of idle groups
//! have several queues each.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};

use openraft::async_runtime::{Mpsc, MpscReceiver, MpscSender, MpscWeakSender, SendError, TryRecvError};

/// See [`Mpsc`].
#[derive(Debug)]
pub struct Queues;

struct Queue<T> {
    values: VecDeque<T>,
    bound: usize,
    senders: usize,
    is_receiver_gone: bool,
    receiver: Option<Waker>,
    waiting: Vec<Waker>,
}

impl<T> Queue<T> {
    fn take(&mut self) -> Option<T> {
        let value = self.values.pop_front();
        if value.is_some() {
            self.waiting.drain(..).for_each(Waker::wake);
        }
        if self.values.is_empty() && self.values.capacity() > 64 {
            self.values = VecDeque::new();
        }
        value
    }
}

/// The sending end; the queue is closed when the last is dropped.
pub struct Sender<T>(Rc<RefCell<Queue<T>>>);

/// A sending end that keeps no queue open.
pub struct WeakSender<T>(Weak<RefCell<Queue<T>>>);

/// The receiving end.
pub struct Receiver<T>(Rc<RefCell<Queue<T>>>);

impl Mpsc for Queues {
    type Sender<T> = Sender<T>;
    type Receiver<T> = Receiver<T>;
    type WeakSender<T> = WeakSender<T>;

    fn channel<T>(bound: usize) -> (Sender<T>, Receiver<T>) {
        let queue = Rc::new(RefCell::new(Queue {
            values: VecDeque::new(),
            bound: bound.max(1),
            senders: 1,
            is_receiver_gone: false,
            receiver: None,
            waiting: Vec::new(),
        }));
        (Sender(queue.clone()), Receiver(queue))
    }
}

impl<T> MpscSender<Queues, T> for Sender<T> {
    async fn send(&self, value: T) -> Result<(), SendError<T>> {
        let mut value = Some(value);
        poll_fn(|cx| {
            let mut queue = self.0.borrow_mut();
            let is_full = queue.values.len() >= queue.bound && !queue.is_receiver_gone;
            if is_full && !queue.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                queue.waiting.push(cx.waker().clone());
            }
            let Some(value) = value.take_if(|_| !is_full) else { return Poll::Pending };
            if queue.is_receiver_gone {
                return Poll::Ready(Err(SendError(value)));
            }
            queue.values.push_back(value);
            queue.receiver.take().into_iter().for_each(Waker::wake);
            Poll::Ready(Ok(()))
        })
        .await
    }

    fn downgrade(&self) -> WeakSender<T> {
        WeakSender(Rc::downgrade(&self.0))
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.borrow_mut().senders += 1;
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut queue = self.0.borrow_mut();
        queue.senders -= 1;
        if queue.senders == 0 {
            queue.receiver.take().into_iter().for_each(Waker::wake);
        }
    }
}

impl<T> MpscWeakSender<Queues, T> for WeakSender<T> {
    fn upgrade(&self) -> Option<Sender<T>> {
        let queue = self.0.upgrade()?;
        if queue.borrow().senders == 0 {
            return None;
        }
        queue.borrow_mut().senders += 1;
        Some(Sender(queue))
    }
}

impl<T> Clone for WeakSender<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> MpscReceiver<T> for Receiver<T> {
    async fn recv(&mut self) -> Option<T> {
        poll_fn(|cx| {
            let mut queue = self.0.borrow_mut();
            match queue.take() {
                Some(value) => Poll::Ready(Some(value)),
                None if queue.senders == 0 => Poll::Ready(None),
                None => {
                    queue.receiver = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn try_recv(&mut self) -> Result<T, TryRecvError> {
        let mut queue = self.0.borrow_mut();
        match queue.take() {
            Some(value) => Ok(value),
            None if queue.senders == 0 => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut queue = self.0.borrow_mut();
        queue.is_receiver_gone = true;
        let (values, waiting) = (std::mem::take(&mut queue.values), std::mem::take(&mut queue.waiting));
        drop(queue);
        waiting.into_iter().for_each(Waker::wake);
        // What a value owns may send into this very queue when it is dropped.
        drop(values);
    }
}
