//! What a member answers to a leader and to candidates, word for word.

use bytes::Bytes;
use cairn_io::time::sleep;

use super::fuzz::{Keeps, in_a_world, open_lane};
use super::types::{At, Entry, Membership, Payload, Vote};
use super::wire::{Append, Candidacy, Item, Question, Reply, decode_batch, encode_batch};
use super::*;

const SLOT: u32 = 3;
const ME: u64 = 8;

struct Member(Slots);

impl Member {
    async fn hears(&self, from: u64, question: Question) -> Reply {
        let item = Item { is_answer: false, number: 1, slot: SLOT, body: question.encode().into() };
        let answer = self.0.handle(encode_batch(from, ME, &[item]).into()).await.expect("it is a batch");
        let (_, answers) = decode_batch(from, &answer).expect("a batch for the sender");
        Reply::decode(&answers.first().expect("answered at once").body).expect("a reply")
    }

    async fn append(&self, term: u64, before: Option<(u64, u64)>, entries: &[(u64, u64)], committed: u64) -> Reply {
        let at = |(term, index): (u64, u64)| At { term, index };
        let entry = |entry: &(u64, u64)| {
            let command = Bytes::from(format!("{}.{}", entry.0, entry.1));
            let members = Payload::Members(Membership::of([6, 7, ME].into()));
            Entry { at: at(*entry), payload: if entry.1 == 0 { members } else { Payload::Command(command) } }
        };
        let append = Append {
            vote: Vote::elected(term, 7),
            before: before.map(at),
            entries: entries.iter().map(entry).collect(),
            committed: committed.checked_sub(1).map(|index| At { term, index }),
        };
        self.hears(7, Question::Append(append)).await
    }

    async fn stands(&self, term: u64, last: (u64, u64), is_transfer: bool) -> Reply {
        let last = Some(At { term: last.0, index: last.1 });
        self.hears(6, Question::Vote(Candidacy { vote: Vote::new(term, 6), last, is_transfer })).await
    }

    fn word(&self) -> Option<Vec<u8>> {
        self.0.read(SLOT, |rows| rows.get(b"it")).expect("it is open").expect("it is readable")
    }
}

fn refused(reply: &Reply, why: &str) {
    assert!(matches!(reply, Reply::Unable(reason) if reason.contains(why)), "{reply:?} is not {why:?}");
}

fn granted(reply: &Reply) -> bool {
    matches!(reply, Reply::Voted { is_granted: true, .. })
}

/// With a member that has heard of nothing.
fn with_member(program: impl AsyncFnOnce(&Member) + 'static) {
    in_a_world(move || {
        Box::pin(async move {
            let lane = open_lane().await;
            let slots = Slots::new(NodeId(ME), Rc::new(Nobody), Options::default()).expect("fine options");
            slots.open(SLOT, &lane, Rc::new(Keeps)).await.expect("it opens");
            program(&Member(slots.clone())).await;
            slots.close().await;
            lane.close().await.expect("it is closed");
        })
    });
}

#[test]
fn entries_are_taken_only_behind_those_that_fit() {
    with_member(async |member| {
        assert_eq!(member.append(2, None, &[(1, 0), (1, 1), (2, 2)], 2).await, Reply::Appended);
        assert_eq!(member.word().as_deref(), Some(&b"1.1"[..]), "no more than is committed is applied");
        assert_eq!(member.append(2, Some((2, 5)), &[(2, 6)], 2).await, Reply::Conflict, "there is a gap");
        assert_eq!(member.append(2, Some((1, 2)), &[(2, 3)], 2).await, Reply::Conflict, "another is there");
        assert_eq!(member.append(2, Some((1, 1)), &[(2, 2), (2, 3)], 9).await, Reply::Appended, "said twice");
        assert_eq!(member.word().as_deref(), Some(&b"2.3"[..]), "what it was shown to have, and no further");
        assert_eq!(member.append(1, Some((1, 1)), &[], 9).await, Reply::Higher(Vote::elected(2, 7)));
        refused(&member.append(3, Some((1, 1)), &[(3, 2)], 2).await, "undo what is committed");
        assert_eq!(member.append(3, Some((2, 3)), &[(3, 4), (3, 5)], 4).await, Reply::Appended);
        assert_eq!(member.append(4, Some((3, 4)), &[(4, 5)], 6).await, Reply::Appended, "the last was nobody's");
        assert_eq!(member.word().as_deref(), Some(&b"4.5"[..]));
        let status = member.0.status(SLOT).expect("it is open");
        assert_eq!((status.term, status.leader, status.applied), (4, Some(NodeId(7)), Some(5)));
        let proposed = member.0.propose(SLOT, Bytes::from_static(b"mine")).await;
        assert_eq!(proposed, Err(SlotError::NotLeader { leader: Some(NodeId(7)) }));
    });
}

