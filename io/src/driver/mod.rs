//! The drivers behind the face, and the choice between them.
//!
//! A real driver parks the thread, wakes it, says when a socket is ready and rings an alarm; queues, timers, files
//! and sockets are shared. The simulation supplies its own disks and network as well.

mod glommio;
mod host;
mod monoio;
mod probe;
mod readiness;
pub(crate) mod ring;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::LazyLock;
use std::task::{Context, Waker};

use rand_core::{OsRng, TryRngCore};

use crate::block::Pool;
use crate::blocking::Blocking;
use crate::core::{self, Core};
use crate::exec::Exec;
use crate::rng::Rng;
use crate::runtime::{Pin, Start, StartError};
use crate::task::{Class, JoinError};
use crate::time::{Duration, Instant, Timers, WallTime};

pub(crate) use probe::{Chosen, choose};
pub(crate) use readiness::{Interest, Socket};

use probe::Kind;
use ring::Ring;

#[cfg(feature = "sim")]
use crate::sim;

/// Calls the same method on whichever driver's object it is.
macro_rules! each {
    ($kind:ident, $self:expr, $object:ident => $call:expr) => {
        match &$self.0 {
            $kind::Real($object) => $call,
            #[cfg(feature = "sim")]
            $kind::Sim($object) => $call,
        }
    };
}

pub(crate) use each;

/// What a core runs on.
pub(crate) enum Backend {
    Real(Rc<Real>),
    #[cfg(feature = "sim")]
    Sim(Rc<sim::NodeCore>),
}

impl Backend {
    pub fn now(&self) -> Instant {
        match self {
            Self::Real(_) => real_now(),
            #[cfg(feature = "sim")]
            Self::Sim(node) => node.now(),
        }
    }

    pub fn wall(&self) -> WallTime {
        match self {
            Self::Real(_) => real_wall(),
            #[cfg(feature = "sim")]
            Self::Sim(node) => node.wall(),
        }
    }

    /// Has the core's timers fired at `deadline` at the latest. Replaces an earlier alarm only by an earlier one.
    #[cfg_attr(not(feature = "sim"), allow(unused_variables, reason = "only the simulation is told when"))]
    pub fn arm(&self, deadline: Instant) {
        match self {
            // The alarm task looks the deadline up itself.
            Self::Real(real) => real.alarm.wake(),
            #[cfg(feature = "sim")]
            Self::Sim(node) => node.arm(deadline),
        }
    }
}

/// What every core on a real kernel has.
pub(crate) struct Real {
    /// Files, and on glommio the readiness of sockets; absent where `io_uring` is forbidden.
    pub ring: Option<Rc<Ring>>,
    pub blocking: Blocking,
    /// Woken when the earliest deadline has changed.
    pub alarm: Notify,
    kind: Kind,
}

/// One waiter of the same core.
#[derive(Default)]
pub(crate) struct Notify {
    waiter: Cell<Option<Waker>>,
}

impl Notify {
    fn wake(&self) {
        if let Some(waker) = self.waiter.take() {
            waker.wake();
        }
    }

    fn wait(&self, cx: &Context<'_>) {
        self.waiter.set(Some(cx.waker().clone()));
    }
}

/// Runs a core's program to its end on this thread.
pub(crate) fn run_core<F, T>(
    start: &Start,
    program: impl FnOnce() -> F + 'static,
) -> Result<Result<T, JoinError>, StartError>
where
    F: Future<Output = T> + 'static,
    T: 'static,
{
    if start.config.pin == Pin::Pinned {
        probe::pin_thread(start.core)?;
    }
    match start.chosen.kind {
        Kind::Glommio => glommio::run(start, program),
        Kind::Monoio | Kind::MonoioEpoll => monoio::run(start, program),
    }
}

/// Makes the core and enters it for good.
fn make_core(start: &Start) -> Result<(Rc<Core>, core::Entered), StartError> {
    let config = &start.config;
    let pool = Rc::new(Pool::new(config.block_bytes_max, start.chosen.registered_bytes));
    let ring = match start.chosen.kind {
        Kind::MonoioEpoll => None,
        Kind::Glommio | Kind::Monoio => Some(Rc::new(probe::open_ring(config.ring_entries, &pool)?)),
    };
    let seed = config.seed.map_or_else(os_seed, |seed| seed.wrapping_add(start.core.index() as u64));
    let real = Real {
        ring,
        blocking: Blocking::new(start.threads.clone()),
        alarm: Notify::default(),
        kind: start.chosen.kind,
    };
    let core = Rc::new(Core {
        id: start.core,
        count: config.cores,
        exec: Exec::new(),
        timers: Timers::new(),
        pool,
        rng: RefCell::new(Rng::from_seed(seed)),
        shutdown: config.shutdown.clone(),
        backend: Backend::Real(Rc::new(real)),
    });
    let entered = core::enter(core.clone());
    Ok((core, entered))
}

/// Runs the program as a task, then drops what is left of the core's tasks.
async fn run_program<F, T>(core: Rc<Core>, program: impl FnOnce() -> F + 'static) -> Result<T, JoinError>
where
    F: Future<Output = T> + 'static,
    T: 'static,
{
    let result = core.exec.spawn(Class::Foreground, async move { program().await }).await;
    finish(&core);
    result
}

/// Drops what is left of the core's tasks and waits until the kernel works on nothing of theirs any more.
fn finish(core: &Core) {
    core.exec.close();
    if let Some(ring) = core.real().ring.as_ref() {
        ring.drain();
    }
}

impl Core {
    /// For the real drivers' own code.
    pub fn real(&self) -> &Rc<Real> {
        match &self.backend {
            Backend::Real(real) => real,
            #[cfg(feature = "sim")]
            Backend::Sim(_) => unreachable!("a simulated core has no real driver"),
        }
    }
}

/// What the process's clocks count from.
static ORIGIN: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);

fn real_now() -> Instant {
    let nanos = ORIGIN.elapsed().as_nanos();
    Instant::from_nanos(u64::try_from(nanos).expect("an uptime below 584 years"))
}

pub(crate) fn real_wall() -> WallTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    WallTime::from_unix_nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// The same point for code that wants the standard library's type.
pub(crate) fn std_instant(at: Instant) -> std::time::Instant {
    *ORIGIN + Duration::from_nanos(at.as_nanos())
}

fn os_seed() -> u64 {
    // Without the system's randomness the cores' generators differ by time; they are not for secrets.
    OsRng.try_next_u64().unwrap_or_else(|_| real_wall().as_unix_nanos())
}
