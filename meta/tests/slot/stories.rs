//! How others lost data, as far as a slot alone can: each test is named after its story in docs/failures.md.

use cairn_meta::slot::chunks::{Marked, mark, released};
use cairn_meta::slot::command::{
    AbortUpload, Amend, Answer, Body, Change, Command, CompleteUpload, CreateUpload, Erase, Import, Part, PutPart,
    Refusal, Token, Trimmed, Versioning, Which, Write,
};
use cairn_meta::slot::expiry::{Expired, expired};
use cairn_meta::slot::list::{ConflictEntry, Item, Query, conflicts};
use cairn_meta::slot::object::BucketRow;
use cairn_meta::slot::read::Mode as ReadMode;
use cairn_meta::slot::trim;
use cairn_meta::version::commit::{Condition, Mode, Refused, Row};
use cairn_meta::version::{
    Actor, Bypass, Chunk, Conflict, Content, Dot, Hold, Kind, Lock, LockMode, Origin, Payload, Retention, State,
    UploadId, Version, VersionId,
};

use crate::world::{BUCKET, World, chunk, content, object, text};

const UPLOAD: UploadId = UploadId(9);

fn begin(world: &mut World, key: &str) {
    let create = CreateUpload { place: world.place(key), upload: UPLOAD, content: Content::default() };
    assert_eq!(world.apply(Command::CreateUpload(create)), Ok(Answer::Done));
}

fn put_part(world: &mut World, key: &str, number: u16, chunk: Chunk) {
    let etag = format!("p{}", chunk.id[0]);
    let part =
        Part { size: u64::from(chunk.length), etag, modified: world.now, checksums: vec![], chunks: vec![chunk] };
    let put = PutPart { place: world.place(key), upload: UPLOAD, number, part };
    assert_eq!(world.apply(Command::PutPart(put)), Ok(Answer::Done));
}

fn complete(world: &mut World, key: &str, parts: &[(u16, &str)]) -> Result<Answer, Refusal> {
    let parts = parts.iter().map(|(number, etag)| (*number, (*etag).to_owned())).collect();
    let (place, id, mode, etag) = (world.place(key), world.id(), Mode::Overwrite, "whole-2".to_owned());
    let checksums = vec![];
    let complete = CompleteUpload { place, upload: UPLOAD, parts, part_min: 5, id, mode, etag, checksums };
    world.apply(Command::CompleteUpload(complete))
}

fn abort(world: &mut World, key: &str) -> Result<Answer, Refusal> {
    let abort = AbortUpload { place: world.place(key), upload: UPLOAD };
    world.apply(Command::AbortUpload(abort))
}

/// The chunks that the slot needs, by the first byte of their names.
fn needed(world: &World) -> Vec<u8> {
    let (mut found, mut behind) = (Vec::new(), Vec::new());
    while let Marked::More(last) = mark(&world.rows, &behind, 2, &mut |chunk| found.push(chunk.id[0])).unwrap() {
        behind = last;
    }
    found.sort_unstable();
    found
}

/// The chunks that ceased to be needed by something, in that order.
fn let_go(world: &World) -> Vec<u8> {
    let hints = released(&world.rows, 1000).unwrap();
    hints.into_iter().flat_map(|(_, hint)| hint.chunks).map(|chunk| chunk.id[0]).collect()
}

/// Riak before dotted version vectors: every blind write with an old context makes a new branch.
#[test]
fn sibling_explosion() {
    let mut world = World::new(Versioning::Off);
    for number in 0..100 {
        world.put("key", &number.to_string());
    }
    let found = world.read("key", ReadMode::Preferred, &[]).unwrap();
    assert_eq!((found.heads.len(), text(&found.version)), (1, "99".to_owned()));
    // Whoever insists on branches meets the cap, and the object stays readable.
    world.bucket.versioning = Versioning::Enabled;
    let base = found.version.id;
    let mut refused = None;
    for number in 0..100 {
        match world.write("key", Mode::Derive(vec![base]), object(&number.to_string())) {
            Ok(committed) => assert!(committed.heads <= world.bucket.caps.heads),
            Err(refusal) => refused = Some(refusal),
        }
    }
    assert_eq!(refused, Some(Refusal::Commit(Refused::TooManyHeads { max: 32 })));
    assert!(world.get("key").is_some());
    assert_eq!(world.write("key", Mode::Overwrite, object("on")).map(|committed| committed.heads), Ok(32));
    let heads: Vec<VersionId> =
        world.read("key", ReadMode::Preferred, &[]).unwrap().heads.iter().map(|head| head.id).collect();
    assert_eq!(world.write("key", Mode::Merge(heads), object("merged")).map(|committed| committed.heads), Ok(1));
}

