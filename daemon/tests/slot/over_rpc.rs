//! Groups over the node's own RPC, each node with a server and a pool of its own.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use cairn_daemon::rpc::{Limits, Pool};
use cairn_daemon::slot::Transport;
use cairn_io::time::Duration;
use cairn_schema::{ErrorKind, SnapshotRequest};

use crate::drivers::{Place, on_each_driver};
use crate::fake::{backoff, identity};
use crate::group::{Cluster, SLOT, ids};

on_each_driver!(
    a_group_over_rpc_loses_a_server_and_goes_on,
    a_group_over_rpc_loses_its_leader_and_goes_on,
    peers_speak_in_their_own_name,
);

const LONG: Duration = Duration::from_secs(20);

/// Three nodes, and the group among them.
async fn begin(place: &Place) -> Cluster {
    let cluster = Cluster::new(place, 3, Some(place.ip)).await;
    let slots = cluster.nodes[0].slots.as_ref().expect("it runs");
    slots.create(SLOT, &ids(1..=3)).await.expect("it begins");
    cluster
}

fn value(letter: char) -> String {
    // As long as a lane with the smallest segments takes: a handful is longer than a batch.
    letter.to_string().repeat(300 << 10)
}

/// All nodes have the same rows, as many as were written.
async fn all_have(cluster: &Cluster, count: usize) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let applied = cluster.applied().await;
    let rows = cluster.rows(0, applied).await;
    assert_eq!(rows.len(), count);
    for at in 1..3 {
        assert!(cluster.rows(at, applied).await == rows, "node {at} has other rows");
    }
    rows
}

/// A node that hears nothing may still speak: it must neither follow nor disturb.
async fn a_group_over_rpc_loses_a_server_and_goes_on(place: Place) {
    let mut cluster = begin(&place).await;
    assert_eq!(cluster.propose("first=1").await, b"");
    all_have(&cluster, 1).await;
    let leader = cluster.leader().expect("it leads");
    let deaf = (leader + 1) % 3;
    let before = cluster.nodes[deaf].slots.as_ref().expect("it runs").status(SLOT).expect("open").applied;
    drop(cluster.nodes[deaf].server.take());
    for letter in 'a'..='h' {
        cluster.propose(&format!("{letter}={}", value(letter))).await;
    }
    assert_eq!(cluster.propose("first=2").await, b"1");
    let slots = cluster.nodes[deaf].slots.clone().expect("it runs");
    assert_eq!(slots.status(SLOT).expect("open").applied, before, "nobody could tell it");
    assert!(slots.barrier(SLOT).await.is_err(), "it can't know what is true now");
    cluster.listen(deaf);
    let rows = all_have(&cluster, 9).await;
    assert!(rows[&b"h"[..]] == value('h').into_bytes());
}

async fn a_group_over_rpc_loses_its_leader_and_goes_on(place: Place) {
    let mut cluster = begin(&place).await;
    cluster.propose("first=1").await;
    all_have(&cluster, 1).await;
    let leader = cluster.leader().expect("it leads");
    cluster.stop(leader).await;
    assert_eq!(cluster.propose("first=2").await, b"1");
    assert!(cluster.leader().is_some_and(|now| now != leader));
    cluster.start(leader).await;
    assert_eq!(cluster.propose("first=3").await, b"2");
    all_have(&cluster, 1).await;
}

async fn peers_speak_in_their_own_name(place: Place) {
    let cluster = begin(&place).await;
    cluster.propose("key=value").await;
    let addr = cluster.nodes[0].addr.expect("it listens");
    let stranger = Rc::new(Pool::new(identity(4), Limits::default(), backoff()));
    let unknown = stranger.send(1, Bytes::new(), LONG).await.expect_err("nobody said where it is");
    assert!(unknown.reason.contains("isn't in this node's map"), "{unknown}");
    stranger.set(1, addr);
    let peer = stranger.peer(1).expect("known");
    // An empty batch: version, sender, whom it is for.
    let batch =
        |sender: u64, to: u64| -> Bytes { [&[1][..], &sender.to_le_bytes(), &to.to_le_bytes()].concat().into() };
    assert_eq!(peer.raft(batch(4, 1), LONG).await.expect("its own"), batch(1, 4));
    let answer = peer.raft(batch(2, 1), LONG).await.expect_err("in another's name");
    assert!(
        answer.kind == ErrorKind::BadInput && answer.message.contains("node 4 sends a batch of node 2"),
        "{answer}"
    );
    for wrong in [batch(4, 2), Bytes::new(), b"\x01\x04"[..].into(), b"nonsense, at length"[..].into()] {
        let answer = peer.raft(wrong, LONG).await.expect_err("no batch for this node");
        assert_eq!(answer.kind, ErrorKind::BadInput, "{answer}");
    }
    let answer = peer.snapshot(SnapshotRequest::default(), LONG).await.expect_err("not so");
    assert_eq!(answer.kind, ErrorKind::Unsupported, "{answer}");
    assert_eq!(cluster.propose("key").await, b"value");
}
