//! A node: its cores, their disks and actors, the management API; from start to stop.
//!
//! | step | core 0 | the others |
//! | --- | --- | --- |
//! | start | listens for management, waits until nobody else has the disks, opens them | open their lanes |
//! | join | finds who the node is, tells the others, opens the cluster | take part when told |
//! | run | answers for the node, follows the cluster's settings, reads its own again on SIGHUP, serves S3 | report when asked, serve S3 |
//! | told to stop | lets requests end on every core, hands over and stops all groups, has every core stop its actors, closes all lanes | end requests, then stop their actors, when asked |
//! | end | tells the others | end |
//!
//! A core that panics takes the node with it: what is durable is on disk, and half a node helps nobody. Invariant: when a
//! node that was ready ends without an error, every lane's index was committed.

mod crew;
mod desk;
mod live;
mod member;
mod state;

use std::fmt;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cairn_io::fs::Dir;
use cairn_io::mesh::{Endpoint, Mesh};
use cairn_io::net::Reuse;
use cairn_io::shutdown::Hangups;
use cairn_io::task::{Class, JoinHandle, spawn};
use cairn_io::time::{self, Duration};
use cairn_io::{CoreId, Shutdown};
use cairn_meta::index::Store;
use futures_util::future::{Either, select};
use futures_util::pin_mut;
use tracing::{info, warn};

use crate::cluster::Hub as ClusterHub;
use crate::config::Config;
use crate::disks::{Disks, Hub, Options, Status, lane_name};
use crate::http::{Limits, Server, Spread};
use crate::lane::Options as LaneOptions;
use crate::manage::Management;
use crate::manage::token::Token;
pub use crew::Budgets;
use crew::Crew;
use desk::Desk;
use live::Live;
pub use member::{Joining, begin};
use member::{Member, claim_address};
use state::State;

/// Messages that wait from one core to another.
const QUEUE: usize = 16;
/// A process that was killed holds its disks a little longer than it lives, until the kernel has finished its writes.
const IN_USE_WITHIN: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Questions of the management API that wait.
const QUESTIONS_MAX: usize = 64;

/// Why a node didn't start, or didn't end in order.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NodeError {
    /// It never ran. The message says what to change.
    #[error("{0}")]
    NotStarted(String),
    /// It ran and ended otherwise than in order; what was answered for is safe.
    #[error("{0}")]
    Broken(String),
}

/// What a node is made of, for those who run it: on real cores, or in the simulation.
pub struct Plan {
    /// What it was configured with.
    pub config: Config,
    /// How many cores it has.
    pub cores: usize,
    /// The driver, in one line.
    pub driver: String,
    /// The flag that stops it.
    pub shutdown: Shutdown,
    /// Where a lane keeps its index, by the lane's directory.
    pub index: Arc<dyn Fn(&str) -> Store + Send + Sync>,
    /// Makes lanes' options from those that the configuration gives.
    pub lane_options: fn(LaneOptions) -> LaneOptions,
    /// Makes the node's part in its cluster from what was found.
    pub joining: fn(Joining) -> Joining,
    /// Reads the configuration again.
    pub reload: Arc<dyn Fn() -> Reload + Send + Sync>,
    /// Who asks for that.
    pub hangups: Hangups,
    /// What runs beside the node on core 0, from when it is ready until it stops.
    pub guest: Option<Guest>,
}

/// Something that runs beside a node.
pub type Guest = Arc<dyn Fn(Ready) -> futures_util::future::LocalBoxFuture<'static, ()> + Send + Sync>;

/// What a guest is told of its node.
pub struct Ready {
    /// The cluster, as core 0 sees it.
    pub cluster: crate::cluster::Cluster,
    /// Where S3 listens.
    pub s3: Option<SocketAddr>,
    /// Stops the node.
    pub shutdown: Shutdown,
}

/// A configuration that is read again.
pub type Reload = futures_util::future::LocalBoxFuture<'static, Result<Config, String>>;

/// A node that isn't running yet. Each of its cores runs [`Node::core`].
#[derive(Clone)]
pub struct Node(Arc<Shared>);

struct Shared {
    plan: Plan,
    hub: Hub,
    cluster: ClusterHub,
    mesh: Mesh<Ask>,
    /// Of S3's connections.
    spread: Spread,
    /// Taken by core 0.
    hangups: Mutex<Hangups>,
    /// Set when S3 is to let no more requests in.
    stop_serving: Shutdown,
    /// Set when every lane is closed, or the node has failed: cores end.
    over: Shutdown,
}

