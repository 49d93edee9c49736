//! The control group's state machine: what the whole cluster agrees on, one change after the other.
//!
//! The cluster's birth (id, slots and partitions, fixed for ever), its nodes, buckets, users, access keys and settings. Every
//! change raises the epoch by one and adds one entry to the [`audit`] chain; a refused one does neither. Secrets
//! come sealed: nothing here can read them. It is pure, like a slot's.
//!
//! | rows | value | |
//! | --- | --- | --- |
//! | `a` access key | `KeyRecord` | |
//! | `b` name | `BucketRecord` | |
//! | `c` | `Cluster` | |
//! | `i` bucket id | name | |
//! | `j` epoch | `audit::Entry` | what made this epoch |
//! | `l` | `u16` | the level of commands, as in a slot |
//! | `m` | `u64` | the epoch |
//! | `n` node id | `NodeRecord` | |
//! | `s` name | `Setting` | |
//! | `t` number, `T` token | see `ring` | answers given |
//! | `u` name | `UserRecord` | |
//!
//! **Deleting a bucket** takes two halves, as its objects lie in all slots:
//!
//! | step | who | what it means |
//! | --- | --- | --- |
//! | `BeginDelete` | control | state *deleting* since epoch e; the map tells every gateway |
//! | `CloseBucket` at e | each slot | if it is empty there, commands with settings older than or of e are refused from now on |
//! | all slots closed: `FinishDelete` at e | control | the bucket is gone; its name is free, its id is never used again |
//! | one is not empty: `CancelDelete` at e | control | open again with a later epoch, which opens the closed slots with the first command |
//!
//! A gateway with an older map is refused by each closed slot, and makes a slot that isn't closed yet not empty. Who carries
//! the steps out may die at any point: each may be repeated, and whoever finds *deleting* in the map goes on.

pub mod audit;
pub mod bucket;
pub mod command;
pub mod state;

use crate::encoding::{Malformed, decode, encode, row};
use crate::index::Error;
use crate::ring;
use crate::rows::{Batch, Machine, Rows};

use command::{Answer, Answered, Command, Envelope, LEVEL, Refusal};
use state::{Cluster, Space, at, epoch, get};

/// The state machine of the control group.
#[derive(Clone, Copy, Debug, Default)]
pub struct Control;

/// Why a step of a command ends early.
#[derive(Debug)]
enum Stop {
    Refused(Refusal),
    Failed(Error),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// A step of a command.
type Stepped<T> = Result<T, Stop>;

impl Machine for Control {
    fn apply(&self, rows: &mut Batch<'_>, _at: u64, command: &[u8]) -> Result<Vec<u8>, Error> {
        let allowed = level(rows)?;
        let refuse = |refusal| Ok(encode(&Answered::Err(refusal)));
        let Some((stated, rest)) = command.split_first_chunk() else {
            return refuse(Refusal::Malformed("a command without a level".to_owned()));
        };
        let stated = u16::from_le_bytes(*stated);
        if stated > allowed {
            return refuse(Refusal::Level { level: stated, allowed });
        }
        match decode::<Envelope>(rest) {
            Ok(envelope) => obey(rows, &envelope, command),
            Err(Malformed(what)) => refuse(Refusal::Malformed(what)),
        }
    }

    fn too_large(&self, bytes: usize, max: usize) -> Vec<u8> {
        encode(&Answered::Err(Refusal::TooLarge { bytes: bytes as u64, max: max as u64 }))
    }
}

/// The level of commands that these rows allow; a level that this program doesn't know stops it.
fn level(rows: &dyn Rows) -> Result<u16, Error> {
    let key = at(Space::Level, &[]);
    let level = rows.get(&key)?.map_or(Ok(1), |bytes| row(&key, &bytes))?;
    if level > LEVEL { Err(newer(level)) } else { Ok(level) }
}

fn newer(level: u16) -> Error {
    Error::Newer { what: "the control group", level, known: LEVEL }
}

fn obey(rows: &mut Batch<'_>, envelope: &Envelope, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let token = envelope.token.map(|token| token.0.to_be_bytes());
    if let Some(token) = token
        && let Some(answer) = ring::TOKENS.find(rows, &token)?
    {
        return Ok(answer);
    }
    let answered = match run(rows, envelope, bytes) {
        Ok(answer) => Ok(answer),
        Err(Stop::Refused(refusal)) => Err(refusal),
        Err(Stop::Failed(error)) => return Err(error),
    };
    let answer = encode(&answered);
    if let Some(token) = token {
        ring::TOKENS.push(rows, &token, &answer, envelope.time)?;
    }
    Ok(answer)
}

/// What a step did.
enum Did {
    /// Changed something.
    Changed(Answer),
    /// Found it done.
    Nothing(Answer),
}

fn run(rows: &mut Batch<'_>, envelope: &Envelope, bytes: &[u8]) -> Stepped<Answer> {
    let now = epoch(rows)?;
    let is_born = get::<Cluster>(rows, Space::Cluster, &[])?.is_some();
    if !is_born && !matches!(envelope.command, Command::Birth(_)) {
        return Err(Refusal::Unborn.into());
    }
    match change(rows, now + 1, envelope)? {
        Did::Nothing(answer) => Ok(answer),
        Did::Changed(answer) => {
            rows.put(at(Space::Epoch, &[]), encode(&(now + 1)));
            audit::add(rows, now + 1, envelope, bytes)?;
            Ok(answer)
        }
    }
}

/// Makes a change that will have this epoch.
fn change(rows: &mut Batch<'_>, epoch: u64, envelope: &Envelope) -> Stepped<Did> {
    match &envelope.command {
        Command::Birth(cluster) => birth(rows, cluster),
        Command::PutNode(node) => state::put_node(rows, node),
        Command::RemoveNode(id) => state::remove_node(rows, *id),
        Command::CreateBucket(create) => bucket::create(rows, epoch, envelope.time, create),
        Command::SetBucket(set) => bucket::set(rows, epoch, set),
        Command::BeginDelete { name } => bucket::begin_delete(rows, epoch, name),
        Command::FinishDelete { id, epoch } => bucket::finish_delete(rows, *id, *epoch),
        Command::CancelDelete { id, epoch: since } => bucket::cancel_delete(rows, epoch, *id, *since),
        Command::PutUser(user) => state::put_user(rows, user),
        Command::RemoveUser { name } => state::remove_user(rows, name),
        Command::PutKey(key) => state::put_key(rows, key),
        Command::RemoveKey { access } => state::remove_key(rows, access),
        Command::PutSetting(setting) => state::put_setting(rows, epoch, setting),
        Command::RaiseLevel { level } => raise(rows, *level),
    }
}

fn birth(rows: &mut Batch<'_>, cluster: &Cluster) -> Stepped<Did> {
    let born: Option<Cluster> = get(rows, Space::Cluster, &[])?;
    match born {
        Some(born) if born == *cluster => Ok(Did::Nothing(Answer::Done)),
        Some(born) => Err(Refusal::Born { id: born.id }.into()),
        None if cluster.slots == 0 || !cluster.partitions.is_power_of_two() => Err(Refusal::Numbers.into()),
        None => {
            rows.put(at(Space::Cluster, &[]), encode(cluster));
            Ok(Did::Changed(Answer::Done))
        }
    }
}

fn raise(rows: &mut Batch<'_>, to: u16) -> Stepped<Did> {
    if to > LEVEL {
        return Err(newer(to).into());
    }
    if to <= level(rows)? {
        return Ok(Did::Nothing(Answer::Done));
    }
    rows.put(at(Space::Level, &[]), encode(&to));
    Ok(Did::Changed(Answer::Done))
}
