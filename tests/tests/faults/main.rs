//! Faults on real files: programs killed, disks cut off, full, read-only, rotten. A lane is loaded by `lane-load`, which says
//! what was answered; afterwards all of that must be there, and `cairn fsck` must find nothing, or exactly what was broken.
//!
//! Some need root, loop devices and xfsprogs, and fail without, as `cargo xtask test` gets what it can.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "these tests are about real machines")]

mod disk;
mod disks;
mod kill;
mod load;
mod mount;
mod room;
mod rot;
