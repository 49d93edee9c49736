//! How far a transfer is: a bar on standard error, where that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// Bytes moved of those to be moved.
#[derive(Clone, Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// Of nothing yet.
    pub fn new() -> Self {
        let style = ProgressStyle::with_template(
            "[{bar:30}] {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta} left  {msg}",
        )
        .expect("the template is well-formed")
        .progress_chars("=> ");
        Self(ProgressBar::new(0).with_style(style))
    }

    /// So much more is to be moved.
    pub fn expect(&self, bytes: u64) {
        self.0.inc_length(bytes);
    }

    /// So much more is moved.
    pub fn moved(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    /// What is moved now.
    pub fn about(&self, name: &str) {
        self.0.set_message(name.to_owned());
    }

    /// Prints a line above the bar.
    pub fn note(&self, line: &str) {
        self.0.suspend(|| crate::out::note(line));
    }

    /// Prints a result above the bar.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn print(&self, line: &str) -> Result<(), crate::out::Failure> {
        self.0.suspend(|| crate::out::print(line))
    }

    /// It is over: the bar vanishes.
    pub fn end(&self) {
        self.0.finish_and_clear();
    }
}
