//! What nodes say to each other comes back as it was said, and no bytes from outside harm: they don't panic, cost no more
//! memory than they have bytes, and don't stop a group.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use bolero::check;
use bytes::Bytes;
use cairn_io::fs::Dir;
use cairn_io::sim::{DiskConfig, NodeConfig, World, WorldConfig};
use cairn_io::time::Duration;
use cairn_meta::index::{Error, Store};
use cairn_meta::rows::{Batch, Machine, Rows};
use cairn_placement::NodeId;
use futures_util::future::LocalBoxFuture;

use super::codec::decode_entry;
use super::rest::Claim;
use super::types::{At, Covered, Entry, Members, Membership, Payload, Vote};
use super::wire::{
    Append, Candidacy, Item, Question, Reply, SnapshotEnd, SnapshotPart, Transfer, decode_batch, encode_batch,
};
use super::{Nobody, Options, Slots};
use crate::lane::{Lane, Options as LaneOptions, Owner, Row};

/// Takes what to say from the fuzzer's bytes; zeros behind their end.
struct Source<'b>(&'b [u8]);

impl Source<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Small, or near one of the ends of what there is.
    fn number(&mut self) -> u64 {
        match self.byte() {
            255 => u64::MAX,
            254 => u64::MAX - 1,
            253 => u64::from(u32::MAX),
            small => u64::from(small),
        }
    }

    /// A term or an index.
    fn count(&mut self) -> u64 {
        self.number().min(1 << 40)
    }

    fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    fn bytes(&mut self) -> Vec<u8> {
        (0..self.byte() % 40).map(|_| self.byte()).collect()
    }

    fn vote(&mut self) -> Vote {
        let (term, node) = (self.count(), self.number());
        Vote { term, node, is_elected: self.flag() }
    }

    fn at(&mut self) -> At {
        At { term: self.count(), index: self.count() }
    }

    fn at_option(&mut self) -> Option<At> {
        self.flag().then(|| self.at())
    }

    fn membership(&mut self) -> Membership {
        let config: BTreeSet<u64> = (0..=self.byte() % 5).map(|_| self.number()).collect();
        let joint: BTreeSet<u64> = (0..=self.byte() % 5).map(|_| self.number()).collect();
        let learner = self.number();
        let nodes: BTreeSet<u64> = config.iter().chain(&joint).copied().chain([learner]).collect();
        let configs = if self.flag() { vec![config, joint] } else { vec![config] };
        Membership::new(configs, nodes).expect("all are among the nodes")
    }

    fn payload(&mut self) -> Payload {
        match self.byte() % 3 {
            0 => Payload::Blank,
            1 => Payload::Command(self.bytes().into()),
            _ => Payload::Members(self.membership()),
        }
    }

    fn members(&mut self) -> Members {
        Members { at: self.at_option(), membership: self.membership() }
    }

    fn candidacy(&mut self) -> Candidacy {
        Candidacy { vote: self.vote(), last: self.at_option(), is_transfer: self.flag() }
    }

    /// What a node that is well may ask.
    fn question(&mut self) -> Question {
        let mut question = self.any_question();
        let (mut vote, term) = (Vote::elected(self.count(), self.number()), u64::from(self.byte()));
        vote.term = vote.term.max(term);
        match &mut question {
            Question::Append(append) => {
                append.vote = vote;
                append.before = self.flag().then(|| At { term, index: self.count() });
                let first = append.before.map_or(0, |at| at.index + 1);
                for (index, entry) in (first..).zip(&mut append.entries) {
                    entry.at = At { term, index };
                }
            }
            Question::Vote(candidacy) | Question::PreVote(candidacy) => {
                candidacy.vote = Vote { is_elected: false, ..vote };
            }
            Question::Transfer(_) => {}
            Question::Snapshot(part) => part.vote = vote,
            Question::Rest(claim) => {
                (claim.vote, claim.last) = (vote, At { term, index: claim.last.index });
            }
            Question::Install(SnapshotEnd { vote: theirs, covered, .. }) => {
                *theirs = vote;
                let known = covered.last.map(|_| At { term, index: 1 });
                covered.last = known.map(|at| At { term, index: at.index + u64::from(self.byte()) });
                covered.members.at = known;
            }
        }
        question
    }

    fn any_question(&mut self) -> Question {
        match self.byte() % 7 {
            0 => {
                let (vote, before, committed) = (self.vote(), self.at_option(), self.at_option());
                let entry = |source: &mut Self| Entry { at: source.at(), payload: source.payload() };
                let entries = (0..self.byte() % 4).map(|_| entry(self)).collect();
                Question::Append(Append { vote, before, entries, committed })
            }
            1 => Question::Vote(self.candidacy()),
            2 => Question::PreVote(self.candidacy()),
            3 => Question::Transfer(Transfer { vote: self.vote(), to: self.number(), last: self.at_option() }),
            4 => {
                let (vote, session, part) = (self.vote(), self.number(), u32::from(self.byte()));
                let row =
                    |source: &mut Self| Row::Put([&[source.byte()][..], &source.bytes()].concat(), source.bytes());
                let rows = (0..self.byte() % 4).map(|_| row(self)).collect();
                Question::Snapshot(SnapshotPart { vote, session, part, rows })
            }
            5 => Question::Rest(Claim { vote: self.vote(), last: self.at() }),
            _ => {
                let (vote, session, parts) = (self.vote(), self.number(), u32::from(self.byte()));
                let covered = Covered { last: self.at_option(), members: self.members() };
                Question::Install(SnapshotEnd { vote, session, parts, covered })
            }
        }
    }

    fn reply(&mut self) -> Reply {
        match self.byte() % 10 {
            0 => Reply::Appended,
            1 => Reply::Conflict,
            2 => Reply::Higher(self.vote()),
            3 => Reply::Voted { vote: self.vote(), is_granted: self.flag(), last: self.at_option() },
            4 => Reply::Transferring,
            5 => Reply::Staged,
            6 => Reply::Installed(self.vote()),
            7 => Reply::Resting,
            8 => Reply::Awake,
            _ => Reply::Unable("reason".repeat(usize::from(self.byte()))),
        }
    }

    fn item(&mut self) -> Item {
        let (is_answer, number, slot) = (self.flag(), self.number(), self.number() as u32);
        let body = if is_answer { self.reply().encode() } else { self.question().encode() };
        Item { is_answer, number, slot, body: body.into() }
    }
}

