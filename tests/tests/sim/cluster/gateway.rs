//! S3 programs: each asks the gateway of any core, reads what is answered to its end, and never asks the same again.
//!
//! The value of an object is in its bytes, and in their number, so that a list is a read of every key. Chunks lie on the node
//! that took them: a long body goes to the node that its key has for that, and is asked for there.

use std::net::SocketAddr;

use bytes::Bytes;
use cairn_daemon::http::client::{AskError, Connection, Method, StatusCode};
use cairn_io::time::{Duration, sleep, timeout};
use cairn_meta::slot::list::VersionEntry;
use cairn_meta::version::Kind;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::header::HOST;

use super::client::{self, insist};
use super::history::Ask;
use super::judge::{LOOKS, check_count, versions};
use super::node::{BUCKET, key_name};
use super::{Books, CLIENTS, KEYS, Rc, below, millis, small};

/// Within which an answer must be there.
const WITHIN: Duration = Duration::from_secs(5);
/// How long a client rests that was told that one node alone took its write.
const PROVISIONAL_PAUSE: Duration = Duration::from_millis(700);
/// A long body has more bytes than a version may hold.
const LONG: usize = 8_000;
/// Long bodies of one client: nothing gives the room of chunks back yet.
const LONG_MAX: u32 = 40;

/// Where the gateway of a core answers.
pub fn address(node: usize, core: usize) -> SocketAddr {
    SocketAddr::new(super::client::address(node, 0).ip(), 9000 + u16::try_from(core).expect("a small world"))
}

/// What a client knows of an answer.
struct Answer {
    status: StatusCode,
    etag: String,
    /// Whether it is about what all agree on, as far as that is said.
    is_agreed: bool,
    body: Bytes,
}

/// Bytes that are those of one value only, by their number too.
fn body_of(value: u64) -> Vec<u8> {
    let length = if is_long(value) { LONG + 16 * small(value) } else { 100 + small(value) };
    let mut word = value;
    let words = std::iter::repeat_with(|| {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (word >> 32) as u8
    });
    words.take(length).collect()
}

fn is_long(value: u64) -> bool {
    value.is_multiple_of(3)
}

/// The value that has a body of this length.
fn value_of(length: usize) -> u64 {
    let value = if length >= LONG { (length - LONG) / 16 } else { length.saturating_sub(100) };
    value as u64
}

/// One client.
struct Client<'b> {
    books: &'b Books,
    /// The last ETag it read, and of which value.
    last: (u64, String),
    longs: u32,
}

pub async fn run(books: Rc<Books>, client: usize) {
    let mut one = Client { books: &books, last: (0, String::new()), longs: 0 };
    // The first who comes makes the bucket.
    while insist(&books, (b'b', 0, 0, 0, 0)).await.is_none() {}
    let (mut number, mut calm) = (client as u64 + 1, 0);
    while calm < 8 {
        sleep(millis(below(80))).await;
        calm += u32::from(books.is_storm_over.get());
        if below(8) == 0 {
            one.list().await;
            continue;
        }
        number += CLIENTS as u64;
        if is_long(number) {
            one.longs += 1;
        }
        if one.longs > LONG_MAX && is_long(number) {
            number += CLIENTS as u64;
        }
        let key = below(KEYS);
        match below(10) {
            0..2 => one.write(key, Ask::Put(number)).await,
            2 => one.upload(key, number).await,
            3..6 => one.read(key).await,
            6 => one.write(key, Ask::Delete).await,
            7 => one.write(key, Ask::PutNew(number)).await,
            _ => one.write(key, Ask::Replace(one.last.0, number)).await,
        }
    }
    books.done.set(books.done.get() + 1);
}

/// Reads every key, and the list, once all are done: each must be answered.
pub async fn judge(books: Rc<Books>) {
    while books.done.get() < CLIENTS {
        sleep(millis(50)).await;
    }
    let mut one = Client { books: &books, last: (0, String::new()), longs: 0 };
    let mut missing: Vec<u64> = (0..KEYS).collect();
    for _ in 0..200 {
        let mut left = Vec::new();
        for key in missing {
            let before = books.answered.get();
            one.read(key).await;
            if books.answered.get() == before {
                left.push(key);
            }
        }
        missing = left;
        let before = books.answered.get();
        one.list().await;
        if missing.is_empty() && books.answered.get() > before {
            break;
        }
        sleep(millis(50)).await;
    }
    let (mut seen, pool) = (Err(format!("nobody can read keys {missing:?}")), client::pool(&books, 99));
    for _ in 0..if missing.is_empty() { LOOKS } else { 0 } {
        seen = versions(&books, &pool).await.and_then(|versions| check_versions(&books, &versions));
        let Err(why) = &seen else { break };
        why.clone_into(&mut books.seen.borrow_mut());
        sleep(millis(100)).await;
    }
    books.verdict.borrow_mut().get_or_insert(seen);
}

