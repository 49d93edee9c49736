//! No bytes of a client harm: what a mangled request turns into can be asked, or is refused by name.

use bolero::check;
use cairn_schema::{
    Checksum, Commit, CommitMode, CommitRequest, Condition, Content, Lock, LockMode, Pair, Payload, VersionId, decode,
    encode,
};

use super::words;
use crate::s3::asker::headers;

fn sample() -> CommitRequest {
    let pair = |name: &str| vec![Pair { name: name.to_owned(), value: "value".to_owned() }];
    let content = Content {
        size: 9,
        lock: Lock { mode: LockMode::Governance, until: 1_900_000_000_000, legal_hold: true },
        checksums: vec![Checksum { algorithm: "CRC32".to_owned(), value: "y/Q5Jg==".to_owned() }],
        headers: pair("content-type"),
        metadata: pair("colour"),
        tags: pair("kind"),
        expires: 7,
        payload: Payload::Inline(b"123456789"[..].into()),
        ..Content::default()
    };
    let conditions = vec![Condition::EtagIn(vec!["a".to_owned()]), Condition::Head(VersionId(1))];
    let modes = [
        CommitMode::Overwrite,
        CommitMode::Conditional(conditions),
        CommitMode::Derive(vec![VersionId(1)]),
        CommitMode::Merge(vec![VersionId(1), VersionId(2)]),
    ];
    let commit =
        |mode| Commit { bucket: 3, key: "key".to_owned(), mode, content: content.clone(), ..Commit::default() };
    CommitRequest { commits: modes.map(commit).into(), ..CommitRequest::default() }
}

fn turn(commit: &Commit) -> bool {
    let Ok(bytes) = words::bytes(&commit.content) else { return false };
    let is_mode = words::mode(&commit.mode).is_ok();
    let is_etag = words::etag(&commit.content, &bytes).is_ok_and(|etag| !etag.is_empty() && !etag.contains('"'));
    let are_sums = words::checksums(&commit.content, &bytes).is_ok();
    is_mode && is_etag && are_sums && headers(&words::stated(&commit.content)).is_ok()
}

#[test]
fn mangled_commits_are_refused_or_make_sense() {
    let bytes = encode(&sample());
    assert!(sample().commits.iter().all(turn), "the sample itself is fine");
    check!().for_each(|changes: &[u8]| {
        let mut bytes = bytes.clone();
        for change in changes.chunks_exact(3) {
            let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
            bytes[at] = change[2];
        }
        if let Ok(request) = decode::<CommitRequest>(&bytes) {
            let _ = request.commits.iter().filter(|commit| turn(commit)).count();
        }
    });
}

#[test]
fn cursors_are_read_back_or_refused() {
    check!().for_each(|bytes: &[u8]| {
        if let Some(position) = words::position(bytes) {
            assert_eq!(words::position(&words::cursor(&position)), Some(position));
        }
    });
}
