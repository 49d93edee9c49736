//! Modulo: the group's number, divided by the number of candidates, leaves the first; the others follow it.

use super::Rank;
use crate::id::Group;

/// Modulo over so many candidates.
#[derive(Clone, Copy, Debug)]
pub struct Modulo {
    candidates: usize,
}

impl Modulo {
    /// Weights play no part in it.
    pub fn new(candidates: usize) -> Self {
        Self { candidates }
    }
}

impl Rank for Modulo {
    fn best(&self, group: Group, count: usize, best: &mut Vec<u32>) {
        best.clear();
        let all = self.candidates as u64;
        best.extend((0..all).take(count).map(|step| ((group.number() + step) % all) as u32));
    }
}
