//! One life of one core of a node.

use cairn_daemon::clients::Clients;
use cairn_daemon::cluster::{Cluster, ClusterError, Freshness, Hub, Options, PeerAddress, Peers, Seal, new_version};
use cairn_daemon::disks::{Disks, DisksError, Format, Hub as DiskHub, LaneState, Options as DiskOptions, Uid, format};
use cairn_daemon::http::{Limits as HttpLimits, Server as HttpServer};
use cairn_daemon::lane::Options as LaneOptions;
use cairn_daemon::rpc::{Backoff, Credential, Exposure, Identity, Limits, Pool, Server, Services};
use cairn_daemon::s3::access::document;
use cairn_daemon::s3::{Gateway, Limits as GatewayLimits};
use cairn_daemon::slot::Options as SlotOptions;
use cairn_io::CoreId;
use cairn_io::log::{Options as LogOptions, Prewrite};
use cairn_io::net::{Listener, Reuse, Stream};
use cairn_io::task::{self, Class};
use cairn_io::time::{sleep, timeout};
use cairn_meta::control::bucket::{BucketRecord, BucketSettings};
use cairn_meta::control::command::{Command as ControlCommand, CreateBucket};
use cairn_meta::control::state::{Cluster as Born, ClusterId, KeyRecord, UserRecord};
use cairn_meta::slot::command::{Answer, Body, Command, Place, Refusal, Token, Versioning, Write};
use cairn_meta::slot::list::{Item, Query as ListQuery};
use cairn_meta::slot::query::{Query, Reply};
use cairn_meta::slot::read::Mode as ReadMode;
use cairn_meta::version::commit::{Condition, Mode, Refused};
use cairn_meta::version::{Content, Payload};
use cairn_placement::NodeId as Id;
use futures_util::future::{Either, select};

use super::client::{AGAIN, Request, SAID, address, decode};
use super::evacuate;
use super::gateway;
use super::{Books, KEYS, Rc, SEGMENT, SLOTS, below, millis, small};
use crate::wire;

pub const CLUSTER: u128 = 7;
pub const BUCKET: &str = "photos";
pub const ACCESS: &str = "KEY-ann";
pub const SECRET: &str = "secret of ann";

/// Where a node answers RPC.
pub fn rpc_address(node: usize) -> std::net::SocketAddr {
    std::net::SocketAddr::new(address(node, 0).ip(), 7000)
}

pub fn identity(number: u64) -> Identity {
    Identity::new(CLUSTER.to_be_bytes(), number, Credential::Member([9; 32]))
}

