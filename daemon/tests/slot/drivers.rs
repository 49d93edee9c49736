//! Runs one program on each driver, in an empty directory.

use std::cell::Cell;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use cairn_io::sim::{DiskConfig, NodeConfig, World, WorldConfig};
use cairn_io::time::Duration;
use cairn_io::{Config, DriverChoice, run_one};
use cairn_meta::index::Store;

/// Where a program has its files and listens, and what indexes are in.
#[derive(Clone)]
pub struct Place {
    pub dir: String,
    pub ip: IpAddr,
    pub is_simulated: bool,
}

impl Place {
    /// The index of a lane in this directory; in the simulation its memory.
    pub fn store(&self, dir: &str) -> Store {
        if self.is_simulated { Store::memory() } else { Store::lmdb(dir) }
    }
}

pub fn on_real<F: Future<Output = ()> + 'static>(
    driver: DriverChoice,
    program: impl Fn(Place) -> F + Send + Sync + 'static,
) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let dir = dir.path().to_str().expect("UTF-8").to_owned();
    let place = Place { dir, ip: Ipv4Addr::LOCALHOST.into(), is_simulated: false };
    let config = Config { driver, ..Config::single() };
    run_one(&config, move || program(place.clone())).expect("it ends well");
}

pub fn on_sim<F: Future<Output = ()> + 'static>(program: impl Fn(Place) -> F + 'static) {
    let program = Rc::new(program);
    for seed in 0..5 {
        let mut world = World::new(seed, WorldConfig::default());
        let disks = vec![DiskConfig { sectors_tear: false, ..DiskConfig::new("/disk", 1 << 30) }];
        let (program, is_done) = (program.clone(), Rc::new(Cell::new(false)));
        let flag = is_done.clone();
        let ip = Rc::new(Cell::new(None));
        let address = ip.clone();
        let node = world.add_node(NodeConfig { disks, ..NodeConfig::default() }, move || {
            let (program, flag, address) = (program.clone(), flag.clone(), address.clone());
            Box::new(move |_| {
                let (program, flag, address) = (program.clone(), flag.clone(), address.clone());
                Box::pin(async move {
                    let ip = address.get().expect("the world stands still until it is set");
                    program(Place { dir: "/disk".to_owned(), ip, is_simulated: true }).await;
                    flag.set(true);
                })
            })
        });
        ip.set(Some(world.address(node)));
        world.run_until(Duration::from_hours(1), || is_done.get());
        assert!(world.panics(node).is_empty(), "seed {seed}: {:?}", world.panics(node));
        assert!(is_done.get(), "seed {seed}: it ends");
    }
}

/// Makes a test per driver of an async function that takes a `Place`.
macro_rules! on_each_driver {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            use cairn_io::DriverChoice;
            use crate::drivers::{on_real, on_sim};

            #[test]
            fn glommio() {
                on_real(DriverChoice::Glommio, super::$name);
            }

            #[test]
            fn monoio() {
                on_real(DriverChoice::Monoio, super::$name);
            }

            #[test]
            fn sim() {
                on_sim(super::$name);
            }
        }
    )*};
}

pub(crate) use on_each_driver;
