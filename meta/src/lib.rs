//! What the bytes of a lane mean.
//!
//! The [`index`]: where each chunk lies in the log, and the tables that a lane keeps beside it; [`rows`]: what state machines
//! read and write of it; [`version`]: the graph of an object's versions; [`slot`] and [`control`]: the state machines, which
//! know neither I/O nor time. This crate knows no socket, no clock, no random number and no thread of its own; its only I/O is LMDB's, in one file of the index.
//!
//! ```text
//!   lane (daemon) ── put, delete, get, scan ──► index ──► overlay in memory
//!        │                                        │             │ freeze
//!        └── a helper thread runs Commit ─────────┼─────────────▼
//!                                                 └─────────► LMDB
//! ```

#![deny(unsafe_code)]

pub mod control;
mod encoding;
pub mod index;
mod ring;
pub mod rows;
pub mod slot;
pub mod version;

pub use encoding::Malformed;
