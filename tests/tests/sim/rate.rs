//! How many simulated events a second of real time on one core: printed, never judged, for the machine may be busy.

use cairn_io::sim::FaultPlan;

use crate::harness::Outcome;
use crate::{counter, ping};

/// Worlds per figure; few where the build isn't optimised and the figure says nothing anyway.
const WORLDS: u64 = if cfg!(debug_assertions) { 1 } else { 8 };

/// `cargo test --release -p cairn-tests --test sim -- --nocapture rate`
pub fn print() {
    measure("counter, no faults", counter::run, &FaultPlan::new());
    measure("counter, faults", counter::run, &counter::plan(7));
    measure("ping, no faults", ping::run, &FaultPlan::new());
    measure("ping, faults", ping::run, &ping::plan(7));
}

#[expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "what is measured is real time")]
fn measure(name: &str, run: fn(u64, &FaultPlan) -> Outcome, plan: &FaultPlan) {
    let begun = std::time::Instant::now();
    let events: u64 = (0..WORLDS).map(|seed| run(seed, plan).stats.events).sum();
    let took = begun.elapsed().as_secs_f64();
    println!("{name}: {events} events in {took:.2} s: {:.0} a second", events as f64 / took);
}
