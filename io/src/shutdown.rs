//! Orderly stop: one flag that every core of a node sees.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use futures_channel::mpsc;
use futures_util::StreamExt;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Asks a node to stop. Clones share the flag, on every core and thread.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    requested: AtomicBool,
    /// Off the data path: touched when somebody starts waiting and once at the end.
    waiting: Mutex<Vec<Waker>>,
}

impl Shutdown {
    /// A flag not yet set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the flag and wakes everybody who waits for it. Again changes nothing.
    pub fn request(&self) {
        self.shared.requested.store(true, Ordering::SeqCst);
        let waiting = std::mem::take(&mut *self.waiting());
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Whether the flag is set.
    pub fn is_requested(&self) -> bool {
        self.shared.requested.load(Ordering::SeqCst)
    }

    /// Waits until the flag is set.
    pub async fn requested(&self) {
        std::future::poll_fn(|cx| {
            if self.is_requested() {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting();
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            drop(waiting);
            // Looked at again: the flag may have been set before the waker was in the list.
            if self.is_requested() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Waker>> {
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has SIGTERM and SIGINT request `shutdown`; a second one ends the process at once, with exit code 128 + signal.
///
/// # Errors
/// If the system refuses the handlers or the thread that serves them.
pub fn on_signals(shutdown: &Shutdown) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let shutdown = shutdown.clone();
    let serve = move || {
        for signal in signals.forever() {
            if shutdown.is_requested() {
                std::process::exit(128 + signal);
            }
            shutdown.request();
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(serve).map(|_| ())
}

/// SIGHUPs: somebody asks the node to look at its configuration again.
#[derive(Debug)]
pub struct Hangups(mpsc::Receiver<()>);

impl Hangups {
    /// Takes SIGHUP over, which would end the process otherwise.
    ///
    /// # Errors
    /// If the system refuses the handler or the thread that serves it.
    pub fn listen() -> std::io::Result<Self> {
        let mut signals = Signals::new([SIGHUP])?;
        let (mut sender, receiver) = mpsc::channel(0);
        let serve = move || {
            for _ in signals.forever() {
                // Full: one is waiting to be served already, and will see what this one would.
                if sender.try_send(()).is_err_and(|error| error.is_disconnected()) {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("hangups".to_owned()).spawn(serve)?;
        Ok(Self(receiver))
    }

    /// Never any: for nodes that nobody sends signals to.
    pub fn none() -> Self {
        Self(mpsc::channel(0).1)
    }

    /// Waits for the next; several that come at once count as one.
    pub async fn next(&mut self) {
        if self.0.next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// The flag of the node this core belongs to.
pub fn current() -> Shutdown {
    crate::core::current().shutdown.clone()
}
