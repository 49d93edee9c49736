//! Where the slots of this node are: in which lane, and so on which core.
//!
//! A slot lives where its records are. Its lane is drawn once, by the same ranking as chunks have, and written down on every disk
//! ([`super::papers`]) before the group has said a word: were it drawn anew while a disk is away, the group would begin
//! again without its votes, and two majorities could be had. It changes when the disk is emptied ([`super::relocate`]).

use std::collections::BTreeMap;

use cairn_io::CoreId;

use crate::disks::Disks;

/// Where a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The number of its lane.
    pub lane: u32,
    /// How often it was moved: of two disks that say otherwise, the one that knows of more moves is right.
    pub moves: u32,
}

impl Spot {
    /// Where it begins.
    pub fn first(lane: u32) -> Self {
        Self { lane, moves: 0 }
    }

    /// Where it is when it has been moved to this lane.
    #[must_use]
    pub fn moved(self, lane: u32) -> Self {
        Self { lane, moves: self.moves.saturating_add(1) }
    }
}

/// Slots and where they are.
pub type Places = BTreeMap<u32, Spot>;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// Of those that are here: lane and core.
    here: BTreeMap<u32, (u32, CoreId)>,
    /// Slots whose lane isn't open, with it.
    missing: BTreeMap<u32, u32>,
}

impl Routes {
    /// As the disks are now.
    pub fn new(places: &Places, disks: &Disks) -> Self {
        let mut routes = Self::default();
        for (&slot, &Spot { lane, .. }) in places {
            match disks.core_of_lane(lane) {
                Some(core) => drop(routes.here.insert(slot, (lane, core))),
                None => drop(routes.missing.insert(slot, lane)),
            }
        }
        routes
    }

    /// The lane that has a slot, and its core, if this node has it.
    pub fn place_of(&self, slot: u32) -> Option<(u32, CoreId)> {
        self.here.get(&slot).copied()
    }

    /// The core that has a slot, if this node has it.
    pub fn core_of(&self, slot: u32) -> Option<CoreId> {
        self.place_of(slot).map(|(_, core)| core)
    }

    /// Slots of this node whose lane isn't there, each with its lane.
    pub fn missing(&self) -> &BTreeMap<u32, u32> {
        &self.missing
    }

    /// The slots of a core, each with its lane.
    pub fn of_core(&self, core: CoreId) -> impl Iterator<Item = (u32, u32)> + use<'_> {
        self.here.iter().filter(move |(_, (_, owner))| *owner == core).map(|(slot, (lane, _))| (*slot, *lane))
    }
}

/// What a slot's lane is drawn by.
pub fn name_of(slot: u32) -> [u8; 32] {
    *blake3::hash(format!("cairn slot {slot}").as_bytes()).as_bytes()
}

#[cfg(test)]
mod tests {
    use cairn_placement::lanes::{LaneKey, Lanes};

    use super::*;

    #[test]
    fn slots_spread_over_lanes() {
        let lanes = Lanes::new((0..4_u32).map(|number| (LaneKey(u64::from(number) * 77), 100, number)));
        let mut counts = [0; 4];
        (0..256).for_each(|slot| counts[lanes.home(&name_of(slot)).expect("there are lanes") as usize] += 1);
        // Five standard deviations of a quarter of 256 are 35.
        assert!(counts.iter().all(|count| (64 - 35..64 + 35).contains(count)), "{counts:?}");
    }
}
