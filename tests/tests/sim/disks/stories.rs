//! Failures that a storm came upon, each told step by step.

use super::*;
use crate::lane::stories::run_to_end;

/// Disks-lost, seed 63: a disk was lost while nobody wrote to it, so that none of its lanes knew. It didn't take the lane map, and as
/// its lanes took writes for all that was known, every change of the map failed: nothing could be added, emptied or settled
/// until the node was restarted.
#[test]
fn a_disk_that_is_gone_unnoticed_does_not_hold_up_the_map() {
    let mut world = World::new(63, WorldConfig::default());
    let disks = (0..3).map(|at| DiskConfig::new(format!("/disk{at}"), 24 << 20)).collect();
    let config = NodeConfig { disks, ..NodeConfig::default() };
    world.add_node(config, || Box::new(|_core| Box::pin(std::future::pending())));
    let books = Rc::new(Books::new(12, true));
    let seen = books.clone();
    let open = async move {
        seen.data.replace(vec![seen.fresh_path(0), seen.fresh_path(1)]);
        let data = seen.data.borrow().clone();
        format(&data, Uid([7; 16]), admin::format_of()).await.expect("made");
        let disks = Disks::open(&Hub::new(1), seen.options()).await.expect("opened");
        for at in 0..small(CHUNKS) {
            let chunk = seen.chunks.chunk(at);
            disks.put(chunk.id, Payload::Bytes(Bytes::from(chunk.bytes.to_vec()))).await.expect("stored");
        }
        disks
    };
    let disks = run_to_end(&mut world, open, (millis(0), 0));
    world.inject(&Fault::LoseDisk { node: NODE, disk: 1, lasting: millis(1) });
    let change = async move {
        let path = books.fresh_path(2);
        disks.add(&path, admin::format_of()).await.expect("the others take the map");
        let status = disks.status().await.expect("asked");
        let is_poisoned = |disk: usize| {
            let lanes = status.lanes.iter().filter(|lane| lane.entry.disk == status.disks[disk].entry.id);
            lanes.map(|lane| matches!(&lane.state, LaneState::Open { lane, .. } if lane.poisoned.is_some())).collect()
        };
        let all: Vec<Vec<bool>> = (0..3).map(is_poisoned).collect();
        let is_whole = |lanes: &Vec<bool>, wanted: bool| lanes.iter().all(|is_poisoned| *is_poisoned == wanted);
        assert!(is_whole(&all[0], false) && is_whole(&all[1], true) && is_whole(&all[2], false), "{status:?}");
    };
    run_to_end(&mut world, change, (millis(0), 0));
}
