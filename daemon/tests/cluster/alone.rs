//! What a cluster of one answers.

use std::collections::BTreeSet;

use cairn_daemon::cluster::{Cluster, ClusterError, Deleted, Freshness, new_version, wall_millis};
use cairn_meta::control::bucket::BucketRecord;
use cairn_meta::control::command::{Command as ControlCommand, CreateBucket};
use cairn_meta::control::state::{KeyRecord, UserRecord};
use cairn_meta::slot::command::{Answer, Body, Command, Place as Where, Write};
use cairn_meta::slot::list::{Item, Query as ListQuery};
use cairn_meta::slot::query::{Query, Reply};
use cairn_meta::slot::read::Mode as ReadMode;
use cairn_meta::version::commit::Mode;
use cairn_meta::version::{Content, Lock, Payload};

use crate::place::{Place, SLOTS};

pub async fn make_bucket(cluster: &Cluster, name: &str) -> BucketRecord {
    let create = CreateBucket { name: name.to_owned(), owner: "ann".to_owned(), settings: <_>::default() };
    cluster.control("ann", None, ControlCommand::CreateBucket(create)).await.expect("made");
    cluster.map().bucket(name).expect("it is in the map at once").clone()
}

pub fn content(text: &str) -> Content {
    Content { size: text.len() as u64, payload: Payload::Inline(text.into()), ..Content::default() }
}

pub async fn write(cluster: &Cluster, bucket: &BucketRecord, key: &str, body: Body) {
    let place = Where { bucket: bucket.stamp(), key: key.to_owned() };
    let write = Write { place, id: new_version(), mode: Mode::Overwrite, body };
    let answer = cluster.command((bucket.id, key), None, Command::Commit(vec![write])).await.expect("committed");
    let Answer::Committed(each) = answer else { panic!("{answer:?}") };
    each.into_iter().for_each(|one| drop(one.expect("not refused")));
}

pub async fn read(cluster: &Cluster, bucket: &BucketRecord, key: &str) -> Option<Payload> {
    let query = Query::Read { bucket: bucket.id, key: key.to_owned(), mode: ReadMode::Preferred, local: vec![] };
    let reply = cluster.query((bucket.id, key), &query, Freshness::Latest).await.expect("answered");
    let Reply::Read(found) = reply else { panic!("{reply:?}") };
    found.filter(|found| found.is_object(wall_millis())).map(|found| found.version.content.payload)
}

