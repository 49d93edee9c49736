//! What users get by RPC: objects and control, with the rights of their access keys.

use cairn_daemon::clients::Clients;
use cairn_daemon::cluster::{Cluster, wall_millis};
use cairn_daemon::rpc::{Backoff, Credential, Exposure, Identity, Limits, Peer, Pool, Server, Services};
use cairn_io::time::Duration;
use cairn_meta::control::bucket::{BucketSettings, DefaultRetention};
use cairn_meta::control::command::{Command, SetBucket};
use cairn_meta::control::state::{KeyRecord, UserRecord};
use cairn_meta::slot::command::Versioning;
use cairn_meta::version::LockMode as Strictness;
use cairn_schema::*;
use std::rc::Rc;

use crate::place::Place;

/// For what must succeed, however busy the machine is.
const LONG: Duration = Duration::from_secs(60);
const MEMBER: Credential = Credential::Member([5; 32]);

/// A node that serves, and users who call it.
struct Served {
    cluster: Cluster,
    server: Server,
}

impl Served {
    /// With the users ann and bob, and root, who may do everything.
    async fn start(cluster: Cluster) -> Self {
        for (user, rights) in [("ann", ""), ("bob", ""), ("root", "admin")] {
            let record = UserRecord { name: user.to_owned(), rights: rights.to_owned() };
            cluster.control("test", None, Command::PutUser(record)).await.expect("made");
            put_key(&cluster, user).await;
        }
        let clients = Rc::new(Clients::new(cluster.clone()));
        let raft = Rc::new(cluster.clone());
        let services = Services { keys: clients.clone(), slots: clients.clone(), control: clients, raft };
        let (at, identity) = ("127.0.0.1:0".parse().expect("an address"), Identity::new([7; 16], 1, MEMBER));
        let server = Server::bind(at, Exposure::Loopback, identity, Limits::default(), services).expect("a free port");
        Self { cluster, server }
    }

    fn peer(&self, node: u64, credential: Credential) -> Peer {
        let backoff = Backoff { first: Duration::from_millis(20), max: Duration::from_millis(200) };
        let pool = Pool::new(Identity::new([7; 16], node, credential), Limits::default(), backoff);
        pool.set(1, self.server.local_addr());
        pool.peer(1).expect("just set")
    }

    fn user(&self, name: &str) -> User {
        let credential = Credential::Key { access: format!("KEY-{name}"), secret: format!("secret of {name}") };
        User(self.peer(0, credential))
    }

    async fn set(&self, bucket: &str, change: impl FnOnce(&mut BucketSettings)) {
        let mut settings = self.cluster.map().bucket(bucket).expect("it is there").settings.clone();
        change(&mut settings);
        let set = SetBucket { name: bucket.to_owned(), expected: None, settings };
        self.cluster.control("test", None, Command::SetBucket(set)).await.expect("set");
    }
}

async fn put_key(cluster: &Cluster, user: &str) {
    let access = format!("KEY-{user}");
    let sealed = cluster.seal().close(&access, &format!("secret of {user}")).expect("randomness");
    let key = KeyRecord { access, user: user.to_owned(), sealed, disabled: false };
    cluster.control("test", None, Command::PutKey(key)).await.expect("made");
}

struct User(Peer);

impl User {
    async fn commit(&self, commit: Commit) -> Answer<Committed> {
        let request = CommitRequest { commits: vec![commit], ..CommitRequest::default() };
        self.0.commit(request, LONG).await?.pop().expect("an answer for each")
    }

    async fn put(&self, bucket: u64, key: &str, text: &str) -> Answer<Committed> {
        self.commit(of(bucket, key, text)).await
    }

    async fn read(&self, bucket: u64, key: &str, mode: ReadMode) -> Answer<ReadResult> {
        self.0.read(ReadRequest { bucket, key: key.to_owned(), mode, ..ReadRequest::default() }, LONG).await
    }

    /// The bytes of an object.
    async fn text(&self, bucket: u64, key: &str) -> Answer<Option<String>> {
        match self.read(bucket, key, ReadMode::Preferred).await? {
            ReadResult::Absent { .. } => Ok(None),
            ReadResult::Found { version, .. } => match version.content.payload {
                Payload::Inline(bytes) => Ok(Some(String::from_utf8(bytes.to_vec()).expect("a text"))),
                other => panic!("{other:?}"),
            },
        }
    }

