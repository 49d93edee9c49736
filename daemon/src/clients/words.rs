//! Between the wire's words and those of the state machines.

use cairn_meta::control::bucket::Ack;
use cairn_meta::slot::list::{ConflictEntry, ObjectEntry, Position, Sub, UploadEntry, VersionEntry, Within};
use cairn_meta::version::commit::{Condition as Must, Mode, Row};
use cairn_meta::version::{self as meta, Kind, LockMode as Strictness, Retention, State};
use cairn_schema as wire;
use cairn_schema::{Answer, Error, ErrorKind};

use super::error::{bad_input, in_field};
use crate::cluster::Commit;
use crate::s3::access::ACL_HEADER;
use crate::s3::asker::Stated;
use crate::s3::hash::{Algorithm, Md5Hasher, base64, checksum, hex, kept};

/// How a commit finds its parents.
pub fn mode(mode: &wire::CommitMode) -> Answer<Mode> {
    Ok(match mode {
        wire::CommitMode::Overwrite => Mode::Overwrite,
        wire::CommitMode::Derive(parents) => Mode::Derive(parents.iter().map(id).collect()),
        wire::CommitMode::Conditional(conditions) => Mode::Conditional(conditions.iter().map(condition).collect()),
        wire::CommitMode::Merge(parents) => Mode::Merge(parents.iter().map(id).collect()),
        wire::CommitMode::Import(_) => {
            let message = "versions that were made elsewhere are brought in by nodes only";
            return Err(in_field("mode.import", Error::fix_input(ErrorKind::Unsupported, message)));
        }
    })
}

fn id(id: &wire::VersionId) -> meta::VersionId {
    meta::VersionId(id.0)
}

/// A version's name on the wire.
pub fn wire_id(id: meta::VersionId) -> wire::VersionId {
    wire::VersionId(id.0)
}

fn condition(condition: &wire::Condition) -> Must {
    match condition {
        wire::Condition::Absent => Must::Absent,
        wire::Condition::Exists => Must::Exists,
        wire::Condition::EtagIn(etags) => Must::Etag(etags.clone()),
        wire::Condition::EtagNotIn(etags) => Must::NotEtag(etags.clone()),
        wire::Condition::Head(head) => Must::Head((head.0 != 0).then(|| id(head))),
    }
}

/// When a commit is answered, if that is said.
pub fn ack(ack: wire::Ack) -> Option<Ack> {
    match ack {
        wire::Ack::Unset => None,
        wire::Ack::One => Some(Ack::One),
        wire::Ack::Quorum => Some(Ack::Quorum),
        wire::Ack::All => Some(Ack::All),
    }
}

/// The same on the wire.
pub fn wire_ack(ack: Ack) -> wire::Ack {
    match ack {
        Ack::One => wire::Ack::One,
        Ack::Quorum => wire::Ack::Quorum,
        Ack::All => wire::Ack::All,
    }
}

/// What a writer says of its object, without the bytes.
pub fn stated(content: &wire::Content) -> Stated {
    let retention = |mode| Some(Retention { mode, until: content.lock.until });
    let retention = match content.lock.mode {
        wire::LockMode::None => None,
        wire::LockMode::Governance => retention(Strictness::Governance),
        wire::LockMode::Compliance => retention(Strictness::Compliance),
    };
    Stated {
        headers: pairs(&content.headers),
        metadata: pairs(&content.metadata),
        tags: pairs(&content.tags),
        lock: meta::Lock { retention, legal_hold: content.lock.legal_hold },
    }
}

fn pairs(pairs: &[wire::Pair]) -> Vec<meta::Pair> {
    pairs.iter().map(|pair| (pair.name.clone(), pair.value.clone())).collect()
}

/// The bytes of a commit.
pub fn bytes(content: &wire::Content) -> Answer<Vec<u8>> {
    match &content.payload {
        wire::Payload::None => Ok(vec![]),
        wire::Payload::Inline(bytes) => Ok(bytes.to_vec()),
        wire::Payload::Chunks(_) | wire::Payload::Parts(_) => {
            let message = "chunks can't be sent by RPC yet, so none can be named: more than 4096 bytes are put over S3";
            Err(in_field("content.payload", Error::fix_input(ErrorKind::Unsupported, message)))
        }
    }
}

