//! A hash ring with virtual nodes: tokens on a circle; a group belongs to the nodes of the tokens after its own place.

use super::{Candidate, Rank};
use crate::id::{Group, NodeId};
use crate::score::pair_hash;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// More tokens than these make a node's share no better.
const TOKENS_MAX: u32 = 4096;

/// Keeps tokens apart from every other use of the hash: "CAIRNTOK", little-endian.
const TOKEN_SEED: u64 = u64::from_le_bytes(*b"CAIRNTOK");

/// Stands for the circle itself where a group's place on it is hashed; tokens have a seed of their own.
const CIRCLE: NodeId = NodeId(u64::MAX);

/// A hash ring over one list of candidates.
#[derive(Clone, Debug)]
pub struct Ring {
    /// Place on the circle and place in the list of candidates, in this order.
    tokens: Vec<(u64, u32)>,
    candidates: usize,
}

impl Ring {
    /// One token for each `weight_per_token` of weight, rounded up.
    pub fn new(candidates: &[Candidate], weight_per_token: u32) -> Self {
        let mut tokens = Vec::new();
        let mut present = 0;
        for (candidate, place) in candidates.iter().zip(0..) {
            let count = candidate.weight.div_ceil(weight_per_token.max(1)).min(TOKENS_MAX);
            present += usize::from(count > 0);
            tokens.extend((0..u64::from(count)).map(|number| (token(candidate.id, number), place)));
        }
        tokens.sort_unstable();
        Self { tokens, candidates: present }
    }
}

fn token(node: NodeId, number: u64) -> u64 {
    let pair = u128::from(node.0) | (u128::from(number) << 64);
    xxh3_64_with_seed(&pair.to_le_bytes(), TOKEN_SEED)
}

impl Rank for Ring {
    fn best(&self, group: Group, count: usize, best: &mut Vec<u32>) {
        best.clear();
        let count = count.min(self.candidates);
        let here = pair_hash(group, CIRCLE);
        let start = self.tokens.partition_point(|&(place, _)| place < here);
        let (before, after) = self.tokens.split_at(start);
        for &(_, place) in after.iter().chain(before) {
            if best.len() == count {
                return;
            }
            if !best.contains(&place) {
                best.push(place);
            }
        }
    }
}
