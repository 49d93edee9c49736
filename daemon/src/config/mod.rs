//! The configuration of a node: what the cluster says, then a file, then variables, then flags; the later counts.
//!
//! ```text
//!   KEYS ─┬─ the cluster   log.level = "info", at epoch 12: of what is live only, and once the node has a map
//!         ├─ cairn.toml    listen.management = "127.0.0.1:8080"
//!         ├─ environment   CAIRN_LISTEN_MANAGEMENT=127.0.0.1:8080      ──► Config: each value, and where it is from
//!         └─ flags         --listen-management 127.0.0.1:8080
//! ```
//!
//! It reads no file and no environment: it is given their text, so that it can be tested and reloaded. What is wrong is
//! told all at once, each complaint with its place and what to do.

mod file;
mod key;
mod value;

use std::fmt;
use std::net::SocketAddr;

use cairn_meta::control::state::Setting;
pub use key::{KEYS, Key, Kind};
pub use value::Value;

use crate::actor::Rate;
use crate::trace::Levels;
use key::unknown;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// The cluster's settings.
    Cluster {
        /// When it was put there.
        epoch: u64,
    },
    /// A line of the file.
    File {
        /// Its name.
        path: String,
        /// Counted from 1.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A flag.
    Flag(String),
}

impl Origin {
    /// Whether the node itself was told, and not only others.
    fn is_own(&self) -> bool {
        !matches!(self, Self::Default | Self::Cluster { .. })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Cluster { epoch } => write!(f, "the cluster, at epoch {epoch}"),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// What is wrong with a configuration; each line says where and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Complaints(pub Vec<String>);

/// What a configuration is made of, as text.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file's name and text, if there is one.
    pub file: Option<(String, String)>,
    /// The environment's variables; those that don't begin with `CAIRN_` play no part.
    pub variables: Vec<(String, String)>,
    /// Flags that were given: the setting's name, and the text.
    pub flags: Vec<(String, String)>,
}

/// Variables that are ours and no settings of a node: where its file is, and what clients are told.
const OTHER_VARIABLES: &[&str] = &["CAIRN_CONFIG", "CAIRN_ENDPOINT", "CAIRN_CLIENT_CONFIG"];

/// What Kubernetes sets for a service called "cairn", in every container beside it.
fn is_of_kubernetes(name: &str) -> bool {
    let rest = name.strip_prefix("CAIRN_").unwrap_or(name);
    rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_")
}

/// Every setting with its value and where that comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// In the order of [`KEYS`]; `None` for what nobody said and has no default.
    values: Vec<Option<(Value, Origin)>>,
}

/// A setting that differs between two configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub key: &'static str,
    /// As it was and as it is to be.
    pub from: String,
    /// See `from`.
    pub to: String,
    /// Whether a running node takes it over.
    pub is_live: bool,
}

