//! Asking a node by S3, over connections that are kept.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime};

use cairn_io::time::WallTime;
use cairn_tools::s3::sign::{Credentials, Payload, Signable, Signer};
use serde_json::Value;

use crate::node::Node;

const PATIENCE: Duration = Duration::from_secs(60);

/// Somebody with an access key and a connection.
pub struct Client {
    at: SocketAddr,
    signer: Signer,
    stream: BufReader<TcpStream>,
}

/// What is answered.
pub struct Reply {
    pub status: u16,
    /// By name, in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Fails unless it is good.
    #[track_caller]
    pub fn good(self) -> Self {
        assert!((200..300).contains(&self.status), "{}: {}", self.status, self.text());
        self
    }

    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers))
    }

    /// The texts of all elements of a name.
    pub fn elements(&self, name: &str) -> Vec<String> {
        elements(&self.text(), name)
    }
}

/// The texts of all elements of a name.
pub fn elements(text: &str, name: &str) -> Vec<String> {
    let (begin, end) = (format!("<{name}>"), format!("</{name}>"));
    let parts = text.split(&begin).skip(1);
    parts.filter_map(|part| Some(part.split_once(&end)?.0.to_owned())).collect()
}

/// Where a node listens for S3.
pub fn address(node: &Node) -> SocketAddr {
    let line = node.log.iter().find(|line| line.contains("S3 listens")).expect("it says so");
    line.split("address=").nth(1).and_then(|at| at.trim().parse().ok()).expect("it says where")
}

fn connect(at: SocketAddr) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(at).expect("S3 listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time above zero");
    stream.set_nodelay(true).expect("a socket");
    BufReader::new(stream)
}

impl Client {
    /// With an access key as `cairn key create --json` prints it.
    pub fn new(at: SocketAddr, key: &Value) -> Self {
        Self::of_region(at, key, "us-east-1")
    }

    /// The same, signing for this region.
    pub fn of_region(at: SocketAddr, key: &Value, region: &str) -> Self {
        let half = |name: &str| key[name].as_str().expect("a key").to_owned();
        let credentials = Credentials::new(half("access"), half("secret"));
        Self { at, signer: Signer::new(credentials, region.to_owned()), stream: connect(at) }
    }

    /// Asks, whatever the answer.
    pub fn ask(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        // Signed is each parameter with its value, in order.
        let mut pairs: Vec<String> = query.split('&').filter(|pair| !pair.is_empty()).map(str::to_owned).collect();
        pairs.iter_mut().filter(|pair| !pair.contains('=')).for_each(|pair| pair.push('='));
        pairs.sort();
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let host = self.at.to_string();
        let mut all: Vec<(String, String)> = headers.iter().copied().map(own).collect();
        if !headers.iter().any(|(name, _)| *name == "host") {
            all.push(own(("host", &host)));
        }
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is later than 1970");
        let now = WallTime::from_unix_nanos(u64::try_from(since.as_nanos()).expect("it is before 2554"));
        let signable =
            Signable { method, path, query: &pairs.join("&"), headers: &all, payload: Payload::Signed(body) };
        all.extend(self.signer.sign(&signable, now));
        let lines: String = all.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let query = if query.is_empty() { String::new() } else { format!("?{query}") };
        let head = format!("{method} {path}{query} HTTP/1.1\r\n{lines}content-length: {}\r\n\r\n", body.len());
        let bytes = [head.as_bytes(), body].concat();
        self.stream.get_mut().write_all(&bytes).expect("it is taken");
        let reply = self.read(method);
        if reply.headers.get("connection").is_some_and(|value| value == "close") {
            self.stream = connect(self.at);
        }
        reply
    }

    fn read(&mut self, method: &str) -> Reply {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert!(self.stream.read_line(&mut line).expect("an answer") > 0, "it hangs up");
            if line == "\r\n" {
                break;
            }
            lines.push(line.trim_end().to_owned());
        }
        let status = lines[0].split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let split = |line: &String| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        let headers: BTreeMap<String, String> = lines[1..].iter().filter_map(split).collect();
        let mut body = Vec::new();
        if headers.get("transfer-encoding").is_some_and(|value| value == "chunked") {
            while let length @ 1.. = self.length() {
                self.take(length, &mut body);
                self.length();
            }
            self.length();
        } else if method != "HEAD" {
            let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            self.take(length, &mut body);
        }
        Reply { status, headers, body }
    }

    /// The length of the next chunk of a body; 0 for an empty line, too.
    fn length(&mut self) -> u64 {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a line");
        u64::from_str_radix(line.trim_end(), 16).unwrap_or(0)
    }

    fn take(&mut self, length: u64, body: &mut Vec<u8>) {
        let taken = self.stream.by_ref().take(length).read_to_end(body).expect("all of it");
        assert_eq!(taken as u64, length, "it hangs up");
    }

    pub fn get(&mut self, target: &str) -> Reply {
        self.ask("GET", target, &[], b"")
    }

    #[track_caller]
    pub fn put(&mut self, target: &str, body: impl AsRef<[u8]>) -> Reply {
        self.ask("PUT", target, &[], body.as_ref()).good()
    }

    #[track_caller]
    pub fn post(&mut self, target: &str, body: impl AsRef<[u8]>) -> Reply {
        self.ask("POST", target, &[], body.as_ref()).good()
    }

    #[track_caller]
    pub fn delete(&mut self, target: &str) -> Reply {
        self.ask("DELETE", target, &[], b"").good()
    }
}
