//! `/metrics` as Prometheus reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::node::{Disks, Node};

/// Checks a text of OpenMetrics line by line and returns its samples, by name and labels.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut types = BTreeMap::new();
    let mut samples = BTreeMap::new();
    let mut is_over = false;
    for line in text.lines() {
        assert!(!is_over, "something behind the end: {line}");
        if line == "# EOF" {
            is_over = true;
        } else if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (what, name, rest) = (words.next(), words.next().expect("a name"), words.next().expect("the rest"));
            assert!(matches!(what, Some("HELP" | "TYPE" | "UNIT")), "{line}");
            if what == Some("TYPE") {
                assert!(types.insert(name.to_owned(), rest.to_owned()).is_none(), "{name} is described twice");
            }
        } else {
            let (sample, value) = line.rsplit_once(' ').expect("a value");
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            let name = sample.split('{').next().expect("a name");
            let known =
                |suffix: &str| name.strip_suffix(suffix).and_then(|family| types.get(family)).map(String::as_str);
            let fits = types.get(name).is_some_and(|kind| kind == "gauge")
                || known("_total") == Some("counter")
                || ["_bucket", "_sum", "_count"].iter().any(|suffix| known(suffix) == Some("histogram"));
            assert!(fits, "of no family: {line}");
            assert!(samples.insert(sample.to_owned(), value).is_none(), "twice: {line}");
        }
    }
    assert!(is_over, "it has no end");
    samples
}

fn s3_address(node: &Node) -> SocketAddr {
    let line = node.log.iter().find(|line| line.contains("S3 listens")).expect("it says so");
    line.split("address=").nth(1).expect("it says where").trim().parse().expect("an address")
}

fn exchange(at: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(at).expect("it listens");
    stream.write_all(request.as_bytes()).expect("it takes it");
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("it answers");
    said
}

#[test]
fn metrics_are_what_prometheus_reads() {
    let disks = Disks::new(1);
    let node = Node::start(&disks, &[]);
    for _ in 0..3 {
        assert_eq!(node.get("/health/live").0, 200);
    }
    assert_eq!(node.get("/a/path/that/somebody/made/up").0, 404);
    let s3 = s3_address(&node);
    for (line, answer) in [("GET /", "403"), ("GET /", "403"), ("GET /no-such-bucket", "404"), ("PATCH /", "405")] {
        let request = format!("{line} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let said = exchange(s3, &request);
        assert!(said.starts_with(&format!("HTTP/1.1 {answer}")), "{line}: {said}");
    }
    let (status, text) = node.get("/metrics");
    assert_eq!(status, 200);
    // The body may have come in pieces; their lengths stand on lines of their own.
    let samples = parse(&text);
    let value = |name: &str| samples.get(name).copied().unwrap_or_else(|| panic!("no {name} in\n{text}"));
    let live = "route=\"/health/live\",status=\"200\"";
    assert!((value(&format!("cairn_management_requests_total{{{live}}}")) - 3.0).abs() < 0.1);
    assert!((value("cairn_management_requests_total{route=\"other\",status=\"404\"}") - 1.0).abs() < 0.1);
    let duration = "cairn_management_request_duration_seconds";
    assert!((value(&format!("{duration}_count{{{live}}}")) - 3.0).abs() < 0.1);
    // Both cores have answered some, perhaps.
    for (sort, count) in [
        ("operation=\"ListBuckets\",status=\"403\"", 2.0),
        ("operation=\"ListObjects\",status=\"404\"", 1.0),
        ("operation=\"none\",status=\"405\"", 1.0),
    ] {
        for name in ["cairn_s3_requests_total", "cairn_s3_request_duration_seconds_count"] {
            assert!((value(&format!("{name}{{{sort}}}")) - count).abs() < 0.1, "{sort}");
        }
    }
    assert!(value("cairn_s3_connections_refused_total") < 0.1);
    let asked: u64 = node.status()["cores"]
        .as_array()
        .expect("cores")
        .iter()
        .filter_map(|core| core["s3"]["requests"].as_u64())
        .sum();
    assert_eq!(asked, 4);
    let buckets: Vec<f64> = samples
        .iter()
        .filter(|(name, _)| name.starts_with(&format!("{duration}_bucket{{")) && name.contains(live))
        .map(|(_, value)| *value)
        .collect();
    assert!(buckets.len() == 13 && buckets.contains(&3.0), "{buckets:?}");
    let names: BTreeSet<&str> = samples.keys().map(|name| name.split('{').next().expect("a name")).collect();
    for name in [
        "cairn_node_ready",
        "process_resident_memory_bytes",
        "cairn_block_memory_lent_bytes",
        "cairn_disk_free_bytes",
        "cairn_lane_state",
        "cairn_log_syncs_total",
        "cairn_cache_hits_total",
        "cairn_index_uncommitted_bytes",
        "cairn_actor_working",
        "cairn_actor_failures_total",
    ] {
        assert!(names.contains(name), "{name} is missing");
    }
    // Of both cores, and of both lanes.
    for core in 0..2 {
        assert!(value(&format!("cairn_block_memory_max_bytes{{core=\"{core}\"}}")) > 0.0);
        assert!(samples.contains_key(&format!("cairn_lane_puts_total{{lane=\"{core}\"}}")));
    }
    node.stop();
}
