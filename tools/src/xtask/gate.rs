//! The gate: every check, in order, each with its time.

use std::process::Command;
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::prepare::prepare;
use crate::run::{Cargo, Outcome, answers, outcome_of, target, workspace};

#[derive(Args)]
pub struct TestArgs {
    /// Only this step (may be given several times)
    #[arg(long, value_name = "STEP", value_parser = PossibleValuesParser::new(STEPS.iter().map(|step| step.name)))]
    only: Vec<String>,
    /// Name the steps and do nothing
    #[arg(long)]
    list: bool,
}

struct Step {
    name: &'static str,
    about: &'static str,
    run: fn() -> Outcome,
}

const STEPS: &[Step] = &[
    Step { name: "prepare", about: "what the tests need of this machine", run: prepare },
    Step { name: "fmt", about: "the formatting", run: fmt },
    Step { name: "clippy", about: "the lints of the workspace, on everything", run: clippy },
    Step { name: "docs", about: "the documentation builds without a warning", run: docs },
    Step { name: "test", about: "unit, conformance and whole-system tests", run: tests },
    Step { name: "doctest", about: "the examples in the documentation", run: doctests },
    Step { name: "clients", about: "real S3 clients and the demo, on a node of their own", run: clients },
    Step { name: "sim", about: "a bounded share of the simulation", run: sim },
];

/// Seeds of each simulated scenario; `cargo xtask sim --seeds N` runs more.
const SIM_SEEDS: u64 = 100;

pub fn test(args: &TestArgs) -> bool {
    if args.list {
        STEPS.iter().for_each(|step| println!("{:10} {}", step.name, step.about));
        return true;
    }
    let wanted = |step: &&Step| args.only.is_empty() || args.only.iter().any(|name| name == step.name);
    let results: Vec<_> = STEPS.iter().filter(wanted).map(|step| (step, timed(step))).collect();
    summarise(&results)
}

fn timed(step: &Step) -> (Outcome, Duration) {
    println!("\n=== {}: {}", step.name, step.about);
    let start = Instant::now();
    let outcome = (step.run)();
    println!("--- {} {} in {:.0} s", step.name, outcome.word(), start.elapsed().as_secs_f64());
    (outcome, start.elapsed())
}

fn summarise(results: &[(&Step, (Outcome, Duration))]) -> bool {
    println!("\n=== steps");
    for (step, (outcome, took)) in results {
        println!("{:10} {} in {:.0} s", step.name, outcome.word(), took.as_secs_f64());
    }
    let passed = results.iter().filter(|(_, (outcome, _))| *outcome == Outcome::Passed).count();
    let failed = results.len() - passed;
    println!("{passed} passed, {failed} failed");
    failed == 0
}

fn fmt() -> Outcome {
    Cargo::new(["fmt", "--all", "--check"]).run()
}

fn clippy() -> Outcome {
    Cargo::new(["clippy", "--workspace", "--all-targets", "--all-features", "--", "--deny", "warnings"]).run()
}

fn docs() -> Outcome {
    Cargo::new(["doc", "--workspace", "--no-deps", "--all-features", "--lib"])
        .env("RUSTDOCFLAGS", "--deny warnings")
        .run()
}

fn tests() -> Outcome {
    // nextest gives each test its own process and, by .config/nextest.toml, a time limit; cargo's own runner will do.
    if answers("cargo", &["nextest", "--version"]) {
        return Cargo::new(["nextest", "run", "--workspace", "--all-features"]).run();
    }
    Cargo::new(["test", "--no-fail-fast", "--workspace", "--all-features", "--lib", "--bins", "--tests"]).run()
}

fn doctests() -> Outcome {
    Cargo::new(["test", "--workspace", "--all-features", "--doc"]).run()
}

fn clients() -> Outcome {
    if Cargo::new(["build", "--release", "--package", "cairn-tools", "--bin", "cairn"]).run() == Outcome::Failed {
        return Outcome::Failed;
    }
    let cairn = target().join("release/cairn");
    outcome_of(Command::new("python3").arg("tests/s3/run.py").arg("--node").arg(cairn).current_dir(workspace()))
}

fn sim() -> Outcome {
    Cargo::new(["test", "--release", "--package", "cairn-tests", "--test", "sim"])
        .env("CAIRN_SIM_SEEDS", SIM_SEEDS.to_string())
        .run()
}
