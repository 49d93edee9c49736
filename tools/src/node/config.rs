//! `cairn config`: what a node would be configured with, and whether that is right.

use cairn_daemon::config::Config;
use clap::Subcommand;
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::settings::Settings;
use crate::out::{self, Failure};

/// What can be done with a configuration.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show every setting, its value and where that comes from
    Print {
        /// Where they come from.
        #[command(flatten)]
        settings: Settings,
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Say whether a node could start with these settings, or everything that is wrong with them
    Check {
        /// Where they come from.
        #[command(flatten)]
        settings: Settings,
    },
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration.
    pub fn run(&self) -> Result<(), Failure> {
        match self {
            Self::Print { settings, json } => print(&settings.resolve()?, *json),
            Self::Check { settings } => {
                let config = settings.resolve()?;
                config.data().map_err(|complaints| Failure::Input(complaints.to_string()))?;
                out::print("the configuration is good")
            }
        }
    }
}

fn print(config: &Config, is_json: bool) -> Result<(), Failure> {
    if is_json {
        let entry = |(key, value): (&cairn_daemon::config::Key, Option<&(_, _)>)| -> Value {
            let (value, origin): (Option<String>, Option<String>) = match value {
                Some((value, origin)) => {
                    let (value, origin): (&cairn_daemon::config::Value, &cairn_daemon::config::Origin) =
                        (value, origin);
                    (Some(value.to_string()), Some(origin.to_string()))
                }
                None => (None, None),
            };
            json!({
                "key": key.name, "value": value, "origin": origin, "is_live": key.is_live,
                "variable": key.variable(), "flag": key.flag(), "about": key.about,
            })
        };
        let entries: Vec<Value> = config.entries().map(entry).collect();
        return out::print(&Value::Array(entries).to_string());
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["setting", "value", "from"]);
    for (key, value) in config.entries() {
        let (value, origin) = match value {
            Some((value, origin)) => (value.to_string(), origin.to_string()),
            None => ("-".to_owned(), "nobody".to_owned()),
        };
        table.add_row([key.name.to_owned(), value, origin]);
    }
    out::print(&table.trim_fmt())
}
