//! The settings that change while a node runs: its own are read again on SIGHUP, the cluster's are followed in the map.
//!
//! One task of core 0 takes both over, so that no core is told an older value after a later one.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use cairn_io::mesh::Endpoint;
use cairn_io::shutdown::Hangups;
use cairn_io::{Bell, CoreId, cores};
use futures_util::future::{Either, select};
use futures_util::pin_mut;
use tracing::{error, info, warn};

use super::crew::{Budgets, Crew};
use super::{Ask, Reload};
use crate::cluster::{Cluster, Map};
use crate::config::{Change, Config, Key};
use crate::manage::{ClusterValue, SettingReport};
use crate::trace;

/// See the module.
pub struct Live {
    /// What the node uses.
    config: RefCell<Config>,
    /// What was complained about in the map last, so that it is said once.
    complaints: RefCell<Vec<String>>,
    /// Of the map that was taken over last.
    epoch: Cell<u64>,
    /// Rung when it is another.
    bell: Bell,
    crew: Crew,
    endpoint: Rc<Endpoint<Ask>>,
}

impl Live {
    /// As the node was configured, without what the cluster says.
    pub fn new(config: Config, crew: Crew, endpoint: Rc<Endpoint<Ask>>) -> Rc<Self> {
        let (config, complaints) = (RefCell::new(config), RefCell::default());
        Rc::new(Self { config, complaints, epoch: Cell::default(), bell: Bell::default(), crew, endpoint })
    }

    /// Takes over what the cluster says by this map.
    pub async fn follow_map(&self, map: &Map) {
        let config = self.config.borrow().clone();
        self.take_over(&config, map).await;
        self.epoch.set(map.epoch);
        self.bell.ring();
    }

    /// Follows every later map, and reads the node's own settings again whenever somebody asks for it.
    pub async fn follow(self: Rc<Self>, cluster: Cluster, mut hangups: Hangups, reload: impl Fn() -> Reload) {
        loop {
            let changed = cluster.map_changed();
            if cluster.map().epoch > self.epoch.get() {
                self.follow_map(&cluster.map()).await;
            }
            let hung = hangups.next();
            pin_mut!(changed, hung);
            if let Either::Right(_) = select(changed, hung).await {
                self.reload(reload().await, &cluster.map()).await;
            }
        }
    }

    /// Returns when a map of this epoch, or a later one, was taken over.
    pub async fn caught_up(&self, epoch: u64) {
        while self.epoch.get() < epoch {
            self.bell.rung().await;
        }
    }

    async fn reload(&self, read: Result<Config, String>, map: &Map) {
        match read {
            Ok(own) => {
                if self.take_over(&own, map).await.is_empty() {
                    info!("the configuration was read again and says the same");
                }
            }
            Err(why) => error!(%why, "the configuration is wrong and nothing of it was taken over"),
        }
    }

    /// Takes over what differs, and says what can't be.
    async fn take_over(&self, own: &Config, map: &Map) -> Vec<Change> {
        let (new, complaints) = own.in_cluster(map.node_settings());
        let before = self.complaints.replace(complaints.clone());
        for why in complaints.iter().filter(|why| !before.contains(why)) {
            warn!(%why, "a setting of the cluster is passed over");
        }
        let changes = self.config.replace(new.clone()).changes(&new);
        for change in &changes {
            if change.is_live {
                info!(key = change.key, from = %change.from, to = %change.to, "a setting has changed");
            } else {
                warn!(key = change.key, from = %change.from, to = %change.to, "this setting changes when the node is started again");
            }
        }
        if changes.iter().any(|change| change.is_live) {
            self.apply(&new).await;
        }
        changes
    }

    async fn apply(&self, config: &Config) {
        trace::set_up(&config.levels());
        let budgets = Budgets::of(config);
        self.crew.set_budgets(budgets);
        for core in (1..cores()).map(CoreId::new) {
            // A core that has gone takes the node with it.
            let _ = self.endpoint.send(core, Ask::Budgets(budgets)).await;
        }
    }

    /// Every setting that the cluster may have a value for: what it says by this map, and what the node uses.
    pub fn reports(&self, map: &Map) -> Vec<SettingReport> {
        let config = self.config.borrow();
        let report = |key: &Key| {
            let said = map.node_settings().find(|(name, _)| *name == key.name).map(|(_, setting)| setting.clone());
            let used = config.entries().find(|(other, _)| other.name == key.name).and_then(|(_, used)| used);
            SettingReport {
                name: key.name.to_owned(),
                about: key.about.to_owned(),
                default: key.default.map(str::to_owned),
                cluster: said.map(|setting| ClusterValue { value: setting.value, epoch: setting.epoch }),
                value: used.map(|(value, _)| value.to_string()),
                origin: used.map(|(_, origin)| origin.to_string()),
            }
        };
        Key::all_of_cluster().map(report).collect()
    }
}