/// What core 0 asks of a core.
enum Ask {
    /// To say what it is doing.
    Report(async_channel::Sender<crate::manage::report::CoreReport>),
    /// To go on with these budgets.
    Budgets(Budgets),
    /// To take part in the cluster.
    Join(Box<Joining>),
    /// To serve: the cluster is open.
    Serve,
    /// To let requests end.
    EndServing(async_channel::Sender<()>),
    /// To stop its actors.
    StopActors(async_channel::Sender<()>),
}

impl Node {
    /// A node by this plan.
    pub fn new(mut plan: Plan) -> Self {
        let hangups = Mutex::new(mem::replace(&mut plan.hangups, Hangups::none()));
        let (hub, mesh) = (Hub::new(plan.cores), Mesh::new(plan.cores, QUEUE));
        let (cluster, spread) = (ClusterHub::new(plan.cores), Spread::new(plan.cores));
        let (stop_serving, over) = (Shutdown::new(), Shutdown::new());
        Self(Arc::new(Shared { plan, hub, cluster, mesh, spread, hangups, stop_serving, over }))
    }

    /// The life of one core.
    ///
    /// # Errors
    /// On core 0: why the node didn't start or didn't end in order.
    pub async fn core(self, core: CoreId) -> Result<(), NodeError> {
        let shared = &*self.0;
        // However a core ends, the others must not wait for it.
        let _end = EndAll(&shared.plan.shutdown, (core.index() == 0).then_some(&shared.over));
        let endpoint = match shared.mesh.endpoint(core) {
            Ok(endpoint) => Rc::new(endpoint),
            Err(error) => return Err(NodeError::NotStarted(error.to_string())),
        };
        if core.index() == 0 { shared.lead(endpoint).await } else { shared.follow(endpoint).await }
    }
}

/// Ends the node when it is dropped.
struct EndAll<'a>(&'a Shutdown, Option<&'a Shutdown>);

impl Drop for EndAll<'_> {
    fn drop(&mut self) {
        self.0.request();
        if let Some(over) = self.1 {
            over.request();
        }
    }
}

impl Shared {
    /// Core 0.
    async fn lead(&self, endpoint: Rc<Endpoint<Ask>>) -> Result<(), NodeError> {
        let Plan { config, shutdown, .. } = &self.plan;
        let data = config.data().map_err(|complaints| NodeError::NotStarted(complaints.to_string()))?;
        let (questions, asked) = async_channel::bounded(QUESTIONS_MAX);
        let server = listen(config)?;
        let watch = server.as_ref().map(Server::watch);
        wait_until_free(data).await?;
        let token = Arc::new(OnceLock::new());
        let management = Management::new(questions, token.clone(), shutdown.clone());
        let desk = Desk::new(self.plan.driver.clone(), endpoint.clone(), management.answered(), watch);
        let stop_serving = Shutdown::new();
        let serving = server.map(|server| {
            let stop = stop_serving.clone();
            spawn(
                Class::Foreground,
                async move { server.serve(management, async move { stop.requested().await }).await },
            )
        });
        let answering = desk.serve(asked);
        // Opening may take long; who asks meanwhile is told.
        let opened = select_opened(Disks::open(&self.hub, self.options(data).await), shutdown).await;
        let ended = match opened {
            Some(Ok(disks)) => {
                if serving.is_some() {
                    self.write_token(&disks, &token).await;
                }
                self.run(&desk, disks, &endpoint, serving, &stop_serving).await
            }
            Some(Err(error)) => Err(NodeError::NotStarted(error.to_string())),
            None => Ok(()),
        };
        drop(answering);
        ended
    }

    /// Writes the token onto the first disk that is there.
    async fn write_token(&self, disks: &Disks, token: &OnceLock<Token>) {
        let create = async {
            let status = disks.status().await.map_err(io::Error::other)?;
            let Some(path) = status.disks.into_iter().find_map(|disk| disk.path) else {
                return Err(io::Error::new(io::ErrorKind::NotFound, "no disk is there"));
            };
            Token::create(&Dir::open(&path).await?).await
        };
        match create.await {
            Ok(created) => drop(token.set(created)),
            Err(error) => {
                warn!(%error, "the token for POST /shutdown could not be written; only signals stop the node");
            }
        }
    }

