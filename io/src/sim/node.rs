//! A simulated node: its lives, its cores, its clock and what the face asks of it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Wake, Waker};

use crossbeam::queue::SegQueue;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use rand_core::RngCore;

use super::clock::Clock;
use super::config::{NodeConfig, nanos};
use super::disk::Disk;
use super::promise::Promise;
use super::shared::{Event, Shared};
use super::trace::{Kind, Who};
use crate::block::Pool;
use crate::core::{self, Core};
use crate::driver::Backend;
use crate::exec::Exec;
use crate::rng::Rng;
use crate::runtime::CoreId;
use crate::shutdown::Shutdown;
use crate::task::{Class, JoinError, JoinHandle};
use crate::time::{Instant, Timers, WallTime};

/// One node of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// What runs on each core of one life of a node.
pub type Program = Box<dyn Fn(CoreId) -> LocalBoxFuture<'static, ()>>;

/// What a node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// At least one of its programs runs.
    Running,
    /// Its programs have ended by themselves.
    Ended,
    /// It was killed or lost power.
    Down,
}

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The power is cut: the disks keep what was synced and some of the rest; nobody is told.
    PowerCut,
    /// The process is killed: the disks keep what was written, and peers see their connections reset.
    Killed,
    /// The programs returned; their sockets were closed one by one already.
    Ended,
}

pub(super) struct Node {
    pub id: usize,
    pub ip: IpAddr,
    pub config: NodeConfig,
    pub clock: RefCell<Clock>,
    pub disks: Vec<Rc<Disk>>,
    pub slots: Vec<Rc<Slot>>,
    /// Grows when a life ends; what belongs to an earlier one does nothing any more.
    pub life: Cell<u64>,
    pub status: Cell<Status>,
    /// World time until which its cores stand still.
    pub paused_until: Cell<u64>,
    /// What its programs panicked with.
    pub panics: RefCell<Vec<String>>,
    boot: RefCell<Box<dyn FnMut() -> Program>>,
    shutdown: RefCell<Shutdown>,
}

/// The place of one core of one node; the core itself is made anew for each life.
pub(super) struct Slot {
    /// Among all slots of the world.
    pub index: usize,
    pub node: usize,
    pub core: CoreId,
    pub current: RefCell<Option<Rc<Core>>>,
    root: RefCell<Option<JoinHandle<()>>>,
    /// World time until which the last poll keeps the core busy.
    pub free_at: Cell<u64>,
    /// World time of the alarm event that counts; others are stale.
    alarm: Cell<Option<u64>>,
    /// It is on the scheduler's list.
    pub runnable: Cell<bool>,
    /// Puts the slot on the scheduler's list when a task becomes ready.
    pub waker: Waker,
}

struct SlotWaker {
    index: usize,
    woken: Arc<SegQueue<usize>>,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.woken.push(self.index);
    }
}

impl Slot {
    pub fn new(shared: &Shared, index: usize, node: usize, core: CoreId) -> Rc<Self> {
        Rc::new(Self {
            index,
            node,
            core,
            current: RefCell::default(),
            root: RefCell::default(),
            free_at: Cell::new(0),
            alarm: Cell::new(None),
            runnable: Cell::new(false),
            waker: Arc::new(SlotWaker { index, woken: shared.woken.clone() }).into(),
        })
    }

    pub fn who(&self) -> Who {
        Who::new(self.node, self.core.index())
    }

    /// Has the alarm ring at world time `at`, unless it rings earlier anyway.
    fn set_alarm(&self, shared: &Shared, at: u64) {
        if self.alarm.get().is_none_or(|held| at < held) {
            self.alarm.set(Some(at));
            shared.at(at, Event::Alarm(self.index));
        }
    }

    /// An alarm event has come: fires the timers that are due and sets the next alarm.
    pub fn ring(&self, shared: &Shared) {
        let now = shared.now();
        if self.alarm.get() != Some(now) {
            return;
        }
        self.alarm.set(None);
        let node = shared.node(self.node);
        if now < node.paused_until.get() {
            self.set_alarm(shared, node.paused_until.get());
            return;
        }
        self.fire(shared, &node);
    }

    fn fire(&self, shared: &Shared, node: &Node) {
        let Some(core) = self.current.borrow().clone() else { return };
        shared.record(Kind::Alarm, self.who(), 0);
        let _entered = core::enter(core.clone());
        let next = core.timers.fire(node.clock.borrow().mono(shared.now()));
        if let Some(deadline) = next {
            self.set_alarm(shared, node.clock.borrow().world_at(deadline));
        }
    }

    /// Looks whether the core's program has ended, and if so drops what is left on the core.
    pub fn reap(&self) -> Option<Result<(), JoinError>> {
        let mut root = self.root.borrow_mut();
        if !root.as_ref().is_some_and(JoinHandle::is_finished) {
            return None;
        }
        let result = root.take()?.now_or_never().unwrap_or(Err(JoinError::Cancelled));
        drop(root);
        self.stop();
        Some(result)
    }

    /// Drops the core and all its tasks.
    fn stop(&self) {
        self.alarm.set(None);
        let core = self.current.borrow_mut().take();
        let root = self.root.borrow_mut().take();
        if let Some(core) = core {
            let _entered = core::enter(core.clone());
            core.exec.close();
            drop(root);
        }
    }
}

