//! Changes of the lane map while the node serves. Core 0 makes them, one at a time.
//!
//! | step | every core's view | why |
//! | --- | --- | --- |
//! | 1 | old map; lanes of both maps; search, closed | from here on writes of a chunk are guided, nothing moves or goes elsewhere, and who looks for a chunk asks the new lanes too |
//! | 2 | | the new map is written to every disk that takes writes |
//! | 3 | new map; lanes of both maps; search, closed | chunks are placed by the new map |
//! | 4 | new map; its lanes; search, closed | nobody asks the lanes that left; they are closed |
//! | 5 | new map; its lanes; home if it is settled, else search, open | everybody places by the new map: moving begins |
//!
//! A step begins when the one before is over on every core. Within step 1 some cores still use the home alone: they agree
//! with the others, as nothing but the home is written to. Within step 3 a chunk may be placed by either map, but always by
//! its guide's, and everybody searches. As nothing moves from step 1 to step 5, a view sees moves of one map only.
//!
//! A disk that doesn't take the map in step 2 is written to no more. If none takes it, or a new one doesn't, the old view is
//! installed again, and the next start, which finds maps that differ, takes the newer one and lets chunks be anywhere. But a
//! disk that has taken a *settled* map may be the only one there is then; so the view stays closed until a map that isn't
//! settled has been written over it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use cairn_io::fs::Space;
use cairn_io::task::Class;
use cairn_io::{Bell, CoreId};
use futures_util::future::{join_all, try_join_all};

use super::files::{DiskDir, DiskError};
use super::hub::{Core, Line};
use super::map::{DISKS_MAX, DiskEntry, DiskState, LANES_MAX, LaneEntry, LaneMap, Membership, Uid};
use super::open::{Format, open_lane};
use super::settle::{Passed, slots_of, stays};
use super::view::{Place, Places, Routing, View};
use super::{Disks, DisksError, LEAD};
use crate::lane;
use crate::line::to_the_end;

/// Who changes the map.
pub struct Lead {
    /// The disks that are there.
    disks: RefCell<Vec<Rc<DiskDir>>>,
    /// Directories that were named and aren't used, and why.
    troubles: Vec<(String, DiskError)>,
    /// What every core believes.
    view: RefCell<View>,
    /// The highest epoch that was ever written, also where that failed.
    epoch_max: Cell<u64>,
    /// Whether a change is under way; rung when it is over.
    is_changing: Cell<bool>,
    free: Bell,
    /// What the lanes found when they were gone through last.
    passed: RefCell<BTreeMap<u32, Passed>>,
    /// Displaced chunks that those passes have dealt with.
    displaced: Cell<u64>,
}

/// What one sees of a node's disks.
#[derive(Debug)]
pub struct Status {
    /// The map that counts.
    pub map: Arc<LaneMap>,
    /// The disks of the map.
    pub disks: Vec<DiskStatus>,
    /// Their lanes.
    pub lanes: Vec<LaneStatus>,
    /// Directories that were named and aren't used, and why.
    pub troubles: Vec<(String, String)>,
}

/// What one sees of a disk.
#[derive(Debug)]
pub struct DiskStatus {
    /// What the map says.
    pub entry: DiskEntry,
    /// Where it is; `None` if it isn't there.
    pub path: Option<String>,
    /// Room on its file system, if that says.
    pub space: Option<Space>,
    /// Of a disk that is to be emptied: the slots that are still in its lanes.
    pub slots_to_move: u64,
    /// Of a disk that is to be emptied: what keeps it in the node although chunks and slots have moved.
    pub held_by: Vec<String>,
}

/// What one sees of a lane.
#[derive(Debug)]
pub struct LaneStatus {
    /// What the map says.
    pub entry: LaneEntry,
    /// The rest.
    pub state: LaneState,
}

/// Whether a lane is there.
#[derive(Debug)]
pub enum LaneState {
    /// It is.
    Open {
        /// The core it belongs to.
        core: CoreId,
        /// Chunks in it.
        chunks: u64,
        /// Their bytes.
        bytes: u64,
        /// What the lane says.
        lane: Box<lane::Status>,
    },
    /// It isn't; why.
    Missing(String),
}

/// A change that is under way; others wait.
struct Changing(Rc<Lead>);

impl Drop for Changing {
    fn drop(&mut self) {
        self.0.is_changing.set(false);
        self.0.free.ring();
    }
}