/// Ceph PR 60771: an abort races the completion, and the object is listed, but gone.
#[test]
fn abort_racing_complete() {
    for abort_first in [false, true] {
        let mut world = World::new(Versioning::Off);
        begin(&mut world, "key");
        put_part(&mut world, "key", 1, chunk(1, 10));
        put_part(&mut world, "key", 2, chunk(2, 3));
        if abort_first {
            assert_eq!(abort(&mut world, "key"), Ok(Answer::Done));
            assert_eq!(complete(&mut world, "key", &[(1, "p1"), (2, "p2")]), Err(Refusal::NoUpload));
            assert!(world.read("key", ReadMode::Preferred, &[]).is_none());
            assert_eq!((needed(&world), let_go(&world)), (vec![], vec![1, 2]));
        } else {
            assert!(matches!(complete(&mut world, "key", &[(1, "p1"), (2, "p2")]), Ok(Answer::Completed(_))));
            assert_eq!(abort(&mut world, "key"), Err(Refusal::NoUpload));
            let found = world.read("key", ReadMode::Preferred, &[]).unwrap();
            assert_eq!((found.version.content.size, needed(&world)), (13, vec![1, 2]));
            assert_eq!(let_go(&world), Vec::<u8>::new());
        }
        assert_eq!(abort(&mut world, "key"), Err(Refusal::NoUpload));
    }
}

/// Ceph PR 52615: parts that are uploaded again leak.
#[test]
fn reuploaded_parts_leak() {
    let mut world = World::new(Versioning::Off);
    begin(&mut world, "key");
    for (number, name) in [(7, 1), (2, 2), (7, 3), (9, 4)] {
        put_part(&mut world, "key", number, chunk(name, 10));
    }
    assert_eq!(let_go(&world), [1], "the part came again");
    assert_eq!(complete(&mut world, "key", &[(2, "p2"), (7, "p1")]), Err(Refusal::Part(7)), "another one came since");
    assert_eq!(complete(&mut world, "key", &[(7, "p3"), (2, "p2")]), Err(Refusal::PartOrder));
    assert_eq!(complete(&mut world, "key", &[(2, "p2"), (8, "p4")]), Err(Refusal::Part(8)));
    assert!(complete(&mut world, "key", &[(2, "p2"), (7, "p3")]).is_ok());
    assert_eq!((needed(&world), let_go(&world)), (vec![2, 3], vec![1, 4]), "one part was left out");
    assert_eq!(BucketRow::load(&world.rows, BUCKET).unwrap().bytes, 20);
    world.delete("key");
    assert_eq!((needed(&world), let_go(&world)), (vec![], vec![1, 4, 2, 3]), "with the object its parts go");
    let last = released(&world.rows, 1000).unwrap().last().unwrap().0;
    world.apply(Command::ForgetReleased { up_to: last }).unwrap();
    assert_eq!(let_go(&world), Vec::<u8>::new());
}

#[test]
fn a_short_part_may_only_be_the_last() {
    let mut world = World::new(Versioning::Off);
    begin(&mut world, "key");
    put_part(&mut world, "key", 1, chunk(1, 4));
    put_part(&mut world, "key", 2, chunk(2, 4));
    let small = Refusal::PartTooSmall { number: 1, size: 4, min: 5 };
    assert_eq!(complete(&mut world, "key", &[(1, "p1"), (2, "p2")]), Err(small));
    assert!(complete(&mut world, "key", &[(2, "p2")]).is_ok());
}

