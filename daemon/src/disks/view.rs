//! What a core believes of the node's lanes, and how the node's cores come to believe something else.
//!
//! An operation takes the view of its core when it begins and holds it to its end. A view is replaced on each core by
//! itself; a replacement is over when every operation that began under the one before has ended. So for a time some
//! cores have the new view and others the old one; [`super::change`] says why no step of a change is harmed by that.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use cairn_io::{Bell, CoreId};
use cairn_meta::index::ChunkId;
use cairn_placement::lanes::Lanes;

use super::map::LaneMap;

/// Where a lane is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Open on this core.
    Core(CoreId),
    /// Its disk isn't there, or it can't be opened; why.
    Missing(Arc<str>),
}

/// Where the lanes are, by their numbers.
pub type Places = BTreeMap<u32, Place>;

/// How a chunk is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    /// It is in its home lane or nowhere.
    Home,
    /// It may be in any lane. Writes of a chunk go through its guide, the core that lets one write of it happen at a time.
    Search {
        /// Whether a chunk that its home doesn't take may go to another lane, and chunks are moved: only while the map on
        /// disk says that chunks may be anywhere, and every core has it.
        is_open: bool,
    },
}

/// What a core believes.
#[derive(Clone, Debug)]
pub struct View {
    /// By which chunks are placed.
    pub map: Arc<LaneMap>,
    /// The map's ranking.
    pub ranked: Arc<Lanes>,
    /// The lanes that may hold something.
    pub places: Arc<Places>,
    /// How a chunk is found.
    pub routing: Routing,
}

impl View {
    /// A view by this map.
    pub fn new(map: Arc<LaneMap>, places: Arc<Places>, routing: Routing) -> Self {
        let ranked = Arc::new(map.ranked());
        Self { map, ranked, places, routing }
    }

    /// The cores that have lanes.
    pub fn cores(&self) -> BTreeSet<CoreId> {
        let core = |place: &Place| if let Place::Core(core) = place { Some(*core) } else { None };
        self.places.values().filter_map(core).collect()
    }

    /// The lanes that a core has.
    pub fn lanes_on(&self, core: CoreId) -> Vec<u32> {
        let is_there = |(lane, place): (&u32, &Place)| (*place == Place::Core(core)).then_some(*lane);
        self.places.iter().filter_map(is_there).collect()
    }

    /// The core that has a lane, if one has.
    pub fn core_of(&self, lane: u32) -> Option<CoreId> {
        match self.places.get(&lane) {
            Some(Place::Core(core)) => Some(*core),
            _ => None,
        }
    }

    /// The lanes that can't be asked.
    pub fn missing(&self) -> Vec<u32> {
        let is_missing = |(lane, place): (&u32, &Place)| matches!(place, Place::Missing(_)).then_some(*lane);
        self.places.iter().filter_map(is_missing).collect()
    }
}

/// The view of a core and what is under way by it.
pub struct Current {
    view: View,
    underway: Cell<usize>,
    idle: Bell,
}

impl Current {
    /// Nothing is under way by it yet.
    pub fn new(view: View) -> Rc<Self> {
        Rc::new(Self { view, underway: Cell::new(0), idle: Bell::default() })
    }

    /// One more operation.
    pub fn enter(self: &Rc<Self>) -> Held {
        self.underway.set(self.underway.get() + 1);
        Held(self.clone())
    }

    /// Waits until nothing is under way by it.
    pub async fn drained(&self) {
        while self.underway.get() > 0 {
            self.idle.rung().await;
        }
    }
}

/// A view, held by an operation until it ends.
pub struct Held(Rc<Current>);

impl Deref for Held {
    type Target = View;

    fn deref(&self) -> &View {
        &self.0.view
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.underway.set(self.0.underway.get() - 1);
        self.0.idle.ring();
    }
}

/// Chunks that this core guides a write of.
#[derive(Default)]
pub struct Claims {
    taken: RefCell<BTreeSet<ChunkId>>,
    free: Bell,
}

impl Claims {
    /// Waits until nobody else has this chunk.
    pub async fn take(self: &Rc<Self>, id: ChunkId) -> Claim {
        while !self.taken.borrow_mut().insert(id) {
            self.free.rung().await;
        }
        Claim { claims: self.clone(), id }
    }
}

/// See [`Claims::take`].
pub struct Claim {
    claims: Rc<Claims>,
    id: ChunkId,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.taken.borrow_mut().remove(&self.id);
        self.claims.free.ring();
    }
}
