//! A node of one core with a gateway, in a temporary directory.

use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;

use cairn_daemon::cluster::{Cluster, Options, Seal};
use cairn_daemon::disks::{Disks, Format, Hub, Options as DiskOptions, Uid, format};
use cairn_daemon::http::{Limits as HttpLimits, Server};
use cairn_daemon::lane::Options as LaneOptions;
use cairn_daemon::s3::{Gateway, Limits};
use cairn_daemon::slot::{Nobody, Options as SlotOptions};
use cairn_io::log::Options as LogOptions;
use cairn_io::net::Reuse;
use cairn_io::task::{Class, spawn};
use cairn_io::time::Duration;
use cairn_io::{Config, DriverChoice, Shutdown, run};
use cairn_meta::control::command::Command;
use cairn_meta::control::state::{Cluster as Born, ClusterId, KeyRecord, UserRecord};
use cairn_placement::NodeId;

use crate::client::Client;

/// What a test gets.
#[derive(Clone)]
pub struct Node {
    pub at: SocketAddr,
}

impl Node {
    /// A user of the two that there are, `ann` and `bob`.
    pub fn client(&self, user: &str) -> Client {
        Client { at: self.at, access: format!("KEY-{user}"), secret: format!("secret of {user}") }
    }

    /// The first of them.
    pub fn ann(&self) -> Client {
        self.client("ann")
    }

    /// The other.
    pub fn bob(&self) -> Client {
        self.client("bob")
    }
}

/// Runs a node, and `test` on it.
pub fn serve<F: Future<Output = ()> + 'static>(test: impl Fn(Node) -> F + Clone + Send + Sync + 'static) {
    serve_in((60, 16 << 20), test);
}

/// The same with two lanes of so many segments, and of such a length.
pub fn serve_in<F: Future<Output = ()> + 'static>(
    (segments, segment_bytes): (usize, u32),
    test: impl Fn(Node) -> F + Clone + Send + Sync + 'static,
) {
    // Under the target directory: a temporary file system may not know direct I/O.
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let data = vec![place.path().join("disk").to_str().expect("UTF-8").to_owned()];
    let hub = Hub::new(1);
    let program = move |_| {
        let (hub, data, test) = (hub.clone(), data.clone(), test.clone());
        async move {
            let how = Format { lanes: 2, segment_bytes };
            drop(format(&data, Uid([7; 16]), how).await.expect("formatted"));
            let disks = Disks::open(&hub, disk_options(data, segments)).await.expect("the disks open");
            let cluster = Cluster::open(disks.clone(), Rc::new(Nobody), &options()).await.expect("it opens");
            users(&cluster).await;
            on(cluster.clone(), test).await;
            cluster.close().await;
            disks.close().await.expect("closed");
        }
    };
    let config = Config { driver: DriverChoice::Auto, cores: 1, block_bytes_max: 96 << 20, ..Config::default() };
    let ended = run(&config, program).expect("it runs");
    ended.results.into_iter().for_each(|ended| ended.expect("no core panics"));
}

async fn on<F: Future<Output = ()>>(cluster: Cluster, test: impl Fn(Node) -> F) {
    let gateway = Gateway::new(
        cluster,
        Limits {
            body_bytes: 32 << 20,
            domains: vec!["s3.test".to_owned()],
            site_domains: vec!["site.test".to_owned()],
            ..Limits::default()
        },
    );
    let at = "127.0.0.1:0".parse().expect("an address");
    let server = Server::bind(at, Reuse::Exclusive, HttpLimits::default()).expect("bound");
    let at = server.local_addr().expect("an address");
    let (stop, watch) = (Shutdown::new(), server.watch());
    let stopped = stop.clone();
    let serving = spawn(Class::Foreground, server.serve(gateway.clone(), async move { stopped.requested().await }));
    test(Node { at }).await;
    stop.request();
    serving.await.expect("it ends");
    assert_eq!(watch.counts().panics, 0, "no request panics");
    assert_eq!(gateway.body_bytes(), 0, "what bodies held is given back");
}

async fn users(cluster: &Cluster) {
    for user in ["ann", "bob"] {
        let record = UserRecord { name: user.to_owned(), rights: String::new() };
        cluster.control("root", None, Command::PutUser(record)).await.expect("made");
        let access = format!("KEY-{user}");
        let sealed = cluster.seal().close(&access, &format!("secret of {user}")).expect("randomness");
        let key = KeyRecord { access, user: user.to_owned(), sealed, disabled: false };
        cluster.control("root", None, Command::PutKey(key)).await.expect("made");
    }
}

fn disk_options(data: Vec<String>, segments_max: usize) -> DiskOptions {
    let log = LogOptions { keep_free: 0, segments_max, ..LogOptions::default() };
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
        born: Born { id: ClusterId(7), slots: 4, partitions: 64 },
        seal: Seal::new(&[9; Seal::BYTES]),
        slot,
        within: Duration::from_secs(20),
    }
}