impl Config {
    /// Puts the sources together, and checks all of it.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn resolve(sources: &Sources) -> Result<Self, Complaints> {
        let mut resolving = Resolving::new();
        if let Some((path, text)) = &sources.file {
            resolving.file(path, text);
        }
        resolving.variables(&sources.variables);
        for (name, text) in &sources.flags {
            resolving.flag(name, text);
        }
        if resolving.complaints.is_empty() { Ok(resolving.config) } else { Err(Complaints(resolving.complaints)) }
    }

    /// The same in a cluster that says this, and no longer what it said before. What can't be understood of it is passed over, as
    /// another version of the program may have put it there, and complained about.
    pub fn in_cluster<'a>(&self, says: impl IntoIterator<Item = (&'a str, &'a Setting)>) -> (Self, Vec<String>) {
        let mut resolving = Resolving::new();
        for (name, setting) in says {
            resolving.cluster(name, setting);
        }
        for (value, own) in resolving.config.values.iter_mut().zip(&self.values) {
            if own.as_ref().is_some_and(|(_, origin)| origin.is_own()) {
                value.clone_from(own);
            }
        }
        (resolving.config, resolving.complaints)
    }

    /// The settings with their values and origins, in the order of [`KEYS`].
    pub fn entries(&self) -> impl Iterator<Item = (&'static Key, Option<&(Value, Origin)>)> {
        KEYS.iter().zip(self.values.iter().map(Option::as_ref))
    }

    /// What another configuration has differently.
    pub fn changes(&self, to: &Self) -> Vec<Change> {
        let text = |value: Option<&(Value, Origin)>| value.map_or_else(String::new, |(value, _)| value.to_string());
        let both = self.entries().zip(to.entries());
        let differ = both.filter(|((_, from), (_, to))| from.map(|(value, _)| value) != to.map(|(value, _)| value));
        differ
            .map(|((key, from), (_, to))| Change {
                key: key.name,
                from: text(from),
                to: text(to),
                is_live: key.is_live,
            })
            .collect()
    }

    /// The directories that keep the data.
    ///
    /// # Errors
    /// If nobody said which.
    pub fn data(&self) -> Result<&[String], Complaints> {
        match self.value("data") {
            Some(Value::Directories(items)) => Ok(items),
            _ => Err(Complaints(vec![
                "nobody says where the data is; give --data DIR, set CAIRN_DATA, or write data = [\"DIR\"] into the file"
                    .to_owned(),
            ])),
        }
    }

    /// Which driver to run on.
    pub fn driver(&self) -> cairn_io::DriverChoice {
        match self.value("driver") {
            Some(Value::Word(word)) => word.parse().unwrap_or_default(),
            _ => cairn_io::DriverChoice::default(),
        }
    }

    /// How many cores to start; `None` for one on each processor.
    pub fn cores(&self) -> Option<usize> {
        match self.value("cores") {
            Some(Value::Number(number, _)) => number.and_then(|number| usize::try_from(number).ok()),
            _ => None,
        }
    }

    /// The most memory for blocks, caches and updates of indexes.
    pub fn memory(&self) -> u64 {
        match self.value("memory") {
            Some(Value::Bytes(bytes)) => *bytes,
            _ => 1 << 30,
        }
    }

    /// Where the management API listens, if it does.
    pub fn listen_management(&self) -> Option<SocketAddr> {
        match self.value("listen.management") {
            Some(Value::Address(address)) => *address,
            _ => None,
        }
    }

    /// Where the S3 gateway listens, if it does.
    pub fn listen_s3(&self) -> Option<SocketAddr> {
        match self.value("listen.s3") {
            Some(Value::Address(address)) => *address,
            _ => None,
        }
    }

    /// Where RPC listens, if it does.
    pub fn listen_rpc(&self) -> Option<SocketAddr> {
        match self.value("listen.rpc") {
            Some(Value::Address(address)) => *address,
            _ => None,
        }
    }

    /// Whether RPC may listen where other machines reach it.
    pub fn is_insecure(&self) -> bool {
        matches!(self.value("insecure"), Some(Value::Word(word)) if word == "yes")
    }

    /// Whether leaders read by their lease.
    pub fn has_lease_reads(&self) -> bool {
        matches!(self.value("cluster.reads"), Some(Value::Word(word)) if word == "lease")
    }

    /// This node's number; `None` for what its disks say.
    pub fn node(&self) -> Option<u64> {
        match self.value("cluster.node") {
            Some(Value::Number(number, _)) => *number,
            _ => None,
        }
    }

    /// How many slots a new cluster has; `None` for the usual number.
    pub fn slots(&self) -> Option<u32> {
        match self.value("cluster.slots") {
            Some(Value::Number(number, _)) => number.and_then(|number| u32::try_from(number).ok()),
            _ => None,
        }
    }

    /// All nodes of the cluster, in the order of their numbers; nobody for a cluster of one.
    pub fn peers(&self) -> &[(u64, SocketAddr)] {
        match self.value("cluster.peers") {
            Some(Value::Peers(peers)) => peers,
            _ => &[],
        }
    }

    /// The region that S3 says it is in.
    pub fn s3_region(&self) -> &str {
        match self.value("s3.region") {
            Some(Value::Region(region)) => region,
            _ => "us-east-1",
        }
    }

    /// Domains below which each host is a bucket.
    pub fn s3_domains(&self) -> &[String] {
        self.domains("s3.domains")
    }

    /// Domains below which each host is a bucket that is shown as a website.
    pub fn s3_site_domains(&self) -> &[String] {
        self.domains("s3.site_domains")
    }

    fn domains(&self, name: &str) -> &[String] {
        match self.value(name) {
            Some(Value::Domains(domains)) => domains,
            _ => &[],
        }
    }

    /// How fast each lane's compaction may work.
    pub fn compact_rate(&self) -> Rate {
        self.rate("compact.bytes_per_second")
    }

    /// How fast each lane's scrub may read.
    pub fn scrub_rate(&self) -> Rate {
        self.rate("scrub.bytes_per_second")
    }

    /// How fast each core may move chunks between disks.
    pub fn settle_rate(&self) -> Rate {
        self.rate("settle.bytes_per_second")
    }

    /// What is logged.
    pub fn levels(&self) -> Levels {
        match self.value("log.level") {
            Some(Value::Levels(levels)) => levels.clone(),
            _ => Levels::default(),
        }
    }

    fn rate(&self, name: &str) -> Rate {
        match self.value(name) {
            Some(Value::Rate(rate)) => *rate,
            _ => Rate::Unlimited,
        }
    }

    fn value(&self, name: &str) -> Option<&Value> {
        self.entries().find(|(key, _)| key.name == name).and_then(|(_, value)| value).map(|(value, _)| value)
    }
}