/// The ETag of an object: as its writer says, else as S3 makes one.
pub fn etag(content: &wire::Content, bytes: &[u8]) -> Answer<String> {
    if content.etag.is_empty() {
        let mut md5 = Md5Hasher::default();
        md5.update(bytes);
        return Ok(hex(&md5.finish()));
    }
    if content.etag.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"') {
        return Ok(content.etag.clone());
    }
    Err(bad_input("content.etag", "an ETag has letters, digits and signs of ASCII, without quotes and spaces"))
}

/// Checksums that are those of the bytes.
pub fn checksums(content: &wire::Content, bytes: &[u8]) -> Answer<Vec<meta::Checksum>> {
    let check = |(at, stated): (usize, &wire::Checksum)| {
        let field = format!("content.checksums[{at}]");
        let known = Algorithm::find(&stated.algorithm);
        let algorithm = known.ok_or_else(|| {
            bad_input(&format!("{field}.algorithm"), "unknown: it is CRC32, CRC32C, CRC64NVME, SHA1 or SHA256")
        })?;
        let found = checksum(algorithm, bytes);
        if base64(&found) == stated.value {
            return Ok(kept(algorithm, &found));
        }
        Err(bad_input(&format!("{field}.value"), "the bytes have another checksum: they were damaged on their way"))
    };
    content.checksums.iter().enumerate().map(check).collect()
}

/// What became of a commit, whose version would have been named so had its name been free.
pub fn committed(Commit { committed: done, state, .. }: &Commit, proposed: meta::VersionId) -> wire::Committed {
    let effect = match (done.id, done.row) {
        (None, _) | (_, Row::I1 | Row::I2) => wire::Effect::Nothing,
        (_, Row::D2 | Row::I4) => wire::Effect::Branch,
        _ => wire::Effect::FastForward,
    };
    wire::Committed {
        version: done.id.map(wire_id).unwrap_or_default(),
        state: self::state(*state),
        effect,
        // A version never gets a lesser name than was proposed: that one is of an earlier call.
        is_repeated: done.id.is_some_and(|id| id < proposed),
        heads: done.heads,
    }
}

/// A version as it is shown.
pub fn version(version: &meta::Version) -> wire::Version {
    let writer = |actor: meta::Actor| actor.0;
    let context = version.context.seen().map(|(actor, up_to, beyond)| wire::Seen {
        writer: writer(actor),
        up_to,
        beyond: beyond.collect(),
    });
    wire::Version {
        id: wire_id(version.id),
        parents: version.parents.iter().copied().map(wire_id).collect(),
        dot: wire::Dot { writer: writer(version.dot.actor), counter: version.dot.counter },
        context: context.collect(),
        state: state(version.state),
        content: content(version.kind, &version.content),
        modified: version.modified,
        is_null: version.is_null,
        is_head: version.superseded.is_none(),
    }
}

fn state(state: State) -> wire::VersionState {
    match state {
        State::Confirmed => wire::VersionState::Confirmed,
        State::Provisional => wire::VersionState::Provisional,
    }
}

fn kind(kind: Kind) -> wire::VersionKind {
    match kind {
        Kind::Data => wire::VersionKind::Data,
        Kind::Tombstone => wire::VersionKind::Tombstone,
        Kind::DeleteMarker => wire::VersionKind::DeleteMarker,
    }
}

fn content(kind: Kind, content: &meta::Content) -> wire::Content {
    let pair = |(name, value): &meta::Pair| wire::Pair { name: name.clone(), value: value.clone() };
    let sum = |sum: &meta::Checksum| wire::Checksum { algorithm: sum.algorithm.clone(), value: sum.value.clone() };
    wire::Content {
        kind: self::kind(kind),
        size: content.size,
        lock: lock(content.lock),
        etag: content.etag.clone(),
        checksums: content.checksums.iter().map(sum).collect(),
        // The list of who may do what is shown by S3, to those who may see it.
        headers: content.headers.iter().filter(|(name, _)| name != ACL_HEADER).map(pair).collect(),
        metadata: content.metadata.iter().map(pair).collect(),
        tags: content.tags.iter().map(pair).collect(),
        expires: content.expires.unwrap_or(0),
        payload: payload(&content.payload),
    }
}

