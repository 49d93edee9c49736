//! What a cluster of one answers.

use cairn_daemon::cluster::{Cluster, ClusterError, Deleted, Freshness, new_version, wall_millis};
use cairn_meta::control::bucket::BucketRecord;
use cairn_meta::control::command::{Command as ControlCommand, CreateBucket};
use cairn_meta::control::state::{KeyRecord, UserRecord};
use cairn_meta::slot::command::{Answer, Body, Command, Place as Where, Write};
use cairn_meta::slot::list::{Item, Query as ListQuery};
use cairn_meta::slot::query::{Query, Reply};
use cairn_meta::slot::read::Mode as ReadMode;
use cairn_meta::version::commit::Mode;
use cairn_meta::version::{Content, Payload};

use crate::place::Place;

async fn make_bucket(cluster: &Cluster, name: &str) -> BucketRecord {
    let create = CreateBucket { name: name.to_owned(), owner: "ann".to_owned(), settings: <_>::default() };
    cluster.control("ann", None, ControlCommand::CreateBucket(create)).await.expect("made");
    cluster.map().bucket(name).expect("it is in the map at once").clone()
}

fn content(text: &str) -> Content {
    Content { size: text.len() as u64, payload: Payload::Inline(text.into()), ..Content::default() }
}

async fn write(cluster: &Cluster, bucket: &BucketRecord, key: &str, body: Body) {
    let place = Where { bucket: bucket.stamp(), key: key.to_owned() };
    let write = Write { place, id: new_version(), mode: Mode::Overwrite, body };
    let answer = cluster.command((bucket.id, key), None, Command::Commit(vec![write])).await.expect("committed");
    let Answer::Committed(each) = answer else { panic!("{answer:?}") };
    each.into_iter().for_each(|one| drop(one.expect("not refused")));
}

async fn read(cluster: &Cluster, bucket: &BucketRecord, key: &str) -> Option<Payload> {
    let query = Query::Read { bucket: bucket.id, key: key.to_owned(), mode: ReadMode::Preferred, local: vec![] };
    let reply = cluster.query((bucket.id, key), &query, Freshness::Latest).await.expect("answered");
    let Reply::Read(found) = reply else { panic!("{reply:?}") };
    found.filter(|found| found.is_object(wall_millis())).map(|found| found.version.content.payload)
}

async fn keys(cluster: &Cluster, bucket: &BucketRecord, limit: u32) -> Vec<String> {
    let (mut keys, mut after) = (Vec::new(), None);
    loop {
        let query = ListQuery {
            bucket: bucket.id,
            prefix: String::new(),
            delimiter: String::new(),
            after: after.take(),
            limit,
        };
        let page = cluster.list_objects(query).await.expect("listed");
        keys.extend(page.items.into_iter().map(|item| match item {
            Item::Entry(entry) => entry.key,
            Item::Prefix(prefix) => panic!("{prefix} without a delimiter"),
        }));
        after = page.next;
        if after.is_none() {
            return keys;
        }
    }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("key-{number:03}")).collect()
}

#[test]
fn what_was_written_is_read_and_listed_also_after_a_restart() {
    let place = Place::new();
    place.run(|cluster| async move {
        let bucket = make_bucket(&cluster, "photos").await;
        for name in names(50) {
            write(&cluster, &bucket, &name, Body::Object(content(&name))).await;
        }
        write(&cluster, &bucket, "key-007", Body::Deletion).await;
        assert_eq!(read(&cluster, &bucket, "key-008").await, Some(Payload::Inline(b"key-008".to_vec())));
        assert_eq!(read(&cluster, &bucket, "key-007").await, None);
    });
    place.run(|cluster| async move {
        let bucket = cluster.map().bucket("photos").expect("it is still there").clone();
        assert_eq!(read(&cluster, &bucket, "key-049").await, Some(Payload::Inline(b"key-049".to_vec())));
        let mut expected = names(50);
        expected.remove(7);
        assert_eq!(keys(&cluster, &bucket, 1000).await, expected);
        assert_eq!(keys(&cluster, &bucket, 3).await, expected);
    });
}

#[test]
fn only_an_empty_bucket_is_deleted() {
    Place::new().run(|cluster| async move {
        let bucket = make_bucket(&cluster, "photos").await;
        write(&cluster, &bucket, "one", Body::Object(content("1"))).await;
        assert_eq!(cluster.delete_bucket("ann", "photos").await, Ok(Deleted::NotEmpty));
        let bucket = cluster.map().bucket("photos").expect("it stays").clone();
        write(&cluster, &bucket, "one", Body::Deletion).await;
        assert_eq!(cluster.delete_bucket("ann", "photos").await, Ok(Deleted::Gone));
        assert_eq!(cluster.map().bucket("photos"), None);
        let again = cluster.delete_bucket("ann", "photos").await;
        assert!(matches!(again, Err(ClusterError::ControlRefused(_))), "{again:?}");
    });
}

#[test]
fn secrets_of_access_keys_are_sealed_in_the_rows_and_open_in_the_map() {
    let place = Place::new();
    place.run(|cluster| async move {
        let user = UserRecord { name: "ann".to_owned(), rights: String::new() };
        cluster.control("root", None, ControlCommand::PutUser(user)).await.expect("made");
        let sealed = cluster.seal().close("AK1", "a secret").expect("randomness");
        let key = KeyRecord { access: "AK1".to_owned(), user: "ann".to_owned(), sealed, disabled: false };
        cluster.control("root", None, ControlCommand::PutKey(key.clone())).await.expect("made");
        // A secret that was sealed for another name opens nothing.
        let stolen = KeyRecord { access: "AK2".to_owned(), ..key };
        cluster.control("root", None, ControlCommand::PutKey(stolen)).await.expect("made");
    });
    place.run(|cluster| async move {
        let map = cluster.map();
        let key = map.key("AK1").expect("it opens");
        assert_eq!((key.user.as_str(), key.secret.as_str()), ("ann", "a secret"));
        assert!(!format!("{key:?} {:?}", map.keys).contains("a secret"));
        assert_eq!(map.key("AK2"), None);
    });
}
