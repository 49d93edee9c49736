//! Every behaviour of the face, on every driver: the same tests on glommio, on monoio with `io_uring`, on monoio
//! with `io_uring` forbidden as a container forbids it, and in the simulation.

#![allow(clippy::disallowed_methods, reason = "the harness sets up threads as a container would")]

mod blocks;
mod files;
mod harness;
mod limits;
mod log;
mod mesh;
mod network;
mod tasks;
mod time;