impl Core {
    /// Who changes the map; on core 0 of a node that is open.
    pub fn lead(&self) -> Result<Rc<Lead>, DisksError> {
        self.lead.borrow().clone().ok_or(DisksError::Stopped(self.id))
    }
}

impl Disks {
    /// Adds a disk: makes it in an empty directory, or takes one that was made for this node but never used, and gives it
    /// its share. Returns when every core uses it; chunks move there from then on.
    ///
    /// # Errors
    /// If it can't be made, or the map can't be written.
    pub async fn add(&self, path: &str, format: Format) -> Result<Uid, DisksError> {
        let path = path.to_owned();
        self.lead(move |core, lead| async move { lead.add(&core, &path, format).await }).await
    }

    /// Has a disk emptied: it is given nothing any more, and what it has moves to the others. When it is empty it is taken
    /// out of the map. Whether there is room is for [`Disks::plan`] to say.
    ///
    /// # Errors
    /// If there is no such disk, or no other one that takes its chunks.
    pub async fn evacuate(&self, disk: Uid) -> Result<(), DisksError> {
        self.lead(move |core, lead| async move { lead.set_state(&core, disk, DiskState::Leaving).await }).await
    }

    /// Takes a disk back that was to be emptied.
    ///
    /// # Errors
    /// If there is no such disk.
    pub async fn keep(&self, disk: Uid) -> Result<(), DisksError> {
        self.lead(move |core, lead| async move { lead.set_state(&core, disk, DiskState::Active).await }).await
    }

    /// Takes a disk out of the map that is not there and won't come back. What was on it is lost to this node. If only disks
    /// are left that were to be emptied, they are taken back: what is on them has nowhere else to go.
    ///
    /// # Errors
    /// If the disk is there, or is the last one.
    pub async fn give_up(&self, disk: Uid) -> Result<(), DisksError> {
        self.lead(move |core, lead| async move { lead.give_up(&core, disk).await }).await
    }

    /// Sets what a disk's share is counted by (`Some`), or has it follow its capacity again (`None`).
    ///
    /// # Errors
    /// If there is no such disk.
    pub async fn weigh(&self, disk: Uid, weight_bytes: Option<u64>) -> Result<(), DisksError> {
        self.lead(move |core, lead| async move { lead.weigh(&core, disk, weight_bytes).await }).await
    }

    /// Has the weights that weren't set follow what the disks' capacities are now. True if any changed.
    ///
    /// # Errors
    /// If the map can't be written.
    pub async fn follow_capacities(&self) -> Result<bool, DisksError> {
        self.lead(|core, lead| async move { lead.follow_capacities(&core).await }).await
    }

    /// What one sees of the disks and lanes.
    ///
    /// # Errors
    /// If a core doesn't answer.
    pub async fn status(&self) -> Result<Status, DisksError> {
        let core = self.core();
        let get = |core: Rc<Core>| async move { core.lead()?.status(&core).await };
        core.run(Line::Lead, Class::Foreground, LEAD, get).await?
    }

    /// The map that counts.
    pub fn map(&self) -> Arc<LaneMap> {
        self.core().enter().map.clone()
    }

    /// A change on core 0, which goes on to its end whoever waits.
    async fn lead<T, F>(&self, work: impl FnOnce(Rc<Core>, Rc<Lead>) -> F + Send + 'static) -> Result<T, DisksError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, DisksError>> + 'static,
    {
        let core = self.core().clone();
        let change = move |core: Rc<Core>| async move {
            let lead = core.lead()?;
            work(core, lead).await
        };
        to_the_end(Class::Foreground, async move { core.run(Line::Lead, Class::Foreground, LEAD, change).await? })
            .await?
    }
}

impl Lead {
    /// Of a node that was just opened.
    pub fn new(disks: Vec<Rc<DiskDir>>, troubles: Vec<(String, DiskError)>, view: View) -> Self {
        Self {
            disks: RefCell::new(disks),
            troubles,
            epoch_max: Cell::new(view.map.epoch),
            view: RefCell::new(view),
            is_changing: Cell::new(false),
            free: Bell::default(),
            passed: RefCell::default(),
            displaced: Cell::new(0),
        }
    }

    /// Lets go of the disks.
    pub fn forget_disks(&self) {
        self.disks.take();
    }

