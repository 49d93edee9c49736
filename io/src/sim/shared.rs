//! What every part of the world reaches: its time, its queue of events, its random numbers and its trace.

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::sync::Arc;

use crossbeam::queue::SegQueue;
use rand_core::RngCore;

use super::config::WorldConfig;
use super::net::{Conn, Net};
use super::node::Node;
use super::trace::{Kind, Trace, Who};
use crate::rng::Rng;

pub(super) struct Shared {
    pub seed: u64,
    pub config: WorldConfig,
    now: Cell<u64>,
    queue: RefCell<Queue>,
    trace: RefCell<Trace>,
    /// Streams of their own, so that a fault left out of a plan changes few of the other draws.
    pub rng_schedule: RefCell<Rng>,
    pub rng_disk: RefCell<Rng>,
    pub rng_net: RefCell<Rng>,
    pub nodes: RefCell<Vec<Rc<Node>>>,
    pub net: RefCell<Net>,
    /// Slots of cores with tasks that became ready. The one queue a waker touches.
    pub woken: Arc<SegQueue<usize>>,
}

/// Something that will happen.
pub(super) enum Event {
    /// The alarm of the core in this slot rings.
    Alarm(usize),
    /// The next part of what flows to this end of a connection arrives.
    Deliver(Rc<Conn>, usize),
    /// Anything rarer.
    Call(Call),
}

type Call = Box<dyn FnOnce(&Rc<Shared>)>;

impl Shared {
    pub fn new(seed: u64, config: WorldConfig) -> Rc<Self> {
        let mut seeds = Rng::from_seed(seed);
        let mut stream = || RefCell::new(Rng::from_seed(seeds.next_u64()));
        Rc::new(Self {
            seed,
            now: Cell::new(0),
            queue: RefCell::default(),
            trace: RefCell::new(Trace::new(seed, config.trace_tail)),
            rng_schedule: stream(),
            rng_disk: stream(),
            rng_net: stream(),
            nodes: RefCell::default(),
            net: RefCell::new(Net::new(config.net.clone())),
            woken: Arc::default(),
            config,
        })
    }

    pub fn now(&self) -> u64 {
        self.now.get()
    }

    pub fn set_now(&self, now: u64) {
        debug_assert!(now >= self.now.get(), "time went backwards");
        self.now.set(now);
    }

    pub fn node(&self, index: usize) -> Rc<Node> {
        self.nodes.borrow()[index].clone()
    }

    pub fn at(&self, time: u64, event: Event) {
        self.queue.borrow_mut().push(time.max(self.now()), event);
    }

    pub fn call_at(&self, time: u64, call: impl FnOnce(&Rc<Shared>) + 'static) {
        self.at(time, Event::Call(Box::new(call)));
    }

    pub fn call_after(&self, nanos: u64, call: impl FnOnce(&Rc<Shared>) + 'static) {
        self.call_at(self.now().saturating_add(nanos), call);
    }

    pub fn next_event_at(&self) -> Option<u64> {
        self.queue.borrow().heap.peek().map(|item| item.time)
    }

    pub fn take_event(&self) -> Option<Event> {
        self.queue.borrow_mut().heap.pop().map(|item| item.event)
    }

    /// Forgets everything that was to happen: the world ends.
    pub fn clear_events(&self) {
        let left = std::mem::take(&mut self.queue.borrow_mut().heap);
        // Dropped outside the borrow: events own connections and buffers.
        drop(left);
    }

    pub fn record(&self, kind: Kind, who: Who, detail: u64) {
        self.trace.borrow_mut().record(self.now(), kind, who, detail);
    }

    pub fn with_trace<R>(&self, look: impl FnOnce(&Trace) -> R) -> R {
        look(&self.trace.borrow())
    }
}

#[derive(Default)]
struct Queue {
    heap: BinaryHeap<Item>,
    /// Numbers the events, so that those of one instant happen in the order they were made.
    next: u64,
}

impl Queue {
    fn push(&mut self, time: u64, event: Event) {
        self.next += 1;
        self.heap.push(Item { time, number: self.next, event });
    }
}

struct Item {
    time: u64,
    number: u64,
    event: Event,
}

impl Item {
    fn key(&self) -> (u64, u64) {
        (self.time, self.number)
    }
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Item {}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Item {
    /// Backwards: the heap gives its greatest first and we want the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}
