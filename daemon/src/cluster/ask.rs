//! Questions to a slot or to control, and their answers: the same within a node and, as bytes, between nodes.
//!
//! What travels is a byte that names the format, then CBOR. Who doesn't know the format says so.

use std::rc::Rc;

use cairn_meta::Malformed;
use cairn_meta::control::state::{Whole, epoch};
use cairn_meta::slot::query::{Query, Reply};

use super::hub::Core;
use super::peers::Missed;
use super::{ClusterError, Freshness};

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// To a slot.
    Slot(Query, Freshness),
    /// To control: all it knows, if that is later than this epoch.
    Whole(u64),
}

/// An answer.
#[expect(clippy::large_enum_variant, reason = "a slot's reply is what is mostly told")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A slot's.
    Slot(Reply),
    /// Control's; `None`: there is nothing later.
    Whole(Option<Whole>),
}

const LATEST: u8 = 1;
const LOCAL: u8 = 2;
const WHOLE: u8 = 3;
const REPLY: u8 = 4;
const UNCHANGED: u8 = 5;

impl Ask {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Slot(query, Freshness::Latest) => behind(LATEST, &query.encode()),
            Self::Slot(query, Freshness::Local) => behind(LOCAL, &query.encode()),
            Self::Whole(known) => behind(WHOLE, &known.to_le_bytes()),
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
        if let Ask::Slot(query, Freshness::Local) = ask {
            let reply = self.slots.read_own(slot, |rows| query.answer(rows)).await?;
            return Ok(Told::Slot(reply.map_err(broken)?));
        }
        self.slots.barrier(slot).await?;
        match ask {
            Ask::Slot(query, _) => {
                let reply = self.slots.read(slot, |rows| query.answer(rows))?;
                Ok(Told::Slot(reply.map_err(broken)?))
            }
            Ask::Whole(known) => {
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
        for ask in
            [Ask::Slot(Query::Tally(7), Freshness::Latest), Ask::Slot(Query::Tally(7), Freshness::Local), Ask::Whole(9)]
        {
            assert_eq!(Ask::decode(&ask.encode()), Ok(ask.clone()));
            assert!(Ask::decode(&ask.encode()[..2]).is_err());
        }
        for told in [Told::Slot(Reply::Read(None)), Told::Whole(None), Told::Whole(Some(Whole::default()))] {
            assert_eq!(Told::decode(&told.encode()), Ok(told.clone()));
        }
        for bytes in [&[][..], &[0], &[UNCHANGED, 0], &[9, 9]] {
            assert!(Ask::decode(bytes).is_err() && Told::decode(bytes).is_err(), "{bytes:?}");
        }
    }
}
