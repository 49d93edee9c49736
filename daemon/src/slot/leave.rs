//! Stopping one group, so that what it has can be copied to another lane.
//!
//! First nobody new finds it; those who have it come to their end, by themselves or by their limits; then its task ends, what is
//! on its way into the log lands, and nothing is applied any more. From then on its records don't change.

use std::rc::Rc;

use cairn_io::time::{self, Duration};

use super::group::Slot;
use super::{SlotError, Slots};

/// How often it is looked whether somebody still has the group.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// How long others may take to lead it.
const HAND_OVER_WITHIN: Duration = Duration::from_millis(500);
/// How long its own parts may take to end: a part of a snapshot that is being sent has as long.
const END_WITHIN: Duration = Duration::from_secs(30);

impl Slots {
    /// Stops a group for good: its records in the lane are as they were left, and it may be opened in another lane that has
    /// them. Who asks for it meanwhile hears that it isn't here.
    ///
    /// # Errors
    /// If there is none, or a part of it doesn't end; then only a restart helps.
    pub async fn leave(&self, slot: u32) -> Result<(), SlotError> {
        let here = self.slot(slot)?;
        self.hand_over_these(std::slice::from_ref(&here), HAND_OVER_WITHIN).await;
        here.is_leaving.set(true);
        // What is proposed by now can be answered for.
        let _ = until(self.0.options.propose_limit, || here.proposals.get() == 0).await;
        let is_still = until(END_WITHIN, || here.is_still()).await;
        here.close();
        let has_landed = time::timeout(END_WITHIN, here.log.all_landed()).await.is_ok();
        self.0.forget(slot);
        // Whoever still has it hears that it has ended.
        if is_still && has_landed && until(END_WITHIN, || Rc::strong_count(&here) == 1).await {
            return Ok(());
        }
        Err(SlotError::Stopped(
            "to be moved to another disk, and a part of it doesn't end; restart the node".to_owned(),
        ))
    }
}

impl Slot {
    /// Whether nothing is being applied or written for it but entries, or it can't go on anyway.
    fn is_still(&self) -> bool {
        self.is_over() || !self.runs.is_applying.get() && !self.runs.is_keeping.get() && self.turn.try_lock().is_some()
    }
}

/// Whether something comes to be so within this time.
async fn until(within: Duration, is_so: impl Fn() -> bool) -> bool {
    let deadline = time::now() + within;
    while !is_so() {
        if time::now() >= deadline {
            return false;
        }
        time::sleep(LOOK_AGAIN).await;
    }
    true
}
