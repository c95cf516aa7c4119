//! The command line: arguments, configuration file and environment become one validated
//! configuration; results and errors become text and an exit code.
//!
//! Start at [`main()`]. This is the only module that prints to stdout.

mod agent;
mod backup;
mod certificate;
mod check;
mod columns;
mod config_file;
mod image;
mod ingress;
mod killall;
mod logs;
mod node;
mod packaged;
mod server;
mod service;
mod token;
mod uninstall;
mod values;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

/// The version that `kinglet version` and the API server tell.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A whole Kubernetes in one executable.
#[derive(Debug, Parser)]
#[command(name = "kinglet", version, disable_help_subcommand = true, args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a cluster: API server, store, controllers, scheduler and node in one process
    Server(Box<server::Args>),
    /// Join a cluster: be one of its nodes
    Agent(Box<agent::Args>),
    /// Make, list and delete the tokens that machines join with
    Token(token::Args),
    /// Import, pull, list and remove container images of this node
    Image(image::Args),
    /// Look after the certificates of a server
    Certificate(certificate::Args),
    /// Make, list, remove and restore backups of a server
    Backup(backup::Args),
    /// Say what this host lacks, and how to get it
    Check(check::Args),
    /// Stop all pods of a data directory and remove their mounts, interfaces and cgroups
    Killall(killall::Args),
    /// Remove kinglet from this machine, with its pods, data and configuration
    Uninstall(uninstall::Args),
    /// Print a file that install.sh and packages install beside the executable
    #[command(hide = true)]
    Packaged(packaged::Args),
    /// Print the version
    Version,
    /// Print a completion script for a shell
    Completion {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

/// Runs the command of this process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    match run(std::env::args_os().collect()) {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let matches = match Cli::command().try_get_matches_from(&arguments) {
        Ok(matches) => matches,
        Err(error) => return Ok(exit_of_clap(&error)),
    };
    // Parsed again with what the configuration file says, for the commands that have one.
    let arguments = config_file::merge(arguments, &matches)?;
    let parsed = Cli::command()
        .try_get_matches_from(arguments)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return Ok(exit_of_clap(&error)),
    };
    match cli.command {
        Command::Server(args) => server::run(*args),
        Command::Agent(args) => agent::run(*args),
        Command::Token(args) => token::run(args),
        Command::Killall(args) => killall::run(args),
        Command::Uninstall(args) => uninstall::run(&args),
        Command::Packaged(args) => packaged::run(&args),
        Command::Image(args) => image::run(args),
        Command::Certificate(args) => certificate::run(args),
        Command::Backup(args) => backup::run(args),
        Command::Check(args) => check::run(&args),
        Command::Version => {
            print(&format!("kinglet {VERSION} (Kubernetes v1.35)\n"))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "kinglet", &mut io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// clap prints help and version to stdout with success, and complaints to stderr.
fn exit_of_clap(error: &clap::Error) -> ExitCode {
    // Nothing can be said any more when even that cannot be printed.
    error.print().ok();
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// One line with every cause, as it is read in a terminal and in a journal.
fn complain(error: &anyhow::Error) {
    let bold = io::stderr().is_terminal();
    let label = if bold { "\u{1b}[1;31merror:\u{1b}[0m" } else { "error:" };
    let chain = crate::stdx::chain(error.as_ref());
    // Where stderr is gone, the exit code has to do.
    writeln!(io::stderr(), "{label} {chain}").ok();
}

fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
