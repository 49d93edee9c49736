//! What the tests need of the machine: looked for, installed where that is allowed, else named.

use std::path::PathBuf;
use std::process::Command;

use crate::run::{Outcome, answers, outcome_of, target};

/// Something the tests can't do without.
struct Need {
    what: &'static str,
    present: fn() -> bool,
    how: How,
}

/// How to get it.
enum How {
    /// Debian's package of this name.
    Debian(&'static str),
    /// A component of the Rust toolchain.
    Rustup(&'static str),
    /// Python's package of this name, in an environment under the target directory.
    Python(&'static str),
}

impl How {
    /// What a person would type.
    fn command(&self) -> String {
        match self {
            Self::Debian(package) => format!("apt-get install {package}"),
            Self::Rustup(component) => format!("rustup component add {component}"),
            Self::Python(package) => {
                format!("python3 -m venv {0} && {0}/bin/pip install {package}", python().display())
            }
        }
    }
}

/// Where the tests look for Python.
fn python() -> PathBuf {
    target().join("python")
}

fn has_pycapnp() -> bool {
    answers(&python().join("bin/python").display().to_string(), &["-c", "import capnp"])
}

const NEEDS: &[Need] = &[
    Need { what: "rustfmt", present: || answers("cargo", &["fmt", "--version"]), how: How::Rustup("rustfmt") },
    Need { what: "clippy", present: || answers("cargo", &["clippy", "--version"]), how: How::Rustup("clippy") },
    // glommio's build compiles C, and calls git.
    Need { what: "a C compiler", present: || answers("cc", &["--version"]), how: How::Debian("build-essential") },
    // Whole-system tests mount file systems of their own, and cut their power.
    Need { what: "mkfs.xfs and xfs_io", present: || answers("mkfs.xfs", &["-V"]), how: How::Debian("xfsprogs") },
    Need { what: "mkfs.ext4", present: || answers("mkfs.ext4", &["-V"]), how: How::Debian("e2fsprogs") },
    // The test that compares the code generated from the schema compiles the schema.
    Need { what: "capnp", present: || answers("capnp", &["--version"]), how: How::Debian("capnproto") },
    // A client that shares no code with ours.
    Need { what: "pycapnp", present: has_pycapnp, how: How::Python("pycapnp") },
    // One of the S3 clients; the others are Python's packages, which the tests get themselves.
    Need { what: "restic", present: || answers("restic", &["version"]), how: How::Debian("restic") },
    Need { what: "git", present: || answers("git", &["--version"]), how: How::Debian("git") },
];

/// Looks for everything the tests need; installs what it may and says what is missing.
pub fn prepare() -> Outcome {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !(need.present)()).collect();
    let lacking: Vec<&Need> = missing.into_iter().filter(|need| !obtain(need)).collect();
    for need in &lacking {
        eprintln!("missing: {}; get it with: {}", need.what, need.how.command());
    }
    if lacking.is_empty() { Outcome::Passed } else { Outcome::Failed }
}

/// Installs what is missing, as root on a Debian system; anyone else is told what to type.
fn obtain(need: &Need) -> bool {
    if !may_install() {
        return false;
    }
    println!("installing {}: {}", need.what, need.how.command());
    let installed = match need.how {
        How::Debian(package) => apt_get(package),
        How::Rustup(component) => outcome_of(Command::new("rustup").args(["component", "add", component])),
        How::Python(package) => pip_install(package),
    };
    installed == Outcome::Passed && (need.present)()
}

fn apt_get(package: &str) -> Outcome {
    let install = || outcome_of(Command::new("apt-get").args(["install", "--yes", "--no-install-recommends", package]));
    // An old list of packages is the usual reason for a first failure.
    match install() {
        Outcome::Failed if outcome_of(Command::new("apt-get").arg("update")) == Outcome::Passed => install(),
        outcome => outcome,
    }
}

fn pip_install(package: &str) -> Outcome {
    let has_venv = answers("python3", &["-c", "import ensurepip, venv"]) || apt_get("python3-venv") == Outcome::Passed;
    if !has_venv || outcome_of(Command::new("python3").args(["-m", "venv"]).arg(python())) == Outcome::Failed {
        return Outcome::Failed;
    }
    outcome_of(Command::new(python().join("bin/pip")).args(["install", "--quiet", package]))
}

fn may_install() -> bool {
    answers("sh", &["-c", "test \"$(id -u)\" = 0 && command -v apt-get"])
}
