//! How many nodes have what was answered: the leader waits for all that answer, and for nobody else.

use cairn_daemon::slot::{SlotError, Slots};
use cairn_io::time::{Duration, sleep};

use crate::drivers::{Place, on_each_driver};
use crate::group::{Cluster, SLOT, begin};

on_each_driver!(a_leader_knows_how_many_have_what_was_answered, a_leader_waits_for_nobody_who_does_not_answer,);

fn leader(cluster: &Cluster) -> (usize, Slots) {
    let leader = cluster.leader().expect("somebody leads");
    (leader, cluster.nodes[leader].slots.clone().expect("it runs"))
}

async fn a_leader_knows_how_many_have_what_was_answered(place: Place) {
    let cluster = begin(&place, 3).await;
    cluster.propose("key=one").await;
    let (at, slots) = leader(&cluster);
    assert_eq!(slots.copies(SLOT).await, Ok((3, 3)));
    let follower = cluster.nodes[(at + 1) % 3].slots.clone().expect("it runs");
    assert!(matches!(follower.copies(SLOT).await, Err(SlotError::NotLeader { .. })));
    cluster.until_all_rest().await;
    assert_eq!(slots.copies(SLOT).await, Ok((3, 3)), "who rests has all there is");
}

async fn a_leader_waits_for_nobody_who_does_not_answer(place: Place) {
    let mut cluster = begin(&place, 3).await;
    cluster.propose("key=one").await;
    let away = (leader(&cluster).0 + 1) % 3;
    cluster.stop(away).await;
    cluster.propose("key=two").await;
    assert_eq!(leader(&cluster).1.copies(SLOT).await, Ok((2, 3)));
    cluster.start(away).await;
    cluster.propose("key=three").await;
    for _ in 0..400 {
        // It may have been sent to while nobody listened there, and isn't again for a moment.
        if leader(&cluster).1.copies(SLOT).await == Ok((3, 3)) {
            let applied = cluster.applied().await;
            for at in 0..3 {
                assert_eq!(cluster.rows(at, applied).await[&b"key"[..]], b"three");
            }
            cluster.silence();
            assert_eq!(leader(&cluster).1.copies(SLOT).await, Ok((3, 3)), "what they have they have");
            return;
        }
        sleep(Duration::from_millis(25)).await;
    }
    panic!("the third never has it");
}