#[test]
fn what_is_applied_is_not_kept_in_memory_and_is_there_all_the_same() {
    with_member(async |member| {
        let entries = [(1, 0), (1, 1), (2, 2), (2, 3), (2, 4)];
        assert_eq!(member.append(2, None, &entries, 4).await, Reply::Appended);
        let log = member.0.slot(SLOT).expect("it is open").log.clone();
        let in_memory: Vec<u64> = (0..5).filter(|index| log.recent(*index).is_some()).collect();
        assert_eq!(in_memory, [3, 4], "one to be applied, and the one before it");
        let read = log.read(0, 5).await.expect("it is readable");
        assert_eq!(read.iter().map(|entry| (entry.at.term, entry.at.index)).collect::<Vec<_>>(), entries);
    });
}

#[test]
fn members_that_are_cut_off_never_were() {
    with_member(async |member| {
        assert_eq!(member.append(1, None, &[(1, 0), (1, 1)], 1).await, Reply::Appended);
        let vote = Vote::elected(1, 7);
        let payload = Payload::Members(Membership::of([7].into()));
        let (before, entries) = (Some(At { term: 1, index: 1 }), vec![Entry { at: At { term: 1, index: 2 }, payload }]);
        let append = Append { vote, before, entries, committed: None };
        assert_eq!(member.hears(7, Question::Append(append)).await, Reply::Appended);
        let voters = |member: &Member| member.0.status(SLOT).expect("it is open").voters;
        assert_eq!(voters(member), [NodeId(7)].into(), "from where it stands in the log");
        assert_eq!(member.append(2, Some((1, 1)), &[(2, 2)], 1).await, Reply::Appended);
        assert_eq!(voters(member), [NodeId(6), NodeId(7), NodeId(ME)].into());
    });
}

#[test]
fn a_vote_is_given_once_to_who_has_as_much() {
    with_member(async |member| {
        assert_eq!(member.append(2, None, &[(1, 0), (2, 1)], 1).await, Reply::Appended);
        refused(&member.stands(3, (2, 1), false).await, "its leader is there");
        sleep(Options::default().election.1).await;
        assert!(!granted(&member.stands(3, (1, 9), false).await), "it has less");
        assert!(!granted(&member.stands(2, (2, 1), false).await), "there is a leader in this term");
        assert!(granted(&member.stands(3, (2, 1), false).await));
        assert!(granted(&member.stands(3, (2, 1), false).await), "the same again");
        let other = Candidacy { vote: Vote::new(3, 5), last: Some(At { term: 2, index: 1 }), is_transfer: false };
        assert!(!granted(&member.hears(5, Question::Vote(other)).await), "another in the same term");
        refused(&member.hears(7, Question::Vote(other)).await, "nobody stands for another");
        assert_eq!(member.append(2, Some((2, 1)), &[], 1).await, Reply::Higher(Vote::new(3, 6)));
    });
}

#[test]
fn who_is_wanted_by_an_earlier_leader_doesnt_end_a_later_ones_lease() {
    with_member(async |member| {
        assert_eq!(member.append(2, None, &[(1, 0), (2, 1)], 1).await, Reply::Appended);
        assert_eq!(member.append(3, Some((2, 1)), &[], 1).await, Reply::Appended);
        // The leader of term 1 wanted it so; the one of term 3 counts on this member.
        assert!(!granted(&member.stands(2, (2, 1), true).await));
        refused(&member.stands(5, (2, 1), true).await, "its leader is there");
        assert!(granted(&member.stands(4, (2, 1), true).await), "as the leader of term 3 wants it");
    });
}
