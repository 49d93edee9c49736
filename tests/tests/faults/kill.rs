//! A process that is killed, again and again.

use crate::load::{Answers, Load, assert_clean, cairn, check};

const ROUNDS: u64 = 8;

#[test]
fn what_was_answered_survives_kills() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("there is room");
    let lane = dir.path().join("lane");
    let mut answers = Answers::default();
    for round in 0..ROUNDS {
        let mut load = Load::start(round, 60, &[&lane], &answers);
        load.puts(&mut answers, 150 + 90 * round as usize % 400);
        load.kill(&mut answers, true);
        // As it was left, and after a start.
        assert_clean(&lane);
        check(&lane, &mut answers, 0);
        assert_clean(&lane);
    }
    assert!(answers.stored(0) > 300, "only {} chunks are left to look at", answers.stored(0));
    let (code, text) = cairn(&["fsck", "--rebuild"], &lane);
    assert_eq!(code, Some(0), "{text}");
    check(&lane, &mut answers, 0);
    let (code, text) = cairn(&["log", "dump", "--limit", "50"], &lane);
    assert!(code == Some(0) && text.contains("chunk"), "{text}");
}

#[test]
fn a_lane_in_use_is_left_alone() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("there is room");
    let lane = dir.path().join("lane");
    let mut answers = Answers::default();
    let mut load = Load::start(99, 60, &[&lane], &answers);
    load.puts(&mut answers, 10);
    for args in [&["fsck"][..], &["fsck", "--rebuild"]] {
        let (code, text) = cairn(args, &lane);
        assert!(code == Some(2) && text.contains("stop the node"), "{text}");
    }
    load.kill(&mut answers, true);
    let (code, text) = cairn(&["fsck"], dir.path());
    assert!(code == Some(2) && text.contains("no lane"), "{text}");
}
