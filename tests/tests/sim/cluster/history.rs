//! What clients asked and heard, and whether one order of events explains it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use cairn_meta::version::VersionId;
use porcupine_rs::{CheckResult, Model, Operation, check_operations_timeout};

use crate::harness::millis;

/// What is asked of a key. Values are numbers that come once; 0: there is no object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    Put(u64),
    Get,
    Delete,
    /// If-None-Match: *
    PutNew(u64),
    /// If-Match: the first.
    Replace(u64, u64),
}

/// What is answered: to a read the value, to a write whether it was done (1) or its condition didn't hold (0).
pub type Said = u64;

pub fn step(value: u64, ask: Ask) -> (u64, Said) {
    match ask {
        Ask::Put(new) => (new, 1),
        Ask::Get => (value, value),
        Ask::Delete => (0, 1),
        Ask::PutNew(new) if value == 0 => (new, 1),
        Ask::Replace(old, new) if value == old && old != 0 => (new, 1),
        Ask::PutNew(_) | Ask::Replace(..) => (value, 0),
    }
}

/// What was asked of a key, and what was heard; nothing: it may have been done or not, or be done yet.
#[derive(Clone, Debug)]
pub struct Heard {
    key: u64,
    ask: Ask,
    said: Option<Said>,
}

#[derive(Clone, Debug)]
struct Object;

impl Model for Object {
    type State = u64;
    type Op = Heard;
    type Metadata = ();

    fn init() -> u64 {
        0
    }

    fn step(state: &u64, heard: &Heard) -> (bool, u64) {
        let (after, said) = step(*state, heard.ask);
        (heard.said.is_none_or(|heard| heard == said), after)
    }
}

#[derive(Default)]
pub struct History {
    heard: RefCell<Vec<Operation<Object>>>,
    time: Cell<i64>,
}

impl History {
    /// The next moment: no two things happen at one.
    pub fn moment(&self) -> i64 {
        self.time.replace(self.time.get() + 1)
    }

    /// What began then has ended now.
    pub fn end(&self, begun: i64, key: u64, ask: Ask, said: Option<Said>) {
        let return_time = if said.is_some() { self.moment() } else { i64::MAX };
        // A read that nobody heard tells nothing.
        if said.is_some() || ask != Ask::Get {
            let op = Heard { key, ask, said };
            let operation = Operation { client_id: None, call_time: begun, return_time, op, metadata: None };
            self.heard.borrow_mut().push(operation);
        }
    }

    pub fn check(&self) -> Result<(), String> {
        let heard = self.heard.borrow();
        let mut keys: Vec<_> = heard.iter().map(|it| it.op.key).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let of_key: Vec<_> = heard.iter().filter(|it| it.op.key == key).cloned().collect();
            let found = check_operations_timeout(&of_key, millis(20_000));
            if found != CheckResult::Ok {
                let told: Vec<String> = of_key
                    .iter()
                    .map(|it| format!("{}..{} {:?} {:?}", it.call_time, it.return_time, it.op.ask, it.op.said))
                    .collect();
                return Err(format!("{found:?}: no order explains what was seen of key {key}:\n{}", told.join("\n")));
            }
        }
        Ok(())
    }

    /// What was to be written: the key, the value, and whether it was.
    pub fn writes(&self) -> Vec<(u64, u64, Option<Said>)> {
        let value = |ask| match ask {
            Ask::Put(value) | Ask::PutNew(value) | Ask::Replace(_, value) => Some(value),
            Ask::Get | Ask::Delete => None,
        };
        self.heard.borrow().iter().filter_map(|it| Some((it.op.key, value(it.op.ask)?, it.op.said))).collect()
    }
}

/// What was shown, and when it was heard.
type Sights = Vec<(i64, Option<VersionId>)>;

/// What each node showed of its own, without asking others.
#[derive(Default)]
pub struct Shown {
    /// By node and key.
    heard: RefCell<BTreeMap<(usize, u64), Sights>>,
    broken: RefCell<Option<String>>,
}

impl Shown {
    /// A node showed this version when it was asked between these moments.
    pub fn end(&self, (begun, ended): (i64, i64), (node, key): (usize, u64), version: Option<VersionId>) {
        let mut heard = self.heard.borrow_mut();
        let heard = heard.entry((node, key)).or_default();
        if let Some((before, later)) = heard.iter().find(|(before, later)| *before < begun && *later > version) {
            let text = format!(
                "node {node} showed {later:?} of key {key} at {before}, and {version:?} to who asked from {begun} to {ended}"
            );
            self.broken.borrow_mut().get_or_insert(text);
        }
        heard.push((ended, version));
    }

    pub fn check(&self) -> Result<(), String> {
        self.broken.borrow().clone().map_or(Ok(()), Err)
    }
}