/// The command that shows what a node can be told.
const SHOWN_BY: &str = "cairn config print";

/// A configuration that is being put together.
struct Resolving {
    config: Config,
    complaints: Vec<String>,
}

impl Resolving {
    fn new() -> Self {
        let default = |key: &Key| {
            let value = Value::read(key, key.default?).ok()?;
            Some((value, Origin::Default))
        };
        Self { config: Config { values: KEYS.iter().map(default).collect() }, complaints: vec![] }
    }

    fn cluster(&mut self, name: &str, setting: &Setting) {
        let origin = Origin::Cluster { epoch: setting.epoch };
        match Key::of_cluster(name) {
            Ok(key) => self.take(key, &setting.value, Value::read(key, &setting.value), origin),
            Err(why) => self.complaints.push(format!("{origin}: {why}")),
        }
    }

    fn file(&mut self, path: &str, text: &str) {
        let items = match file::items(text) {
            Ok(items) => items,
            Err(error) => {
                let (line, column) = file::place(text, error.at);
                self.complaints.push(format!("{path}:{line}:{column}: {}", error.message));
                return;
            }
        };
        for item in items {
            let (line, _) = file::place(text, item.at);
            let origin = Origin::File { path: path.to_owned(), line };
            let is_table_of_ours =
                |key: &Key| key.name.strip_prefix(&item.name).is_some_and(|rest| rest.starts_with('.'));
            if item.value == file::Raw::Other("table") && KEYS.iter().any(is_table_of_ours) {
                continue;
            }
            let Some(key) = Key::find(&item.name) else {
                let unknown = unknown(&item.name, KEYS.iter().map(|key| key.name), SHOWN_BY);
                self.complaints.push(format!("{path}:{line}: {unknown}"));
                continue;
            };
            let (shown, read) = match &item.value {
                file::Raw::One(text) => (text.clone(), Value::read(key, text)),
                file::Raw::List(items) => (format!("{items:?}"), Value::read_list(key, items)),
                file::Raw::Other(kind) => {
                    (format!("({kind})"), Err(format!("is a {kind}; write a number or a \"text\"")))
                }
            };
            self.take(key, &shown, read, origin);
        }
    }

    fn variables(&mut self, variables: &[(String, String)]) {
        let known: Vec<String> = KEYS.iter().map(Key::variable).collect();
        let ours =
            |name: &str| name.starts_with("CAIRN_") && !OTHER_VARIABLES.contains(&name) && !is_of_kubernetes(name);
        for (name, text) in variables.iter().filter(|(name, _)| ours(name)) {
            match KEYS.iter().find(|key| key.variable() == *name) {
                Some(key) => self.take(key, text, Value::read(key, text), Origin::Variable(name.clone())),
                None => self.complaints.push(unknown(name, known.iter().map(String::as_str), SHOWN_BY)),
            }
        }
    }

    fn flag(&mut self, name: &str, text: &str) {
        match Key::find(name) {
            Some(key) => self.take(key, text, Value::read(key, text), Origin::Flag(key.flag())),
            None => self.complaints.push(unknown(name, KEYS.iter().map(|key| key.name), SHOWN_BY)),
        }
    }

    fn take(&mut self, key: &'static Key, shown: &str, read: Result<Value, String>, origin: Origin) {
        match read {
            Ok(value) => {
                let place = KEYS.iter().position(|other| other.name == key.name).expect("it is from that list");
                self.config.values[place] = Some((value, origin));
            }
            Err(why) => self.complaints.push(format!("{origin}: {} = {shown} {why}", key.name)),
        }
    }
}
