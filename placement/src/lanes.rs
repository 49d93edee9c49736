//! Which lane of a node a chunk belongs to: the score of `docs/placement.md`, with lanes in the place of nodes.
//!
//! The hash of a pair is that of 16 bytes: the second 8 bytes of the chunk's name (the first decide its partition, so they
//! are alike where a node holds few partitions) and the lane's key, 64 bits little-endian; the seed is "CAIRNLAN". Keys
//! are drawn at random, so that the chunks of one lane lie on many lanes of every other node, which share the work when
//! that lane is lost.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::score::{Cost, Reciprocal, minus_log2};

/// Keeps the lanes' ranking apart from that of nodes.
const SEED: u64 = u64::from_le_bytes(*b"CAIRNLAN");

/// What a lane is ranked by, for ever: another key is another lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneKey(pub u64);

/// Lanes that chunks may be given to, ready to be ranked.
#[derive(Clone, Debug, Default)]
pub struct Lanes {
    /// In the order of their keys: of equal costs the lower key wins.
    lanes: Vec<(LaneKey, Reciprocal, u32)>,
}

impl Lanes {
    /// Lanes with their weights and the numbers they are known by. Those of weight 0 are given nothing.
    pub fn new(lanes: impl IntoIterator<Item = (LaneKey, u32, u32)>) -> Self {
        let ready = |(key, weight, number)| Reciprocal::of_weight(weight).map(|reciprocal| (key, reciprocal, number));
        let mut lanes: Vec<_> = lanes.into_iter().filter_map(ready).collect();
        lanes.sort_unstable_by_key(|(key, _, number)| (*key, *number));
        Self { lanes }
    }

    /// The number of the lane that a chunk belongs to; `None` if there is no lane.
    pub fn home(&self, chunk: &[u8; 32]) -> Option<u32> {
        let best = self.lanes.iter().min_by_key(|(key, reciprocal, _)| cost(chunk, *key, *reciprocal));
        best.map(|(_, _, number)| *number)
    }

    /// The numbers of all lanes, the chunk's home first, then whoever would be its home without those before.
    pub fn ranking(&self, chunk: &[u8; 32]) -> Vec<u32> {
        let mut ranked: Vec<_> = self
            .lanes
            .iter()
            .map(|(key, reciprocal, number)| (cost(chunk, *key, *reciprocal), *key, *number))
            .collect();
        ranked.sort_unstable();
        ranked.into_iter().map(|(_, _, number)| number).collect()
    }
}

/// What it costs to give a chunk to a lane: the least wins.
pub fn cost(chunk: &[u8; 32], lane: LaneKey, reciprocal: Reciprocal) -> Cost {
    Cost(u128::from(minus_log2(pair_hash(chunk, lane))) * u128::from(reciprocal.get()))
}

/// The hash of a chunk and a lane.
pub fn pair_hash(chunk: &[u8; 32], lane: LaneKey) -> u64 {
    let mut pair = [0; 16];
    pair[..8].copy_from_slice(&chunk[8..16]);
    pair[8..].copy_from_slice(&lane.0.to_le_bytes());
    xxh3_64_with_seed(&pair, SEED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u64) -> [u8; 32] {
        let mut name = [0; 32];
        name[8..16].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        name
    }

    fn key(number: u64) -> LaneKey {
        LaneKey(xxh3_64_with_seed(&number.to_le_bytes(), 7))
    }

    fn lanes(weights: &[u32]) -> Lanes {
        Lanes::new((0..).zip(weights).map(|(number, weight)| (key(u64::from(number)), *weight, number)))
    }

    /// Fixed for ever: chunks are found by it.
    #[test]
    fn lanes_have_golden_vectors() {
        let chunk: [u8; 32] = std::array::from_fn(|at| at as u8);
        let hashes = [0, 1, u64::MAX].map(|key| pair_hash(&chunk, LaneKey(key)));
        assert_eq!(hashes, [2_133_423_694_296_332_043, 10_459_393_547_060_441_399, 6_770_857_328_360_004_282]);
        let lanes = Lanes::new((1..=6).map(|number| (LaneKey(u64::from(number)), number * 100, number)));
        assert_eq!(lanes.ranking(&chunk), [3, 2, 5, 4, 6, 1]);
        assert_eq!(lanes.ranking(&[0xAB; 32]), [3, 2, 6, 5, 4, 1]);
    }

    #[test]
    fn the_home_is_the_first_of_the_ranking() {
        let lanes = lanes(&[10, 20, 0, 5, 40]);
        for chunk in (0..500).map(name) {
            let ranking = lanes.ranking(&chunk);
            assert_eq!(lanes.home(&chunk), ranking.first().copied());
            assert_eq!(ranking.len(), 4, "weight 0 is given nothing");
        }
        assert_eq!(Lanes::default().home(&name(1)), None);
    }

    #[test]
    fn lanes_win_in_proportion_to_their_weight() {
        let lanes = lanes(&[100, 200, 300, 400]);
        let mut won = [0_u32; 4];
        (0..100_000).for_each(|number| won[lanes.home(&name(number)).expect("there are lanes") as usize] += 1);
        for (number, share) in (1_u32..).zip(won) {
            // Four standard deviations of a share of 40 % are 620.
            assert!(share.abs_diff(number * 10_000) < 620, "{won:?}");
        }
    }

    #[test]
    fn a_new_lane_takes_its_share_and_nothing_else_moves() {
        for count in 1..12_u32 {
            let before = lanes(&vec![7; count as usize]);
            let after = lanes(&vec![7; count as usize + 1]);
            let mut moved = 0_u32;
            for chunk in (0..20_000).map(name) {
                let (old, new) = (before.home(&chunk), after.home(&chunk));
                if old != new {
                    assert_eq!(new, Some(count), "what moves moves to the new lane");
                    moved += 1;
                }
            }
            let share = 20_000 / (count + 1);
            // Five standard deviations at the most.
            assert!(moved.abs_diff(share) < 5 * 71, "{moved} of 20000 moved to one of {}", count + 1);
        }
    }
}
