//! `cairn config`: what a node would be configured with, whether that is right, and, by way of a running one, what the whole cluster says.

use bytes::Bytes;
use cairn_daemon::config::Config;
use cairn_daemon::http::client::Method;
use cairn_daemon::manage::{SettingReport, SettingWish};
use clap::Subcommand;
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::about::{About, understand};
use super::settings::Settings;
use crate::out::{self, Failure};

/// What can be done with a configuration.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Show every setting, its value and where that comes from, but for what the cluster says
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
    /// Show what the cluster says, and what a running node uses
    List(List),
    /// Have the cluster say something: all nodes follow but those that were told otherwise themselves
    Set(Set),
    /// Have the cluster say nothing of a setting any more
    Unset(Unset),
}

/// Options of `cairn config list`.
#[derive(Clone, Debug, clap::Args)]
pub struct List {
    #[command(flatten)]
    about: About,
}

/// Options of `cairn config set`.
#[derive(Clone, Debug, clap::Args)]
pub struct Set {
    /// Which setting; `cairn config list` shows them
    #[arg(value_name = "NAME")]
    name: String,
    /// Its value, as in a node's file
    #[arg(value_name = "VALUE")]
    value: String,
    #[command(flatten)]
    expected: Expected,
    #[command(flatten)]
    about: About,
}

/// Options of `cairn config unset`.
#[derive(Clone, Debug, clap::Args)]
pub struct Unset {
    /// Which setting
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    expected: Expected,
    #[command(flatten)]
    about: About,
}

/// What is to be replaced.
#[derive(Clone, Copy, Debug, clap::Args)]
struct Expected {
    /// Only if the cluster's value is the one of this epoch, as `list` shows it; 0: only if it has none
    #[arg(long, value_name = "EPOCH")]
    expected: Option<u64>,
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration; if no node answers, or it says no.
    pub fn run(&self) -> Result<(), Failure> {
        match self {
            Self::Print { settings, json } => print(&settings.resolve()?, *json),
            Self::Check { settings } => {
                let config = settings.resolve()?;
                config.data().map_err(|complaints| Failure::Input(complaints.to_string()))?;
                out::print("the configuration is good")
            }
            Self::List(List { about }) => {
                let body = about.ask(Method::GET, "/settings", Bytes::new())?;
                let reports: Vec<SettingReport> = understand(&body)?;
                about.print(&body, || table(&reports))
            }
            Self::Set(Set { name, value, expected: Expected { expected }, about }) => {
                let wish = SettingWish { value: value.clone(), expected: *expected };
                let wish = serde_json::to_vec(&wish).map_err(|error| Failure::Broken(error.to_string()))?;
                about.change(Method::PUT, &path(name)?, wish)
            }
            Self::Unset(Unset { name, expected: Expected { expected }, about }) => {
                let query = expected.map_or_else(String::new, |epoch| format!("?expected={epoch}"));
                about.change(Method::DELETE, &format!("{}{query}", path(name)?), vec![])
            }
        }
    }
}

impl About {
    /// Changes what the cluster says of a setting, and prints how that is then.
    fn change(&self, method: Method, path: &str, wish: Vec<u8>) -> Result<(), Failure> {
        let body = self.ask(method, path, wish.into())?;
        let report: SettingReport = understand(&body)?;
        self.print(&body, || shown(&report))
    }
}

/// Where a setting is changed. The node knows which there are.
fn path(name: &str) -> Result<String, Failure> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '.' || letter == '_';
    if name.is_empty() || !name.chars().all(is_plain) {
        return Err(Failure::Input(format!("{name:?} is no setting; `cairn config list` shows those there are")));
    }
    Ok(format!("/settings/{name}"))
}

fn or_dash(text: Option<&String>) -> String {
    text.cloned().unwrap_or_else(|| "-".to_owned())
}

fn shown(report: &SettingReport) -> String {
    let said = report.cluster.as_ref();
    let said = said.map_or_else(|| "nothing".to_owned(), |said| format!("{} since epoch {}", said.value, said.epoch));
    let (value, origin) = (or_dash(report.value.as_ref()), or_dash(report.origin.as_ref()));
    format!("{}: the cluster says {said}; this node uses {value} ({origin})", report.name)
}

fn table(reports: &[SettingReport]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["setting", "the cluster says", "epoch", "this node uses", "from"]);
    for report in reports {
        let said = report.cluster.as_ref();
        table.add_row([
            report.name.clone(),
            or_dash(said.map(|said| &said.value)),
            or_dash(said.map(|said| said.epoch.to_string()).as_ref()),
            or_dash(report.value.as_ref()),
            or_dash(report.origin.as_ref()),
        ]);
    }
    table.trim_fmt()
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
