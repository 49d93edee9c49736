//! What arrives at an open port one day: none of it stops a node, and all of it ends.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::node::{Disks, Node};

/// More than a node takes at a time.
const MANY: usize = 600;

#[test]
fn hostile_clients_stop_nothing() {
    let disks = Disks::new(1);
    let node = Node::start(&disks, &[]);
    let connections = |node: &Node| {
        let (_, text) = node.get("/metrics");
        let line = text.lines().find(|line| line.starts_with("cairn_management_connections ")).expect("a gauge");
        line.split(' ').nth(1).and_then(|value| value.parse::<usize>().ok()).expect("a number")
    };
    // No HTTP at all, then some that is nearly HTTP.
    let many: String = (0..5000).map(|at| format!("x-{at}: y\r\n")).collect();
    let garbage: Vec<u8> = (0..200_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let cases = [
        garbage,
        vec![0; 100_000],
        b"\r\n\r\n\r\n\r\n\r\n".to_vec(),
        b"GET /../../etc/passwd HTTP/1.1\r\n\r\n".to_vec(),
        format!("GET /{} HTTP/1.1\r\n\r\n", "%00".repeat(50_000)).into_bytes(),
        format!("GET / HTTP/1.1\r\n{many}\r\n").into_bytes(),
        format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", "h".repeat(1 << 20)).into_bytes(),
        b"POST /shutdown HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n".to_vec(),
        b"POST /shutdown HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
    ];
    for bytes in &cases {
        let mut stream = node.connect();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut back = Vec::new();
        let _ = stream.read_to_end(&mut back);
        let text = String::from_utf8_lossy(&back);
        assert!(
            text.is_empty() || text.starts_with("HTTP/1.1 4"),
            "{:?}: {text}",
            String::from_utf8_lossy(&bytes[..30.min(bytes.len())])
        );
    }
    // A request with two lengths is one request, whatever a proxy before us takes it for.
    let two =
        "GET /health/live HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n";
    let text = node.exchange(format!("{two}GET /status HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes());
    assert!(text.matches("HTTP/1.1 ").count() == 1 && text.contains("connection: close"), "{text}");
    assert_eq!(node.get("/health/live").0, 200);
    // Half requests, and more connections than there may be: whoever is not among the first is told so, and when those
    // are tired of, there is room again.
    let begun = Instant::now();
    let mut held: Vec<_> = (0..MANY)
        .map(|at| {
            let mut stream = node.connect();
            let _ = stream.write_all(&b"GET /health/live HTTP/1.1\r\nhost: a\r\nx: "[..at % 40]);
            stream
        })
        .collect();
    let was_refused = held.iter_mut().rev().take(MANY - 300).any(|stream| {
        let mut begins = [0; 12];
        stream.read_exact(&mut begins).is_ok() && begins.starts_with(b"HTTP/1.1 503")
    });
    assert!(was_refused, "nobody was refused");
    let live = b"GET /health/live HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    while !node.exchange(live).starts_with("HTTP/1.1 200") {
        assert!(begun.elapsed() < Duration::from_secs(60), "slow clients are waited for without end");
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(held);
    while connections(&node) > 1 {
        assert!(begun.elapsed() < Duration::from_secs(90), "connections are left open");
        std::thread::sleep(Duration::from_millis(100));
    }
    let log = node.stop();
    assert!(!log.iter().any(|line| line.contains("panicked")), "{}", log.join("\n"));
}
