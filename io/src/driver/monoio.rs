//! The monoio driver: its executor on `io_uring` or epoll, one host for all classes, its timer.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use ::monoio::time::{Instant as MonoioInstant, Sleep, sleep_until};
use ::monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

use futures_util::StreamExt;
use futures_util::future::{Either, LocalBoxFuture, select};
use futures_util::pin_mut;
use futures_util::stream::FuturesUnordered;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::host::AllHost;
use super::probe::Kind;
use super::readiness::as_monoio;
use super::ring::Ring;
use super::{make_core, real_now, run_program};
use crate::core::Core;
use crate::runtime::{Start, StartError};
use crate::task::JoinError;
use crate::time::Instant;

pub(super) fn run<F, T>(
    start: &Start,
    program: impl FnOnce() -> F + 'static,
) -> Result<Result<T, JoinError>, StartError>
where
    F: Future<Output = T> + 'static,
    T: 'static,
{
    // What monoio's own choice between the two (FusionDriver) would be, but made by our probe: monoio remembers its
    // answer for the whole process, and the line we print must be true of every core.
    if start.chosen.kind == Kind::MonoioEpoll {
        let runtime = RuntimeBuilder::<LegacyDriver>::new().enable_timer().build();
        let mut runtime = runtime.map_err(|error| refused(&error))?;
        let (core, _entered) = make_core(start)?;
        Ok(runtime.block_on(body(core, program)))
    } else {
        let runtime = RuntimeBuilder::<IoUringDriver>::new().enable_timer().build();
        let mut runtime = runtime.map_err(|error| refused(&error))?;
        let (core, _entered) = make_core(start)?;
        Ok(runtime.block_on(body(core, program)))
    }
}

fn refused(error: &io::Error) -> StartError {
    StartError::Driver {
        driver: "monoio",
        reason: error.to_string(),
        remedy: "raise the limit on open files (ulimit -n) or memory".to_owned(),
    }
}

async fn body<F, T>(core: Rc<Core>, program: impl FnOnce() -> F + 'static) -> Result<T, JoinError>
where
    F: Future<Output = T> + 'static,
    T: 'static,
{
    // NOTE: not tasks of monoio's: it never drops those that wait when it ends, and with them the core.
    let mut helpers = FuturesUnordered::<LocalBoxFuture<'static, ()>>::new();
    let kick = Rc::new(Kick::new().expect("a file descriptor for an eventfd"));
    helpers.push(Box::pin(Kick::serve(kick.clone())));
    helpers.push(Box::pin(AllHost::new(core.clone(), move |cx: &mut Context<'_>| kick.again(cx))));
    helpers.push(Box::pin(fire_timers(core.clone())));
    if let Some(ring) = &core.real().ring {
        helpers.push(Box::pin(reap_for_ever(ring.clone())));
    }
    let program = run_program(core, program);
    pin_mut!(program);
    match select(program, helpers.next()).await {
        Either::Left((result, _)) => result,
        Either::Right(_) => unreachable!("the helpers never end"),
    }
}

/// Has the host polled again.
///
/// NOTE: monoio looks at its timers and sockets only when no task of its own is ready, so a host that just wakes
/// itself starves them. This one sleeps on an eventfd that is readable already: monoio polls, and finds it.
struct Kick {
    event: EventFd,
    host: Cell<Option<Waker>>,
    /// Rounds in a row without a look at timers and sockets.
    rounds: Cell<u32>,
}

impl Kick {
    /// Rounds of the host between two such looks: each costs a few system calls.
    const ROUNDS_MAX: u32 = 4;

    fn new() -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { event, host: Cell::default(), rounds: Cell::default() })
    }

    fn again(&self, cx: &mut Context<'_>) {
        if self.rounds.get() < Self::ROUNDS_MAX {
            self.rounds.set(self.rounds.get() + 1);
            cx.waker().wake_by_ref();
            return;
        }
        self.rounds.set(0);
        self.host.set(Some(cx.waker().clone()));
        // It holds a small number, so it takes one more.
        let _ = self.event.write(1);
    }

    async fn serve(self: Rc<Self>) {
        let copy = self.event.as_fd().try_clone_to_owned();
        let event = copy.and_then(as_monoio).expect("a file descriptor for the eventfd");
        loop {
            event.readable(false).await.expect("an eventfd can be waited for");
            let _ = self.event.read();
            if let Some(waker) = self.host.take() {
                waker.wake();
            }
        }
    }
}

/// Wakes tasks whose operations are done while the core slept.
async fn reap_for_ever(ring: Rc<Ring>) {
    let done = ring.done().and_then(as_monoio).expect("a file descriptor for the eventfd");
    loop {
        done.readable(false).await.expect("an eventfd can be waited for");
        ring.clear_done();
        ring.turn();
    }
}

/// Fires the core's timers for ever, as far as its host doesn't.
async fn fire_timers(core: Rc<Core>) {
    let mut alarm: Option<(Instant, Pin<Box<Sleep>>)> = None;
    std::future::poll_fn(|cx| {
        loop {
            core.real().alarm.wait(cx);
            let now = real_now();
            let Some(next) = core.timers.fire(now) else { return Poll::<()>::Pending };
            if alarm.as_ref().is_none_or(|(set_for, _)| *set_for != next) {
                alarm = Some((next, Box::pin(sleep_until(MonoioInstant::now() + next.since(now)))));
            }
            let (_, sleep) = alarm.as_mut().expect("it was set just now");
            std::task::ready!(sleep.as_mut().poll(cx));
            alarm = None;
        }
    })
    .await;
}
