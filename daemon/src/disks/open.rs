//! Making the disks of a node, and opening them: which are the node's, which map counts, where each lane is.
//!
//! | what is found | how it is told | what is done |
//! | --- | --- | --- |
//! | all disks of the map with the same map | | it counts as it is |
//! | maps that differ: a crash between two writes, a disk that was away | epochs or bytes | the highest epoch counts, chunks may be anywhere |
//! | a disk of the map isn't there, or can't be read | | its lanes are missing, the others open |
//! | half of the disks or more aren't there | | and chunks may be anywhere: those that are away may know better |
//! | a lane can't be opened, or is another | its name and number | it is missing, the others open |
//! | a disk of another node | its label | it isn't used; of two nodes with as many disks neither is opened |
//! | a disk that was removed, or never added | its label, the map | it isn't used |
//! | the same disk twice | its name | neither is used: nobody knows which is the newer |
//! | a newer format | its version | it isn't used |
//! | no disk with a map | | nothing is opened |

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use cairn_io::CoreId;
use cairn_io::fs::Dir;
use cairn_io::log::Log;
use cairn_io::task::Class;
use futures_util::future::join_all;
use tracing::warn;

use super::change::Lead;
use super::files::{DiskDir, DiskError, draw};
use super::hub::{Core, Hub, Line, OwnLane};
use super::map::{LaneEntry, LaneMap, Membership, Uid};
use super::view::{Place, Places, Routing, View};
use super::{Disks, DisksError, Handle, LEAD, Options};
use crate::lane::Lane;

/// How new disks are made.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// Lanes on each disk.
    pub lanes: u32,
    /// The length of a segment.
    pub segment_bytes: u32,
}

impl Default for Format {
    fn default() -> Self {
        Self { lanes: 1, segment_bytes: 256 << 20 }
    }
}

/// Makes the disks of a new node, in empty directories. What was broken off goes on.
///
/// # Errors
/// If they are disks already, are not empty, or can't be written.
pub async fn format(data: &[String], cluster: Uid, how: Format) -> Result<LaneMap, DisksError> {
    let wrong = |path: &String, error| DisksError::Disk { path: path.clone(), error };
    if how.lanes == 0 || data.is_empty() {
        return Err(DisksError::Refused("a node needs at least one disk, and a disk at least one lane".to_owned()));
    }
    let mut node = None;
    for path in data {
        // What was begun belongs to a node already.
        node = node.or(DiskDir::open(path).await.ok().map(|disk| disk.label().node));
    }
    let node = node.unwrap_or_else(draw);
    let mut disks = Vec::new();
    for path in data {
        let disk = DiskDir::prepare(path, node, cluster).await.map_err(|error| wrong(path, error))?;
        let label = disk.label();
        if label.node != node {
            return Err(wrong(path, DiskError::OtherNode { node: label.node, ours: node }));
        }
        if label.membership == Membership::Removed {
            return Err(wrong(path, DiskError::Removed));
        }
        if disk.map().is_some() {
            return Err(DisksError::Refused(format!("{path} is a disk of node {node} already; nothing was changed")));
        }
        disks.push(disk);
    }
    let (mut map, mut is_new) = (LaneMap::new(node, cluster), true);
    for disk in &disks {
        let mut names = Vec::new();
        for number in map.next_lane..map.next_lane + how.lanes {
            let made = disk.make_lane(number, how.segment_bytes).await.map_err(|error| wrong(&disk.path, error))?;
            names.push(made.0);
            is_new &= made.1;
        }
        let space = disk.space().await.map_err(|error| wrong(&disk.path, error.into()))?;
        map = map.with_disk(disk.label().disk, space.total, &names);
    }
    map.is_settled = is_new;
    for disk in &disks {
        disk.write_map(&map).await.map_err(|error| wrong(&disk.path, error))?;
    }
    Ok(map)
}

/// The disks that are the node's and could be opened.
pub struct Found {
    pub disks: Vec<Rc<DiskDir>>,
    pub map: LaneMap,
    /// Directories that were named and aren't used, and why.
    pub troubles: Vec<(String, DiskError)>,
}

impl Disks {
    /// Opens this core's part of the node's disks; every core of the hub must do so. Core 0 finds the disks; each core opens
    /// its lanes. Returns when all are open.
    ///
    /// # Errors
    /// If no disk can be opened, or a core fails.
    pub async fn open(hub: &Hub, options: Options) -> Result<Self, DisksError> {
        let core = Core::start(hub, options)?;
        let disks = Self(Rc::new(Handle { core: core.clone() }));
        if core.id == LEAD {
            let opened = open_all(&core).await;
            let told = opened.as_ref().map(drop).map_err(ToString::to_string);
            tell(&core, told).await?;
            opened?;
            return Ok(disks);
        }
        while core.started.borrow().is_none() {
            core.start_bell.rung().await;
        }
        let started = core.started.borrow().clone();
        match started {
            Some(Err(reason)) => Err(DisksError::Open(reason)),
            _ => Ok(disks),
        }
    }

