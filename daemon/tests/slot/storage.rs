//! openraft's suite for storage: the log of a slot and its machine, in a lane of their own for each test.

use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

use cairn_daemon::lane::{Lane, Options, Owner};
use cairn_daemon::slot::{Group, SlotLog, SlotMachine};
use cairn_io::fs::Dir;
use cairn_io::log::Options as LogOptions;
use cairn_meta::index::Error;
use cairn_meta::rows::{Batch, Machine};
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};

use crate::drivers::{Place, on_each_driver};

on_each_driver!(suite);

/// Keeps each command under its number.
struct Keeper;

impl Machine for Keeper {
    fn apply(&self, rows: &mut Batch<'_>, at: u64, command: &[u8]) -> Result<Vec<u8>, Error> {
        rows.put(at.to_be_bytes(), command);
        Ok(command.to_vec())
    }

    fn too_large(&self, bytes: usize, max: usize) -> Vec<u8> {
        format!("{bytes} bytes of rows, at most {max}").into_bytes()
    }
}

struct Lanes {
    place: Place,
    next: AtomicU32,
}

impl StoreBuilder<Group, SlotLog, SlotMachine> for Lanes {
    async fn build(&self) -> Result<((), SlotLog, SlotMachine), StorageError<Group>> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = format!("{}/{number}", self.place.dir);
        let dir = Dir::create(&path).await.expect("a directory");
        Lane::create(&dir, Owner::default(), number, 1 << 20).await.expect("a lane");
        let log = LogOptions { keep_free: 0, ahead: 1, reserve: 1, segments_max: 8, ..LogOptions::default() };
        let options = Options { log, partitions: 4, ballast: 0, ..Options::default() };
        let (lane, _) = Lane::open(&dir, self.place.store(&path), options).await.expect("it opens");
        let log = SlotLog::open(&lane, 7).expect("an empty log");
        Ok(((), log, SlotMachine::new(&lane, 7, Rc::new(Keeper))))
    }
}

async fn suite(place: Place) {
    let lanes = Lanes { place, next: AtomicU32::new(0) };
    Suite::test_all(lanes).await.expect("what a store must do");
}
