//! Printing that doesn't panic, and how a command ends.

use std::io::{self, Write};
use std::process::ExitCode;

/// Why a command ended without doing its work. The kind decides the exit code.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// What was asked for can't be done here. The message is one sentence that says what to do; exit code 2.
    #[error("{0}")]
    Input(String),
    /// It was begun and went wrong; exit code 1.
    #[error("{0}")]
    Broken(String),
    /// What it is about isn't there; exit code 3.
    #[error("{0}")]
    Missing(String),
    /// It is not allowed, or not as things are; exit code 4.
    #[error("{0}")]
    Refused(String),
    /// Its user stopped it; exit code 130.
    #[error("stopped")]
    Stopped,
    /// Nobody reads what we print, as in `cairn | head`: no reason to complain; exit code 0.
    #[error("the reader of our output has gone")]
    ReaderGone,
}

impl Failure {
    /// The exit code, after telling the user.
    pub fn report(&self) -> ExitCode {
        let code = match self {
            Self::ReaderGone => return ExitCode::SUCCESS,
            Self::Broken(_) => 1,
            Self::Input(_) => 2,
            Self::Missing(_) => 3,
            Self::Refused(_) => 4,
            Self::Stopped => 130,
        };
        note(&format!("cairn: {self}"));
        ExitCode::from(code)
    }
}

/// Prints a result to standard output.
///
/// # Errors
/// If it can't be written.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::ReaderGone,
        _ => Failure::Broken(format!("can't write to standard output: {error}")),
    })
}

/// Tells the user something beside the result, on standard error. If that is gone, there is nobody to tell.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
