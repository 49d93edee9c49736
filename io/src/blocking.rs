//! Calls that block, on threads of their own: LMDB commits, name lookups, what `io_uring` can't do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam::channel::{Receiver, Sender, unbounded};
use futures_channel::oneshot;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::core;
use crate::driver::Backend;
use crate::limit::Limit;
use crate::task::JoinError;

/// Runs `work` on a thread that may block and waits for its result.
///
/// At most [`PER_CORE_MAX`] calls of a core are under way; more wait. Dropping the future doesn't stop work that has
/// begun. In the simulation it runs in one step, after a simulated while.
///
/// # Errors
/// If `work` panics.
pub async fn run<T, F>(work: F) -> Result<T, JoinError>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let core = core::current();
    match &core.backend {
        Backend::Real(real) => {
            let _permit = real.blocking.limit.permit().await;
            real.blocking.threads.run(work).await
        }
        #[cfg(feature = "sim")]
        Backend::Sim(node) => {
            node.blocking_delay().await;
            catch_unwind(AssertUnwindSafe(work)).map_err(|panic| JoinError::from_panic(&*panic))
        }
    }
}

/// How many calls of one core may be under way or queued.
pub const PER_CORE_MAX: usize = 64;

/// One core's access to the threads.
pub(crate) struct Blocking {
    threads: Threads,
    limit: Limit,
}

impl Blocking {
    pub fn new(threads: Threads) -> Self {
        Self { threads, limit: Limit::new(PER_CORE_MAX) }
    }
}

/// What the calls for processors take for the calling thread.
const THIS_THREAD: Pid = Pid::from_raw(0);

type Job = Box<dyn FnOnce() + Send>;

/// The threads of one node, shared by its cores; started when there is work, gone with the node.
#[derive(Clone)]
pub(crate) struct Threads {
    jobs: Sender<Job>,
    queue: Receiver<Job>,
    /// Threads that wait and that no queued job counts on.
    idle: Arc<AtomicUsize>,
    started: Arc<AtomicUsize>,
    max: usize,
    /// The processors of the node, not only of the pinned core that happens to start a thread.
    processors: Option<CpuSet>,
}

impl Threads {
    pub fn new(max: usize) -> Self {
        let (jobs, queue) = unbounded();
        Self {
            jobs,
            queue,
            idle: Arc::default(),
            started: Arc::default(),
            max,
            processors: sched_getaffinity(THIS_THREAD).ok(),
        }
    }

    async fn run<T, F>(&self, work: F) -> Result<T, JoinError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (answer, result) = oneshot::channel();
        let job = move || {
            // Nobody waits any more when the future was dropped: the result is dropped here.
            let _ = answer.send(catch_unwind(AssertUnwindSafe(work)).map_err(|panic| JoinError::from_panic(&*panic)));
        };
        if self.jobs.send(Box::new(job)).is_err() {
            return Err(JoinError::Cancelled);
        }
        self.find_worker();
        result.await.unwrap_or(Err(JoinError::Cancelled))
    }

    /// Sees to it that somebody comes to the job just queued: an idle thread, a new one, or at the most all of them.
    fn find_worker(&self) {
        // Claimed here rather than when it wakes, so that two jobs never count on the same idle thread.
        let claimed = self.idle.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |idle| idle.checked_sub(1));
        if claimed.is_ok() {
            return;
        }
        let room = self
            .started
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |started| (started < self.max).then_some(started + 1));
        let Ok(number) = room else { return };
        let worker = Worker { queue: self.queue.clone(), idle: self.idle.clone(), processors: self.processors };
        let spawned = std::thread::Builder::new().name(format!("blocking-{number}")).spawn(move || worker.work());
        // Out of threads: those that run come to the job. Without any, better a core that blocks than one that waits for ever.
        if spawned.is_err()
            && self.started.fetch_sub(1, Ordering::SeqCst) == 1
            && let Ok(job) = self.queue.try_recv()
        {
            job();
        }
    }
}

struct Worker {
    queue: Receiver<Job>,
    idle: Arc<AtomicUsize>,
    processors: Option<CpuSet>,
}

impl Worker {
    fn work(self) {
        if let Some(processors) = self.processors {
            // On fewer processors it is only slower.
            let _ = sched_setaffinity(THIS_THREAD, &processors);
        }
        // The queue is closed when the last core of the node is gone.
        while let Ok(job) = self.queue.recv() {
            job();
            self.idle.fetch_add(1, Ordering::SeqCst);
        }
    }
}