    /// Core 0, when the disks are open.
    async fn run(
        &self,
        desk: &Rc<Desk>,
        disks: Disks,
        endpoint: &Rc<Endpoint<Ask>>,
        serving: Option<JoinHandle<usize>>,
        stop_serving: &Shutdown,
    ) -> Result<(), NodeError> {
        let mut state = State::new();
        let status = disks.status().await.map_err(|error| NodeError::Broken(error.to_string()))?;
        let in_use = crate::disks::DiskError::InUse.to_string();
        if let Some((path, why)) = status.troubles.iter().find(|(_, why)| *why == in_use) {
            return Err(NodeError::NotStarted(format!("{path}: {why}")));
        }
        for (path, why) in &status.troubles {
            warn!(%path, %why, "a directory of `data` is not used");
        }
        state.note(&status);
        let crew = Crew::new(disks.clone(), Budgets::of(&self.plan.config));
        crew.hire();
        desk.open(disks.clone(), crew.clone());
        let Some(mut member) = self.join(&disks, &status, &crew, endpoint).await? else {
            return self.end(&crew, &disks, endpoint).await;
        };
        let live = Live::new(self.plan.config.clone(), crew.clone(), endpoint.clone());
        live.follow_map(&member.cluster.map()).await;
        desk.join(member.cluster.clone(), live.clone());
        crew.hire_for_cluster(&member.cluster);
        info!(
            node = %status.map.node,
            disks = status.disks.len(),
            lanes = status.lanes.len(),
            cores = self.plan.cores,
            "the node is ready"
        );
        let keeping = spawn(Class::Maintenance, keep_up(crew.clone(), Some((disks.clone(), state))));
        let hangups = mem::replace(&mut *self.hangups.lock().unwrap_or_else(PoisonError::into_inner), Hangups::none());
        let reload = self.plan.reload.clone();
        let following = spawn(Class::Foreground, live.follow(member.cluster.clone(), hangups, move || reload()));
        let guest = self.plan.guest.as_ref().map(|guest| {
            let (cluster, shutdown) = (member.cluster.clone(), self.plan.shutdown.clone());
            spawn(Class::Foreground, guest(Ready { cluster, s3: member.s3_address(), shutdown }))
        });
        self.plan.shutdown.requested().await;
        info!("stopping: requests that are under way end first");
        desk.drain();
        drop((keeping, guest));
        stop_serving.request();
        if let Some(cut) = match serving {
            Some(serving) => serving.await.ok(),
            None => None,
        } && cut > 0
        {
            warn!(connections = cut, "connections took too long to end and were cut off");
        }
        // Who changed a setting by the management API has waited for it.
        drop(following);
        self.stop_serving.request();
        self.ask_others(endpoint, Ask::EndServing).await;
        member.served().await;
        crew.dismiss().await;
        member.cluster.close().await;
        member.leave().await;
        self.end(&crew, &disks, endpoint).await
    }

    /// Takes part in the cluster with every core; `None` if the node was told to stop meanwhile.
    async fn join(
        &self,
        disks: &Disks,
        status: &Status,
        crew: &Crew,
        endpoint: &Rc<Endpoint<Ask>>,
    ) -> Result<Option<Member>, NodeError> {
        let config = &self.plan.config;
        let mut joining = Joining::find(config, status, self.plan.cores).await?;
        joining = (self.plan.joining)(joining);
        if let Some(address) = config.listen_rpc() {
            joining.rpc = Some(claim_address("rpc", address)?);
        }
        let mut member = Member::start(&self.cluster, disks.clone(), &joining)?;
        if let Some(address) = config.listen_s3() {
            joining.s3 = Some(claim_address("s3", address)?);
        }
        for core in (1..self.plan.cores).map(CoreId::new) {
            // A core that has gone takes the node with it.
            let _ = endpoint.send(core, Ask::Join(Box::new(joining.clone()))).await;
        }
        let options = joining.options();
        let Some(opened) = select_opened(member.cluster.opened(&options), &self.plan.shutdown).await else {
            member.cluster.close().await;
            return Ok(None);
        };
        opened.map_err(|error| NodeError::NotStarted(error.to_string()))?;
        member.serve_s3(&joining, (&self.spread, &self.stop_serving), crew)?;
        for core in (1..self.plan.cores).map(CoreId::new) {
            let _ = endpoint.send(core, Ask::Serve).await;
        }
        Ok(Some(member))
    }

