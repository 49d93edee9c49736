//! The control group's state machine: what is refused, how a bucket goes, and an audit that shows every hand laid on it.

use std::collections::BTreeMap;

use cairn_meta::control::Control;
use cairn_meta::control::audit::{Broken, entries, verify};
use cairn_meta::control::bucket::{BucketSettings, BucketState, DefaultRetention, find, find_by_id};
use cairn_meta::control::command::{
    Answer, Answered, Command, CreateBucket, Envelope, LEVEL, PutSetting, Refusal, SetBucket, read_answer,
};
use cairn_meta::control::state::{Cluster, ClusterId, KeyRecord, NodeRecord, UserRecord, Whole, epoch};
use cairn_meta::index::Error;
use cairn_meta::rows::{Batch, Machine};
use cairn_meta::slot::command::{Token, Versioning};
use cairn_meta::version::LockMode;
use proptest::collection::vec;
use proptest::prelude::*;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Default)]
struct World {
    rows: Map,
    entries: u64,
}

const BIRTH: Cluster = Cluster { id: ClusterId(5), slots: 256, partitions: 4096 };

impl World {
    fn born() -> Self {
        let mut world = Self::default();
        world.apply(Command::Birth(BIRTH)).unwrap();
        world
    }

    fn apply(&mut self, command: Command) -> Answered {
        self.apply_with(None, command)
    }

    fn apply_with(&mut self, token: Option<Token>, command: Command) -> Answered {
        let envelope = Envelope { time: 1000 + self.entries, who: "operator".to_owned(), token, command };
        read_answer(&self.apply_bytes(&envelope.encode())).unwrap()
    }

    /// Every change has its epoch and its entry; what is refused leaves no trace.
    fn apply_bytes(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.entries += 1;
        let (before, was) = (self.rows.clone(), epoch(&self.rows).unwrap());
        let mut batch = Batch::new(&before);
        let answer = Control.apply(&mut batch, self.entries, bytes).unwrap();
        for (key, value) in batch.into_changes() {
            match value {
                Some(value) => self.rows.insert(key, value),
                None => self.rows.remove(&key),
            };
        }
        let without_tokens = |map: &Map| -> Map {
            map.iter().filter(|(key, _)| !matches!(key[0], b't' | b'T')).map(|(k, v)| (k.clone(), v.clone())).collect()
        };
        let is = epoch(&self.rows).unwrap();
        let changed = without_tokens(&before) != without_tokens(&self.rows);
        assert_eq!(is, was + u64::from(changed));
        assert_eq!(verify(&self.rows, None).unwrap(), Ok(is));
        answer
    }

    fn create(&mut self, name: &str, settings: BucketSettings) -> Answered {
        let (name, owner) = (name.to_owned(), "anna".to_owned());
        self.apply(Command::CreateBucket(CreateBucket { name, owner, settings }))
    }

    fn set(&mut self, settings: BucketSettings, expected: Option<u64>) -> Answered {
        self.apply(Command::SetBucket(SetBucket { name: "photos".to_owned(), expected, settings }))
    }
}

#[test]
fn a_cluster_is_born_once() {
    let mut world = World::default();
    assert_eq!(world.apply(Command::RemoveNode(1)), Err(Refusal::Unborn));
    assert_eq!(world.apply(Command::Birth(Cluster { partitions: 1000, ..BIRTH })), Err(Refusal::Numbers));
    assert_eq!(world.apply(Command::Birth(BIRTH)), Ok(Answer::Done));
    assert_eq!(world.apply(Command::Birth(BIRTH)), Ok(Answer::Done));
    let other = Cluster { slots: 4, ..BIRTH };
    assert_eq!(world.apply(Command::Birth(other)), Err(Refusal::Born { id: BIRTH.id }));
    assert_eq!(epoch(&world.rows).unwrap(), 1);
}

