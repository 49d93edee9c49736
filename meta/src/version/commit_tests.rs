//! The decision table, row by row.

use super::*;
use crate::encoding::{decode, encode};
use crate::version::{Content, Origin, State};

const OWN: Actor = Actor(1);

fn version(id: u128, actor: Actor, counter: u64, ancestors: &[(Actor, u64)]) -> Version {
    let context = ancestors.iter().map(|(actor, counter)| Dot { actor: *actor, counter: *counter }).collect();
    let content = Content { etag: format!("e{id}"), size: 3, ..Content::default() };
    let dot = Dot { actor, counter };
    Version { id: VersionId(id), dot, context, content, modified: 50, ..Version::default() }
}

/// A key with this history; its preferred head is last.
struct Key {
    heads: Vec<Version>,
    kept: Vec<Version>,
}

impl Key {
    fn view<R>(&self, caps: Caps, use_it: impl FnOnce(&View<'_>) -> R) -> R {
        let heads: Vec<Head> = self.heads.iter().map(Head::from).collect();
        let kept = self.kept.iter().map(|version| (version.id, Head::from(version))).collect();
        let bytes = self.heads.last().map(encode);
        let preferred = bytes.as_ref().map(|bytes| decode(bytes).unwrap());
        let versions = (self.heads.len() + self.kept.len()) as u32;
        use_it(&View { heads: &heads, preferred, kept: &kept, versions, caps })
    }

    fn decide(&self, mode: &Mode) -> Result<Decision, Refused> {
        self.view(Caps::default(), |view| decide(mode, view, 100))
    }

    fn import(&self, version: &Version, marker: Marker) -> Result<Decision, Refused> {
        self.view(Caps::default(), |view| decide_import(version, marker, view, Some(OWN)))
    }
}

/// Version 1, from which 2 and 3 branched; 3 is preferred.
fn branched() -> Key {
    let kept = vec![version(1, OWN, 1, &[])];
    Key { heads: vec![version(2, OWN, 2, &[(OWN, 1)]), version(3, OWN, 3, &[(OWN, 1)])], kept }
}

fn ids(ids: &[u128]) -> Vec<VersionId> {
    ids.iter().copied().map(VersionId).collect()
}

#[test]
fn commits_follow_the_table() {
    let (none, key) = (Key { heads: vec![], kept: vec![] }, branched());
    let etag = |etag: &str| Mode::Conditional(vec![Condition::Etag(vec![etag.to_owned()])]);
    let rows = [
        (Row::O1, &none, Mode::Overwrite, &[][..], &[][..]),
        (Row::O2, &key, Mode::Overwrite, &[3], &[3]),
        (Row::D1, &key, Mode::Derive(ids(&[2])), &[2], &[2]),
        (Row::D1, &key, Mode::Derive(ids(&[2, 3, 2])), &[2, 3], &[2, 3]),
        (Row::D2, &key, Mode::Derive(ids(&[1])), &[1], &[]),
        (Row::D2, &key, Mode::Derive(ids(&[1, 3])), &[1, 3], &[3]),
        (Row::C1, &key, etag("e3"), &[3], &[3]),
        (Row::C1, &none, Mode::Conditional(vec![Condition::Absent]), &[], &[]),
        (Row::M1, &key, Mode::Merge(ids(&[2, 3])), &[2, 3], &[2, 3]),
    ];
    for (row, key, mode, parents, superseded) in rows {
        let decision = key.decide(&mode).unwrap();
        assert_eq!(decision.row, row, "{mode:?}");
        assert_eq!((decision.parents, decision.superseded), (ids(parents), ids(superseded)), "{mode:?}");
        for ancestor in key.heads.iter().chain(&key.kept).filter(|version| parents.contains(&version.id.0)) {
            assert!(decision.context.has(ancestor.dot) && ancestor.context.is_within(&decision.context), "{mode:?}");
        }
    }
}

#[test]
fn refusals_follow_the_table() {
    let key = branched();
    let refused = |mode: Mode| key.decide(&mode).unwrap_err();
    assert_eq!(refused(Mode::Derive(ids(&[3, 9]))), Refused::UnknownParent(VersionId(9)), "D3");
    assert_eq!(refused(Mode::Derive(vec![])), Refused::NoParents, "D4");
    let condition = Condition::Etag(vec!["e2".to_owned()]);
    let failed = Refused::Precondition { condition: condition.clone(), exists: true };
    assert_eq!(refused(Mode::Conditional(vec![Condition::Exists, condition])), failed, "C2");
    assert_eq!(refused(Mode::Merge(ids(&[1, 2]))), Refused::NotHead(VersionId(1)), "M2");
    assert_eq!(refused(Mode::Merge(ids(&[2]))), Refused::TooFewParents, "M3");
    assert_eq!(refused(Mode::Merge(ids(&[2, 2]))), Refused::TooFewParents, "M3");
}

#[test]
fn imports_follow_the_table() {
    let key = branched();
    let other = Actor(9);
    let all = [(OWN, 1), (OWN, 2), (OWN, 3)];
    let rows = [
        (Row::I1, Marker::Here, &all[..], &[][..]),
        (Row::I3, Marker::None, &all, &[2, 3]),
        (Row::I4, Marker::None, &[(OWN, 1), (OWN, 3)], &[3]),
        (Row::I4, Marker::None, &[], &[]),
    ];
    for (row, marker, ancestors, superseded) in rows {
        let decision = key.import(&version(8, other, 1, ancestors), marker).unwrap();
        assert_eq!((decision.row, decision.superseded), (row, ids(superseded)), "{ancestors:?}");
    }
    let late = Key { heads: vec![version(8, other, 2, &[(other, 1)])], kept: vec![] };
    assert_eq!(late.import(&version(7, other, 1, &[]), Marker::None).unwrap().row, Row::I2);
    let empty = Key { heads: vec![], kept: vec![] };
    assert_eq!(empty.import(&version(7, other, 1, &[]), Marker::None).unwrap().row, Row::I3);
    for bad in [version(8, OWN, 9, &[]), version(8, other, 1, &[(other, 1)]), version(8, other, 0, &[])] {
        assert_eq!(key.import(&bad, Marker::None), Err(Refused::BadImport), "I5: {bad:?}");
    }
}

#[test]
fn caps_are_loud() {
    let key = branched();
    let heads = Caps { heads: 2, versions: 100 };
    let versions = Caps { heads: 100, versions: 3 };
    let under = |caps, mode: Mode| key.view(caps, |view| decide(&mode, view, 100)).map(|decision| decision.row);
    assert_eq!(under(heads, Mode::Derive(ids(&[1]))), Err(Refused::TooManyHeads { max: 2 }), "X1");
    assert_eq!(under(heads, Mode::Overwrite), Ok(Row::O2), "the number of heads stays");
    assert_eq!(under(Caps { heads: 1, versions: 100 }, Mode::Overwrite), Ok(Row::O2), "the cap was lowered");
    assert_eq!(under(versions, Mode::Overwrite), Err(Refused::TooManyVersions { max: 3 }), "X2");
    let branch = version(8, Actor(9), 1, &[]);
    let import = |caps, marker| key.view(caps, |view| decide_import(&branch, marker, view, None)).map(|made| made.row);
    assert_eq!(import(heads, Marker::None), Err(Refused::TooManyHeads { max: 2 }));
    assert_eq!(import(versions, Marker::None), Err(Refused::TooManyVersions { max: 3 }));
    assert_eq!(import(versions, Marker::Here), Ok(Row::I1));
}

#[test]
fn each_condition_can_hold_and_fail() {
    let here = Key { heads: vec![version(3, OWN, 1, &[])], kept: vec![] };
    let mut gone = version(4, OWN, 1, &[]);
    gone.kind = Kind::Tombstone;
    let gone = Key { heads: vec![gone], kept: vec![] };
    let mut expired = version(5, OWN, 1, &[]);
    expired.content.expires = Some(100);
    let expired = Key { heads: vec![expired], kept: vec![] };
    let none = Key { heads: vec![], kept: vec![] };
    let etags = || vec!["e1".to_owned(), "e3".to_owned()];
    let rows = [
        (Condition::Exists, [true, false, false, false]),
        (Condition::Absent, [false, true, true, true]),
        (Condition::Etag(etags()), [true, false, false, false]),
        (Condition::NotEtag(etags()), [false, true, true, true]),
        (Condition::NotEtag(vec!["e9".to_owned()]), [true; 4]),
        (Condition::Head(Some(VersionId(3))), [true, false, false, false]),
        (Condition::Head(Some(VersionId(4))), [false, true, false, false]),
        (Condition::Head(None), [false, false, false, true]),
        (Condition::UnmodifiedSince(50), [true, false, false, false]),
        (Condition::UnmodifiedSince(49), [false; 4]),
        (Condition::Size(3), [true, false, false, false]),
        (Condition::Size(4), [false; 4]),
    ];
    for (condition, holding) in rows {
        for (key, holds) in [&here, &gone, &expired, &none].into_iter().zip(holding) {
            let decided = key.decide(&Mode::Conditional(vec![condition.clone()]));
            assert_eq!(decided.is_ok(), holds, "{condition:?}: {decided:?}");
        }
    }
}

/// Garage 1052: headers of conditional requests were ignored, 50 of 50 racing writers all succeeded.
#[test]
fn conditional_headers_silently_ignored() {
    let mut key = Key { heads: vec![], kept: vec![] };
    let mut won = 0;
    for writer in 1..=50 {
        if let Ok(decision) = key.decide(&Mode::Conditional(vec![Condition::Absent])) {
            assert_eq!(decision.row, Row::C1);
            key.heads = vec![version(writer, OWN, 1, &[])];
            won += 1;
        }
    }
    assert_eq!(won, 1);
}

#[test]
fn provisional_is_never_preferred_to_confirmed() {
    let mut local = version(9, Actor(9), 1, &[]);
    (local.state, local.origin) = (State::Provisional, Origin::Imported);
    let key = Key { heads: vec![local, version(3, OWN, 1, &[])], kept: vec![] };
    assert_eq!(key.decide(&Mode::Overwrite).unwrap().parents, ids(&[3]));
}
