//! What the `cairn` command is made of.
//!
//! What it is: the command line, and the measurements behind `cairn bench`, which `benches/` shares.
//!
//! What it is not: it knows no format and no protocol, and reaches the kernel through `io` only.
//!
//! ```text
//!   cli ──► bench::disk ──► bench::pairs ──► bench::load       ours: what our io does
//!    │           │               └─────────► io::reference     theirs: what the kernel can do
//!    └── out     └── bench::report
//! ```

pub mod bench;
pub mod cli;
pub mod out;
