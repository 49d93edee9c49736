//! Actors: long-running background workers with a mailbox, a schedule, a budget and a visible status.
//!
//! An actor is a struct with one method. It waits in one place, [`Context::next`], and does what that returns; it
//! pays for its work in advance with [`Context::pay`], and says what it does and why through
//! [`Context::status`]. The [`Registry`] of its core starts it, restarts it after a failure, changes its budget while
//! it runs, lists it, and stops it.
//!
//! ```text
//!   Registry ── supervise ──► Actor::run(context)
//!      │            │             │  next(): a message, the schedule, or stop
//!      │            │             │  pay(): bytes and operations, at the budget's rate
//!      ▼            ▼             ▼
//!   list()    restart, backoff   status: what, why, how far, how long still
//! ```
//!
//! It knows nothing of what actors do. An actor and its registry live on one core; its mailbox may be written to
//! from any.

mod budget;
mod registry;
mod schedule;
mod status;

use std::future::Future;
use std::rc::Rc;

use cairn_io::Shutdown;
use cairn_io::time::Instant;
use futures_util::future::{Either, select};
use futures_util::pin_mut;

pub use budget::{Budget, Rate};
pub use registry::{BACKOFF_MAX, Mailbox, NameTaken, Registry, STOP_WITHIN, Spec};
pub use schedule::Schedule;
pub use status::{Progress, State, Status, StatusWriter};

/// A background worker. It is made anew after each failure, so what must survive one lives on disk or in the map.
pub trait Actor: 'static {
    /// What its mailbox takes.
    type Message: Send + 'static;

    /// Works until [`Wake::Stop`]. Returning early without an error means that there is nothing left to do for ever.
    fn run(self, context: Context<Self::Message>) -> impl Future<Output = Result<(), Failure>> + 'static;
}

/// Why an actor gave up; it is restarted after a while.
pub type Failure = Box<dyn std::error::Error>;

/// Why an actor wakes up.
#[derive(Debug, PartialEq, Eq)]
pub enum Wake<M> {
    /// Its node or somebody in charge wants it to end: finish or drop what is under way and return.
    Stop,
    /// Somebody wrote to its mailbox.
    Message(M),
    /// Its schedule says so.
    Due,
}

/// The actor is to stop; what it asked for was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the actor is to stop")
    }
}

impl std::error::Error for Stopped {}

/// What an actor has of its surroundings.
pub struct Context<M> {
    mailbox: async_channel::Receiver<M>,
    schedule: Schedule,
    /// When the schedule wakes the actor next; `None` for never.
    due: Option<Instant>,
    budget: Rc<Budget>,
    status: StatusWriter,
    stop: Shutdown,
}

impl<M> Context<M> {
    /// Waits for the next thing to do: to stop comes before messages, and messages before the schedule.
    pub async fn next(&mut self) -> Wake<M> {
        self.status.idle(self.due);
        let wake = {
            let (stop, message, due) = (self.stop.requested(), self.mailbox.recv(), until(self.due));
            pin_mut!(stop, message, due);
            match select(stop, select(message, due)).await {
                Either::Right((Either::Left((Ok(message), _)), _)) => Wake::Message(message),
                Either::Right((Either::Right(_), _)) => Wake::Due,
                // Told to; a closed mailbox means the same.
                Either::Left(_) | Either::Right((Either::Left((Err(_), _)), _)) => Wake::Stop,
            }
        };
        if matches!(wake, Wake::Due) {
            self.due = self.schedule.next();
        }
        wake
    }

    /// Waits until the budget allows work of so many bytes and operations.
    ///
    /// # Errors
    /// If the actor is to stop.
    pub async fn pay(&self, bytes: u64, operations: u64) -> Result<(), Stopped> {
        let (stop, paid) = (self.stop.requested(), self.budget.pay(bytes, operations));
        pin_mut!(stop, paid);
        match select(stop, paid).await {
            Either::Left(_) => Err(Stopped),
            Either::Right(_) => Ok(()),
        }
    }

    /// Where to say what is being done.
    pub fn status(&self) -> &StatusWriter {
        &self.status
    }

    /// Whether to stop; long work asks now and then.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_requested()
    }
}

/// Waits for a point in time, or for ever.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => cairn_io::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
