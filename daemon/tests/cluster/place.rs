//! A node's disks in a temporary directory, and a cluster of one that runs on them.

use std::future::Future;
use std::rc::Rc;

use bytes::Bytes;
use cairn_daemon::cluster::{Cluster, Options, Seal};
use cairn_daemon::disks::{Disks, Format, Hub, Options as DiskOptions, Uid, format};
use cairn_daemon::lane::Options as LaneOptions;
use cairn_daemon::slot::{Options as SlotOptions, Transport, Unreachable};
use cairn_io::log::Options as LogOptions;
use cairn_io::time::Duration;
use cairn_io::{Config, DriverChoice, run};
use cairn_meta::control::state::{Cluster as Born, ClusterId};
use cairn_placement::NodeId;
use futures_util::future::LocalBoxFuture;

pub const SLOTS: u32 = 4;

/// There is nobody to be reached.
struct Nobody;

impl Transport for Nobody {
    fn send(&self, node: u64, _: Bytes, _: Duration) -> LocalBoxFuture<'_, Result<Bytes, Unreachable>> {
        Box::pin(async move { Err(Unreachable { node, reason: "there is nobody".to_owned() }) })
    }
}

/// A directory with one disk, removed at the end.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        // Under the target directory: a temporary file system may not know direct I/O.
        let place = Self(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory"));
        let data = place.data();
        alone(move || {
            let data = data.clone();
            async move {
                let how = Format { lanes: 2, segment_bytes: 1 << 20 };
                format(&data, Uid([7; 16]), how).await.expect("formatted");
            }
        });
        place
    }

    fn data(&self) -> Vec<String> {
        vec![self.0.path().join("disk").to_str().expect("UTF-8").to_owned()]
    }

    /// Opens the cluster, runs `test` on it, and closes it.
    pub fn run<F: Future<Output = ()> + 'static>(&self, test: impl Fn(Cluster) -> F + Clone + Send + Sync + 'static) {
        let data = self.data();
        let hub = Hub::new(1);
        alone(move || {
            let (hub, data, test) = (hub.clone(), data.clone(), test.clone());
            async move {
                let disks = Disks::open(&hub, disk_options(data)).await.expect("the disks open");
                let cluster = Cluster::open(disks.clone(), Rc::new(Nobody), &options()).await.expect("it opens");
                test(cluster.clone()).await;
                cluster.close().await;
                disks.close().await.expect("closed");
            }
        });
    }
}

fn disk_options(data: Vec<String>) -> DiskOptions {
    let log = LogOptions { keep_free: 0, segments_max: 40, ..LogOptions::default() };
    DiskOptions { lane: LaneOptions { log, ballast: 0, ..LaneOptions::default() }, ..DiskOptions::new(data) }
}

fn options() -> Options {
    let slot = SlotOptions {
        heartbeat: Duration::from_millis(50),
        election: (Duration::from_millis(100), Duration::from_millis(200)),
        ..SlotOptions::default()
    };
    Options {
        node: NodeId(1),
        born: Born { id: ClusterId(7), slots: SLOTS, partitions: 64 },
        seal: Seal::new(&[9; Seal::BYTES]),
        slot,
        within: Duration::from_secs(20),
    }
}

fn alone<F: Future<Output = ()> + 'static>(program: impl Fn() -> F + Clone + Send + Sync + 'static) {
    let config = Config { driver: DriverChoice::Auto, cores: 1, ..Config::default() };
    let ended = run(&config, move |_| program()).expect("it runs");
    ended.results.into_iter().for_each(|ended| ended.expect("no core panics"));
}
