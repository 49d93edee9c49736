//! What nodes stored when their formats were young is read for ever: rows, commands and entries of Raft, votes, and the small files of
//! disks and clusters.
//!
//! `tests/fixtures/node-v1` is the disk of a node as it lay there after a kill, its index left out, and what S3 said of it then. Files
//! are packed: of each only the pieces that aren't zeros, each behind its number.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::filled::{Picture, picture, same, settings};
use crate::node::{Disks, Node, err, run};
use crate::s3::{Client, address};

const PIECE: usize = 64;
const KEY: &str = "access-key.json";
const SEEN: &str = "seen.txt";
/// Stands before each thing that was asked for.
const ASKED: &str = "===== ";
/// Not packed: what is made anew, or a node's own while it runs.
const LEFT_OUT: [&str; 4] = ["index", "ballast", "management-token", "lock"];

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/node-v1")
}

fn pack(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u32).to_le_bytes().to_vec();
    let pieces = (0_u32..).zip(bytes.chunks(PIECE)).filter(|(_, piece)| piece.iter().any(|byte| *byte != 0));
    pieces.fold(length, |packed, (number, piece)| [&packed[..], &number.to_le_bytes(), piece].concat())
}

fn unpack(packed: &[u8]) -> Vec<u8> {
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes[..4].try_into().expect("4 bytes")) as usize;
    let mut bytes = vec![0; number(packed)];
    for piece in packed[4..].chunks(4 + PIECE) {
        let at = number(piece) * PIECE;
        bytes[at..at + piece.len() - 4].copy_from_slice(&piece[4..]);
    }
    bytes
}

/// The files below a directory, by their path there.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).expect("it is there") {
        let path = entry.expect("a name").path();
        let name = path.file_name().expect("a name").to_str().expect("UTF-8").to_owned();
        if LEFT_OUT.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|(below, bytes)| (format!("{name}/{below}"), bytes)));
        } else {
            found.insert(name, std::fs::read(&path).expect("read"));
        }
    }
    found
}

/// A little of everything.
fn fill(client: &mut Client) {
    for bucket in ["/plain", "/kept"] {
        client.put(bucket, "");
    }
    client.ask("PUT", "/held", &[("x-amz-bucket-object-lock-enabled", "true")], b"").good();
    settings(client, "/plain");
    let about = [("content-type", "image/x-cairn"), ("x-amz-meta-a", "b"), ("x-amz-tagging", "colour=grey")];
    client.ask("PUT", "/plain/small", &about, b"it lies in its version").good();
    // Zeros, which are packed away.
    client.ask("PUT", "/plain/chunk", &about, &[0; 6000]).good();
    client.put("/plain/gone", "gone");
    client.delete("/plain/gone");
    // So much that rows are flushed.
    for _ in 0..12 {
        client.put("/plain/over", [0; 4000]);
    }
    let versioning = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    client.put("/kept?versioning", versioning);
    let versions = ["one", "two", "three"].map(|text| {
        let put = client.put("/kept/k", text);
        put.header("x-amz-version-id").to_owned()
    });
    let tags = "<Tagging><TagSet><Tag><Key>old</Key><Value>yes</Value></Tag></TagSet></Tagging>";
    client.put(&format!("/kept/k?tagging&versionId={}", versions[0]), tags);
    client.delete(&format!("/kept/k?versionId={}", versions[1]));
    client.delete("/kept/k");
    let until = "2099-01-01T00:00:00Z";
    let lock = [("x-amz-object-lock-mode", "COMPLIANCE"), ("x-amz-object-lock-retain-until-date", until)];
    client.ask("PUT", "/held/k", &lock, b"held").good();
    client.put("/held/k?legal-hold", "<LegalHold><Status>ON</Status></LegalHold>");
    for (key, end) in [("whole", "complete"), ("given-up", "abort"), ("under-way", "")] {
        let target = format!("/kept/{key}");
        let begun = client.ask("POST", &format!("{target}?uploads"), &about, b"").good();
        let upload = begun.elements("UploadId").remove(0);
        let part = client.put(&format!("{target}?partNumber=3&uploadId={upload}"), [0; 5000]);
        let list = format!("<Part><PartNumber>3</PartNumber><ETag>{}</ETag></Part>", part.header("etag"));
        let done = format!("{target}?uploadId={upload}");
        match end {
            "complete" => {
                let list = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
                client.post(&done, list);
            }
            "abort" => drop(client.delete(&done)),
            _ => {}
        }
    }
}

