//! Commits of versions: which nodes have one before its writer is answered.
//!
//! | asked for | answered when | by |
//! | --- | --- | --- |
//! | one | this node has it | [`super::provisional`], if the write may be provisional; else as a quorum |
//! | quorum | a majority of the slot's nodes has it | the slot |
//! | all | every node of the slot has it | the slot, and then its leader, who is asked who has what |
//!
//! What is committed stays so if some don't answer who were asked for: the writer is told that, and may commit it again by its token.

use bytes::Bytes;
use cairn_meta::control::bucket::{Ack, Offline};
use cairn_meta::slot::command::{Answer, Body, Command, Committed, Envelope, Leveled, Refusal, Token, Write};
use cairn_meta::slot::layout::BucketId;
use cairn_meta::slot::provisional;
use cairn_meta::version::State;

use super::{Ask, Cluster, ClusterError, Told, wall_millis};

/// When a writer is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// When so many have it,
    pub ack: Ack,
    /// or, where nobody leads the slot, perhaps when this node has.
    pub offline: Offline,
}

/// What became of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// What was committed.
    pub committed: Committed,
    /// Who has it.
    pub state: State,
    /// How many have it, bytes included.
    pub copies: Copies,
}

/// How many nodes have something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copies {
    /// That have it durably, at least.
    pub durable: u8,
    /// That are to have it.
    pub of: u8,
}

impl Copies {
    /// One node has it, and no other is to.
    pub const ONE: Self = Self { durable: 1, of: 1 };
}

impl Cluster {
    /// Commits a version. Where nobody leads its slot, it is provisional, if the terms and the way it finds its parents let it.
    ///
    /// # Errors
    /// If it is refused, or it isn't known whether it was made.
    pub async fn commit(
        &self,
        Terms { ack, offline }: Terms,
        token: Option<Token>,
        write: Write,
    ) -> Result<Commit, ClusterError> {
        let place = &write.place;
        let slot = self.slot_of(place.bucket.id, &place.key);
        let is_enough = offline == Offline::Accept && ack != Ack::All;
        let may_be = is_enough && !self.core().peers.is_alone() && provisional::may_be(&write.mode);
        if may_be && ack == Ack::One {
            return Box::pin(self.take(slot, write)).await;
        }
        self.reconcile_key(place.bucket.id, &place.key).await;
        let is_inline = is_inline(&write.body);
        let envelope = Envelope { time: wall_millis(), token, command: Command::Commit(vec![write]) };
        let command = Bytes::from(envelope.encode());
        drop(envelope);
        let committed = match self.command_bytes(slot, command.clone()).await {
            Err(ClusterError::Unreachable(_)) if may_be => {
                return Box::pin(self.take(slot, write_of(&command)?)).await;
            }
            answered => one_of(answered?)?,
        };
        let committed = match committed {
            Ok(committed) => committed,
            Err(refused) => return Err(self.refused(refused).await?),
        };
        let copies = match ack {
            Ack::All => Box::pin(self.all_have(slot)).await?,
            Ack::One | Ack::Quorum => self.copies(State::Confirmed),
        };
        // Chunks are on this node alone.
        Ok(Commit { committed, state: State::Confirmed, copies: if is_inline { copies } else { Copies::ONE } })
    }

    /// Makes a version that this node alone has.
    async fn take(&self, slot: u32, write: Write) -> Result<Commit, ClusterError> {
        let copies = if is_inline(&write.body) { self.copies(State::Provisional) } else { Copies::ONE };
        let committed = self.core().hold(slot, write).await?;
        Ok(Commit { committed, state: State::Provisional, copies })
    }

    /// How many nodes have a version as soon as its slot answers.
    fn copies(&self, state: State) -> Copies {
        if self.core().peers.is_alone() {
            return Copies::ONE;
        }
        let of = self.map().slot_copies();
        Copies { durable: if state == State::Confirmed { of / 2 + 1 } else { 1 }, of }
    }

    /// Waits until every node of a key's slot has all that was answered before now.
    ///
    /// # Errors
    /// If one doesn't answer.
    pub async fn all_have_of(&self, (bucket, key): (BucketId, &str)) -> Result<Copies, ClusterError> {
        Box::pin(self.all_have(self.slot_of(bucket, key))).await
    }

    async fn all_have(&self, slot: u32) -> Result<Copies, ClusterError> {
        if self.core().peers.is_alone() {
            return Ok(Copies::ONE);
        }
        let unsure = |why: String| {
            ClusterError::Unknown(format!(
                "it is done and confirmed, but all nodes of slot {slot} were to have it: {why}; ask for a quorum, or bring the \
                 others back"
            ))
        };
        match self.core().ask(slot, Ask::Copies).await {
            Ok(Told::Copies(copies)) if copies.durable >= copies.of => Ok(copies),
            Ok(Told::Copies(Copies { durable, of })) => Err(unsure(format!("{durable} of {of} have"))),
            Ok(_) => Err(ClusterError::another_question()),
            Err(error) => Err(unsure(error.to_string())),
        }
    }
}

fn is_inline(body: &Body) -> bool {
    match body {
        Body::Object(content) => content.payload.is_inline(),
        Body::Deletion => true,
    }
}

/// The write in the bytes of its envelope.
fn write_of(envelope: &[u8]) -> Result<Write, ClusterError> {
    let Leveled::Known(_, envelope) = Envelope::decode(envelope)? else {
        return Err(ClusterError::another_question());
    };
    let Command::Commit(mut writes) = envelope.command else { return Err(ClusterError::another_question()) };
    writes.pop().ok_or_else(ClusterError::another_question)
}

fn one_of(answer: Answer) -> Result<Result<Committed, Refusal>, ClusterError> {
    let Answer::Committed(mut each) = answer else { return Err(ClusterError::another_question()) };
    each.pop().ok_or_else(ClusterError::another_question)
}
