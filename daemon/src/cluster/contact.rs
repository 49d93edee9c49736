//! Which nodes are out of reach. While most of a slot's nodes are, for a while already, nobody whom this one reaches can lead it, and
//! to wait for an election is in vain.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use cairn_io::time::{self, Duration, Instant};
use cairn_placement::NodeId;
use futures_util::future::{Either, join_all, select};
use futures_util::lock::Mutex;
use futures_util::pin_mut;

use super::hub::Core;

/// How long what was found out counts.
const COUNTS_FOR: Duration = Duration::from_millis(500);
/// How long a node may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_millis(400);

/// What is known of other nodes.
pub struct Contact {
    /// Since when nodes haven't answered.
    away: RefCell<BTreeMap<NodeId, Instant>>,
    /// When all were asked last.
    asked: Cell<Option<Instant>>,
    /// Held while they are being asked: whoever wants to know waits for that.
    asking: Mutex<()>,
    /// How long a node must have been out of reach to count as away.
    away_after: Duration,
}

impl Contact {
    /// Nothing is known yet.
    pub fn new(away_after: Duration) -> Self {
        Self { away: RefCell::default(), asked: Cell::default(), asking: Mutex::default(), away_after }
    }

    fn note(&self, node: NodeId, answers: bool) {
        let mut away = self.away.borrow_mut();
        if answers {
            away.remove(&node);
        } else {
            away.entry(node).or_insert_with(time::now);
        }
    }

    fn is_away(&self, node: NodeId) -> bool {
        self.away.borrow().get(&node).is_some_and(|since| since.elapsed() >= self.away_after)
    }

    /// Whether so many of these nodes are away that the rest is no majority.
    fn is_majority_away(&self, nodes: &[NodeId]) -> bool {
        let away = nodes.iter().filter(|node| self.is_away(**node)).count();
        away > 0 && (nodes.len() - away) * 2 <= nodes.len()
    }
}

impl Core {
    /// Whether nobody can be elected whom this node could reach.
    pub async fn is_cut_off(&self, slot: u32) -> bool {
        self.look_around().await;
        self.contact.is_majority_away(&self.candidates(slot))
    }

    /// Whether a node that didn't answer before still doesn't.
    pub async fn is_still_away(&self, node: NodeId) -> bool {
        if self.contact.is_away(node) {
            self.look_around().await;
        }
        self.contact.is_away(node)
    }

    /// Waits for a node's answer; `None` if it is out of reach before it has come.
    pub async fn unless_away<T>(&self, node: NodeId, answer: impl Future<Output = T>) -> Option<T> {
        let gone = async {
            loop {
                time::sleep(COUNTS_FOR).await;
                self.look_around().await;
                if self.contact.is_away(node) {
                    return;
                }
            }
        };
        pin_mut!(answer, gone);
        match select(answer, gone).await {
            Either::Left((answer, _)) => Some(answer),
            Either::Right(_) => None,
        }
    }

    /// Asks all nodes whether they are there, unless that was done just now.
    async fn look_around(&self) {
        let _asking = self.contact.asking.lock().await;
        if self.contact.asked.get().is_some_and(|asked| asked.elapsed() < COUNTS_FOR) {
            return;
        }
        let others = self.peers.nodes().into_iter().filter(|node| *node != self.me);
        let ask = |node| async move { (node, self.peers.calls.is_there(node, ANSWERS_WITHIN).await) };
        for (node, answers) in join_all(others.map(ask)).await {
            self.contact.note(node, answers);
        }
        self.contact.asked.set(Some(time::now()));
    }
}
