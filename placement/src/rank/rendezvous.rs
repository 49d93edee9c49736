//! Weighted rendezvous: every candidate is scored, the best are kept.

use super::{Candidate, Rank};
use crate::id::{Group, NodeId};
use crate::score::{Cost, Reciprocal};

/// Weighted rendezvous over one list of candidates.
#[derive(Clone, Debug)]
pub struct Rendezvous {
    /// Each with its place in the list of candidates.
    scored: Vec<(NodeId, Reciprocal, u32)>,
}

impl Rendezvous {
    /// Candidates of weight 0 are never ranked.
    pub fn new(candidates: &[Candidate]) -> Self {
        let places = candidates.iter().zip(0..);
        let scored = places.filter_map(|(candidate, place)| {
            Reciprocal::of_weight(candidate.weight).map(|reciprocal| (candidate.id, reciprocal, place))
        });
        Self { scored: scored.collect() }
    }

    /// All of them with their costs, best first.
    pub fn ranked(&self, group: Group) -> Vec<(Cost, u32)> {
        let mut ranked: Vec<(Cost, u32)> = self.costs(group).collect();
        ranked.sort_unstable();
        ranked
    }

    fn costs(&self, group: Group) -> impl Iterator<Item = (Cost, u32)> {
        self.scored.iter().map(move |&(node, reciprocal, place)| (Cost::of(group, node, reciprocal), place))
    }
}

/// Up to so many, inserting each into a short sorted list is faster than sorting everything.
const SHORT: usize = 32;

impl Rank for Rendezvous {
    fn best(&self, group: Group, count: usize, best: &mut Vec<u32>) {
        best.clear();
        if count > SHORT {
            best.extend(self.ranked(group).iter().take(count).map(|&(_, place)| place));
            return;
        }
        let mut short = [(Cost(u128::MAX), u32::MAX); SHORT];
        let mut filled = 0;
        let mut worst = (Cost(u128::MAX), u32::MAX);
        for entry in self.costs(group) {
            if count == 0 || (filled == count && entry >= worst) {
                continue;
            }
            filled = insert(&mut short[..count], filled, entry);
            worst = short[filled - 1];
        }
        best.extend(short[..filled].iter().map(|&(_, place)| place));
    }
}

/// Into its place among the first `filled`; the worst falls out of a full list. Returns how many there are now.
fn insert<T: Copy + Ord>(short: &mut [T], filled: usize, entry: T) -> usize {
    let filled = (filled + 1).min(short.len());
    let mut at = filled - 1;
    while at > 0 && short[at - 1] > entry {
        short[at] = short[at - 1];
        at -= 1;
    }
    short[at] = entry;
    filled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::PartitionId;

    #[test]
    fn a_short_list_is_the_beginning_of_the_whole() {
        let candidates: Vec<Candidate> =
            (0..100).map(|id| Candidate { id: NodeId(id), weight: (id % 7) as u32 }).collect();
        let rank = Rendezvous::new(&candidates);
        let (mut all, mut some) = (vec![], vec![]);
        for number in 0..50 {
            let group = Group::Partition(PartitionId(number));
            rank.best(group, 1000, &mut all);
            assert_eq!(all.len(), 85, "those of weight 0 are left out");
            for count in [0, 1, 3, 31, 32, 33] {
                rank.best(group, count, &mut some);
                assert_eq!(some, all[..count]);
            }
        }
    }
}
