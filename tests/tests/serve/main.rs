//! `cairn serve` as people and their tools meet it: a real process on real files, asked over real sockets.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "these tests are about real machines")]

mod clients;
mod cluster;
mod evacuate;
mod hostile;
mod life;
mod metrics;
mod node;
mod settings;
