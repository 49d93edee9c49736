//! Tasks: classes, join handles, yielding.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_task::FallibleTask;

/// What a task is for, and so what share of a busy core it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(usize)]
pub enum Class {
    /// Somebody is waiting for the answer.
    Foreground,
    /// Copies on their way to other nodes.
    Replication,
    /// Audit, repair, compaction, scrub: whatever may take its time.
    Maintenance,
}

impl Class {
    pub(crate) const COUNT: usize = 3;
    /// All classes, most urgent first.
    pub const ALL: [Class; Self::COUNT] = [Class::Foreground, Class::Replication, Class::Maintenance];

    /// Relative share of a core when every class has work.
    pub const fn shares(self) -> u32 {
        match self {
            Class::Foreground => 1000,
            Class::Replication => 200,
            Class::Maintenance => 50,
        }
    }
}

/// Starts a task on this core. Dropping the handle cancels the task; [`JoinHandle::detach`] lets it go on.
///
/// # Panics
/// Outside a core.
pub fn spawn<F>(class: Class, future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    crate::core::current().exec.spawn(class, future)
}

/// Lets every other ready task of this core run once before going on.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Waits for a task. Dropping it cancels the task.
#[must_use = "dropping a join handle cancels its task; call detach() to let it go on"]
pub struct JoinHandle<T> {
    task: FallibleTask<Result<T, JoinError>>,
}

impl<T> JoinHandle<T> {
    pub(crate) fn new(task: async_task::Task<Result<T, JoinError>>) -> Self {
        Self { task: task.fallible() }
    }

    /// Lets the task go on without anybody waiting for it.
    pub fn detach(self) {
        self.task.detach();
    }

    /// Cancels the task and waits until its future is dropped. Returns its result if it was already there.
    pub async fn cancel(self) -> Option<Result<T, JoinError>> {
        self.task.cancel().await
    }

    /// Whether the task has ended, in whatever way.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.task).poll(cx).map(|result| result.unwrap_or(Err(JoinError::Cancelled)))
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("finished", &self.is_finished()).finish()
    }
}

/// Why a task has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The task panicked; the core goes on.
    #[error("the task panicked: {0}")]
    Panicked(String),
    /// The task was cancelled, or its core stopped.
    #[error("the task was cancelled before it ended")]
    Cancelled,
}

impl JoinError {
    pub(crate) fn from_panic(panic: &(dyn Any + Send)) -> Self {
        let message = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic without a message".to_owned());
        Self::Panicked(message)
    }
}
