//! The two halves of a bucket's deletion: `cairn_meta::control` has the table. Whoever finds one half done goes on.

use cairn_meta::control::bucket::BucketState;
use cairn_meta::control::command::{Answer, Command, Refusal as ControlRefusal};
use cairn_meta::slot::command::{Command as SlotCommand, Refusal};
use cairn_meta::slot::layout::BucketId;
use futures_util::future::join_all;

use super::{Cluster, ClusterError};

/// How a deletion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// The bucket is gone.
    Gone,
    /// It has objects, and stays.
    NotEmpty,
}

impl Cluster {
    /// Deletes a bucket if it is empty.
    ///
    /// # Errors
    /// If there is none, or it isn't known whether it is empty: it is *deleting* then until somebody asks again.
    pub async fn delete_bucket(&self, who: &str, name: &str) -> Result<Deleted, ClusterError> {
        let begun = self.control(who, None, Command::BeginDelete { name: name.to_owned() }).await?;
        let Answer::Bucket { id, epoch, state: BucketState::Deleting } = begun else {
            return Err(ClusterError::ControlRefused(ControlRefusal::Missing(format!("bucket: {name}"))));
        };
        match self.close_everywhere(id, epoch).await {
            Ok(()) => {
                self.control(who, None, Command::FinishDelete { id, epoch }).await?;
                Ok(Deleted::Gone)
            }
            Err(ClusterError::Refused(Refusal::NotEmpty)) => {
                self.control(who, None, Command::CancelDelete { id, epoch }).await?;
                Ok(Deleted::NotEmpty)
            }
            Err(error) => Err(error),
        }
    }

    async fn close_everywhere(&self, bucket: BucketId, epoch: u64) -> Result<(), ClusterError> {
        let close = |slot| self.command_slot(slot, None, SlotCommand::CloseBucket { bucket, epoch });
        let closed = join_all((0..self.map().born().slots).map(close)).await;
        // That one has objects is the answer, whatever else there was.
        let not_empty = closed.iter().find_map(|one| match one {
            Err(ClusterError::Refused(Refusal::NotEmpty)) => Some(ClusterError::Refused(Refusal::NotEmpty)),
            _ => None,
        });
        not_empty.map_or(Ok(()), Err)?;
        closed.into_iter().try_for_each(|one| one.map(drop))
    }
}
