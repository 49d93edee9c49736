//! Opening the groups of a node, the birth of a cluster, and the end of it all.
//!
//! | step | who | what |
//! | --- | --- | --- |
//! | 1 | core 0 | reads what the node wrote down of itself; of a new node, draws a lane for control and writes that down |
//! | 2 | control's core | opens control |
//! | 3 | the node with the least number | control is new: waits until a majority of the nodes answers, tells control who belongs to it, then says what the cluster is and which nodes have slots |
//! | 4 | core 0 | waits for a map that says so, or takes the one that it wrote down when nobody tells; draws lanes for slots that have none, writes them down |
//! | 5 | each core | opens its slots; of a slot's nodes the first in rank tells a new group who belongs to it |
//!
//! Every step may be interrupted: it is done again by the next start, and each changes nothing when it was done.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use cairn_io::CoreId;
use cairn_io::task::{Class, spawn};
use cairn_io::time::{self, Duration};
use cairn_meta::control::Control;
use cairn_meta::control::command::{Command, PutSetting, Refusal};
use cairn_meta::control::state::{Cluster as Born, NodeRecord};
use cairn_meta::slot::Slot;
use cairn_placement::NodeId;
use futures_util::future::{join_all, try_join_all};
use tracing::{debug, error, info, warn};

use super::follow::{follow, write_down};
use super::hub::{Core, Hub, Line};
use super::map::{SLOT_NODES, members};
use super::papers::{self, Own};
use super::peers::Peers;
use super::routes::{Routes, Spot, name_of};
use super::{CONTROL, Cluster, ClusterError, Handle, Seal};
use crate::disks::Disks;
use crate::lane::Lane;
use crate::slot::{Options as SlotOptions, Slots, Transport};

/// What a node is in its cluster.
#[derive(Clone)]
pub struct Options {
    /// Who this node is.
    pub node: NodeId,
    /// What the cluster is, when it is born.
    pub born: Born,
    /// The cluster's secret.
    pub seal: Seal,
    /// How groups are run.
    pub slot: SlotOptions,
    /// How long opening a cluster of one waits for leaders.
    pub within: Duration,
}

/// The core that opens.
const LEAD: CoreId = CoreId::new(0);
/// How often an opening node looks whether there is a leader.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How often a node that begins a cluster looks for the others, and one that joins asks for the map.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// How often it says what it waits for.
const TELL_AGAIN: Duration = Duration::from_secs(5);
/// How long a node that stops waits for others to take over what it leads.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(2);

impl Cluster {
    /// Opens a cluster of one on the lanes of this core, which is the node's only one.
    ///
    /// # Errors
    /// If a group can't be opened, or the disks belong to another cluster.
    pub async fn open(disks: Disks, transport: Rc<dyn Transport>, options: &Options) -> Result<Self, ClusterError> {
        let cluster = Self::start(&Hub::new(1), disks, transport, Peers::none(options.node), options)?;
        cluster.opened(options).await?;
        Ok(cluster)
    }

    /// This core's part of a node of a cluster, which has no groups yet; every core of the hub must start its own, then see them
    /// [opened](Self::opened).
    ///
    /// # Errors
    /// If the options make no sense, or this core has started already.
    pub fn start(
        hub: &Hub,
        disks: Disks,
        transport: Rc<dyn Transport>,
        peers: Peers,
        options: &Options,
    ) -> Result<Self, ClusterError> {
        let slots = Slots::new(options.node, transport, options.slot.clone())?;
        let core = Core::start(hub, options.node, slots, disks, options.seal.clone(), peers)?;
        Ok(Self(Rc::new(Handle { core })))
    }

