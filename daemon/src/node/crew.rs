//! The background workers of one core: for each of its lanes compaction and scrub, one that brings chunks home, and on core 0
//! one that applies lifecycle rules, one that ends what was told how long to live, one that has dropped what retention lets go,
//! one that moves slots off disks that are to be emptied, and one that hands over provisional versions.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use cairn_io::time::{self, Duration, Instant};
use cairn_io::{block, here};
use futures_util::future::join_all;
use tracing::warn;

use crate::actor::{NameTaken, Rate, Registry, Schedule, Spec, State, Status};
use crate::cluster::{Cluster, Reconcile, Relocate, Trim, Ttl};
use crate::config::Config;
use crate::disks::{Disks, Settle};
use crate::http::Watch;
use crate::lane::{Compact, Lane, SCRUB_PERIOD, Scrub};
use crate::manage::report::{ActorReport, ActorState, CoreReport, GatewayReport};
use crate::s3::Gateway;
use crate::s3::expire::Expire;

/// How often compaction looks for something to do.
const COMPACT_EVERY: Duration = Duration::from_mins(1);
/// How often chunks that don't lie where they belong are looked for; it costs nothing while there are none.
const SETTLE_EVERY: Duration = Duration::from_secs(30);
/// How often slots whose disk is to be emptied are looked for, likewise.
const RELOCATE_EVERY: Duration = Duration::from_secs(5);
/// How often provisional versions are offered to their slots; it costs nothing while there are none.
const RECONCILE_EVERY: Duration = Duration::from_secs(2);
/// How often objects whose time is over are looked for; nobody is shown them before that, and it costs a look at each slot.
const TTL_EVERY: Duration = Duration::from_secs(10);
/// How often what retention lets go is looked for: it counts in days, and costs a walk over all that isn't shown.
const TRIM_EVERY: Duration = Duration::from_hours(6);
/// How often lifecycle rules are applied; they count in days.
const EXPIRE_EVERY: Duration = Duration::from_hours(1);

/// How fast the actors of a core may work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    compact: Rate,
    scrub: Rate,
    settle: Rate,
}

impl Budgets {
    /// As configured.
    pub fn of(config: &Config) -> Self {
        Self { compact: config.compact_rate(), scrub: config.scrub_rate(), settle: config.settle_rate() }
    }

    fn rate(&self, actor: &str) -> Rate {
        match actor {
            COMPACT => self.compact,
            SCRUB => self.scrub,
            _ => self.settle,
        }
    }
}

const COMPACT: &str = "compact";
const SCRUB: &str = "scrub";
const SETTLE: &str = "settle";
const EXPIRE: &str = "expire";
const RELOCATE: &str = "relocate";
const RECONCILE: &str = "reconcile";
const TRIM: &str = "trim";
const TTL: &str = "ttl";

/// The actors of this core. Clones share them.
#[derive(Clone)]
pub struct Crew(Rc<Inner>);

struct Inner {
    disks: Disks,
    budgets: Cell<Budgets>,
    /// Those that work for the whole core.
    common: Registry,
    /// Those of each lane: names are unique within a registry only.
    lanes: RefCell<BTreeMap<u32, Registry>>,
    is_dismissed: Cell<bool>,
    /// The core's gateway, once it serves.
    gateway: RefCell<Option<(Gateway, Watch)>>,
}

impl Crew {
    /// Nobody works yet.
    pub fn new(disks: Disks, budgets: Budgets) -> Self {
        Self(Rc::new(Inner {
            disks,
            budgets: Cell::new(budgets),
            common: Registry::new(),
            lanes: RefCell::default(),
            is_dismissed: Cell::default(),
            gateway: RefCell::default(),
        }))
    }

    /// Starts the actors that are missing: all at first, later those of lanes that came.
    pub fn hire(&self) {
        if self.0.is_dismissed.get() {
            return;
        }
        if self.0.common.list().is_empty() {
            let disks = self.0.disks.clone();
            let started =
                self.0.common.start(&self.spec(SETTLE, SETTLE_EVERY), move || Settle { disks: disks.clone() });
            complain(started.map(drop));
        }
        let own = self.0.disks.own_lanes();
        for (number, lane) in &own {
            if !self.0.lanes.borrow().contains_key(number) {
                let registry = self.hire_for(lane);
                self.0.lanes.borrow_mut().insert(*number, registry);
            }
        }
        // Of lanes that left, dropping the registry drops its actors.
        self.0.lanes.borrow_mut().retain(|number, _| own.iter().any(|(own, _)| own == number));
    }

