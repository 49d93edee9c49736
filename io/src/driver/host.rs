//! Running a core's queues: batches, and the host for executors that know no classes.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::core::Core;
use crate::driver::real_now;
use crate::task::Class;
use crate::time::{Duration, Instant};

/// Tasks run between two looks at the ring, the timers and what other cores woke.
const BATCH: usize = 64;

/// The longest such stretch, if no single task takes longer: what a class may keep the core from a more urgent one.
const BATCH_TIME: Duration = Duration::from_micros(500);

/// Tasks run between two looks at the clock.
const UNCLOCKED: usize = 4;

/// Submits and reaps the core's ring, fires its timers and takes in what other cores woke.
///
/// Done after every batch, so that a busy core depends on no poll of its driver, which may come much later.
pub(super) fn turn(core: &Core, now: Instant) {
    if let Some(ring) = &core.real().ring {
        ring.turn();
    }
    if core.timers.is_due(now) {
        core.timers.fire(now);
    }
    core.exec.collect_remote();
}

/// Runs tasks of `class` for a while.
pub(super) fn run_batch(core: &Core, class: Class) {
    let end = real_now() + BATCH_TIME;
    let mut left = BATCH;
    core.exec.run_class(class, || {
        left -= 1;
        left == 0 || (left.is_multiple_of(UNCLOCKED) && real_now() >= end)
    });
}

/// Runs all classes, giving each its share of the time: for executors that know no classes.
pub(crate) struct AllHost<A> {
    core: Rc<Core>,
    shares: Shares,
    /// Has the host polled again, after the executor has looked at its timers and sockets.
    again: A,
}

impl<A> AllHost<A> {
    pub fn new(core: Rc<Core>, again: A) -> Self {
        Self { core, shares: Shares::default(), again }
    }
}

impl<A: FnMut(&mut Context<'_>) + Unpin> Future for AllHost<A> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let core = self.core.clone();
        let exec = &core.exec;
        exec.host_runs();
        exec.collect_remote();
        let mut left = BATCH;
        let mut before = real_now();
        while left > 0 {
            let Some(class) = self.shares.next(|class| exec.ready(class) > 0) else { break };
            // A few at a time, so that the clock is not read for each.
            let mut few = left.min(8);
            left -= few;
            exec.run_class(class, || {
                few -= 1;
                few == 0
            });
            let after = real_now();
            self.shares.charge(class, after.since(before).as_nanos() as u64);
            before = after;
        }
        turn(&core, before);
        if !exec.host_sleeps(cx.waker()) {
            (self.again)(cx);
        }
        Poll::Pending
    }
}

/// Stride scheduling: the class that has had least of its share runs next.
#[derive(Default)]
struct Shares {
    /// Time each class has had, divided by its shares.
    passed: [u64; Class::COUNT],
    /// What the class that ran last had: one that was idle starts from there and saves up nothing.
    floor: u64,
}

impl Shares {
    fn next(&mut self, ready: impl Fn(Class) -> bool) -> Option<Class> {
        let floor = self.floor;
        let passed = &mut self.passed;
        let class = Class::ALL.into_iter().filter(|&class| ready(class)).min_by_key(|&class| {
            let held = &mut passed[class as usize];
            *held = (*held).max(floor);
            *held
        })?;
        self.floor = self.passed[class as usize];
        Some(class)
    }

    fn charge(&mut self, class: Class, nanos: u64) {
        self.passed[class as usize] += nanos.max(1) * 1000 / u64::from(class.shares());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_classes_get_their_shares() {
        let mut shares = Shares::default();
        let mut had = [0u64; Class::COUNT];
        for _ in 0..125_000 {
            let class = shares.next(|_| true).expect("all are ready");
            had[class as usize] += 1000;
            shares.charge(class, 1000);
        }
        assert_eq!(had.map(|nanos| nanos / 1_000_000), [100, 20, 5]);
    }

    #[test]
    fn an_idle_class_saves_up_nothing() {
        let mut shares = Shares::default();
        for _ in 0..1000 {
            let class = shares.next(|class| class == Class::Foreground).expect("it is ready");
            shares.charge(class, 1000);
        }
        let maintenance = (0..100)
            .filter(|_| {
                let class = shares.next(|class| class != Class::Replication).expect("two are ready");
                shares.charge(class, 1000);
                class == Class::Maintenance
            })
            .count();
        assert!(maintenance <= 6, "{maintenance} of 100 turns went to a class with a twentieth of the shares");
    }
}
