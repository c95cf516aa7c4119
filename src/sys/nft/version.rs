//! Which nft this machine has, looked at before anything rests on it.

use super::super::process::{ProcessError, Program};
use std::fmt;
use std::io;
use std::time::Duration;

/// Older ones read all rules of the machine before each change, and stop at those that they do not
/// know, whoever's they are. Upstream's proxy asks for the same (`New`, pkg/proxy/nftables/proxier.go,
/// v1.35).
const OLDEST: Version = Version([1, 0, 1]);

const DEADLINE: Duration = Duration::from_secs(10);

/// `1.0.6`
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version([u32; 3]);

/// Why rules cannot be changed here, and what helps.
#[derive(Debug, thiserror::Error)]
pub enum UnusableNft {
    #[error(
        "there is no nft, which changes the kernel's network rules: install the package nftables"
    )]
    Missing,
    #[error(
        "nft is of version {found}, but {OLDEST} or later is needed: update the package nftables"
    )]
    Old { found: Version },
    #[error("nft, which changes the kernel's network rules, does not run")]
    Broken(#[source] ProcessError),
}

/// Looks at this machine's nft.
///
/// # Errors
/// Where it cannot be used. One that does not say its version is believed to be new.
pub async fn ensure_usable() -> Result<(), UnusableNft> {
    let asked = Program::new("nft").arg("--version").deadline(DEADLINE).run_checked().await;
    let finished = asked.map_err(|error| match error {
        ProcessError::Start { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            UnusableNft::Missing
        }
        error => UnusableNft::Broken(error),
    })?;
    judge(&String::from_utf8_lossy(&finished.stdout))
}

fn judge(said: &str) -> Result<(), UnusableNft> {
    match parse(said) {
        Some(found) if found < OLDEST => Err(UnusableNft::Old { found }),
        _ => Ok(()),
    }
}

/// `nftables v1.0.6 (Lester Gooch #5)`
fn parse(said: &str) -> Option<Version> {
    let text = said.split_whitespace().find_map(|word| word.strip_prefix('v'))?;
    let mut numbers = text.split('.').map(|number| number.parse().ok());
    let mut next = || numbers.next().unwrap_or(Some(0));
    Some(Version([next()?, next()?, next()?]))
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(formatter, "{major}.{minor}.{patch}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_ones_are_told_from_others() {
        let check = |said: &str, expected: &str| {
            let judged = judge(said).map_or_else(|error| error.to_string(), |()| "good".to_owned());
            assert!(judged.contains(expected), "{said}: {judged}");
        };
        check("nftables v1.0.6 (Lester Gooch #5)\n", "good");
        check("nftables v1.1 (Commodore Bullmoose)\n", "good");
        check("nftables v1.0.1 (Fearless Fosdick #3)\n", "good");
        check("nftables v0.9.8 (E.D.S.)\n", "of version 0.9.8, but 1.0.1 or later");
        check("nftables v1.0.0 (Fearless Fosdick #2)\n", "update the package nftables");
        check("something else", "good");
        check("", "good");
    }
}
