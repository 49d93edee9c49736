//! The object commands: `cairn put|get|cat|ls|rm|stat|cp|versions|conflicts|merge` and `cairn bucket`.
//!
//! They speak S3 through [`crate::s3`], so they work with any node and with other S3 servers. What they say of a command
//! line ends here; how bytes move is decided there.

mod bucket;
mod cat;
mod conflicts;
mod cp;
mod ls;
mod many;
mod place;
mod progress;
mod rm;
mod setting;
mod stat;
mod versions;

pub use bucket::Command as BucketCommand;
pub use cat::Args as CatArgs;
pub use conflicts::Args as ConflictsArgs;
pub use cp::{CpArgs, GetArgs, PutArgs};
pub use ls::Args as LsArgs;
pub use rm::Args as RmArgs;
pub use stat::Args as StatArgs;
pub use versions::{Args as VersionsArgs, MergeArgs};

use cairn_io::shutdown::{self, Shutdown};
use cairn_io::{Config, DriverChoice, run_one};
use futures_util::future::{Either, select};
use futures_util::pin_mut;

use crate::out::Failure;

/// What the exit codes of these commands mean.
pub const HELP: &str = "\
Objects are written cairn://BUCKET/KEY, local files as paths (./- for a file of that name), - is standard input or output.

Exit codes:
  0    done
  1    begun, but went wrong: the connection broke, a disk failed, or some of many failed
  2    not begun: bad input, no keys, or nobody answers; the message says what to change
  3    there is no such bucket, object, version or file
  4    the server refuses: not allowed, or not as things are (exists, isn't empty, was changed)
  130  stopped by Ctrl-C; no half-written file is left";

/// Runs a command on a core of its own, until it ends or its user stops it.
fn run<F>(command: impl FnOnce() -> F + Send + 'static) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>> + 'static,
{
    let stop = Shutdown::new();
    shutdown::on_signals(&stop)
        .map_err(|error| Failure::Input(format!("can't listen for Ctrl-C: {error}; raise the limit on processes")))?;
    let io = Config { driver: DriverChoice::Monoio, block_bytes_max: 1 << 20, ..Config::single() };
    let ended = run_one(&io, move || async move {
        let (work, stopped) = (command(), stop.requested());
        pin_mut!(work, stopped);
        match select(work, stopped).await {
            Either::Left((ended, _)) => ended,
            // What was under way is dropped with it, half-written files too.
            Either::Right(_) => Err(Failure::Stopped),
        }
    });
    ended.map_err(|error| Failure::Input(error.to_string()))?
}
