//! Reading one version of one key.

use cairn_meta::control::bucket::Offline;
use cairn_meta::slot::command::Which;
use cairn_meta::slot::read::{Found, Mode};
use cairn_meta::version::{Kind, State, VersionId};
use cairn_schema as wire;
use cairn_schema::{Answer, Error, ErrorKind, ReadMode, ReadRequest, ReadResult};

use super::error::{in_field, of_cluster, of_s3};
use super::{Clients, words};
use crate::cluster::{Freshness, Seen, wall_millis};
use crate::s3::asker::{Asker, Reading, Sight};

/// How a mode of the wire is asked for.
fn asked(mode: ReadMode) -> (Mode, Sight, Freshness) {
    use Freshness::{Latest, Local};
    match mode {
        ReadMode::Preferred => (Mode::Preferred, Sight::Now, Latest),
        ReadMode::ConfirmedOnly => (Mode::ConfirmedOnly, Sight::Now, Latest),
        ReadMode::ProvisionalAllowed => (Mode::ProvisionalAllowed, Sight::Now, Local),
        ReadMode::Version(wire::VersionId(id)) => {
            (Mode::Exact(VersionId(id)), Sight::Version(Which::Id(VersionId(id))), Latest)
        }
        ReadMode::At(time) => (Mode::At(time), Sight::Past, Latest),
        ReadMode::Null => (Mode::Null, Sight::Version(Which::Null), Latest),
    }
}

impl Clients {
    pub(super) async fn read_one(&self, asker: &Asker, request: &ReadRequest) -> Answer<ReadResult> {
        let (bucket, key) = (self.bucket(request.bucket).await?, &request.key);
        let (mode, sight, freshness) = asked(request.mode);
        let reading = asker.read(&bucket, key, sight).await.map_err(|error| of_s3(&error))?;
        let or_older = bucket.record().settings.offline == Offline::Accept;
        let seen = self.cluster.read((request.bucket, key), mode, freshness, or_older).await.map_err(of_cluster)?;
        let Seen { found, freshness } = seen;
        let is_confirmed = found.as_ref().is_none_or(|found| found.state == State::Confirmed);
        let from_leader = freshness == Freshness::Latest && is_confirmed;
        match (found, sight) {
            (Some(found), Sight::Version(_)) => show(&reading, &found, vec![], from_leader),
            (None, Sight::Version(_)) => {
                reading.show_nothing().map_err(|error| of_s3(&error))?;
                Err(in_field("mode", Error::fix_input(ErrorKind::NotFound, "the key has no such version")))
            }
            (Some(found), Sight::Now | Sight::Past) if found.is_object(time_of(request.mode)) => {
                // The preferred one is the last.
                let heads = found.heads.iter().rev().map(|head| words::wire_id(head.id));
                let heads = if sight == Sight::Now { heads.collect() } else { vec![] };
                show(&reading, &found, heads, from_leader)
            }
            (found, Sight::Now | Sight::Past) => {
                reading.show_nothing().map_err(|error| of_s3(&error))?;
                let hides = |found: Found| (found.version.kind != Kind::Data).then(|| words::wire_id(found.version.id));
                Ok(ReadResult::Absent { marker: found.and_then(hides).unwrap_or_default(), from_leader })
            }
        }
    }
}

/// When an object must not have expired.
fn time_of(mode: ReadMode) -> u64 {
    if let ReadMode::At(time) = mode { time } else { wall_millis() }
}

fn show(reading: &Reading, found: &Found, heads: Vec<wire::VersionId>, from_leader: bool) -> Answer<ReadResult> {
    reading.show(&found.version).map_err(|error| of_s3(&error))?;
    Ok(ReadResult::Found { version: Box::new(words::version(&found.version)), heads, from_leader })
}
