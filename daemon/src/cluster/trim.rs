//! What retention lets go, in the slots that a node leads: tombstones that were kept long enough, and versions that nobody can ask
//! for any more. The slots judge (`cairn_meta::version::retention`); here they are asked to.

use std::rc::Rc;

use cairn_io::task::yield_now;
use cairn_meta::slot::command::{Answer, Bucket as Stamp, Command, Envelope, Place, Trimmed};
use cairn_meta::slot::layout::BucketId;
use cairn_meta::slot::trim::{Due, look};

use super::hub::{Core, Line};
use super::map::Map;
use super::{Cluster, ClusterError, wall_millis};
use crate::actor::{Actor, Context, Failure, Wake};

/// Keys that a slot is told of at once.
const AT_ONCE: usize = 64;

/// The actor: one of a node, for the slots that it leads.
pub struct Trim {
    /// The cluster, as core 0 sees it.
    pub cluster: Cluster,
}

/// What may be asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrimMessage {
    /// Look now.
    Look,
}

impl Actor for Trim {
    type Message = TrimMessage;

    async fn run(self, mut context: Context<Self::Message>) -> Result<(), Failure> {
        loop {
            match context.next().await {
                Wake::Stop => return Ok(()),
                Wake::Message(TrimMessage::Look) | Wake::Due => {}
            }
            let goes_on = async |keys: u64| {
                if keys > 0 {
                    context.status().working(format!("{keys} keys"), "versions that retention lets go");
                }
                context.pay(0, keys).await.is_ok()
            };
            match self.cluster.trim(wall_millis(), goes_on).await {
                Ok(0) => {}
                Ok(dropped) => tracing::debug!(dropped, "versions that retention lets go are gone"),
                // Their slots may have another leader by now, or none for a moment.
                Err(error) => context.status().failed(format!("versions that may go stay for now: {error}")),
            }
        }
    }
}

/// A bucket as a slot is told of it; of one that is no more tombstones are all there is, kept as long as anybody's.
fn stamp(map: &Rc<Map>, id: BucketId) -> Stamp {
    map.find_id(id).map_or(Stamp::gone(id), |found| found.record().stamp())
}

impl Core {
    /// Keys of a slot that may be trimmed, behind a row; none if another node leads it by now.
    fn look_for_trim(&self, slot: u32, now: u64, behind: Option<&[u8]>) -> Result<Due, ClusterError> {
        let map = self.map.borrow().clone();
        let read = self.slots.read(slot, |rows| look(rows, now, &|bucket| stamp(&map, bucket).keep, behind));
        Ok(read.ok().transpose()?.unwrap_or_default())
    }
}

impl Cluster {
    /// Has the slots that this node leads drop what retention lets go, as long as `goes_on` says so of the next few keys, which may be
    /// none yet; returns how many versions went.
    ///
    /// # Errors
    /// If a slot can't be told.
    pub async fn trim(&self, now: u64, goes_on: impl AsyncFn(u64) -> bool) -> Result<u64, ClusterError> {
        let mut dropped = 0;
        for core in self.core().all() {
            let led = self
                .core()
                .run(Line::Lead, core, |core: Rc<Core>| async move { core.led().collect::<Vec<_>>() })
                .await?;
            for slot in led {
                let mut behind = None;
                loop {
                    // Others of this core wait for no more than one look.
                    yield_now().await;
                    if !goes_on(0).await {
                        return Ok(dropped);
                    }
                    let look = move |core: Rc<Core>| async move { core.look_for_trim(slot, now, behind.as_deref()) };
                    let Due { keys, next } = self.core().run(Line::Lead, core, look).await??;
                    for some in keys.chunks(AT_ONCE) {
                        let mut rest = true;
                        while rest {
                            if !goes_on(some.len() as u64).await {
                                return Ok(dropped);
                            }
                            let done = self.trim_slot(slot, now, some).await?;
                            (dropped, rest) = (dropped + done.dropped, done.rest);
                        }
                    }
                    behind = next;
                    if behind.is_none() {
                        break;
                    }
                }
            }
        }
        Ok(dropped)
    }

    async fn trim_slot(&self, slot: u32, now: u64, some: &[(BucketId, String)]) -> Result<Trimmed, ClusterError> {
        let map = self.map();
        let places = some.iter().map(|(bucket, key)| Place { bucket: stamp(&map, *bucket), key: key.clone() });
        let envelope = Envelope { time: now, token: None, command: Command::Trim(places.collect()) };
        match self.command_bytes(slot, envelope.encode().into()).await? {
            Answer::Trimmed(done) => Ok(done),
            _ => Err(ClusterError::another_question()),
        }
    }
}
