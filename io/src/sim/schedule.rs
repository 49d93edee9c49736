//! Who runs next: an event that is due, else a ready task drawn from all cores that are free, else time jumps.

use std::rc::Rc;

use super::config::nanos;
use super::node::Slot;
use super::shared::{Event, Shared};
use super::trace::Kind;
use crate::core::{self, Core};
use crate::task::Class;

/// The cores of all nodes, and which of them have something to do.
#[derive(Default)]
pub(super) struct Schedule {
    pub slots: Vec<Rc<Slot>>,
    /// Slots with ready tasks, in the order they became so.
    runnable: Vec<Rc<Slot>>,
    /// Kept between steps to save its memory: places in `runnable` that may run now.
    free: Vec<usize>,
}

impl Schedule {
    /// Does the next thing that happens up to world time `limit`; false when there is none.
    pub fn step(&mut self, shared: &Rc<Shared>, limit: u64) -> bool {
        self.collect_woken(shared);
        let now = shared.now();
        let event_at = shared.next_event_at().unwrap_or(u64::MAX);
        if event_at > now {
            let task_at = self.look_for_free(shared, now);
            if task_at <= now {
                self.run_any(shared);
                return true;
            }
            let next = event_at.min(task_at);
            if next > limit {
                return false;
            }
            shared.set_now(next);
            if task_at < event_at {
                return true;
            }
        }
        if let Some(event) = shared.take_event() {
            self.dispatch(shared, event);
        }
        true
    }

    fn collect_woken(&mut self, shared: &Shared) {
        while let Some(index) = shared.woken.pop() {
            let slot = &self.slots[index];
            if !slot.runnable.replace(true) {
                self.runnable.push(slot.clone());
            }
        }
    }

    fn dispatch(&self, shared: &Rc<Shared>, event: Event) {
        match event {
            Event::Alarm(slot) => self.slots[slot].ring(shared),
            Event::Deliver(conn, side) => conn.deliver(shared, side),
            Event::Call(call) => call(shared),
        }
    }

    /// Lists the slots that may run now; returns when the first one may.
    fn look_for_free(&mut self, shared: &Shared, now: u64) -> u64 {
        self.free.clear();
        let mut earliest = u64::MAX;
        let nodes = shared.nodes.borrow();
        for (place, slot) in self.runnable.iter().enumerate() {
            let at = slot.free_at.get().max(nodes[slot.node].paused_until.get());
            earliest = earliest.min(at);
            if at <= now {
                self.free.push(place);
            }
        }
        earliest
    }

    fn run_any(&mut self, shared: &Rc<Shared>) {
        let drawn = match self.free.len() {
            1 => 0,
            many => draw_below(shared, many),
        };
        let place = self.free[drawn];
        let slot = self.runnable[place].clone();
        let core = slot.current.borrow().clone();
        let goes_on = core.is_some_and(|core| run_task(shared, &slot, &core));
        if !goes_on {
            slot.runnable.set(false);
            self.runnable.swap_remove(place);
        }
    }
}

/// Polls one ready task of the core; false when nothing is left that is ready.
fn run_task(shared: &Rc<Shared>, slot: &Slot, core: &Rc<Core>) -> bool {
    let entered = core::enter(core.clone());
    core.exec.collect_remote();
    if let Some((class, place)) = draw_task(shared, core) {
        shared.record(Kind::Poll, slot.who(), (class as u64) << 32 | place as u64);
        core.exec.run_nth(class, place);
        let cost = nanos(shared.config.poll_cost).max(1);
        let drawn = shared.rng_schedule.borrow_mut().below(cost);
        slot.free_at.set(shared.now() + cost + drawn);
    }
    drop(entered);
    if let Some(result) = slot.reap() {
        shared.node(slot.node).core_ended(shared, result);
        return false;
    }
    !core.exec.host_sleeps(&slot.waker)
}

/// Draws a class by the shares of those that have ready tasks, and then one of its tasks.
fn draw_task(shared: &Shared, core: &Core) -> Option<(Class, usize)> {
    let ready = Class::ALL.map(|class| core.exec.ready(class));
    let weight = |class: Class| if ready[class as usize] > 0 { u64::from(class.shares()) } else { 0 };
    let total = Class::ALL.into_iter().map(weight).sum::<u64>();
    if total == 0 {
        return None;
    }
    let mut rng = shared.rng_schedule.borrow_mut();
    let mut drawn = rng.below(total);
    let class = Class::ALL.into_iter().find(|&class| {
        let held = drawn < weight(class);
        drawn = drawn.saturating_sub(weight(class));
        held
    })?;
    let place = rng.below(ready[class as usize] as u64);
    Some((class, usize::try_from(place).expect("a place in a queue in memory")))
}

fn draw_below(shared: &Shared, bound: usize) -> usize {
    let drawn = shared.rng_schedule.borrow_mut().below(bound as u64);
    usize::try_from(drawn).expect("below a usize")
}
