//! Slots: openraft's own suites for the runtime and the storage, and groups on real files.

mod drivers;
mod group;
mod runtime;
mod storage;
