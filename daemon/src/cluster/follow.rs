//! How a later map comes to every core of the node: at once after a change made here or when somebody must know, else by looking.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

use cairn_io::Bell;
use cairn_io::time::{self, Duration};
use cairn_meta::control::state::{Whole, epoch};
use cairn_meta::index::Error;
use cairn_meta::rows::Rows;
use futures_util::future::try_join_all;
use tracing::{debug, warn};

use super::ask::{Ask, Told};
use super::hub::{Core, Line};
use super::{CONTROL, ClusterError, Map, papers};

/// How often a node that has control's rows looks into them.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often another asks.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How often the map is written down, if it is another.
const WRITE_EVERY: Duration = Duration::from_secs(5);

/// Who asks control for a later map: one at a time, for all who want to know.
#[derive(Default)]
pub struct Turns {
    begun: Cell<u64>,
    is_underway: Cell<bool>,
    /// The last that ended, and how.
    ended: RefCell<Option<(u64, Result<(), ClusterError>)>>,
    /// Rung when one ends or is broken off.
    bell: Bell,
}

impl Turns {
    fn begin(&self) -> Turn<'_> {
        self.begun.set(self.begun.get() + 1);
        self.is_underway.set(true);
        Turn(self)
    }

    /// How a turn went that began when this many had begun before, or later.
    fn ended_behind(&self, begun: u64) -> Option<Result<(), ClusterError>> {
        self.ended.borrow().as_ref().filter(|(turn, _)| *turn > begun).map(|(_, result)| result.clone())
    }
}

struct Turn<'t>(&'t Turns);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.is_underway.set(false);
        self.0.bell.ring();
    }
}

impl Core {
    /// Gives every core a map that shows all that control answered before this was called.
    pub async fn catch_up(self: &Rc<Self>) -> Result<(), ClusterError> {
        let turns = &self.turns;
        // What is under way may have been answered already.
        let begun = turns.begun.get();
        while turns.is_underway.get() {
            turns.bell.rung().await;
            if let Some(result) = turns.ended_behind(begun) {
                return result;
            }
        }
        let turn = turns.begin();
        let result = self.fetch().await;
        turns.ended.replace(Some((turns.begun.get(), result.clone())));
        drop(turn);
        result
    }

    /// Asks control for a later map, and gives it to every core before this returns.
    async fn fetch(self: &Rc<Self>) -> Result<(), ClusterError> {
        let known = self.map.borrow().epoch;
        match self.ask(CONTROL, Ask::Whole(known)).await? {
            Told::Whole(Some(whole)) => self.spread(whole).await,
            _ => Ok(()),
        }
    }

    /// Gives a map to every core.
    pub(super) async fn spread(self: &Rc<Self>, whole: Whole) -> Result<(), ClusterError> {
        let map = Map::new(whole, &self.seal);
        let give = |to| {
            let map = map.clone();
            self.run(Line::Lead, to, move |core| async move { core.take(map) })
        };
        try_join_all(self.all().map(give)).await.map(drop)
    }

    fn take(&self, map: Map) {
        if map.epoch > self.map.borrow().epoch {
            self.map.replace(Rc::new(map));
            self.map_bell.ring();
        }
    }

    /// What control's rows on this node say, if that is later; they may be behind.
    async fn look(self: &Rc<Self>) -> Result<Option<Whole>, ClusterError> {
        let (known, owner) = (self.map.borrow().epoch, self.core_of(CONTROL));
        let Some(owner) = owner else {
            return match self.ask(CONTROL, Ask::Whole(known)).await? {
                Told::Whole(whole) => Ok(whole),
                Told::Slot(_) | Told::Copies(_) => Ok(None),
            };
        };
        let read = move |rows: &dyn Rows| -> Result<Option<Whole>, Error> {
            if epoch(rows)? > known { Whole::read(rows).map(Some) } else { Ok(None) }
        };
        let read = self.run(Line::Slot, owner, move |core| async move { core.slots.read(CONTROL, read) }).await?;
        Ok(read??)
    }
}

/// Writes the node's maps down for as long as the core lives, for a start at which nobody tells them. Apart from [`follow`]: a disk may hang.
pub async fn write_down(core: Weak<Core>) {
    // The epoch of the map that each disk has, and of the last that one refused.
    let (mut have, mut refused) = (BTreeMap::new(), 0);
    loop {
        time::sleep(WRITE_EVERY).await;
        let Some(here) = core.upgrade() else { return };
        let map = here.map.borrow().clone();
        if map.cluster.is_none() {
            continue;
        }
        let Ok(disks) = here.paths().await else { continue };
        have.retain(|disk, _| disks.contains(disk));
        for disk in disks {
            let has = have.entry(disk.clone()).or_insert(0);
            if *has == map.epoch {
                continue;
            }
            match papers::write_map(&disk, &map).await {
                Ok(()) => {
                    debug!(disk, epoch = map.epoch, "the map is written down");
                    *has = map.epoch;
                }
                Err(error) if map.epoch > refused => {
                    warn!(%error, "the map can't be written down: should nobody tell it at the next start, an older one counts");
                    refused = map.epoch;
                }
                Err(_) => {}
            }
        }
    }
}

/// Looks for later maps for as long as the core lives.
pub async fn follow(core: Weak<Core>) {
    loop {
        let Some(here) = core.upgrade() else { return };
        let every = if here.core_of(CONTROL).is_some() { LOOK_EVERY } else { ASK_EVERY };
        let looked = here.look().await;
        let spread = match looked {
            Ok(Some(whole)) => here.spread(whole).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = spread {
            debug!(%error, "no later map could be had; it is tried again");
        }
        drop(here);
        time::sleep(every).await;
    }
}
