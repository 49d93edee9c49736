//! Values of settings: read from text, checked, written back as people write them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::key::{Key, Kind};
use crate::actor::Rate;
use crate::trace::Levels;

/// A value that is what its setting asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Directories.
    Directories(Vec<String>),
    /// One of the words that are allowed.
    Word(String),
    /// A number, or `None` for the word that may stand for it.
    Number(Option<u64>, &'static str),
    /// Bytes.
    Bytes(u64),
    /// Bytes a second.
    Rate(Rate),
    /// An address, or nowhere.
    Address(Option<SocketAddr>),
    /// Nodes and where they answer, in the order of their numbers.
    Peers(Vec<(u64, SocketAddr)>),
    /// The name of a region.
    Region(String),
    /// Names of hosts, in small letters.
    Domains(Vec<String>),
    /// Levels of logging.
    Levels(Levels),
}

impl Value {
    /// Reads a value of this setting.
    ///
    /// # Errors
    /// What is wrong with it and what would be right; it begins behind `key = value`.
    pub fn read(key: &Key, text: &str) -> Result<Self, String> {
        match key.kind {
            Kind::Directories => directories(text.split(',')),
            Kind::Word(words) => match words.iter().find(|word| **word == text) {
                Some(word) => Ok(Self::Word((*word).to_owned())),
                None => Err(format!("is none of {}; choose one of these", words.join(", "))),
            },
            Kind::Number { word, .. } if text == word => Ok(Self::Number(None, word)),
            Kind::Number { least, most, word } => match text.parse::<u64>() {
                Ok(number) if (least..=most).contains(&number) => Ok(Self::Number(Some(number), word)),
                Ok(_) => Err(format!("is out of bounds; choose {least} to {most}, or {word}")),
                Err(_) => Err(format!("is no whole number; choose {least} to {most}, or {word}")),
            },
            Kind::Bytes { least, most } => {
                let bytes = bytes(text)?;
                if !(least..=most).contains(&bytes) {
                    return Err(format!("is out of bounds; choose {} to {}", Size(least), Size(most)));
                }
                Ok(Self::Bytes(bytes))
            }
            Kind::Rate if text == "unlimited" => Ok(Self::Rate(Rate::Unlimited)),
            Kind::Rate => match bytes(text) {
                Ok(bytes) => Ok(Self::Rate(Rate::PerSecond(bytes))),
                Err(why) => Err(format!("{why}, or write unlimited")),
            },
            Kind::Address if text == "off" => Ok(Self::Address(None)),
            Kind::Address => match text.parse() {
                Ok(address) => Ok(Self::Address(Some(address))),
                Err(_) => {
                    Err("is no address with a port; write one such as 127.0.0.1:8080 or [::1]:8080, or off".to_owned())
                }
            },
            Kind::Peers => peers(text.split(',')),
            Kind::Region if is_region(text) => Ok(Self::Region(text.to_owned())),
            Kind::Region => Err(format!(
                "is no region; write up to {LABEL_MAX} small letters, digits and hyphens, such as eu-central-1"
            )),
            Kind::Domains => domains(text.split(',')),
            Kind::Levels => text.parse().map(Self::Levels),
        }
    }

    /// Reads a list as the file has it.
    ///
    /// # Errors
    /// As [`Value::read`].
    pub fn read_list(key: &Key, items: &[String]) -> Result<Self, String> {
        match key.kind {
            Kind::Directories => directories(items.iter().map(String::as_str)),
            Kind::Peers => peers(items.iter().map(String::as_str)),
            Kind::Domains => domains(items.iter().map(String::as_str)),
            _ => Err("is a list, and this setting takes one value; write it without [ ]".to_owned()),
        }
    }
}

fn directories<'a>(items: impl Iterator<Item = &'a str>) -> Result<Value, String> {
    let items: Vec<String> = items.map(|item| item.trim().to_owned()).collect();
    if items.is_empty() || items.iter().any(String::is_empty) {
        return Err("names no directory; name at least one, and none that is empty".to_owned());
    }
    let short = |item: &str| item.trim_end_matches('/').to_owned();
    for (at, item) in items.iter().enumerate() {
        if items[..at].iter().any(|other| short(other) == short(item)) {
            return Err(format!("names {item} twice; name each directory once"));
        }
    }
    Ok(Value::Directories(items))
}

