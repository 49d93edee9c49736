//! Bytes that nobody should send, and commands of other levels.

use cairn_meta::index::Error;
use cairn_meta::rows::{Batch, Machine};
use cairn_meta::slot::Slot;
use cairn_meta::slot::command::{Answer, Command, Envelope, LEVEL, Refusal, Token, Versioning, Write, read_answer};
use cairn_meta::version::VersionId;
use cairn_meta::version::commit::Mode;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::world::{Map, World, object};

fn valid() -> Vec<u8> {
    let world = World::new(Versioning::Enabled);
    let write = |key: &str, mode| Write { place: world.place(key), id: VersionId(5), mode, body: object("text") };
    let modes = [Mode::Overwrite, Mode::Derive(vec![VersionId(1)]), Mode::Conditional(vec![])];
    let writes = modes.into_iter().map(|mode| write("some/key", mode)).collect();
    Envelope { time: 7, token: Some(Token(9)), command: Command::Commit(writes) }.encode()
}

proptest! {
    #[test]
    fn hostile_commands_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        World::new(Versioning::Off).apply_bytes(&bytes);
    }

    #[test]
    fn damaged_commands_never_panic(damage in vec((any::<Index>(), any::<u8>()), 1..6), cut in any::<Index>()) {
        let mut bytes = valid();
        for (place, byte) in damage {
            let at = place.index(bytes.len());
            bytes[at] = byte;
        }
        // A damaged level may be one that nobody knows; the rest is what this is about.
        bytes[..2].copy_from_slice(&LEVEL.to_le_bytes());
        World::new(Versioning::Off).apply_bytes(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        World::new(Versioning::Off).apply_bytes(&bytes);
    }
}

#[test]
fn a_huge_count_takes_no_memory() {
    let mut bytes = LEVEL.to_le_bytes().to_vec();
    bytes.extend([0x83, 0x00, 0xF6, 0x82, 0x00, 0x81, 0x9B, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]);
    let answer = read_answer(&World::new(Versioning::Off).apply_bytes(&bytes)).unwrap();
    assert!(matches!(answer, Err(Refusal::Malformed(_))), "{answer:?}");
}

#[test]
fn a_newer_command_is_refused_until_the_level_is_raised_and_then_stops_who_does_not_know_it() {
    let mut world = World::new(Versioning::Off);
    let mut newer = valid();
    newer[..2].copy_from_slice(&(LEVEL + 1).to_le_bytes());
    let answer = read_answer(&world.apply_bytes(&newer)).unwrap();
    assert_eq!(answer, Err(Refusal::Level { level: LEVEL + 1, allowed: LEVEL }));
    assert_eq!(world.apply(Command::RaiseLevel { level: LEVEL }), Ok(Answer::Done));
    let raise = Envelope { time: 1, token: None, command: Command::RaiseLevel { level: LEVEL + 1 } }.encode();
    let stops = |rows: &Map, command: &[u8]| Slot.apply(&mut Batch::new(rows), 1, command).unwrap_err();
    assert!(matches!(stops(&world.rows, &raise), Error::Newer { level, .. } if level == LEVEL + 1));
    // A program that knows the next level has raised it, and its snapshot comes here.
    world.rows.insert(vec![b'l'], vec![LEVEL as u8 + 1]);
    let error = stops(&world.rows, &newer);
    assert!(error.to_string().contains("install the Cairn that the others run"), "{error}");
}
