//! A slot's state machine: the objects of some keys, their versions, uploads and lists.
//!
//! It is pure: rows go in and out, and what time it is, which ids are new, comes with the command. It doesn't know
//! Raft, other slots, nor where chunks lie.
//!
//! ```text
//!   Slot::apply ─► token seen? ─► commit · import · erase · amend · trim · upload ─► rows, answer
//!   read::read, list::*                      ─── read rows only ───
//! ```
//!
//! Invariants, checked by [`check::check_invariants`]: those of the version graph for each key; what a row says of others is
//! true (heads, history, counts, expiry); a refused command changes nothing but the memory of its token; a locked version
//! leaves no row by any command.
//!
//! **Levels.** A command carries the level that it needs. One above what the rows allow is refused, by old and new programs
//! alike, so replicas of different versions never part. The level is raised by a command of its own, when every node
//! knows it; a program that meets one it doesn't know stops with [`Error::Newer`], as it can't follow any more.

pub mod check;
pub mod chunks;
pub mod command;
mod commit;
mod erase;
pub mod expiry;
mod import;
pub mod layout;
pub mod list;
pub mod object;
pub mod provisional;
pub mod query;
pub mod read;
pub mod trim;
pub mod upload;

use minicbor::{Decode, Encode};

use command::{Answer, Answered, Command, Envelope, LEVEL, Leveled, Place, Refusal};
use layout::{BucketId, OBJECT_KEY_MAX, Space};
use object::{BucketRow, Released};

use crate::encoding::{encode, row};
use crate::index::Error;
use crate::ring;
use crate::rows::{Batch, Machine, Rows};
use crate::version::Chunk;

/// The state machine of a slot.
#[derive(Clone, Copy, Debug, Default)]
pub struct Slot;

/// Why a step of a command ends early.
#[derive(Debug)]
enum Stop {
    /// The command is answered so; nothing has changed.
    Refused(Refusal),
    /// Rows can't be read.
    Failed(Error),
}

