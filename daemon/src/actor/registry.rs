//! The actors of one core: starting, supervising, listing and stopping them.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use cairn_io::task::{Class, JoinError, JoinHandle, spawn};
use cairn_io::time::{self, Duration};
use cairn_io::{Shutdown, rng};
use futures_util::future::{Either, join_all, select};
use futures_util::pin_mut;

use super::budget::{Budget, Rate};
use super::schedule::Schedule;
use super::status::{State, Status, StatusWriter};
use super::{Actor, Context, Failure};

/// How an actor is run.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Unique on its core; the design's word for it.
    pub name: &'static str,
    /// What share of a busy core it gets.
    pub class: Class,
    /// When it wakes up by itself.
    pub schedule: Schedule,
    /// Bytes per second it may use at first.
    pub bytes: Rate,
    /// Operations per second it may use at first.
    pub operations: Rate,
    /// Messages its mailbox holds; who writes more waits.
    pub mailbox_max: usize,
    /// The pause after a first failure; it doubles with each that follows, up to [`BACKOFF_MAX`].
    pub backoff: Duration,
}

impl Spec {
    /// A maintenance actor that wakes up on demand and may use what the machine gives.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            class: Class::Maintenance,
            schedule: Schedule::OnDemand,
            bytes: Rate::Unlimited,
            operations: Rate::Unlimited,
            mailbox_max: 64,
            backoff: Duration::from_secs(1),
        }
    }
}

/// The longest pause before an actor is started again. One that ran for longer than this begins anew with the shortest.
pub const BACKOFF_MAX: Duration = Duration::from_mins(5);

/// How long an actor that is told to stop may take before it is dropped where it is.
pub const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Where to write to an actor, from any core. Survives the actor's restarts.
#[derive(Debug)]
pub struct Mailbox<M>(async_channel::Sender<M>);

impl<M> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M> Mailbox<M> {
    /// Writes a message, waiting while the mailbox is full.
    ///
    /// # Errors
    /// Gives the message back if the actor has stopped for good.
    pub async fn send(&self, message: M) -> Result<(), M> {
        self.0.send(message).await.map_err(|refused| refused.0)
    }

    /// Writes a message if there is room.
    ///
    /// # Errors
    /// Gives the message back if the mailbox is full or the actor has stopped for good.
    pub fn try_send(&self, message: M) -> Result<(), M> {
        self.0.try_send(message).map_err(async_channel::TrySendError::into_inner)
    }
}

/// Two actors of one core can't have the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameTaken(pub &'static str);

impl fmt::Display for NameTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an actor called {} runs on this core already", self.0)
    }
}

impl std::error::Error for NameTaken {}

/// The actors of this core. Clones share them.
#[derive(Clone, Default)]
pub struct Registry {
    entries: Rc<RefCell<Vec<Entry>>>,
}

struct Entry {
    name: &'static str,
    budget: Rc<Budget>,
    status: StatusWriter,
    stop: Shutdown,
    mailbox_len: Box<dyn Fn() -> usize>,
    /// The supervisor; taken by whoever stops the actor.
    supervisor: Option<JoinHandle<()>>,
}

impl Registry {
    /// No actors yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts an actor; `make` makes it now and again after each failure.
    ///
    /// # Errors
    /// If one of that name runs already.
    pub fn start<A: Actor>(
        &self,
        spec: &Spec,
        make: impl Fn() -> A + 'static,
    ) -> Result<Mailbox<A::Message>, NameTaken> {
        let mut entries = self.entries.borrow_mut();
        entries.retain(|entry| entry.name != spec.name || entry.status.snapshot().state != State::Stopped);
        if entries.iter().any(|entry| entry.name == spec.name) {
            return Err(NameTaken(spec.name));
        }
        let (sender, receiver) = async_channel::bounded(spec.mailbox_max.max(1));
        let mailbox_len = Box::new({
            let receiver = receiver.clone();
            move || receiver.len()
        });
        let budget = Rc::new(Budget::new(spec.bytes, spec.operations));
        let (status, stop) = (StatusWriter::new(first_status(spec)), Shutdown::new());
        let supervision = Supervision {
            spec: spec.clone(),
            make: Rc::new(make),
            mailbox: receiver,
            writer: sender.clone(),
            budget: budget.clone(),
            status: status.clone(),
            stop: stop.clone(),
        };
        let supervisor = Some(spawn(spec.class, supervision.run()));
        entries.push(Entry { name: spec.name, budget, status, stop, mailbox_len, supervisor });
        Ok(Mailbox(sender))
    }

    /// All actors, in the order they were started.
    pub fn list(&self) -> Vec<Status> {
        self.entries.borrow().iter().map(Entry::snapshot).collect()
    }

    /// One actor.
    pub fn status(&self, name: &str) -> Option<Status> {
        self.entries.borrow().iter().find(|entry| entry.name == name).map(Entry::snapshot)
    }

