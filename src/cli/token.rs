//! `kinglet token`: with what other machines join.

use super::columns::columns;
use super::values;
use crate::daemon::{JOIN_GROUP, NewToken, TokenAnswer, TokenCommand, TokenFacts, manage_tokens};
use crate::pki::{BootstrapToken, JoinToken};
use crate::stdx::Clock;
use anyhow::bail;
use jiff::{SignedDuration, Timestamp};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
    /// The administrator's kubeconfig
    #[arg(
        long,
        global = true,
        env = "KUBECONFIG",
        default_value = "/etc/kinglet/kinglet.yaml",
        value_name = "FILE"
    )]
    kubeconfig: PathBuf,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a token and print it
    Create {
        /// The token, id.secret [default: one is drawn]
        token: Option<String>,
        /// How long it is good; 0: until it is deleted
        #[arg(long, default_value = "24h", value_parser = values::duration)]
        ttl: SignedDuration,
        /// What it is for
        #[arg(long, default_value = "")]
        description: String,
        /// Groups of whoever shows it
        #[arg(long, value_delimiter = ',', default_value = JOIN_GROUP)]
        groups: Vec<String>,
        /// What it may be used for
        #[arg(long, value_delimiter = ',', default_value = "signing,authentication")]
        usages: Vec<String>,
    },
    /// Say which tokens there are, without their secrets
    List,
    /// Delete tokens, by their ids or as they were printed
    Delete {
        #[arg(required = true)]
        tokens: Vec<String>,
    },
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let command = match args.action {
        Action::Create { token, ttl, description, groups, usages } => {
            let token = match token {
                Some(text) => Some(parse(&text)?),
                None => None,
            };
            for usage in &usages {
                if !["signing", "authentication"].contains(&usage.as_str()) {
                    bail!("--usages {usage:?}: signing and authentication are all there is");
                }
            }
            TokenCommand::Create(NewToken { token, ttl, description, groups, usages })
        }
        Action::List => TokenCommand::List,
        Action::Delete { tokens } => {
            let ids: anyhow::Result<_> = tokens.iter().map(|token| id(token)).collect();
            TokenCommand::Delete(ids?)
        }
    };
    super::print(&match manage_tokens(&args.kubeconfig, command)? {
        TokenAnswer::Created(token) => format!("{token}\n"),
        TokenAnswer::Listed(tokens) => render(&tokens, Clock::system().now()),
        TokenAnswer::Deleted(ids) => {
            ids.iter().map(|id| format!("token {id}: deleted\n")).collect()
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn parse(text: &str) -> anyhow::Result<BootstrapToken> {
    let token: JoinToken = text.parse().map_err(|error| anyhow::anyhow!("the token: {error}"))?;
    Ok(token.bootstrap)
}

/// An id, or the id of a whole token.
fn id(text: &str) -> anyhow::Result<String> {
    match BootstrapToken::is_id(text) {
        true => Ok(text.to_owned()),
        false => Ok(parse(text)?.id().to_owned()),
    }
}

fn render(tokens: &[TokenFacts], now: Timestamp) -> String {
    let mut rows = vec![
        ["TOKEN", "TTL", "EXPIRES", "USAGES", "DESCRIPTION", "EXTRA GROUPS"].map(str::to_owned),
    ];
    let or_none = |text: String| if text.is_empty() { "<none>".to_owned() } else { text };
    for token in tokens {
        let (ttl, expires) = match token.expires {
            None => ("<forever>".to_owned(), "<never>".to_owned()),
            Some(end) if end <= now => ("<expired>".to_owned(), end.to_string()),
            Some(end) => (left(end.duration_since(now)), end.to_string()),
        };
        rows.push([
            token.id.clone(),
            ttl,
            expires,
            or_none(token.usages.join(",")),
            or_none(token.description.clone()),
            or_none(token.groups.join(",")),
        ]);
    }
    columns(&rows)
}

/// The two largest units say enough.
fn left(duration: SignedDuration) -> String {
    let minutes = duration.as_mins();
    match (minutes / (24 * 60), minutes / 60, minutes) {
        (days @ 1.., hours, _) => format!("{days}d{}h", hours % 24),
        (_, hours @ 1.., minutes) => format!("{hours}h{}m", minutes % 60),
        (_, _, minutes) => format!("{minutes}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_listed_without_their_secrets() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let token = |id: &str, expires: Option<&str>| TokenFacts {
            id: id.to_owned(),
            expires: expires.map(|end| end.parse().unwrap()),
            usages: vec!["authentication".to_owned()],
            description: String::new(),
            groups: Vec::new(),
        };
        let text = render(
            &[
                token("aaaaaa", Some("2026-01-02T01:00:00Z")),
                token("bbbbbb", Some("2025-01-01T00:00:00Z")),
                token("cccccc", None),
            ],
            now,
        );
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1][..3], ["aaaaaa", "1d1h", "2026-01-02T01:00:00Z"]);
        assert_eq!(lines[2][1], "<expired>");
        assert_eq!(lines[3][1..3], ["<forever>", "<never>"]);
        assert!(lines.iter().skip(1).all(|line| line.ends_with(&["<none>", "<none>"])));
    }

    #[test]
    fn tokens_are_named_by_id_or_whole() {
        assert_eq!(id("abcdef").unwrap(), "abcdef");
        assert_eq!(id("abcdef.0123456789abcdef").unwrap(), "abcdef");
        assert_eq!(id("K10::abcdef.0123456789abcdef").unwrap(), "abcdef");
        assert!(id("abc").is_err());
    }
}