    async fn list(&self, request: ListRequest) -> Answer<Page> {
        self.0.list(request, LONG).await
    }

    async fn propose(&self, change: Change) -> Answer<Applied> {
        self.0.propose(proposal(change), LONG).await
    }

    async fn bucket(&self, name: &str) -> u64 {
        let bucket = Bucket { name: name.to_owned(), ..Bucket::default() };
        self.propose(Change::CreateBucket(bucket)).await.expect("made").bucket
    }

    async fn buckets(&self) -> Vec<String> {
        match self.0.map(MapRequest::default(), LONG).await {
            Ok(MapUpdate::Map(map)) => map.buckets.into_iter().map(|bucket| bucket.name).collect(),
            other => panic!("{other:?}"),
        }
    }
}

fn proposal(change: Change) -> ProposeRequest {
    ProposeRequest { call: CallInfo::default(), idempotency: None, epoch: 0, change }
}

fn of(bucket: u64, key: &str, text: &str) -> Commit {
    let payload = Payload::Inline(text.as_bytes().to_vec().into());
    let content = Content { size: text.len() as u64, payload, ..Content::default() };
    Commit { bucket, key: key.to_owned(), content, ..Commit::default() }
}

fn deletion(bucket: u64, key: &str) -> Commit {
    let content = Content { kind: VersionKind::Tombstone, ..Content::default() };
    Commit { bucket, key: key.to_owned(), content, ..Commit::default() }
}

fn with(mode: CommitMode, commit: Commit) -> Commit {
    Commit { mode, ..commit }
}

fn kind<T: std::fmt::Debug>(answer: Answer<T>) -> ErrorKind {
    answer.expect_err("refused").kind
}

fn run<F: Future<Output = ()> + 'static>(test: impl Fn(Served) -> F + Clone + Send + Sync + 'static) {
    Place::new().run(move |cluster| {
        let test = test.clone();
        async move { test(Served::start(cluster).await).await }
    });
}

