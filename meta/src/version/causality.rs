//! Who knew of whom: dots and contexts (dotted version vectors). No clock has a say here.
//!
//! A version has a *dot* that names it, an actor and a number, and a *context*: the dots of all its ancestors. One version
//! supersedes another when its context has the other's dot. An actor numbers its versions of a key from 1 without gaps, so
//! the context of a key that never branched is one number, however long its history; ancestors with gaps between
//! them, as branches have, are kept one by one.

use std::collections::{BTreeMap, BTreeSet};

use minicbor::decode::Error as DecodeError;
use minicbor::encode::{Error as EncodeError, Write};
use minicbor::{Decode, Decoder, Encode, Encoder};

use super::id::Actor;

/// The causal name of one version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Dot {
    /// Who made it.
    #[n(0)]
    pub actor: Actor,
    /// Its number among those which the actor made for this key, from 1.
    #[n(1)]
    pub counter: u64,
}

/// A set of dots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Context(BTreeMap<Actor, Seen>);

/// The numbers of one actor. Normal: nothing of `beyond` is 0 or follows on `up_to`, and not all is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Seen {
    /// All from 1 up to this one; 0: none.
    up_to: u64,
    /// Single ones above.
    beyond: BTreeSet<u64>,
}

impl Seen {
    fn has(&self, counter: u64) -> bool {
        (1..=self.up_to).contains(&counter) || self.beyond.contains(&counter)
    }

    fn add(&mut self, counter: u64) {
        if counter > self.up_to {
            self.beyond.insert(counter);
        }
        self.fold();
    }

    fn join(&mut self, other: &Self) {
        self.up_to = self.up_to.max(other.up_to);
        self.beyond.extend(&other.beyond);
        self.fold();
    }

    /// Makes it normal again.
    fn fold(&mut self) {
        while let Some(first) = self.beyond.first().copied().filter(|first| *first <= self.up_to.saturating_add(1)) {
            self.beyond.pop_first();
            self.up_to = self.up_to.max(first);
        }
    }

    fn is_within(&self, other: &Self) -> bool {
        let up_to = self.up_to <= other.up_to;
        up_to && self.beyond.iter().all(|counter| other.has(*counter))
    }
}

impl Context {
    /// Whether this dot is in it.
    pub fn has(&self, dot: Dot) -> bool {
        self.0.get(&dot.actor).is_some_and(|seen| seen.has(dot.counter))
    }

    /// Adds a dot. There is no dot with number 0.
    pub fn add(&mut self, dot: Dot) {
        if dot.counter > 0 {
            self.0.entry(dot.actor).or_default().add(dot.counter);
        }
    }

    /// Adds all dots of another.
    pub fn join(&mut self, other: &Self) {
        for (actor, seen) in &other.0 {
            self.0.entry(*actor).or_default().join(seen);
        }
    }

    /// Whether every dot in it is in the other, too.
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.iter().all(|(actor, seen)| other.0.get(actor).is_some_and(|more| seen.is_within(more)))
    }

    /// Of each actor: all its numbers from 1 up to one, and single ones above, which rise.
    pub fn seen(&self) -> impl Iterator<Item = (Actor, u64, impl Iterator<Item = u64>)> {
        self.0.iter().map(|(actor, seen)| (*actor, seen.up_to, seen.beyond.iter().copied()))
    }

    /// How many actors it knows of: each outage in which a key was written adds one.
    pub fn actors(&self) -> usize {
        self.0.len()
    }
}

impl FromIterator<Dot> for Context {
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> Self {
        let mut context = Self::default();
        dots.into_iter().for_each(|dot| context.add(dot));
        context
    }
}

impl<C> Encode<C> for Context {
    fn encode<W: Write>(&self, encoder: &mut Encoder<W>, ctx: &mut C) -> Result<(), EncodeError<W::Error>> {
        encoder.map(self.0.len() as u64)?;
        for (actor, seen) in &self.0 {
            actor.encode(encoder, ctx)?;
            encoder.array(1 + seen.beyond.len() as u64)?.u64(seen.up_to)?;
            for counter in &seen.beyond {
                encoder.u64(*counter)?;
            }
        }
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for Context {
    fn decode(decoder: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, DecodeError> {
        let stated: BTreeMap<Actor, Vec<u64>> = Decode::decode(decoder, ctx)?;
        let mut context = Self::default();
        for (actor, counters) in stated {
            let (up_to, beyond) =
                counters.split_first().ok_or_else(|| DecodeError::message("a context without numbers"))?;
            let mut seen =
                Seen { up_to: *up_to, beyond: beyond.iter().copied().filter(|counter| *counter > 0).collect() };
            seen.fold();
            if seen != Seen::default() {
                context.0.insert(actor, seen);
            }
        }
        Ok(context)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::encoding::{decode, encode};

    fn dot() -> impl Strategy<Value = Dot> {
        (0_u128..3, 1_u64..12).prop_map(|(actor, counter)| Dot { actor: Actor(actor), counter })
    }

    fn dots() -> impl Strategy<Value = Vec<Dot>> {
        vec(dot(), 0..20)
    }

    fn join(a: &Context, b: &Context) -> Context {
        let mut joined = a.clone();
        joined.join(b);
        joined
    }

    proptest! {
        #[test]
        fn a_context_is_a_set_of_dots(dots in dots(), other in dot()) {
            let context: Context = dots.iter().copied().collect();
            let set: BTreeSet<Dot> = dots.iter().copied().collect();
            prop_assert_eq!(context.has(other), set.contains(&other));
            prop_assert_eq!(decode::<Context>(&encode(&context)), Ok(context.clone()));
            let other_way: Context = set.into_iter().rev().collect();
            prop_assert_eq!(context, other_way, "one set has one form");
        }

        #[test]
        fn joining_is_a_least_upper_bound(a in dots(), b in dots(), c in dots()) {
            let contexts = [a, b, c].map(|dots| dots.into_iter().collect::<Context>());
            let [a, b, c] = &contexts;
            prop_assert_eq!(join(a, a), a.clone());
            prop_assert_eq!(join(a, b), join(b, a));
            prop_assert_eq!(join(&join(a, b), c), join(a, &join(b, c)));
            prop_assert!(a.is_within(&join(a, b)) && b.is_within(&join(a, b)));
            prop_assert_eq!(a.is_within(c) && b.is_within(c), join(a, b).is_within(c), "the least of them");
            prop_assert_eq!(a.is_within(b) && b.is_within(a), a == b);
            prop_assert!(!(a.is_within(b) && b.is_within(c)) || a.is_within(c));
        }
    }

    #[test]
    fn a_history_without_branches_is_one_number() {
        let actor = Actor(7);
        let context: Context = (1..=1000).map(|counter| Dot { actor, counter }).collect();
        assert!(encode(&context).len() < 24, "{} bytes", encode(&context).len());
        assert_eq!(context.actors(), 1);
        let mut last = Context::default();
        last.add(Dot { actor, counter: u64::MAX });
        last.add(Dot { actor, counter: 0 });
        assert!(last.has(Dot { actor, counter: u64::MAX }) && !last.has(Dot { actor, counter: 0 }));
    }
}
