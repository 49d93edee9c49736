//! Buckets: names, settings, and the two halves of a deletion.

use minicbor::{Decode, Encode};

use super::command::{Answer, CreateBucket, Refusal, SetBucket};
use super::state::{Space, at, get, put};
use super::{Did, Stepped};
use crate::index::Error;
use crate::rows::{Batch, Rows};
use crate::slot::command::{Bucket, Versioning};
use crate::slot::layout::BucketId;
use crate::version::commit::Caps;
use crate::version::retention::Keep;
use crate::version::{LockMode, Pair};

/// Documents of a bucket together, in bytes.
pub const DOCUMENTS_MAX: usize = 256 << 10;

/// What a node does with writes when it reaches no leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Offline {
    /// It takes them as provisional, and says so.
    #[default]
    #[n(0)]
    Accept,
    /// It refuses them.
    #[n(1)]
    Reject,
}

/// Which nodes have a version, durably, before its writer is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Ack {
    /// A majority of the slot's: the version is confirmed.
    #[default]
    #[n(0)]
    Quorum,
    /// The one that takes the write, where that may be provisional; a majority else.
    #[n(1)]
    One,
    /// All of the slot's.
    #[n(2)]
    All,
}

/// What readers are shown who don't say what they want.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Reads {
    /// The preferred head, as fresh as an answer can be.
    #[default]
    #[n(0)]
    Preferred,
    /// The same of what is confirmed.
    #[n(1)]
    Confirmed,
    /// What the node that is asked has, however old that is.
    #[n(2)]
    Local,
}

/// What a bucket's owner may set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct BucketSettings {
    /// Its versioning. Once on, it is never off again.
    #[n(0)]
    pub versioning: Versioning,
    /// Writes without a leader.
    #[n(1)]
    pub offline: Offline,
    /// The name of its policy; empty: the cluster's default.
    #[n(2)]
    pub policy: String,
    /// How long it keeps what.
    #[n(3)]
    pub keep: Keep,
    /// What is allowed for one key.
    #[n(4)]
    pub caps: Caps,
    /// Whether versions may be locked. Once on, it stays on, and so does versioning.
    #[n(5)]
    pub object_lock: bool,
    /// The retention of versions that come without one.
    #[n(6)]
    pub default_retention: Option<DefaultRetention>,
    /// The most bytes; `None`: any number. Nobody enforces it yet.
    #[n(7)]
    pub quota_bytes: Option<u64>,
    /// Documents by name that a gateway keeps here (lifecycle, CORS, policy, website, tags), as it was given them.
    #[n(8)]
    pub documents: Vec<Pair>,
    /// When writers are answered who don't say what they want.
    #[cbor(n(9), default)]
    pub ack: Ack,
    /// What readers are shown.
    #[cbor(n(10), default)]
    pub read: Reads,
}

/// A retention that begins with each version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct DefaultRetention {
    /// Who may shorten it.
    #[n(0)]
    pub mode: LockMode,
    /// How long, in milliseconds.
    #[n(1)]
    pub length: u64,
}

/// Whether a bucket may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum BucketState {
    /// It may.
    #[default]
    #[n(0)]
    Open,
    /// Slots are being asked whether it is empty; nobody writes to it.
    #[n(1)]
    Deleting,
}

/// What is known of a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct BucketRecord {
    /// Its id: the epoch of its creation.
    #[n(0)]
    pub id: BucketId,
    /// Whose it is.
    #[n(1)]
    pub owner: String,
    /// Its settings.
    #[n(2)]
    pub settings: BucketSettings,
    /// Whether it may be used.
    #[n(3)]
    pub state: BucketState,
    /// When settings or state last changed.
    #[n(4)]
    pub epoch: u64,
    /// When it was made, in milliseconds since the Unix epoch.
    #[n(5)]
    pub created: u64,
}

impl BucketRecord {
    /// What goes with every command to a slot.
    pub fn stamp(&self) -> Bucket {
        let BucketSettings { versioning, keep, caps, .. } = self.settings;
        Bucket { id: self.id, epoch: self.epoch, versioning, keep, caps }
    }

    fn answer(&self) -> Answer {
        Answer::Bucket { id: self.id, epoch: self.epoch, state: self.state }
    }
}

/// A bucket by its name.
pub fn find(rows: &dyn Rows, name: &str) -> Result<Option<BucketRecord>, Error> {
    get(rows, Space::Bucket, name.as_bytes())
}

/// A bucket and its name, by its id.
pub fn find_by_id(rows: &dyn Rows, id: BucketId) -> Result<Option<(String, BucketRecord)>, Error> {
    let name: Option<String> = get(rows, Space::BucketId, &id.to_be_bytes())?;
    let Some(name) = name else { return Ok(None) };
    Ok(find(rows, &name)?.map(|record| (name, record)))
}

fn known(rows: &dyn Rows, name: &str) -> Stepped<BucketRecord> {
    find(rows, name)?.ok_or_else(|| Refusal::Missing(format!("bucket: {name}")).into())
}

pub(super) fn create(rows: &mut Batch<'_>, epoch: u64, time: u64, create: &CreateBucket) -> Stepped<Did> {
    let CreateBucket { name, owner, settings } = create;
    check_name(name)?;
    check_settings(settings, &BucketSettings::default())?;
    if let Some(there) = find(rows, name)? {
        return Err(Refusal::BucketExists { owner: there.owner, id: there.id }.into());
    }
    let (owner, settings) = (owner.clone(), settings.clone());
    let record = BucketRecord { id: epoch, owner, settings, state: BucketState::Open, epoch, created: time };
    put(rows, Space::Bucket, name.as_bytes(), &record);
    put(rows, Space::BucketId, &record.id.to_be_bytes(), name);
    Ok(Did::Changed(record.answer()))
}

