//! A client of S3 servers, ours and others: what the object commands and `cairn bench s3` are made of.
//!
//! ```text
//!   settings ─► client ─► sign ─► http::client (hyper over io)
//!                 ▲
//!               calls ─► shapes        one function a request, its answer read
//!                 ▲
//!             transfer ─► local       many requests, bounded memory, resumed where that is possible
//! ```
//!
//! What it is not: it knows no command line but the flags that name a server, and nothing of nodes: it sees what any S3
//! client sees. It speaks HTTP/1.1 without TLS, path style, signature version 4.
//!
//! Invariants: whatever a server answers, it ends in an answer or an error, never a panic; what is held of an answer or
//! a body is bounded; a request is repeated only where twice is as good as once; secrets are shown nowhere.

pub mod calls;
pub mod client;
pub mod error;
pub mod local;
pub mod settings;
pub mod shapes;
pub mod sign;
pub mod transfer;
pub mod turns;
pub mod words;
