//! The names of versions and of uploads. They sort by when they were made, as far as clocks agree; nothing is decided by that.

use std::str::FromStr;

use crate::encoding::wide_id;

wide_id! {
    /// A version, for ever: 48 bits of milliseconds, 80 that whoever makes it draws at random.
    VersionId
}

wide_id! {
    /// A multipart upload, made like a version's name.
    UploadId
}

wide_id! {
    /// Who numbers versions of one key: named by the first version that it made. Never used again for another.
    Actor
}

/// Bits of randomness in an id.
const RANDOM: u32 = 80;

impl VersionId {
    /// An id made at this time, in milliseconds since the Unix epoch, with this randomness, of which the lower 80 bits count.
    pub fn new(millis: u64, random: u128) -> Self {
        Self((u128::from(millis) << RANDOM) | (random & ((1 << RANDOM) - 1)))
    }

    /// When it was made, as its maker's clock said. For display only.
    pub fn millis(self) -> u64 {
        (self.0 >> RANDOM) as u64
    }

    /// Whether it may be given to a version: beyond, there must be room for all that follow it.
    pub fn is_sound(self) -> bool {
        self.0 < 1 << 127
    }

    /// The next one in order.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// A text that names no version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a version's id has 32 hexadecimal digits")]
pub struct BadId;

impl FromStr for VersionId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !digits {
            return Err(BadId);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| BadId)
    }
}

#[test]
fn ids_sort_by_time_and_read_back() {
    let (early, late) = (VersionId::new(7, u128::MAX), VersionId::new(8, 0));
    assert!(early < late && early.next() == late);
    assert_eq!(early.millis(), 7);
    assert_eq!(early.to_string().parse(), Ok(early));
    assert_eq!("+0000000000000000000000000000007".parse::<VersionId>(), Err(BadId));
    assert_eq!("7".parse::<VersionId>(), Err(BadId));
}
