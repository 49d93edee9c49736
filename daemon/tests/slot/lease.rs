//! Reads that ask nobody: they are there while a majority answers the leader, and end in time.

use cairn_daemon::slot::{Options, SlotError, Slots};
use cairn_io::time::{self, Duration, sleep};

use crate::drivers::{Place, on_each_driver};
use crate::group::{Cluster, SLOT, begin, options};

on_each_driver!(
    a_leader_reads_without_asking_while_others_answer_it,
    a_leader_at_rest_reads_without_asking_too,
    a_leader_that_hands_over_asks_first,
    who_has_just_started_votes_for_nobody,
    where_reads_ask_a_majority_they_always_do,
);

fn reads_alone(slots: &Slots) -> bool {
    slots.read_alone(SLOT, |_| ()).is_some()
}

/// The leader, once it reads without asking.
async fn until_one_reads_alone(cluster: &Cluster) -> (usize, Slots) {
    for _ in 0..400 {
        cluster.applied().await;
        if let Some(leader) = cluster.leader() {
            let slots = cluster.nodes[leader].slots.clone().expect("it leads");
            if reads_alone(&slots) {
                return (leader, slots);
            }
        }
        sleep(Duration::from_millis(5)).await;
    }
    panic!("no leader ever has a lease")
}

async fn a_leader_reads_without_asking_while_others_answer_it(place: Place) {
    let mut cluster = begin(&place, 3).await;
    cluster.propose("key=value").await;
    let (leader, slots) = until_one_reads_alone(&cluster).await;
    for other in (0..3).filter(|other| *other != leader) {
        assert!(!reads_alone(cluster.nodes[other].slots.as_ref().expect("it runs")), "a follower knows nothing");
    }
    cluster.stop((leader + 1) % 3).await;
    until_one_reads_alone(&cluster).await;
    cluster.stop((leader + 2) % 3).await;
    sleep(options().election.1).await;
    assert!(!reads_alone(&slots), "others may lead by now");
    assert_eq!(slots.barrier(SLOT).await, Err(SlotError::NoQuorum));
}

async fn a_leader_at_rest_reads_without_asking_too(place: Place) {
    let cluster = begin(&place, 3).await;
    cluster.propose("key=value").await;
    cluster.until_all_rest().await;
    let slots = cluster.nodes[cluster.leader().expect("it leads")].slots.clone().expect("it runs");
    // Longer than what others answered before they rested counts for.
    sleep(options().election.1 * 2).await;
    assert!(reads_alone(&slots), "that they rest is an answer");
    cluster.silence();
    sleep(options().election.1).await;
    assert!(!reads_alone(&slots), "others may lead by now");
}

async fn a_leader_that_hands_over_asks_first(place: Place) {
    let cluster = begin(&place, 3).await;
    cluster.propose("key=value").await;
    let (_, slots) = until_one_reads_alone(&cluster).await;
    cluster.silence();
    slots.hand_over(Duration::ZERO).await;
    assert!(slots.status(SLOT).expect("open").is_leader, "nobody has taken its place");
    assert!(!reads_alone(&slots), "somebody may, without waiting for the lease to end");
}

async fn who_has_just_started_votes_for_nobody(place: Place) {
    let mut cluster = begin(&place, 3).await;
    cluster.propose("key=value").await;
    for at in 0..3 {
        cluster.stop(at).await;
    }
    cluster.start(0).await;
    let began = time::now();
    cluster.start(1).await;
    while cluster.leader().is_none() {
        assert!(began.elapsed() < Duration::from_secs(60), "nobody leads any more");
        sleep(Duration::from_millis(5)).await;
    }
    assert!(began.elapsed() >= options().election.1, "it may have heard a leader just before it stopped");
}

async fn where_reads_ask_a_majority_they_always_do(place: Place) {
    let options = Options { has_lease_reads: false, ..options() };
    let mut cluster = begin(&place, 3).await;
    for at in 0..3 {
        cluster.stop(at).await;
        cluster.start_with(at, options.clone()).await;
    }
    cluster.propose("key=value").await;
    for _ in 0..10 {
        cluster.applied().await;
        assert!(cluster.nodes.iter().all(|node| !reads_alone(node.slots.as_ref().expect("it runs"))));
        sleep(Duration::from_millis(20)).await;
    }
}
