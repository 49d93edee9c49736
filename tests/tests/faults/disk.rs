//! A disk that goes away in the middle, and one that becomes read-only.

use crate::load::{Answers, Load, assert_clean, cairn, check};
use crate::mount::Mount;

const CUTS: u64 = 4;
/// What was durable when the disk broke may still be answered a little later: one thing for each worker of `lane-load`.
const WORKERS: usize = 8;

#[test]
fn what_was_answered_survives_power_cuts() {
    let disk = Mount::new("xfs", "noatime", 600);
    let lane = disk.path().join("lane");
    let mut answers = Answers::default();
    for round in 0..CUTS {
        let mut load = Load::start(1000 + round, 60, &[&lane], &answers);
        load.puts(&mut answers, 120 + 70 * round as usize);
        disk.cut_power();
        // What it says now is said on a dead disk: that it fails is right.
        load.until(&mut answers, "noticing", |line| line.contains("poisoned") || line.contains("error"));
        load.kill(&mut answers, false);
        disk.unmount();
        disk.mount();
        let (code, text) = cairn(&["fsck"], &lane);
        assert!(code == Some(0), "as it was left in round {round}: {text}");
        check(&lane, &mut answers, 0);
        assert_clean(&lane);
    }
    assert!(answers.stored(0) > 200, "only {} chunks are left to look at", answers.stored(0));
    disk.unmount();
}

#[test]
fn a_disk_that_turns_read_only_leaves_the_other_lane_alone() {
    let (broken, sound) = (Mount::new("ext4", "errors=remount-ro", 500), Mount::new("ext4", "noatime", 500));
    let lanes = [broken.path().join("lane"), sound.path().join("lane")];
    let mut answers = Answers::default();
    let mut load = Load::start(2000, 90, &[&lanes[0], &lanes[1]], &answers);
    let (mut first, mut second) = (0, 0);
    load.until(&mut answers, "puts on both", |line| {
        first += usize::from(line.starts_with("0 + "));
        second += usize::from(line.starts_with("1 + "));
        first > 100 && second > 100
    });
    broken.break_ext4();
    load.until(&mut answers, "the end of the broken lane", |line| line == "0 poisoned");
    // Now the broken one reads and the sound one does everything.
    let (mut reads, mut puts, mut drops, mut late) = (0, 0, 0, 0);
    load.until(&mut answers, "going on", |line| {
        late += usize::from(line.starts_with("0 + ") || line.starts_with("0 - "));
        assert!(late <= WORKERS, "a read-only disk stores more and more: {line}");
        assert!(line != "1 poisoned", "the other lane is poisoned too");
        assert!(!line.contains("error get"), "a disk that can be read isn't read: {line}");
        reads += usize::from(line == "0 got");
        puts += usize::from(line.starts_with("1 + "));
        drops += usize::from(line.starts_with("1 - "));
        reads > 30 && puts > 60 && drops > 20
    });
    load.kill(&mut answers, true);
    broken.unmount();
    broken.mount();
    for (number, lane) in lanes.iter().enumerate() {
        check(lane, &mut answers, number);
        assert_clean(lane);
    }
}
