//! The index of a filled node is lost: of all lanes or of one, after a stop or a kill, before a compaction and behind one. The
//! log alone gives everything back, and nothing that was dropped.
//!
//! Each group has so much to do that the entries which filled it are purged: its rows come from flushes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cairn_daemon::lane::{Lane, Options};
use cairn_io::fs::Dir;
use cairn_io::{Config, DriverChoice, run_one};
use cairn_meta::index::Store;
use serde_json::Value;

use crate::filled::{Fill, PART_MIN, Picture, content, fill, picture, same};
use crate::node::{Disks, Node, err, run};
use crate::s3::{Client, address};

/// Two, so that some lane has several groups and some lane none.
const SLOTS: u64 = 2;
/// The group that has the map.
const CONTROL: u64 = 0xFF_FFFF;
/// Commands of a group after which the entries before are purged.
const MANY: usize = 4300;
const THREADS: usize = 16;

/// A node that is started again and again, and a user who may do everything.
struct Place {
    disks: Disks,
    key: Value,
}

/// What a log says of a group.
#[derive(Clone, Debug, Default)]
struct Group {
    /// The last entry that was appended.
    last: u64,
    /// The first that isn't purged.
    kept: u64,
    /// Records of rows, by lane and segment.
    rows: BTreeMap<(String, u64), u64>,
}

impl Place {
    fn new() -> Self {
        let disks = Disks::with_segments(2, "8MiB");
        let node = Node::start(&disks, &["--cluster-slots", &SLOTS.to_string()]);
        let key = Self::key(&disks, &node, &["create", "ann"]);
        Self::key(&disks, &node, &["create", "bob", "--rights", "none"]);
        let other = Self::key(&disks, &node, &["create", "eve"]);
        Self::key(&disks, &node, &["delete", other["access"].as_str().expect("a key")]);
        node.stop();
        Self { disks, key }
    }

