//! The cluster map, and changes to it.

use crate::cairn_capnp as schema;
use crate::error::{Answer, Error, NodeRef};
use crate::hello::CallInfo;
use crate::limits::{DATA_BYTES_MAX, MAP_MAX, TEXT_BYTES_MAX};
use crate::slots::{Ack, request};
use crate::wire::{
    InField, Malformed, Request, Wire, list_len, read_array, read_array_or_none, read_list, read_text, wire_enum,
    write_list,
};

/// Asks for a map newer than the caller has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MapRequest {
    /// Comes with every request.
    pub call: CallInfo,
    /// The epoch the caller has; 0: none.
    pub have: u64,
}

wire_enum! {
    /// What a write to a bucket does without a leader.
    Offline = Offline {
        /// It becomes provisional.
        #[default]
        Accept,
        /// It fails.
        Reject,
    }
}

/// A bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Never reused; 0 in a bucket to be.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// A policy of the map; empty: the cluster's own.
    pub policy: String,
    /// What a write does without a leader.
    pub offline: Offline,
    /// When commits are answered that don't say.
    pub ack: Ack,
}

/// The map at an epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterMap {
    /// Its number.
    pub epoch: u64,
    /// Whose map it is.
    pub cluster: [u8; 16],
    /// The map file of docs/placement.md.
    pub placement: String,
    /// Where each node answers.
    pub addresses: Vec<NodeRef>,
    /// All buckets.
    pub buckets: Vec<Bucket>,
}

/// What a node has for who asks for a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapUpdate {
    /// This one.
    Map(Box<ClusterMap>),
    /// No later one; it has this epoch.
    Unchanged(u64),
}

/// A change of the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new bucket.
    CreateBucket(Bucket),
    /// Other settings for the bucket of this id.
    UpdateBucket(Bucket),
    /// An empty bucket goes.
    RemoveBucket(u64),
    /// Another map file.
    SetPlacement(String),
    /// A node answers elsewhere.
    SetAddress(NodeRef),
}

/// Proposes a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProposeRequest {
    /// Comes with every request.
    pub call: CallInfo,
    /// Makes repeating it safe.
    pub idempotency: Option<[u8; 16]>,
    /// What it builds on; 0: whatever.
    pub epoch: u64,
    /// The change.
    pub change: Change,
}

/// A change that took effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// From here on it is in the map.
    pub epoch: u64,
    /// A bucket that was created; else 0.
    pub bucket: u64,
}

request!(MapRequest => MapUpdate);
request!(ProposeRequest => Applied);

impl Wire for MapRequest {
    type Form = schema::map_request::Owned;

    fn read(from: schema::map_request::Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { call: CallInfo::read(from.get_call()?)?, have: from.get_have() })
    }

    fn write(&self, mut into: schema::map_request::Builder<'_>) {
        self.call.write(into.reborrow().init_call());
        into.set_have(self.have);
    }
}

impl Wire for Bucket {
    type Form = schema::bucket::Owned;

    fn read(from: schema::bucket::Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            id: from.get_id(),
            name: read_text(from.get_name(), TEXT_BYTES_MAX).field("name")?,
            policy: read_text(from.get_policy(), TEXT_BYTES_MAX).field("policy")?,
            offline: Offline::of(from.get_offline().field("offline")?),
            ack: Ack::of(from.get_ack().field("ack")?),
        })
    }

    fn write(&self, mut into: schema::bucket::Builder<'_>) {
        into.set_id(self.id);
        into.set_name(self.name.as_str());
        into.set_policy(self.policy.as_str());
        into.set_offline(self.offline.form());
        into.set_ack(self.ack.form());
    }
}

impl Wire for ClusterMap {
    type Form = schema::cluster_map::Owned;

    fn read(from: schema::cluster_map::Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            epoch: from.get_epoch(),
            cluster: read_array(from.get_cluster()).field("cluster")?,
            placement: read_text(from.get_placement(), DATA_BYTES_MAX).field("placement")?,
            addresses: read_addresses(from).field("addresses")?,
            buckets: read_buckets(from).field("buckets")?,
        })
    }

    fn write(&self, mut into: schema::cluster_map::Builder<'_>) {
        into.set_epoch(self.epoch);
        into.set_cluster(&self.cluster);
        into.set_placement(self.placement.as_str());
        write_list!(into.reborrow().init_addresses(list_len(self.addresses.len())), &self.addresses);
        write_list!(into.init_buckets(list_len(self.buckets.len())), &self.buckets);
    }
}