fn lock(lock: meta::Lock) -> wire::Lock {
    let mode = match lock.retention.map(|retention| retention.mode) {
        None => wire::LockMode::None,
        Some(Strictness::Governance) => wire::LockMode::Governance,
        Some(Strictness::Compliance) => wire::LockMode::Compliance,
    };
    let until = lock.retention.map_or(0, |retention| retention.until);
    wire::Lock { mode, until, legal_hold: lock.legal_hold }
}

fn payload(payload: &meta::Payload) -> wire::Payload {
    match payload {
        meta::Payload::Inline(bytes) if bytes.is_empty() => wire::Payload::None,
        meta::Payload::Inline(bytes) => wire::Payload::Inline(bytes.clone().into()),
        meta::Payload::Chunks(chunks) => {
            let chunk = |chunk: &meta::Chunk| wire::Chunk { name: chunk.id, size: chunk.length };
            wire::Payload::Chunks(chunks.iter().map(chunk).collect())
        }
        meta::Payload::Parts(upload) => wire::Payload::Parts(wire::VersionId(upload.0)),
    }
}

/// A line of a listing.
pub trait Line {
    /// As the wire has it.
    fn entry(self) -> wire::Entry;
}

fn brief(size: u64, etag: String, kind: Kind) -> wire::Content {
    wire::Content { kind: self::kind(kind), size, etag, ..wire::Content::default() }
}

impl Line for ObjectEntry {
    fn entry(self) -> wire::Entry {
        let Self { key, id, size, etag, modified } = self;
        let content = brief(size, etag, Kind::Data);
        let version = wire::Version { id: wire_id(id), content, modified, is_head: true, ..wire::Version::default() };
        wire::Entry { key, kind: wire::EntryKind::Version(Box::new(version)) }
    }
}

impl Line for VersionEntry {
    fn entry(self) -> wire::Entry {
        let Self { key, id, kind, is_null, is_latest, size, etag, modified } = self;
        let (id, content) = (wire_id(id), brief(size, etag, kind));
        let version = wire::Version { id, content, modified, is_null, is_head: is_latest, ..wire::Version::default() };
        wire::Entry { key, kind: wire::EntryKind::Version(Box::new(version)) }
    }
}

impl Line for UploadEntry {
    fn entry(self) -> wire::Entry {
        let kind = wire::EntryKind::Upload { id: wire::VersionId(self.upload.0), initiated: self.created };
        wire::Entry { key: self.key, kind }
    }
}

impl Line for ConflictEntry {
    fn entry(self) -> wire::Entry {
        wire::Entry { key: self.key, kind: wire::EntryKind::Conflict(self.heads) }
    }
}

const KEY: u8 = 1;
const ALL: u8 = 2;
const ITEM: u8 = 3;

/// How far a list has come, for the client to bring back: what is shown of the name, which item of it, the name.
pub fn cursor(position: &Position) -> Vec<u8> {
    let (tag, item) = match position.within {
        Within::Key => (KEY, Sub(0)),
        Within::All => (ALL, Sub(0)),
        Within::Item(item) => (ITEM, item),
    };
    [&[tag][..], &item.0.to_le_bytes(), position.name.as_bytes()].concat()
}

/// Reads such bytes; `None` if they are none.
pub fn position(cursor: &[u8]) -> Option<Position> {
    let (tag, rest) = cursor.split_first()?;
    let (item, name) = rest.split_first_chunk()?;
    let within = match *tag {
        KEY => Within::Key,
        ALL => Within::All,
        ITEM => Within::Item(Sub(u128::from_le_bytes(*item))),
        _ => return None,
    };
    Some(Position { name: std::str::from_utf8(name).ok()?.to_owned(), within })
}
