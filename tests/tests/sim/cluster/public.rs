//! The same requests as a user's program makes them: by the public services of RPC, with an access key.

use cairn_daemon::rpc::{Backoff, Credential, Identity, Limits, Pool};
use cairn_schema::{
    Ack, Commit, CommitMode, CommitRequest, Condition, Content, EntryKind, Error, ErrorKind, ListRequest, Payload,
    ReadRequest, ReadResult, VersionKind,
};

use super::client::Request;
use super::node::{ACCESS, CLUSTER, SECRET, key_name, rpc_address};
use super::{Books, KEYS, below, millis, small};

/// What reaches each node by RPC in the name of the user.
pub fn pool(books: &Books) -> Pool {
    let credential = Credential::Key { access: ACCESS.to_owned(), secret: SECRET.to_owned() };
    let identity = Identity::new(CLUSTER.to_be_bytes(), 0, credential);
    let pool = Pool::new(identity, Limits::default(), Backoff { first: millis(10), max: millis(100) });
    (0..books.replicas).for_each(|node| pool.set(node as u64 + 1, rpc_address(node)));
    pool
}

/// Asks some node once; `None`: again.
pub async fn ask(books: &Books, pool: &Pool, request: Request) -> Option<Vec<u8>> {
    let (what, key, one, other, token) = request;
    let bucket = books.bucket()?;
    let peer = pool.peer(1 + below(books.replicas as u64)).expect("each was set");
    let within = millis(2_500);
    let key = key_name(key);
    let said = match what {
        b'g' => {
            let request = ReadRequest { bucket, key, ..ReadRequest::default() };
            match peer.read(request, within).await {
                // Nobody leads: what the node has may be old.
                Ok(found) if !is_from_leader(&found) => return None,
                found => found.map(|found| value(&found).to_le_bytes().to_vec()),
            }
        }
        b'l' => list(&peer, bucket, one).await,
        _ => {
            let (mode, content) = match what {
                b'p' => (CommitMode::Overwrite, content(one)),
                b'd' => (CommitMode::Overwrite, Content { kind: VersionKind::Tombstone, ..Content::default() }),
                b'n' => (CommitMode::Conditional(vec![Condition::Absent]), content(one)),
                _ => (CommitMode::Conditional(vec![Condition::EtagIn(vec![one.to_string()])]), content(other)),
            };
            let ack = if below(6) == 0 { Ack::All } else { Ack::Unset };
            let commit = Commit { bucket, key, idempotency: Some(token.to_le_bytes()), mode, content, ack };
            let request = CommitRequest { commits: vec![commit], ..CommitRequest::default() };
            let answer = peer.commit(request, within).await.and_then(|mut each| each.pop().expect("one for each"));
            match answer {
                Ok(_) => Ok(1_u64.to_le_bytes().to_vec()),
                Err(error) if error.kind == ErrorKind::PreconditionFailed => Ok(0_u64.to_le_bytes().to_vec()),
                Err(error) => Err(error),
            }
        }
    };
    said.map_err(|error| check(&error)).ok()
}

/// Whatever the weather, nobody is told that the request is wrong.
fn check(error: &Error) {
    let is_wrong = matches!(error.kind, ErrorKind::BadInput | ErrorKind::Unsupported | ErrorKind::TooLarge);
    assert!(!is_wrong, "a right request is refused: {error:?}");
}

fn content(value: u64) -> Content {
    let bytes = value.to_le_bytes().repeat(20);
    Content { size: 160, etag: value.to_string(), payload: Payload::Inline(bytes.into()), ..Content::default() }
}

fn is_from_leader(found: &ReadResult) -> bool {
    match found {
        ReadResult::Found { from_leader, .. } | ReadResult::Absent { from_leader, .. } => *from_leader,
    }
}

fn value(found: &ReadResult) -> u64 {
    match found {
        ReadResult::Found { version, .. } => version.content.etag.parse().expect("a number"),
        ReadResult::Absent { .. } => 0,
    }
}

/// The values of all keys, by pages of so many.
async fn list(peer: &cairn_daemon::rpc::Peer, bucket: u64, limit: u64) -> Result<Vec<u8>, Error> {
    let (mut values, mut cursor) = (vec![0_u64; small(KEYS)], vec![]);
    let page_size = u32::try_from(limit).unwrap_or(1);
    loop {
        let page =
            peer.list(ListRequest { bucket, cursor, page_size, ..ListRequest::default() }, millis(2_500)).await?;
        for entry in page.entries {
            let EntryKind::Version(version) = entry.kind else { panic!("there is no delimiter") };
            let key: usize = entry.key.trim_start_matches("key-").parse().expect("a number");
            values[key] = version.content.etag.parse().expect("a number");
        }
        cursor = page.cursor;
        if cursor.is_empty() {
            return Ok(values.into_iter().flat_map(u64::to_le_bytes).collect());
        }
    }
}
