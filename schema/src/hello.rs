//! Who talks to whom, on what terms; and what comes with every call.

use crate::cairn_capnp as schema;
use crate::error::{Error, ErrorKind};
use crate::limits::{PROTOCOL, TEXT_BYTES_MAX};
use crate::wire::{InField, Malformed, Wire, read_array, read_array_or_none, read_text, wire_enum};

wire_enum! {
    /// What the caller is.
    Role = Role {
        /// A program that uses the cluster.
        #[default]
        Client,
        /// A node of the cluster.
        Peer,
    }
}

/// Comes with every request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallInfo {
    /// How long the caller still waits; 0: as long as the node pleases.
    pub deadline_ms: u32,
    /// How often the request was forwarded already.
    pub hops: u8,
    /// Comes back in logs.
    pub trace: u64,
}

/// What a caller says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HelloRequest {
    /// The oldest protocol it speaks.
    pub protocol_min: u16,
    /// The newest.
    pub protocol_max: u16,
    /// The cluster it means, if it knows.
    pub cluster: Option<[u8; 16]>,
    /// What it is.
    pub role: Role,
    /// A peer's own id; 0 for a client.
    pub node: u64,
    /// Whom it believes to talk to; 0: anyone.
    pub expect: u64,
    /// Name and version of the program.
    pub software: String,
    /// The public half of a client's access key.
    pub key: String,
    /// That the caller knows the secret; see [`Self::proven`].
    pub proof: Option<[u8; 32]>,
}

/// Begins what a proof is made of, so that no other use of a secret yields one.
const PROOF_LABEL: &[u8] = b"cairn hello 1";

impl HelloRequest {
    /// What [`Self::proof`] is the HMAC-SHA256 of, given the connection's nonce.
    pub fn proven(&self, nonce: &[u8; 32]) -> Vec<u8> {
        let (node, expect) = (self.node.to_le_bytes(), self.expect.to_le_bytes());
        [PROOF_LABEL, nonce, &[self.role as u8], &node, &expect, self.key.as_bytes()].concat()
    }

    /// The highest protocol that both know.
    ///
    /// # Errors
    /// If there is none: says who must be upgraded.
    pub fn negotiate(&self) -> Result<u16, Error> {
        let (min, max) = (self.protocol_min, self.protocol_max);
        if min > max {
            return Err(Error {
                field: "protocolMin".to_owned(),
                ..Error::fix_input(ErrorKind::BadInput, format!("protocolMin {min} is above protocolMax {max}"))
            });
        }
        if (min..=max).contains(&PROTOCOL) {
            return Ok(PROTOCOL);
        }
        let older = if max < PROTOCOL { "caller" } else { "node" };
        Err(Error::fix_input(
            ErrorKind::Incompatible,
            format!("the caller speaks protocols {min} to {max}, this node speaks {PROTOCOL}: upgrade the {older}"),
        ))
    }
}

/// What a connection is welcomed with, beside its capabilities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Of this connection.
    pub protocol: u16,
    /// The node's cluster.
    pub cluster: [u8; 16],
    /// Who answers.
    pub node: u64,
    /// Name and version of the node's program.
    pub software: String,
    /// Calls that are worked on at once.
    pub calls_max: u32,
    /// Bytes of requests and answers held at once.
    pub bytes_max: u32,
    /// A connection on which nothing arrives for so long is closed.
    pub idle_ms: u32,
}

impl Wire for CallInfo {
    type Form = schema::call_info::Owned;

    fn read(from: schema::call_info::Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { deadline_ms: from.get_deadline_ms(), hops: from.get_hops(), trace: from.get_trace() })
    }

    fn write(&self, mut into: schema::call_info::Builder<'_>) {
        into.set_deadline_ms(self.deadline_ms);
        into.set_hops(self.hops);
        into.set_trace(self.trace);
    }
}

impl Wire for HelloRequest {
    type Form = schema::hello_request::Owned;

    fn read(from: schema::hello_request::Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            protocol_min: from.get_protocol_min(),
            protocol_max: from.get_protocol_max(),
            cluster: read_array_or_none(from.get_cluster()).field("cluster")?,
            role: Role::of(from.get_role().field("role")?),
            node: from.get_node(),
            expect: from.get_expect(),
            software: read_text(from.get_software(), TEXT_BYTES_MAX).field("software")?,
            key: read_text(from.get_key(), TEXT_BYTES_MAX).field("key")?,
            proof: read_array_or_none(from.get_proof()).field("proof")?,
        })
    }

    fn write(&self, mut into: schema::hello_request::Builder<'_>) {
        into.set_protocol_min(self.protocol_min);
        into.set_protocol_max(self.protocol_max);
        into.set_cluster(self.cluster.as_ref().map_or(&[][..], |cluster| cluster));
        into.set_role(self.role.form());
        into.set_node(self.node);
        into.set_expect(self.expect);
        into.set_software(self.software.as_str());
        into.set_key(self.key.as_str());
        into.set_proof(self.proof.as_ref().map_or(&[][..], |proof| proof));
    }
}

/// Without the capabilities, which only a connection has.
impl Wire for Terms {
    type Form = schema::welcome::Owned;

    fn read(from: schema::welcome::Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            protocol: from.get_protocol(),
            cluster: read_array(from.get_cluster()).field("cluster")?,
            node: from.get_node(),
            software: read_text(from.get_software(), TEXT_BYTES_MAX).field("software")?,
            calls_max: from.get_calls_max(),
            bytes_max: from.get_bytes_max(),
            idle_ms: from.get_idle_ms(),
        })
    }

    fn write(&self, mut into: schema::welcome::Builder<'_>) {
        into.set_protocol(self.protocol);
        into.set_cluster(&self.cluster);
        into.set_node(self.node);
        into.set_software(self.software.as_str());
        into.set_calls_max(self.calls_max);
        into.set_bytes_max(self.bytes_max);
        into.set_idle_ms(self.idle_ms);
    }
}
