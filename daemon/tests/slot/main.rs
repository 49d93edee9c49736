//! Slots: groups on real files, in memory and over RPC.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests of real machines need the real thing to compare with"
)]

mod copies;
mod drivers;
#[allow(dead_code, reason = "shared with the tests of RPC")]
#[path = "../rpc/fake.rs"]
mod fake;
mod group;
#[allow(dead_code, unused_imports, unused_macros, reason = "shared with other tests")]
#[path = "../../../io/tests/conformance/harness.rs"]
mod harness;
mod lease;
mod over_rpc;
mod room;
