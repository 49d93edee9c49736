//! A core's run queues: one per class, filled by wakers from this core or any other.
//!
//! The drivers host these queues (three glommio task queues, one monoio root task, the simulation's
//! scheduler), so that tasks, cancellation and panics mean the same everywhere. It creates no threads and
//! decides no order between classes: the host does.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_task::{Runnable, Task};
use crossbeam::queue::SegQueue;
use futures_util::task::AtomicWaker;
use slab::Slab;

use crate::task::{Class, JoinError, JoinHandle};

/// The run queues of one core.
pub(crate) struct Exec {
    shared: Arc<Shared>,
    queues: [RefCell<VecDeque<Runnable>>; Class::COUNT],
    /// Wakers of every unfinished task, so that stopping a core can drop them all.
    live: Rc<RefCell<Slab<Waker>>>,
    /// No task is accepted any more.
    closed: Cell<bool>,
}

/// The part other threads may touch.
struct Shared {
    /// Tasks woken from outside the core.
    remote: SegQueue<(Class, Runnable)>,
    /// Who runs the queues, while it sleeps.
    host: AtomicWaker,
}

impl Shared {
    fn schedule(self: &Arc<Self>, class: Class, runnable: Runnable) {
        let here = crate::core::try_current().filter(|core| Arc::ptr_eq(&core.exec.shared, self));
        match here {
            Some(core) => core.exec.queues[class as usize].borrow_mut().push_back(runnable),
            None => self.remote.push((class, runnable)),
        }
        self.host.wake();
    }
}

impl Exec {
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared { remote: SegQueue::new(), host: AtomicWaker::new() }),
            queues: Default::default(),
            live: Rc::default(),
            closed: Cell::new(false),
        }
    }

    /// Queues `future` as a task of `class`. Dropping the handle cancels it.
    pub fn spawn<F>(&self, class: Class, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let mut live = self.live.borrow_mut();
        let entry = live.vacant_entry();
        let guard = LiveGuard { live: self.live.clone(), key: entry.key() };
        let contained = Contained { future: ManuallyDrop::new(future), _guard: guard };
        let shared = self.shared.clone();
        let schedule = move |runnable| shared.schedule(class, runnable);
        let (runnable, task): (Runnable, Task<_>) = async_task::spawn_local(contained, schedule);
        entry.insert(runnable.waker());
        drop(live);
        if self.closed.get() {
            // The core is stopping: the task is dropped unpolled and its handle reports a cancellation.
            drop(runnable);
        } else {
            runnable.schedule();
        }
        JoinHandle::new(task)
    }

    /// Moves what other cores woke into this core's queues.
    pub fn collect_remote(&self) {
        while let Some((class, runnable)) = self.shared.remote.pop() {
            self.queues[class as usize].borrow_mut().push_back(runnable);
        }
    }

    /// Runs queued tasks of `class` until none is left or `stop` says so; returns how many ran.
    pub fn run_class(&self, class: Class, mut stop: impl FnMut() -> bool) -> usize {
        let mut ran = 0;
        while let Some(runnable) = self.take(class) {
            runnable.run();
            ran += 1;
            if stop() {
                break;
            }
        }
        ran
    }

    fn take(&self, class: Class) -> Option<Runnable> {
        self.queues[class as usize].borrow_mut().pop_front()
    }

    /// How many tasks of `class` are ready.
    pub fn ready(&self, class: Class) -> usize {
        self.queues[class as usize].borrow().len()
    }

    /// Takes the `index`-th ready task of `class` and runs it: the simulation's way to try every order.
    #[cfg(feature = "sim")]
    pub fn run_nth(&self, class: Class, index: usize) {
        let runnable = self.queues[class as usize].borrow_mut().remove(index);
        if let Some(runnable) = runnable {
            runnable.run();
        }
    }

    /// How many classes have ready tasks.
    pub fn ready_classes(&self) -> usize {
        Class::ALL.into_iter().filter(|&class| self.ready(class) > 0).count()
    }

    /// The host runs and needs no waking until it says that it sleeps.
    pub fn host_runs(&self) {
        drop(self.shared.host.take());
    }

    /// Registers the host to be woken by the next task that becomes ready.
    ///
    /// Returns false when one is ready already; the host must then run again instead of sleeping.
    pub fn host_sleeps(&self, waker: &Waker) -> bool {
        self.shared.host.register(waker);
        // IMPORTANT: looked at after registering, or a task woken by another core in between would be missed.
        self.collect_remote();
        let asleep = self.ready_classes() == 0;
        if !asleep {
            self.host_runs();
        }
        asleep
    }

    /// Drops every unfinished task and refuses new ones.
    pub fn close(&self) {
        self.closed.set(true);
        // Dropping a task may wake or drop others: go on until nothing is left.
        loop {
            let wakers: Vec<Waker> = self.live.borrow().iter().map(|(_, waker)| waker.clone()).collect();
            wakers.iter().for_each(Waker::wake_by_ref);
            self.collect_remote();
            let drained: Vec<Runnable> =
                self.queues.iter().flat_map(|queue| std::mem::take(&mut *queue.borrow_mut())).collect();
            if drained.is_empty() {
                return;
            }
            drop(drained);
        }
    }
}

/// Removes a task from the list of live ones when its future goes.
struct LiveGuard {
    live: Rc<RefCell<Slab<Waker>>>,
    key: usize,
}

impl Drop for LiveGuard {
    fn drop(&mut self) {
        // The waker is dropped outside the borrow: it may hold the last reference to the task.
        let waker = self.live.borrow_mut().try_remove(self.key);
        drop(waker);
    }
}

/// A task's future: its panics, while it is polled or dropped, go no further. By hand: an async block would have room for the
/// future twice, where it is taken from and where it is polled.
struct Contained<F> {
    future: ManuallyDrop<F>,
    _guard: LiveGuard,
}

impl<F: Future> Future for Contained<F> {
    type Output = Result<F::Output, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: the future is never moved out of its pinned owner; it is dropped in place.
        let future = unsafe { self.map_unchecked_mut(|this| &mut *this.future) };
        match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(JoinError::from_panic(&*panic))),
        }
    }
}

impl<F> Drop for Contained<F> {
    fn drop(&mut self) {
        // SAFETY: dropped here and nowhere else.
        let drop_future = || unsafe { ManuallyDrop::drop(&mut self.future) };
        // The panic was reported by the panic hook; there is nobody else to tell.
        let _ = catch_unwind(AssertUnwindSafe(drop_future));
    }
}
