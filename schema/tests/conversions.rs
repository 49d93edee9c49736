//! What is written is read back, and what breaks a limit is refused with the field and the reason.

mod samples;

use bytes::Bytes;
use cairn_schema::*;

use samples::{Visitor, content};

struct RoundTrip(usize);

impl Visitor for RoundTrip {
    fn visit<T: Wire + PartialEq + std::fmt::Debug>(&mut self, name: &str, value: T) {
        let back: T = decode(&encode(&value)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(back, value, "{name}");
        self.0 += 1;
    }
}

#[test]
fn what_is_written_is_read_back() {
    let mut seen = RoundTrip(0);
    samples::visit(&mut seen);
    assert!(seen.0 > 30, "{} samples", seen.0);
}

fn refusal<T: Wire + std::fmt::Debug>(value: &T) -> Malformed {
    decode::<T>(&encode(value)).expect_err("it breaks a limit")
}

fn commit(change: impl FnOnce(&mut Commit)) -> CommitRequest {
    let payload = Payload::Inline(Bytes::from_static(b"x"));
    let mut commit = Commit { key: "k".to_owned(), content: content(payload), ..Commit::default() };
    change(&mut commit);
    CommitRequest {
        commits: vec![Commit { key: "fine".to_owned(), ..Commit::default() }, commit],
        ..Default::default()
    }
}

type Spoil<'a> = Box<dyn FnOnce(&mut Commit) + 'a>;

#[test]
fn a_limit_is_refused_with_its_field() {
    let long = "x".repeat(limits::TEXT_BYTES_MAX + 1);
    let half = Pair { name: "n".to_owned(), value: "x".repeat(limits::TEXT_BYTES_MAX / 2) };
    let chunk = Chunk { name: [1; 32], size: 1 };
    let cases: Vec<(&str, &str, Spoil)> = vec![
        ("commits[1].key", "empty", Box::new(|commit| commit.key.clear())),
        ("commits[1].key", "1025 bytes", Box::new(|commit| commit.key = "k".repeat(limits::KEY_BYTES_MAX + 1))),
        ("commits[1].mode.derive", "at least 1", Box::new(|commit| commit.mode = CommitMode::Derive(vec![]))),
        ("commits[1].mode.merge", "at least 2", {
            Box::new(|commit| commit.mode = CommitMode::Merge(vec![VersionId(1)]))
        }),
        ("commits[1].mode.conditional", "no condition", {
            Box::new(|commit| commit.mode = CommitMode::Conditional(vec![]))
        }),
        ("commits[1].content.etag", "16385 bytes", Box::new(|commit| commit.content.etag.clone_from(&long))),
        ("commits[1].content.size", "1 bytes", Box::new(|commit| commit.content.size = 2)),
        ("commits[1].content.payload.inline", "4097 bytes", {
            Box::new(|commit| commit.content = content(Payload::Inline(vec![0; limits::INLINE_BYTES_MAX + 1].into())))
        }),
        ("commits[1].content.payload.chunks", "4097 elements", {
            Box::new(|commit| commit.content = content(Payload::Chunks(vec![chunk; limits::CHUNKS_MAX + 1])))
        }),
        ("commits[1].content", "nothing but its kind", Box::new(|commit| commit.content.kind = VersionKind::Tombstone)),
        ("commits[1].content", "together", {
            Box::new(|commit| (commit.content.tags, commit.content.headers) = (vec![half.clone()], vec![half.clone()]))
        }),
        ("commits[1].mode.import.context[0].beyond", "rising", {
            let context = vec![Seen { writer: 1, up_to: 5, beyond: vec![5] }];
            Box::new(|commit| commit.mode = CommitMode::Import(Import { context, ..Import::default() }))
        }),
        ("commits[1].content", "only completing", {
            Box::new(|commit| commit.content.payload = Payload::Parts(VersionId(1)))
        }),
    ];
    for (field, reason, spoil) in cases {
        let refused = refusal(&commit(spoil));
        assert_eq!(refused.field, field, "{refused}");
        assert!(refused.reason.contains(reason), "{refused}");
    }
}

#[test]
fn numbers_of_things_are_limited() {
    let commits = vec![Commit { key: "k".to_owned(), ..Commit::default() }; limits::COMMITS_MAX + 1];
    assert_eq!(refusal(&CommitRequest { commits, ..CommitRequest::default() }).field, "commits");
    assert_eq!(refusal(&CommitRequest::default()).field, "commits");
    let page = ListRequest { page_size: 1001, ..ListRequest::default() };
    assert_eq!(refusal(&page).field, "pageSize");
    assert_eq!(decode::<ListRequest>(&encode(&ListRequest::default())).map(|list| list.page_size), Ok(1000));
    let batch = RaftRequest { data: vec![0; limits::DATA_BYTES_MAX + 1].into(), ..RaftRequest::default() };
    assert_eq!(refusal(&batch).field, "data");
    let part = SnapshotRequest { offset: u64::MAX, data: Bytes::from_static(b"x"), ..SnapshotRequest::default() };
    assert_eq!(refusal(&part).field, "offset");
}

/// What a later version of the schema may send.
#[test]
fn what_a_newer_node_says_is_understood_as_far_as_it_goes() {
    let mut message = capnp::message::Builder::new_default();
    let mut form = message.init_root::<cairn_schema::cairn_capnp::error::Builder<'_>>();
    form.set_message("new");
    form.reborrow().init_advice().set_retry_here(7);
    let mut bytes = capnp::serialize::write_message_to_words(&message);
    // The first word behind the frame and the root pointer holds kind, outcome and the advice's discriminant.
    let data = 16;
    assert_eq!(bytes[data..data + 6], [0, 0, 0, 0, 1, 0], "internal, nothing done, retryHere");
    bytes[data..data + 2].copy_from_slice(&999_u16.to_le_bytes());
    let error: Error = decode(&bytes).expect("an unknown kind is no reason to lose the advice");
    assert_eq!((error.kind, error.advice), (ErrorKind::Internal, Advice::RetryHere(7)));
    bytes[data + 4..data + 6].copy_from_slice(&999_u16.to_le_bytes());
    let error: Error = decode(&bytes).expect("nor is unknown advice");
    assert_eq!(error.advice, Advice::Stop);
}

#[test]
fn a_newer_request_is_unsupported_and_not_wrong() {
    let mut bytes = encode(&HelloRequest { protocol_min: 1, protocol_max: 1, ..HelloRequest::default() });
    let protocols = bytes.windows(4).position(|bytes| bytes == [1, 0, 1, 0]).expect("both protocols");
    bytes[protocols + 4..protocols + 6].copy_from_slice(&77_u16.to_le_bytes());
    let error = Error::from(decode::<HelloRequest>(&bytes).expect_err("there is no role 77"));
    assert_eq!((error.kind, error.field.as_str()), (ErrorKind::Unsupported, "role"), "{error}");
    assert!(error.message.contains("77"), "{error}");
}

#[test]
fn protocols_are_negotiated_or_the_older_side_is_named() {
    let hello = |protocol_min, protocol_max| HelloRequest { protocol_min, protocol_max, ..HelloRequest::default() };
    assert_eq!(hello(1, 1).negotiate(), Ok(1));
    assert_eq!(hello(0, 9).negotiate(), Ok(1));
    let error = hello(2, 3).negotiate().expect_err("too new");
    assert_eq!((error.kind, &error.advice), (ErrorKind::Incompatible, &Advice::FixInput));
    assert!(error.message.contains("2 to 3") && error.message.ends_with("upgrade the node"), "{error}");
    assert!(hello(0, 0).negotiate().expect_err("too old").message.ends_with("upgrade the caller"));
    assert_eq!(hello(2, 1).negotiate().expect_err("nonsense").field, "protocolMin");
}

#[test]
fn an_error_with_a_long_quote_still_travels() {
    let error = Error::fix_input(ErrorKind::BadInput, "ä".repeat(limits::TEXT_BYTES_MAX));
    let back: Error = decode(&encode(&error)).expect("cut, at a character");
    assert_eq!(back.message.len(), limits::TEXT_BYTES_MAX);
}
