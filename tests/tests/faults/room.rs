//! A file system that fills up.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::load::{Answers, Load, assert_clean, check};
use crate::mount::Mount;

/// Writes until nothing more fits.
fn fill(path: &Path) {
    let file = File::create(path).expect("there is some room");
    for piece in [1 << 20, 4096] {
        let zeros = vec![0; piece];
        loop {
            let end = file.metadata().expect("it is open").len();
            if file.write_all_at(&zeros, end).is_err() {
                break;
            }
        }
    }
    let _ = file.sync_all();
}

#[test]
fn a_full_disk_refuses_puts_and_nothing_else() {
    let disk = Mount::new("ext4", "noatime", 400);
    let (lane, filler) = (disk.path().join("lane"), disk.path().join("filler"));
    let mut answers = Answers::default();
    let mut load = Load::start(5000, 90, &[&lane], &answers);
    load.puts(&mut answers, 100);
    fill(&filler);
    load.until(&mut answers, "a refusal", |line| line == "0 full");
    let (mut reads, mut drops, mut full) = (0, 0, 0);
    load.until(&mut answers, "going on while full", |line| {
        assert!(line != "0 poisoned", "a full disk is no broken one");
        reads += usize::from(line == "0 got");
        drops += usize::from(line.starts_with("0 - "));
        full += usize::from(line == "0 full");
        reads > 30 && drops > 30 && full > 10
    });
    std::fs::remove_file(&filler).expect("it is there");
    let mut refused = 0;
    let mut puts = 0;
    load.until(&mut answers, "puts after room was made", |line| {
        assert!(line != "0 poisoned", "a disk that was full is no broken one");
        refused += usize::from(line == "0 full");
        puts += usize::from(line.starts_with("0 + "));
        puts > 50
    });
    load.kill(&mut answers, true);
    check(&lane, &mut answers, 0);
    assert_clean(&lane);
    disk.unmount();
}
