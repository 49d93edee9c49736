//! The glommio driver: its executor and task queues decide between classes that compete for the core.
//!
//! While one class alone has work, its tasks are run directly; with none, the core sleeps on its own ring. glommio's own
//! sleep is not used: it costs five system calls, and it can come although tasks are ready (docs/decisions/0003).

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::task::{Poll, Waker};

use ::glommio::timer::Timer;
use ::glommio::{
    Latency, LocalExecutor, LocalExecutorBuilder, Placement, Shares, TaskQueueHandle, executor, spawn_local_into,
};
use futures_util::FutureExt;

use super::host::{run_batch, turn};
use super::ring::Ring;
use super::{Notify, finish, make_core, real_now};
use crate::core::Core;
use crate::runtime::{Start, StartError};
use crate::task::{Class, JoinError};
use crate::time::Duration;

/// glommio's own buffers, which we don't use: the least it takes.
const IO_MEMORY: usize = 64 << 10;

/// The longest that glommio's executor sleeps while it runs competing classes.
///
/// NOTE: it sleeps although tasks are ready when its preemption timer fires just before it looks at its queues. The
/// timer is left at 100 ms, so that takes a process that was stopped at the wrong moment; this is for that one.
const SLEEP_MAX: Duration = Duration::from_millis(10);

pub(super) fn run<F, T>(
    start: &Start,
    program: impl FnOnce() -> F + 'static,
) -> Result<Result<T, JoinError>, StartError>
where
    F: Future<Output = T> + 'static,
    T: 'static,
{
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .name(&format!("core-{}", start.core.index()))
        .io_memory(IO_MEMORY)
        .make()
        .map_err(|error| StartError::Driver {
            driver: "glommio",
            reason: error.to_string(),
            remedy: "raise the memlock limit (ulimit -l) or choose --driver monoio".to_owned(),
        })?;
    let (core, _entered) = make_core(start)?;
    let ring = core.real().ring.clone().expect("there is one wherever glommio runs");
    let over = Rc::new(Cell::new(false));
    let contest = executor.run(async { Rc::new(Contest::new(core.clone(), over.clone())) });
    let sleeper = Sleeper { waker: ring.waker(), ring, spin: start.config.spin_before_park };
    let guard = Over(over.clone());
    let main = core.exec.spawn(Class::Foreground, async move {
        let _guard = guard;
        program().await
    });
    while !over.get() {
        turn(&core, real_now());
        match core.exec.ready_classes() {
            0 => sleeper.sleep(&core),
            1 => {
                let class = Class::ALL.into_iter().find(|&class| core.exec.ready(class) > 0);
                run_batch(&core, class.expect("one is ready"));
            }
            _ => contest.hold(&executor),
        }
    }
    let result = main.now_or_never().unwrap_or(Err(JoinError::Cancelled));
    finish(&core);
    Ok(result)
}

/// Says so when it is dropped.
struct Over(Rc<Cell<bool>>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

/// How a core without work sleeps.
struct Sleeper {
    ring: Rc<Ring>,
    waker: Waker,
    spin: Duration,
}

impl Sleeper {
    fn sleep(&self, core: &Core) {
        if core.exec.host_sleeps(&self.waker) {
            let limit = core.timers.next().map(|next| next.since(real_now()));
            self.ring.sleep(limit, self.spin);
            core.exec.host_runs();
        }
    }
}

/// Several classes with work, each hosted in a task queue of glommio's with its shares.
struct Contest {
    core: Rc<Core>,
    queues: [TaskQueueHandle; Class::COUNT],
    hosted: [Cell<bool>; Class::COUNT],
    ended: Notify,
    /// The core's program has ended.
    over: Rc<Cell<bool>>,
}

impl Contest {
    /// Makes the queues; called on the executor.
    fn new(core: Rc<Core>, over: Rc<Cell<bool>>) -> Self {
        let queues = Class::ALL.map(|class| {
            let shares = Shares::Static(class.shares() as usize);
            executor().create_task_queue(shares, Latency::NotImportant, &format!("{class:?}"))
        });
        Self { core, queues, hosted: Default::default(), ended: Notify::default(), over }
    }

    /// Has glommio run the classes until only one of them has work left.
    fn hold(self: &Rc<Self>, executor: &LocalExecutor) {
        executor.run(async {
            self.admit();
            let mut alarm = Timer::new(SLEEP_MAX);
            std::future::poll_fn(|cx| {
                while alarm.poll_unpin(cx).is_ready() {
                    alarm = Timer::new(SLEEP_MAX);
                }
                self.ended.wait(cx);
                if self.contestants() == 0 { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        });
    }

    fn contestants(&self) -> usize {
        self.hosted.iter().filter(|hosted| hosted.get()).count()
    }

    /// Starts a host for each class that has work and none yet.
    fn admit(self: &Rc<Self>) {
        for class in Class::ALL {
            let hosted = &self.hosted[class as usize];
            if !hosted.get() && !self.over.get() && self.core.exec.ready(class) > 0 {
                hosted.set(true);
                let host = self.clone().host(class);
                spawn_local_into(host, self.queues[class as usize]).expect("the queue was made at the start").detach();
            }
        }
    }

    async fn host(self: Rc<Self>, class: Class) {
        loop {
            run_batch(&self.core, class);
            turn(&self.core, real_now());
            self.admit();
            if self.over.get() || self.contestants() == 1 || self.core.exec.ready(class) == 0 {
                break;
            }
            executor().yield_task_queue_now().await;
        }
        self.hosted[class as usize].set(false);
        self.ended.wake();
    }
}
