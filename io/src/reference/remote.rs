//! A core that takes its work from a plain thread, so that one thread can measure several drivers in turn.

use std::sync::mpsc;
use std::thread;

use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;

use crate::driver;
use crate::runtime::{self, Config, CoreId, StartError};
use crate::task::{self, Class};

type Job = Box<dyn FnOnce() -> LocalBoxFuture<'static, ()> + Send>;

/// One core on its own thread. It sleeps while it has no work and ends when this is dropped.
#[derive(Debug)]
pub struct RemoteCore {
    line: String,
    jobs: UnboundedSender<Job>,
    thread: Option<thread::JoinHandle<()>>,
}

impl RemoteCore {
    /// Starts the core.
    ///
    /// # Errors
    /// As [`runtime::run`].
    pub fn start(config: &Config) -> Result<Self, StartError> {
        let config = Config { cores: 1, ..config.clone() };
        let line = driver::choose(&config)?.line;
        let (jobs, taken) = unbounded();
        let (started, ready) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("remote".to_owned())
            .spawn(move || {
                if let Err(error) = serve(&config, taken, started.clone()) {
                    let _ = started.send(Err(error));
                }
            })
            .map_err(|source| StartError::Thread { core: CoreId::new(0), source })?;
        ready.recv().expect("a core starts or says why not")?;
        Ok(Self { line, jobs, thread: Some(thread) })
    }

    /// The driver and why it was chosen, in a line for people.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// Runs `program` on the core and waits for its result.
    ///
    /// # Panics
    /// If the program does.
    pub fn call<P, F, T>(&self, program: P) -> T
    where
        P: FnOnce() -> F + Send + 'static,
        F: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        let (give, result) = mpsc::channel();
        let job: Job = Box::new(move || Box::pin(async move { drop(give.send(program().await)) }));
        self.jobs.unbounded_send(job).expect("the core runs until it is dropped");
        result.recv().expect("the program ran to its end")
    }
}

impl Drop for RemoteCore {
    fn drop(&mut self) {
        self.jobs.close_channel();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn serve(
    config: &Config,
    jobs: UnboundedReceiver<Job>,
    started: mpsc::Sender<Result<(), StartError>>,
) -> Result<(), StartError> {
    runtime::run_one(config, move || async move {
        let mut jobs = jobs;
        drop(started.send(Ok(())));
        while let Some(job) = jobs.next().await {
            // A panic shows as the missing result of `call`.
            drop(task::spawn(Class::Foreground, job()).await);
        }
    })
}