#[test]
fn objects_are_committed_read_and_deleted_by_rpc() {
    run(|served| async move {
        let ann = served.user("ann");
        let photos = ann.bucket("photos").await;
        let pair = |name: &str, value: &str| vec![Pair { name: name.to_owned(), value: value.to_owned() }];
        let mut first = of(photos, "a", "123456789");
        first.content.headers = pair("Content-Type", "text/plain");
        first.content.metadata = pair("colour", "blå");
        first.content.tags = pair("kind", "holiday & beach");
        first.content.checksums = vec![Checksum { algorithm: "crc32".to_owned(), value: "y/Q5Jg==".to_owned() }];
        let one = ann.commit(first.clone()).await.expect("committed");
        assert_eq!((one.effect, one.heads, one.is_repeated), (Effect::FastForward, 1, false));
        let Ok(ReadResult::Found { version, heads, from_leader: true }) =
            ann.read(photos, "a", ReadMode::Preferred).await
        else {
            panic!("it was put")
        };
        assert_eq!((version.id, heads, version.is_head), (one.version, vec![one.version], true));
        let content = version.content;
        assert_eq!(content.etag, "25f9e794323b453885f5181f1b624d0b", "as S3 makes them");
        assert_eq!(content.headers, pair("content-type", "text/plain"));
        assert_eq!((content.metadata, content.tags), (first.content.metadata, first.content.tags));
        assert_eq!((content.payload, content.checksums[0].algorithm.as_str()), (first.content.payload, "CRC32"));

        // Conditions, as data.
        let absent = CommitMode::Conditional(vec![Condition::Absent]);
        let refused = ann.commit(with(absent.clone(), of(photos, "a", "x"))).await.expect_err("it is there");
        assert_eq!((refused.kind, refused.outcome), (ErrorKind::PreconditionFailed, Outcome::NothingDone));
        assert_eq!((refused.advice, refused.field.as_str()), (Advice::FixInput, "commits[0]"));
        let head = CommitMode::Conditional(vec![Condition::Head(one.version), Condition::Exists]);
        let two = ann.commit(with(head, of(photos, "a", "two"))).await.expect("it is that one");

        // A branch, and its end.
        let derive = |id| CommitMode::Derive(vec![id]);
        let branch = ann.commit(with(derive(one.version), of(photos, "a", "beside"))).await;
        // A bucket without versions keeps nothing to derive from.
        assert_eq!(kind(branch), ErrorKind::NotFound);
        served.set("photos", |settings| settings.versioning = Versioning::Enabled).await;
        let three = ann.put(photos, "a", "three").await.expect("with the settings of now");
        let beside = ann.commit(with(derive(two.version), of(photos, "a", "beside"))).await.expect("it is kept");
        assert_eq!((beside.effect, beside.heads), (Effect::Branch, 2));
        let conflicts =
            ListRequest { bucket: photos, what: Listing::Conflicts, page_size: 9, ..ListRequest::default() };
        let listed = ann.list(conflicts.clone()).await.expect("listed").entries;
        assert_eq!(listed, [Entry { key: "a".to_owned(), kind: EntryKind::Conflict(2) }]);
        let both = CommitMode::Merge(vec![three.version, beside.version]);
        let merged = ann.commit(with(both.clone(), of(photos, "a", "merged"))).await.expect("both are heads");
        assert_eq!((merged.effect, merged.heads), (Effect::FastForward, 1));
        assert_eq!(ann.list(conflicts).await.expect("listed").entries, []);
        assert_eq!(kind(ann.commit(with(both, of(photos, "a", "again"))).await), ErrorKind::Stale);
        let Ok(ReadResult::Found { version, heads, .. }) =
            ann.read(photos, "a", ReadMode::Version(beside.version)).await
        else {
            panic!("it is kept")
        };
        assert_eq!((version.parents, version.is_head, heads), (vec![two.version], false, vec![]));

        // What was told how long to live says so, and is gone then.
        for (expires, is_there) in [(1 << 50, true), (1, false)] {
            let mut told = of(photos, "told", "x");
            told.content.expires = expires;
            ann.commit(told).await.expect("committed");
            match ann.read(photos, "told", ReadMode::Preferred).await.expect("read") {
                ReadResult::Found { version, .. } => assert!(is_there && version.content.expires == expires),
                ReadResult::Absent { .. } => assert!(!is_there),
            }
        }

        // Deleted, with what hides it; the versions stay.
        let marker = ann.commit(deletion(photos, "a")).await.expect("deleted");
        let gone = ReadResult::Absent { marker: marker.version, from_leader: true };
        assert_eq!(ann.read(photos, "a", ReadMode::ConfirmedOnly).await, Ok(gone));
        assert!(matches!(ann.read(photos, "a", ReadMode::Version(merged.version)).await, Ok(ReadResult::Found { .. })));
        assert!(matches!(ann.read(photos, "a", ReadMode::At(1)).await, Ok(ReadResult::Absent { .. })), "long ago");
        assert_eq!(kind(ann.read(photos, "a", ReadMode::Version(VersionId(9))).await), ErrorKind::NotFound);
        assert_eq!(kind(ann.read(photos, "b", ReadMode::Null).await), ErrorKind::NotFound);
        assert!(ann.commit(with(absent, of(photos, "a", "new"))).await.is_ok());
        let own = ann.read(photos, "a", ReadMode::ProvisionalAllowed).await;
        assert!(matches!(own, Ok(ReadResult::Found { from_leader: false, .. })), "{own:?}");
    });
}

