//! No bytes make reading panic, take much memory or run long: neither noise nor a well-formed message with changes.

mod samples;

use bolero::check;
use cairn_schema::*;

use samples::Visitor;

/// Tries bytes as the type of each sample, and each sample with changes.
struct Attack<'a>(&'a [u8]);

impl Visitor for Attack<'_> {
    fn visit<T: Wire + PartialEq + std::fmt::Debug>(&mut self, name: &str, value: T) {
        try_as::<T>(name, self.0);
        let mut bytes = encode(&value);
        change(&mut bytes, self.0);
        try_as::<T>(name, &bytes);
    }
}

/// What can be read can be written and read again.
fn try_as<T: Wire + PartialEq + std::fmt::Debug>(name: &str, bytes: &[u8]) {
    let Ok(value) = decode::<T>(bytes) else { return };
    // A message may name the same bytes many times: written out it may be longer than the limit.
    let written = encode(&value);
    if written.len() <= limits::MESSAGE_BYTES_MAX {
        assert_eq!(decode::<T>(&written).as_ref(), Ok(&value), "{name}");
    }
}

/// Two bytes of place and one of value each; behind the frame's own head.
fn change(bytes: &mut [u8], changes: &[u8]) {
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
        match change[2] {
            // A whole word that is as large as it can be, or nearly.
            0xf0.. => bytes[at / 8 * 8..at / 8 * 8 + 8].fill(change[2]),
            value => bytes[at] = value,
        }
    }
}

#[test]
fn no_bytes_break_a_reader() {
    check!().for_each(|bytes: &[u8]| samples::visit(&mut Attack(bytes)));
}

/// A list of half a billion structs without content takes one word on the wire.
#[test]
fn a_list_of_nothing_is_refused_by_its_length() {
    let words: [u64; 5] = [
        4 << 32,                         // One segment of four words.
        2 << 48,                         // A struct of no data and two pointers: call and commits.
        0,                               // No call.
        1 | 7 << 32,                     // A list of structs that takes no words beside its tag.
        u64::from(0x1fff_ffff_u32 << 2), // The tag: so many structs, of no data and no pointers.
    ];
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let refused = decode::<CommitRequest>(&bytes).expect_err("too many");
    assert!(refused.to_string().contains("limit"), "{refused}");
}
