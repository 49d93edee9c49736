//! Object lock: what keeps a version from being erased or dropped, and who may loosen it.
//!
//! Time is the one that the command carries, which the slot's leader states. It is the only thing here that a wrong clock
//! can move, and only for retention that a clock ends.

use minicbor::{Decode, Encode};

/// What keeps a version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Lock {
    /// Until when; `None`: no retention.
    #[n(0)]
    pub retention: Option<Retention>,
    /// A legal hold, which ends when it is taken off.
    #[n(1)]
    pub legal_hold: bool,
}

/// A retention with its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Retention {
    /// Who may shorten it.
    #[n(0)]
    pub mode: LockMode,
    /// Its end, in milliseconds since the Unix epoch.
    #[n(1)]
    pub until: u64,
}

/// Who may shorten a retention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum LockMode {
    /// Those who may bypass governance, and say so.
    #[n(0)]
    Governance,
    /// Nobody.
    #[n(1)]
    Compliance,
}

/// Whether a command says that it bypasses governance; who may say so is decided before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Bypass {
    /// It doesn't.
    #[default]
    #[n(0)]
    Nothing,
    /// It does.
    #[n(1)]
    Governance,
}

/// Why a version is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Hold {
    /// A legal hold.
    #[n(0)]
    Legal,
    /// A retention that may be bypassed.
    #[n(1)]
    Governance,
    /// A retention that nobody may bypass.
    #[n(2)]
    Compliance,
}

impl Lock {
    /// What keeps the version from being removed at this time; `None`: nothing.
    pub fn hold(&self, now: u64, bypass: Bypass) -> Option<Hold> {
        let retention = self.retention.filter(|retention| retention.until > now);
        match retention.map(|retention| retention.mode) {
            _ if self.legal_hold => Some(Hold::Legal),
            Some(LockMode::Compliance) => Some(Hold::Compliance),
            Some(LockMode::Governance) if bypass == Bypass::Nothing => Some(Hold::Governance),
            _ => None,
        }
    }

    /// What forbids to replace the retention by this one at this time; `None`: nothing. The same mode for longer is always allowed;
    /// another mode is not, though it keep more: from compliance there is no way back.
    pub fn forbids(&self, new: Option<Retention>, now: u64, bypass: Bypass) -> Option<Hold> {
        let old = self.retention.filter(|old| old.until > now)?;
        let is_same_mode = new.is_some_and(|new| new.mode == old.mode);
        let is_longer = new.is_some_and(|new| new.until >= old.until);
        match old.mode {
            _ if is_same_mode && is_longer => None,
            LockMode::Compliance => Some(Hold::Compliance),
            LockMode::Governance => (bypass == Bypass::Nothing).then_some(Hold::Governance),
        }
    }
}

#[test]
fn a_lock_is_loosened_only_by_whom_it_lets() {
    use Bypass::{Governance, Nothing};
    let lock = |mode, until| Lock { retention: Some(Retention { mode, until }), legal_hold: false };
    let (soft, hard) = (lock(LockMode::Governance, 100), lock(LockMode::Compliance, 100));
    let held = Lock { legal_hold: true, ..soft };
    let holds = [
        (soft, 99, Nothing, Some(Hold::Governance)),
        (soft, 99, Governance, None),
        (soft, 100, Nothing, None),
        (hard, 99, Governance, Some(Hold::Compliance)),
        (hard, 100, Nothing, None),
        (held, 1000, Governance, Some(Hold::Legal)),
        (Lock::default(), 0, Nothing, None),
    ];
    for (lock, now, bypass, hold) in holds {
        assert_eq!(lock.hold(now, bypass), hold, "{lock:?} at {now}, {bypass:?}");
    }
    let changes = [
        (soft, lock(LockMode::Governance, 200).retention, Nothing, None),
        (soft, lock(LockMode::Compliance, 100).retention, Nothing, Some(Hold::Governance)),
        (soft, lock(LockMode::Compliance, 100).retention, Governance, None),
        (soft, lock(LockMode::Governance, 50).retention, Nothing, Some(Hold::Governance)),
        (soft, None, Governance, None),
        (hard, lock(LockMode::Compliance, 200).retention, Nothing, None),
        (hard, lock(LockMode::Governance, 200).retention, Governance, Some(Hold::Compliance)),
        (hard, None, Governance, Some(Hold::Compliance)),
        (Lock::default(), None, Nothing, None),
    ];
    for (old, new, bypass, forbidden) in changes {
        assert_eq!(old.forbids(new, 10, bypass), forbidden, "{old:?} to {new:?}, {bypass:?}");
        assert_eq!(old.forbids(new, 100, bypass), None, "it has ended");
    }
}