fn assert_same(said: &Question, heard: &Question) {
    match (said, heard) {
        (Question::Append(said), Question::Append(heard)) => assert_eq!(said, heard),
        (Question::Vote(said), Question::Vote(heard)) | (Question::PreVote(said), Question::PreVote(heard)) => {
            assert_eq!(said, heard);
        }
        (Question::Transfer(said), Question::Transfer(heard)) => assert_eq!(said, heard),
        (Question::Snapshot(said), Question::Snapshot(heard)) => {
            assert_eq!((said.vote, said.session, said.part), (heard.vote, heard.session, heard.part));
            assert_eq!(said.rows, heard.rows);
        }
        (Question::Install(said), Question::Install(heard)) => {
            assert_eq!((said.vote, said.session, said.parts), (heard.vote, heard.session, heard.parts));
            assert_eq!(said.covered, heard.covered);
        }
        (Question::Rest(said), Question::Rest(heard)) => assert_eq!(said, heard),
        _ => panic!("another kind of question"),
    }
}

#[test]
fn what_groups_say_is_heard_as_it_was_said() {
    check!().with_iterations(if cfg!(debug_assertions) { 3_000 } else { 30_000 }).for_each(|bytes: &[u8]| {
        let mut source = Source(bytes);
        let (question, reply) = (source.question(), source.reply());
        let heard = Question::decode(&question.encode().into()).expect("a question");
        assert_same(&question, &heard);
        assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
        let items: Vec<Item> = (0..source.byte() % 4).map(|_| source.item()).collect();
        let batch: Bytes = encode_batch(7, 8, &items).into();
        assert_eq!(batch.len(), 17 + items.iter().map(Item::weight).sum::<usize>());
        assert_eq!(decode_batch(8, &batch), Ok((7, items)));
        assert!(decode_batch(9, &batch).is_err(), "it is for another node");
    });
}

/// Changes bytes: two bytes of place and one of value each; some values make four bytes as large as they can be.
fn change(bytes: &mut [u8], changes: &[u8]) {
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
        let end = (at + 4).min(bytes.len());
        match change[2] {
            0xe0.. => bytes[at..end].fill(0xff),
            value => bytes[at] = value,
        }
    }
}

/// Room for no more than twice of what is there, so none for what a length claims.
fn is_modest<T>(list: &Vec<T>) -> bool {
    list.capacity() <= (2 * list.len()).max(4)
}

fn hear(bytes: &Bytes) {
    if let Ok((_, items)) = decode_batch(8, bytes) {
        assert!(is_modest(&items) && items.iter().map(Item::weight).sum::<usize>() + 17 == bytes.len());
    }
    let _ = Reply::decode(bytes);
    let _ = decode_entry(1, 1, bytes.clone());
    let Ok(question) = Question::decode(bytes) else { return };
    match &question {
        Question::Append(append) => assert!(is_modest(&append.entries) && append.entries.len() * 21 <= bytes.len()),
        Question::Snapshot(part) => assert!(is_modest(&part.rows) && part.rows.len() * 9 <= bytes.len()),
        _ => {}
    }
    let again = Question::decode(&question.encode().into()).expect("what was understood can be said");
    assert_same(&question, &again);
}

