//! The cluster map as one core has it: all that control knows at an epoch, ready to be looked up.

use std::collections::HashMap;
use std::ops::Deref;

use cairn_meta::control::bucket::BucketRecord;
use cairn_meta::control::state::{Cluster, UserRecord, Whole};
use cairn_meta::slot::layout::BucketId;

use super::seal::Seal;

/// See the module. It never changes: a later epoch is another map.
#[derive(Debug, Default)]
pub struct Map {
    whole: Whole,
    /// Where a bucket stands in the list, by id.
    bucket_ids: HashMap<BucketId, usize>,
    /// By public half.
    keys: HashMap<String, AccessKey>,
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
        Self { whole, bucket_ids, keys }
    }

    /// A bucket by its name.
    pub fn bucket(&self, name: &str) -> Option<&BucketRecord> {
        let at = self.whole.buckets.binary_search_by(|(known, _)| known.as_str().cmp(name)).ok()?;
        Some(&self.whole.buckets[at].1)
    }

    /// A bucket and its name, by its id.
    pub fn bucket_by_id(&self, id: BucketId) -> Option<&(String, BucketRecord)> {
        self.whole.buckets.get(*self.bucket_ids.get(&id)?)
    }

    /// An access key by its public half.
    pub fn key(&self, access: &str) -> Option<&AccessKey> {
        self.keys.get(access)
    }

    /// A user by name.
    pub fn user(&self, name: &str) -> Option<&UserRecord> {
        self.whole.users.iter().find(|user| user.name == name)
    }

    /// What was fixed at the cluster's birth; all zero before it.
    pub fn born(&self) -> Cluster {
        self.whole.cluster.unwrap_or_default()
    }
}

impl Deref for Map {
    type Target = Whole;

    fn deref(&self) -> &Whole {
        &self.whole
    }
}
