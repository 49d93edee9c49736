//! The core that the current thread is running: its queue, timers, pool and driver.
//!
//! On real drivers a thread has one core for its whole life. In the simulation one thread plays every core of
//! every node and enters the one whose task it polls.

use std::cell::RefCell;
use std::rc::Rc;

use crate::block::Pool;
use crate::driver::Backend;
use crate::exec::Exec;
use crate::rng::Rng;
use crate::runtime::CoreId;
use crate::shutdown::Shutdown;
use crate::time::Timers;

/// Everything a core owns.
pub(crate) struct Core {
    pub id: CoreId,
    /// How many cores this node has.
    pub count: usize,
    pub exec: Exec,
    pub timers: Timers,
    pub pool: Rc<Pool>,
    pub rng: RefCell<Rng>,
    pub shutdown: Shutdown,
    pub backend: Backend,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

/// The core of this thread.
///
/// # Panics
/// Outside a core: tasks, files, sockets and timers exist only inside `cairn_io::run`.
pub(crate) fn current() -> Rc<Core> {
    try_current().expect("called outside a core; start one with cairn_io::run")
}

/// The core of this thread, or `None` outside one (and while the thread is being torn down).
pub(crate) fn try_current() -> Option<Rc<Core>> {
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

/// Makes `core` the current one until the guard is dropped.
pub(crate) fn enter(core: Rc<Core>) -> Entered {
    Entered { previous: CURRENT.with(|current| current.replace(Some(core))) }
}

/// Restores the core that was current before [`enter`].
pub(crate) struct Entered {
    previous: Option<Rc<Core>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let left = CURRENT.with(|current| current.replace(self.previous.take()));
        // Dropped after the replacement: what the core owns may look for the current core while it goes.
        drop(left);
    }
}