    /// Changes an actor's budget while it runs; false if there is none of that name.
    pub fn set_budget(&self, name: &str, bytes: Rate, operations: Rate) -> bool {
        let entries = self.entries.borrow();
        let Some(entry) = entries.iter().find(|entry| entry.name == name) else { return false };
        entry.budget.set(bytes, operations);
        true
    }

    /// Stops one actor in order and waits for it; false if none of that name runs.
    pub async fn stop(&self, name: &str) -> bool {
        let stopping =
            self.entries.borrow_mut().iter_mut().find(|entry| entry.name == name).and_then(Entry::begin_stop);
        let Some(stopping) = stopping else { return false };
        stopping.finish().await;
        true
    }

    /// Stops all actors, at the same time, and waits for them.
    pub async fn stop_all(&self) {
        let stopping: Vec<_> = self.entries.borrow_mut().iter_mut().filter_map(Entry::begin_stop).collect();
        join_all(stopping.into_iter().map(Stopping::finish)).await;
    }
}

impl Entry {
    fn snapshot(&self) -> Status {
        let (bytes, operations) = self.budget.rates();
        Status { mailbox: (self.mailbox_len)(), bytes, operations, ..self.status.snapshot() }
    }

    fn begin_stop(&mut self) -> Option<Stopping> {
        let supervisor = self.supervisor.take()?;
        self.status.update(|status| {
            if status.state != State::Stopped {
                status.state = State::Stopping;
            }
        });
        self.stop.request();
        Some(Stopping { supervisor, status: self.status.clone() })
    }
}

/// An actor that was told to stop.
struct Stopping {
    supervisor: JoinHandle<()>,
    status: StatusWriter,
}

impl Stopping {
    async fn finish(self) {
        let mut supervisor = self.supervisor;
        if time::timeout(STOP_WITHIN, &mut supervisor).await.is_err() {
            supervisor.cancel().await;
            self.status.update(|status| status.last_failure = Some("did not stop in time and was dropped".to_owned()));
        }
        self.status.set(State::Stopped);
    }
}

fn first_status(spec: &Spec) -> Status {
    Status {
        name: spec.name.to_owned(),
        class: spec.class,
        state: State::Idle { until: None },
        mailbox: 0,
        bytes: spec.bytes,
        operations: spec.operations,
        starts: 0,
        panics: 0,
        failures: 0,
        last_failure: None,
    }
}

/// Keeps one actor running.
struct Supervision<A: Actor, F: Fn() -> A> {
    spec: Spec,
    make: Rc<F>,
    mailbox: async_channel::Receiver<A::Message>,
    /// Keeps the mailbox open although everybody else may have dropped theirs.
    writer: async_channel::Sender<A::Message>,
    budget: Rc<Budget>,
    status: StatusWriter,
    stop: Shutdown,
}

impl<A: Actor, F: Fn() -> A + 'static> Supervision<A, F> {
    async fn run(self) {
        let mut backoff = self.spec.backoff;
        loop {
            let started = time::now();
            if self.run_once().await == Next::End {
                break;
            }
            if started.elapsed() > BACKOFF_MAX {
                backoff = self.spec.backoff;
            }
            if self.pause(backoff).await == Next::End {
                break;
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
        self.writer.close();
        self.status.set(State::Stopped);
    }

    /// Runs the actor, in a task of its own so that its panics are counted and go no further.
    async fn run_once(&self) -> Next {
        self.status.update(|status| status.starts += 1);
        let context = Context {
            mailbox: self.mailbox.clone(),
            schedule: self.spec.schedule,
            due: self.spec.schedule.first(),
            budget: self.budget.clone(),
            status: self.status.clone(),
            stop: self.stop.clone(),
        };
        let make = self.make.clone();
        // Errors need not be `Send` or outlive their task: only their words leave it.
        let words = |failure: Failure| failure.to_string();
        let run = async move { make().run(context).await.map_err(words) };
        let failure = match spawn(self.spec.class, run).await {
            // It is done, or the core is stopping.
            Ok(Ok(())) | Err(JoinError::Cancelled) => return Next::End,
            Ok(Err(failure)) => failure,
            Err(JoinError::Panicked(message)) => {
                self.status.update(|status| status.panics += 1);
                format!("panicked: {message}")
            }
        };
        self.status.update(|status| {
            status.failures += 1;
            status.last_failure = Some(failure);
        });
        // An actor that fails because it is told to stop has stopped.
        if self.stop.is_requested() { Next::End } else { Next::Again }
    }

    /// Waits before the next start: `backoff` and up to half as much again, so that many don't return at once.
    async fn pause(&self, backoff: Duration) -> Next {
        let half = u64::try_from((backoff / 2).as_nanos()).unwrap_or(u64::MAX);
        let pause = backoff + Duration::from_nanos(rng::with(|rng| rng.below(half)));
        self.status.set(State::Waiting { until: time::now() + pause });
        let (slept, stop) = (time::sleep(pause), self.stop.requested());
        pin_mut!(slept, stop);
        match select(slept, stop).await {
            Either::Left(_) => Next::Again,
            Either::Right(_) => Next::End,
        }
    }
}

/// What a supervisor does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Again,
    End,
}
