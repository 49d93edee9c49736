//! The end of objects that were told how long to live: readers are shown none of them as soon as their time is over, and here
//! tombstones take their places.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use cairn_io::time::{self, Duration};
use cairn_meta::slot::command::{Answer, Body, Command, Place, Write};
use cairn_meta::slot::expiry::{Expired, expired};
use cairn_meta::version::VersionId;
use cairn_meta::version::commit::{Condition, Mode};

use super::hub::{Core, Line};
use super::{Cluster, ClusterError, new_token, new_version, wall_millis};
use crate::actor::{Actor, Context, Failure, Wake};

/// Objects that a core names at once.
const AT_ONCE: usize = 256;
/// How long one that stays, as it is locked, is left alone.
const REFUSED_FOR: Duration = Duration::from_hours(1);

/// The actor: one of a node, for the slots that it leads.
pub struct Ttl {
    /// The cluster, as core 0 sees it.
    pub cluster: Cluster,
}

/// What may be asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TtlMessage {
    /// Look now.
    Look,
}

impl Actor for Ttl {
    type Message = TtlMessage;

    async fn run(self, mut context: Context<Self::Message>) -> Result<(), Failure> {
        let (mut refused, mut since) = (BTreeSet::new(), time::now());
        loop {
            match context.next().await {
                Wake::Stop => return Ok(()),
                Wake::Message(TtlMessage::Look) | Wake::Due => {}
            }
            if since.elapsed() > REFUSED_FOR {
                (refused, since) = (BTreeSet::new(), time::now());
            }
            let goes_on = async |objects: u64| {
                context.status().working(format!("{objects} objects"), "the time that they were to live is over");
                context.pay(0, objects).await.is_ok()
            };
            match self.cluster.end_expired(wall_millis(), &mut refused, goes_on).await {
                Ok(0) => {}
                Ok(ended) => tracing::debug!(ended, "objects whose time was over are gone"),
                // Their slots may have another leader by now, or none for a moment.
                Err(error) => context.status().failed(format!("expired objects stay for now: {error}")),
            }
        }
    }
}

impl Core {
    /// Objects whose time is over in the slots that this core leads, each with its slot; behind one of them if it is given.
    fn expired(&self, now: u64, behind: Option<&(u32, Expired)>) -> Vec<(u32, Expired)> {
        let mut found = Vec::new();
        for slot in self.led().filter(|slot| behind.is_none_or(|(last, _)| slot >= last)) {
            let from = behind.filter(|(last, _)| *last == slot).map(|(_, last)| last);
            let room = AT_ONCE - found.len();
            let read = self.slots.read(slot, |rows| expired(rows, now, from, room));
            found.extend(read.ok().and_then(Result::ok).into_iter().flatten().map(|expired| (slot, expired)));
            if found.len() == AT_ONCE {
                break;
            }
        }
        found
    }
}

impl Cluster {
    /// Puts tombstones in the places of objects whose time is over, in the slots that this node leads, as long as `goes_on` says so
    /// of the next few; returns how many. What is `refused`, as it is locked, is not tried again.
    ///
    /// # Errors
    /// If a slot can't be told.
    pub async fn end_expired(
        &self,
        now: u64,
        refused: &mut BTreeSet<VersionId>,
        goes_on: impl AsyncFn(u64) -> bool,
    ) -> Result<u64, ClusterError> {
        let mut ended = 0;
        for core in self.core().all() {
            let mut behind: Option<(u32, Expired)> = None;
            loop {
                let look = move |core: Rc<Core>| async move { core.expired(now, behind.as_ref()) };
                let some = self.core().run(Line::Lead, core, look).await?;
                behind = some.last().cloned();
                if behind.is_none() {
                    break;
                }
                let mut of_slots = BTreeMap::<u32, Vec<Expired>>::new();
                for (slot, expired) in some.into_iter().filter(|(_, expired)| !refused.contains(&expired.id)) {
                    of_slots.entry(slot).or_default().push(expired);
                }
                for (slot, some) in of_slots {
                    if !goes_on(some.len() as u64).await {
                        return Ok(ended);
                    }
                    ended += self.end_of_slot(slot, &some, refused).await?;
                }
            }
        }
        Ok(ended)
    }

    async fn end_of_slot(
        &self,
        slot: u32,
        some: &[Expired],
        refused: &mut BTreeSet<VersionId>,
    ) -> Result<u64, ClusterError> {
        let (map, mut ids, mut writes) = (self.map(), Vec::new(), Vec::new());
        for Expired { bucket, key, id, .. } in some {
            let Some(found) = map.find_id(*bucket) else { continue };
            self.reconcile_key(*bucket, key).await;
            let place = Place { bucket: found.record().stamp(), key: key.clone() };
            // Somebody may have written meanwhile.
            let mode = Mode::Conditional(vec![Condition::Head(Some(*id))]);
            writes.push(Write { place, id: new_version(), mode, body: Body::Deletion });
            ids.push(*id);
        }
        if writes.is_empty() {
            return Ok(0);
        }
        let Answer::Committed(each) = self.command_slot(slot, Some(new_token()), Command::Commit(writes)).await? else {
            return Err(ClusterError::another_question());
        };
        refused.extend(ids.into_iter().zip(&each).filter(|(_, done)| done.is_err()).map(|(id, _)| id));
        Ok(each.iter().filter(|done| done.is_ok()).count() as u64)
    }
}
