//! What groups of two nodes say to each other, in bytes. All that one node has for another goes in one batch:
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | version: 1 |
//! | 8 | the node that sends it |
//! | 8 | the node it is for: where one was replaced, another may have its address |
//! | ... | items: 1 byte (0 question, 1 answer), number (8), slot (4), length (4), so many bytes |
//!
//! An answer has the number of its question. Answers that are there at once come back with the batch; the others in a later
//! batch of the node that was asked. A new kind of item needs a new version.

use bytes::{BufMut, Bytes};

use super::codec::{Reader, Undecodable, Write, decode_entry, encode_payload};
use super::rest::Claim;
use super::types::{At, Covered, Entry, Vote};
use crate::lane::Row;

const VERSION: u8 = 1;
const BATCH: &str = "batch between Raft groups";

/// A piece of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Whether it is an answer, else a question.
    pub is_answer: bool,
    /// Of the question; an answer has that of its question.
    pub number: u64,
    /// The group it is for.
    pub slot: u32,
    /// What it says.
    pub body: Bytes,
}

impl Item {
    /// Its bytes in a batch.
    pub fn weight(&self) -> usize {
        17 + self.body.len()
    }
}

/// The bytes of a batch of one node for another.
pub fn encode_batch(sender: u64, to: u64, items: &[Item]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(17 + items.iter().map(Item::weight).sum::<usize>());
    bytes.put_u8(VERSION);
    bytes.put_u64_le(sender);
    bytes.put_u64_le(to);
    for item in items {
        bytes.put_u8(u8::from(item.is_answer));
        bytes.put_u64_le(item.number);
        bytes.put_u32_le(item.slot);
        bytes.put_bytes_with_length(&item.body);
    }
    bytes
}

/// The sender and what it says to this node.
///
/// # Errors
/// If it is no batch of a version known here, or for another node.
pub fn decode_batch(me: u64, batch: &Bytes) -> Result<(u64, Vec<Item>), Undecodable> {
    let mut reader = Reader::new(BATCH, batch);
    let sender = read_sender(&mut reader)?;
    if reader.u64()? != me {
        return Err(Undecodable("batch for this node (it names another)"));
    }
    let mut items = Vec::new();
    let mut rest = reader.rest();
    while !rest.is_empty() {
        let mut reader = Reader::new("piece of a batch between Raft groups", rest);
        let (is_answer, number, slot) = (reader.bool()?, reader.u64()?, reader.u32()?);
        let body = batch.slice_ref(reader.bytes()?);
        items.push(Item { is_answer, number, slot, body });
        rest = reader.rest();
    }
    Ok((sender, items))
}

/// Who says that it sends this batch.
///
/// # Errors
/// If it is no batch of a version known here.
pub fn sender_of(batch: &[u8]) -> Result<u64, Undecodable> {
    read_sender(&mut Reader::new(BATCH, batch))
}

fn read_sender(reader: &mut Reader<'_>) -> Result<u64, Undecodable> {
    if reader.u8()? == VERSION { reader.u64() } else { Err(reader.wrong()) }
}

/// What a group is asked.
pub enum Question {
    Append(Append),
    Vote(Candidacy),
    PreVote(Candidacy),
    Transfer(Transfer),
    Snapshot(SnapshotPart),
    Install(SnapshotEnd),
    Rest(Claim),
}

/// Entries of a leader, perhaps none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// By which it leads.
    pub vote: Vote,
    /// The entry before these.
    pub before: Option<At>,
    pub entries: Vec<Entry>,
    /// How far the log is committed.
    pub committed: Option<At>,
}

/// Somebody wants to be elected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidacy {
    pub vote: Vote,
    /// The last entry they have.
    pub last: Option<At>,
    /// Whether the leader itself wants that.
    pub is_transfer: bool,
}

/// A leader wants another in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    pub vote: Vote,
    pub to: u64,
    /// What they must have.
    pub last: Option<At>,
}

/// Rows of a snapshot. Parts come in order.
pub struct SnapshotPart {
    pub vote: Vote,
    pub session: u64,
    pub part: u32,
    pub rows: Vec<Row>,
}