    /// Replaces every core's view; returns when that is over, with how many chunks were displaced so far.
    pub async fn install(&self, core: &Rc<Core>, view: &View) -> Result<u64, DisksError> {
        let install = |to| {
            let view = view.clone();
            core.run(Line::Lead, Class::Foreground, to, move |core| async move { core.install(view).await })
        };
        let displaced = try_join_all((0..core.cores).map(CoreId::new).map(install)).await?;
        self.view.replace(view.clone());
        Ok(displaced.iter().sum())
    }

    async fn begin(self: &Rc<Self>) -> Changing {
        while self.is_changing.replace(true) {
            self.free.rung().await;
        }
        Changing(self.clone())
    }

    fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// Makes `next` the map that counts: the table above.
    async fn change(&self, core: &Rc<Core>, next: LaneMap, more: Places) -> Result<(), DisksError> {
        let before = self.view();
        let mut places = (*before.places).clone();
        places.extend(more);
        let both = Arc::new(places.clone());
        let guarded = View::new(before.map.clone(), both.clone(), Routing::Search { is_open: false });
        self.install(core, &guarded).await?;
        let epoch = next.epoch.max(self.epoch_max.get() + 1);
        let next = Arc::new(LaneMap { epoch, ..next });
        self.epoch_max.set(epoch);
        if let Err(error) = self.write(core, &before, &next).await {
            // A disk may have it all the same. If it says that every chunk is at home, that must stay true.
            let is_safe = !next.is_settled || before.routing == Routing::Home;
            self.install(core, if is_safe { &before } else { &guarded }).await?;
            return Err(error);
        }
        self.passed.borrow_mut().clear();
        let closed = Routing::Search { is_open: false };
        self.install(core, &View::new(next.clone(), both, closed)).await?;
        let left: Vec<(u32, Place)> =
            places.iter().filter(|(lane, _)| next.lane(**lane).is_none()).map(|(l, p)| (*l, p.clone())).collect();
        places.retain(|lane, _| next.lane(*lane).is_some());
        let places = Arc::new(places);
        if !left.is_empty() {
            self.install(core, &View::new(next.clone(), places.clone(), closed)).await?;
            self.close(core, left).await;
        }
        let routing = if next.is_settled { Routing::Home } else { Routing::Search { is_open: true } };
        self.install(core, &View::new(next.clone(), places, routing)).await.map(drop)
    }

    /// Writes a map to every disk. One that doesn't take it is written to no more, or it would have what the map should tell
    /// of: its lanes are poisoned. It must not keep the others from changing.
    async fn write(&self, core: &Rc<Core>, view: &View, map: &LaneMap) -> Result<(), DisksError> {
        let disks = self.disks.borrow().clone();
        let write = |disk: Rc<DiskDir>| async move {
            let written = disk.write_map(map).await;
            (disk, written)
        };
        let written = join_all(disks.into_iter().map(write)).await;
        if written.iter().all(|(_, written)| written.is_err()) {
            let reasons: Vec<String> =
                written.iter().filter_map(|(disk, w)| Some(format!("{}: {}", disk.path, w.as_ref().err()?))).collect();
            return Err(DisksError::Refused(format!("no disk takes the lane map; {}", reasons.join("; "))));
        }
        for (disk, written) in written {
            let Err(error) = written else { continue };
            let id = disk.label().disk;
            let lanes: BTreeSet<u32> = map.lanes_of(id).chain(view.map.lanes_of(id)).map(|lane| lane.number).collect();
            // A new disk must take it: nobody would know of it.
            if lanes.iter().any(|lane| !view.places.contains_key(lane)) {
                return Err(DisksError::Disk { path: disk.path.clone(), error });
            }
            self.poison(core, view, lanes, &format!("its disk didn't take the lane map ({error})")).await?;
        }
        Ok(())
    }

    async fn poison(&self, core: &Rc<Core>, view: &View, lanes: BTreeSet<u32>, reason: &str) -> Result<(), DisksError> {
        for lane in lanes {
            let (Some(to), reason) = (view.core_of(lane), reason.to_owned()) else { continue };
            let poison = move |core: Rc<Core>| async move {
                core.own(lane)?.lane.log().poison(&reason);
                Ok::<_, DisksError>(())
            };
            core.run(Line::Lane, Class::Foreground, to, poison).await??;
        }
        Ok(())
    }

    async fn close(&self, core: &Rc<Core>, lanes: Vec<(u32, Place)>) {
        for (lane, place) in lanes {
            if let Place::Core(to) = place {
                let close = move |core: Rc<Core>| async move { core.close_own(lane).await };
                // Nothing in it is needed any more.
                let _ = core.run(Line::Lane, Class::Foreground, to, close).await;
            }
        }
    }

