//! One well-formed value of each kind on the wire, with every field filled in, and something to do with each.

use bytes::Bytes;
use cairn_schema::*;

/// Does one thing with a value of any type, and with bytes that claim to be one.
pub trait Visitor {
    /// A whole value.
    fn visit<T: Wire + PartialEq + std::fmt::Debug>(&mut self, name: &str, value: T);
}

fn pairs(what: &str) -> Vec<Pair> {
    vec![Pair { name: format!("{what}-name"), value: "värde".to_owned() }, Pair::default()]
}

fn ids() -> Vec<VersionId> {
    vec![VersionId(1), VersionId(u128::MAX), VersionId(1 << 64)]
}

fn dots() -> Vec<Dot> {
    vec![Dot { writer: 1, counter: u64::MAX }, Dot { writer: u128::MAX, counter: 1 }]
}

fn context() -> Vec<Seen> {
    vec![Seen { writer: 1, up_to: 5, beyond: vec![7, u64::MAX] }, Seen { writer: u128::MAX, up_to: 0, beyond: vec![] }]
}

pub fn content(payload: Payload) -> Content {
    let size = match &payload {
        Payload::None | Payload::Parts(_) => 0,
        Payload::Inline(bytes) => bytes.len() as u64,
        Payload::Chunks(chunks) => chunks.iter().map(|chunk| u64::from(chunk.size)).sum(),
    };
    Content {
        kind: VersionKind::Data,
        size,
        lock: Lock { mode: LockMode::Compliance, until: 9, legal_hold: true },
        etag: "d41d8cd98f00b204e9800998ecf8427e-2".to_owned(),
        checksums: vec![Checksum { algorithm: "CRC32".to_owned(), value: "AAAAAA==-2".to_owned() }],
        headers: pairs("header"),
        metadata: pairs("metadata"),
        tags: pairs("tag"),
        expires: u64::MAX,
        payload,
    }
}

fn chunks() -> Payload {
    Payload::Chunks(vec![Chunk { name: [3; 32], size: u32::MAX }, Chunk { name: [4; 32], size: 5 }])
}

fn version() -> Version {
    let state = VersionState::Provisional;
    let content = content(Payload::Parts(VersionId(4)));
    let (modified, is_null, is_head) = (8, true, true);
    Version {
        id: VersionId(9),
        parents: ids(),
        dot: dots()[0],
        context: context(),
        state,
        content,
        modified,
        is_null,
        is_head,
    }
}

fn commit(mode: CommitMode, content: Content) -> Commit {
    Commit { bucket: 8, key: "a/\0ÿ".to_owned(), idempotency: Some([6; 16]), mode, content, ack: Ack::All }
}

fn errors() -> Vec<Error> {
    let node = NodeRef { node: 4, address: "[::1]:7000".to_owned() };
    let advices =
        [Advice::Stop, Advice::RetryHere(5), Advice::GoTo(node), Advice::FixInput, Advice::TryElsewhere(u32::MAX)];
    let error = |advice| Error {
        kind: ErrorKind::TooLarge,
        message: "too large; ask for less".to_owned(),
        field: "pageSize".to_owned(),
        outcome: Outcome::Unknown,
        advice,
    };
    advices.map(error).into()
}

