//! The audit: who changed what, and when, one entry for each epoch, each with the hash of the one before.
//!
//! An entry has no secrets: of the command it has one line for people and the hash of its bytes. Whoever changes, removes or
//! inserts an entry must change all later ones; who has once seen the last hash sees that.

use std::ops::{Bound, ControlFlow};

use minicbor::{Decode, Encode};

use super::command::Envelope;
use super::state::{Space, at, epoch, get, put};
use crate::encoding::{encode, row};
use crate::index::{Error, Order};
use crate::rows::{Batch, Rows};

/// One change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Entry {
    /// The epoch that it made.
    #[n(0)]
    pub epoch: u64,
    /// When, by the leader's clock, in milliseconds since the Unix epoch.
    #[n(1)]
    pub time: u64,
    /// Who wanted it.
    #[n(2)]
    pub who: String,
    /// What it was, for people.
    #[n(3)]
    pub what: String,
    /// BLAKE3-256 of the command.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub command: [u8; 32],
    /// The hash of the entry before; zeros for the first.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub before: [u8; 32],
}

impl Entry {
    /// Its hash: BLAKE3-256 of its bytes.
    pub fn hash(&self) -> [u8; 32] {
        *blake3::hash(&encode(self)).as_bytes()
    }
}

fn key(epoch: u64) -> [u8; 8] {
    epoch.to_be_bytes()
}

pub(super) fn add(rows: &mut Batch<'_>, epoch: u64, envelope: &Envelope, bytes: &[u8]) -> Result<(), Error> {
    let last: Option<Entry> = get(rows, Space::Audit, &key(epoch - 1))?;
    let before = last.map_or([0; 32], |last| last.hash());
    let command = *blake3::hash(bytes).as_bytes();
    let (time, who, what) = (envelope.time, envelope.who.clone(), envelope.command.summary());
    put(rows, Space::Audit, &key(epoch), &Entry { epoch, time, who, what, command, before });
    Ok(())
}

/// Up to so many entries from an epoch on.
///
/// # Errors
/// If rows can't be read.
pub fn entries(rows: &dyn Rows, from: u64, most: usize) -> Result<Vec<Entry>, Error> {
    let mut found = Vec::new();
    let mut bad = None;
    let (begin, end) = (at(Space::Audit, &key(from)), [Space::Audit as u8 + 1]);
    rows.walk((Bound::Included(&begin), Bound::Excluded(&end)), Order::Forward, &mut |key, bytes| {
        if found.len() >= most || bad.is_some() {
            return ControlFlow::Break(());
        }
        match row(key, bytes) {
            Ok(entry) => found.push(entry),
            Err(error) => bad = Some(error),
        }
        ControlFlow::Continue(())
    })?;
    bad.map_or(Ok(found), Err)
}

/// Where the chain is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit is broken at epoch {epoch}: an entry was changed, removed or put in")]
pub struct Broken {
    /// The first entry that doesn't follow on the one before, or isn't there.
    pub epoch: u64,
}

/// Checks the whole chain. `seen` is an epoch and its entry's hash that somebody noted before.
///
/// # Errors
/// If rows can't be read; what is wrong with the chain is the value.
pub fn verify(rows: &dyn Rows, seen: Option<(u64, [u8; 32])>) -> Result<Result<u64, Broken>, Error> {
    let (mut before, last) = ([0; 32], epoch(rows)?);
    let mut expected = 1;
    loop {
        let batch = entries(rows, expected, 1000)?;
        if batch.is_empty() {
            let whole = expected == last + 1;
            return Ok(if whole { Ok(last) } else { Err(Broken { epoch: expected }) });
        }
        for entry in batch {
            let follows = entry.epoch == expected && entry.before == before && entry.epoch <= last;
            before = entry.hash();
            if !follows || seen.is_some_and(|(epoch, hash)| epoch == expected && hash != before) {
                return Ok(Err(Broken { epoch: expected }));
            }
            expected += 1;
        }
    }
}
