//! Policy: how many copies, spread over what, where they may lie, and when a write counts as done.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::selector::Selector;

/// The name of a policy in the map.
pub type PolicyName = String;

/// The most nodes that one group may use: bounds what a hostile or mistyped map can make us compute.
pub const WIDTH_MAX: usize = 64;

/// What makes data survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redundancy {
    /// That many whole copies.
    Copies(u8),
    /// `data` pieces of which any that many rebuild the rest, and `parity` more.
    Pieces {
        /// k: pieces needed to read.
        data: u8,
        /// m: pieces that may be lost.
        parity: u8,
    },
}

impl Redundancy {
    /// On how many different nodes it lies.
    pub fn width(self) -> usize {
        match self {
            Self::Copies(copies) => usize::from(copies),
            Self::Pieces { data, parity } => usize::from(data) + usize::from(parity),
        }
    }

    /// How many of them are enough to read.
    pub fn enough(self) -> usize {
        match self {
            Self::Copies(_) => 1,
            Self::Pieces { data, .. } => usize::from(data),
        }
    }
}

impl fmt::Display for Redundancy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copies(copies) => write!(f, "{copies} copies"),
            Self::Pieces { data, parity } => write!(f, "{data}+{parity} pieces"),
        }
    }
}

/// How strictly a spread is meant. A required one is met before any preferred one is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Need {
    /// Without it the data counts as below policy.
    #[default]
    Required,
    /// Wished for; its lack is reported and nothing more.
    Preferred,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Required => "required",
            Self::Preferred => "preferred",
        })
    }
}

/// At least `distinct` different values of `label` among the nodes that hold a group. A node without the label adds none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spread {
    /// The label, such as `rack`.
    pub label: String,
    /// How many different values at the least; 1 means that one of the nodes must carry the label.
    pub distinct: u8,
    /// How strictly.
    pub need: Need,
}

/// When a write is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ack {
    /// One durable copy.
    One,
    /// A majority of the copies; of pieces, enough to read and one more where there is one.
    #[default]
    Quorum,
    /// All of them.
    All,
}

impl Ack {
    /// How many copies or pieces must be durable before the answer.
    pub fn copies(self, redundancy: Redundancy) -> usize {
        let width = redundancy.width();
        match (self, redundancy) {
            (Self::One, _) => redundancy.enough().min(width),
            (Self::Quorum, Redundancy::Copies(_)) => width / 2 + 1,
            (Self::Quorum, Redundancy::Pieces { data, .. }) => (usize::from(data) + 1).min(width),
            (Self::All, _) => width,
        }
    }
}

/// A policy that has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Unique in the map.
    pub name: PolicyName,
    /// Copies or pieces.
    pub redundancy: Redundancy,
    /// Spreads, the most important first.
    pub spread: Vec<Spread>,
    /// All of them must hold for a node to be chosen.
    pub only: Vec<Selector>,
    /// When a write is answered.
    pub ack: Ack,
}

impl Policy {
    /// A policy of plain copies without constraints.
    pub fn copies(name: &str, copies: u8) -> Self {
        let redundancy = Redundancy::Copies(copies);
        Self { name: name.to_owned(), redundancy, spread: vec![], only: vec![], ack: Ack::default() }
    }

    /// The same with a spread more.
    #[must_use]
    pub fn spread(mut self, label: &str, distinct: u8, need: Need) -> Self {
        self.spread.push(Spread { label: label.to_owned(), distinct, need });
        self
    }
}

/// The redundancy as people write it: `3` or `4+2`.
impl FromStr for Redundancy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is neither a number of copies such as \"3\" nor pieces such as \"4+2\"");
        let number = |part: &str| part.trim().parse::<u8>().map_err(|_| wrong());
        match text.split_once('+') {
            None => Ok(Self::Copies(number(text)?)),
            Some((data, parity)) => Ok(Self::Pieces { data: number(data)?, parity: number(parity)? }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgement_counts() {
        let pieces = Redundancy::Pieces { data: 4, parity: 2 };
        assert_eq!([Ack::One, Ack::Quorum, Ack::All].map(|ack| ack.copies(Redundancy::Copies(3))), [1, 2, 3]);
        assert_eq!([Ack::One, Ack::Quorum, Ack::All].map(|ack| ack.copies(pieces)), [4, 5, 6]);
        assert_eq!(Ack::Quorum.copies(Redundancy::Copies(1)), 1);
    }

    #[test]
    fn redundancy_is_read_as_people_write_it() {
        assert_eq!("3".parse(), Ok(Redundancy::Copies(3)));
        assert_eq!("4+2".parse(), Ok(Redundancy::Pieces { data: 4, parity: 2 }));
        assert!("4+".parse::<Redundancy>().is_err() && "three".parse::<Redundancy>().is_err());
    }
}
