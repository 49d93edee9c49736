//! Nodes, users, keys and settings, and how control's rows are read.

use std::ops::{Bound, ControlFlow};

use minicbor::{Decode, Encode};

use super::bucket::BucketRecord;
use super::command::{Answer, PutSetting, Refusal};
use super::{Did, Stepped};
use crate::encoding::{encode, row, wide_id};
use crate::index::{Error, Order};
use crate::rows::{Batch, Rows};
use crate::version::Pair;

wide_id! {
    /// A cluster, drawn at random when it is born.
    ClusterId
}

/// What a row is: its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Space {
    /// An access key.
    Key = b'a',
    /// A bucket by name.
    Bucket = b'b',
    /// The cluster.
    Cluster = b'c',
    /// A bucket's name by id.
    BucketId = b'i',
    /// An entry of the audit.
    Audit = b'j',
    /// The level of commands.
    Level = b'l',
    /// The epoch.
    Epoch = b'm',
    /// A node.
    Node = b'n',
    /// A setting.
    Setting = b's',
    /// A user.
    User = b'u',
}

/// What is fixed at the birth of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Cluster {
    /// Its name.
    #[n(0)]
    pub id: ClusterId,
    /// S.
    #[n(1)]
    pub slots: u32,
    /// P.
    #[n(2)]
    pub partitions: u32,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct NodeRecord {
    /// Its number, for ever.
    #[n(0)]
    pub id: u64,
    /// Where its peers reach it.
    #[n(1)]
    pub address: String,
    /// Its labels.
    #[n(2)]
    pub labels: Vec<Pair>,
    /// What it can hold, in bytes.
    #[n(3)]
    pub capacity: u64,
}

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct UserRecord {
    /// Its name.
    #[n(0)]
    pub name: String,
    /// What it may do, as the gateway reads it.
    #[n(1)]
    pub rights: String,
}

/// An access key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct KeyRecord {
    /// Its public half.
    #[n(0)]
    pub access: String,
    /// Whose it is.
    #[n(1)]
    pub user: String,
    /// Its secret half, sealed by who gave it.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub sealed: Vec<u8>,
    /// Whether it is refused for now.
    #[n(3)]
    pub disabled: bool,
}

/// A setting of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Setting {
    /// Its value.
    #[n(0)]
    pub value: String,
    /// When it last changed.
    #[n(1)]
    pub epoch: u64,
}

/// Names of users, access keys and settings.
const NAME_MAX: usize = 256;

/// The key of a row.
pub(super) fn at(space: Space, name: &[u8]) -> Vec<u8> {
    [&[space as u8][..], name].concat()
}

/// What a row says.
pub(super) fn get<T: for<'b> Decode<'b, ()>>(rows: &dyn Rows, space: Space, name: &[u8]) -> Result<Option<T>, Error> {
    if name.len() > NAME_MAX {
        return Ok(None);
    }
    let key = at(space, name);
    rows.get(&key)?.map(|bytes| row(&key, &bytes)).transpose()
}

pub(super) fn put<T: Encode<()>>(rows: &mut Batch<'_>, space: Space, name: &[u8], value: &T) {
    rows.put(at(space, name), encode(value));
}

/// The epoch of the last change; 0: there was none.
pub fn epoch(rows: &dyn Rows) -> Result<u64, Error> {
    Ok(get(rows, Space::Epoch, &[])?.unwrap_or(0))
}

/// All that control knows, but the audit: what nodes cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Whole {
    /// When it was so.
    #[n(0)]
    pub epoch: u64,
    /// `None`: not born.
    #[n(1)]
    pub cluster: Option<Cluster>,
    /// By id.
    #[n(2)]
    pub nodes: Vec<NodeRecord>,
    /// By name.
    #[n(3)]
    pub buckets: Vec<(String, BucketRecord)>,
    /// By name.
    #[n(4)]
    pub users: Vec<UserRecord>,
    /// By public half.
    #[n(5)]
    pub keys: Vec<KeyRecord>,
    /// By name.
    #[n(6)]
    pub settings: Vec<(String, Setting)>,
}

impl Whole {
    /// Reads it all.
    ///
    /// # Errors
    /// If rows can't be read.
    pub fn read(rows: &dyn Rows) -> Result<Self, Error> {
        Ok(Self {
            epoch: epoch(rows)?,
            cluster: get(rows, Space::Cluster, &[])?,
            nodes: values(rows, Space::Node)?,
            buckets: named(rows, Space::Bucket)?,
            users: values(rows, Space::User)?,
            keys: values(rows, Space::Key)?,
            settings: named(rows, Space::Setting)?,
        })
    }

    /// The bytes for a cache on disk or for the wire.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads such bytes.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<Self, crate::Malformed> {
        crate::encoding::decode(bytes)
    }
}

