//! `cairn place` as its users see it.

#![allow(clippy::disallowed_methods, reason = "writes map files from outside a core")]

use std::process::{Command, Output};

const MAP: &str = r#"
[[policies]]
name = "default"
redundancy = "3"
spread = [{ label = "rack", distinct = 3 }]

[[nodes]]
id = 1
capacity_bytes = 4_000_000_000_000
labels = { rack = "r1" }
[[nodes]]
id = 2
capacity_bytes = 4_000_000_000_000
labels = { rack = "r2" }
[[nodes]]
id = 3
capacity_bytes = 8_000_000_000_000
labels = { rack = "r3" }
[[nodes]]
id = 4
capacity_bytes = 4_000_000_000_000
labels = { rack = "r3" }
[[nodes]]
id = 5
capacity_bytes = 4_000_000_000_000
state = "offline"
"#;

fn place(map: &str, args: &[&str]) -> Output {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target directory can be written");
    let file = dir.path().join("map.toml");
    std::fs::write(&file, map).expect("the directory is ours");
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
    command.arg("place").args(args).arg("--map").arg(&file).output().expect("the binary starts")
}

fn answer(args: &[&str]) -> String {
    let output = place(MAP, args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn json(args: &[&str]) -> serde_json::Value {
    serde_json::from_str(&answer(&[args, &["--json"]].concat())).expect("it is JSON")
}

#[track_caller]
fn refuses(map: &str, args: &[&str], sentence: &str) {
    let output = place(map, args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(sentence), "{said}");
}

#[test]
fn explain_shows_ranking_and_result() {
    let text = answer(&["explain", "17"]);
    for part in
        ["partition 17 under policy default (3 copies) lies on n", "rack=r1", "taken", "n5 may not be chosen: offline"]
    {
        assert!(text.contains(part), "{text}");
    }
    let report = json(&["explain", "17"]);
    let taken = report["ranking"].as_array().expect("a list").iter().filter(|row| row["verdict"] == "taken");
    assert_eq!((report["nodes"].as_array().map(Vec::len), taken.count()), (Some(3), 3));
}

#[test]
fn explain_finds_the_slot_of_a_key() {
    let text = answer(&["explain", "photos/1.jpg", "--bucket", "7"]);
    assert!(text.starts_with("slot "), "{text}");
}

#[test]
fn plan_says_what_moves_and_whether_it_can() {
    let drain = json(&["plan", "drain", "4", "--bytes", "4096000"]);
    assert_eq!(drain["possible"], true);
    assert!(drain["moves"].as_array().is_some_and(|moves| moves.iter().all(|one| one["from"] == 4 && one["to"] == 3)));
    let impossible = answer(&["plan", "decommission", "1"]);
    assert!(impossible.contains("2 possible") && impossible.contains("not possible"), "{impossible}");
    assert!(answer(&["plan", "replace", "1", "--with", "9"]).contains("n9"));
    assert!(answer(&["plan", "rebalance", "--bytes", "4096000"]).contains("copies to make"));
}

#[test]
fn a_bad_map_or_question_is_refused_with_the_remedy() {
    refuses("nodes = 3", &["explain", "17"], "nodes");
    refuses("slots = 0", &["explain", "17"], "slots: 0 is not between 1 and");
    refuses(MAP, &["explain", "4096"], "give a number from 0 to 4095");
    refuses(MAP, &["explain", "photos/1.jpg"], "or a key with its --bucket");
    refuses(MAP, &["explain", "1", "--policy", "gold"], "the map has no policy \"gold\"; it has default");
    refuses(MAP, &["plan", "drain", "99"], "the map has no node 99");
}

#[test]
fn simulate_shows_balance_movement_and_losses() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target directory can be written");
    let (events, plot) = (dir.path().join("events"), dir.path().join("plot.svg"));
    std::fs::write(&events, "add 2\ndrain 3\noffline rack r1\n").expect("the directory is ours");
    let small =
        ["--nodes", "20", "--racks", "4", "--partitions", "256", "--trials", "20", "--objects", "1e6", "--json"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
    command.args(["place", "simulate"]).args(small).arg("--events").arg(&events).arg("--svg").arg(&plot);
    let output = command.output().expect("the binary starts");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(report["events"].as_array().map(Vec::len), Some(3));
    assert_eq!(report["events"][1]["moved"], report["events"][1]["share"], "a drain moves what it must");
    assert_eq!(report["losses"][0]["with_loss"], 0, "two failures of nodes lose nothing of three copies");
    assert!(std::fs::read_to_string(&plot).expect("it was drawn").starts_with("<svg"));
}
