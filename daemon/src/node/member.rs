//! The node's part in its cluster, on one core: who it is, its groups, what listens for others.
//!
//! | what is found | then |
//! | --- | --- |
//! | the cluster's secret, on a disk | it is the node's; disks that lack it get it |
//! | no secret, and the node has slots | it isn't started: they could not be understood |
//! | no secret, no slots, no peers or the least number of all | a new cluster: a secret is drawn |
//! | no secret, no slots, peers with lesser numbers | it isn't started: the secret must be copied from one of them |

use std::net::SocketAddr;
use std::rc::Rc;

use cairn_io::net::{Listener, Reuse};
use cairn_io::task::{Class, JoinHandle, spawn};
use cairn_io::time::Duration;
use cairn_io::{Shutdown, here};
use cairn_meta::control::state::Cluster as Born;
use cairn_placement::NodeId;
use tracing::{info, warn};

use super::NodeError;
use super::crew::Crew;
use crate::clients::Clients;
use crate::cluster::papers::{self, SECRET, Secret};
use crate::cluster::{ADMIN, Cluster, ClusterError, Hub, NewKey, Options, PeerAddress, Peers};
use crate::config::{Config, Sources};
use crate::disks::{Disks, Hub as DiskHub, Options as DiskOptions, Status};
use crate::http::{Limits as HttpLimits, Server, Spread};
use crate::rpc::{Backoff, Credential, Exposure, Identity, Limits as RpcLimits, Pool, Server as RpcServer, Services};
use crate::s3::{Gateway, Limits as S3Limits};
use crate::slot::{Nobody, Options as SlotOptions};

/// Slots of a cluster that is born, unless the configuration says otherwise.
const SLOTS: u32 = 256;
/// How long a cluster of one may take until its groups have leaders.
const LEADERS_WITHIN: Duration = Duration::from_secs(20);
/// How soon a node that couldn't be reached is tried again: an election can't wait long for it.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(50), max: Duration::from_millis(500) };

/// What every core is told before it takes part.
#[derive(Clone)]
pub struct Joining {
    /// Who this node is.
    pub node: NodeId,
    secret: Secret,
    peers: Vec<(u64, SocketAddr)>,
    slot: SlotOptions,
    slots: u32,
    /// Where RPC listens, the port filled in.
    pub rpc: Option<SocketAddr>,
    exposure: Exposure,
    /// Where S3 listens, the port filled in.
    pub s3: Option<SocketAddr>,
    /// What each core's gateway may use.
    s3_limits: S3Limits,
}

/// A core's gateway may hold so much of the node's memory in bodies, divided by the cores.
const BODIES_SHARE: u64 = 4;

fn not_started(error: &ClusterError) -> NodeError {
    NodeError::NotStarted(error.to_string())
}

impl Joining {
    /// What the disks and the configuration say; of a new cluster, the secret is drawn and written down.
    ///
    /// # Errors
    /// What must be changed or copied before the node can start.
    pub async fn find(config: &Config, disks: &Status, cores: usize) -> Result<Self, NodeError> {
        let paths: Vec<String> = disks.disks.iter().filter_map(|disk| disk.path.clone()).collect();
        let own = papers::read_own(&paths).await.map_err(|error| not_started(&error))?;
        let node = config.node().or(own.as_ref().map(|own| own.node.0)).unwrap_or(1);
        let peers = config.peers().to_vec();
        if !peers.is_empty() && !peers.iter().any(|(peer, _)| *peer == node) {
            let message = format!(
                "cluster.peers doesn't name this node, {node}: name it there, or set cluster.node to its number"
            );
            return Err(NodeError::NotStarted(message));
        }
        let secret = match papers::read_secret(&paths).await.map_err(|error| not_started(&error))? {
            Some(secret) => secret,
            None if own.is_none() && peers.first().is_none_or(|(first, _)| *first == node) => {
                Secret::draw().map_err(|error| NodeError::NotStarted(error.to_string()))?
            }
            None => return Err(NodeError::NotStarted(no_secret(&paths))),
        };
        papers::write_secret(&paths, &secret).await.map_err(|error| not_started(&error))?;
        let s3_limits = S3Limits {
            body_bytes: usize::try_from(config.memory() / BODIES_SHARE / cores as u64).unwrap_or(usize::MAX),
            region: config.s3_region().to_owned(),
            domains: config.s3_domains().to_vec(),
            site_domains: config.s3_site_domains().to_vec(),
        };
        if config.listen_rpc().is_none() && !peers.is_empty() {
            let message = "cluster.peers names other nodes, and listen.rpc is off: they must reach this one";
            return Err(NodeError::NotStarted(message.to_owned()));
        }
        let exposure = if config.is_insecure() { Exposure::Insecure } else { Exposure::Loopback };
        let slot = SlotOptions { has_lease_reads: config.has_lease_reads(), ..SlotOptions::default() };
        let node = NodeId(node);
        let slots = config.slots().unwrap_or(SLOTS);
        Ok(Self { node, secret, peers, slot, slots, rpc: None, exposure, s3: None, s3_limits })
    }