pub(super) fn set(rows: &mut Batch<'_>, epoch: u64, set: &SetBucket) -> Stepped<Did> {
    let mut record = known(rows, &set.name)?;
    if set.expected.is_some_and(|expected| expected != record.epoch) {
        return Err(Refusal::Changed { found: record.epoch }.into());
    }
    if record.state != BucketState::Open {
        return Err(Refusal::State(record.state).into());
    }
    check_settings(&set.settings, &record.settings)?;
    record.settings = set.settings.clone();
    record.epoch = epoch;
    put(rows, Space::Bucket, set.name.as_bytes(), &record);
    Ok(Did::Changed(record.answer()))
}

pub(super) fn begin_delete(rows: &mut Batch<'_>, epoch: u64, name: &str) -> Stepped<Did> {
    let mut record = known(rows, name)?;
    if record.state == BucketState::Deleting {
        return Ok(Did::Nothing(record.answer()));
    }
    (record.state, record.epoch) = (BucketState::Deleting, epoch);
    put(rows, Space::Bucket, name.as_bytes(), &record);
    Ok(Did::Changed(record.answer()))
}

pub(super) fn finish_delete(rows: &mut Batch<'_>, id: BucketId, since: u64) -> Stepped<Did> {
    // Nobody uses an id twice: what isn't there was deleted.
    let Some((name, record)) = find_by_id(rows, id)? else { return Ok(Did::Nothing(Answer::Done)) };
    being_deleted(&record, since)?;
    rows.delete(at(Space::Bucket, name.as_bytes()));
    rows.delete(at(Space::BucketId, &id.to_be_bytes()));
    Ok(Did::Changed(Answer::Done))
}

pub(super) fn cancel_delete(rows: &mut Batch<'_>, epoch: u64, id: BucketId, since: u64) -> Stepped<Did> {
    let missing = || Refusal::Missing(format!("bucket: {id}"));
    let (name, mut record) = find_by_id(rows, id)?.ok_or_else(missing)?;
    being_deleted(&record, since)?;
    (record.state, record.epoch) = (BucketState::Open, epoch);
    put(rows, Space::Bucket, name.as_bytes(), &record);
    Ok(Did::Changed(record.answer()))
}

/// Only the deletion that began then: what slots said of an earlier one counts no more.
fn being_deleted(record: &BucketRecord, since: u64) -> Result<(), Refusal> {
    match record.state {
        BucketState::Open => Err(Refusal::State(record.state)),
        BucketState::Deleting if record.epoch != since => Err(Refusal::Changed { found: record.epoch }),
        BucketState::Deleting => Ok(()),
    }
}

/// S3's rules for names.
fn check_name(name: &str) -> Result<(), Refusal> {
    let fail = |what: &str| Err(Refusal::Name(format!("{name:?} is no name of a bucket: {what}")));
    if !(3..=63).contains(&name.len()) {
        return fail("it has 3 to 63 characters");
    }
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if !name.bytes().all(|byte| is_plain(byte) || byte == b'-' || byte == b'.') {
        return fail("it has lower-case letters, digits, hyphens and dots only");
    }
    let ends = name.bytes().next().is_some_and(is_plain) && name.bytes().last().is_some_and(is_plain);
    if !ends || ["..", ".-", "-."].iter().any(|pair| name.contains(pair)) {
        return fail("it and each part between dots begin and end with a letter or digit");
    }
    if name.split('.').count() == 4 && name.split('.').all(|part| part.parse::<u8>().is_ok()) {
        return fail("it looks like an address");
    }
    Ok(())
}

fn check_settings(new: &BucketSettings, old: &BucketSettings) -> Result<(), Refusal> {
    let fail = |what: &str| Err(Refusal::Settings(what.to_owned()));
    let documents: usize = new.documents.iter().map(|(name, text)| name.len() + text.len()).sum();
    match () {
        () if old.versioning != Versioning::Off && new.versioning == Versioning::Off => {
            fail("versioning that was on is suspended, never off")
        }
        () if old.object_lock && !new.object_lock => fail("object lock is never taken off a bucket"),
        () if new.object_lock && new.versioning != Versioning::Enabled => {
            fail("object lock needs versioning, which can't be suspended then")
        }
        () if new.default_retention.is_some() && !new.object_lock => fail("a default retention needs object lock"),
        () if new.caps.heads == 0 || new.caps.versions == 0 => fail("at least one head and one version are needed"),
        () if documents > DOCUMENTS_MAX => fail("the documents of a bucket are longer than 256 KiB together"),
        () => Ok(()),
    }
}

#[test]
fn settings_of_earlier_versions_mean_what_they_meant() {
    let bytes = minicbor::to_vec(BucketSettings { offline: Offline::Reject, ..BucketSettings::default() });
    let mut bytes = bytes.expect("it is memory");
    let (length, end) = (bytes[0], bytes.len());
    // An array of eleven; those that came later are the last, of a byte each.
    assert_eq!((length, &bytes[end - 2..]), (0x8B, &[0, 0][..]));
    bytes[0] = 0x89;
    let earlier: BucketSettings = minicbor::decode(&bytes[..end - 2]).expect("it is understood");
    assert_eq!((earlier.offline, earlier.ack, earlier.read), (Offline::Reject, Ack::Quorum, Reads::Preferred));
}