/// Garage's Jepsen run: a scrambled clock loses a delete. Here clocks decide nothing between versions.
#[test]
fn clock_scramble_decides_nothing() {
    let mut world = World::new(Versioning::Enabled);
    let mut last = VersionId(0);
    for (time, text) in [(1 << 40, "far ahead"), (5, "long ago"), (1 << 30, "now")] {
        world.now = time;
        let id = world.put("key", text).id.unwrap();
        assert_eq!(world.get("key").as_deref(), Some(text), "the last write is seen");
        assert!(id > last, "ids rise whatever the clock says");
        last = id;
    }
    world.now = 1;
    world.delete("key");
    assert_eq!(world.get("key"), None, "a delete with an early clock holds");
    let found = world.read("key", ReadMode::Preferred, &[]).unwrap();
    assert_eq!((found.heads.len(), found.version.parents), (1, vec![last]));
}

/// RustFS 6792, MinIO 9931, 21462: a replica was away during a delete; it returns and the object is back.
#[test]
fn delete_while_a_replica_is_away() {
    let mut world = World::new(Versioning::Off);
    let base = world.put("key", "base").id.unwrap();
    let base = world.read("key", ReadMode::Exact(base), &[]).unwrap().version;
    // A node that is cut off knows the object, changed it before the delete, and has that change imported twice.
    let local = provisional(11, &base, "before");
    let import = |world: &mut World, version: &Version| {
        let import = Import { place: world.place("key"), version: version.clone() };
        world.commit(Command::Import(vec![import])).unwrap()
    };
    assert_eq!(import(&mut world, &local).row, Row::I3);
    world.delete("key");
    assert_eq!(import(&mut world, &local).row, Row::I1, "its marker outlives it");
    assert_eq!(world.get("key"), None);
    // What it changed while it didn't know of the delete is a branch: not lost, not in the delete's place.
    let other = provisional(12, &base, "meanwhile");
    assert_eq!(import(&mut world, &other).row, Row::I4);
    assert_eq!(world.get("key"), None, "the delete is preferred");
    let found = world.read("key", ReadMode::Exact(other.id), &[]).unwrap();
    assert_eq!((text(&found.version).as_str(), found.conflict), ("meanwhile", Conflict::DeletedAndChanged));
}

/// A version that a cut-off node made of another.
fn provisional(id: u128, base: &Version, text: &str) -> Version {
    let mut context = base.context.clone();
    context.add(base.dot);
    let (state, origin) = (State::Provisional, Origin::Imported);
    let (dot, parents, is_null) = (Dot { actor: Actor(id), counter: 1 }, vec![base.id], base.is_null);
    let id = VersionId(id);
    Version { id, dot, context, parents, is_null, state, origin, content: content(text), ..Version::default() }
}

/// RustFS 4293: WORM that can be bypassed. Here no command removes a locked version.
#[test]
fn worm_that_can_be_bypassed() {
    for (mode, hold) in [(LockMode::Governance, Hold::Governance), (LockMode::Compliance, Hold::Compliance)] {
        let mut world = World::new(Versioning::Enabled);
        let retention = Some(Retention { mode, until: 5000 });
        let locked = Content { lock: Lock { retention, legal_hold: false }, ..content("kept") };
        let id = world.write("key", Mode::Overwrite, Body::Object(locked)).unwrap().id.unwrap();
        world.put("key", "newer");
        world.delete("key");
        world.now = 4999;
        let erase = |world: &mut World, bypass| {
            let erase = Erase { place: world.place("key"), which: Which::Id(id), bypass, conditions: vec![] };
            world.apply(Command::Erase(erase))
        };
        assert_eq!(erase(&mut world, Bypass::Nothing), Err(Refusal::Locked(hold)));
        let shorter = |world: &mut World, retention, bypass| {
            let change = Change::Retention { retention, bypass };
            world.apply(Command::Amend(Amend { place: world.place("key"), which: Which::Id(id), change }))
        };
        assert_eq!(shorter(&mut world, None, Bypass::Nothing), Err(Refusal::Locked(hold)));
        world.bucket.keep.superseded = Some(0);
        let places = vec![world.place("key")];
        assert_eq!(world.apply(Command::Trim(places)), Ok(trimmed(1)), "only the one that isn't locked");
        world.bucket.versioning = Versioning::Suspended;
        world.bucket.epoch += 1;
        world.put("key", "null");
        let close = Command::CloseBucket { bucket: BUCKET, epoch: 9 };
        assert_eq!(world.apply(close), Err(Refusal::NotEmpty));
        let found = world.read("key", ReadMode::Exact(id), &[]).map(|found| text(&found.version));
        assert_eq!(found.as_deref(), Some("kept"));
        if mode == LockMode::Compliance {
            assert_eq!(erase(&mut world, Bypass::Governance), Err(Refusal::Locked(hold)));
            world.now = 5000;
        }
        assert!(erase(&mut world, Bypass::Governance).is_ok(), "it has ended, or may be bypassed");
    }
    // A locked version is not hidden under the name `null` either.
    let mut world = World::new(Versioning::Off);
    let lock = Lock { retention: None, legal_hold: true };
    world.write("key", Mode::Overwrite, Body::Object(Content { lock, ..content("held") })).unwrap();
    for body in [object("other"), Body::Deletion] {
        assert_eq!(world.write("key", Mode::Overwrite, body), Err(Refusal::Locked(Hold::Legal)));
    }
}

