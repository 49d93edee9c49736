//! What the cores of a node share to reach each other's slots.
//!
//! Three lines ([`crate::line`]): *slot*, for commands and questions, which wait for other nodes' answers and so for the *raft* line;
//! *raft*, for what groups of other nodes say, which waits for nobody; *lead*, for opening, closing and new maps, which wait for
//! what the core itself is doing.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use cairn_io::mesh::Mesh;
use cairn_io::task::{Class, JoinHandle};
use cairn_io::{Bell, CoreId, here};
use cairn_placement::NodeId;

use super::contact::Contact;
use super::follow::Turns;
use super::map::Map;
use super::peers::Peers;
use super::provisional::{self, Holding};
use super::routes::Routes;
use super::{CONTROL, ClusterError, Seal};
use crate::disks::Disks;
use crate::line::{self, Job, Line as End};
use crate::slot::Slots;

/// Jobs of one line that run on a core at a time.
const UNDERWAY_MAX: usize = 1024;

/// A sort of work. See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// Commands and questions to a slot of that core.
    Slot = 0,
    /// What other nodes' groups say to those of that core.
    Raft = 1,
    /// Opening, closing, new maps, reports.
    Lead = 2,
}

const LINES: [Line; 3] = [Line::Slot, Line::Raft, Line::Lead];

/// What the cores of a node share; each clones it and opens its part with [`super::Cluster::start`].
#[derive(Clone)]
pub struct Hub {
    meshes: Arc<[Mesh<Job<Core>>; 3]>,
    /// Whether cores hold provisional versions.
    holding: Arc<[AtomicBool]>,
    cores: usize,
}

impl Hub {
    /// For a node of so many cores.
    pub fn new(cores: usize) -> Self {
        Self { meshes: Arc::new(LINES.map(|_| line::mesh(cores))), holding: provisional::cores(cores), cores }
    }
}

/// One core's part.
pub struct Core {
    pub id: CoreId,
    pub cores: usize,
    pub me: NodeId,
    /// The groups of this core.
    pub slots: Slots,
    pub disks: Disks,
    pub seal: Seal,
    pub map: RefCell<Rc<Map>>,
    pub turns: Turns,
    /// Rung when there is another.
    pub map_bell: Bell,
    /// Other nodes.
    pub peers: Peers,
    /// Where the node's slots are; empty until that is known.
    pub routes: RefCell<Arc<Routes>>,
    /// Provisional versions that this core's lanes hold.
    pub holding: Holding,
    /// Which nodes are out of reach.
    pub contact: Contact,
    /// Who led a slot when it was last asked.
    pub leaders: RefCell<BTreeMap<u32, NodeId>>,
    /// How opening ended, once it has.
    pub started: OnceCell<Result<(), ClusterError>>,
    pub start_bell: Bell,
    /// Slots of the node that are on their way to another lane.
    pub moving: RefCell<BTreeSet<u32>>,
    /// Groups of this core that couldn't be opened, and why.
    pub failed: RefCell<BTreeMap<u32, String>>,
    lines: [End<Self>; 3],
    pub tasks: RefCell<Vec<JoinHandle<()>>>,
}

impl Core {
    /// The slots of objects that this core's groups lead.
    pub fn led(&self) -> impl Iterator<Item = u32> {
        let slots: Vec<u32> = self.routes.borrow().of_core(self.id).map(|(slot, _)| slot).collect();
        let is_led = |slot: &u32| self.slots.status(*slot).is_ok_and(|status| status.is_leader);
        slots.into_iter().filter(|slot| *slot != CONTROL).filter(is_led)
    }

    /// This core's part, serving.
    pub fn start(
        hub: &Hub,
        me: NodeId,
        slots: Slots,
        disks: Disks,
        seal: Seal,
        peers: Peers,
    ) -> Result<Rc<Self>, ClusterError> {
        let end = |line: Line| End::open(&hub.meshes[line as usize]);
        let broken = |error: std::io::Error| ClusterError::Broken(error.to_string());
        let ends = || Ok::<_, std::io::Error>([end(Line::Slot)?, end(Line::Raft)?, end(Line::Lead)?]);
        // What restarts is back before, mostly, and whoever is there has elected somebody.
        let away_after = slots.options().election.1 * 2;
        let core = Rc::new(Self {
            id: here(),
            cores: hub.cores,
            me,
            slots,
            disks,
            seal,
            map: RefCell::default(),
            turns: Turns::default(),
            map_bell: Bell::default(),
            peers,
            routes: RefCell::default(),
            holding: Holding::new(hub.holding.clone()),
            contact: Contact::new(away_after),
            leaders: RefCell::default(),
            started: OnceCell::new(),
            start_bell: Bell::default(),
            moving: RefCell::default(),
            failed: RefCell::default(),
            lines: ends().map_err(broken)?,
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

    /// Runs something on a core: see [`crate::line`].
    pub async fn run<T, F>(
        self: &Rc<Self>,
        line: Line,
        to: CoreId,
        work: impl FnOnce(Rc<Self>) -> F + Send + 'static,
    ) -> Result<T, ClusterError>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let ran = self.lines[line as usize].run(self, Class::Foreground, to, work).await;
        ran.map_err(|gone| ClusterError::Unknown(gone.to_string()))
    }

    /// Every core of the node.
    pub fn all(&self) -> impl Iterator<Item = CoreId> + use<> {
        (0..self.cores).map(CoreId::new)
    }
}
