//! `kinglet agent`: what a machine needs to know to join a cluster and be a node of it.

use super::logs::LogArgs;
use super::node::{FileArgs, NodeArgs};
use crate::daemon::{self, AgentConfig, Places};
use crate::pki::JoinToken;
use anyhow::{Context as _, bail};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A server of the cluster, https://NAME-OR-ADDRESS:6443, or several: whichever answers is asked
    #[arg(long, short = 's', env = "KINGLET_URL", value_name = "URL", value_delimiter = ',')]
    server: Vec<String>,
    /// What `kinglet token create` has printed; needed once
    #[arg(long, short = 't', env = "KINGLET_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// File with the token
    #[arg(long, env = "KINGLET_TOKEN_FILE", value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    logs: LogArgs,
}

/// Joins, where the machine has not, and runs until it is told to stop.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    args.logs.start();
    daemon::run_agent(args.into_config()?)?;
    Ok(ExitCode::SUCCESS)
}

impl Args {
    /// Where this agent has its things.
    pub(super) fn places(self) -> anyhow::Result<Places> {
        self.files.places(None)
    }

    fn into_config(self) -> anyhow::Result<AgentConfig> {
        let Self { server: servers, token, token_file, files, node, logs: _ } = self;
        if servers.is_empty() {
            bail!("--server is missing: KINGLET_URL, or `server` in the configuration file");
        }
        if let Some(server) = servers.iter().find(|server| !server.starts_with("https://")) {
            bail!("--server {server:?}: https://NAME-OR-ADDRESS:6443 is wanted");
        }
        let text = match token_file {
            Some(path) => Some(
                std::fs::read_to_string(&path)
                    .with_context(|| format!("--token-file {}", path.display()))?,
            ),
            None => token,
        };
        let token = text.map(|text| text.parse::<JoinToken>()).transpose().context("--token")?;
        let way_out = servers.iter().find_map(|server| daemon::address_towards(server));
        let way_out = way_out.unwrap_or_else(daemon::default_address);
        Ok(AgentConfig { node: node.into_config(&files, way_out)?, servers, token })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    #[track_caller]
    fn check(words: &[&str], expected: &str) {
        let words = ["kinglet", "agent", "--node-ip", "192.0.2.1"].iter().chain(words);
        let parsed = crate::cli::Cli::try_parse_from(words).unwrap();
        let crate::cli::Command::Agent(args) = parsed.command else { panic!("not an agent") };
        let actual = match args.into_config() {
            Ok(config) => format!("{config:?}"),
            Err(error) => format!("{error:#}"),
        };
        assert!(actual.contains(expected), "{actual}");
    }

    #[test]
    fn flags_become_a_configuration() {
        let server = ["--server", "https://192.0.2.10:6443"];
        let with = |more: &[&'static str]| [&server[..], more].concat();
        check(&server, "token: None");
        check(&with(&["--token", "abcdef.0123456789abcdef"]), "JoinToken(None, abcdef)");
        check(&with(&["--token", "abc"]), "--token: it is not of the form");
        check(&with(&["--node-name", "two"]), "name: \"two\"");
        let both = "servers: [\"https://192.0.2.10:6443\", \"https://edge:6443\"]";
        check(&with(&["--server", "https://edge:6443"]), both);
        check(&["--server", "https://192.0.2.10:6443,https://edge:6443"], both);
        check(&[], "--server is missing");
        check(&["--server", "192.0.2.10"], "https://NAME-OR-ADDRESS:6443 is wanted");
    }
}
