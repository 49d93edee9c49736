//! The command line of `cairn`.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::bench;
use crate::demo;
use crate::disk;
use crate::lane;
use crate::node;
use crate::objects;
use crate::out::{self, Failure};
use crate::place;
use crate::shell;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  begun, but went wrong: a disk failed, or the output couldn't be written
  2  not begun: bad input, or this machine can't do it; the message says what to change";

/// A storage cluster for bare-metal servers: objects on local disks, copied between machines, served over S3.
#[derive(Debug, Parser)]
#[command(name = "cairn", version, after_help = EXIT_CODES, after_long_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node to try Cairn with: ready in seconds, gone without a trace at the end
    #[command(after_help = demo::HELP)]
    Demo(demo::Args),
    /// Make a new node in empty directories, and the first access key
    #[command(after_help = node::INIT_HELP)]
    Init(node::InitArgs),
    /// Run a node until it is told to stop
    #[command(after_help = node::SERVE_HELP)]
    Serve(node::ServeArgs),
    /// Show what a running node does, and how well
    #[command(after_help = node::STATUS_HELP)]
    Status(node::StatusArgs),
    /// Make, show and remove access keys
    #[command(subcommand, after_help = node::ASK_HELP)]
    Key(node::KeyCommand),
    /// Show or check the settings of a node, and change those of its cluster
    #[command(subcommand, after_help = node::ASK_HELP)]
    Config(node::ConfigCommand),
    /// Store a file, a directory or standard input
    #[command(after_help = objects::HELP)]
    Put(Box<objects::PutArgs>),
    /// Read an object, or all of a folder, into files
    #[command(after_help = objects::HELP)]
    Get(Box<objects::GetArgs>),
    /// Write objects to standard output
    #[command(after_help = objects::HELP)]
    Cat(Box<objects::CatArgs>),
    /// Copy between files and objects, either way, or from object to object
    #[command(after_help = objects::HELP)]
    Cp(Box<objects::CpArgs>),
    /// List buckets, objects, versions
    #[command(after_help = objects::HELP)]
    Ls(Box<objects::LsArgs>),
    /// Delete objects, folders, versions
    #[command(after_help = objects::HELP)]
    Rm(Box<objects::RmArgs>),
    /// Show what is known of an object
    #[command(after_help = objects::HELP)]
    Stat(Box<objects::StatArgs>),
    /// List the versions of an object, and which of them are heads
    #[command(after_help = objects::HELP)]
    Versions(Box<objects::VersionsArgs>),
    /// List the objects that several writers left with several heads
    #[command(after_help = objects::HELP)]
    Conflicts(Box<objects::ConflictsArgs>),
    /// Make one version of the heads of an object that several writers left
    #[command(after_help = objects::HELP)]
    Merge(Box<objects::MergeArgs>),
    /// Make, list, change and delete buckets
    #[command(subcommand, after_help = objects::HELP)]
    Bucket(objects::BucketCommand),
    /// Measure this machine, each figure beside what the kernel can do without us
    #[command(subcommand, after_help = EXIT_CODES)]
    Bench(bench::Command),
    /// Show, add, empty and fill the disks of a node that isn't running
    #[command(subcommand, after_help = EXIT_CODES)]
    Disk(disk::Command),
    /// Show where a map of the cluster puts things, and what a change would move; nothing is changed
    #[command(subcommand, after_help = EXIT_CODES)]
    Place(place::Command),
    /// Look into the log of a lane that no node has open; nothing is changed
    #[command(subcommand, after_help = EXIT_CODES)]
    Log(lane::Command),
    /// Check a lane that no node has open: every byte of its log, and its index against the log
    #[command(after_help = lane::FSCK_HELP)]
    Fsck(lane::Fsck),
    /// Print what a shell needs to complete commands of `cairn`
    Completions(shell::Completions),
    /// Print the manual page of a command, to be read with `man -l -`
    Man(shell::Man),
}

/// Reads the command line, does what it says and returns the exit code.
pub fn run() -> ExitCode {
    let done = match Cli::parse().command {
        None => help(),
        Some(Command::Demo(args)) => args.run(),
        Some(Command::Init(args)) => args.run(),
        Some(Command::Serve(args)) => args.run(),
        Some(Command::Key(command)) => command.run(),
        Some(Command::Status(args)) => args.run(),
        Some(Command::Config(command)) => command.run(),
        Some(Command::Put(args)) => args.run(),
        Some(Command::Get(args)) => args.run(),
        Some(Command::Cat(args)) => args.run(),
        Some(Command::Cp(args)) => args.run(),
        Some(Command::Ls(args)) => args.run(),
        Some(Command::Rm(args)) => args.run(),
        Some(Command::Stat(args)) => args.run(),
        Some(Command::Versions(args)) => args.run(),
        Some(Command::Conflicts(args)) => args.run(),
        Some(Command::Merge(args)) => args.run(),
        Some(Command::Bucket(command)) => command.run(),
        Some(Command::Bench(command)) => command.run(),
        Some(Command::Disk(command)) => command.run(),
        Some(Command::Place(command)) => command.run(),
        Some(Command::Log(command)) => command.run(),
        Some(Command::Fsck(fsck)) => fsck.run(),
        Some(Command::Completions(args)) => args.run(Cli::command()),
        Some(Command::Man(args)) => args.run(&Cli::command()),
    };
    done.map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS)
}

fn help() -> Result<(), Failure> {
    out::print(Cli::command().render_help().to_string().trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
