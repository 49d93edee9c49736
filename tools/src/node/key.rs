//! `cairn key`: the access keys of the cluster, by way of a running node.

use std::net::SocketAddr;

use bytes::Bytes;
use cairn_daemon::http::client::{Method, StatusCode, send};
use cairn_daemon::manage::{ErrorBody, KeyReport, KeyWish, NewKeyReport};
use cairn_io::time::Duration;
use cairn_io::{Config, DriverChoice, run_one};
use clap::{Subcommand, ValueEnum};
use comfy_table::{Table, presets};
use serde::de::DeserializeOwned;

use super::at::At;
use crate::out::{self, Failure};

const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// What can be done with access keys. All of it needs the node's management token, which lies on its disks.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Make an access key, and print its secret this once
    Create(Create),
    /// Show the access keys there are, without their secrets
    List(List),
    /// Remove an access key: requests signed with it are refused from now on
    Delete(Delete),
}

/// Options of `cairn key create`.
#[derive(Clone, Debug, clap::Args)]
pub struct Create {
    /// Whose key it is to be; made if there is no such user
    #[arg(value_name = "USER")]
    user: String,
    /// What a user that is made may do
    #[arg(long, value_enum, default_value = "admin")]
    rights: Rights,
    #[command(flatten)]
    about: About,
}

/// What a new user may do.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Rights {
    /// Everything
    Admin,
    /// What bucket policies allow
    None,
}

/// Options of `cairn key list`.
#[derive(Clone, Debug, clap::Args)]
pub struct List {
    #[command(flatten)]
    about: About,
}

/// Options of `cairn key delete`.
#[derive(Clone, Debug, clap::Args)]
pub struct Delete {
    /// The key's public half
    #[arg(value_name = "ACCESS")]
    access: String,
    #[command(flatten)]
    about: About,
}

/// Which node is asked, and how the answer is printed.
#[derive(Clone, Debug, clap::Args)]
struct About {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: At,
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// If nobody answers, or says no.
    pub fn run(&self) -> Result<(), Failure> {
        match self {
            Self::Create(Create { user, rights, about }) => {
                let rights = if matches!(rights, Rights::Admin) { cairn_daemon::cluster::ADMIN } else { "" };
                let wish = KeyWish { user: user.clone(), rights: rights.to_owned() };
                let wish = serde_json::to_vec(&wish).map_err(|error| Failure::Broken(error.to_string()))?;
                let body = about.ask(Method::POST, "/keys", wish.into())?;
                let key: NewKeyReport = understand(&body)?;
                about.print(&body, || shown(&key))
            }
            Self::List(List { about }) => {
                let body = about.ask(Method::GET, "/keys", Bytes::new())?;
                let keys: Vec<KeyReport> = understand(&body)?;
                about.print(&body, || table(&keys))
            }
            Self::Delete(Delete { access, about }) => {
                if !access.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                    return Err(Failure::Input(format!("{access:?} is no access key; `cairn key list` shows them")));
                }
                about.ask(Method::DELETE, &format!("/keys/{access}"), Bytes::new())?;
                about.print(b"{}", || format!("removed {access}"))
            }
        }
    }
}

/// A new key, as people copy it.
pub fn shown(key: &NewKeyReport) -> String {
    let NewKeyReport { access, secret, user } = key;
    format!(
        "access key of {user}, whose secret is shown this once:\nAWS_ACCESS_KEY_ID={access}\nAWS_SECRET_ACCESS_KEY={secret}"
    )
}

fn table(keys: &[KeyReport]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["access key", "user", "state"]);
    for key in keys {
        table.add_row([key.access.as_str(), &key.user, if key.disabled { "disabled" } else { "usable" }]);
    }
    table.trim_fmt()
}

fn understand<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| Failure::Broken(format!("the node's answer makes no sense: {error}")))
}

impl About {
    fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, Failure> {
        let (at, token) = (self.at.address()?, format!("Bearer {}", self.at.token()?));
        let io = Config { driver: DriverChoice::Monoio, block_bytes_max: 1 << 20, ..Config::single() };
        let path = path.to_owned();
        let asking = move || async move { ask(at, method, path, token, body).await };
        let (status, body) = run_one(&io, asking).map_err(|error| Failure::Input(error.to_string()))??;
        if status.is_success() {
            return Ok(body);
        }
        let why = serde_json::from_slice::<ErrorBody>(&body).map(|body| body.error.message);
        Err(Failure::Broken(format!("{at} answers {status}: {}", why.unwrap_or_default())))
    }

    fn print(&self, body: &[u8], text: impl FnOnce() -> String) -> Result<(), Failure> {
        out::print(&if self.json { String::from_utf8_lossy(body).into_owned() } else { text() })
    }
}

async fn ask(
    at: SocketAddr,
    method: Method,
    path: String,
    token: String,
    body: Bytes,
) -> Result<(StatusCode, Bytes), Failure> {
    let headers = [("authorization", token.as_str())];
    let asked = send(at, (method, &path), &headers, body, ANSWER_WITHIN).await;
    asked.map_err(|error| Failure::Input(format!("{error}; is the node running, and is this its address?")))
}