fn read_addresses(from: schema::cluster_map::Reader<'_>) -> Result<Vec<NodeRef>, Malformed> {
    read_list!(from.get_addresses(), MAP_MAX, NodeRef::read)
}

fn read_buckets(from: schema::cluster_map::Reader<'_>) -> Result<Vec<Bucket>, Malformed> {
    read_list!(from.get_buckets(), MAP_MAX, Bucket::read)
}

impl Wire for Answer<MapUpdate> {
    type Form = schema::map_response::Owned;

    fn read(from: schema::map_response::Reader<'_>) -> Result<Self, Malformed> {
        use schema::map_response::Which;
        Ok(match from.which()? {
            Which::Map(map) => Ok(MapUpdate::Map(Box::new(ClusterMap::read(map?).field("map")?))),
            Which::Unchanged(epoch) => Ok(MapUpdate::Unchanged(epoch)),
            Which::Error(error) => Err(Error::read(error?)?),
        })
    }

    fn write(&self, mut into: schema::map_response::Builder<'_>) {
        match self {
            Ok(MapUpdate::Map(map)) => map.write(into.init_map()),
            Ok(MapUpdate::Unchanged(epoch)) => into.set_unchanged(*epoch),
            Err(error) => error.write(into.init_error()),
        }
    }
}

impl Wire for ProposeRequest {
    type Form = schema::propose_request::Owned;

    fn read(from: schema::propose_request::Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            call: CallInfo::read(from.get_call()?)?,
            idempotency: read_array_or_none(from.get_idempotency()).field("idempotency")?,
            epoch: from.get_epoch(),
            change: read_change(from.get_change()).field("change")?,
        })
    }

    fn write(&self, mut into: schema::propose_request::Builder<'_>) {
        self.call.write(into.reborrow().init_call());
        into.set_idempotency(self.idempotency.as_ref().map_or(&[][..], |key| key));
        into.set_epoch(self.epoch);
        let mut change = into.init_change();
        match &self.change {
            Change::CreateBucket(bucket) => bucket.write(change.init_create_bucket()),
            Change::UpdateBucket(bucket) => bucket.write(change.init_update_bucket()),
            Change::RemoveBucket(id) => change.set_remove_bucket(*id),
            Change::SetPlacement(file) => change.set_set_placement(file.as_str()),
            Change::SetAddress(node) => node.write(change.init_set_address()),
        }
    }
}

fn read_change(from: schema::propose_request::change::Reader<'_>) -> Result<Change, Malformed> {
    use schema::propose_request::change::Which;
    Ok(match from.which()? {
        Which::CreateBucket(bucket) => Change::CreateBucket(Bucket::read(bucket?).field("createBucket")?),
        Which::UpdateBucket(bucket) => Change::UpdateBucket(Bucket::read(bucket?).field("updateBucket")?),
        Which::RemoveBucket(id) => Change::RemoveBucket(id),
        Which::SetPlacement(file) => Change::SetPlacement(read_text(file, DATA_BYTES_MAX).field("setPlacement")?),
        Which::SetAddress(node) => Change::SetAddress(NodeRef::read(node?).field("setAddress")?),
    })
}

impl Wire for Answer<Applied> {
    type Form = schema::propose_response::Owned;

    fn read(from: schema::propose_response::Reader<'_>) -> Result<Self, Malformed> {
        use schema::propose_response::Which;
        match from.which()? {
            Which::Applied(applied) => {
                let applied = applied?;
                Ok(Ok(Applied { epoch: applied.get_epoch(), bucket: applied.get_bucket() }))
            }
            Which::Error(error) => Ok(Err(Error::read(error?)?)),
        }
    }

    fn write(&self, into: schema::propose_response::Builder<'_>) {
        match self {
            Ok(applied) => {
                let mut form = into.init_applied();
                form.set_epoch(applied.epoch);
                form.set_bucket(applied.bucket);
            }
            Err(error) => error.write(into.init_error()),
        }
    }
}