fn peers<'a>(items: impl Iterator<Item = &'a str>) -> Result<Value, String> {
    let mut peers = Vec::new();
    for item in items.map(str::trim) {
        let read = item.split_once('=').and_then(|(node, address)| Some((node.parse().ok()?, address.parse().ok()?)));
        let Some((node, address)) =
            read.filter(|(node, _): &(u64, SocketAddr)| (1..=u64::from(u32::MAX)).contains(node))
        else {
            return Err(format!(
                "has {item:?}, which is no node; write its number and address, such as 1=10.0.0.1:7000"
            ));
        };
        if peers.iter().any(|(other, taken)| *other == node || *taken == address) {
            return Err(format!("names node {node} or its address {address} twice; name each once"));
        }
        peers.push((node, address));
    }
    peers.sort_unstable();
    Ok(Value::Peers(peers))
}

/// Letters of one part of a host's name.
const LABEL_MAX: usize = 63;
/// Letters of a host's name.
const DOMAIN_MAX: usize = 253;

fn is_region(text: &str) -> bool {
    is_label(text) && text.bytes().all(|byte| !byte.is_ascii_uppercase())
}

fn is_label(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=LABEL_MAX).contains(&text.len())
        && text.bytes().all(is_plain)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_domain(text: &str) -> bool {
    text.len() <= DOMAIN_MAX && text.split('.').all(is_label) && text.parse::<IpAddr>().is_err()
}

fn domains<'a>(items: impl Iterator<Item = &'a str>) -> Result<Value, String> {
    let mut domains: Vec<String> = Vec::new();
    for item in items.map(|item| item.trim().to_ascii_lowercase()) {
        if !is_domain(&item) {
            return Err(format!(
                "has {item:?}, which is no name of a host; write one such as s3.example.org, without a port"
            ));
        }
        // Below both, a host would name one bucket or another.
        if let Some(other) = domains.iter().find(|other| is_within(&item, other) || is_within(other, &item)) {
            return Err(format!("names {item} and {other}, of which one is below the other; name one of them"));
        }
        domains.push(item);
    }
    Ok(Value::Domains(domains))
}

fn is_within(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

const UNITS: &[(&str, u64)] =
    &[("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1), ("", 1)];

fn bytes(text: &str) -> Result<u64, String> {
    let hint = || "is no size; write a whole number with a unit, such as 64MiB".to_owned();
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = (&text[..digits], text[digits..].trim());
    let unit = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, bytes)| *bytes).ok_or_else(hint)?;
    let number: u64 = number.parse().map_err(|_| hint())?;
    number.checked_mul(unit).ok_or_else(|| "is more than can be counted; write less".to_owned())
}

/// Bytes in the largest unit that takes them whole.
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, unit): &&(&str, u64)| self.0 >= *unit && self.0.is_multiple_of(*unit);
        match UNITS.iter().find(fits) {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "0"),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directories(items) | Self::Domains(items) => f.write_str(&items.join(",")),
            Self::Word(word) | Self::Region(word) => f.write_str(word),
            Self::Number(Some(number), _) => write!(f, "{number}"),
            Self::Number(None, word) => f.write_str(word),
            Self::Bytes(bytes) | Self::Rate(Rate::PerSecond(bytes)) => Size(*bytes).fmt(f),
            Self::Rate(Rate::Unlimited) => f.write_str("unlimited"),
            Self::Address(Some(address)) => address.fmt(f),
            Self::Address(None) => f.write_str("off"),
            Self::Peers(peers) => {
                let texts: Vec<String> = peers.iter().map(|(node, address)| format!("{node}={address}")).collect();
                f.write_str(&texts.join(","))
            }
            Self::Levels(levels) => levels.fmt(f),
        }
    }
}
