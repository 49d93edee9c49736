//! MD5 of one message, or of up to four side by side. MD5 is a chain of steps that each wait for the one before, which leaves
//! most of a processor idle: vectors of a word of each message take little longer than one word.

use std::array::from_fn;

use wide::u32x4;

/// The most that are hashed side by side: as many words as a vector has on every processor.
pub const LANES: usize = 4;
/// What MD5 takes at a time.
pub const BLOCK: usize = 64;

/// What MD5 has made of the blocks so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State([u32; 4]);

impl Default for State {
    fn default() -> Self {
        Self([0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476])
    }
}

/// A word of each message.
type Words = u32x4;

/// RFC 1321's table: the sines of 1 to 64.
const SINES: [u32; 64] = [
    0xd76a_a478,
    0xe8c7_b756,
    0x2420_70db,
    0xc1bd_ceee,
    0xf57c_0faf,
    0x4787_c62a,
    0xa830_4613,
    0xfd46_9501,
    0x6980_98d8,
    0x8b44_f7af,
    0xffff_5bb1,
    0x895c_d7be,
    0x6b90_1122,
    0xfd98_7193,
    0xa679_438e,
    0x49b4_0821,
    0xf61e_2562,
    0xc040_b340,
    0x265e_5a51,
    0xe9b6_c7aa,
    0xd62f_105d,
    0x0244_1453,
    0xd8a1_e681,
    0xe7d3_fbc8,
    0x21e1_cde6,
    0xc337_07d6,
    0xf4d5_0d87,
    0x455a_14ed,
    0xa9e3_e905,
    0xfcef_a3f8,
    0x676f_02d9,
    0x8d2a_4c8a,
    0xfffa_3942,
    0x8771_f681,
    0x6d9d_6122,
    0xfde5_380c,
    0xa4be_ea44,
    0x4bde_cfa9,
    0xf6bb_4b60,
    0xbebf_bc70,
    0x289b_7ec6,
    0xeaa1_27fa,
    0xd4ef_3085,
    0x0488_1d05,
    0xd9d4_d039,
    0xe6db_99e5,
    0x1fa2_7cf8,
    0xc4ac_5665,
    0xf429_2244,
    0x432a_ff97,
    0xab94_23a7,
    0xfc93_a039,
    0x655b_59c3,
    0x8f0c_cc92,
    0xffef_f47d,
    0x8584_5dd1,
    0x6fa8_7e4f,
    0xfe2c_e6e0,
    0xa301_4314,
    0x4e08_11a1,
    0xf753_7e82,
    0xbd3a_f235,
    0x2ad7_d2bb,
    0xeb86_d391,
];

/// Sixteen steps: `$mix` of three words, the message's word at `$at` of the step, rotations by turns.
macro_rules! round {
    ($state:ident, $words:ident, $first:literal, $at:expr, $bits:expr, $mix:expr) => {
        for step in (0..16).step_by(4) {
            for turn in 0..4 {
                let [a, b, c, d] = $state;
                let known = $words[$at(step + turn) % 16] + Words::splat(SINES[$first + step + turn]);
                let mixed = a + known + $mix(b, c, d);
                let bits: u32 = $bits[turn];
                $state = [d, b + (mixed << bits | mixed >> (u32::BITS - bits)), b, c];
            }
        }
    };
}

#[inline]
fn compress(before: [Words; 4], words: &[Words; 16]) -> [Words; 4] {
    let mut state = before;
    round!(state, words, 0, |step| step, [7, 12, 17, 22], |b: Words, c, d| d ^ (b & (c ^ d)));
    round!(state, words, 16, |step| 5 * step + 1, [5, 9, 14, 20], |b, c, d: Words| c ^ (d & (b ^ c)));
    round!(state, words, 32, |step| 3 * step + 5, [4, 11, 16, 23], |b: Words, c, d| b ^ c ^ d);
    round!(state, words, 48, |step| 7 * step, [6, 10, 15, 21], |b, c, d: Words| c ^ (b | !d));
    from_fn(|part| state[part] + before[part])
}

