//! Starting a node's cores and waiting until they end.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use crate::blocking::Threads;
use crate::driver::{self, Chosen};
use crate::shutdown::Shutdown;
use crate::task::JoinError;
use crate::time::Duration;

/// One core of this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId(usize);

impl CoreId {
    /// The core at `index`, counted from 0.
    pub const fn new(index: usize) -> Self {
        Self(index)
    }

    /// Its place, counted from 0.
    pub const fn index(self) -> usize {
        self.0
    }
}

impl fmt::Display for CoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "core {}", self.0)
    }
}

/// The core this runs on.
///
/// # Panics
/// Outside a core.
pub fn here() -> CoreId {
    crate::core::current().id
}

/// How many cores this node has.
///
/// # Panics
/// Outside a core.
pub fn cores() -> usize {
    crate::core::current().count
}

/// Which driver to run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriverChoice {
    /// glommio where it can run, else monoio.
    #[default]
    Auto,
    /// glommio, or an error that says what is missing.
    Glommio,
    /// monoio, on `io_uring` where allowed, else on epoll.
    Monoio,
}

impl std::str::FromStr for DriverChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "glommio" => Ok(Self::Glommio),
            "monoio" => Ok(Self::Monoio),
            other => Err(format!("no driver is called {other:?}; choose auto, glommio or monoio")),
        }
    }
}

/// Whether a core's thread stays on one processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pin {
    /// The kernel moves threads as it likes.
    #[default]
    Free,
    /// Core n stays on the n-th processor this process may use.
    Pinned,
}

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which driver to run on.
    pub driver: DriverChoice,
    /// How many cores to start, at least 1.
    pub cores: usize,
    /// Whether their threads are bound to processors.
    pub pin: Pin,
    /// How long an idle core looks for work before it sleeps: lower latency for a busy processor. glommio only.
    pub spin_before_park: Duration,
    /// Memory for blocks per core, in bytes. When it is used up, allocation waits.
    pub block_bytes_max: usize,
    /// Memory registered with the kernel per core, in bytes; less is taken where the memlock limit is lower.
    pub registered_bytes: usize,
    /// File and socket operations of one core that the kernel works on at a time; more wait.
    pub ring_entries: u32,
    /// Threads for calls that block, per node.
    pub blocking_threads_max: usize,
    /// Seeds the cores' random numbers; `None` asks the operating system.
    pub seed: Option<u64>,
    /// The flag that asks the node to stop.
    pub shutdown: Shutdown,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            driver: DriverChoice::Auto,
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            pin: Pin::Free,
            spin_before_park: Duration::ZERO,
            block_bytes_max: 256 << 20,
            registered_bytes: 1 << 20,
            ring_entries: 256,
            blocking_threads_max: 8,
            seed: None,
            shutdown: Shutdown::new(),
        }
    }
}

impl Config {
    /// One core, the rest as usual: for tools and tests.
    pub fn single() -> Self {
        Self { cores: 1, ..Self::default() }
    }

    fn check(&self) -> Result<(), StartError> {
        let complain = |message: String| Err(StartError::Config(message));
        if self.cores == 0 || self.cores > 1024 {
            return complain(format!("cores = {} makes no node; choose 1 to 1024", self.cores));
        }
        if self.block_bytes_max < 1 << 20 {
            return complain(format!(
                "block_bytes_max = {} is too small to work with; give each core at least 1 MiB",
                self.block_bytes_max
            ));
        }
        if !(8..=32768).contains(&self.ring_entries) {
            return complain(format!("ring_entries = {} is out of range; choose 8 to 32768", self.ring_entries));
        }
        if self.blocking_threads_max == 0 {
            return complain("blocking_threads_max = 0 leaves nobody to open files; choose at least 1".to_owned());
        }
        Ok(())
    }
}

/// Why a node can't start. Each message says what to do; programs end with exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration makes no sense.
    #[error("{0}")]
    Config(String),
    /// The chosen driver can't run here.
    #[error("the {driver} driver can't run here: {reason}; {remedy}")]
    Driver {
        /// Which one.
        driver: &'static str,
        /// What is missing.
        reason: String,
        /// What to do about it.
        remedy: String,
    },
    /// The operating system refused a thread.
    #[error("can't start a thread for {core}: {source}; raise the limit on processes (ulimit -u)")]
    Thread {
        /// The core that was to run on it.
        core: CoreId,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What [`run`] chose and what each core's program ended with.
#[derive(Debug)]
pub struct Ended<T> {
    /// One line for people: the driver and why it was chosen.
    pub driver: String,
    /// Of each core, in order: its result, or how it failed.
    pub results: Vec<Result<T, JoinError>>,
}

/// The driver that [`run`] would choose and why: one line for people.
///
/// # Errors
/// If the configuration is impossible or the driver can't run here.
pub fn driver_line(config: &Config) -> Result<String, StartError> {
    config.check()?;
    Ok(driver::choose(config)?.line)
}

/// Starts the node's cores, runs `program` on each and waits until all have ended.
///
/// Tasks that still run on a core when its program ends are dropped.
///
/// # Errors
/// If the configuration is impossible or the driver can't run here; nothing was started then.
pub fn run<P, F, T>(config: &Config, program: P) -> Result<Ended<T>, StartError>
where
    P: Fn(CoreId) -> F + Send + Sync + 'static,
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    config.check()?;
    let chosen = driver::choose(config)?;
    let threads = Threads::new(config.blocking_threads_max);
    let program = Arc::new(program);
    let mut running = Vec::with_capacity(config.cores);
    for core in (0..config.cores).map(CoreId) {
        let start = Start { core, config: config.clone(), chosen: chosen.clone(), threads: threads.clone() };
        let program = program.clone();
        let spawned = std::thread::Builder::new()
            .name(format!("core-{}", core.index()))
            .spawn(move || driver::run_core(&start, move || program(core)));
        match spawned {
            Ok(thread) => running.push(thread),
            Err(source) => {
                config.shutdown.request();
                return Err(StartError::Thread { core, source });
            }
        }
    }
    let mut results = Vec::with_capacity(running.len());
    for thread in running {
        let ended = thread.join().unwrap_or_else(|panic| Ok(Err(JoinError::from_panic(&*panic))));
        results.push(ended?);
    }
    Ok(Ended { driver: chosen.line, results })
}

/// Runs `program` on one core and returns its result.
///
/// # Errors
/// As [`run`].
///
/// # Panics
/// If the program does.
pub fn run_one<P, F, T>(config: &Config, program: P) -> Result<T, StartError>
where
    P: FnOnce() -> F + Send + 'static,
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let single = Config { cores: 1, ..config.clone() };
    let once = std::sync::Mutex::new(Some(program));
    let ended = run(&single, move |_| {
        let program = once.lock().ok().and_then(|mut held| held.take());
        program.expect("one core takes the program once")()
    })?;
    match ended.results.into_iter().next().expect("one core has one result") {
        Ok(result) => Ok(result),
        Err(error) => panic!("{error}"),
    }
}

/// What a core's thread is started with.
pub(crate) struct Start {
    pub core: CoreId,
    pub config: Config,
    pub chosen: Chosen,
    pub threads: Threads,
}