fn values<T: for<'b> Decode<'b, ()>>(rows: &dyn Rows, space: Space) -> Result<Vec<T>, Error> {
    Ok(named(rows, space)?.into_iter().map(|(_, value)| value).collect())
}

/// The rows of a space with what they are named by; numbers as bytes that are no text come out as replacement characters.
fn named<T: for<'b> Decode<'b, ()>>(rows: &dyn Rows, space: Space) -> Result<Vec<(String, T)>, Error> {
    let (mut found, mut bad) = (Vec::new(), None);
    let (begin, end) = ([space as u8], [space as u8 + 1]);
    let range = (Bound::Included(&begin[..]), Bound::Excluded(&end[..]));
    rows.walk(range, Order::Forward, &mut |key, bytes| match row(key, bytes) {
        Ok(value) => {
            found.push((String::from_utf8_lossy(&key[1..]).into_owned(), value));
            ControlFlow::Continue(())
        }
        Err(error) => {
            bad = Some(error);
            ControlFlow::Break(())
        }
    })?;
    bad.map_or(Ok(found), Err)
}

fn check_name(what: &str, name: &str) -> Result<(), Refusal> {
    if (1..=NAME_MAX).contains(&name.len()) && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Refusal::Name(format!("the name of a {what} has 1 to {NAME_MAX} bytes without control characters")))
}

/// Puts a row unless it says so already.
fn replace<T>(rows: &mut Batch<'_>, space: Space, name: &[u8], value: &T) -> Stepped<Did>
where
    T: Encode<()> + for<'b> Decode<'b, ()> + PartialEq,
{
    if get::<T>(rows, space, name)?.is_some_and(|there| there == *value) {
        return Ok(Did::Nothing(Answer::Done));
    }
    put(rows, space, name, value);
    Ok(Did::Changed(Answer::Done))
}

fn remove(rows: &mut Batch<'_>, space: Space, name: &[u8]) -> Stepped<Did> {
    let key = at(space, name);
    if name.len() > NAME_MAX || rows.get(&key)?.is_none() {
        return Ok(Did::Nothing(Answer::Done));
    }
    rows.delete(key);
    Ok(Did::Changed(Answer::Done))
}

pub(super) fn put_node(rows: &mut Batch<'_>, node: &NodeRecord) -> Stepped<Did> {
    replace(rows, Space::Node, &node.id.to_be_bytes(), node)
}

pub(super) fn remove_node(rows: &mut Batch<'_>, id: u64) -> Stepped<Did> {
    remove(rows, Space::Node, &id.to_be_bytes())
}

pub(super) fn put_user(rows: &mut Batch<'_>, user: &UserRecord) -> Stepped<Did> {
    check_name("user", &user.name)?;
    replace(rows, Space::User, user.name.as_bytes(), user)
}

pub(super) fn remove_user(rows: &mut Batch<'_>, name: &str) -> Stepped<Did> {
    let keys: Vec<KeyRecord> = values(rows, Space::Key)?;
    if keys.iter().any(|key| key.user == name) {
        return Err(Refusal::HasKeys.into());
    }
    remove(rows, Space::User, name.as_bytes())
}

pub(super) fn put_key(rows: &mut Batch<'_>, key: &KeyRecord) -> Stepped<Did> {
    check_name("access key", &key.access)?;
    if get::<UserRecord>(rows, Space::User, key.user.as_bytes())?.is_none() {
        return Err(Refusal::Missing(format!("user: {}", key.user)).into());
    }
    let there: Option<KeyRecord> = get(rows, Space::Key, key.access.as_bytes())?;
    if there.is_some_and(|there| there.user != key.user) {
        return Err(Refusal::KeyTaken.into());
    }
    replace(rows, Space::Key, key.access.as_bytes(), key)
}

pub(super) fn remove_key(rows: &mut Batch<'_>, access: &str) -> Stepped<Did> {
    remove(rows, Space::Key, access.as_bytes())
}

pub(super) fn put_setting(rows: &mut Batch<'_>, epoch: u64, setting: &PutSetting) -> Stepped<Did> {
    let PutSetting { name, value, expected } = setting;
    check_name("setting", name)?;
    let there: Option<Setting> = get(rows, Space::Setting, name.as_bytes())?;
    let found = there.as_ref().map_or(0, |there| there.epoch);
    if expected.is_some_and(|expected| expected != found) {
        return Err(Refusal::Changed { found }.into());
    }
    match value {
        None => remove(rows, Space::Setting, name.as_bytes()),
        Some(value) if there.is_some_and(|there| there.value == *value) => Ok(Did::Nothing(Answer::Done)),
        Some(value) => {
            put(rows, Space::Setting, name.as_bytes(), &Setting { value: value.clone(), epoch });
            Ok(Did::Changed(Answer::Done))
        }
    }
}
