//! `cairn serve`: a node, until it is told to stop.

use std::sync::Arc;

use cairn_daemon::node::{self, NodeError, Reload};
use cairn_daemon::trace;
use cairn_io::lines;

use super::settings::Settings;
use crate::out::Failure;

/// What the exit codes of this command mean.
pub const HELP: &str = "\
Signals: SIGTERM and SIGINT stop the node in order, a second one at once. SIGHUP reads the settings again.

Exit codes:
  0    stopped in order: every index is committed
  1    it ran and ended otherwise; nothing that was answered for is lost
  2    not started: wrong settings, a data directory or an address in use, or this machine can't do it
  130  ended at once by a second SIGINT
  143  ended at once by a second SIGTERM";

/// Options of `cairn serve`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    settings: Settings,
}

impl Args {
    /// Runs the node.
    ///
    /// # Errors
    /// Why it didn't start, or didn't end in order.
    pub fn run(&self) -> Result<(), Failure> {
        let config = self.settings.resolve()?;
        config.data().map_err(|complaints| Failure::Input(complaints.to_string()))?;
        trace::set_up(&config.levels());
        let settings = self.settings.clone();
        let reload = move || -> Reload {
            let settings = settings.clone();
            Box::pin(async move { settings.resolve_again().await })
        };
        let ended = node::run(&config, Arc::new(reload), None);
        lines::flush();
        ended.map_err(|error| match error {
            NodeError::NotStarted(why) => Failure::Input(why),
            NodeError::Broken(why) => Failure::Broken(why),
        })
    }
}