#[test]
fn an_idempotency_key_has_one_effect() {
    run(|served| async move {
        let ann = served.user("ann");
        let photos = ann.bucket("photos").await;
        served.set("photos", |settings| settings.versioning = Versioning::Enabled).await;
        let once = |key: &str, text: &str| Commit { idempotency: Some([9; 16]), ..of(photos, key, text) };
        let first = ann.commit(once("a", "first")).await.expect("committed");
        let second = ann.put(photos, "a", "second").await.expect("committed");
        let again = ann.commit(once("a", "first")).await.expect("told the same");
        assert_eq!((again.version, again.is_repeated, first.is_repeated), (first.version, true, false));
        assert_eq!(ann.text(photos, "a").await, Ok(Some("second".to_owned())), "{second:?}");
        // Of another key, or another user's, it is another intent; so is a later one after a restart of the settings.
        assert!(!ann.commit(once("b", "b")).await.expect("committed").is_repeated);
        let root = served.user("root");
        assert!(!root.commit(once("a", "root's")).await.expect("committed").is_repeated);
        served.set("photos", |settings| settings.offline = cairn_meta::control::bucket::Offline::Reject).await;
        assert_eq!(ann.commit(once("a", "first")).await.map(|done| done.version), Ok(first.version));
        let list = ListRequest { bucket: photos, what: Listing::Versions, page_size: 100, ..ListRequest::default() };
        assert_eq!(ann.list(list).await.expect("listed").entries.len(), 4);

        // Proposals likewise.
        let create = |name: &str| {
            let bucket = Bucket { name: name.to_owned(), ..Bucket::default() };
            ProposeRequest { idempotency: Some([8; 16]), ..proposal(Change::CreateBucket(bucket)) }
        };
        let made = ann.0.propose(create("music"), LONG).await.expect("made");
        assert_eq!(ann.0.propose(create("music"), LONG).await, Ok(made));
        assert_eq!(kind(ann.propose(create("music").change).await), ErrorKind::Exists, "without the key");
        let update = |id| {
            let bucket = Bucket { id, offline: Offline::Reject, ..Bucket::default() };
            let change = Change::UpdateBucket(bucket);
            ProposeRequest { idempotency: Some([7; 16]), epoch: made.epoch, ..proposal(change) }
        };
        let changed = ann.0.propose(update(made.bucket), LONG).await.expect("changed");
        assert_eq!(ann.0.propose(update(made.bucket), LONG).await, Ok(changed), "though it is of a later epoch by now");
        let late = ProposeRequest { idempotency: None, ..update(made.bucket) };
        assert_eq!(kind(ann.0.propose(late, LONG).await), ErrorKind::Stale);
    });
}

#[test]
fn a_bucket_says_when_commits_are_answered_that_dont() {
    run(|served| async move {
        let ann = served.user("ann");
        let photos = ann.bucket("photos").await;
        let ack = async || {
            let MapUpdate::Map(map) = ann.0.map(MapRequest::default(), LONG).await.expect("a map") else {
                panic!("no map")
            };
            map.buckets[0].ack
        };
        assert_eq!(ack().await, Ack::Quorum);
        let update = |ack| Change::UpdateBucket(Bucket { id: photos, ack, ..Bucket::default() });
        ann.propose(update(Ack::All)).await.expect("changed");
        assert_eq!(ack().await, Ack::All);
        ann.propose(update(Ack::Unset)).await.expect("changed");
        assert_eq!(ack().await, Ack::All, "what isn't said stays");
        // All nodes of a cluster of one are that one, and it takes nothing provisionally.
        for ack in [Ack::Unset, Ack::One, Ack::Quorum, Ack::All] {
            let commit = Commit { ack, ..of(photos, "a", "text") };
            assert_eq!(ann.commit(commit).await.expect("committed").state, VersionState::Confirmed);
        }
    });
}

#[test]
fn a_batch_is_decided_one_by_one_and_listed_page_by_page() {
    run(|served| async move {
        let ann = served.user("ann");
        let photos = ann.bucket("photos").await;
        let names: Vec<String> = (0..300).map(|at| format!("{}/{at:03}", at % 3)).collect();
        let mut commits: Vec<Commit> = names.iter().map(|name| of(photos, name, name)).collect();
        let absent = CommitMode::Conditional(vec![Condition::Absent]);
        // Of one key in their order: the first makes it, the second finds it, the third takes it away.
        commits.insert(0, with(absent.clone(), of(photos, "z", "first")));
        commits.push(with(absent, of(photos, "z", "second")));
        commits.push(of(photos, "", "no name").clone());
        let last = commits.len() - 1;
        commits[last].key = "k".repeat(1024);
        commits.push(deletion(photos, "z"));
        commits.push(of(77, "z", "no such bucket"));
        let request = CommitRequest { commits, ..CommitRequest::default() };
        let answers = ann.0.commit(request, LONG).await.expect("each for itself");
        let refused: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
        let said: Vec<_> = refused.iter().map(|error| (error.kind, error.field.as_str())).collect();
        assert_eq!(
            said,
            [(ErrorKind::PreconditionFailed, "commits[301]"), (ErrorKind::NotFound, "commits[304].bucket")]
        );

        let list = |request: ListRequest| ListRequest { bucket: photos, ..request };
        let (mut found, mut cursor) = (vec![], vec![]);
        loop {
            let request = ListRequest { page_size: 70, prefix: "1/".to_owned(), cursor, ..ListRequest::default() };
            let page = ann.list(list(request)).await.expect("listed");
            assert!(page.entries.len() <= 70);
            found.extend(page.entries.into_iter().map(|entry| entry.key));
            cursor = page.cursor;
            if cursor.is_empty() {
                break;
            }
        }
        let mut expected: Vec<_> = names.iter().filter(|name| name.starts_with("1/")).cloned().collect();
        expected.sort();
        assert_eq!(found, expected);
        let rolled = ListRequest { page_size: 10, delimiter: "/".to_owned(), ..ListRequest::default() };
        let page = ann.list(list(rolled.clone())).await.expect("listed");
        let prefixes: Vec<_> = page.entries.iter().filter(|entry| entry.kind == EntryKind::Prefix).collect();
        assert_eq!(prefixes.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["0/", "1/", "2/"]);
        let behind = ListRequest { start_after: "1/".to_owned(), ..rolled.clone() };
        assert_eq!(ann.list(list(behind)).await.expect("listed").entries[0].key, "2/");
        let uploads = ListRequest { what: Listing::Uploads, ..rolled.clone() };
        assert_eq!(ann.list(list(uploads)).await, Ok(Page::default()));
        let nonsense = ListRequest { cursor: b"nonsense".to_vec(), ..rolled.clone() };
        assert_eq!(ann.list(list(nonsense)).await.expect_err("no cursor").field, "cursor");
        let one = ListRequest { scope: Scope::Slot(1), ..rolled };
        assert_eq!(kind(ann.list(list(one)).await), ErrorKind::Unsupported);
    });
}