/// All parts were sent.
pub struct SnapshotEnd {
    pub vote: Vote,
    pub session: u64,
    pub parts: u32,
    pub covered: Covered,
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It has these entries, durable.
    Appended,
    /// It hasn't the entry before them.
    Conflict,
    /// It has voted in a later term.
    Higher(Vote),
    /// Whether it votes for who asked, its vote, and its last entry.
    Voted { vote: Vote, is_granted: bool, last: Option<At> },
    /// It will try to become leader.
    Transferring,
    /// The part is durable.
    Staged,
    /// The snapshot is installed, or another leader has this vote.
    Installed(Vote),
    /// What was claimed is so: it rests.
    Resting,
    /// It isn't so.
    Awake,
    /// It can't: no such group here, too busy, or it has stopped. Ask again later.
    Unable(String),
}

const APPEND: u8 = 1;
const VOTE: u8 = 2;
const PRE_VOTE: u8 = 3;
const TRANSFER: u8 = 4;
const SNAPSHOT: u8 = 5;
const INSTALL: u8 = 6;
const REST: u8 = 7;

impl Question {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        match self {
            Self::Append(append) => {
                bytes.put_u8(APPEND);
                bytes.put_vote(&append.vote);
                bytes.put_at_option(append.before);
                bytes.put_at_option(append.committed);
                bytes.put_u32_le(append.entries.len() as u32);
                for entry in &append.entries {
                    bytes.put_at(entry.at);
                    bytes.put_bytes_with_length(&encode_payload(&entry.payload));
                }
            }
            Self::Vote(vote) => put_candidacy(&mut bytes, VOTE, vote),
            Self::PreVote(vote) => put_candidacy(&mut bytes, PRE_VOTE, vote),
            Self::Transfer(transfer) => {
                bytes.put_u8(TRANSFER);
                bytes.put_vote(&transfer.vote);
                bytes.put_u64_le(transfer.to);
                bytes.put_at_option(transfer.last);
            }
            Self::Snapshot(SnapshotPart { vote, session, part, rows }) => {
                bytes.put_u8(SNAPSHOT);
                bytes.put_vote(vote);
                bytes.put_u64_le(*session);
                bytes.put_u32_le(*part);
                for row in rows {
                    if let Row::Put(key, value) = row {
                        bytes.put_bytes_with_length(key);
                        bytes.put_bytes_with_length(value);
                    }
                }
            }
            Self::Install(SnapshotEnd { vote, session, parts, covered }) => {
                bytes.put_u8(INSTALL);
                bytes.put_vote(vote);
                bytes.put_u64_le(*session);
                bytes.put_u32_le(*parts);
                bytes.put_at_option(covered.last);
                bytes.put_members(&covered.members);
            }
            Self::Rest(Claim { vote, last }) => {
                bytes.put_u8(REST);
                bytes.put_vote(vote);
                bytes.put_at(*last);
            }
        }
        bytes
    }

    pub fn decode(body: &Bytes) -> Result<Self, Undecodable> {
        let mut reader = Reader::new("question to a Raft group", body);
        let question = match reader.u8()? {
            APPEND => {
                let (vote, before) = (reader.vote()?, reader.at_option()?);
                let (committed, count) = (reader.at_option()?, reader.u32()?);
                let mut entries = Vec::new();
                for _ in 0..count {
                    let At { term, index } = reader.at()?;
                    entries.push(decode_entry(term, index, body.slice_ref(reader.bytes()?))?);
                }
                Self::Append(Append { vote, before, entries, committed })
            }
            VOTE => Self::Vote(read_candidacy(&mut reader)?),
            PRE_VOTE => Self::PreVote(read_candidacy(&mut reader)?),
            TRANSFER => Self::Transfer(Transfer { vote: reader.vote()?, to: reader.u64()?, last: reader.at_option()? }),
            SNAPSHOT => {
                let (vote, session, part) = (reader.vote()?, reader.u64()?, reader.u32()?);
                let mut rows = Vec::new();
                let mut rest = reader.rest();
                while !rest.is_empty() {
                    let mut reader = Reader::new("row of a snapshot", rest);
                    let key = reader.bytes()?.to_vec();
                    if key.is_empty() || key.len() > usize::from(u16::MAX) {
                        return Err(reader.wrong());
                    }
                    rows.push(Row::Put(key, reader.bytes()?.to_vec()));
                    rest = reader.rest();
                }
                Self::Snapshot(SnapshotPart { vote, session, part, rows })
            }
            INSTALL => {
                let (vote, session, parts) = (reader.vote()?, reader.u64()?, reader.u32()?);
                let covered = Covered { last: reader.at_option()?, members: reader.members()? };
                Self::Install(SnapshotEnd { vote, session, parts, covered })
            }
            REST => Self::Rest(Claim { vote: reader.vote()?, last: reader.at()? }),
            _ => return Err(reader.wrong()),
        };
        if !question.is_possible() {
            return Err(reader.wrong());
        }
        reader.end()?;
        Ok(question)
    }

    /// Whether anyone who is well would ask so. The group takes that for granted.
    fn is_possible(&self) -> bool {
        match self {
            Self::Append(append) => {
                let mut before = append.before;
                let follows = |entry: &Entry| {
                    let (term, index) = before.map_or((0, Some(0)), |at| (at.term, at.index.checked_add(1)));
                    before = Some(entry.at);
                    index == Some(entry.at.index) && term <= entry.at.term
                };
                append.vote.is_elected && append.entries.iter().all(follows) && is_of(&append.vote, before)
            }
            Self::Vote(candidacy) | Self::PreVote(candidacy) => !candidacy.vote.is_elected,
            Self::Transfer(_) => true,
            Self::Snapshot(part) => part.vote.is_elected,
            Self::Install(SnapshotEnd { vote, covered, .. }) => {
                vote.is_elected && covered.members.at <= covered.last && is_of(vote, covered.last)
            }
            Self::Rest(Claim { vote, last }) => vote.is_elected && is_of(vote, Some(*last)),
        }
    }
}

