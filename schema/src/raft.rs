//! What nodes have for each other: batches of consensus messages, parts of snapshots. Opaque here.

use bytes::Bytes;

use crate::cairn_capnp as schema;
use crate::error::{Answer, Error};
use crate::hello::CallInfo;
use crate::limits::{DATA_BYTES_MAX, SNAPSHOT_PART_BYTES_MAX, TEXT_BYTES_MAX};
use crate::slots::request;
use crate::wire::{InField, Malformed, Request, Wire, read_array, read_data};

/// The group of a snapshot that is not a slot's.
pub const CONTROL_GROUP: u32 = u32::MAX;

/// All messages for a node at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftRequest {
    /// Comes with every request.
    pub call: CallInfo,
    /// Of all groups.
    pub data: Bytes,
}

/// A command or a question to one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotRequest {
    /// Comes with every request.
    pub call: CallInfo,
    /// The group's number.
    pub slot: u32,
    /// As the nodes' state machines write it.
    pub data: Bytes,
}

/// A part of a group's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotRequest {
    /// Comes with every request.
    pub call: CallInfo,
    /// Names the transfer.
    pub transfer: [u8; 16],
    /// The slot, or [`CONTROL_GROUP`].
    pub group: u32,
    /// Of this part in the whole.
    pub offset: u64,
    /// The part.
    pub data: Bytes,
    /// The whole ends with it.
    pub is_last: bool,
    /// What the snapshot is of.
    pub header: Bytes,
}

/// How far a transfer has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotProgress {
    /// Everything below this offset has arrived.
    Received(u64),
    /// It is installed.
    Done(Bytes),
}

request!(RaftRequest => Bytes);
request!(SnapshotRequest => SnapshotProgress);
request!(SlotRequest => Bytes);

impl Wire for SlotRequest {
    type Form = schema::slot_request::Owned;

    fn read(from: schema::slot_request::Reader<'_>) -> Result<Self, Malformed> {
        let data = Bytes::copy_from_slice(read_data(from.get_data(), DATA_BYTES_MAX).field("data")?);
        Ok(Self { call: CallInfo::read(from.get_call()?)?, slot: from.get_slot(), data })
    }

    fn write(&self, mut into: schema::slot_request::Builder<'_>) {
        self.call.write(into.reborrow().init_call());
        into.set_slot(self.slot);
        into.set_data(&self.data);
    }
}

impl Wire for RaftRequest {
    type Form = schema::raft_request::Owned;

    fn read(from: schema::raft_request::Reader<'_>) -> Result<Self, Malformed> {
        let data = read_data(from.get_data(), DATA_BYTES_MAX).field("data")?;
        Ok(Self { call: CallInfo::read(from.get_call()?)?, data: Bytes::copy_from_slice(data) })
    }

    fn write(&self, mut into: schema::raft_request::Builder<'_>) {
        self.call.write(into.reborrow().init_call());
        into.set_data(&self.data);
    }
}

impl Wire for Answer<Bytes> {
    type Form = schema::raft_response::Owned;

    fn read(from: schema::raft_response::Reader<'_>) -> Result<Self, Malformed> {
        use schema::raft_response::Which;
        Ok(match from.which()? {
            Which::Data(data) => Ok(Bytes::copy_from_slice(read_data(data, DATA_BYTES_MAX).field("data")?)),
            Which::Error(error) => Err(Error::read(error?)?),
        })
    }

    fn write(&self, mut into: schema::raft_response::Builder<'_>) {
        match self {
            Ok(data) => into.set_data(data),
            Err(error) => error.write(into.init_error()),
        }
    }
}

impl Wire for SnapshotRequest {
    type Form = schema::snapshot_request::Owned;

    fn read(from: schema::snapshot_request::Reader<'_>) -> Result<Self, Malformed> {
        let data = read_data(from.get_data(), SNAPSHOT_PART_BYTES_MAX).field("data")?;
        let header = read_data(from.get_header(), TEXT_BYTES_MAX).field("header")?;
        if from.get_offset().checked_add(data.len() as u64).is_none() {
            return Err(Malformed::new("beyond the largest number")).field("offset");
        }
        Ok(Self {
            call: CallInfo::read(from.get_call()?)?,
            transfer: read_array(from.get_transfer()).field("transfer")?,
            group: from.get_group(),
            offset: from.get_offset(),
            data: Bytes::copy_from_slice(data),
            is_last: from.get_last(),
            header: Bytes::copy_from_slice(header),
        })
    }

    fn write(&self, mut into: schema::snapshot_request::Builder<'_>) {
        self.call.write(into.reborrow().init_call());
        into.set_transfer(&self.transfer);
        into.set_group(self.group);
        into.set_offset(self.offset);
        into.set_data(&self.data);
        into.set_last(self.is_last);
        into.set_header(&self.header);
    }
}

impl Wire for Answer<SnapshotProgress> {
    type Form = schema::snapshot_response::Owned;

    fn read(from: schema::snapshot_response::Reader<'_>) -> Result<Self, Malformed> {
        use schema::snapshot_response::Which;
        Ok(match from.which()? {
            Which::Received(offset) => Ok(SnapshotProgress::Received(offset)),
            Which::Done(data) => {
                let data = read_data(data, DATA_BYTES_MAX).field("done")?;
                Ok(SnapshotProgress::Done(Bytes::copy_from_slice(data)))
            }
            Which::Error(error) => Err(Error::read(error?)?),
        })
    }

    fn write(&self, mut into: schema::snapshot_response::Builder<'_>) {
        match self {
            Ok(SnapshotProgress::Received(offset)) => into.set_received(*offset),
            Ok(SnapshotProgress::Done(data)) => into.set_done(data),
            Err(error) => error.write(into.init_error()),
        }
    }
}
