//! What the cores of a node share to reach each other's lanes: a mesh for each sort of work.
//!
//! There are three lines ([`crate::line`]), each with a bound of its own, so that no core can wait for another in a circle: work on the *guide* line waits for the *lane*
//! line only, which waits for nobody; the *lead* line waits for views to be replaced, which needs the other two to go on.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use cairn_io::mesh::Mesh;
use cairn_io::task::{Class, JoinHandle};
use cairn_io::{Bell, CoreId, here};
use cairn_meta::index::ChunkId;

use super::change::Lead;
use super::map::LaneMap;
use super::view::{Claims, Current, Held, Places, Routing, View};
use super::{DisksError, Options};
use crate::lane::Lane;
use crate::line::{self, Job};

/// Jobs of one line that run on a core at a time.
const UNDERWAY_MAX: usize = 256;

/// A sort of work. See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// Something with a lane that its core owns. Waits for nobody.
    Lane = 0,
    /// Something with a chunk that may be in any lane. Waits for lanes.
    Guide = 1,
    /// A change of the map or of a view.
    Lead = 2,
}

const LINES: [Line; 3] = [Line::Lane, Line::Guide, Line::Lead];

/// What the cores of a node share; each clones it and opens its part with [`super::Disks::open`].
#[derive(Clone)]
pub struct Hub {
    meshes: Arc<[Mesh<Job<Core>>; 3]>,
    cores: usize,
}

impl Hub {
    /// For a node of so many cores.
    pub fn new(cores: usize) -> Self {
        Self { meshes: Arc::new(LINES.map(|_| line::mesh(cores))), cores }
    }
}

/// A lane of this core.
pub struct OwnLane {
    /// It.
    pub lane: Lane,
    /// Chunks whose write failed in such a way that the next start may find them. As the lane takes no writes any more,
    /// there are never more of them than were under way.
    pub doubtful: RefCell<BTreeSet<ChunkId>>,
}

/// One core's part.
pub struct Core {
    pub id: CoreId,
    pub cores: usize,
    pub options: Options,
    pub lanes: RefCell<BTreeMap<u32, Rc<OwnLane>>>,
    pub claims: Rc<Claims>,
    /// Chunks that were put into another lane than their home, ever.
    pub displaced: Cell<u64>,
    /// On core 0: who changes the map.
    pub lead: RefCell<Option<Rc<Lead>>>,
    /// How opening ended, once it has.
    pub started: RefCell<Option<Result<(), String>>>,
    pub start_bell: Bell,
    view: RefCell<Rc<Current>>,
    lines: [line::Line<Self>; 3],
    tasks: RefCell<Vec<JoinHandle<()>>>,
}

impl Core {
    /// This core's part, serving.
    pub fn start(hub: &Hub, options: Options) -> Result<Rc<Self>, DisksError> {
        let id = here();
        let end = |line: Line| line::Line::open(&hub.meshes[line as usize]);
        let lines = [end(Line::Lane)?, end(Line::Guide)?, end(Line::Lead)?];
        let nothing = Arc::new(LaneMap::new(super::Uid::default(), super::Uid::default()));
        let view = View::new(nothing, Arc::new(Places::new()), Routing::Home);
        let core = Rc::new(Self {
            id,
            cores: hub.cores,
            options,
            lanes: RefCell::default(),
            claims: Rc::default(),
            displaced: Cell::new(0),
            lead: RefCell::default(),
            started: RefCell::default(),
            start_bell: Bell::default(),
            view: RefCell::new(Current::new(view)),
            lines,
            tasks: RefCell::default(),
        });
        let serve = |line: Line| line::serve(core.clone(), move |core: &Self| &core.lines[line as usize], UNDERWAY_MAX);
        core.tasks.replace(LINES.map(serve).into());
        Ok(core)
    }

    /// Serves no more.
    pub fn stop(&self) {
        self.tasks.take();
    }

    /// Begins an operation.
    pub fn enter(&self) -> Held {
        self.view.borrow().enter()
    }

    /// Replaces the view; returns when nothing is under way by the old one, with how many chunks were displaced so far.
    pub async fn install(&self, view: View) -> u64 {
        let old = self.view.replace(Current::new(view));
        old.drained().await;
        self.displaced.get()
    }

    /// The core that guides writes of a chunk while it may be in any lane. The same whatever the map.
    pub fn guide_of(&self, id: &ChunkId) -> CoreId {
        let last = id.0.last_chunk().map_or(0, |last| u64::from_be_bytes(*last));
        CoreId::new((last % self.cores as u64) as usize)
    }

    /// Runs something on a core: see [`crate::line`].
    pub async fn run<T, F>(
        self: &Rc<Self>,
        line: Line,
        class: Class,
        to: CoreId,
        work: impl FnOnce(Rc<Core>) -> F + Send + 'static,
    ) -> Result<T, DisksError>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        Ok(self.lines[line as usize].run(self, class, to, work).await?)
    }

    /// A lane of this core.
    pub fn own(&self, lane: u32) -> Result<Rc<OwnLane>, DisksError> {
        self.lanes.borrow().get(&lane).cloned().ok_or(DisksError::Stopped(self.id))
    }

    /// The lanes of this core.
    pub fn own_lanes(&self) -> Vec<(u32, Rc<OwnLane>)> {
        self.lanes.borrow().iter().map(|(number, own)| (*number, own.clone())).collect()
    }
}
