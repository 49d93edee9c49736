//! `cairn bucket info` and `cairn bucket set`: the settings of a bucket, each a document as S3 has it.

use bytes::Bytes;
use clap::ValueEnum;
use serde_json::{Map, Value, json};

use super::bucket::{name_of, tell};
use super::ls::plain_table;
use crate::out::{self, Failure};
use crate::s3::client::Client;
use crate::s3::error::S3Error;
use crate::s3::local::{Input, read_input};
use crate::s3::settings::Settings;

/// What can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Setting {
    /// Whether superseded versions are kept: enabled or suspended
    Versioning,
    /// How long versions are locked unless their writer says otherwise (XML)
    ObjectLock,
    /// What is deleted when (XML)
    Lifecycle,
    /// Who may do what (JSON)
    Policy,
    /// The access control list (XML)
    Acl,
    /// Which websites' scripts may use it (XML)
    Cors,
    /// How it is shown as a website (XML)
    Website,
    /// Tags (XML)
    Tagging,
    /// What a node does with writes while it reaches no leader: accept or reject
    Offline,
    /// How many nodes have what was written when its writer is answered: one, quorum or all
    Ack,
    /// What readers are shown: preferred, confirmed or local
    Read,
}

impl Setting {
    /// As people say it.
    fn shown(self) -> &'static str {
        self.name().trim_start_matches("x-cairn-")
    }

    /// As the server knows it.
    fn name(self) -> &'static str {
        match self {
            Self::Versioning => "versioning",
            Self::ObjectLock => "object-lock",
            Self::Lifecycle => "lifecycle",
            Self::Policy => "policy",
            Self::Acl => "acl",
            Self::Cors => "cors",
            Self::Website => "website",
            Self::Tagging => "tagging",
            Self::Offline => "x-cairn-offline",
            Self::Ack => "x-cairn-ack",
            Self::Read => "x-cairn-read",
        }
    }

    /// Whether it is one word, not a document.
    fn is_word(self) -> bool {
        self.name().starts_with("x-cairn-")
    }
}

/// Options of `cairn bucket info`.
#[derive(Clone, Debug, clap::Args)]
pub struct Info {
    /// Its name, or cairn://NAME
    name: String,
    /// Print this setting's document, and nothing else
    setting: Option<Setting>,
    /// Print a JSON object
    #[arg(long, conflicts_with = "setting")]
    json: bool,
    #[command(flatten)]
    server: Settings,
}

/// Options of `cairn bucket set`.
#[derive(Clone, Debug, clap::Args)]
pub struct Set {
    /// Its name, or cairn://NAME
    name: String,
    /// Which
    setting: Setting,
    /// A file with the document, or - for standard input; or a word, for versioning, offline, ack and read
    #[arg(required_unless_present = "none")]
    value: Option<String>,
    /// Remove the setting
    #[arg(long, conflicts_with = "value")]
    none: bool,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Settings,
}

/// The longest document that is sent.
const DOCUMENT_MAX: u64 = 1 << 20;

async fn fetch(client: &Client, bucket: &str, setting: Setting) -> Result<Option<String>, S3Error> {
    let document = client.bucket_setting(bucket, setting.name()).await?;
    // What S3 says of a bucket that never had versions.
    let is_set = |text: &String| setting != Setting::Versioning || text.contains("<Status>");
    Ok(document.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).filter(is_set))
}

/// One line about a setting.
fn brief(setting: Setting, document: Option<&str>) -> String {
    let Some(text) = document else { return "-".to_owned() };
    let within = |tag: &str| {
        let (_, rest) = text.split_once(&format!("<{tag}>"))?;
        Some(rest.split_once("</")?.0.to_owned())
    };
    match setting {
        Setting::Versioning => within("Status").unwrap_or_default().to_lowercase(),
        Setting::Lifecycle => format!("{} rules", text.matches("<Rule>").count()),
        Setting::Tagging => format!("{} tags", text.matches("<Tag>").count()),
        Setting::Acl => format!("{} grants", text.matches("<Grant>").count()),
        Setting::ObjectLock => {
            within("Mode").map_or("enabled".to_owned(), |mode| format!("enabled, {}", mode.to_lowercase()))
        }
        Setting::Policy | Setting::Cors | Setting::Website => "set".to_owned(),
        Setting::Offline | Setting::Ack | Setting::Read => text.to_owned(),
    }
}

