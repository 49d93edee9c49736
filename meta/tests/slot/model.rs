//! The version graph against a naive one, in which every version knows the set of all its ancestors by name.

use std::collections::{BTreeMap, BTreeSet};

use cairn_meta::rows::{Batch, Machine};
use cairn_meta::slot::Slot;
use cairn_meta::slot::command::{Answer, Body, Command, Envelope, Erase, Import, Refusal, Versioning, Which, Write};
use cairn_meta::slot::provisional;
use cairn_meta::slot::read::{Mode as ReadMode, read};
use cairn_meta::version::commit::{Condition, Mode, Refused, Row};
use cairn_meta::version::{Actor, Bypass, Context, Dot, Kind, Origin, State, Version, VersionId};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::world::{BUCKET, World, content, object};

/// What a naive graph knows of a version.
#[derive(Clone, Debug)]
struct Known {
    ancestors: BTreeSet<VersionId>,
    dot: Dot,
    origin: Origin,
    number: u64,
    kind: Kind,
    is_there: bool,
}

#[derive(Default)]
struct Graph {
    all: BTreeMap<VersionId, Known>,
    /// Made elsewhere and handed over, whether or not they are there still.
    imported: BTreeSet<VersionId>,
    commits: u64,
}

impl Graph {
    fn there(&self) -> impl Iterator<Item = (&VersionId, &Known)> {
        self.all.iter().filter(|(_, known)| known.is_there)
    }

    fn heads(&self) -> BTreeSet<VersionId> {
        let covered = |id: &VersionId| self.there().any(|(_, other)| other.ancestors.contains(id));
        self.there().map(|(id, _)| *id).filter(|id| !covered(id)).collect()
    }

    fn preferred(&self) -> Option<VersionId> {
        self.heads().into_iter().max_by_key(|id| (self.all[id].origin, self.all[id].number, *id))
    }

    fn lineage(&self, parents: &[VersionId]) -> BTreeSet<VersionId> {
        let own = parents.iter().copied();
        own.chain(parents.iter().flat_map(|id| self.all[id].ancestors.iter().copied())).collect()
    }

    fn context(&self, ancestors: &BTreeSet<VersionId>) -> Context {
        ancestors.iter().map(|id| self.all[id].dot).collect()
    }