/// RustFS 1659, Garage 1052: 50 writers with If-None-Match, each of whom may retry: one wins, and is told so every time.
#[test]
fn conditional_put_not_atomic() {
    let mut world = World::new(Versioning::Off);
    let mut won = Vec::new();
    for round in 0..2 {
        for writer in 0..50_u128 {
            let mode = Mode::Conditional(vec![Condition::Absent]);
            let write = Write {
                place: world.place("lock"),
                id: VersionId(100 + writer),
                mode,
                body: object(&writer.to_string()),
            };
            let answer = world.apply_with(Some(Token(writer)), Command::Commit(vec![write])).unwrap();
            let Answer::Committed(each) = answer else { panic!("{answer:?}") };
            if each[0].is_ok() {
                won.push((round, writer));
            }
        }
    }
    assert_eq!(won, [(0, 0), (1, 0)], "one winner, with the same answer to its retry");
    assert_eq!(world.get("lock").as_deref(), Some("0"));
}

#[test]
fn a_retried_commit_has_one_effect_and_the_same_answer() {
    let mut world = World::new(Versioning::Enabled);
    let write = |world: &World, id| Write {
        place: world.place("key"),
        id: VersionId(id),
        mode: Mode::Overwrite,
        body: object("x"),
    };
    let both = Command::Commit(vec![write(&world, 50), write(&world, 60)]);
    let first = world.apply_with(Some(Token(1)), both.clone());
    world.put("key", "other");
    let rows = world.rows.clone();
    assert_eq!(world.apply_with(Some(Token(1)), both.clone()), first);
    assert_eq!(world.rows, rows);
    assert_ne!(world.apply_with(Some(Token(2)), both), first, "another intent");
}

/// Two halves of a bucket's deletion: no object slips in between.
#[test]
fn no_object_slips_into_a_bucket_that_goes() {
    let mut world = World::new(Versioning::Off);
    world.put("key", "x");
    let close = |epoch| Command::CloseBucket { bucket: BUCKET, epoch };
    assert_eq!(world.apply(close(5)), Err(Refusal::NotEmpty));
    world.delete("key");
    begin(&mut world, "key");
    assert_eq!(world.apply(close(5)), Err(Refusal::NotEmpty), "an upload is under way");
    abort(&mut world, "key").unwrap();
    assert_eq!(world.apply(close(5)), Ok(Answer::Done), "a tombstone is no object");
    assert_eq!(world.apply(close(5)), Ok(Answer::Done), "asked again");
    let late = world.write("key", Mode::Overwrite, object("late"));
    assert_eq!(late, Err(Refusal::StaleBucket { stated: 1, known: 5 }), "its gateway has an old map");
    // Another slot wasn't empty, so control took it back, with a later epoch.
    world.bucket.epoch = 6;
    world.put("key", "again");
    assert_eq!(world.apply(close(5)), Err(Refusal::StaleBucket { stated: 5, known: 6 }), "an old question");
}

