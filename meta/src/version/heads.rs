//! The heads of a key: who is preferred, whether there is a conflict, what happens to them when a version comes.
//!
//! **The preferred head** is the greatest by these, in this order; no wall clock is among them:
//!
//! | | |
//! | --- | --- |
//! | state | confirmed before provisional |
//! | origin | committed by the slot before imported: those who were connected see no change when others come back |
//! | number | of those that the slot committed, the one that it committed last |
//! | id | of those that were imported or are provisional, the greatest id, so that the order of import decides nothing |

use minicbor::{Decode, Encode};

use super::causality::{Context, Dot};
use super::id::VersionId;
use super::{Kind, Origin, State, Version};

/// What the graph needs to know of a head.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Head {
    /// Its name.
    #[n(0)]
    pub id: VersionId,
    /// What kind of state it is.
    #[n(1)]
    pub kind: Kind,
    /// Its causal name.
    #[n(2)]
    pub dot: Dot,
    /// The dots of its ancestors.
    #[n(3)]
    pub context: Context,
    /// Who has it.
    #[n(4)]
    pub state: State,
    /// How it came into its slot.
    #[n(5)]
    pub origin: Origin,
}

impl From<&Version> for Head {
    fn from(version: &Version) -> Self {
        let Version { id, kind, dot, state, origin, .. } = *version;
        Self { id, kind, dot, context: version.context.clone(), state, origin }
    }
}

impl Head {
    /// What makes one head preferred to another: see the module.
    pub fn rank(&self) -> impl Ord + use<> {
        let committed = self.state == State::Confirmed && self.origin == Origin::Committed;
        (self.state, self.origin, if committed { self.dot.counter } else { 0 }, self.id)
    }
}

/// How much the heads of a key agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Conflict {
    /// There is one head.
    #[n(0)]
    No,
    /// Several heads, one of them an object and the others deletions, or the other way round.
    #[n(1)]
    DeletedAndChanged,
    /// Several objects.
    #[n(2)]
    Changed,
}

impl Conflict {
    /// Of these heads.
    pub fn of<'h>(heads: impl IntoIterator<Item = &'h Head>) -> Self {
        let (mut objects, mut all) = (0, 0);
        for head in heads {
            all += 1;
            objects += usize::from(head.kind == Kind::Data);
        }
        match (all, objects) {
            (0 | 1, _) | (_, 0) => Self::No,
            (_, 1) => Self::DeletedAndChanged,
            _ => Self::Changed,
        }
    }
}

/// The preferred one among heads.
pub fn preferred(heads: &[Head]) -> Option<&Head> {
    heads.iter().max_by_key(|head| head.rank())
}

/// Adds a version to heads: those it supersedes leave, and it stays outside if one of them supersedes it.
pub fn add(heads: &mut Vec<Head>, new: Head) {
    if heads.iter().any(|head| head.dot == new.dot || head.context.has(new.dot)) {
        return;
    }
    heads.retain(|head| !new.context.has(head.dot));
    heads.push(new);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::version::id::Actor;

    fn head(id: u128, state: State, origin: Origin, counter: u64) -> Head {
        let dot = Dot { actor: Actor(if origin == Origin::Committed { 1 } else { id }), counter };
        Head { id: VersionId(id), dot, state, origin, ..Head::default() }
    }

    #[test]
    fn the_preferred_head_follows_the_table() {
        use Origin::{Committed, Imported};
        use State::{Confirmed, Provisional};
        let rising = [
            head(8, Provisional, Imported, 99),
            head(9, Provisional, Imported, 1),
            head(6, Confirmed, Imported, 70),
            head(7, Confirmed, Imported, 2),
            head(3, Confirmed, Committed, 4),
            head(2, Confirmed, Committed, 5),
        ];
        for pair in rising.windows(2) {
            for order in [[0, 1], [1, 0]] {
                let heads = order.map(|place: usize| pair[place].clone());
                assert_eq!(preferred(&heads), Some(&pair[1]));
            }
        }
        assert_eq!(preferred(&[]), None);
    }

    #[test]
    fn a_conflict_says_what_it_is() {
        let of = |kinds: &[Kind]| {
            let heads: Vec<Head> = kinds.iter().map(|kind| Head { kind: *kind, ..Head::default() }).collect();
            Conflict::of(&heads)
        };
        assert_eq!(of(&[]), Conflict::No);
        assert_eq!(of(&[Kind::Data]), Conflict::No);
        assert_eq!(of(&[Kind::Tombstone, Kind::DeleteMarker]), Conflict::No, "all say that it is gone");
        assert_eq!(of(&[Kind::Data, Kind::Tombstone]), Conflict::DeletedAndChanged);
        assert_eq!(of(&[Kind::Data, Kind::Data, Kind::Tombstone]), Conflict::Changed);
    }

    /// A graph: each version picks its parents among those before it, so contexts are what histories make them.
    fn histories() -> impl Strategy<Value = Vec<Head>> {
        proptest::collection::vec(proptest::collection::vec(any::<proptest::sample::Index>(), 0..3), 1..12).prop_map(
            |picks| {
                let mut all: Vec<Head> = Vec::new();
                for (at, parents) in picks.into_iter().enumerate() {
                    let dot = Dot { actor: Actor(at as u128 % 3), counter: at as u64 / 3 + 1 };
                    let mut context = Context::default();
                    for parent in parents.into_iter().filter(|_| at > 0).map(|pick| &all[pick.index(at)]) {
                        context.join(&parent.context);
                        context.add(parent.dot);
                    }
                    all.push(Head { id: VersionId(at as u128), dot, context, ..Head::default() });
                }
                all
            },
        )
    }

    proptest! {
        #[test]
        fn heads_are_those_that_nothing_supersedes_in_whatever_order_they_come(
            (all, order) in histories().prop_flat_map(|all| {
                let order = Just((0..all.len()).collect::<Vec<_>>()).prop_shuffle();
                (Just(all), order)
            })
        ) {
            let mut heads = Vec::new();
            for at in order {
                add(&mut heads, all[at].clone());
            }
            heads.sort_by_key(|head| head.id);
            let naive: Vec<Head> =
                all.iter().filter(|one| !all.iter().any(|other| other.context.has(one.dot))).cloned().collect();
            prop_assert_eq!(heads, naive);
        }
    }
}
