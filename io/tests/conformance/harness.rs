//! Runs one program on each driver.

use std::cell::Cell;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use cairn_io::sim::{DiskConfig, NetConfig, NodeConfig, World, WorldConfig};
use cairn_io::time::Duration;
use cairn_io::{Config, CoreId, DriverChoice, run};
use futures_util::future::LocalBoxFuture;

/// Where a program may put files and listen.
#[derive(Clone, Debug)]
pub struct Place {
    /// An empty directory.
    pub dir: String,
    pub ip: IpAddr,
}

impl Place {
    /// Any free port of this node.
    pub fn any_port(&self) -> SocketAddr {
        SocketAddr::new(self.ip, 0)
    }
}

pub type Program = Arc<dyn Fn(Place, CoreId) -> LocalBoxFuture<'static, ()> + Send + Sync>;

/// A program for one core.
pub fn alone<F: Future<Output = ()> + 'static>(body: impl Fn(Place) -> F + Send + Sync + 'static) -> Program {
    Arc::new(move |place, _| Box::pin(body(place)))
}

/// The drivers a test is run on.
#[derive(Clone, Copy, Debug)]
pub enum On {
    Glommio,
    Monoio,
    /// monoio where `io_uring` is forbidden.
    Epoll,
    Sim,
}

/// Runs what `make` makes on `cores` cores and fails if it fails on any.
pub fn check(on: On, config: Config, cores: usize, make: impl Fn() -> Program + Send + 'static) {
    let config = Config { cores, block_bytes_max: config.block_bytes_max, ..config };
    match on {
        On::Glommio => check_real(DriverChoice::Glommio, config, make(), "driver: glommio"),
        On::Monoio => check_real(DriverChoice::Monoio, config, make(), "driver: monoio on io_uring"),
        On::Epoll => forbid_uring(move || check_real(DriverChoice::Auto, config, make(), "driver: monoio on epoll")),
        On::Sim => (0..SIM_SEEDS).for_each(|seed| check_sim(seed, &config, &make())),
    }
}

fn check_real(driver: DriverChoice, config: Config, program: Program, expected: &str) {
    // Under the target directory: a temporary file system may not know direct I/O.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let place = Place { dir: dir.path().to_str().expect("UTF-8").to_owned(), ip: Ipv4Addr::LOCALHOST.into() };
    let config = Config { driver, ..config };
    let ended = run(&config, move |core| program(place.clone(), core)).expect("the driver runs here");
    assert!(ended.driver.starts_with(expected), "{}", ended.driver);
    for result in ended.results {
        result.expect("the program ends well");
    }
}

/// Every order of events is worth a try; a few are enough for each change.
const SIM_SEEDS: u64 = 5;

fn check_sim(seed: u64, config: &Config, program: &Program) {
    // No faults: a healthy node does what a real one does. Datagrams don't get lost on a real loopback either.
    let net = NetConfig { datagram_loss_per_million: 0, datagram_duplicate_per_million: 0, ..NetConfig::default() };
    let mut world = World::new(seed, WorldConfig { net, ..WorldConfig::default() });
    let node_config = NodeConfig {
        cores: config.cores,
        disks: vec![DiskConfig::new("/disk", 1 << 30)],
        block_bytes_max: config.block_bytes_max,
        ..NodeConfig::default()
    };
    let (program, ended) = (program.clone(), Rc::new(Cell::new(0)));
    let count = ended.clone();
    let ip = Rc::new(Cell::new(None));
    let address = ip.clone();
    let node = world.add_node(node_config, move || {
        let (program, count, address) = (program.clone(), count.clone(), address.clone());
        Box::new(move |core| {
            let (program, count, address) = (program.clone(), count.clone(), address.clone());
            Box::pin(async move {
                let ip = address.get().expect("the world stands still until it is set");
                program(Place { dir: "/disk".to_owned(), ip }, core).await;
                count.set(count.get() + 1);
            })
        })
    });
    ip.set(Some(world.address(node)));
    world.run_until(Duration::from_hours(1), || ended.get() == config.cores);
    assert!(world.panics(node).is_empty(), "seed {seed}: {:?}", world.panics(node));
    assert_eq!(ended.get(), config.cores, "seed {seed}: cores that ended, of {}", config.cores);
}

/// Runs `body` on a thread whose `io_uring_setup` fails with EPERM, as in a default container.
pub fn forbid_uring(body: impl FnOnce() + Send + 'static) {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
    let filter = SeccompFilter::new(
        [(libc::SYS_io_uring_setup, vec![])].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM as u32),
        std::env::consts::ARCH.try_into().expect("a known architecture"),
    );
    let program: BpfProgram = filter.expect("a filter").try_into().expect("a program");
    let thread = std::thread::spawn(move || {
        seccompiler::apply_filter(&program).expect("a thread may restrict itself");
        body();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Makes a test per driver of each `name: cores` whose function `name()` returns the program.
macro_rules! on_each_driver {
    ($($name:ident: $cores:expr),* $(,)?) => {$(
        mod $name {
            use crate::harness::{On, check};
            use cairn_io::Config;

            #[test]
            fn glommio() {
                check(On::Glommio, Config::default(), $cores, super::$name);
            }

            #[test]
            fn monoio() {
                check(On::Monoio, Config::default(), $cores, super::$name);
            }

            #[test]
            fn epoll() {
                check(On::Epoll, Config::default(), $cores, super::$name);
            }

            #[test]
            fn sim() {
                check(On::Sim, Config::default(), $cores, super::$name);
            }
        }
    )*};
}

pub(crate) use on_each_driver;
