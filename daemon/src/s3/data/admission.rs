//! Memory for bodies: a request gets all it will hold before it begins, or is told to slow down.
//!
//! As nobody asks for more while holding some, nobody waits for somebody who waits.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use cairn_io::time::{Duration, timeout};
use futures_channel::oneshot;

use crate::s3::error::{Result, S3Error};

/// How long a request waits for others to end.
const WITHIN: Duration = Duration::from_secs(5);
/// How many wait.
const WAITING_MAX: usize = 1024;

/// See the module. One for each core.
pub struct Admission {
    whole: usize,
    free: Cell<usize>,
    waiting: RefCell<VecDeque<(usize, oneshot::Sender<Permit>)>>,
}

/// So much memory may be held. It is given back on drop.
pub struct Permit {
    from: Rc<Admission>,
    bytes: usize,
}

impl Admission {
    /// With so many bytes to give.
    pub fn new(bytes: usize) -> Rc<Self> {
        Rc::new(Self { whole: bytes, free: Cell::new(bytes), waiting: RefCell::default() })
    }

    /// Bytes that are lent.
    pub fn lent(&self) -> usize {
        self.whole - self.free.get()
    }

    /// Waits for so many bytes; for all that there are if it is more.
    ///
    /// # Errors
    /// `SlowDown` if others hold them too long.
    pub async fn admit(self: &Rc<Self>, bytes: usize) -> Result<Permit> {
        let bytes = bytes.min(self.whole);
        if let Some(permit) = self.try_admit(bytes) {
            return Ok(permit);
        }
        if self.waiting.borrow().len() >= WAITING_MAX {
            return Err(S3Error::slow_down());
        }
        let (sender, permit) = oneshot::channel();
        self.waiting.borrow_mut().push_back((bytes, sender));
        match timeout(WITHIN, permit).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(S3Error::slow_down()),
        }
    }

    /// So many bytes if they are there, and nobody waits.
    pub fn try_admit(self: &Rc<Self>, bytes: usize) -> Option<Permit> {
        if !self.waiting.borrow().is_empty() {
            return None;
        }
        self.take(bytes)
    }

    fn take(self: &Rc<Self>, bytes: usize) -> Option<Permit> {
        let left = self.free.get().checked_sub(bytes)?;
        self.free.set(left);
        Some(Permit { from: self.clone(), bytes })
    }

    /// Gives what there is to those who wait, in their order.
    fn serve(self: &Rc<Self>) {
        loop {
            let mut waiting = self.waiting.borrow_mut();
            let Some((bytes, sender)) = waiting.front() else { return };
            let permit = if sender.is_canceled() { None } else { self.take(*bytes) };
            if permit.is_none() && !sender.is_canceled() {
                return;
            }
            let next = waiting.pop_front();
            drop(waiting);
            if let (Some((_, sender)), Some(permit)) = (next, permit) {
                // Who has left gives it back by the drop of what it didn't take.
                drop(sender.send(permit));
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.from.free.set(self.from.free.get() + self.bytes);
        self.from.serve();
    }
}
