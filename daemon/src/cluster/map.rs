//! The cluster map as one core has it: all that control knows at an epoch, ready to be looked up.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use cairn_meta::control::bucket::BucketRecord;
use cairn_meta::control::state::{Cluster, UserRecord, Whole};
use cairn_meta::slot::layout::BucketId;

use cairn_placement::score::pair_hash;
use cairn_placement::{Group, NodeId, SlotId};

use super::CONTROL;
use super::peers::Peers;
use super::seal::Seal;

/// See the module. It never changes: a later epoch is another map. Clones share it, on any core.
#[derive(Clone, Debug, Default)]
pub struct Map(Arc<Ready>);

#[derive(Debug, Default)]
struct Ready {
    whole: Whole,
    /// Where a bucket stands in the list, by id.
    bucket_ids: HashMap<BucketId, usize>,
    /// By public half.
    keys: HashMap<String, AccessKey>,
    /// The nodes that slots were given to.
    slot_nodes: Vec<NodeId>,
}

/// A bucket of a map. It keeps the map.
#[derive(Clone, Debug)]
pub struct Bucket {
    map: Rc<Map>,
    at: usize,
}

impl Bucket {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.map.buckets[self.at].0
    }

    /// What is said of it.
    pub fn record(&self) -> &BucketRecord {
        &self.map.buckets[self.at].1
    }
}

/// An access key that may be used.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// Whose it is.
    pub user: String,
    /// Its secret half. Never to be shown.
    pub secret: String,
}

impl std::fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessKey").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Map {
    /// Of what control said. Keys that are disabled, or were sealed with another secret, are left out.
    pub fn new(whole: Whole, seal: &Seal) -> Self {
        let bucket_ids = whole.buckets.iter().enumerate().map(|(at, (_, bucket))| (bucket.id, at)).collect();
        let usable = whole.keys.iter().filter(|key| !key.disabled);
        let opened = usable.filter_map(|key| {
            let secret = seal.open(&key.access, &key.sealed)?;
            Some((key.access.clone(), AccessKey { user: key.user.clone(), secret }))
        });
        let keys = opened.collect();
        let slot_nodes = slot_nodes(&whole);
        Self(Arc::new(Ready { whole, bucket_ids, keys, slot_nodes }))
    }

    /// What is said of a bucket, by its name.
    pub fn bucket(&self, name: &str) -> Option<&BucketRecord> {
        Some(&self.buckets[self.place_of(name)?].1)
    }

    /// A bucket by its name.
    pub fn find(self: &Rc<Self>, name: &str) -> Option<Bucket> {
        Some(Bucket { map: self.clone(), at: self.place_of(name)? })
    }

    /// A bucket by its id.
    pub fn find_id(self: &Rc<Self>, id: BucketId) -> Option<Bucket> {
        Some(Bucket { map: self.clone(), at: *self.0.bucket_ids.get(&id)? })
    }

    /// All buckets.
    pub fn all_buckets(self: &Rc<Self>) -> impl Iterator<Item = Bucket> {
        (0..self.buckets.len()).map(|at| Bucket { map: self.clone(), at })
    }

    fn place_of(&self, name: &str) -> Option<usize> {
        self.buckets.binary_search_by(|(known, _)| known.as_str().cmp(name)).ok()
    }

    /// An access key by its public half.
    pub fn key(&self, access: &str) -> Option<&AccessKey> {
        self.0.keys.get(access)
    }

    /// The nodes that slots were given to at the cluster's birth; empty before.
    pub fn slot_nodes(&self) -> &[NodeId] {
        &self.0.slot_nodes
    }

    /// How many nodes have each slot.
    pub fn slot_copies(&self) -> u8 {
        u8::try_from(self.slot_nodes().len()).unwrap_or(u8::MAX).clamp(1, COPIES)
    }

    /// A user by name.
    pub fn user(&self, name: &str) -> Option<&UserRecord> {
        self.0.whole.users.iter().find(|user| user.name == name)
    }

    /// What was fixed at the cluster's birth; all zero before it.
    pub fn born(&self) -> Cluster {
        self.0.whole.cluster.unwrap_or_default()
    }
}

impl Deref for Map {
    type Target = Whole;

    fn deref(&self) -> &Whole {
        &self.0.whole
    }
}

/// The setting that names the nodes which have slots, their numbers separated by commas. Written at birth: were slots placed by all
/// nodes of the map, one that joins would take itself for a member of groups that know nothing of it.
pub const SLOT_NODES: &str = "slots.nodes";
/// Nodes that have a slot, if there are as many.
const COPIES: u8 = 3;

fn slot_nodes(whole: &Whole) -> Vec<NodeId> {
    let setting = whole.settings.iter().find(|(name, _)| name == SLOT_NODES);
    let numbers = setting.map_or("", |(_, setting)| setting.value.as_str()).split(',');
    numbers.filter_map(|number| number.parse().ok().map(NodeId)).collect()
}

/// The nodes that have a slot, the one that ranks first at the head; of control, the first few of the static list.
pub fn members(map: &Map, peers: &Peers, slot: u32) -> Vec<NodeId> {
    let mut nodes = map.slot_nodes().to_vec();
    if slot == CONTROL {
        nodes = if nodes.is_empty() { peers.nodes() } else { nodes };
        nodes.sort_unstable();
    } else {
        nodes.sort_by_cached_key(|node| (Reverse(pair_hash(Group::Slot(SlotId(slot)), *node)), *node));
    }
    nodes.truncate(COPIES.into());
    nodes
}
