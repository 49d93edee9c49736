//! `cairn completions` and `cairn man`: what shells and `man` are given of the command line.

use clap::{Args, Command};
use clap_complete::Shell;

use crate::out::{self, Failure};

/// Options of `cairn completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// For which shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Options of `cairn man`.
#[derive(Debug, Args)]
pub struct Man {
    /// The command whose page is printed, as in `cairn man bench disk`; none for `cairn` itself
    command: Vec<String>,
}

impl Completions {
    /// Prints the script.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn run(&self, mut cairn: Command) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut cairn, "cairn", &mut script);
        out::print(String::from_utf8_lossy(&script).trim_end())
    }
}

impl Man {
    /// Prints the page.
    ///
    /// # Errors
    /// If there is no such command, or it can't be written.
    pub fn run(&self, cairn: &Command) -> Result<(), Failure> {
        let (mut command, mut name) = (cairn, "cairn".to_owned());
        for word in &self.command {
            let Some(next) = command.find_subcommand(word) else {
                let there: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
                return Err(Failure::Input(format!("`{name}` has no command {word}; it has {}", there.join(", "))));
            };
            (command, name) = (next, format!("{name}-{word}"));
        }
        let mut page = Vec::new();
        let broken = |error: std::io::Error| Failure::Broken(error.to_string());
        clap_mangen::Man::new(command.clone().name(name)).render(&mut page).map_err(broken)?;
        out::print(String::from_utf8_lossy(&page).trim_end())
    }
}
