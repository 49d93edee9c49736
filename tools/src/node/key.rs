//! `cairn key`: the access keys of the cluster, by way of a running node.

use bytes::Bytes;
use cairn_daemon::http::client::Method;
use cairn_daemon::manage::{KeyReport, KeyWish, NewKeyReport};
use clap::{Subcommand, ValueEnum};
use comfy_table::{Table, presets};

use super::about::{About, understand};
use crate::out::Failure;

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
