//! Running a scenario over seeds: each twice, and what fails told so that one command replays it.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cairn_io::rng::Rng;
use cairn_io::sim::{FaultPlan, Stats, World};
use cairn_io::time::Duration;

/// Seeds per scenario when nobody says otherwise: enough to notice a break, few enough for every test run. A build that
/// isn't optimised takes twenty times as long for each.
const SEEDS_DEFAULT: u64 = if cfg!(debug_assertions) { 4 } else { 50 };
/// Runs that shrinking a failing plan may take.
const SHRINK_RUNS_MAX: u64 = 300;

/// Programs, faults and a promise.
pub struct Scenario {
    /// Part of the name of its test: that is how it is found again.
    pub name: &'static str,
    pub plan: fn(u64) -> FaultPlan,
    pub run: fn(u64, &FaultPlan) -> Outcome,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    pub hash: u64,
    pub stats: Stats,
    pub tail: String,
    pub verdict: Result<(), String>,
}

impl Outcome {
    /// What the world says, and whether the promise was kept.
    pub fn of(world: &World, verdict: Result<(), String>) -> Self {
        Self { hash: world.trace_hash(), stats: world.stats(), tail: world.trace_tail(), verdict }
    }
}

impl Scenario {
    /// Runs every seed asked for.
    ///
    /// # Panics
    /// At the first seed that breaks the promise or can't be repeated.
    pub fn check(&self) {
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("main");
        assert!(
            test == "main" || test.contains(self.name),
            "`xtask sim --scenario {}` wouldn't find {test}",
            self.name
        );
        if let Some(seed) = number("CAIRN_SIM_SEED") {
            self.tell(seed);
            return;
        }
        let seeds = number("CAIRN_SIM_SEEDS").unwrap_or(SEEDS_DEFAULT);
        let (mut all, mut stats) = (0_u64, Stats::default());
        let from = number("CAIRN_SIM_FROM").unwrap_or(0);
        for seed in from..from + seeds {
            let outcome = self.check_seed(seed);
            stats += outcome.stats;
            all = all.rotate_left(5) ^ outcome.hash;
        }
        println!("{}: {seeds} seeds, each run twice, trace of all {all:016x}; in one go {stats}", self.name);
    }

    fn check_seed(&self, seed: u64) -> Outcome {
        let plan = (self.plan)(seed);
        let first = self.run_contained(seed, &plan);
        if let Err(reason) = &first.verdict {
            panic!("{}", self.failure(seed, &plan, reason));
        }
        let second = self.run_contained(seed, &plan);
        let same = (first.hash, first.stats) == (second.hash, second.stats);
        assert!(same, "{}", self.replay(seed, "two runs differ: something that isn't the seed decides"));
        first
    }

    /// Runs one seed and says all there is to say about it.
    fn tell(&self, seed: u64) {
        let plan = (self.plan)(seed);
        println!("{}, seed {seed}, {} faults:\n{plan}", self.name, plan.len());
        let outcome = self.check_seed(seed);
        println!("the end of the trace:\n{}", outcome.tail);
        println!("{}, seed {seed}: {}, trace {:016x}", self.name, outcome.stats, outcome.hash);
    }

    /// A panic anywhere in the run is a broken promise, too.
    fn run_contained(&self, seed: u64, plan: &FaultPlan) -> Outcome {
        catch_unwind(AssertUnwindSafe(|| (self.run)(seed, plan))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let verdict = Err(text.unwrap_or_else(|| "a panic without a message".to_owned()));
            Outcome { hash: 0, stats: Stats::default(), tail: String::new(), verdict }
        })
    }

    fn failure(&self, seed: u64, plan: &FaultPlan, reason: &str) -> String {
        let mut runs = 0;
        let small = plan.shrink(|plan| {
            runs += 1;
            runs <= number("CAIRN_SIM_SHRINK_RUNS").unwrap_or(SHRINK_RUNS_MAX)
                && self.run_contained(seed, plan).verdict.is_err()
        });
        let outcome = self.run_contained(seed, &small);
        let mut text = self.replay(seed, reason);
        let _ = write!(text, "\n{} of {} faults are enough:\n{small}", small.len(), plan.len());
        if let Err(reason) = outcome.verdict {
            let _ = write!(text, "with these: {reason}\n{}", outcome.tail);
        }
        text
    }

    fn replay(&self, seed: u64, reason: &str) -> String {
        format!("{}, seed {seed}: {reason}\nreplay with: cargo xtask sim --scenario {0} --seed {seed}", self.name)
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, which is no number")))
}

pub fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The generator that draws the plan of a seed: another than the world's own.
pub fn plan_rng(seed: u64) -> Rng {
    Rng::from_seed(seed ^ 0x706c_616e)
}