/// Whether the versions that clients were answered for are there, once, whether it was a majority or one node that took them.
fn check_versions(books: &Books, versions: &[VersionEntry]) -> Result<(), String> {
    let provisional = books.provisional.borrow();
    let taken = provisional.iter().filter(|(_, value)| *value != 0).map(|(key, value)| (*key, *value, Some(1)));
    let (taken, all) = (taken.collect::<Vec<_>>(), books.history.writes());
    let unknown = |write: &&(u64, u64, _)| !taken.iter().any(|taken| (taken.0, taken.1) == (write.0, write.1));
    for (key, value, said) in all.iter().filter(unknown).chain(&taken) {
        let (name, size) = (key_name(*key), body_of(*value).len() as u64);
        let of_value =
            versions.iter().filter(|entry| entry.kind == Kind::Data && entry.key == name && entry.size == size);
        let count = of_value.count();
        check_count(books, (*key, *value, *said), count)?;
    }
    Ok(())
}

impl Client<'_> {
    fn broke(&self, what: String) {
        self.books.verdict.borrow_mut().get_or_insert(Err(what));
    }

    /// A core of any node, or of the one that has the chunks of a key.
    fn place(&self, key: u64, is_home: bool) -> SocketAddr {
        let nodes = self.books.replicas as u64;
        let node = match self.books.preferred.get() {
            Some(preferred) if below(2) == 0 => preferred,
            _ => small(if is_home { key % nodes } else { below(nodes) }),
        };
        address(node, small(below(self.books.cores as u64)))
    }

    async fn read(&mut self, key: u64) {
        let begun = self.books.history.moment();
        // Another node has the version, and not its chunks.
        let to = self.place(key, below(4) > 0);
        let Ok(answer) = ask(to, Method::GET, &path(key), &[], Vec::new()).await else { return };
        let value = match answer.status {
            StatusCode::OK => value_of(answer.body.len()),
            StatusCode::NOT_FOUND => 0,
            _ => return,
        };
        if value != 0 && answer.body != body_of(value) {
            return self.broke(format!("key {key} is read as {} bytes that nobody wrote", answer.body.len()));
        }
        if answer.is_agreed {
            self.last = (value, answer.etag);
            self.heard(begun, key, Ask::Get, Some(value));
        }
    }

    async fn write(&self, key: u64, asked: Ask) {
        let etag = self.last.1.clone();
        let (method, value, headers) = match asked {
            Ask::Put(value) => (Method::PUT, value, vec![]),
            Ask::PutNew(value) => (Method::PUT, value, vec![("if-none-match", "*")]),
            Ask::Replace(0, _) | Ask::Get => return,
            Ask::Replace(_, value) => (Method::PUT, value, vec![("if-match", etag.as_str())]),
            Ask::Delete => (Method::DELETE, 0, vec![]),
        };
        let ack = ack();
        let headers = [headers, vec![("x-cairn-ack", ack)]].concat();
        let body = if value == 0 { Vec::new() } else { body_of(value) };
        let to = self.place(key, is_long(value));
        let begun = self.books.history.moment();
        let said = match ask(to, method, &path(key), &headers, body).await {
            // It takes effect when its slot has it, or stays a branch.
            Ok(answer) if !answer.is_agreed && answer.status.is_success() => {
                if ack == "all" {
                    return self.broke(format!("one node answers for all that it has {value} of key {key}"));
                }
                self.books.was_cut_off.set(self.books.was_cut_off.get() || ack == "quorum");
                self.books.provisional.borrow_mut().push((key, value));
                // Each makes the search for an order longer, as nobody knows whether and when it took effect.
                sleep(PROVISIONAL_PAUSE).await;
                None
            }
            Ok(answer) => match (answer.status, asked) {
                (StatusCode::OK | StatusCode::NO_CONTENT, _) => Some(1),
                (StatusCode::PRECONDITION_FAILED, Ask::PutNew(_) | Ask::Replace(..))
                | (StatusCode::NOT_FOUND, Ask::Replace(..)) => Some(0),
                _ => None,
            },
            Err(AskError::Connect(_)) => return,
            Err(_) => None,
        };
        self.heard(begun, key, asked, said);
    }

    /// An upload of one part: its completion is the write.
    async fn upload(&self, key: u64, value: u64) {
        let (path, to) = (path(key), self.place(key, true));
        let Ok(answer) = ask(to, Method::POST, &format!("{path}?uploads"), &[], Vec::new()).await else { return };
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let Some(id) = between(&text, "<UploadId>", "</UploadId>") else { return };
        let part = format!("{path}?partNumber=1&uploadId={id}");
        let Ok(answer) = ask(to, Method::PUT, &part, &[], body_of(value)).await else { return };
        if answer.status != StatusCode::OK {
            return;
        }
        let parts = format!(
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
            answer.etag
        );
        let begun = self.books.history.moment();
        let to = self.place(key, false);
        let said = match ask(to, Method::POST, &format!("{path}?uploadId={id}"), &[], parts.into_bytes()).await {
            Ok(answer) => {
                let text = String::from_utf8_lossy(&answer.body);
                (answer.status == StatusCode::OK && text.contains("<CompleteMultipartUploadResult")).then_some(1)
            }
            Err(AskError::Connect(_)) => return,
            Err(_) => None,
        };
        self.heard(begun, key, Ask::Put(value), said);
    }

    /// A list is a read of every key.
    async fn list(&self) {
        let (mut values, mut after) = (vec![0; small(KEYS)], String::new());
        let begun = self.books.history.moment();
        loop {
            let path = format!("/{BUCKET}?list-type=2&max-keys={}&start-after={after}", 1 + below(KEYS));
            let Ok(answer) = ask(self.place(0, false), Method::GET, &path, &[], Vec::new()).await else { return };
            if answer.status != StatusCode::OK {
                return;
            }
            let text = String::from_utf8_lossy(&answer.body);
            for entry in text.split("<Contents>").skip(1) {
                let key = between(entry, "<Key>", "</Key>").expect("an entry has a key");
                let length = between(entry, "<Size>", "</Size>").expect("an entry has a size");
                let at: usize = key.trim_start_matches("key-").parse().expect("a number");
                values[at] = value_of(length.parse().expect("a number"));
                key.clone_into(&mut after);
            }
            if between(&text, "<IsTruncated>", "</IsTruncated>") != Some("true") {
                break;
            }
        }
        for (key, value) in (0..KEYS).zip(values) {
            self.heard(begun, key, Ask::Get, Some(value));
        }
    }

    fn heard(&self, begun: i64, key: u64, asked: Ask, said: Option<u64>) {
        self.books.answered.set(self.books.answered.get() + u64::from(said.is_some()));
        self.books.history.end(begun, key, asked, said);
    }
}

