//! The project's own commands: `cargo xtask test` gates and changes nothing, `cargo xtask fix` rewrites.

#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a developer's command that runs other programs; it is no part of a node"
)]

mod gate;
mod prepare;
mod run;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use run::{Cargo, Outcome};

/// Commands for working on Cairn.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check everything and change nothing: what CI runs
    ///
    /// All steps are run even if one fails; the last line counts them.
    #[command(
        after_help = "Examples:\n  cargo xtask test\n  cargo xtask test --only clippy\n  cargo xtask test --list"
    )]
    Test(gate::TestArgs),
    /// Format, and apply what clippy can mend by itself
    #[command(after_help = "Examples:\n  cargo xtask fix && git diff")]
    Fix,
    /// Run the simulation with many seeds
    ///
    /// A seed that fails is told with the fewest faults that still break it and the command that replays it.
    #[command(
        after_help = "Examples:\n  cargo xtask sim --seeds 5000\n  cargo xtask sim --seeds 1000 --from 70000\n  cargo xtask sim --seed 42    replay one, with its trace"
    )]
    Sim(SimArgs),
    /// Run the criterion benchmarks of a layer, or all
    #[command(after_help = "Examples:\n  cargo xtask bench io\n  cargo xtask bench io -- mesh")]
    Bench(BenchArgs),
}

#[derive(Args)]
struct SimArgs {
    /// How many seeds
    #[arg(long, default_value_t = 1000, conflicts_with = "seed")]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0, conflicts_with = "seed")]
    from: u64,
    /// Replay this seed and print its faults and the end of its trace
    #[arg(long)]
    seed: Option<u64>,
    /// Only the scenarios whose name contains this
    #[arg(long)]
    scenario: Option<String>,
}

#[derive(Args)]
struct BenchArgs {
    /// The layer: the name of a file in benches/
    layer: Option<String>,
    /// Handed to criterion
    #[arg(last = true)]
    criterion: Vec<String>,
}

fn main() -> ExitCode {
    let ok = match Cli::parse().command {
        Command::Test(args) => gate::test(&args),
        Command::Fix => fix(),
        Command::Sim(args) => sim(&args),
        Command::Bench(args) => bench(&args),
    };
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn fix() -> bool {
    let clippy =
        ["clippy", "--fix", "--allow-dirty", "--allow-staged", "--workspace", "--all-targets", "--all-features"];
    Cargo::new(clippy).run() == Outcome::Passed && Cargo::new(["fmt", "--all"]).run() == Outcome::Passed
}

fn sim(args: &SimArgs) -> bool {
    if let Some(scenario) = &args.scenario
        && !is_scenario(scenario)
    {
        return false;
    }
    let mut cargo = simulation().args(["--"]).args(&args.scenario);
    cargo = match args.seed {
        Some(seed) => cargo.args(["--nocapture"]).env("CAIRN_SIM_SEED", seed.to_string()),
        None => cargo.env("CAIRN_SIM_SEEDS", args.seeds.to_string()).env("CAIRN_SIM_FROM", args.from.to_string()),
    };
    cargo.run() == Outcome::Passed
}

fn simulation() -> Cargo {
    Cargo::new(["test", "--release", "--package", "cairn-tests", "--test", "sim"])
}

/// Whether some scenario has this in its name: a filter that matches none would pass having tried nothing.
fn is_scenario(part: &str) -> bool {
    let Some(listed) = simulation().args(["--", "--list"]).output() else { return false };
    let names: Vec<&str> = listed.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    let found = names.iter().any(|name| name.contains(part));
    if !found {
        eprintln!("no scenario has {part:?} in its name; there are:\n  {}", names.join("\n  "));
    }
    found
}

fn bench(args: &BenchArgs) -> bool {
    let mut cargo = Cargo::new(["bench", "--package", "cairn-benches"]);
    if let Some(layer) = &args.layer {
        cargo = cargo.args(["--bench", layer]);
    }
    cargo.args(["--"]).args(&args.criterion).run() == Outcome::Passed
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn examples_in_the_help_work() {
        Cli::command().debug_assert();
        let mut tried = 0;
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().expect("every command has examples").to_string();
            for example in help.lines().filter_map(|line| line.trim().strip_prefix("cargo ")) {
                // What follows two spaces explains; what follows `&&` is another command.
                let line = example.split("  ").next().and_then(|line| line.split(" &&").next()).unwrap_or_default();
                let parsed = Cli::try_parse_from(line.split(' '));
                assert!(parsed.is_ok(), "{line}: {}", parsed.err().map(|error| error.to_string()).unwrap_or_default());
                tried += 1;
            }
        }
        assert!(tried >= 8, "only {tried} examples found");
    }

    #[test]
    fn a_step_nobody_knows_is_refused() {
        let error = Cli::try_parse_from(["xtask", "test", "--only", "lint"]).err().expect("there is no such step");
        assert!(error.to_string().contains("clippy"), "it names the steps: {error}");
    }
}