    /// Asks every other core to end something, and waits for that.
    async fn ask_others(&self, endpoint: &Endpoint<Ask>, ask: impl Fn(async_channel::Sender<()>) -> Ask) {
        for core in (1..self.plan.cores).map(CoreId::new) {
            let (ended, heard) = async_channel::bounded(1);
            if endpoint.send(core, ask(ended)).await.is_ok() {
                // A core that has gone has nothing to end.
                let _ = heard.recv().await;
            }
        }
    }

    /// Stops the actors of all cores and closes all lanes.
    async fn end(&self, crew: &Crew, disks: &Disks, endpoint: &Endpoint<Ask>) -> Result<(), NodeError> {
        crew.dismiss().await;
        self.ask_others(endpoint, Ask::StopActors).await;
        let closed = disks.close().await;
        self.over.request();
        match closed {
            Ok(()) => {
                info!("stopped: every index is committed");
                Ok(())
            }
            Err(error) => Err(NodeError::Broken(format!(
                "a lane could not be closed in order: {error}; nothing that was answered for is lost, the next start takes longer"
            ))),
        }
    }

    /// A core other than 0.
    async fn follow(&self, endpoint: Rc<Endpoint<Ask>>) -> Result<(), NodeError> {
        let data = self.plan.config.data().map(<[String]>::to_vec).unwrap_or_default();
        let opening = Disks::open(&self.hub, self.options(&data).await);
        let over = self.over.requested();
        pin_mut!(opening, over);
        let disks = match select(opening, over).await {
            Either::Left((Ok(disks), _)) => disks,
            // Core 0 says why.
            Either::Left((Err(_), _)) | Either::Right(_) => return Ok(()),
        };
        let crew = Crew::new(disks.clone(), Budgets::of(&self.plan.config));
        crew.hire();
        let keeping = spawn(Class::Maintenance, keep_up(crew.clone(), None));
        let (mut keeping, mut part) = (Some(keeping), None);
        loop {
            let (asked, over) = (endpoint.recv(), self.over.requested());
            pin_mut!(asked, over);
            match select(asked, over).await {
                Either::Left(((_, ask), _)) => match ask {
                    Ask::Report(answer) => drop(answer.try_send(crew.report())),
                    Ask::Budgets(budgets) => crew.set_budgets(budgets),
                    Ask::Join(joining) => {
                        part = Some((Member::start(&self.cluster, disks.clone(), &joining)?, joining));
                    }
                    Ask::Serve => {
                        if let Some((member, joining)) = &mut part {
                            member.serve_s3(joining, (&self.spread, &self.stop_serving), &crew)?;
                        }
                    }
                    Ask::EndServing(done) => {
                        if let Some((member, _)) = &mut part {
                            member.served().await;
                        }
                        let _ = done.try_send(());
                    }
                    Ask::StopActors(done) => {
                        if let Some((member, _)) = &mut part {
                            member.leave().await;
                        }
                        keeping = None;
                        crew.dismiss().await;
                        let _ = done.try_send(());
                    }
                },
                Either::Right(_) => break,
            }
        }
        drop(keeping);
        Ok(())
    }

    /// How lanes are run within the memory there is.
    async fn options(&self, data: &[String]) -> Options {
        let lanes = count_lanes(data).await.max(1);
        let options = lane_options(self.plan.config.memory(), lanes);
        Options { data: data.to_vec(), lane: (self.plan.lane_options)(options), index: self.plan.index.clone() }
    }
}

/// Waits for the disks to open, or for the node to be stopped before that.
async fn select_opened<T>(opening: impl Future<Output = T>, shutdown: &Shutdown) -> Option<T> {
    let stop = shutdown.requested();
    pin_mut!(opening, stop);
    match select(opening, stop).await {
        Either::Left((opened, _)) => Some(opened),
        Either::Right(_) => None,
    }
}

/// How often a core looks whether it has the actors its lanes need, and core 0 whether something has become worse.
const KEEP_UP_EVERY: Duration = Duration::from_secs(5);

async fn keep_up(crew: Crew, mut watched: Option<(Disks, State)>) {
    loop {
        time::sleep(KEEP_UP_EVERY).await;
        crew.hire();
        if let Some((disks, state)) = &mut watched
            && let Ok(status) = disks.status().await
        {
            state.note(&status);
        }
    }
}