    /// Starts the actors of a node: one applies lifecycle rules, of which what two nodes find is done once; one ends what was told how
    /// long to live; one has dropped what retention lets go; one moves slots off disks that are to be emptied; one hands over provisional versions.
    pub fn hire_for_cluster(&self, cluster: &Cluster) {
        let (spec, cluster) = (Spec { schedule: Schedule::Around(EXPIRE_EVERY), ..Spec::new(EXPIRE) }, cluster.clone());
        let [moving, reconciled, ended, trimmed] = std::array::from_fn(|_| cluster.clone());
        complain(self.0.common.start(&spec, move || Expire { cluster: cluster.clone() }).map(drop));
        let spec = Spec { schedule: Schedule::Around(TTL_EVERY), ..Spec::new(TTL) };
        complain(self.0.common.start(&spec, move || Ttl { cluster: ended.clone() }).map(drop));
        let spec = Spec { schedule: Schedule::Around(TRIM_EVERY), ..Spec::new(TRIM) };
        complain(self.0.common.start(&spec, move || Trim { cluster: trimmed.clone() }).map(drop));
        let spec = Spec { schedule: Schedule::Around(RELOCATE_EVERY), ..Spec::new(RELOCATE) };
        complain(self.0.common.start(&spec, move || Relocate { cluster: moving.clone() }).map(drop));
        let spec = Spec { schedule: Schedule::Around(RECONCILE_EVERY), ..Spec::new(RECONCILE) };
        complain(self.0.common.start(&spec, move || Reconcile { cluster: reconciled.clone() }).map(drop));
    }

    fn hire_for(&self, lane: &Lane) -> Registry {
        let registry = Registry::new();
        let (compacted, scrubbed) = (lane.clone(), lane.clone());
        let spec = self.spec(COMPACT, COMPACT_EVERY);
        complain(registry.start(&spec, move || Compact { lane: compacted.clone() }).map(drop));
        let spec = self.spec(SCRUB, lane.scrub_every(SCRUB_PERIOD));
        complain(registry.start(&spec, move || Scrub { lane: scrubbed.clone() }).map(drop));
        registry
    }

    fn spec(&self, name: &'static str, every: Duration) -> Spec {
        Spec { schedule: Schedule::Around(every), bytes: self.0.budgets.get().rate(name), ..Spec::new(name) }
    }

    /// Has all go on at these rates.
    pub fn set_budgets(&self, budgets: Budgets) {
        self.0.budgets.set(budgets);
        let lanes = self.0.lanes.borrow();
        for registry in lanes.values().chain([&self.0.common]) {
            for name in [COMPACT, SCRUB, SETTLE] {
                registry.set_budget(name, budgets.rate(name), Rate::Unlimited);
            }
        }
    }

    /// Has reports say what the core's gateway does.
    pub fn watch(&self, gateway: Gateway, server: Watch) {
        self.0.gateway.replace(Some((gateway, server)));
    }

    /// Stops all of them and waits for that.
    pub async fn dismiss(&self) {
        self.0.is_dismissed.set(true);
        self.0.gateway.take();
        let lanes: Vec<Registry> = self.0.lanes.borrow().values().cloned().collect();
        join_all(lanes.iter().chain([&self.0.common]).map(Registry::stop_all)).await;
    }

    /// What this core says of itself.
    pub fn report(&self) -> CoreReport {
        let (blocks, now) = (block::usage(), time::now());
        let common = self.0.common.list().into_iter().map(|status| report(None, &status, now));
        let mut actors: Vec<ActorReport> = common.collect();
        for (lane, registry) in &*self.0.lanes.borrow() {
            actors.extend(registry.list().into_iter().map(|status| report(Some(*lane), &status, now)));
        }
        CoreReport {
            core: here().index(),
            block_bytes_max: blocks.budget as u64,
            block_bytes_lent: blocks.lent as u64,
            block_bytes_cached: blocks.cached as u64,
            actors,
            s3: self.0.gateway.borrow().as_ref().map(|(gateway, server)| of_gateway(gateway, server)),
        }
    }
}

fn of_gateway(gateway: &Gateway, server: &Watch) -> GatewayReport {
    let counts = server.counts();
    GatewayReport {
        connections: counts.connections as u64,
        refused: counts.refused,
        underway: counts.underway as u64,
        requests: counts.requests,
        body_bytes: gateway.body_bytes() as u64,
        answered: gateway.answered(),
    }
}

/// Two of one name would be a mistake of this file; the one that runs goes on.
fn complain(started: Result<(), NameTaken>) {
    if let Err(error) = started {
        warn!(%error, "an actor was not started");
    }
}

fn report(lane: Option<u32>, status: &Status, now: Instant) -> ActorReport {
    let Status { name, state, mailbox, bytes, starts, failures, panics, last_failure, .. } = status.clone();
    let seconds = |until: Instant| until.since(now).as_secs();
    let (state, until, work) = match state {
        State::Idle { until } => (ActorState::Idle, until, None),
        State::Working { what, why, progress } => (ActorState::Working, None, Some((what, why, progress))),
        State::Waiting { until } => (ActorState::Waiting, Some(until), None),
        State::Stopping => (ActorState::Stopping, None, None),
        State::Stopped => (ActorState::Stopped, None, None),
    };
    let (what, why, progress) =
        work.map_or((None, None, None), |(what, why, progress)| (Some(what), Some(why), progress));
    ActorReport {
        name,
        lane,
        state,
        what,
        why,
        done: progress.map(|progress| progress.done),
        total: progress.map(|progress| progress.total),
        remaining_seconds: progress.and_then(|progress| progress.remaining(now)).map(|left| left.as_secs()),
        next_seconds: until.map(seconds),
        bytes_per_second: match bytes {
            Rate::Unlimited => None,
            Rate::PerSecond(bytes) => Some(bytes),
        },
        mailbox,
        starts,
        failures,
        panics,
        last_failure,
    }
}
