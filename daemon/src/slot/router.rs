//! Between the groups of this node and those of others: all that is to be said to one node leaves in one batch.
//!
//! While a batch is under way to a node, the next gathers: under load a batch costs both nodes more than what is in it, and one
//! sync there serves it all. It gathers no longer than [`GATHER`], so that a node that is slow to answer is not slow to hear. What
//! must wait is bounded, and what there is no room for counts as unreachable, which Raft bears. The node that is asked
//! answers within [`LINGER`] what it can; the rest follows in a batch of its own, so that one slow group holds up no other.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

use bytes::Bytes;
use cairn_io::Bell;
use cairn_io::task::{Class, JoinHandle, spawn, yield_now};
use cairn_io::time::{self, Duration, Instant};
use futures_channel::oneshot;
use futures_util::future::{Either, LocalBoxFuture, select};
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::wire::{Item, Question, Reply, decode_batch, encode_batch};

/// Carries batches to other nodes.
pub trait Transport {
    /// Sends one batch to a node and returns what it answers, within this time.
    fn send(&self, node: u64, batch: Bytes, limit: Duration) -> LocalBoxFuture<'_, Result<Bytes, Unreachable>>;
}

/// A node can't be asked now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("node {node} can't be reached: {reason}")]
pub struct Unreachable {
    /// Which.
    pub node: u64,
    /// Why.
    pub reason: String,
}

/// The transport of a cluster of one: there is nobody to be reached.
pub struct Nobody;

impl Transport for Nobody {
    fn send(&self, node: u64, _: Bytes, _: Duration) -> LocalBoxFuture<'_, Result<Bytes, Unreachable>> {
        Box::pin(async move { Err(Unreachable { node, reason: "this is a cluster of one".to_owned() }) })
    }
}

/// Answers the questions of other nodes.
pub trait Answers {
    /// Answers one question to a slot.
    fn answer(&self, from: u64, slot: u32, question: Question) -> LocalBoxFuture<'static, Reply>;
}

/// A batch is closed when it has so many bytes.
pub(super) const BATCH_BYTES: usize = 1 << 20;
/// Bytes that may wait for one node.
const WAITING_BYTES: usize = 16 << 20;
/// Batches under way to one node.
const UNDER_WAY: usize = 4;
/// How long a batch gathers while another is under way: as a rule that is answered by then.
const GATHER: Duration = LINGER;
/// How long a batch waits for the answers to its questions.
const LINGER: Duration = Duration::from_millis(20);
/// Questions of others that are worked on at once.
const ANSWERING: usize = 16 << 10;

/// Says what groups of this node have to say.
pub struct Router {
    me: u64,
    transport: Rc<dyn Transport>,
    answers: RefCell<Option<Weak<dyn Answers>>>,
    peers: RefCell<BTreeMap<u64, Rc<Peer>>>,
    /// Who waits for an answer, by number.
    waiting: RefCell<BTreeMap<u64, (u64, oneshot::Sender<Reply>)>>,
    next: Cell<u64>,
    answering: Cell<usize>,
    limit: Duration,
    this: Weak<Router>,
}

/// What is to be said to one node.
struct Peer {
    node: u64,
    queue: RefCell<Vec<Item>>,
    bytes: Cell<usize>,
    under_way: Cell<usize>,
    /// When the last batch left.
    left: Cell<Option<Instant>>,
    changed: Rc<Bell>,
    task: RefCell<Option<JoinHandle<()>>>,
}

impl Router {
    /// For this node. A batch is given up after `limit`.
    pub fn new(me: u64, transport: Rc<dyn Transport>, limit: Duration) -> Rc<Self> {
        Rc::new_cyclic(|this| Self {
            me,
            transport,
            answers: RefCell::default(),
            peers: RefCell::default(),
            waiting: RefCell::default(),
            // Another than before a restart: late answers to an earlier life must not be taken for one's own.
            next: Cell::new(cairn_io::rng::next_u64()),
            answering: Cell::new(0),
            limit,
            this: this.clone(),
        })
    }

    /// Who answers from now on.
    pub fn set_answers(&self, answers: Weak<dyn Answers>) {
        *self.answers.borrow_mut() = Some(answers);
    }

