//! One node, a majority or all: when a writer is answered, and what readers are shown, by bucket and by request.

use std::time::Duration;

use serde_json::Value;

use crate::cluster::{Cluster, settled};
use crate::node::Node;
use crate::s3::Client;

/// Which nodes have what was written, as the answer says.
fn had(client: &mut Client, target: &str, ack: Option<&str>, body: &[u8]) -> (String, String) {
    let headers: Vec<(&str, &str)> = ack.map(|ack| ("x-cairn-ack", ack)).into_iter().collect();
    let mut reply = client.ask("PUT", target, &headers, body);
    for _ in 0..60 {
        if reply.status != 503 {
            break;
        }
        // A node that is slow for a moment is one that doesn't answer.
        std::thread::sleep(Duration::from_millis(500));
        reply = client.ask("PUT", target, &headers, body);
    }
    let reply = reply.good();
    (reply.header("x-cairn-state").to_owned(), reply.header("x-cairn-durability").to_owned())
}

fn said(state: &str, copies: &str) -> (String, String) {
    (state.to_owned(), format!("copies={copies}"))
}

/// What two nodes make of a key, one of them by itself, is told until somebody merges it.
fn until_in_conflict(cluster: &Cluster, alone: &mut Client, others: &mut Client) {
    for number in 0..100 {
        let target = format!("/photos/plan-{number}");
        had(alone, &target, Some("one"), b"mine");
        had(others, &target, None, b"theirs");
        let nodes = || cluster.nodes.iter().flatten();
        let held = |status: &Value| status["cluster"]["provisional"] == 0;
        nodes().for_each(|node| drop(node.until_status("the slots have all", held)));
        let listed = others.ask("GET", "/photos?x-cairn-conflicts", &[], b"").good();
        if listed.elements("Key") == [format!("plan-{number}")] {
            let count = |node: &Node| node.status()["cluster"]["conflicts"].as_u64().expect("a number");
            assert_eq!(nodes().map(count).sum::<u64>(), 1, "by the one that leads its slot");
            return;
        }
        // It was handed over between the two.
    }
    panic!("nothing is ever in conflict");
}

#[test]
fn as_many_nodes_have_it_as_its_writer_asks_for() {
    let mut cluster = Cluster::start(3);
    let key = cluster.make_key();
    let mut client = cluster.client(2, &key);
    settled(&mut client, "PUT", "/photos", b"").good();
    settled(&mut client, "PUT", "/photos/warm", b"every group leads").good();
    assert_eq!(had(&mut client, "/photos/a", None, b"1"), said("confirmed", "2/3"));
    assert_eq!(had(&mut client, "/photos/a", Some("all"), b"2"), said("confirmed", "3/3"));
    // What one node makes is above what it knows of.
    while client.ask("GET", "/photos/a", &[("x-cairn-read", "local")], b"").good().text() != "2" {
        std::thread::sleep(Duration::from_millis(50));
    }
    // It is there on this node at once, and on the others when they are asked for more than that.
    assert_eq!(had(&mut client, "/photos/a", Some("one"), b"3"), said("provisional", "1/3"));
    let got = client.ask("GET", "/photos/a", &[], b"").good();
    assert_eq!((got.text().as_str(), got.header("x-cairn-state")), ("3", "provisional"));
    let put = client.ask("PUT", "/photos/a", &[("x-cairn-ack", "quorum")], b"4").good();
    assert_eq!(put.header("x-cairn-state"), "confirmed");
    assert!(!put.headers.contains_key("x-cairn-heads"), "no branch beside it");
    // What must be decided by all is, however few are to have it.
    let new = client.ask("PUT", "/photos/new", &[("x-cairn-ack", "one"), ("if-none-match", "*")], b"x").good();
    assert_eq!(new.header("x-cairn-state"), "confirmed");
    assert_eq!(client.ask("PUT", "/photos/a", &[("x-cairn-ack", "two")], b"5").status, 400);
    assert_eq!(client.ask("GET", "/photos/a", &[("x-cairn-read", "old")], b"").status, 400);
    let deleted = client.ask("DELETE", "/photos/new", &[("x-cairn-ack", "quorum")], b"").good();
    assert_eq!(deleted.header("x-cairn-durability"), "copies=2/3");
    let mut other = cluster.client(0, &key);
    until_in_conflict(&cluster, &mut client, &mut other);
    // Likewise by bucket, where a request doesn't say.
    settled(&mut client, "PUT", "/photos?x-cairn-ack", b"all").good();
    settled(&mut client, "PUT", "/photos?x-cairn-read", b"local").good();
    assert_eq!(client.ask("PUT", "/photos?x-cairn-ack", &[], b"most").status, 400);
    for setting in ["ack", "read"] {
        let word = client.ask("GET", &format!("/photos?x-cairn-{setting}"), &[], b"").good().text();
        assert_eq!(word, if setting == "ack" { "all" } else { "local" });
    }
    while had(&mut other, "/photos/b", None, b"1") != said("confirmed", "3/3") {
        // Other nodes hear of the setting a moment later.
        std::thread::sleep(Duration::from_millis(50));
    }
    // All have it in their logs, and show it when they know that a majority has; of the other setting they hear later still.
    let mut local = other.ask("GET", "/photos/b", &[], b"");
    while local.status == 404 || local.header("x-cairn-read") != "local" {
        std::thread::sleep(Duration::from_millis(50));
        local = other.ask("GET", "/photos/b", &[], b"");
    }
    assert_eq!((local.text().as_str(), local.header("x-cairn-read")), ("1", "local"));
    let fresh = other.ask("GET", "/photos/b", &[("x-cairn-read", "preferred")], b"").good();
    assert_eq!((fresh.text().as_str(), fresh.header("x-cairn-read")), ("1", "preferred"));
    // One that doesn't answer hasn't got it: that is told, and what a majority has is there.
    cluster.nodes[1].take().expect("it runs").kill();
    let mut refused = client.ask("PUT", "/photos/b", &[], b"2");
    for _ in 0..60 {
        if refused.text().contains("2 of 3 have") {
            break;
        }
        // Its groups elect others first.
        std::thread::sleep(Duration::from_millis(500));
        refused = client.ask("PUT", "/photos/b", &[], b"2");
    }
    assert!(refused.status == 503 && refused.text().contains("2 of 3 have"), "{}: {}", refused.status, refused.text());
    let got = client.ask("GET", "/photos/b", &[("x-cairn-read", "confirmed")], b"").good();
    assert_eq!(got.text(), "2");
    assert_eq!(had(&mut client, "/photos/b", Some("quorum"), b"3"), said("confirmed", "2/3"));
    for node in cluster.nodes.iter_mut().filter_map(Option::take) {
        node.stop();
    }
}