    /// Lets chunks be in other lanes than their home, and be moved, unless the map has changed since `epoch` anyway.
    pub async fn allow_elsewhere(self: &Rc<Self>, core: &Rc<Core>, epoch: u64) -> Result<(), DisksError> {
        let _changing = self.begin().await;
        let view = self.view();
        if view.map.epoch != epoch || view.routing == (Routing::Search { is_open: true }) {
            return Ok(());
        }
        self.change(core, view.map.next(false), Places::new()).await
    }

    async fn add(self: &Rc<Self>, core: &Rc<Core>, path: &str, format: Format) -> Result<Uid, DisksError> {
        let _changing = self.begin().await;
        let view = self.view();
        let map = &view.map;
        let wrong = |error| DisksError::Disk { path: path.to_owned(), error };
        if format.lanes == 0 {
            return Err(DisksError::Refused("a disk needs at least one lane".to_owned()));
        }
        if map.disks.len() >= DISKS_MAX || map.lanes.len() + format.lanes as usize > LANES_MAX {
            return Err(DisksError::Refused(format!("a node has at most {DISKS_MAX} disks and {LANES_MAX} lanes")));
        }
        if self.disks.borrow().iter().any(|disk| disk.path == path) {
            return Err(DisksError::Refused(format!("{path} is one of this node's disks already")));
        }
        let disk = DiskDir::prepare(path, map.node, map.cluster).await.map_err(wrong)?;
        let label = disk.label();
        if label.node != map.node {
            return Err(wrong(DiskError::OtherNode { node: label.node, ours: map.node }));
        }
        if label.membership == Membership::Removed || map.removed.contains(&label.disk) {
            return Err(wrong(DiskError::Removed));
        }
        if map.disk(label.disk).is_some() {
            return Err(DisksError::Refused(format!(
                "{path} belongs to this node already; restart the node with it in `data` to use it again"
            )));
        }
        let mut names = Vec::new();
        for number in map.next_lane..map.next_lane + format.lanes {
            names.push(disk.make_lane(number, format.segment_bytes).await.map_err(wrong)?.0);
        }
        let capacity = disk.space().await.map_err(|error| wrong(error.into()))?.total;
        let next = map.with_disk(label.disk, capacity, &names);
        let mut places = Places::new();
        for lane in next.lanes_of(label.disk) {
            let to = CoreId::new((view.places.len() + places.len()) % core.cores);
            let place = open_lane(core, to, disk.lane_path(lane.number), *lane).await?;
            places.insert(lane.number, place);
        }
        let refused = places.values().find_map(|place| match place {
            Place::Missing(reason) => Some(DisksError::Refused(format!("{path}: {reason}"))),
            Place::Core(_) => None,
        });
        let opened: Vec<_> = places.iter().map(|(lane, place)| (*lane, place.clone())).collect();
        let added = if let Some(refused) = refused {
            Err(refused)
        } else {
            self.disks.borrow_mut().push(Rc::new(disk));
            self.change(core, next, places).await
        };
        if added.is_err() {
            self.disks.borrow_mut().retain(|disk| disk.label().disk != label.disk);
            self.close(core, opened).await;
        }
        added.map(|()| label.disk)
    }

    async fn set_state(self: &Rc<Self>, core: &Rc<Core>, id: Uid, state: DiskState) -> Result<(), DisksError> {
        let _changing = self.begin().await;
        let map = self.view().map;
        let disk = map.disk(id).ok_or_else(|| no_disk(id))?;
        if disk.state == state {
            return Ok(());
        }
        let next = map.with_state(id, state);
        if next.disks.iter().all(|disk| disk.state == DiskState::Leaving) {
            return Err(DisksError::Refused(format!("disk {id} is the last one that takes data; add another first")));
        }
        if state == DiskState::Leaving && self.disks.borrow().iter().all(|disk| disk.label().disk != id) {
            return Err(DisksError::Refused(format!(
                "disk {id} is not there, so nothing can be moved off it; bring it back, or give it up with --lost"
            )));
        }
        self.change(core, next, Places::new()).await
    }