    /// Asks a slot's group on a node.
    ///
    /// # Errors
    /// If there is no answer within this time, or it can't.
    pub async fn ask(&self, node: u64, slot: u32, question: &Question, limit: Duration) -> Result<Reply, Unreachable> {
        match self.ask_plainly(node, slot, question, limit).await? {
            Reply::Unable(reason) => Err(Unreachable { node, reason }),
            reply => Ok(reply),
        }
    }

    /// The same; that it can't is an answer as well.
    ///
    /// # Errors
    /// If there is no answer within this time.
    pub async fn ask_plainly(
        &self,
        node: u64,
        slot: u32,
        question: &Question,
        limit: Duration,
    ) -> Result<Reply, Unreachable> {
        let number = self.next.replace(self.next.get().wrapping_add(1));
        let (sender, receiver) = oneshot::channel();
        self.waiting.borrow_mut().insert(number, (node, sender));
        let asked = Asked { router: self, number };
        self.post(node, Item { is_answer: false, number, slot, body: question.encode().into() })?;
        let unreachable = |reason: &str| Unreachable { node, reason: reason.to_owned() };
        let reply = time::timeout(limit, receiver).await;
        drop(asked);
        match reply {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) => Err(unreachable("the batch was not answered")),
            Err(_) => Err(unreachable("no answer in time")),
        }
    }

    /// Queues something for a node.
    fn post(&self, node: u64, item: Item) -> Result<(), Unreachable> {
        let peer = self.peer(node);
        let bytes = peer.bytes.get() + item.weight();
        if bytes > WAITING_BYTES {
            return Err(Unreachable { node, reason: "too much is waiting for it already".to_owned() });
        }
        peer.bytes.set(bytes);
        peer.queue.borrow_mut().push(item);
        peer.changed.ring();
        Ok(())
    }

    fn peer(&self, node: u64) -> Rc<Peer> {
        let mut peers = self.peers.borrow_mut();
        let make = || {
            let peer = Rc::new(Peer {
                node,
                queue: RefCell::default(),
                bytes: Cell::new(0),
                under_way: Cell::new(0),
                left: Cell::default(),
                changed: Rc::default(),
                task: RefCell::default(),
            });
            let task =
                spawn(Class::Foreground, keep_sending(self.this.clone(), Rc::downgrade(&peer), peer.changed.clone()));
            peer.task.replace(Some(task));
            peer
        };
        peers.entry(node).or_insert_with(make).clone()
    }

    /// Nobody will answer these any more.
    fn give_up(&self, numbers: &[u64]) {
        let mut waiting = self.waiting.borrow_mut();
        let given_up: Vec<_> = numbers.iter().filter_map(|number| waiting.remove(number)).collect();
        drop(waiting);
        drop(given_up);
    }

    fn take_answers(&self, from: u64, items: impl IntoIterator<Item = Item>) {
        for item in items.into_iter().filter(|item| item.is_answer) {
            let asked = {
                let mut waiting = self.waiting.borrow_mut();
                let is_theirs = waiting.get(&item.number).is_some_and(|(node, _)| *node == from);
                if is_theirs { waiting.remove(&item.number) } else { None }
            };
            // Whoever asked may have given up, or the answer comes twice.
            let Some((_, asked)) = asked else { continue };
            if let Ok(reply) = Reply::decode(&item.body) {
                let _ = asked.send(reply);
            }
        }
    }

    /// Takes a batch of another node and answers it.
    ///
    /// # Errors
    /// If it is none.
    pub async fn handle(&self, batch: Bytes) -> Result<Bytes, super::Undecodable> {
        let (from, items) = decode_batch(self.me, &batch)?;
        Ok(encode_batch(self.me, from, &self.take(from, items).await).into())
    }

    /// Takes what another node has to say to groups of this core, and returns what there is to answer at once.
    pub async fn take(&self, from: u64, items: Vec<Item>) -> Vec<Item> {
        let (answers, questions): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| item.is_answer);
        self.take_answers(from, answers);
        let mut under_way: FuturesUnordered<_> =
            questions.into_iter().map(|item| self.answer_one(from, item)).collect();
        let mut done = Vec::new();
        let mut linger = time::sleep(LINGER);
        while !under_way.is_empty() {
            match select(under_way.next(), &mut linger).await {
                Either::Left((answered, _)) => done.extend(answered),
                Either::Right(_) => break,
            }
        }
        if !under_way.is_empty() {
            self.follow_up(from, under_way);
        }
        done
    }

    /// The answers that take longer go out when they are there.
    fn follow_up(&self, to: u64, mut under_way: FuturesUnordered<LocalBoxFuture<'static, Item>>) {
        let this = self.this.clone();
        spawn(Class::Foreground, async move {
            while let Some(item) = under_way.next().await {
                let Some(router) = this.upgrade() else { return };
                // Who doesn't hear asks again.
                let _ = router.post(to, item);
            }
        })
        .detach();
    }

    fn answer_one(&self, from: u64, item: Item) -> LocalBoxFuture<'static, Item> {
        let Item { number, slot, body, .. } = item;
        let answers = self.answers.borrow().as_ref().and_then(Weak::upgrade);
        let busy = Answering::begin(&self.this);
        Box::pin(async move {
            let reply = match (Question::decode(&body), answers, busy) {
                (Ok(question), Some(answers), Some(_busy)) => answers.answer(from, slot, question).await,
                (Err(wrong), _, _) => Reply::Unable(wrong.to_string()),
                (_, None, _) => Reply::Unable("the node is stopping".to_owned()),
                (_, _, None) => Reply::Unable("the node has too much to answer".to_owned()),
            };
            Item { is_answer: true, number, slot, body: reply.encode().into() }
        })
    }

    /// Says nothing more.
    pub fn close(&self) {
        self.peers.take();
        self.waiting.take();
    }
}

