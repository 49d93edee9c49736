//! `cairn disk` on real directories: what people do with disks, and what a kill in the middle of it leaves.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::load::assert_clean;

const CHUNKS: &str = "1500";

/// A node's directories, removed at the end.
struct Node(tempfile::TempDir);

impl Node {
    fn new() -> Self {
        Self(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("there is room"))
    }

    fn disk(&self, number: usize) -> PathBuf {
        self.0.path().join(format!("disk{number}"))
    }

    fn data(&self, disks: &[usize]) -> String {
        let names: Vec<String> = disks.iter().map(|disk| self.disk(*disk).display().to_string()).collect();
        names.join(",")
    }

    fn command(&self, args: &[&str], disks: &[usize]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairn-under-test"));
        command.arg("disk").args(args).args(["--data", &self.data(disks)]).stdin(Stdio::null());
        command
    }

    /// Exit code and all that was printed.
    fn disk_command(&self, args: &[&str], disks: &[usize]) -> (Option<i32>, String) {
        let output = self.command(args, disks).output().expect("it is built");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    }

    #[track_caller]
    fn does(&self, args: &[&str], disks: &[usize]) -> String {
        let (code, text) = self.disk_command(args, disks);
        assert_eq!(code, Some(0), "{args:?}: {text}");
        text
    }

    #[track_caller]
    fn refuses(&self, args: &[&str], disks: &[usize], sentence: &str) {
        let (code, text) = self.disk_command(args, disks);
        assert!(code == Some(2) && text.contains(sentence), "{args:?} ends with {code:?}: {text}");
    }

    #[track_caller]
    fn json(&self, args: &[&str], disks: &[usize]) -> serde_json::Value {
        let output = self.command(&[args, &["--json"]].concat(), disks).output().expect("it is built");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {text}");
        serde_json::from_slice(&output.stdout).expect("one JSON object")
    }

