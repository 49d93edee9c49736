//! Levels: what is logged, in all and by module.

use std::fmt;
use std::str::FromStr;

use tracing::Level;

/// What is logged: a level for everything, and others for modules. Without any, `info`. Of other people's modules only
/// errors, unless they are named: what they tell of themselves is not about this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels {
    all: Level,
    /// By the module's path, as it was written.
    modules: Vec<(String, Level)>,
}

/// How the names of our crates begin.
const OURS: &str = "cairn_";

impl Default for Levels {
    fn default() -> Self {
        Self { all: Level::INFO, modules: vec![] }
    }
}

impl Levels {
    /// Whether an event of this level, from this module, is logged. The longest path that fits decides.
    pub fn allows(&self, module: &str, level: Level) -> bool {
        let fits = |path: &str| module.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
        let best = self.modules.iter().filter(|(path, _)| fits(path)).max_by_key(|(path, _)| path.len());
        let usual = if module.starts_with(OURS) { self.all } else { self.all.min(Level::ERROR) };
        level <= best.map_or(usual, |(_, level)| *level)
    }
}

const NAMES: &[(&str, Level)] = &[
    ("error", Level::ERROR),
    ("warn", Level::WARN),
    ("info", Level::INFO),
    ("debug", Level::DEBUG),
    ("trace", Level::TRACE),
];

fn level(name: &str) -> Result<Level, String> {
    let found = NAMES.iter().find(|(known, _)| *known == name);
    found.map(|(_, level)| *level).ok_or_else(|| {
        format!("has {name:?} where a level should be; choose error, warn, info, debug or trace, or MODULE=LEVEL")
    })
}

fn name(level: Level) -> &'static str {
    NAMES.iter().find(|(_, known)| *known == level).map_or("info", |(name, _)| name)
}

impl FromStr for Levels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut levels = Self::default();
        for part in text.split(',').map(str::trim) {
            match part.split_once('=') {
                Some((module, name)) => levels.modules.push((module.trim().to_owned(), level(name.trim())?)),
                None => levels.all = level(part)?,
            }
        }
        Ok(levels)
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name(self.all))?;
        self.modules.iter().try_for_each(|(module, level)| write!(f, ",{module}={}", name(*level)))
    }
}

#[test]
fn the_longest_module_decides() {
    let levels: Levels = "warn,cairn_daemon=info,cairn_daemon::lane=trace".parse().expect("levels");
    assert!(levels.allows("cairn_daemon::lane::scrub", Level::TRACE));
    assert!(levels.allows("cairn_daemon::node", Level::INFO) && !levels.allows("cairn_daemon::node", Level::DEBUG));
    assert!(!levels.allows("cairn_daemon_other", Level::INFO), "a path ends between names");
    assert!(!levels.allows("hyper", Level::WARN) && levels.allows("hyper", Level::ERROR));
    let usual = Levels::default();
    assert!(usual.allows("cairn_io", Level::INFO) && !usual.allows("s3s::dto", Level::WARN));
    let named: Levels = "info,s3s=debug".parse().expect("levels");
    assert!(named.allows("s3s::dto", Level::DEBUG));
    assert_eq!(levels.to_string(), "warn,cairn_daemon=info,cairn_daemon::lane=trace");
    assert!("loud".parse::<Levels>().expect_err("no level").contains("choose error, warn, info"));
}