/// Forgets the question however waiting for it ends.
struct Asked<'r> {
    router: &'r Router,
    number: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.router.waiting.borrow_mut().remove(&self.number);
    }
}

/// A question that is worked on.
struct Answering(Weak<Router>);

impl Answering {
    fn begin(router: &Weak<Router>) -> Option<Self> {
        let strong = router.upgrade()?;
        let count = strong.answering.get() + 1;
        (count <= ANSWERING).then(|| {
            strong.answering.set(count);
            Self(router.clone())
        })
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.upgrade().into_iter().for_each(|router| router.answering.set(router.answering.get() - 1));
    }
}

/// Sends what is queued for a node, batch after batch.
async fn keep_sending(router: Weak<Router>, peer: Weak<Peer>, changed: Rc<Bell>) {
    loop {
        let rung = changed.rung();
        let now = time::now();
        match peer.upgrade().map_or(Turn::Wait, |peer| peer.turn(now)) {
            Turn::Send => {}
            Turn::Gather(until) => {
                let _ = time::timeout(until - now, rung).await;
                continue;
            }
            Turn::Wait => {
                rung.await;
                if peer.strong_count() == 0 {
                    return;
                }
                continue;
            }
        }
        // Whatever other groups have to say now goes along.
        yield_now().await;
        let (Some(router), Some(peer)) = (router.upgrade(), peer.upgrade()) else { return };
        let items = peer.take_batch();
        if !items.is_empty() {
            peer.under_way.set(peer.under_way.get() + 1);
            peer.left.set(Some(now));
            spawn(Class::Foreground, send(router, peer, items)).detach();
        }
    }
}

/// What is to be done for a node.
enum Turn {
    /// Send what is queued.
    Send,
    /// More may come along until then.
    Gather(Instant),
    /// Nothing, until something changes.
    Wait,
}

impl Peer {
    fn turn(&self, now: Instant) -> Turn {
        let under_way = self.under_way.get();
        if self.queue.borrow().is_empty() || under_way >= UNDER_WAY {
            return Turn::Wait;
        }
        let until = self.left.get().filter(|_| under_way > 0).map(|left| left + GATHER);
        match until.filter(|until| *until > now && self.bytes.get() < BATCH_BYTES) {
            Some(until) => Turn::Gather(until),
            None => Turn::Send,
        }
    }

