//! Where settings come from on the command line: `--config FILE`, the environment, and a flag for each.

use cairn_daemon::config::{Config, KEYS, Kind, Sources};
use cairn_io::{Config as IoConfig, DriverChoice, fs, run_one};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

use crate::out::Failure;

/// A file longer than this is no configuration.
const FILE_MAX: usize = 1 << 20;
const FILE: &str = "config-file";

/// What was said on the command line. The flags are made from the list of settings, so that there is one list.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    file: Option<String>,
    flags: Vec<(String, String)>,
}

impl Settings {
    /// Reads the file, if there is one, and puts everything together. From outside a core.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn resolve(&self) -> Result<Config, Failure> {
        let mut sources = self.sources();
        if let Some(path) = self.file() {
            sources.file = Some((path.clone(), read_outside(path).map_err(Failure::Input)?));
        }
        Config::resolve(&sources).map_err(|complaints| Failure::Input(complaints.to_string()))
    }

    /// The same on a core that serves.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub async fn resolve_again(&self) -> Result<Config, String> {
        let mut sources = self.sources();
        if let Some(path) = self.file() {
            sources.file = Some((path.clone(), read(path).await?));
        }
        Config::resolve(&sources).map_err(|complaints| complaints.to_string())
    }

    fn file(&self) -> Option<String> {
        self.file.clone().or_else(|| std::env::var("CAIRN_CONFIG").ok()).filter(|path| !path.is_empty())
    }

    fn sources(&self) -> Sources {
        let text = |word: std::ffi::OsString| word.to_string_lossy().into_owned();
        let variables = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
        Sources { file: None, variables, flags: self.flags.clone() }
    }
}

async fn read(path: String) -> Result<String, String> {
    let read = fs::read_text(&path, FILE_MAX).await;
    read.map_err(|error| format!("{error}; correct --config or CAIRN_CONFIG"))
}

/// Reads a small file, from outside a core.
pub(super) fn read_outside(path: String) -> Result<String, String> {
    let io = IoConfig { driver: DriverChoice::Monoio, block_bytes_max: 1 << 20, ..IoConfig::single() };
    run_one(&io, move || read(path)).map_err(|error| error.to_string())?
}

impl Args for Settings {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new(FILE).long("config").value_name("FILE").help_heading("Settings");
        let help =
            "Read settings from this TOML file, too; or set CAIRN_CONFIG. Variables CAIRN_* count more, flags most";
        KEYS.iter().fold(command.arg(file.help(help)), |command, key| {
            let default = key.default.map_or_else(String::new, |default| format!(" [default: {default}]"));
            let arg = Arg::new(key.name)
                .long(key.flag())
                .value_name(value_name(key.kind))
                .action(ArgAction::Append)
                .help_heading("Settings")
                .help(format!("{}{default}", capital(key.about)));
            command.arg(arg)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = |name: &str| -> Option<Vec<String>> {
            Some(matches.get_many::<String>(name)?.cloned().collect()).filter(|values: &Vec<String>| !values.is_empty())
        };
        // Directories, nodes and domains may be named one by one; of other settings the last counts.
        let flag = |key: &cairn_daemon::config::Key| {
            let mut values = given(key.name)?;
            let is_list = matches!(key.kind, Kind::Directories | Kind::Peers | Kind::Domains);
            let text = if is_list { values.join(",") } else { values.pop()? };
            Some((key.name.to_owned(), text))
        };
        let file = given(FILE).and_then(|mut values| values.pop());
        Ok(Self { file, flags: KEYS.iter().filter_map(flag).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn value_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Directories => "DIR",
        Kind::Word(_) => "WORD",
        Kind::Number { .. } => "N",
        Kind::Bytes { .. } | Kind::Rate => "BYTES",
        Kind::Address => "ADDRESS",
        Kind::Peers => "N=ADDRESS",
        Kind::Region => "REGION",
        Kind::Domains => "DOMAIN",
        Kind::Levels => "LEVELS",
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
