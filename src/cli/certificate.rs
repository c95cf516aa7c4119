//! `kinglet certificate`: how long the certificates of a server last, and making them anew.

use super::columns::columns;
use super::node::{DataDir, absolute};
use crate::daemon::{Renewal, Rotated, rotate_certificates};
use crate::pki::{Held, inventory};
use crate::stdx::Clock;
use jiff::Timestamp;
use std::process::ExitCode;

/// A server makes a certificate anew when it has this many days left.
const RENEWED_DAYS: i64 = 120;

/// An authority is never replaced by itself: its last year is the time to think of a successor.
const AUTHORITY_WARNING_DAYS: i64 = 365;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Say whose certificates there are and how long they last; fails where one has ended
    Check {
        #[command(flatten)]
        data: DataDir,
    },
    /// Throw all certificates away but the authorities; a running server makes new ones at once, and
    /// keeps its connections
    Rotate {
        #[command(flatten)]
        data: DataDir,
        /// Sign tokens of service accounts with a new key, too; those signed before stay good
        #[arg(long)]
        service_account_key: bool,
    },
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.action {
        Action::Check { data } => {
            let held = inventory(&absolute(&data.data_dir)?.join("server/tls"))?;
            let now = Clock::system().now();
            super::print(&render(&held, now))?;
            let is_good = |held: &Held| held.facts.as_ref().is_some_and(|facts| now < facts.end);
            Ok(if held.iter().all(is_good) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Action::Rotate { data, service_account_key } => {
            let rotated = rotate_certificates(&absolute(&data.data_dir)?, service_account_key)?;
            super::print(&tell(&rotated))?;
            Ok(match rotated.renewal {
                Renewal::Late => ExitCode::FAILURE,
                Renewal::Done | Renewal::AtStart => ExitCode::SUCCESS,
            })
        }
    }
}

fn tell(rotated: &Rotated) -> String {
    let mut text = String::new();
    for name in &rotated.discarded {
        text.push_str(&format!("{name}: thrown away\n"));
    }
    if let Some(keys) = rotated.token_keys {
        text.push_str(&format!(
            "tokens are signed with a new key; those that {} older ones have signed stay good\n",
            keys - 1
        ));
    }
    text.push_str(match rotated.renewal {
        Renewal::Done => "the running server has made new ones and shows them\n",
        Renewal::Late => "the running server has not made new ones yet; its log says why\n",
        Renewal::AtStart => "no server runs here; one makes new ones when it starts\n",
    });
    text
}

fn render(held: &[Held], now: Timestamp) -> String {
    let mut rows = vec![["NAME", "SUBJECT", "EXPIRES", "DAYS LEFT", "STATE"].map(str::to_owned)];
    for one in held {
        let name = one.name.clone();
        rows.push(match &one.facts {
            None => [name, String::new(), String::new(), String::new(), "unreadable".to_owned()],
            Some(facts) => {
                let days = facts.end.duration_since(now).as_hours() / 24;
                let state = state(one.is_authority, days, facts.end <= now);
                let end = facts.end.strftime("%Y-%m-%d").to_string();
                [name, facts.subject.clone(), end, days.to_string(), state.to_owned()]
            }
        });
    }
    columns(&rows)
}

fn state(is_authority: bool, days: i64, has_ended: bool) -> &'static str {
    match (has_ended, is_authority) {
        (true, _) => "expired",
        (false, true) if days < AUTHORITY_WARNING_DAYS => "ends soon: plan its successor",
        (false, false) if days < RENEWED_DAYS => "due: a running server renews it",
        (false, _) => "good",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::HeldFacts;

    #[test]
    fn how_long_certificates_last() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let held = |name: &str, days: i64| {
            let end = Timestamp::from_second(1_800_000_000 + days * 86_400).unwrap();
            let facts = Some(HeldFacts { subject: "CN=x".to_owned(), end });
            Held { name: name.to_owned(), is_authority: name.ends_with("-ca"), facts }
        };
        let mut all = vec![held("a-ca", 3_650), held("b-ca", 100), held("c", 365), held("d", 9)];
        all.push(held("e", -1));
        all.push(Held { facts: None, ..held("f", 0) });
        let text = render(&all, now);
        let states: Vec<_> =
            text.lines().skip(1).map(|line| line.rsplit("   ").next().unwrap()).collect();
        assert_eq!(
            states,
            [
                "good",
                "ends soon: plan its successor",
                "good",
                "due: a running server renews it",
                "expired",
                "unreadable",
            ]
        );
        assert!(text.starts_with("NAME   SUBJECT   EXPIRES      DAYS LEFT   STATE\n"), "{text}");
    }
}