/// Listens where the configuration says.
fn listen(config: &Config) -> Result<Option<Server>, NodeError> {
    let Some(address) = config.listen_management() else { return Ok(None) };
    let bound = Server::bind(address, Reuse::Exclusive, Limits { connections_max: 256, ..Limits::default() });
    let server = bound.map_err(|error| {
        NodeError::NotStarted(format!(
            "{error}; stop what listens there or choose another address with --listen-management"
        ))
    })?;
    let address = server.local_addr().map_err(|error| NodeError::NotStarted(error.to_string()))?;
    if !address.ip().is_loopback() {
        warn!(%address, "the management API can be reached from other machines, without encryption");
    }
    info!(%address, "the management API listens");
    Ok(Some(server))
}

/// Waits a while for whoever has the disks: a process that was killed has them a little longer than it lives.
async fn wait_until_free(data: &[String]) -> Result<(), NodeError> {
    let begun = time::now();
    for path in data {
        loop {
            // A directory that can't be opened is told about when the disks are.
            let Ok(dir) = Dir::open(path).await else { break };
            match dir.lock().await {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    if begun.elapsed() > IN_USE_WITHIN {
                        let why = crate::disks::DiskError::InUse;
                        return Err(NodeError::NotStarted(format!("{path}: {why}")));
                    }
                    time::sleep(LOOK_AGAIN).await;
                }
                _ => break,
            }
        }
    }
    Ok(())
}

/// How many lanes there seem to be; memory is divided among them.
async fn count_lanes(data: &[String]) -> usize {
    let is_lane = |name: &String| {
        let number = name.strip_prefix("lane-").and_then(|number| number.parse().ok());
        number.is_some_and(|number| lane_name(number) == *name)
    };
    let mut lanes = 0;
    for path in data {
        if let Ok(dir) = Dir::open(path).await
            && let Ok(names) = dir.list().await
        {
            lanes += names.iter().filter(|name| is_lane(name)).count();
        }
    }
    lanes
}

/// Memory of one update that waits to be committed, about.
const UPDATE_BYTES: u64 = 160;

/// A lane's share of the memory: a quarter of all for caches, a quarter for updates of indexes.
fn lane_options(memory: u64, lanes: usize) -> LaneOptions {
    let usual = LaneOptions::default();
    let each = memory / 4 / lanes as u64;
    // Writes wait at four times as many as a commit takes.
    let entries = usize::try_from(each / 4 / UPDATE_BYTES).unwrap_or(usize::MAX);
    LaneOptions {
        cache_bytes: each * 2 / 3,
        heads_bytes: each / 3,
        commit_entries: entries.clamp(1024, usual.commit_entries),
        ..usual
    }
}

/// Starts a node as configured and runs it until it is told to stop, with a guest if there is one.
///
/// # Errors
/// Why it didn't start, or didn't end in order.
pub fn run(
    config: &Config,
    reload: Arc<dyn Fn() -> Reload + Send + Sync>,
    guest: Option<Guest>,
) -> Result<(), NodeError> {
    let not_started = |error: &dyn fmt::Display| NodeError::NotStarted(error.to_string());
    let usual = cairn_io::Config::default();
    let cores = config.cores().unwrap_or(usual.cores);
    let shutdown = Shutdown::new();
    let io = cairn_io::Config {
        driver: config.driver(),
        cores,
        block_bytes_max: usize::try_from(config.memory() / 2 / cores as u64).unwrap_or(usize::MAX),
        shutdown: shutdown.clone(),
        ..usual
    };
    let driver = cairn_io::driver_line(&io).map_err(|error| not_started(&error))?;
    info!("{driver}");
    cairn_io::shutdown::on_signals(&shutdown).map_err(|error| not_started(&error))?;
    let hangups = Hangups::listen().map_err(|error| not_started(&error))?;
    let node = Node::new(Plan {
        config: config.clone(),
        cores,
        driver,
        shutdown,
        index: Arc::new(|path| Store::lmdb(path)),
        lane_options: |options| options,
        joining: |joining| joining,
        reload,
        hangups,
        guest,
    });
    let ended = cairn_io::run(&io, move |core| node.clone().core(core)).map_err(|error| not_started(&error))?;
    // The reason is core 0's, unless another core broke it.
    let mut reason = Ok(());
    for (core, result) in ended.results.into_iter().enumerate() {
        match result {
            Ok(Ok(())) => {}
            Ok(Err(error)) => reason = reason.and(Err(error)),
            Err(error) => reason = Err(NodeError::Broken(format!("core {core} broke: {error}"))),
        }
    }
    reason
}
