//! A node starts, says what it does, and stops; is killed and starts again; meets another on its disks.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::Value;

use crate::node::{Disks, Node, cairn, err, run};

#[test]
fn a_node_says_what_it_does_and_stops_when_asked() {
    let disks = Disks::new(1);
    let node = Node::start(&disks, &[]);
    assert!(node.log[0].contains("driver: "), "it says which driver it runs on: {:?}", node.log);
    assert_eq!(node.get("/health/live"), (200, "{\"status\":\"live\"}".to_owned()));
    // Empty lanes take a moment until their first segments are made.
    let status = node.until_status("there are segments", |status| {
        status["lanes"].as_array().is_some_and(|lanes| lanes.iter().all(|lane| lane["state"] == "open"))
    });
    assert_eq!(node.get("/health/ready"), (200, "{\"status\":\"ready\"}".to_owned()));
    assert_eq!(
        (status["state"].as_str(), status["version"].as_str()),
        (Some("ready"), Some(env!("CARGO_PKG_VERSION")))
    );
    assert_eq!(status["disks"][0]["path"], disks.data());
    let lanes = status["lanes"].as_array().expect("lanes");
    let cores: Vec<u64> = lanes.iter().filter_map(|lane| lane["detail"]["core"].as_u64()).collect();
    assert_eq!(cores, [0, 1], "lanes are spread over cores: {status}");
    let cores = status["cores"].as_array().expect("cores");
    let mut actors: Vec<String> = cores
        .iter()
        .flat_map(|core| core["actors"].as_array().cloned().unwrap_or_default())
        .map(|actor| format!("{}{}", actor["name"].as_str().unwrap_or("?"), actor["lane"]))
        .collect();
    actors.sort();
    let expected = [
        "compact0",
        "compact1",
        "expirenull",
        "reconcilenull",
        "relocatenull",
        "scrub0",
        "scrub1",
        "settlenull",
        "settlenull",
        "trimnull",
        "ttlnull",
    ];
    assert_eq!(actors, expected, "{status}");
    // Errors are JSON with a code.
    for (method, path, status, code) in [
        ("GET", "/nothing", 404, "no_such_path"),
        ("POST", "/status", 405, "no_such_method"),
        ("POST", "/shutdown", 401, "unauthorized"),
    ] {
        let (given, body) = node.ask(method, path, "");
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((given, body["error"]["code"].as_str()), (status, Some(code)), "{method} {path}");
    }
    let (_, document) = node.get("/openapi.json");
    let document: Value = serde_json::from_str(&document).expect("JSON");
    assert!(document["paths"]["/status"]["get"].is_object(), "{document}");
    // The token is its owner's.
    let file = disks.path(0).join("management-token");
    let mode = std::fs::metadata(&file).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
    let token = std::fs::read_to_string(&file).expect("it can be read");
    assert_eq!(token.trim().len(), 64);
    let (status, _) = node.ask("POST", "/shutdown", &format!("authorization: Bearer {}0\r\n", &token.trim()[1..]));
    assert_eq!(status, 401);
    let (status, body) = node.ask("POST", "/shutdown", &format!("authorization: Bearer {}\r\n", token.trim()));
    assert_eq!((status, body.as_str()), (202, "{\"status\":\"draining\"}"));
    let (status, log) = node.end();
    assert_eq!(status.code(), Some(0), "{}", log.join("\n"));
    assert!(log.iter().any(|line| line.contains("every index is committed")), "{}", log.join("\n"));
    assert!(!log.iter().any(|line| line.contains(token.trim())), "a secret is never logged");
    let output = run(&["fsck", disks.path(0).to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
}

#[test]
fn a_node_starts_again_after_whatever_end() {
    let disks = Disks::new(1);
    let name = |node: &Node| node.status()["node"].as_str().map(str::to_owned);
    let node = Node::start(&disks, &["--driver", "monoio"]);
    let first = name(&node);
    let token = std::fs::read_to_string(disks.path(0).join("management-token")).expect("it can be read");
    node.stop();
    for _ in 0..4 {
        let node = Node::start(&disks, &[]);
        assert_eq!(name(&node), first);
        // Without a pause: the kernel may hold the disks a little longer than the process lives.
        node.kill();
    }
    // Killed while it starts.
    Node::begin(&disks, &[]).kill();
    let node = Node::start(&disks, &[]);
    assert_eq!(name(&node), first);
    assert_ne!(std::fs::read_to_string(disks.path(0).join("management-token")).expect("it can be read"), token);
    node.stop();
}

#[test]
fn a_second_node_is_told_that_the_disks_are_in_use() {
    let disks = Disks::new(2);
    let node = Node::start(&disks, &[]);
    let output = run(&["serve", "--data", &disks.data(), "--listen-management", "off"]);
    assert_eq!(output.status.code(), Some(2), "{}", err(&output));
    let expected =
        format!("cairn: {}: another process uses it; stop the node that runs on it\n", disks.path(0).display());
    assert!(err(&output).ends_with(&expected), "{}", err(&output));
    // One of its disks is enough.
    let second = disks.path(1).to_str().expect("UTF-8");
    let output = run(&["serve", "--data", second, "--listen-management", "off"]);
    assert!(output.status.code() == Some(2) && err(&output).contains("another process uses it"), "{}", err(&output));
    // So does an address.
    let others = Disks::new(1);
    let address = node.addr.to_string();
    let output = run(&["serve", "--data", &others.data(), "--listen-management", &address]);
    assert_eq!(output.status.code(), Some(2), "{}", err(&output));
    let remedy = "stop what listens there or choose another address with --listen-management";
    assert!(err(&output).contains(&address) && err(&output).contains(remedy), "{}", err(&output));
    assert_eq!(node.status()["state"], "ready", "nothing of that harms the first");
    node.stop();
}

#[test]
fn a_node_serves_without_one_of_its_disks() {
    let disks = Disks::new(2);
    std::fs::rename(disks.path(1), disks.beside("away")).expect("a name");
    let mut node = Node::start(&disks, &[]);
    assert!(node.log.iter().any(|line| line.contains("WARN") && line.contains("is not used")), "{:?}", node.log);
    let status = node.until_status("there are segments", |status| status["lanes"][0]["state"] == "open");
    assert_eq!(status["lanes"][2]["state"], "missing", "{status}");
    assert_eq!(status["troubles"][0]["path"], disks.path(1).to_str().expect("UTF-8"));
    assert_eq!(node.get("/health/ready").0, 200);
    let output = run(&["status", "--at", &node.addr.to_string()]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.code() == Some(0) && text.contains("missing") && text.contains("is not used"), "{text}");
    node.signal("-TERM");
    node.until("every index is committed");
    drop(node);
    std::fs::rename(disks.beside("away"), disks.path(1)).expect("a name");
    let node = Node::start(&disks, &[]);
    node.until_status("all lanes are there", |status| {
        status["lanes"].as_array().is_some_and(|lanes| lanes.iter().all(|lane| lane["state"] == "open"))
    });
    node.stop();
}

#[test]
fn directories_that_are_no_disks_are_refused() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("there is room");
    let path = dir.path().to_str().expect("UTF-8");
    let output = run(&["serve", "--data", path, "--listen-management", "off"]);
    assert_eq!(output.status.code(), Some(2), "{}", err(&output));
    assert!(err(&output).contains(path) && err(&output).contains("cairn disk"), "{}", err(&output));
    assert_eq!(std::fs::read_dir(dir.path()).expect("it is there").count(), 0, "nothing is made there");
}

#[test]
fn the_log_can_be_read_as_it_is_written() {
    let disks = Disks::new(1);
    let node = Node::start(&disks, &[]);
    let mut stream = node.connect();
    stream.write_all(b"GET /logs/stream HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    assert!(lines.by_ref().take_while(|line| !line.is_empty()).any(|line| line.contains("application/x-ndjson")));
    // All places are taken, then one too many asks.
    let held: Vec<_> = (0..7)
        .map(|_| {
            let mut stream = node.connect();
            stream.write_all(b"GET /logs/stream HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
            BufReader::new(stream).lines().map_while(Result::ok).next()
        })
        .collect();
    assert!(held.iter().all(|line| line.as_ref().is_some_and(|line| line.contains("200"))), "{held:?}");
    node.signal("-HUP");
    let is_line = |line: &String| line.starts_with('{');
    let line: Value = serde_json::from_str(&lines.find(is_line).expect("a line")).expect("JSON");
    assert!(
        line["message"].as_str().is_some_and(|text| text.contains("read again")) && line["level"] == "info",
        "{line}"
    );
    assert!(line["time"].is_string() && line["core"] == 0 && line["target"].is_string(), "{line}");
    // Its readers don't keep a node from stopping.
    node.stop();
    assert!(lines.any(|line| line.contains("stopping") || line == "0"), "it ends with the node");
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let disks = Disks::new(1);
    let data = disks.data();
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port");
    let port = port.to_string();
    let args = [
        "serve",
        "--data",
        &data,
        "--listen-management",
        &port,
        "--listen-s3",
        "off",
        "--listen-rpc",
        "off",
        "--log-level",
        "debug",
    ];
    // A pipe that is never emptied.
    let mut child = cairn(&args).stderr(std::process::Stdio::piped()).spawn().expect("it is built");
    let mut stream = (0..600)
        .find_map(|_| {
            std::thread::sleep(Duration::from_millis(50));
            std::net::TcpStream::connect(&port).ok()
        })
        .expect("it listens");
    let mut answers = BufReader::new(stream.try_clone().expect("a socket"));
    for at in 0..8000 {
        stream.write_all(b"GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            assert!(answers.read_line(&mut line).expect("it answers") > 0, "request {at}");
        }
        answers.read_exact_json();
    }
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").expect("sent");
    let lost = answers.lines().map_while(Result::ok).find(|line| line.starts_with("cairn_log_lines_lost_total "));
    let lost: u64 = lost.and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("it is counted");
    assert!(lost > 0, "8000 lines fit into no pipe");
    let _ = child.kill();
    let _ = child.wait();
}

/// Takes the body of `/health/live`.
trait ReadBody {
    fn read_exact_json(&mut self);
}

impl<R: BufRead> ReadBody for R {
    fn read_exact_json(&mut self) {
        let mut body = vec![];
        self.read_until(b'}', &mut body).expect("a body");
        assert_eq!(body, b"{\"status\":\"live\"}");
    }
}

#[test]
fn status_says_whether_the_node_is_there() {
    let disks = Disks::new(1);
    let node = Node::start(&disks, &[]);
    node.until_status("there are segments", |status| status["lanes"][0]["state"] == "open");
    let address = node.addr.to_string();
    let output = run(&["status", "--at", &address]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(text.contains(": ready, up for") && text.contains(&disks.data()), "{text}");
    let output = cairn(&["status", "--json"]).env("CAIRN_LISTEN_MANAGEMENT", &address).output().expect("it is built");
    let json: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!(json["state"], "ready");
    node.stop();
    let output = run(&["status", "--at", &address]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains(&address) && err(&output).contains("is the node running"), "{}", err(&output));
}

#[test]
fn a_node_is_made_and_has_access_keys() {
    let disks = Disks::empty(2);
    let paths: Vec<&str> = (0..2).map(|disk| disks.path(disk).to_str().expect("UTF-8")).collect();
    let output = run(&["init", paths[0], paths[1], "--json"]);
    assert!(output.status.success(), "{}", err(&output));
    let first: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(first["user"], "root");
    let again = run(&["init", paths[0], paths[1]]);
    assert_eq!(again.status.code(), Some(2), "{}", err(&again));
    for disk in paths {
        let file = std::path::Path::new(disk).join("cluster-secret");
        let mode = std::fs::metadata(&file).expect("every disk has it").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{mode:o}");
    }
    let node = Node::start(&disks, &[]);
    let (at, data) = (node.addr.to_string(), disks.data());
    let key = |more: &[&str]| run(&[&["key"], more, &["--at", &at, "--data", &data, "--json"]].concat());
    let output = key(&["create", "ann"]);
    assert!(output.status.success(), "{}", err(&output));
    let second: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let listed = |names: &[&Value]| {
        let output = key(&["list"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let listed: Vec<Value> = serde_json::from_str(&text).expect("JSON");
        let mut found: Vec<String> = listed.iter().map(|key| key["access"].to_string()).collect();
        let mut expected: Vec<String> = names.iter().map(|key| key["access"].to_string()).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
        assert!(!text.contains("secret"), "{text}");
    };
    listed(&[&first, &second]);
    let access = second["access"].as_str().expect("text");
    assert!(key(&["delete", access]).status.success());
    assert_eq!(key(&["delete", access]).status.code(), Some(3), "it is gone already");
    listed(&[&first]);
    // Without the token nobody learns anything.
    for (method, path) in [("GET", "/keys"), ("POST", "/keys"), ("DELETE", "/keys/AK")] {
        assert_eq!(node.ask(method, path, "").0, 401, "{method} {path}");
    }
    let status = node.status();
    assert_eq!(status["cluster"]["led"], 257, "{}", status["cluster"]);
    assert_eq!(status["cluster"]["stopped"], serde_json::json!([]));
    node.kill();
    let node = Node::start(&disks, &[]);
    let key = |more: &[&str]| run(&[&["key"], more, &["--at", &node.addr.to_string(), "--data", &data]].concat());
    let output = key(&["list"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(first["access"].as_str().expect("text")), "{text}");
    let log = node.stop();
    let secret = second["secret"].as_str().expect("text");
    assert!(!log.iter().any(|line| line.contains(secret)), "a secret is never logged");
}