    fn take_batch(&self) -> Vec<Item> {
        let mut queue = self.queue.borrow_mut();
        let mut bytes = 0;
        let count = queue.iter().take_while(|item| {
            let fits = bytes == 0 || bytes + item.weight() <= BATCH_BYTES;
            bytes += item.weight();
            fits
        });
        let count = count.count();
        let batch: Vec<Item> = queue.drain(..count).collect();
        self.bytes.set(self.bytes.get() - batch.iter().map(Item::weight).sum::<usize>());
        batch
    }
}

async fn send(router: Rc<Router>, peer: Rc<Peer>, items: Vec<Item>) {
    let numbers: Vec<u64> = items.iter().filter(|item| !item.is_answer).map(|item| item.number).collect();
    let batch = encode_batch(router.me, peer.node, &items).into();
    drop(items);
    let answered = router.transport.send(peer.node, batch, router.limit).await;
    peer.under_way.set(peer.under_way.get() - 1);
    peer.changed.ring();
    match answered.ok().and_then(|answer| decode_batch(router.me, &answer).ok()) {
        Some((from, answers)) if from == peer.node => router.take_answers(from, answers),
        // The questions may have arrived: an answer that comes later finds nobody.
        _ => router.give_up(&numbers),
    }
}

#[cfg(test)]
mod tests {
    use cairn_io::sim::{NodeConfig, World, WorldConfig};

    use super::super::rest::Claim;
    use super::super::types::{At, Vote};
    use super::*;

    /// Answers nothing, and each batch when its turn comes: says when batches of how many items left.
    #[derive(Default)]
    struct Slow {
        left: RefCell<Vec<(Instant, usize)>>,
        answers: RefCell<Vec<oneshot::Receiver<()>>>,
    }

    impl Transport for Slow {
        fn send(&self, node: u64, batch: Bytes, _: Duration) -> LocalBoxFuture<'_, Result<Bytes, Unreachable>> {
            let (_, items) = decode_batch(node, &batch).expect("a batch");
            self.left.borrow_mut().push((time::now(), items.len()));
            let answer = self.answers.borrow_mut().pop();
            Box::pin(async move {
                if let Some(answer) = answer {
                    let _ = answer.await;
                }
                Ok(encode_batch(node, 1, &[]).into())
            })
        }
    }

    /// Asks node 2 something, and has the asking go on by itself.
    fn ask(router: &Rc<Router>) {
        let router = router.clone();
        spawn(Class::Foreground, async move {
            let claim = Claim { vote: Vote::default(), last: At { term: 1, index: 0 } };
            let _ = router.ask(2, 0, &Question::Rest(claim), Duration::from_secs(1)).await;
        })
        .detach();
    }

    async fn a_batch_gathers_while_another_is_under_way() {
        let slow = Rc::new(Slow::default());
        let router = Router::new(1, slow.clone(), Duration::from_secs(1));
        let (answer, first) = oneshot::channel();
        let (_never, second) = oneshot::channel();
        *slow.answers.borrow_mut() = vec![second, first];
        let pause = GATHER / 10;
        let counts = || slow.left.borrow().iter().map(|(_, count)| *count).collect::<Vec<_>>();
        for _ in 0..3 {
            ask(&router);
            time::sleep(pause).await;
        }
        assert_eq!(counts(), [1], "the first leaves alone, the others wait for each other");
        answer.send(()).expect("it is waited for");
        time::sleep(pause).await;
        assert_eq!(counts(), [1, 2], "there was an answer");
        ask(&router);
        time::sleep(2 * GATHER).await;
        assert_eq!(counts(), [1, 2, 1], "there is none, and it waits no longer");
        let left = slow.left.borrow().clone();
        let waited = left[2].0 - left[1].0;
        assert!(waited.abs_diff(GATHER) < pause, "{waited:?}");
    }

    #[test]
    fn batches_gather_but_not_for_long() {
        let mut world = World::new(1, WorldConfig::default());
        let is_done = Rc::new(Cell::new(false));
        let done = is_done.clone();
        let node = world.add_node(NodeConfig::default(), move || {
            let done = done.clone();
            Box::new(move |_| {
                let done = done.clone();
                Box::pin(async move {
                    a_batch_gathers_while_another_is_under_way().await;
                    done.set(true);
                })
            })
        });
        world.run_until(Duration::from_secs(60), || is_done.get());
        assert!(world.panics(node).is_empty() && is_done.get(), "{:?}", world.panics(node));
    }
}
