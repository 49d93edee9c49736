//! The map as a user may see it, and changes to buckets.

use std::fmt::Write;

use cairn_io::task::yield_now;
use cairn_io::time::{Duration, timeout};
use cairn_meta::control::bucket::{BucketSettings, BucketState, Offline as Without};
use cairn_meta::control::command::{Answer as Done, Command, CreateBucket, Refusal, SetBucket};
use cairn_schema as wire;
use cairn_schema::{
    Answer, Applied, Change, ClusterMap, Error, ErrorKind, MapUpdate, NodeRef, Offline, ProposeRequest,
};

use super::commit::named_token;
use super::error::{bad_input, defect, in_field, of_cluster, of_s3, of_s3_work};
use super::{Clients, words};
use crate::cluster::{ClusterError, Map, new_token};
use crate::rpc::Caller;
use crate::s3::asker::Asker;
use crate::s3::call::Bucket;

/// So long before the deadline a client is told that there is no later map, so that it hears that in time.
const MARGIN: Duration = Duration::from_millis(100);
/// Buckets looked at before others on the core have their turn: policies take time.
const AT_A_TIME: usize = 64;

impl Clients {
    /// The map, if it is later than what the client has.
    pub(super) async fn map_for(&self, asker: &Asker, have: u64) -> Answer<MapUpdate> {
        let map = self.cluster.map();
        if map.epoch <= have {
            return Ok(MapUpdate::Unchanged(map.epoch));
        }
        let address = |node: u64, address: &str| NodeRef { node, address: address.to_owned() };
        let addresses = map.nodes.iter().map(|node| address(node.id, &node.address));
        let mut shown = ClusterMap {
            epoch: map.epoch,
            cluster: map.born().id.0.to_be_bytes(),
            placement: placement(&map),
            addresses: addresses.collect(),
            buckets: vec![],
        };
        for (at, bucket) in map.all_buckets().enumerate() {
            if at % AT_A_TIME == AT_A_TIME - 1 {
                yield_now().await;
            }
            if asker.sees(&bucket) {
                shown.buckets.push(of_bucket(&bucket));
            }
        }
        Ok(MapUpdate::Map(Box::new(shown)))
    }

    /// Returns when this core has a later map, or shortly before the deadline.
    pub(super) async fn newer_map(&self, caller: &Caller, have: u64) {
        let later = async {
            loop {
                let changed = self.cluster.map_changed();
                if self.cluster.map().epoch > have {
                    return;
                }
                changed.await;
            }
        };
        // Out of time is no error.
        let _ = timeout(caller.remaining().saturating_sub(MARGIN), later).await;
    }

    pub(super) async fn change(&self, asker: &Asker, request: &ProposeRequest) -> Answer<Applied> {
        match &request.change {
            Change::CreateBucket(bucket) => self.create_bucket(asker, request, bucket).await,
            Change::UpdateBucket(bucket) => self.update_bucket(asker, request, bucket).await,
            Change::RemoveBucket(id) => self.remove_bucket(asker, request.epoch, *id).await,
            Change::SetPlacement(_) | Change::SetAddress(_) => {
                let message = "what nodes the map has can't be changed yet: they are those of `cluster.peers`";
                Err(in_field("change", Error::fix_input(ErrorKind::Unsupported, message)))
            }
        }
    }

    async fn create_bucket(&self, asker: &Asker, request: &ProposeRequest, new: &wire::Bucket) -> Answer<Applied> {
        if new.id != 0 {
            return Err(bad_input("change.createBucket.id", "it is 0 here: the number is drawn, and answered"));
        }
        check_policy("change.createBucket.policy", new)?;
        asker.add_bucket().map_err(|error| of_s3(&error))?;
        let settings = settings(new, BucketSettings::default());
        let create = CreateBucket { name: new.name.clone(), owner: asker.user().to_owned(), settings };
        let done = self.propose_once(asker, request, 0, Command::CreateBucket(create)).await;
        match done.map_err(of_cluster)? {
            Done::Bucket { id, epoch, .. } => Ok(Applied { epoch, bucket: id }),
            Done::Done => Err(defect()),
        }
    }

    async fn update_bucket(&self, asker: &Asker, request: &ProposeRequest, new: &wire::Bucket) -> Answer<Applied> {
        check_policy("change.updateBucket.policy", new)?;
        for turn in 0_u64.. {
            let bucket = self.bucket(new.id).await?;
            asker.own(&bucket).map_err(|error| of_s3(&error))?;
            if !new.name.is_empty() && new.name != bucket.name() {
                return Err(bad_input("change.updateBucket.name", "a bucket keeps its name: leave it out"));
            }
            let settings = settings(new, bucket.record().settings.clone());
            // What was changed since is refused by control, unless this very change did it.
            let is_stale = request.epoch != 0 && bucket.record().epoch > request.epoch;
            let expected = Some(if is_stale { request.epoch } else { bucket.record().epoch });
            let set = Command::SetBucket(SetBucket { name: bucket.name().to_owned(), expected, settings });
            match self.propose_once(asker, request, turn, set).await {
                Ok(Done::Bucket { epoch, .. }) => return Ok(Applied { epoch, bucket: 0 }),
                Err(ClusterError::ControlRefused(Refusal::Changed { .. })) if request.epoch == 0 => {}
                Ok(Done::Done) => return Err(defect()),
                Err(error) => return Err(of_cluster(error)),
            }
            self.cluster.catch_up().await.map_err(of_cluster)?;
        }
        Err(defect())
    }