    /// Ends all cores' part: waits for what is under way and closes the lanes. To be called on one core.
    ///
    /// # Errors
    /// If a lane can't be closed in order; nothing is lost by that.
    pub async fn close(&self) -> Result<(), DisksError> {
        let core = self.core();
        let close = |to| core.run(Line::Lead, Class::Foreground, to, |core| async move { core.close_lanes().await });
        let closed = join_all((0..core.cores).map(CoreId::new).map(close)).await;
        if let Some(lead) = core.lead.borrow_mut().take() {
            lead.forget_disks();
        }
        closed.into_iter().try_for_each(|closed| closed?)
    }
}

/// Tells the other cores how it ended.
async fn tell(core: &Rc<Core>, ended: Result<(), String>) -> Result<(), DisksError> {
    for to in (1..core.cores).map(CoreId::new) {
        let ended = ended.clone();
        let start = move |core: Rc<Core>| async move {
            core.started.replace(Some(ended));
            core.start_bell.ring();
        };
        core.run(Line::Lead, Class::Foreground, to, start).await?;
    }
    Ok(())
}

async fn open_all(core: &Rc<Core>) -> Result<(), DisksError> {
    let found = find(&core.options.data).await?;
    let mut places = Places::new();
    let paths: BTreeMap<Uid, &Rc<DiskDir>> = found.disks.iter().map(|disk| (disk.label().disk, disk)).collect();
    let mut opening = Vec::new();
    for (at, lane) in found.map.lanes.iter().enumerate() {
        let Some(disk) = paths.get(&lane.disk) else {
            places.insert(lane.number, Place::Missing("its disk is not there".into()));
            continue;
        };
        let to = CoreId::new(at % core.cores);
        let (path, lane) = (disk.lane_path(lane.number), *lane);
        opening.push(async move { (lane.number, open_lane(core, to, path, lane).await) });
    }
    for (number, place) in join_all(opening).await {
        places.insert(number, place?);
    }
    let map = Arc::new(found.map);
    let routing = if map.is_settled { Routing::Home } else { Routing::Search { is_open: true } };
    let view = View::new(map.clone(), Arc::new(places), routing);
    let lead = Lead::new(found.disks, found.troubles, view.clone());
    lead.install(core, &view).await?;
    core.lead.replace(Some(Rc::new(lead)));
    Ok(())
}

/// Opens a lane on a core; that it can't be opened makes it missing.
pub async fn open_lane(core: &Rc<Core>, to: CoreId, path: String, lane: LaneEntry) -> Result<Place, DisksError> {
    let open = move |core: Rc<Core>| async move { core.open_own(&path, &lane).await };
    Ok(match core.run(Line::Lane, Class::Foreground, to, open).await? {
        Ok(()) => Place::Core(to),
        Err(error) => Place::Missing(error.to_string().into()),
    })
}

impl Core {
    async fn open_own(&self, path: &str, entry: &LaneEntry) -> Result<(), DisksError> {
        let dir = Dir::open(path).await?;
        let superblock = Log::superblock_of(&dir).await.map_err(|error| DisksError::Lane(error.into()))?;
        if (superblock.number, Uid(superblock.lane)) != (entry.number, entry.name) {
            let LaneEntry { number, name, .. } = entry;
            let there = format!("lane {} ({})", superblock.number, Uid(superblock.lane));
            return Err(DisksError::Open(format!(
                "{path} has {there}, and the map says lane {number} ({name}); put the right directory back"
            )));
        }
        let (lane, found) = Lane::open(&dir, (self.options.index)(path), self.options.lane.clone()).await?;
        if found.is_made_anew {
            let (lane, records, bytes) = (entry.number, found.records, found.bytes);
            warn!(lane, records, bytes, "the index was lost, or never committed: it was made anew from the whole log");
        }
        let own = OwnLane { lane, doubtful: std::cell::RefCell::default() };
        self.lanes.borrow_mut().insert(entry.number, Rc::new(own));
        Ok(())
    }

    /// Closes a lane of this core.
    pub async fn close_own(&self, number: u32) -> Result<(), DisksError> {
        let own = self.lanes.borrow_mut().remove(&number);
        match own {
            Some(own) => Ok(own.lane.close().await?),
            None => Ok(()),
        }
    }