    /// How others are reached.
    fn identity(&self) -> Identity {
        Identity::new(self.secret.cluster.0.to_be_bytes(), self.node.0, Credential::Member(self.secret.membership()))
    }

    fn peer_list(&self) -> Vec<PeerAddress> {
        let peer =
            |(node, address): &(u64, SocketAddr)| PeerAddress { node: NodeId(*node), address: address.to_string() };
        self.peers.iter().map(peer).collect()
    }

    /// With groups that are run in another way, and so many slots if the cluster is born now.
    #[must_use]
    pub fn with_slots(mut self, slot: SlotOptions, slots: u32) -> Self {
        (self.slot, self.slots) = (slot, slots);
        self
    }

    /// What the cluster is told.
    pub fn options(&self) -> Options {
        Options {
            node: self.node,
            born: Born { id: self.secret.cluster, slots: self.slots, partitions: cairn_meta::index::PARTITIONS },
            seal: self.secret.seal(),
            slot: self.slot.clone(),
            within: LEADERS_WITHIN,
        }
    }
}

fn no_secret(paths: &[String]) -> String {
    let path = paths.first().map_or("", String::as_str);
    format!(
        "there is no {SECRET} on this node's disks: copy that file from a disk of another node of the cluster to {path}/{SECRET}, \
         readable by its owner only"
    )
}

/// Begins the cluster of a node that was just made, without serving anybody, and makes the first access key. On a core of its own.
///
/// # Errors
/// If the disks can't be opened, or have begun already and refuse.
pub async fn begin(data: Vec<String>, user: &str) -> Result<NewKey, NodeError> {
    let broken = |error: &dyn std::fmt::Display| NodeError::Broken(error.to_string());
    let disks = Disks::open(&DiskHub::new(1), DiskOptions::new(data)).await.map_err(|error| broken(&error))?;
    let status = disks.status().await.map_err(|error| broken(&error))?;
    let config = Config::resolve(&Sources::default()).map_err(|error| broken(&error))?;
    let joining = Joining::find(&config, &status, 1).await?;
    let member = Member::start(&Hub::new(1), disks.clone(), &joining)?;
    let made = match member.cluster.opened(&joining.options()).await {
        Ok(()) => member.cluster.create_key("cairn init", user, ADMIN).await,
        Err(error) => Err(error),
    };
    member.cluster.close().await;
    disks.close().await.map_err(|error| broken(&error))?;
    made.map_err(|error| broken(&error))
}

/// One core's part.
pub struct Member {
    /// The cluster.
    pub cluster: Cluster,
    s3: Option<JoinHandle<usize>>,
    s3_address: Option<SocketAddr>,
    /// Dropped, other nodes reach this core no more.
    rpc: Option<RpcServer>,
}