/// Shows every sample to the visitor.
#[allow(clippy::too_many_lines, reason = "a list")]
pub fn visit(visitor: &mut impl Visitor) {
    let call = CallInfo { deadline_ms: 30_000, hops: 2, trace: u64::MAX };
    let hello = HelloRequest {
        protocol_min: 1,
        protocol_max: 2,
        cluster: Some([1; 16]),
        role: Role::Peer,
        node: 2,
        expect: 3,
        software: "test 1.0".to_owned(),
        key: "CAIRN1".to_owned(),
        proof: Some([4; 32]),
    };
    visitor.visit("hello", hello);
    visitor.visit("hello of a stranger", HelloRequest::default());
    let terms = Terms {
        protocol: 1,
        cluster: [1; 16],
        node: 2,
        software: "cairn".to_owned(),
        calls_max: 3,
        bytes_max: 4,
        idle_ms: 5,
    };
    visitor.visit("terms", terms);
    for error in errors() {
        visitor.visit("error", error);
    }
    let import =
        Import { id: VersionId(5), parents: ids(), dot: dots()[1], context: context(), modified: 3, is_null: true };
    let conditions = vec![
        Condition::Absent,
        Condition::Exists,
        Condition::EtagIn(vec!["a".to_owned(), String::new()]),
        Condition::EtagNotIn(vec!["b".to_owned()]),
        Condition::Head(VersionId(6)),
    ];
    let tombstone = Content { kind: VersionKind::Tombstone, ..Content::default() };
    let commits = vec![
        commit(CommitMode::Overwrite, content(Payload::Inline(Bytes::from_static(b"bytes")))),
        commit(CommitMode::Derive(ids()), content(chunks())),
        commit(CommitMode::Conditional(conditions), content(Payload::None)),
        commit(CommitMode::Merge(ids()), tombstone),
        commit(CommitMode::Import(import), content(chunks())),
    ];
    visitor.visit("commits", CommitRequest { call, commits });
    let committed = Committed {
        version: VersionId(7),
        state: VersionState::Provisional,
        effect: Effect::Branch,
        is_repeated: true,
        heads: 2,
    };
    visitor.visit("committed", Answer::<_>::Ok(vec![Ok(committed), Err(errors().remove(2))]));
    visitor.visit("not committed", Answer::<Vec<Answer<Committed>>>::Err(errors().remove(1)));
    let modes = [
        ReadMode::Preferred,
        ReadMode::ConfirmedOnly,
        ReadMode::ProvisionalAllowed,
        ReadMode::Version(VersionId(8)),
        ReadMode::At(u64::MAX),
        ReadMode::Null,
    ];
    for mode in modes {
        visitor.visit("read", ReadRequest { call, bucket: 1, key: "k".to_owned(), mode });
    }
    let found = ReadResult::Found { version: Box::new(version()), heads: ids(), from_leader: true };
    visitor.visit("found", Answer::Ok(found));
    visitor.visit("absent", Answer::Ok(ReadResult::Absent { marker: VersionId(2), from_leader: true }));
    visitor.visit("unread", Answer::<ReadResult>::Err(errors().remove(0)));
    for scope in [Scope::Bucket, Scope::Slot(3)] {
        let list = ListRequest {
            call,
            bucket: 3,
            what: Listing::Versions,
            prefix: "p".to_owned(),
            delimiter: "/".to_owned(),
            start_after: "p/a".to_owned(),
            cursor: vec![0; 100],
            page_size: 1000,
            scope,
        };
        visitor.visit("list", list);
    }
    let entry = |kind| Entry { key: "p/".to_owned(), kind };
    let entries = vec![
        entry(EntryKind::Prefix),
        entry(EntryKind::Version(Box::new(version()))),
        entry(EntryKind::Upload { id: VersionId(3), initiated: 9 }),
        entry(EntryKind::Conflict(2)),
    ];
    visitor.visit("page", Answer::Ok(Page { entries, cursor: vec![1] }));
    visitor.visit("slot", SlotRequest { call, slot: 255, data: Bytes::from_static(b"command") });
    visitor.visit("raft", RaftRequest { call, data: Bytes::from_static(b"messages") });
    visitor.visit("raft answer", Answer::Ok(Bytes::from_static(b"answers")));
    let part = SnapshotRequest {
        call,
        transfer: [5; 16],
        group: CONTROL_GROUP,
        offset: 1 << 40,
        data: Bytes::from_static(b"part"),
        is_last: true,
        header: Bytes::from_static(b"of what"),
    };
    visitor.visit("snapshot", part);
    visitor.visit("received", Answer::Ok(SnapshotProgress::Received(7)));
    visitor.visit("done", Answer::Ok(SnapshotProgress::Done(Bytes::from_static(b"ok"))));
    visitor.visit("map", MapRequest { call, have: 5 });
    let bucket =
        Bucket { id: 1, name: "b".to_owned(), policy: "p".to_owned(), offline: Offline::Reject, ack: Ack::One };
    let address = NodeRef { node: 1, address: "10.0.0.1:7000".to_owned() };
    let map = ClusterMap {
        epoch: 2,
        cluster: [1; 16],
        placement: "partitions = 4096".to_owned(),
        addresses: vec![address.clone()],
        buckets: vec![bucket.clone()],
    };
    visitor.visit("new map", Answer::Ok(MapUpdate::Map(Box::new(map))));
    visitor.visit("old map", Answer::Ok(MapUpdate::Unchanged(2)));
    let changes = [
        Change::CreateBucket(bucket.clone()),
        Change::UpdateBucket(bucket),
        Change::RemoveBucket(3),
        Change::SetPlacement("slots = 4".to_owned()),
        Change::SetAddress(address),
    ];
    for change in changes {
        visitor.visit("propose", ProposeRequest { call, idempotency: Some([2; 16]), epoch: 4, change });
    }
    visitor.visit("applied", Answer::Ok(Applied { epoch: 5, bucket: 6 }));
}
