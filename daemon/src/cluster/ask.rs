//! Questions to a slot or to control, and their answers: the same within a node and, as bytes, between nodes.
//!
//! What travels is a byte that names the format, then CBOR. Who doesn't know the format says so.

use std::rc::Rc;

use cairn_meta::Malformed;
use cairn_meta::control::state::{Whole, epoch};
use cairn_meta::slot::query::{Query, Reply};

use super::hub::Core;
use super::peers::Missed;
use super::{ClusterError, Copies, Freshness};

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// To a slot.
    Slot(Query, Freshness),
    /// To control: all it knows, if that is later than this epoch.
    Whole(u64),
    /// To a slot: how many of its nodes have all that it has answered, when all do that answer.
    Copies,
}

/// An answer.
#[expect(clippy::large_enum_variant, reason = "a slot's reply is what is mostly told")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A slot's.
    Slot(Reply),
    /// Control's; `None`: there is nothing later.
    Whole(Option<Whole>),
    /// So many have it.
    Copies(Copies),
}

const LATEST: u8 = 1;
const LOCAL: u8 = 2;
const WHOLE: u8 = 3;
const REPLY: u8 = 4;
const UNCHANGED: u8 = 5;
const COPIES: u8 = 6;

impl Ask {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Slot(query, Freshness::Latest) => behind(LATEST, &query.encode()),
            Self::Slot(query, Freshness::Local) => behind(LOCAL, &query.encode()),
            Self::Whole(known) => behind(WHOLE, &known.to_le_bytes()),
            Self::Copies => vec![COPIES],
        }
    }

    /// Reads such bytes.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        match bytes.split_first() {
            Some((&LATEST, query)) => Ok(Self::Slot(Query::decode(query)?, Freshness::Latest)),
            Some((&LOCAL, query)) => Ok(Self::Slot(Query::decode(query)?, Freshness::Local)),
            Some((&WHOLE, known)) => {
                let known = known.try_into().map_err(|_| Malformed("an epoch of another length".to_owned()))?;
                Ok(Self::Whole(u64::from_le_bytes(known)))
            }
            Some((&COPIES, [])) => Ok(Self::Copies),
            _ => Err(Malformed("a question of an unknown kind".to_owned())),
        }
    }
}

impl Told {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Slot(reply) => behind(REPLY, &reply.encode()),
            Self::Whole(Some(whole)) => behind(WHOLE, &whole.encode()),
            Self::Whole(None) => vec![UNCHANGED],
            Self::Copies(Copies { durable, of }) => vec![COPIES, *durable, *of],
        }
    }

    /// Reads such bytes.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        match bytes.split_first() {
            Some((&REPLY, reply)) => Ok(Self::Slot(Reply::decode(reply)?)),
            Some((&WHOLE, whole)) => Ok(Self::Whole(Some(Whole::decode(whole)?))),
            Some((&UNCHANGED, [])) => Ok(Self::Whole(None)),
            Some((&COPIES, &[durable, of])) => Ok(Self::Copies(Copies { durable, of })),
            _ => Err(Malformed("an answer of an unknown kind".to_owned())),
        }
    }
}

fn behind(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&[kind][..], bytes].concat()
}

impl Core {
    /// Answers for a slot of this core that nobody else has anything of, which is as fresh as an answer can be. `None`: it must be
    /// asked for.
    pub fn answer_alone(&self, slot: u32, query: &Query) -> Option<Reply> {
        self.slots.read_alone(slot, |rows| query.answer(rows))?.ok()
    }

    /// Answers for a slot of this core.
    pub async fn answer(self: &Rc<Self>, slot: u32, ask: &Ask) -> Result<Told, Missed> {
        let broken = |error: cairn_meta::index::Error| Missed::Final(ClusterError::from(error));
        match ask {
            Ask::Copies => {
                let (durable, of) = self.slots.copies(slot).await?;
                let count = |nodes: usize| u8::try_from(nodes).unwrap_or(u8::MAX);
                Ok(Told::Copies(Copies { durable: count(durable), of: count(of) }))
            }
            Ask::Slot(query, Freshness::Local) => {
                let reply = self.slots.read_own(slot, |rows| query.answer(rows)).await?;
                Ok(Told::Slot(reply.map_err(broken)?))
            }
            Ask::Slot(query, Freshness::Latest) => {
                self.slots.barrier(slot).await?;
                let reply = self.slots.read(slot, |rows| query.answer(rows))?;
                Ok(Told::Slot(reply.map_err(broken)?))
            }
            Ask::Whole(known) => {
                self.slots.barrier(slot).await?;
                let read = |rows: &dyn cairn_meta::rows::Rows| {
                    if epoch(rows)? > *known { Whole::read(rows).map(Some) } else { Ok(None) }
                };
                Ok(Told::Whole(self.slots.read(slot, read)?.map_err(broken)?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_travel_and_nonsense_is_refused() {
        for ask in [
            Ask::Slot(Query::Tally(7), Freshness::Latest),
            Ask::Slot(Query::Tally(7), Freshness::Local),
            Ask::Whole(9),
            Ask::Copies,
        ] {
            assert_eq!(Ask::decode(&ask.encode()), Ok(ask.clone()));
            assert!(Ask::decode(&[&ask.encode()[..1], &[0]].concat()).is_err());
        }
        for told in [
            Told::Slot(Reply::Read(None)),
            Told::Whole(None),
            Told::Whole(Some(Whole::default())),
            Told::Copies(Copies { durable: 2, of: 3 }),
        ] {
            assert_eq!(Told::decode(&told.encode()), Ok(told.clone()));
        }
        for bytes in [&[][..], &[0], &[UNCHANGED, 0], &[9, 9]] {
            assert!(Ask::decode(bytes).is_err() && Told::decode(bytes).is_err(), "{bytes:?}");
        }
    }
}