#[test]
fn reads_in_the_past_and_of_branches() {
    let mut world = World::new(Versioning::Enabled);
    let mut ids = Vec::new();
    for time in [1000, 2000, 3000] {
        world.now = time;
        ids.push(world.put("key", &time.to_string()).id.unwrap());
    }
    world.now = 4000;
    world.delete("key");
    let at = |time| world.read("key", ReadMode::At(time), &[]).map(|found| found.version.id);
    assert_eq!((at(999), at(1000), at(2999), at(3000)), (None, Some(ids[0]), Some(ids[1]), Some(ids[2])));
    let then = world.read("key", ReadMode::At(4000), &[]).unwrap();
    assert_eq!(then.version.kind, Kind::DeleteMarker);
    // A node without a leader has a version of its own.
    let base = world.read("key", ReadMode::Exact(ids[2]), &[]).unwrap().version;
    let after_delete = provisional(u128::MAX >> 1, &then.version, "local");
    let before_delete = provisional(u128::MAX >> 2, &base, "branch");
    let read = |mode, local: &Version| {
        let found = world.read("key", mode, std::slice::from_ref(local)).unwrap();
        (found.version.id, found.version.state)
    };
    let local = (after_delete.id, State::Provisional);
    assert_eq!(read(ReadMode::Preferred, &after_delete), local);
    assert_eq!(read(ReadMode::ProvisionalAllowed, &after_delete), local);
    assert_eq!(read(ReadMode::ConfirmedOnly, &after_delete), (then.version.id, State::Confirmed));
    assert_eq!(read(ReadMode::Preferred, &before_delete), (then.version.id, State::Confirmed), "confirmed comes first");
    assert_eq!(read(ReadMode::Exact(before_delete.id), &before_delete), (before_delete.id, State::Provisional));
    assert!(world.read("key", ReadMode::Exact(before_delete.id), &[]).is_none());
    assert!(world.read("new", ReadMode::ConfirmedOnly, std::slice::from_ref(&after_delete)).is_none());
}

/// What one node has hides what others see, and it shows what stood beside that: confirmed, and yet nobody else is shown it.
#[test]
fn what_is_shown_for_a_provisional_version_is_provisional() {
    let mut world = World::new(Versioning::Enabled);
    let base = world.put("key", "base").id.unwrap();
    let branch = world.read("key", ReadMode::Exact(base), &[]).unwrap().version;
    world.put("key", "shown");
    let import = Import { place: world.place("key"), version: provisional(7, &branch, "beside") };
    world.commit(Command::Import(vec![import])).unwrap();
    let shown = world.read("key", ReadMode::Preferred, &[]).unwrap();
    assert_eq!((text(&shown.version), shown.state), ("shown".to_owned(), State::Confirmed));
    let deletion = Version { kind: Kind::DeleteMarker, ..provisional(u128::MAX >> 1, &shown.version, "") };
    let alone = world.read("key", ReadMode::Preferred, std::slice::from_ref(&deletion)).unwrap();
    assert_eq!((text(&alone.version), alone.version.state), ("beside".to_owned(), State::Confirmed));
    assert_eq!(alone.state, State::Provisional);
    let exact = world.read("key", ReadMode::Exact(alone.version.id), std::slice::from_ref(&deletion)).unwrap();
    assert_eq!(exact.state, State::Confirmed, "by its name anybody is shown it");
}

/// All of a trim that was done by one command.
fn trimmed(dropped: u64) -> Answer {
    Answer::Trimmed(Trimmed { dropped, rest: false })
}

#[test]
fn retention_drops_what_it_may_and_nothing_else() {
    let mut world = World::new(Versioning::Enabled);
    world.bucket.keep.superseded = Some(1000);
    world.bucket.keep.superseded_min = 2;
    for time in 1..=6 {
        world.now = time * 1000;
        world.put("key", &time.to_string());
    }
    let trim = |world: &mut World| world.apply(Command::Trim(vec![world.place("key")]));
    world.now = 6500;
    assert_eq!(trim(&mut world), Ok(trimmed(3)), "two of five are among the newest");
    world.now = 1 << 40;
    assert_eq!(trim(&mut world), Ok(trimmed(0)));
    world.delete("key");
    world.bucket.keep.superseded_min = 0;
    world.now += 1000;
    assert_eq!(trim(&mut world), Ok(trimmed(3)));
    assert_eq!(trim(&mut world), Ok(trimmed(0)), "a delete marker is a head, and stays");
    let mut world = World::new(Versioning::Off);
    world.put("key", "x");
    world.delete("key");
    world.now += world.bucket.keep.tombstones - 1;
    assert_eq!(trim(&mut world), Ok(trimmed(0)));
    world.now += 1;
    assert_eq!(trim(&mut world), Ok(trimmed(1)), "a tombstone past its retention");
    assert!(!world.rows.keys().any(|row| matches!(row[0], b'k' | b'd' | b'v')));
}