impl<R: Into<Refusal>> From<R> for Stop {
    fn from(refusal: R) -> Self {
        Self::Refused(refusal.into())
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// A step of a command.
type Stepped<T> = Result<T, Stop>;

/// Makes a refusal an answer.
fn answered<T>(stepped: Stepped<T>) -> Result<Result<T, Refusal>, Error> {
    match stepped {
        Ok(value) => Ok(Ok(value)),
        Err(Stop::Refused(refusal)) => Ok(Err(refusal)),
        Err(Stop::Failed(error)) => Err(error),
    }
}

impl Machine for Slot {
    fn apply(&self, rows: &mut Batch<'_>, _at: u64, command: &[u8]) -> Result<Vec<u8>, Error> {
        let allowed = level(rows)?;
        let refuse = |refusal| Ok(encode(&Answered::Err(refusal)));
        let (level, envelope) = match Envelope::decode(command) {
            Ok(Leveled::Known(level, envelope)) => (level, Some(envelope)),
            Ok(Leveled::Newer(level)) => (level, None),
            Err(malformed) => return refuse(Refusal::Malformed(malformed.0)),
        };
        match envelope {
            _ if level > allowed => refuse(Refusal::Level { level, allowed }),
            None => Err(newer("a command", level)),
            Some(envelope) => obey(rows, *envelope),
        }
    }

    fn too_large(&self, bytes: usize, max: usize) -> Vec<u8> {
        encode(&Answered::Err(Refusal::TooLarge { bytes: bytes as u64, max: max as u64 }))
    }
}

fn newer(what: &'static str, level: u16) -> Error {
    Error::Newer { what, level, known: LEVEL }
}

/// The level of commands that these rows allow.
///
/// # Errors
/// If it is one that this program doesn't know.
pub fn level(rows: &dyn Rows) -> Result<u16, Error> {
    let key = [Space::Level as u8];
    let level = rows.get(&key)?.map_or(Ok(1), |bytes| row(&key, &bytes))?;
    if level > LEVEL { Err(newer("this slot", level)) } else { Ok(level) }
}

fn obey(rows: &mut Batch<'_>, envelope: Envelope) -> Result<Vec<u8>, Error> {
    let Envelope { time, token, command } = envelope;
    let token = token.map(|token| token.0.to_be_bytes());
    if let Some(token) = token
        && let Some(answer) = ring::TOKENS.find(rows, &token)?
    {
        return Ok(answer);
    }
    let answer = encode(&answered(run(rows, time, command))?);
    if let Some(token) = token {
        ring::TOKENS.push(rows, &token, &answer, time)?;
    }
    Ok(answer)
}

fn run(rows: &mut Batch<'_>, now: u64, command: Command) -> Stepped<Answer> {
    match command {
        Command::Commit(writes) => {
            // By value: what a version has inline goes from the command into the row without another copy.
            let each = writes.into_iter().map(|write| answered(commit::write(rows, now, write)));
            Ok(Answer::Committed(each.collect::<Result<_, Error>>()?))
        }
        Command::Import(imports) => {
            let each = imports.iter().map(|import| answered(import::import(rows, now, import)));
            Ok(Answer::Committed(each.collect::<Result<_, Error>>()?))
        }
        Command::Erase(erase) => erase::erase(rows, now, &erase).map(Answer::Erased),
        Command::Amend(amend) => erase::amend(rows, now, &amend).map(Answer::Amended),
        Command::Trim(places) => trim::trim(rows, now, &places).map(Answer::Trimmed),
        Command::CreateUpload(create) => upload::create(rows, now, &create).map(|()| Answer::Done),
        Command::PutPart(put) => upload::put_part(rows, now, &put).map(|()| Answer::Done),
        Command::CompleteUpload(complete) => upload::complete(rows, now, &complete).map(Answer::Completed),
        Command::AbortUpload(abort) => upload::abort(rows, now, &abort).map(|()| Answer::Done),
        Command::CloseBucket { bucket, epoch } => close(rows, bucket, epoch).map(|()| Answer::Done),
        Command::ForgetReleased { up_to } => {
            ring::RELEASED.forget(rows, up_to)?;
            Ok(Answer::Done)
        }
        Command::RaiseLevel { level } => raise(rows, level).map(|()| Answer::Done),
    }
}

fn raise(rows: &mut Batch<'_>, to: u16) -> Stepped<()> {
    if to > LEVEL {
        return Err(newer("the level to raise to", to).into());
    }
    if to > level(rows)? {
        rows.put([Space::Level as u8], encode(&to));
    }
    Ok(())
}

/// The first half of deleting a bucket: control has it in the state *deleting* from `epoch` on and asks every slot.
fn close(rows: &mut Batch<'_>, bucket: BucketId, epoch: u64) -> Stepped<()> {
    let mut tally = BucketRow::load(rows, bucket)?;
    if epoch < tally.epoch {
        return Err(Refusal::StaleBucket { stated: epoch, known: tally.epoch }.into());
    }
    if !tally.is_empty() {
        return Err(Refusal::NotEmpty.into());
    }
    (tally.epoch, tally.closed) = (epoch, true);
    tally.store(rows, bucket);
    Ok(())
}

/// Whether a key can be one.
fn check_key(key: &str) -> Result<(), Refusal> {
    if key.is_empty() || key.len() > OBJECT_KEY_MAX { Err(Refusal::Key(key.len() as u64)) } else { Ok(()) }
}

/// The bucket's row, if a command may go on with this key and these settings.
fn admit(rows: &dyn Rows, place: &Place) -> Stepped<BucketRow> {
    check_key(&place.key)?;
    let mut tally = BucketRow::load(rows, place.bucket.id)?;
    let known = tally.epoch;
    if !tally.admits(&place.bucket) {
        return Err(Refusal::StaleBucket { stated: place.bucket.epoch, known }.into());
    }
    Ok(tally)
}

/// Chunks that a version or a part listed which is gone now. Others may list them still.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Hint {
    /// When it went, in milliseconds since the Unix epoch.
    #[n(0)]
    pub time: u64,
    /// What it listed.
    #[n(1)]
    pub chunks: Vec<Chunk>,
}

/// Notes chunks for GC.
fn note_released(rows: &mut Batch<'_>, now: u64, chunks: Vec<Chunk>) -> Result<(), Error> {
    if chunks.is_empty() {
        return Ok(());
    }
    ring::RELEASED.push(rows, &[], &encode(&Hint { time: now, chunks }), now)
}

/// Lets go of what no version of a key lists any more.
fn release(rows: &mut Batch<'_>, (bucket, key): (BucketId, &str), now: u64, released: Released) -> Result<(), Error> {
    note_released(rows, now, released.chunks)?;
    for id in released.uploads {
        upload::remove_parts(rows, now, (bucket, key, id), &|_| true)?;
    }
    Ok(())
}