#[test]
fn a_bucket_has_one_name_and_an_id_for_ever() {
    let mut world = World::born();
    let Ok(Answer::Bucket { id, epoch, state: BucketState::Open }) = world.create("photos", BucketSettings::default())
    else {
        panic!("it was created")
    };
    let exists = Refusal::BucketExists { owner: "anna".to_owned(), id };
    assert_eq!(world.create("photos", BucketSettings::default()), Err(exists));
    let versioned = BucketSettings { versioning: Versioning::Enabled, ..BucketSettings::default() };
    let Ok(Answer::Bucket { epoch: later, .. }) = world.set(versioned.clone(), Some(epoch)) else { panic!() };
    assert_eq!(world.set(versioned, Some(epoch)), Err(Refusal::Changed { found: later }));
    let stamp = find(&world.rows, "photos").unwrap().unwrap().stamp();
    assert_eq!((stamp.id, stamp.epoch, stamp.versioning), (id, later, Versioning::Enabled));
    // The two halves of a deletion, each of which may be repeated.
    let begin = Command::BeginDelete { name: "photos".to_owned() };
    let Ok(Answer::Bucket { epoch: since, state: BucketState::Deleting, .. }) = world.apply(begin.clone()) else {
        panic!()
    };
    assert_eq!(world.apply(begin.clone()), Ok(Answer::Bucket { id, epoch: since, state: BucketState::Deleting }));
    assert_eq!(world.set(BucketSettings::default(), None), Err(Refusal::State(BucketState::Deleting)));
    let cancelled = world.apply(Command::CancelDelete { id, epoch: since });
    let Ok(Answer::Bucket { epoch: reopened, state: BucketState::Open, .. }) = cancelled else { panic!() };
    assert!(reopened > since, "slots that closed open again for it");
    assert_eq!(world.apply(Command::FinishDelete { id, epoch: since }), Err(Refusal::State(BucketState::Open)));
    let Ok(Answer::Bucket { epoch: again, .. }) = world.apply(begin) else { panic!() };
    let old = Command::FinishDelete { id, epoch: since };
    assert_eq!(world.apply(old), Err(Refusal::Changed { found: again }), "what slots said then counts no more");
    assert_eq!(world.apply(Command::FinishDelete { id, epoch: again }), Ok(Answer::Done));
    assert_eq!(world.apply(Command::FinishDelete { id, epoch: again }), Ok(Answer::Done));
    assert!(find_by_id(&world.rows, id).unwrap().is_none());
    let Ok(Answer::Bucket { id: other, .. }) = world.create("photos", BucketSettings::default()) else { panic!() };
    assert!(other > id);
}

#[test]
fn names_and_settings_are_checked() {
    let mut world = World::born();
    let fine = BucketSettings::default();
    for bad in ["ab", "Abc", "a..b", "-abc", "abc.", "abc.-d", "abc-.d", "1.2.3.4", "a_b", &"a".repeat(64)] {
        assert!(matches!(world.create(bad, fine.clone()), Err(Refusal::Name(_))), "{bad}");
    }
    world.create("photos", BucketSettings { versioning: Versioning::Suspended, ..fine.clone() }).unwrap();
    let retention = Some(DefaultRetention { mode: LockMode::Governance, length: 1 });
    let locked = BucketSettings { versioning: Versioning::Enabled, object_lock: true, ..fine.clone() };
    let documents = vec![("policy".to_owned(), "x".repeat(300 << 10))];
    let mut headless = BucketSettings { versioning: Versioning::Enabled, ..fine.clone() };
    headless.caps.heads = 0;
    let bad = [
        fine.clone(),
        BucketSettings { object_lock: true, versioning: Versioning::Suspended, ..fine.clone() },
        BucketSettings { default_retention: retention, versioning: Versioning::Enabled, ..fine.clone() },
        BucketSettings { documents, versioning: Versioning::Enabled, ..fine },
        headless,
    ];
    for bad in bad {
        assert!(matches!(world.set(bad.clone(), None), Err(Refusal::Settings(_))), "{bad:?}");
    }
    world.set(locked.clone(), None).unwrap();
    let off = BucketSettings { object_lock: false, ..locked };
    assert!(matches!(world.set(off, None), Err(Refusal::Settings(_))), "worm stays");
}

#[test]
fn users_keys_nodes_and_settings_are_kept() {
    let mut world = World::born();
    let user = UserRecord { name: "anna".to_owned(), rights: "all".to_owned() };
    let key = KeyRecord { access: "AKIA".to_owned(), user: "anna".to_owned(), sealed: vec![1, 2], disabled: false };
    assert!(matches!(world.apply(Command::PutKey(key.clone())), Err(Refusal::Missing(_))));
    world.apply(Command::PutUser(user.clone())).unwrap();
    world.apply(Command::PutKey(key.clone())).unwrap();
    world.apply(Command::PutUser(UserRecord { name: "bert".to_owned(), ..user.clone() })).unwrap();
    let stolen = KeyRecord { user: "bert".to_owned(), ..key.clone() };
    assert_eq!(world.apply(Command::PutKey(stolen)), Err(Refusal::KeyTaken));
    assert_eq!(world.apply(Command::RemoveUser { name: "anna".to_owned() }), Err(Refusal::HasKeys));
    let node = NodeRecord { id: 3, address: "a:7000".to_owned(), labels: vec![], capacity: 9 };
    world.apply(Command::PutNode(node.clone())).unwrap();
    let setting = |value: &str, expected| {
        let (name, value) = ("scrub".to_owned(), Some(value.to_owned()));
        Command::PutSetting(PutSetting { name, value, expected })
    };
    world.apply(setting("on", Some(0))).unwrap();
    let was = epoch(&world.rows).unwrap();
    assert_eq!(world.apply(setting("off", Some(0))), Err(Refusal::Changed { found: was }));
    world.create("photos", BucketSettings::default()).unwrap();
    let whole = Whole::read(&world.rows).unwrap();
    assert_eq!(Whole::decode(&whole.encode()), Ok(whole.clone()));
    assert_eq!((whole.cluster, whole.nodes, whole.keys), (Some(BIRTH), vec![node], vec![key]));
    assert_eq!(
        (whole.users.len(), whole.buckets[0].0.as_str(), whole.settings[0].1.value.as_str()),
        (2, "photos", "on")
    );
    world.apply(Command::RemoveKey { access: "AKIA".to_owned() }).unwrap();
    world.apply(Command::RemoveUser { name: "anna".to_owned() }).unwrap();
    let text = format!("{:?}", entries(&world.rows, 1, 100).unwrap());
    assert!(text.contains("put access key AKIA of anna") && !text.contains("[1, 2]"), "no secret is in the audit");
}

