//! The `cairn` command, for tests that start it as people do.

use std::process::ExitCode;

fn main() -> ExitCode {
    cairn_tools::cli::run()
}