    /// Opens the groups of all cores: core 0 does, the others wait for that. With peers it takes until the cluster is born,
    /// however long that is.
    ///
    /// # Errors
    /// If the disks belong to another cluster or node, or, of a cluster of one, nobody leads in time.
    pub async fn opened(&self, options: &Options) -> Result<(), ClusterError> {
        let core = self.core();
        if core.id != LEAD {
            while core.started.get().is_none() {
                core.start_bell.rung().await;
            }
            core.look_whether_held()?;
            return core.started.get().cloned().unwrap_or(Ok(()));
        }
        let opened = Box::pin(self.lead(options)).await;
        for to in core.all().skip(1) {
            let opened = opened.clone();
            let tell = move |core: Rc<Core>| async move {
                let _ = core.started.set(opened);
                core.start_bell.ring();
            };
            core.run(Line::Lead, to, tell).await?;
        }
        opened?;
        core.look_whether_held()?;
        core.tasks.borrow_mut().push(spawn(Class::Foreground, follow(Rc::downgrade(core))));
        if !core.peers.is_alone() {
            core.tasks.borrow_mut().push(spawn(Class::Maintenance, write_down(Rc::downgrade(core))));
        }
        Ok(())
    }

    async fn lead(&self, options: &Options) -> Result<(), ClusterError> {
        let core = self.core();
        let paths = core.paths().await?;
        let mut own = known(&paths, options).await?;
        if own.places.is_empty() && members(&core.map.borrow(), &core.peers, CONTROL).contains(&core.me) {
            own.places.insert(CONTROL, Spot::first(core.draw_lane(CONTROL)?));
            papers::write_own(&paths, &own).await?;
        }
        core.set_routes(&own).await?;
        core.open_groups(BTreeSet::from([CONTROL])).await?;
        if let Some(why) = core.failed_anywhere(CONTROL).await? {
            return Err(ClusterError::Broken(format!("the control group can't be opened: {why}")));
        }
        self.be_born(options, &paths).await?;
        let places = own.places.len();
        for slot in 0..self.map().born().slots {
            let is_member = members(&self.map(), &core.peers, slot).contains(&core.me);
            if is_member && !own.places.contains_key(&slot) {
                own.places.insert(slot, Spot::first(core.draw_lane(slot)?));
            }
        }
        let written = papers::write_own(&paths, &own).await;
        match written {
            // A disk that lacks what others have gets it next time.
            Err(error) if own.places.len() == places => warn!(%error, "a disk has no copy of the node's papers"),
            written => written?,
        }
        core.set_routes(&own).await?;
        core.open_groups((0..self.map().born().slots).collect()).await?;
        if core.peers.is_alone() {
            self.await_leaders(options.within).await;
        }
        Ok(())
    }

    /// Steps 3 and 4: returns when this core's map says what the cluster is.
    async fn be_born(&self, options: &Options, paths: &[String]) -> Result<(), ClusterError> {
        let core = self.core();
        let is_first = core.peers.nodes().iter().min() == Some(&core.me);
        // Alone, it is control.
        let written = if core.peers.is_alone() { None } else { papers::read_map(paths).await };
        let mut written = written.filter(|map| map.cluster.is_some_and(|cluster| cluster.id == options.born.id));
        if written.is_none() && is_first && core.core_of(CONTROL).is_some() {
            self.begin_control().await?;
        }
        let (begun, mut told) = (time::now(), None::<time::Instant>);
        loop {
            if let Some(why) = core.control_stopped().await? {
                // Only a restart makes it whole: waiting for others would be in vain.
                return Err(ClusterError::Broken(format!("the control group has stopped on this node: {why}")));
            }
            let ready = core.look_for_birth(is_first, options.born).await;
            match ready {
                Ok(true) => break,
                Err(error @ (ClusterError::ControlRefused(_) | ClusterError::Broken(_))) => return Err(error),
                Err(error) if written.is_some() => {
                    warn!(%error, "nobody tells what the control group knows: going on with what was written down of it");
                    core.spread(written.take().unwrap_or_default()).await?;
                    if is_first {
                        let later = spawn(Class::Foreground, tell_later(Rc::downgrade(core), options.born));
                        core.tasks.borrow_mut().push(later);
                    }
                    break;
                }
                Err(error) if core.peers.is_alone() && begun.elapsed() > options.within => return Err(error),
                Err(error) if told.is_none_or(|told| told.elapsed() > TELL_AGAIN) => {
                    info!(%error, "waiting for the control group");
                    told = Some(time::now());
                }
                Ok(false) | Err(_) => {}
            }
            time::sleep(ASK_AGAIN).await;
        }
        match self.map().born() {
            Born { id, .. } if id != options.born.id => Err(ClusterError::ControlRefused(Refusal::Born { id })),
            _ => Ok(()),
        }
    }

