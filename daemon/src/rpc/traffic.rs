//! What a connection has under way: calls that came in, bytes held for them, bytes waiting to be written.
//!
//! capnp-rpc bounds none of it. Here it is counted as messages pass, so that a peer that asks and never finishes, or never
//! reads, costs no more than [`super::Limits`] say.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use cairn_io::time::{self, Instant};

/// Counters of one connection.
#[derive(Debug)]
pub struct Traffic {
    /// Calls that came in and are not both answered and finished, by their number.
    questions: RefCell<BTreeMap<u32, Question>>,
    calls: Cell<usize>,
    bytes: Cell<usize>,
    unsent: Cell<usize>,
    heard: Cell<Instant>,
}

#[derive(Debug)]
struct Question {
    /// Of request and answer.
    bytes: usize,
    is_answered: bool,
}

/// Rules a correct peer keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Foul {
    /// Asks and never finishes.
    #[error("{0} calls are neither answered nor finished, which is the limit: finish calls, and make fewer at once")]
    TooManyQuestions(usize),
    /// Two calls of one number.
    #[error("call {0} was made while another call of that number is open")]
    NumberInUse(u32),
}

impl Traffic {
    /// Nothing under way.
    pub fn new() -> Self {
        Self {
            questions: RefCell::default(),
            calls: Cell::new(0),
            bytes: Cell::new(0),
            unsent: Cell::new(0),
            heard: Cell::new(time::now()),
        }
    }

    /// Calls that came in and are not answered.
    pub fn calls(&self) -> usize {
        self.calls.get()
    }

    /// Bytes of requests and answers held.
    pub fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Bytes that wait to be written.
    pub fn unsent(&self) -> usize {
        self.unsent.get()
    }

    /// When the last byte came.
    pub fn heard(&self) -> Instant {
        self.heard.get()
    }

    pub(super) fn hear(&self) {
        self.heard.set(time::now());
    }

    pub(super) fn add_unsent(&self, bytes: usize) {
        self.unsent.set(self.unsent.get() + bytes);
    }

    pub(super) fn remove_unsent(&self, bytes: usize) {
        self.unsent.set(self.unsent.get() - bytes);
    }

    pub(super) fn called(&self, number: u32, bytes: usize, questions_max: usize) -> Result<(), Foul> {
        let mut questions = self.questions.borrow_mut();
        if questions.len() >= questions_max {
            return Err(Foul::TooManyQuestions(questions_max));
        }
        if questions.insert(number, Question { bytes, is_answered: false }).is_some() {
            return Err(Foul::NumberInUse(number));
        }
        self.calls.set(self.calls.get() + 1);
        self.bytes.set(self.bytes.get() + bytes);
        Ok(())
    }

    /// An answer leaves; it is held until the caller says that it is finished, unless it need not.
    pub(super) fn answered(&self, number: u32, bytes: usize, is_last: bool) {
        let mut questions = self.questions.borrow_mut();
        let Some(question) = questions.get_mut(&number) else { return };
        question.bytes += bytes;
        self.bytes.set(self.bytes.get() + bytes);
        if !std::mem::replace(&mut question.is_answered, true) {
            self.calls.set(self.calls.get() - 1);
        }
        if is_last {
            drop(questions);
            self.finished(number);
        }
    }

    pub(super) fn finished(&self, number: u32) {
        let Some(question) = self.questions.borrow_mut().remove(&number) else { return };
        self.bytes.set(self.bytes.get() - question.bytes);
        if !question.is_answered {
            self.calls.set(self.calls.get() - 1);
        }
    }
}