#[test]
fn users_may_by_rpc_what_they_may_by_s3() {
    run(|served| async move {
        let (ann, bob, root) = (served.user("ann"), served.user("bob"), served.user("root"));
        let photos = ann.bucket("photos").await;
        ann.put(photos, "a", "ann's").await.expect("her own");
        let all = ListRequest { bucket: photos, page_size: 10, ..ListRequest::default() };
        let update = |name: &str| {
            let bucket = Bucket { id: photos, name: name.to_owned(), offline: Offline::Reject, ..Bucket::default() };
            Change::UpdateBucket(bucket)
        };
        assert_eq!(kind(bob.put(photos, "b", "bob's").await), ErrorKind::Denied);
        assert_eq!(kind(bob.commit(deletion(photos, "a")).await), ErrorKind::Denied);
        assert_eq!(kind(bob.text(photos, "a").await), ErrorKind::Denied);
        assert_eq!(kind(bob.text(photos, "nothing").await), ErrorKind::Denied, "nor may he know what isn't there");
        assert_eq!(kind(bob.list(all.clone()).await), ErrorKind::Denied);
        assert_eq!(kind(bob.propose(update("")).await), ErrorKind::Denied);
        assert_eq!(kind(bob.propose(Change::RemoveBucket(photos)).await), ErrorKind::Denied);
        assert_eq!(bob.buckets().await, Vec::<String>::new());
        assert_eq!((ann.buckets().await, root.buckets().await), (vec!["photos".to_owned()], vec!["photos".to_owned()]));

        // A policy speaks of both ways.
        let policy = |statements: &str| format!("{{\"Version\":\"2012-10-17\",\"Statement\":[{statements}]}}");
        let statement = |effect: &str, who: &str, action: &str, key: &str| {
            format!(
                r#"{{"Effect":"{effect}","Principal":{{"AWS":"{who}"}},"Action":"{action}","Resource":"arn:aws:s3:::photos{key}"}}"#
            )
        };
        let text = policy(
            &[
                statement("Allow", "bob", "s3:GetObject", "/*"),
                statement("Allow", "bob", "s3:PutObject", "/bob/*"),
                statement("Deny", "ann", "s3:DeleteObject", "/*"),
            ]
            .join(","),
        );
        served.set("photos", |settings| settings.documents.push(("policy".to_owned(), text))).await;
        assert_eq!(bob.text(photos, "a").await, Ok(Some("ann's".to_owned())));
        assert_eq!(kind(bob.put(photos, "a", "bob's").await), ErrorKind::Denied);
        assert!(bob.put(photos, "bob/a", "bob's").await.is_ok());
        assert_eq!(kind(bob.list(all.clone()).await), ErrorKind::Denied);
        assert_eq!(kind(bob.read(photos, "a", ReadMode::Version(VersionId(1))).await), ErrorKind::Denied);
        assert_eq!(kind(ann.commit(deletion(photos, "a")).await), ErrorKind::Denied, "though it is hers");
        assert!(root.commit(deletion(photos, "a")).await.is_ok());

        // Nobody gives rights in what only S3 may say, and the list of an object is S3's to show.
        let mut smuggled = of(photos, "open", "x");
        smuggled.content.headers = vec![Pair { name: "x-cairn-acl".to_owned(), value: "ann,*:READ".to_owned() }];
        assert_eq!(kind(ann.commit(smuggled).await), ErrorKind::BadInput);
        let Ok(ReadResult::Found { version, .. }) = root.read(photos, "bob/a", ReadMode::Preferred).await else {
            panic!("it was put")
        };
        assert!(version.content.headers.iter().all(|pair| pair.name == "content-type"), "{version:?}");

        assert_eq!(kind(ann.propose(update("other")).await), ErrorKind::BadInput, "a bucket keeps its name");
        assert!(ann.propose(update("photos")).await.is_ok());
        assert_eq!(kind(ann.propose(Change::RemoveBucket(photos)).await), ErrorKind::PreconditionFailed);
        let empty = ann.bucket("empty").await;
        assert!(ann.propose(Change::RemoveBucket(empty)).await.is_ok());
        assert_eq!(kind(ann.propose(Change::RemoveBucket(empty)).await), ErrorKind::NotFound);
        for change in [Change::SetPlacement(String::new()), Change::SetAddress(NodeRef::default())] {
            assert_eq!(kind(root.propose(change).await), ErrorKind::Unsupported);
        }

        // Nodes are no users, and a key that is gone is none.
        let node = User(served.peer(2, MEMBER));
        assert_eq!(kind(node.text(photos, "a").await), ErrorKind::Unsupported);
        served.cluster.delete_key("test", "KEY-bob").await.expect("deleted");
        assert_eq!(kind(bob.text(photos, "bob/a").await), ErrorKind::Denied);
        put_key(&served.cluster, "bob").await;
        assert!(bob.text(photos, "bob/a").await.is_ok(), "the same key is there again");
    });
}

