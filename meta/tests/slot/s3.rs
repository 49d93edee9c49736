//! Versioning as S3's clients see it, against a list of versions for each key.

use std::collections::BTreeMap;

use cairn_meta::slot::command::{Answer, Body, Command, Erase, Refusal, Versioning, Which};
use cairn_meta::slot::list::{Item, Query, VersionEntry, objects, versions};
use cairn_meta::slot::read::Mode as ReadMode;
use cairn_meta::version::commit::{Condition, Mode, Refused};
use cairn_meta::version::{Bypass, Kind, VersionId};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::world::{BUCKET, World};

#[derive(Clone, Debug)]
enum Step {
    Put(u8),
    Delete(u8),
    EraseVersion(u8, Index),
    EraseNull(u8),
    Turn(Versioning),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_u8).prop_map(Step::Put),
        2 => (0..3_u8).prop_map(Step::Delete),
        2 => (0..3_u8, any::<Index>()).prop_map(|(key, pick)| Step::EraseVersion(key, pick)),
        1 => (0..3_u8).prop_map(Step::EraseNull),
        1 => prop_oneof![Just(Versioning::Enabled), Just(Versioning::Suspended)].prop_map(Step::Turn),
    ]
}

/// What S3 says there is: of each key the versions, oldest first, and which of them are called `null`.
#[derive(Default)]
struct Model(BTreeMap<String, Vec<(VersionId, Kind, bool)>>);

impl Model {
    fn add(&mut self, key: &str, id: VersionId, kind: Kind, versioning: Versioning) {
        let all = self.0.entry(key.to_owned()).or_default();
        let is_null = versioning != Versioning::Enabled;
        if is_null {
            all.retain(|(_, _, null)| !null);
        }
        if versioning != Versioning::Off || kind == Kind::Data {
            all.push((id, kind, is_null));
        }
    }
}

fn check(world: &World, model: &Model) {
    for (key, all) in &model.0 {
        let latest = all.last().filter(|(_, kind, _)| *kind == Kind::Data).map(|(id, _, _)| *id);
        let found = world.read(key, ReadMode::Preferred, &[]).filter(|found| found.is_object(world.now));
        assert_eq!(found.map(|found| found.version.id), latest, "{key}");
        let null = all.iter().find(|(_, _, null)| *null).map(|(id, _, _)| *id);
        let found = world.read(key, ReadMode::Null, &[]).filter(|found| found.version.kind != Kind::Tombstone);
        assert_eq!(found.map(|found| found.version.id), null, "{key}");
    }
    let query = |limit| Query { bucket: BUCKET, limit, ..Query::default() };
    let listed: Vec<(String, VersionId, Kind, bool, bool)> = versions(&world.rows, &query(10_000))
        .unwrap()
        .items
        .into_iter()
        .map(|item| match item {
            Item::Entry(VersionEntry { key, id, kind, is_null, is_latest, .. }) => (key, id, kind, is_null, is_latest),
            Item::Prefix(prefix) => panic!("{prefix}"),
        })
        .collect();
    let expected: Vec<_> = model
        .0
        .iter()
        .flat_map(|(key, all)| {
            let count = all.len();
            let each = all.iter().enumerate().rev();
            each.map(move |(at, (id, kind, null))| (key.clone(), *id, *kind, *null, at + 1 == count))
        })
        .collect();
    assert_eq!(listed, expected);
    let there = model.0.iter().filter(|(_, all)| all.last().is_some_and(|(_, kind, _)| *kind == Kind::Data)).count();
    assert_eq!(objects(&world.rows, &query(10_000)).unwrap().items.len(), there);
}

fn erase(world: &mut World, key: &str, which: Which) -> Result<VersionId, Refusal> {
    erase_if(world, key, which, vec![])
}

fn erase_if(world: &mut World, key: &str, which: Which, conditions: Vec<Condition>) -> Result<VersionId, Refusal> {
    let erase = Erase { place: world.place(key), which, bypass: Bypass::Nothing, conditions };
    match world.apply(Command::Erase(erase))? {
        Answer::Erased(erased) => Ok(erased.id),
        other => panic!("{other:?}"),
    }
}

#[test]
fn conditions_of_an_erasure_are_about_the_version_it_names() {
    let mut world = World::new(Versioning::Enabled);
    let one = world.put("key", "one").id.unwrap();
    let two = world.put("key", "other").id.unwrap();
    let size = |size| vec![Condition::Size(size)];
    let refused = erase_if(&mut world, "key", Which::Id(one), size(5));
    assert!(matches!(refused, Err(Refusal::Commit(Refused::Precondition { exists: true, .. }))), "{refused:?}");
    assert_eq!(erase_if(&mut world, "key", Which::Id(one), size(3)), Ok(one));
    assert_eq!(erase_if(&mut world, "key", Which::Id(one), size(3)), Err(Refusal::NoVersion), "it is gone");
    let marker = world.delete("key").id.unwrap();
    assert_eq!(erase_if(&mut world, "key", Which::Id(two), size(5)), Ok(two), "though a marker is above it");
    let refused = erase_if(&mut world, "key", Which::Id(marker), vec![Condition::Exists]);
    assert!(matches!(refused, Err(Refusal::Commit(Refused::Precondition { exists: false, .. }))), "{refused:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_bucket_has_the_versions_that_s3_says(steps in vec(step(), 1..40), keeps_replaced in any::<bool>()) {
        let mut world = World::new(Versioning::Off);
        world.bucket.keep.replaced = if keeps_replaced { 1 << 40 } else { 0 };
        let mut model = Model::default();
        for step in steps {
            world.now += 1;
            match step {
                Step::Put(key) => {
                    let key = format!("key{key}");
                    let id = world.put(&key, "x").id.unwrap();
                    model.add(&key, id, Kind::Data, world.bucket.versioning);
                }
                Step::Delete(key) => {
                    let key = format!("key{key}");
                    let deleted = world.write(&key, Mode::Overwrite, Body::Deletion).unwrap();
                    if let Some(id) = deleted.id {
                        model.add(&key, id, deleted.kind, world.bucket.versioning);
                    }
                }
                Step::EraseVersion(key, pick) => {
                    let key = format!("key{key}");
                    let Some(all) = model.0.get_mut(&key).filter(|all| !all.is_empty()) else { continue };
                    let (id, _, _) = all.remove(pick.index(all.len()));
                    prop_assert_eq!(erase(&mut world, &key, Which::Id(id)), Ok(id));
                }
                Step::EraseNull(key) => {
                    let key = format!("key{key}");
                    let all = model.0.entry(key.clone()).or_default();
                    let null = all.iter().position(|(_, _, null)| *null);
                    let id = null.map(|at| all.remove(at).0);
                    // A tombstone is one, too, that S3 doesn't know of.
                    if id.is_some() || world.read(&key, ReadMode::Null, &[]).is_none() {
                        prop_assert_eq!(erase(&mut world, &key, Which::Null).ok(), id);
                    }
                }
                Step::Turn(versioning) => {
                    world.bucket.versioning = versioning;
                    world.bucket.epoch += 1;
                }
            }
            check(&world, &model);
        }
    }
}