pub fn key_name(key: u64) -> String {
    format!("key-{key}")
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A core of a node from its start to its end.
pub struct Life {
    pub books: Rc<Books>,
    pub node: usize,
    pub core: CoreId,
    pub disks: DiskHub,
    pub hub: Hub,
}

impl Life {
    pub async fn live(self) {
        let ended = self.run().await.err().unwrap_or_default();
        self.books.open[self.node].take();
        if !ended.is_empty() {
            *self.books.ended[self.node].borrow_mut() = ended;
        }
    }

    async fn run(&self) -> Result<(), String> {
        let (books, me) = (&self.books, self.node as u64 + 1);
        if self.core.index() == 0 && !books.is_made[self.node].get() {
            self.make_disks().await?;
        }
        let disks = Disks::open(&self.disks, self.disk_options()).await.map_err(text)?;
        let pool = Pool::new(identity(me), Limits::default(), Backoff { first: millis(10), max: millis(200) });
        let pool = Rc::new(pool);
        let others = (0..books.replicas).filter(|other| *other != self.node);
        others.for_each(|other| pool.set(other as u64 + 1, rpc_address(other)));
        let list = (0..books.replicas)
            .map(|node| PeerAddress { node: Id(node as u64 + 1), address: rpc_address(node).to_string() });
        let peers = Peers { list: list.collect(), calls: pool.clone() };
        let options = self.options();
        let cluster = Cluster::start(&self.hub, disks.clone(), pool, peers, &options).map_err(text)?;
        let clients = Rc::new(Clients::new(cluster.clone()));
        let raft = Rc::new(cluster.clone());
        let services = Services { keys: clients.clone(), slots: clients.clone(), control: clients, raft };
        let server =
            Server::bind(rpc_address(self.node), Exposure::Insecure, identity(me), Limits::default(), services);
        let server = server.map_err(text)?;
        let broken = if self.core.index() == 0 {
            let opening = Box::pin(cluster.opened(&options));
            match select(opening, Box::pin(until_lane_broken(&disks))).await {
                Either::Left((opened, _)) => opened.map(|()| None).map_err(text)?,
                Either::Right((why, _)) => Some(why),
            }
        } else {
            cluster.opened(&options).await.map_err(text)?;
            None
        };
        let listener = Listener::bind(address(self.node, self.core.index()), Reuse::Exclusive).map_err(text)?;
        let serving = task::spawn(Class::Foreground, accept(books.clone(), cluster.clone(), listener));
        let answering =
            task::spawn(Class::Foreground, answer(gateway::address(self.node, self.core.index()), &cluster));
        let compacting = task::spawn(Class::Maintenance, compact(disks.clone()));
        let settling = task::spawn(Class::Maintenance, evacuate::settle(books.clone(), disks.clone()));
        let reconciling = (self.core.index() == 0).then(|| task::spawn(Class::Maintenance, reconcile(cluster.clone())));
        let why = match broken {
            Some(why) => why,
            None if self.core.index() == 0 => {
                *books.open[self.node].borrow_mut() = Some(cluster.clone());
                let evacuating = task::spawn(Class::Maintenance, evacuate::run(books.clone(), cluster.clone()));
                let why = until_broken(&cluster, &disks).await;
                drop(evacuating);
                why
            }
            None => std::future::pending().await,
        };
        drop((serving, answering, compacting, settling, reconciling, server));
        books.open[self.node].take();
        cluster.close().await;
        // A lane may be poisoned.
        let _ = disks.close().await;
        Err(why)
    }

    fn data(&self) -> Vec<String> {
        (0..self.books.disks).map(|disk| format!("/disk{disk}/data")).collect()
    }

    async fn make_disks(&self) -> Result<(), String> {
        let how = Format { lanes: 2, segment_bytes: SEGMENT };
        match format(&self.data(), Uid([7; 16]), how).await {
            // A life before was broken off when all was done.
            Ok(_) | Err(DisksError::Refused(_)) => self.books.is_made[self.node].set(true),
            Err(error) => return Err(text(error)),
        }
        Ok(())
    }

    fn disk_options(&self) -> DiskOptions {
        let log = LogOptions {
            reserve: 2,
            ahead: 1,
            spare_max: 3,
            segments_max: 40,
            keep_free: 0,
            batch_bytes: 32 << 10,
            in_flight_bytes: 512 << 10,
            prewrite: Prewrite::WhenSmall,
        };
        let lane = LaneOptions {
            log,
            partitions: 4,
            commit_entries: small(20 + below(200)),
            commit_bytes: 64 << 10 << below(4),
            commit_every: millis(20 + below(400)),
            ballast: 0,
            ..LaneOptions::default()
        };
        let (memories, node) = (self.books.memories.clone(), self.node);
        let index = move |path: &str| {
            let store = Books::store(&memories, node, path);
            if below(8) == 0 {
                store.clear().expect("nobody has it open");
            }
            store
        };
        DiskOptions { data: self.data(), lane, index: std::sync::Arc::new(index) }
    }

    fn options(&self) -> Options {
        let slot = SlotOptions {
            heartbeat: millis(50),
            election: (millis(150), millis(300)),
            snapshot_entries: 10 + below(20),
            kept_entries: below(8),
            propose_limit: millis(800),
            batch_limit: millis(200),
            proposals_max: 64,
            has_lease_reads: below(4) > 0,
        };
        Options {
            node: Id(self.node as u64 + 1),
            born: Born { id: ClusterId(CLUSTER), slots: SLOTS, partitions: 4 },
            seal: Seal::new(&[9; Seal::BYTES]),
            slot,
            within: millis(10_000),
        }
    }
}

/// Until something is broken that only a restart makes whole.
async fn until_broken(cluster: &Cluster, disks: &Disks) -> String {
    let stopped = async {
        loop {
            sleep(millis(20)).await;
            if let Some((slot, why)) = cluster.groups().await.stopped.first() {
                return format!("slot {slot} has stopped: {why}");
            }
        }
    };
    select(Box::pin(stopped), Box::pin(until_lane_broken(disks))).await.factor_first().0
}

/// Until a lane is missing or poisoned.
async fn until_lane_broken(disks: &Disks) -> String {
    loop {
        sleep(millis(20)).await;
        let Ok(status) = disks.status().await else { continue };
        for lane in status.lanes {
            match lane.state {
                LaneState::Missing(why) => return format!("a lane is missing: {why}"),
                LaneState::Open { lane, .. } if lane.poisoned.is_some() => {
                    return format!("poisoned: {:?}", lane.poisoned);
                }
                LaneState::Open { .. } => {}
            }
        }
    }
}

/// Hands over what the node took on its own.
async fn reconcile(cluster: Cluster) {
    loop {
        sleep(millis(50 + below(250))).await;
        // What fails is held still.
        let _ = cluster.reconcile().await;
    }
}

async fn compact(disks: Disks) {
    loop {
        sleep(millis(50 + below(200))).await;
        for (_, lane) in disks.own_lanes() {
            let Some(planned) = lane.compaction_plan().first().copied() else { continue };
            // A failure poisons the lane, or is one of room.
            let _ = lane.compact(planned.segment).await;
        }
    }
}

/// Answers S3, for ever.
fn answer(at: std::net::SocketAddr, cluster: &Cluster) -> impl Future<Output = ()> + use<> {
    let limits = GatewayLimits { body_bytes: 1 << 20, ..GatewayLimits::default() };
    let gateway = Gateway::new(cluster.clone(), limits);
    let server = HttpServer::bind(at, Reuse::Exclusive, HttpLimits::default()).expect("nobody else is there");
    async move {
        server.serve(gateway, std::future::pending()).await;
    }
}

async fn accept(books: Rc<Books>, cluster: Cluster, listener: Listener) {
    let connections = Rc::new(std::cell::Cell::new(0));
    while let Ok((stream, _)) = listener.accept().await {
        if connections.get() > 200 {
            continue;
        }
        connections.set(connections.get() + 1);
        let (books, cluster, connections) = (books.clone(), cluster.clone(), connections.clone());
        task::spawn(Class::Foreground, async move {
            let _ = timeout(millis(10_000), serve(&books, &cluster, stream)).await;
            connections.set(connections.get() - 1);
        })
        .detach();
    }
}

async fn serve(books: &Books, cluster: &Cluster, mut stream: Stream) -> std::io::Result<()> {
    while let Some(asked) = wire::receive(&mut stream).await? {
        let request = decode(&asked).ok_or(std::io::ErrorKind::InvalidData)?;
        let answer = match obey(books, cluster, request).await {
            Ok(said) => [&[SAID][..], &said].concat(),
            Err(error) => [&[AGAIN][..], error.to_string().as_bytes()].concat(),
        };
        wire::send(&mut stream, &answer).await?;
    }
    Ok(())
}

async fn bucket(books: &Books, cluster: &Cluster) -> Result<BucketRecord, ClusterError> {
    if let Some(bucket) = cluster.map().bucket(BUCKET) {
        return Ok(bucket.clone());
    }
    put_key(cluster).await?;
    let versioning = if books.are_versions_kept { Versioning::Enabled } else { Versioning::Off };
    // Whoever asks over S3 is nobody.
    let everybody = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:*",
        "Resource": ["arn:aws:s3:::photos", "arn:aws:s3:::photos/*"]}]}"#;
    let documents = vec![(document::POLICY.to_owned(), everybody.to_owned())];
    let settings = BucketSettings { versioning, documents, ..BucketSettings::default() };
    let create = CreateBucket { name: BUCKET.to_owned(), owner: "ann".to_owned(), settings };
    // Another may have been faster.
    let made = cluster.control("ann", None, ControlCommand::CreateBucket(create)).await;
    let missing = || ClusterError::Unreachable("the map has no bucket yet".to_owned());
    match made {
        Ok(_) | Err(ClusterError::ControlRefused(_)) => cluster.map().bucket(BUCKET).cloned().ok_or_else(missing),
        Err(error) => Err(error),
    }
}

