//! What the `cairn` command is made of.
//!
//! What it is: the command line, a node as a process, a client of S3 servers and the commands on objects, the
//! measurements behind `cairn bench`, which `benches/` shares, `cairn place`, and what looks at a node that isn't
//! running: `cairn disk`, `cairn log` and `cairn fsck`.
//!
//! What it is not: it knows no format, and no protocol but S3 as its clients see it, and reaches the kernel through `io`
//! only (but for people's own files).
//!
//! ```text
//!   cli ──► bench::disk ──► bench::pairs ──► bench::load       ours: what our io does
//!    │           │               └─────────► io::reference     theirs: what the kernel can do
//!    └── out     └── bench::report
//!        bench::lane ──► bench::subject      chunks on the log, beside io::reference
//!        bench::s3 ──┐
//!        objects ────┼─► s3                  requests to any S3 server
//!        demo ───────┘
//! ```

pub mod bench;
pub mod cli;
pub mod demo;
pub mod disk;
pub mod lane;
pub mod node;
pub mod objects;
pub mod out;
pub mod place;
pub mod s3;
pub mod shell;