/// How many nodes are to have a write: one only now and then, see [`PROVISIONAL_PAUSE`].
fn ack() -> &'static str {
    match below(40) {
        0 => "one",
        1..8 => "all",
        _ => "quorum",
    }
}

fn path(key: u64) -> String {
    format!("/{BUCKET}/{}", key_name(key))
}

fn between<'t>(text: &'t str, from: &str, to: &str) -> Option<&'t str> {
    Some(text.split_once(from)?.1.split_once(to)?.0)
}

/// One request on a connection of its own, and all of its answer.
async fn ask(
    to: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Result<Answer, AskError> {
    let mut request = Request::builder().method(method).uri(path).header(HOST, to.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body))).expect("a request");
    let asking = async {
        let mut connection = Connection::open(to).await?;
        let response = connection.send(request).await?;
        let status = response.status();
        let header =
            |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (etag, state, read) = (header("etag").to_owned(), header("x-cairn-state"), header("x-cairn-read"));
        let is_agreed = state != "provisional" && read != "local";
        let body = response.into_body().collect().await.map_err(|error| AskError::Broken(to, error.into()))?;
        Ok(Answer { status, etag, is_agreed, body: body.to_bytes() })
    };
    timeout(WITHIN, asking).await.unwrap_or(Err(AskError::Late(to, WITHIN)))
}