/// Whoever sees the bucket in the map sees the key.
async fn put_key(cluster: &Cluster) -> Result<(), ClusterError> {
    let user = UserRecord { name: "ann".to_owned(), rights: String::new() };
    cluster.control("test", None, ControlCommand::PutUser(user)).await?;
    let sealed = cluster.seal().close(ACCESS, SECRET).expect("randomness");
    let key = KeyRecord { access: ACCESS.to_owned(), user: "ann".to_owned(), sealed, disabled: false };
    cluster.control("test", None, ControlCommand::PutKey(key)).await.map(drop)
}

async fn obey(
    books: &Books,
    cluster: &Cluster,
    (what, key, one, other, token): Request,
) -> Result<Vec<u8>, ClusterError> {
    let bucket = bucket(books, cluster).await?;
    let name = key_name(key);
    let (mode, body) = match what {
        b'b' => return Ok(Vec::new()),
        b'g' => return Ok(get(cluster, &bucket, &name).await?.to_le_bytes().to_vec()),
        b'l' => return list(cluster, &bucket, one).await,
        b'p' => (Mode::Overwrite, Body::Object(content(one))),
        b'd' => (Mode::Overwrite, Body::Deletion),
        b'n' => (Mode::Conditional(vec![Condition::Absent]), Body::Object(content(one))),
        _ => (Mode::Conditional(vec![Condition::Etag(vec![one.to_string()])]), Body::Object(content(other))),
    };
    let place = Place { bucket: bucket.stamp(), key: name.clone() };
    let write = Write { place, id: new_version(), mode, body };
    let answer = cluster.command((bucket.id, &name), Some(Token(token)), Command::Commit(vec![write])).await?;
    match answer {
        Answer::Committed(each) => match &each[..] {
            [Ok(_)] => Ok(1_u64.to_le_bytes().to_vec()),
            [Err(Refusal::Commit(Refused::Precondition { .. }))] => Ok(0_u64.to_le_bytes().to_vec()),
            [Err(refusal)] => Err(ClusterError::Refused(refusal.clone())),
            _ => panic!("{each:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn content(value: u64) -> Content {
    let bytes = value.to_le_bytes().to_vec();
    let payload = Payload::Inline(bytes.repeat(20));
    Content { size: 160, etag: value.to_string(), payload, ..Content::default() }
}

async fn get(cluster: &Cluster, bucket: &BucketRecord, name: &str) -> Result<u64, ClusterError> {
    let query = Query::Read { bucket: bucket.id, key: name.to_owned(), mode: ReadMode::Preferred, local: vec![] };
    let reply = cluster.query((bucket.id, name), &query, Freshness::Latest).await?;
    let Reply::Read(found) = reply else { panic!("{reply:?}") };
    let object = found.filter(|found| found.is_object(cairn_daemon::cluster::wall_millis()));
    Ok(object.map_or(0, |found| found.version.content.etag.parse().expect("a number")))
}

/// The values of all keys, by pages of so many.
async fn list(cluster: &Cluster, bucket: &BucketRecord, limit: u64) -> Result<Vec<u8>, ClusterError> {
    let (mut values, mut after) = (vec![0_u64; small(KEYS)], None);
    loop {
        let (prefix, delimiter) = (String::new(), String::new());
        let limit = u32::try_from(limit).unwrap_or(1);
        let query = ListQuery { bucket: bucket.id, prefix, delimiter, after: after.take(), limit, upto: None };
        let page = cluster.list_objects(query).await?;
        for item in page.items {
            let Item::Entry(entry) = item else { panic!("there is no delimiter") };
            let key: usize = entry.key.trim_start_matches("key-").parse().expect("a number");
            values[key] = entry.etag.parse().expect("a number");
        }
        after = page.next;
        if after.is_none() {
            return Ok(values.into_iter().flat_map(u64::to_le_bytes).collect());
        }
    }
}
