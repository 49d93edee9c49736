//! RPC on each driver: calls, limits, hostile connections.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests of real machines need the real thing to compare with"
)]

mod calls;
mod fake;
#[allow(dead_code, reason = "shared with tests that need files")]
#[path = "../../../io/tests/conformance/harness.rs"]
mod harness;
mod hostile;
mod peers;
mod python;
