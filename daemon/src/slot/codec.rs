//! Groups in bytes: in the records of the log and on the wire. Everything is little-endian; decoding never panics.

use std::collections::BTreeSet;

use bytes::{Buf, BufMut, Bytes};
use openraft::vote::RaftVote;

use super::types::{Command, Entry, LogId, Membership, Payload, StoredMembership, Vote, log_id, term_of};

/// Bytes that are no such thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are no {0} of a version known here")]
pub struct Undecodable(pub &'static str);

/// Members of one group, at most: more than anyone needs, few enough that hostile bytes cost nothing.
const MEMBERS_MAX: u32 = 1024;

const BLANK: u8 = 0;
const NORMAL: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// Reads pieces off the front of bytes.
pub struct Reader<'b> {
    bytes: &'b [u8],
    what: &'static str,
}

impl<'b> Reader<'b> {
    /// Reads `what` from these bytes.
    pub fn new(what: &'static str, bytes: &'b [u8]) -> Self {
        Self { bytes, what }
    }

    /// What it can't be.
    pub fn wrong(&self) -> Undecodable {
        Undecodable(self.what)
    }

    /// So many bytes.
    pub fn take(&mut self, length: usize) -> Result<&'b [u8], Undecodable> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(Undecodable(self.what))?;
        self.bytes = rest;
        Ok(taken)
    }

    /// A byte.
    pub fn u8(&mut self) -> Result<u8, Undecodable> {
        Ok(self.take(1)?[0])
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, Undecodable> {
        Ok(self.take(4)?.get_u32_le())
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, Undecodable> {
        Ok(self.take(8)?.get_u64_le())
    }

    /// True or false.
    pub fn bool(&mut self) -> Result<bool, Undecodable> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.wrong()),
        }
    }

    /// Bytes behind their length.
    pub fn bytes(&mut self) -> Result<&'b [u8], Undecodable> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    /// A vote.
    pub fn vote(&mut self) -> Result<Vote, Undecodable> {
        let (term, node, committed) = (self.u64()?, self.u64()?, self.bool()?);
        Ok(if committed { Vote::new_committed(term, node) } else { Vote::new(term, node) })
    }

    /// The name of an entry.
    pub fn log_id(&mut self) -> Result<LogId, Undecodable> {
        Ok(log_id(self.u64()?, self.u64()?))
    }

    /// The name of an entry, or none.
    pub fn log_id_option(&mut self) -> Result<Option<LogId>, Undecodable> {
        if self.bool()? { self.log_id().map(Some) } else { Ok(None) }
    }

    fn nodes(&mut self) -> Result<BTreeSet<u64>, Undecodable> {
        let count = self.u32()?;
        if count > MEMBERS_MAX {
            return Err(self.wrong());
        }
        (0..count).map(|_| self.u64()).collect()
    }

    /// Who belongs to a group.
    pub fn membership(&mut self) -> Result<Membership, Undecodable> {
        let count = self.u8()?;
        let configs = (0..count).map(|_| self.nodes()).collect::<Result<Vec<_>, _>>()?;
        let nodes = self.nodes()?;
        if configs.is_empty() && nodes.is_empty() {
            return Ok(Membership::default());
        }
        Membership::new(configs, nodes).map_err(|_| self.wrong())
    }

    /// Who belongs to a group, and the entry that says so.
    pub fn stored_membership(&mut self) -> Result<StoredMembership, Undecodable> {
        Ok(StoredMembership::new(self.log_id_option()?, self.membership()?))
    }

    /// What is left.
    pub fn rest(&mut self) -> &'b [u8] {
        std::mem::take(&mut self.bytes)
    }

    /// Nothing may be left.
    pub fn end(self) -> Result<(), Undecodable> {
        if self.bytes.is_empty() { Ok(()) } else { Err(self.wrong()) }
    }
}

/// Writes pieces behind one another.
pub trait Write: BufMut {
    /// Bytes behind their length.
    fn put_bytes_with_length(&mut self, bytes: &[u8])
    where
        Self: Sized,
    {
        self.put_u32_le(bytes.len() as u32);
        self.put_slice(bytes);
    }

    /// A vote.
    fn put_vote(&mut self, vote: &Vote)
    where
        Self: Sized,
    {
        self.put_u64_le(vote.leader_id.term);
        self.put_u64_le(vote.leader_id.voted_for);
        self.put_u8(u8::from(RaftVote::is_committed(vote)));
    }

    /// The name of an entry.
    fn put_log_id(&mut self, id: &LogId)
    where
        Self: Sized,
    {
        self.put_u64_le(term_of(id));
        self.put_u64_le(id.index);
    }

    /// The name of an entry, or none.
    fn put_log_id_option(&mut self, id: Option<&LogId>)
    where
        Self: Sized,
    {
        self.put_u8(u8::from(id.is_some()));
        id.into_iter().for_each(|id| self.put_log_id(id));
    }

    /// Who belongs to a group.
    fn put_membership(&mut self, membership: &Membership)
    where
        Self: Sized,
    {
        let configs = membership.get_joint_config();
        self.put_u8(configs.len() as u8);
        for config in configs {
            self.put_u32_le(config.len() as u32);
            config.iter().for_each(|node| self.put_u64_le(*node));
        }
        self.put_u32_le(membership.nodes().count() as u32);
        membership.nodes().for_each(|(node, _)| self.put_u64_le(*node));
    }

    /// Who belongs to a group, and the entry that says so.
    fn put_stored_membership(&mut self, stored: &StoredMembership)
    where
        Self: Sized,
    {
        self.put_log_id_option(stored.log_id().as_ref());
        self.put_membership(stored.membership());
    }

    /// What an entry carries; goes on to the end.
    fn put_payload(&mut self, payload: &Payload)
    where
        Self: Sized,
    {
        match payload {
            Payload::Blank => self.put_u8(BLANK),
            Payload::Normal(Command(bytes)) => {
                self.put_u8(NORMAL);
                self.put_slice(bytes);
            }
            Payload::Membership(membership) => {
                self.put_u8(MEMBERSHIP);
                self.put_membership(membership);
            }
        }
    }
}

impl Write for Vec<u8> {}

/// What an entry carries, in bytes.
pub fn encode_payload(payload: &Payload) -> Vec<u8> {
    let length = if let Payload::Normal(Command(bytes)) = payload { bytes.len() } else { 0 };
    let mut bytes = Vec::with_capacity(length + 1);
    bytes.put_payload(payload);
    bytes
}

/// Reads an entry; its command shares these bytes.
pub fn decode_entry(term: u64, index: u64, mut bytes: Bytes) -> Result<Entry, Undecodable> {
    let wrong = Undecodable("entry of a Raft log");
    if bytes.is_empty() {
        return Err(wrong);
    }
    let payload = match bytes.get_u8() {
        BLANK if bytes.is_empty() => Payload::Blank,
        NORMAL => Payload::Normal(Command(bytes)),
        MEMBERSHIP => {
            let mut reader = Reader::new("membership of a Raft group", &bytes);
            let membership = reader.membership()?;
            reader.end()?;
            Payload::Membership(membership)
        }
        _ => return Err(wrong),
    };
    Ok(Entry { log_id: log_id(term, index), payload })
}