    async fn remove_bucket(&self, asker: &Asker, epoch: u64, id: u64) -> Answer<Applied> {
        // One whose deletion was begun and not finished is deleted again.
        let bucket = self.find_bucket(id).await?;
        if epoch != 0 && bucket.record().state == BucketState::Open && bucket.record().epoch > epoch {
            return Err(of_cluster(ClusterError::ControlRefused(Refusal::Changed { found: bucket.record().epoch })));
        }
        asker.remove_bucket(bucket.name()).await.map_err(|error| of_s3_work(&error))?;
        Ok(Applied { epoch: self.cluster.map().epoch, bucket: 0 })
    }

    /// See [`super::commit`] about tokens and turns.
    async fn propose_once(
        &self,
        asker: &Asker,
        request: &ProposeRequest,
        turn: u64,
        command: Command,
    ) -> Result<Done, ClusterError> {
        let named = |intent: [u8; 16]| named_token(&[asker.user().as_bytes(), &intent], turn);
        let token = request.idempotency.map_or_else(new_token, named);
        self.cluster.control(asker.user(), Some(token), command).await
    }
}

fn check_policy(field: &str, bucket: &wire::Bucket) -> Answer<()> {
    if bucket.policy.is_empty() {
        return Ok(());
    }
    Err(bad_input(field, "the map has no policy of this name; leave it empty for the cluster's own"))
}

/// These settings, as a client wants them.
fn settings(new: &wire::Bucket, settings: BucketSettings) -> BucketSettings {
    let offline = match new.offline {
        Offline::Accept => Without::Accept,
        Offline::Reject => Without::Reject,
    };
    BucketSettings { offline, ack: words::ack(new.ack).unwrap_or(settings.ack), ..settings }
}

fn of_bucket(bucket: &Bucket) -> wire::Bucket {
    let settings = &bucket.record().settings;
    let offline = match settings.offline {
        Without::Accept => Offline::Accept,
        Without::Reject => Offline::Reject,
    };
    let ack = words::wire_ack(settings.ack);
    let (id, name, policy) = (bucket.record().id, bucket.name().to_owned(), settings.policy.clone());
    wire::Bucket { id, name, policy, offline, ack }
}

/// The map file of `docs/placement.md`.
fn placement(map: &Map) -> String {
    let born = map.born();
    let mut text = format!("epoch = {}\npartitions = {}\nslots = {}\n", map.epoch, born.partitions, born.slots);
    for node in &map.nodes {
        let label = |(name, value): &(String, String)| format!("{} = {}", quoted(name), quoted(value));
        let labels: Vec<String> = node.labels.iter().map(label).collect();
        let _ = write!(
            text,
            "\n[[nodes]]\nid = {}\nlabels = {{ {} }}\ncapacity_bytes = {}\n",
            node.id,
            labels.join(", "),
            node.capacity
        );
    }
    text
}

/// A text of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            char if char.is_control() => drop(write!(quoted, "\\u{:04X}", u32::from(char))),
            char => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use cairn_meta::control::state::{Cluster, ClusterId, NodeRecord, Whole};
    use cairn_placement::map::BadMap;

    use super::*;
    use crate::cluster::Seal;

    #[test]
    fn the_placement_of_a_map_is_a_map_file() {
        let read = |label: &str| {
            let labels = vec![("rack".to_owned(), label.to_owned())];
            let node = |id| NodeRecord { id, address: String::new(), labels: labels.clone(), capacity: 7 << 30 };
            let cluster = Some(Cluster { id: ClusterId(1), slots: 8, partitions: 64 });
            let whole = Whole { epoch: 5, cluster, nodes: vec![node(1), node(2)], ..Whole::default() };
            cairn_placement::Map::from_toml(&placement(&Map::new(whole, &Seal::new(&[1; Seal::BYTES]))))
        };
        let strange = read("a \"b\"\\\n\u{7f}");
        assert!(matches!(strange, Err(BadMap::Faults(_))), "read, and no label: {strange:?}");
        let read = read("r1").unwrap();
        assert_eq!((read.slots().len(), read.partitions().len(), read.nodes().len()), (8, 64, 2));
        assert_eq!(read.nodes()[1].capacity_bytes, 7 << 30);
    }
}
