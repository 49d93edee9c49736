//! The score of a node for a group: weighted rendezvous in whole numbers, specified to the bit in `docs/placement.md`.
//!
//! Each pair gets a hash, taken as a number u between 0 and 1; the node with the least `-log2(u) / weight` wins. Then
//! a node wins in proportion to its weight, and another node's coming or going changes no pair's score. No floating
//! point: its last bits differ between machines and libraries, and with them would differ where data is sought.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::id::{Group, NodeId};

/// Bits behind the point of a logarithm.
const FRACTION_BITS: u32 = 48;

/// The table divides the octave into two to the power of this many steps.
const STEP_BITS: u32 = 8;

/// Steps of the table; one entry more than that, for the end of the last.
const STEPS: usize = 1 << STEP_BITS;

/// Bits of a 63-bit fraction that lie within one step.
const WITHIN_BITS: u32 = 63 - STEP_BITS;

/// log2(1 + i/256), at 48 bits behind the point, for i from 0 to 256.
static LOG2: [u64; STEPS + 1] = log2_table();

const fn log2_table() -> [u64; STEPS + 1] {
    let mut table = [0; STEPS + 1];
    let mut step = 0;
    while step < STEPS {
        table[step] = log2_of_step(step as u128);
        step += 1;
    }
    table[STEPS] = 1 << FRACTION_BITS;
    table
}

/// The classic way, bit by bit: square; where the square reaches 2 the bit is 1 and the square is halved.
const fn log2_of_step(step: u128) -> u64 {
    const POINT: u32 = 62;
    let mut mantissa = (1 << POINT) + (step << (POINT - STEP_BITS));
    let mut log = 0;
    let mut bit = 0;
    while bit < FRACTION_BITS {
        mantissa = (mantissa * mantissa) >> POINT;
        log <<= 1;
        if mantissa >= 2 << POINT {
            mantissa >>= 1;
            log |= 1;
        }
        bit += 1;
    }
    log
}

/// -log2(hash / 2^64), at 48 bits behind the point; never 0, and never more than 64.
#[inline]
pub fn minus_log2(hash: u64) -> u64 {
    let hash = hash.max(1);
    let zeros = hash.leading_zeros();
    let fraction = (hash << zeros) & ((1 << 63) - 1);
    let step = (fraction >> WITHIN_BITS) as usize;
    let within = fraction & ((1 << WITHIN_BITS) - 1);
    let (low, high) = (LOG2[step], LOG2[step + 1]);
    let between = (u128::from(high - low) * u128::from(within)) >> WITHIN_BITS;
    let log2 = (u64::from(63 - zeros) << FRACTION_BITS) + low + between as u64;
    (64 << FRACTION_BITS) - log2
}

/// The hash of a pair: 16 bytes, group number and node id, both 64 bits little-endian; the kind of group is the seed.
#[inline]
pub fn pair_hash(group: Group, node: NodeId) -> u64 {
    let pair = u128::from(group.number()) | (u128::from(node.0) << 64);
    xxh3_64_with_seed(&pair.to_le_bytes(), group.seed())
}

/// One over a weight, as a whole number: what a logarithm is multiplied by. A node of weight 0 has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reciprocal(u64);

impl Reciprocal {
    /// (2^64 - 1) / weight, rounded down.
    pub fn of_weight(weight: u32) -> Option<Self> {
        u64::MAX.checked_div(u64::from(weight)).map(Self)
    }

    pub(crate) fn get(self) -> u64 {
        self.0
    }
}

/// What it costs to give a group to a node: the least wins, and of equals the lower node id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cost(pub u128);

impl Cost {
    /// The cost of a pair.
    #[inline]
    pub fn of(group: Group, node: NodeId, reciprocal: Reciprocal) -> Self {
        Self(u128::from(minus_log2(pair_hash(group, node))) * u128::from(reciprocal.0))
    }
}

/// The logarithm table, for the golden vectors and for other languages.
pub fn log2_table_entries() -> &'static [u64] {
    &LOG2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_logarithm() {
        for (step, entry) in LOG2.iter().enumerate() {
            let exact = (1.0 + step as f64 / STEPS as f64).log2() * (1_u64 << FRACTION_BITS) as f64;
            assert!((*entry as f64 - exact).abs() < 8.0, "{step}: {entry} and {exact}");
        }
    }

    #[test]
    fn the_logarithm_is_right_and_never_rises_with_the_hash() {
        let mut last = u64::MAX;
        for step in 1..=100_000_u64 {
            let hash = u64::MAX / 100_000 * step;
            let log = minus_log2(hash);
            assert!(log <= last && log > 0);
            last = log;
            let exact = 64.0 - (hash as f64).log2();
            assert!((log as f64 / (1_u64 << FRACTION_BITS) as f64 - exact).abs() < 4e-6, "{hash}");
        }
    }

    #[test]
    fn the_ends_are_in_bounds() {
        assert_eq!(minus_log2(u64::MAX), 1);
        assert_eq!(minus_log2(0), minus_log2(1));
        assert_eq!(minus_log2(1), 64 << FRACTION_BITS);
        assert_eq!(minus_log2(1 << 63), 1 << FRACTION_BITS);
        assert_eq!(Reciprocal::of_weight(0), None);
    }
}