#[test]
fn locks_hold_by_rpc_as_by_s3() {
    run(|served| async move {
        let ann = served.user("ann");
        let photos = ann.bucket("photos").await;
        let until = wall_millis() + 3_600_000;
        let locked = |lock: Lock| {
            let mut commit = of(photos, "a", "locked");
            commit.content.lock = lock;
            commit
        };
        let strict = Lock { mode: LockMode::Compliance, until, legal_hold: true };
        assert_eq!(kind(ann.commit(locked(strict)).await), ErrorKind::BadInput, "the bucket has no locks");
        served
            .set("photos", |settings| {
                let default = DefaultRetention { mode: Strictness::Governance, length: 60_000 };
                (settings.object_lock, settings.versioning) = (true, Versioning::Enabled);
                settings.default_retention = Some(default);
            })
            .await;
        let lock_of = |id| {
            let ann = &ann;
            async move {
                match ann.read(photos, "a", ReadMode::Version(id)).await {
                    Ok(ReadResult::Found { version, .. }) => version.content.lock,
                    other => panic!("{other:?}"),
                }
            }
        };
        let plain = ann.put(photos, "a", "plain").await.expect("committed").version;
        let lock = lock_of(plain).await;
        assert!(lock.mode == LockMode::Governance && lock.until > wall_millis(), "the bucket's own: {lock:?}");
        let stated = ann.commit(locked(strict)).await.expect("committed").version;
        assert_eq!(lock_of(stated).await, strict);
        for wrong in [Lock { until: 1, ..strict }, Lock { until: u64::MAX, ..strict }] {
            assert_eq!(kind(ann.commit(locked(wrong)).await), ErrorKind::BadInput, "{wrong:?}");
        }
        // What is overwritten and deleted is still there, and the bucket stays.
        ann.put(photos, "a", "over").await.expect("a version more");
        ann.commit(deletion(photos, "a")).await.expect("a marker more");
        assert_eq!((lock_of(plain).await.mode, lock_of(stated).await), (LockMode::Governance, strict));
        assert_eq!(kind(ann.propose(Change::RemoveBucket(photos)).await), ErrorKind::PreconditionFailed);
    });
}