    /// Waits until most nodes answer, and tells a new control group who belongs to it.
    async fn begin_control(&self) -> Result<(), ClusterError> {
        let core = self.core();
        let owner = core.core_of(CONTROL).ok_or_else(|| ClusterError::Broken("control isn't here".to_owned()))?;
        let is_new = |core: Rc<Core>| async move { core.slots.status(CONTROL).map(|status| status.last.is_none()) };
        if !core.run(Line::Lead, owner, is_new).await?.unwrap_or(false) {
            return Ok(());
        }
        let others: Vec<NodeId> = core.peers.nodes().into_iter().filter(|node| *node != core.me).collect();
        loop {
            let there = join_all(others.iter().map(|node| core.peers.calls.is_there(*node, ASK_AGAIN * 5))).await;
            let count = 1 + there.into_iter().filter(|there| *there).count();
            if count * 2 > others.len() + 1 {
                break;
            }
            info!(nodes = others.len() + 1, there = count, "waiting for most nodes of the cluster, to begin it");
            time::sleep(ASK_AGAIN).await;
        }
        let voters: BTreeSet<NodeId> = members(&self.map(), &core.peers, CONTROL).into_iter().collect();
        core.run(Line::Lead, owner, move |core| async move { core.slots.create(CONTROL, &voters).await }).await??;
        Ok(())
    }

