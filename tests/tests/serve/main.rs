//! `cairn serve` as people and their tools meet it: a real process on real files, asked over real sockets.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "these tests are about real machines")]

mod acks;
mod clients;
mod cluster;
mod evacuate;
mod filled;
mod hostile;
mod life;
mod lost_index;
mod metrics;
mod node;
mod oldest;
mod s3;
mod settings;
mod wires;