fn key(disks: &Disks, node: &Node, args: &[&str]) -> Vec<u8> {
    let (at, data) = (node.addr.to_string(), disks.data());
    let output = run(&[&["key"], args, &["--at", &at, "--data", &data, "--json"]].concat());
    assert!(output.status.success(), "{}", err(&output));
    output.stdout
}

/// What is there; that there is no such thing is left out.
fn seen(client: &mut Client) -> Picture {
    let mut seen = picture(client);
    seen.retain(|_, answer| !answer.starts_with("404"));
    seen
}

fn make(fixture: &Path) {
    let disks = Disks::empty(1);
    let output = run(&["disk", "format", "--data", &disks.data(), "--lanes", "1", "--segment", "64KiB"]);
    assert!(output.status.success(), "{}", err(&output));
    let node = Node::start(&disks, &["--cluster-slots", "2"]);
    let made = key(&disks, &node, &["create", "ann"]);
    key(&disks, &node, &["create", "bob", "--rights", "none"]);
    let mut client = Client::new(address(&node), &serde_json::from_slice(&made).expect("JSON"));
    fill(&mut client);
    let text: String =
        seen(&mut client).iter().map(|(target, answer)| format!("{ASKED}{target}\n{answer}\n")).collect();
    node.kill();
    std::fs::create_dir_all(fixture).expect("made");
    std::fs::write(fixture.join(KEY), made).expect("written");
    std::fs::write(fixture.join(SEEN), text).expect("written");
    for (name, bytes) in files(disks.path(0)) {
        let path = fixture.join("disk").join(name);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        std::fs::write(path, pack(&bytes)).expect("written");
    }
}

/// The disk of the first node, and its access key.
pub fn first() -> (Disks, Value) {
    let disks = Disks::empty(1);
    for (name, packed) in files(&fixture().join("disk")) {
        let path = disks.path(0).join(name);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        std::fs::write(path, unpack(&packed)).expect("written");
    }
    let made = std::fs::read(fixture().join(KEY)).expect("there is a fixture");
    (disks, serde_json::from_slice(&made).expect("JSON"))
}

/// With `CAIRN_WRITE_FIXTURES` set it makes the fixture if there is none: for a new version of the formats, never for this one.
#[test]
fn a_node_of_the_first_version_is_read_for_ever() {
    if std::env::var_os("CAIRN_WRITE_FIXTURES").is_some() && !fixture().exists() {
        make(&fixture());
    }
    let (disks, made) = first();
    let disk = disks.path(0).to_str().expect("UTF-8");
    for kind in ["raft-entry", "raft-state", "rows", "chunk"] {
        let output = run(&["log", "dump", "--kind", kind, "--json", disk]);
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(text.contains("\"type\":\"record\""), "there are records of this kind: {kind}");
    }
    let text = std::fs::read_to_string(fixture().join(SEEN)).expect("there is a fixture");
    let before: Picture = text
        .split(ASKED)
        .skip(1)
        .filter_map(|part| part.strip_suffix('\n')?.split_once('\n'))
        .map(|(target, answer)| (target.to_owned(), answer.to_owned()))
        .collect();
    let node = Node::start(&disks, &[]);
    let mut client = Client::new(address(&node), &made);
    same(&before, &seen(&mut client), "as it was");
    assert!(before.len() > 50 && before["/plain/small"].ends_with("lies in its version"), "{}", before["/plain/small"]);
    client.put("/plain/new", "new");
    assert_eq!(client.get("/plain/new").good().text(), "new");
    let listed: Value = serde_json::from_slice(&key(&disks, &node, &["list"])).expect("JSON");
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
    node.stop();
    let output = run(&["fsck", disk]);
    assert_eq!(output.status.code(), Some(0), "{}{}", String::from_utf8_lossy(&output.stdout), err(&output));
}