    /// Waits until every group that is here has a leader; one that has none is told about by the node's status.
    async fn await_leaders(&self, within: Duration) {
        let begun = time::now();
        while self.groups().await.leaderless > 0 {
            if begun.elapsed() > within {
                warn!("some groups have no leader; `cairn status` says which have stopped");
                return;
            }
            time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Hands over what this node leads, and stops the groups of all its cores. To be called on one core.
    pub async fn close(&self) {
        let core = self.core();
        let close = |to| {
            core.run(Line::Lead, to, |core| async move {
                core.slots.hand_over(HAND_OVER_WITHIN).await;
                core.slots.close().await;
            })
        };
        // A core that has gone has no groups.
        let _ = join_all(core.all().map(close)).await;
    }
}

/// Tells control what the first node tells it at its start, once somebody listens.
async fn tell_later(core: Weak<Core>, born: Born) {
    while let Some(here) = core.upgrade() {
        match here.look_for_birth(true, born).await {
            Ok(_) => return,
            Err(error) => debug!(%error, "the control group isn't to be had yet"),
        }
        drop(here);
        time::sleep(ASK_AGAIN).await;
    }
}

/// What the node wrote down of itself, if that is of this cluster; nothing for a new node.
async fn known(paths: &[String], options: &Options) -> Result<Own, ClusterError> {
    let Options { node, born, .. } = options;
    let Some(own) = papers::read_own(paths).await? else {
        return Ok(Own { cluster: born.id, node: *node, places: super::routes::Places::new() });
    };
    if own.cluster != born.id {
        return Err(ClusterError::ControlRefused(Refusal::Born { id: own.cluster }));
    }
    if own.node != *node {
        let (own, node) = (own.node.0, node.0);
        let message = format!(
            "these disks are node {own}'s, and the configuration says node {node}: set cluster.node = {own}, or use that node's disks"
        );
        return Err(ClusterError::Broken(message));
    }
    Ok(own)
}

impl Core {
    /// Whether the map says what the cluster is; who began it says so first.
    async fn look_for_birth(self: &Rc<Self>, is_first: bool, born: Born) -> Result<bool, ClusterError> {
        let map = || self.map.borrow().clone();
        self.catch_up().await?;
        if is_first {
            if map().cluster.is_none() {
                self.control("cairn", None, Command::Birth(born)).await?;
            }
            for peer in &self.peers.list {
                let known = map().nodes.iter().find(|node| node.id == peer.node.0).cloned();
                if known.as_ref().is_none_or(|known| known.address != peer.address) {
                    let (id, address) = (peer.node.0, peer.address.clone());
                    let record = NodeRecord { id, address, ..known.unwrap_or_default() };
                    self.control("cairn", None, Command::PutNode(record)).await?;
                }
            }
            if map().slot_nodes().is_empty() {
                let numbers: Vec<String> = self.peers.nodes().iter().map(|node| node.0.to_string()).collect();
                let value = Some(numbers.join(","));
                let setting = PutSetting { name: SLOT_NODES.to_owned(), value, expected: None };
                self.control("cairn", None, Command::PutSetting(setting)).await?;
            }
        }
        Ok(map().cluster.is_some() && !map().slot_nodes().is_empty())
    }

    /// Where the node's disks are.
    pub(super) async fn paths(&self) -> Result<Vec<String>, ClusterError> {
        Ok(self.disks.status().await?.disks.into_iter().filter_map(|disk| disk.path).collect())
    }

    fn draw_lane(&self, slot: u32) -> Result<u32, ClusterError> {
        let lane = self.disks.lane_for(&name_of(slot));
        lane.ok_or_else(|| {
            ClusterError::Broken("no disk of this node takes data; add one with `cairn disk add`".to_owned())
        })
    }

    /// Tells every core where slots are.
    pub(super) async fn set_routes(self: &Rc<Self>, own: &Own) -> Result<(), ClusterError> {
        let routes = Arc::new(Routes::new(&own.places, &self.disks));
        for (slot, lane) in routes.missing() {
            error!(slot, lane, "the lane of a slot is missing: this node has no part in it until the disk is back");
        }
        let set = |to| {
            let routes = routes.clone();
            self.run(Line::Lead, to, move |core| async move { drop(core.routes.replace(routes)) })
        };
        try_join_all(self.all().map(set)).await.map(drop)
    }

    /// Has every core open those of these slots that are its own.
    pub(super) async fn open_groups(self: &Rc<Self>, slots: BTreeSet<u32>) -> Result<(), ClusterError> {
        let slots = Arc::new(slots);
        let open = |to| {
            let slots = slots.clone();
            self.run(Line::Lead, to, move |core| async move { core.open_own(&slots).await })
        };
        try_join_all(self.all().map(open)).await.map(drop)
    }

    async fn open_own(&self, slots: &BTreeSet<u32>) {
        let own: Vec<(u32, u32)> =
            self.routes.borrow().of_core(self.id).filter(|(slot, _)| slots.contains(slot)).collect();
        let lanes: BTreeMap<u32, Lane> = self.disks.own_lanes().into_iter().collect();
        let open = own.into_iter().map(|(slot, lane)| {
            let lane = lanes.get(&lane);
            async move { (slot, self.open_slot(slot, lane).await) }
        });
        for (slot, opened) in join_all(open).await {
            if let Err(error) = opened {
                error!(slot, %error, "a group can't be opened: this node has no part in it");
                self.failed.borrow_mut().insert(slot, error.to_string());
            } else {
                self.failed.borrow_mut().remove(&slot);
            }
        }
    }

    async fn control_stopped(self: &Rc<Self>) -> Result<Option<String>, ClusterError> {
        let Some(owner) = self.core_of(CONTROL) else { return Ok(None) };
        let stopped = self.run(Line::Lead, owner, |core| async move { core.slots.stopped(CONTROL) }).await?;
        Ok(stopped.unwrap_or(None))
    }

    async fn failed_anywhere(self: &Rc<Self>, slot: u32) -> Result<Option<String>, ClusterError> {
        let Some(owner) = self.core_of(slot) else { return Ok(None) };
        self.run(Line::Lead, owner, move |core| async move { core.failed.borrow().get(&slot).cloned() }).await
    }

    async fn open_slot(&self, slot: u32, lane: Option<&Lane>) -> Result<(), ClusterError> {
        let lane = lane.ok_or_else(|| ClusterError::Broken("its lane is not open on this core".to_owned()))?;
        if slot == CONTROL {
            return Ok(self.slots.open(slot, lane, Rc::new(Control)).await?);
        }
        self.slots.open(slot, lane, Rc::new(Slot)).await?;
        let members = members(&self.map.borrow(), &self.peers, slot);
        // Whoever says so is likely to lead: the first in rank is another node for each slot.
        if members.first() == Some(&self.me) {
            self.slots.create(slot, &members.into_iter().collect()).await?;
        }
        Ok(())
    }
}