    fn key(disks: &Disks, node: &Node, args: &[&str]) -> Value {
        let (at, data) = (node.addr.to_string(), disks.data());
        let output = run(&[&["key"], args, &["--at", &at, "--data", &data, "--json"]].concat());
        assert!(output.status.success(), "{args:?}: {}", err(&output));
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    fn client(&self, node: &Node) -> Client {
        Client::new(address(node), &self.key)
    }

    /// All that can be seen of the node, the chunks of each lane among it.
    fn picture(&self, node: &Node) -> Picture {
        let status = node.status();
        assert_eq!(
            (&status["cluster"]["stopped"], &status["cluster"]["leaderless"]),
            (&Value::Array(vec![]), &0.into())
        );
        let mut seen = picture(&mut self.client(node));
        seen.insert("keys".to_owned(), Self::key(&self.disks, node, &["list"]).to_string());
        for lane in status["lanes"].as_array().expect("lanes") {
            let (number, detail) = (&lane["lane"], &lane["detail"]);
            let chunks = [&detail["chunks"], &detail["chunk_bytes"], &detail["quarantined"], &detail["damage"]];
            seen.insert(format!("chunks of lane {number}"), format!("{chunks:?}"));
        }
        seen
    }

    /// Writes the same few objects over and over, and settings of buckets: about so many commands for each group.
    fn keep_busy(&self, node: &Node, commands: usize) {
        let at = address(node);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let mut client = Client::new(at, &self.key);
                scope.spawn(move || {
                    let bucket = format!("/busy-{thread}");
                    client.ask("PUT", &bucket, &[], b"");
                    for turn in 0..commands / THREADS * SLOTS as usize {
                        client.put(&format!("{bucket}/{}", turn % 16), content(&turn.to_string(), 900));
                        if turn % SLOTS as usize == 0 {
                            let tag = format!("<Tag><Key>turn</Key><Value>{turn}</Value></Tag>");
                            client.put(
                                &format!("{bucket}?tagging"),
                                format!("<Tagging><TagSet>{tag}</TagSet></Tagging>"),
                            );
                        }
                    }
                });
            }
        });
    }

    /// The directories of all lanes.
    fn lanes(&self) -> Vec<PathBuf> {
        let names = self.disks.paths().iter().flat_map(|disk| std::fs::read_dir(disk).expect("a disk"));
        let lanes = names.map(|name| name.expect("a name").path());
        lanes.filter(|path| path.join("superblock").exists()).collect()
    }

    /// What the logs say of each group.
    fn groups(&self) -> BTreeMap<u64, Group> {
        let mut groups = BTreeMap::<u64, Group>::new();
        let kinds = ["raft-entry", "raft-state", "rows"];
        for (lane, kind) in self.lanes().iter().flat_map(|lane| kinds.map(|kind| (text(lane).to_owned(), kind))) {
            let output = run(&["log", "dump", "--json", "--long", "--kind", kind, &lane]);
            assert!(output.status.success(), "{}", err(&output));
            for line in String::from_utf8(output.stdout).expect("UTF-8").lines() {
                let record: Value = serde_json::from_str(line).expect("JSON");
                let Some(id) = record["id"].as_str() else { continue };
                let group = groups.entry(u64::from_str_radix(&id[..8], 16).expect("a slot")).or_default();
                let word = |before: &str| -> u64 {
                    let meaning = record["meaning"].as_str().expect("a text");
                    let mut words = meaning.split(' ').skip_while(|word| *word != before);
                    words.nth(1).and_then(|number| number.parse().ok()).expect("a number")
                };
                match kind {
                    "raft-entry" => group.last = group.last.max(word("index")),
                    "raft-state" => group.kept = group.kept.max(word("from")),
                    _ => {
                        let segment = record["segment"].as_u64().expect("a number");
                        *group.rows.entry((lane.clone(), segment)).or_default() += 1;
                    }
                }
            }
        }
        assert_eq!(groups.keys().copied().collect::<Vec<_>>(), [0, 1, CONTROL]);
        groups
    }

    /// What `cairn fsck` says of each lane; all must be clean.
    fn fsck(&self, args: &[&str]) -> Vec<Value> {
        let mut lanes = Vec::new();
        for disk in self.disks.paths() {
            let output = run(&[&["fsck", "--json", text(disk)], args].concat());
            assert_eq!(output.status.code(), Some(0), "{}{}", String::from_utf8_lossy(&output.stdout), err(&output));
            let told = serde_json::Deserializer::from_slice(&output.stdout).into_iter();
            lanes.extend(told.map(|lane| lane.expect("JSON")));
        }
        assert_eq!(lanes.len(), 4);
        lanes
    }

    /// Makes the indexes of all lanes anew; they have what those had that were there before.
    fn rebuild(&self, before: &[Value], when: &str) {
        for (told, before) in self.fsck(&["--rebuild"]).iter().zip(before) {
            for part in ["chunks", "chunk_bytes", "records", "quarantined"] {
                let (is, was) = (&told["after"]["index"][part], &before["index"][part]);
                assert_eq!(is, was, "{when}: {part} of lane {}", before["number"]);
            }
        }
    }

    fn lose_all(&self) {
        for lane in self.lanes() {
            std::fs::remove_dir_all(lane.join("index")).expect("it is there");
        }
    }

    fn start(&self) -> Node {
        Node::start(&self.disks, &[])
    }

    /// A node is started and shows the same as before, then goes on.
    fn check(&self, before: &Picture, when: &str) -> Node {
        let node = self.start();
        same(before, &self.picture(&node), when);
        let (mut client, key) = (self.client(&node), format!("/kept-a/{}", when.replace(' ', "-")));
        for length in [10, 50_000] {
            client.put(&key, content(when, length));
            assert_eq!(client.get(&key).good().body, content(when, length), "{when}");
        }
        node
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Compacts all segments of a lane that are worth it.
fn compact(lane: &Path) {
    let path = lane.to_owned();
    let config = Config { driver: DriverChoice::Monoio, ..Config::single() };
    let work = move || async move {
        let dir = Dir::open(text(&path)).await.expect("it is there");
        let options = Options { ballast: 0, ..Options::default() };
        let (lane, _) = Lane::open(&dir, Store::lmdb(&path), options).await.expect("opened");
        lane.commit().await.expect("committed");
        while let Some(planned) = lane.compaction_plan().first() {
            assert!(lane.compact(planned.segment).await.expect("compacted").is_freed);
        }
        lane.close().await.expect("closed");
    };
    run_one(&config, work).expect("it runs");
}

#[test]
fn a_node_whose_indexes_are_lost_has_lost_nothing() {
    let place = Place::new();
    let node = place.start();
    fill(&mut place.client(&node), "a", Fill { large: PART_MIN, keys: 12 });
    node.stop();
    let filled = place.groups();
    // Chunks move and are dropped where they were, then some come back.
    for weight in ["8TiB", "auto"] {
        let weight = format!("{}={weight}", text(place.disks.path(0)));
        let output = run(&["disk", "rebalance", "--data", &place.disks.data(), "--weight", &weight]);
        assert!(output.status.success(), "{}", err(&output));
    }
    let node = place.start();
    place.keep_busy(&node, MANY);
    fill(&mut place.client(&node), "b", Fill { large: 300_000, keys: 4 });
    let before = place.picture(&node);
    node.stop();
    for (slot, group) in place.groups() {
        let is_in_rows_only = group.kept > filled[&slot].last && group.rows.values().sum::<u64>() > 1;
        assert!(is_in_rows_only, "what filled slot {slot} was purged: {group:?} after {:?}", filled[&slot]);
    }
    let facts = place.fsck(&[]);
    place.lose_all();
    place.rebuild(&facts, "once");
    place.rebuild(&facts, "twice");
    let node = place.check(&before, "all lost after a stop");

    place.keep_busy(&node, MANY / 4);
    let before = place.picture(&node);
    node.kill();
    let groups = place.groups();
    place.lanes().iter().for_each(|lane| compact(lane));
    let compacted = place.groups();
    let is_carried = |(slot, group): (&u64, &Group)| group.rows.keys().any(|at| !compacted[slot].rows.contains_key(at));
    assert!(groups.iter().any(is_carried), "rows were carried on: {groups:?} before, {compacted:?} after");
    let facts = place.fsck(&[]);
    place.lose_all();
    place.rebuild(&facts, "compacted");
    let node = place.check(&before, "all lost after a kill");

    let before = place.picture(&node);
    node.kill();
    // One lane alone, and not by the command: what is missing is made when it is opened.
    for lane in place.lanes().iter().step_by(2) {
        std::fs::remove_dir_all(lane.join("index")).expect("it is there");
        let node = place.start();
        let number = lane.to_string_lossy().trim_end_matches('/').chars().last().expect("a number");
        let is_told = |line: &String| line.contains("from the whole log") && line.contains(&format!("lane={number} "));
        assert!(node.log.iter().any(is_told), "{}", node.log.join("\n"));
        same(&before, &place.picture(&node), text(lane));
        node.kill();
    }
    place.check(&before, "one lost after another").stop();
    place.fsck(&[]);
}

/// Changes a byte of the last record of rows of a slot; returns which slot that is.
fn damage_rows(disk: &Path) -> u64 {
    let output = run(&["log", "dump", "--json", "--long", text(disk)]);
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let slot = |line: &Value| u64::from_str_radix(&line["id"].as_str().expect("an id")[..8], 16).expect("a slot");
    let is_meant = |line: &&Value| line["kind"] == "rows" && slot(line) != CONTROL;
    let rows = lines.iter().rfind(is_meant).expect("rows were flushed");
    let segment = format!("segment {},", rows["segment"]);
    let is_file =
        |line: &&Value| line["type"] == "file" && line["state"].as_str().is_some_and(|it| it.starts_with(&segment));
    let file = lines.iter().find(is_file).expect("it lies in a file")["name"].as_str().expect("a name").to_owned();
    let lane = std::fs::read_dir(disk).expect("a disk").map(|name| name.expect("a name").path());
    let path = lane.map(|lane| lane.join(&file)).find(|path| path.exists()).expect("it is in a lane");
    let [offset, extent] = ["offset", "extent"].map(|name| rows[name].as_u64().expect("a number") as usize);
    let mut bytes = std::fs::read(&path).expect("read");
    bytes[offset + extent / 2] ^= 1;
    std::fs::write(&path, bytes).expect("written");
    slot(rows)
}

#[test]
fn a_slot_that_lost_rows_is_not_opened_until_somebody_says_so() {
    let (disks, _) = crate::oldest::first();
    let fsck = |args: &[&str]| {
        let output = run(&[&["fsck", text(disks.path(0))], args].concat());
        let told = String::from_utf8_lossy(&output.stdout).into_owned() + &err(&output);
        (output.status.code(), told)
    };
    Node::start(&disks, &[]).stop();
    assert_eq!(fsck(&[]).0, Some(0));
    let slot = damage_rows(disks.path(0));
    // The index has them yet.
    let (code, told) = fsck(&[]);
    assert!(code == Some(1) && told.contains("\nrows: slot ") && told.contains("keep this index"), "{told}");
    let (code, told) = fsck(&["--rebuild"]);
    let incomplete = format!("\nincomplete: slot {slot} isn't opened");
    assert!(code == Some(1) && told.contains(&incomplete) && told.contains("--accept-loss"), "{told}");
    assert!(told.contains("slots: 3 with ") && told.contains("a leader says which count"), "{told}");
    let stopped = |node: &Node| node.status()["cluster"]["stopped"].as_array().expect("a list").clone();
    let node = Node::start(&disks, &[]);
    let [only] = &stopped(&node)[..] else { panic!("{:?}", stopped(&node)) };
    assert!(only["why"].as_str().is_some_and(|why| why.contains("--accept-loss")), "{only}");
    node.stop();
    let (code, told) = fsck(&["--accept-loss"]);
    assert_eq!(code, Some(0), "{told}");
    let node = Node::start(&disks, &[]);
    assert_eq!(stopped(&node), Vec::<Value>::new());
    node.stop();
}