#[test]
fn a_retried_change_has_one_effect() {
    let mut world = World::born();
    let create =
        CreateBucket { name: "photos".to_owned(), owner: "anna".to_owned(), settings: BucketSettings::default() };
    let first = world.apply_with(Some(Token(1)), Command::CreateBucket(create.clone()));
    assert!(first.is_ok());
    assert_eq!(world.apply_with(Some(Token(1)), Command::CreateBucket(create.clone())), first);
    assert!(world.apply_with(Some(Token(2)), Command::CreateBucket(create)).is_err());
}

#[test]
fn the_audit_shows_every_hand_laid_on_it() {
    let mut world = World::born();
    for number in 0..5 {
        world.create(&format!("bucket{number}"), BucketSettings::default()).unwrap();
    }
    let all = entries(&world.rows, 1, 100).unwrap();
    assert_eq!(all.len(), 6);
    assert_eq!((all[1].who.as_str(), all[1].what.as_str()), ("operator", "create bucket bucket0"));
    let key = |epoch: u64| [&b"j"[..], &epoch.to_be_bytes()].concat();
    let broken = |change: &dyn Fn(&mut Map)| {
        let mut rows = world.rows.clone();
        change(&mut rows);
        verify(&rows, None).unwrap()
    };
    assert_eq!(broken(&|_| ()), Ok(6));
    assert_eq!(broken(&|rows| drop(rows.remove(&key(3)))), Err(Broken { epoch: 3 }));
    assert_eq!(broken(&|rows| drop(rows.remove(&key(6)))), Err(Broken { epoch: 6 }), "the last is missing");
    let swap = |rows: &mut Map| {
        let (one, other) = (rows[&key(2)].clone(), rows[&key(3)].clone());
        rows.insert(key(2), other);
        rows.insert(key(3), one);
    };
    assert_eq!(broken(&swap), Err(Broken { epoch: 2 }));
    let lie = |rows: &mut Map| {
        let mut bytes = rows[&key(4)].clone();
        let at = bytes.windows(8).position(|text| text == b"operator").unwrap();
        bytes[at] = b'O';
        rows.insert(key(4), bytes);
    };
    assert_eq!(broken(&lie), Err(Broken { epoch: 5 }), "the next one knows better");
    let last = all[5].hash();
    let lie = |rows: &mut Map| {
        let mut bytes = rows[&key(6)].clone();
        let at = bytes.windows(8).position(|text| text == b"operator").unwrap();
        bytes[at] = b'O';
        rows.insert(key(6), bytes);
    };
    let mut rows = world.rows.clone();
    lie(&mut rows);
    assert_eq!(verify(&rows, Some((6, last))).unwrap(), Err(Broken { epoch: 6 }), "who noted the last hash knows");
}

#[test]
fn newer_commands_are_refused_and_a_newer_level_stops() {
    let mut world = World::born();
    let mut bytes = (LEVEL + 1).to_le_bytes().to_vec();
    bytes.push(0);
    let answer = read_answer(&world.apply_bytes(&bytes)).unwrap();
    assert_eq!(answer, Err(Refusal::Level { level: LEVEL + 1, allowed: LEVEL }));
    let raise =
        Envelope { time: 1, who: String::new(), token: None, command: Command::RaiseLevel { level: LEVEL + 1 } };
    let stopped = Control.apply(&mut Batch::new(&world.rows), 9, &raise.encode());
    assert!(matches!(stopped, Err(Error::Newer { .. })), "{stopped:?}");
}

proptest! {
    #[test]
    fn hostile_changes_never_panic(bytes in vec(any::<u8>(), 0..150)) {
        let mut world = World::born();
        world.apply_bytes(&bytes);
        let mut bytes = bytes;
        bytes.splice(..bytes.len().min(2), LEVEL.to_le_bytes());
        world.apply_bytes(&bytes);
    }
}
