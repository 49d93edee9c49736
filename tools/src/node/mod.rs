//! `cairn serve` and what belongs to it: a node's configuration and its state.

mod about;
mod at;
mod config;
mod init;
mod key;
mod serve;
mod settings;
mod status;

pub use about::HELP as ASK_HELP;
pub use config::Command as ConfigCommand;
pub use init::{Args as InitArgs, HELP as INIT_HELP};
pub use key::Command as KeyCommand;
pub use serve::{Args as ServeArgs, HELP as SERVE_HELP};
pub use status::{Args as StatusArgs, HELP as STATUS_HELP};
