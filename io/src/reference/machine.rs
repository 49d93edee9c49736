//! The machine that figures come from.

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::utsname::uname;

/// What a reader must know to compare figures of two machines.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The processor's name, or "unknown".
    pub processor: String,
    /// Processors this process may use.
    pub processors: usize,
    /// The kernel's release.
    pub kernel: String,
    /// Bytes this process may lock in memory; `u64::MAX` is no limit.
    pub memlock_bytes_max: u64,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        Self {
            processor: processor().unwrap_or_else(|| "unknown".to_owned()),
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            kernel: uname().map_or_else(|_| "unknown".to_owned(), |name| name.release().to_string_lossy().into_owned()),
            memlock_bytes_max: getrlimit(Resource::RLIMIT_MEMLOCK).map_or(0, |(soft, _)| soft),
        }
    }
}

fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