    /// The row of the table, and the parents; or that it is refused.
    fn decide(&self, mode: &Mode) -> Option<(Row, Vec<VersionId>)> {
        let (heads, preferred) = (self.heads(), self.preferred());
        let over = |row| Some((row, preferred.into_iter().collect()));
        let mut named = Vec::new();
        if let Mode::Derive(ids) | Mode::Merge(ids) = mode {
            ids.iter().for_each(|id| {
                if !named.contains(id) {
                    named.push(*id);
                }
            });
        }
        let is_object = preferred.is_some_and(|id| self.all[&id].kind == Kind::Data);
        match mode {
            Mode::Overwrite => over(if preferred.is_none() { Row::O1 } else { Row::O2 }),
            Mode::Conditional(conditions) => match conditions[0] {
                Condition::Exists => over(Row::C1).filter(|_| is_object),
                Condition::Absent => over(Row::C1).filter(|_| !is_object),
                Condition::Head(id) => over(Row::C1).filter(|_| id == preferred),
                _ => unreachable!(),
            },
            Mode::Derive(_) if named.is_empty() || named.iter().any(|id| !self.all[id].is_there) => None,
            Mode::Derive(_) => {
                let all_heads = named.iter().all(|id| heads.contains(id));
                Some((if all_heads { Row::D1 } else { Row::D2 }, named))
            }
            Mode::Merge(_) => {
                Some((Row::M1, named)).filter(|(_, named)| named.len() > 1 && named.iter().all(|id| heads.contains(id)))
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Overwrite {
        deletion: bool,
    },
    Derive(Vec<Index>),
    Merge(Vec<Index>),
    Conditional(u8, Index),
    Erase(Index),
    /// A node that is cut off makes a version of what it knows.
    MakeLocally(Vec<Index>),
    /// It hands one over, perhaps again.
    Import(Index),
}

fn step() -> impl Strategy<Value = Step> {
    let picks = || vec(any::<Index>(), 0..3);
    prop_oneof![
        3 => any::<bool>().prop_map(|deletion| Step::Overwrite { deletion }),
        2 => picks().prop_map(Step::Derive),
        2 => picks().prop_map(Step::Merge),
        2 => (0..3_u8, any::<Index>()).prop_map(|(which, pick)| Step::Conditional(which, pick)),
        2 => any::<Index>().prop_map(Step::Erase),
        3 => picks().prop_map(Step::MakeLocally),
        3 => any::<Index>().prop_map(Step::Import),
    ]
}

struct Run {
    world: World,
    graph: Graph,
    /// Versions that nodes made while cut off.
    local: Vec<Version>,
}

const KEY: &str = "a/key";

impl Run {
    fn pick(&self, picks: &[Index]) -> Vec<VersionId> {
        let ids: Vec<VersionId> = self.graph.all.keys().copied().collect();
        if ids.is_empty() { vec![] } else { picks.iter().map(|pick| *pick.get(&ids)).collect() }
    }

    fn step(&mut self, step: &Step) {
        self.world.now += 1;
        match step {
            Step::Overwrite { deletion } => self.write(&Mode::Overwrite, *deletion),
            Step::Derive(picks) => self.write(&Mode::Derive(self.pick(picks)), false),
            Step::Merge(picks) => {
                let heads: Vec<VersionId> = self.graph.heads().into_iter().collect();
                let named = picks.iter().filter(|_| !heads.is_empty()).map(|pick| *pick.get(&heads)).collect();
                self.write(&Mode::Merge(named), false);
            }
            Step::Conditional(which, pick) => {
                let id = self.pick(&[*pick]).pop();
                let conditions = [Condition::Exists, Condition::Absent, Condition::Head(id)];
                self.write(&Mode::Conditional(vec![conditions[usize::from(*which)].clone()]), false);
            }
            Step::Erase(pick) => self.erase(*pick),
            Step::MakeLocally(picks) => self.make_locally(picks),
            Step::Import(pick) => self.import(*pick),
        }
    }

    fn write(&mut self, mode: &Mode, deletion: bool) {
        let expected = self.graph.decide(mode);
        let body = if deletion { Body::Deletion } else { object("x") };
        let committed = match (self.world.write(KEY, mode.clone(), body), expected) {
            (Ok(committed), Some((row, parents))) => {
                assert_eq!(committed.row, row, "{mode:?}");
                (committed, parents)
            }
            (Err(_), None) => return,
            (found, expected) => panic!("{mode:?}: {found:?} where {expected:?} was expected"),
        };
        let (committed, parents) = committed;
        let id = committed.id.unwrap();
        let version = self.world.read(KEY, ReadMode::Exact(id), &[]).unwrap().version;
        assert_eq!(version.parents, parents);
        self.graph.commits += 1;
        let ancestors = self.graph.lineage(&parents);
        let (number, origin) = (self.graph.commits, Origin::Committed);
        let known = Known { ancestors, dot: version.dot, origin, number, kind: version.kind, is_there: true };
        assert!(self.graph.all.insert(id, known).is_none(), "an id was used twice");
    }

    fn erase(&mut self, pick: Index) {
        let Some(id) = self.pick(&[pick]).pop() else { return };
        let erase =
            Erase { place: self.world.place(KEY), which: Which::Id(id), bypass: Bypass::Nothing, conditions: vec![] };
        let answer = self.world.apply(Command::Erase(erase));
        let known = self.graph.all.get_mut(&id).unwrap();
        match answer {
            Ok(Answer::Erased(erased)) => assert!(known.is_there && erased.id == id),
            Err(Refusal::NoVersion) => assert!(!known.is_there),
            other => panic!("{other:?}"),
        }
        known.is_there = false;
    }

    fn make_locally(&mut self, picks: &[Index]) {
        let parents = self.pick(picks);
        let ancestors = self.graph.lineage(&parents);
        let id = self.world.id();
        let dot = Dot { actor: Actor(id.0 | 1 << 126), counter: 1 };
        let context = self.graph.context(&ancestors);
        let (state, origin, modified) = (State::Provisional, Origin::Imported, self.world.now);
        let version = Version {
            id,
            parents,
            dot,
            context,
            state,
            origin,
            modified,
            content: content("local"),
            ..Version::default()
        };
        let known = Known { ancestors, dot, origin, number: 0, kind: Kind::Data, is_there: false };
        self.graph.all.insert(id, known);
        self.local.push(version);
    }

    fn import(&mut self, pick: Index) {
        if self.local.is_empty() {
            return;
        }
        let version = pick.get(&self.local).clone();
        let id = version.id;
        let (heads, known) = (self.graph.heads(), &self.graph.all[&id]);
        let superseded: BTreeSet<VersionId> = heads.intersection(&known.ancestors).copied().collect();
        let row = match () {
            () if self.graph.imported.contains(&id) => Row::I1,
            () if heads.iter().any(|head| self.graph.all[head].ancestors.contains(&id)) => Row::I2,
            () if superseded.len() == heads.len() => Row::I3,
            () => Row::I4,
        };
        let place = self.world.place(KEY);
        let committed = self.world.commit(Command::Import(vec![Import { place, version }])).unwrap();
        assert_eq!(committed.row, row);
        if self.graph.imported.insert(id) {
            self.graph.all.get_mut(&id).unwrap().is_there = true;
        }
    }

    fn check(&self) {
        let (heads, preferred) = (self.graph.heads(), self.graph.preferred());
        let found = self.world.read(KEY, ReadMode::Preferred, &[]);
        assert_eq!(found.as_ref().map(|found| found.version.id), preferred);
        let ids = found.into_iter().flat_map(|found| found.heads).map(|head| head.id).collect();
        assert_eq!(heads, ids);
        for (id, known) in &self.graph.all {
            let found = self.world.read(KEY, ReadMode::Exact(*id), &[]);
            assert_eq!(found.is_some(), known.is_there, "{id}");
            if let Some(found) = found {
                assert_eq!(found.version.context, self.graph.context(&known.ancestors));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn a_slot_keeps_the_graph_that_a_naive_one_keeps(steps in vec(step(), 1..40)) {
        let mut run = Run { world: World::new(Versioning::Enabled), graph: Graph::default(), local: vec![] };
        for step in &steps {
            run.step(step);
            run.check();
        }
    }
}

/// Three nodes that were cut off: chains of versions over what they knew.
fn chains() -> impl Strategy<Value = Vec<(usize, Version)>> {
    vec((0_usize..3, any::<bool>()), 1..8).prop_map(|makers| {
        let base = Dot { actor: Actor(1), counter: 1 };
        let mut last: BTreeMap<usize, Version> = BTreeMap::new();
        let mut made = Vec::new();
        for (at, (node, knew_base)) in makers.into_iter().enumerate() {
            let id = VersionId(1000 + at as u128);
            let actor = Actor(500 + node as u128);
            let before = last.get(&node);
            let mut context: Context = before.map(|before| before.context.clone()).unwrap_or_default();
            if knew_base {
                context.add(base);
            }
            before.iter().for_each(|before| context.add(before.dot));
            let dot = Dot { actor, counter: before.map_or(0, |before| before.dot.counter) + 1 };
            let is_null = at % 2 == 0;
            let version =
                Version { id, dot, context, is_null, content: content(&format!("{at}")), ..Version::default() };
            last.insert(node, version.clone());
            made.push((node, version));
        }
        made
    })
}

fn import_all(versions: &[Version], base: bool) -> World {
    let mut world = World::new(Versioning::Enabled);
    if base {
        let write = Write { place: world.place(KEY), id: VersionId(1), mode: Mode::Overwrite, body: object("base") };
        world.commit(Command::Commit(vec![write])).unwrap();
    }
    for version in versions.iter().chain(versions) {
        let import = Import { place: world.place(KEY), version: version.clone() };
        world.commit(Command::Import(vec![import])).unwrap();
    }
    world
}

proptest! {
    /// S14: each is imported once, and in whatever order they come, the graph and the preferred head are the same.
    #[test]
    fn imports_converge_in_any_order_and_count_once(
        (made, shuffled) in chains().prop_flat_map(|made| (Just(made.clone()), Just(made).prop_shuffle())),
        base in any::<bool>(),
    ) {
        let versions = |made: Vec<(usize, Version)>| -> Vec<Version> { made.into_iter().map(|(_, version)| version).collect() };
        let (made, shuffled) = (versions(made), versions(shuffled));
        let (one, other) = (import_all(&made, base), import_all(&shuffled, base));
        let seen = |world: &World| {
            let found = world.read(KEY, ReadMode::Preferred, &[]).unwrap();
            let mut heads: Vec<VersionId> = found.heads.iter().map(|head| head.id).collect();
            heads.sort_unstable();
            let kept: Vec<bool> =
                made.iter().map(|version| world.read(KEY, ReadMode::Exact(version.id), &[]).is_some()).collect();
            (found.version.id, heads, kept)
        };
        prop_assert_eq!(seen(&one), seen(&other));
    }
}

#[test]
fn what_is_refused_says_why() {
    let mut world = World::new(Versioning::Enabled);
    world.put(KEY, "one");
    let unknown = VersionId(77);
    let refused = world.write(KEY, Mode::Derive(vec![unknown]), object("two"));
    assert_eq!(refused, Err(Refusal::Commit(Refused::UnknownParent(unknown))));
    let long = "k".repeat(1025);
    assert_eq!(world.write(&long, Mode::Overwrite, object("x")), Err(Refusal::Key(1025)));
    assert_eq!(world.write("", Mode::Overwrite, object("x")), Err(Refusal::Key(0)));
    world.bucket.epoch = 0;
    let stale = Refusal::StaleBucket { stated: 0, known: 1 };
    assert_eq!(world.write(KEY, Mode::Overwrite, object("x")), Err(stale));
    world.bucket.epoch = 1;
    let write = Write { place: world.place(KEY), id: VersionId(u128::MAX), mode: Mode::Overwrite, body: object("x") };
    assert_eq!(world.commit(Command::Commit(vec![write])), Err(Refusal::Id(VersionId(u128::MAX))));
}

/// What a commit costs in rows: the key's and the bucket's, and one for what it supersedes where that is kept.
#[test]
fn a_commit_changes_the_rows_it_must() {
    for (versioning, changed) in [(Versioning::Off, 2), (Versioning::Enabled, 3)] {
        let mut world = World::new(versioning);
        world.put(KEY, "one");
        let write = Write { place: world.place(KEY), id: world.id(), mode: Mode::Overwrite, body: object("two") };
        let command = Envelope { time: world.now, token: None, command: Command::Commit(vec![write]) }.encode();
        let mut batch = Batch::new(&world.rows);
        Slot.apply(&mut batch, 9, &command).unwrap();
        assert_eq!(batch.into_changes().len(), changed, "{versioning:?}");
    }
}

#[derive(Clone, Debug)]
enum Apart {
    /// The slot commits.
    Commit(bool),
    /// The node that is cut off takes a write on its own.
    Make(bool),
    /// It derives from one that it holds.
    Derive(Index),
    /// It forgets what numbers it used, as by a restart.
    Restart,
}

fn apart() -> impl Strategy<Value = Apart> {
    prop_oneof![
        2 => any::<bool>().prop_map(Apart::Commit),
        4 => any::<bool>().prop_map(Apart::Make),
        2 => any::<Index>().prop_map(Apart::Derive),
        1 => Just(Apart::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// S13, S14: whatever a node takes while it is cut off is in the slot afterwards, each version once and above what it was made
    /// of, and nothing that the slot committed meanwhile is superseded by it.
    #[test]
    fn what_is_made_apart_is_taken_over_beside_what_was_committed(
        before in 0_usize..3, steps in vec(apart(), 1..25), versioning in 0_u8..2,
    ) {
        let versioning = if versioning == 0 { Versioning::Enabled } else { Versioning::Off };
        let mut world = World::new(versioning);
        (0..before).for_each(|at| drop(world.put(KEY, &at.to_string())));
        let known = world.rows.clone();
        let (mut held, mut next, mut committed): (Vec<Version>, Option<Dot>, Vec<VersionId>) = Default::default();
        for step in steps {
            let (mode, deletion) = match step {
                Apart::Commit(deletion) => {
                    committed.extend(if deletion { world.delete(KEY) } else { world.put(KEY, "x") }.id);
                    continue;
                }
                Apart::Restart => {
                    next = None;
                    continue;
                }
                Apart::Make(deletion) => (Mode::Overwrite, deletion),
                Apart::Derive(_) if held.is_empty() => continue,
                Apart::Derive(pick) => (Mode::Derive(vec![pick.get(&held).id]), false),
            };
            let body = if deletion { Body::Deletion } else { object("apart") };
            let write = Write { place: world.place(KEY), id: world.id(), mode, body };
            let made = provisional::make(&known, world.now, write, &held, next).unwrap().unwrap();
            prop_assert_eq!(made.committed.id, made.version.as_ref().map(|version| version.id));
            let Some(version) = made.version else { continue };
            let Dot { actor, counter } = version.dot;
            next = Some(Dot { actor, counter: counter + 1 });
            let seen = read(&known, (BUCKET, KEY), ReadMode::Exact(version.id), &[&held[..], std::slice::from_ref(&version)].concat());
            prop_assert_eq!(seen.unwrap().unwrap().version.state, State::Provisional);
            held.push(version);
        }
        let before = world.read(KEY, ReadMode::Preferred, &[]);
        for turn in 0..2 {
            for version in &held {
                let import = Import { place: world.place(KEY), version: version.clone() };
                let answer = world.commit(Command::Import(vec![import])).unwrap();
                prop_assert!(turn == 0 || answer.row == Row::I1, "{:?}", answer);
            }
        }
        let Some(after) = world.read(KEY, ReadMode::Preferred, &held) else { return Ok(()) };
        prop_assert_eq!(after.version.state, State::Confirmed);
        // What the slot showed, if it committed that while they were apart, is shown still.
        let kept = before.filter(|before| committed.contains(&before.version.id));
        prop_assert!(kept.is_none_or(|before| before.version.id == after.version.id));
        for version in &held {
            let is_superseded = held.iter().any(|other| other.supersedes(version.dot));
            let is_head = after.heads.iter().any(|head| head.id == version.id);
            prop_assert_eq!(is_head, !is_superseded);
        }
    }
}

/// Two nodes whose clocks are behind what they know of: were each to take the next id in order, they would take the same.
#[test]
fn versions_made_apart_by_slow_clocks_have_different_names() {
    let mut world = World::new(Versioning::Enabled);
    world.now = 5_000;
    let known = world.put(KEY, "known").id.unwrap();
    let make = |random: u128| {
        let id = VersionId::new(10, random);
        let write = Write { place: world.place(KEY), id, mode: Mode::Overwrite, body: object("apart") };
        provisional::make(&world.rows, 10, write, &[], None).unwrap().unwrap().version.unwrap()
    };
    let (one, other) = (make(1), make(2));
    assert!(one.id > known && other.id > known && one.id != other.id && one.dot != other.dot);
    for version in [&one, &other] {
        let import = Import { place: world.place(KEY), version: version.clone() };
        assert_ne!(world.commit(Command::Import(vec![import])).unwrap().row, Row::I1);
    }
}

#[test]
fn what_needs_all_to_know_of_it_is_never_made_apart() {
    let (world, held) = (World::new(Versioning::Enabled), vec![]);
    let make = |mode: Mode, key: &str| {
        let write = Write { place: world.place(key), id: VersionId(9), mode, body: object("x") };
        provisional::make(&world.rows, 1, write, &held, None).unwrap().map(|made| made.committed.row)
    };
    let absent = Mode::Conditional(vec![Condition::Absent]);
    assert!(!provisional::may_be(&absent) && matches!(make(absent, KEY), Err(Refusal::Malformed(_))));
    let unknown = VersionId(77);
    assert_eq!(make(Mode::Derive(vec![unknown]), KEY), Err(Refusal::Commit(Refused::UnknownParent(unknown))));
    assert_eq!(make(Mode::Overwrite, ""), Err(Refusal::Key(0)));
    assert_eq!(make(Mode::Overwrite, KEY), Ok(Row::O1));
}
