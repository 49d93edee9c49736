//! The settings there are: the one list that the file, the variables, the flags and the documentation share.

/// What a setting's value must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Directories; in a variable or a flag, separated by commas.
    Directories,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number within these bounds, inclusive; or one of the words.
    Number {
        /// The least.
        least: u64,
        /// The most.
        most: u64,
        /// What may stand for a number.
        word: &'static str,
    },
    /// Bytes, as `64MiB`, within these bounds, inclusive.
    Bytes {
        /// The least.
        least: u64,
        /// The most.
        most: u64,
    },
    /// Bytes a second, or `unlimited`; 0 stands still.
    Rate,
    /// An address and a port, or `off`.
    Address,
    /// Nodes and where they answer, as `1=10.0.0.1:7000`; in a variable or a flag, separated by commas.
    Peers,
    /// The name of a region, as `eu-central-1`.
    Region,
    /// Names of hosts, as `s3.example.org`, none below another; in a variable or a flag, separated by commas.
    Domains,
    /// Levels of logging, as [`crate::trace::Levels`] reads them.
    Levels,
}

/// One setting.
#[derive(Debug)]
pub struct Key {
    /// In the file; a dot stands for a table. The variable and the flag are made from it.
    pub name: &'static str,
    /// What its value must look like.
    pub kind: Kind,
    /// Its value when nobody says otherwise; `None` if somebody must.
    pub default: Option<&'static str>,
    /// Whether a running node takes another value over: on SIGHUP, or when the cluster says so. The cluster may have values for
    /// exactly these.
    pub is_live: bool,
    /// One line for people.
    pub about: &'static str,
}

const MIB: u64 = 1 << 20;

/// All settings, in the order in which they are shown.
pub const KEYS: &[Key] = &[
    Key {
        name: "data",
        kind: Kind::Directories,
        default: None,
        is_live: false,
        about: "the directories that keep the data, one on each disk",
    },
    Key {
        name: "driver",
        kind: Kind::Word(&["auto", "glommio", "monoio"]),
        default: Some("auto"),
        is_live: false,
        about: "how to talk to the kernel: glommio, monoio, or auto for the best that works here",
    },
    Key {
        name: "cores",
        kind: Kind::Number { least: 1, most: 1024, word: "auto" },
        default: Some("auto"),
        is_live: false,
        about: "threads that serve, one executor each; auto takes one for each processor",
    },
    Key {
        name: "memory",
        kind: Kind::Bytes { least: 64 * MIB, most: 1 << 46 },
        default: Some("1GiB"),
        is_live: false,
        about: "the most memory for blocks (half), caches (a quarter) and updates of indexes (a quarter)",
    },
    Key {
        name: "listen.management",
        kind: Kind::Address,
        default: Some("127.0.0.1:8080"),
        is_live: false,
        about: "where the management API listens, without encryption; off for nowhere",
    },
    Key {
        name: "listen.s3",
        kind: Kind::Address,
        default: Some("127.0.0.1:9000"),
        is_live: false,
        about: "where the S3 gateway listens, without encryption; off for nowhere",
    },
    Key {
        name: "listen.rpc",
        kind: Kind::Address,
        default: Some("127.0.0.1:7000"),
        is_live: false,
        about: "where other nodes and clients reach this one, without encryption; off for nowhere",
    },
    Key {
        name: "insecure",
        kind: Kind::Word(&["no", "yes"]),
        default: Some("no"),
        is_live: false,
        about: "yes lets RPC listen where other machines reach it, though it has neither encryption nor authentication yet",
    },
    Key {
        name: "cluster.node",
        kind: Kind::Number { least: 1, most: u32::MAX as u64, word: "auto" },
        default: Some("auto"),
        is_live: false,
        about: "this node's number among cluster.peers, for ever; auto is what its disks say, or 1",
    },
    Key {
        name: "cluster.slots",
        kind: Kind::Number { least: 1, most: 1 << 16, word: "auto" },
        default: Some("auto"),
        is_live: false,
        about: "groups that share a new cluster's objects among them, fixed when it begins; auto is 256",
    },
    Key {
        name: "cluster.peers",
        kind: Kind::Peers,
        default: None,
        is_live: false,
        about: "all nodes of the cluster, this one among them, as 1=ADDRESS:PORT; nobody for a cluster of one",
    },
    Key {
        name: "cluster.reads",
        kind: Kind::Word(&["lease", "majority"]),
        default: Some("lease"),
        is_live: false,
        about: "whether a leader that others have just answered reads at once; majority where a machine's clock may stand still",
    },
    Key {
        name: "s3.region",
        kind: Kind::Region,
        default: Some("us-east-1"),
        is_live: false,
        about: "the region that S3 says it is in, and that clients sign for",
    },
    Key {
        name: "s3.domains",
        kind: Kind::Domains,
        default: None,
        is_live: false,
        about: "domains below which each host is a bucket, as photos.s3.example.org below s3.example.org",
    },
    Key {
        name: "s3.site_domains",
        kind: Kind::Domains,
        default: None,
        is_live: false,
        about: "domains below which each host is a bucket that is shown as a website",
    },
    Key {
        name: "compact.bytes_per_second",
        kind: Kind::Rate,
        default: Some("unlimited"),
        is_live: true,
        about: "how fast each lane's compaction may read and write",
    },
    Key {
        name: "scrub.bytes_per_second",
        kind: Kind::Rate,
        default: Some("64MiB"),
        is_live: true,
        about: "how fast each lane's scrub may read",
    },
    Key {
        name: "settle.bytes_per_second",
        kind: Kind::Rate,
        default: Some("unlimited"),
        is_live: true,
        about: "how fast each core may move chunks between its disks and others, when a disk comes or goes",
    },
    Key {
        name: "log.level",
        kind: Kind::Levels,
        default: Some("info"),
        is_live: true,
        about: "what is logged: error, warn, info, debug or trace; also by module, as info,cairn_daemon::lane=debug",
    },
];

impl Key {
    /// The setting of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// The setting of this name, if the cluster may have a value for it.
    ///
    /// # Errors
    /// Why it may not, and what to do instead.
    pub fn of_cluster(name: &str) -> Result<&'static Self, String> {
        match Self::find(name) {
            Some(key) if key.is_live => Ok(key),
            Some(_) => Err(format!(
                "{name} is each node's own and changes at its start: set it in the node's file, a variable or a flag"
            )),
            None => Err(unknown(name, Self::all_of_cluster().map(|key| key.name), "cairn config list")),
        }
    }

    /// All that the cluster may have values for.
    pub fn all_of_cluster() -> impl Iterator<Item = &'static Self> {
        KEYS.iter().filter(|key| key.is_live)
    }

    /// Its environment variable.
    pub fn variable(&self) -> String {
        format!("CAIRN_{}", self.name.replace('.', "_").to_uppercase())
    }

    /// Its flag, without the dashes.
    pub fn flag(&self) -> String {
        self.name.replace(['.', '_'], "-")
    }
}

/// What is said of a name that no setting has, and the command that shows those there are.
pub fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>, shown_by: &str) -> String {
    match nearest(name, known) {
        Some(near) => format!("there is no setting {name}; did you mean {near}?"),
        None => format!("there is no setting {name}; `{shown_by}` shows those there are"),
    }
}

/// The name most like `wrong`, if one is like it at all.
fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let rated = names.map(|name| (strsim::jaro_winkler(wrong, name), name));
    let best = rated.max_by(|(one, _), (other, _)| one.total_cmp(other));
    best.filter(|(likeness, _)| *likeness > 0.7).map(|(_, name)| name)
}
