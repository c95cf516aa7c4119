//! What the service of this machine is told: its command line, its environment and its configuration
//! file, as it would read them itself.
//!
//! Start at [`parse`].

use super::{Cli, Command, config_file};
use anyhow::anyhow;
use clap::{CommandFactory as _, FromArgMatches as _};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Which service is meant, where it is not the usual one.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ServiceArgs {
    /// Configuration file of the server or agent [default: /etc/kinglet/config.yaml]
    #[arg(id = "service_config", long = "config", short = 'c', value_name = "FILE")]
    config: Option<PathBuf>,
    /// Its command line, such as `server --data-dir /data`
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl ServiceArgs {
    /// The service as it is told to be; of a machine where nobody says which, a server, or an agent
    /// where the configuration is one.
    pub(super) fn read(&self) -> anyhow::Result<Command> {
        if !self.command.is_empty() {
            return parse(&self.command, self.config.as_deref());
        }
        parse(&["server".into()], self.config.as_deref())
            .or_else(|error| parse(&["agent".into()], self.config.as_deref()).map_err(|_| error))
    }
}

/// `command` is the command line of a server or an agent, without the name of the program.
fn parse(command: &[OsString], config: Option<&Path>) -> anyhow::Result<Command> {
    let wanted = || anyhow!("`server ...` or `agent ...` is wanted after `--`");
    if !command.first().is_some_and(|name| name == "server" || name == "agent") {
        return Err(wanted());
    }
    let mut words: Vec<OsString> = std::iter::once("kinglet".into()).collect();
    words.extend(command.iter().cloned());
    if let Some(config) = config {
        words.extend([OsStr::new("--config"), config.as_os_str()].map(OsStr::to_owned));
    }
    let matches = Cli::command().try_get_matches_from(&words).map_err(|error| said(&error))?;
    let words = config_file::merge(words, &matches)?;
    let matches = Cli::command().try_get_matches_from(words).map_err(|error| said(&error))?;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| said(&error))?;
    match cli.command {
        Command::Server(_) | Command::Agent(_) => Ok(cli.command),
        _ => Err(wanted()),
    }
}

/// The first line; what is after it is about usage.
fn said(error: &clap::Error) -> anyhow::Error {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    anyhow!("the service's command line: {}", line.trim_start_matches("error: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(config: &str, command: &[&str], expected: &str) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), config).unwrap();
        let command = command.iter().map(OsString::from).collect();
        let args = ServiceArgs { config: Some(file.path().to_owned()), command };
        let actual = match args.read() {
            Ok(Command::Server(args)) => format!("server {:?}", args.places().unwrap()),
            Ok(Command::Agent(args)) => format!("agent {:?}", args.places().unwrap()),
            Ok(other) => format!("{other:?}"),
            Err(error) => format!("{error:#}"),
        };
        assert!(actual.contains(expected), "{actual}");
    }

    #[test]
    fn a_service_is_read_as_it_reads_itself() {
        check(
            "",
            &[],
            "server Places { data_dir: \"/var/lib/kinglet\", pod_logs_dir: \"/var/log/pods\"",
        );
        check("", &[], "kubeconfig: Some(\"/etc/kinglet/kinglet.yaml\")");
        check("data-dir: /a\npod-logs-dir: /b\n", &[], "data_dir: \"/a\", pod_logs_dir: \"/b\"");
        check("data-dir: /a\n", &["server", "--data-dir", "/c d"], "data_dir: \"/c d\"");
        check("write-kubeconfig: /k\n", &[], "kubeconfig: Some(\"/k\")");
        let agent = "server: https://192.0.2.1:6443\ntoken: abc\ndata-dir: /a\n";
        check(agent, &[], "agent Places { data_dir: \"/a\"");
        check(agent, &["agent"], "agent Places { data_dir: \"/a\"");
        check("data-dir: /a\n", &["agent", "-s", "https://a:1"], "agent Places { data_dir: \"/a\"");
    }

    #[test]
    fn what_is_wrong_with_it_is_said() {
        check("data-dri: /a\n", &[], "`data-dri` is not a key; did you mean `data-dir`?");
        check("", &["server", "--odd"], "the service's command line: unexpected argument '--odd'");
        check("", &["check"], "`server ...` or `agent ...` is wanted");
    }
}