#[test]
fn what_cant_be_is_refused_with_its_field() {
    run(|served| async move {
        let ann = served.user("ann");
        let photos = ann.bucket("photos").await;
        let commit = |change: &dyn Fn(&mut Commit)| {
            let mut commit = of(photos, "a", "123456789");
            change(&mut commit);
            commit
        };
        let pair = |name: &str, value: &str| Pair { name: name.to_owned(), value: value.to_owned() };
        let sum =
            |algorithm: &str, value: &str| vec![Checksum { algorithm: algorithm.to_owned(), value: value.to_owned() }];
        let chunk = Chunk { name: [1; 32], size: 9 };
        let cases = [
            (
                commit(&|it| it.content.payload = Payload::Chunks(vec![chunk])),
                ErrorKind::Unsupported,
                ".content.payload",
            ),
            (commit(&|it| it.mode = CommitMode::Import(Import::default())), ErrorKind::Unsupported, ".mode.import"),
            (commit(&|it| it.content.etag = "a\"b".to_owned()), ErrorKind::BadInput, ".content.etag"),
            (
                commit(&|it| it.content.checksums = sum("CRC32", "AAAAAA==")),
                ErrorKind::BadInput,
                ".content.checksums[0].value",
            ),
            (
                commit(&|it| it.content.checksums = sum("CRC33", "")),
                ErrorKind::BadInput,
                ".content.checksums[0].algorithm",
            ),
            (commit(&|it| it.content.metadata = vec![pair("Colour", "x")]), ErrorKind::BadInput, ""),
            (commit(&|it| it.content.metadata = vec![pair("a b", "x")]), ErrorKind::BadInput, ""),
            (commit(&|it| it.content.metadata = vec![pair("a", "x\ny")]), ErrorKind::BadInput, ""),
            (commit(&|it| it.content.metadata = vec![pair("a", "x"); 2]), ErrorKind::BadInput, ""),
            (commit(&|it| it.content.headers = vec![pair("date", "x")]), ErrorKind::BadInput, ""),
            (commit(&|it| it.content.tags = vec![pair("a", "x"); 2]), ErrorKind::BadInput, ""),
            (commit(&|it| it.bucket = u64::MAX), ErrorKind::NotFound, ".bucket"),
        ];
        for (commit, kind, field) in cases {
            let error = ann.commit(commit).await.expect_err(field);
            assert_eq!((error.kind, error.field), (kind, format!("commits[0]{field}")), "{}", error.message);
            assert_eq!((error.outcome, error.advice), (Outcome::NothingDone, Advice::FixInput));
        }
        assert_eq!(ann.text(photos, "a").await, Ok(None));
        let named = |policy: &str| Bucket { name: "music".to_owned(), policy: policy.to_owned(), ..Bucket::default() };
        let error = ann.propose(Change::CreateBucket(named("gold"))).await.expect_err("no such policy");
        assert_eq!((error.kind, error.field.as_str()), (ErrorKind::BadInput, "change.createBucket.policy"));
        let error = ann.propose(Change::CreateBucket(Bucket { id: 1, ..named("") })).await.expect_err("a number");
        assert_eq!(error.field, "change.createBucket.id");
        let error = ann.propose(Change::CreateBucket(Bucket { name: "A".to_owned(), ..named("") })).await;
        assert_eq!(kind(error), ErrorKind::BadInput);
    });
}

#[test]
fn who_waits_for_a_map_hears_of_a_change() {
    run(|served| async move {
        let ann = served.user("ann");
        let Ok(MapUpdate::Map(map)) = ann.0.map(MapRequest::default(), LONG).await else { panic!("none is older") };
        assert!(cairn_placement::Map::from_toml(&map.placement).is_ok(), "{}", map.placement);
        let request = MapRequest { have: map.epoch, ..MapRequest::default() };
        let unchanged = Ok(MapUpdate::Unchanged(map.epoch));
        assert_eq!(ann.0.map(request, LONG).await, unchanged);
        assert_eq!(ann.0.wait(request, Duration::from_millis(300)).await, unchanged, "out of time is no error");
        let other = served.user("ann");
        let changed = futures_util::future::join(ann.0.wait(request, LONG), other.bucket("photos")).await.0;
        let Ok(MapUpdate::Map(later)) = changed else { panic!("{changed:?}") };
        assert!(later.epoch > map.epoch);
        assert_eq!(later.buckets[0].name, "photos");
    });
}
