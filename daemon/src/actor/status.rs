//! Status: what an actor does, why, how far it is and how long it still takes.

use std::cell::RefCell;
use std::rc::Rc;

use cairn_io::task::Class;
use cairn_io::time::{self, Duration, Instant};

use super::budget::Rate;

/// What one sees of an actor.
#[derive(Clone, Debug)]
pub struct Status {
    /// Its name, unique on its core.
    pub name: String,
    /// What share of a busy core it gets.
    pub class: Class,
    /// What it does now.
    pub state: State,
    /// Messages not yet read.
    pub mailbox: usize,
    /// Bytes per second it may use.
    pub bytes: Rate,
    /// Operations per second it may use.
    pub operations: Rate,
    /// How often it was started.
    pub starts: u64,
    /// How often it panicked.
    pub panics: u64,
    /// How often it failed: gave up with an error, panicked, or went on without something.
    pub failures: u64,
    /// What it failed with last.
    pub last_failure: Option<String>,
}

/// What an actor does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Waits for a message or its schedule; `until` says when that wakes it, if ever.
    Idle {
        /// When its schedule wakes it; `None` for never.
        until: Option<Instant>,
    },
    /// Works.
    Working {
        /// On what.
        what: String,
        /// For what reason.
        why: String,
        /// How far it is, if it knows.
        progress: Option<Progress>,
    },
    /// Failed and is started again at `until`.
    Waiting {
        /// When.
        until: Instant,
    },
    /// Was told to stop and is finishing.
    Stopping,
    /// Ended in order: it was told to, or had nothing left to do.
    Stopped,
}

/// How far a piece of work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// When it began.
    pub since: Instant,
    /// What is done, in the work's own unit.
    pub done: u64,
    /// All there is to do.
    pub total: u64,
}

impl Progress {
    /// How long it still takes at the pace so far; `None` before anything is done.
    pub fn remaining(&self, now: Instant) -> Option<Duration> {
        if self.done == 0 {
            return None;
        }
        let spent = now.since(self.since).as_nanos();
        let left = u128::from(self.total.saturating_sub(self.done));
        let nanos = spent.saturating_mul(left) / u128::from(self.done);
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}

/// An actor's pen: what it writes is seen at once by whoever lists the actors.
#[derive(Clone)]
pub struct StatusWriter(Rc<RefCell<Status>>);

impl StatusWriter {
    pub(super) fn new(status: Status) -> Self {
        Self(Rc::new(RefCell::new(status)))
    }

    /// Begins a piece of work.
    pub fn working(&self, what: impl Into<String>, why: impl Into<String>) {
        self.set(State::Working { what: what.into(), why: why.into(), progress: None });
    }

    /// Says how far the piece of work is.
    pub fn progress(&self, done: u64, total: u64) {
        if let State::Working { progress, .. } = &mut self.0.borrow_mut().state {
            let since = progress.map_or_else(time::now, |progress| progress.since);
            *progress = Some(Progress { since, done, total });
        }
    }

    /// Says what couldn't be done, for an actor that goes on with the rest.
    pub fn failed(&self, what: impl Into<String>) {
        let what = what.into();
        self.update(|status| {
            status.failures += 1;
            status.last_failure = Some(what);
        });
    }

    pub(super) fn idle(&self, until: Option<Instant>) {
        self.set(State::Idle { until });
    }

    pub(super) fn set(&self, state: State) {
        self.0.borrow_mut().state = state;
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.0.borrow_mut());
    }

    pub(super) fn snapshot(&self) -> Status {
        self.0.borrow().clone()
    }
}