/// Whether the leader with this vote can have an entry of this name.
fn is_of(vote: &Vote, last: Option<At>) -> bool {
    last.is_none_or(|last| last.term <= vote.term)
}

fn put_candidacy(bytes: &mut Vec<u8>, kind: u8, candidacy: &Candidacy) {
    bytes.put_u8(kind);
    bytes.put_vote(&candidacy.vote);
    bytes.put_at_option(candidacy.last);
    bytes.put_u8(u8::from(candidacy.is_transfer));
}

fn read_candidacy(reader: &mut Reader<'_>) -> Result<Candidacy, Undecodable> {
    Ok(Candidacy { vote: reader.vote()?, last: reader.at_option()?, is_transfer: reader.bool()? })
}

const APPENDED: u8 = 1;
const CONFLICT: u8 = 3;
const HIGHER: u8 = 4;
const VOTED: u8 = 5;
const TRANSFERRING: u8 = 6;
const STAGED: u8 = 7;
const INSTALLED: u8 = 8;
const UNABLE: u8 = 9;
const RESTING: u8 = 10;
const AWAKE: u8 = 11;

impl Reply {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32);
        match self {
            Self::Appended => bytes.put_u8(APPENDED),
            Self::Conflict => bytes.put_u8(CONFLICT),
            Self::Higher(vote) => {
                bytes.put_u8(HIGHER);
                bytes.put_vote(vote);
            }
            Self::Voted { vote, is_granted, last } => {
                bytes.put_u8(VOTED);
                bytes.put_vote(vote);
                bytes.put_u8(u8::from(*is_granted));
                bytes.put_at_option(*last);
            }
            Self::Transferring => bytes.put_u8(TRANSFERRING),
            Self::Staged => bytes.put_u8(STAGED),
            Self::Resting => bytes.put_u8(RESTING),
            Self::Awake => bytes.put_u8(AWAKE),
            Self::Installed(vote) => {
                bytes.put_u8(INSTALLED);
                bytes.put_vote(vote);
            }
            Self::Unable(reason) => {
                bytes.put_u8(UNABLE);
                bytes.put_slice(reason.as_bytes());
            }
        }
        bytes
    }

    pub fn decode(body: &[u8]) -> Result<Self, Undecodable> {
        let mut reader = Reader::new("answer of a Raft group", body);
        let reply = match reader.u8()? {
            APPENDED => Self::Appended,
            CONFLICT => Self::Conflict,
            HIGHER => Self::Higher(reader.vote()?),
            VOTED => Self::Voted { vote: reader.vote()?, is_granted: reader.bool()?, last: reader.at_option()? },
            TRANSFERRING => Self::Transferring,
            STAGED => Self::Staged,
            RESTING => Self::Resting,
            AWAKE => Self::Awake,
            INSTALLED => Self::Installed(reader.vote()?),
            UNABLE => Self::Unable(String::from_utf8_lossy(reader.rest()).into_owned()),
            _ => return Err(reader.wrong()),
        };
        reader.end()?;
        Ok(reply)
    }
}