impl Info {
    /// Asks and prints.
    ///
    /// # Errors
    /// If there is no such bucket or setting, or it isn't allowed.
    pub async fn run(self) -> Result<(), Failure> {
        let name = name_of(&self.name)?;
        let client = self.server.client().await?;
        if let Some(setting) = self.setting {
            let missing = || Failure::Missing(format!("cairn://{name} has no {}", setting.shown()));
            return out::print(&fetch(&client, &name, setting).await?.ok_or_else(missing)?);
        }
        let mut found = Vec::new();
        for setting in Setting::value_variants() {
            found.push((*setting, fetch(&client, &name, *setting).await?));
        }
        if self.json {
            let settings: Map<String, Value> =
                found.into_iter().map(|(setting, document)| (setting.shown().to_owned(), json!(document))).collect();
            return out::print(&json!({ "bucket": name, "settings": settings }).to_string());
        }
        let mut table = plain_table();
        table.add_row(["bucket", &format!("cairn://{name}")]);
        for (setting, document) in &found {
            table.add_row([setting.shown(), &brief(*setting, document.as_deref())]);
        }
        out::print(&table.trim_fmt())
    }
}

impl Set {
    /// Does it.
    ///
    /// # Errors
    /// If the document can't be read, or the server refuses it.
    pub async fn run(self) -> Result<(), Failure> {
        let name = name_of(&self.name)?;
        let value = match &self.value {
            Some(value) => Some(document(self.setting, value).await?),
            None => None,
        };
        let client = self.server.client().await?;
        match value {
            Some(document) => client.set_bucket(&name, self.setting.name(), document).await?,
            None => client.unset_bucket(&name, self.setting.name()).await?,
        }
        tell(&name, "changed", self.json)
    }
}

async fn document(setting: Setting, value: &str) -> Result<Bytes, Failure> {
    if setting == Setting::Versioning {
        let status = match value {
            "enabled" => "Enabled",
            "suspended" => "Suspended",
            other => return Err(Failure::Input(format!("versioning is enabled or suspended, not {other}"))),
        };
        return Ok(Client::versioning(status));
    }
    if setting.is_word() {
        return Ok(Bytes::from(value.to_owned()));
    }
    let unread = |error: std::io::Error| Failure::Input(format!("can't read {value}: {error}"));
    let document = if value == "-" {
        read_input(DOCUMENT_MAX as usize + 1).await.map_err(unread)?
    } else {
        let input = Input::open(value.as_ref()).await.map_err(unread)?;
        input.read(0, input.len.min(DOCUMENT_MAX + 1)).await.map_err(unread)?
    };
    if document.len() as u64 > DOCUMENT_MAX {
        return Err(Failure::Input(format!("{value} is longer than a setting may be, {DOCUMENT_MAX} bytes")));
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_told_in_a_line() {
        let enabled = String::from_utf8(Client::versioning("Enabled").to_vec()).expect("it is text");
        assert_eq!(brief(Setting::Versioning, Some(&enabled)), "enabled");
        assert_eq!(brief(Setting::Lifecycle, Some("<Rule>..</Rule><Rule>..</Rule>")), "2 rules");
        assert_eq!(brief(Setting::ObjectLock, Some("<Mode>COMPLIANCE</Mode>")), "enabled, compliance");
        assert_eq!(brief(Setting::Policy, None), "-");
        assert_eq!(brief(Setting::Offline, Some("reject")), "reject");
    }
}
