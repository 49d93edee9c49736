//! Opening the groups of a node, and the birth of a cluster.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use cairn_io::time::{self, Duration};
use cairn_meta::control::Control;
use cairn_meta::control::command::{Command, Refusal};
use cairn_meta::control::state::Cluster as Born;
use cairn_meta::slot::Slot;
use cairn_placement::NodeId;
use futures_util::future::try_join_all;

use super::{CONTROL, Cluster, ClusterError, Inner, Seal};
use crate::disks::Disks;
use crate::slot::{Options as SlotOptions, Slots, Transport};

/// What a node is in its cluster.
#[derive(Clone)]
pub struct Options {
    /// Who this node is.
    pub node: NodeId,
    /// What the cluster is, when it is born.
    pub born: Born,
    /// The cluster's secret.
    pub seal: Seal,
    /// How groups are run.
    pub slot: SlotOptions,
    /// How long opening waits for a leader of the control group.
    pub within: Duration,
}

/// How often an opening node looks whether there is a leader.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

impl Cluster {
    /// Opens a cluster of one on the lanes of this core.
    ///
    /// # Errors
    /// If a group can't be opened, or the disks belong to another cluster.
    pub async fn open(disks: Disks, transport: Rc<dyn Transport>, options: &Options) -> Result<Self, ClusterError> {
        let slots = Slots::new(options.node, transport, options.slot.clone())?;
        let lanes = disks.own_lanes();
        let Some((_, first)) = lanes.first() else {
            return Err(ClusterError::Broken("no disk of this core takes data".to_owned()));
        };
        let me = BTreeSet::from([options.node]);
        slots.open(CONTROL, first, Rc::new(Control)).await?;
        slots.create(CONTROL, &me).await?;
        let map = RefCell::default();
        let cluster = Self(Rc::new(Inner { slots, disks, seal: options.seal.clone(), map }));
        cluster.be_born(options).await?;
        let open = |slot: u32| {
            let lane = &lanes[slot as usize % lanes.len()].1;
            let (cluster, me) = (&cluster, &me);
            async move {
                cluster.0.slots.open(slot, lane, Rc::new(Slot)).await?;
                cluster.0.slots.create(slot, me).await
            }
        };
        try_join_all((0..cluster.map().born().slots).map(open)).await?;
        for slot in 0..cluster.map().born().slots {
            cluster.await_leader(slot, options.within).await?;
        }
        Ok(cluster)
    }

    async fn be_born(&self, options: &Options) -> Result<(), ClusterError> {
        self.await_leader(CONTROL, options.within).await?;
        self.0.slots.barrier(CONTROL).await?;
        self.refresh()?;
        if self.map().cluster.is_none() {
            self.control("cairn", None, Command::Birth(options.born)).await?;
        }
        let born = self.map().born();
        if born.id != options.born.id {
            return Err(ClusterError::ControlRefused(Refusal::Born { id: born.id }));
        }
        Ok(())
    }

    async fn await_leader(&self, slot: u32, within: Duration) -> Result<(), ClusterError> {
        let begun = time::now();
        while self.0.slots.status(slot)?.leader.is_none() {
            if begun.elapsed() > within {
                return Err(ClusterError::Unreachable(format!("slot {slot} has no leader")));
            }
            time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }
}
