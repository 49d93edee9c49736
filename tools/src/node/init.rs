//! `cairn init`: the disks of a new node, its cluster, and the first access key.

use cairn_daemon::disks::map::Uid;
use cairn_daemon::disks::{Format, format};
use cairn_daemon::manage::NewKeyReport;
use cairn_daemon::node::begin;
use cairn_io::{Config, run_one};

use super::key;
use crate::out::{self, Failure};

/// What the exit codes of this command mean.
pub const HELP: &str = "\
Makes a cluster of one: `cairn serve --data DIR,...` runs it. For a cluster of several nodes use `cairn disk format` on each,
name all of them in cluster.peers, and make the first key with `cairn key create`.

Exit codes:
  0  done; the key is printed this once
  1  begun, but went wrong: a disk failed
  2  not begun: a directory is not empty, or this machine can't do it";

/// Options of `cairn init`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Directories of the new node, one on each disk: empty, or not there yet
    #[arg(value_name = "DIR", required = true)]
    data: Vec<String>,
    /// Lanes on each disk; as many cores can work on it at once
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    lanes: u32,
    /// Whose the first access key is; this user may do everything
    #[arg(long, value_name = "USER", default_value = "root")]
    user: String,
    /// Print the key as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Does it.
    ///
    /// # Errors
    /// Why it can't be done, or what went wrong.
    pub fn run(&self) -> Result<(), Failure> {
        let io = Config { cores: 1, ..Config::default() };
        let (data, how) = (self.data.clone(), Format { lanes: self.lanes, ..Format::default() });
        let formatted = run_one(&io, move || async move { format(&data, Uid::default(), how).await.map(drop) });
        let formatted = formatted.map_err(|error| Failure::Input(error.to_string()))?;
        formatted.map_err(|error| Failure::Input(error.to_string()))?;
        let (data, user) = (self.data.clone(), self.user.clone());
        let begun = run_one(&io, move || async move { begin(data, &user).await });
        let begun = begun.map_err(|error| Failure::Input(error.to_string()))?;
        let made = begun.map_err(|error| Failure::Broken(error.to_string()))?;
        let report = NewKeyReport { access: made.access, secret: made.secret, user: self.user.clone() };
        if self.json {
            let text = serde_json::to_string(&report).map_err(|error| Failure::Broken(error.to_string()))?;
            return out::print(&text);
        }
        out::print(&key::shown(&report))?;
        out::note(&format!("Start the node with: cairn serve --data {}", self.data.join(",")));
        Ok(())
    }
}