impl Node {
    pub fn new(
        shared: &Shared,
        id: usize,
        ip: IpAddr,
        config: NodeConfig,
        slots: Vec<Rc<Slot>>,
        boot: Box<dyn FnMut() -> Program>,
    ) -> Rc<Self> {
        let disks = config.disks.iter().enumerate().map(|(index, disk)| Disk::new(id, index, disk.clone())).collect();
        let clock = Clock::new(shared.now(), 0, config.wall_offset_ms, config.drift_ppm);
        Rc::new(Self {
            id,
            ip,
            clock: RefCell::new(clock),
            disks,
            slots,
            life: Cell::new(1),
            status: Cell::new(Status::Down),
            paused_until: Cell::new(0),
            panics: RefCell::default(),
            boot: RefCell::new(boot),
            shutdown: RefCell::default(),
            config,
        })
    }

    pub fn is_running(&self) -> bool {
        self.status.get() == Status::Running
    }

    /// Begins a life, if none is under way.
    pub fn start(self: &Rc<Self>, shared: &Rc<Shared>) {
        if self.is_running() {
            return;
        }
        let now = shared.now();
        shared.record(Kind::Start, Who::new(self.id, 0), self.life.get());
        self.status.set(Status::Running);
        self.paused_until.set(0);
        let mono_base = shared.rng_schedule.borrow_mut().below(3_600_000_000_000);
        self.clock.borrow_mut().restart(now, mono_base);
        *self.shutdown.borrow_mut() = Shutdown::new();
        let program: Rc<Program> = Rc::new((self.boot.borrow_mut())());
        for slot in &self.slots {
            self.start_core(shared, slot, program.clone());
        }
        super::net::retry_stalled(shared);
    }

    fn start_core(self: &Rc<Self>, shared: &Rc<Shared>, slot: &Rc<Slot>, program: Rc<Program>) {
        let backend =
            NodeCore { shared: shared.clone(), node: self.clone(), slot: slot.clone(), life: self.life.get() };
        let seed = shared.rng_schedule.borrow_mut().next_u64();
        let core = Rc::new(Core {
            id: slot.core,
            count: self.config.cores,
            exec: Exec::new(),
            timers: Timers::new(),
            pool: Rc::new(Pool::new(self.config.block_bytes_max, 0)),
            rng: RefCell::new(Rng::from_seed(seed)),
            shutdown: self.shutdown.borrow().clone(),
            backend: Backend::Sim(Rc::new(backend)),
        });
        slot.free_at.set(shared.now());
        let id = slot.core;
        let root = core.exec.spawn(Class::Foreground, async move { program(id).await });
        *slot.root.borrow_mut() = Some(root);
        *slot.current.borrow_mut() = Some(core);
        shared.woken.push(slot.index);
    }

    /// Ends the life that is under way, if any.
    pub fn end(&self, shared: &Rc<Shared>, ending: Ending) {
        if !self.is_running() {
            return;
        }
        shared.record(Kind::End, Who::new(self.id, 0), self.life.get());
        self.status.set(if ending == Ending::Ended { Status::Ended } else { Status::Down });
        self.life.set(self.life.get() + 1);
        super::net::node_gone(shared, self.id, ending);
        let mut rng = shared.rng_disk.borrow_mut();
        for disk in &self.disks {
            match ending {
                Ending::PowerCut => disk.power_cut(&mut rng),
                Ending::Killed | Ending::Ended => disk.process_gone(&mut rng),
            }
        }
        drop(rng);
        self.slots.iter().for_each(|slot| slot.stop());
    }

    /// One core's program has ended; with the last one the life ends.
    pub fn core_ended(self: &Rc<Self>, shared: &Rc<Shared>, result: Result<(), JoinError>) {
        if let Err(JoinError::Panicked(message)) = result {
            self.panics.borrow_mut().push(message);
        }
        if self.slots.iter().any(|slot| slot.current.borrow().is_some()) {
            return;
        }
        self.end(shared, Ending::Ended);
        if let Some(after) = self.config.restart_after {
            let (node, life) = (self.clone(), self.life.get());
            shared.call_after(nanos(after), move |shared| {
                if node.life.get() == life {
                    node.start(shared);
                }
            });
        }
    }

    /// Lets the node stand still until world time `until`.
    pub fn pause(&self, until: u64) {
        self.paused_until.set(self.paused_until.get().max(until));
    }

    /// The clock was changed: alarms set by the old one may be late.
    pub fn reset_alarms(&self, shared: &Shared) {
        for slot in &self.slots {
            slot.set_alarm(shared, shared.now());
        }
    }

    pub fn request_shutdown(&self) {
        self.shutdown.borrow().request();
    }
}

/// One core of one simulated node, as the face sees it.
pub(crate) struct NodeCore {
    pub(super) shared: Rc<Shared>,
    pub(super) node: Rc<Node>,
    pub(super) slot: Rc<Slot>,
    pub(super) life: u64,
}

impl NodeCore {
    pub fn now(&self) -> Instant {
        self.node.clock.borrow().mono(self.shared.now())
    }

    pub fn wall(&self) -> WallTime {
        self.node.clock.borrow().wall(self.shared.now())
    }

    pub fn arm(&self, deadline: Instant) {
        let at = self.node.clock.borrow().world_at(deadline);
        self.slot.set_alarm(&self.shared, at);
    }

    /// Waits as long as a call on the blocking pool would take.
    pub async fn blocking_delay(&self) {
        let delay = self.shared.config.blocking.draw(&mut self.shared.rng_schedule.borrow_mut());
        let promise = Promise::new();
        let (keeper, who) = (promise.clone(), self.slot.who());
        self.shared.call_after(delay, move |shared| {
            shared.record(Kind::Blocking, who, 0);
            keeper.keep(());
        });
        promise.kept().await;
    }
}