impl State {
    /// Goes on with these bytes, whole blocks.
    pub fn update(&mut self, blocks: &[u8]) {
        debug_assert!(blocks.len().is_multiple_of(BLOCK));
        ::md5::block_api::compress(&mut self.0, blocks.as_chunks().0);
    }

    /// Goes on with each of up to [`LANES`], whole blocks and as many in each.
    pub fn update_all(all: &mut [(Self, &[u8])]) {
        if let [(state, blocks)] = all {
            return state.update(blocks);
        }
        let Some(count) = all.first().map(|(_, blocks)| blocks.len() / BLOCK) else { return };
        debug_assert!(all.len() <= LANES && all.iter().all(|(_, blocks)| blocks.len() == count * BLOCK));
        // Lanes that have no message go along with the first.
        let of = |lane: usize| all.get(lane).unwrap_or(&all[0]);
        let mut state: [Words; 4] = from_fn(|part| Words::new(from_fn(|lane| of(lane).0.0[part])));
        let messages: [&[[u8; BLOCK]]; LANES] = from_fn(|lane| &of(lane).1.as_chunks().0[..count]);
        for block in 0..count {
            let here: [&[u8; BLOCK]; LANES] = messages.map(|message| &message[block]);
            let word =
                |lane: usize, at: usize| [here[lane][at], here[lane][at + 1], here[lane][at + 2], here[lane][at + 3]];
            let words = from_fn(|at| Words::new(from_fn(|lane| u32::from_le_bytes(word(lane, 4 * at)))));
            state = compress(state, &words);
        }
        let state = state.map(Words::to_array);
        for (lane, (into, _)) in all.iter_mut().enumerate() {
            into.0 = from_fn(|part| state[part][lane]);
        }
    }

    /// The value, of all that were `length` bytes, the last of which make no block and are these.
    pub fn finish(mut self, rest: &[u8], length: u64) -> [u8; 16] {
        debug_assert!(rest.len() < BLOCK && length % BLOCK as u64 == rest.len() as u64);
        let mut end = [0; 2 * BLOCK];
        end[..rest.len()].copy_from_slice(rest);
        end[rest.len()] = 0x80;
        let blocks = if rest.len() + 9 <= BLOCK { BLOCK } else { 2 * BLOCK };
        end[blocks - 8..blocks].copy_from_slice(&(length << 3).to_le_bytes());
        self.update(&end[..blocks]);
        let mut value = [0; 16];
        for (into, part) in value.chunks_exact_mut(4).zip(self.0) {
            into.copy_from_slice(&part.to_le_bytes());
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use bolero::check;
    use md5::{Digest, Md5};

    use super::*;

    fn finish(state: State, bytes: &[u8]) -> [u8; 16] {
        let whole = bytes.len() / BLOCK * BLOCK;
        state.finish(&bytes[whole..], bytes.len() as u64)
    }

    #[test]
    fn some_at_once_are_what_each_is_alone() {
        check!().with_type().for_each(|(seed, length, count): &(Vec<u8>, u16, u8)| {
            let (length, count) = (usize::from(*length) % 2_000, usize::from(*count) % (LANES + 1));
            let byte = |lane: usize, at: usize| {
                seed.get(at % seed.len().max(1))
                    .copied()
                    .unwrap_or(7)
                    .wrapping_mul(lane as u8 + 3)
                    .wrapping_add(at as u8)
            };
            let messages: Vec<Vec<u8>> =
                (0..count).map(|lane| (0..length).map(|at| byte(lane, at)).collect()).collect();
            let whole = length / BLOCK * BLOCK;
            let mut all: Vec<(State, &[u8])> =
                messages.iter().map(|message| (State::default(), &message[..whole])).collect();
            State::update_all(&mut all);
            for ((state, _), message) in all.into_iter().zip(&messages) {
                let expected: [u8; 16] = Md5::digest(message).into();
                assert_eq!(finish(state, message), expected);
            }
        });
    }
}
