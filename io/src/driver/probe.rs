//! What this kernel and this process allow, and which driver follows from it.

use std::fmt;
use std::io;

use io_uring::{IoUring, Probe, opcode};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::Pid;

use super::ring::Ring;
use crate::block::Pool;
use crate::runtime::{Config, CoreId, DriverChoice, StartError};

/// What a core runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Glommio,
    Monoio,
    /// monoio without `io_uring`: epoll, and files on threads.
    MonoioEpoll,
}

/// The driver for all cores of a node.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    pub kind: Kind,
    /// One line for people.
    pub line: String,
    /// What each core may register with its ring.
    pub registered_bytes: usize,
}

/// A core's ring, with the pool's arena registered if the kernel agrees.
pub(super) fn open_ring(entries: u32, pool: &Pool) -> Result<Ring, StartError> {
    let (ring, registered) = Ring::new(entries, pool.arena()).map_err(|error| StartError::Driver {
        driver: "io_uring",
        reason: error.to_string(),
        remedy: "raise the limits on open files (ulimit -n) and memory".to_owned(),
    })?;
    if !registered {
        pool.forget_arena();
    }
    Ok(ring)
}

/// glommio registers memory and asserts that it may; below this it can't start.
const GLOMMIO_MEMLOCK_MIN: u64 = 512 << 10;

/// Chooses as the configuration says, or says why not.
pub(crate) fn choose(config: &Config) -> Result<Chosen, StartError> {
    let memlock = memlock_limit();
    let uring = probe_uring();
    let glommio = uring.clone().and_then(|()| check_memlock(memlock));
    let (kind, line) = match (config.driver, glommio, uring) {
        (DriverChoice::Auto, Ok(()), _) => {
            (Kind::Glommio, "driver: glommio (io_uring and memlock allow it)".to_owned())
        }
        (DriverChoice::Glommio, Ok(()), _) => (Kind::Glommio, "driver: glommio (asked for)".to_owned()),
        (DriverChoice::Glommio, Err(missing), _) => return Err(missing.into_error()),
        (DriverChoice::Auto, Err(missing), Ok(())) => {
            (Kind::Monoio, format!("driver: monoio on io_uring (not glommio: {missing})"))
        }
        (DriverChoice::Auto, _, Err(missing)) => {
            (Kind::MonoioEpoll, format!("driver: monoio on epoll, files on threads ({missing})"))
        }
        (DriverChoice::Monoio, _, Ok(())) => (Kind::Monoio, "driver: monoio on io_uring (asked for)".to_owned()),
        (DriverChoice::Monoio, _, Err(missing)) => {
            (Kind::MonoioEpoll, format!("driver: monoio on epoll, files on threads (asked for; {missing})"))
        }
    };
    Ok(Chosen { kind, line, registered_bytes: registered_share(config, kind, memlock) })
}

/// Half of what may be locked, divided between the cores: the rest is glommio's and other processes'.
fn registered_share(config: &Config, kind: Kind, memlock: u64) -> usize {
    if kind == Kind::MonoioEpoll {
        return 0;
    }
    let share = usize::try_from(memlock / 2).unwrap_or(usize::MAX) / config.cores;
    config.registered_bytes.min(share)
}

/// Something a driver needs and can't have.
#[derive(Clone, Debug)]
struct Missing {
    reason: String,
    remedy: &'static str,
}

impl Missing {
    fn into_error(self) -> StartError {
        StartError::Driver { driver: "glommio", reason: self.reason, remedy: self.remedy.to_owned() }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// Whether `io_uring` is there, allowed and knows what we need of it.
fn probe_uring() -> Result<(), Missing> {
    let ring = IoUring::new(8).map_err(|error| explain_refusal(&error))?;
    let mut probe = Probe::new();
    let old = Missing {
        reason: "this kernel's io_uring is too old (5.11 is the least)".to_owned(),
        remedy: "update the kernel, or choose --driver monoio",
    };
    if ring.submitter().register_probe(&mut probe).is_err() || !ring.params().is_feature_ext_arg() {
        return Err(old);
    }
    let needed = [
        opcode::Read::CODE,
        opcode::Write::CODE,
        opcode::Writev::CODE,
        opcode::Fsync::CODE,
        opcode::PollAdd::CODE,
        opcode::AsyncCancel::CODE,
    ];
    if needed.iter().all(|&code| probe.is_supported(code)) { Ok(()) } else { Err(old) }
}

fn explain_refusal(error: &io::Error) -> Missing {
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    let (reason, remedy) = match (error.raw_os_error(), disabled.trim()) {
        (Some(libc::EPERM), level @ ("1" | "2")) => (
            format!("io_uring is switched off: kernel.io_uring_disabled = {level}"),
            "set it to 0 with sysctl, or choose --driver monoio",
        ),
        (Some(libc::EPERM | libc::EACCES), _) => (
            "io_uring is forbidden, as a container's seccomp profile does".to_owned(),
            "allow io_uring_setup, io_uring_enter and io_uring_register in the profile, or choose --driver monoio",
        ),
        (Some(libc::ENOSYS), _) => (
            "this kernel has no io_uring, or a seccomp profile hides it".to_owned(),
            "use kernel 5.11 or newer and allow io_uring, or choose --driver monoio",
        ),
        _ => (
            format!("io_uring_setup fails: {error}"),
            "raise the limits on memory and files, or choose --driver monoio",
        ),
    };
    Missing { reason, remedy }
}

fn memlock_limit() -> u64 {
    getrlimit(Resource::RLIMIT_MEMLOCK).map_or(0, |(soft, _)| soft)
}

fn check_memlock(limit: u64) -> Result<(), Missing> {
    if limit >= GLOMMIO_MEMLOCK_MIN {
        return Ok(());
    }
    Err(Missing {
        reason: format!("only {} KiB may be locked in memory and it needs 512", limit >> 10),
        remedy: "raise the limit with `ulimit -l 8192` (systemd: LimitMEMLOCK=8M), or choose --driver monoio",
    })
}

/// Binds this thread to the processor of `core`: the n-th of those the process may use, in turn.
pub(super) fn pin_thread(core: CoreId) -> Result<(), StartError> {
    let complain = |error: nix::Error| {
        StartError::Config(format!("can't pin {core} to a processor: {error}; start without pinning"))
    };
    let allowed = sched_getaffinity(Pid::from_raw(0)).map_err(complain)?;
    let processors: Vec<usize> = (0..CpuSet::count()).filter(|&at| allowed.is_set(at).unwrap_or(false)).collect();
    let Some(&processor) = processors.get(core.index() % processors.len().max(1)) else { return Ok(()) };
    let mut only = CpuSet::new();
    only.set(processor).map_err(complain)?;
    sched_setaffinity(Pid::from_raw(0), &only).map_err(complain)
}
