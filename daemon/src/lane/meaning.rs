//! What single records say, for people who look at a log.

use cairn_io::log::format::Drop;
use cairn_io::log::{Found, Kind, Position};
use cairn_meta::index::RaftKey;

use super::commit;
use super::records::{first_kept, slot_of};

/// What a record says besides its kind and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// What it drops.
    Drops(Drop),
    /// The index was committed up to here.
    Covers(Position),
    /// An entry of a slot's Raft log.
    RaftEntry {
        /// The slot.
        slot: u32,
        /// The entry's index.
        index: u64,
        /// Its term.
        term: u64,
    },
    /// A slot's Raft state.
    RaftState {
        /// The slot.
        slot: u32,
        /// The first entry that its log keeps.
        first: u64,
    },
    /// Nothing more.
    Plain,
    /// Its bytes aren't what such a record has.
    Unreadable,
}

impl Meaning {
    /// Reads a record that is whole; of others the bytes say nothing.
    pub fn of(found: &Found) -> Self {
        if !found.is_whole {
            return Self::Unreadable;
        }
        let read = match found.kind {
            Kind::Drop => Drop::decode(&found.payload).map(Self::Drops),
            Kind::Checkpoint => commit::decode_note(&found.payload).map(Self::Covers),
            Kind::RaftEntry => RaftKey::decode(&found.id[..12]).map(|RaftKey { slot, index }| {
                let term = found.id[12..20].iter().fold(0, |term, byte| term << 8 | u64::from(*byte));
                Self::RaftEntry { slot, index, term }
            }),
            Kind::RaftState => {
                first_kept(&found.payload).map(|first| Self::RaftState { slot: slot_of(&found.id), first })
            }
            Kind::Chunk | Kind::Version | Kind::Provisional | Kind::Touch | Kind::Rows => Some(Self::Plain),
        };
        read.unwrap_or(Self::Unreadable)
    }
}