    async fn give_up(self: &Rc<Self>, core: &Rc<Core>, id: Uid) -> Result<(), DisksError> {
        let _changing = self.begin().await;
        let view = self.view();
        let map = &view.map;
        map.disk(id).ok_or_else(|| no_disk(id))?;
        let is_open = |lane: &LaneEntry| view.core_of(lane.number).is_some();
        if map.lanes_of(id).any(is_open) || self.disks.borrow().iter().any(|disk| disk.label().disk == id) {
            return Err(DisksError::Refused(format!("disk {id} is there; evacuate it without --lost")));
        }
        let next = map.without(&[id]);
        if next.disks.is_empty() {
            return Err(DisksError::Refused(format!("disk {id} is the last one; add another first")));
        }
        self.change(core, next.with_takers(), Places::new()).await
    }

    async fn weigh(self: &Rc<Self>, core: &Rc<Core>, id: Uid, set: Option<u64>) -> Result<(), DisksError> {
        let _changing = self.begin().await;
        let map = self.view().map;
        let disk = *map.disk(id).ok_or_else(|| no_disk(id))?;
        let capacity = self.capacity(id).await.unwrap_or(disk.weight_bytes);
        let next = map.with_weight(id, set, capacity);
        if next.disk(id) == Some(&disk) { Ok(()) } else { self.change(core, next, Places::new()).await }
    }

    async fn follow_capacities(self: &Rc<Self>, core: &Rc<Core>) -> Result<bool, DisksError> {
        let _changing = self.begin().await;
        let map = self.view().map;
        let mut next = (*map).clone();
        for disk in map.disks.iter().filter(|disk| !disk.is_weight_set) {
            if let Some(capacity) = self.capacity(disk.id).await
                && capacity != disk.weight_bytes
            {
                next = next.with_weight(disk.id, None, capacity);
            }
        }
        let has_changed = next.disks != map.disks;
        if has_changed {
            self.change(core, LaneMap { epoch: map.epoch + 1, ..next }, Places::new()).await?;
        }
        Ok(has_changed)
    }

    async fn capacity(&self, id: Uid) -> Option<u64> {
        let disk = self.disks.borrow().iter().find(|disk| disk.label().disk == id).cloned()?;
        Some(disk.space().await.ok()?.total)
    }

    /// Takes note of a pass through a lane. When all lanes have been gone through, nothing was left and nothing has gone
    /// elsewhere meanwhile, the map is settled; a leaving disk that has nothing left is taken out of it.
    pub async fn passed(self: &Rc<Self>, core: &Rc<Core>, passed: Passed) -> Result<(), DisksError> {
        let _changing = self.begin().await;
        let view = self.view();
        let map = &view.map;
        if passed.epoch != map.epoch {
            return Ok(());
        }
        self.passed.borrow_mut().insert(passed.lane, passed);
        let Finished { emptied, is_settled } = self.finished(&view);
        if emptied.is_empty() && is_settled == map.is_settled {
            return Ok(());
        }
        // Nothing goes elsewhere from here on; what went there since the passes began must be looked at.
        let guarded = View { routing: Routing::Search { is_open: false }, ..view.clone() };
        let displaced = self.install(core, &guarded).await?;
        let is_settled = is_settled && displaced == self.displaced.replace(displaced);
        let emptied = self.bare(core, &view, emptied).await?;
        if emptied.is_empty() && is_settled == map.is_settled {
            self.passed.borrow_mut().clear();
            return self.install(core, &view).await.map(drop);
        }
        let next = if emptied.is_empty() { map.next(is_settled) } else { map.without(&emptied) };
        let changed = self.change(core, LaneMap { is_settled, ..next }, Places::new()).await;
        if changed.is_err() && !is_settled {
            self.install(core, &view).await?;
        }
        // Else it stays closed until `allow_elsewhere` has told every disk otherwise.
        changed?;
        let is_gone = |disk: &Rc<DiskDir>| emptied.contains(&disk.label().disk);
        let (gone, kept): (Vec<_>, Vec<_>) = self.disks.take().into_iter().partition(is_gone);
        self.disks.replace(kept);
        for disk in gone {
            // The map says so, too; this is for whoever finds the disk alone.
            let _ = disk.write_removed().await;
        }
        Ok(())
    }