pub async fn keys(cluster: &Cluster, bucket: &BucketRecord, limit: u32) -> Vec<String> {
    let (mut keys, mut after) = (Vec::new(), None);
    loop {
        let query = ListQuery { bucket: bucket.id, after: after.take(), limit, ..ListQuery::default() };
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

pub fn names(count: usize) -> Vec<String> {
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
fn what_outlived_its_time_is_ended_once() {
    Place::new().run(|cluster| async move {
        let (bucket, now) = (make_bucket(&cluster, "photos").await, wall_millis());
        let mut expected = names(4);
        for name in &expected {
            write(&cluster, &bucket, name, Body::Object(content(name))).await;
        }
        // More than are looked at at once.
        for name in (0..700).map(|number| format!("short-{number:03}")) {
            let short = Content { expires: Some(now + 60_000), ..content(&name) };
            write(&cluster, &bucket, &name, Body::Object(short)).await;
        }
        let held = Lock { legal_hold: true, ..Lock::default() };
        let locked = Content { expires: Some(now + 60_000), lock: held, ..content("locked") };
        write(&cluster, &bucket, "locked", Body::Object(locked)).await;
        // Whoever writes it anew says anew how long.
        write(&cluster, &bucket, "short-699", Body::Object(content("for good"))).await;
        expected.extend(["locked".to_owned(), "short-699".to_owned()]);
        let mut refused = BTreeSet::new();
        let early = cluster.end_expired(now + 59_999, &mut refused, async |_| true).await;
        assert_eq!((early, refused.len()), (Ok(0), 0));
        assert_eq!(cluster.end_expired(now + 60_000, &mut refused, async |_| false).await, Ok(0), "it is told to stop");
        assert_eq!(cluster.end_expired(now + 60_000, &mut refused, async |_| true).await, Ok(699));
        assert_eq!((keys(&cluster, &bucket, 1000).await, refused.len()), (expected, 1));
        let again = cluster.end_expired(now + 60_000, &mut refused, async |_| panic!("there is nothing")).await;
        assert_eq!(again, Ok(0));
    });
}

#[test]
fn tombstones_go_when_their_retention_is_over() {
    const MONTH: u64 = 30 * 24 * 3600 * 1000;
    Place::new().run(|cluster| async move {
        let (photos, old) = (make_bucket(&cluster, "photos").await, make_bucket(&cluster, "old").await);
        let expected = names(100);
        for name in &expected {
            write(&cluster, &photos, name, Body::Object(content(name))).await;
        }
        for (bucket, name) in (0..700).map(|number| ([&photos, &old][number % 2], format!("gone-{number:03}"))) {
            write(&cluster, bucket, &name, Body::Object(content(&name))).await;
            write(&cluster, bucket, &name, Body::Deletion).await;
        }
        assert_eq!(cluster.delete_bucket("ann", "old").await, Ok(Deleted::Gone));
        let now = wall_millis();
        let nothing = async |keys| keys == 0 || panic!("{keys} keys");
        assert_eq!(cluster.trim(now + MONTH / 2, nothing).await, Ok(0));
        assert_eq!(cluster.trim(now + MONTH, async |_| false).await, Ok(0), "it is told to stop");
        let trimmed = cluster.trim(now + MONTH, async |_| true).await;
        assert_eq!(trimmed, Ok(700), "also of a bucket that is no more");
        let again = cluster.trim(now + MONTH, nothing).await;
        assert_eq!((again, keys(&cluster, &photos, 1000).await), (Ok(0), expected));
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

/// Waits until this core's map has a bucket.
pub async fn await_bucket(cluster: &Cluster, name: &str) -> BucketRecord {
    loop {
        if let Some(bucket) = cluster.map().bucket(name) {
            return bucket.clone();
        }
        cairn_io::time::sleep(cairn_io::time::Duration::from_millis(1)).await;
    }
}

#[test]
fn every_core_reaches_every_slot() {
    let place = Place::new();
    for cores in [3, 1, 2] {
        place.run_on(cores, move |cluster, core| async move {
            let own = format!("photos-{cores}-{}", core.index());
            let bucket = make_bucket(&cluster, &own).await;
            for name in names(12) {
                write(&cluster, &bucket, &name, Body::Object(content(&own))).await;
            }
            // What the next core has written is read and listed here.
            let next = format!("photos-{cores}-{}", (core.index() + 1) % cores);
            let bucket = await_bucket(&cluster, &next).await;
            while keys(&cluster, &bucket, 5).await.len() < 12 {
                cairn_io::time::sleep(cairn_io::time::Duration::from_millis(1)).await;
            }
            assert_eq!(keys(&cluster, &bucket, 5).await, names(12));
            assert_eq!(read(&cluster, &bucket, "key-003").await, Some(Payload::Inline(next.into_bytes())));
        });
    }
    place.run_on(2, |cluster, core| async move {
        let groups = cluster.groups().await;
        assert_eq!((groups.led, groups.leaderless, groups.stopped), (u64::from(SLOTS) + 1, 0, vec![]), "{core}");
        let bucket = cluster.map().bucket("photos-3-2").expect("it is still there").clone();
        assert_eq!(keys(&cluster, &bucket, 1000).await, names(12));
    });
}

#[test]
fn a_change_is_in_every_cores_map_before_it_is_answered() {
    Place::new().run_on(2, |cluster, core| async move {
        if core.index() == 0 {
            make_bucket(&cluster, "photos").await;
            // The other core finds it at once, by asking its own map.
            make_bucket(&cluster, "done").await;
        } else {
            await_bucket(&cluster, "done").await;
            assert!(cluster.map().bucket("photos").is_some());
        }
    });
}

/// A cluster with something in it, on two disks. Slots draw their lanes, so a disk may get none: then all draw again.
fn both_disks_have_slots() -> Place {
    loop {
        let place = Place::with_disks(2);
        let (say, said) = async_channel::unbounded();
        place.run(move |cluster| {
            let say = say.clone();
            async move {
                let bucket = make_bucket(&cluster, "photos").await;
                for name in names(40) {
                    write(&cluster, &bucket, &name, Body::Object(content(&name))).await;
                }
                let (slots, map) = (cluster.disks().slots().await.expect("read"), cluster.disks().map());
                let lanes = slots.into_iter().filter(|(_, slots)| !slots.is_empty());
                let disks: BTreeSet<_> = lanes.filter_map(|(lane, _)| map.lane(lane).map(|lane| lane.disk)).collect();
                say.send(disks.len()).await.expect("somebody hears");
            }
        });
        if said.try_recv() == Ok(2) {
            return place;
        }
    }
}

#[test]
fn a_slot_whose_disk_is_away_does_not_begin_anew() {
    let place = both_disks_have_slots();
    for away in place.data() {
        let hidden = format!("{away}.away");
        std::fs::rename(&away, &hidden).expect("renamed");
        let opened = place.try_run(|cluster| async move {
            let groups = cluster.groups().await;
            assert!(!groups.stopped.is_empty(), "{groups:?}");
            assert_eq!(groups.led + groups.stopped.len() as u64, u64::from(SLOTS) + 1);
            let bucket = cluster.map().bucket("photos").expect("control is there").clone();
            for name in names(40) {
                let query =
                    Query::Read { bucket: bucket.id, key: name.clone(), mode: ReadMode::Preferred, local: vec![] };
                match cluster.query((bucket.id, &name), &query, Freshness::Local).await {
                    Ok(Reply::Read(found)) => assert!(found.is_some(), "{name} would be lost"),
                    Ok(other) => panic!("{other:?}"),
                    Err(error) => assert!(matches!(error, ClusterError::Unreachable(_)), "{error:?}"),
                }
            }
        });
        // The disk that has control: nothing is begun anew either.
        assert!(opened.as_ref().is_ok() || opened.as_ref().is_err_and(|why| why.contains("missing")), "{opened:?}");
        std::fs::rename(&hidden, &away).expect("renamed");
    }
    place.run(|cluster| async move {
        let bucket = cluster.map().bucket("photos").expect("it is still there").clone();
        assert_eq!(keys(&cluster, &bucket, 1000).await, names(40));
    });
}