/// A look at all of a slot, part by part, names the keys of which something may go, and only those.
#[test]
fn what_retention_lets_go_is_found() {
    let mut world = World::new(Versioning::Off);
    let month = world.bucket.keep.tombstones;
    let write = |world: &mut World, key: String, body| Write {
        place: world.place(&key),
        id: world.id(),
        mode: Mode::Overwrite,
        body,
    };
    let mut writes = vec![write(&mut world, "there".to_owned(), object("x"))];
    for key in (0..1500).map(|number| format!("gone {number}")) {
        writes.push(write(&mut world, key.clone(), object("x")));
        writes.push(write(&mut world, key, Body::Deletion));
    }
    world.commit(Command::Commit(writes)).unwrap();
    let written = world.now;
    world.now += 1;
    world.put("late", "x");
    world.delete("late");
    world.bucket.versioning = Versioning::Enabled;
    for key in ["versions", "there", "late", "gone 7"] {
        world.put(key, "one");
        world.put(key, "two");
    }
    world.delete("versions");
    let found = |world: &World, now: u64| {
        let (mut found, mut behind, mut looks) = (vec![], None::<Vec<u8>>, 0);
        loop {
            let due = trim::look(&world.rows, now, &|_| world.bucket.keep, behind.as_deref()).unwrap();
            found.extend(due.keys.into_iter().map(|(_, key)| key));
            (behind, looks) = (due.next, looks + 1);
            if behind.is_none() {
                assert_eq!(looks > 1, world.rows.len() > 500, "{looks} looks");
                found.sort();
                found.dedup();
                return found;
            }
        }
    };
    // What a tombstone was superseded by is there, and under that name nobody can ask for it.
    assert_eq!(found(&world, written + month - 1), ["gone 7", "late"]);
    let mut gone: Vec<String> = (0..1500).map(|number| format!("gone {number}")).collect();
    gone.sort();
    gone.push("late".to_owned());
    assert_eq!(found(&world, written + month), gone);
    world.bucket.keep.superseded = Some(0);
    assert_eq!(found(&world, world.now), ["gone 7", "late", "there", "versions"]);
    world.now = written + month;
    let places = gone.iter().map(|key| world.place(key)).collect();
    assert_eq!(world.apply(Command::Trim(places)), Ok(trimmed(1499 + 4)));
    assert_eq!(found(&world, world.now), ["there", "versions"]);
}

/// However much there is to drop, a command changes only so much, and says that there is more.
#[test]
fn a_trim_does_what_fits_and_goes_on_when_asked_again() {
    let mut world = World::new(Versioning::Enabled);
    world.bucket.keep.superseded = Some(0);
    let (long, large) = ("k".repeat(1000), "large".to_owned());
    let list = |count: u32| Payload::Chunks((0..count).map(|number| chunk(number as u8, 1 << 20)).collect());
    for (key, commands, versions, payload) in [
        (&long, 4, 300, Payload::Inline(vec![])),
        // Each of these alone is more than a trim begins.
        (&large, 20, 1, list(4096)),
    ] {
        for _ in 0..commands {
            let size = if let Payload::Chunks(chunks) = &payload { (chunks.len() as u64) << 20 } else { 0 };
            let body = Body::Object(Content { size, payload: payload.clone(), ..content("") });
            let write = |world: &mut World| Write {
                place: world.place(key),
                id: world.id(),
                mode: Mode::Overwrite,
                body: body.clone(),
            };
            let writes = (0..versions).map(|_| write(&mut world)).collect();
            world.commit(Command::Commit(writes)).unwrap();
        }
    }
    world.now += 1000;
    let (mut dropped, mut commands) = (0, 0);
    loop {
        let places = vec![world.place(&long), world.place(&large)];
        let done = match world.apply(Command::Trim(places)) {
            Ok(Answer::Trimmed(done)) => done,
            other => panic!("{other:?}"),
        };
        assert!(done.dropped > 0 || !done.rest, "it doesn't go on");
        (dropped, commands) = (dropped + done.dropped, commands + 1);
        if !done.rest {
            break;
        }
    }
    assert_eq!(dropped, 4 * 300 - 1 + 20 - 1);
    assert!(commands > 20, "{commands}");
}

