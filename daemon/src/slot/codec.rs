//! Groups in bytes: in the records of the log and on the wire. Everything is little-endian; decoding never panics.

use std::collections::BTreeSet;

use bytes::{Buf, BufMut, Bytes};

use super::types::{At, Entry, Members, Membership, Payload, Vote};

/// Bytes that are no such thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are no {0} of a version known here")]
pub struct Undecodable(pub &'static str);

/// Members of one group, at most: more than anyone needs, few enough that hostile bytes cost nothing.
const MEMBERS_MAX: u32 = 1024;

/// Terms and indices are below this, which nobody reaches by counting.
const COUNT_MAX: u64 = 1 << 62;

const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERS: u8 = 2;

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

    /// A term or an index: such as can be counted on from.
    pub fn count(&mut self) -> Result<u64, Undecodable> {
        self.u64().and_then(|count| if count < COUNT_MAX { Ok(count) } else { Err(self.wrong()) })
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
        Ok(Vote { term: self.count()?, node: self.u64()?, is_elected: self.bool()? })
    }

    /// The name of an entry.
    pub fn at(&mut self) -> Result<At, Undecodable> {
        Ok(At { term: self.count()?, index: self.count()? })
    }

    /// The name of an entry, or none.
    pub fn at_option(&mut self) -> Result<Option<At>, Undecodable> {
        if self.bool()? { self.at().map(Some) } else { Ok(None) }
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
        Membership::new(configs, nodes).ok_or(self.wrong())
    }

    /// Who belongs to a group, and the entry that says so.
    pub fn members(&mut self) -> Result<Members, Undecodable> {
        Ok(Members { at: self.at_option()?, membership: self.membership()? })
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
        self.put_u64_le(vote.term);
        self.put_u64_le(vote.node);
        self.put_u8(u8::from(vote.is_elected));
    }

    /// The name of an entry.
    fn put_at(&mut self, at: At)
    where
        Self: Sized,
    {
        self.put_u64_le(at.term);
        self.put_u64_le(at.index);
    }

    /// The name of an entry, or none.
    fn put_at_option(&mut self, at: Option<At>)
    where
        Self: Sized,
    {
        self.put_u8(u8::from(at.is_some()));
        at.into_iter().for_each(|at| self.put_at(at));
    }

    /// Who belongs to a group.
    fn put_membership(&mut self, membership: &Membership)
    where
        Self: Sized,
    {
        let configs = membership.configs();
        self.put_u8(configs.len() as u8);
        for config in configs {
            self.put_u32_le(config.len() as u32);
            config.iter().for_each(|node| self.put_u64_le(*node));
        }
        self.put_u32_le(membership.nodes().len() as u32);
        membership.nodes().iter().for_each(|node| self.put_u64_le(*node));
    }

    /// Who belongs to a group, and the entry that says so.
    fn put_members(&mut self, members: &Members)
    where
        Self: Sized,
    {
        self.put_at_option(members.at);
        self.put_membership(&members.membership);
    }

    /// What an entry carries; goes on to the end.
    fn put_payload(&mut self, payload: &Payload)
    where
        Self: Sized,
    {
        match payload {
            Payload::Blank => self.put_u8(BLANK),
            Payload::Command(bytes) => {
                self.put_u8(COMMAND);
                self.put_slice(bytes);
            }
            Payload::Members(membership) => {
                self.put_u8(MEMBERS);
                self.put_membership(membership);
            }
        }
    }
}

impl Write for Vec<u8> {}

/// What an entry carries, in bytes.
pub fn encode_payload(payload: &Payload) -> Vec<u8> {
    let length = if let Payload::Command(bytes) = payload { bytes.len() } else { 0 };
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
        COMMAND => Payload::Command(bytes),
        MEMBERS => {
            let mut reader = Reader::new("membership of a Raft group", &bytes);
            let membership = reader.membership()?;
            reader.end()?;
            Payload::Members(membership)
        }
        _ => return Err(wrong),
    };
    Ok(Entry { at: At { term, index }, payload })
}
