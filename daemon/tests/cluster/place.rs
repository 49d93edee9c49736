//! A node's disks in a temporary directory, and a cluster of one that runs on them.

use std::future::Future;
use std::rc::Rc;

use cairn_daemon::cluster::{Cluster, Hub, Options, Peers, Seal};
use cairn_daemon::disks::{Disks, Format, Hub as DiskHub, Options as DiskOptions, Uid, format};
use cairn_daemon::lane::Options as LaneOptions;
use cairn_daemon::slot::{Nobody, Options as SlotOptions};
use cairn_io::log::Options as LogOptions;
use cairn_io::time::Duration;
use cairn_io::{Config, CoreId, DriverChoice, run};
use cairn_meta::control::state::{Cluster as Born, ClusterId};
use cairn_placement::NodeId;

pub const SLOTS: u32 = 4;

/// A directory with disks, removed at the end.
pub struct Place {
    root: tempfile::TempDir,
    disks: usize,
}

impl Place {
    /// With one disk.
    pub fn new() -> Self {
        Self::with_disks(1)
    }

    /// With so many disks, which have two lanes each.
    pub fn with_disks(disks: usize) -> Self {
        // Under the target directory: a temporary file system may not know direct I/O.
        let place = Self { root: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory"), disks };
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

    /// The disks' directories.
    pub fn data(&self) -> Vec<String> {
        let path = |disk| self.root.path().join(format!("disk-{disk}")).to_str().expect("UTF-8").to_owned();
        (0..self.disks).map(path).collect()
    }

    /// Opens the cluster on one core, and runs `test` on it if it opens; else says why it didn't.
    pub fn try_run<F: Future<Output = ()> + 'static>(
        &self,
        test: impl Fn(Cluster) -> F + Clone + Send + Sync + 'static,
    ) -> Result<(), String> {
        let data = self.data();
        let (hub, (say, said)) = (DiskHub::new(1), async_channel::unbounded());
        alone(move || {
            let (hub, data, test, say) = (hub.clone(), data.clone(), test.clone(), say.clone());
            async move {
                let disks = Disks::open(&hub, disk_options(data)).await.expect("the disks open");
                let options = Options { within: Duration::from_millis(500), ..options() };
                let opened = Cluster::open(disks.clone(), Rc::new(Nobody), &options).await;
                let _ = say.send(opened.as_ref().map(drop).map_err(ToString::to_string)).await;
                if let Ok(cluster) = opened {
                    test(cluster.clone()).await;
                    cluster.close().await;
                }
                disks.close().await.expect("closed");
            }
        });
        said.try_recv().expect("it says so")
    }

    /// Opens the disks, runs `test` on them, and closes them: no group runs.
    pub fn run_disks<F: Future<Output = ()> + 'static>(
        &self,
        test: impl Fn(Disks) -> F + Clone + Send + Sync + 'static,
    ) {
        let (data, hub) = (self.data(), DiskHub::new(1));
        alone(move || {
            let (hub, data, test) = (hub.clone(), data.clone(), test.clone());
            async move {
                let disks = Disks::open(&hub, disk_options(data)).await.expect("the disks open");
                test(disks.clone()).await;
                disks.close().await.expect("closed");
            }
        });
    }

    /// Opens the cluster, runs `test` on it, and closes it.
    pub fn run<F: Future<Output = ()> + 'static>(&self, test: impl Fn(Cluster) -> F + Clone + Send + Sync + 'static) {
        self.run_on(1, move |cluster, _| test(cluster));
    }

    /// The same on so many cores; all run the test, and the node closes when all have.
    pub fn run_on<F: Future<Output = ()> + 'static>(
        &self,
        cores: usize,
        test: impl Fn(Cluster, CoreId) -> F + Clone + Send + Sync + 'static,
    ) {
        let data = self.data();
        let (disk_hub, hub) = (DiskHub::new(cores), Hub::new(cores));
        // Every core says here that it has done the test, and hears here that the node is closed.
        let ((done, all_done), (closed, is_closed)) = (async_channel::unbounded(), async_channel::unbounded::<()>());
        let keep_open = std::sync::Arc::new(std::sync::Mutex::new(Some(closed)));
        run_cores(cores, move |core| {
            let (disk_hub, hub, data, test) = (disk_hub.clone(), hub.clone(), data.clone(), test.clone());
            let (done, all_done, is_closed, keep_open) =
                (done.clone(), all_done.clone(), is_closed.clone(), keep_open.clone());
            async move {
                let disks = Disks::open(&disk_hub, disk_options(data)).await.expect("the disks open");
                let (transport, peers) = (Rc::new(Nobody), Peers::none(NodeId(1)));
                let cluster = Cluster::start(&hub, disks.clone(), transport, peers, &options()).expect("it starts");
                cluster.opened(&options()).await.expect("it opens");
                test(cluster.clone(), core).await;
                done.send(()).await.expect("somebody hears");
                if core.index() > 0 {
                    let _ = is_closed.recv().await;
                    return;
                }
                for _ in 0..cores {
                    all_done.recv().await.expect("every core says so");
                }
                cluster.close().await;
                disks.close().await.expect("closed");
                drop(keep_open.lock().expect("nobody panics with it").take());
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
    run_cores(1, move |_| program());
}

fn run_cores<F: Future<Output = ()> + 'static>(
    cores: usize,
    program: impl Fn(CoreId) -> F + Clone + Send + Sync + 'static,
) {
    let config = Config { driver: DriverChoice::Auto, cores, ..Config::default() };
    let ended = run(&config, program).expect("it runs");
    ended.results.into_iter().for_each(|ended| ended.expect("no core panics"));
}