#[test]
fn an_object_expires_for_readers_and_then_by_a_tombstone() {
    let mut world = World::new(Versioning::Off);
    let body = Body::Object(Content { expires: Some(2000), ..content("short") });
    let id = world.write("key", Mode::Overwrite, body).unwrap().id;
    assert_eq!(world.get("key").as_deref(), Some("short"));
    assert_eq!(expired(&world.rows, 1999, None, 10).unwrap(), []);
    world.now = 2000;
    assert_eq!(world.get("key"), None);
    let found = expired(&world.rows, 2000, None, 10).unwrap();
    assert_eq!(found, [Expired { time: 2000, bucket: BUCKET, key: "key".to_owned(), id: id.unwrap() }]);
    assert_eq!(expired(&world.rows, 2000, found.first(), 10).unwrap(), []);
    let mode = Mode::Conditional(vec![Condition::Head(id)]);
    world.write("key", mode.clone(), Body::Deletion).unwrap();
    assert!(world.write("key", mode, Body::Deletion).is_err(), "it is done once");
    assert!(!world.rows.keys().any(|row| row[0] == b'e'));
}

#[test]
fn a_key_of_the_greatest_length_has_all_that_others_have() {
    let mut world = World::new(Versioning::Enabled);
    let key = "\u{10ffff}".repeat(256);
    world.put(&key, "one");
    begin(&mut world, &key);
    put_part(&mut world, &key, 10_000, chunk(1, 5));
    assert!(complete(&mut world, &key, &[(10_000, "p1")]).is_ok());
    assert!(world.rows.keys().all(|row| row.len() + 4 <= cairn_meta::index::KEY_MAX));
}

/// Keys below `cart/` that are listed as in conflict, and how many heads they have.
fn carts_in_conflict(world: &World) -> Vec<(String, u32)> {
    let query = Query { bucket: BUCKET, prefix: "cart/".to_owned(), limit: 10, ..Query::default() };
    let entry = |item| match item {
        Item::Entry(ConflictEntry { key, heads }) => (key, heads),
        Item::Prefix(prefix) => panic!("{prefix} is rolled up"),
    };
    conflicts(&world.rows, &query).unwrap().items.into_iter().map(entry).collect()
}

/// Dynamo's shopping carts, whose branches nobody who doesn't read them knows of: keys in conflict are listed until they aren't.
#[test]
fn conflicts_are_listed_until_they_are_merged() {
    let mut world = World::new(Versioning::Enabled);
    for key in ["cart/a", "cart/b", "else"] {
        let base = world.put(key, "empty").id.unwrap();
        world.put(key, "bread");
        assert_eq!(carts_in_conflict(&world).iter().filter(|(listed, _)| listed == key).count(), 0);
        let body = if key == "cart/b" { Body::Deletion } else { object("milk") };
        world.write(key, Mode::Derive(vec![base]), body).unwrap();
    }
    assert_eq!(carts_in_conflict(&world), [("cart/a".to_owned(), 2), ("cart/b".to_owned(), 2)]);
    let heads = world.read("cart/a", ReadMode::Preferred, &[]).unwrap().heads;
    world.write("cart/a", Mode::Merge(heads.iter().map(|head| head.id).collect()), object("bread, milk")).unwrap();
    assert_eq!(carts_in_conflict(&world), [("cart/b".to_owned(), 2)]);
    // All heads say that it is gone: there is nothing to decide.
    let heads = world.read("cart/b", ReadMode::Preferred, &[]).unwrap().heads;
    let bread = heads.iter().find(|head| head.kind == Kind::Data).expect("it was changed").id;
    assert_eq!(world.write("cart/b", Mode::Derive(vec![bread]), Body::Deletion).map(|done| done.heads), Ok(2));
    assert_eq!(carts_in_conflict(&world), []);
}
