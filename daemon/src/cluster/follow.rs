//! How a later map comes to every core of the node: at once after a change made here, else by looking.

use std::rc::{Rc, Weak};

use cairn_io::time::{self, Duration};
use cairn_meta::control::state::{Whole, epoch};
use cairn_meta::index::Error;
use cairn_meta::rows::Rows;
use futures_util::future::try_join_all;
use tracing::debug;

use super::ask::{Ask, Told};
use super::hub::{Core, Line};
use super::{CONTROL, ClusterError, Map};

/// How often a node that has control's rows looks into them.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often another asks.
const ASK_EVERY: Duration = Duration::from_secs(1);

impl Core {
    /// Asks control for a later map, and gives it to every core before this returns.
    pub async fn catch_up(self: &Rc<Self>) -> Result<(), ClusterError> {
        let known = self.map.borrow().epoch;
        match self.ask(CONTROL, Ask::Whole(known)).await? {
            Told::Whole(Some(whole)) => self.spread(whole).await,
            _ => Ok(()),
        }
    }

    /// Gives a map to every core.
    async fn spread(self: &Rc<Self>, whole: Whole) -> Result<(), ClusterError> {
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
        }
    }

    /// What control's rows on this node say, if that is later; they may be behind.
    async fn look(self: &Rc<Self>) -> Result<Option<Whole>, ClusterError> {
        let (known, owner) = (self.map.borrow().epoch, self.core_of(CONTROL));
        let Some(owner) = owner else {
            return match self.ask(CONTROL, Ask::Whole(known)).await? {
                Told::Whole(whole) => Ok(whole),
                Told::Slot(_) => Ok(None),
            };
        };
        let read = move |rows: &dyn Rows| -> Result<Option<Whole>, Error> {
            if epoch(rows)? > known { Whole::read(rows).map(Some) } else { Ok(None) }
        };
        let read = self.run(Line::Slot, owner, move |core| async move { core.slots.read(CONTROL, read) }).await?;
        Ok(read??)
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