#[test]
fn no_bytes_between_groups_panic_or_take_what_they_claim() {
    check!().with_iterations(if cfg!(debug_assertions) { 5_000 } else { 50_000 }).with_type().for_each(
        |(bytes, changes): &(Vec<u8>, Vec<u8>)| {
            hear(&bytes.clone().into());
            let mut source = Source(bytes);
            let (question, reply) = (source.question().encode(), source.reply().encode());
            let batch = encode_batch(7, 8, &[source.item(), source.item()]);
            for mut said in [question, reply, batch] {
                change(&mut said, changes);
                hear(&said.clone().into());
                said.truncate(usize::from(source.byte()));
                hear(&said.into());
            }
        },
    );
    // A million entries, members or bytes are claimed, and none is there.
    let claim = |head: &[u8]| Bytes::from([head, &1_000_000_u32.to_le_bytes()[..]].concat());
    let append = Question::Append(Append { vote: Vote::new(1, 1), before: None, entries: Vec::new(), committed: None });
    let append = append.encode();
    assert!(Question::decode(&claim(&append[..append.len() - 4])).is_err());
    assert!(decode_entry(1, 1, claim(&[2, 1])).is_err());
    assert!(decode_batch(8, &claim(&[&encode_batch(7, 8, &[])[..], &[0; 13]].concat())).is_err());
}

/// What is well formed but nobody who is well would say.
#[test]
fn impossible_questions_are_refused_and_the_slot_goes_on() {
    let id = |term, index| At { term, index };
    let entry = |term, index| Entry { at: id(term, index), payload: Payload::Blank };
    let append = |vote, before, entries| Question::Append(Append { vote, before, entries, committed: None });
    let install = |vote, last, at| {
        let members = Members { at, membership: Membership::default() };
        Question::Install(SnapshotEnd { vote, session: 1, parts: 0, covered: Covered { last, members } })
    };
    let stands = |vote| Candidacy { vote, last: None, is_transfer: false };
    let leader = Vote::elected(9, 7);
    let questions = [
        append(Vote::new(9, 7), None, vec![]),
        append(leader, None, vec![entry(9, 5)]),
        append(leader, Some(id(9, 4)), vec![entry(9, 5), entry(9, 7)]),
        append(leader, Some(id(9, 4)), vec![entry(8, 5)]),
        append(leader, Some(id(9, u64::MAX)), vec![entry(9, 0)]),
        append(leader, Some(id(10, 4)), vec![]),
        Question::Vote(stands(leader)),
        Question::PreVote(stands(leader)),
        append(leader, Some(id(9, u64::MAX)), vec![]),
        install(Vote::new(9, 7), None, None),
        install(leader, Some(id(10, 4)), None),
        install(leader, Some(id(9, 4)), Some(id(9, 5))),
        Question::Rest(Claim { vote: Vote::new(9, 7), last: id(9, 4) }),
        Question::Rest(Claim { vote: leader, last: id(10, 4) }),
    ];
    let item = |question: &Question| Item { is_answer: false, number: 1, slot: 3, body: question.encode().into() };
    let items: Vec<Item> = questions.iter().map(item).collect();
    in_a_world(move || {
        Box::pin(async move {
            let (lane, slots) = alone().await;
            assert_eq!(propose(&slots, b"one").await, b"");
            for item in items {
                let answer = slots.handle(encode_batch(7, 8, &[item]).into()).await.expect("it is a batch");
                let (_, answers) = decode_batch(7, &answer).expect("a batch for the sender");
                let Ok(Reply::Unable(reason)) = Reply::decode(&answers[0].body) else { panic!("it was taken") };
                assert!(reason.contains("question to a Raft group"), "{reason}");
            }
            assert_eq!(propose(&slots, b"two").await, b"one");
            slots.close().await;
            lane.close().await.expect("it is closed");
        })
    });
}

/// One row, which says what was put last.
pub struct Keeps;

impl Machine for Keeps {
    fn apply(&self, rows: &mut Batch<'_>, _: u64, command: &[u8]) -> Result<Vec<u8>, Error> {
        let before = rows.get(b"it")?.unwrap_or_default();
        rows.put(b"it", command);
        Ok(before)
    }

    fn too_large(&self, bytes: usize, max: usize) -> Vec<u8> {
        format!("{bytes} bytes of rows, at most {max}").into_bytes()
    }
}