    /// What the passes so far have shown.
    fn finished(&self, view: &View) -> Finished {
        let (map, passed) = (&view.map, self.passed.borrow());
        let is_clean = |lane: &LaneEntry| passed.get(&lane.number).is_some_and(|passed| passed.left == 0);
        let is_bare = |lane: &LaneEntry| {
            passed.get(&lane.number).is_some_and(|passed| passed.left == passed.bad && !passed.has_metadata)
        };
        let leaving = map.disks.iter().filter(|disk| disk.state == DiskState::Leaving);
        let emptied: Vec<Uid> = leaving.map(|disk| disk.id).filter(|disk| map.lanes_of(*disk).all(is_bare)).collect();
        let mut staying = map.lanes.iter().filter(|lane| !emptied.contains(&lane.disk));
        let is_settled = map.is_settled || staying.all(is_clean);
        Finished { emptied, is_settled }
    }

    /// Of these disks, those whose lanes hold nothing at all.
    async fn bare(&self, core: &Rc<Core>, view: &View, disks: Vec<Uid>) -> Result<Vec<Uid>, DisksError> {
        let mut empty = Vec::new();
        for disk in disks {
            let mut is_bare = true;
            for lane in view.map.lanes_of(disk) {
                let number = lane.number;
                let Some(to) = view.core_of(number) else { continue };
                let look = move |core: Rc<Core>| async move {
                    let lane = core.own(number)?.lane.clone();
                    let has_chunks = lane.digests().iter().any(|digest| digest.count > 0);
                    Ok::<bool, DisksError>(!has_chunks && lane.metadata()?.is_none())
                };
                is_bare &= core.run(Line::Lane, Class::Foreground, to, look).await??;
            }
            if is_bare {
                empty.push(disk);
            }
        }
        Ok(empty)
    }

    /// How many slots the lanes of a disk have, and what they have that isn't moved.
    async fn held_by(&self, core: &Rc<Core>, view: &View, disk: Uid) -> Result<(u64, Vec<String>), DisksError> {
        let (mut slots, mut held) = (0, Vec::new());
        for lane in view.map.lanes_of(disk) {
            let number = lane.number;
            let Some(to) = view.core_of(number) else { continue };
            let ask = move |core: Rc<Core>| async move {
                Ok::<_, DisksError>(core.own(number)?.lane.metadata().map_err(|error| error.to_string()))
            };
            let found = core.run(Line::Lane, Class::Foreground, to, ask).await??;
            slots += slots_of(&found);
            held.extend(stays((number, found)));
        }
        Ok((slots, held))
    }

    async fn status(&self, core: &Rc<Core>) -> Result<Status, DisksError> {
        let view = self.view();
        let (mut disks, mut lanes) = (Vec::new(), Vec::new());
        for entry in &view.map.disks {
            let dir = self.disks.borrow().iter().find(|disk| disk.label().disk == entry.id).cloned();
            let path = dir.as_ref().map(|dir| dir.path.clone());
            let space = match &dir {
                Some(dir) => dir.space().await.ok(),
                None => None,
            };
            let (slots_to_move, held_by) = if entry.state == DiskState::Leaving {
                self.held_by(core, &view, entry.id).await?
            } else {
                (0, Vec::new())
            };
            disks.push(DiskStatus { entry: *entry, path, space, slots_to_move, held_by });
        }
        for entry in &view.map.lanes {
            let number = entry.number;
            let state = match view.places.get(&number) {
                Some(Place::Core(to)) => {
                    let ask = move |core: Rc<Core>| async move {
                        let lane = core.own(number)?.lane.clone();
                        let digests = lane.digests();
                        let chunks = digests.iter().map(|digest| digest.count).sum();
                        let bytes = digests.iter().map(|digest| digest.bytes).sum();
                        let lane = Box::new(lane.status());
                        Ok::<_, DisksError>(LaneState::Open { core: core.id, chunks, bytes, lane })
                    };
                    core.run(Line::Lane, Class::Foreground, *to, ask).await??
                }
                Some(Place::Missing(reason)) => LaneState::Missing(reason.to_string()),
                None => LaneState::Missing("nobody has it".to_owned()),
            };
            lanes.push(LaneStatus { entry: *entry, state });
        }
        let troubles = self.troubles.iter().map(|(path, error)| (path.clone(), error.to_string())).collect();
        Ok(Status { map: view.map, disks, lanes, troubles })
    }
}

/// What passes have shown.
struct Finished {
    /// Leaving disks that have nothing left.
    emptied: Vec<Uid>,
    /// Whether every chunk is at home.
    is_settled: bool,
}

fn no_disk(id: Uid) -> DisksError {
    DisksError::Refused(format!("the node has no disk {id}; `cairn disk list` shows those it has"))
}
