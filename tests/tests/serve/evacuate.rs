//! Disks of a node of one are emptied, slots and all: one while it serves, one while it doesn't. Everything is there without them.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::node::{Disks, Node, cairn, err, run};

/// The slot that the control group is.
const CONTROL: &str = "slot 16777215 lane ";
/// Chunks are looked for twice a minute on each core.
const EMPTIED_WITHIN: Duration = Duration::from_secs(150);

/// A node, and a user who puts and gets.
struct Place {
    disks: Disks,
    key: Value,
}

impl Place {
    fn new() -> Self {
        let disks = Disks::empty(3);
        let paths: Vec<&str> = disks.paths().iter().map(|path| path.to_str().expect("UTF-8")).collect();
        let output = run(&[&["init", "--lanes", "1", "--json"], &paths[..]].concat());
        assert!(output.status.success(), "{}", err(&output));
        let key = serde_json::from_slice(&output.stdout).expect("JSON");
        Self { disks, key }
    }

    /// Runs an object command against a node.
    #[track_caller]
    fn ask(&self, node: &Node, args: &[&str]) -> Output {
        let line = node.log.iter().find(|line| line.contains("S3 listens")).expect("it says so");
        let address = line.split("address=").nth(1).expect("it says where").trim();
        let mut command = cairn(args);
        command.env("CAIRN_ENDPOINT", format!("http://{address}"));
        for (name, field) in [("AWS_ACCESS_KEY_ID", "access"), ("AWS_SECRET_ACCESS_KEY", "secret")] {
            command.env(name, self.key[field].as_str().expect("a key"));
        }
        let output = command.output().expect("it is built");
        assert!(output.status.success(), "{args:?}: {}", err(&output));
        output
    }

    /// Whether a node has all files of this directory.
    fn check(&self, node: &Node, files: &Path, round: usize) {
        let back = self.disks.beside(&format!("back-{round}"));
        let to = back.to_str().expect("UTF-8");
        self.ask(node, &["get", "--recursive", "cairn://photos/", to]);
        let listed = self.ask(node, &["ls", "--recursive", "cairn://photos/"]);
        let listed = String::from_utf8(listed.stdout).expect("UTF-8");
        for file in std::fs::read_dir(files).expect("it is there") {
            let file = file.expect("it is there").path();
            let name = file.file_name().expect("a file").to_str().expect("UTF-8").to_owned();
            assert_eq!(std::fs::read(back.join(&name)).ok(), std::fs::read(&file).ok(), "{name}");
            assert!(listed.contains(&name), "{name} is not in:\n{listed}");
        }
    }

    /// The disk on which control is, as the node has written down.
    fn disk_of_control(&self) -> PathBuf {
        let text = std::fs::read_to_string(self.disks.path(0).join("slots")).expect("it is there");
        let line = text.lines().find_map(|line| line.strip_prefix(CONTROL)).expect("control is here");
        let lane: u64 = line.split(' ').next().and_then(|lane| lane.parse().ok()).expect("a number");
        let listed = self.disk(&["list"]);
        let find = |what: &str, is_it: &dyn Fn(&Value) -> bool| {
            listed[what].as_array().and_then(|all| all.iter().find(|one| is_it(one))).cloned().expect("it is there")
        };
        let lane = find("lanes", &|it| it["number"].as_u64() == Some(lane));
        find("disks", &|it| it["id"] == lane["disk"])["directory"].as_str().expect("it is there").into()
    }

    /// Runs `cairn disk` on the node's disks.
    #[track_caller]
    fn disk(&self, args: &[&str]) -> Value {
        let output = run(&[&["disk"], args, &["--json", "--data", &self.disks.data()]].concat());
        assert!(output.status.success(), "{args:?}: {}", err(&output));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
}

fn until_emptied(node: &Node) {
    let end = Instant::now() + EMPTIED_WITHIN;
    loop {
        let status = node.status();
        assert_eq!(status["cluster"]["stopped"], Value::Array(vec![]), "no group stops for it");
        let disks = status["disks"].as_array().expect("disks");
        if disks.iter().all(|disk| disk["is_leaving"] == false) {
            return;
        }
        assert!(Instant::now() < end, "it is not emptied: {status}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_disk_is_emptied_while_its_node_serves() {
    let mut place = Place::new();
    let files = place.disks.beside("files");
    std::fs::create_dir(&files).expect("made");
    for number in 0..60_usize {
        // Some lie in the slots, some in chunks.
        let bytes = vec![number as u8; if number % 4 == 0 { 300_000 + number } else { 100 + number }];
        std::fs::write(files.join(format!("file-{number:02}")), bytes).expect("written");
    }
    let from = files.to_str().expect("UTF-8").to_owned();
    let node = Node::start(&place.disks, &[]);
    place.ask(&node, &["bucket", "create", "photos"]);
    place.ask(&node, &["put", "--recursive", &from, "cairn://photos/"]);
    place.check(&node, &files, 0);
    node.stop();
    let first = place.disk_of_control();
    let told = place.disk(&["evacuate", first.to_str().expect("UTF-8"), "--while-serving"]);
    let leaving = told["disks"].as_array().expect("disks").iter().find(|disk| disk["state"] == "leaving");
    assert!(leaving.expect("one is").get("slots_to_move").and_then(Value::as_u64) > Some(0), "{told}");
    let node = Node::start(&place.disks, &[]);
    until_emptied(&node);
    assert_eq!(node.status()["disks"].as_array().map(Vec::len), Some(2));
    place.check(&node, &files, 1);
    std::fs::write(files.join("file-late"), b"late").expect("written");
    place.ask(&node, &["put", files.join("file-late").to_str().expect("UTF-8"), "cairn://photos/file-late"]);
    node.stop();
    place.disks = place.disks.without(&first);
    // The next one while the node is stopped.
    let second = place.disk_of_control();
    let plan = place.disk(&["evacuate", second.to_str().expect("UTF-8"), "--dry-run"]);
    assert!(plan["possible"] == true && plan["move_slots"].as_u64() > Some(0), "{plan}");
    let left = place.disk(&["evacuate", second.to_str().expect("UTF-8")]);
    assert_eq!((&left["moved"]["slots"], left["disks"].as_array().map(Vec::len)), (&plan["move_slots"], Some(1)));
    place.disks = place.disks.without(&second);
    for gone in [first, second] {
        std::fs::remove_dir_all(gone).expect("nobody needs it");
    }
    for round in 2..4 {
        let node = Node::start(&place.disks, &[]);
        place.check(&node, &files, round);
        node.stop();
    }
}
