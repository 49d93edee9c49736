//! What clients asked and heard, and whether one order of events explains it.

use std::cell::{Cell, RefCell};

use porcupine_rs::{CheckResult, Model, Operation, check_operations_timeout};

use super::register::{Ask, Said, step};
use crate::harness::millis;

/// What was asked of a key, and what was heard; nothing: it may have been done or not, or be done yet.
#[derive(Clone, Debug)]
pub struct Heard {
    key: (u32, u64),
    ask: Ask,
    said: Option<Said>,
}

#[derive(Clone, Debug)]
struct Register;

impl Model for Register {
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
    heard: RefCell<Vec<Operation<Register>>>,
    time: Cell<i64>,
}

impl History {
    /// The next moment: no two things happen at one.
    pub fn moment(&self) -> i64 {
        self.time.replace(self.time.get() + 1)
    }

    pub fn end(&self, begun: i64, key: (u32, u64), ask: Ask, said: Option<Said>) {
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
                return Err(format!("{found:?}: no order explains what was seen of {key:?}:\n{}", told.join("\n")));
            }
        }
        Ok(())
    }
}
