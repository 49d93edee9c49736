//! Which server is asked and who asks: from flags, the environment and a file, in falling order.

use std::fmt;

use cairn_io::fs;
use clap::Args;
use serde::Deserialize;

use super::client::{Client, Endpoint};
use super::local;
use super::sign::{Credentials, Signer};
use crate::out::Failure;

/// Where a node serves S3 unless told otherwise.
const ENDPOINT: &str = "http://127.0.0.1:9000";
const REGION: &str = "us-east-1";
/// A file longer than this is no configuration.
const FILE_MAX: usize = 1 << 20;

/// The flags.
#[derive(Clone, Args)]
#[command(next_help_heading = "Server")]
pub struct Settings {
    /// The S3 endpoint, as http://host:9000; or set CAIRN_ENDPOINT [default: http://127.0.0.1:9000]
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// The access key; or set AWS_ACCESS_KEY_ID
    #[arg(long, value_name = "KEY")]
    access_key: Option<String>,
    /// Its secret. Others on this machine can read it in the list of processes: better set AWS_SECRET_ACCESS_KEY
    #[arg(long, value_name = "SECRET")]
    secret_key: Option<String>,
    /// The region that requests are signed for; or set AWS_REGION [default: us-east-1]
    #[arg(long, value_name = "NAME")]
    region: Option<String>,
    /// Read what is not said from this TOML file, with `endpoint`, `access_key`, `secret_key` and `region`; or set
    /// CAIRN_CLIENT_CONFIG [default: ~/.config/cairn/client.toml]
    #[arg(long, value_name = "FILE")]
    client_config: Option<String>,
}

/// Secrets stay out of whatever shows the flags.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// What the file says.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Said {
    endpoint: Option<String>,
    access_key: Option<String>,
    secret_key: Option<String>,
    region: Option<String>,
}

impl Settings {
    /// The client that they make. From a core.
    ///
    /// # Errors
    /// If something needed is not said, or makes no sense.
    pub async fn client(&self) -> Result<Client, Failure> {
        let (endpoint, signer) = self.parts().await?;
        Ok(Client::new(endpoint, signer))
    }

    /// The endpoint, and what signs for it.
    ///
    /// # Errors
    /// As [`Self::client`].
    pub async fn parts(&self) -> Result<(Endpoint, Signer), Failure> {
        let said = self.file().await?;
        let endpoint = first([self.endpoint.clone(), variable("CAIRN_ENDPOINT"), said.endpoint]);
        let access_key = first([self.access_key.clone(), variable("AWS_ACCESS_KEY_ID"), said.access_key]);
        let secret_key = first([self.secret_key.clone(), variable("AWS_SECRET_ACCESS_KEY"), said.secret_key]);
        let region = first([self.region.clone(), variable("AWS_REGION"), said.region]);
        let access_key = access_key.ok_or_else(|| lacking("access key", "--access-key", "AWS_ACCESS_KEY_ID"))?;
        let secret_key =
            secret_key.ok_or_else(|| lacking("secret of the access key", "--secret-key", "AWS_SECRET_ACCESS_KEY"))?;
        let endpoint = find(endpoint.as_deref().unwrap_or(ENDPOINT)).await?;
        let region = region.unwrap_or_else(|| REGION.to_owned());
        Ok((endpoint, Signer::new(Credentials::new(access_key, secret_key), region)))
    }

    async fn file(&self) -> Result<Said, Failure> {
        let named = first([self.client_config.clone(), variable("CAIRN_CLIENT_CONFIG")]);
        let usual = || variable("HOME").map(|home| format!("{home}/.config/cairn/client.toml"));
        let Some(path) = named.clone().or_else(usual) else { return Ok(Said::default()) };
        let text = match fs::read_text(&path, FILE_MAX).await {
            Ok(text) => text,
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => return Ok(Said::default()),
            Err(error) => {
                return Err(Failure::Input(format!("can't read {path}: {error}; correct --client-config")));
            }
        };
        // The line in question may hold the secret: only what is wrong with it is shown.
        toml::from_str(&text)
            .map_err(|error| Failure::Input(format!("{path} is not as it should be: {}; correct it", error.message())))
    }
}

fn first(values: impl IntoIterator<Item = Option<String>>) -> Option<String> {
    values.into_iter().flatten().find(|value| !value.is_empty())
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn lacking(what: &str, flag: &str, variable: &str) -> Failure {
    Failure::Input(format!(
        "there is no {what}: set {variable}, write it into ~/.config/cairn/client.toml or use {flag}"
    ))
}

/// The server that a URL names.
async fn find(url: &str) -> Result<Endpoint, Failure> {
    let host = host_of(url).map_err(Failure::Input)?;
    let with_port = if has_port(&host) { host.clone() } else { format!("{host}:80") };
    let found = local::find_host(with_port).await;
    let at = found.map_err(|error| Failure::Input(format!("{host} can't be found: {error}; correct --endpoint")))?;
    Ok(Endpoint { at, host })
}

fn host_of(url: &str) -> Result<String, String> {
    if url.starts_with("https://") {
        return Err(format!("{url} asks for TLS, which this command doesn't speak yet; name an http:// endpoint"));
    }
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let host = rest.strip_suffix('/').unwrap_or(rest);
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-._:[]%".contains(letter);
    if host.is_empty() || !host.chars().all(plain) {
        return Err(format!("{url} is no endpoint; write it as http://host:9000, without a path"));
    }
    Ok(host.to_owned())
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':').is_some_and(|(_, port)| port.chars().all(|letter| letter.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_urls_or_addresses() {
        for url in ["http://127.0.0.1:9000", "127.0.0.1:9000/", "http://127.0.0.1:9000/"] {
            assert_eq!(host_of(url).as_deref(), Ok("127.0.0.1:9000"));
        }
        assert_eq!(host_of("http://[::1]:9000").as_deref(), Ok("[::1]:9000"));
        assert!(has_port("[::1]:9000") && !has_port("[::1]") && !has_port("node"));
    }

    #[test]
    fn senseless_endpoints_are_refused() {
        for url in ["", "https://a", "http://", "http://a/b", "ftp://a", "http://a b", "http://user@a"] {
            assert!(host_of(url).is_err(), "{url:?} was taken");
        }
    }
}
