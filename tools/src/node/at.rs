//! Where a node's management API answers, and the token for what changes something.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use cairn_daemon::manage::token;
use clap::builder::TypedValueParser;

use super::settings::{Settings, read_outside};
use crate::out::Failure;

/// Which node is asked.
#[derive(Clone, Debug, clap::Args)]
pub struct At {
    /// The node's management address, instead of the one in its settings
    #[arg(long, value_name = "ADDRESS", value_parser = clap::builder::StringValueParser::new().try_map(|text| text.parse::<SocketAddr>()))]
    at: Option<SocketAddr>,
    #[command(flatten)]
    settings: Settings,
}

impl At {
    /// Where it answers.
    ///
    /// # Errors
    /// If the settings are wrong, or it doesn't listen.
    pub fn address(&self) -> Result<SocketAddr, Failure> {
        if let Some(at) = self.at {
            return Ok(at);
        }
        let config = self.settings.resolve()?;
        let Some(mut at) = config.listen_management() else {
            return Err(Failure::Input(
                "by its settings the node has no management API; name another with --at".to_owned(),
            ));
        };
        // "Everywhere" is no address to connect to.
        match at.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => at.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => at.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        Ok(at)
    }

    /// The token, from whichever of the node's disks has it.
    ///
    /// # Errors
    /// If nobody says which disks, or none has it.
    pub fn token(&self) -> Result<String, Failure> {
        let config = self.settings.resolve()?;
        let data = config.data().map_err(|complaints| Failure::Input(complaints.to_string()))?;
        let read = |disk: &String| read_outside(format!("{disk}/{}", token::FILE)).ok();
        let token = data.iter().find_map(read).map(|text| text.trim().to_owned());
        token.ok_or_else(|| {
            let file = token::FILE;
            Failure::Input(format!(
                "no disk of --data has a {file} that can be read; is the node running, and are you its user?"
            ))
        })
    }
}
