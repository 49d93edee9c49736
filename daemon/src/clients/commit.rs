//! Commits: each for itself, those of one key in their order.

use std::collections::BTreeMap;

use cairn_io::time::{Duration, sleep};
use cairn_meta::control::bucket::Offline;
use cairn_meta::slot::command::{Body, Place, Refusal, Token, Write};
use cairn_schema::{Answer, Commit, Committed, Error, VersionKind};
use futures_util::{StreamExt, stream};

use super::error::{defect, of_cluster, of_s3, of_slot};
use super::{Clients, words};
use crate::cluster::{ClusterError, Terms, new_token, new_version};
use crate::s3::asker::Asker;
use crate::s3::call::Bucket;

/// Keys of one request that are worked on at a time.
const AT_ONCE: usize = 64;
/// Before a commit is made again with later settings of its bucket.
const AGAIN_AFTER: Duration = Duration::from_millis(5);

impl Clients {
    /// Commits all of them; each has an answer.
    pub(super) async fn commit_all(&self, asker: &Asker, commits: &[Commit]) -> Vec<Answer<Committed>> {
        let mut of_keys: BTreeMap<(u64, &str), Vec<usize>> = BTreeMap::new();
        for (at, commit) in commits.iter().enumerate() {
            of_keys.entry((commit.bucket, &commit.key)).or_default().push(at);
        }
        let in_order = |places: Vec<usize>| async move {
            let mut done = Vec::with_capacity(places.len());
            for at in places {
                let answer = self.commit_one(asker, &commits[at]).await;
                done.push((at, answer.map_err(|error| place(at, error))));
            }
            done
        };
        let done: Vec<_> = stream::iter(of_keys.into_values().map(in_order)).buffer_unordered(AT_ONCE).collect().await;
        let done: BTreeMap<usize, _> = done.into_iter().flatten().collect();
        done.into_values().collect()
    }

    /// Until the slot knows no later settings of the bucket than this node: the caller's deadline ends it.
    async fn commit_one(&self, asker: &Asker, commit: &Commit) -> Answer<Committed> {
        for turn in 0_u64.. {
            // With the settings of now, so that what they lock or forbid is locked or forbidden.
            let bucket = self.bucket(commit.bucket).await?;
            let (mode, body) = (words::mode(&commit.mode)?, body(asker, &bucket, commit)?);
            let (id, place) = (new_version(), Place { bucket: bucket.record().stamp(), key: commit.key.clone() });
            let write = Write { place, id, mode, body };
            let settings = &bucket.record().settings;
            let ack = words::ack(commit.ack).unwrap_or(settings.ack);
            let (token, offline) = match commit.idempotency {
                // Whoever repeats it elsewhere must be told what became of it: so no node takes it on its own.
                Some(intent) => (token(asker, commit, intent, turn), Offline::Reject),
                None => (new_token(), settings.offline),
            };
            match self.cluster.commit(Terms { ack, offline }, Some(token), write).await {
                Err(ClusterError::Refused(Refusal::StaleBucket { .. })) => {}
                done => return done.map(|done| words::committed(&done, id)).map_err(of_cluster),
            }
            sleep(AGAIN_AFTER).await;
            self.cluster.catch_up().await.map_err(of_cluster)?;
        }
        Err(defect())
    }
}

/// Says which of the commits it is.
fn place(at: usize, error: Error) -> Error {
    let dot = if error.field.is_empty() { "" } else { "." };
    Error { field: format!("commits[{at}]{dot}{}", error.field), ..error }
}

/// What a commit makes, if the user may.
fn body(asker: &Asker, bucket: &Bucket, commit: &Commit) -> Answer<Body> {
    if commit.content.kind != VersionKind::Data {
        asker.delete(bucket, &commit.key).map_err(|error| of_s3(&error))?;
        return Ok(Body::Deletion);
    }
    let stated = &commit.content;
    let bytes = words::bytes(stated)?;
    let mut content = asker.write(bucket, &commit.key, &words::stated(stated)).map_err(|error| of_s3(&error))?;
    content.size = bytes.len() as u64;
    content.etag = words::etag(stated, &bytes)?;
    content.checksums = words::checksums(stated, &bytes)?;
    content.expires = (stated.expires != 0).then_some(stated.expires);
    content.payload = cairn_meta::version::Payload::Inline(bytes);
    content.check().map_err(|bad| of_slot(&bad.into()))?;
    Ok(Body::Object(content))
}

/// The name of an intent, for its slot: nobody else's, of this key only. What was refused for older settings stays refused for its
/// token, so each turn has its own; a repetition takes the same turns and finds what became of the last.
fn token(asker: &Asker, commit: &Commit, intent: [u8; 16], turn: u64) -> Token {
    named_token(&[asker.user().as_bytes(), &commit.bucket.to_le_bytes(), commit.key.as_bytes(), &intent], turn)
}

/// A token made of these pieces and a turn. Its first bit is set: it isn't one of those that begin with the time.
pub fn named_token(pieces: &[&[u8]], turn: u64) -> Token {
    let mut hasher = blake3::Hasher::new_derive_key("cairn 2026 idempotency of clients");
    for piece in pieces {
        hasher.update(&(piece.len() as u64).to_le_bytes()).update(piece);
    }
    hasher.update(&turn.to_le_bytes());
    let hash = hasher.finalize();
    let (first, _) = hash.as_bytes().split_first_chunk().expect("32 bytes have 16");
    Token(u128::from_le_bytes(*first) | 1 << 127)
}

#[test]
fn tokens_differ_by_all_that_they_are_made_of() {
    let tokens = [
        named_token(&[b"ann", b"k"], 0),
        named_token(&[b"ann", b"k"], 1),
        named_token(&[b"an", b"nk"], 0),
        named_token(&[b"annk", b""], 0),
    ];
    assert!((1..4).all(|at| !tokens[..at].contains(&tokens[at])));
    assert_eq!(named_token(&[b"ann", b"k"], 1), tokens[1]);
}