    fn start_load(&self, what: &str, disks: &[usize]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_disks-load"));
        command.args([what, "1", CHUNKS, &self.data(disks)]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it is built")
    }

    /// Stores the chunks, or checks that exactly they are there.
    #[track_caller]
    fn load(&self, what: &str, disks: &[usize]) {
        let output = self.start_load(what, disks).wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

const SMALL: [&str; 2] = ["--segment", "4MiB"];

#[test]
fn disks_are_made_added_emptied_and_filled_from_the_command_line() {
    let node = Node::new();
    node.refuses(&["list"], &[0, 1], "can't open");
    let made = node.does(&[&["format", "--lanes", "2"], &SMALL[..]].concat(), &[0, 1]);
    assert!(made.contains("every chunk is at home"), "{made}");
    node.refuses(&["format"], &[0, 1], "already; nothing was changed");
    node.load("fill", &[0, 1]);
    let before = node.json(&["list"], &[0, 1]);
    assert_eq!((before["settled"].as_bool(), before["lanes"].as_array().map(Vec::len)), (Some(true), Some(4)));
    let new = node.disk(2).display().to_string();
    // Forgetting a disk is no way to lose it.
    node.refuses(&["add", &new], &[0], "name all disks of the node with --data");
    let plan = node.json(&[&["add", &new, "--lanes", "2", "--dry-run"], &SMALL[..]].concat(), &[0, 1]);
    let share = |value: &serde_json::Value| value.as_u64().expect("a number").abs_diff(500) < 130;
    assert!(share(&plan["move_chunks"]) && plan["possible"] == true, "{plan}");
    assert!(!node.disk(2).exists(), "nothing was changed");
    let added = node.json(&[&["add", &new, "--lanes", "2"], &SMALL[..]].concat(), &[0, 1]);
    assert!(share(&added["moved"]["chunks"]) && added["settled"] == true, "{added}");
    node.load("check", &[0, 1, 2]);
    for (disk, lane) in [(0, "lane-0000"), (2, "lane-0005")] {
        assert_clean(&node.disk(disk).join(lane));
    }
    assert_clean(&node.disk(2));
    let (code, text) = crate::load::cairn(&["log", "dump", "--kind", "chunk", "--limit", "1"], &node.disk(2));
    assert!(code == Some(0) && text.contains("(number 4 of") && text.contains("(number 5 of"), "{text}");
    // Twice the weight of the others together.
    let weighed = node.json(&["rebalance", "--weight", &format!("{new}=auto")], &[0, 1, 2]);
    assert_eq!(weighed["moved"]["chunks"], 0);
    let first = node.disk(0).display().to_string();
    let plan = node.does(&["evacuate", &first, "--dry-run"], &[0, 1, 2]);
    assert!(plan.contains("would move") && plan.contains("has room for about"), "{plan}");
    let id = added["disks"][0]["id"].as_str().expect("an id").to_owned();
    let left = node.json(&["evacuate", &id[..8]], &[0, 1, 2]);
    assert_eq!((left["disks"].as_array().map(Vec::len), left["settled"].as_bool()), (Some(2), Some(true)));
    node.load("check", &[1, 2]);
    let listed = node.does(&["list"], &[0, 1, 2]);
    assert!(listed.contains("was removed from this node"), "{listed}");
    node.refuses(&["add", &first], &[1, 2], "was removed from this node");
    node.refuses(&["evacuate", "nothing"], &[1, 2], "the node has no disk nothing; it has ");
    // A disk that is gone.
    std::fs::remove_dir_all(node.disk(1)).expect("it was there");
    let listed = node.does(&["list"], &[1, 2]);
    assert!(listed.contains("missing"), "{listed}");
    node.refuses(&["rebalance"], &[1, 2], "is missing");
    let id = left["disks"][0]["id"].as_str().expect("an id").to_owned();
    let given_up = node.json(&["evacuate", &id, "--lost"], &[1, 2]);
    assert_eq!((given_up["disks"].as_array().map(Vec::len), given_up["settled"].as_bool()), (Some(1), Some(true)));
    node.load("fill", &[2]);
    node.load("check", &[2]);
}

/// Killed at any moment, moving goes on where it was, and nothing is lost or there twice.
#[test]
fn a_killed_rebalance_goes_on() {
    let node = Node::new();
    node.does(&[&["format"], &SMALL[..]].concat(), &[0, 1]);
    node.load("fill", &[0, 1]);
    let third = node.disk(2).display().to_string();
    let slow = ["--bytes-per-second", "1MiB"];
    let mut killed = 0;
    for round in 0..6_u64 {
        let args: Vec<&str> = match round {
            0 => [&["add", third.as_str()], &SMALL[..], &slow[..]].concat(),
            _ => [&["rebalance"], &slow[..]].concat(),
        };
        let disks: &[usize] = if round == 0 { &[0, 1] } else { &[0, 1, 2] };
        let mut child = node.command(&args, disks).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("built");
        std::thread::sleep(Duration::from_millis(700 + 150 * round));
        killed += usize::from(child.try_wait().expect("asked").is_none());
        let _ = child.kill();
        let _ = child.wait();
        node.load("check", &[0, 1, 2]);
    }
    assert!(killed >= 2, "it was killed {killed} times");
    let settled = node.json(&["rebalance"], &[0, 1, 2]);
    assert_eq!(settled["settled"], true);
    let held: Vec<u64> =
        settled["disks"].as_array().expect("disks").iter().filter_map(|d| d["chunks"].as_u64()).collect();
    // A third each, give or take five standard deviations.
    assert!(held.iter().all(|chunks| chunks.abs_diff(500) < 92) && held.iter().sum::<u64>() == 1500, "{held:?}");
    node.load("check", &[0, 1, 2]);
    [0, 1, 2].iter().for_each(|disk| assert_clean(&node.disk(*disk)));
}

#[test]
fn a_node_in_use_is_left_alone() {
    let node = Node::new();
    node.does(&[&["format"], &SMALL[..]].concat(), &[0, 1]);
    let mut load = node.start_load("fill", &[0, 1]);
    let mut said = String::new();
    BufReader::new(load.stdout.take().expect("piped")).read_line(&mut said).expect("it says something");
    assert_eq!(said, "open\n");
    // It has them for as long as its standard input is open, which `wait` shuts.
    node.refuses(&["rebalance"], &[0, 1], "another process uses it; stop the node");
    assert!(load.wait().expect("it ends").success());
    node.load("check", &[0, 1]);
}