    async fn close_lanes(&self) -> Result<(), DisksError> {
        let lanes: Vec<u32> = self.lanes.borrow().keys().copied().collect();
        let mut closed = Ok(());
        for lane in lanes {
            closed = closed.and(self.close_own(lane).await);
        }
        closed
    }
}

/// Finds out which of these directories are the node's disks, and which map counts.
async fn find(data: &[String]) -> Result<Found, DisksError> {
    let (mut disks, mut troubles) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for path in data {
        if !seen.insert(path.trim_end_matches('/')) {
            return Err(DisksError::Open(format!("`data` names {path} twice; name each disk once")));
        }
        match DiskDir::open(path).await {
            Ok(disk) => disks.push(disk),
            Err(error) => troubles.push((path.clone(), error)),
        }
    }
    drop_doubles(&mut disks, &mut troubles);
    drop_strangers(&mut disks, &mut troubles)?;
    let newest = disks.iter().filter_map(DiskDir::map).max_by_key(|map| (map.epoch, map.encode()));
    let Some(mut map) = newest else {
        return Err(DisksError::Open(format!("no disk of a node can be opened; {}", reasons(&troubles))));
    };
    let (members, others): (Vec<_>, Vec<_>) = disks.into_iter().partition(|disk| map.disk(disk.label().disk).is_some());
    for disk in others {
        let label = disk.label();
        let was_removed = label.membership == Membership::Removed || map.removed.contains(&label.disk);
        troubles.push((disk.path, if was_removed { DiskError::Removed } else { DiskError::Unknown }));
    }
    let is_most = members.len() * 2 > map.disks.len();
    if members.iter().any(|disk| disk.map().as_ref() != Some(&map)) || map.is_settled && !is_most {
        map = map.next(false);
    }
    let mut disks = Vec::new();
    for disk in members {
        match disk.map() {
            Some(has) if has == map => disks.push(Rc::new(disk)),
            // A disk that doesn't take the map must not be written to under it.
            _ => match disk.write_map(&map).await {
                Ok(()) => disks.push(Rc::new(disk)),
                Err(error) => troubles.push((disk.path, error)),
            },
        }
    }
    if disks.is_empty() {
        return Err(DisksError::Open(format!("no disk of the node can be written; {}", reasons(&troubles))));
    }
    Ok(Found { disks, map, troubles })
}

fn reasons(troubles: &[(String, DiskError)]) -> String {
    troubles.iter().map(|(path, error)| format!("{path}: {error}")).collect::<Vec<_>>().join("; ")
}

/// Of a disk that is there twice, nobody knows which is the newer.
fn drop_doubles(disks: &mut Vec<DiskDir>, troubles: &mut Vec<(String, DiskError)>) {
    let mut paths = BTreeMap::<Uid, Vec<String>>::new();
    disks.iter().for_each(|disk| paths.entry(disk.label().disk).or_default().push(disk.path.clone()));
    for mut paths in paths.into_values().filter(|paths| paths.len() > 1) {
        disks.retain(|disk| !paths.contains(&disk.path));
        paths.rotate_left(1);
        let others = paths.clone();
        paths.rotate_left(1);
        troubles.extend(paths.into_iter().zip(others).map(|(path, other)| (path, DiskError::Twice(other))));
    }
}

/// Keeps the disks of the node that has most of them.
fn drop_strangers(disks: &mut Vec<DiskDir>, troubles: &mut Vec<(String, DiskError)>) -> Result<(), DisksError> {
    let mut counts = BTreeMap::<Uid, usize>::new();
    disks.iter().for_each(|disk| *counts.entry(disk.label().node).or_default() += 1);
    let Some((&ours, &most)) = counts.iter().max_by_key(|(_, count)| **count) else { return Ok(()) };
    if counts.values().filter(|count| **count == most).count() > 1 {
        let nodes: Vec<String> = counts.keys().map(ToString::to_string).collect();
        let nodes = nodes.join(" and ");
        return Err(DisksError::Open(format!("`data` names disks of different nodes: {nodes}; name those of one")));
    }
    let (own, others): (Vec<_>, Vec<_>) = std::mem::take(disks).into_iter().partition(|disk| disk.label().node == ours);
    *disks = own;
    let trouble = |disk: DiskDir| {
        let node = disk.label().node;
        (disk.path, DiskError::OtherNode { node, ours })
    };
    troubles.extend(others.into_iter().map(trouble));
    Ok(())
}