/// A node with one slot that it alone belongs to.
async fn alone() -> (Lane, Slots) {
    let lane = open_lane().await;
    let slots = Slots::new(NodeId(8), Rc::new(Nobody), Options::default()).expect("fine options");
    slots.open(3, &lane, Rc::new(Keeps)).await.expect("it opens");
    slots.create(3, &[NodeId(8)].into()).await.expect("it begins");
    (lane, slots)
}

/// A new lane.
pub async fn open_lane() -> Lane {
    let dir = Dir::create("/disk/lane").await.expect("a directory");
    Lane::create(&dir, Owner::default(), 0, 256 << 10).await.expect("a lane");
    let options = LaneOptions { partitions: 4, ballast: 0, ..LaneOptions::default() };
    let log = cairn_io::log::Options { keep_free: 0, ahead: 1, reserve: 1, segments_max: 16, ..options.log };
    let (lane, _) = Lane::open(&dir, Store::memory(), LaneOptions { log, ..options }).await.expect("it opens");
    lane
}

async fn propose(slots: &Slots, word: &'static [u8]) -> Vec<u8> {
    loop {
        match slots.propose(3, Bytes::from_static(word)).await {
            Ok(answer) => return answer,
            Err(super::SlotError::NotLeader { .. }) => cairn_io::time::sleep(Duration::from_millis(100)).await,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Bytes that are no batch are refused, pieces that are no questions are answered so, and the slot goes on.
#[test]
fn a_node_answers_hostile_batches_with_errors() {
    check!().with_iterations(if cfg!(debug_assertions) { 40 } else { 400 }).with_type().for_each(
        |(bytes, changes): &(Vec<u8>, Vec<u8>)| {
            let (bytes, changes) = (bytes.clone(), changes.clone());
            in_a_world(move || {
                Box::pin(async move {
                    let (lane, slots) = alone().await;
                    assert_eq!(propose(&slots, b"one").await, b"");
                    // Whatever it is: a batch or an error.
                    let mut changed = encode_batch(7, 8, &[Source(&bytes).item()]);
                    change(&mut changed[..17], &changes);
                    let is_batch = changed[0] == 1 && changed[9..17] == 8_u64.to_le_bytes();
                    assert_eq!(slots.handle(changed[..17].to_vec().into()).await.is_ok(), is_batch);
                    assert_eq!(
                        slots.handle(bytes.clone().into()).await.is_ok(),
                        decode_batch(8, &bytes.clone().into()).is_ok()
                    );
                    // Questions to a slot that isn't there, and what is no question to one that is.
                    let elsewhere =
                        Item { is_answer: false, number: 1, slot: 4, body: Source(&bytes).question().encode().into() };
                    let garbage =
                        Item { is_answer: false, number: 2, slot: 3, body: [&[0][..], &bytes].concat().into() };
                    let unasked = Item { is_answer: true, number: 3, slot: 3, body: bytes.clone().into() };
                    let batch = encode_batch(7, 8, &[elsewhere, garbage, unasked]);
                    let answer = slots.handle(batch.into()).await.expect("it is a batch");
                    let (from, answers) = decode_batch(7, &answer).expect("a batch for the sender");
                    assert_eq!((from, answers.len()), (8, 2));
                    for answer in answers {
                        assert!(matches!(Reply::decode(&answer.body), Ok(Reply::Unable(_))));
                    }
                    assert_eq!(propose(&slots, b"two").await, b"one");
                    slots.close().await;
                    lane.close().await.expect("it is closed");
                })
            });
        },
    );
}

/// Runs a program on a simulated node.
pub fn in_a_world(program: impl FnOnce() -> LocalBoxFuture<'static, ()> + 'static) {
    let mut world = World::new(0, WorldConfig::default());
    let (program, is_done) = (Rc::new(RefCell::new(Some(program))), Rc::new(Cell::new(false)));
    let flag = is_done.clone();
    let disks = vec![DiskConfig { sectors_tear: false, ..DiskConfig::new("/disk", 64 << 20) }];
    let node = world.add_node(NodeConfig { disks, ..NodeConfig::default() }, move || {
        let (program, flag) = (program.clone(), flag.clone());
        Box::new(move |_| {
            let (program, flag) = (program.borrow_mut().take().expect("one life, one core"), flag.clone());
            Box::pin(async move {
                program().await;
                flag.set(true);
            })
        })
    });
    world.run_until(Duration::from_hours(1), || is_done.get());
    assert!(world.panics(node).is_empty(), "{:?}", world.panics(node));
    assert!(is_done.get(), "it ends");
}