impl Member {
    /// Takes part; it has no groups until the cluster is [opened](Cluster::opened).
    ///
    /// # Errors
    /// If this core has begun already.
    pub fn start(hub: &Hub, disks: Disks, joining: &Joining) -> Result<Self, NodeError> {
        let options = joining.options();
        let cluster = if joining.peers.is_empty() {
            Cluster::start(hub, disks, Rc::new(Nobody), Peers::none(joining.node), &options)
        } else {
            let pool = Rc::new(Pool::new(joining.identity(), RpcLimits::default(), BACKOFF));
            for (node, address) in joining.peers.iter().filter(|(node, _)| *node != joining.node.0) {
                pool.set(*node, *address);
            }
            let peers = Peers { list: joining.peer_list(), calls: pool.clone() };
            Cluster::start(hub, disks, pool, peers, &options)
        };
        let cluster = cluster.map_err(|error| not_started(&error))?;
        let mut member = Self { cluster, s3: None, s3_address: None, rpc: None };
        member.serve_rpc(joining)?;
        Ok(member)
    }

    fn serve_rpc(&mut self, joining: &Joining) -> Result<(), NodeError> {
        let Some(address) = joining.rpc else { return Ok(()) };
        let clients = Rc::new(Clients::new(self.cluster.clone()));
        let raft = Rc::new(self.cluster.clone());
        let services = Services { keys: clients.clone(), slots: clients.clone(), control: clients, raft };
        let server = RpcServer::bind(address, joining.exposure, joining.identity(), RpcLimits::default(), services);
        self.rpc = Some(server.map_err(|error| NodeError::NotStarted(error.to_string()))?);
        if here().index() == 0 {
            info!(%address, "RPC listens");
        }
        Ok(())
    }

    /// Serves S3 until `stop`, as one of the cores that connections are spread over.
    ///
    /// # Errors
    /// If the address can't be listened at.
    pub fn serve_s3(
        &mut self,
        joining: &Joining,
        (spread, stop): (&Spread, &Shutdown),
        crew: &Crew,
    ) -> Result<(), NodeError> {
        let Some(address) = joining.s3 else { return Ok(()) };
        let service = Gateway::new(self.cluster.clone(), joining.s3_limits.clone());
        let server =
            Server::bind(address, Reuse::Shared, HttpLimits::default()).and_then(|server| server.spread(spread));
        let server = server.map_err(|error| NodeError::NotStarted(in_use("s3", &error)))?;
        crew.watch(service.clone(), server.watch());
        if here().index() == 0 {
            if !address.ip().is_loopback() {
                warn!(%address, "S3 can be reached from other machines, without encryption");
            }
            info!(%address, "S3 listens");
        }
        self.s3_address = Some(address);
        let stop = stop.clone();
        let serving = async move { server.serve(service, async move { stop.requested().await }).await };
        self.s3 = Some(spawn(Class::Foreground, serving));
        Ok(())
    }

    /// Where S3 listens, once it does.
    pub fn s3_address(&self) -> Option<SocketAddr> {
        self.s3_address
    }

    /// Tells other nodes that nothing is to be had here any more.
    pub async fn leave(&mut self) {
        if let Some(server) = self.rpc.take() {
            server.drain().await;
        }
    }

    /// Waits until the requests that are under way have ended.
    pub async fn served(&mut self) {
        if let Some(serving) = self.s3.take()
            && let Ok(cut) = serving.await
            && cut > 0
        {
            warn!(connections = cut, "S3 connections took too long to end and were cut off");
        }
    }
}

fn in_use(what: &str, error: &std::io::Error) -> String {
    format!("{error}; stop what listens there or choose another address with --listen-{what}")
}

/// Where something that every core serves is to listen, the port filled in: all cores share it, so nobody else may be there.
///
/// # Errors
/// If somebody else is.
pub fn claim_address(what: &str, address: SocketAddr) -> Result<SocketAddr, NodeError> {
    let claimed = Listener::bind(address, Reuse::Exclusive).and_then(|listener| listener.local_addr());
    claimed.map_err(|error| NodeError::NotStarted(in_use(what, &error)))
}
